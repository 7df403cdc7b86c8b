//! Any text as /proc/net/ipv6_route: every line is a row, an error or nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use kattila_agent::parse::route6;

fuzz_target!(|text: &str| {
    let parsed = route6::parse(text);
    assert!(parsed.rows.len() + parsed.errors.len() <= text.lines().count());
});
