//! The topology of the fleet: a pure function of the agents' latest reports and `now`.
//!
//! ```text
//! Report ── record ──> State ── settle(now) ──> Event      history, alarms
//!                        │ └─── view() ───────> Topology   GET /status/topology, exports
//!                        └───── path() ───────> PathAnswer GET /status/path
//!
//! index       who has which key, address, tunnel, and whom a change concerns
//! wireguard, physical, overlay, relay   the edges of each layer: who claims them, their state
//! traffic, underlay, nat, stacking, mesh   what the view adds: loss, nesting, sites, shapes
//! shape, diff   the structure alone, and changes of it: enough to rebuild a past map
//! recompute     everything from scratch, by another way: the test of the incremental one
//! ```
//!
//! A report with no news but counters touches its own agent's numbers only. One that changes
//! structure marks its agent and those whose edges rest on what changed; [`State::settle`] then
//! looks at their edges again.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proto::ids::{AgentId, BootId};
use proto::report::Report;

mod build;
mod diff;
mod edge;
mod evidence;
mod fingerprint;
mod fold;
mod hop;
mod index;
mod keys;
mod mesh;
mod nat;
mod overlay;
mod path;
mod physical;
mod recompute;
mod record;
mod relay;
mod render;
mod restore;
mod route_table;
mod shape;
mod stacking;
mod traffic;
mod underlay;
mod view;
mod wireguard;

pub use diff::{Event, diff, replay};
pub use evidence::Evidence;
pub use hop::{Hop, Lookup, Outcome, PathAnswer, Target, Way};
pub use path::{PathError, path};
pub use recompute::Recomputed;
pub use shape::{
    DeviceShape, EdgeShape, EdgeState, End, HalfShape, Handshake, InterfaceShape, Layer, Map, MapEdge,
    NodeKind, NodeShape, Presence, Relation,
};
pub use traffic::{Loss, Traffic};
pub use view::{Edge, Half, Mesh, MeshKind, Nat, NatKind, Node, Site, Topology, Underlay, UnderlayKind};

use edge::{EdgeKey, Facts, Far, Kept};
use fold::FoldMap;
use index::Index;
use record::{Agent, AgentIx};

/// Intervals without a report after which an agent is silent.
const SILENT_AFTER: i64 = 3;

/// The `since` of an edge that no settling has seen yet.
const UNBORN: i64 = i64::MIN;

/// How a report reached the manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Who wrote it.
    pub agent: AgentId,
    /// The start of the agent that wrote it.
    pub boot: BootId,
    /// Its number within that start.
    pub tick: u64,
    /// When it came: milliseconds since the Unix epoch on the manager's clock.
    pub received_at: i64,
    /// The agents that passed it on, in the order that it passed them.
    pub relay: Vec<AgentId>,
}

/// What a report was to the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// The agent's first.
    New,
    /// It changes structure: what there is, or how it is set up.
    Structure,
    /// It changes counters and ages only.
    Counters,
    /// It is older than the one that the state has, and changes nothing.
    Late,
}

/// All that is known of the fleet.
#[derive(Debug, Default)]
pub struct State {
    agents: Vec<Option<Box<Agent>>>,
    free: Vec<AgentIx>,
    by_id: HashMap<AgentId, AgentIx>,
    index: Index,
    edges: FoldMap<EdgeKey, Kept>,
    /// How many edges a node that is no agent has.
    fars: FoldMap<FarKey, u32>,
    pending: Pending,
    now: i64,
    version: u64,
    revision: u64,
}

/// A node that is no agent; [`Far::OwnLan`] and [`Far::Behind`] belong to an interface.
type FarKey = (Far, Option<edge::Near>);

/// What to look at when settling, and how it was when the state was last settled.
#[derive(Debug, Default)]
struct Pending {
    agents: BTreeSet<AgentIx>,
    edges: BTreeMap<EdgeKey, Option<MapEdge>>,
    nodes: BTreeMap<String, Option<NodeShape>>,
    /// Agents forgotten meanwhile, whose indices and names of interfaces edges still mention.
    gone: BTreeMap<AgentId, (AgentIx, Vec<Box<str>>)>,
}

impl State {
    /// An empty fleet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes an agent's report. Hand over only reports that tell of the present: spooled ones that
    /// come late are history.
    pub fn apply(&mut self, receipt: &Receipt, report: &Report) -> Applied {
        let Some(ix) = self.find(receipt.agent) else {
            self.revision += 1;
            self.insert(receipt, report);
            return Applied::New;
        };
        let Some(old) = self.agent(ix) else { return Applied::Late };
        let older = if old.boot == receipt.boot {
            receipt.tick <= old.tick
        } else {
            report.observed_at < old.observed_at()
        };
        if older {
            return Applied::Late;
        }
        let same = old.fingerprint == fingerprint::fingerprint(report, &receipt.relay);
        let alike = same && !old.silent && old.boot == receipt.boot;
        self.revision += 1;
        if alike {
            self.count(ix, receipt, report);
            Applied::Counters
        } else {
            self.replace(ix, receipt, report);
            Applied::Structure
        }
    }

    /// Forgets an agent, as after a reset. False when there is none of this id.
    pub fn remove(&mut self, id: AgentId) -> bool {
        let Some(ix) = self.by_id.get(&id).copied() else { return false };
        let Some(agent) = self.agent(ix) else { return false };
        let topics = Index::topics(agent);
        self.touch(ix, &topics, true);
        if let Some(agent) = self.agents[ix as usize].take() {
            self.index.remove(ix, &agent);
            self.pending.gone.insert(id, (ix, agent.names));
            for key in agent.claims {
                self.unclaim(key);
            }
        }
        self.by_id.remove(&id);
        self.revision += 1;
        true
    }

    /// Brings edges, states and presence up to `now` (milliseconds since the Unix epoch) and tells
    /// what changed since the last time: the events turn the map of then into the map of now.
    pub fn settle(&mut self, now: i64) -> Vec<Event> {
        self.now = now;
        self.look_for_silence();
        self.claim_again();
        let Pending { agents, edges, nodes, gone } = std::mem::take(&mut self.pending);
        let mut events = Vec::new();
        let mut fars: BTreeMap<String, bool> = BTreeMap::new();
        for (key, before) in edges {
            let after = self.judge(key);
            if let (Some(far), Some(edge)) = (far_key(key), before.as_ref().or(after.as_ref())) {
                let more = i64::from(after.is_some()) - i64::from(before.is_some());
                self.count_far(far, &edge.edge.ends[1].node, more, &mut fars);
            }
            diff::edge_events(before.as_ref(), after.as_ref(), &mut events);
        }
        for (id, before) in nodes {
            let after = id.parse().ok().and_then(|id| self.agent(self.find(id)?));
            let after = after.map(|agent| render::agent_shape(agent, &self.index.keys));
            diff::node_events(before.as_ref(), after.as_ref(), &mut events);
        }
        for (id, appeared) in fars {
            let shape = render::far_shape(&id);
            let (before, after) = if appeared { (None, Some(&shape)) } else { (Some(&shape), None) };
            diff::node_events(before, after, &mut events);
        }
        for ix in agents {
            if let Some(agent) = self.agents[ix as usize].as_mut() {
                agent.free_names();
            }
        }
        self.free.extend(gone.into_values().map(|(ix, _)| ix));
        self.index.keys.sweep();
        self.version += u64::from(!events.is_empty());
        diff::sort(&mut events);
        events
    }

    /// When the state was last settled: milliseconds since the Unix epoch.
    #[must_use]
    pub fn now(&self) -> i64 {
        self.now
    }

    /// A number that grows whenever [`State::settle`] finds a change. It starts at 0 with the
    /// process, so an ETag wants something of the process beside it.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// A number that grows with every report taken, counters included.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Number of agents.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether no agent is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Number of edges, as of the last settling.
    #[must_use]
    pub fn edge_count(&self) -> usize {
        self.edges.len()
    }

    fn agent(&self, ix: AgentIx) -> Option<&Agent> {
        self.agents.get(ix as usize)?.as_deref()
    }

    fn find(&self, id: AgentId) -> Option<AgentIx> {
        self.by_id.get(&id).copied()
    }

    /// All agents in order of id.
    fn in_order(&self) -> Vec<(AgentIx, &Agent)> {
        let numbered = self.agents.iter().zip(0..);
        let mut agents: Vec<_> = numbered.filter_map(|(agent, ix)| Some((ix, agent.as_deref()?))).collect();
        agents.sort_unstable_by_key(|(_, agent)| agent.id);
        agents
    }

    fn insert(&mut self, receipt: &Receipt, report: &Report) {
        // One that comes back before the state settles gets its edges back.
        let back = self.pending.gone.remove(&receipt.agent);
        let (ix, names) = back.unwrap_or_else(|| (self.new_index(), Vec::new()));
        let agent = Agent::build(receipt, report, &mut self.index.keys, names, None);
        self.by_id.insert(receipt.agent, ix);
        self.pending.nodes.entry(receipt.agent.to_string()).or_insert(None);
        let topics = Index::topics(&agent);
        let concerned = self.index.concerned(&topics, &agent);
        concerned.into_iter().for_each(|ix| self.mark(ix));
        self.install(ix, agent, &topics);
    }

    fn new_index(&mut self) -> AgentIx {
        self.free.pop().unwrap_or_else(|| {
            self.agents.push(None);
            AgentIx::try_from(self.agents.len() - 1).expect("fewer than 2^32 agents")
        })
    }

    /// Replaces an agent's record by one of another structure.
    fn replace(&mut self, ix: AgentIx, receipt: &Receipt, report: &Report) {
        let Some(old) = self.agents.get(ix as usize).and_then(Option::as_deref) else { return };
        let agent = Agent::build(receipt, report, &mut self.index.keys, old.names.clone(), Some(old));
        let (before, after) = (Index::topics(old), Index::topics(&agent));
        let changed = difference(&before, &after);
        self.touch(ix, &changed, true);
        if let Some(old) = self.agents[ix as usize].take() {
            self.index.remove(ix, &old);
        }
        self.install(ix, agent, &changed);
    }

    /// Puts a record in place, and marks those whom its topics concern, which the index now knows.
    fn install(&mut self, ix: AgentIx, agent: Agent, changed: &[(index::Topic, u64)]) {
        self.index.add(ix, &agent);
        self.agents[ix as usize] = Some(Box::new(agent));
        self.touch(ix, changed, false);
    }

    /// Takes new counters and ages; what they change of an edge's state is looked at when settling.
    fn count(&mut self, ix: AgentIx, receipt: &Receipt, report: &Report) {
        for key in self.flips(ix, report) {
            self.stash(key);
        }
        let Some(agent) = self.agents.get_mut(ix as usize).and_then(Option::as_deref_mut) else { return };
        agent.tick = receipt.tick;
        agent.received_at = receipt.received_at;
        agent.times = [report.observed_at, agent.times[0], agent.times[1]];
        for (device, reported) in agent.devices.iter_mut().zip(&report.system.wireguard) {
            let halves = device.halves.iter_mut().zip(&mut device.briefs);
            for ((half, brief), peer) in halves.zip(&reported.peers) {
                half.age_s = record::age_of(peer);
                half.rtt_us = peer.rtt_us.unwrap_or(0);
                half.samples.push(peer.rx_bytes, peer.tx_bytes);
                *brief = half.brief(agent.interval_s);
            }
        }
    }

    /// The edges of peers whose handshake changes its class, or that start or stop to try in vain.
    fn flips(&self, ix: AgentIx, report: &Report) -> Vec<EdgeKey> {
        let mut found = Vec::new();
        let Some(agent) = self.agent(ix) else { return found };
        for (device, reported) in agent.devices.iter().zip(&report.system.wireguard) {
            let halves = device.halves.iter().zip(&device.briefs);
            for ((half, brief), peer) in halves.zip(&reported.peers) {
                let age_s = record::age_of(peer);
                let handshake = wireguard::handshake(age_s, half.keepalive_s, agent.interval_s);
                let trying = half.samples.would_be_unanswered(peer.rx_bytes, peer.tx_bytes);
                if (handshake, trying) != (brief.handshake, brief.trying) {
                    let near = edge::Near { agent: ix, slot: device.slot };
                    wireguard::half_edges(self, near, device, half.key, &mut found);
                }
            }
        }
        found
    }

    /// Marks an agent and all whom these topics of it concern, and keeps how their edges were.
    fn touch(&mut self, ix: AgentIx, topics: &[(index::Topic, u64)], node: bool) {
        let Some(agent) = self.agent(ix) else { return };
        let concerned = self.index.concerned(topics, agent);
        if node {
            let id = agent.id.to_string();
            if !self.pending.nodes.contains_key(&id) {
                let shape = render::agent_shape(agent, &self.index.keys);
                self.pending.nodes.insert(id, Some(shape));
            }
        }
        self.mark(ix);
        concerned.into_iter().for_each(|ix| self.mark(ix));
    }

    /// Has an agent's claims looked at when settling, and keeps how its edges are.
    fn mark(&mut self, ix: AgentIx) {
        if self.pending.agents.insert(ix) {
            let claims = self.agent(ix).map(|agent| agent.claims.clone()).unwrap_or_default();
            claims.into_iter().for_each(|key| self.stash(key));
        }
    }

    /// Keeps how an edge is, unless an earlier change already did.
    fn stash(&mut self, key: EdgeKey) {
        if !self.pending.edges.contains_key(&key) {
            let kept = self.edges.get(&key).filter(|kept| kept.since != UNBORN);
            let before = kept.map(|kept| self.map_edge(key, kept));
            self.pending.edges.insert(key, before);
        }
    }

    fn map_edge(&self, key: EdgeKey, kept: &Kept) -> MapEdge {
        let Facts { relation, seen, .. } = edge::evaluate(self, key);
        render::map_edge(self, key, kept, relation, seen)
    }

    fn look_for_silence(&mut self) {
        let now = self.now;
        let silent =
            |agent: &Agent| now - agent.received_at > SILENT_AFTER * i64::from(agent.interval_s) * 1000;
        let changed = (0..).zip(&self.agents).filter_map(|(ix, agent)| {
            let agent = agent.as_ref()?;
            (silent(agent) != agent.silent).then_some(ix)
        });
        let changed: Vec<AgentIx> = changed.collect();
        for ix in changed {
            let Some(agent) = self.agent(ix) else { continue };
            let topics = Index::topics(agent);
            self.touch(ix, &topics, true);
            if let Some(agent) = self.agents[ix as usize].as_mut() {
                agent.silent = !agent.silent;
            }
        }
    }

    /// Finds the claims of the marked agents anew.
    fn claim_again(&mut self) {
        for ix in self.pending.agents.clone() {
            if self.agent(ix).is_none() {
                continue;
            }
            let claims = edge::claims(self, ix);
            let Some(agent) = self.agents[ix as usize].as_mut() else { continue };
            let old = std::mem::replace(&mut agent.claims, claims.clone());
            for key in old.iter().filter(|key| claims.binary_search(key).is_err()) {
                self.unclaim(*key);
            }
            for key in claims {
                if old.binary_search(&key).is_err() {
                    self.stash(key);
                    let new = Kept { since: UNBORN, claims: 0, state: EdgeState::Unknown };
                    self.edges.entry(key).or_insert(new).claims += 1;
                }
            }
        }
    }

    fn unclaim(&mut self, key: EdgeKey) {
        if let Some(kept) = self.edges.get_mut(&key) {
            kept.claims = kept.claims.saturating_sub(1);
        }
    }

    /// Finds an edge's state anew, drops it when nobody claims it, and shows how it is now.
    fn judge(&mut self, key: EdgeKey) -> Option<MapEdge> {
        let kept = *self.edges.get(&key)?;
        if kept.claims == 0 {
            self.edges.remove(&key);
            return None;
        }
        let Facts { state, relation, seen } = edge::evaluate(self, key);
        let since = if kept.since == UNBORN || state != kept.state { self.now } else { kept.since };
        let kept = Kept { since, state, ..kept };
        self.edges.insert(key, kept);
        Some(render::map_edge(self, key, &kept, relation, seen))
    }

    /// Counts the edges of a node that is no agent; its first makes it appear, its last vanish.
    fn count_far(&mut self, far: FarKey, id: &str, more: i64, changed: &mut BTreeMap<String, bool>) {
        let count = self.fars.entry(far).or_insert(0);
        let before = *count;
        *count = count.saturating_add_signed(i32::try_from(more).unwrap_or(0));
        let after = *count;
        if after == 0 {
            self.fars.remove(&far);
        }
        if (before == 0) != (after == 0) && changed.remove(id).is_none() {
            changed.insert(id.to_owned(), after > 0);
        }
    }
}

/// The node that is no agent at an edge's far end, the manager aside.
fn far_key(key: EdgeKey) -> Option<FarKey> {
    match key.far {
        Far::Agent(_) | Far::Manager => None,
        Far::Key(_) | Far::Lan(_) => Some((key.far, None)),
        Far::OwnLan(_) | Far::Behind => Some((key.far, Some(key.near))),
    }
}

/// What of two sorted lists is in one of them only.
fn difference(before: &[(index::Topic, u64)], after: &[(index::Topic, u64)]) -> Vec<(index::Topic, u64)> {
    let gone = before.iter().filter(|topic| after.binary_search(topic).is_err());
    let new = after.iter().filter(|topic| before.binary_search(topic).is_err());
    gone.chain(new).copied().collect()
}

#[cfg(test)]
mod tests;
