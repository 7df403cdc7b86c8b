//! What the writer has stored and the map has not taken in yet: a bounded queue that forgets no agent.
//!
//! The writer never waits for the map, and a report in memory is larger than on the wire. So only so
//! many reports wait here; of one that finds no room, its agent is remembered, and the map reads that
//! agent's latest report from the database when it gets there.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proto::ids::AgentId;

use crate::content::Says;
use crate::topology::Receipt;

/// What the writer tells the map.
#[derive(Debug)]
pub enum News {
    /// A report that tells the present, on disk by now.
    Report(Receipt, Present),
    /// A reset hid agents, or showed them again.
    Reload,
}

/// A report that tells the present.
#[derive(Debug)]
pub struct Present {
    /// Its number in the database.
    pub no: i64,
    /// What it says.
    pub says: Says,
    /// As [`crate::fleet::Latest::like`].
    pub like: Option<u64>,
}

/// Reports that wait at most: 2 KB each in memory where only counts moved, and the work of a few milliseconds.
const ROOM: usize = 512;

/// A whole report takes the room of so many: it is some 10 KB in memory.
const WHOLE: usize = 4;

/// So many of counts alone are worth waking the map for before it looks by itself: at a few reports a second,
/// waking it for each would cost more than taking them in.
const PRESSING: usize = 128;

/// Where the writer leaves news and the map fetches them.
#[derive(Debug, Default)]
pub struct Inbox {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

/// What waits, to be taken in this order.
#[derive(Debug, Default)]
pub struct Waiting {
    /// Whether every agent is to be read from the database first.
    pub reload: bool,
    /// Reports, in order of storing.
    pub reports: Vec<(Receipt, Present)>,
    /// Agents whose latest report found no room.
    pub missed: BTreeSet<AgentId>,
    /// Whether one of the reports may say more than counts: that shows at once.
    urgent: bool,
    /// How much of [`ROOM`] they take.
    taken: usize,
}

impl Inbox {
    /// Leaves news of one transaction, after its commit.
    pub fn tell(&self, news: Vec<News>) {
        if news.is_empty() {
            return;
        }
        let mut waiting = self.lock();
        for news in news {
            waiting.add(news);
        }
        let pressing = waiting.is_pressing();
        drop(waiting);
        if pressing {
            self.arrived.notify_one();
        }
    }

    /// All that came within `patience`, or sooner where it is much.
    pub fn take(&self, patience: Duration) -> Waiting {
        let can_wait = |waiting: &mut Waiting| !waiting.is_pressing();
        let waited = self.arrived.wait_timeout_while(self.lock(), patience, can_wait);
        let (mut waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut waiting)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.reload && self.reports.is_empty() && self.missed.is_empty()
    }

    fn is_pressing(&self) -> bool {
        self.reload || self.urgent || self.reports.len() >= PRESSING || !self.missed.is_empty()
    }

    fn add(&mut self, news: News) {
        match news {
            // The database tells all that waited, and what of it is hidden now.
            News::Reload => *self = Self { reload: true, ..Self::default() },
            News::Report(receipt, present) if self.taken < ROOM => {
                let is_whole = matches!(present.says, Says::All(_));
                self.missed.remove(&receipt.agent);
                self.urgent |= is_whole;
                self.taken += if is_whole { WHOLE } else { 1 };
                self.reports.push((receipt, present));
            }
            News::Report(receipt, _) => {
                self.missed.insert(receipt.agent);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proto::ids::BootId;
    use proto::report::Report;

    use super::*;
    use crate::bases::Kept;
    use crate::gist::Gist;

    fn receipt(agent: usize) -> Receipt {
        let agent = AgentId([u8::try_from(agent % 256).unwrap(); 16]);
        Receipt { agent, boot: BootId([0; 16]), tick: 1, received_at: 1, relay: Vec::new() }
    }

    /// Counts alone.
    fn news(agent: usize) -> News {
        let gist = Arc::new(Gist::of(&Report::default()));
        let kept = Kept::new(1, (BootId([0; 16]), 1), 1, None, gist);
        let says = Says::Moved(Box::default(), Arc::new(kept));
        News::Report(receipt(agent), Present { no: 2, says, like: Some(1) })
    }

    fn whole(agent: usize) -> News {
        let says = Says::All(Box::default());
        News::Report(receipt(agent), Present { no: 2, says, like: Some(1) })
    }

    #[test]
    fn what_may_be_more_than_counts_is_looked_at_at_once() {
        let inbox = Inbox::default();
        inbox.tell(vec![whole(1)]);
        assert_eq!(inbox.take(Duration::from_secs(60)).reports.len(), 1);
        assert!(!inbox.take(Duration::ZERO).is_pressing());
    }

    #[test]
    fn what_finds_no_room_is_remembered_by_its_agent() {
        let inbox = Inbox::default();
        inbox.tell((0..ROOM + 3).map(news).collect());
        let waiting = inbox.take(Duration::ZERO);
        assert_eq!((waiting.reports.len(), waiting.missed.len()), (ROOM, 3));
        assert!(inbox.take(Duration::ZERO).is_empty());
        inbox.tell((0..ROOM / WHOLE + 3).map(whole).collect());
        let waiting = inbox.take(Duration::ZERO);
        assert_eq!((waiting.reports.len(), waiting.missed.len()), (ROOM / WHOLE, 3));
        inbox.tell(vec![news(1)]);
        assert_eq!(inbox.take(Duration::from_millis(1)).reports.len(), 1, "in its time");
        inbox.tell((0..PRESSING).map(news).collect());
        assert_eq!(inbox.take(Duration::from_secs(60)).reports.len(), PRESSING, "at once");
    }

    #[test]
    fn a_reload_replaces_what_came_before_it_alone() {
        let inbox = Inbox::default();
        inbox.tell(vec![news(1), News::Reload, news(2)]);
        let waiting = inbox.take(Duration::ZERO);
        assert!(waiting.reload && waiting.missed.is_empty());
        assert_eq!(waiting.reports.iter().map(|(receipt, _)| receipt.agent.0[0]).collect::<Vec<_>>(), [2]);
    }
}
