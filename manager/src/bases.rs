//! Whole reports that agents send the next ones as the difference to: of the last one of each agent, what reading
//! such a difference takes is in memory. The text of each is in the database.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock};

use crate::counts::Counts;
use crate::gist::Gist;
use crate::moving::Moving;
use proto::delta::Edits;
use proto::ids::{AgentId, BootId};
use proto::limits::BASE_AGE_MAX;

/// Bytes that they may take at least: those of a usual fleet of 50,000 agents.
const ROOM_MIN: usize = 64 << 20;
/// The share of a machine's memory that they may take. Beyond that the oldest go, and are read from the
/// database when they are asked for.
const SHARE: usize = 4;
/// What one takes beside its numbers, about.
const OVERHEAD: usize = 200;

/// A report that later ones may be the difference to. It is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its number in the database.
    pub no: i64,
    /// Which start of the agent.
    pub boot: BootId,
    /// Its number in that start.
    pub tick: u64,
    /// When it came (ms, the manager's clock).
    pub received_at: i64,
    /// What may move in it; `None` where reports that differ from it are to be read whole.
    pub moving: Option<Moving>,
    /// What else the next ones are expected to change of it, as the last one did that changed more than what may
    /// move.
    pub edits: Edits,
    /// The report that made these edits, by its number in that start.
    pub like: u64,
    /// What is kept at hand of the report with these edits.
    pub gist: Arc<Gist>,
}

impl Kept {
    /// Whether reports that come at `now` (ms) may still build on it: it outlives them in the
    /// database only when it is not much older.
    #[must_use]
    pub fn is_fresh(&self, now: i64) -> bool {
        now.saturating_sub(self.received_at) <= age_max()
    }

    /// One to which no other report was the difference yet.
    #[must_use]
    pub fn new(
        no: i64,
        (boot, tick): (BootId, u64),
        received_at: i64,
        moving: Option<Moving>,
        gist: Arc<Gist>,
    ) -> Self {
        Self { no, boot, tick, received_at, moving, edits: Edits::default(), like: tick, gist }
    }

    /// The same one, as of the report of tick `like`, which made these edits.
    #[must_use]
    pub fn edited(&self, edits: Edits, like: u64, gist: Arc<Gist>) -> Self {
        Self { edits, like, gist, ..self.clone() }
    }

    /// What a difference to it says moved, if it says no more than that and what the last one did.
    #[must_use]
    pub fn read(&self, delta: &[u8]) -> Option<Counts> {
        self.moving.as_ref()?.read(delta, &self.edits)
    }

    fn size(&self) -> usize {
        self.moving.as_ref().map_or(0, Moving::size) + self.edits.size() + OVERHEAD
    }
}

/// [`BASE_AGE_MAX`] in milliseconds.
#[must_use]
pub fn age_max() -> i64 {
    i64::try_from(BASE_AGE_MAX.as_millis()).unwrap_or(i64::MAX)
}

/// Those in memory.
#[derive(Debug)]
pub struct Bases {
    inner: RwLock<Inner>,
    /// Bytes that they may take.
    room: usize,
}

#[derive(Debug, Default)]
struct Inner {
    of: HashMap<AgentId, Arc<Kept>>,
    /// In the order in which they came; those that others took the place of are still in it.
    oldest_first: VecDeque<(AgentId, i64)>,
    bytes: usize,
}

impl Default for Bases {
    /// None yet, on a machine of which nothing is known.
    fn default() -> Self {
        Self { inner: RwLock::default(), room: ROOM_MIN }
    }
}

impl Bases {
    /// None yet, on a machine with so many bytes of memory.
    #[must_use]
    pub fn on(memory: usize) -> Self {
        Self { room: (memory / SHARE).max(ROOM_MIN), ..Self::default() }
    }

    /// The report of this name, if it is in memory.
    #[must_use]
    pub fn get(&self, agent: AgentId, boot: BootId, tick: u64) -> Option<Arc<Kept>> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner.of.get(&agent).filter(|kept| kept.boot == boot && kept.tick == tick).cloned()
    }

    /// Keeps reports that were committed, in the place of earlier ones of the same agents.
    pub fn put(&self, new: impl IntoIterator<Item = (AgentId, Arc<Kept>)>, now: i64) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        for (agent, kept) in new {
            let is_late = |old: &Arc<Kept>| old.boot == kept.boot && old.tick > kept.tick;
            if inner.of.get(&agent).is_some_and(is_late) {
                continue;
            }
            inner.bytes += kept.size();
            let no = kept.no;
            let old = inner.of.insert(agent, kept);
            // The same one with other edits is as old as it was.
            if old.as_ref().is_none_or(|old| old.no != no) {
                inner.oldest_first.push_back((agent, no));
            }
            inner.bytes -= old.map_or(0, |old| old.size());
        }
        inner.trim(self.room, now);
    }

    /// Keeps nothing.
    pub fn clear(&self) {
        *self.inner.write().unwrap_or_else(PoisonError::into_inner) = Inner::default();
    }
}

impl Inner {
    fn trim(&mut self, room: usize, now: i64) {
        while let Some(&(agent, no)) = self.oldest_first.front() {
            match self.of.get(&agent).filter(|kept| kept.no == no) {
                Some(kept) if self.bytes <= room && kept.is_fresh(now) => return,
                Some(kept) => {
                    self.bytes -= kept.size();
                    self.of.remove(&agent);
                }
                None => {}
            }
            self.oldest_first.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: BootId = BootId([1; 16]);

    fn agent(number: u32) -> AgentId {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&number.to_le_bytes());
        AgentId(id)
    }

    fn kept(no: i64, tick: u64, received_at: i64, moving: &Moving) -> Arc<Kept> {
        let gist = Arc::new(Gist::of(&proto::report::Report::default()));
        Arc::new(Kept::new(no, (BOOT, tick), received_at, Some(moving.clone()), gist))
    }

    /// The numbers of a report with so many interfaces.
    fn moving(interfaces: usize) -> Moving {
        let interfaces = vec![r#"{"counters":{"rx_bytes":1}}"#; interfaces].join(",");
        let json = format!(r#"{{"system":{{"interfaces":[{interfaces}]}}}}"#);
        Moving::of(&proto::delta::Base::new(json.into_bytes())).unwrap()
    }

    #[test]
    fn the_last_one_of_an_agent_is_kept_until_it_is_too_old_to_build_on() {
        let (bases, moving) = (Bases::default(), moving(1));
        let kept = |no, tick, received_at| kept(no, tick, received_at, &moving);
        bases.put([(agent(1), kept(1, 5, 0)), (agent(2), kept(2, 5, 0))], 0);
        bases.put([(agent(1), kept(3, 9, 1000)), (agent(1), kept(4, 7, 2000))], 2000);
        assert_eq!(bases.get(agent(1), BOOT, 9).map(|kept| kept.no), Some(3), "a late one changes nothing");
        assert!(bases.get(agent(1), BOOT, 5).is_none() && bases.get(agent(1), BootId([2; 16]), 9).is_none());
        bases.put([(agent(3), kept(5, 1, age_max() + 1))], age_max() + 1);
        assert!(bases.get(agent(2), BOOT, 5).is_none(), "it is too old");
        assert!(bases.get(agent(1), BOOT, 9).is_some());
        let last = bases.get(agent(1), BOOT, 9).unwrap();
        let edited = last.edited(Edits::default(), 10, Arc::clone(&last.gist));
        bases.put([(agent(1), Arc::new(edited))], age_max() + 1);
        assert_eq!(
            bases.get(agent(1), BOOT, 9).map(|kept| kept.like),
            Some(10),
            "the same one, no older or younger"
        );
        let inner = bases.inner.read().unwrap();
        assert_eq!(
            (inner.of.len(), inner.oldest_first.len(), inner.bytes),
            (2, 2, 2 * (moving.size() + Edits::default().size() + OVERHEAD))
        );
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_go_first() {
        let (bases, moving) = (Bases::default(), moving(60_000));
        let len = moving.size() + Edits::default().size();
        for number in 0..300 {
            bases.put([(agent(number), kept(i64::from(number), 1, 0, &moving))], 0);
        }
        let inner = bases.inner.read().unwrap();
        assert!(inner.bytes <= ROOM_MIN && inner.bytes > ROOM_MIN - 2 * len, "{}", inner.bytes);
        assert_eq!(inner.of.len(), inner.oldest_first.len());
        drop(inner);
        assert!(bases.get(agent(299), BOOT, 1).is_some() && bases.get(agent(0), BOOT, 1).is_none());
        bases.clear();
        assert!(bases.get(agent(299), BOOT, 1).is_none());
    }
}
