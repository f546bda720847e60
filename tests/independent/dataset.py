"""Lockstep's data sets, written again from docs/data-sets.md alone, to show that the page is enough.

usage: dataset.py '{"seed": .., "layout": .., "size": .., "content": ..}' INDEX..., or the same parameters on stdin for `-`
prints: name<TAB>size<TAB>sha256 of the content (version 0), one line per index
"""
import hashlib, json, math, struct, sys

M = 2**64 - 1

def word(key, number):
    z = (key + 0x9E3779B97F4A7C15 * (number + 1)) & M
    z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & M
    z = ((z ^ z >> 27) * 0x94D049BB133111EB) & M
    return z ^ z >> 31

def fold(key, number):
    s = (key + 0xA0761D6478BD642F * (number + 1)) & M
    product = s * (s ^ 0xE7037ED1A0B428DB)
    return product >> 64 ^ product & M

def name(layout, i):
    if "Flat" in layout:
        shards = layout["Flat"]["prefix_shards"]
        digits = max(2, len("%x" % max(shards - 1, 0)))
        return ("%0*x/" % (digits, i % shards) if shards else "") + "obj-%08d" % i
    w, d, f, files = (layout["Tree"][k] for k in ("width", "depth", "files_per_directory", "files"))
    levels = [d] if files == "Leaves" or d == 0 else range(1, d + 1)
    f, level = max(f, 1), 0
    p = i % (f * sum(w**n for n in levels)) // f
    for level in levels:
        if p < w**level:
            break
        p -= w**level
    path = ["file-%08d" % i]
    for n in range(level, 0, -1):
        path.insert(0, "d%d-%0*d" % (n, max(2, len(str(w - 1))), p % w))
        p //= w
    return "/".join(path)

def size(spec, seed, i):
    (kind, s), k = next(iter(spec.items())), word(word(seed, 1), i)
    if kind == "Fixed":
        return s
    if kind == "Uniform":
        return s["min"] + (word(k, 0) * (s["max"] - s["min"] + 1) >> 64)
    if kind == "Buckets":
        drawn = word(k, 0) * sum(b["weight"] for b in s) >> 64
        return next(b["bytes"] for n, b in enumerate(s) if drawn < sum(c["weight"] for c in s[: n + 1]))
    m, sd, n = s["mean"], s["std_dev"], s["mean"]
    if m and sd:
        u, v = ((word(k, 0) >> 11) + 1) / 2**53, (word(k, 1) >> 11) / 2**53
        sigma2 = math.log1p((sd / m) * (sd / m))
        z = math.sqrt(-2 * math.log(u)) * math.cos(2 * math.pi * v)
        n = int(math.exp(math.log(m) - sigma2 / 2 + math.sqrt(sigma2) * z) + 0.5)
    return max(min(n, s["max"]), s["min"])

def smallest(spec):
    (kind, s), = spec.items()
    return s if kind == "Fixed" else min(b["bytes"] for b in s if b["weight"]) if kind == "Buckets" else s["min"]

def block(p, i, b, version=0):
    c, n = p["content"], max(p["content"]["dedup"], 1)
    within = n > 1 and smallest(p["size"]) >= n * 65536
    i2, b2 = (i, b // (16 * n) * 16 + b % 16) if within else (i // n, b)
    k = word(word(word(word(p["seed"], 2), i2), version), b2)
    length = 4096 // max(c["compress"], 1) if c["fill"] == "Random" else 0
    data = b"".join(struct.pack("<Q", fold(k, n)) for n in range(-(-length // 8)))[:length].ljust(4096, b"\0")
    if c["verify"]:
        magic = int.from_bytes(b"LkSt", "little")
        check = word(word(word(word(magic, version), p["seed"]), i), b * 4096)
        data = struct.pack("<IIQQQQ", magic, version, p["seed"], i, b * 4096, check) + data[40:]
    return data

if __name__ == "__main__":
    parameters = json.loads(sys.stdin.read() if sys.argv[1] == "-" else sys.argv[1])
    for index in map(int, sys.argv[2:]):
        length, digest = size(parameters["size"], parameters["seed"], index), hashlib.sha256()
        for number in range(-(-length // 4096)):
            digest.update(block(parameters, index, number)[: length - number * 4096])
        print(name(parameters["layout"], index), length, digest.hexdigest(), sep="\t")
