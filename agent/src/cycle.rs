//! The loop: collect, report, sign, deliver, wait.

use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use proto::ids::{AgentId, Nonce};
use proto::limits;
use proto::report::{Delivery, SystemData};

use crate::backoff::Backoff;
use crate::clock::Moment;
use crate::collect::{self, Sources};
use crate::courier::{Courier, Verdict};
use crate::deliver::Reason;
use crate::discover;
use crate::jitter;
use crate::message::Message;
use crate::prober::Prober;
use crate::probes::Probes;
use crate::psk_keeper::Reading;
use crate::repeats::Repeats;
use crate::report;
use crate::route::Tried;
use crate::shared::{Identity, Shared};
use crate::spool::{Now, Spool};
use crate::way::Way;

/// Reports sent in one go: the newest, and some of those that wait behind it.
const BATCH: usize = 6;
/// Time between two batches while all goes well: directly, and through relays, whose time it is too.
const PAUSE: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(6)];
/// Longest wait before a delivery that failed is tried again; usually the next turn comes first.
const RETRY: Duration = Duration::from_secs(60);
/// From this age, or two intervals where that is more, a manager takes a report of an earlier start
/// for the past; with a few seconds for its way.
const PAST: Duration = Duration::from_secs(65);

/// A word to the loop from another thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nudge {
    /// Take the next turn now.
    Turn,
    /// Read the PSK's source: a message of another agent did not verify.
    ReadPsk,
    /// End.
    Stop,
}

/// Everything that the loop keeps from turn to turn.
#[derive(Debug)]
pub struct Cycle {
    sources: Sources,
    shared: Arc<Shared>,
    courier: Courier,
    interval: Duration,
    spool: Arc<Mutex<Spool>>,
    /// Who this agent was when the last tick was given out.
    identity: Identity,
    tick: u64,
    registered: bool,
    delivered_once: bool,
    prober: Prober,
    /// How often delivery failed in a row, and when it is tried again.
    retry: Backoff,
    /// When the next batch of what waits goes out.
    drain: Option<Instant>,
    failures: Repeats,
    refused_contacts: Repeats,
}

impl Cycle {
    /// A loop that has not begun; `spool` may hold what an earlier start left.
    #[must_use]
    pub fn new(sources: Sources, shared: Arc<Shared>, courier: Courier, spool: Arc<Mutex<Spool>>) -> Self {
        let (identity, interval) = (shared.identity(), shared.interval());
        let prober = Prober::new(Arc::clone(&shared));
        Self {
            sources,
            shared,
            courier,
            interval,
            spool,
            identity,
            tick: 0,
            registered: false,
            delivered_once: false,
            prober,
            retry: Backoff::default(),
            drain: None,
            failures: Repeats::default(),
            refused_contacts: Repeats::default(),
        }
    }

    /// Takes turns until it is told to stop. The first one comes at once.
    pub fn run(mut self, nudges: &Receiver<Nudge>) {
        let mut next_turn = Instant::now();
        loop {
            self.read_psk_when_due();
            if Instant::now() >= next_turn {
                next_turn = Instant::now() + jitter::around(self.interval, jitter::random());
                self.turn();
            } else if self.next_delivery().is_some_and(|at| Instant::now() >= at) {
                self.deliver_what_waits();
            }
            let next = next_turn.min(self.courier.psk().due());
            let next = self.next_delivery().map_or(next, |at| next.min(at));
            match nudges.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(Nudge::Turn) => next_turn = Instant::now(),
                Ok(Nudge::ReadPsk) => self.read_psk_early(),
                Ok(Nudge::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn turn(&mut self) {
        self.follow_resets();
        if let Some(report) = self.collect() {
            self.spool().add(report, Moment::now());
        }
        self.register();
        self.deliver_what_waits();
        // At the end: a busy router measures badly.
        self.prober.begin();
    }

    /// When what waits is tried again, if not in a turn before.
    fn next_delivery(&self) -> Option<Instant> {
        self.drain.or_else(|| self.retry.until())
    }

    fn spool(&self) -> MutexGuard<'_, Spool> {
        // Every change is whole, so a panic elsewhere leaves nothing half done.
        self.spool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the host and makes a report of it.
    fn collect(&mut self) -> Option<Message> {
        let then = Moment::now();
        let (mut system, problems) = collect::collect(&self.sources, SystemTime::now());
        self.shared.set_host(&system);
        self.set_neighbours(&system);
        // Not in the first turn: where a whole fleet starts, the others do not listen yet.
        if self.tick > 0 {
            self.prober.plan(&system);
        }
        self.prober.with(|probes| probes.fill(&mut system, Instant::now()));
        let clock = self.shared.clock();
        let hardware = self.shared.hardware().to_owned();
        let mut report = report::new(system, problems, hardware, self.interval);
        report.observed_at = clock.manager_time(then);
        report.clock_offset_ms = clock.offset();
        let (spooled, dropped) = {
            let spool = self.spool();
            (spool.len(), spool.dropped())
        };
        report.delivery = Delivery { spooled, dropped, distance: self.shared.distance() };
        let json = report::to_json(&mut report);
        let nonce = nonce()?;
        self.tick += 1;
        Some(Message::report(self.identity.boot, self.tick, nonce, json, then, report.observed_at))
    }

    fn set_neighbours(&self, system: &SystemData) {
        let addresses = discover::neighbours(system, &self.prober.with(Probes::agents));
        let endpoint = |&address: &IpAddr| SocketAddr::new(address, limits::AGENT_PORT);
        let endpoints: Vec<_> = addresses.iter().map(endpoint).collect();
        self.shared.with_route(|route| route.set_neighbours(&endpoints));
    }

    /// Says hello until the manager has confirmed this agent's id. Reports do not wait for that.
    fn register(&mut self) {
        if self.registered || self.courier.psk().secrets().is_empty() {
            return;
        }
        let Some(nonce) = nonce() else { return };
        let hostname = self.shared.peer().host.hostname;
        let mut hello = Message::register(self.identity.boot, nonce, self.shared.hardware(), &hostname);
        match self.courier.deliver(&mut hello, &self.shared, Tried::known_only(Instant::now())) {
            Verdict::Delivered => self.registered = true,
            Verdict::NewId(id) => self.registered = self.become_another(Some(id)),
            Verdict::NewBoot => self.registered = false,
            Verdict::Held(reason) if reason.is_unreached() => log::debug!("first contact: {reason}"),
            Verdict::Held(reason) | Verdict::Unwanted(reason) | Verdict::Dropped(reason) => {
                let told = format!("the manager has not confirmed our id: {reason}");
                if let Some(told) = self.refused_contacts.note(told, Instant::now()) {
                    log::warn!("{told}");
                }
            }
        }
    }

    /// One batch of what waits, newest first, until something fails.
    fn deliver_what_waits(&mut self) {
        self.drain = None;
        let mut changed = false;
        for _ in 0..BATCH {
            if self.follow_resets() {
                return;
            }
            let Some(mut report) = self.next_report() else {
                self.retry.succeeded();
                return;
            };
            let nonce = report.nonce;
            let id = match self.courier.deliver(&mut report, &self.shared, Tried::new(Instant::now())) {
                Verdict::Delivered => {
                    self.spool().remove(nonce);
                    self.succeeded();
                    continue;
                }
                Verdict::Dropped(reason) => {
                    self.spool().give_up(nonce);
                    self.failed(&format!("a report was given up: {reason}"));
                    continue;
                }
                Verdict::Unwanted(reason) => {
                    self.spool().refused(nonce, Instant::now());
                    self.failed(&reason.to_string());
                    continue;
                }
                Verdict::Held(reason) => return self.wait_after(&reason.to_string()),
                // Someone used the name of a report of an earlier start: that one alone is lost.
                Verdict::NewBoot if report.boot != self.identity.boot => {
                    self.spool().give_up(nonce);
                    continue;
                }
                Verdict::NewId(id) => Some(id),
                Verdict::NewBoot => None,
            };
            // Once a turn: a manager that is never content must not keep us busy.
            if changed || !self.become_another(id) {
                return self.wait_after(&id.map_or(Reason::Replayed, |_| Reason::DuplicateId).to_string());
            }
            changed = true;
        }
        let relayed = self.shared.with_route(|route| route.current()).is_some_and(|way| way != Way::Direct);
        let pause = jitter::around(PAUSE[usize::from(relayed)], jitter::random());
        self.drain = self.next_report().map(|_| Instant::now() + pause);
    }

    fn next_report(&self) -> Option<Message> {
        let past = PAST.max(self.interval * 2 + Duration::from_secs(5)).as_millis();
        let past = i64::try_from(past).unwrap_or(i64::MAX);
        let (instant, moment) = (Instant::now(), Moment::now());
        self.spool().next(Now { instant, moment, boot: self.identity.boot, past })
    }

    fn wait_after(&mut self, why: &str) {
        self.retry.failed(Instant::now(), RETRY, jitter::random());
        self.failed(why);
    }

    /// Goes on under the manager's id for us, or with a new boot id. What waits is numbered anew.
    fn become_another(&mut self, id: Option<AgentId>) -> bool {
        if self.follow_resets() {
            return false;
        }
        let before = self.identity.agent;
        let result = match id {
            Some(id) => self.shared.take_id(before, id),
            None => self.shared.new_boot(),
        };
        if let Err(error) = result {
            log::error!("{error}");
        }
        if self.shared.identity() == self.identity {
            return false;
        }
        self.identity = self.shared.identity();
        self.registered = false;
        let tick = self.spool().renumber(self.identity.boot, nonce);
        self.tick = tick;
        match id {
            Some(id) => log::warn!("agent id {before} belongs to another host: the manager made us {id}"),
            None => log::warn!("the manager knows this start's ticks already: going on with a new boot id"),
        }
        true
    }

    /// After a reset nothing of the time before counts. True when there was one.
    fn follow_resets(&mut self) -> bool {
        let identity = self.shared.identity();
        let reset = identity != self.identity;
        if reset {
            self.identity = identity;
            self.spool().clear();
            (self.tick, self.registered) = (0, false);
        }
        reset
    }

    fn succeeded(&mut self) {
        self.retry.succeeded();
        let (distance, _) = self.shared.with_route(|route| route.reach());
        self.shared.succeeded(distance.unwrap_or(0));
        let manager = self.courier.manager();
        if !self.delivered_once {
            self.delivered_once = true;
            log::info!("first report delivered to {manager} by agent {}", self.identity.agent);
        } else if self.failures.over() {
            log::info!("reports reach {manager} again");
        }
    }

    fn failed(&mut self, why: &str) {
        self.shared.failed(why.to_owned());
        let told = format!("report to {} not delivered: {why}", self.courier.manager());
        if let Some(told) = self.failures.note(told, Instant::now()) {
            log::warn!("{told}");
        }
    }

    fn read_psk_when_due(&mut self) {
        if Instant::now() < self.courier.psk().due() {
            return;
        }
        if self.courier.read_psk(&self.shared) == Reading::First && !self.spool().is_empty() {
            self.register();
            self.deliver_what_waits();
        }
    }

    fn read_psk_early(&mut self) {
        if self.courier.psk().may_read_early(Instant::now()) {
            self.courier.read_psk(&self.shared);
        }
    }
}

fn nonce() -> Option<Nonce> {
    Nonce::random().map_err(|error| log::error!("no report: no random numbers: {error}")).ok()
}
