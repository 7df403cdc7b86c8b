# shellcheck shell=bash
# What the test scripts share: a scratch folder, counted checks, and an end for every process that
# they started. Sourced, not run.

PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
scratch=$(mktemp -d)
passed=0 failed=0 skipped=0
processes=()
trap clean_up EXIT

pass() {
    passed=$((passed + 1))
    echo "ok    $1"
}

fail() {
    failed=$((failed + 1))
    echo "FAIL  $1" >&2
}

# Something that cannot be tested here although it could on another machine of the same kind.
skip() {
    skipped=$((skipped + 1))
    echo "SKIP  $1" >&2
}

# Something that no machine of this kind can test.
note() {
    echo "not run: $1"
}

# check NAME COMMAND...
check() {
    local name=$1
    shift
    if "$@"; then pass "$name"; else fail "$name"; fi
}

# A line that test runners' readers know, and the exit code: nothing may be skipped in CI.
finish() {
    echo "$(basename "$0" .sh): $passed passed, $failed failed, $skipped skipped"
    [ "$failed" = 0 ] || exit 1
    if [ "$skipped" != 0 ] && [ "${CI:-}" = true ]; then
        echo "$(basename "$0" .sh): CI=true: nothing may be skipped" >&2
        exit 1
    fi
    exit 0
}

# need COMMAND PACKAGE: installs the Debian package when the command is missing and we may. Tests that
# need it ask again and are skipped without it.
need() {
    have "$1" || install_package "$2" || true
}

have() {
    command -v "$1" >/dev/null
}

need_venv() {
    python3 -c 'import venv, ensurepip' 2>/dev/null || install_package python3-venv || true
}

apt_lists=
install_package() {
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "$1 is missing; as root: apt-get install --no-install-recommends $1" >&2
        return 1
    fi
    echo "installing $1"
    if [ -z "$apt_lists" ]; then
        apt_lists=yes
        apt-get -q update >"$scratch/apt.log" 2>&1 || true
    fi
    DEBIAN_FRONTEND=noninteractive apt-get -y -q -o DPkg::Lock::Timeout=300 install --no-install-recommends "$1" \
        </dev/null >"$scratch/apt.log" 2>&1 || { tail -n 3 "$scratch/apt.log" >&2; return 1; }
}

# started PID: to be ended with this script.
started() {
    processes+=("$1")
}

clean_up() {
    local pid
    for pid in "${processes[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
    rm -rf "$scratch"
}

# A port that is free now, and below those that connections take by themselves.
free_port() {
    python3 - <<'END'
import random, socket
while True:
    port = random.randrange(10000, 32000)
    with socket.socket() as holder:
        try:
            holder.bind(("127.0.0.1", port))
        except OSError:
            continue
    print(port)
    break
END
}

# A PSK.
secret() {
    od -An -N32 -tx1 /dev/urandom | tr -d ' \n'
}

# wait_for SECONDS COMMAND...: until it succeeds; what it prints is shown when it never does.
wait_for() {
    local until=$((SECONDS + $1))
    shift
    while ! "$@" >"$scratch/wait_for" 2>&1; do
        if [ "$SECONDS" -ge "$until" ]; then
            cat "$scratch/wait_for" >&2
            return 1
        fi
        sleep 0.2
    done
}
