//! A number for everything in a report that is structure and not a counter.
//!
//! Two reports of an agent with the same fingerprint differ in counters and ages only, so that the
//! second touches nothing but its own numbers. 64 bits: a false match among the reports of one
//! agent is a matter of 2^-64 for each report, and the next difference mends it.

use std::hash::Hasher;

use proto::ids::AgentId;
use proto::report::{Interface, Neighbour, Report, Route, WireGuardDevice};

use super::fold::Fold;
use super::record::neighbour_counts;

/// The fingerprint of a report and the way it came.
pub(super) fn fingerprint(report: &Report, relay: &[AgentId]) -> u64 {
    let mut hash = Fold::default();
    let system = &report.system;
    hash.write_u32(report.interval_s);
    hash.text(&system.hostname);
    for hop in relay {
        hash.write(&hop.0);
    }
    let forwarding = system.forwarding.as_ref();
    hash.write_u8(forwarding.map_or(9, |f| u8::from(f.ipv4) | u8::from(f.ipv6) << 1));
    hash.write_usize(system.interfaces.len());
    for interface in &system.interfaces {
        hash_interface(&mut hash, interface);
    }
    hash.write_usize(system.routes.len());
    hash.write_u32(system.routes_total);
    for route in &system.routes {
        hash_route(&mut hash, route);
    }
    for rule in &system.rules {
        hash.text(&format!("{rule:?}"));
    }
    // Neighbours come in the order of a kernel hash table, which says nothing: add them up.
    let neighbours = system.neighbours.iter().filter(|n| neighbour_counts(n));
    hash.write_u64(neighbours.fold(0, |sum: u64, neighbour| sum.wrapping_add(hash_neighbour(neighbour))));
    hash.write_usize(system.wireguard.len());
    for device in &system.wireguard {
        hash_device(&mut hash, device);
    }
    hash.finish()
}

fn hash_interface(hash: &mut Fold, interface: &Interface) {
    hash.text(&interface.name);
    hash.write_u32(interface.index);
    hash.write_u8(interface.kind as u8);
    hash.write_u32(interface.link.unwrap_or(u32::MAX));
    hash.text(interface.master.as_deref().unwrap_or_default());
    for lower in &interface.lower {
        hash.text(lower);
    }
    hash.text(interface.mac.as_deref().unwrap_or_default());
    hash.write_u32(interface.mtu);
    hash.write_u32(interface.flags);
    hash.text(&interface.operstate);
    if let Some(tunnel) = &interface.tunnel {
        hash.text(&format!("{tunnel:?}"));
    }
    for address in &interface.addresses {
        hash.cidr(*address);
    }
}

fn hash_route(hash: &mut Fold, route: &Route) {
    hash.cidr(route.destination);
    hash.ip(route.gateway);
    hash.text(route.interface.as_deref().unwrap_or_default());
    hash.write_u32(route.metric);
    hash.ip(route.source);
    hash.write_u32(route.table);
    hash.write_u8(route.kind as u8);
}

fn hash_neighbour(neighbour: &Neighbour) -> u64 {
    let mut hash = Fold::default();
    hash.ip(Some(neighbour.ip));
    hash.text(neighbour.mac.as_deref().unwrap_or_default());
    hash.text(&neighbour.interface);
    hash.finish()
}

fn hash_device(hash: &mut Fold, device: &WireGuardDevice) {
    hash.text(&device.name);
    hash.write(&device.public_key.map_or([0; 32], |key| key.0));
    hash.write_u16(device.listen_port);
    hash.write_u32(device.fwmark.unwrap_or(0));
    hash.write_usize(device.peers.len());
    for peer in &device.peers {
        hash.write(&peer.public_key.0);
        hash.write_u8(u8::from(peer.has_psk));
        hash.text(peer.endpoint.as_deref().unwrap_or_default());
        hash.write_u16(peer.keepalive_s.unwrap_or(0));
        hash.write_usize(peer.allowed_ips.len());
        for prefix in &peer.allowed_ips {
            hash.cidr(*prefix);
        }
    }
}
