//! Which agents a rule may have something to say of. All rules over all edges every five seconds
//! would cost seconds at 10,000 agents; hosts that are well are passed over.

use std::collections::HashMap;

use proto::ids::AgentId;

use super::Finding;
use super::path::LOSS;
use super::watch::Watches;
use crate::topology::{AgentSet, EdgeRef, Excerpt, RefSet, State, Tally, Touched};

/// Agents are asked for their NAT in turn, so many groups in all: once in five minutes.
const NAT_GROUPS: usize = 64;
/// And in a small fleet so many at once.
const NAT_GROUP: usize = 16;
/// Where there are more agents than this, the mesh as a whole is looked at more rarely.
const LARGE: usize = 1000;
/// And then once in so long (ms).
const MESH_PERIOD: i64 = 30_000;

/// What rules are to look at.
#[derive(Debug, Default)]
pub(super) struct Picked {
    /// Agents, in order: themselves and all their edges.
    pub(super) agents: Vec<AgentId>,
    /// Edges by themselves, in order.
    pub(super) edges: Vec<EdgeRef>,
}

/// What was found the last time, and whose turn it is.
#[derive(Debug, Default)]
pub struct Sieve {
    /// Agents of which something was found: what goes on, or ends, is looked at again.
    hot: AgentSet,
    /// Edges of which something was found.
    hot_edges: RefSet,
    turn: usize,
    mesh_at: i64,
    mesh: Vec<Finding>,
    is_open: bool,
}

impl Sieve {
    /// One that lets every agent through: what a sieve must not lose is told by comparing with it.
    #[must_use]
    pub fn open() -> Self {
        Self { is_open: true, ..Self::default() }
    }

    /// What to look at: agents that changed, those that something was found of, those whose counters are odd;
    /// and edges that something was found of, those that are not well, and those over which one end hears
    /// nothing of what the other sends. Of all others nothing was found before, and nothing that a rule rests
    /// on has changed since.
    pub(super) fn pick(
        &mut self,
        now: i64,
        touched: Touched,
        state: &State,
        watches: &Watches,
        relayed: &[AgentId],
    ) -> (Picked, Tally) {
        let tally = state.tally(&touched, LOSS);
        let mut agents = touched.agents;
        agents.extend(self.hot.drain());
        agents.extend(watches.odd(now));
        agents.extend(relayed);
        let groups = state.len().div_ceil(NAT_GROUP).clamp(1, NAT_GROUPS);
        agents.extend(state.natted(self.turn % groups, groups));
        self.turn = self.turn.wrapping_add(1);
        if self.is_open {
            agents.extend(state.ids());
        }
        let mut edges = std::mem::take(&mut self.hot_edges);
        edges.extend(&tally.troubled);
        watches.each_unheard(now, state, |ends| edges.extend(state.edges_between(ends)));
        edges.retain(|edge| !state.is_of(*edge, |id| agents.contains(id)));
        let (mut agents, mut edges) = (Vec::from_iter(agents), Vec::from_iter(edges));
        agents.sort_unstable();
        edges.sort_unstable();
        (Picked { agents, edges }, tally)
    }

    /// Takes what the rules of single hosts and edges found in a part of the map. Of a finding about an edge
    /// that edge alone is hot.
    pub(super) fn note(&mut self, found: &[Finding], excerpt: &Excerpt<'_>) {
        let edges: HashMap<&str, EdgeRef> = excerpt
            .edges
            .iter()
            .zip(&excerpt.refs)
            .map(|(edge, (place, _))| (edge.shape.id.as_str(), *place))
            .collect();
        for finding in found {
            let about = finding.subject.split(' ').next().unwrap_or_default();
            match edges.get(about) {
                Some(edge) => drop(self.hot_edges.insert(*edge)),
                None => self.hot.extend(&finding.agents),
            }
        }
    }

    /// Whether the mesh as a whole is to be looked at again.
    pub(super) fn is_mesh_due(&self, now: i64, agents: usize) -> bool {
        agents <= LARGE || now - self.mesh_at >= MESH_PERIOD
    }

    /// Takes what was found of the mesh as a whole.
    pub(super) fn note_mesh(&mut self, now: i64, found: &[Finding]) {
        (self.mesh_at, self.mesh) = (now, found.to_vec());
    }

    /// What was last found of the mesh as a whole.
    pub(super) fn mesh(&self) -> &[Finding] {
        &self.mesh
    }
}
