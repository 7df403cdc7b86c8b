//! What carries a tunnel's packets: the route to the other end's outer address (rule E8).

use std::net::IpAddr;

use proto::report::RouteKind;

use super::State;
use super::edge::{EdgeKey, Far, Near, is_public};
use super::record::{Agent, Device, Endpoint, Half, Iface, NO_SLOT, Slot};
use super::render;
use super::route_table::{Decision, Packet, lookup};
use super::routes::Route;
use super::stacking::foreign_vpn;
use super::view::{Underlay, UnderlayKind};
use super::{overlay, wireguard};

/// The interfaces that carry a tunnel interface's own packets, by its host's routes.
pub(super) fn carriers(agent: &Agent, interface: &Iface) -> Vec<Slot> {
    if let Some((_, remote)) = overlay::addresses(interface) {
        return route_slot(agent, remote, 0).into_iter().collect();
    }
    let Some(device) = agent.device(interface.slot) else { return Vec::new() };
    let endpoints = device.halves.iter().filter_map(|half| half.reach.endpoint());
    let mut carriers: Vec<Slot> = endpoints.filter_map(|endpoint| carrier(agent, device, endpoint)).collect();
    carriers.sort_unstable();
    carriers.dedup();
    carriers
}

fn carrier(agent: &Agent, device: &Device, endpoint: Endpoint) -> Option<Slot> {
    if endpoint.ip.is_loopback() {
        return None;
    }
    if endpoint.zone != NO_SLOT {
        return Some(endpoint.zone);
    }
    route_slot(agent, endpoint.ip, device.fwmark.unwrap_or(0))
}

fn route_slot(agent: &Agent, to: IpAddr, mark: u32) -> Option<Slot> {
    let route = decide(agent, to, mark).route.filter(|route| route.kind == RouteKind::Unicast)?;
    (route.slot != NO_SLOT).then_some(route.slot)
}

fn decide(agent: &Agent, to: IpAddr, mark: u32) -> Decision {
    lookup(agent, Packet { to, from: None, mark, came_by: None })
}

/// What carries one half's packets, where its endpoint is known.
pub(super) fn of_half(state: &State, near: Near, device: &Device, half: &Half) -> Option<Underlay> {
    let endpoint = half.reach.endpoint()?;
    of_endpoint(state, near, endpoint, device.fwmark.unwrap_or(0))
}

/// What carries the packets of a tunnel interface to an outer address.
pub(super) fn of_endpoint(state: &State, near: Near, endpoint: Endpoint, mark: u32) -> Option<Underlay> {
    let agent = state.agent(near.agent())?;
    let (kind, route) = way(agent, near.slot, endpoint, mark);
    let slot = route.map_or(endpoint.zone, |route| route.slot);
    let inside = (kind == UnderlayKind::Nested).then(|| inner_edge(state, near, slot, endpoint.ip));
    Some(Underlay {
        kind,
        interface: (slot != NO_SLOT).then(|| agent.name(slot).to_owned()),
        via: route.and_then(|route| route.gateway),
        inside: inside.flatten(),
        route: route.map(|route| route.destination),
    })
}

/// What kind of way the packets of an agent's tunnel interface take to an outer address, and by which route
/// where one says so.
pub(super) fn way(agent: &Agent, slot: Slot, endpoint: Endpoint, mark: u32) -> (UnderlayKind, Option<Route>) {
    if endpoint.ip.is_loopback() {
        return (UnderlayKind::Proxy, None);
    }
    if endpoint.zone != NO_SLOT {
        return (UnderlayKind::Lan, None);
    }
    let route = decide(agent, endpoint.ip, mark).route;
    let Some(route) = route.filter(|route| route.kind == RouteKind::Unicast && route.slot != NO_SLOT) else {
        return (UnderlayKind::NoRoute, None);
    };
    let is_tunnel = || {
        agent.interface(route.slot).is_some_and(|interface| {
            overlay::addresses(interface).is_some() || foreign_vpn(agent, interface).is_some()
        })
    };
    let kind = if route.slot == slot {
        UnderlayKind::Loop
    } else if agent.device(route.slot).is_some() || is_tunnel() {
        UnderlayKind::Nested
    } else if route.gateway.is_none() {
        UnderlayKind::Lan
    } else if is_public(endpoint.ip) {
        UnderlayKind::Internet
    } else {
        UnderlayKind::Routed
    };
    (kind, Some(route))
}

/// The id of the edge that a packet into a tunnel of the same host takes.
fn inner_edge(state: &State, near: Near, slot: Slot, to: IpAddr) -> Option<String> {
    let agent = state.agent(near.agent())?;
    let carrying = Near::new(near.agent(), slot);
    let mut edges = Vec::new();
    if let Some(device) = agent.device(slot) {
        let half = chosen_peer(device, to)?;
        wireguard::half_edges(state, carrying, device, half.key, &mut edges);
    } else {
        edges.extend(agent.claims.iter().copied().filter(|key| touches(*key, carrying)));
    }
    let [edge] = edges[..] else { return None };
    Some(render::id_of(state, edge))
}

fn touches(key: EdgeKey, end: Near) -> bool {
    key.near == end || key.far == Far::Agent(end)
}

/// The peer that a WireGuard device sends a packet to: the one with the longest AllowedIPs prefix
/// that holds its destination.
pub(super) fn chosen_peer(device: &Device, to: IpAddr) -> Option<&Half> {
    let prefixes =
        device.halves.iter().flat_map(|half| half.reach.allowed().map(move |prefix| (half, prefix)));
    let fitting = prefixes.filter(|(_, prefix)| prefix.contains(to));
    // Of equal prefixes the kernel keeps one only; a report with two cannot come from it.
    fitting.max_by_key(|(_, prefix)| prefix.prefix()).map(|(half, _)| half)
}
