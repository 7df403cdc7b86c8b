//! Counters taken in place against whole reports, on random hosts.

use std::net::IpAddr;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proto::ids::Cidr;
use proto::report::{
    Counters, Delivery, IFF_UP, Neighbour, Problem, Route, RouteKind, Source, SystemData, TABLE_MAIN,
    WireGuardDevice, WireGuardPeer,
};

use super::*;

const IPS: [&str; 4] = ["192.168.1.1", "192.168.1.2", "10.0.0.1", "10.0.0.2"];
const MACS: [&str; 2] = ["aa:00:00:00:00:01", "aa:00:00:00:00:02"];
const CARDS: [&str; 4] = ["eth0", "wg0", "wlan0", "wg1"];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn arb_interface(name: &'static str) -> impl Strategy<Value = Interface> {
    let kind = match name {
        "eth0" => InterfaceKind::Physical,
        "wlan0" => InterfaceKind::Wireless,
        _ => InterfaceKind::WireGuard,
    };
    (any::<bool>(), any::<bool>(), option::of(select(vec![100u32, 1000])), select(&MACS[..])).prop_map(
        move |(up, linked, speed_mbps, mac)| Interface {
            name: name.into(),
            kind,
            flags: if up { IFF_UP } else { 0 },
            operstate: if linked { "up" } else { "down" }.into(),
            driver_kind: up.then(|| "wireguard".to_owned()),
            mac: Some(mac.to_owned()),
            speed_mbps,
            ..Interface::default()
        },
    )
}

fn arb_device(name: &'static str) -> impl Strategy<Value = WireGuardDevice> {
    let endpoints = option::of(select(vec!["203.0.113.1:1", "203.0.113.1:2", "203.0.113.2:1"]));
    let peer =
        (1..5u8, endpoints, subsequence(&IPS[..], 0..3)).prop_map(|(key, endpoint, allowed)| WireGuardPeer {
            public_key: PublicKey([key; 32]),
            has_psk: false,
            endpoint: endpoint.map(str::to_owned),
            allowed_ips: allowed.into_iter().map(|address| Cidr::host(ip(address))).collect(),
            handshake_at: None,
            handshake_age_s: None,
            rx_bytes: 0,
            tx_bytes: 0,
            keepalive_s: None,
            rtt_us: None,
        });
    (option::of(10..13u8), 0..3u16, vec(peer, 0..5)).prop_map(move |(key, port, peers)| WireGuardDevice {
        name: name.into(),
        public_key: key.map(|key| PublicKey([key; 32])),
        listen_port: port,
        fwmark: None,
        peers,
    })
}

fn arb_neighbours() -> impl Strategy<Value = Vec<Neighbour>> {
    use NeighbourState::{Failed, Reachable, Stale};
    let one = (option::of(select(&MACS[..])), select(vec![Reachable, Stale, Failed]));
    (subsequence(&IPS[..], 0..4), vec(one, 4)).prop_map(|(ips, ones)| {
        let places = ips.into_iter().zip(ones);
        let neighbours = places.map(|(address, (mac, state))| Neighbour {
            ip: ip(address),
            mac: mac.map(str::to_owned),
            interface: "eth0".into(),
            state,
            router: false,
        });
        neighbours.collect()
    })
}

fn arb_report() -> impl Strategy<Value = Report> {
    let names = Just(CARDS.to_vec()).prop_shuffle();
    let interfaces = names.prop_flat_map(|names| names.into_iter().map(arb_interface).collect::<Vec<_>>());
    let devices = (arb_device("wg0"), arb_device("wg1"), 0..3usize, any::<bool>());
    let gateway = option::of(select(&IPS[..2]));
    let delivery = (0..2u64, 0..3u64, select(vec![0i64, 0, 20_000]), any::<bool>());
    (interfaces, 2..5usize, devices, gateway, arb_neighbours(), delivery).prop_map(
        |(mut interfaces, count, (a, b, devices, turned), gateway, neighbours, delivery)| {
            interfaces.truncate(count);
            let mut wireguard = if turned { vec![b, a] } else { vec![a, b] };
            wireguard.truncate(devices);
            let (spooled, dropped, clock_offset_ms, is_blind) = delivery;
            let gateway = gateway.map(|address| Route {
                destination: Cidr::new(ip("0.0.0.0"), 0).unwrap(),
                gateway: Some(ip(address)),
                interface: Some("eth0".into()),
                metric: 0,
                source: None,
                table: TABLE_MAIN,
                kind: RouteKind::Unicast,
            });
            let problem = Problem { source: "wg".into(), message: "not there".into() };
            Report {
                interval_s: 30,
                clock_offset_ms,
                delivery: Delivery { spooled, dropped, distance: None },
                system: SystemData {
                    interfaces,
                    routes_total: u32::from(gateway.is_some()),
                    routes: gateway.into_iter().collect(),
                    routes_source: Source::Netlink,
                    neighbours,
                    wireguard,
                    ..SystemData::default()
                },
                problems: is_blind.then_some(problem).into_iter().collect(),
                ..Report::default()
            }
        },
    )
}

/// What moves: how long after the report before this one came and was observed (s), whether the host
/// started anew, and numbers that its counters are made of.
fn arb_moves() -> impl Strategy<Value = (i64, i64, bool, Vec<u8>)> {
    let after = select(vec![30i64, 30, 31, 70, 110, 1000]);
    (after, select(vec![30i64, 30, 90, -60]), proptest::bool::weighted(0.1), vec(0..5u8, 8))
}

/// Moves a report's counters on, and tells when it comes.
fn count_on(report: &mut Report, before: (i64, &Report), moves: &(i64, i64, bool, Vec<u8>)) -> i64 {
    let (after_s, observed_s, is_restarted, numbers) = moves;
    let mut numbers = numbers.iter().copied().cycle();
    let mut some = |steps: [u64; 5]| steps[usize::from(numbers.next().unwrap_or(0))];
    report.observed_at = before.1.observed_at + observed_s * 1000;
    report.system.uptime_s = if *is_restarted { 1 } else { before.1.system.uptime_s + 30 };
    for interface in &mut report.system.interfaces {
        let changes = interface.carrier_changes.unwrap_or(0) + some([0, 0, 0, 2, 5]);
        interface.carrier_changes = (some([0, 1, 2, 3, 4]) > 0).then_some(changes);
        let counters = &mut interface.counters;
        *counters = Counters {
            rx_bytes: counters.rx_bytes + some([0, 0, 9, 9000, 0]),
            rx_frame: counters.rx_frame + some([0, 0, 2, 9, 0]),
            tx_errors: counters.tx_errors + some([0, 0, 2, 9, 0]),
            ..*counters
        };
    }
    for peer in report.system.wireguard.iter_mut().flat_map(|device| &mut device.peers) {
        peer.handshake_age_s = (some([0, 1, 2, 3, 4]) > 0).then(|| some([0, 20, 20, 130, 500]));
        peer.rx_bytes = (peer.rx_bytes + some([0, 0, 32, 9000, 9000])) * some([0, 1, 1, 1, 1]);
        peer.tx_bytes = (peer.tx_bytes + some([0, 148, 32, 9000, 9000])) * some([0, 1, 1, 1, 1]);
    }
    before.0 + after_s * 1000
}

proptest! {
    #[test]
    fn counters_alone_change_what_is_remembered_as_a_whole_report_does(
        reports in vec((arb_report(), vec(arb_moves(), 1..6)), 1..4),
        other in arb_report(),
    ) {
        let (mut noted, mut counted) = (Watches::default(), Watches::default());
        let receipt = |agent: u8, now: i64| Receipt {
            agent: AgentId([agent; 16]),
            boot: BootId([1; 16]),
            tick: 1,
            received_at: now,
            relay: Vec::new(),
        };
        let mut last: Report = Report { observed_at: 1_700_000_000_000, ..Report::default() };
        let mut now = last.observed_at + 200;
        for (mut report, moves) in reports {
            for (turn, moves) in moves.iter().enumerate() {
                // Another host may take a key meanwhile.
                noted.note(&receipt(2, now), &other);
                counted.note(&receipt(2, now), &other);
                now = count_on(&mut report, (now, &last), moves);
                noted.note(&receipt(1, now), &report);
                if turn == 0 {
                    counted.note(&receipt(1, now), &report);
                } else {
                    counted.count(&receipt(1, now), &Counts::of(&report));
                }
                prop_assert_eq!(&noted.agents, &counted.agents);
                prop_assert_eq!(&noted.old_keys, &counted.old_keys);
                prop_assert_eq!(&noted.new_old_keys, &counted.new_old_keys);
                prop_assert_eq!(&noted.restless, &counted.restless);
                for later in [now, now + 60_000, now + WINDOW, now + GAP_WINDOW + 1] {
                    let odd = noted.iter().filter(|(_, watch)| watch.is_odd(later)).map(|(id, _)| id);
                    prop_assert!(counted.odd(later).eq(odd), "those that are odd are looked for among the restless");
                }
                last.clone_from(&report);
            }
        }
    }
}

#[test]
fn counters_of_an_agent_that_is_not_known_are_nothing() {
    let mut watches = Watches::default();
    let receipt = Receipt {
        agent: AgentId([1; 16]),
        boot: BootId([1; 16]),
        tick: 1,
        received_at: 1,
        relay: Vec::new(),
    };
    watches.count(&receipt, &Counts::default());
    assert_eq!(watches.iter().count(), 0);
}
