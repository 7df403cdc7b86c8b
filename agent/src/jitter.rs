//! Random differences in time, so that a fleet does not act in step.

use std::time::Duration;

/// `time` plus or minus a tenth, by `random`.
#[must_use]
pub fn around(time: Duration, random: u32) -> Duration {
    time.mul_f64(0.9 + 0.2 * fraction(random))
}

/// `time` minus up to a tenth, by `random`.
#[must_use]
pub fn before(time: Duration, random: u32) -> Duration {
    time.mul_f64(0.9 + 0.1 * fraction(random))
}

/// 32 random bits; a fixed number in the first moments of a boot without any.
#[must_use]
pub fn random() -> u32 {
    getrandom::u32().unwrap_or(u32::MAX / 2)
}

fn fraction(random: u32) -> f64 {
    f64::from(random) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_is_a_tenth() {
        let time = Duration::from_secs(100);
        let seconds = |time: Duration| time.as_secs_f64().round();
        assert_eq!([around(time, 0), around(time, u32::MAX)].map(seconds), [90.0, 110.0]);
        assert_eq!([before(time, 0), before(time, u32::MAX)].map(seconds), [90.0, 100.0]);
    }
}
