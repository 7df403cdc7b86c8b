//! The desk where alarms are kept, and the thread that evaluates them.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use gate::Stop;
use proto::ids::AgentId;

use super::engine::{Engine, Moment};
use super::facts::{ManagerFacts, Reporter, Setting, reporters};
use super::sieve::{Sieve, Sweep};
use super::status::{Change, Silence, Status};
use super::watch::Watches;
use super::{Facts, Finding, local_findings, recall, sweep_findings, whole_findings};
use crate::atlas::Atlas;
use crate::clock::now_ms;
use crate::error::StoreError;
use crate::fleet::SharedFleet;
use crate::psks::{self, PskHealth, SharedPsks};
use crate::refusals::Refusals;
use crate::store::alarms::{self, Saved};
use crate::store::writer::Writer;
use crate::store::{Readers, outbox};
use crate::topology::{State, Touched};

/// Between two evaluations.
const PERIOD: Duration = Duration::from_secs(5);
/// Intervals after the manager's start in which nothing is raised or resolved.
const WARM_UP: i64 = 3;
/// The longest interval (s) that the warm-up waits for.
const WARM_UP_INTERVAL: u32 = 300;
/// Edges that are looked at in one go, with the agents that they come with: after a start it is all of them, and
/// each is some 1.5 KB.
const PART: usize = 256;
/// Refusals are counted over this time (ms).
const REFUSAL_WINDOW: i64 = 10 * 60_000;
/// Changes that wait for a database that fails.
const UNSAVED_MAX: usize = 10_000;

/// Alarms as all threads share them. Whoever changes one writes it before the next may.
#[derive(Debug)]
pub struct Desk {
    inner: Mutex<Inner>,
    writer: Writer,
    targets: Vec<String>,
}

#[derive(Debug, Default)]
struct Inner {
    engine: Engine,
    unsaved: Vec<Change>,
}

/// Why an order on alarms was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undone {
    /// There is no such alarm that fires.
    NoSuchAlarm,
    /// The database does not take it now.
    Unavailable,
}

impl Desk {
    /// The alarms as they were when the manager stopped; notifications go to `targets`.
    ///
    /// # Errors
    /// What the database says.
    pub fn open(readers: &Readers, writer: Writer, targets: Vec<String>) -> Result<Self, StoreError> {
        let receivers = targets.clone();
        writer.work(move |db| outbox::start(db, &receivers)).ok_or(StoreError::Closed)?;
        let (alarms, silences, last) = readers.read(alarms::load)?;
        let engine = Engine::restore(alarms, silences, last);
        let inner = Mutex::new(Inner { engine, unsaved: Vec::new() });
        Ok(Self { inner, writer, targets })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The silences in force.
    #[must_use]
    pub fn silences(&self) -> Vec<Silence> {
        self.lock().engine.silences().to_vec()
    }

    /// Marks an alarm as known to someone; returns its sentence.
    ///
    /// # Errors
    /// See [`Undone`].
    pub fn acknowledge(&self, no: i64, now: i64) -> Result<String, Undone> {
        let mut inner = self.lock();
        let change = inner.engine.acknowledge(no, now).ok_or(Undone::NoSuchAlarm)?;
        let sentence = change.alarm.sentence.clone();
        inner.unsaved.push(change);
        if self.save(&mut inner) { Ok(sentence) } else { Err(Undone::Unavailable) }
    }

    /// Keeps alarms of a code or an agent from being told, or lifts that.
    ///
    /// # Errors
    /// See [`Undone`].
    pub fn silence(&self, silence: Silence, now: i64) -> Result<(), Undone> {
        let mut inner = self.lock();
        let changes = inner.engine.silence(silence.clone(), now);
        inner.unsaved.extend(changes);
        let kept = self.writer.work(move |db| alarms::silence(db, &silence, now)).is_some();
        if kept && self.save(&mut inner) { Ok(()) } else { Err(Undone::Unavailable) }
    }

    /// Takes what is true at a moment, and writes what changed.
    fn step(&self, findings: Vec<Finding>, moment: &Moment) {
        let mut inner = self.lock();
        let changes = inner.engine.step(findings, moment);
        for change in changes {
            log_change(&change);
            inner.unsaved.retain(|old| old.notify || old.alarm.no != change.alarm.no);
            inner.unsaved.push(change);
        }
        if inner.unsaved.len() > UNSAVED_MAX {
            let excess = inner.unsaved.len() - UNSAVED_MAX;
            inner.unsaved.drain(..excess);
        }
        self.save(&mut inner);
    }

    /// Writes what is not written yet; false while the database fails.
    fn save(&self, inner: &mut Inner) -> bool {
        if inner.unsaved.is_empty() {
            return true;
        }
        let (changes, targets) = (inner.unsaved.clone(), self.targets.clone());
        match self.writer.work(move |db| alarms::save(db, &changes, &targets)) {
            None => return false,
            Some(Saved::Done) => {}
            Some(Saved::Conflict(no)) => {
                log::warn!("alarm {no}: somebody else changed it; taking the alarms from the database anew");
                match self.writer.work(alarms::load) {
                    Some((alarms, silences, last)) => inner.engine = Engine::restore(alarms, silences, last),
                    None => return false,
                }
            }
        }
        inner.unsaved.clear();
        true
    }
}

fn log_change(change: &Change) {
    let alarm = &change.alarm;
    match alarm.state {
        Status::Firing if change.from != Some(Status::Firing) => {
            log::warn!("alarm {} {}: {}", alarm.no, alarm.code, alarm.sentence);
        }
        Status::Resolved if change.from != Some(Status::Resolved) => {
            log::info!("alarm {} {}: resolved: {}", alarm.no, alarm.code, alarm.sentence);
        }
        _ => {}
    }
}

/// One evaluation: what is found, and what the findings rest on. `touched` is what changed of the map since
/// the one before.
#[must_use]
pub fn evaluate(
    now: i64,
    (state, touched): (&State, Touched),
    (watches, sieve): (&mut Watches, &mut Sieve),
    agents: &BTreeMap<AgentId, Reporter>,
    manager: &ManagerFacts,
) -> (Vec<Finding>, Moment) {
    // Whether a host that reports by several relays has a shorter way is looked at with all that is known of it.
    let relayed = agents.iter().filter(|(_, agent)| agent.path.len() > 1).map(|(id, _)| *id);
    let relayed: Vec<AgentId> = relayed.collect();
    let (picked, tally) = sieve.pick(now, touched, state, watches, &relayed);
    let setting = Setting::new(now, (state, &tally), watches, agents, manager);
    let mut found = Vec::new();
    let agents_alone = parts(state, &picked.agents).map(|agents| (agents, &[][..]));
    let edges_alone = picked.edges.chunks(PART).map(|edges| (&[][..], edges));
    for (agents, edges) in agents_alone.chain(edges_alone) {
        let excerpt = state.excerpt(agents, edges);
        let local = local_findings(&Facts::new(&setting, agents, &excerpt));
        sieve.note(&local, &excerpt);
        found.extend(local);
    }
    let excerpt = state.excerpt(&relayed, &[]);
    let facts = Facts::new(&setting, &relayed, &excerpt);
    found.extend(whole_findings(&facts));
    let sweeps = sieve.due(now, state.len());
    for sweep in &sweeps {
        sieve.note_sweep(*sweep, sweep_findings(*sweep, &facts));
    }
    found.extend(sieve.swept().cloned());
    let mut recalled = watches.recalled.clone();
    recall::add(&mut recalled, &facts, &mut found);
    found.sort_by(|a, b| (a.code, &a.subject).cmp(&(b.code, &b.subject)));
    found.dedup_by(|later, first| (later.code, &later.subject) == (first.code, &first.subject));
    let parts = sweeps.contains(&Sweep::Parts).then(|| facts.parts().clone());
    let known = state.ids().chain(agents.keys().copied()).collect();
    let moment = Moment { now, dark: setting.dark, known, warming: false };
    watches.recalled = recalled;
    watches.note_up(now, tally.up);
    if let Some(parts) = parts {
        watches.note_mesh(parts, &moment.dark);
    }
    (found, moment)
}

/// Agents in parts to be looked at in one go.
fn parts<'a>(state: &State, mut agents: &'a [AgentId]) -> impl Iterator<Item = &'a [AgentId]> {
    std::iter::from_fn(move || {
        let mut room = PART;
        let fits = agents.iter().take_while(|id| {
            let is_first = room == PART;
            let weight = 1 + state.edges_with(**id);
            let fits = is_first || weight <= room;
            room = room.saturating_sub(weight);
            fits
        });
        let (part, rest) = agents.split_at(fits.count());
        agents = rest;
        (!part.is_empty()).then_some(part)
    })
}

/// What the evaluating thread looks at.
#[derive(Debug)]
pub struct Sources {
    /// The alarms.
    pub desk: Arc<Desk>,
    /// The live map.
    pub atlas: Atlas,
    /// The fleet.
    pub fleet: SharedFleet,
    /// The way to the writer.
    pub writer: Writer,
    /// Connections that read.
    pub readers: Readers,
    /// The PSKs in force.
    pub psks: SharedPsks,
    /// How reading the PSK went.
    pub psk_health: Arc<RwLock<PskHealth>>,
    /// What was refused.
    pub refusals: Arc<Refusals>,
    /// Receivers that do not take notifications: since when (ms), and why.
    pub notifier: Arc<Mutex<BTreeMap<String, (i64, String)>>>,
    /// Path of the database.
    pub database: PathBuf,
    /// When the manager started (ms).
    pub started: i64,
}

/// Evaluates every few seconds, until `stop`.
pub fn keep(sources: &Sources, stop: &Stop) {
    let mut keeper = Keeper { sources, sieve: Sieve::default(), refused: VecDeque::new(), write_ms: 0 };
    keeper.recall();
    while !stop.wait(PERIOD) {
        keeper.turn();
    }
}

struct Keeper<'a> {
    sources: &'a Sources,
    sieve: Sieve,
    /// How often each reason was given, at moments of the last ten minutes.
    refused: VecDeque<(i64, BTreeMap<&'static str, u64>)>,
    write_ms: u64,
}

impl Keeper<'_> {
    /// What rests on the past and is not in the last reports.
    fn recall(&mut self) {
        let old = self.sources.readers.read(alarms::old_keys).unwrap_or_default();
        let mut watches = self.sources.atlas.watches().write().unwrap_or_else(PoisonError::into_inner);
        watches.old_keys.extend(old.into_iter().map(|(key, agent, name, until)| (key, (agent, name, until))));
        let inner = self.sources.desk.lock();
        recall::recall(&mut watches, inner.engine.alarms(), self.sources.started);
    }

    fn turn(&mut self) {
        let sources = self.sources;
        let now = now_ms();
        let manager = self.manager(now);
        let agents = reporters(&sources.fleet.read().unwrap_or_else(PoisonError::into_inner));
        let touched = sources.atlas.take_touched();
        // In this order, as whoever takes in reports locks them.
        let mut watches = sources.atlas.watches().write().unwrap_or_else(PoisonError::into_inner);
        let state = sources.atlas.state();
        let (found, mut moment) =
            evaluate(now, (&state, touched), (&mut watches, &mut self.sieve), &agents, &manager);
        drop(state);
        let keys = std::mem::take(&mut watches.new_old_keys);
        drop(watches);
        let interval =
            agents.values().map(|agent| agent.interval_s.min(WARM_UP_INTERVAL)).max().unwrap_or(30);
        moment.warming = now - sources.started < WARM_UP * i64::from(interval) * 1000;
        if !keys.is_empty() {
            let kept = sources.writer.work(move |db| alarms::keep_old_keys(db, &keys));
            if kept.is_none() {
                log::warn!("database: WireGuard keys that were replaced could not be kept");
            }
        }
        sources.desk.step(found, &moment);
    }

    fn manager(&mut self, now: i64) -> ManagerFacts {
        let sources = self.sources;
        // How long a write waits, this one's own included.
        let started = Instant::now();
        let _ = sources.writer.work(|_| Ok(()));
        self.write_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let counts = sources.refusals.counts();
        self.refused.push_back((now, counts.clone()));
        while self.refused.front().is_some_and(|(at, _)| now - at > REFUSAL_WINDOW) {
            self.refused.pop_front();
        }
        let before = self.refused.front().map(|(_, counts)| counts.clone()).unwrap_or_default();
        let refused = counts.into_iter().map(|(code, count)| (code, count - before.get(code).unwrap_or(&0)));
        let psk = sources.psk_health.read().unwrap_or_else(PoisonError::into_inner).failure.clone();
        ManagerFacts {
            database_failure: sources.writer.health().failure,
            write_ms: self.write_ms,
            disk: disk(&sources.database),
            psk_failure: psk,
            psk_generation: psks::current(&sources.psks)
                .accepted
                .first()
                .map_or(0, |(generation, _)| *generation),
            refused: refused.collect(),
            refused_from: sources
                .refusals
                .last()
                .into_iter()
                .map(|(code, (ip, agent))| (code, (ip.to_canonical().to_string(), agent)))
                .collect(),
            notifier: sources.notifier.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

/// Room left on the disk of a file or folder, and the disk's size (bytes).
#[must_use]
#[allow(clippy::useless_conversion, reason = "32 bits on some machines")]
pub fn disk(path: &Path) -> Option<(u64, u64)> {
    let stat = nix::sys::statvfs::statvfs(path).ok()?;
    let unit = u64::from(stat.fragment_size());
    Some((u64::from(stat.blocks_available()) * unit, u64::from(stat.blocks()) * unit))
}
