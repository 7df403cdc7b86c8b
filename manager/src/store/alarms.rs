//! Rows of alarms, their history, silences, and the keys that interfaces had before.

use proto::ids::{AgentId, PublicKey};
use rusqlite::{Connection, Row, ToSql, params};
use serde::Serialize;

use super::{StoreError, outbox};
use crate::alarm::status::{Alarm, Change, Silence, Status};
use crate::alarm::{Proof, Severity};

/// All columns of an alarm, in the order that [`from_row`] reads.
const COLUMNS: &str = "no, code, subject, severity, state, since, found_at, fired_at, clear_since, acked_at,
     suppressed_by, told, sentence, cause, next_step, evidence, agents, under, transitions, interval_s, version";

/// What came of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saved {
    /// It is written.
    Done,
    /// Somebody else changed the alarm of this number in between.
    Conflict(i64),
}

/// Writes changes: the alarm, its history, and a row for each receiver who is to be told. A change
/// holds only on top of the version before it.
///
/// # Errors
/// What SQLite says.
pub fn save(connection: &Connection, changes: &[Change], targets: &[String]) -> Result<Saved, StoreError> {
    for change in changes {
        let alarm = &change.alarm;
        if change.forget {
            forget(connection, alarm)?;
            continue;
        }
        if !write(connection, alarm)? {
            return Ok(Saved::Conflict(alarm.no));
        }
        if change.from != Some(alarm.state) && alarm.state != Status::Pending {
            let sql = "INSERT INTO alarm_history (alarm, at, state, severity, by, sentence)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
            connection.prepare_cached(sql)?.execute(params![
                alarm.no,
                alarm.since,
                alarm.state.name(),
                alarm.severity.name(),
                alarm.suppressed_by,
                alarm.sentence,
            ])?;
        }
        if change.notify {
            outbox::put(connection, alarm, targets)?;
        }
    }
    Ok(Saved::Done)
}

/// One that went before it lasted: its row stays only for the history of earlier episodes.
fn forget(connection: &Connection, alarm: &Alarm) -> Result<(), StoreError> {
    let sql =
        "DELETE FROM alarms WHERE no = ?1 AND NOT EXISTS (SELECT 1 FROM alarm_history WHERE alarm = ?1)";
    let gone = connection.prepare_cached(sql)?.execute([alarm.no])?;
    if gone == 0 {
        let sql = "UPDATE alarms SET state = 'resolved', since = (SELECT max(at) FROM alarm_history WHERE alarm = ?1)
                   WHERE no = ?1";
        connection.prepare_cached(sql)?.execute([alarm.no])?;
    }
    Ok(())
}

fn write(connection: &Connection, alarm: &Alarm) -> Result<bool, StoreError> {
    let sql = format!(
        "INSERT INTO alarms ({COLUMNS})
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21)
         ON CONFLICT (code, subject) DO UPDATE SET
           severity = excluded.severity, state = excluded.state, since = excluded.since,
           found_at = excluded.found_at, fired_at = excluded.fired_at, clear_since = excluded.clear_since,
           acked_at = excluded.acked_at, suppressed_by = excluded.suppressed_by, told = excluded.told,
           sentence = excluded.sentence, cause = excluded.cause, next_step = excluded.next_step,
           evidence = excluded.evidence, agents = excluded.agents, under = excluded.under,
           transitions = excluded.transitions, interval_s = excluded.interval_s, version = excluded.version
         WHERE alarms.version < excluded.version"
    );
    let written = connection.prepare_cached(&sql)?.execute(params![
        alarm.no,
        alarm.code,
        alarm.subject,
        alarm.severity.name(),
        alarm.state.name(),
        alarm.since,
        alarm.found_at,
        alarm.fired_at,
        alarm.clear_since,
        alarm.acked_at,
        alarm.suppressed_by,
        alarm.told,
        alarm.sentence,
        alarm.cause,
        alarm.next_step,
        json(&alarm.evidence),
        json(&alarm.agents),
        json(&alarm.under),
        json(&alarm.transitions),
        alarm.interval_s,
        alarm.version,
    ])?;
    Ok(written == 1)
}

fn json(list: &[impl Serialize]) -> String {
    serde_json::to_string(list).expect("lists of plain data")
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Alarm> {
    let list = |column: usize| -> rusqlite::Result<String> { row.get(column) };
    let severity: String = row.get(3)?;
    let state: String = row.get(4)?;
    Ok(Alarm {
        no: row.get(0)?,
        code: row.get(1)?,
        subject: row.get(2)?,
        severity: match severity.as_str() {
            "info" => Severity::Info,
            "critical" => Severity::Critical,
            _ => Severity::Warning,
        },
        state: Status::from_name(&state).unwrap_or(Status::Resolved),
        since: row.get(5)?,
        found_at: row.get(6)?,
        fired_at: row.get(7)?,
        clear_since: row.get(8)?,
        acked_at: row.get(9)?,
        suppressed_by: row.get(10)?,
        told: row.get(11)?,
        sentence: row.get(12)?,
        cause: row.get(13)?,
        next_step: row.get(14)?,
        evidence: read(&list(15)?),
        agents: read(&list(16)?),
        under: read(&list(17)?),
        transitions: read(&list(18)?),
        interval_s: row.get(19)?,
        version: row.get(20)?,
    })
}

/// A list that this program wrote; one that a person broke is empty.
fn read<T: serde::de::DeserializeOwned>(json: &str) -> Vec<T> {
    serde_json::from_slice(json.as_bytes()).unwrap_or_default()
}

/// What the engine starts from: all alarms, silences, the last number.
///
/// # Errors
/// What SQLite says.
pub fn load(connection: &Connection) -> Result<(Vec<Alarm>, Vec<Silence>, i64), StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM alarms");
    let mut statement = connection.prepare(&sql)?;
    let alarms = statement.query_map([], from_row)?.collect::<Result<_, _>>()?;
    let mut statement = connection.prepare("SELECT target, until FROM silences")?;
    let silence = |row: &Row<'_>| Ok(Silence { target: row.get(0)?, until: row.get(1)? });
    let silences = statement.query_map([], silence)?.collect::<Result<_, _>>()?;
    let last = connection.query_row("SELECT coalesce(max(no), 0) FROM alarms", [], |row| row.get(0))?;
    Ok((alarms, silences, last))
}

/// Keeps a silence, or lifts it when its end is past.
///
/// # Errors
/// What SQLite says.
pub fn silence(connection: &Connection, silence: &Silence, now: i64) -> Result<(), StoreError> {
    connection
        .execute("DELETE FROM silences WHERE until <= ?1 OR target = ?2", params![now, silence.target])?;
    if silence.until > now {
        let sql = "INSERT INTO silences (target, until) VALUES (?1, ?2)";
        connection.execute(sql, params![silence.target, silence.until])?;
    }
    Ok(())
}

/// A key that an interface had before: the key, whose, which interface, until when (ms).
pub type OldKey = (PublicKey, AgentId, String, i64);

/// Keeps keys that interfaces had before.
///
/// # Errors
/// What SQLite says.
pub fn keep_old_keys(connection: &Connection, keys: &[OldKey]) -> Result<(), StoreError> {
    let sql = "INSERT OR REPLACE INTO old_keys (key, agent, interface, until) VALUES (?1, ?2, ?3, ?4)";
    for (key, agent, interface, until) in keys {
        connection.prepare_cached(sql)?.execute(params![key.0, agent.0, interface, until])?;
    }
    Ok(())
}

/// Keys that interfaces had before, the last 10,000.
///
/// # Errors
/// What SQLite says.
pub fn old_keys(connection: &Connection) -> Result<Vec<OldKey>, StoreError> {
    let sql = "SELECT key, agent, interface, until FROM old_keys ORDER BY until DESC LIMIT 10000";
    let mut statement = connection.prepare(sql)?;
    let rows = statement
        .query_map([], |row| Ok((PublicKey(row.get(0)?), AgentId(row.get(1)?), row.get(2)?, row.get(3)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Which alarms are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only those in one of these states; empty is all that are neither pending nor resolved.
    pub states: Vec<Status>,
    /// Only those at least so bad.
    pub severity: Option<Severity>,
    /// Only those of this code.
    pub code: Option<String>,
    /// Only those that concern this agent.
    pub agent: Option<AgentId>,
    /// Only those that changed their state at that time (ms) or later.
    pub since: i64,
    /// At most so many, newest first.
    pub limit: u32,
}

/// An alarm as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AlarmView {
    /// Its number, by which it is acknowledged.
    pub no: i64,
    /// Which rule.
    pub code: String,
    /// How bad it is.
    pub severity: Severity,
    /// Where it stands.
    pub state: Status,
    /// What it is about.
    pub subject: String,
    /// The agents that it concerns.
    pub agents: Vec<AgentId>,
    /// One sentence.
    pub sentence: String,
    /// The likely cause.
    pub cause: String,
    /// What to do next.
    pub next_step: String,
    /// What says so.
    pub evidence: Vec<Proof>,
    /// Since when it is in this state (ms).
    pub since: i64,
    /// When the present episode was first found (ms).
    pub found_at: i64,
    /// When it fired (ms).
    pub fired_at: Option<i64>,
    /// When it was acknowledged (ms).
    pub acked_at: Option<i64>,
    /// What covers it.
    pub suppressed_by: Option<String>,
    /// Its last changes of state, newest first.
    pub history: Vec<Past>,
}

/// A change of an alarm's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Past {
    /// When (ms).
    pub at: i64,
    /// To which state.
    pub state: Status,
    /// What covered it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

impl From<Alarm> for AlarmView {
    fn from(alarm: Alarm) -> Self {
        Self {
            no: alarm.no,
            code: alarm.code,
            severity: alarm.severity,
            state: alarm.state,
            subject: alarm.subject,
            agents: alarm.agents,
            sentence: alarm.sentence,
            cause: alarm.cause,
            next_step: alarm.next_step,
            evidence: alarm.evidence,
            since: alarm.since,
            found_at: alarm.found_at,
            fired_at: alarm.fired_at,
            acked_at: alarm.acked_at,
            suppressed_by: alarm.suppressed_by,
            history: Vec::new(),
        }
    }
}

/// The alarms that `filter` asks for, the worst first, of equals the newest, each with its last ten
/// changes of state.
///
/// # Errors
/// What SQLite says.
pub fn list(connection: &Connection, filter: &Filter) -> Result<Vec<AlarmView>, StoreError> {
    let states: Vec<&str> = if filter.states.is_empty() {
        vec!["firing", "acknowledged", "suppressed"]
    } else {
        filter.states.iter().map(|state| state.name()).collect()
    };
    let severities = [Severity::Info, Severity::Warning, Severity::Critical];
    let least = filter.severity.unwrap_or(Severity::Info);
    let severities: Vec<&str> = severities.iter().filter(|s| **s >= least).map(|s| s.name()).collect();
    let (states, severities) = (quoted(&states), quoted(&severities));
    let mut sql = format!(
        "SELECT {COLUMNS} FROM alarms WHERE state IN ({states}) AND severity IN ({severities}) AND since >= :since"
    );
    let agent = filter.agent.map(|agent| format!("%\"{agent}\"%"));
    let mut parameters: Vec<(&str, &dyn ToSql)> = vec![(":since", &filter.since), (":limit", &filter.limit)];
    if let Some(agent) = &agent {
        sql.push_str(" AND agents LIKE :agent");
        parameters.push((":agent", agent));
    }
    if let Some(code) = &filter.code {
        sql.push_str(" AND code = :code");
        parameters.push((":code", code));
    }
    sql.push_str(
        " ORDER BY state <> 'firing', severity = 'info', severity = 'warning', since DESC, no DESC LIMIT :limit",
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let alarms: Vec<Alarm> =
        statement.query_map(parameters.as_slice(), from_row)?.collect::<Result<_, _>>()?;
    alarms
        .into_iter()
        .map(|alarm| {
            let history = past(connection, alarm.no)?;
            Ok(AlarmView { history, ..alarm.into() })
        })
        .collect()
}

/// Names of ours, quoted for SQL.
fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ")
}

fn past(connection: &Connection, alarm: i64) -> Result<Vec<Past>, StoreError> {
    let sql = "SELECT at, state, by FROM alarm_history WHERE alarm = ?1 ORDER BY no DESC LIMIT 10";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([alarm], |row| {
        let state: String = row.get(1)?;
        Ok(Past {
            at: row.get(0)?,
            state: Status::from_name(&state).unwrap_or(Status::Resolved),
            by: row.get(2)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// How many alarms are in which state and of which severity, those that are not over.
///
/// # Errors
/// What SQLite says.
pub fn counts(connection: &Connection) -> Result<Vec<(String, String, i64)>, StoreError> {
    let sql =
        "SELECT state, severity, count(*) FROM alarms WHERE state <> 'resolved' GROUP BY state, severity";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// How many alarms are not over, by code, severity and state.
///
/// # Errors
/// What SQLite says.
pub fn counts_by_code(connection: &Connection) -> Result<Vec<(String, String, String, i64)>, StoreError> {
    let sql = "SELECT code, severity, state, count(*) FROM alarms WHERE state <> 'resolved'
               GROUP BY code, severity, state ORDER BY code, severity, state";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Deletes up to `limit` changes of state from before `before`, and alarms that were over by then.
/// Returns how many went.
///
/// # Errors
/// What SQLite says.
pub fn retain(connection: &Connection, before: i64, limit: i64) -> Result<usize, StoreError> {
    let sql = "DELETE FROM alarm_history WHERE no IN (SELECT no FROM alarm_history WHERE at < ?1 ORDER BY no LIMIT ?2)";
    let gone = connection.prepare_cached(sql)?.execute([before, limit])?;
    let sql = "DELETE FROM alarms WHERE no IN
               (SELECT no FROM alarms WHERE state = 'resolved' AND since < ?1 LIMIT ?2)";
    Ok(gone + connection.prepare_cached(sql)?.execute([before, limit])?)
}
