//! Reports that could not be delivered yet: a bounded ring in memory. Pure: `now` comes in.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use proto::deflate::{deflate, inflate};
use proto::ids::{BootId, Nonce};
use proto::limits;
use proto::sign::Kind;

use crate::clock::Moment;
use crate::message::{Message, Observed};

/// Every report is kept for this long, after that every tenth (milliseconds).
const ALL_FOR: i64 = 3_600_000;
const EVERY: u64 = 10;
/// A report that was refused unread, without a signature, is not tried again for this long.
const REFUSED_FOR: Duration = Duration::from_secs(600);
/// What a waiting report takes beside its deflated payload, in bytes: itself, and the allocator's share.
const OVERHEAD: usize = size_of::<Waiting>() + 16;

/// The reports that wait. The newest one is kept as it is and tried first, since the map needs the
/// present; the earlier ones are deflated and tried after it, oldest first, as those go first when
/// there is no more room.
#[derive(Debug)]
pub struct Spool {
    /// Most bytes of all but the newest.
    limit: usize,
    bytes: usize,
    newest: Option<Newest>,
    oldest_first: VecDeque<Waiting>,
    dropped: u64,
}

#[derive(Debug)]
struct Newest {
    message: Message,
    refused: Option<Instant>,
}

/// A report in the ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The start of the agent that made it.
    pub boot: BootId,
    /// Its number in that start.
    pub tick: u64,
    /// Its name.
    pub nonce: Nonce,
    /// When its host was read.
    pub observed: Observed,
    /// Its payload, deflated.
    pub deflated: Vec<u8>,
    refused: Option<Instant>,
}

/// What decides which report may be sent.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For what was refused.
    pub instant: Instant,
    /// For the age of reports.
    pub moment: Moment,
    /// This start of the agent.
    pub boot: BootId,
    /// Age (ms) from which a manager takes a report of an earlier start for the past. Younger ones
    /// wait: they would look like a second agent with the same id.
    pub past: i64,
}

impl Spool {
    /// An empty spool that holds `limit` bytes beside the newest report.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, bytes: 0, newest: None, oldest_first: VecDeque::new(), dropped: 0 }
    }

    /// Adds a report that is newer than all others, and gives up what there is no room for.
    pub fn add(&mut self, report: Message, now: Moment) {
        let newest = Newest { message: report, refused: None };
        let before = self.newest.replace(newest);
        if let Some(waiting) = before.and_then(Waiting::of) {
            self.push(waiting);
        }
        self.thin(now);
    }

    /// Adds a report of an earlier start, older than all that comes.
    pub fn push(&mut self, waiting: Waiting) {
        self.bytes += waiting.size();
        self.oldest_first.push_back(waiting);
        while self.bytes > self.limit {
            let Some(oldest) = self.oldest_first.pop_front() else { break };
            self.bytes -= oldest.size();
            self.dropped += 1;
        }
    }

    /// The report to send next: the newest, then the oldest.
    #[must_use]
    pub fn next(&self, now: Now) -> Option<Message> {
        let rests = |refused: Option<Instant>| {
            refused.is_some_and(|at| now.instant.saturating_duration_since(at) < REFUSED_FOR)
        };
        if let Some(newest) = self.newest.as_ref().filter(|newest| !rests(newest.refused)) {
            return Some(newest.message.clone());
        }
        let is_past = |waiting: &Waiting| waiting.boot == now.boot || waiting.age(now.moment) >= now.past;
        let may = |waiting: &&Waiting| !rests(waiting.refused) && is_past(waiting);
        // What does not inflate was never ours to send; it goes when its time comes.
        self.oldest_first.iter().filter(may).find_map(Waiting::message)
    }

    /// The report of that name is done with.
    pub fn remove(&mut self, nonce: Nonce) {
        if self.newest.as_ref().is_some_and(|newest| newest.message.nonce == nonce) {
            self.newest = None;
        } else if let Some(place) = self.place(nonce) {
            let removed = self.oldest_first.remove(place);
            self.bytes -= removed.map_or(0, |waiting| waiting.size());
        }
    }

    /// The report of that name will never be taken.
    pub fn give_up(&mut self, nonce: Nonce) {
        self.remove(nonce);
        self.dropped += 1;
    }

    /// The report of that name was refused unread, without a signature: others first.
    pub fn refused(&mut self, nonce: Nonce, now: Instant) {
        if let Some(newest) = self.newest.as_mut().filter(|newest| newest.message.nonce == nonce) {
            newest.refused = Some(now);
        } else if let Some(place) = self.place(nonce) {
            self.oldest_first[place].refused = Some(now);
        }
    }

    /// Gives all of them up without counting: a reset forgets everything.
    pub fn clear(&mut self) {
        *self = Self::new(self.limit);
    }

    /// Numbers all of them anew from 1, oldest first, in another start; the last number given.
    pub fn renumber(&mut self, boot: BootId, mut nonce: impl FnMut() -> Option<Nonce>) -> u64 {
        let mut tick = 0;
        for waiting in &mut self.oldest_first {
            tick += 1;
            (waiting.boot, waiting.tick) = (boot, tick);
            waiting.nonce = nonce().unwrap_or(waiting.nonce);
        }
        if let Some(Newest { message, .. }) = &mut self.newest {
            tick += 1;
            (message.boot, message.tick) = (boot, tick);
            message.nonce = nonce().unwrap_or(message.nonce);
        }
        tick
    }

    /// Reports that wait.
    #[must_use]
    pub fn len(&self) -> u64 {
        count(self.oldest_first.len()) + u64::from(self.newest.is_some())
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reports given up so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Counts what an earlier start gave up.
    pub fn add_dropped(&mut self, dropped: u64) {
        self.dropped = self.dropped.saturating_add(dropped);
    }

    /// All of them, oldest first, the newest deflated too.
    #[must_use]
    pub fn all(&self) -> Vec<Waiting> {
        let newest = self.newest.as_ref();
        let newest = newest.map(|newest| Newest { message: newest.message.clone(), refused: None });
        self.oldest_first.iter().cloned().chain(newest.and_then(Waiting::of)).collect()
    }

    /// Keeps all reports of the last hour and every tenth of the time before.
    fn thin(&mut self, now: Moment) {
        let before = self.oldest_first.len();
        let bytes = &mut self.bytes;
        self.oldest_first.retain(|waiting| {
            let kept = waiting.age(now) < ALL_FOR || waiting.tick.is_multiple_of(EVERY);
            if !kept {
                *bytes -= waiting.size();
            }
            kept
        });
        self.dropped += count(before - self.oldest_first.len());
    }

    fn place(&self, nonce: Nonce) -> Option<usize> {
        self.oldest_first.iter().position(|waiting| waiting.nonce == nonce)
    }
}

impl Waiting {
    /// A report in the ring's form.
    #[must_use]
    pub fn new(boot: BootId, tick: u64, nonce: Nonce, observed: Observed, deflated: Vec<u8>) -> Self {
        Self { boot, tick, nonce, observed, deflated, refused: None }
    }

    fn of(Newest { message, refused }: Newest) -> Option<Self> {
        let Message { boot, tick, nonce, json, observed, .. } = message;
        let deflated = deflate(&json);
        Some(Self { boot, tick, nonce, observed: observed?, deflated, refused })
    }

    fn message(&self) -> Option<Message> {
        let Self { boot, tick, nonce, observed, .. } = *self;
        let json = inflate(&self.deflated, limits::PAYLOAD_MAX).ok()?;
        Some(Message { kind: Kind::Report, boot, tick, nonce, json, observed: Some(observed) })
    }

    fn size(&self) -> usize {
        self.deflated.len() + OVERHEAD
    }

    /// Milliseconds since the host was read.
    fn age(&self, now: Moment) -> i64 {
        now.uptime.saturating_sub(self.observed.then.uptime)
    }
}

fn count(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: BootId = BootId([1; 16]);

    fn at(uptime: i64) -> Moment {
        Moment { wall: 1_795_000_000_000 + uptime, uptime }
    }

    fn now(uptime: i64) -> Now {
        Now { instant: Instant::now(), moment: at(uptime), boot: BOOT, past: 60_000 }
    }

    fn nonce(tick: u64) -> Nonce {
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&tick.to_le_bytes());
        Nonce(nonce)
    }

    /// A report whose payload does not deflate to less.
    fn report(tick: u64, uptime: i64) -> Message {
        let mut noise = vec![0; 500];
        getrandom::fill(&mut noise).unwrap();
        Message::report(BOOT, tick, nonce(tick), noise, at(uptime), at(uptime).wall)
    }

    fn spool(limit: usize, ticks: u64) -> Spool {
        let mut spool = Spool::new(limit);
        (1..=ticks).for_each(|tick| spool.add(report(tick, 0), at(0)));
        spool
    }

    fn drain(spool: &mut Spool, now: Now) -> Vec<u64> {
        let mut ticks = Vec::new();
        while let Some(next) = spool.next(now) {
            ticks.push(next.tick);
            spool.remove(next.nonce);
        }
        ticks
    }

    #[test]
    fn the_newest_goes_first_and_then_the_oldest() {
        let mut spool = spool(1 << 20, 5);
        let kept = report(6, 0);
        spool.add(kept.clone(), at(0));
        assert_eq!((spool.len(), spool.dropped()), (6, 0));
        assert_eq!(spool.next(now(0)), Some(kept.clone()));
        spool.add(report(7, 0), at(0));
        assert_eq!(spool.oldest_first.back().and_then(Waiting::message), Some(kept), "byte for byte");
        assert_eq!(drain(&mut spool, now(0)), [7, 1, 2, 3, 4, 5, 6]);
        assert_eq!((spool.len(), spool.bytes), (0, 0));
    }

    #[test]
    fn the_bound_holds_and_every_loss_is_counted() {
        let limit = 64 << 10;
        let spool = spool(limit, 1000);
        assert!(spool.bytes <= limit && spool.bytes > limit - 1000, "{}", spool.bytes);
        let sizes: usize = spool.oldest_first.iter().map(Waiting::size).sum();
        assert_eq!(spool.bytes, sizes);
        assert_eq!(spool.len() + spool.dropped(), 1000);
        assert_eq!(spool.oldest_first.back().map(|waiting| waiting.tick), Some(999), "the oldest went");
    }

    #[test]
    fn without_room_only_the_newest_waits() {
        let mut spool = spool(0, 3);
        assert_eq!((spool.len(), spool.dropped()), (1, 2));
        assert_eq!(drain(&mut spool, now(0)), [3]);
    }

    #[test]
    fn after_an_hour_every_tenth_is_kept() {
        let mut spool = spool(1 << 20, 101);
        spool.add(report(102, ALL_FOR - 1), at(ALL_FOR - 1));
        assert_eq!((spool.len(), spool.dropped()), (102, 0));
        spool.add(report(103, ALL_FOR), at(ALL_FOR));
        let ticks = [103, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 102];
        assert_eq!(spool.dropped(), 91);
        assert_eq!(spool.bytes, spool.oldest_first.iter().map(Waiting::size).sum::<usize>());
        assert_eq!(drain(&mut spool, now(ALL_FOR)), ticks);
    }

    #[test]
    fn one_that_is_refused_unread_does_not_hold_up_the_others() {
        let mut spool = spool(1 << 20, 4);
        let at = now(0);
        spool.refused(nonce(4), at.instant);
        spool.refused(nonce(1), at.instant);
        let later = Now { instant: at.instant + REFUSED_FOR, ..at };
        assert_eq!(spool.next(later).map(|message| message.tick), Some(4));
        assert_eq!(drain(&mut spool, at), [2, 3]);
        spool.give_up(nonce(4));
        assert_eq!(drain(&mut spool, later), [1]);
        assert_eq!(spool.dropped(), 1);
    }

    #[test]
    fn reports_of_an_earlier_start_wait_until_they_are_the_past() {
        let mut spool = spool(1 << 20, 2);
        let restarted = |uptime| Now { boot: BootId([2; 16]), ..now(uptime) };
        assert_eq!(drain(&mut spool, restarted(59_999)), [2]);
        assert_eq!(drain(&mut spool, restarted(60_000)), [1]);
    }

    #[test]
    fn another_start_gives_all_of_them_new_names_in_order() {
        let mut spool = spool(1 << 20, 3);
        let mut names = 100..;
        let last = spool.renumber(BootId([2; 16]), || names.next().map(nonce));
        let all: Vec<_> =
            spool.all().iter().map(|waiting| (waiting.boot, waiting.tick, waiting.nonce)).collect();
        let boot = BootId([2; 16]);
        assert_eq!(all, [(boot, 1, nonce(100)), (boot, 2, nonce(101)), (boot, 3, nonce(102))]);
        assert_eq!(last, 3);
        spool.clear();
        assert!(spool.is_empty() && spool.dropped() == 0);
    }
}
