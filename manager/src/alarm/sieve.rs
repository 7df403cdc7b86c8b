//! Which agents a rule may have something to say of. All rules over all edges every five seconds
//! would cost seconds at 10,000 agents; hosts that are well are passed over.

use std::collections::BTreeSet;

use proto::ids::AgentId;

use super::Finding;
use super::path::LOSS;
use super::watch::Watches;
use crate::topology::{AgentSet, State, Tally, Touched};

/// Agents are asked for their NAT in turn, so many groups in all: once in five minutes.
const NAT_GROUPS: usize = 64;
/// And in a small fleet so many at once.
const NAT_GROUP: usize = 16;
/// Where there are more agents than this, the mesh as a whole is looked at more rarely.
const LARGE: usize = 1000;
/// And then once in so long (ms).
const MESH_PERIOD: i64 = 30_000;

/// What was found the last time, and whose turn it is.
#[derive(Debug, Default)]
pub struct Sieve {
    /// Agents of which something was found: what goes on, or ends, is looked at again.
    hot: BTreeSet<AgentId>,
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

    /// The agents to look at: those that changed, those that something was found of, those whose
    /// counters are odd, and those at the ends of edges that are not well or over which one end hears
    /// nothing of what the other sends. Of all others nothing was
    /// found before, and nothing that a rule rests on has changed since.
    pub(super) fn pick(
        &mut self,
        now: i64,
        touched: Touched,
        state: &State,
        watches: &Watches,
        relayed: &[AgentId],
    ) -> (AgentSet, Tally) {
        let tally = state.tally(&touched, LOSS);
        let mut picked = touched.agents;
        picked.extend(&self.hot);
        picked.extend(&tally.troubled);
        picked.extend(watches.odd(now));
        picked.extend(relayed);
        watches.each_unheard(now, state, |ends| picked.extend(ends));
        let groups = state.len().div_ceil(NAT_GROUP).clamp(1, NAT_GROUPS);
        picked.extend(state.natted(self.turn % groups, groups));
        self.turn = self.turn.wrapping_add(1);
        if self.is_open {
            picked.extend(state.ids());
        }
        (picked, tally)
    }

    /// Takes what the rules of single hosts and edges found.
    pub(super) fn note(&mut self, found: &[Finding]) {
        self.hot = found.iter().flat_map(|finding| finding.agents.iter().copied()).collect();
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
