//! The thread that sends notifications: one receiver after the other its next message, in order, with
//! back-off. It reads the outbox, so that nothing else waits for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gate::Stop;
use proto::psk::Secret;

use super::message::{self, Kind};
use crate::call;
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
}

impl Target {
    /// Its host, which is no secret where the whole URL may be.
    #[must_use]
    pub fn name(&self) -> String {
        let rest = self.url.strip_prefix("http://").unwrap_or(&self.url);
        let host = rest.split(['/', '?']).next().unwrap_or_default();
        format!("http://{}", host.rsplit('@').next().unwrap_or_default())
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
    let failed = match outcome {
        Ok(()) => {
            failures.remove(&target.name());
            None
        }
        Err(Failed { why, is_final }) => {
            let tried = batch.attempts + 1;
            let give_up = is_final && tried >= REFUSALS || done - batch.at > GIVE_UP;
            if tried == 1 || give_up {
                let then = if give_up { "given up" } else { "trying again" };
                log::warn!("notify {}: {why}; {} notifications, {then}", target.name(), batch.events.len());
            }
            failures.entry(target.name()).or_insert((done, String::new())).1 = why;
            (!give_up).then_some(tried)
        }
    };
    drop(failures);
    let written = match failed {
        None => writer.work(move |db| outbox::done(db, &url, first)),
        Some(tried) => {
            let at = done + back_off(tried);
            writer.work(move |db| outbox::later(db, &url, first, at))
        }
    };
    if written.is_none() {
        log::warn!("notify {}: the database did not take what became of a message", target.name());
    }
    *next = done + if failed.is_some() { 0 } else { GAP };
    failed.map_or(GAP, back_off)
}

fn back_off(tried: u32) -> i64 {
    BACK_OFF.saturating_mul(1 << tried.saturating_sub(1).min(10)).min(BACK_OFF_MAX)
}

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
    match call::post(&target.url, &message.body, &headers, TIMEOUT) {
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

    #[test]
    fn pauses_double_and_secrets_stay_out_of_names() {
        assert_eq!((back_off(1), back_off(2), back_off(5), back_off(40)), (1000, 2000, 16_000, 60_000));
        let target =
            Target { url: "http://me:pw@hooks.example:8065/hooks/s3cret?x".into(), kind: Kind::Slack };
        assert_eq!(target.name(), "http://hooks.example:8065");
    }
}
