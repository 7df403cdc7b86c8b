//! Keeps the PSK: when to read its source again, and what to sign with meanwhile.

use std::time::{Duration, Instant};

use proto::limits;
use proto::psk::{PskError, PskRing, PskSource, Secret};

use crate::jitter;

/// How long one reading from DNS may take: the loop waits for it.
const READ_TIME: Duration = Duration::from_secs(5);
/// Shortest time between two readings asked for by a refusal.
const EARLY: Duration = Duration::from_secs(10);
/// First and longest wait after a failed reading while there is no PSK at all.
const RETRY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));
/// Wait after a failed reading while an earlier PSK is held.
const RETRY_HELD: Duration = Duration::from_secs(300);

/// The PSKs held, and when to read again.
#[derive(Debug)]
pub struct PskKeeper {
    source: PskSource,
    ring: Option<PskRing>,
    due: Instant,
    last_read: Option<Instant>,
    failures: u32,
}

/// What a reading brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Reading {
    /// The first PSK: reports can be signed from now on.
    First,
    /// Another PSK than before; the earlier ones are kept.
    Rotated,
    /// The same one.
    Same,
    /// None; in words. An earlier one stays in use.
    Failed(String),
}

impl PskKeeper {
    /// A keeper that holds nothing yet and is due at once.
    #[must_use]
    pub fn new(source: PskSource, now: Instant) -> Self {
        Self { source, ring: None, due: now, last_read: None, failures: 0 }
    }

    /// The PSKs to sign with, the current one first; empty before the first good reading.
    #[must_use]
    pub fn secrets(&self) -> &[Secret] {
        self.ring.as_ref().map_or(&[], PskRing::all)
    }

    /// When the source is to be read next.
    #[must_use]
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Whether a refusal may have it read now.
    #[must_use]
    pub fn may_read_early(&self, now: Instant) -> bool {
        self.last_read.is_none_or(|last| now.saturating_duration_since(last) >= EARLY)
    }

    /// Reads the source, which may take some seconds when it is DNS.
    pub fn read(&mut self) -> Reading {
        let result = self.source.read(READ_TIME);
        let reading = self.settle(result, Instant::now(), jitter::random());
        let source = &self.source;
        match &reading {
            Reading::First => log::info!("PSK read from {source}"),
            Reading::Rotated => log::info!("PSK has changed: now signing with the new one from {source}"),
            Reading::Same => {}
            // The error names the source.
            Reading::Failed(error) if self.ring.is_some() => log::warn!("keeping the last good PSK: {error}"),
            Reading::Failed(error) => log::error!("no PSK, reports wait until there is one: {error}"),
        }
        reading
    }

    fn settle(&mut self, result: Result<Secret, PskError>, now: Instant, random: u32) -> Reading {
        self.last_read = Some(now);
        let secret = match result {
            Ok(secret) => secret,
            Err(error) => {
                self.due = now + jitter::before(self.wait_after_failure(), random);
                self.failures = self.failures.saturating_add(1);
                return Reading::Failed(error.to_string());
            }
        };
        self.failures = 0;
        self.due = now + jitter::before(limits::PSK_REFRESH, random);
        match &mut self.ring {
            Some(ring) => match ring.rotate(secret) {
                true => Reading::Rotated,
                false => Reading::Same,
            },
            None => {
                self.ring = Some(PskRing::new(secret));
                Reading::First
            }
        }
    }

    fn wait_after_failure(&self) -> Duration {
        let (first, longest) = RETRY;
        match self.ring {
            Some(_) => RETRY_HELD,
            None => first.saturating_mul(1 << self.failures.min(10)).min(longest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keeper(now: Instant) -> PskKeeper {
        PskKeeper::new(PskSource::File("/nonexistent".into()), now)
    }

    fn secret(number: u8) -> Secret {
        Secret::new(&format!("the secret of number {number}")).unwrap()
    }

    const NO_JITTER: u32 = u32::MAX;

    #[test]
    fn a_source_that_fails_at_start_is_asked_again_ever_less_often() {
        let now = Instant::now();
        let mut keeper = keeper(now);
        assert_eq!(keeper.due(), now);
        let waits: Vec<u64> = (0..8)
            .map(|_| {
                let failed = keeper.settle(Err(PskError::Length(0)), now, NO_JITTER);
                assert!(matches!(failed, Reading::Failed(_)));
                keeper.due().duration_since(now).as_secs()
            })
            .collect();
        assert_eq!(waits, [2, 4, 8, 16, 32, 60, 60, 60]);
        assert!(keeper.secrets().is_empty());
        assert_eq!(keeper.settle(Ok(secret(1)), now, NO_JITTER), Reading::First);
        assert_eq!(keeper.due().duration_since(now), limits::PSK_REFRESH);
        keeper.settle(Ok(secret(1)), now, 0);
        assert_eq!(keeper.due().duration_since(now), limits::PSK_REFRESH * 9 / 10);
    }

    #[test]
    fn the_last_good_one_is_kept_and_earlier_ones_are_held() {
        let now = Instant::now();
        let mut keeper = keeper(now);
        keeper.settle(Ok(secret(1)), now, NO_JITTER);
        assert_eq!(keeper.settle(Ok(secret(1)), now, NO_JITTER), Reading::Same);
        keeper.settle(Err(PskError::NotPrintable), now, NO_JITTER);
        assert_eq!(keeper.secrets(), [secret(1)]);
        assert_eq!(keeper.due().duration_since(now), RETRY_HELD);
        assert_eq!(keeper.settle(Ok(secret(2)), now, NO_JITTER), Reading::Rotated);
        assert_eq!(keeper.secrets(), [secret(2), secret(1)]);
    }

    #[test]
    fn refusals_cannot_have_it_read_more_than_once_in_ten_seconds() {
        let now = Instant::now();
        let mut keeper = keeper(now);
        assert!(keeper.may_read_early(now));
        keeper.settle(Ok(secret(1)), now, NO_JITTER);
        assert!(!keeper.may_read_early(now + Duration::from_secs(9)));
        assert!(keeper.may_read_early(now + Duration::from_secs(10)));
    }
}
