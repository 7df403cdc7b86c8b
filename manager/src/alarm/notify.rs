//! The thread that sends notifications: one receiver after the other its next message, in order, with
//! back-off. It reads the outbox, so that nothing else waits for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gate::Stop;
use proto::psk::Secret;

use super::message::{self, Kind};
use crate::call::{self, Authorities};
use crate::clock::now_ms;
use crate::store::outbox::{self, Batch};
use crate::store::writer::Writer;

/// How long a receiver may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Between two messages to one receiver (ms): what comes meanwhile goes together in the next.
const GAP: i64 = 5000;
/// Notifications in one message.
const TOGETHER: u32 = 20;
/// First and longest pause (ms) after a failure; it doubles in between.
const BACK_OFF: i64 = 1000;
const BACK_OFF_MAX: i64 = 60_000;
/// A message older than this (ms) is news no longer.
const GIVE_UP: i64 = 24 * 3_600_000;
/// Attempts after which a refusal by the receiver itself (400 to 499) is final.
const REFUSALS: u32 = 3;

/// A receiver of notifications.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where.
    pub url: String,
    /// Which body it wants.
    pub kind: Kind,
    /// Who vouches for it where it is https.
    pub authorities: Authorities,
}

impl Target {
    /// Its host, which is no secret where the whole URL may be.
    #[must_use]
    pub fn name(&self) -> String {
        let (scheme, rest) = self.url.split_once("://").unwrap_or(("http", &self.url));
        let host = rest.split(['/', '?']).next().unwrap_or_default();
        format!("{scheme}://{}", host.rsplit('@').next().unwrap_or_default())
    }
}

/// Receivers that do not take what is sent: since when (ms), and why.
pub type Failures = Arc<Mutex<BTreeMap<String, (i64, String)>>>;

/// Sends what waits for `target`, until `stop`. One thread a receiver: one that hangs delays no other.
pub fn keep(target: &Target, secret: Option<&Secret>, writer: &Writer, failures: &Failures, stop: &Stop) {
    let mut next = 0;
    while !stop.is_set() {
        let now = now_ms();
        let pause = if now < next { next - now } else { turn(target, secret, writer, failures, &mut next) };
        let pause = Duration::from_millis(u64::try_from(pause.clamp(10, 1000)).unwrap_or(1000));
        let _ = stop.wait(pause);
    }
}

/// Sends one message where one is due; returns how long to wait (ms).
fn turn(
    target: &Target,
    secret: Option<&Secret>,
    writer: &Writer,
    failures: &Failures,
    next: &mut i64,
) -> i64 {
    let now = now_ms();
    let timeout = i64::try_from(TIMEOUT.as_millis()).unwrap_or(10_000);
    let url = target.url.clone();
    let claimed = writer.work(move |db| outbox::claim(db, &url, now, now + 2 * timeout, TOGETHER));
    let Some(Some(batch)) = claimed else { return 1000 };
    let outcome = post(target, secret, &batch, now);
    let (url, first) = (target.url.clone(), batch.first);
    let done = now_ms();
    let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
    let fate = fate(&outcome, &batch, done);
    match outcome {
        Ok(()) => {
            failures.remove(&target.name());
        }
        Err(Failed { why, .. }) => {
            let given_up = fate == Fate::Over;
            if batch.attempts == 0 || given_up {
                let then = if given_up { "given up" } else { "trying again" };
                log::warn!("notify {}: {why}; {} notifications, {then}", target.name(), batch.events.len());
            }
            failures.entry(target.name()).or_insert((done, String::new())).1 = why;
        }
    }
    drop(failures);
    let (written, pause) = match fate {
        Fate::Over => (writer.work(move |db| outbox::done(db, &url, first)), GAP),
        Fate::Again(at) => (writer.work(move |db| outbox::later(db, &url, first, at)), at - done),
    };
    if written.is_none() {
        log::warn!("notify {}: the database did not take what became of a message", target.name());
    }
    *next = done + if fate == Fate::Over { GAP } else { 0 };
    pause
}

/// What becomes of a message that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Taken, or given up.
    Over,
    /// Sent again, not before this moment (ms).
    Again(i64),
}

/// What becomes of a message whose attempt ended at `done` (ms). Pure.
fn fate(outcome: &Result<(), Failed>, batch: &Batch, done: i64) -> Fate {
    let tried = batch.attempts + 1;
    match outcome {
        Ok(()) => Fate::Over,
        Err(failed) if failed.is_final && tried >= REFUSALS || done - batch.at > GIVE_UP => Fate::Over,
        Err(_) => Fate::Again(done + back_off(tried)),
    }
}

fn back_off(tried: u32) -> i64 {
    BACK_OFF.saturating_mul(1 << tried.saturating_sub(1).min(10)).min(BACK_OFF_MAX)
}

#[derive(Debug)]
struct Failed {
    why: String,
    /// The receiver itself refuses, and would again.
    is_final: bool,
}

fn post(target: &Target, secret: Option<&Secret>, batch: &Batch, now: i64) -> Result<(), Failed> {
    let id = format!("msg_{:x}_{}", batch.at, batch.first);
    let message = message::message(target.kind, &id, &batch.events, secret, now);
    let headers: Vec<(&str, &str)> =
        message.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    match call::post(&target.url, &message.body, &headers, TIMEOUT, &target.authorities) {
        Ok((200..=299, _)) => Ok(()),
        Ok((status, _)) => {
            let is_final = (400..500).contains(&status) && !matches!(status, 408 | 425 | 429);
            Err(Failed { why: format!("it answered {status}"), is_final })
        }
        Err(why) => Err(Failed { why, is_final: false }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alarm::Severity;
    use crate::alarm::status::{Alarm, Status};
    use crate::store;

    /// A receiver's outbox and its clock, without the network.
    struct Receiver {
        db: store::Connection,
        now: i64,
        /// When which message came, and the numbers of its alarms.
        got: Vec<(i64, i64, Vec<i64>)>,
        _dir: tempfile::TempDir,
    }

    impl Receiver {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let db = store::open(&dir.path().join("db")).unwrap();
            Self { db, now: 1_764_000_000_000, got: Vec::new(), _dir: dir }
        }

        fn put(&self, no: i64, state: Status) {
            let alarm = Alarm {
                no,
                code: "MTU_MISMATCH".into(),
                subject: format!("e{no}"),
                severity: Severity::Warning,
                state,
                since: self.now,
                found_at: self.now,
                fired_at: Some(self.now),
                clear_since: None,
                acked_at: None,
                suppressed_by: None,
                told: true,
                transitions: vec![],
                sentence: "It is broken.".into(),
                evidence: vec![],
                cause: String::new(),
                next_step: String::new(),
                agents: vec![],
                under: vec![],
                interval_s: 30,
                version: 1,
            };
            outbox::put(&self.db, &alarm, &["r".into()]).unwrap();
        }

        /// Does what the thread does, second by second; `takes` says how the receiver answers.
        fn run(&mut self, seconds: i64, takes: impl Fn() -> Result<(), Failed>) {
            let (until, mut next) = (self.now + seconds * 1000, 0);
            while self.now < until {
                self.now += 1000;
                if self.now < next {
                    continue;
                }
                let claimed = outbox::claim(&self.db, "r", self.now, self.now + 20_000, TOGETHER);
                let Some(batch) = claimed.unwrap() else { continue };
                let numbers = batch.events.iter().map(|event| event.no).collect();
                self.got.push((self.now, batch.first, numbers));
                match fate(&takes(), &batch, self.now) {
                    Fate::Over => {
                        outbox::done(&self.db, "r", batch.first).unwrap();
                        next = self.now + GAP;
                    }
                    Fate::Again(at) => {
                        outbox::later(&self.db, "r", batch.first, at).unwrap();
                        assert_eq!(outbox::claim(&self.db, "r", at - 1, at, TOGETHER).unwrap(), None);
                        next = at;
                    }
                }
            }
        }
    }

    fn gone() -> Result<(), Failed> {
        Err(Failed { why: "connection refused".into(), is_final: false })
    }

    #[test]
    fn a_receiver_that_is_gone_for_an_hour_misses_nothing() {
        let mut receiver = Receiver::new();
        receiver.put(1, Status::Firing);
        receiver.run(1800, gone);
        (2..=30).for_each(|no| receiver.put(no, Status::Firing));
        receiver.put(1, Status::Resolved);
        receiver.run(1800, gone);
        let attempts = receiver.got.len();
        assert!((55..70).contains(&attempts), "about one a minute, not {attempts}");
        assert!(receiver.got.iter().all(|(_, first, numbers)| *first == 1 && *numbers == [1]));
        let apart: Vec<i64> = receiver.got.windows(2).map(|pair| (pair[1].0 - pair[0].0) / 1000).collect();
        assert_eq!(apart[..7], [1, 2, 4, 8, 16, 32, 60]);
        assert_eq!(outbox::waiting(&receiver.db).unwrap(), 31);

        receiver.got.clear();
        receiver.run(120, || Ok(()));
        let messages: Vec<Vec<i64>> = receiver.got.iter().map(|(_, _, numbers)| numbers.clone()).collect();
        assert_eq!(messages[0], [1], "as it was sent before");
        assert_eq!(messages[1..].concat(), (2..=30).chain([1]).collect::<Vec<_>>(), "in order, each once");
        assert!(messages.len() == 3 && messages[1].len() == 20, "{messages:?}");
        assert!(receiver.got.windows(2).all(|pair| pair[1].0 - pair[0].0 >= GAP));
        assert_eq!(outbox::waiting(&receiver.db).unwrap(), 0);
    }

    #[test]
    fn news_of_yesterday_and_what_is_refused_are_given_up() {
        let mut receiver = Receiver::new();
        receiver.put(1, Status::Firing);
        receiver.run(25 * 3600, gone);
        assert_eq!(outbox::waiting(&receiver.db).unwrap(), 0);
        receiver.put(2, Status::Firing);
        receiver.got.clear();
        receiver.run(60, || Err(Failed { why: "it answered 404".into(), is_final: true }));
        assert_eq!(receiver.got.len(), 3);
        assert_eq!(outbox::waiting(&receiver.db).unwrap(), 0);
    }

    #[test]
    fn pauses_double_and_secrets_stay_out_of_names() {
        assert_eq!((back_off(1), back_off(2), back_off(5), back_off(40)), (1000, 2000, 16_000, 60_000));
        for scheme in ["http", "https"] {
            let url = format!("{scheme}://me:pw@hooks.example:8065/hooks/s3cret?x");
            let target = Target { url, kind: Kind::Slack, authorities: Authorities::default() };
            assert_eq!(target.name(), format!("{scheme}://hooks.example:8065"));
        }
    }
}
