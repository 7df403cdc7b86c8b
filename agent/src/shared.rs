//! What the loop and the HTTP endpoint both know: one small lock.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use proto::ids::{AgentId, BootId, Cidr};
use proto::psk::Secret;
use proto::report::SystemData;

use crate::access;
use crate::clock::{Clock, Moment};
use crate::counters::Counters;
use crate::identity::{self, IdentityError};
use crate::peer::{Host, Peer, Reach};
use crate::route::Route;

/// Who this agent is now. Another boot id means that everything begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The agent.
    pub agent: AgentId,
    /// This start of it.
    pub boot: BootId,
}

/// The common state.
#[derive(Debug)]
pub struct Shared {
    state_dir: PathBuf,
    hardware: String,
    started: Instant,
    interval: Duration,
    state: Mutex<State>,
    route: Mutex<Route>,
    /// What was sent and passed on.
    pub counters: Counters,
}

#[derive(Debug)]
struct State {
    identity: Identity,
    clock: Clock,
    /// When the manager last confirmed the time.
    proven: Option<Moment>,
    secrets: Vec<Secret>,
    distance: Option<u32>,
    last_success: Option<Instant>,
    last_error: Option<String>,
    host: Host,
    mesh: Vec<Cidr>,
}

impl Shared {
    /// The state at start: nothing is known of the host or the manager. `interval` is the time
    /// between two reports.
    ///
    /// # Errors
    /// When the kernel gives no random numbers for a boot id.
    pub fn new(
        agent: AgentId,
        state_dir: PathBuf,
        hardware: String,
        interval: Duration,
    ) -> Result<Self, IdentityError> {
        let state = State {
            identity: Identity { agent, boot: new_boot()? },
            clock: Clock::default(),
            proven: None,
            secrets: Vec::new(),
            distance: None,
            last_success: None,
            last_error: None,
            host: Host::default(),
            mesh: Vec::new(),
        };
        Ok(Self {
            state_dir,
            hardware,
            started: Instant::now(),
            interval,
            state: Mutex::new(state),
            route: Mutex::new(Route::new(interval)),
            counters: Counters::default(),
        })
    }

    /// Time between two reports, before jitter.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// Names the hardware that this runs on.
    #[must_use]
    pub fn hardware(&self) -> &str {
        &self.hardware
    }

    /// Who this agent is now.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.lock().identity
    }

    /// The manager's time as far as it is known.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.lock().clock
    }

    /// Replaces what is known of the manager's time.
    pub fn set_clock(&self, clock: Clock) {
        self.lock().clock = clock;
    }

    /// The manager has answered at `now`: the time as it is known now is right.
    pub fn prove_time(&self, now: Moment) {
        self.lock().proven = Some(now);
    }

    /// The manager's time at `now`, if it was confirmed and the host's clock was not set since.
    #[must_use]
    pub fn proven_time(&self, now: Moment) -> Option<i64> {
        let state = self.lock();
        state.proven.filter(|then| !then.is_before_a_jump(now)).map(|_| state.clock.manager_time(now))
    }

    /// The PSKs held, the current one first; empty before the first one was read.
    #[must_use]
    pub fn secrets(&self) -> Vec<Secret> {
        self.lock().secrets.clone()
    }

    /// Replaces the PSKs held.
    pub fn set_secrets(&self, secrets: &[Secret]) {
        self.lock().secrets = secrets.to_vec();
    }

    /// Calls `decide` with what is known of all ways to the manager.
    pub fn with_route<T>(&self, decide: impl FnOnce(&mut Route) -> T) -> T {
        // Every change is whole at each step here too.
        decide(&mut self.route.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Goes on as `agent` with a new boot id, unless a reset came first and it is not `from` any more.
    ///
    /// # Errors
    /// When the id cannot be written; it is used all the same, until the agent ends.
    pub fn take_id(&self, from: AgentId, agent: AgentId) -> Result<(), IdentityError> {
        let boot = new_boot()?;
        let mut state = self.lock();
        if state.identity.agent != from {
            return Ok(());
        }
        state.identity = Identity { agent, boot };
        identity::store(&self.state_dir, agent, &self.hardware)
    }

    /// Goes on with a new boot id.
    ///
    /// # Errors
    /// When the kernel gives no random numbers.
    pub fn new_boot(&self) -> Result<(), IdentityError> {
        let boot = new_boot()?;
        self.lock().identity.boot = boot;
        Ok(())
    }

    /// Forgets everything and goes on as a new agent if it is still `target`; the new id.
    ///
    /// # Errors
    /// When the new id cannot be written; then nothing has changed.
    pub fn reset(&self, target: AgentId) -> Result<Option<AgentId>, IdentityError> {
        let agent = AgentId::random().map_err(|_| IdentityError::NoRandom)?;
        let boot = new_boot()?;
        let mut state = self.lock();
        if state.identity.agent != target {
            return Ok(None);
        }
        identity::store(&self.state_dir, agent, &self.hardware)?;
        identity::remove_aside(&self.state_dir);
        state.identity = Identity { agent, boot };
        state.clock = Clock::default();
        (state.proven, state.distance, state.last_success, state.last_error) = (None, None, None, None);
        drop(state);
        self.with_route(|route| *route = Route::new(self.interval));
        Ok(Some(agent))
    }

    /// Takes over what a turn read of the host.
    pub fn set_host(&self, system: &SystemData) {
        let (host, mesh) = (Host::of(system), access::mesh_prefixes(system));
        let mut state = self.lock();
        (state.host, state.mesh) = (host, mesh);
    }

    /// A report was delivered over this many relays.
    pub fn succeeded(&self, distance: u32) {
        let mut state = self.lock();
        (state.distance, state.last_success, state.last_error) = (Some(distance), Some(Instant::now()), None);
    }

    /// A report was not delivered; why, in words.
    pub fn failed(&self, why: String) {
        self.lock().last_error = Some(why);
    }

    /// Relays between this agent and the manager at the last success.
    #[must_use]
    pub fn distance(&self) -> Option<u32> {
        self.lock().distance
    }

    /// Calls `decide` with the prefixes of the mesh.
    pub fn with_mesh<T>(&self, decide: impl FnOnce(&[Cidr]) -> T) -> T {
        decide(&self.lock().mesh)
    }

    /// Seconds since this agent started.
    #[must_use]
    pub fn uptime_s(&self) -> u64 {
        self.started.elapsed().as_secs()
    }

    /// What other agents are told.
    #[must_use]
    pub fn peer(&self) -> Peer {
        let (distance, via) = self.with_route(|route| route.reach());
        let state = self.lock();
        Peer {
            agent: state.identity.agent,
            boot: state.identity.boot,
            version: crate::VERSION.to_owned(),
            uptime_s: self.uptime_s(),
            reach: Reach {
                distance,
                via,
                last_success_age_s: state.last_success.map(|last| last.elapsed().as_secs()),
                last_error: state.last_error.clone(),
            },
            host: state.host.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is whole at each step, so a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn new_boot() -> Result<BootId, IdentityError> {
    BootId::random().map_err(|_| IdentityError::NoRandom)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::way::Way;

    fn shared(folder: &tempfile::TempDir) -> Shared {
        let (agent, _) = identity::load_or_create(folder.path(), "abc").unwrap();
        Shared::new(agent, folder.path().to_owned(), "abc".into(), Duration::from_secs(30)).unwrap()
    }

    #[test]
    fn another_id_is_durable_and_begins_a_new_boot() {
        let folder = tempfile::tempdir().unwrap();
        let shared = shared(&folder);
        let before = shared.identity();
        shared.take_id(AgentId([6; 16]), AgentId([7; 16])).unwrap();
        assert_eq!(shared.identity(), before, "a reset came first");
        shared.take_id(before.agent, AgentId([7; 16])).unwrap();
        let after = shared.identity();
        assert_eq!(after.agent, AgentId([7; 16]));
        assert_ne!(after.boot, before.boot);
        assert_eq!(identity::load_or_create(folder.path(), "abc").unwrap().0, AgentId([7; 16]));
    }

    #[test]
    fn a_reset_forgets_all_and_only_for_its_target() {
        let folder = tempfile::tempdir().unwrap();
        let shared = shared(&folder);
        let before = shared.identity();
        shared.succeeded(0);
        assert_eq!(shared.reset(AgentId([9; 16])).unwrap(), None);
        assert_eq!((shared.identity(), shared.distance()), (before, Some(0)));
        let new = shared.reset(before.agent).unwrap().unwrap();
        assert_eq!((shared.identity().agent, shared.distance()), (new, None));
        assert_ne!(shared.identity().boot, before.boot);
        assert_eq!(identity::load_or_create(folder.path(), "abc").unwrap().0, new);
    }

    #[test]
    fn without_a_folder_no_reset_is_done_but_the_managers_id_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let shared = shared(&folder);
        let before = shared.identity();
        folder.close().unwrap();
        shared.reset(before.agent).unwrap_err();
        assert_eq!(shared.identity(), before);
        shared.take_id(before.agent, AgentId([7; 16])).unwrap_err();
        assert_eq!(shared.identity().agent, AgentId([7; 16]));
    }

    #[test]
    fn success_and_failure_are_told_to_peers() {
        let folder = tempfile::tempdir().unwrap();
        let shared = shared(&folder);
        shared.failed("refused".into());
        assert_eq!(shared.peer().reach.last_error.as_deref(), Some("refused"));
        shared.with_route(|route| route.worked(&Way::Direct));
        shared.succeeded(0);
        let reach = shared.peer().reach;
        assert_eq!((reach.distance, reach.last_success_age_s, reach.last_error), (Some(0), Some(0), None));
    }

    #[test]
    fn the_time_is_proven_until_someone_sets_the_clock() {
        let folder = tempfile::tempdir().unwrap();
        let shared = shared(&folder);
        let now = Moment { wall: 1_795_000_000_000, uptime: 1000 };
        assert_eq!(shared.proven_time(now), None);
        shared.prove_time(now);
        let later = Moment { wall: now.wall + 5000, uptime: 6000 };
        assert_eq!(shared.proven_time(later), Some(later.wall));
        let set = Moment { wall: 0, uptime: 7000 };
        assert_eq!(shared.proven_time(set), None);
    }
}
