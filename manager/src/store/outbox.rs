//! Notifications that wait to be sent: written with the alarm's change, claimed by message, deleted
//! when the receiver has taken them.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::StoreError;
use crate::alarm::message::Event;
use crate::alarm::status::Alarm;

/// Notifications that one receiver may have waiting; beyond, the oldest go.
const WAITING_MAX: i64 = 10_000;

/// A message to one receiver: several notifications that waited together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The number of its first notification.
    pub first: i64,
    /// When that happened (ms); with `first` it names the message in all databases.
    pub at: i64,
    /// How often it was tried before.
    pub attempts: u32,
    /// What it tells, in order.
    pub events: Vec<Event>,
}

/// Puts an alarm as it is now into every receiver's queue.
///
/// # Errors
/// What SQLite says.
pub fn put(connection: &Connection, alarm: &Alarm, targets: &[String]) -> Result<(), StoreError> {
    let json = serde_json::to_string(&Event::of(alarm)).expect("plain data");
    for target in targets {
        let sql = "INSERT INTO outbox (target, at, event, attempts, next_at) VALUES (?1, ?2, ?3, 0, 0)";
        connection.prepare_cached(sql)?.execute(params![target, alarm.since, json])?;
        let sql = "DELETE FROM outbox WHERE target = ?1 AND no <=
                   (SELECT no FROM outbox WHERE target = ?1 ORDER BY no DESC LIMIT 1 OFFSET ?2)";
        connection.prepare_cached(sql)?.execute(params![target, WAITING_MAX])?;
    }
    Ok(())
}

/// Claims the next message of a receiver until `deadline`, `limit` notifications at most. A message
/// that was tried keeps what is in it. `None` when nothing is due.
///
/// # Errors
/// What SQLite says.
pub fn claim(
    connection: &Connection,
    target: &str,
    now: i64,
    deadline: i64,
    limit: u32,
) -> Result<Option<Batch>, StoreError> {
    let sql = "SELECT no, batch, attempts, next_at, at FROM outbox WHERE target = ?1 ORDER BY no LIMIT 1";
    type Head = (i64, Option<i64>, u32, i64, i64);
    let head = |row: &rusqlite::Row<'_>| -> rusqlite::Result<Head> {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
    };
    let head = connection.prepare_cached(sql)?.query_row([target], head).optional()?;
    let Some((first, batch, attempts, _, at)) = head.filter(|head| head.3 <= now) else {
        return Ok(None);
    };
    if batch.is_none() {
        let sql = "UPDATE outbox SET batch = ?2 WHERE no IN
                   (SELECT no FROM outbox WHERE target = ?1 AND batch IS NULL ORDER BY no LIMIT ?3)";
        connection.prepare_cached(sql)?.execute(params![target, first, limit])?;
    }
    let first = batch.unwrap_or(first);
    let sql = "UPDATE outbox SET attempts = attempts + 1, next_at = ?3 WHERE target = ?1 AND batch = ?2";
    connection.prepare_cached(sql)?.execute(params![target, first, deadline])?;
    let sql = "SELECT event FROM outbox WHERE target = ?1 AND batch = ?2 ORDER BY no";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params![target, first], |row| row.get::<_, String>(0))?;
    let mut events = Vec::new();
    for json in rows {
        let read = serde_json::from_slice(json?.as_bytes());
        events.push(read.map_err(|error| StoreError::Broken(format!("outbox: {error}")))?);
    }
    Ok(Some(Batch { first, at, attempts, events }))
}

/// The receiver has taken a message, or it is given up.
///
/// # Errors
/// What SQLite says.
pub fn done(connection: &Connection, target: &str, first: i64) -> Result<(), StoreError> {
    let sql = "DELETE FROM outbox WHERE target = ?1 AND batch = ?2";
    connection.prepare_cached(sql)?.execute(params![target, first])?;
    Ok(())
}

/// A message was not taken: not again before `next_at` (ms).
///
/// # Errors
/// What SQLite says.
pub fn later(connection: &Connection, target: &str, first: i64, next_at: i64) -> Result<(), StoreError> {
    let sql = "UPDATE outbox SET next_at = ?3 WHERE target = ?1 AND batch = ?2";
    connection.prepare_cached(sql)?.execute(params![target, first, next_at])?;
    Ok(())
}

/// At a start: nobody is sending any more, and receivers that are not set any more get nothing.
///
/// # Errors
/// What SQLite says.
pub fn start(connection: &Connection, targets: &[String]) -> Result<(), StoreError> {
    connection.execute("UPDATE outbox SET next_at = 0", [])?;
    let mut statement = connection.prepare("SELECT DISTINCT target FROM outbox")?;
    let known: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    for gone in known.iter().filter(|target| !targets.contains(target)) {
        connection.execute("DELETE FROM outbox WHERE target = ?1", [gone])?;
    }
    Ok(())
}

/// How many notifications wait.
///
/// # Errors
/// What SQLite says.
pub fn waiting(connection: &Connection) -> Result<i64, StoreError> {
    Ok(connection.query_row("SELECT count(*) FROM outbox", [], |row| row.get(0))?)
}
