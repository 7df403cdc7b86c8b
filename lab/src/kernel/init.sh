#!/bin/busybox sh
# The guest's first process: prepares, runs the steps, sends what they wrote through the second
# serial port, powers off.
/bin/busybox --install -s /applets
export PATH=/usr/bin:/applets HOME=/ LC_ALL=C
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
exec </dev/null >/dev/ttyS0 2>&1
while read -r module parameters; do
    # shellcheck disable=SC2086 # none or one
    insmod "/lab/modules/$module.ko" $parameters || echo "init: $module: not loaded"
done </lab/modules/order
hostname guest
# busybox sh would take its own `ip`; the copied shell goes by PATH.
/usr/bin/sh -c 'ip link set lo up'
# Bytes as they are.
stty -F /dev/ttyS1 raw -echo
exec 3>/dev/ttyS1
for step in /lab/steps/*; do
    /usr/bin/sh -e "$step" >/tmp/stdout 2>/tmp/stderr
    code=$?
    # What steps left in the background may still write: the copies have one size.
    cp /tmp/stdout /tmp/stdout.now
    cp /tmp/stderr /tmp/stderr.now
    printf 'STEP %s %s %s\n' "$code" "$(stat -c %s /tmp/stdout.now)" "$(stat -c %s /tmp/stderr.now)" >&3
    cat /tmp/stdout.now /tmp/stderr.now >&3
    # New files for the next step; the background keeps the old ones.
    rm -f /tmp/stdout /tmp/stderr
done
printf 'END\n' >&3
# Closing waits until all is sent.
exec 3>&-
poweroff -f
