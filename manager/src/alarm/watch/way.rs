//! A host's way out: its default route.

use std::net::IpAddr;

use proto::report::{Neighbour, Route, RouteKind, TABLE_MAIN};

/// A default route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WayOut {
    /// The interface.
    pub interface: String,
    /// The gateway.
    pub gateway: Option<IpAddr>,
    /// The gateway's link-layer address, where it is resolved.
    pub mac: Option<String>,
}

/// The default route of lowest metric, IPv4 before IPv6.
pub(super) fn way_out(routes: &[Route], neighbours: &[Neighbour]) -> Option<WayOut> {
    let defaults = routes.iter().filter(|route| {
        route.destination.prefix() == 0 && route.table == TABLE_MAIN && route.kind == RouteKind::Unicast
    });
    let best = defaults.min_by_key(|route| (route.destination.address().is_ipv6(), route.metric))?;
    let interface = best.interface.clone()?;
    let mac = neighbours
        .iter()
        .find(|neighbour| Some(neighbour.ip) == best.gateway && neighbour.interface == interface)
        .and_then(|neighbour| neighbour.mac.clone());
    Some(WayOut { interface, gateway: best.gateway, mac })
}

/// The default route before, where it and the present one differ. A gateway whose link-layer address
/// is not known at the moment is the same gateway.
pub(super) fn changed_way(old: Option<&WayOut>, new: Option<&WayOut>) -> Option<Option<WayOut>> {
    match (old, new) {
        (Some(was), Some(is)) => {
            let moved = (&was.interface, was.gateway) != (&is.interface, is.gateway);
            let mac = was.mac.is_some() && is.mac.is_some() && was.mac != is.mac;
            (moved || mac).then(|| Some(was.clone()))
        }
        (Some(was), None) => Some(Some(was.clone())),
        (None, _) => None,
    }
}
