//! Whatever bytes come from the network: no panic, no lie, no growth.

#![allow(clippy::unwrap_used, reason = "a test")]

use proptest::prelude::*;
use proto::ack;
use proto::envelope::{Draft, Envelope};
use proto::ids::{AgentId, BootId, Cidr, Nonce, PublicKey};
use proto::limits;
use proto::psk::Secret;
use proto::report::Report;
use proto::settings::Settings;
use proto::sign::{Kind, Tag};

fn psk() -> Secret {
    Secret::new("correct horse battery staple").unwrap()
}

fn sealed(json: &[u8], tick: u64) -> Vec<u8> {
    let (agent, boot, nonce) = (AgentId([1; 16]), BootId([2; 16]), Nonce([3; 16]));
    Draft { kind: Kind::Report, agent, boot, tick, nonce, json }.seal(&psk(), 5).bytes
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_no_message(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        if let Ok(envelope) = Envelope::parse(&bytes) {
            prop_assert!(!envelope.is_signed_with(&psk()));
        }
        prop_assert!(ack::open(&bytes, Nonce([1; 16]), &Tag([2; 32]), &psk()).is_err());
        let _ = Report::from_json(&bytes);
    }

    #[test]
    fn one_changed_byte_is_never_accepted_as_something_else(
        tick in any::<u64>(), at in any::<prop::sample::Index>(), flip in 1u8..=255
    ) {
        let original = sealed(br#"{"version":1,"system":{"hostname":"router"}}"#, tick);
        let mut bytes = original.clone();
        bytes[at.index(original.len())] ^= flip;
        if let Ok(envelope) = Envelope::parse(&bytes)
            && envelope.is_signed_with(&psk())
        {
            prop_assert!(false, "{:?} for {:?}", bytes, original);
        }
    }

    #[test]
    fn a_message_survives_its_journey(json in prop::collection::vec(any::<u8>(), 0..100_000), hops in 0u8..4) {
        let bytes = sealed(&json, 1);
        let mut envelope = Envelope::parse(&bytes).unwrap();
        for hop in 0..hops {
            envelope.header.add_hop(AgentId([hop; 16]), 7, &psk()).unwrap();
        }
        let bytes = envelope.to_bytes();
        let arrived = Envelope::parse(&bytes).unwrap();
        prop_assert!(arrived.is_signed_with(&psk()) && arrived.hops_are_signed_with(&[&psk()]));
        prop_assert_eq!(&*arrived.json().unwrap(), json.as_slice());
    }

    #[test]
    fn texts_are_read_or_refused(text in ".{0,80}") {
        let _ = text.parse::<Cidr>().map(|cidr| assert_eq!(cidr.to_string().parse(), Ok(cidr)));
        let _ = text.parse::<PublicKey>();
        let _ = Settings::new(&text, []);
    }
}

#[test]
fn lists_beyond_their_limit_are_refused_by_name() {
    let interface = r#"{"name":"x"}"#;
    let many = vec![interface; limits::INTERFACES_MAX + 1].join(",");
    let error =
        Report::from_json(format!(r#"{{"system":{{"interfaces":[{many}]}}}}"#).as_bytes()).unwrap_err();
    assert_eq!(error.to_string(), "system.interfaces has 257, at most 256 are allowed");
    let long = "x".repeat(limits::TEXT_MAX + 1);
    let error = Report::from_json(format!(r#"{{"system":{{"hostname":"{long}"}}}}"#).as_bytes()).unwrap_err();
    assert_eq!(error.to_string(), "system.hostname has 257, at most 256 are allowed");
    let deep = "[".repeat(100_000);
    assert!(Report::from_json(format!(r#"{{"x":{deep}"#).as_bytes()).is_err());
}
