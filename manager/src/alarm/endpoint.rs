//! Where tunnels lead outside: loops, roaming, NAT, MTU (rules D11, D15 to D18).

use proto::ids::{AgentId, PublicKey};
use proto::report::InterfaceKind;

use super::facts::{Facts, Side};
use super::watch::host_of;
use super::wireguard::RECENT;
use super::{Finding, Rule};
use crate::topology::{EdgeState, LIVE_S, NatKind, Nic, UnderlayKind};

pub(super) const RULES: &[Rule] = &[own_tunnel, drift, roaming, no_endpoint, nat, mtu_mismatch, mtu_too_big];

/// More changes of address than this within 15 minutes are no roaming.
const MOVES: usize = 4;

fn own_tunnel(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    for tunnel in facts.tunnels() {
        for (number, side) in tunnel.ends.iter().enumerate() {
            let Some(side) = side.filter(|side| side.host.fresh) else { continue };
            let Some(half) = side.half else { continue };
            let Some(way) = half.underlay.as_ref().filter(|way| way.kind == UnderlayKind::Loop) else {
                continue;
            };
            let name = facts.name(side.id);
            let other =
                tunnel.ends[1 - number].map_or_else(|| "its peer".to_owned(), |other| facts.name(other.id));
            let at = half.shape.endpoint.as_deref().unwrap_or_default();
            let host = at.rsplit_once(':').map_or(at, |(host, _)| host);
            let route = way.route.map(|route| route.to_string()).unwrap_or_default();
            let finding = Finding::new("ENDPOINT_IN_OWN_TUNNEL", format!("{} at {}", tunnel.edge.shape.id, side.id))
                .say(format!("{name} sends the packets of its tunnel to {other} into that same tunnel, so none leaves the host."))
                .because(format!("the route {route} dev {} also covers the endpoint {at}", side.interface))
                .next(format!("on {name}: ip route add {host} via YOUR_GATEWAY, or set a FwMark with a rule for it, as wg-quick does"))
                .proof([
                    facts.proof(side.id, "routes", format!("{name} routes {host} by {route} into {}", side.interface)),
                    side.proof(facts, tunnel.ends[1 - number].as_ref()),
                ])
                .of(tunnel.agents())
                .every(facts.interval(&tunnel.agents()));
            found.push(finding);
        }
    }
}

/// Where a host is seen by others, while this end of a tunnel sends to where it is no longer: what a
/// name in a configuration leads to, which WireGuard resolves once. Who sees it, and at which endpoint.
pub(super) fn drifted<'f>(
    facts: &'f Facts<'_>,
    from: &Side<'_>,
    to: &Side<'_>,
) -> Option<(&'f Side<'f>, &'f str)> {
    let half = from.half?;
    let is_old = half.handshake_age_s.is_none_or(|age| age > LIVE_S);
    let wanted = from.is_unanswered() || is_old && half.shape.keepalive_s.is_some();
    let way = half.underlay.as_ref().map(|way| way.kind);
    if !wanted || !matches!(way, Some(UnderlayKind::Internet)) {
        return None;
    }
    let set = host_of(half.shape.endpoint.as_deref()?);
    let own = |side: &Side<'_>| {
        let nics = side.host.view.nics();
        nics.iter().flat_map(Nic::addresses).any(|address| address.address().to_string() == set)
    };
    let key = to.key()?;
    // Its own address, or one by which somebody reaches it: the tunnel fails for another reason.
    let seen = sightings(facts, to.id, key);
    if own(to) || seen.iter().any(|(_, at)| host_of(at) == set) {
        return None;
    }
    seen.into_iter().next()
}

/// Where the peers of a host that have a live handshake with it see it, across the internet.
fn sightings<'f>(facts: &'f Facts<'_>, id: AgentId, key: PublicKey) -> Vec<(&'f Side<'f>, &'f str)> {
    let theirs = facts.tunnels_of(id).flat_map(|tunnel| tunnel.ends.iter().flatten());
    let live = theirs.filter(|side| side.id != id && side.host.fresh).filter_map(|side| {
        let half = side.half.filter(|half| half.shape.peer == key)?;
        let live = half.handshake_age_s.is_some_and(|age| age <= LIVE_S);
        let outside = half.underlay.as_ref().is_some_and(|way| way.kind == UnderlayKind::Internet);
        Some((side, half.shape.endpoint.as_deref().filter(|_| live && outside)?))
    });
    live.collect()
}

/// D18. An agent does not see the names in its host's configuration; what it sees is enough.
fn drift(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    for (tunnel, [a, b]) in facts.confirmed() {
        for (from, to) in [(a, b), (b, a)] {
            let Some((witness, at)) = drifted(facts, &from, &to) else { continue };
            let (name, other) = (facts.name(from.id), facts.name(to.id));
            let set = from.half.and_then(|half| half.shape.endpoint.as_deref()).unwrap_or_default();
            let key = to.key().map(|key| key.to_string()).unwrap_or_default();
            let finding = Finding::new("ENDPOINT_DNS_DRIFT", format!("{} at {}", tunnel.edge.shape.id, from.id))
                .say(format!("{name} still sends to {other} at {}; {other} is at {} now.", host_of(set), host_of(at)))
                .because(format!("{other}'s address changed, and WireGuard resolves the name in a configuration once, when the interface starts"))
                .next(format!("on {name}: wg set {} peer {key} endpoint {at}; to have it done by itself, run reresolve-dns of wireguard-tools by a timer", from.interface))
                .proof([from.proof(facts, Some(&to)), witness.proof(facts, Some(&to))])
                .of([from.id, to.id, witness.id])
                .every(facts.interval(&[from.id, to.id, witness.id]));
            found.push(finding);
        }
    }
}

fn roaming(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    for tunnel in facts.tunnels() {
        for (number, side) in tunnel.ends.iter().enumerate() {
            let Some(side) = side.filter(|side| side.host.fresh) else { continue };
            let (Some(half), Some(peer)) = (side.half, side.peer) else { continue };
            let other = tunnel.ends[1 - number];
            let name = facts.name(side.id);
            let whom = other.map_or_else(
                || super::allowed_ips::peer_name(facts, half.shape.peer),
                |other| facts.name(other.id),
            );
            let subject = format!("{} at {}", tunnel.edge.shape.id, side.id);
            let field = format!("wireguard[{}].peers[{}].endpoint", side.interface, half.shape.peer);
            let is = half.shape.endpoint.as_deref().unwrap_or("nowhere");
            if peer.moves().len() > MOVES {
                let finding = Finding::new("ENDPOINT_FLAPPING", &subject)
                    .say(format!("{name} sees {whom} at ever-changing addresses."))
                    .because(format!("two hosts use {whom}'s key, or {whom} changes between two networks"))
                    .next(format!("on {whom}: check that its private key is on no other host; on {name}: wg show {} endpoints, several times", side.interface))
                    .proof([facts.proof(side.id, field, format!("{} changes of address within 15 minutes; now at {is}", peer.moves().len()))])
                    .of(tunnel.agents())
                    .every(facts.interval(&tunnel.agents()));
                found.push(finding);
            } else if let Some((_, was)) = peer.moved().filter(|(at, _)| facts.now - at <= RECENT) {
                let finding = Finding::new("ENDPOINT_ROAMED", &subject)
                    .say(format!("{name} sees {whom} at another address now."))
                    .because(format!(
                        "{whom} moved to another network, or its provider gave it a new address"
                    ))
                    .next("nothing: WireGuard follows by itself")
                    .proof([facts.proof(
                        side.id,
                        field,
                        format!("{name} sent to {whom} at {was} before, and to {is} now"),
                    )])
                    .of(tunnel.agents())
                    .every(facts.interval(&tunnel.agents()));
                found.push(finding);
            }
        }
    }
}

fn no_endpoint(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    for (tunnel, [a, b]) in facts.confirmed() {
        let lacks = |side: &Side<'_>| side.half.is_some_and(|half| half.shape.endpoint.is_none());
        if !lacks(&a) || !lacks(&b) || tunnel.edge.shape.state == EdgeState::Up {
            continue;
        }
        let (name, other) = (facts.name(a.id), facts.name(b.id));
        let finding = Finding::new("BOTH_NO_ENDPOINT", &tunnel.edge.shape.id)
            .say(format!(
                "Neither {name} nor {other} knows where the other is, so their tunnel cannot start."
            ))
            .because("no endpoint is set at either end, or both interfaces were made anew")
            .next(format!(
                "on {name}: wg set {} peer {} endpoint ADDRESS:PORT",
                a.interface,
                b.key().map(|key| key.to_string()).unwrap_or_default()
            ))
            .proof([a.proof(facts, Some(&b)), b.proof(facts, Some(&a))])
            .of(tunnel.agents())
            .every(facts.interval(&tunnel.agents()));
        found.push(finding);
    }
}

fn nat(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    for (id, host, watch) in facts.watched() {
        let Some(nat) = host.view.nat().filter(|nat| nat.kind != NatKind::None) else { continue };
        let name = facts.name(id);
        let proofs = || {
            facts.state.nat_evidence(id).into_iter().take(3).map(|said| super::Proof {
                agent: Some(said.agent),
                observed_at: Some(said.observed_at),
                field: said.field,
                text: said.text,
            })
        };
        let new = |code| Finding::new(code, id.to_string()).of([id]).every(watch.interval_s).proof(proofs());
        if nat.kind == NatKind::Symmetric {
            found.push(
                new("NAT_SYMMETRIC")
                    .say(format!("{name} is behind a NAT that shows each peer another port."))
                    .because("a symmetric NAT, as mobile and some company networks have")
                    .next(format!("let {name} start its tunnels to hosts with a fixed public address; two such hosts need a relay between them")),
            );
        } else if nat.port_kept == Some(false) {
            found.push(
                new("NAT_PORT_REMAP")
                    .say(format!("{name}'s NAT shows another port than the one that {name} listens on."))
                    .because("the NAT gives out ports of its own")
                    .next(format!(
                        "forward a UDP port to {name} on its router where others must reach it unasked"
                    )),
            );
        }
        if nat.carrier {
            found.push(
                new("CGNAT")
                    .say(format!("{name} is behind its provider's NAT: nobody can reach it unasked."))
                    .because("its own address on the way out is one that providers share out (100.64.0.0/10)")
                    .next(format!("keep a keepalive on {name}, or use IPv6")),
            );
        }
        let keeps = |side: &&Side<'_>| side.half.is_some_and(|half| half.shape.keepalive_s.is_some());
        let natted = |side: &Side<'_>| side.host.view.nat().is_some_and(|nat| nat.kind != NatKind::None);
        let mine = facts.tunnels_of(id).filter(|tunnel| tunnel.is_confirmed());
        let open =
            mine.filter_map(|tunnel| Some((tunnel, [tunnel.ends[0]?, tunnel.ends[1]?]))).find(|(_, ends)| {
                let [Some(me), Some(other)] =
                    [ends.iter().find(|side| side.id == id), ends.iter().find(|side| side.id != id)]
                else {
                    return false;
                };
                !keeps(&me) && !keeps(&other) && !natted(other)
            });
        if let Some((tunnel, ends)) = open {
            let Some((me, other)) =
                ends.iter().find(|side| side.id == id).zip(ends.iter().find(|side| side.id != id))
            else {
                continue;
            };
            let peer = facts.name(other.id);
            found.push(
                new("KEEPALIVE_MISSING_BEHIND_NAT")
                    .say(format!("{name} is behind NAT and keeps no keepalive to {peer}: when it is quiet, {peer} cannot reach it."))
                    .because("PersistentKeepalive is off, and the NAT forgets a quiet tunnel within minutes")
                    .next(format!("on {name}: wg set {} peer {} persistent-keepalive 25", me.interface, other.key().map(|key| key.to_string()).unwrap_or_default()))
                    .proof([me.proof(facts, Some(other))])
                    .of(tunnel.agents()),
            );
        }
    }
}

fn mtu_mismatch(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    for (tunnel, [a, b]) in facts.confirmed() {
        let (Some(x), Some(y)) = (a.nic, b.nic) else { continue };
        if x.mtu() == y.mtu() || x.mtu() == 0 || y.mtu() == 0 {
            continue;
        }
        let (small, large) = if x.mtu() < y.mtu() { ((a, x), (b, y)) } else { ((b, y), (a, x)) };
        let (name, other) = (facts.name(small.0.id), facts.name(large.0.id));
        let mtu = |(side, nic): (Side<'_>, Nic<'_>)| {
            facts.proof(
                side.id,
                format!("interfaces[{}].mtu", nic.name()),
                format!("{}'s {} has MTU {}", facts.name(side.id), nic.name(), nic.mtu()),
            )
        };
        let finding = Finding::new("MTU_MISMATCH", &tunnel.edge.shape.id)
            .say(format!("The tunnel between {name} and {other} has MTU {} at {name} and {} at {other}: large packets may get stuck.", small.1.mtu(), large.1.mtu()))
            .because("the MTU is set at one end only")
            .next(format!("on {other}: ip link set {} mtu {}", large.0.interface, small.1.mtu()))
            .proof([mtu(small), mtu(large)])
            .of(tunnel.agents())
            .every(facts.interval(&tunnel.agents()));
        found.push(finding);
    }
}

/// Bytes that each kind of tunnel adds to a packet, over IPv4 and over IPv6.
fn overhead(kind: InterfaceKind) -> Option<(u32, u32)> {
    match kind {
        InterfaceKind::WireGuard => Some((60, 80)),
        InterfaceKind::Vxlan => Some((50, 70)),
        InterfaceKind::Gre => Some((24, 44)),
        InterfaceKind::Ipip | InterfaceKind::Sit => Some((20, 40)),
        _ => None,
    }
}

fn mtu_too_big(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    let mut check = |id, nic: Nic<'_>, carrier: Nic<'_>, ipv6: bool| {
        let kind = if nic.is_wireguard() { InterfaceKind::WireGuard } else { nic.kind() };
        let (mtu, room) = (nic.mtu(), carrier.mtu());
        let Some((v4, v6)) = overhead(kind) else { return };
        let more = if ipv6 { v6 } else { v4 };
        if room == 0 || mtu + more <= room {
            return;
        }
        let name = facts.name(id);
        let fits = room.saturating_sub(more);
        let (nic, carrier) = (nic.name(), carrier.name());
        let finding = Finding::new("MTU_TOO_BIG", format!("{id}/{nic}"))
            .say(format!(
                "{name}'s {nic} has MTU {mtu}, too large for {carrier} that carries it: full packets are split or lost."
            ))
            .because(format!(
                "{carrier} takes {room} bytes, and the tunnel adds {more} to each packet"
            ))
            .next(format!("on {name}: ip link set {nic} mtu {fits}, and the same at the other end"))
            .proof([facts.proof(
                id,
                format!("interfaces[{nic}].mtu"),
                format!("{mtu} + {more} > {room}, the MTU of {carrier}"),
            )])
            .of([id])
            .every(facts.interval(&[id]));
        found.push(finding);
    };
    for tunnel in facts.tunnels() {
        for side in tunnel.ends.iter().flatten().filter(|side| side.host.fresh) {
            let way = side.half.and_then(|half| half.underlay.as_ref().zip(half.shape.endpoint.as_deref()));
            let Some((way, endpoint)) = way else { continue };
            if matches!(way.kind, UnderlayKind::Loop | UnderlayKind::Proxy) {
                continue;
            }
            let carrier = way.interface.as_ref().and_then(|name| side.host.view.nic(name));
            if let Some((nic, carrier)) = side.nic.zip(carrier) {
                check(side.id, nic, carrier, endpoint.starts_with('['));
            }
        }
    }
    for (id, host, _) in facts.watched() {
        let nics = host.view.nics();
        for nic in &nics {
            let Some(local) = nic.tunnel().and_then(|tunnel| tunnel.local) else { continue };
            let holds = |other: &&Nic<'_>| other.addresses().iter().any(|own| own.address() == local);
            if let Some(carrier) = nics.iter().find(holds) {
                check(id, *nic, *carrier, local.is_ipv6());
            }
        }
    }
}
