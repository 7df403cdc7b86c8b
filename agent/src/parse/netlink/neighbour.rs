//! RTM_NEWNEIGH: the neighbours of both families, with their states.
//!
//! Left out, as `ip neigh` leaves them out: addresses that this host answers for itself (proxy
//! entries), and entries that need no resolution or were never used, among them all multicast
//! addresses, unless a routing daemon put them there.

use std::net::IpAddr;

use proto::report::NeighbourState;

use super::{Attributes, BadMessage, INET, INET6, hardware_address, ip_of, take, u8_at, u16_at, u32_at};

/// RTM_GETNEIGH (linux/rtnetlink.h).
pub const GET: u16 = 30;
/// RTM_NEWNEIGH (linux/rtnetlink.h).
pub const NEW: u16 = 28;
/// Bytes of `struct ndmsg` (linux/neighbour.h).
pub const HEADER: usize = 12;

const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;

/// NTF_PROXY, NTF_EXT_LEARNED and NTF_ROUTER (linux/neighbour.h).
const PROXY: u8 = 0x08;
const LEARNED: u8 = 0x10;
const ROUTER: u8 = 0x80;

/// NUD_NOARP (linux/neighbour.h).
const NOARP: u16 = 0x40;

/// A neighbour, as the kernel tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeighbourRow {
    /// Its address.
    pub ip: IpAddr,
    /// Index of the interface that it is seen on.
    pub index: u32,
    /// Its link-layer address.
    pub mac: Option<String>,
    /// How sure the kernel is of it.
    pub state: NeighbourState,
    /// It calls itself a router.
    pub router: bool,
}

/// One neighbour; `None` when it is one of those that are left out.
///
/// # Errors
/// What is missing or malformed.
pub fn row(body: &[u8]) -> Result<Option<NeighbourRow>, BadMessage> {
    let family = take(body, "address family", |body| u8_at(body, 0))?;
    let index = take(body, "interface index", |body| u32_at(body, 4))?;
    let nud = take(body, "state", |body| u16_at(body, 8))?;
    let flags = take(body, "flags", |body| u8_at(body, 10))?;
    let unresolved = nud == 0 || nud & NOARP != 0;
    if !matches!(family, INET | INET6) || flags & PROXY != 0 || (unresolved && flags & LEARNED == 0) {
        return Ok(None);
    }
    let (mut ip, mut mac) = (None, None);
    for attribute in Attributes::after(body, HEADER) {
        match attribute? {
            (NDA_DST, value) => ip = Some(take(value, "address", |value| ip_of(family, value))?),
            (NDA_LLADDR, value) => mac = hardware_address(value),
            _ => {}
        }
    }
    let ip = ip.ok_or(BadMessage { field: "address" })?;
    let state = state(nud);
    let has_answered = !matches!(state, NeighbourState::Incomplete | NeighbourState::Failed);
    let mac = mac.filter(|_| has_answered);
    Ok(Some(NeighbourRow { ip, index, mac, state, router: flags & ROUTER != 0 }))
}

/// NUD_* of linux/neighbour.h: one bit each.
fn state(nud: u16) -> NeighbourState {
    match nud {
        0x01 => NeighbourState::Incomplete,
        0x02 => NeighbourState::Reachable,
        0x04 => NeighbourState::Stale,
        0x08 => NeighbourState::Delay,
        0x10 => NeighbourState::Probe,
        0x20 => NeighbourState::Failed,
        NOARP => NeighbourState::Noarp,
        0x80 => NeighbourState::Permanent,
        _ => NeighbourState::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::netlink::request_attribute as encode;

    fn body(family: u8, nud: u8, flags: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut body = vec![family, 0, 0, 0];
        body.extend_from_slice(&7_u32.to_ne_bytes());
        body.extend_from_slice(&u16::from(nud).to_ne_bytes());
        body.extend_from_slice(&[flags, 1]);
        body.extend(attributes.concat());
        body
    }

    #[test]
    fn states_flags_and_what_is_left_out() {
        let to = encode(NDA_DST, &[192, 0, 2, 1]);
        let mac = encode(NDA_LLADDR, &[2, 0, 0, 0, 0, 1]);
        let told = row(&body(INET, 0x04, 0, &[to.clone(), mac.clone()])).unwrap().unwrap();
        assert_eq!((told.ip.to_string(), told.index), ("192.0.2.1".to_owned(), 7));
        assert_eq!(told.mac.as_deref(), Some("02:00:00:00:00:01"));
        assert_eq!((told.state, told.router), (NeighbourState::Stale, false));
        let v6 = encode(NDA_DST, &[0xfe; 16]);
        assert!(row(&body(INET6, 0x02, ROUTER, &[v6])).unwrap().unwrap().router);
        let failed = row(&body(INET, 0x20, 0, &[to.clone(), mac])).unwrap().unwrap();
        assert_eq!((failed.state, failed.mac), (NeighbourState::Failed, None));
        for (nud, flags) in [(0x40, 0), (0, 0), (0, PROXY), (0x80, PROXY)] {
            assert_eq!(row(&body(INET, nud, flags, std::slice::from_ref(&to))), Ok(None));
        }
        let learned = row(&body(INET, 0x40, LEARNED, std::slice::from_ref(&to))).unwrap().unwrap();
        assert_eq!(learned.state, NeighbourState::Noarp);
        assert_eq!(row(&body(7, 0x02, 0, &[])), Ok(None), "a bridge's forwarding entry");
    }

    #[test]
    fn malformed_ones_are_named() {
        let field = |body: &[u8]| row(body).unwrap_err().field;
        assert_eq!(field(&body(INET, 2, 0, &[])), "address");
        assert_eq!(field(&body(INET, 2, 0, &[encode(NDA_DST, &[1; 16])])), "address");
        assert_eq!(field(&[INET; 3]), "interface index");
        assert_eq!(field(&[INET; 10]), "flags");
    }
}
