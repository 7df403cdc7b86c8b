//! Who else on the mesh runs an agent: asks every host address in WireGuard's AllowedIPs.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use proto::ids::Cidr;
use proto::limits::agent_path;
use proto::report::{SystemData, WireGuardPeer};

use crate::peer::Brief;
use crate::push::Client;

/// Prefixes with more addresses than this are named and left out.
pub const WALKED_MAX: u64 = 256;
/// Addresses probed in one run: at 64 at once and 2 s each, 256 s at the worst.
const ADDRESSES_MAX: usize = 8192;
/// Probes at once by the command. Each takes a socket and a small stack.
const PROBERS: usize = 64;
/// Questions at once by the daemon, whose memory is small.
const ASKERS: usize = 4;
/// Stack of a prober: ureq's and serde's frames take about 40 KiB of it.
const STACK: usize = 256 << 10;
/// How long one address may take to connect, and again to answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What is to be probed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Targets {
    /// Addresses, each once, none of this host's own.
    pub addresses: Vec<IpAddr>,
    /// Prefixes that are too large to walk.
    pub left_out: Vec<Cidr>,
}

impl Targets {
    /// The host addresses in a host's WireGuard AllowedIPs.
    #[must_use]
    pub fn of(system: &SystemData) -> Self {
        let own = own_addresses(system);
        let peers = system.wireguard.iter().flat_map(|device| &device.peers);
        let prefixes: BTreeSet<Cidr> = peers.flat_map(|peer| &peer.allowed_ips).copied().collect();
        let mut addresses = BTreeSet::new();
        let mut left_out = Vec::new();
        for prefix in prefixes {
            if prefix.size() > WALKED_MAX || addresses.len() >= ADDRESSES_MAX {
                left_out.push(prefix);
            } else {
                addresses.extend(hosts(prefix).filter(|ip| !own.contains(ip) && can_be_asked(*ip)));
            }
        }
        Self { addresses: addresses.into_iter().collect(), left_out }
    }
}

/// The addresses behind a peer that an agent may answer at: those of single hosts, then those of
/// prefixes that are small enough to walk.
pub fn addresses_of(peer: &WireGuardPeer) -> impl Iterator<Item = IpAddr> {
    let walked = peer.allowed_ips.iter().copied().filter(|prefix| prefix.size() <= WALKED_MAX);
    let (single, several): (Vec<Cidr>, Vec<Cidr>) = walked.partition(|prefix| prefix.size() == 1);
    single.into_iter().chain(several).flat_map(hosts).filter(|&ip| can_be_asked(ip))
}

/// The addresses of a prefix that hosts may have: all but the first and last of an IPv4 network.
/// Only for prefixes of at most [`WALKED_MAX`] addresses.
fn hosts(prefix: Cidr) -> impl Iterator<Item = IpAddr> {
    let size = u8::try_from(prefix.size() - 1).map_or(255, u32::from);
    let (first, last) = match prefix.address() {
        IpAddr::V4(_) if prefix.prefix() < 31 => (1, size - 1),
        _ => (0, size),
    };
    (first..=last).map(move |host| match prefix.address() {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() & !size | host).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(size) | u128::from(host)).into(),
    })
}

/// Link-local addresses mean nothing without their interface, and no agent has the others.
fn can_be_asked(ip: IpAddr) -> bool {
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !(link_local || ip.is_loopback() || ip.is_unspecified() || ip.is_multicast())
}

/// An agent that answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where.
    pub address: IpAddr,
    /// What it says of itself.
    pub peer: Brief,
    /// Round-trip time: how long a TCP connection took to come about through a tunnel that is awake.
    pub rtt: Duration,
}

/// Asks all addresses at `port`, many at once; who answered, by address.
///
/// # Errors
/// When not a single thread can be started.
pub fn probe_all(client: &Client, addresses: &[IpAddr], port: u16) -> io::Result<Vec<Found>> {
    let targets: Vec<_> = addresses.iter().map(|&address| SocketAddr::new(address, port)).collect();
    let answers = many_at_once(&targets, PROBERS, |address| probe(client, address))?;
    let mut found: Vec<Found> = answers.into_iter().filter_map(|(_, found)| found).collect();
    found.sort_by_key(|one| one.address);
    Ok(found)
}

/// Asks each address for its /status/peer, a bounded number at once.
///
/// # Errors
/// When not a single thread can be started.
pub fn ask_all(client: &Client, addresses: &[SocketAddr]) -> io::Result<Vec<(SocketAddr, Option<Brief>)>> {
    many_at_once(addresses, ASKERS, |address| ask(client, address))
}

/// Probes each address, a bounded number at once.
///
/// # Errors
/// When not a single thread can be started.
pub fn probe_some(client: &Client, addresses: &[SocketAddr]) -> io::Result<Vec<(SocketAddr, Option<Found>)>> {
    many_at_once(addresses, ASKERS, |address| probe(client, address))
}

/// Calls `ask` for each address, from up to `threads` threads.
fn many_at_once<T: Send>(
    addresses: &[SocketAddr],
    threads: usize,
    ask: impl Fn(SocketAddr) -> T + Sync,
) -> io::Result<Vec<(SocketAddr, T)>> {
    let waiting = Mutex::new(addresses.iter());
    let answers = Mutex::new(Vec::new());
    let work = || {
        while let Some(&address) = next(&waiting) {
            let answer = ask(address);
            answers.lock().unwrap_or_else(PoisonError::into_inner).push((address, answer));
        }
    };
    thread::scope(|scope| {
        for started in 0..threads.min(addresses.len()) {
            let thread = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
            // With fewer threads it only takes longer.
            if let Err(error) = thread
                && started == 0
            {
                return Err(error);
            }
        }
        Ok(())
    })?;
    Ok(answers.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn next<'a>(waiting: &Mutex<std::slice::Iter<'a, SocketAddr>>) -> Option<&'a SocketAddr> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner).next()
}

/// Asks one address and measures the way to it. `None` when no agent answers there.
fn probe(client: &Client, address: SocketAddr) -> Option<Found> {
    // The question comes first: it wakes a sleeping tunnel, whose handshake is no part of the time.
    let peer = ask(client, address)?;
    let start = Instant::now();
    drop(TcpStream::connect_timeout(&address, TIMEOUT).ok()?);
    Some(Found { address: address.ip(), peer, rtt: start.elapsed() })
}

fn ask(client: &Client, address: SocketAddr) -> Option<Brief> {
    let (status, body) = client.get(&format!("http://{address}{}", agent_path::PEER), TIMEOUT).ok()?;
    (status == 200).then(|| serde_json::from_slice(&body).ok()).flatten()
}

/// The neighbours that may pass messages on: addresses in WireGuard's AllowedIPs that stand for one
/// host, those with the latest handshake first, then agents that were `found` otherwise.
#[must_use]
pub fn neighbours(system: &SystemData, found: &[IpAddr]) -> Vec<IpAddr> {
    let own = own_addresses(system);
    let mut peers: Vec<_> = system.wireguard.iter().flat_map(|device| &device.peers).collect();
    peers.sort_by_key(|peer| peer.handshake_age_s.unwrap_or(u64::MAX));
    let hosts = peers.iter().flat_map(|peer| &peer.allowed_ips).filter(|prefix| prefix.size() == 1);
    let mut seen = BTreeSet::new();
    hosts
        .map(|prefix| prefix.address())
        .chain(found.iter().copied())
        .filter(|&ip| can_be_asked(ip) && !own.contains(&ip) && seen.insert(ip))
        .collect()
}

/// All addresses of this host.
#[must_use]
pub fn own_addresses(system: &SystemData) -> BTreeSet<IpAddr> {
    let interfaces = system.interfaces.iter();
    interfaces.flat_map(|interface| &interface.addresses).map(|cidr| cidr.address()).collect()
}

/// A table of who was found, and what was left out.
#[derive(Debug)]
pub struct Summary<'a> {
    /// Who answered.
    pub found: &'a [Found],
    /// What was asked.
    pub targets: &'a Targets,
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows =
            vec![["ADDRESS", "AGENT", "HOSTNAME", "VERSION", "DISTANCE", "RTT ms"].map(str::to_owned)];
        rows.extend(self.found.iter().map(row));
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; 6] = std::array::from_fn(width);
        if !self.found.is_empty() {
            for row in &rows {
                let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
                writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
            }
        }
        let (found, asked) = (self.found.len(), self.targets.addresses.len());
        write!(f, "{found} of {asked} addresses run an agent")?;
        for prefix in &self.targets.left_out {
            write!(
                f,
                "\nleft out: {prefix} (at most {WALKED_MAX} addresses a prefix are asked, {ADDRESSES_MAX} in all)"
            )?;
        }
        Ok(())
    }
}

fn row(one: &Found) -> [String; 6] {
    // What another host says of itself must not steer this terminal.
    let plain = |text: &str| text.chars().filter(|c| !c.is_control()).take(64).collect::<String>();
    [
        one.address.to_string(),
        one.peer.agent.to_string(),
        plain(&one.peer.hostname),
        plain(&one.peer.version),
        one.peer.distance.map_or_else(|| "unknown".to_owned(), |distance| distance.to_string()),
        tenths((one.rtt.as_micros() + 50) / 100),
    ]
}

/// Without floating point, whose formatting is 10 KB that nothing else in the agent needs.
fn tenths(number: u128) -> String {
    format!("{}.{}", number / 10, number % 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::ids::{AgentId, PublicKey};
    use proto::report::{Interface, WireGuardDevice};

    fn system(own: &[&str], allowed_ips: &[&str]) -> SystemData {
        let cidrs = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect::<Vec<Cidr>>();
        let peer = WireGuardPeer {
            public_key: PublicKey([2; 32]),
            has_psk: false,
            endpoint: None,
            allowed_ips: cidrs(allowed_ips),
            handshake_at: None,
            handshake_age_s: None,
            rx_bytes: 0,
            tx_bytes: 0,
            keepalive_s: None,
            rtt_us: None,
        };
        SystemData {
            interfaces: vec![Interface { addresses: cidrs(own), ..Interface::default() }],
            wireguard: vec![WireGuardDevice { peers: vec![peer], ..WireGuardDevice::default() }],
            ..SystemData::default()
        }
    }

    fn targets(own: &[&str], allowed_ips: &[&str]) -> (Vec<String>, Vec<String>) {
        let Targets { addresses, left_out } = Targets::of(&system(own, allowed_ips));
        let texts = |list: Vec<IpAddr>| list.iter().map(ToString::to_string).collect();
        (texts(addresses), left_out.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn host_addresses_are_asked_once_and_own_ones_never() {
        let (addresses, left_out) = targets(
            &["10.9.0.1/24", "10.7.0.1/30"],
            &["10.9.0.1/32", "10.9.0.2/32", "10.7.0.0/30", "10.6.0.0/31", "fd00::2/128", "fd00::4/127"],
        );
        let expected = ["10.6.0.0", "10.6.0.1", "10.7.0.2", "10.9.0.2", "fd00::2", "fd00::4", "fd00::5"];
        assert_eq!(addresses, expected);
        assert!(left_out.is_empty());
    }

    #[test]
    fn prefixes_of_up_to_256_addresses_are_walked_and_larger_ones_named() {
        let (addresses, left_out) =
            targets(&[], &["10.1.2.77/24", "10.2.0.0/23", "0.0.0.0/0", "::/0", "fd00::/120", "fd01::/119"]);
        assert_eq!(addresses.len(), 254 + 256);
        assert!(addresses.contains(&"10.1.2.1".to_owned()) && addresses.contains(&"10.1.2.254".to_owned()));
        assert!(addresses.contains(&"fd00::".to_owned()) && addresses.contains(&"fd00::ff".to_owned()));
        assert_eq!(left_out, ["0.0.0.0/0", "10.2.0.0/23", "::/0", "fd01::/119"]);
        let many: Vec<String> = (0..200).map(|n| format!("10.{n}.0.0/24")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let (addresses, left_out) = targets(&[], &many);
        assert!((ADDRESSES_MAX..ADDRESSES_MAX + 256).contains(&addresses.len()));
        assert_eq!(left_out.len(), 200 - addresses.len() / 254);
    }

    #[test]
    fn addresses_that_cannot_be_asked_are_skipped() {
        let skipped =
            ["127.0.0.1/32", "224.0.0.1/32", "169.254.1.1/32", "fe80::1/128", "::1/128", "ff02::1/128"];
        assert_eq!(targets(&[], &skipped), (Vec::new(), Vec::new()));
    }

    #[test]
    fn neighbours_are_single_hosts_with_the_latest_handshake_first() {
        let mut system = system(&["10.9.0.1/24"], &["10.9.0.2/32", "10.9.0.1/32", "10.1.0.0/24"]);
        let mut later = system.wireguard[0].peers[0].clone();
        later.handshake_age_s = Some(7);
        later.allowed_ips = ["fd00::3/128", "127.0.0.1/32"].map(|text| text.parse().unwrap()).to_vec();
        system.wireguard[0].peers.push(later);
        let found = ["10.1.0.9", "10.9.0.2"].map(|text| text.parse().unwrap());
        let texts: Vec<_> = neighbours(&system, &found).iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["fd00::3", "10.9.0.2", "10.1.0.9"]);
    }

    #[test]
    fn the_summary_is_a_table_with_totals() {
        let peer = Brief {
            agent: AgentId([1; 16]),
            version: "0.1.0".into(),
            hostname: "hub\u{1b}[31m".into(),
            distance: Some(0),
            via: None,
        };
        let address = "10.9.0.2".parse().unwrap();
        let found = [Found { address, peer, rtt: Duration::from_micros(1234) }];
        let targets = Targets { addresses: vec![address], left_out: vec!["10.0.0.0/8".parse().unwrap()] };
        let table = Summary { found: &found, targets: &targets }.to_string();
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[0].starts_with("ADDRESS   AGENT  "), "{table}");
        assert_eq!(lines[1], "10.9.0.2  01010101010101010101010101010101  hub[31m   0.1.0    0         1.2");
        assert_eq!(lines[2], "1 of 1 addresses run an agent");
        assert!(lines[3].starts_with("left out: 10.0.0.0/8"), "{table}");
    }

    #[test]
    fn what_is_no_agent_is_not_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let loopback = [IpAddr::from([127, 0, 0, 1])];
        // Closes the connection without a word.
        let closing = thread::spawn(move || listener.incoming().take(1).for_each(drop));
        assert_eq!(probe_all(&Client::new(), &loopback, port).unwrap(), []);
        closing.join().unwrap();
        assert_eq!(probe_all(&Client::new(), &loopback, port).unwrap(), []);
        assert_eq!(probe_all(&Client::new(), &[], port).unwrap(), []);
    }
}
