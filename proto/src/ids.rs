//! Identities as types: an agent, one start of it, one message, a WireGuard key, a prefix.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

/// A text that is no identity of the kind asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdError {
    /// What the text should have been.
    pub expected: &'static str,
}

impl fmt::Display for IdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}", self.expected)
    }
}

impl std::error::Error for IdError {}

/// Lowercase hexadecimal of some bytes.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    bytes.iter().for_each(|byte| hex_pair(*byte).into_iter().for_each(|digit| text.push(char::from(digit))));
    text
}

// By hand: the formatter takes ten times as long, and a map's ids are made of little else.
fn hex_pair(byte: u8) -> [u8; 2] {
    let digits = b"0123456789abcdef";
    [digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]
}

/// The `N` bytes that exactly `2 N` lowercase hexadecimal digits stand for.
#[must_use]
pub fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = hex_digit(pair[0])? << 4 | hex_digit(pair[1])?;
    }
    Some(bytes)
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// Base64 with the alphabet for URLs and without padding (RFC 4648, 5): how an envelope's header
/// line has bytes.
#[must_use]
pub fn to_base64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The `N` bytes that such a text stands for; no two texts stand for the same.
#[must_use]
pub fn from_base64<const N: usize>(text: &str) -> Option<[u8; N]> {
    // The engine wants room for whole groups of three.
    let mut bytes = [0; 48];
    let len = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
    bytes[..len].try_into().ok()
}

/// A type whose text form is its `Display` and `FromStr`, in JSON too.
macro_rules! text_serde {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.to_string()
            }
        }
    };
}

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(pub [u8; 16]);

        impl $name {
            /// 128 bits from the kernel's random source.
            ///
            /// # Errors
            /// When the kernel gives none, as very early at boot on some boards.
            pub fn random() -> Result<Self, getrandom::Error> {
                let mut bytes = [0; 16];
                getrandom::fill(&mut bytes)?;
                Ok(Self(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut digits = [0; 32];
                for (pair, byte) in digits.chunks_exact_mut(2).zip(self.0) {
                    pair.copy_from_slice(&hex_pair(byte));
                }
                f.write_str(std::str::from_utf8(&digits).map_err(|_| fmt::Error)?)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                from_hex(text).map(Self).ok_or(IdError { expected: $expected })
            }
        }

        text_serde!($name);
    };
}

random_id!(
    /// An agent: 128 random bits made on its first start, kept in `agent_id.txt`.
    AgentId,
    "an agent id: 32 lowercase hexadecimal digits"
);
random_id!(
    /// One start of an agent: 128 random bits made when the process starts, never stored by it.
    BootId,
    "a boot id: 32 lowercase hexadecimal digits"
);
random_id!(
    /// One message: 128 random bits, the same each time that the message is sent again.
    Nonce,
    "a nonce: 32 lowercase hexadecimal digits"
);

/// A WireGuard public key, 32 bytes of Curve25519; in text 44 characters of base64.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey(pub [u8; 32]);

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let expected = IdError { expected: "a WireGuard public key: 44 characters of base64" };
        let mut key = [0; 32];
        match STANDARD.decode_slice(text, &mut key) {
            Ok(32) => Ok(Self(key)),
            _ => Err(expected),
        }
    }
}

text_serde!(PublicKey);

/// An address with a prefix length, such as `10.0.0.1/24`. Host bits are kept: it stands for an
/// interface's address as well as for a route's destination.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// An address and a prefix length of at most 32 (IPv4) or 128 (IPv6); otherwise `None`.
    #[must_use]
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        (prefix <= Self::width(address)).then_some(Self { address, prefix })
    }

    /// One address alone: /32 or /128.
    #[must_use]
    pub fn host(address: IpAddr) -> Self {
        Self { address, prefix: Self::width(address) }
    }

    /// The address, host bits included.
    #[must_use]
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// The prefix length in bits.
    #[must_use]
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// Whether `address` lies inside this prefix; never across address families.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                let mask = u32::MAX.checked_shl(u32::from(32 - self.prefix)).unwrap_or(0);
                (a.to_bits() ^ b.to_bits()) & mask == 0
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                let mask = u128::MAX.checked_shl(u32::from(128 - self.prefix)).unwrap_or(0);
                (a.to_bits() ^ b.to_bits()) & mask == 0
            }
            _ => false,
        }
    }

    /// The number of addresses in this prefix, or `u64::MAX` when there are more.
    #[must_use]
    pub fn size(self) -> u64 {
        let bits = u32::from(Self::width(self.address) - self.prefix);
        1u64.checked_shl(bits).unwrap_or(u64::MAX)
    }

    fn width(address: IpAddr) -> u8 {
        if address.is_ipv4() { 32 } else { 128 }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl fmt::Debug for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Cidr {
    type Err = IdError;

    /// `address/prefix`, or an address alone, which stands for a single host.
    fn from_str(text: &str) -> Result<Self, IdError> {
        let expected = IdError { expected: "an address with a prefix length, such as 10.0.0.0/24" };
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let Ok(address) = address.parse() else { return Err(expected) };
        match prefix {
            None => Ok(Self::host(address)),
            Some(digits) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().ok().and_then(|prefix| Self::new(address, prefix)).ok_or(expected)
            }
            Some(_) => Err(expected),
        }
    }
}

text_serde!(Cidr);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_text_and_refuse_what_is_not_one() {
        let id = AgentId::random().unwrap();
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "0", &"g".repeat(32), &"A".repeat(32), &"a".repeat(33), "é".repeat(16).as_str()] {
            assert!(bad.parse::<AgentId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_are_44_characters_of_base64() {
        let text = "HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw=";
        assert_eq!(text.parse::<PublicKey>().unwrap().to_string(), text);
        for bad in ["(none)", "", "AAAA", "HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw", &text.repeat(2)] {
            assert!(bad.parse::<PublicKey>().is_err(), "{bad}");
        }
    }

    #[test]
    fn prefixes_contain_what_they_should() {
        let contains = |cidr: &str, ip: &str| cidr.parse::<Cidr>().unwrap().contains(ip.parse().unwrap());
        assert!(contains("10.0.0.1/24", "10.0.0.255"));
        assert!(!contains("10.0.0.1/24", "10.0.1.0"));
        assert!(contains("0.0.0.0/0", "203.0.113.9"));
        assert!(!contains("0.0.0.0/0", "::1"));
        assert!(contains("::/0", "fe80::1"));
        assert!(contains("fd00::/64", "fd00::ffff"));
        assert!(contains("10.0.0.7", "10.0.0.7"));
        assert_eq!("10.0.0.0/24".parse::<Cidr>().unwrap().size(), 256);
        assert_eq!("::/0".parse::<Cidr>().unwrap().size(), u64::MAX);
        for bad in ["10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "::/129", "x/8", ""] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }
}
