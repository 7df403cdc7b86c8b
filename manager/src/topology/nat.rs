//! How an agent's WireGuard peers see it: at its own address, or at that of a NAT (rule E9).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use proto::ids::AgentId;

use super::State;
use super::edge::{Near, is_global, is_public, is_shared};
use super::evidence::{self, Evidence};
use super::record::{Agent, AgentIx, Slot};
use super::shape::Handshake;
use super::underlay;
use super::view::{Nat, NatKind, Site, UnderlayKind};

/// What one peer sees of an agent's device.
#[derive(Debug, Clone)]
struct Sighting {
    slot: Slot,
    listen_port: u16,
    ip: IpAddr,
    port: u16,
    by: Near,
}

/// How an agent's peers see it.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) nat: Nat,
    /// The public address at which the internet sees it, where that is not its own.
    pub(super) outside: Option<IpAddr>,
}

/// How an agent's peers see it; `None` where none of them can tell.
pub(super) fn of(state: &State, ix: AgentIx, with_evidence: bool) -> Option<Seen> {
    let agent = state.agent(ix)?;
    let sightings = sightings(state, ix);
    let (own, others): (Vec<_>, Vec<_>) = sightings.iter().partition(|s| agent.owner_of(s.ip).is_some());
    if others.is_empty() && !own.iter().any(|sighting| is_public(sighting.ip)) {
        return None; // a private address of its own, seen from next door, says nothing of NAT
    }
    let mut ports: BTreeMap<(Slot, IpAddr), BTreeSet<u16>> = BTreeMap::new();
    let mut seen: BTreeMap<IpAddr, usize> = BTreeMap::new();
    for sighting in &others {
        ports.entry((sighting.slot, sighting.ip)).or_default().insert(sighting.port);
        *seen.entry(sighting.ip).or_default() += usize::from(is_public(sighting.ip));
    }
    let kind = match () {
        () if others.is_empty() => NatKind::None,
        () if ports.values().any(|ports| ports.len() > 1) => NatKind::Symmetric,
        () => NatKind::Nat,
    };
    let kept = !others.is_empty() && others.iter().all(|sighting| sighting.port == sighting.listen_port);
    let telling = if others.is_empty() { &own } else { &others };
    let words = telling.iter().filter(|_| with_evidence).filter_map(|sighting| words(state, agent, sighting));
    let nat = Nat {
        kind,
        carrier: !others.is_empty() && way_out(agent).iter().any(|ip| is_shared(*ip)),
        port_kept: (!others.is_empty()).then_some(kept),
        evidence: words.collect(),
    };
    Some(Seen { nat, outside: most_seen(seen) })
}

/// As [`Seen::outside`], alone.
pub(super) fn outside(state: &State, ix: AgentIx) -> Option<IpAddr> {
    let agent = state.agent(ix)?;
    let mut seen: Vec<(IpAddr, usize)> = Vec::new();
    let fits = |ip| is_public(ip) && agent.owner_of(ip).is_none();
    each_sighting(state, ix, fits, |sighting| match seen.iter_mut().find(|(ip, _)| *ip == sighting.ip) {
        Some((_, count)) => *count += 1,
        None => seen.push((sighting.ip, 1)),
    });
    most_seen(seen)
}

/// With several ways out, the one that most peers see; of equals the lowest.
fn most_seen(seen: impl IntoIterator<Item = (IpAddr, usize)>) -> Option<IpAddr> {
    let most = seen.into_iter().filter(|(_, count)| *count > 0);
    most.max_by_key(|(ip, count)| (*count, std::cmp::Reverse(*ip))).map(|(ip, _)| ip)
}

/// Agents grouped by the address at which the internet sees them, with the one that holds it.
pub(super) fn sites(state: &State, outside: impl IntoIterator<Item = (AgentIx, IpAddr)>) -> Vec<Site> {
    let members = outside.into_iter().filter_map(|(ix, ip)| Some((ip, state.agent(ix)?.id)));
    let mut members: Vec<(IpAddr, AgentId)> = members.collect();
    members.sort_unstable();
    let sites = members.chunk_by(|a, b| a.0 == b.0).map(|group| {
        let address = group[0].0;
        let mut owners = state.index.address_owners(address);
        let router = owners.next().filter(|first| owners.all(|owner| owner.0 == first.0));
        let router = router.and_then(|owner| state.agent(owner.0)).map(|agent| agent.id);
        Site { address, agents: group.iter().map(|(_, id)| *id).collect(), router }
    });
    sites.collect()
}

/// Where the agents that have one of its keys as a peer, and a live handshake, send to, in order.
fn sightings(state: &State, ix: AgentIx) -> Vec<Sighting> {
    let mut found = Vec::new();
    let Some(agent) = state.agent(ix) else { return found };
    each_sighting(state, ix, |_| true, |sighting| found.push(sighting));
    // Slots are numbered as names came, so they are no order.
    let name = |near: &Near| state.agent(near.agent()).map(|agent| (agent.id, agent.name(near.slot)));
    found.sort_by_cached_key(|sighting| (agent.name(sighting.slot), name(&sighting.by)));
    found
}

/// Tells at which addresses that fit its peers see an agent. Not through another tunnel or a program on their
/// host: those show inner addresses.
fn each_sighting(state: &State, ix: AgentIx, fits: impl Fn(IpAddr) -> bool, mut tell: impl FnMut(Sighting)) {
    let Some(agent) = state.agent(ix) else { return };
    for device in &agent.devices {
        let Some(key) = device.key.filter(|key| state.index.keys.owners(*key).len() == 1) else { continue };
        for &(by, slot) in state.index.keys.holders(key).iter().filter(|holder| holder.0 != ix) {
            let Some(holder) = state.agent(by).filter(|holder| !holder.silent) else { continue };
            let Some(there) = holder.device(slot) else { continue };
            let Some(half) = there.half(key).filter(|half| half.handshake(holder) == Handshake::Live) else {
                continue;
            };
            let endpoint = half.reach.endpoint().filter(|to| is_global(to.ip) && fits(to.ip));
            let Some(endpoint) = endpoint else { continue };
            let (way, _) = underlay::way(holder, slot, endpoint, there.fwmark.unwrap_or(0));
            if matches!(way, UnderlayKind::Nested | UnderlayKind::Proxy | UnderlayKind::Loop) {
                continue;
            }
            let (ip, port, by) = (endpoint.ip, endpoint.port, Near::new(by, slot));
            tell(Sighting { slot: device.slot, listen_port: device.listen_port, ip, port, by });
        }
    }
}

fn way_out(agent: &Agent) -> Vec<IpAddr> {
    let defaults = agent
        .routes
        .iter()
        .filter(|route| route.destination.prefix() == 0 && route.destination.address().is_ipv4());
    let interfaces = defaults.filter_map(|route| agent.interface(route.slot));
    interfaces
        .flat_map(|interface| agent.addresses(interface).iter().map(|address| address.address()))
        .collect()
}

fn words(state: &State, agent: &Agent, sighting: &Sighting) -> Option<Evidence> {
    let by = state.agent(sighting.by.agent())?;
    let device = agent.device(sighting.slot)?;
    let key = state.index.keys.key(device.key?);
    let name = agent.name(sighting.slot);
    let place = if agent.owner_of(sighting.ip).is_some() {
        "an address of its own"
    } else {
        "not an address of its own"
    };
    let text = format!(
        "{} sees {}'s {name} at {}, {place}; it listens on port {}",
        by.label(),
        agent.label(),
        std::net::SocketAddr::new(sighting.ip, sighting.port),
        sighting.listen_port,
    );
    let there = by.name(sighting.by.slot);
    Some(evidence::from(by, format!("wireguard[{there}].peers[{key}].endpoint"), text))
}
