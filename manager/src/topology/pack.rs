//! From a report to a record.

use proto::ids::Cidr;
use proto::report::{IFF_UP, Interface, Report, WireGuardPeer};

use super::keys::Keys;
use super::names::Names;
use super::reach::Reach;
use super::record::{
    Agent, Device, Endpoint, Half, Iface, More, NO_SLOT, Seen, Slot, age_of, neighbour_counts, parse_mac,
};
use super::routes::{Route, Routes};
use super::traffic::Samples;
use super::{Receipt, fingerprint, overlay, physical};

impl Agent {
    /// Packs a report. `names` are those that already have a slot; WireGuard peers keep their
    /// samples from `old`, the agent's record before.
    pub(super) fn build(
        receipt: &Receipt,
        report: &Report,
        keys: &mut Keys,
        names: &Names,
        old: Option<&Self>,
    ) -> Self {
        let system = &report.system;
        let mut names = names.to_vec();
        let mut addresses = Vec::new();
        let interfaces = system.interfaces.iter();
        let interfaces: Box<[Iface]> =
            interfaces.map(|interface| build_interface(interface, &mut names, &mut addresses)).collect();
        let times = match old {
            Some(old) if old.boot == receipt.boot => [report.observed_at, old.times[0], old.times[1]],
            _ => [report.observed_at, 0, 0],
        };
        let interval_s = report.interval_s.clamp(1, 3600);
        let devices = system.wireguard.iter().map(|device| {
            let slot = slot_of(&mut names, &device.name);
            let before = old
                .filter(|old| old.boot == receipt.boot)
                .and_then(|old| old.devices.iter().find(|before| before.slot == slot));
            let key = device.public_key.map(|key| keys.intern(key));
            let halves = device.peers.iter().map(|peer| build_half(peer, before, keys, &mut names));
            let halves: Box<[Half]> = halves.collect();
            Device {
                slot,
                key,
                listen_port: device.listen_port,
                up: interfaces
                    .iter()
                    .find(|interface| interface.slot == slot)
                    .is_none_or(|interface| interface.up),
                fwmark: device.fwmark.filter(|mark| *mark != 0),
                briefs: halves.iter().map(|half| half.brief(interval_s)).collect(),
                halves,
            }
        });
        let devices = devices.collect();
        let routes = system.routes.iter().map(|route| Route {
            destination: route.destination,
            gateway: route.gateway,
            source: route.source,
            slot: route.interface.as_deref().map_or(NO_SLOT, |name| slot_of(&mut names, name)),
            kind: route.kind,
            metric: route.metric,
            table: route.table,
        });
        let routes: Routes = routes.collect();
        let seen = system.neighbours.iter().filter(|neighbour| neighbour_counts(neighbour));
        let mut neighbours: Vec<Seen> = seen
            .filter_map(|neighbour| {
                let mac = parse_mac(neighbour.mac.as_deref()?)?;
                Some(Seen { slot: slot_of(&mut names, &neighbour.interface), ip: neighbour.ip, mac })
            })
            .collect();
        neighbours.sort_unstable();
        neighbours.dedup();
        let mut agent = Self {
            id: receipt.agent,
            boot: receipt.boot,
            tick: receipt.tick,
            basis: None,
            received_at: receipt.received_at,
            interval_s,
            silent: false,
            fingerprint: fingerprint::fingerprint(report, &receipt.relay),
            relay: receipt.relay.as_slice().into(),
            hostname: system.hostname.as_str().into(),
            forwarding: system.forwarding.clone(),
            names: names.into_iter().collect(),
            interfaces,
            addresses: addresses.into(),
            devices,
            routes_cut: usize::try_from(system.routes_total).is_ok_and(|total| total > routes.len()),
            routes,
            routes_source: system.routes_source,
            rules: system.rules.as_slice().into(),
            neighbours: neighbours.into(),
            lans: Box::default(),
            overlays: false,
            times,
            claims: old.map(|old| old.claims.clone()).unwrap_or_default(),
        };
        agent.lans = physical::find_lans(&agent);
        agent.overlays = agent.interfaces.iter().any(|interface| overlay::may_have_edge(&agent, interface));
        agent
    }
}

/// Packs an interface, and its addresses behind those of the ones before.
fn build_interface(interface: &Interface, names: &mut Vec<Box<str>>, addresses: &mut Vec<Cidr>) -> Iface {
    // WireGuard, loopback and tun devices stay `unknown` while they work (rules 4.4).
    let carrier =
        !matches!(interface.operstate.as_str(), "down" | "lowerlayerdown" | "notpresent" | "dormant");
    let slot = slot_of(names, &interface.name);
    let master = interface.master.as_deref().map_or(NO_SLOT, |name| slot_of(names, name));
    let more = More {
        link: interface.link.filter(|link| *link != interface.index && *link != 0),
        lower: interface.lower.iter().map(|name| slot_of(names, name)).collect(),
        tunnel: interface.tunnel.clone(),
    };
    let start = addresses.len();
    addresses.extend(&interface.addresses);
    // A report's caps (limits.rs) keep the addresses of one agent below 2^16.
    let place = |at: usize| u16::try_from(at).unwrap_or(u16::MAX);
    Iface {
        slot,
        kind: interface.kind,
        up: interface.flags & IFF_UP != 0 && carrier,
        master,
        mtu: interface.mtu,
        index: interface.index,
        mac: interface.mac.as_deref().and_then(parse_mac).filter(|mac| *mac != [0; 6]),
        addresses: [place(start), place(addresses.len())],
        more: (more != More::default()).then(|| Box::new(more)),
    }
}

fn build_half(
    peer: &WireGuardPeer,
    before: Option<&Device>,
    keys: &mut Keys,
    names: &mut Vec<Box<str>>,
) -> Half {
    let key = keys.intern(peer.public_key);
    let before = before.and_then(|device| device.half(key));
    let mut samples = before.map_or_else(Samples::default, |half| half.samples);
    samples.push(peer.rx_bytes, peer.tx_bytes);
    let endpoint = peer.endpoint.as_deref().and_then(|text| parse_endpoint(text, names));
    Half {
        key,
        age_s: age_of(peer.handshake_age_s),
        rtt_us: peer.rtt_us.unwrap_or(0),
        keepalive_s: peer.keepalive_s.unwrap_or(0),
        has_psk: peer.has_psk,
        reach: Reach::new(endpoint, &peer.allowed_ips),
        samples,
    }
}

/// `192.0.2.1:51820`, `[2001:db8::1]:51820` or `[fe80::1%eth0]:51820`.
fn parse_endpoint(text: &str, names: &mut Vec<Box<str>>) -> Option<Endpoint> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let (ip, zone) = match host.split_once('%') {
        Some((ip, zone)) => (ip, slot_of(names, zone)),
        None => (host, NO_SLOT),
    };
    Some(Endpoint { ip: ip.parse().ok()?, port: port.parse().ok()?, zone })
}

/// The slot of a name, a free one if it has none yet.
fn slot_of(names: &mut Vec<Box<str>>, name: &str) -> Slot {
    if name.is_empty() {
        return NO_SLOT;
    }
    let found = names.iter().position(|known| **known == *name);
    let place = found.or_else(|| names.iter().position(|known| known.is_empty()));
    if let (None, Some(place)) = (found, place) {
        names[place] = name.into();
    }
    let place = place.unwrap_or_else(|| {
        names.push(name.into());
        names.len() - 1
    });
    // A report's caps (limits.rs) keep the names of one agent below 4,096.
    Slot::try_from(place).unwrap_or(NO_SLOT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_keep_their_zone() {
        let mut names: Vec<Box<str>> = vec!["eth0".into()];
        let read = |text: &str, names: &mut Vec<Box<str>>| parse_endpoint(text, names);
        assert_eq!(read("192.0.2.1:51820", &mut names).map(|e| (e.port, e.zone)), Some((51820, NO_SLOT)));
        assert_eq!(read("[fe80::1%eth0]:7", &mut names).map(|e| (e.ip.is_ipv6(), e.zone)), Some((true, 0)));
        assert_eq!(read("[2001:db8::1]:7", &mut names).map(|e| e.zone), Some(NO_SLOT));
        for bad in ["(none)", "", "192.0.2.1", "192.0.2.1:99999", "[::1"] {
            assert_eq!(read(bad, &mut names), None, "{bad}");
        }
    }
}
