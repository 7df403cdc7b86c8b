//! The map for drawing: every node and edge in few bytes, and all that is known of one of them.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use proto::ids::Cidr;
use serde::Serialize;

use super::map::{self, Structure};
use crate::topology::{
    Edge, EdgeShape, EdgeState, Handshake, Layer, Mesh, Node, NodeKind, NodeShape, Presence, Relation, Site,
    State,
};

/// The map for drawing.
#[derive(Debug, Serialize)]
pub struct Brief {
    /// The moment (ms).
    pub at: i64,
    /// Nodes; edges name them by their place in this list.
    pub nodes: Vec<BriefNode>,
    /// Edges by id.
    pub edges: Vec<BriefEdge>,
    /// Agents that the internet sees at one address; empty for past moments.
    pub sites: Vec<Site>,
    /// Groups of agents joined by WireGuard edges; empty for past moments.
    pub meshes: Vec<Mesh>,
}

/// A node for drawing.
#[derive(Debug, Serialize)]
pub struct BriefNode {
    /// Its id.
    pub id: String,
    /// What it stands for.
    pub kind: NodeKind,
    /// What to call it.
    pub name: String,
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
pub struct BriefEdge {
    /// Its id.
    pub id: String,
    /// Which network it belongs to.
    pub layer: Layer,
    /// Places of its two ends in the list of nodes.
    pub ends: [usize; 2],
    /// The interface at each end, where one is known.
    pub interfaces: [Option<String>; 2],
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

/// The map as it is, for drawing.
#[must_use]
pub fn now(state: &State) -> Brief {
    let (sites, meshes) = state.groups();
    let mut brief = past(map::structure(state));
    let of_site = sites.iter().flat_map(|site| {
        let members = site.agents.iter().chain(&site.router);
        members.map(|id| (id.as_str(), site.address))
    });
    let addresses: HashMap<&str, IpAddr> = of_site.collect();
    for node in &mut brief.nodes {
        node.site = addresses.get(node.id.as_str()).copied();
    }
    Brief { sites, meshes, ..brief }
}

/// The map of a past moment, for drawing.
#[must_use]
pub fn past(structure: Structure) -> Brief {
    let edges = structure.edges.into_iter().map(|edge| {
        let [a, b] = edge.halves;
        ([a.map(|half| half.handshake), b.map(|half| half.handshake)], edge.edge)
    });
    brief(structure.at, structure.nodes, edges.collect())
}

fn brief(at: i64, nodes: Vec<NodeShape>, edges: Vec<([Option<Handshake>; 2], EdgeShape)>) -> Brief {
    let places: HashMap<String, usize> =
        nodes.iter().enumerate().map(|(place, node)| (node.id.clone(), place)).collect();
    let edges = edges.into_iter().filter_map(|(handshakes, edge)| {
        let [a, b] = edge.ends;
        Some(BriefEdge {
            id: edge.id,
            layer: edge.layer,
            ends: [*places.get(&a.node)?, *places.get(&b.node)?],
            interfaces: [a.interface, b.interface],
            relation: edge.relation,
            state: edge.state,
            since: edge.since,
            seen: edge.seen,
            handshakes: (handshakes != [None, None]).then_some(handshakes),
        })
    });
    let edges = edges.collect();
    let nodes = nodes.into_iter().map(|node| BriefNode {
        id: node.id,
        kind: node.kind,
        name: node.name,
        presence: node.presence,
        site: None,
        addresses: node.interfaces.into_iter().flat_map(|interface| interface.addresses).collect(),
    });
    Brief { at, nodes: nodes.collect(), edges, sites: Vec::new(), meshes: Vec::new() }
}

/// Everything known of one node or edge.
#[derive(Debug, Serialize)]
pub struct Part {
    /// The moment (ms).
    pub at: i64,
    /// The node, or the ends of the edge.
    pub nodes: Vec<Node>,
    /// The node's edges, without evidence; or the edge, with all of it.
    pub edges: Vec<Edge>,
    /// Names of all nodes that the edges lead to, by id.
    pub names: BTreeMap<String, String>,
}

/// Everything known of the node or edge of this id; `None` when there is none.
#[must_use]
pub fn part(state: &State, id: &str) -> Option<Part> {
    let topology = state.view(false);
    let edges = match state.edge(id) {
        Some(edge) => vec![edge],
        None => {
            let of = |edge: &Edge| edge.shape.ends.iter().any(|end| end.node == id);
            topology.edges.into_iter().filter(of).collect()
        }
    };
    let single = edges.len() == 1 && edges[0].shape.id == id;
    let (mut nodes, mut names) = (Vec::new(), BTreeMap::new());
    let is_end =
        |node: &Node| edges.iter().any(|edge| edge.shape.ends.iter().any(|end| end.node == node.shape.id));
    for node in topology.nodes {
        let ends = is_end(&node);
        if ends {
            names.insert(node.shape.id.clone(), node.shape.name.clone());
        }
        if node.shape.id == id || (single && ends) {
            nodes.push(node);
        }
    }
    (!nodes.is_empty()).then_some(Part { at: topology.at, nodes, edges, names })
}
