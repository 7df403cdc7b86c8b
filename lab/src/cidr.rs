//! An address with its prefix length, as `ip` writes it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::{Error, Result};

/// An address and a prefix length: `10.1.0.2/24` is a host in its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// The address, host bits included.
    pub address: IpAddr,
    /// Prefix length in bits.
    pub length: u8,
}

impl Cidr {
    /// The address alone, as a /32 or /128.
    pub fn single(address: IpAddr) -> Self {
        Self { address, length: bits(address) }
    }

    /// Whether `other` lies wholly inside this network.
    pub fn contains(&self, other: Self) -> bool {
        self.address.is_ipv4() == other.address.is_ipv4()
            && other.length >= self.length
            && network(self.address, self.length) == network(other.address, self.length)
    }

    /// The `n`th address of this network, with the network's prefix length.
    pub fn nth(&self, n: u32) -> Self {
        let low = network(self.address, self.length) + u128::from(n);
        let address = match self.address {
            IpAddr::V4(_) => IpAddr::V4(u32::try_from(low).unwrap_or(u32::MAX).into()),
            IpAddr::V6(_) => IpAddr::V6(low.into()),
        };
        Self { address, length: self.length }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl FromStr for Cidr {
    type Err = Error;

    /// Reads `ADDRESS/LENGTH`, or a bare address as the address alone.
    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::Plan(format!("`{text}` is not ADDRESS or ADDRESS/LENGTH"));
        let (address, length) = text.split_once('/').map_or((text, None), |(a, l)| (a, Some(l)));
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let length = match length {
            Some(length) => length.parse().ok().filter(|&l| l <= bits(address)).ok_or_else(bad)?,
            None => bits(address),
        };
        Ok(Self { address, length })
    }
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The network's number: the address with its host bits cleared.
fn network(address: IpAddr, length: u8) -> u128 {
    let number = match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    };
    let host_bits = u32::from(bits(address).saturating_sub(length));
    number.checked_shr(host_bits).and_then(|n| n.checked_shl(host_bits)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn networks_contain_their_own() {
        assert!(cidr("10.1.0.0/24").contains(cidr("10.1.0.7")));
        assert!(!cidr("10.1.0.0/24").contains(cidr("10.1.1.7")));
        assert!(!cidr("10.1.0.0/24").contains(cidr("10.1.0.0/16")));
        assert!(cidr("0.0.0.0/0").contains(cidr("192.0.2.1")));
        assert!(!cidr("0.0.0.0/0").contains(cidr("::1")));
        assert!(cidr("::/0").contains(cidr("2001:db8::1")));
    }

    #[test]
    fn addresses_are_counted_from_the_network() {
        assert_eq!(cidr("10.77.0.9/24").nth(3).to_string(), "10.77.0.3/24");
        assert_eq!(cidr("fd00:7::/64").nth(2).to_string(), "fd00:7::2/64");
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for text in ["", "10.0.0", "10.0.0.0/33", "::/129", "10.0.0.0/x"] {
            assert!(text.parse::<Cidr>().unwrap_err().to_string().contains(text));
        }
    }
}
