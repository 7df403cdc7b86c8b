//! The view of some agents and edges alone, for alarms.

use std::collections::BTreeSet;

use proto::ids::AgentId;

use super::edge::{EdgeKey, Far};
use super::evidence::Evidence;
use super::fold::{FoldSet, RefSet};
use super::host::HostView;
use super::record::{Agent, AgentIx, Half, NEVER};
use super::shape::Layer;
use super::view::Edge;
use super::{State, nat, render};

/// A handshake of this age (s) is live in any case.
pub const LIVE_S: u32 = 180;

/// An edge, by which it is asked for again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EdgeRef(pub(super) EdgeKey);

/// A part of the map with its figures.
#[derive(Debug, Clone, Default)]
pub struct Excerpt<'a> {
    /// The agents asked for, and those at the ends of the edges.
    pub hosts: Vec<HostView<'a>>,
    /// WireGuard and overlay edges, by id: those asked for, those of the agents asked for, and witnesses: those
    /// of agents to whom one of the former may lead no longer.
    pub edges: Vec<Edge>,
    /// For each of `edges` how to ask for it again, and whether it was asked for.
    pub refs: Vec<(EdgeRef, bool)>,
}

impl State {
    /// What an agent's peers say of its NAT: many words, that few ask for.
    #[must_use]
    pub fn nat_evidence(&self, id: AgentId) -> Vec<Evidence> {
        let seen = self.find(id).and_then(|ix| nat::of(self, ix, true));
        seen.map(|seen| seen.nat.evidence).unwrap_or_default()
    }

    /// How many edges come with an agent that is asked for.
    #[must_use]
    pub fn edges_with(&self, id: AgentId) -> usize {
        self.find(id).and_then(|ix| self.agent(ix)).map_or(0, |agent| claimed(agent).count())
    }

    /// The view of some agents and edges alone.
    #[must_use]
    pub fn excerpt(&self, agents: &[AgentId], edges: &[EdgeRef]) -> Excerpt<'_> {
        let asked: FoldSet<AgentIx> = agents.iter().filter_map(|id| self.find(*id)).collect();
        let (keys, witnesses) = self.keys_of(&asked, edges);
        let mut shown: BTreeSet<AgentIx> = asked.into_iter().collect();
        shown.extend(keys.iter().chain(&witnesses).flat_map(ends_of));
        let keys = keys.into_iter().map(|key| (key, true));
        let keys = keys.chain(witnesses.into_iter().map(|key| (key, false)));
        let views = keys.filter_map(|(key, is_asked)| {
            Some((self.edge_view(key, self.edges.get(&key)?, false), (EdgeRef(key), is_asked)))
        });
        let mut views: Vec<(Edge, (EdgeRef, bool))> = views.collect();
        views.sort_unstable_by(|a, b| a.0.shape.id.cmp(&b.0.shape.id));
        let (edges, refs) = views.into_iter().unzip();
        Excerpt { hosts: shown.into_iter().filter_map(|ix| self.host(ix)).collect(), edges, refs }
    }

    /// The edges of some agents with some others, and the witnesses beside them.
    fn keys_of(&self, asked: &FoldSet<AgentIx>, edges: &[EdgeRef]) -> (FoldSet<EdgeKey>, FoldSet<EdgeKey>) {
        let mut keys: FoldSet<EdgeKey> =
            asked.iter().filter_map(|ix| self.agent(*ix)).flat_map(claimed).copied().collect();
        keys.extend(edges.iter().map(|edge| edge.0).filter(|key| self.edges.contains(key)));
        let lost: FoldSet<AgentIx> = keys.iter().flat_map(|key| self.perhaps_elsewhere(*key)).collect();
        let theirs = lost.into_iter().filter_map(|ix| self.agent(ix)).flat_map(claimed);
        let witnesses =
            theirs.filter(|key| key.layer == Layer::WireGuard && !keys.contains(key)).copied().collect();
        (keys, witnesses)
    }

    /// The agents at a tunnel's ends that the other end calls in vain, so that they may be elsewhere.
    fn perhaps_elsewhere(&self, key: EdgeKey) -> impl Iterator<Item = AgentIx> + use<> {
        let waits = |half: &Half| half.keepalive_s > 0 && (half.age_s == NEVER || half.age_s > LIVE_S);
        let calls = render::halves(self, key)
            .map(|half| half.is_some_and(|(_, half)| half.samples.unanswered() || waits(half)));
        // Of one that is silent nothing is known, wherever it is.
        let far = if let Far::Agent(far) = key.far { Some(far.agent()) } else { None };
        let far = far.filter(|_| !self.is_dark(key));
        let ends = [far.filter(|_| calls[0]), far.map(|_| key.near.agent()).filter(|_| calls[1])];
        ends.into_iter().flatten()
    }

    /// Whether an edge is one that some of these agents tell of.
    #[must_use]
    pub fn is_of(&self, edge: EdgeRef, agents: impl Fn(&AgentId) -> bool) -> bool {
        ends_of(&edge.0)
            .filter_map(|ix| self.agent(ix))
            .any(|agent| agents(&agent.id) && agent.claims.binary_search(&edge.0).is_ok())
    }

    /// The WireGuard edges between two agents.
    #[must_use]
    pub fn edges_between(&self, [a, b]: [AgentId; 2]) -> RefSet {
        let (Some(a), Some(b)) = (self.find(a), self.find(b)) else { return RefSet::default() };
        let claims = [a, b].into_iter().filter_map(|ix| self.agent(ix)).flat_map(claimed);
        let tunnels = claims.filter(|key| key.layer == Layer::WireGuard);
        tunnels
            .filter(|key| ends_of(key).eq([a, b]) || ends_of(key).eq([b, a]))
            .map(|key| EdgeRef(*key))
            .collect()
    }
}

/// The edges of an agent that alarms look at.
fn claimed(agent: &Agent) -> impl Iterator<Item = &EdgeKey> {
    agent.claims.iter().filter(|key| matches!(key.layer, Layer::WireGuard | Layer::Overlay))
}

fn ends_of(key: &EdgeKey) -> impl Iterator<Item = AgentIx> + use<> {
    key.agents().into_iter().flatten().map(|near| near.agent())
}
