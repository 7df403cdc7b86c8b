//! LANs and cables: neighbour tables and gateways' link-layer addresses (rules L1 to L4).
//!
//! An equal prefix is no evidence (L3). A neighbour entry is, when its link-layer address is that
//! of one agent's interface; a gateway's address is, for all who use it, unless it is one that
//! many LANs have.

use std::net::IpAddr;

use proto::report::{InterfaceKind, RouteKind, TABLE_MAIN};

use super::State;
use super::edge::{EdgeKey, Facts, Far, Near};
use super::record::{Agent, AgentIx, Iface, Mac, Seen};
use super::shape::{EdgeState, Layer, Relation};
use super::stacking;

/// The edges that an agent's neighbour table and default routes tell of.
pub(super) fn claims(state: &State, ix: AgentIx, found: &mut Vec<EdgeKey>) {
    let Some(agent) = state.agent(ix) else { return };
    for &Seen { slot, mac: gateway, ip } in &agent.lans {
        let near = Near::new(ix, slot);
        if is_ambiguous(gateway) {
            found.push(EdgeKey::to(Layer::Physical, near, Far::OwnLan(gateway)));
            continue;
        }
        found.push(EdgeKey::to(Layer::Physical, near, Far::Lan(gateway)));
        if let Some(router) = owner(state, ix, gateway, ip) {
            found.push(EdgeKey::to(Layer::Physical, router, Far::Lan(gateway)));
        }
    }
    for seen in &agent.neighbours {
        if !agent.interface(seen.slot).is_some_and(|interface| carries_lan(agent, interface)) {
            continue;
        }
        let Some(far) = owner(state, ix, seen.mac, seen.ip) else { continue };
        let near = Near::new(ix, seen.slot);
        if !same_lan(state, &agent.lans, near, far) {
            found.push(EdgeKey::between(state, Layer::Physical, near, far));
        }
    }
}

/// Whether both are on one LAN node already, as members or as its gateway (L2).
fn same_lan(state: &State, lans: &[Seen], near: Near, far: Near) -> bool {
    let Some(other) = state.agent(far.agent()) else { return false };
    let Some(far_mac) = other.interface(far.slot).map(|interface| interface.mac) else { return false };
    let near_mac = state.agent(near.agent()).and_then(|agent| agent.interface(near.slot)?.mac);
    let shared = |gateway: Mac| !is_ambiguous(gateway);
    let mine = || lans.iter().filter(|lan| lan.slot == near.slot && shared(lan.mac)).map(|lan| lan.mac);
    let theirs =
        || other.lans.iter().filter(|lan| lan.slot == far.slot && shared(lan.mac)).map(|lan| lan.mac);
    mine().any(|gateway| far_mac == Some(gateway) || theirs().any(|other| other == gateway))
        || theirs().any(|gateway| near_mac == Some(gateway))
}

/// The gateways of an agent's default routes that it has resolved.
pub(super) fn find_lans(agent: &Agent) -> Box<[Seen]> {
    let defaults = agent.routes.iter().filter(|route| {
        route.destination.prefix() == 0 && route.kind == RouteKind::Unicast && route.table == TABLE_MAIN
    });
    let mut found: Vec<Seen> = defaults
        .filter_map(|route| {
            let gateway = route.gateway?;
            let interface = agent.interface(route.slot).filter(|interface| carries_lan(agent, interface))?;
            agent.neighbours.iter().find(|seen| seen.slot == interface.slot && seen.ip == gateway).copied()
        })
        .collect();
    found.sort_unstable();
    found.dedup_by_key(|lan| (lan.slot, lan.mac));
    found.into()
}

/// Whose interface a neighbour entry means: the one agent that has its link-layer address and its
/// address, or else the one agent that has the link-layer address at all.
pub(super) fn owner(state: &State, seeker: AgentIx, mac: Mac, ip: IpAddr) -> Option<Near> {
    owner_where(state, seeker, mac, ip, carries_lan)
}

/// As [`owner`], among the interfaces that `fits` says.
pub(super) fn owner_where(
    state: &State,
    seeker: AgentIx,
    mac: Mac,
    ip: IpAddr,
    fits: impl Fn(&Agent, &Iface) -> bool,
) -> Option<Near> {
    if is_ambiguous(mac) {
        return None;
    }
    let owners = state.index.mac_owners(mac).iter().filter(|owner| owner.0 != seeker);
    let mut fitting: Vec<(&Agent, AgentIx, &Iface)> = owners
        .filter_map(|&(ix, slot)| {
            let agent = state.agent(ix)?;
            let interface = agent.interface(slot).filter(|interface| fits(agent, interface))?;
            Some((agent, ix, interface))
        })
        .collect();
    if fitting.iter().any(|(agent, ..)| agent.owner_of(ip).is_some()) {
        fitting.retain(|(agent, ..)| agent.owner_of(ip).is_some());
    }
    let (_, first, _) = *fitting.first()?;
    if fitting.iter().any(|(_, ix, _)| *ix != first) {
        return None; // the same link-layer address on several agents, and nothing to choose by
    }
    // A bridge and its port share one address, a VLAN and its parent too: take the interface that
    // has the address asked for, or else one that is no port.
    let best = fitting.iter().min_by_key(|(agent, _, interface)| {
        let port = agent.interface(interface.master).is_some();
        (
            !agent.holds(interface, ip),
            port,
            agent.addresses(interface).is_empty(),
            interface.index,
            agent.name(interface.slot),
        )
    });
    best.map(|(_, ix, interface)| Near::new(*ix, interface.slot))
}

/// Link-layer addresses that several LANs or hosts may have at once: VRRP and CARP (RFC 5798),
/// HSRP (v1, v2 and IPv6), GLBP, and those that docker gives to containers.
pub(super) fn is_ambiguous(mac: Mac) -> bool {
    matches!(
        mac,
        [0, 0, 0x5e, 0, 1 | 2, _] // VRRP, CARP
            | [0, 0, 0x0c, 7, 0xac, _] // HSRP
            | [0, 0, 0x0c, 0x9f, 0xf0..=0xff, _] // HSRP version 2
            | [0, 5, 0x73, 0xa0, ..] // HSRP for IPv6
            | [0, 7, 0xb4, ..] // GLBP
            | [0x02, 0x42, ..] // docker
    ) || mac[0] & 1 == 1
        || mac == [0; 6]
}

/// Whether what is seen on an interface is on a LAN: not a tunnel, nor a bridge that has one as
/// a port.
pub(super) fn carries_lan(agent: &Agent, interface: &Iface) -> bool {
    use InterfaceKind::{Bond, Bridge, BridgePort, Macvlan, Physical, Veth, Vlan, Wireless};
    matches!(interface.kind, Bond | Bridge | BridgePort | Macvlan | Physical | Veth | Vlan | Wireless)
        && !interface.lower().iter().filter_map(|slot| agent.interface(*slot)).any(|port| {
            matches!(port.kind, InterfaceKind::Vxlan | InterfaceKind::Gre)
                || stacking::foreign_vpn(agent, port).is_some()
        })
}

/// What a physical edge is, from the latest reports of those that tell of it.
pub(super) fn evaluate(state: &State, key: EdgeKey) -> Facts {
    match key.far {
        Far::Lan(gateway) | Far::OwnLan(gateway) => evaluate_member(state, key.near, gateway),
        Far::Agent(far) => evaluate_pair(state, key.near, far),
        Far::Key(_) | Far::Behind | Far::Manager => {
            Facts { state: EdgeState::Unknown, relation: Relation::External, seen: [false; 2] }
        }
    }
}

fn evaluate_member(state: &State, near: Near, gateway: Mac) -> Facts {
    let Some(agent) = state.agent(near.agent()) else {
        return Facts { state: EdgeState::Unknown, relation: Relation::Member, seen: [false; 2] };
    };
    let says_so = agent.lans.iter().any(|lan| (lan.slot, lan.mac) == (near.slot, gateway));
    let is_gateway = agent.interface(near.slot).is_some_and(|interface| interface.mac == Some(gateway));
    let members = || state.index.mac_seekers(gateway).iter().filter_map(|ix| state.agent(*ix));
    let lively = |agent: &&Agent| !agent.silent && agent.lans.iter().any(|lan| lan.mac == gateway);
    let state = if !agent.silent {
        if agent.is_up(near.slot) { EdgeState::Up } else { EdgeState::Down }
    } else if is_gateway && members().any(|agent| lively(&agent)) {
        EdgeState::Up
    } else {
        EdgeState::Unknown
    };
    let relation = if says_so { Relation::Member } else { Relation::Gateway };
    Facts { state, relation, seen: [says_so, false] }
}

fn evaluate_pair(state: &State, near: Near, far: Near) -> Facts {
    let seen = [sees(state, near, far).is_some(), sees(state, far, near).is_some()];
    Facts { state: pair_state(state, near, far, seen), relation: relation_of(seen), seen }
}

/// The state of a link that is up while a fresh end sees the other, and down while an end that
/// reports has its interface down.
pub(super) fn pair_state(state: &State, near: Near, far: Near, seen: [bool; 2]) -> EdgeState {
    let ends =
        [near, far].map(|end| state.agent(end.agent()).filter(|agent| !agent.silent).zip(Some(end.slot)));
    let down = ends.iter().flatten().any(|(agent, slot)| !agent.is_up(*slot));
    let told = ends.iter().zip(seen).any(|(end, seen)| end.is_some() && seen);
    match (told, down) {
        (_, true) => EdgeState::Down,
        (true, false) => EdgeState::Up,
        (false, false) => EdgeState::Unknown,
    }
}

/// Confirmed where both ends say so.
pub(super) fn relation_of(seen: [bool; 2]) -> Relation {
    if seen == [true, true] { Relation::Confirmed } else { Relation::OneSided }
}

/// The neighbour entry by which one interface sees the other.
pub(super) fn sees(state: &State, near: Near, far: Near) -> Option<Seen> {
    let agent = state.agent(near.agent())?;
    let lan = agent.interface(near.slot).is_some_and(|interface| carries_lan(agent, interface));
    let mut entries = agent.neighbours.iter().filter(|seen| lan && seen.slot == near.slot);
    entries.find(|seen| owner(state, near.agent(), seen.mac, seen.ip) == Some(far)).copied()
}

#[cfg(test)]
mod tests {
    use super::super::record::parse_mac;
    use super::*;

    #[test]
    fn shared_addresses_name_nobody() {
        let ambiguous = |text: &str| is_ambiguous(parse_mac(text).unwrap());
        for shared in ["00:00:5e:00:01:01", "00:00:5e:00:02:07", "02:42:ac:11:00:02", "00:00:0c:07:ac:01"] {
            assert!(ambiguous(shared), "{shared}");
        }
        assert!(ambiguous("33:33:00:00:00:01"), "multicast");
        assert!(!ambiguous("00:00:5e:00:53:01"), "RFC 7042's documentation range");
        assert!(!ambiguous("02:00:00:00:00:01"));
    }
}
