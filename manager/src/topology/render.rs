//! From indices to the shapes that leave the process: ids, names, settings.

use std::fmt::Write as _;

use super::State;
use super::edge::{EdgeKey, Far, Near};
use super::keys::Keys;
use super::record::{Agent, Device, Half, Iface, NO_SLOT, Slot, key_of, mac_text};
use super::shape::{DeviceShape, End, InterfaceShape, Layer, NodeKind, NodeShape};
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
        presence: Some(agent.presence()),
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
        addresses: agent.addresses(interface).to_vec(),
        on: stacking::below(agent, interface).into_iter().filter_map(name).collect(),
        master: name(interface.master),
        pair: stacking::pair(agent, interface).and_then(name),
        vpn: stacking::foreign_vpn(agent, interface).map(str::to_owned),
        tunnel: interface.tunnel().cloned().map(Box::new),
        wireguard: agent.device(interface.slot).map(|device| {
            let public_key = key_of(device, keys);
            Box::new(DeviceShape { public_key, listen_port: device.listen_port, fwmark: device.fwmark })
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

/// The stable id of an edge.
pub(super) fn id_of(state: &State, key: EdgeKey) -> String {
    // Written in one go, and long enough for most: answers are made of these.
    let mut id = String::with_capacity(128);
    id.push_str(key.layer.name());
    id.push(':');
    push_near(&mut id, state, key.near);
    id.push(':');
    match key.far {
        Far::Agent(far) => push_near(&mut id, state, far),
        far => id.push_str(&far_id(state, far, Some(key.near))),
    }
    id
}

fn push_near(id: &mut String, state: &State, near: Near) {
    let Some((agent, names)) = state.known(near.agent()) else { return };
    let _ = write!(id, "{agent}");
    let name = names.get(near.slot);
    if !name.is_empty() {
        id.push('/');
        id.push_str(name);
    }
}

/// The two ends; one that is no agent comes second.
pub(super) fn ends(state: &State, key: EdgeKey) -> [End; 2] {
    let near = |near: Near| {
        let Some((agent, names)) = state.known(near.agent()) else {
            return End { node: String::new(), interface: None };
        };
        let name = names.get(near.slot);
        End { node: agent.to_string(), interface: (!name.is_empty()).then(|| name.to_owned()) }
    };
    let second = match key.far {
        Far::Agent(far) => near(far),
        far => End { node: far_id(state, far, Some(key.near)), interface: None },
    };
    [near(key.near), second]
}

/// The id of a node that is no agent, at the far end of an edge; some belong to the near end.
pub(super) fn far_id(state: &State, far: Far, near: Option<Near>) -> String {
    let place = || {
        let known = near.and_then(|near| Some((state.known(near.agent())?, near.slot)));
        known.map_or_else(|| "/".to_owned(), |((agent, names), slot)| format!("{agent}/{}", names.get(slot)))
    };
    match far {
        Far::Agent(far) => state.known(far.agent()).map_or_else(String::new, |(agent, _)| agent.to_string()),
        Far::Key(number) => format!("ext:{}", state.index.keys.key(number)),
        Far::Lan(mac) => format!("lan:{}", mac_text(mac)),
        Far::OwnLan(mac) => format!("lan:{}@{}", mac_text(mac), place()),
        Far::Behind => format!("far:{}", place()),
        Far::Manager => MANAGER.to_owned(),
    }
}

/// The two halves of a WireGuard edge: what each end has set for the other's key.
pub(super) fn halves(state: &State, key: EdgeKey) -> [Option<(&Agent, &Half)>; 2] {
    if key.layer != Layer::WireGuard {
        return [None, None];
    }
    let device = |near: Near| -> Option<(&Agent, &Device)> {
        let agent = state.agent(near.agent())?;
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
