//! Messages of rtnetlink(7) and of generic netlink as values: pure functions of bytes, one file per
//! kind of message.
//!
//! A datagram is a row of messages, a message is a fixed header and a row of attributes, and an
//! attribute's value may be a row of attributes again. Numbers are in this machine's byte order
//! unless said otherwise; addresses and what travels in packets are in network order. Lengths are
//! never trusted: whatever does not fit into what holds it is an error.

pub mod address;
pub mod dump;
pub mod family;
pub mod link;
pub mod neighbour;
pub mod route;
pub mod rule;
pub mod wireguard;

use std::net::IpAddr;

use super::interface_name;

/// AF_INET (linux/socket.h).
pub const INET: u8 = 2;
/// AF_INET6 (linux/socket.h).
pub const INET6: u8 = 10;

/// Bytes of a message's header (`struct nlmsghdr`, linux/netlink.h).
const HEADER: usize = 16;
/// Bytes of an attribute's header (`struct nlattr`, linux/netlink.h).
const ATTRIBUTE_HEADER: usize = 4;
/// Bits of an attribute's type that are its type; the others are flags (NLA_TYPE_MASK).
const TYPE_MASK: u16 = 0x3fff;

/// A message, or what should be one, that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadMessage {
    /// What is missing or not of the shape that the kernel's headers give it.
    pub field: &'static str,
}

/// A message's header and what follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// What it is (`nlmsg_type`).
    pub kind: u16,
    /// `nlmsg_flags`.
    pub flags: u16,
    /// Sequence number of the question that it answers.
    pub sequence: u32,
    /// Netlink port of the socket that asked.
    pub port: u32,
    /// What follows the header.
    pub body: &'a [u8],
}

/// The messages of a datagram. Ends after the first error.
#[derive(Debug)]
pub struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Messages<'a> {
    /// The messages of `datagram`.
    #[must_use]
    pub fn new(datagram: &'a [u8]) -> Self {
        Self { rest: datagram }
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, BadMessage>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let message = message(self.rest);
        let len = message.map_or(self.rest.len(), |message| HEADER + message.body.len());
        self.rest = after(self.rest, len);
        Some(message.ok_or(BadMessage { field: "message length" }))
    }
}

fn message(bytes: &[u8]) -> Option<Message<'_>> {
    let len = usize::try_from(u32_at(bytes, 0)?).ok()?;
    Some(Message {
        kind: u16_at(bytes, 4)?,
        flags: u16_at(bytes, 6)?,
        sequence: u32_at(bytes, 8)?,
        port: u32_at(bytes, 12)?,
        body: bytes.get(HEADER..len)?,
    })
}

/// A request: a message of `kind` with `flags`, the sequence number `sequence` and `body`.
#[must_use]
pub fn request(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(HEADER + body.len()).expect("requests are some tens of bytes long");
    let mut bytes = Vec::with_capacity(HEADER + body.len());
    bytes.extend_from_slice(&len.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&sequence.to_ne_bytes());
    bytes.extend_from_slice(&0_u32.to_ne_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// An attribute of a request, with its padding.
#[must_use]
pub fn request_attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(ATTRIBUTE_HEADER + value.len()).expect("requests are some tens of bytes long");
    let mut bytes = [len.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// A row of attributes: type and value. Ends after the first error. Up to three bytes after the
/// last one do not count, as in the kernel's own `nla_ok`.
#[derive(Debug)]
struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Attributes<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Those that follow a header of `header` bytes.
    fn after(bytes: &'a [u8], header: usize) -> Self {
        Self { rest: after(bytes, header) }
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<(u16, &'a [u8]), BadMessage>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.len() < ATTRIBUTE_HEADER {
            return None;
        }
        let attribute = attribute(self.rest);
        let len = attribute.map_or(self.rest.len(), |(_, value)| ATTRIBUTE_HEADER + value.len());
        self.rest = after(self.rest, len);
        Some(attribute.ok_or(BadMessage { field: "attribute length" }))
    }
}

fn attribute(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let len = usize::from(u16_at(bytes, 0)?);
    Some((u16_at(bytes, 2)? & TYPE_MASK, bytes.get(ATTRIBUTE_HEADER..len)?))
}

/// What follows the first `len` bytes, padded to four.
fn after(bytes: &[u8], len: usize) -> &[u8] {
    bytes.get(len.next_multiple_of(4)..).unwrap_or_default()
}

fn u8_at(bytes: &[u8], at: usize) -> Option<u8> {
    bytes.get(at).copied()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|chunk| u16::from_ne_bytes(*chunk))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_ne_bytes(*chunk))
}

/// What `read` makes of a value; otherwise an error that names `field`.
fn take<'a, T>(
    value: &'a [u8],
    field: &'static str,
    read: impl FnOnce(&'a [u8]) -> Option<T>,
) -> Result<T, BadMessage> {
    read(value).ok_or(BadMessage { field })
}

/// A whole number of four bytes.
fn number(value: &[u8]) -> Option<u32> {
    <[u8; 4]>::try_from(value).ok().map(u32::from_ne_bytes)
}

/// A whole number of four bytes in network order.
fn number_be(value: &[u8]) -> Option<u32> {
    <[u8; 4]>::try_from(value).ok().map(u32::from_be_bytes)
}

/// A whole number of eight bytes.
fn long_number(value: &[u8]) -> Option<u64> {
    <[u8; 8]>::try_from(value).ok().map(u64::from_ne_bytes)
}

/// A UDP port: two bytes in network order.
fn port(value: &[u8]) -> Option<u16> {
    <[u8; 2]>::try_from(value).ok().map(u16::from_be_bytes)
}

/// An IP address of 4 or 16 bytes.
fn ip(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => <[u8; 4]>::try_from(value).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(value).ok().map(IpAddr::from),
        _ => None,
    }
}

/// An IP address of the family `family`.
fn ip_of(family: u8, value: &[u8]) -> Option<IpAddr> {
    ip(value).filter(|ip| ip.is_ipv4() == (family == INET))
}

/// The unspecified address of a family, for destinations that are left out where they are it.
fn unspecified(family: u8) -> IpAddr {
    if family == INET {
        IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED)
    } else {
        IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED)
    }
}

/// A text up to its closing zero byte.
fn text(value: &[u8]) -> Option<&str> {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    std::str::from_utf8(&value[..end]).ok()
}

/// An interface's name.
fn name(value: &[u8]) -> Option<String> {
    text(value).and_then(interface_name).map(str::to_owned)
}

/// A link-layer address of 1 to 20 bytes as `aa:bb:...`; `None` for any other length, and when all
/// bytes are zero.
fn hardware_address(value: &[u8]) -> Option<String> {
    let good = value.len() <= 20 && value.iter().any(|byte| *byte != 0);
    good.then(|| value.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":"))
}

#[cfg(test)]
mod tests {
    use super::request_attribute as encode;
    use super::*;

    #[test]
    fn messages_are_read_one_after_the_other_up_to_a_broken_one() {
        let mut bytes = request(1, 2, 3, &[4, 5, 6]);
        bytes.push(0);
        bytes.extend(request(7, 8, 9, &[]));
        let whole = bytes.len();
        bytes.extend_from_slice(&[200, 0, 0, 0, 1, 2]);
        let list: Vec<_> = Messages::new(&bytes[..whole]).map(Result::unwrap).collect();
        assert_eq!(list[0], Message { kind: 1, flags: 2, sequence: 3, port: 0, body: &[4, 5, 6] });
        assert_eq!(list[1], Message { kind: 7, flags: 8, sequence: 9, port: 0, body: &[] });
        assert_eq!(list.len(), 2);
        let list: Vec<_> = Messages::new(&bytes).collect();
        assert_eq!((list.len(), list[2]), (3, Err(BadMessage { field: "message length" })));
        // A length below the header's own must not stand still.
        assert_eq!(Messages::new(&[0; 64]).count(), 1);
    }

    #[test]
    fn attributes_lose_their_flags_and_may_not_overrun() {
        let mut bytes = encode(0x8003, b"eth0\0");
        bytes.extend(encode(1, &[]));
        bytes.extend_from_slice(&[0, 0]);
        let list: Vec<_> = Attributes::new(&bytes).map(Result::unwrap).collect();
        assert_eq!(list, [(3, b"eth0\0".as_slice()), (1, &[])]);
        assert_eq!(name(list[0].1).as_deref(), Some("eth0"));
        for broken in [[3, 0, 1, 0], [9, 0, 1, 0]] {
            let list: Vec<_> = Attributes::new(&broken).collect();
            assert_eq!(list, [Err(BadMessage { field: "attribute length" })]);
        }
    }

    #[test]
    fn values_have_their_length() {
        assert_eq!(ip(&[192, 0, 2, 1]).unwrap().to_string(), "192.0.2.1");
        assert_eq!((ip(&[1; 5]), ip_of(INET6, &[1; 4]), number(&[1; 3])), (None, None, None));
        assert_eq!((port(&[0x12, 0xb5]), number_be(&[0, 0, 1, 2])), (Some(4789), Some(258)));
        assert_eq!(name(b"../x\0"), None);
        assert_eq!(hardware_address(&[2, 0, 0, 0, 0, 0x5e]).as_deref(), Some("02:00:00:00:00:5e"));
        assert_eq!((hardware_address(&[0; 6]), hardware_address(&[1; 21])), (None, None));
    }
}
