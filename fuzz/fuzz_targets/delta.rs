//! Any bytes as a base and a difference to it: no panic, no more than allowed, and what is encoded
//! comes out as it went in; where numbers alone change, nothing else does.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::delta::Base;

fuzz_target!(|input: (&[u8], &[u8])| {
    let (text, other) = input;
    let base = Base::new(text);
    let own = base.encode(other);
    assert_eq!(base.apply(&own, other.len()).as_deref(), Ok(other));
    let name = &own[..8];
    let delta = [name, other].concat();
    if let Ok(made) = base.apply(&delta, 1000) {
        assert!(made.len() <= 1000);
        let words =
            |text: &[u8]| text.iter().copied().filter(|byte| !byte.is_ascii_digit()).collect::<Vec<u8>>();
        assert!(!base.changes_numbers_only(&delta, |_| true) || words(&made) == words(text));
    }
    let _ = base.apply(other, 1000);
});
