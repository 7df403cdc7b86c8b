#!/usr/bin/env bash
# Runs a command as the first process of a machine of its own: a copy-on-write view of this machine's
# files, with its own processes, network (loopback only) and cgroups, so that a real init can be tried.
# What it writes stays below FOLDER/changes; nothing of it is left running.
#
#   scripts/test-box.sh FOLDER SECONDS PREPARE COMMAND...
#
# PREPARE is a shell script that is given the box's root before the command starts. Needs root.
set -euo pipefail

if [ "${1:-}" != --inside ]; then
    folder=$1 seconds=$2
    shift 2
    mkdir -p "$folder/changes" "$folder/work" "$folder/root"
    # A cgroup of its own is the root that the box sees.
    cgroup=$(findmnt -n -t cgroup2 -o TARGET | head -n 1)/kattila-box-$$
    mkdir -p "$cgroup"
    code=0
    (
        echo "$BASHPID" >"$cgroup/cgroup.procs"
        exec timeout -s KILL "$seconds" unshare --mount --pid --fork --kill-child --ipc --uts --net --cgroup \
            "$0" --inside "$folder" "$@"
    ) || code=$?
    # Its processes have gone with its first one; their cgroups may take a moment.
    for _ in $(seq 20); do
        if find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null; then break; fi
        sleep 0.1
    done
    exit "$code"
fi

folder=$2 prepare=$3
shift 3
root=$folder/root
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=/,upperdir=$folder/changes,workdir=$folder/work" "$root"
for place in run tmp dev; do mount -t tmpfs -o mode=755 tmpfs "$root/$place"; done
chmod 1777 "$root/tmp"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
for device in null zero full random urandom tty; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
touch "$root/dev/console"
mount --bind /dev/null "$root/dev/console"
# Userspace WireGuard's; not on every machine.
if [ -c /dev/net/tun ]; then
    mkdir "$root/dev/net"
    touch "$root/dev/net/tun"
    mount --bind /dev/net/tun "$root/dev/net/tun"
fi
mkdir -m 1777 "$root/dev/shm"
mkdir "$root/dev/pts" "$root/dev/mqueue" "$root/dev/hugepages"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /run/systemd/journal/dev-log "$root/dev/log"
ln -s /proc/self/fd "$root/dev/fd"
ip link set lo up
bash "$prepare" "$root"
# A plain chroot would not do: systemd makes mount namespaces of its own below this root.
cd "$root"
pivot_root . mnt
exec chroot . /usr/bin/env -i container=kattila PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    /bin/sh -c 'umount -l /mnt; exec "$@"' sh "$@"
