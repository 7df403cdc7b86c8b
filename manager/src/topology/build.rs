//! The view of the whole state, and of one edge.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Range;

use proto::ids::AgentId;
use serde::ser::{SerializeMap as _, SerializeStruct as _};
use serde::{Serialize, Serializer};

use super::edge::{EdgeKey, Kept};
use super::record::{self, Agent, AgentIx, Endpoint, NO_SLOT, mac_text};
use super::render::{self, MANAGER};
use super::shape::{HalfShape, Layer, Map, MapEdge, NodeShape};
use super::view::{Edge, Half, Mesh, Node, Site, Topology, Underlay};
use super::{State, evidence, mesh, nat, overlay, underlay};

/// The structure of a state's whole map.
#[derive(Debug)]
pub struct Structure<'a>(&'a State);

impl Serialize for Structure<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_struct("Map", 2)?;
        map.serialize_field("nodes", &Nodes(self.0))?;
        map.serialize_field("edges", &Edges(self.0))?;
        map.end()
    }
}

/// At which addresses the internet sees agents.
#[derive(Debug, Default)]
pub struct Outside(Vec<(AgentIx, IpAddr)>);

struct Nodes<'a>(&'a State);
struct Edges<'a>(&'a State);

impl Serialize for Nodes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (mut map, mut done) = (serializer.serialize_map(None)?, Ok(()));
        self.0.each_node(|node| {
            if done.is_ok() {
                done = map.serialize_entry(&node.id, &node);
            }
        });
        done?;
        map.end()
    }
}

impl Serialize for Edges<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (mut map, mut done) = (serializer.serialize_map(None)?, Ok(()));
        self.0.each_map_edge(|edge| {
            if done.is_ok() {
                done = map.serialize_entry(&edge.edge.id, &edge);
            }
        });
        done?;
        map.end()
    }
}

impl State {
    /// The whole map with figures and, where asked for, evidence, as of the last settling.
    #[must_use]
    pub fn view(&self, with_evidence: bool) -> Topology {
        let in_order = self.in_order();
        let mut seen: BTreeMap<AgentIx, nat::Seen> =
            in_order.iter().filter_map(|(ix, _)| Some((*ix, nat::of(self, *ix, with_evidence)?))).collect();
        let outside: BTreeMap<AgentIx, IpAddr> =
            seen.iter().filter_map(|(ix, seen)| Some((*ix, seen.outside?))).collect();
        let sites = nat::sites(self, outside.iter().map(|(ix, ip)| (*ix, *ip)));
        let (components, lans) = mesh::components(self);
        let lans: BTreeMap<String, usize> =
            lans.into_iter().map(|(mac, number)| (format!("lan:{}", mac_text(mac)), number)).collect();
        let routers: BTreeMap<AgentId, IpAddr> =
            sites.iter().filter_map(|site| Some((site.router?, site.address))).collect();
        let mut all: Vec<Node> = Vec::with_capacity(in_order.len());
        for (ix, agent) in &in_order {
            let shape = render::agent_shape(agent, &self.index.keys);
            let holds = routers.get(&agent.id).copied();
            all.push(Node {
                shape,
                observed_at: Some(agent.observed_at()),
                received_at: Some(agent.received_at),
                component: components.get(ix).copied(),
                site: outside.get(ix).copied().or(holds),
                nat: seen.remove(ix).map(|seen| seen.nat),
            });
        }
        let mut others: Vec<_> = self.others().into_values().collect();
        // The manager comes last; the sort is stable, so that the others stay in order of id.
        others.sort_by_key(|shape| shape.id == MANAGER);
        all.extend(others.into_iter().map(|shape| {
            let component = lans.get(&shape.id).copied();
            Node { shape, observed_at: None, received_at: None, component, site: None, nat: None }
        }));
        let mut edges: Vec<Edge> =
            self.edges.iter().map(|(key, kept)| self.edge_view(*key, kept, with_evidence)).collect();
        edges.sort_by(|a, b| a.shape.id.cmp(&b.shape.id));
        let meshes = mesh::meshes(self);
        Topology {
            at: self.now,
            version: self.version,
            revision: self.revision,
            nodes: all,
            edges,
            sites,
            meshes,
        }
    }

    /// One edge with figures and evidence, by its id.
    #[must_use]
    pub fn edge(&self, id: &str) -> Option<Edge> {
        let node = id.split(':').nth(1)?;
        let ix = self.find(node.split('/').next()?.parse().ok()?)?;
        let (key, kept) = self.edges.of(ix).iter().find(|(key, _)| render::id_of(self, *key) == id)?;
        Some(self.edge_view(*key, kept, true))
    }

    /// The structure alone, as events tell changes of it, as of the last settling.
    #[must_use]
    pub fn map(&self) -> Map {
        let mut map = Map::default();
        self.each_node(|shape| {
            map.nodes.insert(shape.id.clone(), shape);
        });
        self.each_map_edge(|edge| {
            map.edges.insert(edge.edge.id.clone(), edge);
        });
        map
    }

    /// The same as [`State::map`], to be written as JSON without ever being whole in memory.
    #[must_use]
    pub fn structure(&self) -> Structure<'_> {
        Structure(self)
    }

    /// Every node, as [`State::map`] has it.
    pub fn each_node(&self, mut tell: impl FnMut(NodeShape)) {
        self.others().into_values().for_each(&mut tell);
        self.in_order().into_iter().for_each(|(_, agent)| tell(render::agent_shape(agent, &self.index.keys)));
    }

    /// Every edge, as [`State::map`] has it.
    pub fn each_map_edge(&self, mut tell: impl FnMut(MapEdge)) {
        self.edges.iter().for_each(|(key, kept)| tell(self.map_edge(*key, kept)));
    }

    /// Adds to `found` at which addresses the internet sees the agents of one of [`State::link_steps`].
    pub fn look_outside(&self, step: Range<usize>, found: &mut Outside) {
        let agents = (0..).take(self.agents.len()).skip(step.start).take(step.len());
        found.0.extend(agents.filter_map(|ix| Some((ix, nat::outside(self, ix)?))));
    }

    /// Agents that the internet sees at one address, by that address.
    #[must_use]
    pub fn sites(&self, outside: Outside) -> Vec<Site> {
        nat::sites(self, outside.0)
    }

    /// Groups of agents joined by WireGuard edges, the largest first.
    #[must_use]
    pub fn meshes(&self) -> Vec<Mesh> {
        mesh::meshes(self)
    }

    /// The nodes that are no agents, by id.
    fn others(&self) -> BTreeMap<String, NodeShape> {
        let ids = self.fars.keys().map(|(far, near)| render::far_id(self, *far, *near));
        let ids: BTreeSet<String> = ids.chain([MANAGER.to_owned()]).collect();
        ids.into_iter().map(|id| (id.clone(), render::far_shape(&id))).collect()
    }

    pub(super) fn edge_view(&self, key: EdgeKey, kept: &Kept, with_evidence: bool) -> Edge {
        let MapEdge { edge: shape, halves: shapes } = self.map_edge(key, kept);
        let halves = render::halves(self, key);
        let [first, second] = shapes;
        let views = [
            first.and_then(|shape| self.half_view(key, 0, shape, halves)),
            second.and_then(|shape| self.half_view(key, 1, shape, halves)),
        ];
        Edge {
            shape,
            underlay: self.overlay_underlay(key),
            halves: (views != [None, None]).then_some(views),
            evidence: if with_evidence { evidence::of(self, key) } else { Vec::new() },
        }
    }

    fn overlay_underlay(&self, key: EdgeKey) -> Option<[Option<Underlay>; 2]> {
        if key.layer != Layer::Overlay {
            return None;
        }
        let carried = key.agents().map(|near| {
            let near = near?;
            let (_, remote) = overlay::addresses(self.agent(near.agent())?.interface(near.slot)?)?;
            underlay::of_endpoint(self, near, Endpoint { ip: remote, port: 0, zone: NO_SLOT }, 0)
        });
        (carried != [None, None]).then_some(carried)
    }

    fn half_view(
        &self,
        key: EdgeKey,
        end: usize,
        shape: HalfShape,
        halves: [Option<(&Agent, &record::Half)>; 2],
    ) -> Option<Half> {
        let (agent, half) = halves[end]?;
        let near = key.agents()[end]?;
        let device = agent.device(near.slot)?;
        let loss = self.loss((agent, half), halves[1 - end]);
        Some(Half {
            shape,
            observed_at: agent.observed_at(),
            handshake_age_s: (half.age_s != record::NEVER).then_some(half.age_s),
            rx_bytes: half.samples.rx(),
            tx_bytes: half.samples.tx(),
            delta: half.samples.last(),
            rtt_us: (half.rtt_us > 0).then_some(half.rtt_us),
            traffic: half.samples.class(
                &agent.times,
                half.keepalive_s,
                halves[1 - end].map(|other| other.1.keepalive_s),
            ),
            counters_reset: half.samples.was_reset(),
            loss,
            underlay: underlay::of_half(self, near, device, half),
        })
    }
}
