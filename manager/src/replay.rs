//! Has this message been seen? A window of ticks per boot and the last nonces per agent; pure.
//!
//! The memory here answers fast where nothing is in doubt, and leaves the rest to the database. What makes
//! a repeated report impossible is the database too: (agent, boot, tick) is unique there, in the same transaction as the report.

use std::collections::VecDeque;

use proto::ids::{BootId, Nonce};
use proto::limits::{NONCES, TICK_WINDOW};

const WORDS: usize = (TICK_WINDOW / 64) as usize;

/// The ticks seen of one boot: the highest, and which of the [`TICK_WINDOW`] up to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Window {
    top: u64,
    /// How many in a row, the last of them `top`, were seen: all that were, where there is no `seen`.
    row: u64,
    /// Bit `tick % TICK_WINDOW` stands for a tick of the window (as in RFC 6479). Most agents' reports come one
    /// after the other, and then there is none.
    seen: Option<Box<[u64; WORDS]>>,
}

/// Where a tick stands with regard to a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Not seen yet.
    New,
    /// Seen.
    Seen,
    /// So far behind that only the database knows.
    Below,
}

impl Window {
    /// The highest tick seen; 0 before the first.
    #[must_use]
    pub fn top(&self) -> u64 {
        self.top
    }

    /// Where `tick` stands.
    #[must_use]
    pub fn place(&self, tick: u64) -> Place {
        if tick > self.top {
            Place::New
        } else if self.top - tick >= TICK_WINDOW {
            Place::Below
        } else if self.has(tick) {
            Place::Seen
        } else {
            Place::New
        }
    }

    /// Marks `tick` as seen; one below the window stays unmarked.
    pub fn mark(&mut self, tick: u64) {
        if self.place(tick) != Place::New {
            return;
        }
        let is_next = self.row == 0 || tick.checked_sub(1) == Some(self.top);
        let is_before = self.top.checked_sub(self.row) == Some(tick);
        if self.seen.is_none() && (is_next || is_before) {
            (self.top, self.row) = (self.top.max(tick), (self.row + 1).min(TICK_WINDOW));
            return;
        }
        let mut seen = self.seen.take().unwrap_or_else(|| self.row_as_bits());
        if tick > self.top {
            let fresh = (tick - self.top).min(TICK_WINDOW);
            for skipped in (tick - fresh + 1)..=tick {
                let (word, bit) = Self::position(skipped);
                seen[word] &= !bit;
            }
            self.top = tick;
        }
        let (word, bit) = Self::position(tick);
        seen[word] |= bit;
        if *seen == [u64::MAX; WORDS] {
            self.row = TICK_WINDOW;
        } else {
            self.seen = Some(seen);
        }
    }

    fn row_as_bits(&self) -> Box<[u64; WORDS]> {
        let mut seen = Box::new([0; WORDS]);
        for tick in (0..self.row).map(|back| self.top - back) {
            let (word, bit) = Self::position(tick);
            seen[word] |= bit;
        }
        seen
    }

    fn has(&self, tick: u64) -> bool {
        let (word, bit) = Self::position(tick);
        self.seen.as_ref().map_or(self.top - tick < self.row, |seen| seen[word] & bit != 0)
    }

    fn position(tick: u64) -> (usize, u64) {
        let index = tick % TICK_WINDOW;
        (usize::try_from(index / 64).expect("below WORDS"), 1 << (index % 64))
    }
}

/// One start of an agent, as its messages show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot {
    /// The boot's number in the database.
    pub no: i64,
    /// Its id.
    pub id: BootId,
    /// The least `sent_at` seen of it.
    pub first_sent_at: i64,
    /// The ticks seen of it.
    pub window: Window,
}

/// What is remembered of an agent's messages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replay {
    /// The boots known, in the order in which they were first met; the last few only.
    pub boots: Vec<Boot>,
    /// 16 bits of each nonce: enough to ask the database in one of 500 cases where it was not needed.
    nonces: VecDeque<u16>,
}

/// Boots remembered per agent; an older one's messages are still told apart by the database.
const BOOTS: usize = 4;

/// What the memory says of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Not seen.
    New,
    /// Only the database knows whether its tick was used.
    AskTick,
    /// Only the database knows whether its nonce was used.
    AskNonce,
}

impl Replay {
    /// The memory as the database has it: boots oldest first, nonces oldest first.
    #[must_use]
    pub fn restore(boots: Vec<Boot>, nonces: &[Nonce]) -> Self {
        Self { boots, nonces: nonces.iter().map(|&nonce| short(nonce)).collect() }
    }

    /// Judges a message by its boot, tick and nonce.
    #[must_use]
    pub fn judge(&self, boot: BootId, tick: u64, nonce: Nonce) -> Verdict {
        let nonce_known = self.nonces.contains(&short(nonce));
        let place = match self.boot(boot) {
            Some(boot) => boot.window.place(tick),
            None if self.boots.len() < BOOTS => Place::New,
            None => Place::Below,
        };
        match (place, nonce_known) {
            (Place::New, false) => Verdict::New,
            (Place::New, true) => Verdict::AskNonce,
            // It is this message or another with its tick.
            (Place::Seen | Place::Below, _) => Verdict::AskTick,
        }
    }

    /// Remembers a message of a known boot.
    pub fn mark(&mut self, boot: BootId, tick: u64, nonce: Nonce) {
        if let Some(boot) = self.boots.iter_mut().find(|known| known.id == boot) {
            boot.window.mark(tick);
        }
        if self.nonces.len() >= NONCES {
            self.nonces.pop_front();
        }
        self.nonces.push_back(short(nonce));
    }

    /// The boot of that id.
    #[must_use]
    pub fn boot(&self, id: BootId) -> Option<&Boot> {
        self.boots.iter().find(|boot| boot.id == id)
    }

    /// Adds a boot; the oldest goes when there are too many.
    pub fn add_boot(&mut self, boot: Boot) {
        if self.boots.len() >= BOOTS {
            self.boots.remove(0);
        }
        // Most agents are heard of in one boot only.
        self.boots.reserve_exact(1);
        self.boots.push(boot);
    }
}

/// 16 of a nonce's 128 random bits.
fn short(nonce: Nonce) -> u16 {
    let [a, b, ..] = nonce.0;
    u16::from_le_bytes([a, b])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// Ticks in any order, or nearly one after the other, up or down.
    fn ticks() -> impl Strategy<Value = Vec<u64>> {
        let steps = prop::collection::vec(prop_oneof![40 => Just(1), 1 => 0..30u64], 1..2500);
        let row = (steps, any::<bool>()).prop_map(|(steps, is_down)| {
            let mut ticks: Vec<u64> = steps
                .into_iter()
                .scan(0, |at, step| {
                    *at += step;
                    Some(*at)
                })
                .collect();
            if is_down {
                ticks.reverse();
            }
            ticks
        });
        prop_oneof![prop::collection::vec(1u64..4000, 1..400), row]
    }

    #[test]
    fn ticks_in_a_row_take_no_bits() {
        let mut window = Window::default();
        (1..3000).for_each(|tick| window.mark(tick));
        assert!(window.seen.is_none());
        window.mark(3001);
        assert!(
            window.seen.is_some() && window.place(3000) == Place::New && window.place(2999) == Place::Seen
        );
        (3000..3000 + TICK_WINDOW).for_each(|tick| window.mark(tick));
        assert!(window.seen.is_none() && window.place(3000) == Place::Seen);
        let mut restored = Window::default();
        (1..3000).rev().for_each(|tick| restored.mark(tick));
        assert!(restored.seen.is_none());
    }

    proptest! {
        #[test]
        fn the_window_agrees_with_a_set(ticks in ticks()) {
            let mut window = Window::default();
            let mut set = BTreeSet::new();
            for tick in ticks {
                let top = set.last().copied().unwrap_or(0);
                let expected = if tick > top { Place::New }
                    else if top - tick >= TICK_WINDOW { Place::Below }
                    else if set.contains(&tick) { Place::Seen }
                    else { Place::New };
                prop_assert_eq!(window.place(tick), expected);
                if expected == Place::New {
                    window.mark(tick);
                    set.insert(tick);
                }
            }
        }
    }

    #[test]
    fn huge_jumps_are_no_work_and_forget_nothing_they_should_not() {
        let mut window = Window::default();
        window.mark(5);
        window.mark(u64::MAX);
        assert_eq!(window.place(5), Place::Below);
        assert_eq!(window.place(u64::MAX), Place::Seen);
        assert_eq!(window.place(u64::MAX - 1), Place::New);
    }

    #[test]
    fn the_same_message_is_known_and_another_with_its_marks_is_replayed() {
        let (boot, nonce) = (BootId([1; 16]), Nonce([2; 16]));
        let mut replay = Replay::default();
        replay.add_boot(Boot { no: 1, id: boot, first_sent_at: 0, window: Window::default() });
        assert_eq!(replay.judge(boot, 1, nonce), Verdict::New);
        replay.mark(boot, 1, nonce);
        assert_eq!(replay.judge(boot, 1, nonce), Verdict::AskTick);
        assert_eq!(replay.judge(boot, 2, nonce), Verdict::AskNonce);
        assert_eq!(replay.judge(boot, 1, Nonce([3; 16])), Verdict::AskTick);
        for tick in 2..=200u8 {
            replay.mark(boot, u64::from(tick), Nonce([tick; 16]));
        }
        assert_eq!(replay.judge(boot, 1, nonce), Verdict::AskTick, "120 nonces later");
        assert_eq!(replay.judge(boot, 201, nonce), Verdict::New, "it was forgotten");
        assert_eq!(replay.judge(BootId([9; 16]), 1, Nonce([250; 16])), Verdict::New);
    }
}
