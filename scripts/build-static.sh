#!/usr/bin/env bash
# Builds one daemon as a static musl program for several machines:
#
#   scripts/build-static.sh agent|manager [amd64|arm64|armv7 ...]      (default: amd64 arm64)
#
# and leaves it in agent/bin/agent-amd64 and so on. With `cross` where a container engine runs, else
# with `cargo zigbuild`. Then checks that it is static, small enough and starts.
#
#   BUILD_WITH=cross|zig    decides between the two
#   BUILD_STD=src|debian|prebuilt   where the zig way has Rust's standard library from (scripts/build-toolchain.sh)
#   FEATURES=tls           https for MANAGER_URL or NOTIFY_URL; about 1.1 MB larger
#   STRICT=1                too large or not started is an error, not a warning
set -euo pipefail
cd "$(dirname "$0")/.."

# cross takes its container images of its own version, so this pins them too.
cross_version=0.2.5
# Bytes. The page's own files do not count for the manager.
agent_max=1200000
manager_max=2500000
tls_max=1300000

crate=${1:-}
shift || true
case $crate in agent | manager) ;; *) echo "usage: $0 agent|manager [amd64|arm64|armv7 ...]" >&2; exit 2 ;; esac
machines=("$@")
[ ${#machines[@]} -gt 0 ] || machines=(amd64 arm64)
# Cargo.toml has the profiles. Without frame pointers, the tables by which a panic unwinds would be a third
# larger than they are: code for size pushes and pops a lot, and each of it has an entry.
size_flags="-C force-frame-pointers=yes"
verb=build
link_arguments=()
case $crate in
    agent) profile=small ;;
    manager)
        profile=compact
        # Where all crates are optimised together, small functions are put into their callers as at "s": no
        # larger than the 5 of "z", and 5 % fewer instructions. With 70 it is 7 % larger.
        verb=rustc
        link_arguments=(-- -C "llvm-args=-inline-threshold=50")
        # No panic passes SQLite's code, so it needs no such tables.
        export CFLAGS="${CFLAGS:-} -fno-asynchronous-unwind-tables -fno-unwind-tables"
        ;;
esac
base=${CARGO_TARGET_DIR:-target}
mkdir -p "$base/static" "$crate/bin"
base=$(cd "$base/static" && pwd)
problems=0

main() {
    local way machine
    way=$(choose_way)
    if [ "$way" = cross ]; then prepare_cross; else prepare_zig; fi
    for machine in "${machines[@]}"; do
        build "$way" "$machine" "$(triple "$machine")"
        check "$machine" "$crate/bin/$crate-$machine"
    done
    if [ "$problems" != 0 ] && [ "${STRICT:-}" = 1 ]; then exit 1; fi
}

triple() {
    case $1 in
        amd64) echo x86_64-unknown-linux-musl ;;
        arm64) echo aarch64-unknown-linux-musl ;;
        armv7) echo armv7-unknown-linux-musleabihf ;;
        *) echo "$0: there is no machine $1; there are amd64, arm64, armv7" >&2; exit 2 ;;
    esac
}

choose_way() {
    case ${BUILD_WITH:-} in cross | zig) echo "$BUILD_WITH"; return ;; esac
    if engine_runs; then echo cross; return; fi
    # Said once for a tree; every later run would say the same.
    if [ ! -e "$base/said-zig" ]; then
        echo "build: no container engine runs here (docker or podman), so cross cannot; using cargo zigbuild" >&2
        touch "$base/said-zig"
    fi
    echo zig
}

engine_runs() {
    local engine
    for engine in ${CROSS_CONTAINER_ENGINE:-docker podman}; do
        if command -v "$engine" >/dev/null && timeout 20 "$engine" info >/dev/null 2>&1; then return 0; fi
    done
    return 1
}

prepare_cross() {
    PATH=$base/tools/bin:$PATH
    export CROSS_CONFIG=$PWD/cross.toml CARGO_TARGET_DIR=$base/cross
    if [ "$(cross --version 2>/dev/null | sed -n 's/^cross \([0-9.]*\).*/\1/p')" != "$cross_version" ]; then
        echo "build: installing cross $cross_version" >&2
        cargo install --quiet --locked --root "$base/tools" --version "$cross_version" cross
    fi
    cargo_build=(cross "$verb")
    std_arguments=()
    export RUSTFLAGS="${RUSTFLAGS:-} $size_flags"
}

# What this sets comes from scripts/build-toolchain.sh: PATH, RUSTC, BUILD_STD and the like.
prepare_zig() {
    local machine settings triples=()
    for machine in "${machines[@]}"; do triples+=("$(triple "$machine")"); done
    settings=$(scripts/build-toolchain.sh "$base" "${triples[@]}")
    eval "$settings"
    export CARGO_TARGET_DIR=$base/zig-$STD_FROM
    cargo_build=(cargo-zigbuild "${verb/#build/zigbuild}")
    std_arguments=()
    # Paths of the machine that builds have no place in what is shipped.
    local flags="--remap-path-prefix=$PWD=. --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo"
    if [ "$STD_FROM" != prebuilt ]; then
        # Without the code that names lines in a backtrace: it would be a sixth of the agent, and
        # names are stripped anyway. The linker must not look for C start files beside the standard
        # library, which has none when it is built here: zig brings its own.
        std_arguments=("-Zbuild-std=std,panic_unwind" "-Zbuild-std-features=panic-unwind,optimize_for_size")
        # What passes every byte of a report. Cargo.toml cannot say so: elsewhere core and alloc are not built.
        if [ "$crate" = manager ]; then
            std_arguments+=(--config 'profile.compact.package.core.opt-level=3')
            std_arguments+=(--config 'profile.compact.package.alloc.opt-level="s"')
        fi
        flags="$flags --remap-path-prefix=$STD_SOURCE=rust -C link-self-contained=no"
        export RUSTC_BOOTSTRAP=1
    fi
    export RUSTFLAGS="${RUSTFLAGS:-} $flags $size_flags"
}

build() {
    local triple=$3 file=$crate/bin/$crate-$2 quiet=()
    if [ ! -t 2 ]; then quiet=(--quiet); fi
    local flags=$RUSTFLAGS
    # zig links it at a fixed address in any case, and on amd64 code for that is shorter.
    if [ "$1 $2" = "zig amd64" ]; then flags="$flags -C relocation-model=static"; fi
    RUSTFLAGS=$flags "${cargo_build[@]}" "${quiet[@]}" --profile "$profile" --locked --target "$triple" -p "$crate" --bin "$crate" \
        ${FEATURES:+--features "$FEATURES"} "${std_arguments[@]}" "${link_arguments[@]}"
    local built=$CARGO_TARGET_DIR/$triple/$profile/$crate
    if ! cmp -s "$built" "$file"; then
        install -m 0755 "$built" "$file.new"
        mv "$file.new" "$file"
    fi
}

check() {
    local machine=$1 file=$2 size max ran
    if ! is_static "$file"; then
        echo "build: $file IS NOT STATIC" >&2
        exit 1
    fi
    size=$(($(stat -c %s "$file") - $(assets)))
    max=$agent_max
    if [ "$crate" = manager ]; then max=$manager_max; fi
    # rustls, ring and Mozilla's list.
    case " ${FEATURES:-} " in *" tls "*) max=$((max + tls_max)) ;; esac
    ran=$(start "$machine" "$file")
    printf '%-24s %9d bytes, static, %s\n' "$file" "$size" "$ran"
    if [ "$size" -gt "$max" ]; then
        problems=1
        echo "build: WARNING: $file IS TOO LARGE: $size bytes, at most $max" >&2
    fi
    case $ran in
        starts*) ;;
        *"not run"*) echo "build: $file: $ran" >&2 ;;
        *) problems=1; echo "build: WARNING: $file DOES NOT START: $ran" >&2 ;;
    esac
}

# No program interpreter and no shared library: nothing of the machine that it runs on is needed.
is_static() {
    ! readelf -lW "$1" | grep -q INTERP && ! readelf -dW "$1" | grep -q NEEDED
}

# Bytes of the page's files in the manager.
assets() {
    if [ "$crate" = manager ] && [ -d manager/src/web ]; then
        find manager/src/web -type f ! -name '*.rs' -printf '%s\n' | awk '{ sum += $1 } END { print sum + 0 }'
    else
        echo 0
    fi
}

# Starts it, by emulation where it is of another machine; says what came of it.
start() {
    local machine=$1 file=$2 emulator=() said
    if [ "$machine" != "$(host_machine)" ]; then
        case $machine in
            amd64) emulator=(qemu-x86_64-static) ;;
            arm64) emulator=(qemu-aarch64-static) ;;
            armv7) emulator=(qemu-arm-static) ;;
        esac
        if ! command -v "${emulator[0]}" >/dev/null; then
            echo "not run: ${emulator[0]} is missing (Debian package qemu-user-static)"
            return
        fi
    fi
    if said=$(timeout 20 "${emulator[@]}" "./$file" -version 2>&1); then
        echo "starts${emulator:+ (emulated)}: $said"
    else
        echo "failed: $said"
    fi
}

host_machine() {
    case $(uname -m) in x86_64) echo amd64 ;; aarch64) echo arm64 ;; armv7*) echo armv7 ;; *) uname -m ;; esac
}

main
