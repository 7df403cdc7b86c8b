//! Carries one message to the manager: sign, push, judge the answer, and do what `deliver` decides.

use std::time::{Duration, Instant};

use proto::ack::Code;
use proto::ids::AgentId;
use proto::limits::manager_path;
use proto::sign::Kind;

use crate::clock::Moment;
use crate::config::ManagerUrl;
use crate::deliver::{self, Decision, Outcome, Reason, Tries};
use crate::message::Message;
use crate::psk_keeper::{PskKeeper, Reading};
use crate::push::{self, Client};
use crate::shared::Shared;

/// How long a first contact may take: reports wait for it.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(4);
/// Sendings of one message in one turn: the first, one with the manager's time, one with a PSK just
/// read, one with each of two older ones. A bound for what should end by itself.
const SENDINGS_MAX: usize = 6;

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
}

/// What it takes to reach the manager.
#[derive(Debug)]
pub struct Courier {
    client: Client,
    manager: ManagerUrl,
    /// The PSKs to sign with.
    pub psk: PskKeeper,
}

impl Courier {
    /// A courier that has sent nothing yet.
    #[must_use]
    pub fn new(manager: ManagerUrl, psk: PskKeeper) -> Self {
        Self { client: Client::new(), manager, psk }
    }

    /// Where messages go.
    #[must_use]
    pub fn manager(&self) -> &ManagerUrl {
        &self.manager
    }

    /// Brings a message to the manager, or finds out why not.
    pub fn deliver(&mut self, message: &mut Message, shared: &Shared) -> Verdict {
        let own = shared.identity().agent;
        let mut tries = Tries::default();
        for _ in 0..SENDINGS_MAX {
            let Some(outcome) = self.send(message, tries.psk, shared) else {
                return Verdict::Held(Reason::NoPsk);
            };
            match self.decide(message.kind, own, outcome, &mut tries) {
                Decision::SignAgain { at } => {
                    if !learn_time(at, shared) {
                        return Verdict::Held(Reason::ClockSkew);
                    }
                }
                Decision::ReadPsk | Decision::OlderPsk => {}
                Decision::Delivered => return Verdict::Delivered,
                Decision::TakeId(id) => return Verdict::NewId(id),
                Decision::NewBoot => return Verdict::NewBoot,
                Decision::Drop(reason) => return Verdict::Dropped(reason),
                Decision::Hold(reason) => return Verdict::Held(reason),
            }
        }
        Verdict::Held(Reason::UnknownPsk)
    }

    /// Signs and sends once; `None` without a PSK.
    fn send(&self, message: &mut Message, psk: usize, shared: &Shared) -> Option<Outcome> {
        let secret = self.psk.secrets().get(psk)?;
        let identity = shared.identity();
        let sealed = message.seal(identity.agent, identity.boot, secret, shared.clock(), Moment::now());
        let (path, timeout) = match message.kind {
            Kind::Register => (manager_path::REGISTER, REGISTER_TIMEOUT),
            _ => (manager_path::UPDATES, push::TIMEOUT),
        };
        let outcome = match self.client.post(&self.manager.of(path), &sealed.bytes, timeout) {
            Ok((status, body)) => Outcome::of_answer(status, &body, &sealed, secret),
            Err(error) => Outcome::Failed(error.to_string()),
        };
        // "Clock skew" is for `learn_time`, which must see the offset that led to it.
        if let Outcome::Answered(ack) = &outcome
            && ack.code != Code::ClockSkew
        {
            settle_time(ack.at, shared);
        }
        Some(outcome)
    }

    /// What `deliver` decides, with the PSK's source read when it asks for that.
    fn decide(&mut self, kind: Kind, own: AgentId, outcome: Outcome, tries: &mut Tries) -> Decision {
        let may_read = self.psk.may_read_early(Instant::now());
        let held = self.psk.secrets().len();
        let decision = deliver::next(kind, own, outcome.clone(), tries, held, may_read);
        if decision != Decision::ReadPsk {
            return decision;
        }
        log::info!("the manager does not know our PSK: reading it again");
        if self.psk.read() == Reading::Rotated {
            tries.begin_with_current();
            return decision;
        }
        deliver::next(kind, own, outcome, tries, held, false)
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
}
