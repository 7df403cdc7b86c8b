//! AllowedIPs against addresses, routes and each other (rules D5 to D10, D23, D24).

use std::collections::BTreeMap;
use std::net::IpAddr;

use proto::ids::{AgentId, Cidr, PublicKey};

use super::facts::{Facts, Side};
use super::wireguard::RECENT;
use super::{Finding, Rule};
use crate::topology::{EdgeState, Nic, Traffic};

pub(super) const RULES: &[Rule] =
    &[source, destination, empty, overlap, conflict, not_reciprocal, changed, routes, forwarding];

/// Bytes of data (not handshakes and keepalives) that must have flowed before counters are believed.
const LEAST_BYTES: u64 = 1000;
/// Errors in each of two reports that are more than a stray packet.
const ERRORS: u32 = 5;

/// The prefix as the kernel has it: without host bits.
fn network(prefix: &Cidr) -> Cidr {
    let address = match prefix.address() {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.prefix())).unwrap_or(0);
            IpAddr::from(std::net::Ipv4Addr::from_bits(ip.to_bits() & mask))
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.prefix())).unwrap_or(0);
            IpAddr::from(std::net::Ipv6Addr::from_bits(ip.to_bits() & mask))
        }
    };
    Cidr::new(address, prefix.prefix()).unwrap_or(*prefix)
}

fn holds(prefixes: &[Cidr], ip: IpAddr) -> bool {
    prefixes.iter().any(|prefix| prefix.contains(ip))
}

/// Addresses of a tunnel interface that others may be expected to know.
fn addresses<'a>(nic: &Nic<'a>) -> impl Iterator<Item = IpAddr> + use<'a> {
    nic.addresses().iter().map(|address| address.address()).filter(|ip| !is_link_local(*ip))
}

fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

fn list(prefixes: &[Cidr]) -> String {
    if prefixes.is_empty() {
        return "none".to_owned();
    }
    prefixes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// D5. The kernel counts dropped sources at the interface; a userspace device counts them as
/// received from the peer, and nothing of them comes out of the interface.
fn source(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    for (tunnel, [a, b]) in facts.confirmed() {
        if tunnel.edge.shape.state != EdgeState::Up {
            continue;
        }
        for (from, to) in [(a, b), (b, a)] {
            let Some(device) = to.device else { continue };
            let (Some((_, sent)), Some((got, _))) = (from.delta(), to.delta()) else { continue };
            let sends =
                from.half.is_some_and(|half| matches!(half.traffic, Traffic::SendOnly | Traffic::Active));
            let evidence = if device.is_kernel {
                let rising = device.rx_frame.rises(ERRORS);
                (rising && sends && sent > got + LEAST_BYTES)
                    .then(|| format!("{} packets were dropped as frame errors", device.rx_frame.by[0]))
            } else {
                let lone = device.peers.len() == 1;
                let data = got > LEAST_BYTES && to.half.is_some_and(|half| half.traffic != Traffic::Idle);
                (lone && sends && data && device.rx_bytes.by == [0, 0])
                    .then(|| format!("{got} B came from the peer and 0 B out of the interface"))
            };
            let Some(evidence) = evidence else { continue };
            let (name, other) = (facts.name(from.id), facts.name(to.id));
            let allowed = to.half.map(|half| list(&half.shape.allowed_ips)).unwrap_or_default();
            let Some(key) = from.key() else { continue };
            let finding = Finding::new("ALLOWED_IPS_SRC", format!("{} at {}", tunnel.edge.shape.id, to.id))
                .say(format!("{other} drops what {name} sends through the tunnel: its source is not in the AllowedIPs that {other} has for {name}."))
                .because(format!("{name} sends from an address outside {allowed}, such as one of a LAN behind it"))
                .next(format!("on {other}: wg set {} peer {key} allowed-ips {allowed},THE_MISSING_PREFIX; on {name}: tcpdump -ni {} shows the source", to.interface, from.interface))
                .proof([
                    facts.proof(to.id, format!("interfaces[{}].counters", to.interface), format!("{other}'s {}: since the report before, {evidence}", to.interface)),
                    from.proof(facts, Some(&to)),
                    to.proof(facts, Some(&from)),
                ])
                .of(tunnel.agents())
                .every(facts.interval(&tunnel.agents()));
            found.push(finding);
        }
    }
}

/// D6.
fn destination(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    for (id, host, watch) in facts.watched() {
        for (interface, device) in watch.devices.iter().filter(|(_, device)| device.tx_errors.rises(ERRORS)) {
            let name = facts.name(id);
            let mine = |side: &&Side<'_>| side.id == id && side.interface == &**interface;
            let sides = facts.tunnels_of(id).flat_map(|tunnel| tunnel.ends.iter().flatten()).filter(mine);
            let lost: Vec<Vec<Cidr>> = sides
                .filter_map(|side| side.half)
                .filter(|half| half.shape.endpoint.is_none())
                .map(|half| half.shape.allowed_ips.clone())
                .collect();
            let because = if lost.is_empty() {
                "a route leads into the interface for addresses that are in no peer's AllowedIPs".to_owned()
            } else {
                format!(
                    "{} of its peers have no endpoint yet: they never called, and nobody told {name} where they are",
                    lost.len()
                )
            };
            let up = host.view.nic(interface).is_some_and(|nic| nic.is_up());
            let mut finding = Finding::new("ALLOWED_IPS_DST", format!("{id}/{interface}"))
                .say(format!("{name} drops packets that it is to send into {interface}: no peer, or no endpoint, for where they go."))
                .because(because)
                .next(format!("on {name}: tcpdump -ni {interface} shows where they go; wg show {interface} allowed-ips, and wg show {interface} endpoints"))
                .proof([facts.proof(id, format!("interfaces[{interface}].counters.tx_errors"), format!("{name}'s {interface}: {} packets could not be sent since the report before", device.tx_errors.by[0]))])
                .of([id])
                .every(watch.interval_s);
            // A phone that sleeps has no endpoint after a restart of its peer: in order.
            if !lost.is_empty() {
                finding.severity = super::Severity::Info;
            }
            if up {
                found.push(finding);
            }
        }
    }
}

/// D7.
fn empty(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    for tunnel in facts.tunnels() {
        for side in tunnel.ends.iter().flatten().filter(|side| side.host.fresh) {
            let Some(half) = side.half.filter(|half| half.shape.allowed_ips.is_empty()) else { continue };
            let (name, interface, key) = (facts.name(side.id), side.interface, half.shape.peer);
            let peer = peer_name(facts, key);
            let lost = side.peer.map(|peer| peer.lost().to_vec()).unwrap_or_default();
            let mut thief = None;
            facts.state.each_peer(side.id, |nic, other, allowed| {
                let has = |lost: &Cidr| allowed.iter().any(|is| network(is) == network(lost));
                if let (true, Some((prefix, _))) =
                    (nic == interface && other != key, lost.iter().find(|(prefix, _)| has(prefix)))
                {
                    thief.get_or_insert((other, *prefix));
                }
            });
            let mut finding =
                Finding::new("ALLOWED_IPS_EMPTY", format!("{}/{interface} peer {key}", side.id));
            let mut proof = vec![facts.proof(
                side.id,
                format!("wireguard[{interface}].peers[{key}].allowed_ips"),
                format!("{name}'s {interface}: the peer {peer} has no AllowedIPs"),
            )];
            finding = match thief {
                Some((thief, prefix)) => {
                    let other = peer_name(facts, thief);
                    proof.push(facts.proof(side.id, format!("wireguard[{interface}].peers[{thief}].allowed_ips"), format!("{prefix} was {peer}'s and is {other}'s now")));
                    finding
                        .say(format!("On {name}, {peer} has lost its AllowedIPs to {other}, so nothing can be sent to {peer}."))
                        .because(format!("{prefix} was given to {other} too; WireGuard keeps a prefix at one peer only, the last one"))
                        .next(format!("on {name}: wg set {interface} peer {key} allowed-ips {prefix}, and give {other} another prefix"))
                }
                None => finding
                    .say(format!("On {name}, the peer {peer} has no AllowedIPs, so nothing can be sent to it."))
                    .because("another peer of the interface was given the same prefix, or none was ever set")
                    .next(format!("on {name}: wg show {interface} allowed-ips; then wg set {interface} peer {key} allowed-ips PREFIX")),
            };
            found.push(finding.proof(proof).of([side.id]).every(facts.interval(&[side.id])));
        }
    }
}

/// What to call the host that has a key.
pub(super) fn peer_name(facts: &Facts<'_>, key: PublicKey) -> String {
    match facts.state.owners_of_key(&key).first() {
        Some(place) => facts.name(place.agent),
        None => format!("{}…", &key.to_string()[..8]),
    }
}

/// D8, on one interface.
fn overlap(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    for (id, _, watch) in facts.watched() {
        let mut by_interface: BTreeMap<&str, Vec<(Cidr, PublicKey)>> = BTreeMap::new();
        facts.state.each_peer(id, |interface, key, allowed| {
            let prefixes = allowed.iter().filter(|prefix| prefix.prefix() > 0);
            by_interface.entry(interface).or_default().extend(prefixes.map(|prefix| (network(prefix), key)));
        });
        for (interface, mut all) in by_interface {
            // In order of address, then the shorter prefix first: those inside follow at once.
            all.sort_unstable_by_key(|(prefix, key)| (prefix.address(), prefix.prefix(), key.0));
            let inside =
                all.windows(2).find(|pair| pair[0].1 != pair[1].1 && pair[0].0.contains(pair[1].0.address()));
            let Some([(wide, first), (narrow, second)]) = inside else { continue };
            let name = facts.name(id);
            let (one, two) = (peer_name(facts, *first), peer_name(facts, *second));
            let finding = Finding::new("ALLOWED_IPS_OVERLAP", format!("{id}/{interface}"))
                .say(format!("On {name}'s {interface}, {narrow} of {two} lies inside {wide} of {one}: the longer prefix wins."))
                .because("in order where a hub has the network and others single addresses of it; otherwise a mistake")
                .next(format!("if it is not meant: on {name}: wg show {interface} allowed-ips"))
                .proof([facts.proof(id, format!("wireguard[{interface}].peers"), format!("{wide} is {one}'s, {narrow} is {two}'s"))])
                .of([id])
                .every(watch.interval_s);
            found.push(finding);
        }
    }
}

/// D8, across hosts: an address is sent to a peer that neither has it nor has a peer that does.
fn conflict(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    for (tunnel, [a, b]) in facts.confirmed() {
        for (from, to) in [(a, b), (b, a)] {
            let Some(half) = from.half else { continue };
            let hosts =
                half.shape.allowed_ips.iter().filter(|prefix| **prefix == Cidr::host(prefix.address()));
            for prefix in hosts {
                let ip = prefix.address();
                // Most often the peer's own, which is quickly seen.
                if to.nic.is_some_and(|nic| nic.addresses().iter().any(|own| own.address() == ip)) {
                    continue;
                }
                let owners = facts.state.tunnel_owners(ip);
                let [place] = &owners[..] else { continue };
                let owner = place.agent;
                if has_twin(facts, half.shape.peer)
                    || owner == to.id
                    || owner == from.id
                    || passes_on(facts, &to, ip)
                {
                    continue;
                }
                let (name, peer, other) = (facts.name(from.id), facts.name(to.id), facts.name(owner));
                let key = place.key.map_or_else(|| "KEY".to_owned(), |key| key.to_string());
                let finding = Finding::new("ALLOWED_IPS_CONFLICT", format!("{} {prefix}", tunnel.edge.shape.id))
                    .say(format!("{name} sends packets for {ip}, which is {other}'s, to {peer}, which has no way to pass them on."))
                    .because(format!("{prefix} stands with the wrong peer on {name}, or two hosts were meant to have the address"))
                    .next(format!("on {name}: wg set {} peer {key} allowed-ips {prefix}", from.interface))
                    .proof([
                        facts.proof(from.id, format!("wireguard[{}].peers[{}].allowed_ips", from.interface, half.shape.peer), format!("{name} has {prefix} in the AllowedIPs of {peer}")),
                        facts.proof(owner, format!("interfaces[{}].addresses", place.interface), format!("{other}'s {} has {ip}", place.interface)),
                    ])
                    .of([from.id, to.id, owner])
                    .every(facts.interval(&[from.id, to.id, owner]));
                found.push(finding);
            }
        }
    }
}

/// Whether several devices have a key: then it is not known which of them is meant.
pub(super) fn has_twin(facts: &Facts<'_>, key: PublicKey) -> bool {
    facts.state.owners_of_key(&key).len() > 1
}

/// Whether a host has a peer for an address, or another interface that leads to it.
fn passes_on(facts: &Facts<'_>, host: &Side<'_>, ip: IpAddr) -> bool {
    let mut by_peer = false;
    facts.state.each_peer(host.id, |_, _, allowed| by_peer |= holds(allowed, ip));
    let nics = host.host.view.nics();
    let mut others = nics.iter().filter(|nic| nic.name() != host.interface).flat_map(Nic::addresses);
    by_peer || others.any(|address| address.contains(ip))
}

/// D9.
fn not_reciprocal(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    for (tunnel, [a, b]) in facts.confirmed() {
        for (from, to) in [(a, b), (b, a)] {
            let (Some(nic), Some(there)) = (from.nic, to.half) else { continue };
            let allowed = &there.shape.allowed_ips;
            let back = from.half.map(|half| &half.shape.allowed_ips);
            if allowed.is_empty() || back.is_none_or(|back| back.is_empty()) {
                continue;
            }
            // Another of its interfaces may be meant; one family that fits is enough of a sign.
            let own: Vec<IpAddr> = addresses(&nic).collect();
            if own.is_empty() || own.iter().any(|ip| holds(allowed, *ip)) {
                continue;
            }
            if has_twin(facts, there.shape.peer)
                || from.half.is_some_and(|half| has_twin(facts, half.shape.peer))
            {
                continue;
            }
            let (name, other) = (facts.name(from.id), facts.name(to.id));
            let ip = own[0];
            let Some(key) = from.key() else { continue };
            let finding = Finding::new("ALLOWED_IPS_NOT_RECIPROCAL", format!("{} at {}", tunnel.edge.shape.id, to.id))
                .say(format!("{other} does not accept {name}'s tunnel address {ip} from it: what {name} sends is dropped, and answers go elsewhere."))
                .because(format!("{other} has {} in the AllowedIPs of {name}", list(allowed)))
                .next(format!("on {other}: wg set {} peer {key} allowed-ips {},{}", to.interface, list(allowed).replace(' ', ""), Cidr::host(ip)))
                .proof([
                    facts.proof(from.id, format!("interfaces[{}].addresses", from.interface), format!("{name}'s {} has {ip}", from.interface)),
                    facts.proof(to.id, format!("wireguard[{}].peers[{key}].allowed_ips", to.interface), format!("{other} has {} for {name}", list(allowed))),
                ])
                .of(tunnel.agents())
                .every(facts.interval(&tunnel.agents()));
            found.push(finding);
        }
    }
}

/// D23.
fn changed(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    for (id, _, watch) in facts.watched() {
        for (interface, device) in watch.devices.iter() {
            for peer in device.peers.values() {
                let Some((at, before)) = peer.allowed_changed() else { continue };
                let key = facts.state.key_of_peer(id, interface, peer.place);
                let Some(key) = key.filter(|_| facts.now - at <= RECENT) else { continue };
                let (name, other) = (facts.name(id), peer_name(facts, key));
                let finding = Finding::new("ALLOWED_IPS_CHANGED", format!("{id}/{interface} peer {key}"))
                    .say(format!(
                        "On {name}, the AllowedIPs of {other} are {} now; they were {}.",
                        list(&peer.allowed()),
                        list(before)
                    ))
                    .because("somebody changed the settings, or the prefix was given to another peer")
                    .next("nothing, if it was meant")
                    .proof([facts.proof(
                        id,
                        format!("wireguard[{interface}].peers[{key}].allowed_ips"),
                        format!("was {}, is {}", list(before), list(&peer.allowed())),
                    )])
                    .of([id])
                    .every(watch.interval_s);
                found.push(finding);
            }
        }
    }
}

/// D10.
fn routes(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    for (id, _, watch) in facts.watched() {
        let name = facts.name(id);
        for (interface, route) in &watch.past().stray_routes {
            let finding = Finding::new("ROUTE_WITHOUT_ALLOWED_IP", format!("{id}/{interface} {route}"))
                .say(format!("{name} routes {route} into {interface}, where no peer has it in its AllowedIPs: such packets are dropped."))
                .because("the route or the AllowedIPs were changed and the other was not")
                .next(format!("on {name}: wg set {interface} peer KEY allowed-ips ...,{route}, or ip route del {route} dev {interface}"))
                .proof([facts.proof(id, "routes", format!("{route} dev {interface}; no AllowedIPs of {interface} hold it"))])
                .of([id])
                .every(watch.interval_s);
            found.push(finding);
        }
        for (interface, key, prefix, to) in &watch.past().stray_prefixes {
            let peer = peer_name(facts, *key);
            let way =
                to.as_deref().map_or_else(|| "has no route".to_owned(), |to| format!("is routed to {to}"));
            let finding = Finding::new("ALLOWED_IP_WITHOUT_ROUTE", format!("{id}/{interface} {prefix}"))
                .say(format!("On {name}, {prefix} belongs to {peer} on {interface}, but {way}."))
                .because("the interface was set up with wg set and without a route, or Table = off is set")
                .next(format!("on {name}: ip route add {prefix} dev {interface}"))
                .proof([facts.proof(
                    id,
                    "routes",
                    format!("{prefix} {way}; it is in the AllowedIPs of {peer} on {interface}"),
                )])
                .of([id])
                .every(watch.interval_s);
            found.push(finding);
        }
    }
}

/// Whether a prefix holds the address of a peer that has no AllowedIPs: given to another by mistake,
/// which ALLOWED_IPS_EMPTY tells.
fn is_stolen(facts: &Facts<'_>, side: &Side<'_>, prefix: &Cidr) -> bool {
    let mut stolen = false;
    facts.state.each_peer(side.id, |interface, key, allowed| {
        if interface != side.interface || !allowed.is_empty() {
            return;
        }
        let owners = facts.state.owners_of_key(&key);
        let theirs = owners.iter().flat_map(|place| facts.state.addresses(place.agent, &place.interface));
        let mut ips = theirs.map(|address| address.address()).filter(|ip| !is_link_local(*ip));
        stolen |= ips.any(|ip| prefix.contains(ip));
    });
    stolen
}

/// D24: a host that others send packets through must forward.
fn forwarding(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    let mut named: Vec<AgentId> = Vec::new();
    for (tunnel, [a, b]) in facts.confirmed() {
        for (from, to) in [(a, b), (b, a)] {
            let Some(half) = from.half else { continue };
            let forwards = to.host.watch.and_then(|watch| watch.forwarding.as_ref());
            let Some(forwards) = forwards else { continue };
            let transit = half.shape.allowed_ips.iter().find_map(|prefix| {
                let on = if prefix.address().is_ipv4() { forwards.ipv4 } else { forwards.ipv6 };
                let what = (!on).then(|| behind(facts, &from, &to, prefix)).flatten()?;
                (!is_stolen(facts, &from, prefix)).then_some((prefix, what))
            });
            let Some((prefix, what)) = transit.filter(|_| !named.contains(&to.id)) else { continue };
            named.push(to.id);
            let (name, other) = (facts.name(from.id), facts.name(to.id));
            let setting = if prefix.address().is_ipv4() {
                "net.ipv4.ip_forward"
            } else {
                "net.ipv6.conf.all.forwarding"
            };
            let finding = Finding::new("FORWARDING_OFF", to.id.to_string())
                .say(format!(
                    "{name} sends packets for {what} by way of {other}, and {other} does not forward packets."
                ))
                .because(format!("{setting} is 0 on {other}, the kernel's default"))
                .next(format!("on {other}: sysctl -w {setting}=1, and keep it in /etc/sysctl.d"))
                .proof([
                    facts.proof(to.id, "forwarding", format!("{other}: {setting} is 0")),
                    facts.proof(
                        from.id,
                        format!("wireguard[{}].peers[{}].allowed_ips", from.interface, half.shape.peer),
                        format!("{name} has {prefix} in the AllowedIPs of {other}, {}", tunnel.edge.shape.id),
                    ),
                ])
                .of([from.id, to.id])
                .every(facts.interval(&[from.id, to.id]));
            found.push(finding);
        }
    }
}

/// What lies behind a host within a prefix that another sends to it: a third host's tunnel address,
/// or a network of another of its interfaces.
fn behind(facts: &Facts<'_>, from: &Side<'_>, to: &Side<'_>, prefix: &Cidr) -> Option<String> {
    if prefix.prefix() == 0 {
        return Some("everything".to_owned());
    }
    let nics = to.host.view.nics();
    let others = nics.iter().filter(|nic| nic.name() != to.interface && !nic.is_wireguard());
    let lan = others.flat_map(Nic::addresses).find(|address| {
        !address.address().is_loopback() && address.prefix() < 31 && prefix.contains(address.address())
    });
    if let Some(lan) = lan {
        return Some(format!("{}, a network of {}", network(lan), facts.name(to.id)));
    }
    let own = |ip: IpAddr| {
        [from, to]
            .iter()
            .any(|side| side.nic.is_some_and(|nic| nic.addresses().iter().any(|a| a.address() == ip)))
    };
    // Only those that it could pass them on to, and where the sender has no peer of its own for it.
    let mut third = None;
    facts.state.each_mate(to.id, |mate, addresses| {
        let ips = addresses.iter().map(|address| address.address()).filter(|ip| !is_link_local(*ip));
        let mut behind = ips.filter(|ip| prefix.contains(*ip) && !own(*ip));
        if let (None, true, Some(ip)) = (third, mate != from.id, behind.next()) {
            third = (!has_closer(facts, from, to, prefix, ip)).then_some(mate);
        }
    });
    third.map(|mate| facts.name(mate))
}

/// Whether a host has another peer for an address, whose longer prefix wins.
fn has_closer(facts: &Facts<'_>, from: &Side<'_>, to: &Side<'_>, prefix: &Cidr, ip: IpAddr) -> bool {
    let mut closer = false;
    facts.state.each_peer(from.id, |interface, key, allowed| {
        closer |= interface == from.interface
            && Some(key) != to.key()
            && allowed.iter().any(|other| other.prefix() > prefix.prefix() && other.contains(ip));
    });
    closer
}
