//! Any text as /proc/net/vlan/config: every line is a row, an error or nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use kattila_agent::parse::vlan;

fuzz_target!(|text: &str| {
    let parsed = vlan::parse(text);
    assert!(parsed.rows.len() + parsed.errors.len() <= text.lines().count());
});
