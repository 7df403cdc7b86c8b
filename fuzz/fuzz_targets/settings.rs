//! Any text as a .env file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::settings::Settings;

fuzz_target!(|text: &str| {
    let _ = Settings::new(text, []);
});
