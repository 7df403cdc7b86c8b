//! What the loop and the HTTP endpoint both know: one small lock.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use proto::ids::{AgentId, BootId, Cidr};
use proto::report::SystemData;

use crate::access;
use crate::clock::Clock;
use crate::identity::{self, IdentityError};
use crate::peer::{Host, Peer, Reach};

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
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    identity: Identity,
    clock: Clock,
    distance: Option<u32>,
    last_success: Option<Instant>,
    last_error: Option<String>,
    host: Host,
    mesh: Vec<Cidr>,
}

impl Shared {
    /// The state at start: nothing is known of the host or the manager.
    ///
    /// # Errors
    /// When the kernel gives no random numbers for a boot id.
    pub fn new(agent: AgentId, state_dir: PathBuf, hardware: String) -> Result<Self, IdentityError> {
        let state = State {
            identity: Identity { agent, boot: new_boot()? },
            clock: Clock::default(),
            distance: None,
            last_success: None,
            last_error: None,
            host: Host::default(),
            mesh: Vec::new(),
        };
        Ok(Self { state_dir, hardware, started: Instant::now(), state: Mutex::new(state) })
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
        (state.distance, state.last_success, state.last_error) = (None, None, None);
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
        let state = self.lock();
        Peer {
            agent: state.identity.agent,
            boot: state.identity.boot,
            version: crate::VERSION.to_owned(),
            uptime_s: self.uptime_s(),
            reach: Reach {
                distance: state.distance,
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

    fn shared(folder: &tempfile::TempDir) -> Shared {
        let (agent, _) = identity::load_or_create(folder.path(), "abc").unwrap();
        Shared::new(agent, folder.path().to_owned(), "abc".into()).unwrap()
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
        shared.succeeded(0);
        let reach = shared.peer().reach;
        assert_eq!((reach.distance, reach.last_success_age_s, reach.last_error), (Some(0), Some(0), None));
    }
}
