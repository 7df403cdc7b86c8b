#!/usr/bin/env bash
# Tries what packaging/ holds with the real programs, as far as a Debian machine can:
#
#   scripts/test-packaging.sh [AGENT [MANAGER]]
#   ONLY="busybox procd" scripts/test-packaging.sh
#
# By default the static agent where it was built, else the newest of target/. Installs what it needs where
# it may (root and apt); else says what is skipped, which is an error with CI=true.
# shellcheck disable=SC2317 # checks are called by name
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/test-lib.sh
. scripts/test-lib.sh

target=${CARGO_TARGET_DIR:-target}

main() {
    need busybox busybox-static
    need shellcheck shellcheck
    need curl curl
    need systemd-analyze systemd
    need findmnt util-linux
    need wg wireguard-tools
    need wireguard-go wireguard-go
    need ip iproute2
    agent=$(newest "${1:-}" agent/bin/agent-amd64 "$target/debug/agent" "$target/release/agent")
    manager=$(newest "${2:-}" "$target/debug/manager" "$target/release/manager")
    if [ ! -x "$agent" ] || [ ! -x "$manager" ]; then
        skip "all: there is no agent or no manager (cargo build)"
        finish
    fi
    echo "trying $agent and $manager"
    local what
    for what in ${ONLY:-shell examples setup install busybox systemd procd openwrt_package openrc dist}; do "test_$what"; done
    finish
}

# The one that is named, else the first that is there.
newest() {
    local file
    for file in "$@"; do
        if [ -n "$file" ] && [ -x "$file" ]; then
            readlink -f "$file"
            return
        fi
    done
}

test_shell() {
    if ! have shellcheck; then
        skip "shellcheck is missing"
        return
    fi
    check "shellcheck: busybox" shellcheck packaging/busybox/kattila-agent
    check "shellcheck: install.sh" shellcheck packaging/install.sh
    # Names that openrc and procd read or bring with them, and procd's shell has local.
    check "shellcheck: openrc" shellcheck -s sh -e SC2034 packaging/openrc/kattila-agent packaging/openrc/kattila-manager
    check "shellcheck: procd" shellcheck -s dash -e SC2034 packaging/openwrt/kattila-agent/files/kattila-agent.init
}

# The example settings are settings: with another PSK's file nothing in them is refused.
test_examples() {
    local folder=$scratch/examples
    mkdir -p "$folder/agent" "$folder/manager"
    secret >"$folder/psk"
    chmod 600 "$folder/psk"
    # Also what is commented out, but for the two ways to name one thing.
    sed -E 's/^#([A-Z_]+=)/\1/; /^DNS=/d' packaging/agent.env >"$folder/agent/.env"
    sed -E 's/^#([A-Z_]+=)/\1/; /^DNS=/d' packaging/manager.env >"$folder/manager/.env"
    check "agent.env is understood" in_folder "$folder/agent" env PSK_FILE="$folder/psk" "$agent" -dump "$folder/dump"
    # A backup of no database fails only after the settings were read (exit code 2 is theirs).
    in_folder "$folder/manager" env PSK_FILE="$folder/psk" "$manager" -backup "$folder/backup" >"$folder/out" 2>&1 && code=0 || code=$?
    check "manager.env is understood" [ "$code" != 2 ]
    echo "NO_SUCH_SETTING=1" >>"$folder/manager/.env"
    in_folder "$folder/manager" env PSK_FILE="$folder/psk" "$manager" -backup "$folder/backup" >"$folder/out" 2>&1 && code=0 || code=$?
    check "and what is no setting would not be" [ "$code" = 2 ]
}

in_folder() {
    (cd "$1" && shift && "$@")
}

# The folder of a node: settings, and a PSK that belongs to whom the daemon runs as.
node_folder() {
    mkdir -p "$1"
    secret >"$1/psk"
    chmod 600 "$1/psk"
    printf 'PSK_FILE=%s\nMANAGER_URL=http://127.0.0.1:%s\nAGENT_LISTEN=127.0.0.1:%s\n' "$2/psk" "$3" "$4" >"$1/.env"
}

# make setup-manager: what it makes is private and starts a manager; a second time it changes nothing.
test_setup() {
    local folder=$scratch/setup port before
    check "setup-manager" scripts/setup-manager.sh "$folder"
    check "setup-manager: all of it is private" \
        [ "$(cd "$folder" && stat -c '%a %n' . .env run run/psk | tr '\n' ' ')" = "700 . 600 .env 700 run 600 run/psk " ]
    before=$(cd "$folder" && sha256sum .env run/psk)
    check "setup-manager: a second time" scripts/setup-manager.sh "$folder"
    check "setup-manager: changes nothing" [ "$(cd "$folder" && sha256sum .env run/psk)" = "$before" ]
    chmod 644 "$folder/run/psk"
    scripts/setup-manager.sh "$folder" >"$scratch/out"
    check "setup-manager: says what it puts right" grep -q "psk: mode is now 600" "$scratch/out"
    printf 'DNS=kattila.example.org' >"$scratch/dns.env"
    mkdir "$scratch/dns" && cp "$scratch/dns.env" "$scratch/dns/.env"
    scripts/setup-manager.sh "$scratch/dns" >"$scratch/out"
    check "setup-manager: a PSK from DNS needs no file" [ ! -e "$scratch/dns/run/psk" ]
    port=$(free_port)
    (cd "$folder" && MANAGER_LISTEN=127.0.0.1:$port exec "$manager") 2>"$folder/log" &
    local pid=$!
    started "$pid"
    check "setup-manager: a manager starts with it" wait_for 15 curl -sf --max-time 2 "http://127.0.0.1:$port/status/healthcheck" -o "$scratch/health"
    kill -TERM "$pid"
    wait "$pid" || fail "setup-manager: the manager ended with exit code $?"
}

# install.sh into the root of an image, for each init; with systemd it is run for real in the box.
test_install() {
    local node=$scratch/node root init
    mkdir -p "$node/packaging"
    cp "$agent" "$node/kattila-agent"
    cp packaging/install.sh "$node/"
    cp -r packaging/systemd packaging/openrc packaging/busybox "$node/packaging/"
    mkdir "$node/packaging/openwrt"
    cp packaging/openwrt/kattila-agent/files/kattila-agent.init "$node/packaging/openwrt/"
    secret >"$node/psk"
    for init in systemd:usr/local/bin openrc:usr/local/bin procd:usr/sbin busybox:usr/sbin; do
        root=$scratch/root-${init%:*}
        mkdir -p "$root/etc"
        check "install.sh: ${init%:*}" env ROOT="$root" INIT="${init%:*}" sh "$node/install.sh" http://10.9.0.1:5086 psk
        check "install.sh: ${init%:*}: the program is there" cmp "$root/${init#*:}/kattila-agent" "$agent"
        check "install.sh: ${init%:*}: settings are private" \
            [ "$(cd "$root/etc/kattila" && stat -c '%a %n' . .env psk | tr '\n' ' ')" = "700 . 600 .env 600 psk " ]
    done
    check "install.sh: the settings are those that it was given" \
        [ "$(cat "$root/etc/kattila/.env")" = "MANAGER_URL=http://10.9.0.1:5086
PSK_FILE=/etc/kattila/psk" ]
    mkdir "$scratch/root-dns"
    ROOT=$scratch/root-dns INIT=busybox sh "$node/install.sh" http://10.9.0.1:5086 dns:kattila.example.org >"$scratch/out"
    check "install.sh: a PSK from DNS" grep -qx DNS=kattila.example.org "$scratch/root-dns/etc/kattila/.env"
    check "install.sh: wrong use is refused" fails env ROOT="$scratch/root-none" sh "$node/install.sh" http://10.9.0.1:5086
    check "install.sh: so is a PSK file that is not there" fails env ROOT="$scratch/root-none" INIT=busybox sh "$node/install.sh" http://10.9.0.1:5086 nothing
}

# --- dist ---------------------------------------------------------------------------------------

# Twice, as two people would: the same bytes, and all that a node needs.
test_dist() {
    local name
    if ! ls agent/bin/agent-* >/dev/null 2>&1; then
        skip "dist: nothing is built (make build-agent)"
        return
    fi
    check "dist" scripts/dist.sh "$scratch/dist1"
    (umask 077 && TZ=Asia/Tokyo LC_ALL=C scripts/dist.sh "$scratch/dist2") >"$scratch/out" || true
    check "dist: twice are the same bytes" diff -r "$scratch/dist1" "$scratch/dist2"
    check "dist: the sums are right" in_folder "$scratch/dist1" sha256sum --quiet -c SHA256SUMS
    name=$(cd "$scratch/dist1" && ls kattila-agent-*-amd64.tar.gz)
    tar -C "$scratch" -xzf "$scratch/dist1/$name"
    name=$scratch/${name%.tar.gz}
    check "dist: the program is the one that was built" cmp "$name/kattila-agent" agent/bin/agent-amd64
    check "dist: licences, settings, init scripts" \
        ls "$name"/{install.sh,LICENSE-MIT,LICENSE-APACHE,THIRD-PARTY,README.md,agent.env} \
        "$name"/packaging/{README.md,systemd/kattila-agent.service,openrc/kattila-agent,busybox/kattila-agent,openwrt/kattila-agent.init}
    check "dist: nothing of whoever packed it" \
        [ "$(tar --numeric-owner -tvzf "$scratch/dist1/$(basename "$name").tar.gz" | awk '{ print $2 }' | sort -u)" = 0/0 ]
}

# --- busybox ------------------------------------------------------------------------------------

# Runs the script as a router would: busybox is all there is.
init() {
    env -i PATH="$box/bin" PROGRAM="$agent" FOLDER="$box/etc" RUN="$box/run" LOG="$log" RESPAWN=1 \
        "$box/bin/sh" packaging/busybox/kattila-agent "$1"
}

agent_pid() {
    cat "$box/run/kattila-agent.pid"
}

another_agent_than() {
    [ -f "$box/run/kattila-agent.pid" ] && [ "$(agent_pid)" != "$1" ] && kill -0 "$(agent_pid)"
}

status_is() {
    local code=0
    init status >"$box/status" || code=$?
    [ "$code" = "$1" ] || { echo "status is $code: $(cat "$box/status")" >&2; return 1; }
}

test_busybox() {
    if ! have busybox; then
        skip "busybox init script: no busybox"
        return
    fi
    box=$scratch/busybox log=$scratch/busybox/log
    local first second port
    mkdir -p "$box/bin" "$box/run"
    busybox --install -s "$box/bin"
    port=$(free_port)
    node_folder "$box/etc" "$box/etc" "$(free_port)" "$port"
    check "busybox: not started, status is 3" status_is 3
    check "busybox: start" init start
    check "busybox: started, status is 0" status_is 0
    first=$(agent_pid)
    check "busybox: the agent answers" wait_for 10 curl -sf --max-time 2 "http://127.0.0.1:$port/status/healthcheck" -o "$box/health"
    check "busybox: a second start changes nothing" init start
    check "busybox: and the agent is the same" [ "$(agent_pid)" = "$first" ]
    kill -KILL "$first"
    check "busybox: a killed agent is started again" wait_for 10 another_agent_than "$first"
    check "busybox: and the log says so" grep -q "ended (exit code 137), starting it again" "$log"
    second=$(agent_pid)
    check "busybox: restart" init restart
    check "busybox: restart is another process" another_agent_than "$second"
    check "busybox: the one before has ended" gone "$second"
    first=$(agent_pid)
    kill -KILL "$(cat "$box/run/kattila-agent-keeper.pid")"
    check "busybox: without its keeper, status is 0" status_is 0
    check "busybox: and says what to do" grep -q "nobody starts it again" "$box/status"
    check "busybox: start takes its place" init start
    check "busybox: with a new agent" another_agent_than "$first"
    first=$(agent_pid)
    check "busybox: stop" init stop
    check "busybox: the agent has ended" gone "$first"
    check "busybox: stopped, status is 3" status_is 3
    check "busybox: it left no pid file" [ -z "$(ls -A "$box/run")" ]
    # After a restart of the machine the number in a pid file is anybody's.
    echo $$ >"$box/run/kattila-agent.pid"
    echo $$ >"$box/run/kattila-agent-keeper.pid"
    check "busybox: a stale pid file is not believed" status_is 3
    log=''
    check "busybox: start, with the log in syslog" init start
    check "busybox: stop" init stop
    log=$box/log
    echo "NO_SUCH_SETTING=1" >>"$box/etc/.env"
    check "busybox: wrong settings are said at the start" fails init start
    check "busybox: and the agent is not started again" status_is 3
    check "busybox: the log says what is wrong" grep -q "there is no setting NO_SUCH_SETTING" "$log"
    rm "$box/etc/.env"
    check "busybox: so are missing settings" fails init start
}

gone() {
    ! kill -0 "$1" 2>/dev/null
}

fails() {
    ! "$@" >/dev/null 2>&1
}

# --- systemd ------------------------------------------------------------------------------------

# What systemd-analyze may say at most, of ten: what packaging/README.md states.
exposure="agent:1.7 manager:1.2"

test_systemd() {
    if ! have systemd-analyze; then
        skip "systemd units: no systemd-analyze"
        return
    fi
    # verify wants the programs to be there.
    local units=$scratch/units name both
    mkdir -p "$units"
    for both in $exposure; do
        name=${both%:*}
        sed "s#^ExecStart=.*#ExecStart=/bin/true#" "packaging/systemd/kattila-$name.service" >"$units/kattila-$name.service"
        check "systemd: kattila-$name.service is a unit" verify "$units/kattila-$name.service"
        check "systemd: kattila-$name.service is exposed by at most ${both#*:} of 10" exposed "$name" "${both#*:}"
    done
    if [ "$(id -u)" != 0 ]; then
        skip "systemd: the units in a booted systemd: not root"
        return
    fi
    boot_systemd
}

verify() {
    # It complains of the machine's own units too.
    systemd-analyze verify "$1" >"$scratch/verify" 2>&1 || { cat "$scratch/verify" >&2; return 1; }
    ! grep kattila "$scratch/verify" >&2
}

exposed() {
    local said
    said=$(systemd-analyze security --offline=true "packaging/systemd/kattila-$1.service" | tail -n 1)
    echo "      $said"
    awk -v is="$(sed -E 's/.*: ([0-9.]+) .*/\1/' <<<"$said")" -v most="$2" 'BEGIN { exit !(is <= most) }'
}

# A whole systemd as the first process of a box, which starts the units as they are shipped.
boot_systemd() {
    local folder=$scratch/systemd
    mkdir -p "$folder"
    cp "$agent" "$folder/agent"
    cp "$manager" "$folder/manager"
    cat >"$folder/prepare" <<END
set -e
root=\$1
# Of this machine's own services none is wanted.
rm -rf "\$root"/etc/systemd/system/* "\$root"/etc/kattila
install -D -m 0755 $folder/agent "\$root/usr/local/bin/kattila-agent"
install -D -m 0755 $folder/manager "\$root/usr/local/bin/kattila-manager"
install -D -m 0644 -t "\$root/etc/systemd/system" $PWD/packaging/systemd/*.service
install -D -m 0644 -t "\$root/drop-ins" $PWD/packaging/systemd/userspace-wireguard.conf
install -D -m 0644 $PWD/packaging/systemd/kattila.conf "\$root/usr/lib/sysusers.d/kattila.conf"
install -D -m 0755 $PWD/scripts/test-units.sh "\$root/test-units"
# A node's unpacked tarball.
install -D -m 0755 $folder/agent "\$root/node/kattila-agent"
install -D -m 0755 $PWD/packaging/install.sh "\$root/node/install.sh"
install -D -m 0644 -t "\$root/node/packaging/systemd" $PWD/packaging/systemd/*
cat >"\$root/etc/systemd/system/test.target" <<UNIT
[Unit]
Requires=sysinit.target test.service
After=sysinit.target
UNIT
cat >"\$root/etc/systemd/system/test.service" <<UNIT
[Unit]
After=sysinit.target
[Service]
Type=oneshot
ExecStart=/test-units
ExecStopPost=/bin/systemctl exit 0 --force --no-block
StandardOutput=file:/result
StandardError=file:/result
UNIT
END
    scripts/test-box.sh "$folder" 120 "$folder/prepare" /lib/systemd/systemd --system --unit=test.target \
        >"$folder/out" 2>&1 || true
    take_results systemd "$folder"
}

# Lines "ok ..." and "FAIL ..." of a box, and a mark that it came to its end.
take_results() {
    local line
    if ! grep -q "^end$" "$2/changes/result" 2>/dev/null; then
        tail -n 20 "$2/out" "$2/changes/result" >&2 || true
        fail "$1: the box did not come to its end"
        return
    fi
    while read -r line; do
        case $line in
            "ok "*) pass "$1: ${line#ok }" ;;
            "SKIP "*) skip "$1: ${line#SKIP }" ;;
            "FAIL "*) fail "$1: ${line#FAIL }" ;;
            end) ;;
            *) echo "      $line" ;;
        esac
    done <"$2/changes/result"
}

# --- OpenWrt ------------------------------------------------------------------------------------

# procd itself runs on OpenWrt only. The script is sourced as rc.common would, with procd's functions
# written down instead of done; then the command that procd would start is started.
test_procd() {
    local folder=$scratch/procd script
    script=packaging/openwrt/kattila-agent/files/kattila-agent.init
    node_folder "$folder/etc" "$folder/etc" "$(free_port)" "$(free_port)"
    cat >"$folder/stub" <<'END'
procd_open_instance() { echo open >>"$CALLS"; }
procd_set_param() { name=$1; shift; for value; do printf '%s=%s\n' "$name" "$value"; done >>"$CALLS"; }
procd_close_instance() { echo close >>"$CALLS"; }
END
    sed "s#^PROGRAM=.*#PROGRAM=$agent#; s#^FOLDER=.*#FOLDER=$folder/etc#" "$script" >>"$folder/stub"
    check "procd: start_service" env CALLS="$folder/calls" busybox sh -c ". $folder/stub; start_service"
    check "procd: it opens and closes one instance" [ "$(grep -cE '^(open|close)$' "$folder/calls")" = 2 ]
    check "procd: its settings are watched" grep -qx "file=$folder/etc/.env" "$folder/calls"
    check "procd: it is started again without end" [ "$(grep '^respawn=' "$folder/calls" | tail -n 1)" = respawn=0 ]
    local command=()
    mapfile -t command < <(sed -n 's/^command=//p' "$folder/calls")
    "${command[@]}" 2>"$folder/log" &
    local pid=$!
    started "$pid"
    check "procd: what it starts is the agent itself, with that pid" wait_for 5 [ "$(exe "$pid")" = "$agent" ]
    check "procd: and it finds its settings" wait_for 5 [ -f "$folder/etc/agent_id.txt" ]
    kill -TERM "$pid"
    check "procd: it ends when told to" wait "$pid"
    rm "$folder/etc/.env"
    check "procd: without settings nothing is started" fails env CALLS="$folder/calls" busybox sh -c ". $folder/stub; start_service"
    note "procd: real procd runs on OpenWrt only"
}

exe() {
    sleep 0.5
    readlink "/proc/$1/exe"
}

# The package's recipe, with OpenWrt's own rules reduced to what it uses of them.
test_openwrt_package() {
    local folder=$scratch/openwrt
    mkdir -p "$folder/include" "$folder/root"
    cat >"$folder/rules.mk" <<'END'
INSTALL_DIR=install -d -m0755
INSTALL_BIN=install -m0755
INSTALL_DATA=install -m0644
END
    cat >"$folder/include/package.mk" <<'END'
define BuildPackage
all:
	$(call Package/$(1)/install,$(ROOT))
endef
END
    check "openwrt: the recipe installs" make -s -C packaging/openwrt/kattila-agent TOPDIR="$folder" \
        INCLUDE_DIR="$folder/include" ROOT="$folder/root" KATTILA_AGENT="$agent" all
    local expected="700 etc/kattila
644 etc/kattila/env.example
755 etc/init.d/kattila-agent
755 usr/sbin/kattila-agent"
    check "openwrt: the right files with the right modes" \
        [ "$(cd "$folder/root" && stat -c '%a %n' etc/kattila etc/kattila/* etc/init.d/* usr/sbin/*)" = "$expected" ]
    note "openwrt: the package itself is built in OpenWrt's SDK only"
}

# --- OpenRC -------------------------------------------------------------------------------------

# Debian's openrc, unpacked into a box.
test_openrc() {
    local folder=$scratch/openrc
    if [ "$(id -u)" != 0 ] || ! have apt-get; then
        skip "openrc: needs root and apt"
        return
    fi
    mkdir -p "$folder/packages"
    if ! (cd "$folder/packages" && apt-get -q -o APT::Sandbox::User=root download openrc libeinfo1 librc1 >"$scratch/apt.log" 2>&1); then
        tail -n 3 "$scratch/apt.log" >&2
        skip "openrc: its packages cannot be fetched"
        return
    fi
    cp "$agent" "$folder/agent"
    cp "$manager" "$folder/manager"
    cat >"$folder/prepare" <<END
set -e
root=\$1
rm -rf "\$root"/etc/init.d/* "\$root"/etc/kattila
for package in $folder/packages/*.deb; do dpkg-deb --fsys-tarfile "\$package" | tar -x --keep-directory-symlink -C "\$root"; done
install -D -m 0755 $folder/agent "\$root/usr/local/bin/kattila-agent"
install -D -m 0755 $folder/manager "\$root/usr/local/bin/kattila-manager"
install -m 0755 -t "\$root/etc/init.d" $PWD/packaging/openrc/*
install -D -m 0755 $PWD/scripts/test-units.sh "\$root/test-units"
END
    scripts/test-box.sh "$folder" 120 "$folder/prepare" /bin/bash -c '/test-units openrc >/result 2>&1' >"$folder/out" 2>&1 || true
    take_results openrc "$folder"
}

main "$@"
