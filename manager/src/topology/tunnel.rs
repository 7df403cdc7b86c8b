//! A path query inside a tunnel: which peer takes the packet, whether the tunnel works, what fits
//! into it, and whether the far end takes the packet from us.

use std::net::IpAddr;

use proto::ids::Cidr;
use proto::report::InterfaceKind;

use super::edge::{EdgeKey, Near};
use super::hop::{Hop, Outcome};
use super::path::{Step, Walk, other_end};
use super::record::{Agent, Device, Half, Iface, NEVER};
use super::shape::{EdgeState, Relation};
use super::underlay::{self, chosen_peer};
use super::view::UnderlayKind;
use super::{State, evidence, overlay, render, wireguard};

/// Bytes that WireGuard adds to a packet over IPv4 and over IPv6.
const WIREGUARD_OVERHEAD: [u32; 2] = [60, 80];

impl Walk<'_> {
    pub(super) fn through_wireguard(
        &self,
        agent: &Agent,
        near: Near,
        device: &Device,
        hop: &mut Hop,
    ) -> Step {
        let (label, name) = (agent.label(), agent.name(device.slot));
        let Some(half) = chosen_peer(device, self.to) else {
            let text = format!("no peer of {label}'s {name} has {} in its AllowedIPs", self.to);
            hop.evidence.push(evidence::from(agent, format!("wireguard[{name}].peers"), text.clone()));
            return Err((Outcome::NoAllowedIps, text));
        };
        let key = self.state.index.keys.key(half.key);
        let entry = best_prefix(half, self.to);
        hop.peer = Some(key);
        hop.allowed_ip = entry;
        if let Some(entry) = entry {
            let text = format!("{label}'s {name} gives {} to the peer {key} by AllowedIPs {entry}", self.to);
            hop.evidence.push(evidence::from(
                agent,
                format!("wireguard[{name}].peers[{key}].allowed_ips"),
                text,
            ));
        }
        if half.reach.endpoint().is_none() {
            return Err((Outcome::NoEndpoint, format!("the peer {key} on {label}'s {name} has no endpoint")));
        }
        self.check_underlay(agent, near, device, half, hop)?;
        let mut edges = Vec::new();
        wireguard::half_edges(self.state, near, device, half.key, &mut edges);
        let edge =
            edges.iter().max_by_key(|key| self.state.edges.get(key).map(|kept| kept.state == EdgeState::Up));
        let Some(edge) = edge.copied() else { return Err((Outcome::LeavesFleet, format!("the peer {key}"))) };
        hop.edge = Some(render::id_of(self.state, edge));
        if edges.len() > 1 {
            hop.caveats
                .push(format!("{} devices have the key {key}: which one answers is not known", edges.len()));
        }
        self.check_tunnel(agent, half, edge, hop)?;
        match other_end(edge, near) {
            Some(far) => self.check_source(agent, device, far, hop).map(|()| far),
            None => Err((Outcome::LeavesFleet, format!("the peer {key} of {label}'s {name} is no agent's"))),
        }
    }

    /// Whether the tunnel's own packets get out, and what fits into them.
    fn check_underlay(
        &self,
        agent: &Agent,
        near: Near,
        device: &Device,
        half: &Half,
        hop: &mut Hop,
    ) -> Result<(), (Outcome, String)> {
        let (label, name) = (agent.label(), agent.name(near.slot));
        let Some(underlay) = underlay::of_half(self.state, near, device, half) else { return Ok(()) };
        match underlay.kind {
            UnderlayKind::Loop => {
                let text = format!(
                    "{label}'s {name} would carry its own packets: its peer's endpoint is routed into it"
                );
                return Err((Outcome::Loop, text));
            }
            UnderlayKind::NoRoute => {
                return Err((
                    Outcome::NoRoute,
                    format!("{label} has no route to the endpoint of {name}'s peer"),
                ));
            }
            _ => {}
        }
        let carrier = underlay.interface.as_deref();
        let carrier = agent.interfaces.iter().find(|interface| Some(agent.name(interface.slot)) == carrier);
        let Some(carrier) = carrier else { return Ok(()) };
        let ipv6 = half.reach.endpoint().is_some_and(|endpoint| endpoint.ip.is_ipv6());
        fit(agent, name, carrier, WIREGUARD_OVERHEAD[usize::from(ipv6)], hop)
    }

    fn check_tunnel(
        &self,
        agent: &Agent,
        half: &Half,
        edge: EdgeKey,
        hop: &mut Hop,
    ) -> Result<(), (Outcome, String)> {
        let facts = wireguard::evaluate(self.state, edge);
        let id = hop.edge.clone().unwrap_or_default();
        let words = || evidence::of(self.state, edge);
        match facts.state {
            EdgeState::Up => Ok(()),
            EdgeState::Idle => {
                hop.caveats.push("the tunnel is idle: its first packet makes a new handshake".to_owned());
                Ok(())
            }
            EdgeState::Unknown if facts.relation != Relation::OneSided => {
                hop.caveats.push("the state of the tunnel is not known".to_owned());
                Ok(())
            }
            EdgeState::OneSided | EdgeState::Unknown => {
                hop.evidence.extend(words());
                Err((
                    Outcome::OneSided,
                    format!("the other end of {id} does not have {} as a peer", agent.label()),
                ))
            }
            EdgeState::Down if ends_down(self.state, edge) => {
                hop.evidence.extend(words());
                Err((Outcome::InterfaceDown, format!("an interface of {id} is down")))
            }
            EdgeState::Never | EdgeState::Stale | EdgeState::Down => {
                hop.evidence.extend(words());
                let age = match half.age_s {
                    NEVER => "never had a handshake".to_owned(),
                    age => format!("had its last handshake {age} s ago"),
                };
                Err((Outcome::NoHandshake, format!("{id} {age}, as {} sees it", agent.label())))
            }
        }
    }

    /// Whether the far device takes packets of this source from this peer.
    fn check_source(
        &self,
        agent: &Agent,
        device: &Device,
        far: Near,
        hop: &mut Hop,
    ) -> Result<(), (Outcome, String)> {
        let Some(source) = self.source else {
            hop.caveats.push(
                "the source address is not known, so the far end's AllowedIPs are not checked".to_owned(),
            );
            return Ok(());
        };
        let Some(other) = self.state.agent(far.agent()) else { return Ok(()) };
        let Some(there) = other.device(far.slot) else { return Ok(()) };
        let taken = chosen_peer(there, source).map(|half| half.key);
        if taken.is_some() && taken == device.key {
            return Ok(());
        }
        let name = other.name(far.slot);
        let text = format!(
            "{}'s {name} does not take {source} from {}: {}",
            other.label(),
            agent.label(),
            match taken {
                Some(key) => format!("its AllowedIPs give it to the peer {}", self.state.index.keys.key(key)),
                None => "it is in no peer's AllowedIPs".to_owned(),
            }
        );
        hop.evidence.push(evidence::from(
            other,
            format!("wireguard[{name}].peers.allowed_ips"),
            text.clone(),
        ));
        Err((Outcome::SourceRefused, text))
    }

    /// Whether another tunnel's own packets get out, and what fits into them.
    pub(super) fn check_overlay(
        &self,
        agent: &Agent,
        interface: Option<&Iface>,
        hop: &mut Hop,
    ) -> Result<(), (Outcome, String)> {
        let Some(interface) = interface else { return Ok(()) };
        let Some((_, remote)) = overlay::addresses(interface) else { return Ok(()) };
        let name = agent.name(interface.slot);
        let carriers = underlay::carriers(agent, interface);
        let Some(carrier) = carriers.first().and_then(|slot| agent.interface(*slot)) else {
            let text = format!("{} has no route to {remote}, where {name} goes", agent.label());
            return Err((Outcome::NoRoute, text));
        };
        let overhead = match (interface.kind, remote.is_ipv6()) {
            (InterfaceKind::Vxlan, false) => 50,
            (InterfaceKind::Vxlan, true) => 70,
            (InterfaceKind::Gre, false) => 24,
            (InterfaceKind::Gre, true) => 44,
            (_, false) => 20,
            (_, true) => 40,
        };
        fit(agent, name, carrier, overhead, hop)
    }
}

/// Whether the interface below a tunnel is up, and how much of a packet fits through it.
fn fit(
    agent: &Agent,
    name: &str,
    carrier: &Iface,
    overhead: u32,
    hop: &mut Hop,
) -> Result<(), (Outcome, String)> {
    let below = agent.name(carrier.slot);
    if !carrier.up {
        return Err((
            Outcome::InterfaceDown,
            format!("{}'s {below}, which carries {name}, is down", agent.label()),
        ));
    }
    let fits = carrier.mtu.saturating_sub(overhead);
    if carrier.mtu > 0 && hop.mtu.is_some_and(|mtu| mtu > fits) {
        hop.caveats
            .push(format!("{name} takes larger packets than {below} below it can carry: {fits} bytes fit"));
        hop.mtu = Some(fits);
    }
    Ok(())
}

fn ends_down(state: &State, edge: EdgeKey) -> bool {
    edge.agents()
        .into_iter()
        .flatten()
        .any(|end| state.agent(end.agent()).is_some_and(|agent| !agent.is_up(end.slot)))
}

fn best_prefix(half: &Half, to: IpAddr) -> Option<Cidr> {
    half.reach.allowed().filter(|prefix| prefix.contains(to)).max_by_key(|prefix| prefix.prefix())
}
