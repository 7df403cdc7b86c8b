//! Any bytes as an HTTP request: cutting them in pieces changes nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use gate::{Incoming, Limits, Progress};

fuzz_target!(|input: (Vec<u8>, Vec<u8>)| {
    let (bytes, cuts) = input;
    let limits = Limits { body: 4096, ..Limits::default() };
    let whole = run(&[&bytes], &limits);
    let mut pieces = Vec::new();
    let mut rest = bytes.as_slice();
    for cut in cuts {
        let (piece, left) = rest.split_at(usize::from(cut).min(rest.len()));
        pieces.push(piece);
        rest = left;
    }
    pieces.push(rest);
    assert_eq!(run(&pieces, &limits), whole);
});

/// What becomes of a request that arrives in these pieces.
fn run(pieces: &[&[u8]], limits: &Limits) -> String {
    let mut incoming = Incoming::default();
    for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
        assert!(incoming.held() <= 2 * (limits.head + limits.body));
        match incoming.feed(piece, limits) {
            Progress::More | Progress::Continue => {}
            Progress::Whole { head, body, .. } => return format!("{head:?} {body:?}"),
            Progress::Refused(refusal) => return format!("{refusal:?}"),
        }
    }
    "unfinished".to_owned()
}
