//! The PSKs that were ever accepted, so that a restart in the middle of a rotation changes nothing.

use proto::limits::PSK_PREVIOUS;
use proto::psk::Secret;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::as_limit;
use crate::error::StoreError;
use crate::psks::Psks;

/// Retired PSKs that are still known by name, so that an agent that holds one is told so.
const RETIRED_KNOWN: usize = 8;

/// Makes `secret` the current PSK, with a new generation if it was not the current one already.
///
/// # Errors
/// What SQLite says.
pub fn rotate(connection: &Connection, secret: &Secret, now: i64) -> Result<(), StoreError> {
    let current: Option<String> = connection
        .query_row("SELECT secret FROM psks ORDER BY generation DESC LIMIT 1", [], |row| row.get(0))
        .optional()?;
    if current.as_deref() == Some(secret.expose()) {
        return Ok(());
    }
    // One that returns gets a new generation: its place among the accepted ones counts anew.
    let last: u32 =
        connection.query_row("SELECT coalesce(max(generation), 0) FROM psks", [], |row| row.get(0))?;
    connection.execute("DELETE FROM psks WHERE secret = ?1", [secret.expose()])?;
    connection.execute(
        "INSERT INTO psks (generation, secret, since) VALUES (?1, ?2, ?3)",
        params![last + 1, secret.expose(), now],
    )?;
    Ok(())
}

/// The accepted PSKs, newest first, and the latest retired ones.
///
/// # Errors
/// What SQLite says.
pub fn load(connection: &Connection) -> Result<Psks, StoreError> {
    let mut statement =
        connection.prepare("SELECT generation, secret FROM psks ORDER BY generation DESC LIMIT ?1")?;
    let rows = statement.query_map([as_limit(1 + PSK_PREVIOUS + RETIRED_KNOWN)], |row| {
        Ok((row.get::<_, u32>(0)?, row.get::<_, String>(1)?))
    })?;
    let mut psks = Psks::default();
    for row in rows {
        let (generation, text) = row?;
        let Ok(secret) = Secret::new(&text) else { continue };
        if psks.accepted.len() <= PSK_PREVIOUS {
            psks.accepted.push((generation, secret));
        } else {
            psks.retired.push(secret);
        }
    }
    Ok(psks)
}
