//! Any bytes as an answer: no panic, and none is believed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::ids::Nonce;
use proto::psk::Secret;
use proto::sign::Tag;

fuzz_target!(|bytes: &[u8]| {
    let secret = Secret::new("correct horse battery staple").unwrap();
    assert!(proto::ack::open(bytes, Nonce([0; 16]), &Tag([0; 32]), &secret).is_err());
});
