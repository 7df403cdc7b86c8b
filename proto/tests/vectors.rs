//! The worked example of DESIGN.md: fixed inputs, and the bytes that must come of them. Another
//! implementation that makes the same bytes speaks the protocol.
//!
//! `BLESS=1 cargo test -p proto --test vectors` writes the files anew; a change there is a change
//! of the protocol.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::PathBuf;

use proto::ack::{self, Ack, Code, Details};
use proto::delta::Base;
use proto::envelope::{Draft, Encoding, Envelope, Sealed, decode};
use proto::ids::{AgentId, BootId, Nonce, from_hex};
use proto::psk::Secret;
use proto::report::Report;
use proto::sign::Kind;

const PSK: &str = "correct horse battery staple";
const ADMIN: &str = "an admin secret, never the PSK";
const SENT_AT: i64 = 1_764_000_000_123;

fn check(name: &str, made: &[u8]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, made).unwrap();
    }
    let expected = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    assert_eq!(text(made), text(&expected), "{name}");
}

const REPORT: &[u8] = include_bytes!("vectors/report.json");

fn report() -> Sealed {
    // Not deflated: other programs deflate to other bytes.
    draft(Kind::Report, REPORT).seal_as(Encoding::Json, REPORT, &Secret::new(PSK).unwrap(), SENT_AT)
}

fn draft(kind: Kind, json: &[u8]) -> Draft<'_> {
    Draft {
        kind,
        agent: AgentId(from_hex("00112233445566778899aabbccddeeff").unwrap()),
        boot: BootId(from_hex("0f1e2d3c4b5a69788796a5b4c3d2e1f0").unwrap()),
        tick: 7,
        nonce: Nonce(from_hex("a0a1a2a3a4a5a6a7a8a9aaabacadaeaf").unwrap()),
        json,
    }
}

#[test]
fn a_report_and_its_answer() {
    let psk = Secret::new(PSK).unwrap();
    let sealed = report();
    check("report.envelope", &sealed.bytes);
    let envelope = Envelope::parse(&sealed.bytes).unwrap();
    let parsed = Report::from_json(&envelope.json().unwrap()).unwrap();
    assert_eq!(parsed.system.wireguard[0].peers[0].endpoint.as_deref(), Some("[fe80::1%eth0]:51820"));

    let ack = Ack { code: Code::Stored, at: SENT_AT + 77, details: Details::default() };
    let bytes = ack::seal(&ack, sealed.nonce, &sealed.mac, &psk);
    check("stored.ack", &bytes);
    assert_eq!(ack::open(&bytes, sealed.nonce, &sealed.mac, &psk), Ok(ack));
}

#[test]
fn the_next_report_as_the_difference_to_it() {
    let base = Base::new(REPORT);
    let text = std::str::from_utf8(REPORT).unwrap();
    let changed = |from: &str, to: &str, text: &str| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    };
    let text = changed("1764000000100", "1764000030100", text);
    let text = changed("\"rx_bytes\":", "\"rx_bytes\":1", &text);
    let json = changed("\"operstate\":\"up\"", "\"operstate\":\"down\"", &text).into_bytes();
    check("next.json", &json);
    let payload = base.encode(&json);
    let next = Draft { tick: 8, nonce: Nonce([0xb0; 16]), ..draft(Kind::Report, &json) };
    let sealed = next.seal_as(Encoding::Delta(7), &payload, &Secret::new(PSK).unwrap(), SENT_AT + 30_000);
    check("next.envelope", &sealed.bytes);
    let envelope = Envelope::parse(&sealed.bytes).unwrap();
    assert_eq!(&*decode(&envelope.header.encoding, envelope.payload, Some(&base)).unwrap(), json);
}

#[test]
fn a_report_that_passed_two_relays() {
    let psk = Secret::new(PSK).unwrap();
    let sealed = report();
    let mut envelope = Envelope::parse(&sealed.bytes).unwrap();
    envelope.header.add_hop(AgentId([0x11; 16]), SENT_AT + 10, &psk).unwrap();
    envelope.header.add_hop(AgentId([0x22; 16]), SENT_AT + 20, &psk).unwrap();
    let bytes = envelope.to_bytes();
    check("relayed.envelope", &bytes);
    let relayed = Envelope::parse(&bytes).unwrap();
    assert!(relayed.is_signed_with(&psk) && relayed.hops_are_signed_with(&[&psk]));
}

#[test]
fn a_register_and_a_reset() {
    let json =
        br#"{"hardware":"8d969eef6ecad3c29a3a629280e686cf","hostname":"router-1","agent_version":"0.1.0"}"#;
    check("register.envelope", &draft(Kind::Register, json).seal(&Secret::new(PSK).unwrap(), SENT_AT).bytes);
    let json = br#"{"target":"00112233445566778899aabbccddeeff","undo":false}"#;
    let reset = Draft { agent: AgentId([0; 16]), tick: 1, ..draft(Kind::Reset, json) };
    check("reset.envelope", &reset.seal(&Secret::new(ADMIN).unwrap(), SENT_AT).bytes);
}

#[test]
fn what_an_old_or_a_new_agent_might_write_is_read() {
    let old = Report::from_json(br#"{"observed_at":5}"#).unwrap();
    assert_eq!((old.version, old.observed_at), (0, 5));
    let new = br#"{"version":9,"new":{"x":[1]},"system":{"interfaces":[{"name":"q0","kind":"quantum"}]}}"#;
    let new = Report::from_json(new).unwrap();
    assert_eq!(new.system.interfaces[0].kind, proto::report::InterfaceKind::Other);
}
