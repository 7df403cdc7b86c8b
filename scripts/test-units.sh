#!/usr/bin/env bash
# Runs inside the boxes of scripts/test-packaging.sh, under a real systemd or openrc: starts the
# shipped services and holds them to what is said of them. Prints "ok ..." and "FAIL ..." lines.
# shellcheck disable=SC2317 # checks are called by name
set -u

kind=${1:-systemd}

main() {
    prepare
    if [ "$kind" = openrc ]; then prepare_openrc; fi
    check "the manager starts" service start kattila-manager
    check "the agent starts" service start kattila-agent
    check "the agent reports to the manager" wait_for 30 online 1 || logs
    pid=$(pid_of agent)
    check "the agent runs as $(expected_user)" [ "$(owner "$pid")" = "$(expected_user)" ]
    check "the manager runs as kattila" [ "$(owner "$(pid_of manager)")" = kattila ]
    check "the manager has no capability" [ "$(field "$(pid_of manager)" CapEff)" = 0000000000000000 ]
    check "the database is its own" [ "$(stat -c '%a %U' /var/lib/kattila-manager/kattila_manager.db)" = "600 kattila" ]
    if [ "$kind" = systemd ]; then hardened; fi
    kill -KILL "$pid"
    check "a killed agent is started again" wait_for 20 another_agent_than "$pid"
    pid=$(pid_of manager)
    kill -KILL "$pid"
    check "so is a killed manager" wait_for 20 another_manager_than "$pid"
    check "and takes reports again" wait_for 30 online 1
    if [ "$kind" = systemd ]; then wrong_settings; fi
    pid=$(pid_of agent)
    check "the agent stops" service stop kattila-agent
    check "the manager stops" service stop kattila-manager
    check "nothing of them is left" [ -z "$(pid_of agent)$(pid_of manager)" ]
    if [ "$kind" = systemd ]; then enrolled; fi
    echo end
}

prepare() {
    if [ "$kind" = systemd ]; then
        systemd-sysusers
        systemctl daemon-reload
    else
        useradd --system --home /etc/kattila --shell /usr/sbin/nologin kattila
    fi
    mkdir -p /etc/kattila
    echo "a PSK for a box, never used again" >/etc/kattila/psk
    # The box has loopback only, so the usual ports are free.
    printf 'PSK_FILE=/etc/kattila/psk\nMANAGER_URL=http://127.0.0.1:5086\nREPORT_INTERVAL=1\n' >/etc/kattila/.env
    chown -R kattila: /etc/kattila
    chmod 700 /etc/kattila
    chmod 600 /etc/kattila/psk /etc/kattila/.env
}

prepare_openrc() {
    mkdir -p /run/openrc
    touch /run/openrc/softlevel
    rc-update -u >/dev/null 2>&1
}

service() {
    if [ "$kind" = systemd ]; then systemctl "$1" "$2"; else rc-service "$2" "$1"; fi
}

# With openrc the agent runs as root: WireGuard asks for it.
expected_user() {
    if [ "$kind" = systemd ]; then echo kattila; else echo root; fi
}

logs() {
    [ "$kind" = openrc ] || journalctl --no-pager -n 30 -u kattila-agent -u kattila-manager
    exit 1
}

hardened() {
    check "the agent has CAP_NET_ADMIN alone" [ "$(field "$pid" CapEff)" = 0000000000001000 ]
    check "and could get no other" [ "$(field "$pid" CapBnd)" = 0000000000001000 ]
    check "no new privileges" [ "$(field "$pid" NoNewPrivs)" = 1 ]
    check "system calls are filtered" [ "$(field "$pid" Seccomp)" = 2 ]
    check "the system is read-only to it" read_only "$pid"
    check "its id is in its own folder" [ "$(stat -c '%U' /var/lib/kattila-agent/agent_id.txt)" = kattila ]
    if [ -c /dev/net/tun ] && command -v wireguard-go >/dev/null; then wireguard; else echo "SKIP a userspace tunnel: no wireguard-go or no /dev/net/tun"; fi
    pid=$(pid_of agent)
}

# A real tunnel that only root's socket tells of, for the agent inside its unit.
wireguard() {
    wireguard-go wg0 >/dev/null 2>&1
    (umask 077 && wg genkey >/run/key)
    wg set wg0 private-key /run/key
    public=$(wg show wg0 public-key)
    check "it says that it may not see a userspace tunnel" wait_for 20 report_has "Permission denied"
    mkdir -p /etc/systemd/system/kattila-agent.service.d
    cp /drop-ins/userspace-wireguard.conf /etc/systemd/system/kattila-agent.service.d/
    systemctl daemon-reload
    systemctl restart kattila-agent
    check "with the drop-in it shows that tunnel" wait_for 20 report_has "$public"
    check "and nothing is denied any more" fails report_has "Permission denied"
    without_root
}

# What packaging/README.md says of an agent without root and without systemd.
without_root() {
    local agent=(/usr/local/bin/kattila-agent -sysinfo)
    local user=(setpriv --reuid=kattila --regid=kattila --clear-groups)
    local caps="+net_admin,+dac_override"
    "${user[@]}" "${agent[@]}" >/run/bare 2>&1
    check "without root and capabilities it says what it cannot see" grep -q "sees no WireGuard peer" /run/bare
    check "and shows the rest" grep -q '"name": "lo"' /run/bare
    "${user[@]}" --inh-caps="$caps" --ambient-caps="$caps" "${agent[@]}" >/run/ambient 2>&1
    check "with ambient capabilities by setpriv it shows the tunnel" grep -qF "$public" /run/ambient
    install -o root -g kattila -m 0750 /usr/local/bin/kattila-agent /usr/local/bin/capable-agent
    if ! setcap cap_net_admin,cap_dac_override+ep /usr/local/bin/capable-agent; then
        echo "SKIP setcap: this file system keeps no capabilities"
        return
    fi
    "${user[@]}" /usr/local/bin/capable-agent -sysinfo >/run/setcap 2>&1
    check "so does a program of its group's own that has them" grep -qF "$public" /run/setcap
    rm /usr/local/bin/capable-agent
}

# The line that `manager -enroll` prints, on a host that has nothing of the agent; ssh is itself here.
enrolled() {
    local line
    rm -rf /etc/systemd/system/kattila-agent.service* /usr/local/bin/kattila-agent /var/lib/kattila-agent /etc/sysusers.d
    mkdir -p /etc/kattila-manager /usr/local/sbin
    mv /etc/kattila/psk /etc/kattila-manager/
    rm -rf /etc/kattila
    chown -R kattila: /etc/kattila-manager
    sed -i 's#^WorkingDirectory=.*#WorkingDirectory=/etc/kattila-manager#' /etc/systemd/system/kattila-manager.service
    echo "PSK_FILE=/etc/kattila-manager/psk" >/etc/kattila-manager/.env
    systemctl daemon-reload
    service start kattila-manager
    cat >/usr/local/sbin/ssh <<'END'
#!/bin/sh
exec sh -c "$2"
END
    chmod 755 /usr/local/sbin/ssh
    line=$(cd /etc/kattila-manager && kattila-manager -enroll 127.0.0.1 | grep -v '^#')
    (cd /node && bash -c "$line") >/run/enrolled 2>&1 || sed 's/^/      /' /run/enrolled
    check "the line of -enroll ends with all well" grep -qx "all well" /run/enrolled
    check "and the node reports" wait_for 30 online 1 || logs
    check "its settings are its own" [ "$(stat -c '%a %U' /etc/kattila/.env /etc/kattila/psk | sort -u)" = "600 kattila" ]
    (cd /node && bash -c "$line") >/run/again 2>&1
    check "a second time it only brings the program" grep -q "is there and stays as it is" /run/again
}

fails() {
    ! "$@"
}

report_has() {
    curl -sf --max-time 2 "http://127.0.0.1:5086/status/agents/$(head -n 1 /var/lib/kattila-agent/agent_id.txt)" | grep -qF "$1"
}

# Its own view of the mounts: of all that is of a disk, only its folder can be written.
read_only() {
    [ -n "$1" ] && ! awk '$5 == "/" || $5 == "/etc" || $5 == "/usr"' "/proc/$1/mountinfo" | awk '{ print $6 }' | grep -qE '(^|,)rw(,|$)'
}

wrong_settings() {
    echo "NO_SUCH_SETTING=1" >>/etc/kattila/.env
    systemctl restart kattila-agent
    check "wrong settings end it for good" wait_for 10 failed_with 2
    sed -i '/NO_SUCH/d' /etc/kattila/.env
    check "until they are right" systemctl restart kattila-agent
    check "and it reports again" wait_for 20 online 1
}

failed_with() {
    [ "$(systemctl show -p ActiveState --value kattila-agent)" = failed ] &&
        [ "$(systemctl show -p ExecMainStatus --value kattila-agent)" = "$1" ]
}

online() {
    [ "$(curl -sf --max-time 2 http://127.0.0.1:5086/status/agents | grep -o '"presence":"online"' | wc -l)" = "$1" ]
}

pid_of() {
    pgrep -xf "/usr/local/bin/kattila-$1"
}

another_agent_than() {
    local now
    now=$(pid_of agent)
    [ -n "$now" ] && [ "$now" != "$1" ]
}

another_manager_than() {
    local now
    now=$(pid_of manager)
    [ -n "$now" ] && [ "$now" != "$1" ]
}

owner() {
    stat -c %U "/proc/$1"
}

field() {
    sed -n "s/^$2:\t//p" "/proc/$1/status"
}

check() {
    local name=$1
    shift
    if "$@"; then
        echo "ok $name"
    else
        echo "FAIL $name"
        return 1
    fi
}

wait_for() {
    local until=$((SECONDS + $1))
    shift
    until "$@"; do
        if [ "$SECONDS" -ge "$until" ]; then return 1; fi
        sleep 0.2
    done
}

main
