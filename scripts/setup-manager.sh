#!/usr/bin/env bash
# Makes what a manager needs, in a folder of its own, and says what it did: a random PSK (unless .env
# names where another comes from), .env, modes that keep both to their owner. Run again it changes
# nothing that is right.
#
#   scripts/setup-manager.sh [FOLDER]      (default: the checkout itself, where make run-manager looks)
set -euo pipefail
source=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:-$source}

did() {
    printf 'setup-manager: %s\n' "$1"
}

mode() {
    if [ "$(stat -c %a "$2")" != "$1" ]; then
        chmod "$1" "$2"
        did "$2: mode is now $1"
    fi
}

# The value of a setting in .env, as the daemons read it; empty when it is not set.
setting() {
    sed -nE "s/^[[:space:]]*(export )?$1=[\"']?([^\"']*)[\"']?[[:space:]]*$/\2/p" "$folder/.env" | tail -n 1
}

if [ ! -d "$folder" ]; then
    mkdir -p "$folder"
    chmod 700 "$folder"
    did "made $folder, mode 700"
fi
cd "$folder"
folder=$PWD
umask 077

if [ ! -e .env ]; then
    sed "s#^PSK_FILE=.*#PSK_FILE=run/psk#" "$source/packaging/manager.env" >.env
    did "made $folder/.env: edit it for another address, port or time that reports are kept"
fi
mode 600 .env
if [ -z "$(setting PSK)$(setting PSK_FILE)$(setting DNS)" ]; then
    # A last line without its end would swallow this one.
    if [ -s .env ] && [ -n "$(tail -c 1 .env)" ]; then echo >>.env; fi
    echo "PSK_FILE=run/psk" >>.env
    did "named the PSK's file, run/psk, in .env"
fi
if [ ! -d run ]; then
    mkdir run
    did "made $folder/run for the PSK and the database"
fi
mode 700 run
if [ -z "$(setting DATABASE)" ]; then
    if [ -n "$(tail -c 1 .env)" ]; then echo >>.env; fi
    echo "DATABASE=run/kattila_manager.db" >>.env
    did "named the database, run/kattila_manager.db, in .env"
fi
psk=$(setting PSK_FILE)
if [ -z "$(setting PSK)" ] && [ -n "$psk" ]; then
    if [ ! -e "$psk" ]; then
        # Written whole or not at all.
        od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$psk.new"
        mv "$psk.new" "$psk"
        did "made a random PSK in $psk: every agent needs this file too, mode 600"
    fi
    mode 600 "$psk"
elif [ -z "$psk" ]; then
    did "the PSK comes from $([ -n "$(setting PSK)" ] && echo .env || echo "the TXT record of $(setting DNS)")"
fi
did "ready: make run-manager, then open http://127.0.0.1:5086/"
