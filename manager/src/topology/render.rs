//! From indices to the shapes that leave the process: ids, names, settings.

use super::State;
use super::edge::{EdgeKey, Far, Kept, Near};
use super::keys::Keys;
use super::record::{Agent, Device, Half, Iface, NO_SLOT, Slot, endpoint_text, key_of, mac_text};
use super::shape::{
    DeviceShape, EdgeShape, End, HalfShape, InterfaceShape, Layer, MapEdge, NodeKind, NodeShape, Presence,
    Relation,
};
use super::stacking;

/// Id of the manager's node.
pub(super) const MANAGER: &str = "manager";

/// An agent's node.
pub(super) fn agent_shape(agent: &Agent, keys: &Keys) -> NodeShape {
    let mut interfaces: Vec<&Iface> = agent.interfaces.iter().collect();
    interfaces.sort_by_key(|interface| agent.name(interface.slot));
    NodeShape {
        id: agent.id.to_string(),
        kind: NodeKind::Agent,
        name: agent.label(),
        presence: Some(if agent.silent { Presence::Silent } else { Presence::Fresh }),
        interfaces: interfaces.into_iter().map(|interface| interface_shape(agent, interface, keys)).collect(),
    }
}

fn interface_shape(agent: &Agent, interface: &Iface, keys: &Keys) -> InterfaceShape {
    let name = |slot: Slot| (slot != NO_SLOT).then(|| agent.name(slot).to_owned());
    InterfaceShape {
        name: agent.name(interface.slot).to_owned(),
        kind: interface.kind,
        up: interface.up,
        mtu: interface.mtu,
        mac: interface.mac.map(mac_text),
        addresses: interface.addresses.to_vec(),
        on: stacking::below(agent, interface).into_iter().filter_map(name).collect(),
        master: name(interface.master),
        pair: stacking::pair(agent, interface).and_then(name),
        vpn: stacking::foreign_vpn(agent, interface).map(str::to_owned),
        tunnel: interface.tunnel.as_deref().cloned(),
        wireguard: agent.device(interface.slot).map(|device| DeviceShape {
            public_key: key_of(device, keys),
            listen_port: device.listen_port,
            fwmark: device.fwmark,
        }),
    }
}

/// The node of an id that is no agent's.
pub(super) fn far_shape(id: &str) -> NodeShape {
    let (kind, name) = match id.split_once(':') {
        Some(("lan", name)) => (NodeKind::Lan, format!("LAN of {}", name.split('@').next().unwrap_or(name))),
        Some(("far", name)) => {
            (NodeKind::External, format!("behind {}", name.rsplit('/').next().unwrap_or(name)))
        }
        Some((_, name)) => (NodeKind::External, name.to_owned()),
        None => (NodeKind::Manager, id.to_owned()),
    };
    NodeShape { id: id.to_owned(), kind, name, presence: None, interfaces: Vec::new() }
}

/// An edge without its figures.
pub(super) fn map_edge(
    state: &State,
    key: EdgeKey,
    kept: &Kept,
    relation: Relation,
    seen: [bool; 2],
) -> MapEdge {
    let halves =
        halves(state, key).map(|half| half.map(|(agent, half)| half_shape(agent, half, &state.index.keys)));
    let ends = ends(state, key);
    let id = edge_id(key.layer, &ends);
    let Kept { since, state, .. } = *kept;
    MapEdge { edge: EdgeShape { id, layer: key.layer, ends, relation, state, since, seen }, halves }
}

/// The stable id of an edge.
pub(super) fn id_of(state: &State, key: EdgeKey) -> String {
    edge_id(key.layer, &ends(state, key))
}

fn edge_id(layer: Layer, ends: &[End; 2]) -> String {
    let mut id = layer.name().to_owned();
    for end in ends {
        id.push(':');
        id.push_str(&end.node);
        if let Some(interface) = &end.interface {
            id.push('/');
            id.push_str(interface);
        }
    }
    id
}

/// The two ends; one that is no agent comes second.
pub(super) fn ends(state: &State, key: EdgeKey) -> [End; 2] {
    let near = |near: Near| {
        let agent = state.agent(near.agent);
        End {
            node: agent.map_or_else(String::new, |agent| agent.id.to_string()),
            interface: agent.map(|agent| agent.name(near.slot).to_owned()).filter(|name| !name.is_empty()),
        }
    };
    let first = near(key.near);
    let place = || format!("{}/{}", first.node, first.interface.as_deref().unwrap_or_default());
    let other = |node: String| End { node, interface: None };
    let second = match key.far {
        Far::Agent(far) => near(far),
        Far::Key(number) => other(format!("ext:{}", state.index.keys.key(number))),
        Far::Lan(mac) => other(format!("lan:{}", mac_text(mac))),
        Far::OwnLan(mac) => other(format!("lan:{}@{}", mac_text(mac), place())),
        Far::Behind => other(format!("far:{}", place())),
        Far::Manager => other(MANAGER.to_owned()),
    };
    [first, second]
}

/// The two halves of a WireGuard edge: what each end has set for the other's key.
pub(super) fn halves(state: &State, key: EdgeKey) -> [Option<(&Agent, &Half)>; 2] {
    if key.layer != Layer::WireGuard {
        return [None, None];
    }
    let device = |near: Near| -> Option<(&Agent, &Device)> {
        let agent = state.agent(near.agent)?;
        Some((agent, agent.device(near.slot)?))
    };
    match key.far {
        Far::Agent(far) => {
            let (a, b) = (device(key.near), device(far));
            [half_for(a, b), half_for(b, a)]
        }
        Far::Key(peer) => {
            [device(key.near).and_then(|(agent, device)| Some((agent, device.half(peer)?))), None]
        }
        Far::Lan(_) | Far::OwnLan(_) | Far::Behind | Far::Manager => [None, None],
    }
}

/// What one device has set for the key of another.
fn half_for<'a>(
    end: Option<(&'a Agent, &'a Device)>,
    other: Option<(&Agent, &Device)>,
) -> Option<(&'a Agent, &'a Half)> {
    let (agent, device) = end?;
    Some((agent, device.half(other?.1.key?)?))
}

fn half_shape(agent: &Agent, half: &Half, keys: &Keys) -> HalfShape {
    HalfShape {
        peer: keys.key(half.key),
        handshake: half.handshake(agent),
        endpoint: half.reach.endpoint().map(|endpoint| endpoint_text(agent, endpoint)),
        keepalive_s: (half.keepalive_s > 0).then_some(half.keepalive_s),
        allowed_ips: half.reach.allowed().collect(),
        has_psk: half.has_psk,
    }
}
