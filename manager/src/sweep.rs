//! The timer: retention, in steps so small that no report waits for it.

use std::time::{Duration, Instant};

use gate::Stop;

use crate::clock::now_ms;
use crate::store::retention::START;
use crate::store::writer::{Cutoff, Writer};

/// Between two looks at what is too old.
const PERIOD: Duration = Duration::from_secs(60);
/// Between two steps at least; a step is followed by as long a pause as it took, so that at most half of
/// the writer's time goes into them.
const PAUSE: Duration = Duration::from_millis(5);

/// Deletes reports older than `retention` and history older than `history`, until `stop`.
pub fn keep(writer: &Writer, retention: Duration, history: Duration, stop: &Stop) {
    let millis = |age: Duration| i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
    while !stop.wait(PERIOD) {
        let ago = |age| now_ms().saturating_sub(millis(age));
        let before = Cutoff { reports: ago(retention), history: ago(history) };
        let mut place = START;
        loop {
            let started = Instant::now();
            let Some(next) = writer.retain(before, place) else { break };
            place = next;
            if stop.wait(started.elapsed().max(PAUSE)) {
                return;
            }
        }
    }
}
