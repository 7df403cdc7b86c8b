//! The incremental state against everything from scratch, on random fleets in random order.

use std::collections::BTreeMap;
use std::net::IpAddr;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::strategy::ValueTree;
use proto::ids::{Cidr, PublicKey};
use proto::report::{
    Forwarding, IFF_UP, Interface, InterfaceKind, Neighbour, NeighbourState, Route, RouteKind, SystemData,
    TABLE_MAIN, TunnelData, WireGuardDevice, WireGuardPeer,
};

use super::*;
use crate::store::history::{self, PackedMap};
use crate::store::{self, Readers};
use crate::written::Written;

/// A record of a host, for tests of what looks at one host alone.
pub(super) fn agent_with(system: SystemData) -> Agent {
    let receipt = Receipt {
        agent: AgentId([1; 16]),
        boot: BootId([1; 16]),
        tick: 1,
        received_at: 1,
        relay: Vec::new(),
    };
    let report = Report { interval_s: 30, system, ..Report::default() };
    Agent::build(&receipt, &report, &mut keys::Keys::default(), &Names::default(), None)
}

const AGENTS: u8 = 5;
/// Few of each, so that random hosts often mean the same.
const ADDRESSES: [&str; 6] =
    ["192.168.1.1", "192.168.1.2", "203.0.113.1", "203.0.113.2", "10.0.0.1", "10.0.0.2"];
const MACS: [&str; 5] =
    ["aa:00:00:00:00:01", "aa:00:00:00:00:02", "aa:00:00:00:00:03", "00:00:5e:00:01:01", "02:42:ac:11:00:02"];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn key(number: u8) -> PublicKey {
    PublicKey([number; 32])
}

fn arb_interface(name: &'static str) -> impl Strategy<Value = Interface> {
    use InterfaceKind::{Bridge, Gre, Physical, Tap, Tun, Vxlan};
    let kind = match name {
        "eth0" => vec![Physical, Bridge],
        "eth1" => vec![Physical, InterfaceKind::Veth],
        "gre1" => vec![Gre],
        "vx1" => vec![Vxlan],
        _ => vec![Tap, Tun],
    };
    let tunnel = (select(&ADDRESSES[2..]), select(&ADDRESSES[2..]), option::of(1..3u32)).prop_map(
        |(local, remote, id)| TunnelData {
            id,
            local: Some(ip(local)),
            remote: Some(ip(remote)),
            ..TunnelData::default()
        },
    );
    (select(kind), option::of(select(&MACS[..])), subsequence(&ADDRESSES[..], 0..3), any::<bool>(), tunnel)
        .prop_map(move |(kind, mac, addresses, up, tunnel)| Interface {
            name: name.into(),
            index: u32::try_from(name.len()).unwrap() + u32::from(name.as_bytes()[name.len() - 1]),
            kind,
            mac: mac.map(str::to_owned),
            mtu: 1500,
            flags: if up { IFF_UP } else { 0 },
            operstate: "unknown".into(),
            tunnel: matches!(kind, Gre | Vxlan).then_some(tunnel),
            addresses: addresses.into_iter().map(|address| Cidr::new(ip(address), 24).unwrap()).collect(),
            ..Interface::default()
        })
}

fn arb_peer(number: u8) -> impl Strategy<Value = WireGuardPeer> {
    let endpoints = ["203.0.113.1:51820", "203.0.113.9:7", "10.0.0.2:51820", "[fe80::1%eth0]:51820"];
    let age = select(vec![None, Some(10), Some(10), Some(300), Some(900)]);
    let counters = (select(vec![0, 148, 1000]), select(vec![0, 148, 296, 1000]));
    let allowed = subsequence(&ADDRESSES[..], 0..3);
    (option::of(select(endpoints.to_vec())), age, counters, option::of(Just(25)), allowed).prop_map(
        move |(endpoint, age, (rx_bytes, tx_bytes), keepalive_s, allowed)| WireGuardPeer {
            public_key: key(number),
            has_psk: false,
            endpoint: endpoint.map(str::to_owned),
            allowed_ips: allowed.into_iter().map(|address| Cidr::host(ip(address))).collect(),
            handshake_at: None,
            handshake_age_s: age,
            rx_bytes,
            tx_bytes,
            keepalive_s,
            rtt_us: None,
        },
    )
}

fn arb_device(name: &'static str) -> impl Strategy<Value = WireGuardDevice> {
    let peers = subsequence((1..=6).collect::<Vec<u8>>(), 0..5)
        .prop_flat_map(|keys| keys.into_iter().map(arb_peer).collect::<Vec<_>>());
    (option::of(1..=6u8), peers).prop_map(move |(own, peers)| WireGuardDevice {
        name: name.into(),
        public_key: own.map(key),
        listen_port: 51820,
        fwmark: None,
        peers,
    })
}

fn arb_system() -> impl Strategy<Value = SystemData> {
    let names = subsequence(vec!["eth0", "eth1", "gre1", "vx1", "tap0"], 0..=5);
    let interfaces = names.prop_flat_map(|names| names.into_iter().map(arb_interface).collect::<Vec<_>>());
    let devices = subsequence(vec!["wg0", "wg1"], 0..=2)
        .prop_flat_map(|names| names.into_iter().map(arb_device).collect::<Vec<_>>());
    let gateways = vec((select(&ADDRESSES[..]), select(vec!["eth0", "eth1", "wg0"])), 0..3);
    let neighbours =
        vec((select(&ADDRESSES[..]), select(&MACS[..]), select(vec!["eth0", "eth1", "tap0", "vx1"])), 0..6);
    (select(vec!["", "hub"]), interfaces, devices, gateways, neighbours).prop_map(
        |(hostname, interfaces, wireguard, gateways, neighbours)| SystemData {
            hostname: hostname.into(),
            forwarding: Some(Forwarding { ipv4: true, ipv6: false }),
            interfaces,
            routes: gateways
                .into_iter()
                .map(|(gateway, interface)| Route {
                    destination: "0.0.0.0/0".parse().unwrap(),
                    gateway: Some(ip(gateway)),
                    interface: Some(interface.into()),
                    metric: 0,
                    source: None,
                    table: TABLE_MAIN,
                    kind: RouteKind::Unicast,
                })
                .collect(),
            neighbours: neighbours
                .into_iter()
                .map(|(address, mac, interface)| Neighbour {
                    ip: ip(address),
                    mac: Some(mac.into()),
                    interface: interface.into(),
                    state: NeighbourState::Stale,
                    router: false,
                })
                .collect(),
            wireguard,
            ..SystemData::default()
        },
    )
}

#[derive(Debug, Clone)]
enum Op {
    Report {
        agent: u8,
        boot: u8,
        relay: Vec<u8>,
        system: Box<SystemData>,
    },
    /// The same host again with other counters and ages.
    Count {
        agent: u8,
        age: Option<u64>,
        bytes: u64,
    },
    Remove {
        agent: u8,
    },
    Settle {
        after_s: i64,
    },
}

fn arb_op() -> impl Strategy<Value = Op> {
    let agent = 1..=AGENTS;
    prop_oneof![
        5 => (agent.clone(), 0..8u8, vec(1..=AGENTS, 0..3), arb_system()).prop_map(|(agent, boot, relay, system)| {
            Op::Report { agent, boot: boot / 7, relay, system: Box::new(system) }
        }),
        5 => (agent.clone(), select(vec![None, Some(10), Some(300), Some(900)]), select(vec![0, 148, 5000]))
            .prop_map(|(agent, age, bytes)| Op::Count { agent, age, bytes }),
        1 => agent.prop_map(|agent| Op::Remove { agent }),
        4 => select(vec![0i64, 30, 60, 120]).prop_map(|after_s| Op::Settle { after_s }),
    ]
}

fn id(number: u8) -> AgentId {
    AgentId([number; 16])
}

/// A map without the moments at which states began, which depend on when it was settled.
fn timeless(mut map: Map) -> Map {
    map.edges.values_mut().for_each(|edge| edge.edge.since = 0);
    map
}

/// Drives a state through operations, and keeps the last reports of each agent.
#[derive(Default)]
struct Fleet {
    state: State,
    map: Map,
    latest: BTreeMap<u8, Vec<(Receipt, Report)>>,
    /// The boot and tick of the report that an agent's next ones differ from in counts alone.
    basis: BTreeMap<u8, (u8, u64)>,
    now: i64,
    tick: u64,
}

impl Fleet {
    fn run(&mut self, op: Op) {
        match op {
            Op::Report { agent, boot, relay, system } => {
                let report = Report { interval_s: 30, system: *system, ..Report::default() };
                self.report(agent, boot, relay.into_iter().map(id).collect(), report);
                self.state.rests_on(id(agent), Some(self.tick));
                self.basis.insert(agent, (boot, self.tick));
            }
            Op::Count { agent, age, bytes } => {
                let Some((receipt, mut report)) =
                    self.latest.get(&agent).and_then(|kept| kept.last().cloned())
                else {
                    return;
                };
                for peer in report.system.wireguard.iter_mut().flat_map(|device| &mut device.peers) {
                    peer.handshake_age_s = age;
                    peer.tx_bytes += bytes;
                }
                self.count(agent, receipt, report);
            }
            Op::Remove { agent } => {
                self.state.remove(id(agent));
                self.latest.remove(&agent);
                self.basis.remove(&agent);
            }
            Op::Settle { after_s } => {
                self.now += after_s * 1000;
                self.settle();
            }
        }
    }

    fn report(&mut self, agent: u8, boot: u8, relay: Vec<AgentId>, mut report: Report) {
        self.tick += 1;
        self.now += 1000;
        report.observed_at = self.now;
        let boot = BootId([boot; 16]);
        let receipt = Receipt { agent: id(agent), boot, tick: self.tick, received_at: self.now, relay };
        assert_ne!(self.state.apply(&receipt, &report), Applied::Late);
        let kept = self.latest.entry(agent).or_default();
        kept.push((receipt, report));
        kept.drain(..kept.len().saturating_sub(4));
    }

    /// A report of counts alone, as such, and whole only where the state asks for it.
    fn count(&mut self, agent: u8, before: Receipt, mut report: Report) {
        let (boot, basis) = self.basis[&agent];
        let was_silent =
            self.state.find(id(agent)).and_then(|ix| self.state.agent(ix)).is_some_and(|a| a.silent);
        report.observed_at = self.now + 1000;
        let receipt = Receipt { tick: self.tick + 1, received_at: self.now + 1000, ..before };
        let other = self.state.apply_counts(&receipt, basis + 1_000_000, &Counts::of(&report));
        assert_eq!(other, None, "the structure is not that of another report");
        match self.state.apply_counts(&receipt, basis, &Counts::of(&report)) {
            Some(applied) => {
                assert_eq!((applied, was_silent), (Applied::Counters, false));
                (self.tick, self.now) = (receipt.tick, receipt.received_at);
                let kept = self.latest.entry(agent).or_default();
                kept.push((receipt, report));
                kept.drain(..kept.len().saturating_sub(4));
            }
            None => {
                assert!(was_silent, "the state has the structure");
                self.report(agent, boot, receipt.relay, report);
                self.state.rests_on(id(agent), Some(basis));
            }
        }
    }

    fn settle(&mut self) {
        let events = self.state.settle(self.now);
        let after = self.state.map();
        if self.map.nodes.is_empty() {
            self.map = State::new().map();
        }
        assert_eq!(
            diff(&replay(self.map.clone(), events.clone()), after.clone()),
            [],
            "the events lead to the new map"
        );
        assert_eq!(events, diff(&self.map, after.clone()), "and are those between the maps");
        assert_eq!(diff(&after, after.clone()), []);
        self.map = after;
        self.compare_recomputed();
        self.compare_health();
        self.state.index.check();
    }

    fn compare_recomputed(&self) {
        let mut fresh = self.state.recompute_edges();
        fresh.sort_unstable();
        let mut kept: Vec<_> = self.state.edges.iter().map(|(key, kept)| (*key, kept.state)).collect();
        kept.sort_unstable();
        assert_eq!(kept, fresh);
    }

    /// What is kept of how tunnels fare is what a look at all of them finds.
    fn compare_health(&self) {
        let state = &self.state;
        let (mut health, mut lossy) = (Health::default(), RefSet::default());
        for (key, kept) in state.edges.iter() {
            let dark = key.agents().iter().flatten().any(|end| state.agent(end.agent()).unwrap().silent);
            assert!(kept.dark == dark || key.layer != Layer::WireGuard, "{key:?}");
            health.take(*key, kept);
            let halves = render::halves(state, *key);
            let loss = |from: usize| {
                let [(here, sent), (there, got)] = [halves[from]?, halves[1 - from]?];
                traffic::loss((&sent.samples, &here.times), (&got.samples, &there.times))
            };
            if (0..2).filter_map(loss).any(|loss| loss.at_least_percent >= 10.0) {
                lossy.insert(EdgeRef(*key));
            }
        }
        let agents = (0..).zip(&state.agents).filter_map(|(ix, agent)| Some((ix, agent.as_deref()?)));
        agents.clone().for_each(|(ix, agent)| health.take_caller(ix, health::calls_in_vain(agent)));
        assert_eq!(health, state.health);
        let silent: FoldSet<AgentIx> =
            agents.clone().filter(|(_, agent)| agent.silent).map(|(ix, _)| ix).collect();
        assert_eq!(silent, state.silent);
        let all = Touched { reported: agents.map(|(ix, _)| ix).collect(), ..Touched::default() };
        let mut troubled = state.tally(&Touched::default(), 10.0).troubled;
        troubled.extend(lossy);
        assert_eq!(state.tally(&all, 10.0).troubled, troubled);
    }

    /// The latest reports alone, in another order, give the same map and the same view.
    fn compare_scratch(&self, backwards: bool) {
        let mut scratch = State::new();
        let mut agents: Vec<_> = self.latest.values().collect();
        if backwards {
            agents.reverse();
        }
        for (receipt, report) in agents.into_iter().flatten() {
            scratch.apply(receipt, report);
        }
        scratch.settle(self.now);
        assert_eq!(timeless(scratch.map()), timeless(self.state.map()));
        let view = |state: &State| {
            let mut view = state.view(true);
            (view.version, view.revision) = (0, 0);
            view.edges.iter_mut().for_each(|edge| edge.shape.since = 0);
            view
        };
        let lines = |state: &State| serde_json::to_string_pretty(&view(state)).unwrap();
        let (scratch, kept) = (lines(&scratch), lines(&self.state));
        let other = scratch.lines().zip(kept.lines()).enumerate().find(|(_, (a, b))| a != b);
        assert_eq!(other, None);
    }
}

/// 300 cases, or as many as the environment asks for.
fn cases() -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
    ProptestConfig::with_cases(asked.unwrap_or(300))
}

mod brief;

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn incremental_equals_from_scratch(ops in vec(arb_op(), 1..40), backwards: bool) {
        let mut fleet = Fleet::default();
        ops.into_iter().for_each(|op| fleet.run(op));
        fleet.settle();
        fleet.compare_scratch(backwards);
    }

    #[test]
    fn path_queries_end(ops in vec(arb_op(), 5..20), from in 1..=AGENTS, to in select(&ADDRESSES[..])) {
        let mut fleet = Fleet::default();
        ops.into_iter().for_each(|op| fleet.run(op));
        fleet.settle();
        match path(&fleet.state, id(from), Target::Address(ip(to))) {
            Ok(answer) => prop_assert!(!answer.forward.hops.is_empty() && answer.forward.hops.len() <= 64),
            Err(error) => prop_assert!(!fleet.latest.contains_key(&from), "{}", error),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn a_start_finds_what_became_of_the_map_meanwhile(
        before in vec(arb_op(), 1..15),
        after in vec(arb_op(), 0..6),
        gone in option::of(1..=AGENTS),
        later_s in select(vec![0i64, 60, 600]),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kattila.db");
        let db = store::open(&path).unwrap();
        let mut fleet = Fleet::default();
        before.into_iter().for_each(|op| fleet.run(op));
        fleet.settle();
        history::keep_map(&db, fleet.now, &PackedMap::of(&fleet.state.structure())).unwrap();
        let kept = fleet.map.clone();
        after.into_iter().for_each(|op| fleet.run(op));
        fleet.settle();
        history::append(&db, fleet.now, &diff(&kept, fleet.map.clone())).unwrap();

        let mut state = State::new();
        for (receipt, report) in fleet.latest.values().flatten() {
            state.apply(receipt, report);
        }
        gone.into_iter().for_each(|agent| { state.remove(id(agent)); });
        state.settle(fleet.now + later_s * 1000);
        let readers = Readers::new(&path);
        let written = readers.read(Written::read).unwrap();
        let whole = readers.read(|db| history::map_at(db, i64::MAX)).unwrap().0;
        prop_assert_eq!(&whole, &fleet.map);
        written.restore_since(&mut state);
        let map = state.map();
        for (id, edge) in &map.edges {
            let was = whole.edges.get(id).filter(|was| was.edge.state == edge.edge.state);
            prop_assert!(was.is_none_or(|was| was.edge.since == edge.edge.since), "{}", id);
        }
        let mut events = Vec::new();
        written.changes(&state, &readers, |event| events.push(event)).unwrap();
        diff::sort(&mut events);
        prop_assert_eq!(events, diff(&whole, map));
    }
}

#[test]
fn nothing_is_left_of_agents_that_are_gone() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut fleet = Fleet::default();
    for _ in 0..200 {
        let op = arb_op().new_tree(&mut runner).unwrap().current();
        fleet.run(op);
    }
    (1..=AGENTS).for_each(|agent| fleet.run(Op::Remove { agent }));
    fleet.settle();
    assert_eq!(fleet.state.map(), State::new().map());
    assert!(fleet.state.is_empty() && fleet.state.edges.is_empty() && fleet.state.fars.is_empty());
    assert_eq!(fleet.state.index.leftovers(), 0);
}
