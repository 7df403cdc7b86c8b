//! The one thread that writes. It takes what is queued into one transaction, commits, and only then
//! lets the senders know; while one commit waits for the disk the next batch gathers.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use proto::ack::{Ack, Code, Details};
use proto::ids::AgentId;
use proto::psk::Secret;
use rusqlite::Connection;

use super::batch::Batch;
pub use super::batch::Held;
pub use super::job::{Cutoff, Delivery, History, Registration, Reset, Respond};
use super::job::{Job, Work};
use super::retention::{self, Place};
use super::{agents, history, psks};
use crate::bases::Bases;
use crate::error::{Reject, StoreError};
use crate::fleet::SharedFleet;
use crate::inbox::{Inbox, News};
use crate::intake::{self, Live};
use crate::psks::SharedPsks;

/// Messages that wait to be written; the gate has at most as many connections.
const QUEUE: usize = 1024;
/// Messages in one transaction: enough to share one wait for the disk among many.
const BATCH: usize = 256;
/// Where hardly anything waits, how long the writer waits for more before it begins: each commit costs several
/// times what a report does, and a report can wait. DESIGN.md 10.2 has what it is worth.
const GATHER: Duration = Duration::from_millis(5);
/// Under load more than that wait already, and waiting would only cost time.
const FEW: usize = 2;
/// After this long the writer looks whether many came meanwhile, as they do from clients that were all answered at
/// once: then it waits no longer.
const GLANCE: Duration = Duration::from_millis(1);
const MANY: usize = 8;

/// How the writer fares, for the health check.
#[derive(Debug, Clone, Default)]
pub struct WriterHealth {
    /// Why the last transaction failed; `None` when it worked.
    pub failure: Option<String>,
    /// When a transaction last worked.
    pub committed: Option<Instant>,
    /// Transactions that worked since the start.
    pub commits: u64,
    /// Reports stored since the start.
    pub stored: u64,
    /// For how long the writer was held at most since the start.
    pub longest: Held,
}

/// The way to the writer thread.
#[derive(Clone)]
pub struct Writer {
    jobs: SyncSender<Job>,
    waiting: Arc<AtomicUsize>,
    health: Arc<RwLock<WriterHealth>>,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Writer")
    }
}

impl Writer {
    /// Starts the thread that owns `connection`; it ends after [`Writer::stop`].
    ///
    /// # Errors
    /// When the database cannot be read or no thread can be had.
    pub fn start(
        connection: Connection,
        (fleet, psks, bases): (SharedFleet, SharedPsks, Arc<Bases>),
        inbox: Arc<Inbox>,
    ) -> Result<(Self, JoinHandle<()>), StoreError> {
        let known = agents::load_all(&connection)?;
        fleet.write().unwrap_or_else(PoisonError::into_inner).agents = known;
        publish_psks(&connection, &psks)?;
        let (jobs, queue) = sync_channel(QUEUE);
        let health = Arc::new(RwLock::new(WriterHealth::default()));
        let waiting: Arc<AtomicUsize> = Arc::default();
        let mut thread = Thread {
            connection,
            live: HashMap::new(),
            fleet,
            psks,
            bases,
            inbox,
            waiting: Arc::clone(&waiting),
            health: Arc::clone(&health),
        };
        let handle = std::thread::Builder::new()
            .name("writer".into())
            .spawn(move || thread.run(&queue))
            .map_err(|_| StoreError::Closed)?;
        Ok((Self { jobs, waiting, health }, handle))
    }

    /// Stores a report; `respond` is called after the commit, or at once when the queue is full.
    pub fn report(&self, delivery: Delivery, respond: Respond) {
        self.send(Job::Report(Box::new(delivery), respond));
    }

    /// Confirms an agent's id, or issues another.
    pub fn register(&self, registration: Registration, respond: Respond) {
        self.send(Job::Register(registration, respond));
    }

    /// Hides or shows.
    pub fn reset(&self, reset: Reset, respond: Respond) {
        self.send(Job::Reset(reset, respond));
    }

    /// Makes `secret` the current PSK.
    pub fn rotate_psk(&self, secret: Secret) {
        self.send(Job::RotatePsk(secret, crate::clock::now_ms()));
    }

    /// One step of retention from `place` on; where the next one begins, `None` at the end or when it
    /// failed.
    #[must_use]
    pub fn retain(&self, before: Cutoff, place: Place) -> Option<Place> {
        let (done, next) = sync_channel(1);
        self.send(Job::Retain(before, place, done));
        next.recv_timeout(Duration::from_secs(30)).ok().flatten()
    }

    /// Writes changes of the map; true once they are on disk.
    #[must_use]
    pub fn history(&self, history: History) -> bool {
        let (done, result) = sync_channel(1);
        // Waits for room: the map can wait, and a change that is not written would be a lie later.
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.jobs.send(Job::History(history, done)).is_ok() && result.recv().unwrap_or(false)
    }

    /// Does `work` in the next transaction and waits for its commit; `None` when that failed.
    pub fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Option<T> {
        let (keep, kept) = sync_channel(1);
        let work: Work = Box::new(move |connection| {
            let _ = keep.try_send(work(connection)?);
            Ok(())
        });
        let (done, result) = sync_channel(1);
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.jobs.send(Job::Work(work, done)).ok()?;
        result.recv().unwrap_or(false).then(|| kept.try_recv().ok()).flatten()
    }

    /// Messages that wait to be written.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// How the writer fares.
    #[must_use]
    pub fn health(&self) -> WriterHealth {
        self.health.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has the thread end once everything queued is written.
    pub fn stop(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _ = self.jobs.send(Job::Stop);
    }

    fn send(&self, job: Job) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        match self.jobs.try_send(job) {
            Ok(()) => {}
            Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => {
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                job.refuse();
            }
        }
    }
}

struct Thread {
    connection: Connection,
    /// What is known of agents that were heard of since the start, uncommitted changes included.
    live: HashMap<AgentId, Live>,
    fleet: SharedFleet,
    psks: SharedPsks,
    bases: Arc<Bases>,
    inbox: Arc<Inbox>,
    waiting: Arc<AtomicUsize>,
    health: Arc<RwLock<WriterHealth>>,
}

impl Thread {
    fn run(&mut self, queue: &Receiver<Job>) {
        let mut stopping = false;
        while !stopping {
            let mut jobs = match queue.recv_timeout(Duration::from_secs(60)) {
                Ok(job) => vec![job],
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            jobs.extend(queue.try_iter().take(BATCH - 1));
            if jobs.len() <= FEW && jobs.iter().all(|job| matches!(job, Job::Report(..))) {
                std::thread::sleep(GLANCE);
                if self.waiting.load(Ordering::Relaxed) < MANY {
                    std::thread::sleep(GATHER - GLANCE);
                }
                jobs.extend(queue.try_iter().take(BATCH - jobs.len()));
            }
            self.waiting.fetch_sub(jobs.len(), Ordering::Relaxed);
            stopping = jobs.iter().any(|job| matches!(job, Job::Stop));
            self.write(jobs);
        }
        let _ = self.connection.execute_batch("PRAGMA optimize; PRAGMA wal_checkpoint(TRUNCATE);");
    }

    fn write(&mut self, jobs: Vec<Job>) {
        let mut batch = Batch::default();
        let mut waiting = jobs.into_iter();
        let outcome = self.transact(&mut waiting, &mut batch);
        let mut health = self.health.write().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(()) => {
                health.failure = None;
                health.committed = Some(Instant::now());
                health.commits += 1;
                health.stored += batch.stored;
                health.longest.extend(batch.held);
            }
            Err(error) => {
                if health.failure.is_none() {
                    log::error!("database: {error}; messages are refused until it works again");
                }
                health.failure = Some(error.to_string());
                drop(health);
                self.undo(batch);
                waiting.for_each(Job::refuse);
                return;
            }
        }
        drop(health);
        self.publish(&batch);
        let bases = std::mem::take(&mut batch.learned.bases);
        if !bases.is_empty() {
            self.bases.put(bases, crate::clock::now_ms());
        }
        self.inbox.tell(batch.learned.news);
        for (respond, answer) in batch.answers {
            respond(answer);
        }
        for (done, word) in batch.told {
            let _ = done.try_send(word);
        }
        for (done, next) in batch.walked {
            let _ = done.try_send(next);
        }
    }

    /// All jobs in one transaction. Jobs that were not begun when it fails stay in `jobs`.
    fn transact(
        &mut self,
        jobs: &mut impl Iterator<Item = Job>,
        batch: &mut Batch,
    ) -> Result<(), StoreError> {
        let begun = Instant::now();
        let transaction = self.connection.unchecked_transaction()?;
        for job in jobs {
            let started = Instant::now();
            match job {
                Job::Report(delivery, respond) => {
                    batch.touched.push(delivery.header.agent);
                    let answer = intake::report(&transaction, &mut self.live, *delivery, &mut batch.learned);
                    batch.stored += u64::from(matches!(&answer, Ok(Ok(ack)) if ack.code == Code::Stored));
                    batch.answer(respond, answer)?;
                }
                Job::Register(registration, respond) => {
                    batch.touched.push(registration.agent);
                    let answer = intake::register(&transaction, &mut self.live, &registration);
                    batch.answer(respond, answer)?;
                }
                Job::Reset(Reset { agent, at }, respond) => {
                    batch.reload = true;
                    let answer = agents::reset(&transaction, agent, at).map(|count| match (count, agent) {
                        (0, Some(_)) => Err(Reject::NoSuchAgent),
                        _ => Ok(done(count)),
                    });
                    batch.answer(respond, answer)?;
                }
                Job::RotatePsk(secret, now) => {
                    batch.psks = true;
                    psks::rotate(&transaction, &secret, now)?;
                }
                Job::Retain(before, place, done) => {
                    let next = retention::step(&transaction, before, place)?;
                    batch.walked.push((done, next));
                    batch.held.retention = batch.held.retention.max(started.elapsed());
                }
                Job::History(History { at, events, map }, done) => {
                    history::append(&transaction, at, &events)?;
                    if let Some(map) = map {
                        history::keep_map(&transaction, at, &map)?;
                    }
                    batch.held.history = batch.held.history.max(started.elapsed());
                    batch.told.push((done, true));
                }
                Job::Work(work, done) => {
                    work(&transaction)?;
                    batch.told.push((done, true));
                }
                Job::Stop => {}
            }
        }
        transaction.commit()?;
        batch.held.transaction = begun.elapsed();
        Ok(())
    }

    /// After a failed transaction: nothing of it may stay in memory, and every sender must know.
    fn undo(&mut self, batch: Batch) {
        for id in &batch.touched {
            self.live.remove(id);
        }
        for (respond, _) in batch.answers {
            respond(Err(Reject::Unavailable));
        }
    }

    /// Shows the other threads what is now committed.
    fn publish(&mut self, batch: &Batch) {
        if batch.psks
            && let Err(error) = publish_psks(&self.connection, &self.psks)
        {
            log::error!("database: reading the PSKs: {error}");
        }
        if batch.reload {
            match agents::load_all(&self.connection) {
                Ok(known) => {
                    self.live.clear();
                    self.fleet.write().unwrap_or_else(PoisonError::into_inner).agents = known;
                    self.inbox.tell(vec![News::Reload]);
                }
                Err(error) => log::error!("database: reading the agents: {error}"),
            }
            return;
        }
        let mut fleet = self.fleet.write().unwrap_or_else(PoisonError::into_inner);
        for id in &batch.touched {
            if let Some(live) = self.live.get(id) {
                fleet.agents.insert(*id, Arc::clone(&live.agent));
            }
        }
    }
}

fn done(count: usize) -> Ack {
    let details = Details { message: format!("{count} agents"), ..Details::default() };
    Ack { code: Code::Done, at: crate::clock::now_ms(), details }
}

fn publish_psks(connection: &Connection, shared: &SharedPsks) -> Result<(), StoreError> {
    let psks = Arc::new(psks::load(connection)?);
    let mut shared = shared.write().unwrap_or_else(PoisonError::into_inner);
    let generation = |psks: &crate::psks::Psks| psks.accepted.first().map(|(generation, _)| *generation);
    if let Some(now) = generation(&psks).filter(|now| generation(&shared) != Some(*now)) {
        log::info!("psk: generation {now} is the current one, {} are accepted", psks.accepted.len());
    }
    *shared = psks;
    Ok(())
}
