//! Carries one message to the manager: find a way, sign, push, judge the answer, and do what
//! `deliver` decides.

use std::time::{Duration, Instant};

use proto::ack::Code;
use proto::ids::AgentId;
use proto::limits::{agent_path, manager_path};
use proto::sign::Kind;

use crate::basis::{Basis, Form};
use crate::clock::Moment;
use crate::config::ManagerUrl;
use crate::deliver::{self, Decision, Neighbours, Outcome, Reason, Tries};
use crate::discover;
use crate::forward::{NEIGHBOUR_CONNECT, ORIGIN_TIME};
use crate::message::Message;
use crate::psk_keeper::{PskKeeper, Reading};
use crate::push::{self, Client, Time};
use crate::route::{Patience, Step, Tried};
use crate::shared::Shared;
use crate::way::{Heard, Way};

/// How long a first contact may take: reports wait for it.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(4);
/// Sendings of one message one way: the first, one with the manager's time, one with a PSK just
/// read, one with each of two older ones, one whole. A bound for what should end by itself.
const SENDINGS_MAX: usize = 7;
/// The connection of a quick try takes a fifteenth of the interval, within these bounds: 2 s of 30.
const QUICK: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));

/// How a message fared in the end.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The manager has it.
    Delivered,
    /// The manager wants this agent to be another one.
    NewId(AgentId),
    /// The manager wants a new boot id.
    NewBoot,
    /// It will never be taken.
    Dropped(Reason),
    /// It waits.
    Held(Reason),
    /// It waits because of what it is, or so unsigned answers say: others may be taken.
    Unwanted(Reason),
}

/// What it takes to reach the manager.
#[derive(Debug)]
pub struct Courier {
    client: Client,
    manager: ManagerUrl,
    psk: PskKeeper,
    basis: Basis,
    /// Why the direct way failed last, for when it is not even tried.
    direct: Reason,
    last: Option<Way>,
}

impl Courier {
    /// A courier that has sent nothing yet.
    #[must_use]
    pub fn new(client: Client, manager: ManagerUrl, psk: PskKeeper) -> Self {
        let direct = Reason::NoAnswer(format!("{manager}: not tried yet"));
        Self { client, manager, psk, basis: Basis::default(), direct, last: None }
    }

    /// Where messages go.
    #[must_use]
    pub fn manager(&self) -> &ManagerUrl {
        &self.manager
    }

    /// The PSKs to sign with.
    #[must_use]
    pub fn psk(&self) -> &PskKeeper {
        &self.psk
    }

    /// Reads the PSK, for this agent's own messages and for those that it passes on.
    pub fn read_psk(&mut self, shared: &Shared) -> Reading {
        let reading = self.psk.read();
        if matches!(reading, Reading::First | Reading::Rotated) {
            shared.set_secrets(self.psk.secrets());
        }
        reading
    }

    /// Brings a message to the manager, over one way after the other, or finds out why not.
    pub fn deliver(&mut self, message: &mut Message, shared: &Shared, mut tried: Tried) -> Verdict {
        let own = shared.identity().agent;
        let (mut unwanted, mut relay_failed) = (false, None);
        loop {
            match shared.with_route(|route| route.next(own, &mut tried, Instant::now())) {
                Step::Ask(neighbours) => self.ask(&neighbours, shared),
                Step::Try(way, patience) => {
                    let verdict = self.deliver_by(&way, patience, message, shared);
                    let Some(reason) = unreached(&verdict, &way) else {
                        self.arrived(&way, &verdict, shared);
                        return verdict;
                    };
                    log::debug!("{} by way of {way:?}: {reason}", message.kind);
                    // Who refuses a first contact without a signature may still take reports.
                    if message.kind != Kind::Register || matches!(reason, Reason::NoAnswer(_)) {
                        shared.with_route(|route| route.failed(&way, Instant::now()));
                    }
                    match way {
                        Way::Direct => {
                            unwanted = matches!(reason, Reason::RefusedUnread(_));
                            self.direct = reason.clone();
                        }
                        Way::Relay(_) => relay_failed = Some(reason.clone()),
                    }
                }
                Step::GiveUp => {
                    let reason = self.no_way(message.kind, relay_failed, shared);
                    return if unwanted { Verdict::Unwanted(reason) } else { Verdict::Held(reason) };
                }
            }
        }
    }

    fn no_way(&self, kind: Kind, relay_failed: Option<Reason>, shared: &Shared) -> Reason {
        let has_neighbours = shared.with_route(|route| {
            if kind != Kind::Register {
                route.gave_up(Instant::now());
            }
            route.has_neighbours()
        });
        let neighbours = match relay_failed {
            Some(reason) => Neighbours::Failed(Box::new(reason)),
            None if has_neighbours => Neighbours::Unable,
            None => Neighbours::None,
        };
        Reason::NoWay(Box::new(self.direct.clone()), neighbours)
    }

    /// The manager's own word came back this way.
    fn arrived(&mut self, way: &Way, verdict: &Verdict, shared: &Shared) {
        if *verdict == Verdict::Held(Reason::NoPsk) {
            return;
        }
        shared.with_route(|route| route.worked(way));
        match (way, self.last) {
            (Way::Direct, Some(Way::Relay(_))) => log::info!("{} answers directly again", self.manager),
            (Way::Relay(relay), last) if !matches!(last, Some(Way::Relay(used)) if used.agent == relay.agent) =>
            {
                log::warn!(
                    "{} does not answer here ({}): reports go through agent {} at {}, which is {} relays from it",
                    self.manager,
                    self.direct,
                    relay.agent,
                    relay.address,
                    relay.distance
                );
            }
            _ => {}
        }
        self.last = Some(*way);
    }

    fn deliver_by(
        &mut self,
        way: &Way,
        patience: Patience,
        message: &mut Message,
        shared: &Shared,
    ) -> Verdict {
        let own = shared.identity().agent;
        let mut tries = Tries::default();
        for _ in 0..SENDINGS_MAX {
            let Some(outcome) = self.send(way, patience, message, tries.psk, shared) else {
                return Verdict::Held(Reason::NoPsk);
            };
            match self.decide(message.kind, own, outcome, &mut tries, shared) {
                Decision::SignAgain { at } => {
                    if !learn_time(at, shared) {
                        return Verdict::Held(Reason::ClockSkew);
                    }
                }
                Decision::SendWhole => self.basis.forget(),
                Decision::ReadPsk | Decision::OlderPsk => {}
                Decision::Delivered => return Verdict::Delivered,
                Decision::TakeId(id) => return Verdict::NewId(id),
                Decision::NewBoot => return Verdict::NewBoot,
                Decision::Drop(reason) => return Verdict::Dropped(reason),
                Decision::Hold(reason) => return Verdict::Held(reason),
            }
        }
        Verdict::Held(Reason::NoAnswer("no answer that ends it, however it was signed".to_owned()))
    }

    /// Signs and sends once; `None` without a PSK.
    fn send(
        &mut self,
        way: &Way,
        patience: Patience,
        message: &mut Message,
        psk: usize,
        shared: &Shared,
    ) -> Option<Outcome> {
        let secret = self.psk.secrets().get(psk)?;
        let (own, clock, now) = (shared.identity(), shared.clock(), Moment::now());
        message.restamp(clock, now);
        let form = self.basis.form(own.agent, message, Instant::now());
        let sealed = message.seal(own.agent, secret, &form, clock.manager_time(now));
        let Form { encoding, payload } = form;
        let len = payload.len();
        let (url, time) = self.target(way, patience, message.kind, shared);
        let outcome = match self.client.post(&url, &sealed.bytes, time) {
            Ok((status, body)) => Outcome::of_answer(status, &body, sealed.nonce, &sealed.mac, secret),
            Err(error) => Outcome::Failed(error.to_string()),
        };
        // "Clock skew" is for `learn_time`, which must see the offset that led to it; both may come
        // from a relay, whose time is not the manager's.
        if let Outcome::Answered(ack) = &outcome
            && !matches!(ack.code, Code::ClockSkew | Code::RelayRefused)
        {
            settle_time(ack.at, shared);
            // Not what was stored before: that sending may have told another time.
            if ack.code == Code::Stored {
                self.basis.stored(own, message, &encoding, len, Instant::now());
            }
        }
        Some(outcome)
    }

    fn target(&self, way: &Way, patience: Patience, kind: Kind, shared: &Shared) -> (String, Time) {
        let (path, time) = match kind {
            Kind::Register => (manager_path::REGISTER, Time::from(REGISTER_TIMEOUT)),
            _ => (manager_path::UPDATES, Time::from(push::TIMEOUT)),
        };
        match way {
            Way::Direct => {
                shared.counters.sent.manager.add();
                let connect = (shared.interval() / 15).clamp(QUICK.0, QUICK.1);
                let quick = Time { connect, whole: connect + Duration::from_secs(1) };
                (self.manager.of(path), if patience == Patience::Quick { quick } else { time })
            }
            Way::Relay(relay) => {
                shared.counters.sent.relay.add();
                let url = format!("http://{}{}", relay.address, agent_path::RELAY);
                (url, Time { connect: NEIGHBOUR_CONNECT, whole: ORIGIN_TIME })
            }
        }
    }

    /// What `deliver` decides, with the PSK's source read when it asks for that.
    fn decide(
        &mut self,
        kind: Kind,
        own: AgentId,
        outcome: Outcome,
        tries: &mut Tries,
        shared: &Shared,
    ) -> Decision {
        let may_read = self.psk.may_read_early(Instant::now());
        let held = self.psk.secrets().len();
        let decision = deliver::next(kind, own, outcome.clone(), tries, held, may_read);
        if decision != Decision::ReadPsk {
            return decision;
        }
        match &outcome {
            Outcome::Unsigned(unsigned) => log::info!("{unsigned}: reading the PSK again"),
            _ => log::info!("reading the PSK again"),
        }
        if self.read_psk(shared) == Reading::Rotated {
            tries.begin_with_current();
            return decision;
        }
        deliver::next(kind, own, outcome, tries, held, false)
    }

    /// Asks neighbours how far they are from the manager.
    fn ask(&self, neighbours: &[std::net::SocketAddr], shared: &Shared) {
        neighbours.iter().for_each(|_| shared.counters.sent.peer.add());
        let answers = match discover::ask_all(&self.client, neighbours) {
            Ok(answers) => answers,
            Err(error) => return log::warn!("cannot ask neighbours: no thread: {error}"),
        };
        let own = shared.identity().agent;
        let now = Instant::now();
        shared.with_route(|route| {
            for (address, brief) in answers {
                route.heard(own, address, brief.as_ref().map(Heard::of), now);
            }
        });
    }
}

/// Why a message did not reach the manager; `None` when it did, whatever the manager said.
fn unreached<'a>(verdict: &'a Verdict, way: &Way) -> Option<&'a Reason> {
    match verdict {
        // A relay can answer so too, and its clock may be the one that is wrong.
        Verdict::Held(reason @ Reason::ClockSkew) if matches!(way, Way::Relay(_)) => Some(reason),
        Verdict::Held(reason) if reason.is_unreached() => Some(reason),
        _ => None,
    }
}

/// Takes the manager's time from a verified answer; false when that changes nothing.
fn learn_time(at: i64, shared: &Shared) -> bool {
    let mut clock = shared.clock();
    let changed = clock.learn(at, Moment::now());
    if changed {
        shared.set_clock(clock);
        match clock.offset() {
            0 => log::info!("this host's clock is right again: the manager's time is not needed any more"),
            offset => log::warn!(
                "this host's clock is {} s off the manager's: reports carry the manager's time (set the clock)",
                -offset / 1000
            ),
        }
    }
    changed
}

fn settle_time(at: i64, shared: &Shared) {
    let mut clock = shared.clock();
    if clock.settle(at, Moment::now()) {
        shared.set_clock(clock);
        log::info!("this host's clock is right again: the manager's time is not needed any more");
    }
    shared.prove_time(Moment::now());
}
