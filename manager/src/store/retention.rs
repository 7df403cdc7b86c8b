//! Retention: one walk through what may be too old, in steps that each look at a bounded number of
//! rows, so that no report waits for one however many rows there are.

use rusqlite::{Connection, params};

use super::job::Cutoff;
use super::{alarms, history, reports};
use crate::error::StoreError;

/// Reports looked at in a step: some 3 ms.
const REPORTS: i64 = 100;
/// Rows of other tables, each with a look into the index of reports.
const ROWS: i64 = 100;
/// Pages given back to the file system in a step.
const PAGES: u32 = 100;

/// How far a walk has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Reports up to this number were looked at.
    Reports(i64),
    /// Boots up to this number were.
    Boots(i64),
    /// Agents up to this number were.
    Agents(i64),
    /// Changes of the map, whole maps and edges that are gone.
    History,
    /// Alarms that are over.
    Alarms,
}

/// Where a walk begins.
pub const START: Place = Place::Reports(0);

/// One step of a walk; where the next one begins, `None` at the end.
///
/// # Errors
/// What SQLite says.
pub fn step(connection: &Connection, before: Cutoff, place: Place) -> Result<Option<Place>, StoreError> {
    let next = match place {
        Place::Reports(after) => {
            let next = reports::retain(connection, before.reports, after, REPORTS)?;
            Some(next.map_or(Place::Boots(0), Place::Reports))
        }
        Place::Boots(after) => {
            let last = last_of(connection, "boots", after)?;
            forget_boots(connection, after, last.unwrap_or(after))?;
            Some(last.map_or(Place::Agents(0), Place::Boots))
        }
        Place::Agents(after) => {
            let last = last_of(connection, "agents", after)?;
            forget_agents(connection, before.reports, after, last.unwrap_or(after))?;
            Some(last.map_or(Place::History, Place::Agents))
        }
        Place::History => {
            let gone = history::retain(connection, before.history, REPORTS)?;
            Some(if gone > 0 { Place::History } else { Place::Alarms })
        }
        Place::Alarms => (alarms::retain(connection, before.history, REPORTS)? > 0).then_some(Place::Alarms),
    };
    vacuum(connection)?;
    Ok(next)
}

/// The number of the last of the next [`ROWS`] rows; `None` when there is none.
fn last_of(connection: &Connection, table: &str, after: i64) -> Result<Option<i64>, StoreError> {
    let sql = format!("SELECT max(no) FROM (SELECT no FROM {table} WHERE no > ?1 ORDER BY no LIMIT ?2)");
    Ok(connection.prepare_cached(&sql)?.query_row([after, ROWS], |row| row.get(0))?)
}

/// Forgets boots that began over an hour ago and of which no report is left.
fn forget_boots(connection: &Connection, after: i64, last: i64) -> Result<(), StoreError> {
    let sql = "DELETE FROM boots WHERE no > ?1 AND no <= ?2 AND first_seen < unixepoch() * 1000 - 3600000
               AND NOT EXISTS (SELECT 1 FROM reports r WHERE r.agent = boots.agent AND r.boot = boots.no)";
    connection.prepare_cached(sql)?.execute([after, last])?;
    Ok(())
}

/// Forgets agents whose reset is older than `before` and of whom nothing else is left.
fn forget_agents(connection: &Connection, before: i64, after: i64, last: i64) -> Result<(), StoreError> {
    let gone = "SELECT no FROM agents a WHERE a.no > ?2 AND a.no <= ?3 AND a.reset_at < ?1
                AND NOT EXISTS (SELECT 1 FROM reports r WHERE r.agent = a.no)
                AND NOT EXISTS (SELECT 1 FROM boots b WHERE b.agent = a.no)";
    for sql in [
        format!("DELETE FROM agent_interfaces WHERE agent IN ({gone})"),
        format!("DELETE FROM agents WHERE no IN ({gone})"),
    ] {
        connection.prepare_cached(&sql)?.execute(params![before, after, last])?;
    }
    Ok(())
}

/// Gives free pages back to the file system, a few at a time. The pragma works only while it is
/// stepped to its end.
fn vacuum(connection: &Connection) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached(&format!("PRAGMA incremental_vacuum({PAGES})"))?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}
