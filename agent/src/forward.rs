//! Passes messages of other agents on: to the manager, or to this agent's own best relay, and to
//! nothing else. The answer goes back as it came.

use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gate::{Answer, Reply, Request};
use proto::ack::Code;
use proto::envelope::{Envelope, Header};
use proto::limits::{agent_path, manager_path};
use proto::psk::Secret;
use proto::sign::Kind;

use crate::api_error::ApiError;
use crate::clock::Moment;
use crate::config::ManagerUrl;
use crate::cycle::Nudge;
use crate::deliver::Outcome;
use crate::pool::Pool;
use crate::push::{Client, Time};
use crate::relay::{self, NotPassed, Refusal, Seen};
use crate::route::Onward;
use crate::shared::Shared;
use crate::way::Way;

/// How long a sender waits for its first relay. Each further relay has some seconds less, so that an
/// answer from the far end finds everyone still waiting.
pub const ORIGIN_TIME: Duration = Duration::from_secs(12);
/// What each relay keeps for itself of the time that its sender waits.
const STEP: Duration = Duration::from_secs(3);
/// How long a relay waits for the manager itself: a part of its own [`STEP`].
const MANAGER_TIME: Time = Time { connect: Duration::from_millis(1500), whole: Duration::from_millis(2500) };
/// How long a connection to a neighbour may take.
pub const NEIGHBOUR_CONNECT: Duration = Duration::from_secs(2);
/// A message that does not verify has the PSK's source read no more often than this.
const PSK_CHECK: Duration = Duration::from_secs(60);

/// What it takes to pass messages on.
#[derive(Debug)]
pub struct Forwarder {
    shared: Arc<Shared>,
    client: Client,
    manager: ManagerUrl,
    nudge: Sender<Nudge>,
    seen: Mutex<Seen>,
    psk_checked: Mutex<Option<Instant>>,
    pool: Pool,
}

impl Forwarder {
    /// A forwarder that has passed nothing on yet.
    #[must_use]
    pub fn new(shared: Arc<Shared>, client: Client, manager: ManagerUrl, nudge: Sender<Nudge>) -> Self {
        Self {
            shared,
            client,
            manager,
            nudge,
            seen: Mutex::default(),
            psk_checked: Mutex::default(),
            pool: Pool::default(),
        }
    }

    /// Answers a request later, from a thread of its own, or at once when too many are in work.
    pub fn submit(self: &Arc<Self>, request: Request, reply: Reply) {
        let source = request.peer.ip();
        // Whoever takes it out answers: the job, or this thread when there is no room for the job.
        let reply = Arc::new(Mutex::new(Some(reply)));
        let take = |reply: &Mutex<Option<Reply>>| reply.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (this, later) = (Arc::clone(self), Arc::clone(&reply));
        let job = move || {
            let answer = this.pass(&request.body).unwrap_or_else(|error| {
                log::debug!("not passed on for {source}: {error}");
                error.answer()
            });
            if let Some(reply) = take(&later) {
                reply.send(answer);
            }
        };
        if !self.pool.submit(source, job) {
            self.shared.counters.relay.busy.add();
            if let Some(reply) = take(&reply) {
                reply.send(ApiError::Busy.answer());
            }
        }
    }

    fn pass(&self, body: &[u8]) -> Result<Answer, ApiError> {
        let counters = &self.shared.counters.relay;
        let secrets = self.shared.secrets();
        if secrets.is_empty() {
            return Err(ApiError::NoPsk);
        }
        let (envelope, secret) = relay::open(body, &secrets).map_err(|error| {
            counters.refused.add();
            self.check_psk(&error);
            ApiError::from(error)
        })?;
        let moment = Moment::now();
        let now = self.shared.clock().manager_time(moment);
        let onward = self.judge(&envelope, moment);
        let refuse = |refusal: Refusal| {
            counters.refused.add();
            log::debug!(
                "{} of agent {} refused: {}",
                envelope.header.kind,
                envelope.header.agent,
                refusal.message()
            );
            let (status, bytes) = refusal.answer(&envelope.header, secret, now);
            Answer::bare(status, bytes)
        };
        let ways = match onward {
            Err(refusal) => return Ok(refuse(refusal)),
            Ok(Onward::TooFar) => return Ok(refuse(Refusal::Hops)),
            Ok(Onward::NoWay) => Vec::new(),
            Ok(Onward::Ways(ways)) => ways,
        };
        match self.send(envelope, secret, now, &ways) {
            Some((status, bytes)) => {
                counters.passed.add();
                Ok(Answer::bare(status, bytes))
            }
            None => {
                counters.no_way.add();
                Err(ApiError::NoWay)
            }
        }
    }

    fn judge(&self, envelope: &Envelope<'_>, moment: Moment) -> Result<Onward, Refusal> {
        let own = self.shared.identity().agent;
        let header = &envelope.header;
        relay::judge(header, own, self.shared.proven_time(moment))?;
        let now = Instant::now();
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).note(header.mac, now)?;
        let mut passed: Vec<_> = header.path.iter().map(|hop| hop.agent).collect();
        passed.push(header.agent);
        Ok(self.shared.with_route(|route| route.onward(own, &passed, header.path.len(), now)))
    }

    /// Sends a message on, one way after the other, until there is an answer worth bringing back: one
    /// that is signed, or at least one that says that the sender's PSK is not accepted.
    fn send(
        &self,
        mut envelope: Envelope<'_>,
        secret: &Secret,
        now: i64,
        ways: &[Way],
    ) -> Option<(u16, Vec<u8>)> {
        // With the PSK of the message: whoever accepts that one can verify this entry too.
        envelope.header.add_hop(self.shared.identity().agent, now, secret).ok()?;
        let bytes = envelope.to_bytes();
        let mut second_best = None;
        let mut failed = 0;
        for way in ways {
            match self.send_once(way, &envelope.header, &bytes) {
                Ok((status, body)) => {
                    let Header { nonce, mac, .. } = &envelope.header;
                    let outcome = Outcome::of_answer(status, &body, *nonce, mac, secret);
                    match self.weigh(way, &outcome) {
                        Worth::Bring => return Some((status, body)),
                        Worth::SecondBest => second_best = Some((status, body)),
                        Worth::Nothing { way_failed } => failed += u32::from(way_failed),
                    }
                }
                // A manager that is slow now is still reached: this agent's own report, which may
                // take longer, finds out whether it answers at all.
                Err(error) if error.late && *way == Way::Direct => log::debug!("passing on: {error}"),
                Err(error) => {
                    log::debug!("passing on: {error}");
                    self.shared.with_route(|route| route.failed(way, Instant::now()));
                    failed += 1;
                }
            }
        }
        if failed > 0 && second_best.is_none() {
            self.shared.with_route(|route| route.gave_up(Instant::now()));
        }
        second_best
    }

    fn send_once(
        &self,
        way: &Way,
        header: &Header,
        bytes: &[u8],
    ) -> Result<(u16, Vec<u8>), crate::push::PushError> {
        let sent = &self.shared.counters.sent;
        match way {
            Way::Direct => {
                sent.manager.add();
                let path = match header.kind {
                    Kind::Register => manager_path::REGISTER,
                    _ => manager_path::UPDATES,
                };
                self.client.post(&self.manager.of(path), bytes, MANAGER_TIME)
            }
            Way::Relay(relay) => {
                sent.relay.add();
                let url = format!("http://{}{}", relay.address, agent_path::RELAY);
                let hops = u32::try_from(header.path.len()).unwrap_or(u32::MAX);
                let whole = ORIGIN_TIME.saturating_sub(STEP.saturating_mul(hops));
                self.client.post(&url, bytes, Time { connect: NEIGHBOUR_CONNECT, whole })
            }
        }
    }

    /// What an answer is worth to the sender, and what it tells of the way. Whatever an unsigned one
    /// says, it must not turn this agent away from the manager: someone else may have provoked it.
    fn weigh(&self, way: &Way, outcome: &Outcome) -> Worth {
        match outcome {
            Outcome::Answered(ack) if ack.code == Code::RelayRefused => {
                self.shared.with_route(|route| route.failed(way, Instant::now()));
                Worth::SecondBest
            }
            Outcome::Answered(_) => {
                self.shared.with_route(|route| route.worked(way));
                Worth::Bring
            }
            Outcome::Unsigned(unsigned) if unsigned.status == 401 => Worth::SecondBest,
            Outcome::Unsigned(unsigned) => {
                log::debug!("passing on: {unsigned}");
                let way_failed = matches!(way, Way::Relay(_));
                if way_failed {
                    self.shared.with_route(|route| route.failed(way, Instant::now()));
                }
                Worth::Nothing { way_failed }
            }
            Outcome::Failed(_) => Worth::Nothing { way_failed: true },
        }
    }

    /// A sender may know of a rotation earlier than this agent.
    fn check_psk(&self, error: &NotPassed) {
        if !matches!(error, NotPassed::BadMac | NotPassed::BadPath) {
            return;
        }
        let now = Instant::now();
        let mut checked = self.psk_checked.lock().unwrap_or_else(PoisonError::into_inner);
        if checked.is_none_or(|last| now.saturating_duration_since(last) >= PSK_CHECK) {
            *checked = Some(now);
            // Without a loop to hear it the process is ending anyway.
            let _ = self.nudge.send(Nudge::ReadPsk);
        }
    }
}

/// What an answer is worth to the sender.
enum Worth {
    Bring,
    SecondBest,
    Nothing { way_failed: bool },
}
