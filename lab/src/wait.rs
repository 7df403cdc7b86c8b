//! Waiting for something to become true.

use std::time::{Duration, Instant};

use crate::{Error, Result};

/// Asks `probe` until it gives a value, every 50 ms; an error that names `what` after `timeout`.
pub fn wait_for<T>(what: &str, timeout: Duration, mut probe: impl FnMut() -> Option<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = probe() {
            return Ok(value);
        }
        if start.elapsed() >= timeout {
            return Err(Error::Timeout { what: what.to_owned(), after: timeout });
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Whether `probe` became true within `timeout`.
pub fn until(timeout: Duration, mut probe: impl FnMut() -> bool) -> bool {
    wait_for("", timeout, || probe().then_some(())).is_ok()
}
