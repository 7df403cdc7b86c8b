//! Rows of reports.

use std::borrow::Cow;
use std::sync::Arc;

use proto::delta::Base;
use proto::envelope::{Encoding, decode};
use proto::ids::{AgentId, BootId, Nonce};
use proto::limits::{NONCES, TICK_WINDOW};
use proto::report::Report;
use rusqlite::{Connection, OptionalExtension as _, Params, Row, params};

use super::{as_limit, signed, unsigned};
use crate::bases::{Kept, age_max};
use crate::content::Form;
use crate::error::StoreError;
use crate::fleet::Latest;
use crate::gist::Gist;
use crate::moving::Moving;

/// Values of the column `encoding`.
const JSON: i64 = 0;
const DEFLATED: i64 = 1;
const DELTA: i64 = 2;

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
    /// How its payload is written.
    pub form: Form,
    /// The payload.
    pub payload: &'a [u8],
}

/// Stores a report; `None` when (agent, boot, tick) is there already.
///
/// # Errors
/// What SQLite says.
pub fn insert(connection: &Connection, report: &NewReport<'_>) -> Result<Option<i64>, StoreError> {
    let sql = "INSERT INTO reports
               (agent, boot, tick, nonce, received_at, sent_at, observed_at, psk, late, path, encoding, base, payload)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
               ON CONFLICT (agent, boot, tick) DO NOTHING";
    let (encoding, base) = match report.form {
        Form::Json => (JSON, None),
        Form::Deflated => (DEFLATED, None),
        Form::Delta(base) => (DELTA, Some(base)),
    };
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
        encoding,
        base,
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

/// An agent's present state: its last report that was not late.
///
/// # Errors
/// What SQLite says.
pub fn latest(connection: &Connection, agent: i64) -> Result<Option<Latest>, StoreError> {
    let sql = "SELECT r.no, b.id, r.tick, r.sent_at, r.received_at, r.observed_at, r.psk, r.path
               FROM reports r JOIN boots b ON b.no = r.boot
               WHERE r.agent = ?1 AND NOT r.late ORDER BY r.boot DESC, r.tick DESC LIMIT 1";
    Ok(connection.prepare_cached(sql)?.query_row([agent], latest_from_row).optional()?)
}

fn latest_from_row(row: &Row<'_>) -> rusqlite::Result<Latest> {
    let path: Vec<u8> = row.get(7)?;
    let (hops, _) = path.as_chunks::<16>();
    Ok(Latest {
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
        like: None,
    })
}

/// The JSON of one report.
///
/// # Errors
/// What SQLite says, or [`StoreError::Broken`].
pub fn payload(connection: &Connection, report: i64) -> Result<Option<Vec<u8>>, StoreError> {
    let sql = "SELECT 0, no, encoding, base, payload FROM reports WHERE no = ?1";
    Ok(recall(connection, sql, [report])?.pop().map(|(_, json)| json))
}

/// One report, which must be there.
///
/// # Errors
/// What SQLite says, or [`StoreError::Broken`].
pub fn report(connection: &Connection, no: i64) -> Result<Report, StoreError> {
    let broken = |why: String| StoreError::Broken(format!("report {no}: {why}"));
    let json = payload(connection, no)?.ok_or_else(|| broken("it is not there".into()))?;
    Report::from_json(&json).map_err(|why| broken(why.to_string()))
}

/// When they were observed (ms) and the JSON of an agent's last reports, the newest first.
///
/// # Errors
/// What SQLite says, or [`StoreError::Broken`].
pub fn recent(
    connection: &Connection,
    agent: AgentId,
    limit: u32,
) -> Result<Vec<(i64, Vec<u8>)>, StoreError> {
    let sql = "SELECT observed_at, no, encoding, base, payload FROM reports
               WHERE agent = (SELECT no FROM agents WHERE id = ?1) ORDER BY boot DESC, tick DESC LIMIT ?2";
    recall(connection, sql, params![agent.0, limit])
}

/// The first column and the JSON of each row that `sql` finds.
fn recall(
    connection: &Connection,
    sql: &str,
    params: impl Params,
) -> Result<Vec<(i64, Vec<u8>)>, StoreError> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let mut found = Vec::new();
    // Reports of one agent mostly have the same base.
    let mut last: Option<(i64, Base)> = None;
    while let Some(row) = rows.next()? {
        let (no, encoding, base): (i64, i64, Option<i64>) = (row.get(1)?, row.get(2)?, row.get(3)?);
        let payload: Vec<u8> = row.get(4)?;
        if let Some(base) = base.filter(|base| last.as_ref().is_none_or(|(no, _)| no != base)) {
            last = Some((base, Base::new(text(connection, base)?)));
        }
        let base = base.and(last.as_ref()).map(|(_, base)| base);
        found.push((row.get(0)?, json(no, encoding, &payload, base)?));
    }
    Ok(found)
}

/// The JSON of a report that others are the difference to.
///
/// # Errors
/// What SQLite says, or [`StoreError::Broken`].
pub fn text(connection: &Connection, no: i64) -> Result<Vec<u8>, StoreError> {
    let sql = "SELECT encoding, payload FROM reports WHERE no = ?1 AND base IS NULL";
    let mut statement = connection.prepare_cached(sql)?;
    let row: Option<(i64, Vec<u8>)> =
        statement.query_row([no], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let (encoding, payload) = row.ok_or_else(|| StoreError::Broken(format!("there is no report {no}")))?;
    json(no, encoding, &payload, None)
}

fn json(no: i64, encoding: i64, payload: &[u8], base: Option<&Base>) -> Result<Vec<u8>, StoreError> {
    let encoding = match encoding {
        JSON => Encoding::Json,
        DEFLATED => Encoding::Deflate,
        _ => Encoding::Delta(0),
    };
    let json = decode(&encoding, payload, base);
    // It was read once before it was stored, so only a damaged file comes here.
    json.map(Cow::into_owned).map_err(|why| StoreError::Broken(format!("report {no}: {why}")))
}

/// The report of this name as one that others may be the difference to.
///
/// # Errors
/// What SQLite says, or [`StoreError::Broken`].
pub fn base(
    connection: &Connection,
    agent: AgentId,
    boot: BootId,
    tick: u64,
) -> Result<Option<Kept>, StoreError> {
    let sql = "SELECT r.no, r.received_at FROM agents a
               JOIN boots b ON b.agent = a.no AND b.id = ?2
               JOIN reports r ON r.agent = a.no AND r.boot = b.no AND r.tick = ?3
               WHERE a.id = ?1 AND r.base IS NULL";
    let mut statement = connection.prepare_cached(sql)?;
    let found: Option<(i64, i64)> = statement
        .query_row(params![agent.0, boot.0, signed(tick)], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((no, received_at)) = found else { return Ok(None) };
    let json = text(connection, no)?;
    let broken = |why| StoreError::Broken(format!("report {no}: {why}"));
    let gist = Gist::of(&Report::from_json(&json).map_err(broken)?);
    let moving = Moving::of(&Base::new(json));
    Ok(Some(Kept::new(no, (boot, tick), received_at, moving, Arc::new(gist))))
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

/// Looks at the next `limit` reports behind number `after`, and deletes those that came before `before`.
/// An agent's present state stays however old it is, unless a reset hid it. What others may be
/// the difference to stays [`age_max`] longer than they, and as long as the present state. Returns
/// the number up to which it looked, or `None` where there are no more that old.
///
/// # Errors
/// What SQLite says.
pub fn retain(
    connection: &Connection,
    before: i64,
    after: i64,
    limit: i64,
) -> Result<Option<i64>, StoreError> {
    // Numbers are in the order of arrival.
    let sql = "SELECT max(no) FILTER (WHERE received_at < ?2), count(*) FILTER (WHERE received_at < ?2)
               FROM (SELECT no, received_at FROM reports WHERE no > ?1 ORDER BY no LIMIT ?3)";
    let (last, old): (Option<i64>, i64) = connection
        .prepare_cached(sql)?
        .query_row([after, before, limit], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let Some(last) = last else { return Ok(None) };
    let sql = "DELETE FROM reports WHERE no IN (
                 SELECT r.no FROM reports r JOIN agents a ON a.no = r.agent
                 WHERE r.no > ?2 AND r.no <= ?3 AND r.received_at < ?1
                   AND (r.late OR a.reset_at >= r.received_at OR EXISTS (
                     SELECT 1 FROM reports n WHERE n.agent = r.agent AND n.boot >= r.boot
                     AND n.no > r.no AND NOT n.late))
                   AND (r.base IS NOT NULL OR r.received_at < ?4 AND (a.reset_at >= r.received_at
                     OR r.no IS NOT (
                       SELECT p.base FROM reports p WHERE p.agent = r.agent AND NOT p.late
                       ORDER BY p.boot DESC, p.tick DESC LIMIT 1))))";
    connection.prepare_cached(sql)?.execute(params![before, after, last, before - age_max()])?;
    Ok((old == limit).then_some(last))
}
