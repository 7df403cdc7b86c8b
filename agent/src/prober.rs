//! Probes peers beside the loop, which does not wait for them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use proto::limits;
use proto::report::SystemData;

use crate::discover;
use crate::probes::{Probe, Probes};
use crate::push::Client;
use crate::shared::Shared;
use crate::way::Heard;

/// It only hands out addresses and takes answers.
const STACK: usize = 128 << 10;

/// What is known of the peers, and the thread that finds out more.
#[derive(Debug)]
pub struct Prober {
    client: Client,
    shared: Arc<Shared>,
    probes: Arc<Mutex<Probes>>,
    planned: Vec<Probe>,
    run: Option<JoinHandle<()>>,
}

impl Prober {
    /// A prober that knows nothing yet.
    #[must_use]
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { client: Client::new(), shared, probes: Arc::default(), planned: Vec::new(), run: None }
    }

    /// Calls `look` with what is known.
    pub fn with<T>(&self, look: impl FnOnce(&Probes) -> T) -> T {
        look(&lock(&self.probes))
    }

    /// Plans the probes that are due, unless the last ones still run.
    pub fn plan(&mut self, system: &SystemData) {
        if self.run.as_ref().is_none_or(JoinHandle::is_finished) {
            self.planned = lock(&self.probes).plan(system, Instant::now());
        }
    }

    /// Begins the probes that are planned.
    pub fn begin(&mut self) {
        let plan = std::mem::take(&mut self.planned);
        if plan.is_empty() {
            return;
        }
        let (client, shared) = (self.client.clone(), Arc::clone(&self.shared));
        let probes = Arc::clone(&self.probes);
        let thread = thread::Builder::new().name("probe".to_owned()).stack_size(STACK);
        match thread.spawn(move || run(&client, &shared, &probes, &plan)) {
            Ok(run) => self.run = Some(run),
            Err(error) => log::warn!("peers are not probed: no thread: {error}"),
        }
    }
}

fn run(client: &Client, shared: &Shared, probes: &Mutex<Probes>, plan: &[Probe]) {
    let endpoint = |probe: &Probe| SocketAddr::new(probe.address, limits::AGENT_PORT);
    let addresses: Vec<_> = plan.iter().map(endpoint).collect();
    addresses.iter().for_each(|_| shared.counters.sent.peer.add());
    let results = match discover::probe_some(client, &addresses) {
        Ok(results) => results,
        Err(error) => return log::warn!("peers are not probed: no thread: {error}"),
    };
    let now = Instant::now();
    let own = shared.identity().agent;
    for (address, found) in results {
        // Two peers may name one address.
        for probe in plan.iter().filter(|probe| endpoint(probe) == address) {
            lock(probes).settle(probe, found.as_ref(), now);
        }
        if let Some(found) = found {
            let heard = Heard::of(&found.peer);
            shared.with_route(|route| route.learned(own, address, Some(heard), now));
        }
    }
}

fn lock(probes: &Mutex<Probes>) -> MutexGuard<'_, Probes> {
    // Every change is whole, so a panic elsewhere leaves nothing half done.
    probes.lock().unwrap_or_else(PoisonError::into_inner)
}
