//! Any text as /proc/net/arp: every line is a row, an error or nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use kattila_agent::parse::neighbour;

fuzz_target!(|text: &str| {
    let parsed = neighbour::parse(text);
    assert!(parsed.rows.len() + parsed.errors.len() <= text.lines().count());
});
