//! The map for drawing and links one at a time, held against the whole map and the whole view.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use serde::Serialize;

use super::*;
use crate::atlas::Atlas;
use crate::topology::{EdgeState, Handshake, Layer, Link, Mesh, NodeKind, Presence, Relation, Site};
use crate::view::{brief, map};
use proto::ids::Cidr;

/// The brief map as it was made before it was written as it is found: from everything at once.
#[derive(Serialize)]
struct Brief {
    at: i64,
    nodes: Vec<BriefNode>,
    edges: Vec<BriefEdge>,
    sites: Vec<Site>,
    meshes: Vec<Mesh>,
}

#[derive(Serialize)]
struct BriefNode {
    id: String,
    kind: NodeKind,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence: Option<Presence>,
    #[serde(skip_serializing_if = "Option::is_none")]
    site: Option<IpAddr>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    addresses: Vec<Cidr>,
}

#[derive(Serialize)]
struct BriefEdge {
    id: String,
    layer: Layer,
    ends: [usize; 2],
    interfaces: [Option<String>; 2],
    relation: Relation,
    state: EdgeState,
    since: i64,
    seen: [bool; 2],
    #[serde(skip_serializing_if = "Option::is_none")]
    handshakes: Option<[Option<Handshake>; 2]>,
}

impl Brief {
    fn of(at: i64, map: Map, sites: Vec<Site>, meshes: Vec<Mesh>) -> Self {
        let mut addresses = HashMap::new();
        for site in &sites {
            addresses.extend(site.agents.iter().chain(&site.router).map(|id| (id.to_string(), site.address)));
        }
        let places: BTreeMap<String, usize> = map.nodes.keys().cloned().zip(0..).collect();
        let nodes = map.nodes.into_values().map(|node| BriefNode {
            site: addresses.get(&node.id).copied(),
            id: node.id,
            kind: node.kind,
            name: node.name,
            presence: node.presence,
            addresses: node.interfaces.into_iter().flat_map(|interface| interface.addresses).collect(),
        });
        let edges = map.edges.into_values().filter_map(|edge| {
            let handshakes = edge.halves.map(|half| half.map(|half| half.handshake));
            let [a, b] = edge.edge.ends;
            Some(BriefEdge {
                id: edge.edge.id,
                layer: edge.edge.layer,
                ends: [*places.get(&a.node)?, *places.get(&b.node)?],
                interfaces: [a.interface, b.interface],
                relation: edge.edge.relation,
                state: edge.edge.state,
                since: edge.edge.since,
                seen: edge.edge.seen,
                handshakes: (handshakes != [None, None]).then_some(handshakes),
            })
        });
        let (nodes, edges) = (nodes.collect(), edges.collect());
        Self { at, nodes, edges, sites, meshes }
    }

    fn json(&self) -> String {
        serde_json::to_string(self).unwrap()
    }
}

/// What is written as it is found is what was made of everything at once, now and of the past.
fn compare_brief(state: State) -> State {
    let view = state.view(false);
    let past = map::structure(&state);
    let all = Brief::of(state.now(), state.map(), view.sites, view.meshes).json();
    let atlas = Atlas::from(state);
    let now = brief::now(&atlas, usize::MAX).1.unwrap();
    assert_eq!(String::from_utf8(now).unwrap(), all);
    let state = std::mem::take(&mut *atlas.state_mut());
    let all = Brief::of(state.now(), state.map(), Vec::new(), Vec::new()).json();
    assert_eq!(String::from_utf8(brief::past(&past, usize::MAX).unwrap()).unwrap(), all);
    state
}

/// A link says what the view says of the edge.
fn compare_links(state: &State) {
    let mut links: Vec<(String, Link<'_>)> = Vec::new();
    for step in state.link_steps() {
        links.extend(state.links(step).map(|link| (render::id_of(state, link.key), link)));
    }
    links.sort_by(|a, b| a.0.cmp(&b.0));
    let edges = state.view(false).edges;
    let mut nodes = ["what was there".to_owned(), String::new()];
    assert_eq!(links.len(), edges.len());
    for ((id, link), edge) in links.into_iter().zip(edges) {
        let shape = edge.shape;
        assert_eq!((&id, link.layer(), link.state()), (&shape.id, shape.layer, shape.state));
        link.write_nodes(&mut nodes);
        assert_eq!(nodes, shape.ends.clone().map(|end| end.node));
        assert_eq!(link.agents(), shape.ends.clone().map(|end| end.node.parse().ok()));
        assert_eq!(
            link.interfaces().map(|name| name.map(str::to_owned)),
            shape.ends.map(|end| end.interface)
        );
        let halves = edge.halves.unwrap_or_default();
        for (half, view) in link.halves().into_iter().zip(halves) {
            let Some((half, view)) = half.zip(view.clone()) else {
                assert!(half.is_none() && view.is_none());
                continue;
            };
            assert_eq!((half.peer(), half.handshake()), (view.shape.peer, view.shape.handshake));
            assert_eq!(half.allowed_ips().collect::<Vec<_>>(), view.shape.allowed_ips);
            assert_eq!((half.bytes(), half.rtt_us()), ((view.rx_bytes, view.tx_bytes), view.rtt_us));
            assert_eq!(half.loss(), view.loss);
            let age = view.handshake_age_s;
            assert_eq!(half.handshake_at(), age.map(|age| (view.observed_at / 1000 - i64::from(age)).max(0)));
        }
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn what_is_written_as_it_is_found_is_all_there_is(ops in vec(arb_op(), 1..40), last in vec(arb_op(), 0..4)) {
        let mut fleet = Fleet::default();
        ops.into_iter().for_each(|op| fleet.run(op));
        fleet.settle();
        compare_links(&fleet.state);
        fleet.state = compare_brief(fleet.state);
        // Also with reports, and agents that are gone, that no settling has seen yet.
        last.into_iter().for_each(|op| fleet.run(op));
        compare_brief(fleet.state);
    }
}
