//! The timer: retention, in steps so small that no report waits for it.

use std::time::Duration;

use gate::Stop;

use crate::clock::now_ms;
use crate::store::writer::{Cutoff, Writer};

/// Between two looks at what is too old.
const PERIOD: Duration = Duration::from_secs(60);
/// Between two steps, so that reports come first.
const PAUSE: Duration = Duration::from_millis(50);

/// Deletes reports older than `retention` and history older than `history`, until `stop`.
pub fn keep(writer: &Writer, retention: Duration, history: Duration, stop: &Stop) {
    let millis = |age: Duration| i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
    while !stop.wait(PERIOD) {
        let ago = |age| now_ms().saturating_sub(millis(age));
        let before = Cutoff { reports: ago(retention), history: ago(history) };
        while writer.retain(before) && !stop.wait(PAUSE) {}
    }
}
