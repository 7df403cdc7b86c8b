//! Any text as /proc/net/route: every line is a row, an error or nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use kattila_agent::parse::route4;

fuzz_target!(|text: &str| {
    let parsed = route4::parse(text);
    assert!(parsed.rows.len() + parsed.errors.len() <= text.lines().count());
});
