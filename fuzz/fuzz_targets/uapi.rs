//! Any text as what a userspace WireGuard answers: no panic, no more peers than lines, and every line
//! that cannot be read is counted.
#![no_main]

use kattila_agent::parse::uapi::Answer;
use libfuzzer_sys::fuzz_target;
use proto::ids::PublicKey;

fuzz_target!(|text: &str| {
    let mut answer = Answer::default();
    text.lines().for_each(|line| answer.line(line, &mut |private| PublicKey(*private)));
    assert!(answer.device.peers.len() + answer.bad_lines <= text.lines().count());
    assert_eq!(answer.bad.is_some(), answer.bad_lines > 0);
});
