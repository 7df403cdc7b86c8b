//! Measures the topology at 10,000 agents with 20 peers each: time per report, full recomputation,
//! view, memory. `cargo run --release -p manager --example topology_bench [AGENTS [PEERS]]`

use std::time::Duration;

use kattila_manager::topology::{Receipt, State};
use nix::time::{ClockId, clock_gettime};
use proto::ids::{AgentId, BootId, Cidr, PublicKey};
use proto::report::{
    Counters, IFF_UP, Interface, InterfaceKind, Neighbour, NeighbourState, Report, Route, RouteKind,
    SystemData, TABLE_MAIN, WireGuardDevice, WireGuardPeer,
};

pub(crate) const START: i64 = 1_790_000_000_000;
const INTERVAL_S: u32 = 30;

#[expect(clippy::print_stdout, reason = "its output is what it is for")]
fn main() {
    let mut arguments = std::env::args().skip(1).filter_map(|text| text.parse::<u32>().ok());
    let agents = arguments.next().unwrap_or(10_000);
    let peers = arguments.next().unwrap_or(20);
    let mut reports: Vec<Report> = (0..agents).map(|number| report(number, agents, peers)).collect();
    println!("{agents} agents with {peers} peers, 3 interfaces, 4 routes and 2 neighbours each");
    let without = resident_kb();

    let mut state = State::new();
    let mut now = START;
    // As in a manager that settles each second: not ten thousand new agents at once.
    let started = cpu();
    let mut events = 0;
    for (batch, first) in reports.chunks(100).zip((0u32..).step_by(100)) {
        apply_all(&mut state, batch, first, 1, now);
        events += state.settle(now).len();
    }
    let time = per(cpu() - started, agents);
    println!("first reports: {time:.2} us each, settled; {events} events, {} edges", state.edge_count());
    println!("memory: {:.1} MB more than without the state", mb(resident_kb().saturating_sub(without)));

    for round in 2..=5 {
        now += i64::from(INTERVAL_S) * 1000;
        reports.iter_mut().for_each(|report| count(report, now, 20));
        let started = cpu();
        apply_all(&mut state, &reports, 0, round, now);
        let applied = cpu() - started;
        let started = cpu();
        let events = state.settle(now).len();
        let settled = ms(cpu() - started);
        println!(
            "counters only: {:.2} us per report; settling {settled:.2} ms, {events} events",
            per(applied, agents)
        );
    }

    now += i64::from(INTERVAL_S) * 1000;
    for (number, report) in (0u32..).zip(&mut reports) {
        count(report, now, if number % 10 == 0 { 4000 } else { 20 });
    }
    let started = cpu();
    apply_all(&mut state, &reports, 0, 6, now);
    let events = state.settle(now).len();
    println!(
        "one agent in ten loses its handshakes: {:.2} us per report, {events} events",
        per(cpu() - started, agents)
    );

    now += i64::from(INTERVAL_S) * 1000;
    for report in &mut reports {
        count(report, now, 20);
        report.system.neighbours[1].mac = Some("02:00:5e:10:00:99".to_owned());
    }
    let started = cpu();
    apply_all(&mut state, &reports, 0, 7, now);
    let applied = cpu() - started;
    let started = cpu();
    state.settle(now);
    println!(
        "structure changed: {:.2} us per report; settling {:.2} us per report",
        per(applied, agents),
        per(cpu() - started, agents)
    );

    let mut times: Vec<f64> = Vec::new();
    for _ in 0..9 {
        let started = cpu();
        let found = state.recompute();
        times.push(ms(cpu() - started));
        assert_eq!(found.edges, state.edge_count());
    }
    times.sort_by(f64::total_cmp);
    println!(
        "full recomputation of edges and components: {:.1} ms median of 9 ({:.1} to {:.1})",
        times[4], times[0], times[8]
    );
    println!("memory now: {:.1} MB more than without the state", mb(resident_kb().saturating_sub(without)));

    for with_evidence in [false, true] {
        let started = cpu();
        let view = state.view(with_evidence);
        let built = ms(cpu() - started);
        let started = cpu();
        let bytes = serde_json::to_vec(&view).map_or(0, |json| json.len());
        let kb = u64::try_from(bytes / 1000).unwrap_or(0);
        println!(
            "view, evidence {with_evidence}: built in {built:.0} ms; JSON {:.1} MB in {:.0} ms",
            mb(kb),
            ms(cpu() - started)
        );
    }
}

pub(crate) fn apply_all(state: &mut State, reports: &[Report], first: u32, tick: u64, now: i64) {
    for (number, report) in (first..).zip(reports) {
        let (agent, boot) = (id(number), BootId([1; 16]));
        state.apply(&Receipt { agent, boot, tick, received_at: now, relay: Vec::new() }, report);
    }
}

/// An agent of a mesh in which each has those after it and those before it as peers.
pub(crate) fn report(number: u32, agents: u32, peers: u32) -> Report {
    let half = (peers / 2).max(1);
    let near = (1..=half).flat_map(|step| [(number + step) % agents, (number + agents - step) % agents]);
    let peers: Vec<WireGuardPeer> = near.map(peer).collect();
    let ip = |text: String| text.parse().unwrap_or_else(|_| panic!("an address: {text}"));
    let cidr = |text: String| -> Cidr { text.parse().unwrap_or_else(|_| panic!("a prefix: {text}")) };
    let (tens, high, low) = octets(number);
    let interface = |name: &str, index, kind, mac: Option<String>, addresses| Interface {
        name: name.to_owned(),
        index,
        kind,
        mac,
        mtu: 1500,
        flags: IFF_UP,
        operstate: "unknown".to_owned(),
        addresses,
        counters: Counters { rx_bytes: 1, ..Counters::default() },
        ..Interface::default()
    };
    let route = |destination: String, gateway: Option<String>, interface: &str| Route {
        destination: cidr(destination),
        gateway: gateway.map(ip),
        interface: Some(interface.to_owned()),
        metric: 0,
        source: None,
        table: TABLE_MAIN,
        kind: RouteKind::Unicast,
    };
    let neighbour = |host: u32| Neighbour {
        ip: ip(format!("192.168.{}.{host}", number % 200)),
        mac: Some(format!("02:00:5e:{host:02x}:{:02x}:{:02x}", number >> 8 & 0xff, number & 0xff)),
        interface: "eth0".to_owned(),
        state: NeighbourState::Reachable,
        router: false,
    };
    let own = format!("192.168.{}.10/24", number % 200);
    let tunnel = format!("{tens}.{high}.{low}.1/16");
    Report {
        observed_at: START,
        interval_s: INTERVAL_S,
        system: SystemData {
            hostname: format!("host-{number}"),
            interfaces: vec![
                interface("lo", 1, InterfaceKind::Loopback, None, vec![cidr("127.0.0.1/8".to_owned())]),
                interface("eth0", 2, InterfaceKind::Physical, Some(mac(number)), vec![cidr(own)]),
                interface("wg0", 3, InterfaceKind::WireGuard, None, vec![cidr(tunnel)]),
            ],
            routes: vec![
                route("0.0.0.0/0".to_owned(), Some(format!("192.168.{}.1", number % 200)), "eth0"),
                route(format!("192.168.{}.0/24", number % 200), None, "eth0"),
                route("10.0.0.0/8".to_owned(), None, "wg0"),
                route("fe80::/64".to_owned(), None, "eth0"),
            ],
            neighbours: vec![neighbour(1), neighbour(2)],
            wireguard: vec![WireGuardDevice {
                name: "wg0".to_owned(),
                public_key: Some(key(number)),
                listen_port: 51820,
                fwmark: None,
                peers,
            }],
            ..SystemData::default()
        },
        ..Report::default()
    }
}

/// The first three octets of a host's address in the tunnels.
fn octets(number: u32) -> (u32, u32, u32) {
    (10 + number / 62_500, number / 250 % 250, number % 250)
}

fn peer(number: u32) -> WireGuardPeer {
    let (tens, high, low) = octets(number);
    let prefix = format!("{tens}.{high}.{low}.1/32");
    WireGuardPeer {
        public_key: key(number),
        has_psk: false,
        endpoint: Some(format!("198.51.{}.{}:51820", number / 250 % 250, number % 250)),
        allowed_ips: prefix.parse().into_iter().collect(),
        handshake_at: Some(START / 1000),
        handshake_age_s: Some(20),
        rx_bytes: 1000,
        tx_bytes: 1000,
        keepalive_s: Some(25),
        rtt_us: None,
    }
}

/// The same host a while later: other counters, and handshakes of another age.
pub(crate) fn count(report: &mut Report, now: i64, age: u64) {
    report.observed_at = now;
    for peer in report.system.wireguard.iter_mut().flat_map(|device| &mut device.peers) {
        peer.rx_bytes += 15_000;
        peer.tx_bytes += 15_000;
        peer.handshake_age_s = Some(age);
    }
    report.system.interfaces.iter_mut().for_each(|interface| interface.counters.rx_bytes += 15_000);
}

pub(crate) fn id(number: u32) -> AgentId {
    let mut bytes = [7; 16];
    bytes[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b1).to_be_bytes());
    AgentId(bytes)
}

fn key(number: u32) -> PublicKey {
    let mut bytes = [9; 32];
    bytes[..4].copy_from_slice(&number.to_le_bytes());
    PublicKey(bytes)
}

fn mac(number: u32) -> String {
    format!("06:00:00:{:02x}:{:02x}:{:02x}", number >> 16 & 0xff, number >> 8 & 0xff, number & 0xff)
}

/// Processor time of this thread: the machine may be busy with other things.
pub(crate) fn cpu() -> Duration {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID);
    time.map_or_else(|why| panic!("the clock of this thread: {why}"), Duration::from)
}

pub(crate) fn resident_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

pub(crate) fn per(time: Duration, count: u32) -> f64 {
    time.as_secs_f64() * 1e6 / f64::from(count)
}

pub(crate) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

pub(crate) fn mb(kb: u64) -> f64 {
    f64::from(u32::try_from(kb).unwrap_or(u32::MAX)) / 1000.0
}
