//! The TXT lookup against a server on loopback that misbehaves in the ways servers do.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use domain::base::iana::{Class, Rcode};
use domain::base::name::Name;
use domain::base::{Message, MessageBuilder, Rtype, Ttl};
use domain::rdata::{Cname, Txt};
use proto::psk::{PskError, PskSource};
use proto::txt::{TxtError, lookup};

const NAME: &str = "kattila.example.org";
type Query = Message<Vec<u8>>;

/// Answers one query after the other with the messages that `answer` makes of it.
fn server(answer: impl Fn(&Query, usize) -> Vec<Vec<u8>> + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        for round in 0.. {
            let Ok((len, from)) = socket.recv_from(&mut buffer) else { return };
            let query = Message::from_octets(buffer[..len].to_vec()).unwrap();
            for message in answer(&query, round) {
                socket.send_to(&message, from).unwrap();
            }
        }
    });
    address
}

fn texts(query: &Query, records: &[&[&[u8]]]) -> Vec<u8> {
    let name: Name<Vec<u8>> = NAME.parse().unwrap();
    let mut answer = MessageBuilder::new_vec().start_answer(query, Rcode::NOERROR).unwrap();
    for strings in records {
        let mut data = Vec::new();
        for string in *strings {
            data.push(u8::try_from(string.len()).unwrap());
            data.extend_from_slice(string);
        }
        let txt = Txt::from_octets(data).unwrap();
        answer.push((&name, Class::IN, Ttl::from_secs(60), txt)).unwrap();
    }
    answer.finish()
}

fn ask(server: SocketAddr) -> Result<Vec<String>, TxtError> {
    lookup(NAME, &[server], Duration::from_secs(3))
}

#[test]
fn the_strings_of_one_record_are_joined() {
    let server = server(|query, _| {
        assert_eq!(query.sole_question().unwrap().qtype(), Rtype::TXT);
        assert!(query.opt().is_some(), "EDNS");
        vec![texts(query, &[&[b"correct horse ", b"battery staple"], &[b"another"]])]
    });
    assert_eq!(ask(server).unwrap(), ["correct horse battery staple", "another"]);
}

#[test]
fn forged_answers_are_passed_over() {
    let server = server(|query, _| {
        let mut wrong_id = texts(query, &[&[b"forged by id"]]);
        wrong_id[0] ^= 0xff;
        let mut no_answer = texts(query, &[&[b"forged as a query"]]);
        no_answer[2] &= 0x7f;
        vec![wrong_id, no_answer, b"garbage".to_vec(), texts(query, &[&[b"the true one"]])]
    });
    assert_eq!(ask(server).unwrap(), ["the true one"]);
}

#[test]
fn an_alias_is_followed_within_the_answer() {
    let server = server(|query, _| {
        let (name, target): (Name<Vec<u8>>, Name<Vec<u8>>) =
            (NAME.parse().unwrap(), "psk.example.net".parse().unwrap());
        let mut answer = MessageBuilder::new_vec().start_answer(query, Rcode::NOERROR).unwrap();
        answer.push((&name, Class::IN, Ttl::from_secs(60), Cname::new(target.clone()))).unwrap();
        let txt: Txt<Vec<u8>> = Txt::build_from_slice(b"behind an alias").unwrap();
        answer.push((&target, Class::IN, Ttl::from_secs(60), txt)).unwrap();
        vec![answer.finish()]
    });
    assert_eq!(ask(server).unwrap(), ["behind an alias"]);
}

#[test]
fn a_truncated_answer_is_asked_for_again_by_tcp() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap();
    let udp = UdpSocket::bind(address).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        let (len, from) = udp.recv_from(&mut buffer).unwrap();
        let query = Message::from_octets(buffer[..len].to_vec()).unwrap();
        let mut truncated = texts(&query, &[]);
        truncated[2] |= 0x02;
        udp.send_to(&truncated, from).unwrap();
        let (mut stream, _) = tcp.accept().unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut query).unwrap();
        let answer = texts(&Message::from_octets(query).unwrap(), &[&[&[b'x'; 250][..]; 8]]);
        let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
        for piece in [&length[..1], &length[1..], &answer[..700], &answer[700..]] {
            stream.write_all(piece).unwrap();
        }
    });
    assert_eq!(ask(address).unwrap(), ["x".repeat(2000)]);
}

#[test]
fn what_went_wrong_is_told_apart() {
    let rcode = |rcode| {
        server(move |query, _| vec![MessageBuilder::new_vec().start_answer(query, rcode).unwrap().finish()])
    };
    assert!(matches!(ask(rcode(Rcode::NXDOMAIN)), Err(TxtError::NoSuchName)));
    assert!(matches!(ask(rcode(Rcode::SERVFAIL)), Err(TxtError::Refused(..))));
    assert!(matches!(ask(rcode(Rcode::NOERROR)), Err(TxtError::NoRecord)));
    assert!(matches!(ask(server(|query, _| vec![texts(query, &[&[b"\xff"]])])), Err(TxtError::NotText)));
    assert!(matches!(lookup("..", &[], Duration::from_secs(1)), Err(TxtError::BadName)));
}

#[test]
fn a_dead_server_costs_a_bounded_time_and_the_next_one_answers() {
    let dead = UdpSocket::bind("127.0.0.1:0").unwrap();
    let alive = server(|query, _| vec![texts(query, &[&[b"from the second"]])]);
    let started = Instant::now();
    let found = lookup(NAME, &[dead.local_addr().unwrap(), alive], Duration::from_secs(8)).unwrap();
    assert_eq!(found, ["from the second"]);
    assert!(started.elapsed() < Duration::from_secs(4));
    let started = Instant::now();
    assert!(matches!(
        lookup(NAME, &[dead.local_addr().unwrap()], Duration::from_secs(1)),
        Err(TxtError::NoAnswer(..))
    ));
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[test]
fn an_empty_or_ambiguous_record_is_no_psk() {
    let read = |records: &'static [&'static [&'static [u8]]]| {
        let servers = vec![server(move |query, _| vec![texts(query, records)])];
        PskSource::Dns { name: NAME.into(), servers }.read(Duration::from_secs(3))
    };
    assert_eq!(read(&[&[b"a preshared key in DNS"]]).unwrap().expose(), "a preshared key in DNS");
    assert!(matches!(read(&[&[b""]]), Err(PskError::Length(0))));
    assert!(matches!(read(&[&[b"short"]]), Err(PskError::Length(5))));
    assert!(matches!(
        read(&[&[b"a preshared key in DNS"], &[b"another preshared key"]]),
        Err(PskError::Several(_, 2))
    ));
}
