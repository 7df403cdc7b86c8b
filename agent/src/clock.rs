//! The manager's time as this agent knows it. The host's clock is never set.
//!
//! A router without a clock chip comes up years behind. The manager answers its first message with
//! its own time, signed; from then on the agent adds the difference to whatever its own clock says,
//! until the two agree again because someone set the host's clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

/// Clocks that differ by no more than this (milliseconds) are the same: far more than an answer
/// takes, far less than the 10 minutes that the manager allows.
const SAME: u64 = 60_000;

/// A moment as this host sees it: milliseconds on two clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The host's own clock, since the Unix epoch; jumps when someone sets it.
    pub wall: i64,
    /// Since the host started, time asleep included; never jumps.
    pub uptime: i64,
}

impl Moment {
    /// This moment.
    #[must_use]
    pub fn now() -> Self {
        let uptime = clock_gettime(ClockId::CLOCK_BOOTTIME)
            .map_or(0, |time| i64::try_from(Duration::from(time).as_millis()).unwrap_or(i64::MAX));
        Self { wall: millis(SystemTime::now()), uptime }
    }
}

impl Moment {
    /// Whether someone has set the host's clock between this moment and a later one.
    #[must_use]
    pub fn is_before_a_jump(self, later: Self) -> bool {
        differ(later.wall.saturating_sub(self.wall), later.uptime.saturating_sub(self.uptime))
    }
}

/// Milliseconds since the Unix epoch, negative before it.
fn millis(time: SystemTime) -> i64 {
    let clamped = |millis: u128| i64::try_from(millis).unwrap_or(i64::MAX);
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => clamped(after.as_millis()),
        Err(before) => -clamped(before.duration().as_millis()),
    }
}

/// What to add to the host's own clock to have the manager's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Clock {
    offset: i64,
}

impl Clock {
    /// Milliseconds to add; 0 while the clocks agree.
    #[must_use]
    pub fn offset(self) -> i64 {
        self.offset
    }

    /// The manager's time at `now`.
    #[must_use]
    pub fn manager_time(self, now: Moment) -> i64 {
        now.wall.saturating_add(self.offset)
    }

    /// The manager's time at an earlier moment, however the host's clock was set since.
    #[must_use]
    pub fn manager_time_then(self, then: Moment, now: Moment) -> i64 {
        self.manager_time(now).saturating_sub(now.uptime.saturating_sub(then.uptime).max(0))
    }

    /// Learns from a verified answer that says "your clock is off; mine says `at`". False when that
    /// changes nothing, so that signing again would be no use.
    #[must_use]
    pub fn learn(&mut self, at: i64, now: Moment) -> bool {
        let before = self.offset;
        let offset = at.saturating_sub(now.wall);
        self.offset = if differ(at, now.wall) { offset } else { 0 };
        differ(self.offset, before)
    }

    /// Drops the offset when a verified answer shows that the host's own clock is right again.
    /// True when it was dropped.
    #[must_use]
    pub fn settle(&mut self, at: i64, now: Moment) -> bool {
        let right = self.offset != 0 && !differ(at, now.wall);
        if right {
            self.offset = 0;
        }
        right
    }
}

/// Whether two times differ by more than clocks that agree may.
#[must_use]
pub fn differ(one: i64, other: i64) -> bool {
    one.saturating_sub(other).unsigned_abs() > SAME
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR: i64 = 365 * 24 * 3_600_000;
    const TODAY: i64 = 1_795_000_000_000;

    #[test]
    fn a_host_two_years_behind_learns_the_time_and_unlearns_it_when_its_clock_is_set() {
        let mut clock = Clock::default();
        let seen = Moment { wall: TODAY - 2 * YEAR, uptime: 10_000 };
        let now = Moment { wall: TODAY - 2 * YEAR + 500, uptime: 10_500 };
        assert!(clock.learn(TODAY, now));
        assert_eq!(clock.manager_time(now), TODAY);
        assert_eq!(clock.manager_time_then(seen, now), TODAY - 500);
        assert!(!clock.settle(TODAY, now), "the host's clock is still two years behind");
        // NTP sets the clock: with the offset still added the agent is two years ahead ...
        let set = Moment { wall: TODAY + 60_000, uptime: 70_500 };
        assert_eq!(clock.manager_time(set), TODAY + 60_000 + 2 * YEAR - 500);
        // ... the manager says so, and that leaves nothing to add.
        assert!(clock.learn(TODAY + 60_100, set));
        assert_eq!(clock.offset(), 0);
        assert_eq!(clock.manager_time_then(seen, set), TODAY - 500, "what was read before is right too");
    }

    #[test]
    fn any_verified_answer_shows_that_the_clock_was_set() {
        let mut clock = Clock::default();
        // 15 minutes ahead, then set: within the manager's 10 minutes no answer says "clock skew".
        assert!(clock.learn(TODAY, Moment { wall: TODAY + 900_000, uptime: 0 }));
        assert!(!clock.settle(TODAY + 30_000, Moment { wall: TODAY + 930_000, uptime: 30_000 }));
        assert!(clock.settle(TODAY + 60_000, Moment { wall: TODAY + 59_000, uptime: 60_000 }));
        assert_eq!(clock, Clock::default());
    }

    #[test]
    fn an_answer_that_changes_nothing_is_told_from_one_that_does() {
        let mut clock = Clock::default();
        assert!(!clock.learn(TODAY, Moment { wall: TODAY - 59_000, uptime: 0 }));
        assert_eq!(clock.offset(), 0);
        assert!(clock.learn(TODAY, Moment { wall: TODAY - YEAR, uptime: 0 }));
        assert!(!clock.learn(TODAY + 10, Moment { wall: TODAY - YEAR, uptime: 0 }));
        assert!(clock.learn(i64::MIN, Moment { wall: i64::MAX, uptime: 0 }), "and nothing overflows");
    }

    #[test]
    fn a_clock_that_is_set_is_noticed() {
        let then = Moment { wall: TODAY, uptime: 0 };
        assert!(!then.is_before_a_jump(Moment { wall: TODAY + 3_600_000, uptime: 3_590_000 }));
        assert!(then.is_before_a_jump(Moment { wall: TODAY + YEAR, uptime: 1000 }));
        assert!(then.is_before_a_jump(Moment { wall: i64::MIN, uptime: i64::MAX }));
    }

    #[test]
    fn the_clocks_of_this_host_can_be_read() {
        let (one, other) = (Moment::now(), Moment::now());
        assert!(one.wall > TODAY / 2 && one.uptime > 0 && other.uptime >= one.uptime);
    }
}
