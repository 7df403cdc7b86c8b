//! The map for drawing, node by node and edge by edge, in the order that it is written in.
//!
//! An outline tells which nodes there are, and at which place of the list each is, by numbers alone. Edges name
//! their nodes by those places, so that it serves until the map is settled anew.

use std::borrow::Cow;
use std::net::IpAddr;
use std::ops::Range;

use proto::ids::{AgentId, Cidr};
use serde::Serialize;

use super::edge::{EdgeKey, Far};
use super::fold::FoldMap;
use super::link::{Link, steps};
use super::record::{Agent, AgentIx};
use super::render::{self, MANAGER};
use super::settle::{FarKey, far_key};
use super::shape::{EdgeState, Handshake, Layer, MapEdge, NodeKind, NodeShape, Presence, Relation};
use super::{State, edge};

/// Layers in order of their names, with which ids of edges begin.
const LAYERS: [Layer; 4] = [Layer::Overlay, Layer::Physical, Layer::Relay, Layer::WireGuard];

/// A node for drawing.
#[derive(Debug, Serialize)]
pub struct BriefNode<'a> {
    /// Its id.
    pub id: Cow<'a, str>,
    /// What it stands for.
    pub kind: NodeKind,
    /// What to call it.
    pub name: Cow<'a, str>,
    /// Whether an agent reports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presence: Option<Presence>,
    /// Address of its site.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub site: Option<IpAddr>,
    /// Its addresses, to be searched for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Cidr>,
}

/// An edge for drawing.
#[derive(Debug, Serialize)]
pub struct BriefEdge<'a> {
    /// Its id.
    pub id: &'a str,
    /// Which network it belongs to.
    pub layer: Layer,
    /// Places of its two ends in the list of nodes.
    pub ends: [usize; 2],
    /// The interface at each end, where one is known.
    pub interfaces: [Option<&'a str>; 2],
    /// How the ends belong together.
    pub relation: Relation,
    /// Its state.
    pub state: EdgeState,
    /// Since when it is in this state (ms).
    pub since: i64,
    /// Whether the host at each end says so itself.
    pub seen: [bool; 2],
    /// How old the last handshake is as each end sees it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handshakes: Option<[Option<Handshake>; 2]>,
}

/// The nodes of the map as of one settling.
#[derive(Debug)]
pub struct Outline {
    /// Agents by id.
    agents: Vec<(AgentId, AgentIx)>,
    /// The other nodes by id; the manager's has no key.
    others: Vec<(String, Option<FarKey>)>,
    /// Place of each agent's node, by its index.
    agent_places: Vec<Option<u32>>,
    far_places: FoldMap<FarKey, u32>,
    manager_place: Option<u32>,
}

/// A node in its place.
#[derive(Debug, Clone, Copy)]
pub struct Spot<'a>(Who<'a>);

#[derive(Debug, Clone, Copy)]
enum Who<'a> {
    Agent(AgentId, AgentIx),
    Other(&'a str, Option<FarKey>),
}

impl Spot<'_> {
    /// The agent, where it is one's node.
    #[must_use]
    pub fn agent(&self) -> Option<AgentId> {
        if let Who::Agent(id, _) = self.0 { Some(id) } else { None }
    }
}

impl Outline {
    /// Puts the nodes in order. Apart from [`State::outline`], as it needs the state no more.
    #[must_use]
    pub fn in_order(mut self) -> Self {
        self.agents.sort_unstable();
        self.others.sort_unstable();
        // Those of agents that are gone have no names of their own any more, and no edges that are told.
        self.others.dedup_by(|a, b| a.0 == b.0);
        let mut agent_places = std::mem::take(&mut self.agent_places);
        let (mut far_places, mut manager_place) = (std::mem::take(&mut self.far_places), None);
        for (place, Spot(who)) in (0..).zip(self.spots()) {
            match who {
                Who::Agent(_, ix) => agent_places[ix as usize] = Some(place),
                Who::Other(_, Some(far)) => drop(far_places.insert(far, place)),
                Who::Other(_, None) => manager_place = Some(place),
            }
        }
        Self { agent_places, far_places, manager_place, ..self }
    }

    /// All nodes by id.
    pub fn spots(&self) -> impl Iterator<Item = Spot<'_>> {
        let (mut agents, mut others) = (self.agents.iter().peekable(), self.others.iter().peekable());
        std::iter::from_fn(move || {
            let is_agent = match (agents.peek(), others.peek()) {
                (Some((agent, _)), Some((other, _))) => agent.to_string() < *other,
                (agent, _) => agent.is_some(),
            };
            if is_agent {
                agents.next().map(|(id, ix)| Spot(Who::Agent(*id, *ix)))
            } else {
                others.next().map(|(id, far)| Spot(Who::Other(id, *far)))
            }
        })
    }

    /// All edges in steps, by id: each is for [`State::brief_edges`].
    pub fn edge_steps(&self) -> impl Iterator<Item = (Layer, Range<usize>)> {
        LAYERS.into_iter().flat_map(|layer| steps(self.agents.len()).map(move |step| (layer, step)))
    }

    /// Places of the nodes at an edge's ends.
    fn places(&self, key: EdgeKey) -> Option<[usize; 2]> {
        let agent = |ix: AgentIx| self.agent_places.get(ix as usize).copied().flatten();
        let far = match key.far {
            Far::Agent(far) => agent(far.agent()),
            Far::Manager => self.manager_place,
            _ => self.far_places.get(&far_key(key)?).copied(),
        };
        Some([agent(key.near.agent())? as usize, far? as usize])
    }
}

impl State {
    /// Which nodes there are, as of the last settling; yet to be put in order.
    #[must_use]
    pub fn outline(&self) -> Outline {
        let agents = self.agents.iter().zip(0..).filter_map(|(agent, ix)| Some((agent.as_deref()?.id, ix)));
        let far_id = |(far, near): FarKey| render::far_id(self, far, near);
        let fars = self.fars.keys().map(|far| (far_id(*far), Some(*far)));
        Outline {
            agents: agents.collect(),
            others: fars.chain([(MANAGER.to_owned(), None)]).collect(),
            agent_places: vec![None; self.agents.len()],
            far_places: FoldMap::default(),
            manager_place: None,
        }
    }

    /// A node for drawing. Of an agent that was forgotten since the outline was made, only the place is left.
    #[must_use]
    pub fn brief_node<'a>(&'a self, spot: Spot<'a>) -> BriefNode<'a> {
        match spot.0 {
            Who::Agent(id, ix) => self.agent(ix).map_or_else(|| BriefNode::gone(id), BriefNode::agent),
            Who::Other(id, _) => {
                let NodeShape { kind, name, .. } = render::far_shape(id);
                let (id, name) = (id.into(), name.into());
                BriefNode { id, kind, name, presence: None, site: None, addresses: Vec::new() }
            }
        }
    }

    /// Tells the edges of one step, by id. Those of an agent that was forgotten since are left out.
    pub fn brief_edges(
        &self,
        outline: &Outline,
        (layer, step): (Layer, Range<usize>),
        mut tell: impl FnMut(BriefEdge<'_>),
    ) {
        let mut found: Vec<(String, Link<'_>)> = Vec::new();
        for (_, ix) in &outline.agents[step] {
            let edges = self.edges.of(*ix).iter().rev().filter(|(key, _)| key.layer == layer);
            let links = edges.map(|(key, kept)| Link { state: self, key: *key, kept: *kept });
            // An id begins with the layer and the first agent, so that these few are all that is to be sorted.
            found.extend(links.map(|link| (render::id_of(self, link.key), link)));
            if found.len() > 1 {
                found.sort_by(|a, b| a.0.cmp(&b.0));
                // Odd names of interfaces can make two ids the same: the last is told, as everywhere.
                found.dedup_by(|a, b| a.0 == b.0);
            }
            for (id, link) in found.drain(..) {
                let mut agents = link.key.agents().into_iter().flatten();
                let all_there = agents.all(|near| self.agent(near.agent()).is_some());
                if let Some(ends) = outline.places(link.key).filter(|_| all_there) {
                    tell(self.brief_edge(&id, ends, link));
                }
            }
        }
    }

    fn brief_edge<'a>(&'a self, id: &'a str, ends: [usize; 2], link: Link<'a>) -> BriefEdge<'a> {
        let edge::Facts { relation, seen, .. } = edge::evaluate(self, link.key);
        let handshakes = link.halves().map(|half| half.map(|half| half.handshake()));
        BriefEdge {
            id,
            layer: link.layer(),
            ends,
            interfaces: link.interfaces(),
            relation,
            state: link.state(),
            since: link.kept.since,
            seen,
            handshakes: (handshakes != [None, None]).then_some(handshakes),
        }
    }
}

impl<'a> BriefNode<'a> {
    /// A node as the history has it.
    #[must_use]
    pub fn of(node: &'a NodeShape) -> Self {
        Self {
            id: node.id.as_str().into(),
            kind: node.kind,
            name: node.name.as_str().into(),
            presence: node.presence,
            site: None,
            addresses: node.interfaces.iter().flat_map(|interface| &interface.addresses).copied().collect(),
        }
    }

    fn agent(agent: &'a Agent) -> Self {
        let mut interfaces: Vec<_> = agent.interfaces.iter().collect();
        interfaces.sort_by_key(|interface| agent.name(interface.slot));
        let id = agent.id.to_string();
        Self {
            name: if agent.hostname.is_empty() { id.clone().into() } else { (&*agent.hostname).into() },
            id: id.into(),
            kind: NodeKind::Agent,
            presence: Some(if agent.silent { Presence::Silent } else { Presence::Fresh }),
            site: None,
            addresses: interfaces.iter().flat_map(|interface| agent.addresses(interface)).copied().collect(),
        }
    }

    fn gone(id: AgentId) -> Self {
        let (kind, presence) = (NodeKind::Agent, Some(Presence::Silent));
        let id = id.to_string();
        Self { name: id.clone().into(), id: id.into(), kind, presence, site: None, addresses: Vec::new() }
    }
}

impl<'a> BriefEdge<'a> {
    /// An edge as the history has it, with the places of its ends.
    #[must_use]
    pub fn of(MapEdge { edge, halves }: &'a MapEdge, ends: [usize; 2]) -> Self {
        let handshakes = halves.each_ref().map(|half| half.as_ref().map(|half| half.handshake));
        Self {
            id: &edge.id,
            layer: edge.layer,
            ends,
            interfaces: edge.ends.each_ref().map(|end| end.interface.as_deref()),
            relation: edge.relation,
            state: edge.state,
            since: edge.since,
            seen: edge.seen,
            handshakes: (handshakes != [None, None]).then_some(handshakes),
        }
    }
}
