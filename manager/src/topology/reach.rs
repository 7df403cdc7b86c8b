//! Where a WireGuard peer is and what is its: most often one IPv4 endpoint and one IPv4 prefix, which
//! take 16 bytes here.

use std::net::{IpAddr, Ipv4Addr};

use proto::ids::Cidr;

use super::record::{Endpoint, NO_SLOT};

/// A peer's endpoint and AllowedIPs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reach(Form);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    Plain { ip: Ipv4Addr, port: u16, allowed: Ipv4Addr, prefix: u8 },
    Other(Box<(Option<Endpoint>, Box<[Cidr]>)>),
}

impl Reach {
    pub(super) fn new(endpoint: Option<Endpoint>, allowed: &[Cidr]) -> Self {
        if let (Some(Endpoint { ip: IpAddr::V4(ip), port, zone: NO_SLOT }), [only]) = (endpoint, allowed)
            && let IpAddr::V4(allowed) = only.address()
        {
            return Self(Form::Plain { ip, port, allowed, prefix: only.prefix() });
        }
        Self(Form::Other(Box::new((endpoint, allowed.into()))))
    }

    /// Where packets to it are sent.
    pub(super) fn endpoint(&self) -> Option<Endpoint> {
        match &self.0 {
            Form::Plain { ip, port, .. } => {
                Some(Endpoint { ip: IpAddr::V4(*ip), port: *port, zone: NO_SLOT })
            }
            Form::Other(other) => other.0,
        }
    }

    /// Its AllowedIPs.
    pub(super) fn allowed(&self) -> impl Iterator<Item = Cidr> + '_ {
        let (one, many) = match &self.0 {
            Form::Plain { allowed, prefix, .. } => (Cidr::new(IpAddr::V4(*allowed), *prefix), [].as_slice()),
            Form::Other(other) => (None, &*other.1),
        };
        one.into_iter().chain(many.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        let endpoint = |ip: &str, zone| Endpoint { ip: ip.parse().unwrap(), port: 51820, zone };
        let endpoints = [None, Some(endpoint("192.0.2.1", NO_SLOT)), Some(endpoint("fe80::1", 3))];
        let lists: [&[&str]; 5] =
            [&[], &["10.0.0.1/32"], &["0.0.0.0/0"], &["2001:db8::/64"], &["10.0.0.1/8", "::/0"]];
        for endpoint in endpoints {
            for list in lists {
                let allowed: Vec<Cidr> = list.iter().map(|text| text.parse().unwrap()).collect();
                let reach = Reach::new(endpoint, &allowed);
                assert_eq!(reach.endpoint(), endpoint);
                assert_eq!(reach.allowed().collect::<Vec<_>>(), allowed);
            }
        }
        assert_eq!(size_of::<Reach>(), 16);
    }
}
