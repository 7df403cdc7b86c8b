//! Ever longer waits after failures. Pure.

use std::time::{Duration, Instant};

use crate::jitter;

/// The wait after the first failure; each further one doubles it.
const FIRST: Duration = Duration::from_secs(1);

/// How often something failed in a row, and until when it is left alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
    until: Option<Instant>,
}

impl Backoff {
    /// Whether it has not failed since it last worked.
    #[must_use]
    pub fn is_fine(&self) -> bool {
        self.failures == 0
    }

    /// Whether it may be tried at `now`.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now >= until)
    }

    /// When it may be tried again; `None` when it may be at any time.
    #[must_use]
    pub fn until(&self) -> Option<Instant> {
        self.until
    }

    /// It failed: wait 1 s, 2 s, 4 s and so on, never more than `longest`, each plus or minus a tenth.
    pub fn failed(&mut self, now: Instant, longest: Duration, random: u32) {
        let wait = FIRST.saturating_mul(1 << self.failures.min(16)).min(longest);
        self.failures = self.failures.saturating_add(1);
        self.until = Some(now + jitter::around(wait, random));
    }

    /// It worked.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_start_anew_after_a_success() {
        let now = Instant::now();
        let longest = Duration::from_secs(60);
        let mut backoff = Backoff::default();
        assert!(backoff.is_fine() && backoff.is_due(now));
        let mut wait = || {
            backoff.failed(now, longest, u32::MAX / 2);
            backoff.until().unwrap().duration_since(now).as_secs_f64().round()
        };
        let waits: Vec<f64> = (0..8).map(|_| wait()).collect();
        assert_eq!(waits, [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]);
        assert!(!backoff.is_fine() && !backoff.is_due(now) && backoff.is_due(now + longest * 2));
        backoff.succeeded();
        assert_eq!(backoff, Backoff::default());
    }

    #[test]
    fn a_thousand_failures_are_no_overflow() {
        let mut backoff = Backoff::default();
        let now = Instant::now();
        (0..1000).for_each(|_| backoff.failed(now, Duration::from_secs(60), u32::MAX));
        assert!(backoff.until().unwrap() <= now + Duration::from_secs(67));
    }
}
