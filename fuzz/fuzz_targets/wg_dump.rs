//! Any text as `wg show all dump`: no panic, and no error repeats what stood there.
#![no_main]

use libfuzzer_sys::fuzz_target;
use kattila_agent::parse::wg_dump;

fuzz_target!(|text: &str| {
    let dump = wg_dump::parse(text);
    assert!(dump.errors.len() + dump.devices.len() <= text.lines().count());
});
