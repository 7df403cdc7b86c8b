//! The addresses of all interfaces.

use std::net::IpAddr;

use nix::errno::Errno;
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::sys::socket::SockaddrStorage;
use proto::ids::Cidr;

/// Where interface addresses come from.
#[derive(Debug, Clone)]
pub enum Addresses {
    /// The kernel, by getifaddrs(3).
    System,
    /// These: interface name or label, and address with prefix length.
    Fixed(Vec<(String, Cidr)>),
}

impl Addresses {
    /// Every IPv4 and IPv6 address with the name of its interface, in the kernel's order. An IPv4
    /// address with a label has that (`eth0:1`) for a name.
    pub(super) fn read(&self) -> Result<Vec<(String, Cidr)>, Errno> {
        match self {
            Self::System => Ok(getifaddrs()?.filter_map(with_prefix).collect()),
            Self::Fixed(list) => Ok(list.clone()),
        }
    }
}

fn with_prefix(entry: InterfaceAddress) -> Option<(String, Cidr)> {
    let address = ip(&entry.address?)?;
    let ones = match ip(&entry.netmask?)? {
        IpAddr::V4(mask) => mask.to_bits().leading_ones(),
        IpAddr::V6(mask) => mask.to_bits().leading_ones(),
    };
    Some((entry.interface_name, Cidr::new(address, u8::try_from(ones).ok()?)?))
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = || address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())).or_else(v4)
}

/// Whether an address named `label` is one of the interface `name`.
pub(super) fn belongs(label: &str, name: &str) -> bool {
    label.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_its_addresses() {
        let list = Addresses::System.read().unwrap();
        assert!(list.contains(&("lo".to_owned(), "127.0.0.1/8".parse().unwrap())), "{list:?}");
    }

    #[test]
    fn labels_belong_to_their_interface() {
        assert!(belongs("eth0", "eth0") && belongs("eth0:1", "eth0"));
        assert!(!belongs("eth01", "eth0") && !belongs("eth", "eth0") && !belongs("eth0.7", "eth0"));
    }
}
