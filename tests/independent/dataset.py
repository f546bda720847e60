"""Lockstep's data sets, written again from docs/data-sets.md alone, to show that the page is enough.

usage: dataset.py '{"seed": .., "layout": .., "size": .., "content": ..}' INDEX..., or the same parameters on stdin for `-`
prints: name<TAB>size<TAB>sha256 of the content (version 0), one line per index
"""
import bisect, hashlib, itertools, json, math, struct, sys

M = 2**64 - 1
MAGIC = int.from_bytes(b"LkSt", "little")

def word(key, n):
    z = key + 0x9E3779B97F4A7C15 * (n + 1) & M
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & M
    z = (z ^ z >> 27) * 0x94D049BB133111EB & M
    return z ^ z >> 31

def fold(key, n):
    s = key + 0xA0761D6478BD642F * (n + 1) & M
    p = s * (s ^ 0xE7037ED1A0B428DB)
    return p >> 64 ^ p & M

def name(layout, i):
    (kind, s), = layout.items()
    if kind == "Flat":
        n = s["prefix_shards"]
        return ("%0*x/" % (max(2, len("%x" % (n - 1))), i % n) if n else "") + "obj-%08d" % i
    w, d, f = s["width"], s["depth"], max(s["files_per_directory"], 1)
    levels = range(1, d + 1) if s["files"] == "AllLevels" and d else [d]
    p = i % (f * sum(w**n for n in levels)) // f
    for level in levels:
        if p < w**level:
            break
        p -= w**level
    digits = max(2, len(str(w - 1)))
    path = ["d%d-%0*d" % (n, digits, p // w ** (level - n) % w) for n in range(1, level + 1)]
    return "/".join([*path, "file-%08d" % i])

def size(spec, seed, i):
    (kind, s), = spec.items()
    key = word(word(seed, 1), i)
    if kind == "Fixed":
        return s
    if kind == "Uniform":
        return s["min"] + (word(key, 0) * (s["max"] - s["min"] + 1) >> 64)
    if kind == "Buckets":
        sums = list(itertools.accumulate(b["weight"] for b in s))
        return s[bisect.bisect(sums, word(key, 0) * sums[-1] >> 64)]["bytes"]
    n, m, sd = s["mean"], s["mean"], s["std_dev"]
    if m and sd:
        u, v = ((word(key, 0) >> 11) + 1) / 2**53, (word(key, 1) >> 11) / 2**53
        sigma2 = math.log1p((sd / m) * (sd / m))
        z = math.sqrt(-2 * math.log(u)) * math.cos(2 * math.pi * v)
        n = int(math.exp(math.log(m) - sigma2 / 2 + math.sqrt(sigma2) * z) + 0.5)
    return max(min(n, s["max"]), s["min"])

def smallest(spec):
    (kind, s), = spec.items()
    return s if kind == "Fixed" else min(b["bytes"] for b in s if b["weight"]) if kind == "Buckets" else s["min"]

def block(p, i, b):
    seed, c, n = p["seed"], p["content"], max(p["content"]["dedup"], 1)
    within = n > 1 and smallest(p["size"]) >= n * 65536
    i2, b2 = (i, b // (16 * n) * 16 + b % 16) if within else (i // n, b)
    key = word(word(word(word(seed, 2), i2), 0), b2)
    kept = 4096 // max(c["compress"], 1) if c["fill"] == "Random" else 0
    data = b"".join(struct.pack("<Q", fold(key, n)) for n in range(-(-kept // 8)))[:kept].ljust(4096, b"\0")
    if not c["verify"]:
        return data
    check = word(word(word(word(MAGIC, 0), seed), i), b * 4096)
    return struct.pack("<IIQQQQ", MAGIC, 0, seed, i, b * 4096, check) + data[40:]

if __name__ == "__main__":
    p = json.loads(sys.stdin.read() if sys.argv[1] == "-" else sys.argv[1])
    for i in map(int, sys.argv[2:]):
        length, digest = size(p["size"], p["seed"], i), hashlib.sha256()
        for b in range(-(-length // 4096)):
            digest.update(block(p, i, b)[: length - b * 4096])
        print(name(p["layout"], i), length, digest.hexdigest(), sep="\t")
