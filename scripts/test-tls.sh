#!/usr/bin/env bash
# An agent built with TLS against a real manager behind a real nginx: with the private authority that
# signed nginx's certificate, with a wrong one, with none, and by a name that is not in the certificate.
#
#   scripts/test-tls.sh [MANAGER]      (default: target/debug/manager, else target/release/manager)
#
# Installs what it needs where it may (root and apt); else says what is skipped, which is an error with
# CI=true.
# shellcheck disable=SC2317 # checks are called by name
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/test-lib.sh
. scripts/test-lib.sh

target=${CARGO_TARGET_DIR:-target}

main() {
    need nginx nginx
    need openssl openssl
    need curl curl
    if ! have nginx || ! have openssl; then
        skip "TLS: no nginx or no openssl"
        finish
    fi
    manager=${1:-$target/debug/manager}
    [ -x "$manager" ] || manager=$target/release/manager
    # In a folder of its own: what other tests run is the program without TLS.
    cargo build --quiet -p agent --features tls --target-dir "$target/tls"
    agent=$target/tls/debug/agent
    check "no async runtime comes with TLS" no_runtime
    authorities
    front
    with_the_right_authority
    with_others
    through_the_proxy
    finish
}

no_runtime() {
    ! cargo tree --workspace -e all --all-features -i tokio >/dev/null 2>&1
}

# Two private authorities, and a certificate for localhost by the first.
authorities() {
    local name
    for name in ca other; do
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=$name of a test" \
            -keyout "$scratch/$name.key" -out "$scratch/$name.pem" 2>/dev/null
    done
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost \
        -keyout "$scratch/server.key" -out "$scratch/server.csr" 2>/dev/null
    printf 'subjectAltName=DNS:localhost\n' >"$scratch/extensions"
    openssl x509 -req -in "$scratch/server.csr" -CA "$scratch/ca.pem" -CAkey "$scratch/ca.key" -days 2 \
        -extfile "$scratch/extensions" -out "$scratch/server.pem" 2>/dev/null
}

# The manager on loopback, and nginx before it as README.md has it.
front() {
    mkdir -p "$scratch/state" "$scratch/logs"
    secret >"$scratch/psk"
    secret >"$scratch/token"
    chmod 600 "$scratch/psk" "$scratch/token"
    behind=$(free_port)
    port=$(free_port)
    PSK_FILE=$scratch/psk READ_TOKEN_FILE=$scratch/token DATABASE=$scratch/manager.db MANAGER_LISTEN=127.0.0.1:$behind \
        "$manager" 2>"$scratch/manager.log" &
    started $!
    cat >"$scratch/nginx.conf" <<END
daemon off;
# One process, so that nothing outlives its end.
master_process off;
pid $scratch/nginx.pid;
error_log $scratch/nginx.log;
events {}
http {
    access_log off;
    client_body_temp_path $scratch/body;
    proxy_temp_path $scratch/proxy;
    fastcgi_temp_path $scratch/fastcgi;
    uwsgi_temp_path $scratch/uwsgi;
    scgi_temp_path $scratch/scgi;
    server {
        listen 127.0.0.1:$port ssl;
        server_name localhost;
        ssl_certificate $scratch/server.pem;
        ssl_certificate_key $scratch/server.key;
$(sed -n '/^ *location \/ {$/,/^ *}$/p' README.md | sed "s/127.0.0.1:5086/127.0.0.1:$behind/")
    }
}
END
    nginx -c "$scratch/nginx.conf" -p "$scratch" 2>>"$scratch/nginx.log" &
    started $!
    check "nginx serves the manager by TLS" wait_for 20 page
}

page() {
    curl -sf --max-time 5 --cacert "$scratch/ca.pem" "https://localhost:$port/" -o "$scratch/page"
}

# said NAME=VALUE...: what -check prints, in $scratch/said.
said() {
    env PSK_FILE="$scratch/psk" STATE_DIR="$scratch/state" AGENT_LISTEN="127.0.0.1:$(free_port)" REPORT_INTERVAL=1 \
        MANAGER_URL="https://localhost:$port" "$@" "$agent" -check >"$scratch/said" 2>&1 || true
}

manager_line() {
    grep -qE "^$1 +manager .*$2" "$scratch/said" || { cat "$scratch/said" >&2; return 1; }
}

with_the_right_authority() {
    said TLS_CA_FILE="$scratch/ca.pem"
    check "with the right authority the check is well" manager_line ok "answers, signed with this PSK"
    PSK_FILE=$scratch/psk STATE_DIR=$scratch/state AGENT_LISTEN=127.0.0.1:$(free_port) REPORT_INTERVAL=1 \
        MANAGER_URL=https://localhost:$port TLS_CA_FILE=$scratch/ca.pem "$agent" 2>"$scratch/agent.log" &
    local pid=$!
    started "$pid"
    check "and reports arrive" wait_for 30 online
    kill -TERM "$pid"
    check "the agent ends with exit code 0" wait "$pid"
}

online() {
    curl -sf --max-time 5 "http://127.0.0.1:$behind/status/agents" | grep -q '"presence":"online"'
}

with_others() {
    said TLS_CA_FILE="$scratch/other.pem"
    check "with a wrong authority the manager is not believed" manager_line FAIL "certificate"
    said
    check "nor with Mozilla's list alone" manager_line FAIL "certificate"
    said MANAGER_URL="https://127.0.0.1:$port" TLS_CA_FILE="$scratch/ca.pem"
    check "nor by a name that is not in the certificate" manager_line FAIL "certificate"
    said MANAGER_URL="https://localhost:$behind" TLS_CA_FILE="$scratch/ca.pem"
    check "nor where there is no TLS" manager_line FAIL ""
    said TLS_CA_FILE="$scratch/psk"
    check "a file without a certificate is named" grep -q "FAIL  tls .*/psk: there is no certificate in it" "$scratch/said"
    check "and ends the start" refused TLS_CA_FILE="$scratch/psk"
    check "without TLS in the program https is refused" plain_refuses
}

refused() {
    ! env PSK_FILE="$scratch/psk" STATE_DIR="$scratch/state" MANAGER_URL="https://localhost:$port" "$@" timeout 10 "$agent" \
        >"$scratch/out" 2>&1 && grep -q "TLS_CA_FILE: " "$scratch/out"
}

plain_refuses() {
    local plain=$target/debug/agent code=0
    [ -x "$plain" ] || plain=$target/release/agent
    PSK_FILE=$scratch/psk MANAGER_URL=https://localhost:$port timeout 10 "$plain" >"$scratch/out" 2>&1 || code=$?
    [ "$code" = 2 ] && grep -q "this build has no TLS" "$scratch/out"
}

# Everybody comes from nginx's address, so that must not be taken for the reader's.
through_the_proxy() {
    local url=https://localhost:$port/status/agents
    check "who reads through nginx needs the token" \
        [ "$(curl -s --max-time 5 --cacert "$scratch/ca.pem" -o "$scratch/out" -w '%{http_code}' "$url")" = 401 ]
    check "and may read with it" \
        [ "$(curl -s --max-time 5 --cacert "$scratch/ca.pem" -H "Authorization: Bearer $(cat "$scratch/token")" -o "$scratch/out" -w '%{http_code}' "$url")" = 200 ]
}

main "$@"
