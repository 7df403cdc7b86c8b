//! A large fleet at its pace for long: is memory flat, do latencies drift, do readers suffer, and how
//! long does a restart take? And what a further agent costs in memory.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use proto::limits::manager_path;
use serde::Serialize;

use super::account::Account;
use super::bars::Bar;
use super::client::Client;
use super::compare::{load, warm};
use super::fleet::Fleet;
use super::histogram::Histogram;
use super::load::{Load, Progress, Until};
use super::measure::{Row, ratio, row};
use super::options::Options;
use super::say;
use super::server::{Kind, Server};
use super::table::{Table, number};
use crate::Result;

/// Windows that a run is looked at in.
const WINDOWS: u32 = 10;
/// Seconds between two rounds of the readers.
const READ_EVERY: Duration = Duration::from_secs(5);
/// What readers read.
const PATHS: [&str; 5] =
    [manager_path::HEALTHCHECK, manager_path::AGENTS, "/", "/metrics", "/status/topology?detail=brief"];
/// Rounds of reports after which an agent's memory in the manager no longer grows: it remembers 120
/// nonces ([`proto::limits::NONCES`]).
const ROUNDS: u32 = 125;

/// One stretch of the run.
#[derive(Debug, Default, Serialize)]
pub(super) struct Window {
    reports: u64,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    rss_mb: f64,
    /// CPU of the server as a share of one core.
    cpu: f64,
    /// Longest time of each of [`PATHS`] (ms).
    reads_ms: [f64; 5],
    reads_failed: u64,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub(super) struct Steady {
    row: Row,
    /// Reports per second while every agent reported for the first time.
    first_contacts_rate: f64,
    windows: Vec<Window>,
    /// For how long the manager's writer was held at most (ms): by a transaction, by a step of retention,
    /// by one of the map's history.
    longest_ms: [f64; 3],
    /// From starting to a healthy answer that counts all agents.
    restart_s: f64,
    agents_after_restart: u64,
}

/// Runs a fleet at its pace.
///
/// # Errors
/// When the manager does not run.
pub(super) fn run(options: &Options, dir: &Path) -> Result<(Steady, Vec<Bar>)> {
    let fleet = Fleet::new(options.agents, false)?;
    let server = Server::start(Kind::Manager, dir)?;
    let start = Instant::now();
    let warmed = warm(&server, options, &fleet, 1)?;
    let first_contacts_rate = ratio(warmed, 1) / start.elapsed().as_secs_f64();
    say(&format!("{warmed} of {} agents reported, {first_contacts_rate:.0}/s\n", options.agents))?;

    let window = (options.time / WINDOWS).max(Duration::from_secs(1));
    let load = Load { rate: Some(options.rate), window, ..load(&server, options) };
    let before = server.account()?;
    let (outcome, watched) = watch(&server, window, || load.run(&fleet, &Progress::default()))?;
    let mut row = row(&server, &load, &outcome, before, server.account()?);
    let longest_ms = longest(&server);
    let size = server.stop()?;
    row.database = Some(ratio(size, warmed + row.reports));
    let windows = outcome.windows.iter().zip(watched).map(|(latency, watched)| Window {
        reports: latency.total(),
        p50_ms: latency.permille_ms(500),
        p99_ms: latency.permille_ms(990),
        max_ms: latency.max_ms(),
        ..watched
    });
    let windows: Vec<_> = windows.collect();
    let (restart_s, agents_after_restart) = restart(options, dir)?;
    let steady = Steady { row, first_contacts_rate, windows, longest_ms, restart_s, agents_after_restart };
    let bars = bars(&steady);
    Ok((steady, bars))
}

/// Samples the server and reads from it while `work` runs. One value for each window.
fn watch<T: Send>(
    server: &Server,
    window: Duration,
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<(T, Vec<Window>)> {
    let (done, start) = (AtomicBool::new(false), Instant::now());
    let windows = Mutex::new(Vec::<Window>::new());
    let note = |change: &dyn Fn(&mut Window)| {
        let number = start.elapsed().as_millis() / window.as_millis().max(1);
        let number = usize::try_from(number).unwrap_or(0);
        let mut windows = windows.lock().unwrap_or_else(PoisonError::into_inner);
        if windows.len() <= number {
            windows.resize_with(number + 1, Window::default);
        }
        change(&mut windows[number]);
    };
    let result = thread::scope(|scope| {
        scope.spawn(|| sample(server.pid(), window, &done, &note));
        scope.spawn(|| read(server, &done, &note));
        let result = work();
        done.store(true, Ordering::Relaxed);
        result
    })?;
    Ok((result, windows.into_inner().unwrap_or_else(PoisonError::into_inner)))
}

type Note<'a> = dyn Fn(&dyn Fn(&mut Window)) + Sync + 'a;

fn sample(pid: u32, window: Duration, done: &AtomicBool, note: &Note<'_>) {
    let mut before = Account::of(pid).unwrap_or_default();
    while !done.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(500));
        let Ok(now) = Account::of(pid) else { return };
        let share = ratio(now.cpu_us - before.cpu_us, 1_000_000) / window.as_secs_f64();
        note(&|window| {
            window.rss_mb = window.rss_mb.max(ratio(now.rss_kb, 1000) * 1.024);
            window.cpu += share;
        });
        before = now;
    }
}

fn read(server: &Server, done: &AtomicBool, note: &Note<'_>) {
    let mut client = Client::new(server.address);
    while !done.load(Ordering::Relaxed) {
        let round = Instant::now();
        for (index, path) in PATHS.iter().enumerate() {
            let start = Instant::now();
            let good = client.get(path).is_ok_and(|answer| answer.status == 200);
            let mut took = Histogram::default();
            took.add(start.elapsed());
            note(&|window| {
                window.reads_failed += u64::from(!good);
                window.reads_ms[index] = window.reads_ms[index].max(took.max_ms());
            });
        }
        while round.elapsed() < READ_EVERY && !done.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Starts a manager on the database that is there; seconds until it is well with all its agents, and
/// how many those are.
fn restart(options: &Options, dir: &Path) -> Result<(f64, u64)> {
    let start = Instant::now();
    let mut server = Server::start(Kind::Manager, dir)?;
    server.await_health(|body| agents_in(body) >= u64::from(options.agents))?;
    let seconds = start.elapsed().as_secs_f64();
    let mut client = Client::new(server.address);
    let agents = client.get(manager_path::HEALTHCHECK).map_or(0, |answer| agents_in(answer.body));
    server.stop()?;
    Ok((seconds, agents))
}

/// What the health check says of how long the writer was held.
fn longest(server: &Server) -> [f64; 3] {
    let mut client = Client::new(server.address);
    let health = client.get(manager_path::HEALTHCHECK).map(|answer| serde_json::from_slice(answer.body));
    let health: serde_json::Value = health.ok().and_then(std::result::Result::ok).unwrap_or_default();
    ["transaction", "retention", "history"]
        .map(|what| health["database"]["longest_ms"][what].as_f64().unwrap_or(f64::NAN))
}

/// The agents that a health check counts, whatever their presence.
fn agents_in(body: &[u8]) -> u64 {
    let health: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let counts = health["agents"].as_object();
    counts.map_or(0, |counts| counts.values().filter_map(serde_json::Value::as_u64).sum())
}

/// Memory may move by this much from the second window to the last, and the p99 of the second half be
/// this multiple of the first half's: what a noisy machine does by itself.
const FLAT: f64 = 1.05;
const DRIFT: f64 = 1.5;

fn bars(steady: &Steady) -> Vec<Bar> {
    let windows = &steady.windows;
    let mut bars = vec![
        Bar::at_most("restart with all agents", steady.restart_s, 5.0, "s"),
        Bar::at_most("writer held by a step of retention", steady.longest_ms[1], 50.0, "ms"),
    ];
    if let Some(rate) = steady.row.paced {
        bars.push(Bar::at_least("rate held", steady.row.rate, 0.99 * rate, "reports/s"));
    }
    bars.push(Bar::at_most("reports not stored", ratio(steady.row.failed, 1), 0.0, "reports"));
    // The last one is cut off by the end of the run.
    if let [_, second, .., last, _] = &windows[..] {
        bars.push(Bar::at_most(
            "memory, last against second window",
            last.rss_mb / second.rss_mb,
            FLAT,
            "times",
        ));
        let (first, later) = windows.split_at(windows.len() / 2);
        let median = |half: &[Window]| {
            let mut p99: Vec<_> =
                half.iter().filter(|window| window.reports > 0).map(|window| window.p99_ms).collect();
            p99.sort_by(f64::total_cmp);
            p99.get(p99.len() / 2).copied().unwrap_or(0.0)
        };
        let drift = median(later) / median(first);
        bars.push(Bar::at_most("p99, second against first half", drift, DRIFT, "times"));
    }
    let failed = windows.iter().map(|window| window.reads_failed).sum();
    bars.push(Bar::at_most("reads that failed", ratio(failed, 1), 0.0, "reads"));
    bars
}

/// The windows as a table.
pub(super) fn render(steady: &Steady) -> String {
    let [transaction, retention, history] = steady.longest_ms;
    let heads = [
        "window",
        "reports",
        "p50 ms",
        "p99 ms",
        "max ms",
        "RSS MB",
        "CPU cores",
        "health ms",
        "agents ms",
        "page ms",
        "metrics ms",
        "map ms",
        "reads failed",
    ];
    let mut table = Table::new(&heads);
    for (index, window) in steady.windows.iter().enumerate() {
        let figures = [window.p50_ms, window.p99_ms, window.max_ms, window.rss_mb, window.cpu];
        let mut cells = vec![(index + 1).to_string(), window.reports.to_string()];
        cells.extend(figures.into_iter().chain(window.reads_ms).map(number));
        cells.push(window.reads_failed.to_string());
        table.row(cells);
    }
    format!(
        "{}\nfirst contacts: {} reports/s; peak RSS {} MB; CPU {} µs/report; database {} B/report\n\
         the writer was held {} ms at most by a transaction, {} by a step of retention, {} by one of history\n\
         restart: {} s with {} agents\n",
        table.render(),
        number(steady.first_contacts_rate),
        number(steady.row.peak_rss_mb),
        number(steady.row.cpu_us),
        steady.row.database.map_or_else(|| "-".to_owned(), number),
        number(transaction),
        number(retention),
        number(history),
        number(steady.restart_s),
        steady.agents_after_restart
    )
}

/// What a further agent costs in memory, once the manager remembers all that it ever will of it (B).
#[derive(Debug, Serialize)]
pub(super) struct Growth {
    /// Agents in the fleet before.
    agents: u32,
    /// Memory with them (MB).
    rss_mb: f64,
    /// Agents that came.
    further: u32,
    /// Memory with those too (MB).
    further_rss_mb: f64,
    /// The difference per agent (B).
    per_agent: f64,
}

/// Lets a fleet of 1,000 grow by the agents that the options ask for.
///
/// # Errors
/// When the manager does not run.
pub(super) fn grow(options: &Options, dir: &Path) -> Result<(Growth, Vec<Bar>)> {
    let (agents, further) = (1000, options.agents);
    let fleet = Fleet::new(agents + further, false)?;
    let server = Server::start(Kind::Manager, dir)?;
    let rss = |agents| -> Result<u64> {
        let until = Until::Rounds(ROUNDS);
        Load { agents, until, ..load(&server, options) }.run(&fleet, &Progress::default())?;
        Ok(server.account()?.rss_kb)
    };
    let before = rss(0..agents)?;
    let after = rss(agents..agents + further)?;
    server.stop()?;
    let per_agent = ratio(after.saturating_sub(before) * 1024, further.into());
    let mb = |kb| ratio(kb, 1000) * 1.024;
    let growth = Growth { agents, rss_mb: mb(before), further, further_rss_mb: mb(after), per_agent };
    // The manager keeps each agent's last whole report, to which the next ones are the difference.
    let beyond = per_agent - ratio(u64::try_from(super::fleet::report_len()?).unwrap_or(0), 1);
    let bar = Bar::at_most("memory per further agent beyond its last report", beyond, 3072.0, "B");
    Ok((growth, vec![bar]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_of_every_presence_count() {
        let body = br#"{"status":"ok","agents":{"late":2,"never":0,"offline":1,"online":4}}"#;
        assert_eq!(agents_in(body), 7);
        assert_eq!(agents_in(b"<html>"), 0);
    }

    #[test]
    fn growth_and_drift_are_seen() {
        let window =
            |rss_mb, p99_ms| Window { rss_mb, p99_ms, reports: 9, reads_failed: 1, ..Window::default() };
        let steady = |last| Steady {
            row: Row { paced: Some(100.0), rate: 99.5, ..Row::default() },
            first_contacts_rate: 1.0,
            windows: vec![window(90.0, 9.0), window(100.0, 2.0), window(100.0, 2.0), last, window(1.0, 4.0)],
            longest_ms: [40.0, 10.0, 20.0],
            restart_s: 4.0,
            agents_after_restart: 1,
        };
        let missed = |last| -> Vec<String> {
            let text = super::super::bars::render(&bars(&steady(last)));
            text.lines().filter(|line| line.contains("MISS")).map(|line| line.to_owned()).collect()
        };
        let lines = missed(window(100.0, 2.0));
        assert!(lines.len() == 1 && lines[0].contains("reads that failed"), "{lines:?}");
        assert!(missed(window(120.0, 2.0)).iter().any(|line| line.contains("memory")));
        assert!(render(&steady(window(1.0, 1.0))).contains("restart: 4.00 s with 1 agents"));
    }
}
