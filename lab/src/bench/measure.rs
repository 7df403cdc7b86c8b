//! One run of one server under one load, and its row in the table.

use std::sync::atomic::Ordering;

use serde::Serialize;

use super::account::Account;
use super::fleet::Fleet;
use super::load::{Load, Outcome, Progress};
use super::server::Server;
use super::table::{Table, maybe, number};
use crate::{Error, Result};

/// A row of the table. "Per report" is per report answered as expected.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Row {
    /// Which server.
    pub(super) server: String,
    /// Reports per second that were asked for; `None` is flat out.
    pub(super) paced: Option<f64>,
    /// Agents that reported.
    pub(super) agents: usize,
    /// Client threads.
    pub(super) clients: u32,
    /// Length of the run (s).
    pub(super) seconds: f64,
    /// Reports answered as expected.
    pub(super) reports: u64,
    /// All others.
    pub(super) failed: u64,
    /// What the first of those met.
    pub(super) failure: Option<String>,
    /// Reports per second.
    pub(super) rate: f64,
    /// CPU of the server per report, user and system (µs).
    pub(super) cpu_us: f64,
    /// CPU of the load generator per report (µs).
    pub(super) client_cpu_us: f64,
    /// Median latency, from connecting to the whole answer (ms).
    pub(super) p50_ms: f64,
    /// Latency that 99 % do not exceed (ms).
    pub(super) p99_ms: f64,
    /// Longest latency (ms).
    pub(super) max_ms: f64,
    /// How late the clients were in sending at their pace, 99 % of times (ms).
    pub(super) late_p99_ms: f64,
    /// Most memory that the server ever had (MB, its processes summed).
    pub(super) peak_rss_mb: f64,
    /// Bytes that the server caused to be written to storage, per report.
    pub(super) written: f64,
    /// Bytes that a report and its answer took on the wire, HTTP's own among them.
    pub(super) wire: f64,
    /// Bytes by which the database grew per report.
    pub(super) database: Option<f64>,
}

/// Puts a server under a load.
///
/// # Errors
/// When the server is gone or not one report got through.
pub(super) fn measure(server: &Server, load: &Load, fleet: &Fleet) -> Result<(Row, Outcome)> {
    let before = server.account()?;
    let progress = Progress::default();
    let outcome = load.run(fleet, &progress)?;
    let after = server.account()?;
    debug_assert_eq!(progress.reports.load(Ordering::Relaxed), outcome.reports);
    if outcome.reports == 0 {
        let why = outcome.failure.unwrap_or_default();
        return Err(Error::Http(format!("{}: no report got through: {why}", server.kind.name())));
    }
    Ok((row(server, load, &outcome, before, after), outcome))
}

/// The row of a run.
pub(super) fn row(server: &Server, load: &Load, outcome: &Outcome, before: Account, after: Account) -> Row {
    let per_report = |total: u64| ratio(total, outcome.reports);
    let seconds = outcome.elapsed.as_secs_f64();
    Row {
        server: server.kind.name().to_owned(),
        paced: load.rate,
        agents: load.agents.len(),
        clients: load.clients,
        seconds,
        reports: outcome.reports,
        failed: outcome.failed,
        failure: outcome.failure.clone(),
        rate: ratio(outcome.reports, 1) / seconds,
        cpu_us: per_report(after.cpu_us - before.cpu_us),
        client_cpu_us: per_report(outcome.client_cpu_us),
        p50_ms: outcome.latency.permille_ms(500),
        p99_ms: outcome.latency.permille_ms(990),
        max_ms: outcome.latency.max_ms(),
        late_p99_ms: outcome.late.permille_ms(990),
        peak_rss_mb: ratio(after.peak_rss_kb, 1000) * 1.024,
        written: per_report(after.written - before.written),
        wire: ratio(outcome.wire, outcome.reports),
        database: None,
    }
}

/// A quotient of counts; 0 where there is nothing to divide by.
#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
pub(super) fn ratio(total: u64, count: u64) -> f64 {
    if count == 0 { 0.0 } else { total as f64 / count as f64 }
}

/// The rows as a table; ratios against the Flask row of the same run.
pub(super) fn render(rows: &[Row]) -> String {
    let flask = rows.iter().find(|row| row.server == super::server::Kind::Flask.name());
    let mut table = Table::new(&[
        "server",
        "load",
        "reports/s",
        "vs Flask",
        "CPU µs/report",
        "CPU vs Flask",
        "p50 ms",
        "p99 ms",
        "max ms",
        "peak RSS MB",
        "wire B/report",
        "written B/report",
        "database B/report",
        "clients' CPU µs/report",
        "failed",
    ]);
    for row in rows {
        // At a pace the rate says nothing.
        let rate = flask.filter(|_| row.paced.is_none()).map(|flask| row.rate / flask.rate);
        table.row([
            row.server.clone(),
            row.paced.map_or_else(|| format!("{} clients", row.clients), |rate| format!("{rate:.0}/s")),
            number(row.rate),
            maybe(rate),
            number(row.cpu_us),
            flask.map_or_else(|| "-".to_owned(), |flask| format!("{:.3}", row.cpu_us / flask.cpu_us)),
            number(row.p50_ms),
            number(row.p99_ms),
            number(row.max_ms),
            number(row.peak_rss_mb),
            number(row.wire),
            number(row.written),
            maybe(row.database),
            number(row.client_cpu_us),
            row.failed.to_string(),
        ]);
    }
    let mut text = table.render();
    for (row, failure) in rows.iter().filter_map(|row| Some((row, row.failure.as_ref()?))) {
        text.push_str(&format!("{}: the first failure: {failure}\n", row.server));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_against_flask_of_the_same_run() {
        let row = |server: &str, rate, cpu_us| Row { server: server.into(), rate, cpu_us, ..Row::default() };
        let rows = [row("manager", 8000.0, 100.0), row("flask", 400.0, 2000.0)];
        let text = render(&rows);
        let manager = text.lines().nth(2).unwrap();
        assert!(manager.contains("| 20.0 |") || manager.contains(" 20.0 |"), "{text}");
        assert!(manager.contains("0.050"), "{text}");
        let alone = render(&[Row { failure: Some("refused".into()), ..row("manager", 8000.0, 100.0) }]);
        assert!(alone.contains("manager: the first failure: refused"), "{alone}");
    }
}
