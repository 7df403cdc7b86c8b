//! Any bytes as a report: no panic, and what is read can be written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::report::Report;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(report) = Report::from_json(bytes) {
        let again = serde_json::to_vec(&report).unwrap();
        assert_eq!(Report::from_json(&again).unwrap(), report);
    }
});
