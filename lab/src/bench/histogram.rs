//! Latencies in little memory: buckets of at most 1/64 of their value, so that any percentile is
//! exact to 1.6 %. Counts of several threads add up.

use std::time::Duration;

/// Buckets per doubling.
const FINE: u64 = 64;
const FINE_BITS: u32 = FINE.trailing_zeros();
/// Doublings above the first [`FINE`] microseconds: up to about 67 s, far beyond every timeout.
const DOUBLINGS: u64 = 20;

/// How often each latency was seen.
#[derive(Debug, Clone)]
pub(super) struct Histogram {
    counts: Vec<u32>,
    total: u64,
    max_us: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; index_of(u64::MAX) + 1], total: 0, max_us: 0 }
    }
}

impl Histogram {
    /// Counts one latency.
    pub(super) fn add(&mut self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.counts[index_of(us)] += 1;
        self.total += 1;
        self.max_us = self.max_us.max(us);
    }

    /// Counts all that another one counted.
    pub(super) fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
        self.max_us = self.max_us.max(other.max_us);
    }

    /// How many were counted.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// The latency that `per_thousand` of 1,000 do not exceed, in milliseconds; 0 when nothing was
    /// counted.
    pub(super) fn permille_ms(&self, per_thousand: u64) -> f64 {
        let rank = (self.total * per_thousand).div_ceil(1000).max(1);
        let mut seen = 0;
        for (index, &count) in self.counts.iter().enumerate() {
            seen += u64::from(count);
            if seen >= rank {
                return ms(upper_of(index).min(self.max_us));
            }
        }
        0.0
    }

    /// The longest latency, exact, in milliseconds.
    pub(super) fn max_ms(&self) -> f64 {
        ms(self.max_us)
    }
}

fn ms(us: u64) -> f64 {
    Duration::from_micros(us).as_secs_f64() * 1000.0
}

/// The bucket of a latency: exact below [`FINE`] µs, then [`FINE`] buckets per doubling.
fn index_of(us: u64) -> usize {
    let us = us.min((FINE << DOUBLINGS) - 1);
    let index = if us < FINE {
        us
    } else {
        let shift = u64::from(us.ilog2() - FINE_BITS);
        shift * FINE + (us >> shift)
    };
    usize::try_from(index).expect("below FINE * (DOUBLINGS + 1)")
}

/// The highest latency of a bucket (µs).
fn upper_of(index: usize) -> u64 {
    let index = u64::try_from(index).expect("below FINE * (DOUBLINGS + 1)");
    if index < 2 * FINE {
        return index;
    }
    let shift = index / FINE - 1;
    ((index % FINE + FINE + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(latencies: impl IntoIterator<Item = u64>) -> Histogram {
        let mut histogram = Histogram::default();
        latencies.into_iter().for_each(|us| histogram.add(Duration::from_micros(us)));
        histogram
    }

    #[test]
    fn every_latency_lies_in_its_bucket_and_that_is_narrow() {
        for us in (0..5000).chain([65_535, 65_536, 999_999, 60_000_000]) {
            let upper = upper_of(index_of(us));
            assert!(upper >= us && upper - us <= us / 64, "{us} {upper}");
            assert!(us == 0 || index_of(us) - index_of(us - 1) <= 1, "{us}");
        }
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_list() {
        let histogram = of((1..=1000).map(|n| n * 100));
        for (per_thousand, exact) in [(500, 50.0), (990, 99.0), (999, 99.9), (1000, 100.0)] {
            let found = histogram.permille_ms(per_thousand);
            assert!((exact..=exact * 1.02).contains(&found), "{per_thousand}: {found}");
        }
        assert_eq!((histogram.max_ms(), histogram.total()), (100.0, 1000));
        assert_eq!(Histogram::default().permille_ms(500), 0.0);
        assert_eq!(of([7]).permille_ms(1), 0.007);
        assert_eq!(of([u64::MAX / 2000]).total(), 1, "a latency beyond the last bucket still counts");
    }

    #[test]
    fn merged_counts_are_one_count() {
        let mut all = of(1..500);
        all.merge(&of(500..=1000));
        assert_eq!(all.permille_ms(990), of(1..=1000).permille_ms(990));
        assert_eq!((all.total(), all.max_ms()), (1000, 1.0));
    }
}
