//! Keeps the same failure from filling a router's log.

use std::time::{Duration, Instant};

/// The same message is logged again after this long, with a count.
const SILENCE: Duration = Duration::from_secs(600);

/// Which message was logged last, and how often it came since.
#[derive(Debug, Default)]
pub struct Repeats {
    last: Option<Last>,
}

#[derive(Debug)]
struct Last {
    message: String,
    logged: Instant,
    since: u32,
}

impl Repeats {
    /// What to log of a message, if anything: a new one at once, the same one again after ten
    /// minutes with the number of times that it was left out.
    #[must_use]
    pub fn note(&mut self, message: String, now: Instant) -> Option<String> {
        match &mut self.last {
            Some(last) if last.message == message => {
                last.since += 1;
                if now.saturating_duration_since(last.logged) < SILENCE {
                    return None;
                }
                let text = format!("{message} (again, {} times since last told)", last.since);
                (last.logged, last.since) = (now, 0);
                Some(text)
            }
            _ => {
                self.last = Some(Last { message: message.clone(), logged: now, since: 0 });
                Some(message)
            }
        }
    }

    /// The trouble is over. True when there had been any.
    #[must_use]
    pub fn over(&mut self) -> bool {
        self.last.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_message_is_logged_every_ten_minutes_with_a_count() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut repeats = Repeats::default();
        assert!(!repeats.over());
        assert_eq!(repeats.note("refused".into(), at(0)), Some("refused".into()));
        for second in [30, 60, 599] {
            assert_eq!(repeats.note("refused".into(), at(second)), None);
        }
        let told = repeats.note("refused".into(), at(600));
        assert_eq!(told, Some("refused (again, 4 times since last told)".into()));
        assert_eq!(repeats.note("refused".into(), at(630)), None);
        assert_eq!(repeats.note("timed out".into(), at(660)), Some("timed out".into()));
        assert!(repeats.over());
        assert_eq!(repeats.note("timed out".into(), at(690)), Some("timed out".into()));
    }
}
