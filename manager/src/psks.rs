//! The PSKs that the manager accepts, and the thread that reads them anew.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use gate::Stop;
use proto::limits::PSK_REFRESH;
use proto::psk::{PskSource, Secret};

use crate::clock::now_ms;
use crate::error::StoreError;
use crate::store::{self, Connection, writer::Writer};

/// The PSKs in force.
#[derive(Debug, Clone, Default)]
pub struct Psks {
    /// Accepted ones with their generations, newest first: the current one and the two before.
    pub accepted: Vec<(u32, Secret)>,
    /// Some that are no longer accepted, to tell their holders so.
    pub retired: Vec<Secret>,
}

/// The PSKs as all threads share them.
pub type SharedPsks = Arc<RwLock<Arc<Psks>>>;

/// The PSKs in force now.
#[must_use]
pub fn current(shared: &SharedPsks) -> Arc<Psks> {
    Arc::clone(&shared.read().unwrap_or_else(PoisonError::into_inner))
}

/// How long DNS may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// Least time between two readings, however many messages fail to verify.
const LEAST_PAUSE: Duration = Duration::from_secs(5);

/// Asks for an early reading of the PSK, as when a message does not verify: its sender may have
/// learned of a rotation first.
#[derive(Debug, Clone)]
pub struct Nudge(SyncSender<()>);

impl Nudge {
    /// A nudge and the end that [`keep`] listens to.
    #[must_use]
    pub fn new() -> (Self, Receiver<()>) {
        let (sender, receiver) = sync_channel(1);
        (Self(sender), receiver)
    }

    /// Asks; never waits. Several before the next reading are one.
    pub fn ask(&self) {
        let _ = self.0.try_send(());
    }
}

/// How the last reading of the PSK went, for the health check.
#[derive(Debug, Clone, Default)]
pub struct PskHealth {
    /// Why the last reading failed; `None` when it worked.
    pub failure: Option<String>,
}

/// Reads the PSK before the first message can come, where it is at hand or none is known yet: a
/// message must not be refused only because it came in the manager's first second.
///
/// # Errors
/// What the database says; a PSK that cannot be read is noted in `health` and waited for.
pub fn first(
    source: &PskSource,
    connection: &Connection,
    health: &RwLock<PskHealth>,
) -> Result<(), StoreError> {
    let is_remote = matches!(source, PskSource::Dns { .. });
    if is_remote && !store::psks::load(connection)?.accepted.is_empty() {
        return Ok(());
    }
    match source.read(DEADLINE) {
        Ok(secret) => store::psks::rotate(connection, &secret, now_ms()),
        Err(error) => {
            log::warn!("psk: {error}; no message can be verified until it is read");
            health.write().unwrap_or_else(PoisonError::into_inner).failure = Some(error.to_string());
            Ok(())
        }
    }
}

/// Reads the PSK hourly and when nudged, and has the store rotate it, until `stop`. A failure keeps
/// what there is; while there is none at all it tries again soon.
pub fn keep(
    source: &PskSource,
    writer: &Writer,
    nudged: &Receiver<()>,
    health: &RwLock<PskHealth>,
    stop: &Stop,
) {
    let mut pause = Duration::ZERO;
    while !wait(nudged, pause, stop) {
        let started = Instant::now();
        let outcome = source.read(DEADLINE);
        let failure = match outcome {
            Ok(secret) => {
                pause = jittered(PSK_REFRESH);
                writer.rotate_psk(secret);
                None
            }
            Err(error) => {
                log::warn!("psk: {error}; keeping the PSK known so far");
                pause = Duration::from_secs(60);
                Some(error.to_string())
            }
        };
        health.write().unwrap_or_else(PoisonError::into_inner).failure = failure;
        let _ = stop.wait(LEAST_PAUSE.saturating_sub(started.elapsed()));
    }
}

/// Up to a tenth less, so that a fleet and its managers do not ask a name server all at once.
fn jittered(period: Duration) -> Duration {
    let mut random = [0];
    // Without random numbers there is no jitter, which is no harm.
    let _ = getrandom::fill(&mut random);
    period - period / 10 * u32::from(random[0]) / 255
}

/// Waits for the pause or a nudge; true when it is time to stop.
fn wait(nudged: &Receiver<()>, pause: Duration, stop: &Stop) -> bool {
    let until = Instant::now() + pause;
    loop {
        if stop.is_set() {
            return true;
        }
        let left = until.saturating_duration_since(Instant::now());
        match nudged.recv_timeout(left.min(Duration::from_millis(500))) {
            Ok(()) => return stop.is_set(),
            Err(RecvTimeoutError::Timeout) if left.is_zero() => return false,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return stop.wait(left),
        }
    }
}
