#!/usr/bin/env bash
# Holds docs/openapi.json against a running manager: that it names every path of limits.rs, and, with
# schemathesis, that each answer to some dozens of made-up requests is one that it describes.
#
#   scripts/test-api.sh [AGENT [MANAGER]]      (default: those of target/debug, else target/release)
#
# Installs what it needs where it may (PyPI, into a folder of target/); else says what is skipped, which
# is an error with CI=true.
# shellcheck disable=SC2317 # checks are called by name
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/test-lib.sh
. scripts/test-lib.sh

target=${CARGO_TARGET_DIR:-target}
venv=$target/api-venv
version=4.32.5

main() {
    need curl curl
    need_venv
    local agent=${1:-$target/debug/agent} manager=${2:-$target/debug/manager}
    [ -x "$agent" ] || agent=$target/release/agent
    [ -x "$manager" ] || manager=$target/release/manager
    check "every path of the manager is described" every_path
    if ! tool; then
        skip "schemathesis cannot be installed from PyPI"
        finish
    fi
    st=$(realpath "$venv")/bin/st
    start "$agent" "$manager"
    described
    check "schemathesis finds what is described" run
    check "the manager is well after that" curl -sf --max-time 5 "http://127.0.0.1:$port/status/healthcheck" -o "$scratch/health"
    finish
}

tool() {
    if [ "$("$venv/bin/st" --version 2>/dev/null | grep -o '[0-9.]*$')" = "$version" ]; then return; fi
    if ! python3 -m venv "$venv" ||
        ! "$venv/bin/pip" install -q --disable-pip-version-check "schemathesis==$version" >"$scratch/pip" 2>&1; then
        tail -n 3 "$scratch/pip" >&2
        return 1
    fi
}

# The constants of the manager's paths, and those below an agent's id, are the paths of the file.
every_path() {
    sed -n '/pub mod manager_path/,/^}/s/.*&str = "\(.*\)";/\1/p' proto/src/limits.rs >"$scratch/known"
    printf '%s\n' '/status/agents/{id}' '/status/agents/{id}/rates' >>"$scratch/known"
    python3 -c 'import json; print("\n".join(json.load(open("docs/openapi.json"))["paths"]))' >"$scratch/paths"
    diff <(sort "$scratch/known") <(sort "$scratch/paths") >&2
}

# A manager with one agent, so that there is something to answer.
start() {
    secret >"$scratch/psk"
    secret >"$scratch/admin"
    chmod 600 "$scratch/psk" "$scratch/admin"
    local own
    port=$(free_port) own=$(free_port)
    export PSK_FILE=$scratch/psk DATABASE=$scratch/manager.db MANAGER_LISTEN=127.0.0.1:$port STATE_DIR=$scratch \
        MANAGER_URL=http://127.0.0.1:$port AGENT_LISTEN=127.0.0.1:$own REPORT_INTERVAL=1 LOG_LEVEL=error
    ADMIN_SECRET_FILE=$scratch/admin "$2" 2>"$scratch/manager.log" &
    started $!
    "$1" 2>"$scratch/agent.log" &
    started $!
    check "an agent reports" wait_for 30 known
}

known() {
    curl -sf --max-time 5 "http://127.0.0.1:$port/status/agents" | grep -q '"presence":"online"'
}

# The same file with ids that lead somewhere: made-up ones would only ever find nothing.
described() {
    python3 - "$(head -n 1 "$scratch/agent_id.txt")" >"$scratch/openapi.json" <<'END'
import json, sys
spec = json.load(open("docs/openapi.json"))
ids = {"type": "string", "enum": [sys.argv[1], "0" * 32]}
for methods in spec["paths"].values():
    for operation in methods.values():
        # schemathesis writes bytes under this name only; the manager goes by the bytes alone.
        if "requestBody" in operation:
            content = operation["requestBody"]["content"]
            content["application/octet-stream"] = content.pop("application/vnd.kattila.envelope")
        for parameter in operation.get("parameters", []):
            if parameter["name"] in ("id", "from", "agent"):
                parameter["schema"] = ids
            if parameter["name"] == "to":
                parameter["schema"] = {"type": "string", "enum": [sys.argv[1], "10.9.0.1", "fd00::1"]}
json.dump(spec, sys.stdout)
END
}

# Requests as described and, in part, not; what a server may do with the latter is also in the file.
run() {
    # It leaves notes where it runs.
    (cd "$scratch" && "$st" run openapi.json --url "http://127.0.0.1:$port" --phases examples,coverage,fuzzing \
        --max-examples 15 --seed 1 --no-color --request-timeout 20 --warnings off --generation-database none \
        --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance \
        >"$scratch/st" 2>&1) || { tail -n 150 "$scratch/st" >&2; return 1; }
    tail -n 12 "$scratch/st" | grep -iE "tested|generated|passed" || true
}

main "$@"
