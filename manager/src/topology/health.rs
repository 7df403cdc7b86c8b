//! How the fleet's tunnels fare, kept up to date where edges change: an evaluation of the alarms asks every few
//! seconds, and to walk over all edges each time costs more than all else that it does.

use std::sync::PoisonError;

use super::edge::{EdgeKey, Far, Kept, Near};
use super::excerpt::EdgeRef;
use super::fold::{AgentSet, FoldSet, RefSet};
use super::record::{Agent, AgentIx};
use super::shape::{EdgeState, Layer};
use super::{State, traffic, wireguard};

/// How the tunnels of the fleet fare.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// WireGuard edges between agents that are up, or idle in order.
    pub up: usize,
    /// All WireGuard edges between agents.
    pub all: usize,
    /// Those that are not up, and of which a silent agent's word is missing.
    pub unknown: usize,
    /// Edges that are not as they should be, over which one end calls in vain, or that lose packets.
    pub troubled: RefSet,
}

/// What changed since it was last asked.
#[derive(Debug, Clone, Default)]
pub struct Touched {
    /// Agents whose settings, presence or edges changed.
    pub agents: AgentSet,
    /// Agents of which any report was taken.
    pub(super) reported: FoldSet<AgentIx>,
}

/// Counts of edges between agents, as of the last settling, and what is not well.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Health {
    up: usize,
    all: usize,
    unknown: usize,
    /// Edges that are not as they should be, of all layers but that of relays.
    sick: FoldSet<EdgeKey>,
    /// Agents that have a peer which they call in vain.
    callers: FoldSet<AgentIx>,
}

impl Health {
    /// Takes that an edge is no longer, or no longer like this.
    pub(super) fn forget(&mut self, key: EdgeKey, was: &Kept) {
        self.count(key, was, |count| *count -= 1);
        self.sick.remove(&key);
    }

    /// Takes how an edge is.
    pub(super) fn take(&mut self, key: EdgeKey, is: &Kept) {
        self.count(key, is, |count| *count += 1);
        let fine = is_well(is.state) || is.state == EdgeState::Unknown;
        if !fine && key.layer != Layer::Relay && matches!(key.far, Far::Agent(_)) {
            self.sick.insert(key);
        }
    }

    fn count(&mut self, key: EdgeKey, kept: &Kept, change: impl Fn(&mut usize)) {
        if key.layer != Layer::WireGuard || !matches!(key.far, Far::Agent(_)) {
            return;
        }
        change(&mut self.all);
        match is_well(kept.state) {
            true => change(&mut self.up),
            false if kept.dark => change(&mut self.unknown),
            false => {}
        }
    }

    /// Takes whether an agent calls in vain.
    pub(super) fn take_caller(&mut self, ix: AgentIx, calls: bool) {
        if calls {
            self.callers.insert(ix);
        } else {
            self.callers.remove(&ix);
        }
    }
}

fn is_well(state: EdgeState) -> bool {
    matches!(state, EdgeState::Up | EdgeState::Idle)
}

/// Whether an agent has a peer that it calls in vain.
pub(super) fn calls_in_vain(agent: &Agent) -> bool {
    agent.devices.iter().flat_map(|device| &device.briefs).any(|brief| brief.trying)
}

impl State {
    /// What changed since this was last asked.
    pub fn take_touched(&self) -> Touched {
        std::mem::take(&mut self.touched.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes that a report of an agent was taken.
    pub(super) fn note_report(&mut self, ix: AgentIx) {
        self.touched.get_mut().unwrap_or_else(PoisonError::into_inner).reported.insert(ix);
    }

    /// Whether an agent at an edge's ends is silent, so that its word is missing.
    pub(super) fn is_dark(&self, key: EdgeKey) -> bool {
        key.agents().into_iter().flatten().filter_map(|end| self.agent(end.agent())).any(|agent| agent.silent)
    }

    /// How the tunnels fare as of the last settling, with edges that lose packets among those of agents that
    /// reported since the last time: what the others' reports say was looked at then.
    #[must_use]
    pub fn tally(&self, touched: &Touched, loss_percent: f64) -> Tally {
        let Health { up, all, unknown, sick, callers } = &self.health;
        let mut troubled: RefSet = sick.iter().map(|key| EdgeRef(*key)).collect();
        // In order, as agents that came one after the other often have each other as peers.
        let mut reported: Vec<AgentIx> = touched.reported.iter().copied().collect();
        reported.sort_unstable();
        for ix in reported {
            self.each_lossy(ix, loss_percent, |key| {
                troubled.insert(EdgeRef(key));
            });
        }
        let mut called = Vec::new();
        callers.iter().for_each(|ix| self.called_in_vain(*ix, &mut called));
        let between = called.into_iter().filter(|key| matches!(key.far, Far::Agent(_)));
        troubled.extend(between.map(EdgeRef));
        Tally { up: *up, all: *all, unknown: *unknown, troubled }
    }

    /// The edges of the peers that an agent calls in vain.
    fn called_in_vain(&self, ix: AgentIx, found: &mut Vec<EdgeKey>) {
        for device in self.agent(ix).into_iter().flat_map(|agent| &agent.devices) {
            for brief in device.briefs.iter().filter(|brief| brief.trying) {
                wireguard::half_edges(self, Near::new(ix, device.slot), device, brief.key, found);
            }
        }
    }

    /// Calls `f` with each tunnel of an agent that loses at least so many percent either way.
    fn each_lossy(&self, ix: AgentIx, percent: f64, mut f: impl FnMut(EdgeKey)) {
        let Some(agent) = self.agent(ix) else { return };
        for key in agent.claims.iter().filter(|key| key.layer == Layer::WireGuard) {
            let Far::Agent(far) = key.far else { continue };
            let (own, other) = if key.near.agent() == ix { (key.near, far) } else { (far, key.near) };
            if self.loses(agent, own, other, percent) {
                f(*key);
            }
        }
    }

    fn loses(&self, agent: &Agent, own: Near, other: Near, percent: f64) -> bool {
        let Some(there) = self.agent(other.agent()) else { return false };
        let (Some(x), Some(y)) = (agent.device(own.slot), there.device(other.slot)) else { return false };
        let (Some(sent), Some(got)) = (y.key.and_then(|key| x.half(key)), x.key.and_then(|key| y.half(key)))
        else {
            return false;
        };
        [((agent, sent), (there, got)), ((there, got), (agent, sent))].into_iter().any(
            |((from, sent), (to, got))| {
                if !traffic::may_lose(&sent.samples, &got.samples, percent) {
                    return false;
                }
                let loss = traffic::loss((&sent.samples, &from.times), (&got.samples, &to.times));
                loss.is_some_and(|loss| loss.at_least_percent >= percent)
            },
        )
    }
}
