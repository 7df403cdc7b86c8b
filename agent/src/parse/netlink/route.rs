//! RTM_NEWROUTE: the routes of both families, from all tables but *local*.
//!
//! Left out: the host's own addresses (types local, broadcast, anycast and multicast), learned
//! exceptions (`RTM_F_CLONED`), and next hops that the kernel itself passes over because their
//! link is gone (`RTNH_F_DEAD`). A route with several next hops is a row for each.
//!
//! What a row does not hold: the source prefix of a source-specific route, type of service,
//! weights, an own MTU, and encapsulation.

use std::net::IpAddr;

use proto::ids::Cidr;
use proto::report::{Route, RouteKind};

use super::{
    Attributes, BadMessage, INET, INET6, after, ip, ip_of, number, take, u8_at, u16_at, u32_at, unspecified,
};

/// RTM_GETROUTE (linux/rtnetlink.h).
pub const GET: u16 = 26;
/// RTM_NEWROUTE (linux/rtnetlink.h).
pub const NEW: u16 = 24;
/// Bytes of `struct rtmsg` (linux/rtnetlink.h).
pub const HEADER: usize = 12;
/// Bytes of `struct rtnexthop` (linux/rtnetlink.h).
const HOP_HEADER: usize = 8;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;

/// RT_TABLE_LOCAL (linux/rtnetlink.h).
const TABLE_LOCAL: u32 = 255;
/// RTM_F_CLONED (linux/rtnetlink.h).
const CLONED: u32 = 0x200;
/// RTNH_F_DEAD (linux/rtnetlink.h), in a route's flags and in those of a next hop.
const DEAD: u32 = 0x1;

/// Gives each row of a route, without its interface's name, and that interface's index to `each`.
///
/// # Errors
/// What is missing or malformed.
pub fn rows(family: u8, body: &[u8], mut each: impl FnMut(Route, Option<u32>)) -> Result<(), BadMessage> {
    let of = take(body, "address family", |body| u8_at(body, 0))?;
    let prefix = take(body, "prefix length", |body| u8_at(body, 1))?;
    let table = take(body, "table", |body| u8_at(body, 4))?;
    let kind = take(body, "type", |body| u8_at(body, 7))?;
    let flags = take(body, "flags", |body| u32_at(body, 8))?;
    // A kernel without a family answers a question for it with the others'.
    let Some(kind) = route_kind(kind).filter(|_| of == family && matches!(family, INET | INET6)) else {
        return Ok(());
    };
    let mut destination = unspecified(family);
    let mut hop = Hop::default();
    let (mut hops, mut metric, mut source, mut table) = (None, 0, None, u32::from(table));
    for attribute in Attributes::after(body, HEADER) {
        match attribute? {
            (RTA_DST, value) => destination = take(value, "destination", |value| ip_of(family, value))?,
            (RTA_PRIORITY, value) => metric = take(value, "metric", number)?,
            (RTA_PREFSRC, value) => source = Some(take(value, "preferred source", ip)?),
            (RTA_TABLE, value) => table = take(value, "table", number)?,
            (RTA_MULTIPATH, value) => hops = Some(value),
            (kind, value) => hop.set(kind, value)?,
        }
    }
    if table == TABLE_LOCAL || flags & (CLONED | DEAD) != 0 {
        return Ok(());
    }
    let destination = Cidr::new(destination, prefix).ok_or(BadMessage { field: "prefix length" })?;
    let route = Route { destination, gateway: None, interface: None, metric, source, table, kind };
    match hops {
        _ if kind != RouteKind::Unicast => each(route, None),
        None => each(Route { gateway: hop.gateway, ..route }, hop.index),
        Some(hops) => {
            for hop in Hops(hops) {
                let (hop, is_dead) = hop?;
                if !is_dead {
                    each(Route { gateway: hop.gateway, ..route.clone() }, hop.index);
                }
            }
        }
    }
    Ok(())
}

/// RTN_* of linux/rtnetlink.h; `None` for the host's own addresses.
fn route_kind(kind: u8) -> Option<RouteKind> {
    match kind {
        1 => Some(RouteKind::Unicast),
        2..=5 => None,
        6 => Some(RouteKind::Blackhole),
        7 => Some(RouteKind::Unreachable),
        8 => Some(RouteKind::Prohibit),
        9 => Some(RouteKind::Throw),
        _ => Some(RouteKind::Other),
    }
}

#[derive(Default)]
struct Hop {
    index: Option<u32>,
    gateway: Option<IpAddr>,
}

impl Hop {
    fn set(&mut self, kind: u16, value: &[u8]) -> Result<(), BadMessage> {
        match kind {
            RTA_OIF => self.index = Some(take(value, "interface index", number)?),
            RTA_GATEWAY => self.gateway = Some(take(value, "gateway", ip)?),
            // `struct rtvia`: a gateway of the other family, after its family.
            RTA_VIA => {
                self.gateway = Some(take(value, "gateway", |value| {
                    let family = u8::try_from(u16_at(value, 0)?).ok()?;
                    ip_of(family, value.get(2..)?)
                })?);
            }
            _ => {}
        }
        Ok(())
    }
}

/// The next hops of RTA_MULTIPATH, and whether the kernel passes them over. Ends after an error.
struct Hops<'a>(&'a [u8]);

impl Iterator for Hops<'_> {
    type Item = Result<(Hop, bool), BadMessage>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let bytes = self.0;
        let len = u16_at(bytes, 0).map_or(0, usize::from);
        let hop = bytes.get(..len).ok_or(BadMessage { field: "next hop's length" }).and_then(hop);
        self.0 = if hop.is_ok() { after(bytes, len) } else { &[] };
        Some(hop)
    }
}

fn hop(bytes: &[u8]) -> Result<(Hop, bool), BadMessage> {
    let flags = take(bytes, "next hop's flags", |bytes| u8_at(bytes, 2))?;
    let index = take(bytes, "next hop's interface", |bytes| u32_at(bytes, 4))?;
    let mut hop = Hop { index: Some(index), gateway: None };
    for attribute in Attributes::after(bytes, HOP_HEADER) {
        let (kind, value) = attribute?;
        hop.set(kind, value)?;
    }
    Ok((hop, u32::from(flags) & DEAD != 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::netlink::request_attribute as encode;

    fn body(prefix: u8, table: u8, kind: u8, flags: u32, attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut body = vec![INET, prefix, 0, 0, table, 3, 0, kind];
        body.extend_from_slice(&flags.to_ne_bytes());
        body.extend(attributes.concat());
        body
    }

    fn told(body: &[u8]) -> Result<Vec<String>, BadMessage> {
        let mut told = Vec::new();
        rows(INET, body, |r, index| {
            let (to, via, source) = (r.destination, r.gateway, r.source);
            told.push(format!("{to} {via:?} {index:?} {} {source:?} {} {:?}", r.metric, r.table, r.kind));
        })?;
        Ok(told)
    }

    fn hop(flags: u8, index: u32, attributes: &[u8]) -> Vec<u8> {
        let len = u16::try_from(HOP_HEADER + attributes.len()).unwrap();
        let mut bytes = len.to_ne_bytes().to_vec();
        bytes.extend_from_slice(&[flags, 0]);
        bytes.extend_from_slice(&index.to_ne_bytes());
        bytes.extend_from_slice(attributes);
        bytes
    }

    #[test]
    fn a_route_has_all_that_proc_leaves_out() {
        let attributes = [
            encode(RTA_TABLE, &51_820_u32.to_ne_bytes()),
            encode(RTA_DST, &[10, 9, 0, 0]),
            encode(RTA_PRIORITY, &100_u32.to_ne_bytes()),
            encode(RTA_PREFSRC, &[10, 9, 0, 1]),
            encode(RTA_VIA, &[&INET6.to_ne_bytes()[..], &[0], &[0xfe; 16]].concat()),
            encode(RTA_OIF, &4_u32.to_ne_bytes()),
        ];
        let v6 = "fefe:fefe:fefe:fefe:fefe:fefe:fefe:fefe";
        let expected = format!("10.9.0.0/16 Some({v6}) Some(4) 100 Some(10.9.0.1) 51820 Unicast");
        assert_eq!(told(&body(16, 0, 1, 0, &attributes)).unwrap(), [expected]);
    }

    #[test]
    fn every_next_hop_alive_is_a_row() {
        let via = |last| encode(RTA_GATEWAY, &[192, 0, 2, last]);
        let hops = [hop(0, 2, &via(1)), hop(1, 3, &via(2)), hop(16, 4, &[])].concat();
        assert_eq!(
            told(&body(0, 254, 1, 0, &[encode(RTA_MULTIPATH, &hops)])).unwrap(),
            [
                "0.0.0.0/0 Some(192.0.2.1) Some(2) 0 None 254 Unicast",
                "0.0.0.0/0 None Some(4) 0 None 254 Unicast",
            ]
        );
        let field =
            |hops: &[u8]| told(&body(0, 254, 1, 0, &[encode(RTA_MULTIPATH, hops)])).unwrap_err().field;
        assert_eq!(field(&hops[..hops.len() - 4]), "next hop's length");
        assert_eq!(field(&[0; 16]), "next hop's flags", "a length of nothing must not stand still");
    }

    #[test]
    fn refusing_kinds_have_no_interface_and_own_addresses_are_left_out() {
        let lo = encode(RTA_OIF, &1_u32.to_ne_bytes());
        for (number, kind) in [(6, "Blackhole"), (7, "Unreachable"), (8, "Prohibit"), (9, "Throw")] {
            let told = told(&body(0, 254, number, 0, std::slice::from_ref(&lo))).unwrap();
            assert_eq!(told, [format!("0.0.0.0/0 None None 0 None 254 {kind}")]);
        }
        for (table, kind, flags) in [(255, 1, 0), (254, 2, 0), (254, 5, 0), (254, 1, CLONED), (254, 1, DEAD)]
        {
            assert!(told(&body(0, table, kind, flags, &[])).unwrap().is_empty());
        }
        let mut other = body(0, 254, 1, 0, &[]);
        other[0] = INET6;
        assert!(told(&other).unwrap().is_empty(), "another family than asked for");
    }

    #[test]
    fn malformed_ones_are_named() {
        let field = |body: &[u8]| told(body).unwrap_err().field;
        assert_eq!(field(&body(33, 254, 1, 0, &[])), "prefix length");
        assert_eq!(field(&body(24, 254, 1, 0, &[encode(RTA_DST, &[1; 16])])), "destination");
        assert_eq!(field(&body(24, 254, 1, 0, &[encode(RTA_VIA, &[10, 0, 1])])), "gateway");
        assert_eq!(field(&[INET, 24, 0, 0]), "table");
    }
}
