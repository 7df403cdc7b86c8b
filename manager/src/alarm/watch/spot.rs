//! Endpoints and AllowedIPs of WireGuard peers in little room: most often one IPv4 address and one prefix.

use std::net::SocketAddrV4;
use std::ops::Deref;

use proto::ids::Cidr;

/// Where a peer's packets are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Spot {
    V4(SocketAddrV4),
    /// As the report has it; empty where it has none.
    Text(Box<str>),
}

impl Default for Spot {
    fn default() -> Self {
        Self::Text("".into())
    }
}

impl Spot {
    pub(super) fn of(endpoint: Option<&str>) -> Self {
        let text = endpoint.unwrap_or_default();
        text.parse().map_or_else(|_| Self::Text(text.into()), Self::V4)
    }

    pub(super) fn is_known(&self) -> bool {
        !matches!(self, Self::Text(text) if text.is_empty())
    }

    /// Whether both are one address, whatever the port.
    pub(super) fn has_host_of(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::V4(a), Self::V4(b)) => a.ip() == b.ip(),
            (Self::Text(a), Self::Text(b)) => host_of(a) == host_of(b),
            _ => false,
        }
    }

    pub(super) fn text(&self) -> String {
        match self {
            Self::V4(at) => at.to_string(),
            Self::Text(text) => text.to_string(),
        }
    }
}

/// The address of an endpoint, without its port and brackets.
#[must_use]
pub fn host_of(endpoint: &str) -> &str {
    let host = endpoint.rsplit_once(':').map_or(endpoint, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

/// AllowedIPs in the order of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefixes(Form);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    One(Cidr),
    /// Any number but one.
    Many(Box<[Cidr]>),
}

impl Default for Prefixes {
    fn default() -> Self {
        Self(Form::Many(Box::default()))
    }
}

impl From<&[Cidr]> for Prefixes {
    fn from(list: &[Cidr]) -> Self {
        Self(if let [only] = list { Form::One(*only) } else { Form::Many(list.into()) })
    }
}

impl Deref for Prefixes {
    type Target = [Cidr];

    fn deref(&self) -> &[Cidr] {
        match &self.0 {
            Form::One(only) => std::slice::from_ref(only),
            Form::Many(list) => list,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_come_out_as_they_went_in() {
        for text in ["192.0.2.1:51820", "[2001:db8::1]:51820", "[fe80::1%eth0]:7", "a name:1", ""] {
            let spot = Spot::of(Some(text));
            assert_eq!((spot.text().as_str(), spot.is_known()), (text, !text.is_empty()));
        }
        assert_eq!(Spot::of(None), Spot::default());
        assert_eq!(size_of::<Spot>(), 16);
    }

    #[test]
    fn a_host_is_told_from_its_port() {
        let same = |a: &str, b: &str| Spot::of(Some(a)).has_host_of(&Spot::of(Some(b)));
        assert!(same("192.0.2.1:1", "192.0.2.1:2") && same("[2001:db8::1]:1", "[2001:db8::1]:2"));
        assert!(!same("192.0.2.1:1", "192.0.2.2:1") && !same("192.0.2.1:1", "[2001:db8::1]:1"));
        assert!(!same("[2001:db8::1]:1", "[2001:db8::2]:1"));
    }

    #[test]
    fn prefixes_come_out_as_they_went_in() {
        let lists: [&[&str]; 3] = [&[], &["10.0.0.0/8"], &["10.0.0.0/8", "2001:db8::/32"]];
        for list in lists {
            let list: Vec<Cidr> = list.iter().map(|text| text.parse().unwrap()).collect();
            assert_eq!(*Prefixes::from(&*list), *list);
        }
        assert_eq!(Prefixes::default(), Prefixes::from(&[][..]));
        assert_eq!(size_of::<Prefixes>(), 24);
    }
}
