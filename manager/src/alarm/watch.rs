//! What is remembered of each agent's reports beside the map: what it was before, and the counters
//! that the map does not keep. Small, and gone with the process; see `recall` for what must outlast it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use proto::ids::{AgentId, BootId, Cidr, PublicKey};
use proto::report::{
    Forwarding, IFF_UP, Interface, InterfaceKind, NeighbourState, Report, Route, RouteKind, Source,
    TABLE_MAIN, WireGuardDevice, WireGuardPeer,
};

use super::few::Few;
use super::recall::Recalled;
use crate::topology::{Receipt, State};

/// How long changes are remembered (ms): the window in which flapping is counted.
const WINDOW: i64 = 15 * 60_000;
/// Half an hour (ms), in which missing reports are counted.
const GAP_WINDOW: i64 = 30 * 60_000;
/// A clock that goes back by less (ms) was corrected, not set.
const CLOCK_STEP: i64 = 10_000;
/// A handshake of so long ago (s) may still be one of a tunnel that is up.
const LATELY_S: i64 = 400;
/// Moments remembered of one thing.
const MOMENTS: usize = 8;

/// Everything remembered, by agent.
#[derive(Debug, Clone, Default)]
pub struct Watches {
    agents: BTreeMap<AgentId, Watch>,
    /// Keys that interfaces had before: whose, which interface, and when that ended (ms).
    pub old_keys: HashMap<PublicKey, (AgentId, String, i64)>,
    /// Keys replaced since they were last taken to be stored.
    pub new_old_keys: Vec<(PublicKey, AgentId, String, i64)>,
    /// Most tunnels that were up, by hour of the clock: this one and the one before.
    pub most_up: [(i64, usize); 2],
    /// Which mesh an agent belongs to, by number: agents that were joined have the same.
    pub mesh_of: BTreeMap<AgentId, u32>,
    last_mesh: u32,
    /// Alarms (`CODE SUBJECT`) that fired when the manager stopped and rest on what was before.
    pub assumed: BTreeSet<String>,
    /// Those of them that only an earlier process could know of.
    pub recalled: Vec<Recalled>,
    /// Agents that were cut off from the rest of their mesh when the manager stopped.
    pub cut: Vec<AgentId>,
}

/// What is remembered of one agent.
#[derive(Debug, Clone)]
pub struct Watch {
    /// The start that its last report is of.
    pub boot: BootId,
    /// When its last report came (ms).
    pub received_at: i64,
    /// When that was observed (ms).
    pub observed_at: i64,
    /// Seconds between its reports.
    pub interval_s: u32,
    /// What its clock lacks (ms).
    pub clock_offset_ms: i64,
    /// Its own clock's last reading (ms).
    own_clock: i64,
    /// When its clock went back, and by how much (ms).
    pub clock_back: Option<(i64, i64)>,
    uptime_s: u64,
    /// When its host was found to have been started anew (ms).
    pub rebooted_at: Option<i64>,
    /// Reports that waited at it.
    pub spooled: u64,
    dropped: u64,
    /// When it last gave up reports, and how many.
    pub dropped_at: Option<(i64, u64)>,
    /// Whence its reports came late or not at all (ms).
    pub gaps: Vec<i64>,
    /// What it could not read: source and reason.
    pub problems: Vec<(String, String)>,
    /// Whether it forwards packets.
    pub forwarding: Option<Forwarding>,
    /// Its default route: interface, gateway, the gateway's link-layer address.
    pub way_out: Option<WayOut>,
    /// The default route before the present one, and when it changed (ms).
    pub way_out_before: Option<(Option<WayOut>, i64)>,
    /// Whether it ever had a default route.
    pub had_way_out: bool,
    /// Neighbours that answer: address, link-layer address, interface.
    pub neighbours: Vec<(IpAddr, String, String)>,
    /// Addresses that do not answer, with their interface, and whether they are known to have answered.
    pub failed: Vec<(IpAddr, String, bool)>,
    /// WireGuard devices by name.
    pub devices: Few<String, DeviceWatch>,
    /// Network cards by name.
    pub links: Few<String, LinkWatch>,
    /// Routes into WireGuard interfaces where no AllowedIPs hold their destination.
    pub stray_routes: Vec<(String, Cidr)>,
    /// AllowedIPs that no route leads into their interface, with the interface that it leads to.
    pub stray_prefixes: Vec<(String, PublicKey, Cidr, Option<String>)>,
}

/// A default route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WayOut {
    /// The interface.
    pub interface: String,
    /// The gateway.
    pub gateway: Option<IpAddr>,
    /// The gateway's link-layer address, where it is resolved.
    pub mac: Option<String>,
}

/// What is remembered of a WireGuard device.
#[derive(Debug, Clone, Default)]
pub struct DeviceWatch {
    /// Its key.
    pub key: Option<PublicKey>,
    /// When its key changed (ms), and the key before.
    pub key_changed: Option<(i64, PublicKey)>,
    /// Port that it listens on.
    pub port: u16,
    /// When its port changed (ms), and the port before.
    pub port_changed: Option<(i64, u16)>,
    /// Whether its driver is the kernel's.
    pub is_kernel: bool,
    /// Frame errors on receive: last count, increase in the last report and in the one before.
    pub rx_frame: Rise,
    /// Errors on sending.
    pub tx_errors: Rise,
    /// Bytes that came out of it.
    pub rx_bytes: Rise,
    /// Its peers.
    pub peers: Few<PublicKey, PeerWatch>,
}

/// A counter and its last two increases.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rise {
    last: Option<u64>,
    /// Increases between the last three reports, newest first.
    pub by: [u64; 2],
}

impl DeviceWatch {
    fn is_odd(&self, now: i64) -> bool {
        let recent = |at: Option<i64>| at.is_some_and(|at| now - at <= WINDOW);
        let rises = |rise: &Rise| rise.by[0] > 0;
        recent(self.key_changed.map(|(at, _)| at))
            || recent(self.port_changed.map(|(at, _)| at))
            || rises(&self.rx_frame)
            || rises(&self.tx_errors)
            || !self.is_kernel && self.peers.len() == 1 && self.rx_bytes.by == [0, 0]
            || self.peers.values().any(|peer| peer.is_odd(now))
    }
}

impl PeerWatch {
    /// Prefixes that went from it, and when (ms).
    #[must_use]
    pub fn lost(&self) -> &[(Cidr, i64)] {
        self.past.as_ref().map_or(&[], |past| &past.lost)
    }

    /// When its AllowedIPs changed (ms), and what they were.
    #[must_use]
    pub fn allowed_changed(&self) -> Option<(i64, &[Cidr])> {
        self.past.as_ref()?.allowed_changed.as_ref().map(|(at, was)| (*at, &**was))
    }

    /// When it moved to another address (ms), and where it was before.
    #[must_use]
    pub fn moved(&self) -> Option<(i64, &str)> {
        self.past.as_ref()?.moved.as_ref().map(|(at, was)| (*at, &**was))
    }

    /// When its address changed lately (ms).
    #[must_use]
    pub fn moves(&self) -> &[i64] {
        self.past.as_ref().map_or(&[], |past| &past.moves)
    }

    fn is_odd(&self, now: i64) -> bool {
        let recent = |at: Option<i64>| at.is_some_and(|at| now - at <= WINDOW);
        recent(self.allowed_changed().map(|(at, _)| at))
            || recent(self.moved().map(|(at, _)| at))
            || self.churn > 3
            || self.deaf >= 2 && now / 1000 - i64::from(self.handshake_at) <= LATELY_S
            || self.busy > 0 && self.quiet > 3
    }
}

impl LinkWatch {
    fn is_odd(&self) -> bool {
        self.was_used && self.is_enabled && !self.has_link
            || !self.flaps.is_empty()
            || self.speed < self.fastest
    }
}

impl Rise {
    fn push(&mut self, count: u64) {
        let rise = self.last.map_or(0, |last| count.saturating_sub(last));
        self.by = [rise, self.by[0]];
        self.last = Some(count);
    }

    /// Whether it rose by at least `least` in each of the last two reports.
    #[must_use]
    pub fn rises(&self, least: u64) -> bool {
        self.by.iter().all(|by| *by >= least)
    }
}

/// What is remembered of a WireGuard peer.
#[derive(Debug, Clone, Default)]
pub struct PeerWatch {
    /// AllowedIPs that it has, or had before they were taken from it.
    pub allowed: Box<[Cidr]>,
    endpoint: Option<Box<str>>,
    /// What of it changed lately, if anything did.
    past: Option<Box<PeerPast>>,
    /// Seconds; 0 for none.
    handshake_at: u32,
    /// Reports in a row that each brought a new handshake.
    pub churn: u8,
    /// Reports in a row with data both ways.
    pub busy: u8,
    /// Reports since, without any.
    pub quiet: u8,
    /// Reports in a row with data sent.
    pub sending: u8,
    /// Reports in a row with nothing received at all.
    pub deaf: u8,
    rx: u64,
    tx: u64,
}

/// What changed of a WireGuard peer.
#[derive(Debug, Clone, Default)]
struct PeerPast {
    lost: Vec<(Cidr, i64)>,
    allowed_changed: Option<(i64, Box<[Cidr]>)>,
    moved: Option<(i64, Box<str>)>,
    moves: Vec<i64>,
}

/// What is remembered of a network card.
#[derive(Debug, Clone, Default)]
pub struct LinkWatch {
    /// Whether it had a link and an address once.
    pub was_used: bool,
    /// Whether it is set up.
    pub is_enabled: bool,
    /// Whether it has a link.
    pub has_link: bool,
    changes: Option<u64>,
    /// When its link came or went lately (ms), each counted.
    pub flaps: Vec<(i64, u64)>,
    /// Its speed, and the fastest that it had (Mbit/s).
    pub speed: Option<u32>,
    /// The fastest that it had.
    pub fastest: Option<u32>,
    /// Whether it was ever seen to become faster.
    pub is_faster: bool,
    /// Its link-layer address.
    pub mac: Option<String>,
}

impl Watches {
    /// What is remembered of an agent.
    #[must_use]
    pub fn get(&self, id: AgentId) -> Option<&Watch> {
        self.agents.get(&id)
    }

    /// All agents in order of id.
    pub fn iter(&self) -> impl Iterator<Item = (AgentId, &Watch)> {
        self.agents.iter().map(|(id, watch)| (*id, watch))
    }

    /// Forgets an agent, as after a reset.
    pub fn remove(&mut self, id: AgentId) {
        self.agents.remove(&id);
        self.mesh_of.remove(&id);
    }

    /// Takes how the mesh is at a moment: the connected part that each agent that reports is in, and how
    /// many tunnels are up.
    pub fn note_mesh(&mut self, now: i64, state: &State, dark: &HashSet<AgentId>, up: usize) {
        let hour = now / 3_600_000;
        if self.most_up[0].0 != hour {
            let before = if self.most_up[0].0 == hour - 1 { self.most_up[0] } else { (hour - 1, 0) };
            self.most_up = [(hour, 0), before];
        }
        self.most_up[0].1 = self.most_up[0].1.max(up);
        let mut parts: Vec<(AgentId, usize)> = state.parts().into_iter().collect();
        parts.retain(|(agent, _)| !dark.contains(agent));
        parts.sort_unstable();
        let of_the_largest = parts.iter().find(|(_, part)| *part == 0).map(|(agent, _)| *agent);
        let mut members: BTreeMap<usize, Vec<AgentId>> = BTreeMap::new();
        for (agent, part) in parts {
            members.entry(part).or_default().push(agent);
        }
        for agents in members.into_values() {
            let mut votes: BTreeMap<u32, usize> = BTreeMap::new();
            for mesh in agents.iter().filter_map(|agent| self.mesh_of.get(agent)) {
                *votes.entry(*mesh).or_default() += 1;
            }
            // Who joined another mesh belongs to it; two parts of one that fell apart keep its number.
            let most = votes.into_iter().max_by_key(|(mesh, count)| (*count, std::cmp::Reverse(*mesh)));
            let mesh = most.map_or_else(
                || {
                    self.last_mesh += 1;
                    self.last_mesh
                },
                |(mesh, _)| mesh,
            );
            self.mesh_of.extend(agents.into_iter().map(|agent| (agent, mesh)));
        }
        // Those that were cut off from the largest part before the manager was started anew still are.
        if let Some(mesh) = of_the_largest.and_then(|agent| self.mesh_of.get(&agent).copied()) {
            self.mesh_of.extend(self.cut.drain(..).map(|agent| (agent, mesh)));
        }
    }

    /// Whether an alarm fired when the manager stopped that rests on what was before.
    #[must_use]
    pub fn assumes(&self, code: &str, subject: &str) -> bool {
        !self.assumed.is_empty() && self.assumed.contains(&format!("{code} {subject}"))
    }

    /// Takes a report that tells the present.
    pub fn note(&mut self, receipt: &Receipt, report: &Report) {
        let old = self.agents.remove(&receipt.agent);
        let watch = Watch::build(old.as_ref(), receipt, report);
        for (name, device) in watch.devices.iter() {
            let Some((at, before)) = device.key_changed.filter(|(at, _)| *at == receipt.received_at) else {
                continue;
            };
            self.old_keys.insert(before, (receipt.agent, name.clone(), at));
            self.new_old_keys.push((before, receipt.agent, name.clone(), at));
        }
        for key in watch.devices.values().filter_map(|device| device.key) {
            self.old_keys.remove(&key);
        }
        self.agents.insert(receipt.agent, watch);
    }
}

impl Watch {
    /// Whether something of it may be worth a word, so that rules should look at its host. Rather too
    /// often than once too little.
    #[must_use]
    pub fn is_odd(&self, now: i64) -> bool {
        let recent = |at: Option<i64>| at.is_some_and(|at| now - at <= WINDOW);
        let way_out = self.way_out_before.as_ref();
        recent(self.clock_back.map(|(at, _)| at))
            || recent(self.rebooted_at)
            || recent(self.dropped_at.map(|(at, _)| at))
            || way_out.is_some_and(|(_, at)| self.way_out.is_none() || now - at <= GAP_WINDOW)
            || self.clock_offset_ms.abs() > CLOCK_STEP
            || self.spooled > 0
            || !(self.gaps.is_empty() && self.problems.is_empty() && self.failed.is_empty())
            || !(self.stray_routes.is_empty() && self.stray_prefixes.is_empty())
            || self.links.values().any(LinkWatch::is_odd)
            || self.devices.values().any(|device| device.is_odd(now))
    }

    fn build(old: Option<&Self>, receipt: &Receipt, report: &Report) -> Self {
        let system = &report.system;
        let now = receipt.received_at;
        let own_clock = report.observed_at - report.clock_offset_ms;
        let same_boot = old.filter(|old| old.boot == receipt.boot);
        let interval = i64::from(report.interval_s.max(1)) * 1000;
        let way_out = way_out(&system.routes, &system.neighbours);
        let mut watch = Self {
            boot: receipt.boot,
            received_at: now,
            observed_at: report.observed_at,
            interval_s: report.interval_s.clamp(1, 3600),
            clock_offset_ms: report.clock_offset_ms,
            own_clock,
            clock_back: old.and_then(|old| old.clock_back),
            uptime_s: system.uptime_s,
            rebooted_at: old.and_then(|old| old.rebooted_at),
            spooled: report.delivery.spooled,
            dropped: report.delivery.dropped,
            dropped_at: old.and_then(|old| old.dropped_at),
            gaps: old.map(|old| old.gaps.clone()).unwrap_or_default(),
            problems: report
                .problems
                .iter()
                .take(4)
                .map(|problem| (problem.source.clone(), problem.message.clone()))
                .collect(),
            forwarding: system.forwarding.clone(),
            had_way_out: way_out.is_some() || old.is_some_and(|old| old.had_way_out),
            way_out_before: old.and_then(|old| old.way_out_before.clone()),
            neighbours: Vec::new(),
            failed: Vec::new(),
            devices: Few::default(),
            links: Few::default(),
            stray_routes: stray_routes(report),
            stray_prefixes: stray_prefixes(report),
            way_out,
        };
        if let Some(old) = old {
            if let Some(changed) = changed_way(old.way_out.as_ref(), watch.way_out.as_ref()) {
                watch.way_out_before = Some((changed, now));
            }
            // A host's clock and ours advance alike; the reports' own delays are seconds.
            let elapsed = now - old.received_at;
            let back = old.own_clock + elapsed - own_clock;
            if system.uptime_s >= old.uptime_s && own_clock < old.own_clock - CLOCK_STEP {
                watch.clock_back = Some((now, back));
            }
            if system.uptime_s < old.uptime_s {
                watch.rebooted_at = Some(now);
            }
            watch.gaps.retain(|at| now - at <= GAP_WINDOW);
            if same_boot.is_some() && elapsed > 2 * interval + 5000 && elapsed <= 4 * interval + 10_000 {
                push(&mut watch.gaps, now);
            }
        }
        if let Some(old) = same_boot.filter(|old| report.delivery.dropped > old.dropped) {
            watch.dropped_at = Some((now, report.delivery.dropped - old.dropped));
        }
        watch.take_neighbours(old, report);
        let devices = system.wireguard.iter().map(|device| {
            let interface = system.interfaces.iter().find(|interface| interface.name == device.name);
            let before = old.and_then(|old| old.devices.get(&device.name));
            (device.name.clone(), device_watch(before, device, interface, report, now))
        });
        watch.devices = Few::of(devices);
        let is_card = |interface: &&Interface| {
            matches!(interface.kind, InterfaceKind::Physical | InterfaceKind::Wireless)
        };
        let cards: Vec<&Interface> = system.interfaces.iter().filter(is_card).collect();
        let links = cards.into_iter().map(|interface| {
            let before = old.and_then(|old| old.links.get(&interface.name));
            let same = same_boot.is_some() && system.uptime_s >= old.map_or(0, |old| old.uptime_s);
            (interface.name.clone(), link_watch(before, interface, same, now))
        });
        watch.links = Few::of(links);
        watch
    }

    fn take_neighbours(&mut self, old: Option<&Self>, report: &Report) {
        use NeighbourState::{Complete, Delay, Failed, Permanent, Probe, Reachable, Stale};
        for neighbour in &report.system.neighbours {
            let place = (neighbour.ip, neighbour.interface.clone());
            match (neighbour.state, &neighbour.mac) {
                (Reachable | Delay | Probe | Permanent | Stale | Complete, Some(mac)) => {
                    let sure = !matches!(neighbour.state, Stale | Complete);
                    if sure || self.way_out.as_ref().is_some_and(|way| way.gateway == Some(neighbour.ip)) {
                        self.neighbours.push((neighbour.ip, mac.clone(), neighbour.interface.clone()));
                    }
                }
                (Failed, _) => {
                    let Some(old) = old else {
                        self.failed.push((place.0, place.1, false));
                        continue;
                    };
                    let answered =
                        old.neighbours.iter().any(|known| (known.0, &known.2) == (place.0, &place.1));
                    let before = old.failed.iter().find(|known| (known.0, &known.1) == (place.0, &place.1));
                    if answered || before.is_some() {
                        let sure = answered || before.is_some_and(|before| before.2);
                        self.failed.push((place.0, place.1, sure));
                    }
                }
                _ => {}
            }
        }
    }
}

fn push(moments: &mut Vec<i64>, at: i64) {
    if moments.len() >= MOMENTS {
        moments.remove(0);
    }
    moments.push(at);
}

/// The default route of lowest metric, IPv4 before IPv6.
fn way_out(routes: &[Route], neighbours: &[proto::report::Neighbour]) -> Option<WayOut> {
    let defaults = routes.iter().filter(|route| {
        route.destination.prefix() == 0 && route.table == TABLE_MAIN && route.kind == RouteKind::Unicast
    });
    let best = defaults.min_by_key(|route| (route.destination.address().is_ipv6(), route.metric))?;
    let interface = best.interface.clone()?;
    let mac = neighbours
        .iter()
        .find(|neighbour| Some(neighbour.ip) == best.gateway && neighbour.interface == interface)
        .and_then(|neighbour| neighbour.mac.clone());
    Some(WayOut { interface, gateway: best.gateway, mac })
}

/// The default route before, where it and the present one differ. A gateway whose link-layer address
/// is not known at the moment is the same gateway.
fn changed_way(old: Option<&WayOut>, new: Option<&WayOut>) -> Option<Option<WayOut>> {
    match (old, new) {
        (Some(was), Some(is)) => {
            let moved = (&was.interface, was.gateway) != (&is.interface, is.gateway);
            let mac = was.mac.is_some() && is.mac.is_some() && was.mac != is.mac;
            (moved || mac).then(|| Some(was.clone()))
        }
        (Some(was), None) => Some(Some(was.clone())),
        (None, _) => None,
    }
}

fn device_watch(
    old: Option<&DeviceWatch>,
    device: &WireGuardDevice,
    interface: Option<&Interface>,
    report: &Report,
    now: i64,
) -> DeviceWatch {
    let mut watch =
        DeviceWatch { key: device.public_key, port: device.listen_port, ..DeviceWatch::default() };
    if let Some(old) = old {
        watch.key_changed = old.key_changed;
        watch.port_changed = old.port_changed;
        if let (Some(was), true) = (old.key, device.public_key.is_some() && old.key != device.public_key) {
            watch.key_changed = Some((now, was));
        }
        if old.port != device.listen_port && old.port != 0 && device.listen_port != 0 {
            watch.port_changed = Some((now, old.port));
        }
        (watch.rx_frame, watch.tx_errors, watch.rx_bytes) = (old.rx_frame, old.tx_errors, old.rx_bytes);
    }
    if let Some(interface) = interface {
        watch.is_kernel = interface.driver_kind.as_deref() == Some("wireguard");
        watch.rx_frame.push(interface.counters.rx_frame);
        watch.tx_errors.push(interface.counters.tx_errors);
        watch.rx_bytes.push(interface.counters.rx_bytes);
    }
    let peers = device.peers.iter().map(|peer| {
        let before = old.and_then(|old| old.peers.get(&peer.public_key));
        (peer.public_key, peer_watch(before, peer, report, now))
    });
    watch.peers = Few::of(peers);
    watch
}

fn peer_watch(old: Option<&PeerWatch>, peer: &WireGuardPeer, report: &Report, now: i64) -> PeerWatch {
    let age_s = peer.handshake_age_s.and_then(|age| i64::try_from(age).ok());
    // To the second, on the agent's clock; a second's rounding either way is the same handshake.
    let handshake_at = age_s.and_then(|age| u32::try_from(report.observed_at / 1000 - age).ok());
    let mut watch = PeerWatch {
        allowed: peer.allowed_ips.as_slice().into(),
        endpoint: peer.endpoint.as_deref().map(Box::from),
        handshake_at: handshake_at.unwrap_or(0),
        rx: peer.rx_bytes,
        tx: peer.tx_bytes,
        ..PeerWatch::default()
    };
    let Some(old) = old else { return watch };
    watch.past = old.past.clone().map(|mut past| {
        past.moves.retain(|at| now - at <= WINDOW);
        past
    });
    if old.allowed != watch.allowed {
        take_allowed(&mut watch, old, now);
    }
    if let (Some(was), Some(is)) = (&old.endpoint, &watch.endpoint)
        && host_of(was) != host_of(is)
    {
        let past = watch.past.get_or_insert_default();
        past.moved = Some((now, was.clone()));
        push(&mut past.moves, now);
    }
    let renewed = old.handshake_at > 0 && watch.handshake_at > old.handshake_at + 2;
    watch.churn = if renewed { old.churn.saturating_add(1) } else { 0 };
    let (rx, tx) = (peer.rx_bytes.checked_sub(old.rx), peer.tx_bytes.checked_sub(old.tx));
    // More than any sum of handshakes and keepalives within one interval.
    let noise = 2 * (148 + 92) + 32 * (2 + u64::from(report.interval_s) / 5);
    watch.sending = if tx.is_some_and(|tx| tx > noise) { old.sending.saturating_add(1) } else { 0 };
    watch.deaf = if rx == Some(0) { old.deaf.saturating_add(1) } else { 0 };
    match (rx, tx) {
        (Some(rx), Some(tx)) if rx > noise && tx > noise => watch.busy = old.busy.saturating_add(1),
        (Some(rx), Some(tx)) if rx <= noise && tx <= noise => {
            (watch.busy, watch.quiet) = (old.busy, old.quiet.saturating_add(1));
        }
        _ => {}
    }
    watch
}

/// Takes AllowedIPs that are others than before, or the same in another order.
fn take_allowed(watch: &mut PeerWatch, old: &PeerWatch, now: i64) {
    let (mut was, mut is) = (old.allowed.to_vec(), watch.allowed.to_vec());
    was.sort_unstable_by_key(|prefix| (prefix.address(), prefix.prefix()));
    is.sort_unstable_by_key(|prefix| (prefix.address(), prefix.prefix()));
    if was != is {
        let past = watch.past.get_or_insert_default();
        let gone = was.iter().filter(|prefix| !is.contains(prefix)).map(|prefix| (*prefix, now));
        past.lost = gone.take(MOMENTS).collect();
        past.allowed_changed = Some((now, old.allowed.clone()));
    }
}

/// The address of an endpoint, without its port.
fn host_of(endpoint: &str) -> &str {
    endpoint.rsplit_once(':').map_or(endpoint, |(host, _)| host)
}

fn link_watch(old: Option<&LinkWatch>, interface: &Interface, same_boot: bool, now: i64) -> LinkWatch {
    let enabled = interface.flags & IFF_UP != 0;
    let linked = enabled && !matches!(interface.operstate.as_str(), "down" | "lowerlayerdown" | "notpresent");
    let mut watch = LinkWatch {
        was_used: linked || old.is_some_and(|old| old.was_used),
        is_enabled: enabled,
        has_link: linked,
        changes: interface.carrier_changes,
        flaps: old.map(|old| old.flaps.clone()).unwrap_or_default(),
        speed: interface.speed_mbps,
        fastest: interface.speed_mbps.max(old.and_then(|old| old.fastest)),
        is_faster: old
            .is_some_and(|old| old.is_faster || old.speed.is_some() && interface.speed_mbps > old.speed),
        mac: interface.mac.clone(),
    };
    watch.flaps.retain(|(at, _)| now - at <= WINDOW);
    let before = old.filter(|_| same_boot).and_then(|old| old.changes);
    if let (Some(was), Some(is)) = (before, interface.carrier_changes)
        && is > was
    {
        if watch.flaps.len() >= 30 {
            watch.flaps.remove(0);
        }
        watch.flaps.push((now, is - was));
    }
    watch
}

/// Whether a host's routing is the kernel's plain one, so that the main table tells all.
fn is_plain(report: &Report, device: &WireGuardDevice) -> bool {
    let system = &report.system;
    let known = system.routes_source != Source::None;
    let whole = usize::try_from(system.routes_total).is_ok_and(|total| total <= system.routes.len());
    let plain = system.rules.iter().all(|rule| matches!(rule.priority, 0 | 32766 | 32767));
    known && whole && plain && device.fwmark.unwrap_or(0) == 0
}

fn touches(a: &Cidr, b: &Cidr) -> bool {
    a.contains(b.address()) || b.contains(a.address())
}

fn stray_routes(report: &Report) -> Vec<(String, Cidr)> {
    let mut stray = Vec::new();
    for device in report.system.wireguard.iter().filter(|device| is_plain(report, device)) {
        let routes = report.system.routes.iter().filter(|route| {
            route.interface.as_deref() == Some(&device.name)
                && route.table == TABLE_MAIN
                && route.kind == RouteKind::Unicast
                && !route.destination.address().is_multicast()
                && !is_own_network(report, &device.name, &route.destination)
                && !matches!(route.destination.address(), IpAddr::V6(ip) if ip.is_unicast_link_local())
        });
        let peers = || device.peers.iter().flat_map(|peer| &peer.allowed_ips);
        let lost = routes.filter(|route| !peers().any(|prefix| touches(prefix, &route.destination)));
        stray.extend(lost.take(4).map(|route| (device.name.clone(), route.destination)));
    }
    stray
}

/// Whether a route is the one that the kernel makes for an interface's own address.
fn is_own_network(report: &Report, name: &str, destination: &Cidr) -> bool {
    let own = report.system.interfaces.iter().filter(|interface| interface.name == name);
    own.flat_map(|interface| &interface.addresses).any(|address| destination.contains(address.address()))
}

fn stray_prefixes(report: &Report) -> Vec<(String, PublicKey, Cidr, Option<String>)> {
    let mut stray = Vec::new();
    for device in report.system.wireguard.iter().filter(|device| is_plain(report, device)) {
        let up = |interface: &&Interface| interface.name == device.name && interface.flags & IFF_UP != 0;
        if !report.system.interfaces.iter().any(|interface| up(&interface)) {
            continue;
        }
        for peer in &device.peers {
            for prefix in peer.allowed_ips.iter().filter(|prefix| prefix.prefix() > 0) {
                let fits = report.system.routes.iter().filter(|route| {
                    route.table == TABLE_MAIN && route.destination.contains(prefix.address())
                });
                let best = fits.min_by_key(|route| (u8::MAX - route.destination.prefix(), route.metric));
                let to = best.and_then(|route| route.interface.clone());
                if to.as_deref() != Some(&device.name) && stray.len() < 8 {
                    stray.push((device.name.clone(), peer.public_key, *prefix, to));
                }
            }
        }
    }
    stray
}
