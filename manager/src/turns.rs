//! Reads the map in steps of a few milliseconds, so that reports need not wait for a whole long answer.

use std::sync::RwLockReadGuard;

use crate::atlas::Atlas;
use crate::topology::State;

/// Tries that let reports come in between; settlings come once a second, and each that finds a change ends one.
const TRIES: u32 = 2;

/// The map was settled anew between two steps, so that what comes would not fit what was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resettled;

/// Hands out the map, step by step.
#[derive(Debug)]
pub struct Turns<'a> {
    atlas: &'a Atlas,
    guard: Option<RwLockReadGuard<'a, State>>,
    version: Option<u64>,
    /// Whether it is kept from one step to the next.
    at_once: bool,
}

impl Atlas {
    /// Does what is made of one settling of the map in steps, again where another came between; the last time
    /// without letting go of the map.
    pub fn in_turns<T>(&self, mut work: impl FnMut(&mut Turns<'_>) -> Result<T, Resettled>) -> T {
        let mut tries = 0;
        loop {
            let at_once = tries >= TRIES;
            let mut turns = Turns { atlas: self, guard: None, version: None, at_once };
            if let Ok(done) = work(&mut turns) {
                return done;
            }
            tries += 1;
        }
    }
}

impl Turns<'_> {
    /// The map for the next step, once reports that waited were taken in: their counts may have moved it.
    ///
    /// # Errors
    /// When it was settled anew since the first step.
    pub fn step(&mut self) -> Result<&State, Resettled> {
        self.rest();
        let atlas = self.atlas;
        let state = &**self.guard.get_or_insert_with(|| atlas.state());
        let version = state.version();
        if *self.version.get_or_insert(version) == version { Ok(state) } else { Err(Resettled) }
    }

    /// Lets reports be taken in until the next step.
    pub fn rest(&mut self) {
        if !self.at_once {
            self.guard = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Receipt;
    use proto::ids::{AgentId, BootId};
    use proto::report::Report;

    #[test]
    fn what_a_settling_interrupts_is_done_again_and_then_at_once() {
        let atlas = Atlas::default();
        let mut tries = 0;
        let versions = atlas.in_turns(|turns| {
            let first = turns.step()?.version();
            tries += 1;
            if !turns.at_once {
                turns.rest();
                let mut state = atlas.state_mut();
                let agent = AgentId([tries; 16]);
                let receipt =
                    Receipt { agent, boot: BootId([1; 16]), tick: 1, received_at: 1, relay: Vec::new() };
                state.apply(&receipt, &Report { observed_at: 1, interval_s: 30, ..Report::default() });
                state.settle(i64::from(tries));
            }
            Ok([first, turns.step()?.version()])
        });
        assert_eq!((tries, versions), (3, [2, 2]));
    }

    #[test]
    fn counts_alone_interrupt_nothing() {
        let atlas = Atlas::default();
        let mut tries = 0;
        atlas.in_turns(|turns| {
            turns.step()?;
            tries += 1;
            turns.rest();
            atlas.state_mut().settle(1);
            turns.step().map(|_| ())
        });
        assert_eq!(tries, 1);
    }
}
