//! An agent's routes: those of IPv4 alone, most often all, take 12 bytes each here instead of 64, beside the few
//! ways that they share.

use std::net::{IpAddr, Ipv4Addr};

use proto::ids::Cidr;
use proto::report::RouteKind;

use super::record::Slot;

/// A route, its interface as a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) destination: Cidr,
    pub(super) gateway: Option<IpAddr>,
    pub(super) source: Option<IpAddr>,
    pub(super) slot: Slot,
    pub(super) kind: RouteKind,
    pub(super) metric: u32,
    pub(super) table: u32,
}

/// The routes of one agent: those of IPv4 alone first, each sort in the report's order.
#[derive(Debug, Clone, Default)]
pub(super) struct Routes {
    ways: Box<[Way]>,
    plain: Box<[Plain]>,
    other: Box<[Route]>,
}

/// A route of IPv4 alone.
#[derive(Debug, Clone, Copy)]
struct Plain {
    destination: Ipv4Addr,
    metric: u32,
    /// Its place in [`Routes::ways`].
    way: u16,
    prefix: u8,
}

/// What routes of IPv4 to several destinations may have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Way {
    /// [`Ipv4Addr::UNSPECIFIED`] for none.
    gateway: Ipv4Addr,
    /// [`Ipv4Addr::UNSPECIFIED`] for none.
    source: Ipv4Addr,
    table: u32,
    slot: Slot,
    kind: RouteKind,
}

impl Routes {
    pub(super) fn len(&self) -> usize {
        self.plain.len() + self.other.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Route> + '_ {
        self.plain.iter().filter_map(|route| self.unpack(route)).chain(self.other.iter().copied())
    }

    /// The routes whose destination holds an address.
    pub(super) fn to(&self, ip: IpAddr) -> impl Iterator<Item = Route> + '_ {
        let (plain, v4) = match ip {
            IpAddr::V4(v4) => (&*self.plain, v4),
            IpAddr::V6(_) => (&[][..], Ipv4Addr::UNSPECIFIED),
        };
        let plain = plain.iter().filter(move |route| route.holds(v4));
        let other = self.other.iter().filter(move |route| route.destination.contains(ip));
        plain.filter_map(|route| self.unpack(route)).chain(other.copied())
    }

    /// Never `None`: the way is one of these, the prefix length was that of a prefix.
    fn unpack(&self, route: &Plain) -> Option<Route> {
        let Way { gateway, source, table, slot, kind } = *self.ways.get(usize::from(route.way))?;
        let address = |ip: Ipv4Addr| Some(IpAddr::V4(ip)).filter(|ip| !ip.is_unspecified());
        Some(Route {
            destination: Cidr::new(IpAddr::V4(route.destination), route.prefix)?,
            gateway: address(gateway),
            source: address(source),
            slot,
            kind,
            metric: route.metric,
            table,
        })
    }
}

impl FromIterator<Route> for Routes {
    fn from_iter<T: IntoIterator<Item = Route>>(routes: T) -> Self {
        let (mut ways, mut plain, mut other) = (Vec::new(), Vec::new(), Vec::new());
        for route in routes {
            match Plain::pack(&route, &mut ways) {
                Some(packed) => plain.push(packed),
                None => other.push(route),
            }
        }
        Self { ways: ways.into(), plain: plain.into(), other: other.into() }
    }
}

impl Plain {
    fn pack(route: &Route, ways: &mut Vec<Way>) -> Option<Self> {
        let Route { destination, gateway, source, slot, kind, metric, table } = *route;
        let IpAddr::V4(to) = destination.address() else { return None };
        let address = |ip: Option<IpAddr>| match ip {
            None => Some(Ipv4Addr::UNSPECIFIED),
            Some(IpAddr::V4(ip)) => Some(ip).filter(|ip| !ip.is_unspecified()),
            Some(IpAddr::V6(_)) => None,
        };
        let way = Way { gateway: address(gateway)?, source: address(source)?, table, slot, kind };
        let place = ways.iter().position(|known| *known == way).unwrap_or_else(|| {
            ways.push(way);
            ways.len() - 1
        });
        Some(Self { destination: to, metric, way: u16::try_from(place).ok()?, prefix: destination.prefix() })
    }

    fn holds(&self, ip: Ipv4Addr) -> bool {
        let differs = u64::from(self.destination.to_bits() ^ ip.to_bits());
        // In 64 bits, as all 32 go where the prefix is of none.
        differs >> (32 - u32::from(self.prefix)) == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ip() -> impl Strategy<Value = IpAddr> {
        prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)]
    }

    fn route() -> impl Strategy<Value = Route> {
        let maybe = || prop_oneof![Just(None), Just(Some(Ipv4Addr::UNSPECIFIED.into())), ip().prop_map(Some)];
        (ip(), 0..=32u8, maybe(), maybe(), any::<(u16, u32, u32)>()).prop_map(
            |(to, prefix, gateway, source, (slot, metric, table))| Route {
                destination: Cidr::new(to, prefix).expect("at most 32"),
                gateway,
                source,
                slot,
                kind: if metric % 2 == 0 { RouteKind::Unicast } else { RouteKind::Blackhole },
                metric,
                table,
            },
        )
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(list in prop::collection::vec(route(), 0..20), to in ip(), low in 0..40u32) {
            let routes: Routes = list.iter().copied().collect();
            prop_assert_eq!(routes.len(), list.len());
            let all: Vec<Route> = routes.iter().collect();
            prop_assert!(list.iter().all(|route| all.contains(route)));
            // Addresses that some route holds, and some that it just does not.
            let near = all.first().map(|route| match route.destination.address() {
                IpAddr::V4(ip) => IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() ^ 1u32.checked_shl(low).unwrap_or(0))),
                ip => ip,
            });
            for to in near.into_iter().chain([to]) {
                let fits: Vec<Route> = all.iter().copied().filter(|route| route.destination.contains(to)).collect();
                prop_assert_eq!(routes.to(to).collect::<Vec<_>>(), fits);
            }
        }
    }

    #[test]
    fn a_route_of_ipv4_takes_12_bytes_and_a_way_16() {
        assert_eq!((size_of::<Plain>(), size_of::<Way>()), (12, 16));
    }
}
