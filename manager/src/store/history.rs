//! The map's history: every change of it, and the whole map now and then, so that the map of any
//! past moment can be made of one map and the changes after it.

use std::io::{BufReader, BufWriter};

use proto::deflate::{Deflater, Inflater};
use proto::ids::AgentId;
use rusqlite::blob::ZeroBlob;
use rusqlite::{Connection, ToSql, params};
use serde::Serialize;
use serde_json::value::RawValue;

use super::StoreError;
use super::parts::{self, Part};
use crate::topology::{Event, Map, apply};

/// A change of the map, as the API shows it.
#[derive(Debug, Serialize)]
pub struct EventRow {
    /// Its number; later ones are higher.
    pub no: i64,
    /// When the manager noticed (ms).
    pub at: i64,
    /// Id of the node or edge that changed.
    pub subject: String,
    /// The change, as [`Event`] has it.
    pub change: Box<RawValue>,
}

/// Which changes are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only those with a higher number.
    pub after: i64,
    /// Only those noticed at that time (ms) or later.
    pub since: i64,
    /// Only those noticed at that time (ms) or before.
    pub until: Option<i64>,
    /// Only those that concern this agent.
    pub agent: Option<AgentId>,
    /// Only those of this node or edge.
    pub subject: Option<String>,
    /// At most so many, oldest first.
    pub limit: u32,
}

/// Writes the changes noticed at `at`, and keeps the table of edges up with them.
///
/// # Errors
/// What SQLite says.
pub fn append(connection: &Connection, at: i64, events: &[Event]) -> Result<(), StoreError> {
    for event in events {
        let subject = event.subject();
        let json = serde_json::to_string(event).expect("events are plain data");
        let mut agents = agents_in(subject).map(|id| id.0);
        let sql = "INSERT INTO events (at, subject, agent_a, agent_b, event) VALUES (?1, ?2, ?3, ?4, ?5)";
        let (a, b) = (agents.next(), agents.next());
        connection.prepare_cached(sql)?.execute(params![at, subject, a, b, json])?;
        follow(connection, at, event)?;
    }
    Ok(())
}

/// The agents that an id of a node or edge names: it holds their ids, as 32 hexadecimal digits.
fn agents_in(subject: &str) -> impl Iterator<Item = AgentId> {
    subject.split([':', '/', '@']).filter_map(|part| part.parse().ok())
}

fn follow(connection: &Connection, at: i64, event: &Event) -> Result<(), StoreError> {
    match event {
        Event::EdgeAppeared { edge } => {
            let sql = "INSERT INTO topology_edges (id, layer, a, b, relation, state, since, first_seen)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                       ON CONFLICT (id) DO UPDATE SET relation = excluded.relation,
                         state = excluded.state, since = excluded.since, gone_at = NULL";
            let edge = &edge.edge;
            let [a, b] = &edge.ends;
            let (layer, relation, state) = (word(edge.layer), word(edge.relation), word(edge.state));
            connection
                .prepare_cached(sql)?
                .execute(params![edge.id, layer, a.node, b.node, relation, state, edge.since, at])?;
        }
        Event::EdgeStateChanged { id, to, since, .. } => {
            let sql = "UPDATE topology_edges SET state = ?2, since = ?3 WHERE id = ?1";
            connection.prepare_cached(sql)?.execute(params![id, word(to), since])?;
        }
        Event::EdgeRelationChanged { id, relation, .. } => {
            let sql = "UPDATE topology_edges SET relation = ?2 WHERE id = ?1";
            connection.prepare_cached(sql)?.execute(params![id, word(relation)])?;
        }
        Event::EdgeVanished { id, .. } => {
            let sql = "UPDATE topology_edges SET gone_at = ?2 WHERE id = ?1";
            connection.prepare_cached(sql)?.execute(params![id, at])?;
        }
        _ => {}
    }
    Ok(())
}

/// The name that a value has in JSON.
fn word(value: impl Serialize) -> String {
    let json = serde_json::to_string(&value).expect("a name");
    json.trim_matches('"').to_owned()
}

/// A whole map as the database keeps it.
#[derive(Debug, Clone)]
pub struct PackedMap(Vec<u8>);

impl PackedMap {
    /// Packs a [`Map`], or what is written as one: about a second for 10,000 agents with 20 peers.
    #[must_use]
    pub fn of(map: &impl Serialize) -> Self {
        // As it is written, so that the JSON of a large fleet never stands in memory whole.
        let mut buffered = BufWriter::with_capacity(64 << 10, Deflater::new());
        serde_json::to_writer(&mut buffered, map).expect("a map is plain data");
        Self(buffered.into_inner().expect("memory takes all").finish())
    }
}

/// Keeps the whole map as it was at `at`, after all events written so far.
///
/// # Errors
/// What SQLite says.
pub fn keep_map(connection: &Connection, at: i64, map: &PackedMap) -> Result<(), StoreError> {
    // Its place first and then its bytes, of which SQLite would make two copies to insert them at once.
    let sql = "INSERT OR REPLACE INTO maps (event, at, map)
               VALUES ((SELECT coalesce(max(no), 0) FROM events), ?1, ?2) RETURNING event";
    let mut statement = connection.prepare_cached(sql)?;
    let event: i64 = statement.query_row(params![at, ZeroBlob(map.0.len() as u64)], |row| row.get(0))?;
    connection.blob_open(c"main", c"maps", c"map", event, false)?.write_at(&map.0, 0)?;
    Ok(())
}

/// The map as it was at `at` (ms), and the number of the last event in it.
///
/// # Errors
/// What SQLite says.
pub fn map_at(connection: &Connection, at: i64) -> Result<(Map, i64), StoreError> {
    let mut map = Map::default();
    let base = last_kept(connection, at)?;
    each_part(connection, base, |part| part.put(&mut map))?;
    let last = each_event(connection, base, at, |event| apply(&mut map, event))?;
    Ok((map, last))
}

/// The number of the last event in the last whole map kept at `at` (ms) or before; 0 where there is none.
///
/// # Errors
/// What SQLite says.
pub fn last_kept(connection: &Connection, at: i64) -> Result<i64, StoreError> {
    let sql = "SELECT coalesce(max(event), 0) FROM maps WHERE at <= ?1";
    Ok(connection.prepare_cached(sql)?.query_row([at], |row| row.get(0))?)
}

/// Shows the nodes and edges of the whole map kept after event `base`, one after the other: none where there is
/// no such map. The JSON of 10,000 agents with 20 peers is 60 MB, and what it says is more.
///
/// # Errors
/// What SQLite says.
pub fn each_part(connection: &Connection, base: i64, show: impl FnMut(Part)) -> Result<(), StoreError> {
    let sql = "SELECT count(*) FROM maps WHERE event = ?1";
    let kept: i64 = connection.prepare_cached(sql)?.query_row([base], |row| row.get(0))?;
    if kept == 0 {
        return Ok(());
    }
    let deflated = connection.blob_open(c"main", c"maps", c"map", base, true)?;
    let json = Inflater::new(BufReader::with_capacity(64 << 10, deflated));
    let json = BufReader::with_capacity(64 << 10, json);
    parts::read(json, show).map_err(|error| broken("maps", &error))
}

/// Tells the changes noticed up to `at` (ms) after event `base`, oldest first, and returns the number of the
/// last; `base` where there is none.
///
/// # Errors
/// What SQLite says.
pub fn each_event(
    connection: &Connection,
    base: i64,
    at: i64,
    mut tell: impl FnMut(Event),
) -> Result<i64, StoreError> {
    let sql = "SELECT no, event FROM events WHERE no > ?1 AND at <= ?2 ORDER BY no";
    let mut statement = connection.prepare_cached(sql)?;
    let (mut rows, mut last) = (statement.query(params![base, at])?, base);
    while let Some(row) = rows.next()? {
        last = row.get(0)?;
        let json: String = row.get(1)?;
        tell(serde_json::from_slice(json.as_bytes()).map_err(|error| broken("events", &error))?);
    }
    Ok(last)
}

fn broken(table: &str, error: &serde_json::Error) -> StoreError {
    StoreError::Broken(format!("{table}: {error}"))
}

/// The changes that `filter` asks for, oldest first.
///
/// # Errors
/// What SQLite says.
pub fn events(connection: &Connection, filter: &Filter) -> Result<Vec<EventRow>, StoreError> {
    let mut sql = "SELECT no, at, subject, event FROM events
                   WHERE no > :after AND at >= :since AND at <= :until"
        .to_owned();
    let (until, agent) = (filter.until.unwrap_or(i64::MAX), filter.agent.map(|id| id.0));
    let mut parameters: Vec<(&str, &dyn ToSql)> = vec![
        (":after", &filter.after),
        (":since", &filter.since),
        (":until", &until),
        (":limit", &filter.limit),
    ];
    if let Some(agent) = &agent {
        sql.push_str(" AND (agent_a = :agent OR agent_b = :agent)");
        parameters.push((":agent", agent));
    }
    if let Some(subject) = &filter.subject {
        sql.push_str(" AND subject = :subject");
        parameters.push((":subject", subject));
    }
    sql.push_str(" ORDER BY no LIMIT :limit");
    let mut statement = connection.prepare_cached(&sql)?;
    let parameters = parameters.as_slice();
    let rows = statement.query_map(parameters, |row| {
        let json: String = row.get(3)?;
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, json))
    })?;
    rows.map(|row| {
        let (no, at, subject, json) = row?;
        let change = RawValue::from_string(json).map_err(|error| broken("events", &error))?;
        Ok(EventRow { no, at, subject, change })
    })
    .collect()
}

/// The number of the last event; 0 before the first.
///
/// # Errors
/// What SQLite says.
pub fn last_event(connection: &Connection) -> Result<i64, StoreError> {
    let sql = "SELECT coalesce(max(no), 0) FROM events";
    Ok(connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
}

/// Deletes up to `limit` each of the oldest changes noticed before `before` and of edges gone by then, and one
/// map; changes after the last kept map
/// of that time stay, as they make the maps since. Returns how many went.
///
/// # Errors
/// What SQLite says.
pub fn retain(connection: &Connection, before: i64, limit: i64) -> Result<usize, StoreError> {
    let base = "SELECT coalesce(max(event), 0) FROM maps WHERE at < ?1";
    let sql = format!(
        "DELETE FROM events WHERE no IN (SELECT no FROM events WHERE no <= ({base}) ORDER BY no LIMIT ?2)"
    );
    let gone = connection.prepare_cached(&sql)?.execute(params![before, limit])?;
    // A map of a large fleet is megabytes: one at a time.
    let sql = format!(
        "DELETE FROM maps WHERE event IN (SELECT event FROM maps WHERE event < ({base}) ORDER BY event LIMIT 1)"
    );
    let maps = connection.prepare_cached(&sql)?.execute([before])?;
    let sql =
        "DELETE FROM topology_edges WHERE id IN (SELECT id FROM topology_edges WHERE gone_at < ?1 LIMIT ?2)";
    let edges = connection.prepare_cached(sql)?.execute([before, limit])?;
    Ok(gone + maps + edges)
}
