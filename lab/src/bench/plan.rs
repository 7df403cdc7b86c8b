//! 30 days planned from a real run: a fleet's reports go through the manager's own store with the clock
//! running fast, then the database is measured, read from, and walked by retention while reports go on.

use std::fs::File;
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use kattila_manager::alarm::watch::Watches;
use kattila_manager::atlas;
use kattila_manager::bases::Bases;
use kattila_manager::content::Content;
use kattila_manager::inbox::Inbox;
use kattila_manager::psks::SharedPsks;
use kattila_manager::scribe;
use kattila_manager::store::history::PackedMap;
use kattila_manager::store::retention::START;
use kattila_manager::store::writer::{Cutoff, Delivery, Held, Writer};
use kattila_manager::store::{self, Connection, Readers};
use kattila_manager::topology::State;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use proto::ack::Code;
use proto::envelope::{Envelope, Sealed};
use serde::Serialize;

use super::bars::Bar;
use super::client::Client;
use super::fleet::{Fleet, Scribe, now_ms};
use super::histogram::Histogram;
use super::measure::ratio;
use super::options::Options;
use super::say;
use super::server::{Kind, Server, database};
use super::table::{Table, number};
use crate::{Error, Result};

/// Milliseconds of the fast clock between two reports of an agent.
const INTERVAL: i64 = 30_000;
/// Reports in one transaction.
const BATCH: usize = 256;
/// The manager's `RETENTION` and `HISTORY` as they are when nothing is set, in hours.
const RETENTION_H: f64 = 48.0;
const HISTORY_H: f64 = 30.0 * 24.0;
/// Tables whose rows go after `HISTORY`; those of reports go after `RETENTION`, the rest stays.
const HISTORY: [&str; 2] = ["events", "maps"];

/// What came of it.
#[derive(Debug, Serialize)]
pub(super) struct Plan {
    agents: u32,
    reports: u64,
    /// Reports per second that the store took, the simulator and all checks but the MAC included.
    rate: f64,
    /// What the run stands for (h).
    hours: f64,
    events: u64,
    maps: u64,
    database: u64,
    /// Bytes of each table with its indices.
    tables: Vec<(String, u64)>,
    /// Bytes after 30 days: reports of `RETENTION`, changes and maps of `HISTORY`, the rest.
    planned: [f64; 3],
    /// First and second time of each read (ms).
    reads: Vec<(&'static str, [f64; 2])>,
    /// Rows of reports that retention deleted per second while reports went on.
    retired_rate: f64,
    /// Longest that the writer was held while it did (ms): by a step of retention, by a transaction.
    held_ms: [f64; 2],
    /// Longest time of a batch of 256 reports before and during retention (ms).
    batch_ms: [f64; 2],
}

/// Runs it.
///
/// # Errors
/// What the store says, or that a report was not stored.
pub(super) fn run(options: &Options, dir: &Path) -> Result<(Plan, Vec<Bar>)> {
    let dir = dir.join("plan");
    std::fs::create_dir_all(&dir).map_err(Error::io(dir.display().to_string()))?;
    let file = database(&dir);
    let fleet = Fleet::new(options.agents, false)?;
    let ticks = options.reports.div_ceil(options.agents);
    let begin = now_ms();
    let end = begin + i64::from(ticks) * INTERVAL;

    let mut run = Run::start(&file, &fleet, begin)?;
    let started = Instant::now();
    let mut first = 0;
    for tick in 1..=ticks {
        run.tick(begin + i64::from(tick) * INTERVAL)?;
        if tick == 1 {
            first = run.events;
        }
        if tick % (ticks / 4).max(1) == 0 {
            say(&format!("{} reports after {:.0} s\n", run.reports, started.elapsed().as_secs_f64()))?;
        }
    }
    let (reports, rate) = (run.reports, ratio(run.reports, 1) / started.elapsed().as_secs_f64());
    let before_ms = run.batches.max_ms();
    run.stop();

    let connection = store::open(&file).map_err(|error| Error::Plan(error.to_string()))?;
    let tables = tables(&connection)?;
    let count = |table: &str| count(&connection, table);
    let (events, maps) = (count("events")?, count("maps")?);
    drop(connection);
    let size = std::fs::metadata(&file).map_or(0, |metadata| metadata.len());
    let reads = reads(&dir, &file, begin + (end - begin) / 2, end)?;

    let mut run = Run::start(&file, &fleet, end)?;
    let cutoff = begin + (end - begin) / 2;
    let (steps, seconds) = run.retire(Cutoff { reports: cutoff, history: cutoff })?;
    let (held, during_ms) = (run.writer.health().longest, run.batches.max_ms());
    run.stop();
    let connection = store::open(&file).map_err(|error| Error::Plan(error.to_string()))?;
    let gone = (reports + run.reports).saturating_sub(self::count(&connection, "reports")?);
    say(&format!("retention: {steps} steps in {seconds:.0} s; {gone} reports went\n"))?;

    let hours = f64::from(ticks) * 30.0 / 3600.0;
    let of = |wanted: &dyn Fn(&str) -> bool| -> f64 {
        tables.iter().filter(|(name, _)| wanted(name)).map(|(_, bytes)| ratio(*bytes, 1)).sum()
    };
    let raw = of(&|name| name == "reports");
    let history = of(&|name| HISTORY.contains(&name));
    // The changes of the first minute, when every agent is new, come once and not every day.
    let once = history * ratio(first, events.max(1));
    let planned = [
        raw / hours * RETENTION_H,
        once + (history - once) / hours * HISTORY_H,
        of(&|_| true) - raw - history,
    ];
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    let Held { retention, transaction, .. } = held;
    let plan = Plan {
        agents: options.agents,
        reports,
        rate,
        hours,
        events,
        maps,
        database: size,
        tables,
        planned,
        reads,
        retired_rate: ratio(gone, 1) / seconds,
        held_ms: [ms(retention), ms(transaction)],
        batch_ms: [before_ms, during_ms],
    };
    let bars = vec![
        Bar::at_least("reports stored for the plan", ratio(reports, 1), 1_000_000.0, "reports"),
        Bar::at_most("writer held by a step of retention", plan.held_ms[0], 50.0, "ms"),
        Bar::at_most("database", ratio(size, reports), 750.0, "B/report"),
    ];
    Ok((plan, bars))
}

/// The manager's writer and map in this process, and the fleet that feeds them.
struct Run<'a> {
    fleet: &'a Fleet,
    scribe: Scribe<'a>,
    writer: Writer,
    writing: Option<thread::JoinHandle<()>>,
    bases: Arc<Bases>,
    readers: Readers,
    inbox: Arc<Inbox>,
    state: State,
    watches: Watches,
    unkept: usize,
    now: i64,
    reports: u64,
    /// Changes of the map.
    events: u64,
    /// From handing 256 reports to the writer to their last answer.
    batches: Histogram,
}

impl<'a> Run<'a> {
    fn start(file: &Path, fleet: &'a Fleet, now: i64) -> Result<Self> {
        let connection = store::open(file).map_err(|error| Error::Plan(error.to_string()))?;
        let (bases, inbox): (Arc<Bases>, Arc<Inbox>) = Default::default();
        let shared = (Arc::default(), SharedPsks::default(), Arc::clone(&bases));
        let started = Writer::start(connection, shared, Arc::clone(&inbox));
        let (writer, writing) = started.map_err(|error| Error::Plan(error.to_string()))?;
        let scribe = Scribe::new(fleet)?;
        let readers = Readers::new(file);
        Ok(Self {
            fleet,
            scribe,
            writer,
            writing: Some(writing),
            bases,
            readers,
            inbox,
            state: State::new(),
            watches: Watches::default(),
            unkept: 0,
            now,
            reports: 0,
            events: 0,
            batches: Histogram::default(),
        })
    }

    /// Every agent reports once, and the map is settled.
    fn tick(&mut self, now: i64) -> Result<()> {
        self.now = now;
        let agents: Vec<u32> = (0..self.fleet.len()).collect();
        for batch in agents.chunks(BATCH) {
            self.store(batch)?;
        }
        let events = self.state.settle(now);
        self.unkept += events.len();
        self.events += events.len() as u64;
        let whole = atlas::is_whole_due(self.unkept, &self.state);
        let map = whole.then(|| PackedMap::of(&self.state.structure()));
        if whole {
            self.unkept = 0;
        }
        let mut history = scribe::Scribe::new(&self.writer, now, &|| false);
        events.into_iter().for_each(|event| history.add(event));
        if !history.end(map) {
            return Err(Error::Plan("the map's history was not written".to_owned()));
        }
        Ok(())
    }

    fn store(&mut self, agents: &[u32]) -> Result<()> {
        let sealed: Vec<Sealed> = agents.iter().map(|agent| self.scribe.next_at(*agent, self.now)).collect();
        let deliveries: Vec<Delivery> =
            sealed.iter().map(|sealed| self.delivery(&sealed.bytes)).collect::<Result<_>>()?;
        let (tell, told) = sync_channel(agents.len());
        let handed = Instant::now();
        for delivery in deliveries {
            let tell = tell.clone();
            self.writer.report(
                delivery,
                Box::new(move |answer| {
                    let _ = tell.send(answer.map(|ack| ack.code).map_err(|reject| reject.to_string()));
                }),
            );
        }
        drop(tell);
        for answer in told {
            match answer {
                Ok(Code::Stored) => self.reports += 1,
                other => return Err(Error::Plan(format!("a report was answered {other:?}"))),
            }
        }
        self.batches.add(handed.elapsed());
        agents.iter().for_each(|agent| self.fleet.stored(*agent));
        for (receipt, present) in self.inbox.take(Duration::ZERO).reports {
            let taken = atlas::take(&mut self.state, &mut self.watches, &self.readers, &receipt, present);
            taken.map_err(|reject| Error::Plan(reject.to_string()))?;
        }
        Ok(())
    }

    fn delivery(&self, bytes: &[u8]) -> Result<Delivery> {
        let envelope = Envelope::parse(bytes).map_err(|error| Error::Plan(error.to_string()))?;
        let content = Content::read(&envelope, &self.bases, &self.readers, self.now);
        let content = content.map_err(|reject| Error::Plan(reject.to_string()))?;
        Ok(Delivery {
            header: envelope.header,
            received_at: self.now,
            psk: 1,
            path: Vec::new(),
            content: Ok(content),
        })
    }

    /// Walks retention once, as the manager does, while reports go on; steps and seconds.
    fn retire(&mut self, before: Cutoff) -> Result<(u64, f64)> {
        let writer = self.writer.clone();
        let done = Mutex::new(None);
        thread::scope(|scope| {
            scope.spawn(|| {
                let (started, mut steps, mut place) = (Instant::now(), 0, START);
                loop {
                    let step = Instant::now();
                    let next = writer.retain(before, place);
                    steps += 1;
                    thread::sleep(step.elapsed().max(Duration::from_millis(5)));
                    match next {
                        Some(next) => place = next,
                        None => break,
                    }
                }
                let mut done = done.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                *done = Some((steps, started.elapsed().as_secs_f64()));
            });
            loop {
                if let Some(done) = *done.lock().unwrap_or_else(std::sync::PoisonError::into_inner) {
                    return Ok(done);
                }
                self.tick(self.now + INTERVAL)?;
            }
        })
    }

    fn stop(&mut self) {
        self.writer.stop();
        let _ = self.writing.take().map(thread::JoinHandle::join);
    }
}

/// Bytes of each table, its indices included.
fn tables(connection: &Connection) -> Result<Vec<(String, u64)>> {
    let sql = "SELECT coalesce(m.tbl_name, s.name), sum(s.pgsize) FROM dbstat s
               LEFT JOIN sqlite_schema m ON m.name = s.name GROUP BY 1 ORDER BY 2 DESC";
    let fail = |error: &dyn std::fmt::Display| Error::Plan(format!("dbstat: {error}"));
    let mut statement = connection.prepare(sql).map_err(|error| fail(&error))?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?)));
    rows.map_err(|error| fail(&error))?
        .map(|row| row.map(|(name, bytes)| (name, u64::try_from(bytes).unwrap_or(0))))
        .collect::<std::result::Result<_, _>>()
        .map_err(|error| fail(&error))
}

fn count(connection: &Connection, table: &str) -> Result<u64> {
    let sql = format!("SELECT count(*) FROM {table}");
    let count = connection.query_row(&sql, [], |row| row.get::<_, i64>(0));
    Ok(u64::try_from(count.map_err(|error| Error::Plan(error.to_string()))?).unwrap_or(0))
}

/// How long a manager takes to read the past: the first time with the file out of the kernel's memory,
/// then again.
fn reads(dir: &Path, file: &Path, middle: i64, end: i64) -> Result<Vec<(&'static str, [f64; 2])>> {
    let server = Server::start(Kind::Manager, dir)?;
    let mut client = Client::new(server.address);
    let paths = [
        ("/status/topology?at=", format!("/status/topology?at={middle}")),
        ("the same, brief", format!("/status/topology?at={middle}&detail=brief")),
        ("/status/events, 1,000 of the middle", format!("/status/events?since={middle}&limit=1000")),
        ("/status/events, the last hour", format!("/status/events?since={}", end - 3_600_000)),
    ];
    let mut reads = Vec::new();
    for (name, path) in paths {
        let cold = File::open(file).map_err(Error::io(file.display().to_string()))?;
        let _ = posix_fadvise(&cold, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
        let mut times = [0.0; 2];
        for time in &mut times {
            let start = Instant::now();
            let answer = client.get(&path).map_err(|error| Error::Http(format!("{path}: {error}")))?;
            if answer.status != 200 {
                return Err(Error::Http(format!("{path}: status {}", answer.status)));
            }
            *time = start.elapsed().as_secs_f64() * 1000.0;
        }
        reads.push((name, times));
    }
    server.stop()?;
    Ok(reads)
}

/// The figures as tables.
pub(super) fn render(plan: &Plan) -> String {
    let mb = |bytes: f64| number(bytes / 1e6);
    let mut tables = Table::new(&["table", "MB", "B/report"]);
    for (name, bytes) in plan.tables.iter().filter(|(_, bytes)| *bytes > 100_000) {
        tables.row([name.clone(), mb(ratio(*bytes, 1)), number(ratio(*bytes, plan.reports))]);
    }
    let mut reads = Table::new(&["read", "first ms", "again ms"]);
    for (name, [cold, warm]) in &plan.reads {
        reads.row([(*name).to_owned(), number(*cold), number(*warm)]);
    }
    let [raw, history, rest] = plan.planned;
    format!(
        "{} reports of {} agents, {:.1} h of them, {} events, {} whole maps; {:.0} reports/s; {} MB\n\n{}\n{}\n\
         30 days of this fleet with RETENTION=48 and HISTORY=30: {} MB of reports, {} MB of history, {} MB \
         beside, {} MB in all\n\
         retention beside reports: {:.0} rows/s deleted; the writer was held {} ms at most by a step, {} ms by \
         a transaction; a batch of {BATCH} took {} ms at most before, {} ms during it\n",
        plan.reports,
        plan.agents,
        plan.hours,
        plan.events,
        plan.maps,
        plan.rate,
        mb(ratio(plan.database, 1)),
        tables.render(),
        reads.render(),
        mb(raw),
        mb(history),
        mb(rest),
        mb(raw + history + rest),
        plan.retired_rate,
        number(plan.held_ms[0]),
        number(plan.held_ms[1]),
        number(plan.batch_ms[0]),
        number(plan.batch_ms[1]),
    )
}
