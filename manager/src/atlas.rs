//! The live map: a thread that takes in what the writer has stored, settles the topology about once
//! a second, and has every change written to the history.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use gate::Stop;
use proto::ids::AgentId;
use proto::report::Report;

use crate::alarm::watch::Watches;
use crate::clock::now_ms;
use crate::content::Says;
use crate::error::StoreError;
use crate::fleet::SharedFleet;
use crate::inbox::{Inbox, Present, Waiting};
use crate::scribe::Scribe;
use crate::store::history::PackedMap;
use crate::store::writer::Writer;
use crate::store::{Readers, reports};
use crate::topology::{Applied, Receipt, State, Touched};
use crate::written::Written;

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

impl From<State> for Atlas {
    fn from(state: State) -> Self {
        Self { state: Arc::new(RwLock::new(state)), watches: Arc::default() }
    }
}

impl Atlas {
    /// The topology as of the last settling. Held, it keeps reports from coming in.
    pub fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The topology to be changed.
    pub(crate) fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// What changed of the map since this was last asked.
    #[must_use]
    pub fn take_touched(&self) -> Touched {
        self.state().take_touched()
    }

    /// What is remembered beside the map, for alarms.
    #[must_use]
    pub fn watches(&self) -> &RwLock<Watches> {
        &self.watches
    }

    /// Keeps the map up with the news until `stop`.
    pub fn keep(&self, news: &Inbox, writer: &Writer, readers: &Readers, fleet: &SharedFleet, stop: &Stop) {
        let mut keeper = Keeper { atlas: self, writer, readers, fleet, stop, synced: false, unkept: 0 };
        keeper.reload();
        let mut settle_at = Instant::now();
        while !stop.is_set() {
            let waiting = news.take(settle_at.saturating_duration_since(Instant::now()));
            keeper.take(waiting);
            if Instant::now() >= settle_at {
                keeper.settle();
                settle_at = Instant::now() + PERIOD;
            }
        }
    }
}

/// Whether the whole map is to be kept again after so many changes.
#[must_use]
pub fn is_whole_due(changes: usize, state: &State) -> bool {
    changes >= LEAST_EVENTS.max(state.len() + state.edge_count())
}

/// Takes a report into the map and what alarms remember. Where only counts moved since a report of which the
/// map has the structure, they are all that is taken. Otherwise all of it is read from the database.
///
/// # Errors
/// What SQLite says, or [`StoreError::Broken`].
pub fn take(
    state: &mut State,
    watches: &mut Watches,
    readers: &Readers,
    receipt: &Receipt,
    Present { no, says, like }: Present,
) -> Result<(), StoreError> {
    let report = match says {
        Says::All(report) => report,
        Says::Moved(counts, kept) => match state.apply_counts(receipt, kept.like, &counts) {
            Some(Applied::Late) => return Ok(()),
            Some(_) => {
                watches.count(receipt, &counts);
                return Ok(());
            }
            None => Box::new(readers.read(|db| reports::report(db, no))?),
        },
    };
    if state.apply(receipt, &report) != Applied::Late {
        watches.note(receipt, &report);
        state.rests_on(receipt.agent, like);
    }
    Ok(())
}

struct Keeper<'a> {
    atlas: &'a Atlas,
    writer: &'a Writer,
    readers: &'a Readers,
    fleet: &'a SharedFleet,
    stop: &'a Stop,
    /// Whether the history holds the map as it was last settled.
    synced: bool,
    /// Changes written since the whole map was.
    unkept: usize,
}

impl Keeper<'_> {
    fn take(&self, Waiting { reload, reports, missed, .. }: Waiting) {
        if reload {
            self.reload();
        }
        if !reports.is_empty() {
            let mut watches = self.atlas.watches.write().unwrap_or_else(PoisonError::into_inner);
            let mut state = self.atlas.state_mut();
            for (receipt, present) in reports {
                if let Err(error) = take(&mut state, &mut watches, self.readers, &receipt, present) {
                    log::error!("map: the report of agent {}: {error}", receipt.agent);
                }
            }
        }
        for id in missed {
            self.fetch(id);
        }
    }

    /// Takes every agent's present from the database, and forgets those that are hidden.
    fn reload(&self) {
        let fleet = self.fleet.read().unwrap_or_else(PoisonError::into_inner);
        let agents: Vec<AgentId> = fleet.agents.keys().copied().collect();
        drop(fleet);
        agents.into_iter().take_while(|_| !self.stop.is_set()).for_each(|id| self.fetch(id));
    }

    /// Takes an agent's present from the database, or forgets it when it is hidden.
    fn fetch(&self, id: AgentId) {
        let fleet = self.fleet.read().unwrap_or_else(PoisonError::into_inner);
        let agent = fleet.agents.get(&id).filter(|agent| agent.is_visible());
        let Some(latest) = agent.and_then(|agent| agent.latest.clone()) else {
            drop(fleet);
            self.atlas.watches.write().unwrap_or_else(PoisonError::into_inner).remove(id);
            self.atlas.state_mut().remove(id);
            return;
        };
        drop(fleet);
        let payload = self.readers.read(|db| reports::payload(db, latest.report));
        match payload.map(|json| json.and_then(|json| Report::from_json(&json).ok())) {
            Ok(Some(report)) => {
                let receipt = Receipt {
                    agent: id,
                    boot: latest.boot,
                    tick: latest.tick,
                    received_at: latest.received_at,
                    relay: latest.path,
                };
                let mut watches = self.atlas.watches.write().unwrap_or_else(PoisonError::into_inner);
                let mut state = self.atlas.state_mut();
                if state.apply(&receipt, &report) != Applied::Late {
                    watches.note(&receipt, &report);
                    state.rests_on(id, latest.like);
                }
            }
            Ok(None) => {}
            Err(error) => log::error!("map: reading the report of agent {id}: {error}"),
        }
    }

    fn settle(&mut self) {
        let at = now_ms();
        self.state_mut().judge(at);
        let is_over = || self.stop.is_set();
        let mut scribe = Scribe::new(self.writer, at, &is_over);
        if self.synced {
            self.atlas.state().each_change(|event| scribe.add(event));
            self.state_mut().settled(scribe.told() > 0);
        } else {
            // What judging found is part of what is found against the history.
            self.state_mut().settled(true);
            if let Err(error) = self.changes_since_written(&mut scribe) {
                return log::error!("map: reading its history: {error}");
            }
        }
        let unkept = self.unkept + scribe.told();
        let state = self.atlas.state();
        let whole = is_whole_due(unkept, &state).then(|| PackedMap::of(&state.structure()));
        drop(state);
        let is_whole = whole.is_some();
        let synced = scribe.end(whole);
        self.synced = synced;
        self.unkept = if synced && is_whole { 0 } else { unkept };
    }

    /// Tells what is different from the map that the history ends with, as after a start or after changes
    /// that could not be written.
    fn changes_since_written(&self, scribe: &mut Scribe<'_>) -> Result<(), StoreError> {
        let written = self.readers.read(Written::read)?;
        written.restore_since(&mut self.state_mut());
        written.changes(&self.atlas.state(), self.readers, |event| scribe.add(event))
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.atlas.state_mut()
    }
}
