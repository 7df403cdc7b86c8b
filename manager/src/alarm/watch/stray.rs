//! Routes and AllowedIPs that do not fit each other. Pure functions of one report.

use std::net::IpAddr;

use proto::ids::{Cidr, PublicKey};
use proto::report::{IFF_UP, Interface, Report, RouteKind, Source, TABLE_MAIN, WireGuardDevice};

/// Whether a host's routing is the kernel's plain one, so that the main table tells all.
fn is_plain(report: &Report, device: &WireGuardDevice) -> bool {
    let system = &report.system;
    let known = system.routes_source != Source::None;
    let whole = usize::try_from(system.routes_total).is_ok_and(|total| total <= system.routes.len());
    let plain = system.rules.iter().all(|rule| matches!(rule.priority, 0 | 32766 | 32767));
    known && whole && plain && device.fwmark.unwrap_or(0) == 0
}

fn touches(a: &Cidr, b: &Cidr) -> bool {
    a.contains(b.address()) || b.contains(a.address())
}

pub(super) fn stray_routes(report: &Report) -> Vec<(String, Cidr)> {
    let mut stray = Vec::new();
    for device in report.system.wireguard.iter().filter(|device| is_plain(report, device)) {
        let routes = report.system.routes.iter().filter(|route| {
            route.interface.as_deref() == Some(&device.name)
                && route.table == TABLE_MAIN
                && route.kind == RouteKind::Unicast
                && !route.destination.address().is_multicast()
                && !is_own_network(report, &device.name, &route.destination)
                && !matches!(route.destination.address(), IpAddr::V6(ip) if ip.is_unicast_link_local())
        });
        let peers = || device.peers.iter().flat_map(|peer| &peer.allowed_ips);
        let lost = routes.filter(|route| !peers().any(|prefix| touches(prefix, &route.destination)));
        stray.extend(lost.take(4).map(|route| (device.name.clone(), route.destination)));
    }
    stray
}

/// Whether a route is the one that the kernel makes for an interface's own address.
fn is_own_network(report: &Report, name: &str, destination: &Cidr) -> bool {
    let own = report.system.interfaces.iter().filter(|interface| interface.name == name);
    own.flat_map(|interface| &interface.addresses).any(|address| destination.contains(address.address()))
}

pub(super) fn stray_prefixes(report: &Report) -> Vec<(String, PublicKey, Cidr, Option<String>)> {
    let mut stray = Vec::new();
    for device in report.system.wireguard.iter().filter(|device| is_plain(report, device)) {
        let up = |interface: &&Interface| interface.name == device.name && interface.flags & IFF_UP != 0;
        if !report.system.interfaces.iter().any(|interface| up(&interface)) {
            continue;
        }
        for peer in &device.peers {
            for prefix in peer.allowed_ips.iter().filter(|prefix| prefix.prefix() > 0) {
                let fits = report.system.routes.iter().filter(|route| {
                    route.table == TABLE_MAIN && route.destination.contains(prefix.address())
                });
                let best = fits.min_by_key(|route| (u8::MAX - route.destination.prefix(), route.metric));
                let to = best.and_then(|route| route.interface.clone());
                if to.as_deref() != Some(&device.name) && stray.len() < 8 {
                    stray.push((device.name.clone(), peer.public_key, *prefix, to));
                }
            }
        }
    }
    stray
}
