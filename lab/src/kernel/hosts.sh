# Three hosts, a, b and c, in namespaces of their own, with their own /tmp and machine id. `on a COMMAND` runs a command in one.
#
#   eth0       LAN 10.1.0.0/24 and fd00:1::/64 (a is .1, b .2, c .3), bridge "lan" in between
#   wg0        kernel WireGuard, full mesh, 10.77.0.0/24 and fd00:77::/64, keepalive 5 s
#   vxlan100   a and b, over eth0, port 4789, 10.100.0.0/24
#   vxlan101   a and c, over wg0 (a tunnel in a tunnel), port 4790, 10.101.0.0/24
#   gre1       a and b, 10.102.0.0/24       gretap1  a and c (Ethernet), 10.103.0.0/24
#   ipip1      a and b, 10.104.0.0/24       sit1     a and b, fd00:105::/64
#   gre6       a and b, over IPv6, fd00:106::/64
#   geneve1    a and b, 10.108.0.0/24
#   eth0.20    a and b, VLAN 20 on eth0, 10.107.0.0/24
# and on a alone:
#   br0        bridge with the ports vp0 (a veth whose other end is vp1) and tap0
#   dummy0, tun0, tap0, macvlan0 (on eth0), bond0 (with dummy1 and dummy2)
mkdir -p /run/hosts
ip link add lan type bridge
ip link set lan up
n=0
for host in a b c; do
    n=$((n + 1))
    unshare -n -m -u /usr/bin/sh -c "
        mount -t sysfs sysfs /sys
        mount -t tmpfs tmpfs /tmp
        printf '%032x\n' $n >/tmp/machine-id
        mount --bind /tmp/machine-id /etc/machine-id
        hostname $host
        echo \$\$ >/run/hosts/$host.new
        mv /run/hosts/$host.new /run/hosts/$host
        exec sleep 1000000" &
    while [ ! -e /run/hosts/$host ]; do sleep 0.1; done
    pid=$(cat /run/hosts/$host)
    ip link add "port$n" type veth peer name eth0 netns "$pid"
    ip link set "port$n" master lan up
    on $host sh -ec "
        ip link set lo up
        ip address add 10.1.0.$n/24 dev eth0
        ip address add fd00:1::$n/64 dev eth0 nodad
        ip link set eth0 up
        ip route add default via 10.1.0.254
        umask 077
        wg genkey >/tmp/wg.key
        ip link add wg0 type wireguard
        wg set wg0 private-key /tmp/wg.key listen-port 51820
        ip address add 10.77.0.$n/24 dev wg0
        ip address add fd00:77::$n/64 dev wg0 nodad
        ip link set wg0 up"
done

# WireGuard
for own in 1:a 2:b 3:c; do
    for other in 1:a 2:b 3:c; do
        [ $own != $other ] || continue
        key=$(on ${other#*:} wg show wg0 public-key)
        on ${own#*:} wg set wg0 peer "$key" endpoint 10.1.0.${other%:*}:51820 persistent-keepalive 5 \
            allowed-ips 10.77.0.${other%:*}/32,fd00:77::${other%:*}/128
    done
done

# A tunnel device with its address: host, name, address, the rest of `ip link add`.
tunnel() {
    host=$1 name=$2 address=$3
    shift 3
    on "$host" ip link add "$name" "$@"
    case $address in
        *:*) on "$host" ip address add "$address" dev "$name" nodad ;;
        *) on "$host" ip address add "$address" dev "$name" ;;
    esac
    on "$host" ip link set "$name" up
}
tunnel a vxlan100 10.100.0.1/24 type vxlan id 100 local 10.1.0.1 remote 10.1.0.2 dev eth0 dstport 4789
tunnel b vxlan100 10.100.0.2/24 type vxlan id 100 local 10.1.0.2 remote 10.1.0.1 dev eth0 dstport 4789
tunnel a vxlan101 10.101.0.1/24 type vxlan id 101 local 10.77.0.1 remote 10.77.0.3 dev wg0 dstport 4790
tunnel c vxlan101 10.101.0.3/24 type vxlan id 101 local 10.77.0.3 remote 10.77.0.1 dev wg0 dstport 4790
tunnel a gre1 10.102.0.1/24 type gre local 10.1.0.1 remote 10.1.0.2 ttl 64
tunnel b gre1 10.102.0.2/24 type gre local 10.1.0.2 remote 10.1.0.1 ttl 64
tunnel a gretap1 10.103.0.1/24 type gretap local 10.1.0.1 remote 10.1.0.3 key 7
tunnel c gretap1 10.103.0.3/24 type gretap local 10.1.0.3 remote 10.1.0.1 key 7
tunnel a ipip1 10.104.0.1/24 type ipip local 10.1.0.1 remote 10.1.0.2
tunnel b ipip1 10.104.0.2/24 type ipip local 10.1.0.2 remote 10.1.0.1
tunnel a sit1 fd00:105::1/64 type sit local 10.1.0.1 remote 10.1.0.2
tunnel b sit1 fd00:105::2/64 type sit local 10.1.0.2 remote 10.1.0.1
tunnel a gre6 fd00:106::1/64 type ip6gre local fd00:1::1 remote fd00:1::2
tunnel b gre6 fd00:106::2/64 type ip6gre local fd00:1::2 remote fd00:1::1
tunnel a geneve1 10.108.0.1/24 type geneve id 108 remote 10.1.0.2
tunnel b geneve1 10.108.0.2/24 type geneve id 108 remote 10.1.0.1
tunnel a eth0.20 10.107.0.1/24 link eth0 type vlan id 20
tunnel b eth0.20 10.107.0.2/24 link eth0 type vlan id 20

# The rest, on a alone
# shellcheck disable=SC2016 # for the shell on the host
on a sh -ec '
    ip link add br0 type bridge
    ip link add vp0 type veth peer name vp1
    ip tuntap add tap0 mode tap
    ip link set vp0 master br0
    ip link set tap0 master br0
    ip tuntap add tun0 mode tun
    ip link add dummy0 type dummy
    ip link add macvlan0 link eth0 type macvlan mode bridge
    ip link add bond0 type bond mode active-backup
    for name in dummy1 dummy2; do
        ip link add $name type dummy
        ip link set $name master bond0
    done
    for name in br0 vp0 vp1 tap0 tun0 dummy0 macvlan0 bond0; do ip link set $name up; done
    ip address add 10.109.0.1/24 dev br0
    ip address add 10.110.0.1/24 dev dummy0'
