#!/bin/sh
# Installs the agent on this node as a service, starts it and checks it. Run as root in the unpacked folder:
#
#   sh install.sh MANAGER_URL PSK
#
# PSK is a file that holds it, or dns:NAME for the TXT record of NAME. `manager -enroll` prints the whole line.
# An .env that is there already stays; then MANAGER_URL and PSK are only shown. Run again it upgrades the program.
#
# ROOT=/folder installs below that folder and starts nothing, for images.
set -eu

manager=${1:-} psk=${2:-}
here=$(cd "$(dirname "$0")" && pwd)
root=${ROOT:-}
conf=$root/etc/kattila

main() {
    if [ -z "$manager" ] || [ -z "$psk" ]; then die "usage: sh install.sh MANAGER_URL PSK-FILE|dns:NAME" 2; fi
    [ -f "$here/kattila-agent" ] || die "there is no kattila-agent beside this script: unpack the tarball of this node's machine"
    [ -n "$root" ] || [ "$(id -u)" = 0 ] || die "run this as root"
    "$here/kattila-agent" -version >/dev/null 2>&1 || die "this kattila-agent does not run on $(uname -m): take the tarball for it"
    init=$(which_init)
    say "installing for $init"
    settings
    case $init in
        systemd) with_systemd ;;
        openrc) with_openrc ;;
        procd) with_procd ;;
        busybox) with_busybox ;;
    esac
    [ -n "$root" ] || check
}

say() { echo "install: $*"; }

die() {
    echo "install: $1" >&2
    exit "${2:-1}"
}

# INIT decides where that is not to be guessed, as below ROOT.
which_init() {
    if [ -n "${INIT:-}" ]; then
        case $INIT in systemd | openrc | procd | busybox) echo "$INIT"; return ;; esac
        die "INIT=$INIT: expected systemd, openrc, procd or busybox" 2
    fi
    if [ -d "$root/run/systemd/system" ]; then echo systemd
    elif [ -x "$root/sbin/procd" ]; then echo procd
    elif [ -x "$root/sbin/openrc-run" ] || [ -x "$root/usr/sbin/openrc-run" ]; then echo openrc
    elif [ -d "$root/etc/init.d" ]; then echo busybox
    else die "no init system that is known: see packaging/README.md; INIT=systemd|openrc|procd|busybox decides"
    fi
}

settings() {
    mkdir -p "$conf"
    chmod 700 "$conf"
    if [ -f "$conf/.env" ]; then
        say "$conf/.env is there and stays as it is"
        return
    fi
    case $psk in
        dns:*) line="DNS=${psk#dns:}" ;;
        *)
            [ -f "$here/$psk" ] && psk=$here/$psk
            [ -f "$psk" ] || die "there is no PSK file $psk"
            put 600 "$psk" "$conf/psk"
            line=PSK_FILE=/etc/kattila/psk
            ;;
    esac
    (umask 077 && printf 'MANAGER_URL=%s\n%s\n' "$manager" "$line" >"$conf/.env")
}

# put MODE FROM TO: there whole or not at all, also over a program that runs.
put() {
    mkdir -p "$(dirname "$3")"
    (umask 077 && cat "$2" >"$3.new")
    chmod "$1" "$3.new"
    mv "$3.new" "$3"
}

with_systemd() {
    put 755 "$here/kattila-agent" "$root/usr/local/bin/kattila-agent"
    put 644 "$here/packaging/systemd/kattila.conf" "$root/etc/sysusers.d/kattila.conf"
    put 644 "$here/packaging/systemd/kattila-agent.service" "$root/etc/systemd/system/kattila-agent.service"
    if ls "$root"/run/wireguard/*.sock >/dev/null 2>&1; then
        say "there is userspace WireGuard here: the agent gets the right to ask it"
        put 644 "$here/packaging/systemd/userspace-wireguard.conf" \
            "$root/etc/systemd/system/kattila-agent.service.d/userspace-wireguard.conf"
    fi
    if [ -n "$root" ]; then return; fi
    systemd-sysusers
    chown -R kattila:kattila "$conf"
    systemctl daemon-reload
    systemctl enable kattila-agent
    systemctl restart kattila-agent
}

with_openrc() {
    put 755 "$here/kattila-agent" "$root/usr/local/bin/kattila-agent"
    put 755 "$here/packaging/openrc/kattila-agent" "$root/etc/init.d/kattila-agent"
    if [ -n "$root" ]; then return; fi
    rc-update add kattila-agent default
    rc-service kattila-agent restart
}

with_procd() {
    put 755 "$here/kattila-agent" "$root/usr/sbin/kattila-agent"
    put 755 "$here/packaging/openwrt/kattila-agent.init" "$root/etc/init.d/kattila-agent"
    grep -qxs /etc/kattila "$root/etc/sysupgrade.conf" || echo /etc/kattila >>"$root/etc/sysupgrade.conf"
    if [ -n "$root" ]; then return; fi
    /etc/init.d/kattila-agent enable
    /etc/init.d/kattila-agent restart
}

with_busybox() {
    put 755 "$here/kattila-agent" "$root/usr/sbin/kattila-agent"
    put 755 "$here/packaging/busybox/kattila-agent" "$root/etc/init.d/S95kattila-agent"
    if [ -n "$root" ]; then return; fi
    /etc/init.d/S95kattila-agent restart || /etc/init.d/S95kattila-agent start
}

# With the service's settings and, under systemd, its user and rights.
check() {
    cd /etc/kattila
    if [ "$init" = systemd ]; then
        caps=+net_admin
        if [ -d /etc/systemd/system/kattila-agent.service.d ]; then caps=$caps,+dac_override; fi
        STATE_DIR=/var/lib/kattila-agent setpriv --reuid=kattila --regid=kattila --clear-groups \
            --inh-caps="$caps" --ambient-caps="$caps" /usr/local/bin/kattila-agent -check
        return
    fi
    PATH=$PATH:/usr/local/bin:/usr/sbin kattila-agent -check
}

main
