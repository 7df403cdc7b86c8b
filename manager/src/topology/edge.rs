//! Edges by index: what they join, who claims them, in what state they are.

use std::net::IpAddr;

use super::record::{AgentIx, Mac, NO_SLOT, Slot};
use super::shape::{EdgeState, Layer, Relation};
use super::{State, overlay, physical, relay, wireguard};

/// An edge by the indices of its ends. Only [`EdgeKey::between`] orders its ends, so that the same
/// two ends give the same key from either side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct EdgeKey {
    pub(super) layer: Layer,
    pub(super) near: Near,
    pub(super) far: Far,
}

/// An agent's interface, or the agent itself with [`NO_SLOT`]. There are some 20 for each agent: without gaps they,
/// and what is made of them, take a third less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Near {
    /// Most significant first, so that the order is that of the numbers.
    agent: [u8; 4],
    pub(super) slot: Slot,
}

/// The other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Far {
    /// Another agent's interface.
    Agent(Near),
    /// A WireGuard key that no agent owns.
    Key(u32),
    /// A LAN by its gateway's address.
    Lan(Mac),
    /// A LAN whose gateway's address does not tell it from others: this agent's own.
    OwnLan(Mac),
    /// What lies behind a tunnel interface, unknown.
    Behind,
    /// The manager.
    Manager,
}

/// What the state remembers of an edge.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    pub(super) since: i64,
    /// Agents whose report tells of it.
    pub(super) claims: u32,
    pub(super) state: EdgeState,
    /// Whether an agent at its ends was silent when it was last judged.
    pub(super) dark: bool,
}

/// What an edge is found to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) state: EdgeState,
    pub(super) relation: Relation,
    pub(super) seen: [bool; 2],
}

impl EdgeKey {
    /// The key of an edge between two agents' interfaces, in order of agent id and interface name.
    pub(super) fn between(state: &State, layer: Layer, a: Near, b: Near) -> Self {
        let name = |near: Near| state.agent(near.agent()).map(|agent| (agent.id, agent.name(near.slot)));
        let (near, far) = if name(a) <= name(b) { (a, b) } else { (b, a) };
        Self { layer, near, far: Far::Agent(far) }
    }

    /// The key of an edge from an agent's interface to something that is no agent.
    pub(super) fn to(layer: Layer, near: Near, far: Far) -> Self {
        Self { layer, near, far }
    }

    /// The agents at its ends.
    pub(super) fn agents(self) -> [Option<Near>; 2] {
        let far = if let Far::Agent(far) = self.far { Some(far) } else { None };
        [Some(self.near), far]
    }
}

impl Near {
    pub(super) fn new(agent: AgentIx, slot: Slot) -> Self {
        Self { agent: agent.to_be_bytes(), slot }
    }

    pub(super) fn host(agent: AgentIx) -> Self {
        Self::new(agent, NO_SLOT)
    }

    pub(super) fn agent(self) -> AgentIx {
        AgentIx::from_be_bytes(self.agent)
    }
}

/// Every edge that an agent's report tells of, sorted, each once.
pub(super) fn claims(state: &State, ix: AgentIx) -> Vec<EdgeKey> {
    let mut found = Vec::new();
    wireguard::claims(state, ix, &mut found);
    physical::claims(state, ix, &mut found);
    overlay::claims(state, ix, &mut found);
    relay::claims(state, ix, &mut found);
    found.sort_unstable();
    found.dedup();
    found.shrink_to_fit();
    found
}

/// What an edge is, from the latest reports of those that tell of it.
pub(super) fn evaluate(state: &State, key: EdgeKey) -> Facts {
    match key.layer {
        Layer::WireGuard => wireguard::evaluate(state, key),
        Layer::Physical => physical::evaluate(state, key),
        Layer::Overlay => overlay::evaluate(state, key),
        Layer::Relay => relay::evaluate(state, key),
    }
}

/// Whether an address can name a host beyond its own link.
pub(super) fn is_global(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            !(ip.is_loopback() || ip.is_link_local() || ip.is_unspecified() || ip.is_multicast())
        }
        IpAddr::V6(ip) => {
            !(ip.is_loopback() || ip.is_unicast_link_local() || ip.is_unspecified() || ip.is_multicast())
        }
    }
}

/// Whether an address is one of the public internet: not private, shared (RFC 6598), local or
/// reserved for documentation's sake is still public here.
pub(super) fn is_public(ip: IpAddr) -> bool {
    is_global(ip)
        && match ip {
            IpAddr::V4(ip) => !ip.is_private() && !is_shared(ip.into()) && !ip.is_broadcast(),
            IpAddr::V6(ip) => !ip.is_unique_local(),
        }
}

/// Whether an address belongs to the space that carriers share out behind their own NAT (RFC 6598).
pub(super) fn is_shared(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(ip) if ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_takes_32_bytes_and_is_in_order_of_its_agents() {
        assert_eq!((size_of::<EdgeKey>(), size_of::<(EdgeKey, Kept)>()), (16, 32));
        let ends =
            [Near::new(1, 7), Near::new(2, 0), Near::new(255, 3), Near::new(256, 2), Near::host(1 << 24)];
        assert!(ends.is_sorted());
        assert_eq!(ends.map(Near::agent), [1, 2, 255, 256, 1 << 24]);
    }
}
