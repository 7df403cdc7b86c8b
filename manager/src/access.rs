//! Who may read: by address, by token, and never for another site in somebody's browser. Pure but for
//! [`Networks`], which looks at this host's routes.
//!
//! Messages (reports, orders) are signed, so they are taken from anywhere; only a browser may not post
//! one for another site. The page's own files hold no data and go to everyone, so that the page can say
//! in its own words what is refused.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use gate::Request;
use hmac::{Hmac, KeyInit as _, Mac as _};
use proto::ids::Cidr;
use proto::psk::Secret;
use sha2::Sha256;

use crate::networks::Networks;

/// What a request is guarded as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// It asks for data of the fleet.
    Data,
    /// It asks for a file of the page.
    Page,
    /// It carries a signed message.
    Message,
}

/// Who may read.
#[derive(Debug, Default)]
pub struct Access {
    /// Networks that need no token, as set.
    allow: Vec<Cidr>,
    /// Names that browsers may reach this manager by, in small letters.
    hosts: Vec<String>,
    token: Option<Secret>,
    networks: Networks,
}

/// Why a request is refused before it is looked into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// This address needs a token, and there was none.
    TokenRequired(IpAddr),
    /// The token is not the one that is set.
    WrongToken,
    /// This address may not read, and no token is set that could help.
    Forbidden(IpAddr),
    /// A browser was led here by a name that is not this manager's.
    WrongHost(String),
    /// A browser sent it on behalf of another site.
    CrossSite,
}

/// Headers by which proxies say that the client is somebody else.
const FORWARDED: [&str; 3] = ["forwarded", "x-forwarded-for", "x-real-ip"];

impl Access {
    /// `allow` may read without a token, beside this host and its WireGuard networks; `hosts` are this
    /// manager's names beside its addresses and `localhost`.
    #[must_use]
    pub fn new(allow: Vec<Cidr>, hosts: &[String], token: Option<Secret>) -> Self {
        let hosts = hosts.iter().map(|host| plain(host)).collect();
        Self { allow, hosts, token, networks: Networks::default() }
    }

    /// Whether `request` may have what it asks for.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, request: &Request, guard: Guard) -> Result<(), Denied> {
        match guard {
            Guard::Page => Ok(()),
            Guard::Message => self.same_site(request, guard),
            Guard::Data => {
                self.same_site(request, guard)?;
                self.may_read(request, |ip| self.networks.in_wireguard(ip))
            }
        }
    }

    fn may_read(&self, request: &Request, in_wireguard: impl FnOnce(IpAddr) -> bool) -> Result<(), Denied> {
        let (peer, local) = (request.peer.ip(), request.local.ip());
        // Through a proxy everybody looks like the proxy, so its being near proves nothing. Who sets
        // the proxy's address in MANAGER_ALLOW leaves the decision to it.
        let direct = !FORWARDED.iter().any(|name| request.header(name).is_some());
        let near = || peer.is_loopback() || peer == local || in_wireguard(peer);
        let open = self.allow.iter().any(|prefix| prefix.contains(peer)) || (direct && near());
        let host = request.header("host").filter(|host| !self.is_own(host));
        if open && host.is_none() {
            return Ok(());
        }
        // A page of another site, led here by a name of its own, does not know the token.
        match (bearer(request), &self.token) {
            (Some(given), Some(token)) if is_same(given, token.expose()) => Ok(()),
            (Some(_), Some(_)) => Err(Denied::WrongToken),
            _ if open => Err(Denied::WrongHost(host.unwrap_or_default().to_owned())),
            (None, Some(_)) => Err(Denied::TokenRequired(peer)),
            (_, None) => Err(Denied::Forbidden(peer)),
        }
    }

    /// Whether a browser may send this: not from a page of another site.
    fn same_site(&self, request: &Request, guard: Guard) -> Result<(), Denied> {
        let host = request.header("host").unwrap_or_default();
        let own = |origin: &str| {
            let authority = origin.split_once("://").map(|(_, authority)| authority);
            authority.is_some_and(|authority| {
                authority.eq_ignore_ascii_case(host) || self.hosts.contains(&plain(name_of(authority)))
            })
        };
        let foreign = request.header("origin").is_some_and(|origin| !own(origin));
        let site = request.header("sec-fetch-site");
        let elsewhere = site.is_some_and(|site| !matches!(site, "same-origin" | "none"));
        // A link on another site may be followed: its page sees nothing of the answer.
        let followed = guard == Guard::Data && request.header("sec-fetch-mode") == Some("navigate");
        if foreign || (elsewhere && !followed) { Err(Denied::CrossSite) } else { Ok(()) }
    }

    /// Whether the `Host` header names this manager. Any address does: what DNS rebinding needs is a name.
    fn is_own(&self, host: &str) -> bool {
        let name = name_of(host);
        let literal = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        if let Some(ip) = literal {
            return ip.split('%').next().is_some_and(|ip| ip.parse::<Ipv6Addr>().is_ok());
        }
        let name = plain(name);
        name == "localhost" || name.parse::<IpAddr>().is_ok() || self.hosts.contains(&name)
    }
}

/// The host of `HOST` or `HOST:PORT`; an IPv6 address stays in its brackets.
fn name_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => authority,
    }
}

fn plain(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

fn bearer(request: &Request) -> Option<&str> {
    let (scheme, token) = request.header("authorization")?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Compares in a time that tells nothing of how much is right: MACs of both under a key are compared.
fn is_same(given: &str, token: &str) -> bool {
    let mac = |text: &str| {
        let mac = Hmac::<Sha256>::new_from_slice(token.as_bytes()).expect("HMAC takes a key of any length");
        mac.chain_update(text)
    };
    mac(given).verify_slice(&mac(token).finalize().into_bytes()).is_ok()
}

impl Denied {
    /// The stable name of the reason.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::TokenRequired(_) => "token_required",
            Self::WrongToken => "wrong_token",
            Self::Forbidden(_) => "forbidden",
            Self::WrongHost(_) => "wrong_host",
            Self::CrossSite => "cross_site",
        }
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::TokenRequired(_) | Self::WrongToken => 401,
            Self::Forbidden(_) | Self::CrossSite => 403,
            Self::WrongHost(_) => 421,
        }
    }

    /// What the reader can do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::TokenRequired(_) => {
                "send `Authorization: Bearer TOKEN` with the token in the manager's READ_TOKEN_FILE, or have \
                 this address set in MANAGER_ALLOW"
            }
            Self::WrongToken => "the token is the text in the manager's READ_TOKEN_FILE, read at its start",
            Self::Forbidden(_) => {
                "ask from the manager's host or through its WireGuard, set READ_TOKEN_FILE, or set this \
                 address in MANAGER_ALLOW"
            }
            Self::WrongHost(_) => "ask by the manager's address, or set this name in MANAGER_HOSTS",
            Self::CrossSite => "ask from the manager's own page or from a program",
        }
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TokenRequired(ip) => write!(f, "{ip} may read with a token only"),
            Self::WrongToken => f.write_str("this is not the read token"),
            Self::Forbidden(ip) => write!(f, "{ip} may not read from this manager"),
            Self::WrongHost(host) => write!(f, "{} is not a name of this manager", host.escape_debug()),
            Self::CrossSite => f.write_str("a browser sent this for another site"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "a read token for tests";
    const GOOD: (&str, &str) = ("Authorization", "Bearer a read token for tests");

    fn access(token: Option<&str>) -> Access {
        let allow = vec!["192.168.7.0/24".parse().unwrap()];
        let token = token.map(|token| Secret::new(token).unwrap());
        Access::new(allow, &["Status.Example.org.".to_owned()], token)
    }

    fn request(peer: &str, headers: &[(&str, &str)]) -> Request {
        let mut all = vec![("Host", "10.9.0.1:5086")];
        all.retain(|(name, _)| !headers.iter().any(|(other, _)| other == name));
        all.extend(headers);
        Request {
            method: "GET".into(),
            path: "/status/agents".into(),
            query: None,
            headers: all.into_iter().collect(),
            body: Vec::new(),
            peer: format!("{peer}:40000").parse().unwrap(),
            local: "10.9.0.1:5086".parse().unwrap(),
        }
    }

    fn read(access: &Access, peer: &str, headers: &[(&str, &str)]) -> Result<(), &'static str> {
        let in_wireguard = |ip: IpAddr| ip.to_string().starts_with("10.9.0.");
        access.may_read(&request(peer, headers), in_wireguard).map_err(|denied| denied.code())
    }

    #[test]
    fn this_host_its_wireguard_and_what_is_set_read_without_a_token() {
        let access = access(Some(TOKEN));
        for peer in ["127.0.0.1", "[::1]", "10.9.0.1", "10.9.0.77", "192.168.7.3"] {
            assert_eq!(read(&access, peer, &[]), Ok(()), "{peer}");
        }
        for peer in ["192.168.8.3", "203.0.113.1", "[2001:db8::1]"] {
            assert_eq!(read(&access, peer, &[]), Err("token_required"), "{peer}");
            assert_eq!(read(&access, peer, &[GOOD]), Ok(()), "{peer}");
        }
    }

    #[test]
    fn where_no_token_is_set_none_helps() {
        let access = access(None);
        assert_eq!(read(&access, "203.0.113.1", &[]), Err("forbidden"));
        assert_eq!(read(&access, "203.0.113.1", &[GOOD]), Err("forbidden"));
    }

    #[test]
    fn tokens_are_compared_whole() {
        let access = access(Some(TOKEN));
        let with = |value: &str| read(&access, "203.0.113.1", &[("Authorization", value)]);
        assert_eq!(with("bearer a read token for tests "), Ok(()));
        for wrong in ["Bearer a read token for test", "Bearer a read token for testss", "Bearer ", "Bearer x"]
        {
            assert_eq!(with(wrong), Err("wrong_token"), "{wrong:?}");
        }
        for none in ["Basic YTpi", "a read token for tests", ""] {
            assert_eq!(with(none), Err("token_required"), "{none:?}");
        }
        assert_eq!(read(&access, "127.0.0.1", &[("Authorization", "Bearer x")]), Ok(()), "none is needed");
    }

    #[test]
    fn through_a_proxy_nobody_is_near() {
        let access = access(Some(TOKEN));
        for header in ["X-Forwarded-For", "Forwarded", "X-Real-IP"] {
            let forwarded = (header, "127.0.0.1");
            assert_eq!(read(&access, "127.0.0.1", &[forwarded]), Err("token_required"), "{header}");
            assert_eq!(read(&access, "127.0.0.1", &[forwarded, GOOD]), Ok(()), "{header}");
            assert_eq!(read(&access, "192.168.7.3", &[forwarded]), Ok(()), "set: the proxy decides");
        }
    }

    #[test]
    fn a_name_that_is_not_the_managers_gets_nothing_without_the_token() {
        let access = access(Some(TOKEN));
        let own = [
            "10.9.0.1",
            "127.0.0.1:5086",
            "[::1]:5086",
            "[fe80::1%25eth0]",
            "localhost:5086",
            "LOCALHOST.",
            "status.example.org",
            "STATUS.example.org.:80",
        ];
        for host in own {
            assert_eq!(read(&access, "127.0.0.1", &[("Host", host)]), Ok(()), "{host}");
        }
        for host in
            ["rebind.example", "localhost.rebind.example", "status.example.org.evil.example:5086", "[x]", ""]
        {
            assert_eq!(read(&access, "127.0.0.1", &[("Host", host)]), Err("wrong_host"), "{host}");
            assert_eq!(read(&access, "127.0.0.1", &[("Host", host), GOOD]), Ok(()), "{host}");
        }
        let denied = Denied::WrongHost("a\u{1b}[31m".into());
        assert!(!denied.to_string().contains('\u{1b}') && denied.hint().contains("MANAGER_HOSTS"));
    }

    #[test]
    fn other_sites_neither_post_nor_read() {
        let access = access(None);
        let check = |guard, headers: &[(&str, &str)]| {
            access.check(&request("127.0.0.1", headers), guard).map_err(|denied| denied.code())
        };
        for guard in [Guard::Data, Guard::Message] {
            for own in ["http://10.9.0.1:5086", "https://status.example.org"] {
                assert_eq!(
                    check(guard, &[("Origin", own), ("Sec-Fetch-Site", "same-origin")]),
                    Ok(()),
                    "{own}"
                );
            }
            for other in ["http://evil.example", "http://10.9.0.1:5087", "null", ""] {
                assert_eq!(check(guard, &[("Origin", other)]), Err("cross_site"), "{other}");
            }
            for site in ["cross-site", "same-site", "new-word"] {
                assert_eq!(check(guard, &[("Sec-Fetch-Site", site)]), Err("cross_site"), "{site}");
            }
        }
        let link = [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate")];
        assert_eq!(check(Guard::Data, &link), Ok(()));
        assert_eq!(check(Guard::Message, &link), Err("cross_site"));
        assert_eq!(check(Guard::Page, &[("Origin", "http://evil.example"), ("Host", "x")]), Ok(()));
    }

    proptest::proptest! {
        /// No header gets a stranger in, whatever it says, but the token.
        #[test]
        fn no_header_opens_but_the_token(name in "[A-Za-z-]{1,20}", value in "[ -~]{0,60}", host in "[ -~]{0,40}") {
            let denied = read(&access(Some(TOKEN)), "203.0.113.1", &[(name.as_str(), value.as_str()), ("Host", &host)]);
            proptest::prop_assert!(denied.is_err());
        }

        /// A name that is not the manager's is refused however it is written.
        #[test]
        fn only_own_names_are_own(host in "[a-z0-9.:%@\\[\\]-]{0,40}") {
            let access = Access::new(Vec::new(), &["kattila".to_owned()], None);
            if access.is_own(&host) {
                let name = plain(name_of(&host));
                let bare = name.trim_start_matches('[').split(['%', ']']).next().unwrap_or_default();
                let own = matches!(bare, "localhost" | "kattila");
                proptest::prop_assert!(own || bare.parse::<IpAddr>().is_ok(), "{host}");
            }
        }
    }
}
