//! Rows of agents and of their starts.

use std::collections::HashMap;
use std::sync::Arc;

use proto::ids::{AgentId, BootId};
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::reports;
use crate::error::StoreError;
use crate::fleet::{Agent, Latest};
use crate::replay::{Boot, Window};

const COLUMNS: &str = "no, id, hardware, hostname, version, first_seen, reset_at";

fn from_row(row: &Row<'_>) -> rusqlite::Result<Agent> {
    Ok(Agent {
        no: row.get(0)?,
        id: AgentId(row.get(1)?),
        hardware: row.get::<_, String>(2)?.into(),
        hostname: row.get::<_, String>(3)?.into(),
        version: row.get::<_, String>(4)?.into(),
        first_seen: row.get(5)?,
        reset_at: row.get(6)?,
        last_seen: None,
        latest: None,
    })
}

/// All agents with what their latest reports say, as after a start.
///
/// # Errors
/// What SQLite says.
pub fn load_all(connection: &Connection) -> Result<HashMap<AgentId, Arc<Agent>>, StoreError> {
    let mut statement = connection.prepare(&format!("SELECT {COLUMNS} FROM agents"))?;
    let agents = statement.query_map([], from_row)?;
    agents.map(|agent| complete(connection, agent?).map(|agent| (agent.id, Arc::new(agent)))).collect()
}

/// One agent with what its latest report says.
///
/// # Errors
/// What SQLite says.
pub fn load(connection: &Connection, id: AgentId) -> Result<Option<Agent>, StoreError> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM agents WHERE id = ?1"))?
        .query_row([id.0], from_row)
        .optional()?
        .map(|agent| complete(connection, agent))
        .transpose()
}

fn complete(connection: &Connection, mut agent: Agent) -> Result<Agent, StoreError> {
    if let Some(mut latest) = reports::latest(connection, agent.no)? {
        match reports::payload(connection, latest.report) {
            Ok(Some(json)) => {
                if let Ok(told) = serde_json::from_slice::<Told>(&json) {
                    told.describe(&mut latest);
                }
            }
            Ok(None) => {}
            // One damaged row must not keep a manager from starting.
            Err(StoreError::Broken(what)) => log::error!("database: agent {}: {what}", agent.id),
            Err(error) => return Err(error),
        }
        agent.last_seen = Some(latest.received_at);
        agent.latest = Some(latest);
    }
    Ok(agent)
}

/// What is kept in memory of a report, and nothing else of it: a start reads one of each agent.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Told {
    interval_s: u32,
    clock_offset_ms: i64,
    delivery: ToldDelivery,
    problems: Vec<IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ToldDelivery {
    spooled: u64,
    dropped: u64,
}

impl Told {
    /// As [`Latest::describe`].
    fn describe(&self, latest: &mut Latest) {
        latest.interval_s = self.interval_s;
        latest.clock_offset_ms = self.clock_offset_ms;
        latest.spooled = self.delivery.spooled;
        latest.dropped = self.delivery.dropped;
        latest.problems = self.problems.len();
    }
}

/// Adds an agent that was not known.
///
/// # Errors
/// What SQLite says.
pub fn insert(connection: &Connection, id: AgentId, hardware: &str, now: i64) -> Result<Agent, StoreError> {
    let sql = "INSERT INTO agents (id, hardware, hostname, version, first_seen) VALUES (?1, ?2, '', '', ?3)";
    connection.prepare_cached(sql)?.execute(params![id.0, hardware, now])?;
    Ok(Agent {
        no: connection.last_insert_rowid(),
        id,
        hardware: hardware.into(),
        hostname: "".into(),
        version: "".into(),
        first_seen: now,
        reset_at: None,
        last_seen: None,
        latest: None,
    })
}

/// Writes what an agent says of itself.
///
/// # Errors
/// What SQLite says.
pub fn update(connection: &Connection, agent: &Agent) -> Result<(), StoreError> {
    let sql = "UPDATE agents SET hardware = ?2, hostname = ?3, version = ?4 WHERE no = ?1";
    let Agent { no, hardware, hostname, version, .. } = agent;
    connection.prepare_cached(sql)?.execute(params![no, hardware, hostname, version])?;
    Ok(())
}

/// Hides what one agent, or all, reported up to `reset_at`; `None` shows it again. Returns how many
/// agents changed.
///
/// # Errors
/// What SQLite says.
pub fn reset(
    connection: &Connection,
    id: Option<AgentId>,
    reset_at: Option<i64>,
) -> Result<usize, StoreError> {
    let sql = "UPDATE agents SET reset_at = ?1 WHERE ?2 IS NULL OR id = ?2";
    Ok(connection.prepare_cached(sql)?.execute(params![reset_at, id.map(|id| id.0)])?)
}

/// The boots of an agent, oldest first, the last few only, with the ticks that are stored of them.
///
/// # Errors
/// What SQLite says.
pub fn boots(connection: &Connection, agent: i64, limit: u32) -> Result<Vec<Boot>, StoreError> {
    let sql = "SELECT no, id, first_sent_at FROM boots WHERE agent = ?1 ORDER BY no DESC LIMIT ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params![agent, limit], |row| {
        let (no, id, first_sent_at) = (row.get(0)?, BootId(row.get(1)?), row.get(2)?);
        Ok(Boot { no, id, first_sent_at, window: Window::default() })
    })?;
    let mut boots = rows.collect::<Result<Vec<_>, _>>()?;
    boots.reverse();
    for boot in &mut boots {
        for tick in reports::ticks(connection, agent, boot.no)? {
            boot.window.mark(tick);
        }
    }
    Ok(boots)
}

/// Adds a boot, or finds the one that is there: one too old to be remembered may report again.
///
/// # Errors
/// What SQLite says.
pub fn insert_boot(
    connection: &Connection,
    agent: i64,
    id: BootId,
    sent_at: i64,
    now: i64,
) -> Result<Boot, StoreError> {
    let sql = "INSERT INTO boots (agent, id, first_seen, first_sent_at) VALUES (?1, ?2, ?3, ?4)
               ON CONFLICT (agent, id) DO UPDATE SET first_sent_at = min(first_sent_at, excluded.first_sent_at)
               RETURNING no, first_sent_at";
    let mut statement = connection.prepare_cached(sql)?;
    let (no, first_sent_at) =
        statement.query_row(params![agent, id.0, now, sent_at], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut window = Window::default();
    for tick in reports::ticks(connection, agent, no)? {
        window.mark(tick);
    }
    Ok(Boot { no, id, first_sent_at, window })
}

#[cfg(test)]
mod tests {
    use proto::ids::BootId;
    use proto::report::{Delivery, Problem, Report};

    use super::*;

    #[test]
    fn a_start_reads_of_a_report_what_its_arrival_would_have_told() {
        let mut report = Report { interval_s: 45, clock_offset_ms: -7, ..Report::default() };
        report.delivery = Delivery { spooled: 3, dropped: 4, ..Delivery::default() };
        report.problems = vec![Problem::default(); 2];
        let latest = || Latest {
            report: 1,
            boot: BootId([0; 16]),
            tick: 1,
            sent_at: 0,
            received_at: 0,
            observed_at: 0,
            psk: 1,
            path: Vec::new(),
            interval_s: 0,
            clock_offset_ms: 0,
            spooled: 0,
            dropped: 0,
            problems: 0,
            like: None,
        };
        let (mut arrived, mut read) = (latest(), latest());
        arrived.describe(&crate::gist::Gist::of(&report));
        let told: Told = serde_json::from_slice(&serde_json::to_vec(&report).unwrap()).unwrap();
        told.describe(&mut read);
        assert_eq!(arrived, read);
        assert_ne!(read, latest());
    }
}
