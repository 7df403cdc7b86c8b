//! The timer: retention, in steps so small that no report waits for it.

use std::time::Duration;

use gate::Stop;

use crate::clock::now_ms;
use crate::store::writer::Writer;

/// Between two looks at what is too old.
const PERIOD: Duration = Duration::from_secs(60);
/// Between two steps, so that reports come first.
const PAUSE: Duration = Duration::from_millis(50);

/// Deletes reports older than `retention`, until `stop`.
pub fn keep(writer: &Writer, retention: Duration, stop: &Stop) {
    let retention = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
    while !stop.wait(PERIOD) {
        let before = now_ms().saturating_sub(retention);
        while writer.retain(before) && !stop.wait(PAUSE) {}
    }
}
