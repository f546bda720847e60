# The first process of a machine: makes its file systems, then waits, and reaps what is orphaned. It was started in new
# namespaces (net, uts, ipc, mount, pid); when it ends, the kernel ends everything in them, and nothing of them is left.
#
# sh machine.sh DIRECTORY NAME STATE CACHE; DIRECTORY lies in STATE.
set -eu
machine=$1 name=$2 state=$3 cache=$4

# /proc is still that of whoever started this, so this is our id there. Until it is written, the lock is ours too (stdin).
read -r stat </proc/self/stat
echo "$stat" >"$machine/init.new"
mv "$machine/init.new" "$machine/init"
exec </dev/null

echo "$name" >/proc/sys/kernel/hostname
ip link set lo up
echo 1 >/proc/sys/net/ipv4/ip_forward

# A /var, /run and /tmp of its own; in them, under the names that they have outside, what it shares with the others.
for top in var run tmp; do mkdir -p "$machine/$top"; done
chmod 1777 "$machine/tmp"
mount -t tmpfs -o mode=755 run "$machine/run"
for path in "$state" "$cache"; do
    case $path in
    /var/* | /run/* | /tmp/*) mkdir -p "$machine$path" && mount --bind "$path" "$machine$path" ;;
    esac
done
mkdir -p "$machine/var/log" "$machine/var/lib/shared"
ln -sfn /run "$machine/var/run"
mount --bind "$state/shared" "$machine/var/lib/shared"
for top in tmp run; do mount --rbind "$machine/$top" "/$top"; done
mount --rbind "$machine/var" /var

mount -t proc proc /proc
# What the kubelet would set for the whole kernel, which is not its own: it finds it set already, and leaves it alone.
for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
    kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
    shown=/run/sysctl/${setting%=*}
    mkdir -p "${shown%/*}"
    echo "${setting#*=}" >"$shown"
    mount --bind "$shown" "/proc/sys/${setting%=*}"
done
# So that what is mounted for a pod is seen in its containers.
mount --make-rshared /

: >"$machine/booted"
while :; do
    sleep infinity &
    wait
done
