//! The map for drawing: every node and edge in few bytes, and all that is known of one of them.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use proto::ids::AgentId;
use serde::Serialize;

use super::map::Structure;
use crate::atlas::Atlas;
use crate::topology::{BriefEdge, BriefNode, Edge, Mesh, Node, Outside, Site, State};
use crate::turns::{Resettled, Turns};

/// Bytes that an edge takes at least: one of the relay layer.
const EDGE_MIN: usize = 150;

/// Nodes written in one step: a few milliseconds.
const STEP: usize = 4096;

/// The map would take too many bytes to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge;

/// The map as it is, for drawing, as JSON: which version of the map, `at`, `nodes` and `edges`, each by id,
/// `sites` of agents that the internet sees at one address, and `meshes` of agents joined by WireGuard edges. It may
/// have `room` bytes.
pub fn now(atlas: &Atlas, room: usize) -> (u64, Result<Vec<u8>, TooLarge>) {
    atlas.in_turns(|turns| {
        let version = turns.step()?.version();
        Ok((version, written(turns, room)?))
    })
}

fn written(turns: &mut Turns<'_>, room: usize) -> Result<Result<Vec<u8>, TooLarge>, Resettled> {
    let state = turns.step()?;
    let at = state.now();
    if state.edge_count() > room / EDGE_MIN {
        return Ok(Err(TooLarge));
    }
    let mut outside = Outside::default();
    for step in turns.step()?.link_steps() {
        turns.step()?.look_outside(step, &mut outside);
    }
    let sites = turns.step()?.sites(outside);
    let meshes = turns.step()?.meshes();
    let outline = turns.step()?.outline();
    turns.rest();
    let outline = outline.in_order();
    let of_site = sites.iter().flat_map(|site| {
        let members = site.agents.iter().chain(&site.router);
        members.map(|id| (*id, site.address))
    });
    let addresses: HashMap<AgentId, IpAddr> = of_site.collect();
    let mut json = Text::new(at, room);
    let mut spots = outline.spots().peekable();
    json.list("nodes");
    while spots.peek().is_some() {
        let state = turns.step()?;
        for spot in spots.by_ref().take(STEP) {
            let mut node = state.brief_node(spot);
            node.site = spot.agent().and_then(|id| addresses.get(&id)).copied();
            json.item(&node);
        }
        if json.is_too_large() {
            return Ok(Err(TooLarge));
        }
    }
    json.list("edges");
    for step in outline.edge_steps() {
        turns.step()?.brief_edges(&outline, step, |edge| json.item(&edge));
        if json.is_too_large() {
            return Ok(Err(TooLarge));
        }
    }
    turns.rest();
    Ok(json.end(&sites, &meshes))
}

/// The map of a past moment, for drawing, as JSON of `room` bytes at most; its sites and meshes are not
/// known.
///
/// # Errors
/// When it is too large to be sent.
pub fn past(structure: &Structure, room: usize) -> Result<Vec<u8>, TooLarge> {
    let places: HashMap<&str, usize> =
        structure.nodes.iter().enumerate().map(|(place, node)| (node.id.as_str(), place)).collect();
    let mut json = Text::new(structure.at, room);
    json.list("nodes");
    for node in &structure.nodes {
        json.item(&BriefNode::of(node));
    }
    json.list("edges");
    for edge in &structure.edges {
        let [a, b] = edge.edge.ends.each_ref().map(|end| places.get(end.node.as_str()));
        if let Some((a, b)) = a.zip(b) {
            json.item(&BriefEdge::of(edge, [*a, *b]));
        }
    }
    json.end(&[], &[])
}

/// The answer while it is written.
struct Text {
    json: Vec<u8>,
    /// Whether nothing is in the list yet.
    empty: bool,
    /// Bytes that it may have.
    room: usize,
}

impl Text {
    fn new(at: i64, room: usize) -> Self {
        Self { json: format!("{{\"at\":{at}").into_bytes(), empty: true, room }
    }

    /// Begins a list, and ends the one before.
    fn list(&mut self, name: &str) {
        let end = if self.json.contains(&b'[') { "]" } else { "" };
        self.json.extend_from_slice(format!("{end},\"{name}\":[").as_bytes());
        self.empty = true;
    }

    fn item(&mut self, value: &impl Serialize) {
        if !std::mem::take(&mut self.empty) {
            self.json.push(b',');
        }
        // Writing to memory cannot fail, and none of these refuses to be written.
        let _ = serde_json::to_writer(&mut self.json, value);
    }

    fn is_too_large(&self) -> bool {
        self.json.len() > self.room
    }

    fn end(mut self, sites: &[Site], meshes: &[Mesh]) -> Result<Vec<u8>, TooLarge> {
        self.list("sites");
        sites.iter().for_each(|site| self.item(site));
        self.list("meshes");
        meshes.iter().for_each(|mesh| self.item(mesh));
        self.json.extend_from_slice(b"]}");
        if self.is_too_large() { Err(TooLarge) } else { Ok(self.json) }
    }
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
