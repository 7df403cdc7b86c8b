#!/usr/bin/env bash
# Sees to what scripts/build-static.sh needs where there is no container engine, and prints the shell
# settings that make it used:
#
#   scripts/build-toolchain.sh FOLDER TRIPLE...
#
# zig (compiler and linker of C for every target) and cargo-zigbuild come from PyPI into FOLDER/zig.
# Rust's standard library for the targets comes, unless BUILD_STD says which, from the first of
#
#   src        its sources of the installed toolchain (rustup component rust-src), built here
#   debian     Debian's compiler and sources, downloaded and unpacked into FOLDER/debian, built here
#   prebuilt   rustup's ready-made ones: no wait, but the programs get 0.3 MB larger
#
# Built here it is optimised for size like the rest; cargo calls that unstable, so RUSTC_BOOTSTRAP=1
# has the stable compiler take it. Does nothing, quickly, when all is there.
set -euo pipefail

ziglang_version=0.15.2
zigbuild_version=0.23.4

folder=$1
shift
mkdir -p "$folder"
# Two builds at once prepare one after the other.
exec 9>"$folder/lock"
flock 9

main() {
    zig
    local from=${BUILD_STD:-}
    if [ -z "$from" ]; then
        if has_sources; then from=src
        elif [ -e "$folder/debian/done" ]; then from=debian
        elif add_sources; then from=src
        elif command -v apt-get >/dev/null && debian; then from=debian
        elif add_targets "$@"; then from=prebuilt
        else
            echo "build: no standard library for $*: neither rustup nor apt-get brought one" >&2
            exit 1
        fi
    fi
    # shellcheck disable=SC2016 # who evaluates this has the PATH
    printf 'PATH=%q:$PATH\nexport PATH\nSTD_FROM=%q\n' "$folder/zig/bin" "$from"
    case $from in
        src)
            has_sources || add_sources
            printf 'STD_SOURCE=%q\n' "$(sources)"
            ;;
        debian)
            debian
            printf 'STD_SOURCE=%q\nRUSTC=%q\nexport RUSTC\n' "$folder/debian/usr/src" "$folder/debian/rustc"
            ;;
        prebuilt) add_targets "$@" ;;
        *) echo "build: BUILD_STD=$from: expected src, debian or prebuilt" >&2; exit 2 ;;
    esac
}

zig() {
    local mark=$folder/zig/done-$ziglang_version-$zigbuild_version
    if [ -e "$mark" ]; then return; fi
    echo "build: installing ziglang $ziglang_version and cargo-zigbuild $zigbuild_version into $folder/zig" >&2
    rm -rf "$folder/zig"
    if ! python3 -m venv "$folder/zig" >"$folder/venv.log" 2>&1; then
        cat "$folder/venv.log" >&2
        echo "build: python3 -m venv failed; Debian package: python3-venv" >&2
        exit 1
    fi
    "$folder/zig/bin/python" -m pip install -q "ziglang==$ziglang_version" "cargo-zigbuild==$zigbuild_version" >&2
    touch "$mark"
}

sources() {
    printf '%s/lib/rustlib/src/rust' "$(rustc --print sysroot)"
}

has_sources() {
    [ -f "$(sources)/library/Cargo.lock" ]
}

add_sources() {
    rustup_can component add rust-src && has_sources
}

add_targets() {
    local triple
    for triple in "$@"; do
        if [ -d "$(rustc --print sysroot)/lib/rustlib/$triple" ]; then continue; fi
        rustup_can target add "$triple" || return 1
    done
}

rustup_can() {
    if ! command -v rustup >/dev/null; then return 1; fi
    echo "build: rustup $*" >&2
    timeout 120 rustup -q "$@" >"$folder/rustup.log" 2>&1 || { tail -n 1 "$folder/rustup.log" >&2; return 1; }
}

# Debian's newest rustc, which cannot be installed beside rustup, and so is unpacked only.
debian() {
    local root=$folder/debian packages std
    if [ -e "$root/done" ]; then return 0; fi
    echo "build: fetching Debian's rustc and the sources of its standard library into $root" >&2
    rm -rf "$root"
    mkdir -p "$root/packages"
    if [ "$(id -u)" = 0 ]; then apt-get -q update >"$folder/apt.log" 2>&1 || true; fi
    std=$(depends libstd-rust-web-dev '^libstd-rust-web-[0-9]')
    packages="rustc-web libstd-rust-web-dev rust-web-src $std"
    # The compiler's library names the LLVM that it was built with.
    packages="$packages $(depends "$std" '^libllvm[0-9]')"
    # shellcheck disable=SC2086 # a list of package names
    if ! (cd "$root/packages" && apt-get -q download $packages) >>"$folder/apt.log" 2>&1; then
        tail -n 3 "$folder/apt.log" >&2
        return 1
    fi
    for package in "$root"/packages/*.deb; do dpkg -x "$package" "$root"; done
    rm -rf "$root/packages"
    cat >"$root/rustc" <<END
#!/bin/sh
LD_LIBRARY_PATH=\$(echo "$root"/usr/lib/*-linux-gnu) exec "$root/usr/bin/rustc" "\$@"
END
    chmod 755 "$root/rustc"
    "$root/rustc" --version >&2
    touch "$root/done"
}

depends() {
    apt-cache depends "$1" | sed -n 's/^ *Depends: //p' | grep -E "$2" | head -n 1
}

main "$@"
