//! Any text as what /proc and os-release say of the host.
#![no_main]

use libfuzzer_sys::fuzz_target;
use kattila_agent::parse::host;

fuzz_target!(|text: &str| {
    let _ = host::os_release(text);
    let _ = host::meminfo(text);
    let _ = host::loadavg(text);
    let _ = host::uptime(text);
    let _ = host::switch(text);
});
