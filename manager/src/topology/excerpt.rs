//! The view of some agents alone, for alarms.

use std::collections::{BTreeSet, HashMap, HashSet};

use proto::ids::AgentId;

use super::edge::EdgeKey;
use super::record::{Agent, AgentIx};
use super::shape::Layer;
use super::view::{Edge, Node};
use super::{State, nat, render};

/// A part of the map with its figures.
#[derive(Debug, Clone, Default)]
pub struct Excerpt<'a> {
    /// The agents asked for, and those at the other ends of their edges.
    pub nodes: Vec<(AgentId, &'a Node)>,
    /// WireGuard and overlay edges of the agents asked for, by id.
    pub edges: Vec<Edge>,
}

impl State {
    /// The nodes of some agents, and of those at the other ends of their edges.
    #[must_use]
    pub fn nodes_around(&self, agents: &[AgentId]) -> HashMap<AgentId, Node> {
        let asked: HashSet<AgentIx> = agents.iter().filter_map(|id| self.find(*id)).collect();
        let mut shown = asked.clone();
        shown.extend(asked.iter().filter_map(|ix| self.agent(*ix)).flat_map(claimed).flat_map(ends_of));
        let nodes = shown.into_iter().filter_map(|ix| {
            let agent = self.agent(ix)?;
            let nat = nat::of(self, ix, asked.contains(&ix));
            let node = Node {
                shape: render::agent_shape(agent, &self.index.keys),
                observed_at: Some(agent.observed_at()),
                received_at: Some(agent.received_at),
                component: None,
                site: None,
                nat: nat.map(|seen| seen.nat),
            };
            Some((agent.id, node))
        });
        nodes.collect()
    }

    /// The view of some agents alone, with nodes that are known.
    #[must_use]
    pub fn excerpt<'a>(&self, agents: &[AgentId], nodes: &'a HashMap<AgentId, Node>) -> Excerpt<'a> {
        let asked: BTreeSet<AgentIx> = agents.iter().filter_map(|id| self.find(*id)).collect();
        let keys: HashSet<EdgeKey> =
            asked.iter().filter_map(|ix| self.agent(*ix)).flat_map(claimed).copied().collect();
        let mut shown = asked;
        shown.extend(keys.iter().flat_map(ends_of));
        let edges =
            keys.into_iter().filter_map(|key| Some(self.edge_view(key, self.edges.get(&key)?, false)));
        let mut edges: Vec<Edge> = edges.collect();
        edges.sort_unstable_by(|a, b| a.shape.id.cmp(&b.shape.id));
        let ids = shown.into_iter().filter_map(|ix| Some(self.agent(ix)?.id));
        Excerpt { nodes: ids.filter_map(|id| Some((id, nodes.get(&id)?))).collect(), edges }
    }
}

/// The edges of an agent that alarms look at.
fn claimed(agent: &Agent) -> impl Iterator<Item = &EdgeKey> {
    agent.claims.iter().filter(|key| matches!(key.layer, Layer::WireGuard | Layer::Overlay))
}

fn ends_of(key: &EdgeKey) -> impl Iterator<Item = AgentIx> + use<> {
    key.agents().into_iter().flatten().map(|near| near.agent)
}
