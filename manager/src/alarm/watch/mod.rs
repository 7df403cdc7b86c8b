//! What is remembered of each agent's reports beside the map: what it was before, and the counters
//! that the map does not keep. Small, and gone with the process; see `recall` for what must outlast it.

mod device;
mod link;
mod past;
mod peer;
mod spot;
mod stray;
#[cfg(test)]
mod tests;
mod way;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use proto::ids::{AgentId, BootId, PublicKey};
use proto::report::{Forwarding, Interface, InterfaceKind, NeighbourState, Report};

use self::device::device_watch;
pub use self::device::{DeviceWatch, Rise};
pub use self::link::LinkWatch;
use self::link::link_watch;
pub use self::past::Past;
use self::past::Rare;
pub use self::peer::{CHURN, IN_A_ROW, KeyTag, PeerWatch};
pub use self::spot::host_of;
use self::stray::{stray_prefixes, stray_routes};
pub use self::way::WayOut;
use self::way::{changed_way, way_out};
use super::few::Few;
use super::recall::Recalled;
use crate::counts::Counts;
use crate::topology::{AgentSet, FoldMap, Receipt, State};

/// How long changes are remembered (ms): the window in which flapping is counted.
const WINDOW: i64 = 15 * 60_000;
/// Half an hour (ms), in which missing reports are counted.
const GAP_WINDOW: i64 = 30 * 60_000;
/// A clock that goes back by less (ms) was corrected, not set.
const CLOCK_STEP: i64 = 10_000;
/// Moments remembered of one thing.
const MOMENTS: usize = 8;

/// Everything remembered, by agent.
#[derive(Debug, Clone, Default)]
pub struct Watches {
    agents: BTreeMap<AgentId, Box<Watch>>,
    /// Those of which something may be odd, or to whom a peer brings nothing.
    restless: BTreeSet<AgentId>,
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
#[derive(Debug, Clone, PartialEq, Eq)]
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
    uptime_s: u64,
    /// Reports that waited at it.
    pub spooled: u64,
    dropped: u64,
    /// Whether it forwards packets.
    pub forwarding: Option<Forwarding>,
    /// Its default route: interface, gateway, the gateway's link-layer address.
    pub way_out: Option<WayOut>,
    /// Whether it ever had a default route.
    pub had_way_out: bool,
    /// Neighbours that answer: address, link-layer address, interface.
    pub neighbours: Vec<(IpAddr, String, String)>,
    /// WireGuard devices by name.
    pub devices: Few<Box<str>, DeviceWatch>,
    /// Network cards by name.
    pub links: Few<Box<str>, LinkWatch>,
    /// Whether no device and no card can be odd until the next report: most need not be looked at.
    is_calm: bool,
    /// Whether a peer brought nothing at all in the last reports.
    is_deaf: bool,
    /// Whether something may be odd until the next report, or it is deaf.
    is_restless: bool,
    past: Rare,
}

/// When a report came and was observed (ms), and the seconds between its agent's reports.
#[derive(Debug, Clone, Copy)]
struct Moment {
    now: i64,
    observed_at: i64,
    interval_s: u32,
}

/// What times the report before told.
#[derive(Debug, Clone, Copy)]
struct Times {
    received_at: i64,
    own_clock: i64,
    uptime_s: u64,
}

impl Watches {
    /// What is remembered of an agent.
    #[must_use]
    pub fn get(&self, id: AgentId) -> Option<&Watch> {
        self.agents.get(&id).map(Box::as_ref)
    }

    /// All agents in order of id.
    pub fn iter(&self) -> impl Iterator<Item = (AgentId, &Watch)> {
        self.agents.iter().map(|(id, watch)| (*id, &**watch))
    }

    fn restless(&self) -> impl Iterator<Item = (AgentId, &Watch)> {
        self.restless.iter().filter_map(|id| Some((*id, self.get(*id)?)))
    }

    /// Agents of which something may be worth a word.
    pub(super) fn odd(&self, now: i64) -> impl Iterator<Item = AgentId> {
        self.restless().filter(move |(_, watch)| watch.is_odd(now)).map(|(id, _)| id)
    }

    /// Calls `f` with both ends of every tunnel that brings one end nothing at all while the other end,
    /// which has it, sends data.
    pub(super) fn each_unheard(&self, now: i64, state: &State, mut f: impl FnMut([AgentId; 2])) {
        let deaf = self.restless().filter(|(_, watch)| watch.is_deaf);
        for (id, name, device) in
            deaf.flat_map(|(id, watch)| watch.devices.iter().map(move |it| (id, it.0, it.1)))
        {
            let Some(own) = device.key else { continue };
            let own = KeyTag::of(&own);
            for peer in device.peers.values().filter(|peer| peer.is_deaf(now)) {
                state.each_owner_of_peer(id, name, peer.place, |other, interface| {
                    let there = self.get(other).and_then(|watch| watch.devices.get(interface));
                    let half = there.and_then(|device| device.peers.get(&own));
                    if half.is_some_and(|half| half.sending >= IN_A_ROW) {
                        f([id, other]);
                    }
                });
            }
        }
    }

    /// Forgets an agent, as after a reset.
    pub fn remove(&mut self, id: AgentId) {
        self.agents.remove(&id);
        self.restless.remove(&id);
        self.mesh_of.remove(&id);
    }

    /// Takes how many tunnels are up at a moment.
    pub fn note_up(&mut self, now: i64, up: usize) {
        let hour = now / 3_600_000;
        if self.most_up[0].0 != hour {
            let before = if self.most_up[0].0 == hour - 1 { self.most_up[0] } else { (hour - 1, 0) };
            self.most_up = [(hour, 0), before];
        }
        self.most_up[0].1 = self.most_up[0].1.max(up);
    }

    /// Takes how the mesh is at a moment: the connected part that each agent that reports is in.
    pub fn note_mesh(&mut self, parts: FoldMap<AgentId, usize>, dark: &AgentSet) {
        let mut parts: Vec<(AgentId, usize)> = parts.into_iter().collect();
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
        let before = self.agents.get_mut(&receipt.agent).map(Box::as_mut);
        let watch = Watch::build(before, receipt, report);
        for (name, device) in watch.devices.iter() {
            let Some((at, before)) = device.key_changed().filter(|(at, _)| *at == receipt.received_at) else {
                continue;
            };
            self.old_keys.insert(before, (receipt.agent, name.to_string(), at));
            self.new_old_keys.push((before, receipt.agent, name.to_string(), at));
        }
        for key in watch.devices.values().filter_map(|device| device.key) {
            self.old_keys.remove(&key);
        }
        note_restless(&mut self.restless, receipt.agent, watch.is_restless);
        match self.agents.get_mut(&receipt.agent) {
            Some(old) => **old = watch,
            None => drop(self.agents.insert(receipt.agent, Box::new(watch))),
        }
    }

    /// Takes a report that tells the present and differs from the agent's last one, which was noted, in
    /// these counters alone. An agent of which nothing was noted stays unknown.
    pub fn count(&mut self, receipt: &Receipt, counts: &Counts) {
        let Some(watch) = self.agents.get_mut(&receipt.agent) else { return };
        let was_restless = watch.is_restless;
        watch.count(receipt.received_at, counts);
        if watch.is_restless != was_restless {
            note_restless(&mut self.restless, receipt.agent, watch.is_restless);
        }
        if !self.old_keys.is_empty() {
            for key in watch.devices.values().filter_map(|device| device.key) {
                self.old_keys.remove(&key);
            }
        }
    }
}

impl Watch {
    /// What is odd of it, or was lately.
    #[must_use]
    pub fn past(&self) -> &Past {
        self.past.get()
    }

    /// Whether something of it may be worth a word, so that rules should look at its host. Rather too
    /// often than once too little.
    #[must_use]
    pub fn is_odd(&self, now: i64) -> bool {
        self.past().is_odd(now, self.way_out.is_some())
            || self.clock_offset_ms.abs() > CLOCK_STEP
            || self.spooled > 0
            || !self.is_calm
                && (self.links.values().any(LinkWatch::is_odd)
                    || self.devices.values().any(|device| device.is_odd(now)))
    }

    /// What is to be remembered after a report. What was remembered before loses what can be taken over.
    fn build(mut before: Option<&mut Self>, receipt: &Receipt, report: &Report) -> Self {
        let old = before.as_deref();
        let system = &report.system;
        let now = receipt.received_at;
        let own_clock = report.observed_at - report.clock_offset_ms;
        let same_boot = old.filter(|old| old.boot == receipt.boot);
        let way_out = way_out(&system.routes, &system.neighbours);
        let mut watch = Self {
            boot: receipt.boot,
            received_at: now,
            observed_at: report.observed_at,
            interval_s: report.interval_s.clamp(1, 3600),
            clock_offset_ms: report.clock_offset_ms,
            own_clock,
            uptime_s: system.uptime_s,
            spooled: report.delivery.spooled,
            dropped: report.delivery.dropped,
            forwarding: system.forwarding.clone(),
            had_way_out: way_out.is_some() || old.is_some_and(|old| old.had_way_out),
            neighbours: Vec::new(),
            devices: Few::default(),
            links: Few::default(),
            is_calm: false,
            is_deaf: false,
            is_restless: false,
            past: Rare::default(),
            way_out,
        };
        let problems = report.problems.iter().take(4);
        let mut past = Past {
            problems: problems.map(|problem| (problem.source.clone(), problem.message.clone())).collect(),
            failed: Vec::new(),
            stray_routes: stray_routes(report),
            stray_prefixes: stray_prefixes(report),
            ..old.map(|old| old.past().clone()).unwrap_or_default()
        };
        if let Some(old) = old {
            if let Some(changed) = changed_way(old.way_out.as_ref(), watch.way_out.as_ref()) {
                past.way_out_before = Some((changed, now));
            }
            watch.take_times(old.times(), same_boot.is_some(), &mut past);
        }
        if let Some(old) = same_boot.filter(|old| report.delivery.dropped > old.dropped) {
            past.dropped_at = Some((now, report.delivery.dropped - old.dropped));
        }
        watch.take_neighbours(old, report, &mut past);
        watch.past = past.into();
        let moment = Moment { now, observed_at: report.observed_at, interval_s: watch.interval_s };
        let is_card = |(_, interface): &(u16, &Interface)| {
            matches!(interface.kind, InterfaceKind::Physical | InterfaceKind::Wireless)
        };
        let cards = (0..).zip(&system.interfaces).filter(is_card);
        let same = same_boot.is_some() && system.uptime_s >= old.map_or(0, |old| old.uptime_s);
        let links = cards.map(|(place, interface)| {
            let before = old.and_then(|old| old.links.get(interface.name.as_str()));
            (interface.name.as_str().into(), link_watch(before, (place, interface), same, now))
        });
        watch.links = Few::of(links);
        let devices = (0..).zip(&system.wireguard).map(|(place, device)| {
            let nic = (0..).zip(&system.interfaces).find(|(_, interface)| interface.name == device.name);
            let old = before.as_mut().and_then(|before| before.devices.get_mut(device.name.as_str()));
            (device.name.as_str().into(), device_watch(old, (place, device), nic, &moment))
        });
        watch.devices = Few::of(devices);
        watch.sum_up();
        watch
    }

    fn times(&self) -> Times {
        Times { received_at: self.received_at, own_clock: self.own_clock, uptime_s: self.uptime_s }
    }

    /// Takes what the times of the report before and of this one, already taken, say.
    fn take_times(&self, old: Times, same_boot: bool, past: &mut Past) {
        let now = self.received_at;
        // A host's clock and ours advance alike; the reports' own delays are seconds.
        let elapsed = now - old.received_at;
        let back = old.own_clock + elapsed - self.own_clock;
        if self.uptime_s >= old.uptime_s && self.own_clock < old.own_clock - CLOCK_STEP {
            past.clock_back = Some((now, back));
        }
        if self.uptime_s < old.uptime_s {
            past.rebooted_at = Some(now);
        }
        past.gaps.retain(|at| now - at <= GAP_WINDOW);
        let interval = i64::from(self.interval_s) * 1000;
        if same_boot && elapsed > 2 * interval + 5000 && elapsed <= 4 * interval + 10_000 {
            push(&mut past.gaps, now);
        }
    }

    /// Takes the counters of a report that is otherwise the same as the one before.
    fn count(&mut self, now: i64, counts: &Counts) {
        let old = self.times();
        let system = &counts.system;
        (self.received_at, self.observed_at, self.uptime_s) = (now, counts.observed_at, system.uptime_s);
        self.own_clock = counts.observed_at - self.clock_offset_ms;
        let mut past = self.past.take();
        self.take_times(old, true, &mut past);
        self.past = past.into();
        let moment = Moment { now, observed_at: self.observed_at, interval_s: self.interval_s };
        self.devices.values_mut().for_each(|device| device.count(system, &moment));
        let same = self.uptime_s >= old.uptime_s;
        for link in self.links.values_mut() {
            if let Some(nic) = system.interfaces.get(usize::from(link.place)) {
                link.count(nic.carrier_changes, same, now);
            }
        }
        self.sum_up();
    }

    /// Notes in short what its devices and cards are like.
    fn sum_up(&mut self) {
        self.is_calm =
            self.devices.values().all(DeviceWatch::is_calm) && !self.links.values().any(LinkWatch::is_odd);
        let mut peers = self.devices.values().flat_map(|device| device.peers.values());
        self.is_deaf = peers.any(|peer| peer.is_deaf(self.received_at));
        self.is_restless = self.is_deaf || self.may_be_odd();
    }

    /// Whether [`Watch::is_odd`] may be so at some moment until the next report.
    fn may_be_odd(&self) -> bool {
        self.past().has_happened() || self.is_odd(self.received_at) || !self.is_calm
    }

    fn take_neighbours(&mut self, old: Option<&Self>, report: &Report, past: &mut Past) {
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
                        past.failed.push((place.0, place.1, false));
                        continue;
                    };
                    let answered =
                        old.neighbours.iter().any(|known| (known.0, &known.2) == (place.0, &place.1));
                    let before =
                        old.past().failed.iter().find(|known| (known.0, &known.1) == (place.0, &place.1));
                    if answered || before.is_some() {
                        let sure = answered || before.is_some_and(|before| before.2);
                        past.failed.push((place.0, place.1, sure));
                    }
                }
                _ => {}
            }
        }
    }
}

fn note_restless(restless: &mut BTreeSet<AgentId>, id: AgentId, is: bool) {
    if is {
        restless.insert(id);
    } else {
        restless.remove(&id);
    }
}

fn push(moments: &mut Vec<i64>, at: i64) {
    if moments.len() >= MOMENTS {
        moments.remove(0);
    }
    moments.push(at);
}
