//! NetJSON NetworkGraph, for netjsongraph.js, OpenWISP, netdiff and the like.
//!
//! What it has to be is told at <https://netjson.org/rfc.html>: `protocol`, `version` and `metric` are
//! strings, ids are unique, a link's cost is a finite number. Links that do not work are there too, with
//! `status` "down" as OpenWISP writes it; `?state=up,idle` leaves them out for readers that take every
//! link for one that works.

use std::collections::{BTreeSet, HashMap};

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::picture::{Link, Picture, utc};
use crate::topology::{EdgeState, Handshake, NodeShape};

#[derive(Serialize)]
struct Graph<'a> {
    r#type: &'static str,
    label: String,
    protocol: &'static str,
    version: &'static str,
    metric: &'static str,
    nodes: Vec<Node<'a>>,
    links: Vec<Edge<'a>>,
}

#[derive(Serialize)]
struct Node<'a> {
    id: &'a str,
    label: &'a str,
    local_addresses: Vec<String>,
    properties: Map<String, Value>,
}

#[derive(Serialize)]
struct Edge<'a> {
    source: &'a str,
    target: &'a str,
    cost: f64,
    cost_text: String,
    properties: Map<String, Value>,
}

/// The map as a NetworkGraph.
#[must_use]
pub fn graph(picture: &Picture) -> String {
    let mut holders: HashMap<String, usize> = HashMap::new();
    for address in picture.nodes.iter().flat_map(addresses) {
        *holders.entry(address).or_default() += 1;
    }
    // Readers join nodes by their addresses, so one that several have, like docker's, would be a lie.
    let own = |node| addresses(node).into_iter().filter(|address| holders[address] == 1).collect();
    let nodes = picture.nodes.iter().map(|node| Node {
        id: &node.id,
        label: &node.name,
        local_addresses: own(node),
        properties: of_node(node),
    });
    let graph = Graph {
        r#type: "NetworkGraph",
        label: format!("kattila {}", utc(picture.at)),
        protocol: "kattila",
        version: env!("CARGO_PKG_VERSION"),
        metric: "static",
        nodes: nodes.collect(),
        links: picture.links.iter().map(|link| edge(link, picture.at)).collect(),
    };
    let mut text = serde_json::to_string(&graph).unwrap_or_default();
    text.push('\n');
    text
}

/// The node's addresses and those of its network cards, each once.
fn addresses(node: &NodeShape) -> BTreeSet<String> {
    let interfaces = node.interfaces.iter().filter(|interface| interface.name != "lo");
    interfaces
        .flat_map(|interface| {
            let addresses = interface.addresses.iter().map(|prefix| prefix.address().to_string());
            addresses.chain(interface.mac.clone())
        })
        .collect()
}

fn of_node(node: &NodeShape) -> Map<String, Value> {
    let mut properties = Map::new();
    properties.insert("kind".to_owned(), json!(node.kind));
    if let Some(presence) = node.presence {
        properties.insert("presence".to_owned(), json!(presence));
    }
    properties
}

fn edge(link: &Link, at: i64) -> Edge<'_> {
    let shape = &link.shape;
    let works = matches!(shape.state, EdgeState::Up | EdgeState::Idle);
    let status = match shape.state {
        EdgeState::Unknown => "unknown",
        _ if works => "up",
        _ => "down",
    };
    let mut properties = Map::new();
    let mut add = |name: &str, value: Value| {
        if !value.is_null() {
            properties.insert(name.to_owned(), value);
        }
    };
    add("id", json!(shape.id));
    add("kind", json!(shape.layer));
    add("status", json!(status));
    add("state", json!(shape.state));
    add("relation", json!(shape.relation));
    add("since", json!(utc(shape.since)));
    add("state_age_s", json!((at - shape.since).max(0) / 1000));
    for (end, letter) in ["a", "b"].into_iter().enumerate() {
        let mut add = |name: &str, value: Value| add(&format!("{name}_{letter}"), value);
        add("interface", json!(shape.ends[end].interface));
        add("seen", json!(shape.seen[end]));
        if let Some(half) = &link.halves[end] {
            add("handshake", json!(half.handshake));
            add("endpoint", json!(half.endpoint));
            add("keepalive_s", json!(half.keepalive_s));
        }
        if let Some(figures) = &link.figures[end] {
            add("handshake_age_s", json!(figures.handshake_age_s));
            add("rx_bytes", json!(figures.rx_bytes));
            add("tx_bytes", json!(figures.tx_bytes));
            add("rtt_ms", json!(figures.rtt_us.map(|us| f64::from(us) / 1000.0)));
            add("loss_percent", json!(figures.loss_percent));
        }
    }
    let [source, target] = &shape.ends;
    Edge { source: &source.node, target: &target.node, cost: 1.0, cost_text: in_words(link), properties }
}

fn in_words(link: &Link) -> String {
    let layer = link.shape.layer.name();
    let age = link.figures.iter().flatten().filter_map(|figures| figures.handshake_age_s).min();
    match age {
        Some(age) => format!("{layer} {}, handshake {age} s ago", link.shape.state.name()),
        None if link.halves.iter().flatten().any(|half| half.handshake == Handshake::Never) => {
            format!("{layer} {}, no handshake", link.shape.state.name())
        }
        None => format!("{layer} {}", link.shape.state.name()),
    }
}
