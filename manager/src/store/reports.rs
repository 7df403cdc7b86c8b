//! Rows of reports.

use proto::ids::{AgentId, BootId, Nonce};
use proto::limits::{NONCES, TICK_WINDOW};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{as_limit, signed, unsigned};
use crate::error::StoreError;
use crate::fleet::Latest;

/// A report to be stored.
#[derive(Debug)]
pub struct NewReport<'a> {
    /// Number of the agent.
    pub agent: i64,
    /// Number of the boot.
    pub boot: i64,
    /// Its number in that boot.
    pub tick: u64,
    /// Its name.
    pub nonce: Nonce,
    /// When it came (ms).
    pub received_at: i64,
    /// When it was signed (ms).
    pub sent_at: i64,
    /// When the host was read (ms).
    pub observed_at: i64,
    /// Generation of the PSK that signed it.
    pub psk: u32,
    /// Whether it came after a later one.
    pub late: bool,
    /// The relays that it passed.
    pub path: &'a [AgentId],
    /// Its JSON.
    pub payload: &'a [u8],
}

/// Stores a report; `None` when (agent, boot, tick) is there already.
///
/// # Errors
/// What SQLite says.
pub fn insert(connection: &Connection, report: &NewReport<'_>) -> Result<Option<i64>, StoreError> {
    let sql = "INSERT INTO reports
               (agent, boot, tick, nonce, received_at, sent_at, observed_at, psk, late, path, payload)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
               ON CONFLICT (agent, boot, tick) DO NOTHING";
    let inserted = connection.prepare_cached(sql)?.execute(params![
        report.agent,
        report.boot,
        signed(report.tick),
        report.nonce.0,
        report.received_at,
        report.sent_at,
        report.observed_at,
        report.psk,
        report.late,
        report.path.iter().flat_map(|id| id.0).collect::<Vec<u8>>(),
        report.payload,
    ])?;
    Ok((inserted == 1).then(|| connection.last_insert_rowid()))
}

/// The nonce of the report that is stored under these marks.
///
/// # Errors
/// What SQLite says.
pub fn nonce_of(
    connection: &Connection,
    agent: i64,
    boot: BootId,
    tick: u64,
) -> Result<Option<Nonce>, StoreError> {
    let sql = "SELECT nonce FROM reports WHERE agent = ?1 AND tick = ?3
               AND boot = (SELECT no FROM boots WHERE agent = ?1 AND id = ?2)";
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_row(params![agent, boot.0, signed(tick)], |row| row.get(0)).optional()?.map(Nonce))
}

/// An agent's present state: its last report that was not late, with its JSON.
///
/// # Errors
/// What SQLite says.
pub fn latest(connection: &Connection, agent: i64) -> Result<Option<(Latest, Vec<u8>)>, StoreError> {
    let sql = "SELECT r.no, b.id, r.tick, r.sent_at, r.received_at, r.observed_at, r.psk, r.path, r.payload
               FROM reports r JOIN boots b ON b.no = r.boot
               WHERE r.agent = ?1 AND NOT r.late ORDER BY r.boot DESC, r.tick DESC LIMIT 1";
    Ok(connection.prepare_cached(sql)?.query_row([agent], latest_from_row).optional()?)
}

fn latest_from_row(row: &Row<'_>) -> rusqlite::Result<(Latest, Vec<u8>)> {
    let path: Vec<u8> = row.get(7)?;
    let (hops, _) = path.as_chunks::<16>();
    let latest = Latest {
        report: row.get(0)?,
        boot: BootId(row.get(1)?),
        tick: unsigned(row.get(2)?),
        sent_at: row.get(3)?,
        received_at: row.get(4)?,
        observed_at: row.get(5)?,
        psk: row.get(6)?,
        path: hops.iter().map(|&id| AgentId(id)).collect(),
        interval_s: 0,
        clock_offset_ms: 0,
        spooled: 0,
        dropped: 0,
        problems: 0,
    };
    Ok((latest, row.get(8)?))
}

/// The JSON of one report.
///
/// # Errors
/// What SQLite says.
pub fn payload(connection: &Connection, report: i64) -> Result<Option<Vec<u8>>, StoreError> {
    let sql = "SELECT payload FROM reports WHERE no = ?1";
    Ok(connection.prepare_cached(sql)?.query_row([report], |row| row.get(0)).optional()?)
}

/// When they were observed (ms) and the JSON of an agent's last reports, the newest first.
///
/// # Errors
/// What SQLite says.
pub fn recent(
    connection: &Connection,
    agent: AgentId,
    limit: u32,
) -> Result<Vec<(i64, Vec<u8>)>, StoreError> {
    let sql = "SELECT observed_at, payload FROM reports WHERE agent = (SELECT no FROM agents WHERE id = ?1)
               ORDER BY boot DESC, tick DESC LIMIT ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params![agent.0, limit], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The last ticks stored of a boot, as many as a window holds, oldest first.
///
/// # Errors
/// What SQLite says.
pub fn ticks(connection: &Connection, agent: i64, boot: i64) -> Result<Vec<u64>, StoreError> {
    let sql = "SELECT tick FROM reports WHERE agent = ?1 AND boot = ?2 ORDER BY tick DESC LIMIT ?3";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params![agent, boot, signed(TICK_WINDOW)], |row| row.get(0))?;
    let mut ticks = rows.map(|row| row.map(unsigned)).collect::<Result<Vec<_>, _>>()?;
    ticks.reverse();
    Ok(ticks)
}

/// The nonces of an agent's last reports, oldest first.
///
/// # Errors
/// What SQLite says.
pub fn nonces(connection: &Connection, agent: i64) -> Result<Vec<Nonce>, StoreError> {
    let sql = "SELECT nonce FROM reports WHERE agent = ?1 ORDER BY boot DESC, tick DESC LIMIT ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params![agent, as_limit(NONCES)], |row| row.get(0).map(Nonce))?;
    let mut nonces = rows.collect::<Result<Vec<_>, _>>()?;
    nonces.reverse();
    Ok(nonces)
}

/// Deletes up to `limit` of the oldest reports that came before `before`, and what only they kept
/// alive. An agent's present state stays however old it is, unless a reset hid it. Returns how many
/// rows went.
///
/// # Errors
/// What SQLite says.
pub fn retain(connection: &Connection, before: i64, limit: i64) -> Result<usize, StoreError> {
    let sql = "DELETE FROM reports WHERE no IN (
                 SELECT r.no FROM reports r JOIN agents a ON a.no = r.agent
                 WHERE r.no < coalesce((SELECT no FROM reports WHERE received_at >= ?1
                                        ORDER BY no LIMIT 1), 9223372036854775807)
                   AND (r.late OR a.reset_at >= r.received_at OR EXISTS (
                     SELECT 1 FROM reports n WHERE n.agent = r.agent AND n.boot >= r.boot
                     AND n.no > r.no AND NOT n.late))
                 ORDER BY r.no LIMIT ?2)";
    let gone = connection.prepare_cached(sql)?.execute(params![before, limit])?;
    if gone == 0 {
        connection.execute_batch(
            "DELETE FROM boots WHERE first_seen < unixepoch() * 1000 - 3600000
               AND NOT EXISTS (SELECT 1 FROM reports r WHERE r.agent = boots.agent AND r.boot = boots.no);",
        )?;
        forget_agents(connection, before)?;
    }
    Ok(gone)
}

/// Forgets agents whose reset is older than `before` and of whom nothing else is left.
fn forget_agents(connection: &Connection, before: i64) -> Result<(), StoreError> {
    let gone = "SELECT no FROM agents a WHERE a.reset_at < ?1
                AND NOT EXISTS (SELECT 1 FROM reports r WHERE r.agent = a.no)
                AND NOT EXISTS (SELECT 1 FROM boots b WHERE b.agent = a.no)";
    connection.execute(&format!("DELETE FROM agent_interfaces WHERE agent IN ({gone})"), [before])?;
    connection.execute(&format!("DELETE FROM agents WHERE no IN ({gone})"), [before])?;
    Ok(())
}
