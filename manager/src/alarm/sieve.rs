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
/// Where there are more agents than this, sweeps are made more rarely, and no two at one evaluation.
const LARGE: usize = 1000;
/// And then each once in so long (ms).
const SWEEP_PERIOD: i64 = 30_000;
/// After so many sweeps of a map that does not change, another finds what they found: the first one's parts are
/// what the second remembers.
const SETTLED: u8 = 2;

/// What is looked at in all hosts, or in the mesh as a whole, which takes a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sweep {
    /// Which hosts hang together.
    Parts,
    /// Which hosts the mesh hangs on.
    Cuts,
    /// What hosts see on their LANs.
    Lans,
}

const SWEEPS: [Sweep; 3] = [Sweep::Parts, Sweep::Cuts, Sweep::Lans];

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
    /// How each of [`SWEEPS`] went the last time.
    swept: [Swept; 3],
    is_open: bool,
}

/// What a sweep found.
#[derive(Debug, Default)]
struct Swept {
    at: i64,
    found: Vec<Finding>,
    /// Sweeps since the map changed.
    unchanged: u8,
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
        if !touched.agents.is_empty() {
            self.swept.iter_mut().for_each(|swept| swept.unchanged = 0);
        }
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

    /// The sweeps that it is time for: in a large fleet the one that was longest ago, if any, and it is not made
    /// where it would find nothing again.
    pub(super) fn due(&mut self, now: i64, agents: usize) -> Vec<Sweep> {
        let mut due: Vec<Sweep> = SWEEPS.to_vec();
        if agents > LARGE {
            due.retain(|sweep| now - self.swept[*sweep as usize].at >= SWEEP_PERIOD);
            due.sort_by_key(|sweep| self.swept[*sweep as usize].at);
            due.truncate(1);
        }
        due.iter().for_each(|sweep| self.swept[*sweep as usize].at = now);
        due.retain(|sweep| self.is_open || !self.swept[*sweep as usize].is_settled(*sweep));
        due
    }

    /// Takes what a sweep found.
    pub(super) fn note_sweep(&mut self, sweep: Sweep, found: Vec<Finding>) {
        let swept = &mut self.swept[sweep as usize];
        swept.found = found;
        swept.unchanged = swept.unchanged.saturating_add(1);
    }

    /// What the last sweeps found.
    pub(super) fn swept(&self) -> impl Iterator<Item = &Finding> {
        self.swept.iter().flat_map(|swept| &swept.found)
    }
}

impl Swept {
    /// Whether the next one finds nothing, as the last ones did. What hosts see on their LANs is not in the map.
    fn is_settled(&self, sweep: Sweep) -> bool {
        sweep != Sweep::Lans && self.found.is_empty() && self.unchanged >= SETTLED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sweeps_of_a_large_fleet_come_one_by_one_and_end_where_nothing_changes() {
        let mut sieve = Sieve::default();
        let mut sweeps: Vec<Vec<Sweep>> = Vec::new();
        for turn in 0..18 {
            let due = sieve.due(1_000_000 + turn * 5_000, LARGE + 1);
            due.iter().for_each(|sweep| sieve.note_sweep(*sweep, Vec::new()));
            sweeps.push(due);
        }
        let of = |sweep: Sweep| {
            let turns = (0..).zip(&sweeps).filter(move |(_, due)| due.contains(&sweep));
            turns.map(|(turn, _)| turn).collect::<Vec<i32>>()
        };
        assert_eq!((of(Sweep::Parts), of(Sweep::Cuts)), (vec![0, 6], vec![1, 7]));
        assert_eq!(of(Sweep::Lans), [2, 8, 14], "the map does not tell whether they change");
        let found = vec![Finding::new("ARTICULATION_NODE", "a")];
        sieve.note_sweep(Sweep::Cuts, found);
        assert_eq!(sieve.due(1_000_000 + 90_000, LARGE), [Sweep::Cuts, Sweep::Lans], "what goes on may end");
    }
}
