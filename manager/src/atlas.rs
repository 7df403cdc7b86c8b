//! The live map: a thread that takes in what the writer has stored, settles the topology about once
//! a second, and has every change written to the history.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use gate::Stop;
use proto::report::Report;

use crate::alarm::watch::Watches;
use crate::clock::now_ms;
use crate::error::StoreError;
use crate::fleet::SharedFleet;
use crate::store::writer::{History, Writer};
use crate::store::{Readers, history, reports};
use crate::topology::{Applied, Map, Receipt, State, diff};

/// What the writer tells the map.
#[derive(Debug)]
pub enum News {
    /// A report that tells the present, on disk by now.
    Report(Receipt, Box<Report>),
    /// A reset hid agents, or showed them again.
    Reload,
}

/// News that wait for the map; beyond that they are left out, as the next report tells it all.
pub const QUEUE: usize = 4096;

/// Between two settlings.
const PERIOD: Duration = Duration::from_secs(1);

/// The whole map is kept again after as many changes as it has nodes and edges, at least this many:
/// then making a past map costs about as much as reading one.
const LEAST_EVENTS: usize = 2000;

/// The live map as all threads share it.
#[derive(Debug, Clone, Default)]
pub struct Atlas {
    state: Arc<RwLock<State>>,
    watches: Arc<RwLock<Watches>>,
}

impl Atlas {
    /// The topology as of the last settling. Held, it keeps reports from coming in.
    pub fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is remembered beside the map, for alarms.
    #[must_use]
    pub fn watches(&self) -> &RwLock<Watches> {
        &self.watches
    }

    /// Keeps the map up with the news until `stop`.
    pub fn keep(
        &self,
        news: &Receiver<News>,
        writer: &Writer,
        readers: &Readers,
        fleet: &SharedFleet,
        stop: &Stop,
    ) {
        let mut keeper = Keeper { atlas: self, writer, readers, fleet, synced: false, unkept: 0 };
        keeper.reload();
        let mut settle_at = Instant::now();
        while !stop.is_set() {
            let left = settle_at.saturating_duration_since(Instant::now());
            match news.recv_timeout(left) {
                Ok(first) => keeper.take(std::iter::once(first).chain(news.try_iter())),
                Err(RecvTimeoutError::Timeout) => {
                    keeper.settle();
                    settle_at = Instant::now() + PERIOD;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
    }
}

struct Keeper<'a> {
    atlas: &'a Atlas,
    writer: &'a Writer,
    readers: &'a Readers,
    fleet: &'a SharedFleet,
    /// Whether the history holds the map as it was last settled.
    synced: bool,
    /// Changes written since the whole map was.
    unkept: usize,
}

impl Keeper<'_> {
    fn take(&mut self, news: impl Iterator<Item = News>) {
        let mut reload = false;
        let mut watches = self.atlas.watches.write().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.atlas.state.write().unwrap_or_else(PoisonError::into_inner);
        for news in news.take(QUEUE) {
            match news {
                News::Report(receipt, report) => {
                    if state.apply(&receipt, &report) != Applied::Late {
                        watches.note(&receipt, &report);
                    }
                }
                News::Reload => reload = true,
            }
        }
        drop((state, watches));
        if reload {
            self.reload();
        }
    }

    /// Takes every agent's present from the database, and forgets those that are hidden.
    fn reload(&self) {
        let fleet = self.fleet.read().unwrap_or_else(PoisonError::into_inner);
        let agents: Vec<_> = fleet.agents.values().cloned().collect();
        drop(fleet);
        for agent in agents {
            let Some(latest) = agent.latest.as_ref().filter(|_| agent.is_visible()) else {
                self.atlas.watches.write().unwrap_or_else(PoisonError::into_inner).remove(agent.id);
                self.atlas.state.write().unwrap_or_else(PoisonError::into_inner).remove(agent.id);
                continue;
            };
            let payload = self.readers.read(|db| reports::payload(db, latest.report));
            match payload.map(|json| json.and_then(|json| Report::from_json(&json).ok())) {
                Ok(Some(report)) => {
                    let receipt = Receipt {
                        agent: agent.id,
                        boot: latest.boot,
                        tick: latest.tick,
                        received_at: latest.received_at,
                        relay: latest.path.clone(),
                    };
                    let mut watches = self.atlas.watches.write().unwrap_or_else(PoisonError::into_inner);
                    let mut state = self.atlas.state.write().unwrap_or_else(PoisonError::into_inner);
                    if state.apply(&receipt, &report) != Applied::Late {
                        watches.note(&receipt, &report);
                    }
                }
                Ok(None) => {}
                Err(error) => log::error!("map: reading the report of agent {}: {error}", agent.id),
            }
        }
    }

    fn settle(&mut self) {
        let at = now_ms();
        let mut events = self.atlas.state.write().unwrap_or_else(PoisonError::into_inner).settle(at);
        if !self.synced {
            match self.changes_since_written() {
                Ok(since) => events = since,
                Err(error) => return log::error!("map: reading its history: {error}"),
            }
        }
        if events.is_empty() {
            self.synced = true;
            return;
        }
        self.unkept += events.len();
        let state = self.atlas.state();
        let whole = self.unkept >= LEAST_EVENTS.max(state.len() + state.edge_count());
        let map = whole.then(|| state.map());
        drop(state);
        self.synced = self.writer.history(History { at, events, map });
        if self.synced && whole {
            self.unkept = 0;
        }
    }

    /// What is different from the map that the history ends with, as after a start or after changes
    /// that could not be written.
    fn changes_since_written(&mut self) -> Result<Vec<crate::topology::Event>, StoreError> {
        let (written, _): (Map, i64) = self.readers.read(|db| history::map_at(db, i64::MAX))?;
        let mut state = self.atlas.state.write().unwrap_or_else(PoisonError::into_inner);
        state.restore_since(&written);
        Ok(diff(&written, &state.map()))
    }
}
