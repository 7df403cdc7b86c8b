//! What a path query answers: hops, and where and why a packet stops.

use std::net::IpAddr;

use proto::ids::{AgentId, Cidr, PublicKey};
use serde::Serialize;

use super::evidence::Evidence;

/// Where a path query leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// An address.
    Address(IpAddr),
    /// An agent: its address to which the asking one has the most specific route.
    Agent(AgentId),
}

/// The way of a packet there and of the answer back.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PathAnswer {
    /// The agent that sends.
    pub from: AgentId,
    /// The address that it sends to.
    pub to: IpAddr,
    /// The source address that its kernel chooses; `None` where no route tells.
    pub source: Option<IpAddr>,
    /// When the state was settled: milliseconds since the Unix epoch.
    pub at: i64,
    /// The way there.
    pub forward: Way,
    /// The way back from the agent that the packet was delivered to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub back: Option<Way>,
    /// Whether the way back leads over other agents or interfaces than the way there.
    pub asymmetric: bool,
}

/// One way of a packet.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Way {
    /// The hosts that it passes, the sender first.
    pub hops: Vec<Hop>,
    /// Where and why it ends.
    pub outcome: Outcome,
    /// The agent at which it ends.
    pub ends_at: AgentId,
    /// Why it ends, in words.
    pub text: String,
    /// The largest packet that fits each hop, in bytes.
    pub mtus: Vec<u32>,
    /// The least of them: larger packets are cut or refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Index of the hop at which the packets that fitted all hops before no longer fit, the last
    /// such one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu_drop_at: Option<usize>,
}

/// How a way ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The address is this agent's.
    Delivered,
    /// It goes on to a host without an agent.
    LeavesFleet,
    /// No route leads there.
    NoRoute,
    /// An unreachable, blackhole or prohibit route takes it.
    Refused,
    /// No peer's AllowedIPs hold its destination.
    NoAllowedIps,
    /// The peer has no endpoint yet.
    NoEndpoint,
    /// The tunnel has no handshake, or too old a one.
    NoHandshake,
    /// The tunnel's other end does not have this one as a peer.
    OneSided,
    /// The interface it would leave or come in by is down.
    InterfaceDown,
    /// The host does not pass packets on.
    ForwardingOff,
    /// The far end's AllowedIPs do not give the source address to the sending peer.
    SourceRefused,
    /// It comes to a host that it has passed before, in the same way.
    Loop,
    /// It has passed 64 hosts: the hop limit that Linux sets.
    TooManyHops,
}

/// One host on the way, and what it does with the packet.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Hop {
    /// The agent.
    pub agent: AgentId,
    /// What to call it.
    pub name: String,
    /// The interface that the packet came in by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub came_by: Option<String>,
    /// The interface that it leaves by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leaves_by: Option<String>,
    /// The route taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<Lookup>,
    /// The WireGuard peer that it is given to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<PublicKey>,
    /// The AllowedIPs entry that says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_ip: Option<Cidr>,
    /// Id of the edge that it takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edge: Option<String>,
    /// Largest packet of the interface, less what the tunnel below it cannot carry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Why one should not be too sure.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub caveats: Vec<String>,
    /// What the agent's report says of it.
    pub evidence: Vec<Evidence>,
}

/// A route as the look-up found it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lookup {
    /// Its destination.
    pub destination: Cidr,
    /// Its gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// Its metric.
    pub metric: u32,
    /// Its table; 254 is main.
    pub table: u32,
}
