//! Tunnels other than WireGuard: VXLAN, GRE, IPIP and SIT joined by mirrored addresses (rules Y1
//! and Y2), layer-2 VPNs by link-layer addresses, and other VPNs as what lies behind them.

use std::net::IpAddr;

use proto::report::{InterfaceKind, TunnelData};

use super::State;
use super::edge::{EdgeKey, Facts, Far, Near, is_public};
use super::physical::{self, owner_where, pair_state, relation_of};
use super::record::{Agent, AgentIx, Iface, NO_SLOT, Seen};
use super::shape::{EdgeState, Layer, Relation};
use super::stacking::foreign_vpn;

/// The edges of an agent's tunnel interfaces.
pub(super) fn claims(state: &State, ix: AgentIx, found: &mut Vec<EdgeKey>) {
    let Some(agent) = state.agent(ix).filter(|agent| agent.overlays) else { return };
    for interface in &agent.interfaces {
        let near = Near::new(ix, interface.slot);
        let before = found.len();
        if carries_overlay(agent, interface) {
            let seen = agent.neighbours.iter().filter(|seen| seen.slot == interface.slot);
            let far = seen.filter_map(|seen| overlay_owner(state, ix, agent, interface, *seen));
            found.extend(far.map(|far| EdgeKey::between(state, Layer::Overlay, near, far)));
        }
        if let Some((local, remote)) = addresses(interface) {
            if let Some(far) = mirror(state, near, interface.kind, local, remote) {
                found.push(EdgeKey::between(state, Layer::Overlay, near, far));
            } else if let Some(far) = sole_owner(state, ix, remote) {
                found.push(EdgeKey::between(state, Layer::Overlay, near, Near::new(far, NO_SLOT)));
            } else if found.len() == before {
                found.push(EdgeKey::to(Layer::Overlay, near, Far::Behind));
            }
        } else if found.len() == before && foreign_vpn(agent, interface).is_some() {
            found.push(EdgeKey::to(Layer::Overlay, near, Far::Behind));
        }
    }
}

/// Whether an interface may have an overlay edge, by its own looks.
pub(super) fn may_have_edge(agent: &Agent, interface: &Iface) -> bool {
    addresses(interface).is_some() || carries_overlay(agent, interface)
}

/// The outer addresses of a tunnel between two hosts.
pub(super) fn addresses(interface: &Iface) -> Option<(IpAddr, IpAddr)> {
    use InterfaceKind::{Gre, Ipip, Sit, Vxlan};
    let tunnel = interface.tunnel().filter(|_| matches!(interface.kind, Gre | Ipip | Sit | Vxlan))?;
    let usable = |ip: &IpAddr| !ip.is_unspecified() && !ip.is_multicast();
    Some((tunnel.local.filter(usable)?, tunnel.remote.filter(usable)?))
}

/// The one tunnel in the fleet whose outer addresses are this one's the other way round, at an
/// agent that holds the remote address (Y1, Y2). Several are none: private addresses repeat.
fn mirror(state: &State, near: Near, kind: InterfaceKind, local: IpAddr, remote: IpAddr) -> Option<Near> {
    let mirrored = state.index.tunnels(kind, remote, local).iter();
    let mut fitting = mirrored.map(|&(agent, slot)| Near::new(agent, slot)).filter(|far| {
        let holds = state.agent(far.agent()).is_some_and(|agent| agent.owner_of(remote).is_some());
        *far != near && holds
    });
    let tunnel = |near: Near| {
        let interface = state.agent(near.agent())?.interface(near.slot)?;
        interface.tunnel().map(|tunnel| (tunnel.id, tunnel.port))
    };
    let first = fitting.next()?;
    let mut all: Vec<Near> = std::iter::once(first).chain(fitting).collect();
    // Several tunnels between the same two hosts differ in their number.
    if all.len() > 1 {
        all.retain(|far| tunnel(*far) == tunnel(near));
    }
    let [far] = all[..] else { return None };
    // A tunnel that has an exact partner is not another's mismatched one.
    let taken = || {
        state
            .index
            .tunnels(kind, local, remote)
            .iter()
            .any(|&(agent, slot)| tunnel(Near::new(agent, slot)) == tunnel(far))
    };
    (tunnel(far) == tunnel(near) || !taken()).then_some(far)
}

/// The only agent that holds an address, where the address tells who is meant: a public one, one
/// that our AllowedIPs give to that agent, or one that a neighbour entry resolves to it.
fn sole_owner(state: &State, seeker: AgentIx, ip: IpAddr) -> Option<AgentIx> {
    let mut owners = state.index.address_owners(ip).map(|owner| owner.0).filter(|ix| *ix != seeker);
    let owner = owners.next()?;
    if owners.any(|ix| ix != owner) {
        return None;
    }
    let agent = state.agent(seeker)?;
    let allowed = || {
        let halves = agent.devices.iter().flat_map(|device| &device.halves);
        let mut halves = halves.filter(|half| half.reach.allowed().any(|prefix| prefix.contains(ip)));
        halves.any(|half| state.index.keys.owners(half.key).iter().any(|device| device.0 == owner))
    };
    let resolved = || {
        let mut seen = agent.neighbours.iter().filter(|seen| seen.ip == ip);
        seen.any(|seen| {
            physical::owner(state, seeker, seen.mac, ip).is_some_and(|near| near.agent() == owner)
        })
    };
    (is_public(ip) || allowed() || resolved()).then_some(owner)
}

/// Whether neighbours on an interface are hosts at the far end of a layer-2 overlay.
pub(super) fn carries_overlay(agent: &Agent, interface: &Iface) -> bool {
    interface.kind == InterfaceKind::Vxlan
        || interface.kind == InterfaceKind::Tap
        || foreign_vpn(agent, interface).is_some()
}

/// The overlay interface of another agent that a neighbour entry means: the same kind of overlay,
/// and for VXLAN the same network.
fn overlay_owner(state: &State, ix: AgentIx, agent: &Agent, interface: &Iface, seen: Seen) -> Option<Near> {
    let vpn = foreign_vpn(agent, interface);
    let number = |interface: &Iface| interface.tunnel().and_then(|tunnel| tunnel.id);
    owner_where(state, ix, seen.mac, seen.ip, |other, candidate| {
        carries_overlay(other, candidate)
            && candidate.kind == interface.kind
            && number(candidate) == number(interface)
            && foreign_vpn(other, candidate) == vpn
            && other.holds(candidate, seen.ip)
    })
}

/// What an overlay edge is, from the latest reports of those that tell of it.
pub(super) fn evaluate(state: &State, key: EdgeKey) -> Facts {
    let Far::Agent(far) = key.far else { return evaluate_behind(state, key.near) };
    let near = key.near;
    if near.slot == NO_SLOT || far.slot == NO_SLOT {
        let seen = [near.slot != NO_SLOT, far.slot != NO_SLOT];
        let fresh = [near, far].iter().all(|end| state.agent(end.agent()).is_some_and(|agent| !agent.silent));
        let state = if fresh { EdgeState::OneSided } else { EdgeState::Unknown };
        return Facts { state, relation: Relation::OneSided, seen };
    }
    let seen = [says(state, near, far), says(state, far, near)];
    let mut verdict = pair_state(state, near, far, seen);
    if verdict == EdgeState::Up && mismatch(state, near, far).is_some() {
        verdict = EdgeState::Down;
    }
    Facts { state: verdict, relation: relation_of(seen), seen }
}

/// Whether an agent's report tells of the overlay edge to another's interface.
pub(super) fn says(state: &State, near: Near, far: Near) -> bool {
    let Some(agent) = state.agent(near.agent()) else { return false };
    let Some(interface) = agent.interface(near.slot) else { return false };
    let by_address = addresses(interface)
        .is_some_and(|(local, remote)| mirror(state, near, interface.kind, local, remote) == Some(far));
    by_address || sees(state, near, far).is_some()
}

/// The neighbour entry by which one overlay interface sees the other.
pub(super) fn sees(state: &State, near: Near, far: Near) -> Option<Seen> {
    let agent = state.agent(near.agent())?;
    let interface = agent.interface(near.slot).filter(|interface| carries_overlay(agent, interface))?;
    let mut entries = agent.neighbours.iter().filter(|seen| seen.slot == near.slot);
    entries.find(|seen| overlay_owner(state, near.agent(), agent, interface, **seen) == Some(far)).copied()
}

/// The settings of two mirrored tunnels that exclude each other: what, here, there (Y1).
pub(super) fn mismatch(state: &State, near: Near, far: Near) -> Option<(&'static str, u32, u32)> {
    let tunnel =
        |end: Near| -> Option<&TunnelData> { state.agent(end.agent())?.interface(end.slot)?.tunnel() };
    let (a, b) = (tunnel(near)?, tunnel(far)?);
    let differ =
        |what, a: Option<u32>, b: Option<u32>| a.zip(b).filter(|(a, b)| a != b).map(|(a, b)| (what, a, b));
    differ("network number", a.id, b.id)
        .or_else(|| differ("UDP port", a.port.map(u32::from), b.port.map(u32::from)))
}

fn evaluate_behind(state: &State, near: Near) -> Facts {
    let agent = state.agent(near.agent()).filter(|agent| !agent.silent);
    let interface = agent.and_then(|agent| Some((agent, agent.interface(near.slot)?)));
    let state = match interface {
        None => EdgeState::Unknown,
        Some((_, interface)) if !interface.up => EdgeState::Down,
        // A VPN's process holds its interface up; GRE and its like are up whatever is behind.
        Some((agent, interface)) if foreign_vpn(agent, interface).is_some() => EdgeState::Up,
        Some(_) => EdgeState::Unknown,
    };
    Facts { state, relation: Relation::External, seen: [true, false] }
}
