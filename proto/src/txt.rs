//! One TXT query: UDP with EDNS, TCP when the answer is truncated.
//!
//! Messages are built and read by the `domain` crate; its resolvers need an async runtime, so the
//! few lines that send them are here.

use std::fmt;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use domain::base::iana::{Class, Rcode};
use domain::base::{Message, MessageBuilder, Name, Rtype};
use domain::rdata::Txt;

/// UDP answer size that fits every path without fragments (DNS flag day 2020).
const UDP_SIZE: u16 = 1232;
/// How long one server may take over UDP before the next is asked.
const PATIENCE: Duration = Duration::from_secs(2);
/// Rounds over all servers.
const ROUNDS: u32 = 2;
/// Servers that are asked, as in resolv.conf(5) MAXNS.
const SERVERS_MAX: usize = 3;
const DNS_PORT: u16 = 53;

/// Why a name has no TXT records for us.
#[derive(Debug)]
pub enum TxtError {
    /// It is no domain name.
    BadName,
    /// The name does not exist.
    NoSuchName,
    /// The name exists and has no TXT record.
    NoRecord,
    /// No server gave an answer; the last failure.
    NoAnswer(SocketAddr, io::Error),
    /// A server refused or failed (its RCODE).
    Refused(SocketAddr, String),
    /// The kernel gave no random numbers.
    NoRandom,
    /// A record that is not text.
    NotText,
}

impl fmt::Display for TxtError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadName => write!(f, "this is no domain name"),
            Self::NoSuchName => write!(f, "the name does not exist (NXDOMAIN)"),
            Self::NoRecord => write!(f, "the name has no TXT record"),
            Self::NoAnswer(server, error) => write!(f, "no answer from {server}: {error}"),
            Self::Refused(server, rcode) => write!(f, "{server} answered {rcode}"),
            Self::NoRandom => write!(f, "the kernel gives no random numbers yet"),
            Self::NotText => write!(f, "the record is not UTF-8 text"),
        }
    }
}

impl std::error::Error for TxtError {}

/// The TXT records of `name`, the strings of each joined. Asks `servers`, or those of
/// `/etc/resolv.conf` when there are none, each twice, within `deadline` altogether.
///
/// # Errors
/// See [`TxtError`].
pub fn lookup(name: &str, servers: &[SocketAddr], deadline: Duration) -> Result<Vec<String>, TxtError> {
    let until = Instant::now() + deadline;
    let name: Name<Vec<u8>> = name.parse().map_err(|_| TxtError::BadName)?;
    let from_file;
    let servers = if servers.is_empty() {
        from_file = resolvers(&fs::read_to_string("/etc/resolv.conf").unwrap_or_default());
        &from_file
    } else {
        servers
    };
    let mut failure = None;
    for _ in 0..ROUNDS {
        for &server in servers {
            match ask(&name, server, until) {
                Err(error @ (TxtError::NoAnswer(..) | TxtError::Refused(..))) => failure = Some(error),
                settled => return settled,
            }
        }
    }
    Err(failure.expect("there is always a server to ask"))
}

/// The name servers of a resolv.conf(5); the local host when it names none, as the C library does.
fn resolvers(text: &str) -> Vec<SocketAddr> {
    let servers: Vec<_> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .filter_map(|rest| server(rest.trim()))
        .take(SERVERS_MAX)
        .collect();
    if servers.is_empty() { vec![SocketAddr::from((Ipv4Addr::LOCALHOST, DNS_PORT))] } else { servers }
}

/// A server from its text: an address, with or without a port.
#[must_use]
pub fn server(text: &str) -> Option<SocketAddr> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, DNS_PORT)))
}

fn ask(name: &Name<Vec<u8>>, server: SocketAddr, until: Instant) -> Result<Vec<String>, TxtError> {
    let mut id = [0; 2];
    getrandom::fill(&mut id).map_err(|_| TxtError::NoRandom)?;
    let query = query(name, u16::from_be_bytes(id));
    let no_answer = |error| TxtError::NoAnswer(server, error);
    let mut answer = over_udp(&query, server, until).map_err(no_answer)?;
    if answer.header().tc() {
        answer = over_tcp(&query, server, until).map_err(no_answer)?;
    }
    records(&answer, server)
}

fn query(name: &Name<Vec<u8>>, id: u16) -> Message<Vec<u8>> {
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_id(id);
    builder.header_mut().set_rd(true);
    let mut question = builder.question();
    question.push((name, Rtype::TXT, Class::IN)).expect("a vector takes one question");
    let mut additional = question.additional();
    additional
        .opt(|opt| {
            opt.set_udp_payload_size(UDP_SIZE);
            Ok(())
        })
        .expect("a vector takes one option record");
    additional.into_message()
}

/// Sends from a random port of the kernel's choice; answers of other senders, to other questions
/// or with another id are passed over.
fn over_udp(query: &Message<Vec<u8>>, server: SocketAddr, until: Instant) -> io::Result<Message<Vec<u8>>> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    socket.send(query.as_slice())?;
    let until = until.min(Instant::now() + PATIENCE);
    let mut buffer = [0; UDP_SIZE as usize];
    loop {
        socket.set_read_timeout(Some(left(until)?))?;
        let len = match socket.recv(&mut buffer) {
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(timed_out()),
            Err(error) => return Err(error),
        };
        if let Ok(answer) = Message::from_octets(buffer[..len].to_vec())
            && is_answer(&answer, query)
        {
            return Ok(answer);
        }
    }
}

fn over_tcp(query: &Message<Vec<u8>>, server: SocketAddr, until: Instant) -> io::Result<Message<Vec<u8>>> {
    let until = until.min(Instant::now() + 2 * PATIENCE);
    let mut stream = TcpStream::connect_timeout(&server, left(until)?)?;
    stream.set_write_timeout(Some(left(until)?))?;
    let length = u16::try_from(query.as_slice().len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), query.as_slice()].concat())?;
    let mut length = [0; 2];
    read_until(&mut stream, &mut length, until)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    read_until(&mut stream, &mut answer, until)?;
    let answer = Message::from_octets(answer).map_err(|_| io::Error::other("a short answer"))?;
    if is_answer(&answer, query) { Ok(answer) } else { Err(io::Error::other("another answer")) }
}

fn read_until(stream: &mut TcpStream, mut buffer: &mut [u8], until: Instant) -> io::Result<()> {
    while !buffer.is_empty() {
        stream.set_read_timeout(Some(left(until)?))?;
        match stream.read(buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(len) => buffer = &mut buffer[len..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(timed_out()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn left(until: Instant) -> io::Result<Duration> {
    match until.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(timed_out()),
        left => Ok(left),
    }
}

fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "timed out")
}

/// Same id, same question, and an answer at all. Some servers leave the question out of a refusal.
fn is_answer(answer: &Message<Vec<u8>>, query: &Message<Vec<u8>>) -> bool {
    answer.is_answer(query)
        || (answer.header().id() == query.header().id()
            && answer.header().qr()
            && answer.is_error()
            && answer.header_counts().qdcount() == 0)
}

/// The TXT records at the end of the answer's CNAME chain.
fn records(answer: &Message<Vec<u8>>, server: SocketAddr) -> Result<Vec<String>, TxtError> {
    match answer.header().rcode() {
        Rcode::NOERROR => {}
        Rcode::NXDOMAIN => return Err(TxtError::NoSuchName),
        rcode => return Err(TxtError::Refused(server, rcode.to_string())),
    }
    let broken = || TxtError::Refused(server, "a message that cannot be read".to_owned());
    let owner = answer.canonical_name().ok_or(TxtError::NoRecord)?;
    let mut texts = Vec::new();
    for record in answer.answer().map_err(|_| broken())?.limit_to_in::<Txt<_>>() {
        let record = record.map_err(|_| broken())?;
        if *record.owner() == owner {
            let bytes: Vec<u8> = record.data().iter().flatten().copied().collect();
            texts.push(String::from_utf8(bytes).map_err(|_| TxtError::NotText)?);
        }
    }
    if texts.is_empty() { Err(TxtError::NoRecord) } else { Ok(texts) }
}
