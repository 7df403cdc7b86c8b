//! What a handler receives.

use crate::head::{Head, Headers};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// A whole request that passed every check.
#[derive(Clone)]
pub struct Request {
    /// As sent, case-sensitive: `GET`, `POST`, ...
    pub method: String,
    /// Raw path, not percent-decoded: begins with `/`, or is `*` (OPTIONS).
    pub path: String,
    /// What follows the first `?` of the target.
    pub query: Option<String>,
    /// All header fields in the order sent.
    pub headers: Headers,
    /// The whole body; empty when none was declared.
    pub body: Vec<u8>,
    /// Who sent it; an IPv4 client of a dual-stack listener has its IPv4 address.
    pub peer: SocketAddr,
    /// The address it arrived at, likewise.
    pub local: SocketAddr,
}

impl Request {
    pub(crate) fn new(head: Head, body: Vec<u8>, peer: SocketAddr, local: SocketAddr) -> Self {
        let Head { method, path, query, headers, .. } = head;
        Self { method, path, query, headers, body, peer, local }
    }

    /// The value of the first header field called `name`, in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }
}

/// Without query, header values and body, which may be secrets.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, path, headers, body, peer, .. } = self;
        write!(f, "{method} {path} from {peer}, {headers:?}, {} bytes", body.len())
    }
}

/// `::ffff:192.0.2.1` is 192.0.2.1 as a dual-stack socket shows it.
pub(crate) fn normalised(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(IpAddr::V4(ip), address.port()),
        IpAddr::V6(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_addresses_become_ipv4_and_others_keep_their_scope() {
        let mapped: SocketAddr = "[::ffff:192.0.2.1]:80".parse().unwrap();
        assert_eq!(normalised(mapped), "192.0.2.1:80".parse().unwrap());
        let scoped: SocketAddr = "[fe80::1%3]:80".parse().unwrap();
        assert_eq!(normalised(scoped), scoped);
    }

    #[test]
    fn secrets_stay_out_of_debug_output() {
        let request = Request {
            method: "GET".into(),
            path: "/p".into(),
            query: Some("token=q5".into()),
            headers: [("Authorization", "q5")].into_iter().collect(),
            body: b"q5".to_vec(),
            peer: "192.0.2.1:80".parse().unwrap(),
            local: "192.0.2.2:80".parse().unwrap(),
        };
        assert_eq!(request.header("authorization"), Some("q5"));
        assert_eq!(format!("{request:?}"), "GET /p from 192.0.2.1:80, [\"Authorization\"], 2 bytes");
    }
}
