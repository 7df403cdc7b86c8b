//! Where a WireGuard peer is and what is its, in little room: most often one endpoint of IPv4 and one prefix.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use proto::ids::Cidr;

/// A peer's endpoint, as the report has it, and its AllowedIPs in the report's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spot(Form);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    Plain { ip: Ipv4Addr, port: u16, allowed: Ipv4Addr, prefix: u8 },
    Other(Box<(Box<str>, Box<[Cidr]>)>),
}

impl Spot {
    pub(super) fn new(endpoint: Option<&str>, allowed: &[Cidr]) -> Self {
        let text = endpoint.unwrap_or_default();
        if let (Ok(at), [only]) = (text.parse::<SocketAddrV4>(), allowed)
            && let IpAddr::V4(allowed) = only.address()
        {
            return Self(Form::Plain { ip: *at.ip(), port: at.port(), allowed, prefix: only.prefix() });
        }
        Self(Form::Other(Box::new((text.into(), allowed.into()))))
    }

    /// Where its packets are sent; empty where that is not known.
    pub(super) fn endpoint(&self) -> Cow<'_, str> {
        match &self.0 {
            Form::Plain { ip, port, .. } => SocketAddrV4::new(*ip, *port).to_string().into(),
            Form::Other(other) => Cow::Borrowed(&other.0),
        }
    }

    /// Its AllowedIPs.
    pub(super) fn allowed(&self) -> Vec<Cidr> {
        match &self.0 {
            Form::Plain { allowed, prefix, .. } => {
                Cidr::new(IpAddr::V4(*allowed), *prefix).into_iter().collect()
            }
            Form::Other(other) => other.1.to_vec(),
        }
    }
}

/// The address of an endpoint, without its port and brackets.
#[must_use]
pub fn host_of(endpoint: &str) -> &str {
    let host = endpoint.rsplit_once(':').map_or(endpoint, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        let lists: [&[&str]; 4] =
            [&[], &["10.0.0.0/8"], &["2001:db8::/32"], &["10.0.0.0/8", "2001:db8::/32"]];
        for text in ["192.0.2.1:51820", "[2001:db8::1]:51820", "[fe80::1%eth0]:7", "a name:1", ""] {
            for list in lists {
                let list: Vec<Cidr> = list.iter().map(|text| text.parse().unwrap()).collect();
                let spot = Spot::new(Some(text), &list);
                assert_eq!((&*spot.endpoint(), spot.allowed()), (text, list));
            }
        }
        assert_eq!(Spot::new(None, &[]), Spot::new(Some(""), &[]));
        assert_eq!(size_of::<Spot>(), 16);
    }

    #[test]
    fn a_host_is_told_from_its_port() {
        let ends = ["192.0.2.1:1", "[2001:db8::1]:1", "[fe80::1%eth0]:7", "a name:1"];
        assert_eq!(ends.map(host_of), ["192.0.2.1", "2001:db8::1", "fe80::1%eth0", "a name"]);
    }
}
