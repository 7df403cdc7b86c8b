//! Whether a report agrees with `ip -j` and `wg`, read on the same host before and after it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lab::Host;
use proto::ids::{Cidr, PublicKey};
use proto::limits::ALLOWED_IPS_MAX;
use proto::report::{Interface, InterfaceKind, Report, RouteKind, Source, TABLE_MAIN, TunnelData};
use serde_json::Value;

/// Makes the text that [`Reading::parse`] understands.
pub(crate) const READ: &str = "ip -j -d -s addr; echo; ip -j route show table all; echo;
    ip -6 -j route show table all; echo; ip -j neigh; echo; wg show all dump";

/// What a host says of itself.
#[derive(Debug)]
pub(crate) struct Reading {
    links: Vec<Value>,
    routes: Vec<Value>,
    neighbours: Vec<Value>,
    /// Rows of `wg show all dump`.
    wireguard: Vec<Vec<String>>,
}

impl Reading {
    pub(crate) fn of(host: &Host) -> Self {
        Self::parse(&host.sh(READ).unwrap())
    }

    pub(crate) fn parse(text: &str) -> Self {
        let mut lines = text.lines().filter(|line| !line.trim().is_empty());
        let mut list = || -> Vec<Value> { serde_json::from_str(lines.next().unwrap()).unwrap() };
        let (links, mut routes, routes6, neighbours) = (list(), list(), list(), list());
        // `table all` without a family shows those of IPv6 too; they are read by themselves.
        routes.retain(|route| !route["dst"].as_str().unwrap().contains(':'));
        routes.extend(routes6.into_iter().map(|mut route| {
            if route["dst"] == "default" {
                route["dst"] = "::/0".into();
            }
            route
        }));
        let wireguard = lines.map(|line| line.split('\t').map(str::to_owned).collect()).collect();
        // `ip` prints `{}` for what it filters away.
        let links = links.into_iter().filter(|link| link["ifname"].is_string()).collect();
        Self { links, routes, neighbours, wireguard }
    }

    /// The names of all interfaces with the kind that `ip -d` tells.
    pub(crate) fn kinds(&self) -> BTreeMap<String, String> {
        let kind = |link: &Value| {
            (
                link["ifname"].as_str().unwrap().to_owned(),
                link["linkinfo"]["info_kind"].as_str().unwrap_or("").to_owned(),
            )
        };
        self.links.iter().map(kind).collect()
    }

    fn is_wireguard(&self, name: &str) -> bool {
        self.wireguard.iter().any(|row| row[0] == name)
    }

    fn peers(&self) -> BTreeMap<(&str, &str), &[String]> {
        let peers = self.wireguard.iter().filter(|row| row.len() == 9);
        peers.map(|row| ((row[0].as_str(), row[1].as_str()), &row[2..])).collect()
    }
}

/// Panics, naming `host`, where `report` says something else than the readings before and after it.
pub(crate) fn assert_agrees(host: &str, report: &Report, before: &Reading, after: &Reading) {
    interfaces(host, report, before, after);
    routes(host, report, before);
    neighbours(host, report, before, after);
    wireguard(host, report, before, after);
}

fn interfaces(host: &str, report: &Report, before: &Reading, after: &Reading) {
    let names = |list: &[Value]| -> BTreeSet<String> {
        list.iter().map(|link| link["ifname"].as_str().unwrap().to_owned()).collect()
    };
    let told: BTreeSet<String> = report.system.interfaces.iter().map(|one| one.name.clone()).collect();
    assert_eq!(told, names(&before.links), "{host}: interfaces");
    assert_eq!(told.len(), report.system.interfaces.len(), "{host}: an interface twice");
    assert_eq!(u32::try_from(told.len()).unwrap(), report.system.interfaces_total, "{host}");
    for one in &report.system.interfaces {
        let of = |reading: &Reading| -> Value {
            reading.links.iter().find(|link| link["ifname"] == one.name.as_str()).unwrap().clone()
        };
        let (first, last) = (of(before), of(after));
        interface(&format!("{host}: {}", one.name), one, &first, before);
        counters(&format!("{host}: {}", one.name), one, &first, &last);
    }
}

fn interface(what: &str, told: &Interface, link: &Value, reading: &Reading) {
    let info = &link["linkinfo"];
    let kind = info["info_kind"].as_str();
    assert_eq!(told.kind, expected_kind(link, reading.is_wireguard(&told.name)), "{what}: kind of {link}");
    assert_eq!(told.driver_kind.as_deref(), kind, "{what}: driver's kind");
    assert_eq!(u64::from(told.index), link["ifindex"], "{what}: index");
    assert_eq!(u64::from(told.mtu), link["mtu"], "{what}: MTU");
    assert_eq!(told.operstate, link["operstate"].as_str().unwrap().to_lowercase(), "{what}: operstate");
    assert_eq!(told.master.as_deref(), link["master"].as_str(), "{what}: master");
    let ethernet = link["address"].as_str().filter(|_| link["link_type"] == "ether");
    // The kernel's own gretap0 has none.
    let mac = ethernet.filter(|mac| *mac != "00:00:00:00:00:00");
    assert_eq!(told.mac.as_deref(), mac, "{what}: MAC");
    let flags = link["flags"].as_array().unwrap();
    for (bit, name) in FLAGS {
        assert_eq!(told.flags & bit != 0, flags.contains(&(*name).into()), "{what}: {name}: {link}");
    }

    // A name where the other one is here, an index where it is in another namespace. A VXLAN's
    // driver tells below itself what it is bound to.
    let named = link["link"].as_str().or_else(|| info["info_data"]["link"].as_str());
    let link_by_name = named.map(|name| {
        let other = reading.links.iter().find(|other| other["ifname"] == name).unwrap();
        other["ifindex"].as_u64().unwrap()
    });
    let expected = link_by_name.or_else(|| link["link_index"].as_u64());
    assert_eq!(told.link.map(u64::from), expected, "{what}: link: {link}");
    if expected.is_some() {
        let foreign = link.get("link_netnsid").is_some();
        assert_eq!(told.link_is_foreign, Some(foreign), "{what}: whose index the link is: {link}");
    }

    let address = |address: &Value| -> Cidr {
        let text = format!("{}/{}", address["local"].as_str().unwrap(), address["prefixlen"]);
        text.parse().unwrap()
    };
    let expected: BTreeSet<Cidr> = link["addr_info"].as_array().unwrap().iter().map(address).collect();
    assert_eq!(told.addresses.iter().copied().collect::<BTreeSet<_>>(), expected, "{what}: addresses");

    assert_eq!(told.tunnel, expected_tunnel(kind.unwrap_or_default(), &info["info_data"]), "{what}: {info}");
}

/// As linux/if.h numbers them. Not those that /sys keeps to itself (IFF_PROMISC, IFF_ALLMULTI) or
/// leaves to the operstate (IFF_RUNNING, IFF_LOWER_UP).
const FLAGS: &[(u32, &str)] = &[
    (0x1, "UP"),
    (0x2, "BROADCAST"),
    (0x8, "LOOPBACK"),
    (0x10, "POINTOPOINT"),
    (0x80, "NOARP"),
    (0x400, "MASTER"),
    (0x800, "SLAVE"),
    (0x1000, "MULTICAST"),
];

fn expected_kind(link: &Value, is_wireguard: bool) -> InterfaceKind {
    use InterfaceKind as K;
    let info = &link["linkinfo"];
    match info["info_kind"].as_str() {
        _ if is_wireguard => K::WireGuard,
        None if link["link_type"] == "loopback" => K::Loopback,
        Some("wireguard") => K::WireGuard,
        Some("veth") => K::Veth,
        Some("bridge") => K::Bridge,
        Some("vlan") => K::Vlan,
        Some("vxlan") => K::Vxlan,
        Some("geneve") => K::Geneve,
        Some("gre" | "gretap" | "ip6gre" | "ip6gretap" | "erspan" | "ip6erspan") => K::Gre,
        Some("ipip" | "ip6tnl") => K::Ipip,
        Some("sit") => K::Sit,
        Some("dummy") => K::Dummy,
        Some("macvlan" | "ipvlan") => K::Macvlan,
        Some("bond" | "team") => K::Bond,
        Some("vrf") => K::Vrf,
        Some("tun") if info["info_data"]["type"] == "tap" => K::Tap,
        Some("tun") => K::Tun,
        other => panic!("{other:?}: no expectation for this kind: {link}"),
    }
}

/// The parameters of a tunnel, from `info_data` of `ip -d`.
fn expected_tunnel(kind: &str, data: &Value) -> Option<TunnelData> {
    let number = |name: &str| data[name].as_u64().map(|n| u32::try_from(n).unwrap());
    let ip = |name: &str| -> Option<IpAddr> {
        data[name].as_str().and_then(|text| text.parse().ok()).filter(|ip: &IpAddr| !ip.is_unspecified())
    };
    // `ip` writes keys as IPv4 addresses.
    let key =
        |name: &str| data[name].as_str().map(|text| text.parse::<std::net::Ipv4Addr>().unwrap().to_bits());
    let mut tunnel = TunnelData {
        local: ip("local").or_else(|| ip("local6")),
        remote: ip("remote").or_else(|| ip("remote6")),
        ..TunnelData::default()
    };
    match kind {
        "vlan" => tunnel.id = number("id"),
        "vxlan" | "geneve" => {
            tunnel.id = number("id");
            tunnel.port = number("port").map(|port| u16::try_from(port).unwrap());
        }
        "gre" | "gretap" | "ip6gre" | "ip6gretap" | "erspan" => {
            tunnel.id = key("ikey");
            tunnel.id_sent = key("okey").filter(|okey| Some(*okey) != tunnel.id);
        }
        "ipip" | "sit" | "ip6tnl" => {}
        _ => return None,
    }
    Some(tunnel).filter(|tunnel| *tunnel != TunnelData::default())
}

fn counters(what: &str, told: &Interface, first: &Value, last: &Value) {
    let counters = &told.counters;
    for (way, name, value) in [
        ("rx", "bytes", counters.rx_bytes),
        ("rx", "packets", counters.rx_packets),
        ("rx", "errors", counters.rx_errors),
        ("rx", "dropped", counters.rx_dropped),
        ("tx", "bytes", counters.tx_bytes),
        ("tx", "packets", counters.tx_packets),
        ("tx", "errors", counters.tx_errors),
        ("tx", "dropped", counters.tx_dropped),
    ] {
        let of = |link: &Value| {
            let stats = if link["stats64"].is_object() { &link["stats64"] } else { &link["stats"] };
            stats[way][name].as_u64().unwrap_or_else(|| panic!("{what}: no {way} {name}: {link}"))
        };
        let (from, to) = (of(first), of(last));
        assert!((from..=to).contains(&value), "{what}: {way} {name}: {value} is not in {from}..={to}");
    }
}

/// Both sides as sets of `destination gateway interface metric source table kind`.
fn routes(host: &str, report: &Report, reading: &Reading) {
    assert_eq!(report.system.routes_source, Source::Netlink, "{host}");
    let told: BTreeSet<String> = report
        .system
        .routes
        .iter()
        .map(|route| {
            format!(
                "{} via {:?} dev {:?} metric {} src {:?} table {} {:?}",
                route.destination,
                route.gateway,
                route.interface.as_deref(),
                route.metric,
                route.source,
                route.table,
                route.kind
            )
        })
        .collect();
    let expected: BTreeSet<String> = reading.routes.iter().filter_map(expected_route).collect();
    assert_eq!(told, expected, "{host}: routes");
    assert_eq!(usize::try_from(report.system.routes_total).unwrap(), report.system.routes.len(), "{host}");
}

/// `None` for the host's own addresses, which are no routes to anywhere.
fn expected_route(route: &Value) -> Option<String> {
    if route["table"] == "local" {
        return None;
    }
    let kind = match route["type"].as_str() {
        None | Some("unicast") => RouteKind::Unicast,
        Some("unreachable") => RouteKind::Unreachable,
        Some("blackhole") => RouteKind::Blackhole,
        Some("local" | "broadcast" | "multicast" | "anycast") => return None,
        Some(other) => panic!("no expectation for a route of type {other}"),
    };
    let table = route["table"].as_str().map_or(TABLE_MAIN, |table| table.parse().unwrap());
    let destination: Cidr = match route["dst"].as_str().unwrap() {
        "default" => "0.0.0.0/0".parse().unwrap(),
        text => text.parse().unwrap(),
    };
    let ip = |name: &str| route[name].as_str().map(|text| text.parse::<IpAddr>().unwrap());
    Some(format!(
        "{destination} via {:?} dev {:?} metric {} src {:?} table {table} {kind:?}",
        ip("gateway"),
        route["dev"].as_str().filter(|_| kind == RouteKind::Unicast),
        route["metric"].as_u64().unwrap_or(0),
        ip("prefsrc"),
    ))
}

/// Who was known with the same MAC before and after must be in the report with it.
fn neighbours(host: &str, report: &Report, before: &Reading, after: &Reading) {
    let known = |reading: &Reading| -> BTreeSet<(String, String, String)> {
        let text = |row: &Value, name: &str| row[name].as_str().map(str::to_owned);
        let row = |row: &Value| Some((text(row, "dst")?, text(row, "lladdr")?, text(row, "dev")?));
        reading.neighbours.iter().filter_map(row).collect()
    };
    let told: BTreeSet<(String, String, String)> = report
        .system
        .neighbours
        .iter()
        .filter_map(|one| Some((one.ip.to_string(), one.mac.clone()?, one.interface.clone())))
        .collect();
    let (first, last) = (known(before), known(after));
    for row in first.intersection(&last) {
        assert!(told.contains(row), "{host}: neighbour {row:?} is missing in {told:?}");
    }
}

fn wireguard(host: &str, report: &Report, before: &Reading, after: &Reading) {
    let is_of_kernel = before.kinds().values().any(|kind| kind == "wireguard");
    let source = if is_of_kernel { Source::Netlink } else { Source::Uapi };
    assert_eq!(report.system.wireguard_source, source, "{host}");
    let devices: BTreeMap<&str, &Vec<String>> =
        before.wireguard.iter().filter(|row| row.len() == 5).map(|row| (row[0].as_str(), row)).collect();
    let told: BTreeSet<&str> = report.system.wireguard.iter().map(|device| device.name.as_str()).collect();
    assert_eq!(told, devices.keys().copied().collect(), "{host}: WireGuard devices");
    let (first, last) = (before.peers(), after.peers());
    assert_eq!(usize::try_from(report.system.peers_total).unwrap(), first.len(), "{host}: peers");
    let mut seen = BTreeSet::new();
    for device in &report.system.wireguard {
        let row = devices[device.name.as_str()];
        let what = format!("{host}: {}", device.name);
        let key = device.public_key.map_or_else(|| "(none)".to_owned(), |key| key.to_string());
        assert_eq!(key, row[2], "{what}: public key");
        assert_eq!(device.listen_port.to_string(), row[3], "{what}: port");
        assert_eq!(
            device.fwmark.map_or_else(|| "off".to_owned(), |mark| format!("{mark:#x}")),
            row[4],
            "{what}: mark"
        );
        for peer in &device.peers {
            let key = peer.public_key.to_string();
            let what = format!("{what}: peer {key}");
            let name = (device.name.as_str(), key.as_str());
            let row = |rows: &BTreeMap<(&str, &str), &[String]>| {
                rows.get(&name).unwrap_or_else(|| panic!("{what} is not there")).to_vec()
            };
            let (first, last) = (row(&first), row(&last));
            seen.insert((device.name.clone(), key.clone()));
            assert_eq!(peer.has_psk, first[0] != "(none)", "{what}: preshared key");
            assert_eq!(peer.endpoint.as_deref().unwrap_or("(none)"), first[1], "{what}: endpoint");
            // In the same order; `wg` says `(none)` where there are none.
            let allowed: Vec<Cidr> = first[2].split(',').filter_map(|text| text.parse().ok()).collect();
            let listed = allowed.len().min(ALLOWED_IPS_MAX);
            assert_eq!(peer.allowed_ips, allowed[..listed], "{what}: AllowedIPs");
            let keepalive = peer.keepalive_s.map_or_else(|| "off".to_owned(), |seconds| seconds.to_string());
            assert_eq!(keepalive, first[6], "{what}: keepalive");

            let number = |row: &[String], at: usize| row[at].parse::<u64>().unwrap();
            let between = |at: usize, value: u64, name: &str| {
                let (from, to) = (number(&first, at), number(&last, at));
                assert!((from..=to).contains(&value), "{what}: {name}: {value} is not in {from}..={to}");
            };
            between(3, peer.handshake_at.map_or(0, |at| u64::try_from(at).unwrap()), "handshake");
            between(4, peer.rx_bytes, "bytes received");
            between(5, peer.tx_bytes, "bytes sent");
            let age = peer.handshake_at.map(|at| report.observed_at / 1000 - at);
            let off = age.zip(peer.handshake_age_s).map(|(age, told)| age - i64::try_from(told).unwrap());
            assert_eq!(peer.handshake_at.is_some(), peer.handshake_age_s.is_some(), "{what}");
            assert!(off.is_none_or(|off| off.abs() <= 2), "{what}: the handshake's age is {off:?} s off");
        }
    }
    let expected: BTreeSet<(String, String)> =
        first.keys().map(|(device, key)| ((*device).to_owned(), (*key).to_owned())).collect();
    assert_eq!(seen, expected, "{host}: peers");
    assert!(seen.iter().all(|(_, key)| key.parse::<PublicKey>().is_ok()));
}
