//! Any text as /proc/net/dev: every line is a row, an error or nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use kattila_agent::parse::net_dev;

fuzz_target!(|text: &str| {
    let parsed = net_dev::parse(text);
    assert!(parsed.rows.len() + parsed.errors.len() <= text.lines().count());
});
