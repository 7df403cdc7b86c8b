//! The daemon: starts its threads, serves until it is told to stop, and ends in order.

use std::io;
use std::sync::{Arc, OnceLock, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gate::{Gate, Limits, Stop, listen, raise_nofile, start_log};
use proto::limits::ENVELOPE_MAX;

use crate::access::Access;
use crate::admin::Admin;
use crate::alarm;
use crate::alarm::keeper::Desk;
use crate::alarm::notify::{Failures, Target};
use crate::atlas::Atlas;
use crate::bases::Bases;
use crate::clock::now_ms;
use crate::config::Config;
use crate::error::Error;
use crate::fleet::SharedFleet;
use crate::handle::{Context, handle};
use crate::inbox::Inbox;
use crate::process;
use crate::psks::{self, Nudge, SharedPsks};
use crate::refusals::Refusals;
use crate::reply;
use crate::request;
use crate::store::writer::Writer;
use crate::store::{self, Readers};
use crate::sweep;

/// How long requests under way may take when the daemon is told to stop.
const GRACE: Duration = Duration::from_secs(5);
/// How long a receiver of notifications may take to answer what was sent when the manager is to stop.
const NOTIFY_GRACE: Duration = Duration::from_secs(1);

/// Runs until SIGTERM or SIGINT. Everything acknowledged is on disk when it returns.
///
/// # Errors
/// What kept it from starting.
pub fn run(config: &Config) -> Result<(), Error> {
    let io = |what: &str| {
        let what = what.to_owned();
        move |error: io::Error| Error::Io(what, error)
    };
    gate::block_signals().map_err(io("signals"))?;
    start_log(config.log_to, config.log_level, "kattila-manager").map_err(io("LOG_TO"))?;
    let stop = Stop::on_signals().map_err(io("signals"))?;
    let nofile = raise_nofile().map_err(io("RLIMIT_NOFILE"))?;
    let source = config.psk_source()?.clone();
    let admin = Admin::new(config.admin_secret()?);
    let notify_secret = config.notify_secret()?;
    let authorities = config.authorities()?;
    let access = Access::new(config.allow.clone(), &own_names(config), config.read_token()?);
    let listener = listen(config.listen).map_err(io(&format!("MANAGER_LISTEN={}", config.listen)))?;

    let connection = store::open(&config.database)?;
    let at_database = |error| Error::Database(config.database.clone(), error);
    let psk_health = Arc::new(RwLock::default());
    psks::first(&source, &connection, &psk_health).map_err(at_database)?;
    let (fleet, psks) = (SharedFleet::default(), SharedPsks::default());
    let inbox: Arc<Inbox> = Arc::default();
    let bases = Arc::new(Bases::on(process::memory().unwrap_or(0)));
    let shared = (Arc::clone(&fleet), Arc::clone(&psks), Arc::clone(&bases));
    let (writer, writing) = Writer::start(connection, shared, Arc::clone(&inbox)).map_err(at_database)?;
    let atlas = Atlas::default();
    let (nudge, nudged) = Nudge::new();
    let refusals: Arc<Refusals> = Arc::default();
    let targets: Vec<String> = config.notify.iter().map(|(url, _)| url.clone()).collect();
    let desk = Desk::open(&Readers::new(&config.database), writer.clone(), targets).map_err(at_database)?;
    let desk = Arc::new(desk);
    let failures = Failures::default();
    let started = now_ms();
    let alarms = alarm::keeper::Sources {
        desk: Arc::clone(&desk),
        atlas: atlas.clone(),
        fleet: Arc::clone(&fleet),
        writer: writer.clone(),
        readers: Readers::new(&config.database),
        psks: Arc::clone(&psks),
        psk_health: Arc::clone(&psk_health),
        refusals: Arc::clone(&refusals),
        notifier: Arc::clone(&failures),
        database: config.database.clone(),
        started,
    };
    let keepers = vec![
        spawn("psk", {
            let (writer, health, stop) = (writer.clone(), Arc::clone(&psk_health), stop.clone());
            move || psks::keep(&source, &writer, &nudged, &health, &stop)
        }),
        spawn("sweep", {
            let (writer, stop) = (writer.clone(), stop.clone());
            let (retention, history) = (config.retention, config.history);
            move || sweep::keep(&writer, retention, history, &stop)
        }),
        spawn("map", {
            let (atlas, writer, stop) = (atlas.clone(), writer.clone(), stop.clone());
            let (readers, fleet) = (Readers::new(&config.database), Arc::clone(&fleet));
            move || atlas.keep(&inbox, &writer, &readers, &fleet, &stop)
        }),
        spawn("alarm", {
            let stop = stop.clone();
            move || alarm::keeper::keep(&alarms, &stop)
        }),
    ];
    let notifiers: Vec<_> = config
        .notify
        .iter()
        .map(|(url, kind)| {
            let target = Target { url: url.clone(), kind: *kind, authorities: authorities.clone() };
            let (writer, failures, stop) = (writer.clone(), Arc::clone(&failures), stop.clone());
            let secret = notify_secret.clone();
            spawn("notify", move || alarm::notify::keep(&target, secret.as_ref(), &writer, &failures, &stop))
        })
        .collect();
    let counters: Arc<OnceLock<_>> = Arc::default();
    let buffered = process::buffered(process::memory());
    let context = Arc::new(Context {
        config: config.clone(),
        writer: writer.clone(),
        readers: Readers::new(&config.database),
        bases,
        fleet,
        atlas,
        alarms: desk,
        psks,
        nudge,
        psk_health,
        access,
        refusals,
        admin,
        gate: Arc::clone(&counters),
        answer_max: buffered / 4 * 3,
        started,
    });
    log::info!(
        "manager {} on {}, open http://{}/",
        env!("CARGO_PKG_VERSION"),
        config.listen,
        address(config)
    );

    let limits = Limits { body: ENVELOPE_MAX, buffered, ..Limits::default() }.capped_for(nofile);
    let handler = move |request, reply| handle(&context, request, reply);
    let gate = Gate::new(limits, handler).with_refusals(reply::refusal).with_brief(request::is_brief);
    let _ = counters.set(gate.counters());
    let served = gate.run(vec![listener], &stop, GRACE).map_err(io("gate"));

    stop.trigger();
    for keeper in keepers {
        let _ = keeper.map(JoinHandle::join);
    }
    // A receiver may hang for long; what it did not answer is sent again after the next start.
    let until = Instant::now() + NOTIFY_GRACE;
    while notifiers.iter().flatten().any(|thread| !thread.is_finished()) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    writer.stop();
    let _ = writing.join();
    log::info!("stopped");
    served.map(|_| ())
}

/// The names that are set, and this machine's own, also as mDNS has it.
fn own_names(config: &Config) -> Vec<String> {
    let mut names = config.hosts.clone();
    if let Some(name) = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()) {
        names.extend([format!("{name}.local"), name]);
    }
    names
}

/// The address to open on this host.
fn address(config: &Config) -> std::net::SocketAddr {
    let mut address = config.listen;
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    address
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Option<JoinHandle<()>> {
    let spawned = std::thread::Builder::new().name(name.into()).spawn(work);
    spawned.inspect_err(|error| log::error!("thread {name}: {error}")).ok()
}
