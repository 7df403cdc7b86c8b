#!/bin/sh
# Installs what `make test` needs beyond the Rust toolchain, and fetches the kernel that the
# kernel lab boots, and promtool. Does nothing, quickly, when all is there.
#
#   scripts/test-deps.sh           install what is missing (root and apt), or say what is missing
#   scripts/test-deps.sh --check   only say what is missing
#
# Exit code 0, also when something is missing: those tests are skipped, loudly. With CI=true
# nothing may be skipped, so there a missing piece is exit code 1.
set -eu

cd "$(dirname "$0")/.."

# Tests run with the same: tools of the system administrator are in sbin.
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
target=${CARGO_TARGET_DIR:-target}
kernel_dir="$target/lab/kernel"
tools_dir="$target/lab/tools"

# One line each: command, Debian package, who needs it (m: mesh tests, k: kernel lab, x: exports, l: make lint).
tools='
ip         iproute2          mk
unshare    util-linux        m
nsenter    util-linux        m
wg         wireguard-tools   mk
wireguard-go wireguard-go    m
nft        nftables          mk
ping       iputils-ping      m
dnsmasq    dnsmasq-base      m
strace     strace            m
qemu-system-x86_64 qemu-system-x86 k
busybox    busybox-static    k
modprobe   kmod              k
cpio       cpio              k
ldd        libc-bin          k
dot        graphviz          x
shellcheck shellcheck        l
'

main() {
    look
    if [ -z "$packages$no_kernel$no_promtool" ]; then
        return 0
    fi
    if [ "${1:-}" != --check ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        install_missing
        look
    fi
    complain
}

# Sets packages (missing Debian packages), no_mesh, no_kernel_lab (missing commands by who needs
# them), no_kernel and no_promtool (not empty when they are not unpacked).
look() {
    packages='' no_mesh='' no_kernel_lab='' no_exports='' no_lint='' no_kernel='' no_promtool=''
    while read -r tool package users; do
        [ -n "$tool" ] || continue
        if command -v "$tool" >/dev/null && is_right_kind "$tool"; then continue; fi
        case " $packages " in *" $package "*) ;; *) packages="$packages $package" ;; esac
        case $users in *m*) no_mesh="$no_mesh $tool" ;; esac
        case $users in *k*) no_kernel_lab="$no_kernel_lab $tool" ;; esac
        case $users in *x*) no_exports="$no_exports $tool" ;; esac
        case $users in *l*) no_lint="$no_lint $tool" ;; esac
    done <<END
$tools
END
    if ! kernel_is_there; then no_kernel=yes; fi
    if [ ! -x "$tools_dir/promtool" ]; then no_promtool=yes; fi
}

# The guest has no libraries of its own for busybox, so a dynamically linked one will not do.
is_right_kind() {
    [ "$1" != busybox ] || ! ldd "$(command -v busybox)" >/dev/null 2>&1
}

# The mark is written last, so a broken-off download is not taken for a kernel.
kernel_is_there() {
    [ -s "$kernel_dir/release" ] || return 1
    read -r release <"$kernel_dir/release"
    [ -s "$kernel_dir/boot/vmlinuz-$release" ] && [ -d "$kernel_dir/lib/modules/$release" ]
}

install_missing() {
    echo "test-deps: installing:$packages${no_kernel:+ (and fetching a kernel for the kernel lab)}${no_promtool:+ (and promtool)}"
    apt_get update || echo "test-deps: apt-get update failed; trying with the lists at hand" >&2
    if [ -n "$packages" ]; then
        # One by one when all at once fails, so that one missing package costs only its own tests.
        # shellcheck disable=SC2086 # a list of package names
        if ! apt_get install --no-install-recommends $packages; then
            for package in $packages; do
                apt_get install --no-install-recommends "$package" || true
            done
        fi
    fi
    if [ -n "$no_kernel" ]; then
        fetch_kernel || echo "test-deps: no kernel for the kernel lab could be fetched" >&2
    fi
    if [ -n "$no_promtool" ]; then
        fetch_promtool || echo "test-deps: promtool could not be fetched" >&2
    fi
}

apt_get() {
    DEBIAN_FRONTEND=noninteractive apt-get -y -q -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 "$@" \
        </dev/null >>"$log" 2>&1 || { tail -n 5 "$log" >&2; return 1; }
}

# The newest 6.1 kernel package, downloaded and unpacked, not installed.
fetch_kernel() {
    [ "$(dpkg --print-architecture)" = amd64 ] || return 1
    image=$(apt-cache search --names-only '^linux-image-6\.1\.0-[0-9]+-amd64$' | cut -d' ' -f1 | sort -V | tail -n 1)
    [ -n "$image" ] || return 1
    rm -rf "$kernel_dir"
    mkdir -p "$kernel_dir"
    (cd "$kernel_dir" && apt_get download "$image") || return 1
    dpkg -x "$kernel_dir"/linux-image-*.deb "$kernel_dir" || return 1
    rm -f "$kernel_dir"/linux-image-*.deb
    release=${image#linux-image-}
    depmod_for "$release" || return 1
    echo "$release" >"$kernel_dir/release.new"
    mv "$kernel_dir/release.new" "$kernel_dir/release"
}

# Out of Debian's prometheus package, which is not installed: that would start its daemon.
fetch_promtool() {
    rm -rf "$tools_dir/new"
    mkdir -p "$tools_dir/new"
    (cd "$tools_dir/new" && apt_get download prometheus && dpkg -x prometheus_*.deb .) || return 1
    mv "$tools_dir/new/usr/bin/promtool" "$tools_dir/promtool"
    rm -rf "$tools_dir/new"
}

# modules.dep is made at installation, which does not happen here.
depmod_for() {
    if ! command -v depmod >/dev/null; then return 1; fi
    depmod -b "$kernel_dir" "$1"
}

complain() {
    if [ -z "$packages$no_kernel$no_promtool" ]; then
        echo "test-deps: all there"
        return 0
    fi
    echo "test-deps: NOT EVERYTHING IS THERE:" >&2
    if [ -n "$packages" ]; then
        echo "  as root: apt-get install --no-install-recommends$packages" >&2
    fi
    if [ -n "$no_mesh" ]; then
        echo "  mesh tests (lab, real WireGuard hosts in namespaces) will be skipped: no$no_mesh" >&2
    fi
    if [ -n "$no_lint" ]; then
        echo "  make lint will not check scripts: no$no_lint" >&2
    fi
    if [ -n "$no_kernel_lab$no_kernel" ]; then
        echo "  kernel lab tests (Debian kernel under qemu) will be skipped: no${no_kernel_lab}${no_kernel:+ kernel in $kernel_dir (as root: scripts/test-deps.sh)}" >&2
    fi
    if [ -n "$no_exports$no_promtool" ]; then
        echo "  exports will not be held against what reads them: no$no_exports${no_promtool:+ promtool in $tools_dir (as root: scripts/test-deps.sh)}" >&2
    fi
    if [ "${CI:-}" = true ]; then
        echo "test-deps: CI=true: nothing may be skipped" >&2
        return 1
    fi
}

mkdir -p "$target/lab"
target=$(cd "$target" && pwd)
kernel_dir="$target/lab/kernel"
tools_dir="$target/lab/tools"
log="$target/lab/test-deps.log"
main "$@"
