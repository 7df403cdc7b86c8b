//! The loop: collect, report, sign, deliver, wait.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime};

use proto::ids::{AgentId, Nonce};
use proto::limits;
use proto::report::{Delivery, SystemData};

use crate::clock::Moment;
use crate::collect::{self, Sources};
use crate::courier::{Courier, Verdict};
use crate::deliver::Reason;
use crate::discover;
use crate::jitter;
use crate::message::Message;
use crate::psk_keeper::Reading;
use crate::repeats::Repeats;
use crate::report;
use crate::route::Tried;
use crate::shared::{Identity, Shared};
use crate::spool::Spool;

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
    spool: Spool,
    /// Who this agent was when the last tick was given out.
    identity: Identity,
    tick: u64,
    registered: bool,
    delivered_once: bool,
    dropped: u64,
    failures: Repeats,
    refused_contacts: Repeats,
}

impl Cycle {
    /// A loop that has not begun.
    #[must_use]
    pub fn new(sources: Sources, shared: Arc<Shared>, courier: Courier, interval: Duration) -> Self {
        let identity = shared.identity();
        Self {
            sources,
            shared,
            courier,
            interval,
            spool: Spool::default(),
            identity,
            tick: 0,
            registered: false,
            delivered_once: false,
            dropped: 0,
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
            }
            let next = next_turn.min(self.courier.psk().due());
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
            self.spool.add(report);
        }
        self.register();
        self.deliver_what_waits();
        self.dropped += self.spool.trim();
    }

    /// Reads the host and makes a report of it.
    fn collect(&mut self) -> Option<Message> {
        let then = Moment::now();
        let (system, problems) = collect::collect(&self.sources, SystemTime::now());
        self.shared.set_host(&system);
        self.set_neighbours(&system);
        let clock = self.shared.clock();
        let hardware = self.shared.hardware().to_owned();
        let mut report = report::new(system, problems, hardware, self.interval);
        report.observed_at = clock.manager_time(then);
        report.clock_offset_ms = clock.offset();
        report.delivery =
            Delivery { spooled: self.spool.len(), dropped: self.dropped, distance: self.shared.distance() };
        let json = report::to_json(&mut report);
        let nonce = nonce()?;
        self.tick += 1;
        Some(Message::report(self.tick, nonce, json, then, report.observed_at))
    }

    fn set_neighbours(&self, system: &SystemData) {
        let addresses = discover::neighbours(system, &[]);
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
        let mut hello = Message::register(nonce, self.shared.hardware(), &self.shared.peer().host.hostname);
        match self.courier.deliver(&mut hello, &self.shared, Tried::known_only(Instant::now())) {
            Verdict::Delivered => self.registered = true,
            Verdict::NewId(id) => self.registered = self.become_another(Some(id)),
            Verdict::NewBoot => self.registered = false,
            Verdict::Held(reason) if reason.is_unreached() => log::debug!("first contact: {reason}"),
            Verdict::Held(reason) | Verdict::Dropped(reason) => {
                let told = format!("the manager has not confirmed our id: {reason}");
                if let Some(told) = self.refused_contacts.note(told, Instant::now()) {
                    log::warn!("{told}");
                }
            }
        }
    }

    /// Newest first, until nothing waits or something fails.
    fn deliver_what_waits(&mut self) {
        let mut changed = false;
        while let Some(mut report) = self.spool.take_newest() {
            if self.follow_resets() {
                return;
            }
            let id = match self.courier.deliver(&mut report, &self.shared, Tried::new(Instant::now())) {
                Verdict::Delivered => {
                    self.succeeded();
                    continue;
                }
                Verdict::Dropped(reason) => {
                    self.dropped += 1;
                    self.failed(&format!("a report was given up: {reason}"));
                    continue;
                }
                Verdict::Held(reason) => {
                    self.spool.add(report);
                    self.failed(&reason.to_string());
                    return;
                }
                Verdict::NewId(id) => Some(id),
                Verdict::NewBoot => None,
            };
            self.spool.add(report);
            // Once a turn: a manager that is never content must not keep us busy.
            if changed || !self.become_another(id) {
                self.failed(&id.map_or(Reason::Replayed, |_| Reason::DuplicateId).to_string());
                return;
            }
            changed = true;
        }
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
        self.tick = 0;
        for report in self.spool.iter_mut() {
            self.tick += 1;
            report.tick = self.tick;
            report.nonce = nonce().unwrap_or(report.nonce);
        }
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
            self.spool.clear();
            (self.tick, self.dropped, self.registered) = (0, 0, false);
        }
        reset
    }

    fn succeeded(&mut self) {
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
        if self.courier.read_psk(&self.shared) == Reading::First && !self.spool.is_empty() {
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
