#!/usr/bin/env bash
# Builds the static agents and holds them to what is said of them: static, small, the second build a
# matter of seconds, and both, the arm64 one under qemu, print what they see, write a message that
# verifies, and report to a real manager of this machine.
#
#   scripts/test-static.sh [MANAGER]      (default: target/debug/manager, else target/release/manager)
#
# Installs what it needs where it may (root and apt); else says what is skipped, which is an error
# with CI=true.
# shellcheck disable=SC2317 # checks are called by name
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/test-lib.sh
. scripts/test-lib.sh

target=${CARGO_TARGET_DIR:-target}

main() {
    need qemu-aarch64-static qemu-user-static
    need readelf binutils
    need curl curl
    need_venv
    local manager=${1:-}
    if [ -z "$manager" ]; then
        manager=$target/debug/manager
        [ -x "$manager" ] || manager=$target/release/manager
    fi
    build_with_stubbed_cross
    build
    test_agent "$manager" amd64 ./agent/bin/agent-amd64
    if have qemu-aarch64-static; then
        test_agent "$manager" arm64 qemu-aarch64-static ./agent/bin/agent-arm64
    else
        skip "the arm64 agent is built but not run: no qemu-aarch64-static"
    fi
    finish
}

# What cross would be asked to build. cross itself needs a container engine and is not run here.
build_with_stubbed_cross() {
    local stub=$scratch/stub
    mkdir -p "$stub/bin" "$stub/tree"
    cp -r scripts cross.toml "$stub/tree/"
    printf '#!/bin/sh\nexit 0\n' >"$stub/bin/docker"
    cat >"$stub/bin/cross" <<'END'
#!/bin/sh
if [ "$1" = --version ]; then echo "cross 0.2.5"; exit; fi
echo "$CROSS_CONFIG $*" >>"$STUB_LOG"
while [ "$1" != --target ]; do shift; done
mkdir -p "$CARGO_TARGET_DIR/$2/small"
cp "$STUB_BINARY" "$CARGO_TARGET_DIR/$2/small/agent"
END
    chmod +x "$stub/bin/docker" "$stub/bin/cross"
    # Any static program will do for the checks that follow a build.
    STUB_BINARY=$(command -v qemu-aarch64-static || command -v busybox) STUB_LOG=$stub/log PATH=$stub/bin:$PATH \
        CARGO_TARGET_DIR=$stub/target BUILD_WITH='' STRICT='' \
        "$stub/tree/scripts/build-static.sh" agent arm64 >"$stub/out" 2>&1 || { cat "$stub/out" >&2; fail "build with cross"; return 0; }
    check "cross is asked for the right build" \
        [ "$(cat "$stub/log")" = "$stub/tree/cross.toml build --quiet --profile small --locked --target aarch64-unknown-linux-musl -p agent --bin agent" ]
    check "what is too large is said loudly" grep -q "IS TOO LARGE" "$stub/out"
    note "cross itself is not run: the way with cargo zigbuild is"
}

build() {
    local started before
    BUILD_WITH=zig STRICT=1 scripts/build-static.sh agent amd64 arm64 || { fail "make build-agent"; finish; }
    pass "the agents are static and within size"
    before=$(stat -c %Y agent/bin/*)
    started=$SECONDS
    BUILD_WITH=zig STRICT=1 scripts/build-static.sh agent amd64 arm64 >"$scratch/second" 2>&1 || true
    check "the second build says one line a program" [ "$(wc -l <"$scratch/second")" = 2 ]
    check "the second build takes less than 60 s" [ $((SECONDS - started)) -lt 60 ]
    check "the second build changes no file" [ "$(stat -c %Y agent/bin/*)" = "$before" ]
    check "no path of this machine is in the agents" no_paths agent/bin/agent-amd64 agent/bin/agent-arm64
}

no_paths() {
    local file
    for file in "$@"; do
        if strings "$file" | grep -F -e "$HOME/" -e "$PWD/" | head -n 3 | grep .; then return 1; fi
    done
}

# Everything that can be asked of one agent: test_agent MANAGER NAME COMMAND...
test_agent() {
    local manager=$1 name=$2 folder=$scratch/$2 port
    shift 2
    mkdir -p "$folder/state"
    secret >"$folder/psk"
    chmod 600 "$folder/psk"
    port=$(free_port)
    cat >"$folder/env" <<END
export PSK_FILE=$folder/psk STATE_DIR=$folder/state DATABASE=$folder/manager.db REPORT_INTERVAL=1
export MANAGER_LISTEN=127.0.0.1:$port MANAGER_URL=http://127.0.0.1:$port AGENT_LISTEN=127.0.0.1:$(free_port)
END
    check "$name: -version" grep -q '^agent [0-9]' <("$@" -version)
    "$@" -sysinfo >"$folder/sysinfo.json" 2>"$folder/sysinfo.err" || true
    check "$name: -sysinfo shows this host" python3 scripts/test-static.py sysinfo "$folder/sysinfo.json"
    # shellcheck source=/dev/null
    (. "$folder/env" && "$@" -dump "$folder/envelope") || true
    check "$name: -dump writes a message that verifies" python3 scripts/test-static.py envelope "$folder/envelope" "$folder/psk"
    if [ ! -x "$manager" ]; then
        skip "$name: the push to a manager: there is no $manager (cargo build -p manager)"
        return
    fi
    # shellcheck source=/dev/null
    (. "$folder/env" && exec "$manager") 2>"$folder/manager.log" &
    local manager_pid=$!
    started "$manager_pid"
    # shellcheck source=/dev/null
    (. "$folder/env" && exec "$@") 2>"$folder/agent.log" &
    local agent_pid=$!
    started "$agent_pid"
    if wait_for 30 reports "$port" "$folder"; then
        pass "$name: reports to a real manager"
    else
        tail -n 5 "$folder/agent.log" "$folder/manager.log" >&2
        fail "$name: no report at the manager within 30 s"
    fi
    kill -TERM "$agent_pid"
    check "$name: ends with exit code 0 when it is told to" wait "$agent_pid"
    kill -TERM "$manager_pid"
    wait "$manager_pid" || fail "$name: the manager ended with exit code $?"
}

# The manager shows the agent of this state folder online, and holds a report of it.
reports() {
    curl -sf --max-time 5 "http://127.0.0.1:$1/status/agents" >"$2/agents.json" &&
        curl -sf --max-time 5 "http://127.0.0.1:$1/status/agents/$(head -n 1 "$2/state/agent_id.txt")" >"$2/agent.json" &&
        python3 scripts/test-static.py agents "$2/agents.json" "$2/agent.json" "$2/state/agent_id.txt"
}

main "$@"
