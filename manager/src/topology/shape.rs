//! The map's structure: what exists, how it is set up and in what state it is, without counters
//! and ages. Events tell changes of it, and a base map with events gives the map of a later moment.

use std::collections::BTreeMap;

use proto::ids::{Cidr, PublicKey};
use proto::report::{InterfaceKind, TunnelData};
use serde::{Deserialize, Serialize};

/// Which network an edge belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layer {
    /// A LAN or a cable, from neighbour tables and gateways.
    Physical,
    /// A WireGuard tunnel, joined by public keys.
    #[serde(rename = "wireguard")]
    WireGuard,
    /// VXLAN, GRE, IPIP, SIT, and VPNs of other makes.
    Overlay,
    /// The way of an agent's reports to the manager.
    Relay,
}

impl Layer {
    /// Its name as the API has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Physical => "physical",
            Self::WireGuard => "wireguard",
            Self::Overlay => "overlay",
            Self::Relay => "relay",
        }
    }
}

/// In what state an edge is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EdgeState {
    /// It works: a live handshake, a resolved neighbour, a report that came this way.
    Up,
    /// A WireGuard tunnel that nobody uses and nobody keeps alive: in order.
    Idle,
    /// A WireGuard tunnel whose handshake should be younger than it is.
    Stale,
    /// It does not work: no handshake for over 540 s although one end tries, or an interface is
    /// down, or the two ends' settings exclude each other.
    Down,
    /// A WireGuard tunnel without any handshake since its device was made.
    Never,
    /// One end is set up, the other, which reports, is not.
    OneSided,
    /// No end that could tell has reported lately, or the kind of link cannot tell.
    Unknown,
}

impl EdgeState {
    /// Its name as the API has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Idle => "idle",
            Self::Stale => "stale",
            Self::Down => "down",
            Self::Never => "never",
            Self::OneSided => "one_sided",
            Self::Unknown => "unknown",
        }
    }
}

/// How the two ends of an edge belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    /// Both ends say so.
    Confirmed,
    /// One end says so, of an agent that could say so too.
    OneSided,
    /// The far end is no agent.
    External,
    /// An agent on a LAN.
    Member,
    /// An agent that is the LAN's gateway.
    Gateway,
    /// Reports go from the first end to the second.
    Delivery,
}

impl Relation {
    /// Its name as the API has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::OneSided => "one_sided",
            Self::External => "external",
            Self::Member => "member",
            Self::Gateway => "gateway",
            Self::Delivery => "delivery",
        }
    }
}

/// Whether an agent reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Presence {
    /// It has reported within three of its intervals.
    Fresh,
    /// It has not.
    Silent,
}

/// What a node stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeKind {
    /// A host with an agent; its id is the agent's id.
    Agent,
    /// A WireGuard key that no agent owns, or the unknown far end of a tunnel.
    External,
    /// A LAN, named by its gateway's link-layer address.
    Lan,
    /// The manager.
    Manager,
}

/// A node without its figures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeShape {
    /// The agent's id, `ext:KEY`, `far:AGENT/INTERFACE`, `lan:MAC`, `lan:MAC@AGENT/INTERFACE` or `manager`.
    pub id: String,
    /// What it stands for.
    pub kind: NodeKind,
    /// What to call it.
    pub name: String,
    /// Whether an agent reports; `None` for other nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub presence: Option<Presence>,
    /// An agent's interfaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<InterfaceShape>,
}

/// A network interface and what it stands on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceShape {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: InterfaceKind,
    /// Whether it is up, as far as can be told.
    pub up: bool,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Link-layer address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Addresses with their prefix lengths.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Cidr>,
    /// Interfaces of the same host right below it: a VLAN's parent, a bridge's ports, the
    /// interfaces that carry a tunnel's packets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on: Vec<String>,
    /// The bridge or bond that it is a port of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master: Option<String>,
    /// The other end of a veth pair, where it is on the same host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pair: Option<String>,
    /// Which other VPN's interface it is, by name and kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vpn: Option<String>,
    /// Parameters of a VLAN or tunnel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<Box<TunnelData>>,
    /// A WireGuard device's own settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wireguard: Option<Box<DeviceShape>>,
}

/// A WireGuard device's own settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceShape {
    /// Its public key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<PublicKey>,
    /// UDP port that it listens on.
    pub listen_port: u16,
    /// Mark on its own packets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fwmark: Option<u32>,
}

/// One end of an edge.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct End {
    /// Id of the node.
    pub node: String,
    /// The interface, where one is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
}

/// An edge without its figures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeShape {
    /// `LAYER:END:END`, each end `NODE` or `NODE/INTERFACE`: the same for as long as the two ends
    /// are, also when keys, addresses or the state change.
    pub id: String,
    /// Which network it belongs to.
    pub layer: Layer,
    /// Its two ends; for the relay layer from the first to the second, otherwise in order of id.
    pub ends: [End; 2],
    /// How the ends belong together.
    pub relation: Relation,
    /// Its state.
    pub state: EdgeState,
    /// Since when it is in this state: milliseconds since the Unix epoch, when the manager noticed.
    pub since: i64,
    /// Whether the host at each end says so itself.
    pub seen: [bool; 2],
}

/// How old the last handshake of a WireGuard peer is, on its host's own clock (rule E3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Handshake {
    /// Young enough for a tunnel in use.
    Live,
    /// Up to 540 s.
    Stale,
    /// Over 540 s: the session's keys are gone.
    Dead,
    /// There was none.
    Never,
}

impl Handshake {
    /// Its name as the API has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Stale => "stale",
            Self::Dead => "dead",
            Self::Never => "never",
        }
    }
}

/// One end's settings for a WireGuard peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HalfShape {
    /// The peer's public key.
    pub peer: PublicKey,
    /// How old the last handshake is.
    pub handshake: Handshake,
    /// Where packets to the peer are sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Seconds between keepalives; `None` is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keepalive_s: Option<u16>,
    /// Inner addresses that belong to the peer.
    pub allowed_ips: Vec<Cidr>,
    /// Whether a preshared key is set.
    pub has_psk: bool,
}

/// An edge of a [`Map`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapEdge {
    /// The edge.
    #[serde(flatten)]
    pub edge: EdgeShape,
    /// What each end of a WireGuard edge has set for the other.
    #[serde(default, skip_serializing_if = "no_halves")]
    pub halves: [Option<HalfShape>; 2],
}

fn no_halves(halves: &[Option<HalfShape>; 2]) -> bool {
    halves.iter().all(Option::is_none)
}

/// The structure of the whole map at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Map {
    /// Nodes by id.
    pub nodes: BTreeMap<String, NodeShape>,
    /// Edges by id.
    pub edges: BTreeMap<String, MapEdge>,
}
