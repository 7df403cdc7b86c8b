//! Any text as what /sys says of an interface.
#![no_main]

use libfuzzer_sys::fuzz_target;
use kattila_agent::parse::sysfs;

fuzz_target!(|texts: (&str, &str)| {
    let _ = sysfs::devtype(texts.0);
    let _ = sysfs::ifindex(texts.0);
    let _ = sysfs::number(texts.0);
    let _ = sysfs::hardware_address(texts.0);
    let _ = sysfs::tunnel(texts.0, texts.1);
});
