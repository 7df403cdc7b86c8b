//! What the kernel is asked by netlink.

use nix::sys::socket::SockProtocol;

use crate::parse::netlink::dump::{ACK, DUMP, REQUEST};
use crate::parse::netlink::{
    INET, INET6, address, family, link, neighbour, request, request_attribute, route, rule, wireguard,
};

/// Bytes of a list that are read at most: a million IPv4 routes of 60 bytes. They are counted and
/// chosen from as they come, and never held together.
pub(super) const BYTES_MAX: usize = 64 << 20;
/// Bytes of a WireGuard device, which is held whole: over 20,000 peers.
const DEVICE_BYTES_MAX: usize = 4 << 20;
/// Each socket asks once, so its number need not vary.
pub(super) const SEQUENCE: u32 = 1;

/// A list that the kernel can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// All interfaces.
    Links,
    /// The IPv4 routes of all tables.
    Routes4,
    /// The IPv6 routes of all tables.
    Routes6,
    /// The policy-routing rules of both families.
    Rules,
    /// The neighbours of both families.
    Neighbours,
    /// The addresses of all interfaces.
    Addresses,
    /// The number of generic netlink's family "wireguard".
    WireGuardFamily,
    /// A WireGuard device with its peers. The kernel gives its secrets too, and asks for CAP_NET_ADMIN.
    WireGuard {
        /// Number of the family "wireguard".
        family: u16,
        /// The interface's index.
        index: u32,
    },
}

impl Question {
    /// Those that a recording of every host holds; its addresses stand beside it as text.
    pub const ALL: [Self; 5] = [Self::Links, Self::Routes4, Self::Routes6, Self::Rules, Self::Neighbours];

    /// A name for messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Links => "links",
            Self::Routes4 => "routes4",
            Self::Routes6 => "routes6",
            Self::Rules => "rules",
            Self::Neighbours => "neighbours",
            Self::Addresses => "addresses",
            Self::WireGuardFamily => "wireguard-family",
            Self::WireGuard { .. } => "wireguard",
        }
    }

    /// The name of the file of a recorded answer.
    #[must_use]
    pub fn file(self) -> String {
        match self {
            Self::WireGuard { index, .. } => format!("{}-{index}", self.name()),
            _ => self.name().to_owned(),
        }
    }

    /// The kind of netlink socket that it is asked by.
    pub(super) fn protocol(self) -> SockProtocol {
        match self {
            Self::WireGuardFamily | Self::WireGuard { .. } => SockProtocol::NetlinkGeneric,
            _ => SockProtocol::NetlinkRoute,
        }
    }

    /// Bytes of its answer that are read at most.
    pub(super) fn bytes_max(self) -> usize {
        if matches!(self, Self::WireGuard { .. }) { DEVICE_BYTES_MAX } else { BYTES_MAX }
    }

    /// What to send.
    pub(super) fn request(self) -> Vec<u8> {
        let (kind, header, family) = match self {
            Self::WireGuardFamily => {
                let body = [&family::GET[..], &request_attribute(family::NAME, wireguard::FAMILY)].concat();
                return request(family::CONTROL, REQUEST | ACK, SEQUENCE, &body);
            }
            Self::WireGuard { family, index } => {
                let index = request_attribute(wireguard::INDEX, &index.to_ne_bytes());
                let body = [&wireguard::GET[..], &index].concat();
                return request(family, REQUEST | DUMP, SEQUENCE, &body);
            }
            Self::Links => (link::GET, link::HEADER, 0),
            Self::Routes4 => (route::GET, route::HEADER, INET),
            Self::Routes6 => (route::GET, route::HEADER, INET6),
            Self::Rules => (rule::GET, rule::HEADER, 0),
            Self::Neighbours => (neighbour::GET, neighbour::HEADER, 0),
            Self::Addresses => (address::GET, address::HEADER, 0),
        };
        let mut body = vec![0; header];
        body[0] = family;
        if self == Self::Links {
            body.extend(request_attribute(link::EXT_MASK, &link::SKIP_STATS.to_ne_bytes()));
        }
        request(kind, REQUEST | DUMP, SEQUENCE, &body)
    }

    /// Kind of the messages that answer it.
    pub(super) fn answer(self) -> u16 {
        match self {
            Self::Links => link::NEW,
            Self::Routes4 | Self::Routes6 => route::NEW,
            Self::Rules => rule::NEW,
            Self::Neighbours => neighbour::NEW,
            Self::Addresses => address::NEW,
            Self::WireGuardFamily => family::CONTROL,
            Self::WireGuard { family, .. } => family,
        }
    }
}
