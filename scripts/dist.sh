#!/usr/bin/env bash
# Packs what was built by make build-agent and make build-manager: a tarball for each program and
# machine, with licences, init scripts and example settings, and SHA256SUMS over all of them.
#
#   scripts/dist.sh [FOLDER]      (default: target/dist)
#
# The same programs give the same bytes: names sorted, owner and times fixed (the time is that of the
# last commit, or SOURCE_DATE_EPOCH), no time in the compression.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=${1:-${CARGO_TARGET_DIR:-target}/dist}
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
when=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

main() {
    rm -rf "$folder"
    mkdir -p "$folder"
    python3 scripts/licences.py agent manager >"$scratch/THIRD-PARTY"
    local program
    for program in agent/bin/agent-* manager/bin/manager-*; do
        if [ -f "$program" ]; then pack "$program"; fi
    done
    if [ -z "$(ls "$folder")" ]; then
        echo "dist: nothing is built: make build-agent build-manager" >&2
        exit 1
    fi
    (cd "$folder" && sha256sum -- *.tar.gz >SHA256SUMS)
    (cd "$folder" && stat -c '%n %s bytes' -- *)
}

# One program as it is called on a node, with what belongs to it.
pack() {
    local crate=${1%%/*} machine=${1##*-} name tree
    name=kattila-$crate-$version-linux-$machine
    tree=$scratch/$name
    mkdir -p "$tree/packaging"
    cp "$1" "$tree/kattila-$crate"
    cp LICENSE-MIT LICENSE-APACHE "$scratch/THIRD-PARTY" CHANGELOG.md README.md "$tree/"
    cp packaging/README.md "$tree/packaging/README.md"
    cp "packaging/$crate.env" "$tree/$crate.env"
    mkdir -p "$tree/packaging/systemd" "$tree/packaging/openrc"
    cp packaging/systemd/kattila.conf "packaging/systemd/kattila-$crate.service" "$tree/packaging/systemd/"
    cp "packaging/openrc/kattila-$crate" "$tree/packaging/openrc/"
    if [ "$crate" = agent ]; then
        cp packaging/install.sh "$tree/"
        cp packaging/systemd/userspace-wireguard.conf "$tree/packaging/systemd/"
        mkdir -p "$tree/packaging/busybox" "$tree/packaging/openwrt"
        cp packaging/busybox/kattila-agent "$tree/packaging/busybox/"
        cp packaging/openwrt/kattila-agent/files/kattila-agent.init "$tree/packaging/openwrt/"
    fi
    modes "$tree"
    tar -C "$scratch" --sort=name --format=ustar --owner=0 --group=0 --numeric-owner --mtime="@$when" \
        -cf - "$name" | gzip -n -9 >"$folder/$name.tar.gz"
}

# Not those of this checkout, which depend on the umask that it was made with.
modes() {
    find "$1" -type d -exec chmod 755 {} +
    find "$1" -type f -exec chmod 644 {} +
    find "$1" -type f \( -name 'kattila-agent' -o -name 'kattila-manager' -o -name '*.init' -o -name install.sh \) -exec chmod 755 {} +
}

main
