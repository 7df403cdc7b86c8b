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
//! link, outline    edges one at a time, and the map for drawing in its order, for long answers
//! screen        what alarms look at: a glance over all     excerpt, host   the view of some agents alone
//! health        how the tunnels fare, and what is not well, kept up to date
//! settle        which edges a change concerns, and what became of them     snapshot   how they were before
//! recompute     everything from scratch, by another way: the test of the incremental one
//! ```
//!
//! A report with no news but counters touches its own agent's numbers only. One that changes
//! structure marks its agent and those whose edges rest on what changed; [`State::settle`] then
//! looks at their edges again.

use std::sync::Mutex;

use proto::ids::{AgentId, BootId};
use proto::report::Report;

mod build;
mod diff;
mod edge;
mod edges;
mod evidence;
mod excerpt;
mod few;
mod fingerprint;
mod fold;
mod health;
mod hop;
mod host;
mod index;
mod keys;
mod link;
mod mesh;
mod names;
mod nat;
mod outline;
mod overlay;
mod owners;
mod pack;
mod path;
mod physical;
mod reach;
mod recompute;
mod record;
mod relay;
mod render;
mod restore;
mod route_table;
mod routes;
mod screen;
mod settle;
mod shape;
mod snapshot;
mod stacking;
mod traffic;
mod tunnel;
mod underlay;
mod view;
mod wireguard;

pub use build::{Outside, Structure};
pub use diff::{Changes, Event, apply, diff, replay};
pub use evidence::Evidence;
pub use excerpt::{EdgeRef, Excerpt, LIVE_S};
pub use fold::{AgentSet, FoldMap, RefSet};
pub use health::{Tally, Touched};
pub use hop::{Hop, Lookup, Outcome, PathAnswer, Target, Way};
pub use host::{HostView, Nic};
pub use link::{Link, LinkHalf, PeerId};
pub use outline::{BriefEdge, BriefNode, Outline, Spot};
pub use path::{PathError, path};
pub use recompute::Recomputed;
pub use screen::{Glance, Place};
pub use shape::{
    DeviceShape, EdgeShape, EdgeState, End, HalfShape, Handshake, InterfaceShape, Layer, Map, MapEdge,
    NodeKind, NodeShape, Presence, Relation,
};
pub use traffic::{Loss, Traffic};
pub use view::{Edge, Half, Mesh, MeshKind, Nat, NatKind, Node, Site, Topology, Underlay, UnderlayKind};

use crate::counts::Counts;
use edge::EdgeKey;
use edges::Edges;
use fold::FoldSet;
use health::Health;
use index::Index;
use names::Names;
use record::{Agent, AgentIx};
use settle::{FarKey, Pending};
use snapshot::NodeBefore;

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
    by_id: FoldMap<AgentId, AgentIx>,
    index: Index,
    edges: Edges,
    /// How many edges a node that is no agent has.
    fars: FoldMap<FarKey, u32>,
    pending: Pending,
    /// See [`State::take_touched`].
    touched: Mutex<Touched>,
    health: Health,
    /// Agents that are silent, as of the last settling.
    silent: FoldSet<AgentIx>,
    now: i64,
    version: u64,
    revision: u64,
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
            self.count(ix, receipt, &Counts::of(report));
            self.rests_on(receipt.agent, None);
            Applied::Counters
        } else {
            if same {
                self.note_presence(ix);
            } else {
                self.note_node(ix);
            }
            self.replace(ix, receipt, report);
            Applied::Structure
        }
    }

    /// Takes a report that differs from the one of tick `basis`, of the same boot, in counts alone. `None` where
    /// the state has not the structure of that report: then it must see the whole one.
    pub fn apply_counts(&mut self, receipt: &Receipt, basis: u64, counts: &Counts) -> Option<Applied> {
        let ix = self.find(receipt.agent)?;
        let old = self.agent(ix)?;
        if old.boot != receipt.boot || old.basis != Some(basis) || old.silent || *old.relay != receipt.relay {
            return None;
        }
        if receipt.tick <= old.tick {
            return Some(Applied::Late);
        }
        self.revision += 1;
        self.count(ix, receipt, counts);
        Some(Applied::Counters)
    }

    /// The structure that the state has of an agent is that of its report of tick `basis`, and so is all else
    /// that was last taken of it but for the counts. `None`: it is that of no report that others are the difference to.
    pub fn rests_on(&mut self, agent: AgentId, basis: Option<u64>) {
        let Some(ix) = self.find(agent) else { return };
        if let Some(agent) = self.agents.get_mut(ix as usize).and_then(Option::as_deref_mut) {
            agent.basis = basis;
        }
    }

    /// Forgets an agent, as after a reset. False when there is none of this id.
    pub fn remove(&mut self, id: AgentId) -> bool {
        let Some(ix) = self.by_id.get(&id).copied() else { return false };
        let Some(agent) = self.agent(ix) else { return false };
        let topics = Index::topics(agent);
        self.note_node(ix);
        self.touch(ix, &topics);
        if let Some(agent) = self.agents[ix as usize].take() {
            self.index.remove(ix, &agent);
            self.pending.gone.add(id, ix, agent.names);
            for key in agent.claims {
                self.unclaim(key);
            }
        }
        self.by_id.remove(&id);
        self.silent.remove(&ix);
        self.health.take_caller(ix, false);
        self.revision += 1;
        true
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

    /// The id and the names of an agent, also of one forgotten since the last settling: edges still mention it.
    fn known(&self, ix: AgentIx) -> Option<(AgentId, &Names)> {
        self.agent(ix).map(|agent| (agent.id, &agent.names)).or_else(|| self.pending.gone.get(ix))
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
        let back = self.pending.gone.take(receipt.agent);
        let (ix, names) = back.unwrap_or_else(|| (self.new_index(), Names::default()));
        let agent = Agent::build(receipt, report, &mut self.index.keys, &names, None);
        self.by_id.insert(receipt.agent, ix);
        self.pending.nodes.entry(receipt.agent).or_insert(NodeBefore::Absent);
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

    /// Replaces an agent's record, whose node was noted, by one of another structure.
    fn replace(&mut self, ix: AgentIx, receipt: &Receipt, report: &Report) {
        let Some(old) = self.agents.get(ix as usize).and_then(Option::as_deref) else { return };
        let agent = Agent::build(receipt, report, &mut self.index.keys, &old.names, Some(old));
        let (before, after) = (Index::topics(old), Index::topics(&agent));
        let changed = difference(&before, &after);
        self.touch(ix, &changed);
        if let Some(old) = self.agents[ix as usize].take() {
            self.index.remove(ix, &old);
        }
        self.install(ix, agent, &changed);
    }

    /// Puts a record in place, and marks those whom its topics concern, which the index now knows.
    fn install(&mut self, ix: AgentIx, agent: Agent, changed: &[(index::Topic, u64)]) {
        self.index.add(ix, &agent);
        self.silent.remove(&ix);
        self.health.take_caller(ix, health::calls_in_vain(&agent));
        self.note_report(ix);
        self.agents[ix as usize] = Some(Box::new(agent));
        self.touch(ix, changed);
    }

    /// Takes new counters and ages; what they change of an edge's state is looked at when settling.
    fn count(&mut self, ix: AgentIx, receipt: &Receipt, counts: &Counts) {
        for key in self.flips(ix, counts) {
            self.stash(key);
        }
        let Some(agent) = self.agents.get_mut(ix as usize).and_then(Option::as_deref_mut) else { return };
        agent.tick = receipt.tick;
        agent.received_at = receipt.received_at;
        agent.times = [counts.observed_at, agent.times[0], agent.times[1]];
        for (device, reported) in agent.devices.iter_mut().zip(&counts.system.wireguard) {
            let halves = device.halves.iter_mut().zip(&mut device.briefs);
            for ((half, brief), peer) in halves.zip(&reported.peers) {
                half.age_s = record::age_of(peer.handshake_age_s);
                half.rtt_us = peer.rtt_us.unwrap_or(0);
                half.samples.push(peer.rx_bytes, peer.tx_bytes);
                *brief = half.brief(agent.interval_s);
            }
        }
        let calls = health::calls_in_vain(agent);
        self.health.take_caller(ix, calls);
        self.note_report(ix);
    }

    /// The edges of peers whose handshake changes its class, or that start or stop to try in vain.
    fn flips(&self, ix: AgentIx, counts: &Counts) -> Vec<EdgeKey> {
        let mut found = Vec::new();
        let Some(agent) = self.agent(ix) else { return found };
        for (device, reported) in agent.devices.iter().zip(&counts.system.wireguard) {
            let halves = device.halves.iter().zip(&device.briefs);
            for ((half, brief), peer) in halves.zip(&reported.peers) {
                let age_s = record::age_of(peer.handshake_age_s);
                let handshake = wireguard::handshake(age_s, half.keepalive_s, agent.interval_s);
                let trying = half.samples.would_be_unanswered(peer.rx_bytes, peer.tx_bytes);
                if (handshake, trying) != (brief.handshake, brief.trying) {
                    let near = edge::Near::new(ix, device.slot);
                    wireguard::half_edges(self, near, device, half.key, &mut found);
                }
            }
        }
        found
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
