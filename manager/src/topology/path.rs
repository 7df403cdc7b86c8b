//! Where a packet would go: hop by hop as the hosts' kernels decide, from what they reported.

use std::fmt;
use std::net::IpAddr;

use proto::ids::{AgentId, Cidr};
use proto::report::RouteKind;

use super::State;
use super::edge::{EdgeKey, Far, Near, is_global};
use super::evidence;
use super::hop::{Hop, Lookup, Outcome, PathAnswer, Target, Way};
use super::record::{Agent, AgentIx, Iface, NO_SLOT, Slot};
use super::route_table::{Packet, lookup};
use super::routes::Route;
use super::shape::Layer;
use super::{overlay, physical, render};

/// Hosts on a way: Linux sends packets with a hop limit of 64 (`IPDEFTTL`).
const HOPS_MAX: usize = 64;
/// Why a path query has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathError {
    /// No agent of this id reports.
    UnknownAgent(AgentId),
    /// The agent has no address that others could send to.
    NoAddress(AgentId),
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownAgent(id) => write!(f, "agent {id} is not known"),
            Self::NoAddress(id) => write!(f, "agent {id} has no address beyond its own links"),
        }
    }
}

impl std::error::Error for PathError {}

/// The way from an agent to an address or to another agent, and back.
///
/// # Errors
/// When an agent is not known, or the one asked for has no address.
pub fn path(state: &State, from: AgentId, to: Target) -> Result<PathAnswer, PathError> {
    let start = state.find(from).ok_or(PathError::UnknownAgent(from))?;
    let to = match to {
        Target::Address(ip) => ip,
        Target::Agent(id) => {
            let target = state.find(id).and_then(|ix| state.agent(ix)).ok_or(PathError::UnknownAgent(id))?;
            best_address(state, start, target).ok_or(PathError::NoAddress(id))?
        }
    };
    let mut there = Walk::new(state, start, to, None);
    let (end, forward) = there.run();
    let source = there.source;
    let back = (forward.outcome == Outcome::Delivered && end != start)
        .then(|| source.map(|source| Walk::new(state, end, source, Some(to)).run().1))
        .flatten();
    let asymmetric = back.as_ref().is_some_and(|back| !mirrors(&forward, back));
    Ok(PathAnswer { from, to, source, at: state.now, forward, back, asymmetric })
}

/// The address of an agent to which another has the most specific route.
fn best_address(state: &State, start: AgentIx, target: &Agent) -> Option<IpAddr> {
    let agent = state.agent(start)?;
    let addresses = target.addresses.iter().map(|address| address.address());
    let routed = |to: IpAddr| {
        let route = lookup(agent, Packet { to, from: None, mark: 0, came_by: None }).route;
        let tunnel = route.is_some_and(|route| agent.device(route.slot).is_some());
        route.map(|route| (route.destination.prefix() > 0, tunnel, route.destination.prefix()))
    };
    addresses.filter(|ip| is_global(*ip)).max_by_key(|ip| (routed(*ip), ip.is_ipv4(), std::cmp::Reverse(*ip)))
}

/// Whether the way back passes the same agents by the same interfaces.
fn mirrors(forward: &Way, back: &Way) -> bool {
    let there = forward.hops.iter().map(|hop| (hop.agent, &hop.came_by, &hop.leaves_by));
    let back = back.hops.iter().rev().map(|hop| (hop.agent, &hop.leaves_by, &hop.came_by));
    there.eq(back)
}

/// A packet under way.
pub(super) struct Walk<'a> {
    pub(super) state: &'a State,
    pub(super) to: IpAddr,
    pub(super) source: Option<IpAddr>,
    at: AgentIx,
    came_by: Option<Slot>,
    /// Which host handed it to which interface.
    passed: Vec<(AgentIx, Near)>,
    hops: Vec<Hop>,
    mtus: Vec<u32>,
}

/// What a host does with a packet: hands it on to another's interface, or ends its way.
pub(super) type Step = Result<Near, (Outcome, String)>;

impl<'a> Walk<'a> {
    fn new(state: &'a State, start: AgentIx, to: IpAddr, source: Option<IpAddr>) -> Self {
        Self {
            state,
            to,
            source,
            at: start,
            came_by: None,
            passed: Vec::new(),
            hops: Vec::new(),
            mtus: Vec::new(),
        }
    }

    fn run(&mut self) -> (AgentIx, Way) {
        let (outcome, text) = loop {
            if self.hops.len() >= HOPS_MAX {
                break (Outcome::TooManyHops, format!("{HOPS_MAX} hosts passed"));
            }
            let Some(agent) = self.state.agent(self.at) else {
                break (Outcome::LeavesFleet, "an agent that is not known".to_owned());
            };
            let mut hop = self.new_hop(agent);
            let step = self.step(agent, &mut hop);
            self.mtus.extend(hop.mtu);
            self.hops.push(hop);
            match step {
                Ok(next) if self.passed.contains(&(self.at, next)) => {
                    let label = |ix| self.state.agent(ix).map(Agent::label).unwrap_or_default();
                    let (here, next) = (label(self.at), label(next.agent()));
                    let text = format!("back at {here}, which sends it to {next} again");
                    break (Outcome::Loop, text);
                }
                Ok(next) => {
                    self.passed.push((self.at, next));
                    self.at = next.agent();
                    self.came_by = Some(next.slot);
                }
                Err(end) => break end,
            }
        };
        let ends_at = self.state.agent(self.at).map_or(AgentId([0; 16]), |agent| agent.id);
        let least_before = |i: usize| self.mtus[..i].iter().min();
        let mut drops =
            (1..self.mtus.len()).filter(|i| least_before(*i).is_some_and(|least| self.mtus[*i] < *least));
        let way = Way {
            mtu_drop_at: drops.next_back(),
            mtu: self.mtus.iter().min().copied(),
            hops: std::mem::take(&mut self.hops),
            outcome,
            ends_at,
            text,
            mtus: self.mtus.clone(),
        };
        (self.at, way)
    }

    fn new_hop(&self, agent: &Agent) -> Hop {
        let mut caveats = Vec::new();
        if agent.silent {
            caveats.push(format!("{} is silent: what it reported last may be out of date", agent.label()));
        }
        Hop {
            agent: agent.id,
            name: agent.label(),
            came_by: self.came_by.map(|slot| agent.name(slot).to_owned()),
            leaves_by: None,
            route: None,
            peer: None,
            allowed_ip: None,
            edge: None,
            mtu: None,
            caveats,
            evidence: Vec::new(),
        }
    }

    fn step(&mut self, agent: &Agent, hop: &mut Hop) -> Step {
        let label = agent.label();
        if let Some(interface) = agent.owner_of(self.to) {
            let name = agent.name(interface.slot);
            let text = format!("{} is {label}'s address on {name}", self.to);
            hop.evidence.push(evidence::from(agent, format!("interfaces[{name}].addresses"), text.clone()));
            return Err((Outcome::Delivered, text));
        }
        if self.came_by.is_some() {
            self.check_forwarding(agent, hop)?;
        }
        let route = self.route(agent, hop)?;
        if self.source.is_none() {
            self.source = source_of(agent, &route, self.to);
        }
        let name = agent.name(route.slot);
        hop.leaves_by = Some(name.to_owned());
        let interface = agent.interface(route.slot);
        hop.mtu = interface.map(|interface| interface.mtu).filter(|mtu| *mtu > 0);
        if !agent.is_up(route.slot) {
            return Err((Outcome::InterfaceDown, format!("{label}'s {name} is down")));
        }
        let near = Near::new(self.at, route.slot);
        if let Some(device) = agent.device(route.slot) {
            return self.through_wireguard(agent, near, device, hop);
        }
        self.check_overlay(agent, interface, hop)?;
        let next_hop = route.gateway.unwrap_or(self.to);
        let far = self.over_link(near, next_hop, hop).ok_or_else(|| {
            let text = if interface.is_some_and(|i| underlay_like(agent, i)) {
                format!("it goes into {label}'s {name}, whose other end is no known agent's")
            } else {
                format!("{next_hop} on {label}'s {name} is no known agent's")
            };
            (Outcome::LeavesFleet, text)
        })?;
        let Some(other) = self.state.agent(far.agent()).filter(|other| !other.is_up(far.slot)) else {
            return Ok(far);
        };
        Err((Outcome::InterfaceDown, format!("{}'s {} is down", other.label(), other.name(far.slot))))
    }

    fn check_forwarding(&self, agent: &Agent, hop: &mut Hop) -> Result<(), (Outcome, String)> {
        let on = agent.forwarding.as_ref().map(|f| if self.to.is_ipv4() { f.ipv4 } else { f.ipv6 });
        match on {
            Some(true) => Ok(()),
            Some(false) => {
                let family = if self.to.is_ipv4() { "IPv4" } else { "IPv6" };
                let text = format!("{} does not forward {family}", agent.label());
                hop.evidence.push(evidence::from(agent, "forwarding".to_owned(), text.clone()));
                Err((Outcome::ForwardingOff, text))
            }
            None => {
                hop.caveats.push("it did not report whether it forwards packets".to_owned());
                Ok(())
            }
        }
    }

    fn route(&self, agent: &Agent, hop: &mut Hop) -> Result<Route, (Outcome, String)> {
        let packet = Packet { to: self.to, from: self.source, mark: 0, came_by: self.came_by };
        let decision = lookup(agent, packet);
        hop.caveats.extend(decision.caveats);
        let label = agent.label();
        let Some(route) = decision.route else {
            let text = format!("{label} has no route to {}", self.to);
            hop.evidence.push(evidence::from(agent, "routes".to_owned(), text.clone()));
            return Err((Outcome::NoRoute, text));
        };
        let Route { destination, gateway, metric, table, .. } = route;
        hop.route = Some(Lookup { destination, gateway, metric, table });
        let via = gateway.map_or_else(String::new, |gateway| format!(" via {gateway}"));
        let kind = format!("{:?}", route.kind).to_lowercase();
        let way = match route.kind {
            RouteKind::Unicast => format!("over {}{via}", agent.name(route.slot)),
            _ => format!("as {kind}"),
        };
        let text =
            format!("{label} routes {} by {destination} {way}, metric {metric}, table {table}", self.to);
        hop.evidence.push(evidence::from(agent, format!("routes[{destination}]"), text));
        if route.kind != RouteKind::Unicast {
            return Err((Outcome::Refused, format!("{label}'s route {destination} is of the kind {kind}")));
        }
        if route.slot == NO_SLOT {
            return Err((Outcome::NoRoute, format!("{label}'s route {destination} names no interface")));
        }
        Ok(route)
    }

    /// The agent's interface that an address on a link belongs to.
    fn over_link(&self, near: Near, next_hop: IpAddr, hop: &mut Hop) -> Option<Near> {
        let state = self.state;
        let agent = state.agent(near.agent())?;
        let on_edge = |edge: EdgeKey| {
            let far = other_end(edge, near).filter(|far| far.slot != NO_SLOT)?;
            let holds = state.agent(far.agent())?.owner_of(next_hop).is_some();
            Some((edge, far, holds))
        };
        let edges: Vec<(EdgeKey, Near, bool)> =
            agent.claims.iter().filter_map(|edge| on_edge(*edge)).collect();
        let point_to_point = edges.len() == 1 && edges[0].0.layer == Layer::Overlay;
        if let Some((edge, far, _)) = edges.iter().find(|(_, _, holds)| *holds || point_to_point) {
            hop.edge = Some(render::id_of(state, *edge));
            return Some(*far);
        }
        let seen = agent.neighbours.iter().find(|seen| seen.slot == near.slot && seen.ip == next_hop);
        if let Some(far) = seen.and_then(|seen| physical::owner(state, near.agent(), seen.mac, seen.ip)) {
            hop.edge = self.lan_edge(near);
            return Some(far);
        }
        // Not resolved here, but the other end sees us.
        let owners = || state.index.address_owners(next_hop).map(|(agent, slot)| Near::new(agent, slot));
        let joined = owners().find_map(|far| {
            let mut edges =
                [Layer::Physical, Layer::Overlay].map(|layer| EdgeKey::between(state, layer, near, far));
            edges.sort_unstable();
            edges.into_iter().find(|edge| state.edges.contains(edge)).map(|edge| (edge, far))
        });
        if let Some((edge, far)) = joined {
            hop.caveats.push(format!("{} has not resolved {next_hop}; the other end sees it", agent.label()));
            hop.edge = Some(render::id_of(state, edge));
            return Some(far);
        }
        // Not resolved yet, but on the same LAN: who shares a gateway with us there holds it.
        let mine = |other: &Agent, slot: Slot| {
            let mac = other.interface(slot).and_then(|interface| interface.mac);
            let mut theirs = other.lans.iter().filter(|lan| lan.slot == slot).map(|lan| lan.mac);
            let ours = |gateway| {
                agent.lans.iter().any(|l| (l.slot, l.mac) == (near.slot, gateway))
                    && !physical::is_ambiguous(gateway)
            };
            theirs.any(ours) || mac.is_some_and(ours)
        };
        let mut owners =
            owners().filter(|far| state.agent(far.agent()).is_some_and(|other| mine(other, far.slot)));
        let far = owners.next().filter(|far| far.agent() != near.agent())?;
        hop.edge = self.lan_edge(near);
        Some(far)
    }

    fn lan_edge(&self, near: Near) -> Option<String> {
        let agent = self.state.agent(near.agent())?;
        let mut edges =
            agent.claims.iter().filter(|edge| edge.near == near && matches!(edge.far, Far::Lan(_)));
        edges.next().map(|edge| render::id_of(self.state, *edge))
    }
}

fn underlay_like(agent: &Agent, interface: &Iface) -> bool {
    overlay::addresses(interface).is_some() || overlay::carries_overlay(agent, interface)
}

pub(super) fn other_end(edge: EdgeKey, near: Near) -> Option<Near> {
    match edge.far {
        Far::Agent(far) if edge.near == near => Some(far),
        Far::Agent(far) if far == near => Some(edge.near),
        _ => None,
    }
}

/// The source address that a kernel chooses: the route's own, or one of its interface, one that has
/// the next hop in its prefix first; or else any of the host's.
fn source_of(agent: &Agent, route: &Route, to: IpAddr) -> Option<IpAddr> {
    if route.source.is_some() {
        return route.source;
    }
    let next_hop = route.gateway.unwrap_or(to);
    let fits = |address: &&Cidr| address.address().is_ipv4() == to.is_ipv4() && is_global(address.address());
    let own = agent.interface(route.slot).map_or(&[][..], |interface| agent.addresses(interface));
    let near = own.iter().filter(fits).find(|address| address.contains(next_hop));
    let any = || own.iter().find(fits);
    let all = || agent.addresses.iter().find(fits);
    near.or_else(any).or_else(all).map(|address| address.address())
}
