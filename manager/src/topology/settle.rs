//! Bringing edges up to date: which ones a change concerns, how they were, what became of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use proto::ids::AgentId;

use super::edge::{self, EdgeKey, Facts, Far, Kept, Near};
use super::index::{Index, Topic};
use super::names::Names;
use super::record::{Agent, AgentIx};
use super::shape::{EdgeState, MapEdge};
use super::snapshot::{EdgeSnapshot, NodeBefore};
use super::{Event, State, diff, render};

/// Intervals without a report after which an agent is silent.
const SILENT_AFTER: i64 = 3;

/// The `since` of an edge that no settling has seen yet.
const UNBORN: i64 = i64::MIN;

/// What to look at when settling, and how it was when the state was last settled.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) agents: BTreeSet<AgentIx>,
    pub(super) edges: BTreeMap<EdgeKey, Option<Box<EdgeSnapshot>>>,
    pub(super) nodes: BTreeMap<AgentId, NodeBefore>,
    /// Nodes that are no agents and appeared (or vanished), once judged.
    pub(super) fars: BTreeMap<String, bool>,
    pub(super) gone: Gone,
}

/// Agents forgotten meanwhile, whose indices and names of interfaces edges still mention.
#[derive(Debug, Default)]
pub(super) struct Gone {
    names: BTreeMap<AgentIx, (AgentId, Names)>,
    indices: BTreeMap<AgentId, AgentIx>,
}

impl Gone {
    pub(super) fn add(&mut self, id: AgentId, ix: AgentIx, names: Names) {
        self.names.insert(ix, (id, names));
        self.indices.insert(id, ix);
    }

    pub(super) fn get(&self, ix: AgentIx) -> Option<(AgentId, &Names)> {
        self.names.get(&ix).map(|(id, names)| (*id, names))
    }

    /// The index and the names of an agent that comes back.
    pub(super) fn take(&mut self, id: AgentId) -> Option<(AgentIx, Names)> {
        let ix = self.indices.remove(&id)?;
        Some((ix, self.names.remove(&ix)?.1))
    }
}

/// A node that is no agent; [`Far::OwnLan`] and [`Far::Behind`] belong to an interface.
pub(super) type FarKey = (Far, Option<Near>);

impl State {
    /// Brings edges, states and presence up to `now` (milliseconds since the Unix epoch) and tells
    /// what changed since the last time: the events turn the map of then into the map of now.
    pub fn settle(&mut self, now: i64) -> Vec<Event> {
        self.judge(now);
        let mut events = Vec::new();
        self.each_change(|event| events.push(event));
        self.settled(!events.is_empty());
        diff::sort(&mut events);
        events
    }

    /// The first part of settling: brings edges, states and presence up to `now`. What changed is told by
    /// [`State::each_change`] until [`State::settled`] ends it; no report may be taken between.
    pub fn judge(&mut self, now: i64) {
        self.now = now;
        self.look_for_silence();
        self.claim_again();
        self.note_touched();
        let edges = std::mem::take(&mut self.pending.edges);
        let mut fars = BTreeMap::new();
        for (key, before) in &edges {
            let is_there = self.judge_edge(*key);
            let more = i64::from(is_there) - i64::from(before.is_some());
            if let Some(far) = far_key(*key).filter(|_| more != 0) {
                let id = render::far_id(self, key.far, Some(key.near));
                self.count_far(far, &id, more, &mut fars);
            }
        }
        (self.pending.edges, self.pending.fars) = (edges, fars);
    }

    /// Tells each change that judging found, one after the other: those of a large fleet's start are too many to
    /// have at once.
    pub fn each_change(&self, mut tell: impl FnMut(Event)) {
        let Pending { nodes, fars, edges, .. } = &self.pending;
        let mut events = Vec::new();
        for (id, before) in nodes {
            let after = self.find(*id).and_then(|ix| self.agent(ix));
            let shape = || after.map(|agent| render::agent_shape(agent, &self.index.keys));
            match before {
                NodeBefore::Absent => diff::node_events(None, shape(), &mut events),
                NodeBefore::Alike(presence) => {
                    let is = after.map(Agent::presence).filter(|is| is != presence);
                    events.extend(
                        is.map(|is| Event::PresenceChanged { id: id.to_string(), presence: Some(is) }),
                    );
                }
                NodeBefore::Other(before) => diff::node_events(Some(before), shape(), &mut events),
            }
            events.drain(..).for_each(&mut tell);
        }
        for (id, appeared) in fars {
            let shape = render::far_shape(id);
            let (before, after) = if *appeared { (None, Some(shape)) } else { (Some(shape), None) };
            diff::node_events(before.as_ref(), after, &mut events);
            events.drain(..).for_each(&mut tell);
        }
        for (key, before) in edges {
            let after = self.edges.get(key).map(|kept| EdgeSnapshot::of(self, *key, kept));
            if before.as_deref() == after.as_ref() {
                continue;
            }
            let shape = |edge: &EdgeSnapshot| edge.shape(self, *key);
            let before = before.as_deref().map(shape);
            diff::edge_events(before.as_ref(), after.as_ref().map(shape), &mut events);
            events.drain(..).for_each(&mut tell);
        }
    }

    /// The last part of settling, `changed` where there was any change.
    pub fn settled(&mut self, changed: bool) {
        let Pending { agents, gone, .. } = std::mem::take(&mut self.pending);
        for ix in agents {
            if let Some(agent) = self.agents[ix as usize].as_mut() {
                agent.free_names();
            }
        }
        self.free.extend(gone.indices.into_values());
        self.index.keys.sweep();
        self.version += u64::from(changed);
    }

    /// Marks an agent and all whom these topics of it concern, and keeps how their edges were.
    pub(super) fn touch(&mut self, ix: AgentIx, topics: &[(Topic, u64)]) {
        let Some(agent) = self.agent(ix) else { return };
        let concerned = self.index.concerned(topics, agent);
        self.mark(ix);
        concerned.into_iter().for_each(|ix| self.mark(ix));
    }

    /// Keeps whether an agent reports before that alone changes of its node, unless an earlier change already did.
    pub(super) fn note_presence(&mut self, ix: AgentIx) {
        let Some(agent) = self.agent(ix) else { return };
        let (id, presence) = (agent.id, agent.presence());
        self.pending.nodes.entry(id).or_insert(NodeBefore::Alike(presence));
    }

    /// Keeps how an agent's node is before it changes, unless an earlier change already did.
    pub(super) fn note_node(&mut self, ix: AgentIx) {
        let Some(agent) = self.agent(ix) else { return };
        let (id, mut presence) = (agent.id, agent.presence());
        match self.pending.nodes.get(&id) {
            None => {}
            Some(NodeBefore::Alike(was)) => presence = *was,
            Some(NodeBefore::Absent | NodeBefore::Other(_)) => return,
        }
        let mut shape = render::agent_shape(agent, &self.index.keys);
        shape.presence = Some(presence);
        self.pending.nodes.insert(id, NodeBefore::Other(Box::new(shape)));
    }

    /// Has an agent's claims looked at when settling, and keeps how its edges are.
    pub(super) fn mark(&mut self, ix: AgentIx) {
        if self.pending.agents.insert(ix) {
            let claims = self.agent(ix).map(|agent| agent.claims.clone()).unwrap_or_default();
            claims.into_iter().for_each(|key| self.stash(key));
        }
    }

    /// Keeps how an edge is, unless an earlier change already did.
    pub(super) fn stash(&mut self, key: EdgeKey) {
        if !self.pending.edges.contains_key(&key) {
            let kept = self.edges.get(&key).filter(|kept| kept.since != UNBORN);
            let before = kept.map(|kept| Box::new(EdgeSnapshot::of(self, key, kept)));
            self.pending.edges.insert(key, before);
        }
    }

    pub(super) fn map_edge(&self, key: EdgeKey, kept: &Kept) -> MapEdge {
        EdgeSnapshot::of(self, key, kept).shape(self, key)
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
            self.note_presence(ix);
            self.touch(ix, &topics);
            if let Some(agent) = self.agents[ix as usize].as_mut() {
                agent.silent = !agent.silent;
                if agent.silent {
                    self.silent.insert(ix);
                } else {
                    self.silent.remove(&ix);
                }
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
                    let new = Kept { since: UNBORN, claims: 0, state: EdgeState::Unknown, dark: false };
                    self.edges.get_or_insert(key, new).claims += 1;
                }
            }
        }
    }

    pub(super) fn unclaim(&mut self, key: EdgeKey) {
        if let Some(kept) = self.edges.get_mut(&key) {
            kept.claims = kept.claims.saturating_sub(1);
        }
    }

    fn note_touched(&mut self) {
        let ends = self.pending.edges.keys().flat_map(|key| key.agents()).flatten().map(|near| near.agent());
        let all = self.pending.agents.iter().copied().chain(ends);
        let ids = all.filter_map(|ix| Some(self.agent(ix)?.id));
        self.touched.lock().unwrap_or_else(PoisonError::into_inner).agents.extend(ids);
    }

    /// Finds an edge's state anew, drops it when nobody claims it, and tells whether it is there.
    fn judge_edge(&mut self, key: EdgeKey) -> bool {
        let Some(kept) = self.edges.get(&key).copied() else { return false };
        if kept.since != UNBORN {
            self.health.forget(key, &kept);
        }
        if kept.claims == 0 {
            self.edges.remove(&key);
            return false;
        }
        let Facts { state, .. } = edge::evaluate(self, key);
        let since = if kept.since == UNBORN || state != kept.state { self.now } else { kept.since };
        let is = Kept { since, state, dark: self.is_dark(key), ..kept };
        if let Some(there) = self.edges.get_mut(&key) {
            *there = is;
        }
        self.health.take(key, &is);
        true
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
pub(super) fn far_key(key: EdgeKey) -> Option<FarKey> {
    match key.far {
        Far::Agent(_) | Far::Manager => None,
        Far::Key(_) | Far::Lan(_) => Some((key.far, None)),
        Far::OwnLan(_) | Far::Behind => Some((key.far, Some(key.near))),
    }
}
