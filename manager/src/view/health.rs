//! How the manager fares, as GET /status/healthcheck shows it.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::fleet::Fleet;
use crate::psks::PskHealth;
use crate::store::writer::WriterHealth;

/// How the manager fares.
#[derive(Debug, Serialize)]
pub struct Health {
    /// `ok`, or `failing`.
    pub status: &'static str,
    /// Version of this program.
    pub version: &'static str,
    /// Seconds since it started.
    pub uptime_s: i64,
    /// The database.
    pub database: DatabaseHealth,
    /// Seconds since the last report came; `null` before the first.
    pub last_report_age_s: Option<i64>,
    /// Visible agents by presence.
    pub agents: BTreeMap<&'static str, usize>,
    /// Reports stored since the start.
    pub reports_stored: u64,
    /// What was refused since the start, by reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// Why the PSK could not be read lately; `null` when it could.
    pub psk_failure: Option<String>,
}

/// How the database fares.
#[derive(Debug, Serialize)]
pub struct DatabaseHealth {
    /// Whether the last transaction worked.
    pub writable: bool,
    /// Why it did not.
    pub failure: Option<String>,
    /// Transactions since the start.
    pub commits: u64,
    /// Seconds since the last one that worked.
    pub last_commit_age_s: Option<u64>,
    /// For how long the writer was held at most since the start (ms): by a transaction, and within one by
    /// a step of retention and by one of the map's history.
    pub longest_ms: LongestMs,
}

/// See [`DatabaseHealth::longest_ms`].
#[derive(Debug, Serialize)]
pub struct LongestMs {
    transaction: u128,
    retention: u128,
    history: u128,
}

impl Health {
    /// Whether all is well.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.status == "ok"
    }
}

/// Puts together what is known at `now` (ms).
#[must_use]
pub fn view(
    writer: &WriterHealth,
    psk: &PskHealth,
    refused: &BTreeMap<&'static str, u64>,
    fleet: &Fleet,
    started: i64,
    now: i64,
) -> Health {
    let mut agents = BTreeMap::from([("online", 0), ("late", 0), ("offline", 0), ("never", 0)]);
    for agent in fleet.agents.values().filter(|agent| agent.is_visible()) {
        *agents.entry(agent.presence(now).name()).or_default() += 1;
    }
    let last = fleet.agents.values().filter_map(|agent| agent.last_seen).max();
    let writable = writer.failure.is_none();
    Health {
        status: if writable { "ok" } else { "failing" },
        version: env!("CARGO_PKG_VERSION"),
        uptime_s: (now - started).max(0) / 1000,
        database: DatabaseHealth {
            writable,
            failure: writer.failure.clone(),
            commits: writer.commits,
            last_commit_age_s: writer.committed.map(|at| at.elapsed().as_secs()),
            longest_ms: LongestMs {
                transaction: writer.longest.transaction.as_millis(),
                retention: writer.longest.retention.as_millis(),
                history: writer.longest.history.as_millis(),
            },
        },
        last_report_age_s: last.map(|seen| (now - seen).max(0) / 1000),
        agents,
        reports_stored: writer.stored,
        refused: refused.clone(),
        psk_failure: psk.failure.clone(),
    }
}
