//! Reports that could not be delivered yet.

use std::collections::VecDeque;

use crate::message::Message;

/// Reports kept from one turn to the next.
const KEPT: usize = 1;

/// A bounded queue of reports, taken out newest first: the map needs the present.
#[derive(Debug, Default)]
pub struct Spool {
    oldest_first: VecDeque<Message>,
}

impl Spool {
    /// Adds a report that is newer than all others.
    pub fn add(&mut self, report: Message) {
        self.oldest_first.push_back(report);
    }

    /// Takes the newest one out.
    pub fn take_newest(&mut self) -> Option<Message> {
        self.oldest_first.pop_back()
    }

    /// Gives up the oldest ones that there is no room for; how many.
    pub fn trim(&mut self) -> u64 {
        let excess = self.oldest_first.len().saturating_sub(KEPT);
        self.oldest_first.drain(..excess);
        count(excess)
    }

    /// Gives up all of them.
    pub fn clear(&mut self) {
        self.oldest_first.clear();
    }

    /// Reports that wait.
    #[must_use]
    pub fn len(&self) -> u64 {
        count(self.oldest_first.len())
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.oldest_first.is_empty()
    }

    /// All of them, oldest first, to be numbered anew.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Message> {
        self.oldest_first.iter_mut()
    }
}

fn count(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Moment;
    use proto::ids::Nonce;

    #[test]
    fn the_newest_goes_first_and_the_oldest_are_given_up() {
        let report =
            |tick| Message::report(tick, Nonce([0; 16]), Vec::new(), Moment { wall: 0, uptime: 0 }, 0);
        let mut spool = Spool::default();
        for tick in 1..=3 {
            spool.add(report(tick));
        }
        assert_eq!(spool.take_newest().map(|report| report.tick), Some(3));
        spool.add(report(3));
        assert_eq!((spool.len(), spool.trim(), spool.trim()), (3, 2, 0));
        assert_eq!(spool.take_newest().map(|report| report.tick), Some(3));
        assert!(spool.is_empty());
    }
}
