//! The agent as a daemon: reads its settings, starts the loop and the endpoint, waits for a signal.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use gate::{Gate, Limits, NEWCOMERS, Reply, Request, Stop};
use proto::limits;
use proto::psk::{self, PskError, Secret};

use crate::api::{self, Api};
use crate::api_error;
use crate::clock::Moment;
use crate::collect::{self, Sources};
use crate::config::Config;
use crate::courier::Courier;
use crate::cycle::{Cycle, Nudge};
use crate::forward::Forwarder;
use crate::identity::{self, IdentityError, Origin};
use crate::psk_keeper::PskKeeper;
use crate::push::Client;
use crate::shared::Shared;
use crate::spool::Spool;
use crate::spool_file;

/// Connections to the endpoint at once: neighbours ask seldom.
const CONNECTIONS: usize = 64;
/// Bytes held for all of them together.
const BUFFERED: usize = 1 << 20;
/// Threads that answer.
const WORKERS: usize = 2;
/// Stack of the loop: collecting, JSON, deflating and ureq take less than half of it.
const LOOP_STACK: usize = 512 << 10;
const GATE_STACK: usize = 256 << 10;
/// How long answers in work may take after a signal, and how long the process waits for its threads.
/// Both together stay below the two seconds in which an agent ends.
const GRACE: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_millis(1500);

/// Why the agent cannot start or go on.
#[derive(Debug)]
pub enum StartError {
    /// There is no id to run with.
    Identity(IdentityError),
    /// The admin secret's file is unusable.
    AdminSecret(PskError),
    /// Those who vouch for the manager are unusable; in words.
    Authorities(String),
    /// The endpoint cannot be opened, a thread not be started, or the like.
    System(&'static str, io::Error),
    /// The loop has panicked; the log says where.
    Crashed,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity(error) => error.fmt(f),
            Self::AdminSecret(error) => write!(f, "ADMIN_SECRET_FILE: {error}"),
            Self::Authorities(why) => write!(f, "TLS_CA_FILE: {why}"),
            Self::System(what, error) => write!(f, "{what}: {error}"),
            Self::Crashed => f.write_str("a fault in the agent itself has ended it; please report it"),
        }
    }
}

impl std::error::Error for StartError {}

impl From<IdentityError> for StartError {
    fn from(error: IdentityError) -> Self {
        Self::Identity(error)
    }
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot start.
pub fn run(config: Config) -> Result<(), StartError> {
    let system = |what| move |error| StartError::System(what, error);
    gate::block_signals().map_err(system("cannot block signals"))?;
    let stop = Stop::on_signals().map_err(system("cannot wait for signals"))?;
    let nofile = gate::raise_nofile().map_err(system("cannot raise the limit of open files"))?;

    let admin = config.admin_secret.as_deref().map(psk::read_secret_file).transpose();
    let admin = admin.map_err(StartError::AdminSecret)?;
    let client = Client::trusting(config.authorities().map_err(StartError::Authorities)?);
    let sources = Sources::system();
    let shared = Arc::new(shared_state(&config, collect::hardware_id(&sources))?);
    let listener = gate::listen(config.listen)
        .map_err(system("AGENT_LISTEN is taken by another process or not this host's"))?;
    log::info!(
        "agent {} {} reports to {} every {} s and listens on {}",
        shared.identity().agent,
        crate::VERSION,
        config.manager,
        config.interval.as_secs(),
        listener.local_addr().unwrap_or(config.listen)
    );

    let (nudge, nudges) = mpsc::channel();
    // Nothing is ever sent: it is disconnected when both threads have ended.
    let (running, ended) = mpsc::channel::<Infallible>();
    let api = api(&config, &shared, client.clone(), admin, nudge.clone());
    let gate = Gate::new(gate_limits(nofile), api).with_refusals(api_error::refusal);
    let gate_stop = stop.clone();
    let serve = move || match gate.run(vec![listener], &gate_stop, GRACE) {
        Ok(stats) => log::debug!("endpoint closed: {stats:?}"),
        Err(error) => log::error!("the endpoint has failed, reports go on without it: {error}"),
    };
    spawn("gate", GATE_STACK, running.clone(), serve)?;
    let spool = Arc::new(Mutex::new(load_spool(&config, &shared)));
    let courier = Courier::new(client, config.manager, PskKeeper::new(config.psk, Instant::now()));
    let cycle = Cycle::new(sources, Arc::clone(&shared), courier, Arc::clone(&spool));
    let ends = Ends(stop.clone());
    let cycle = spawn("cycle", LOOP_STACK, running, move || {
        let _ends = ends;
        cycle.run(&nudges);
    })?;

    while !stop.wait(Duration::from_secs(3600)) {}
    // A loop that is gone needs no word.
    let _ = nudge.send(Nudge::Stop);
    // A delivery that hangs is left behind: the process ends.
    let _ = ended.recv_timeout(PATIENCE);
    if let Some(path) = &config.spool_file {
        let spool = spool.lock().unwrap_or_else(PoisonError::into_inner);
        match spool_file::save(path, &spool, shared.identity().agent) {
            Ok(0) => {}
            Ok(reports) => log::info!("{reports} reports that wait are saved in {}", path.display()),
            Err(error) => log::error!("{} reports that wait are lost: {error}", spool.len()),
        }
    }
    if cycle.is_finished() && cycle.join().is_err() { Err(StartError::Crashed) } else { Ok(()) }
}

/// Ends the daemon when the loop does, even by a panic: whoever supervises it starts it again.
struct Ends(Stop);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.trigger();
    }
}

fn shared_state(config: &Config, hardware: String) -> Result<Shared, IdentityError> {
    let (agent, origin) = identity::load_or_create(&config.state_dir, &hardware)?;
    match origin {
        Origin::Kept => {}
        Origin::Created => log::info!("first start: this is agent {agent}"),
        Origin::Copied => {
            log::warn!("agent_id.txt was made on other hardware (a copied disk?): this is now agent {agent}");
        }
        Origin::Corrupt => {
            log::error!("agent_id.txt was corrupt and is now agent_id.txt.bad: this is now agent {agent}");
        }
    }
    Shared::new(agent, config.state_dir.clone(), hardware, config.interval)
}

fn load_spool(config: &Config, shared: &Shared) -> Spool {
    let Some(path) = &config.spool_file else { return Spool::new(config.spool) };
    match spool_file::load(path, config.spool, shared.identity().agent, Moment::now()) {
        Ok(spool) => {
            if !spool.is_empty() {
                log::info!("{} reports of an earlier start wait to be delivered", spool.len());
            }
            spool
        }
        Err(error) => {
            log::error!("{error}");
            Spool::new(config.spool)
        }
    }
}

fn api(
    config: &Config,
    shared: &Arc<Shared>,
    client: Client,
    admin: Option<Secret>,
    nudge: Sender<Nudge>,
) -> impl Fn(Request, Reply) + Send + Sync + 'static {
    let forwarder = Forwarder::new(Arc::clone(shared), client, config.manager.clone(), nudge.clone());
    let api = Api::new(Arc::clone(shared), config.allow.clone(), admin, nudge, forwarder);
    move |request, reply| api.serve(request, reply)
}

fn gate_limits(nofile: u64) -> Limits {
    Limits {
        connections: CONNECTIONS,
        body: limits::ENVELOPE_MAX,
        body_for: api::body_limit,
        buffered: BUFFERED,
        workers: WORKERS,
        queue: CONNECTIONS + NEWCOMERS,
        ..Limits::default()
    }
    .capped_for(nofile)
}

/// A thread that holds `running` until it has ended, however it ends.
fn spawn(
    name: &'static str,
    stack: usize,
    running: Sender<Infallible>,
    work: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, StartError> {
    let whole = move || {
        let _running = running;
        work();
    };
    let thread = thread::Builder::new().name(name.to_owned()).stack_size(stack).spawn(whole);
    thread.map_err(|error| StartError::System("cannot start a thread", error))
}
