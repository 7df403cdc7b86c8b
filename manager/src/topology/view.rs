//! The map with its figures and evidence, as GET /status/topology serves it.

use std::net::IpAddr;

use proto::ids::{AgentId, Cidr};
use serde::Serialize;

use super::evidence::Evidence;
use super::shape::{EdgeShape, HalfShape, NodeShape};
use super::traffic::{Loss, Traffic};

/// The whole map at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Topology {
    /// The moment: milliseconds since the Unix epoch.
    pub at: i64,
    /// See [`super::State::version`].
    pub version: u64,
    /// See [`super::State::revision`].
    pub revision: u64,
    /// Nodes: agents by id, then the others by id, then the manager.
    pub nodes: Vec<Node>,
    /// Edges by id.
    pub edges: Vec<Edge>,
    /// Agents that the internet sees at one address, by that address.
    pub sites: Vec<Site>,
    /// Groups of agents joined by WireGuard edges between them (E10), the largest first.
    pub meshes: Vec<Mesh>,
}

/// A node with its figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Node {
    /// What it is.
    #[serde(flatten)]
    pub shape: NodeShape,
    /// When its agent read the host for its latest report: milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_at: Option<i64>,
    /// When that report reached the manager.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received_at: Option<i64>,
    /// Number of the group of nodes that physical, WireGuard and overlay edges which are up join;
    /// 0 is the largest. `None` for nodes without any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub component: Option<usize>,
    /// Address of its [`Site`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub site: Option<IpAddr>,
    /// How its peers see it through NAT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nat: Option<Nat>,
}

/// How an agent's peers see it (E9).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Nat {
    /// The kind.
    pub kind: NatKind,
    /// Whether its own address on the way out is of the space that carriers keep for their NAT, or
    /// of another private one behind a public address that is not its site's router's.
    pub carrier: bool,
    /// Whether its peers see the port that it listens on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port_kept: Option<bool>,
    /// The peers' words; left out where not asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Evidence>,
}

/// What kind of NAT an agent is behind, as far as its peers can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NatKind {
    /// Peers see an address of its own.
    None,
    /// Peers see another address, all the same port of it.
    Nat,
    /// Several peers see several ports of one address at once.
    Symmetric,
}

/// Agents that the internet sees at one address: behind one NAT, or its owner (E9).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Site {
    /// The address.
    pub address: IpAddr,
    /// The agents by id.
    pub agents: Vec<AgentId>,
    /// The agent that holds the address itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub router: Option<AgentId>,
}

/// A group of agents joined by confirmed WireGuard edges (E10).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mesh {
    /// Its shape.
    pub kind: MeshKind,
    /// The agents by id.
    pub agents: Vec<AgentId>,
    /// Pairs of agents that have an edge.
    pub pairs: usize,
    /// Pairs that a full mesh of so many agents has.
    pub full: usize,
    /// The agents that all others are joined to, where it is hubs and spokes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hubs: Vec<AgentId>,
    /// Ids of one-sided edges between its agents: pairs that one side means to have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

/// The shape of a [`Mesh`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MeshKind {
    /// Two agents.
    Pair,
    /// Every pair has an edge.
    Full,
    /// All edges go to a hub.
    HubAndSpoke,
    /// Anything between.
    Partial,
}

/// An edge with its figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Edge {
    /// What it is.
    #[serde(flatten)]
    pub shape: EdgeShape,
    /// Both ends' views of a WireGuard edge, in the order of its ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub halves: Option<[Option<Half>; 2]>,
    /// What carries the packets of an overlay edge from each of its ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub underlay: Option<[Option<Underlay>; 2]>,
    /// Which report of which agent says so; left out where not asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Evidence>,
}

/// One end's view of a WireGuard peer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Half {
    /// Its settings.
    #[serde(flatten)]
    pub shape: HalfShape,
    /// When its agent read these figures: milliseconds since the Unix epoch.
    pub observed_at: i64,
    /// Seconds since the last handshake, on the agent's own clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handshake_age_s: Option<u32>,
    /// Bytes received from the peer.
    pub rx_bytes: u64,
    /// Bytes sent to the peer.
    pub tx_bytes: u64,
    /// Bytes received and sent between the last two reports.
    #[serde(skip)]
    pub delta: Option<(u64, u64)>,
    /// Round-trip time in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtt_us: Option<u32>,
    /// What flowed between the last two reports.
    pub traffic: Traffic,
    /// Whether the last report's counters were lower than those before (E7).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub counters_reset: bool,
    /// What this end sent and the other did not receive (E5).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<Loss>,
    /// What carries this end's packets to the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub underlay: Option<Underlay>,
}

/// What carries a tunnel's packets (E8).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Underlay {
    /// What kind of way it is.
    pub kind: UnderlayKind,
    /// The interface that they leave by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// The gateway that they go to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via: Option<IpAddr>,
    /// Id of the edge that carries them, where that is a tunnel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inside: Option<String>,
    /// The route that says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<Cidr>,
}

/// What kind of way carries a tunnel's packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UnderlayKind {
    /// The other end is on the same link.
    Lan,
    /// A gateway, to a public address.
    Internet,
    /// A gateway, to a private address.
    Routed,
    /// Another tunnel.
    Nested,
    /// A program on the same host passes them on: the endpoint is a loopback address.
    Proxy,
    /// The tunnel itself: nothing can flow.
    Loop,
    /// No route leads there.
    NoRoute,
}
