//! Any bytes as a base and a difference to it: no panic, no more than allowed, and what is encoded
//! comes out as it went in; where numbers alone change, nothing else does.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::delta::{Base, Edits, Numbers};

fuzz_target!(|input: (&[u8], &[u8])| {
    let (text, other) = input;
    let base = Base::new(text);
    let own = base.encode(other);
    assert_eq!(base.apply(&own, other.len()).as_deref(), Ok(other));
    let name = &own[..8];
    let delta = [name, other].concat();
    let made = base.apply(&delta, 1000);
    assert!(made.as_ref().is_ok_and(|made| made.len() <= 1000) || made.is_err());
    // All numbers of the base that are short enough.
    let digit = |at: usize| text.get(at).is_some_and(u8::is_ascii_digit);
    let starts = (0..text.len()).filter(|&at| digit(at) && !(at > 0 && digit(at - 1)));
    let numbers = Numbers::of(&base, starts.filter(|&at| !(at..at + 19).all(digit))).expect("numbers");
    let mut values = Vec::new();
    let mut gather = |digits: proto::delta::Digits| {
        values.push(digits.value());
        Some(())
    };
    if numbers.after(&delta, &Edits::default(), 1000, &mut gather).is_some() {
        let made = made.expect("what can be read of it can be made of it");
        let words =
            |text: &[u8]| text.iter().copied().filter(|byte| !byte.is_ascii_digit()).collect::<Vec<u8>>();
        assert_eq!(words(&made), words(text));
        for value in values {
            assert!(String::from_utf8_lossy(&made).contains(&value.to_string()));
        }
    }
    if let Some(edits) = numbers.edits(&base, &own) {
        assert!(numbers.after(&own, &edits, usize::MAX, |_| Some(())).is_some());
        if numbers.after(&delta, &edits, 1000, |_| Some(())).is_some() {
            base.apply(&delta, 1000).expect("what can be read of it can be made of it");
        }
    }
    let _ = base.apply(other, 1000);
});
