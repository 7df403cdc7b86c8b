#!/usr/bin/env bash
# Starts a manager and an agent that reports this machine to it; Ctrl-C stops both.
# Settings come from .env and the environment, as always. Where no PSK is configured, a random one
# is made once and kept in a file (mode 0600) that .env then names.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$PWD/${1:-target/release}
mkdir -p run
chmod 700 run

# The value of a setting, from the environment or else from .env; empty when it is not set.
setting() {
    local value=${!1:-}
    if [ -z "$value" ] && [ -f .env ]; then
        value=$(sed -nE "s/^[[:space:]]*(export )?$1=[\"']?([^\"']*)[\"']?[[:space:]]*$/\2/p" .env | tail -n 1)
    fi
    printf '%s' "$value"
}

if [ -z "$(setting PSK)$(setting PSK_FILE)$(setting DNS)" ]; then
    if [ ! -f run/psk ]; then
        (umask 077 && od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >run/psk)
    fi
    echo "PSK_FILE=run/psk" >>.env
    echo "made a random PSK: run/psk, named in .env"
fi
listen=$(setting MANAGER_LISTEN)
port=${listen##*:}
port=${port:-5086}
[ -n "$(setting STATE_DIR)" ] || export STATE_DIR=run
[ -n "$(setting DATABASE)" ] || export DATABASE=run/kattila_manager.db
[ -n "$(setting MANAGER_URL)" ] || export MANAGER_URL=http://127.0.0.1:$port

# Job control gives each daemon a process group of its own, so that Ctrl-C reaches this script alone
# and each of them is told once.
set -m
"$bin/manager" &
manager=$!
agent=
stop() {
    trap - INT TERM
    for pid in $agent $manager; do kill -TERM "$pid" 2>/dev/null || true; done
    wait
    exit "${1:-0}"
}
trap 'stop 0' INT TERM
# A set-up that cannot work ends here, with the daemon's own sentence.
for _ in $(seq 50); do
    kill -0 "$manager" 2>/dev/null || { wait "$manager" || exit $?; }
    if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then break; fi
    sleep 0.1
done
"$bin/agent" &
agent=$!
echo
echo "  open  http://127.0.0.1:$port/   (Ctrl-C stops manager and agent)"
echo
set +e
wait -n "$manager" "$agent"
code=$?
echo "one of the daemons ended (exit code $code); stopping the other" >&2
stop "$code"
