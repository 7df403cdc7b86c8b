//! RTM_NEWADDR: the addresses of all interfaces.

use proto::ids::Cidr;

use super::{Attributes, BadMessage, INET, INET6, ip_of, take, u8_at, u32_at};

/// RTM_GETADDR (linux/rtnetlink.h).
pub const GET: u16 = 22;
/// RTM_NEWADDR (linux/rtnetlink.h).
pub const NEW: u16 = 20;
/// Bytes of `struct ifaddrmsg` (linux/if_addr.h).
pub const HEADER: usize = 8;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;

/// The index of an interface and an address of its own with the prefix length; `None` of other families.
///
/// # Errors
/// What is missing or malformed.
pub fn row(body: &[u8]) -> Result<Option<(u32, Cidr)>, BadMessage> {
    let family = take(body, "address family", |body| u8_at(body, 0))?;
    let prefix = take(body, "prefix length", |body| u8_at(body, 1))?;
    let index = take(body, "interface index", |body| u32_at(body, 4))?;
    if !matches!(family, INET | INET6) {
        return Ok(None);
    }
    let (mut address, mut local) = (None, None);
    for attribute in Attributes::after(body, HEADER) {
        match attribute? {
            (IFA_ADDRESS, value) => address = Some(take(value, "address", |value| ip_of(family, value))?),
            (IFA_LOCAL, value) => local = Some(take(value, "local address", |value| ip_of(family, value))?),
            _ => {}
        }
    }
    // On a point-to-point interface IFA_ADDRESS is the far end's.
    let own = local.or(address).ok_or(BadMessage { field: "address" })?;
    let cidr = Cidr::new(own, prefix).ok_or(BadMessage { field: "prefix length" })?;
    Ok(Some((index, cidr)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::netlink::request_attribute;

    fn read(family: u8, prefix: u8, attributes: &[(u16, &[u8])]) -> Result<Option<String>, &'static str> {
        let mut body = vec![family, prefix, 0x80, 0, 7, 0, 0, 0];
        body[4..].copy_from_slice(&7_u32.to_ne_bytes());
        for (kind, value) in attributes {
            body.extend(request_attribute(*kind, value));
        }
        let row = row(&body).map_err(|bad| bad.field)?;
        Ok(row.map(|(index, cidr)| format!("{index} {cidr}")))
    }

    #[test]
    fn addresses_of_both_families_and_of_the_near_end() {
        let told = |text: &str| Ok(Some(text.to_owned()));
        let (near, far) = ([10, 0, 0, 1], [10, 0, 0, 2]);
        assert_eq!(read(INET, 24, &[(IFA_ADDRESS, &near), (IFA_LOCAL, &near)]), told("7 10.0.0.1/24"));
        assert_eq!(read(INET, 32, &[(IFA_ADDRESS, &far), (IFA_LOCAL, &near)]), told("7 10.0.0.1/32"));
        let mut ipv6 = [0; 16];
        (ipv6[0], ipv6[15]) = (0xfd, 1);
        assert_eq!(read(INET6, 64, &[(IFA_ADDRESS, &ipv6), (3, b"eth0:1\0")]), told("7 fd00::1/64"));
        assert_eq!(read(17, 8, &[]), Ok(None), "another family");
    }

    #[test]
    fn what_is_malformed_is_named() {
        assert_eq!(row(&[2, 24, 0]), Err(BadMessage { field: "interface index" }));
        assert_eq!(read(INET, 24, &[]), Err("address"));
        assert_eq!(read(INET, 24, &[(IFA_LOCAL, &[1, 2, 3])]), Err("local address"));
        assert_eq!(read(INET, 33, &[(IFA_LOCAL, &[1, 2, 3, 4])]), Err("prefix length"));
    }
}
