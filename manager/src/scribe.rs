//! Has changes of the map written as they are found, in short steps: those of a large fleet's start are too
//! many to have at once, and reports must not wait for them.

use std::fmt;

use crate::store::history::PackedMap;
use crate::store::writer::{History, Writer};
use crate::topology::Event;

/// Changes written in one transaction: some 10 ms, so that reports need not wait for more.
const STEP: usize = 200;

/// Writes the changes of one settling. What is left when it fails, or when it is to stop, becomes changes
/// again, from the map that is in the history then.
pub struct Scribe<'a> {
    writer: &'a Writer,
    at: i64,
    is_over: &'a dyn Fn() -> bool,
    waiting: Vec<Event>,
    told: usize,
    failed: bool,
}

impl fmt::Debug for Scribe<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scribe").field("at", &self.at).field("told", &self.told).finish_non_exhaustive()
    }
}

impl<'a> Scribe<'a> {
    /// For changes noticed at `at` (ms); it gives up where `is_over` says so.
    #[must_use]
    pub fn new(writer: &'a Writer, at: i64, is_over: &'a dyn Fn() -> bool) -> Self {
        Self { writer, at, is_over, waiting: Vec::new(), told: 0, failed: false }
    }

    /// Takes a change.
    pub fn add(&mut self, event: Event) {
        self.told += 1;
        if !self.failed {
            self.waiting.push(event);
            if self.waiting.len() >= STEP {
                self.step(None);
            }
        }
    }

    /// How many changes it was told.
    #[must_use]
    pub fn told(&self) -> usize {
        self.told
    }

    /// Writes what is left, and the whole map with it; true once all is on disk.
    #[must_use]
    pub fn end(mut self, map: Option<PackedMap>) -> bool {
        if !self.failed && (!self.waiting.is_empty() || map.is_some()) {
            self.step(map);
        }
        !self.failed
    }

    fn step(&mut self, map: Option<PackedMap>) {
        let events = std::mem::take(&mut self.waiting);
        self.failed = (self.is_over)() || !self.writer.history(History { at: self.at, events, map });
    }
}
