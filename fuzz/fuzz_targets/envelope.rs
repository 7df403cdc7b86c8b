//! Any bytes as an envelope: no panic, and nothing verifies that was not signed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::envelope::Envelope;
use proto::psk::Secret;

fuzz_target!(|bytes: &[u8]| {
    let Ok(envelope) = Envelope::parse(bytes) else { return };
    let secret = Secret::new("correct horse battery staple").unwrap();
    assert!(!envelope.is_signed_with(&secret));
    let _ = envelope.hops_are_signed_with(&[&secret]);
    if let Ok(json) = envelope.json() {
        assert!(json.len() <= proto::limits::PAYLOAD_MAX.max(bytes.len()));
    }
    assert_eq!(Envelope::parse(&envelope.to_bytes()).unwrap(), envelope);
});
