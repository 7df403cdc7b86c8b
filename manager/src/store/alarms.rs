//! Rows of alarms.

use rusqlite::Connection;
use serde::Serialize;

use crate::error::StoreError;

/// An alarm as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AlarmRow {
    /// Which rule.
    pub code: String,
    /// What it is about.
    pub subject: String,
    /// How bad it is.
    pub severity: String,
    /// Pending, firing or resolved.
    pub state: String,
    /// One sentence for people.
    pub message: String,
    /// When it came to this state (ms).
    pub since: i64,
}

/// All alarms, firing ones first, newest first.
///
/// # Errors
/// What SQLite says.
pub fn list(connection: &Connection) -> Result<Vec<AlarmRow>, StoreError> {
    let sql = "SELECT code, subject, severity, state, message, since FROM alarms
               ORDER BY state <> 'firing', since DESC LIMIT 1000";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([], |row| {
        Ok(AlarmRow {
            code: row.get(0)?,
            subject: row.get(1)?,
            severity: row.get(2)?,
            state: row.get(3)?,
            message: row.get(4)?,
            since: row.get(5)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
