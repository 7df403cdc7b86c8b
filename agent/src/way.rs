//! Ways to the manager, and what a neighbour says of its own.

use std::net::SocketAddr;

use proto::ids::AgentId;

use crate::peer::Brief;

/// One way to the manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To the manager itself.
    Direct,
    /// Through a neighbour.
    Relay(Relay),
}

/// A neighbour that passes messages on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relay {
    /// Its endpoint inside WireGuard.
    pub address: SocketAddr,
    /// Who it is.
    pub agent: AgentId,
    /// Relays between it and the manager, as it says.
    pub distance: u32,
}

/// What a neighbour says of its own way at /status/peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// Who it is.
    pub agent: AgentId,
    /// Relays between it and the manager; `None` when it cannot reach it.
    pub distance: Option<u32>,
    /// Its own next relay.
    pub via: Option<AgentId>,
}

impl Heard {
    /// The part of an agent's answer that matters here.
    #[must_use]
    pub fn of(brief: &Brief) -> Self {
        Self { agent: brief.agent, distance: brief.distance, via: brief.via }
    }
}
