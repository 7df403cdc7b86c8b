//! Alarms as GET /status/alarms shows them.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::alarm::Severity;
use crate::alarm::keeper::Desk;
use crate::alarm::status::{Silence, Status};
use crate::error::StoreError;
use crate::query::{BadParameter, Query, TIME, time};
use crate::store::alarms::{AlarmView, Filter};
use crate::store::{Connection, alarms, outbox};

/// Alarms in one answer unless fewer are asked for.
const LIMIT: u32 = 500;
const LIMIT_MAX: u32 = 5000;

/// The alarms that were asked for, and how many there are in all.
#[derive(Debug, Serialize)]
pub struct Alarms {
    /// The manager's clock (ms).
    pub now: i64,
    /// Alarms that are not over, by state and severity, whatever was asked for.
    pub counts: BTreeMap<String, BTreeMap<String, i64>>,
    /// Silences in force.
    pub silences: Vec<Silence>,
    /// Notifications that wait to be sent.
    pub notifications_waiting: i64,
    /// Firing ones first, the worst first, of equals the newest.
    pub alarms: Vec<AlarmView>,
}

/// What `?state=`, `?severity=`, `?code=`, `?agent=`, `?since=` and `?limit=` ask for.
///
/// # Errors
/// Names the parameter and what is allowed.
pub fn filter(query: Option<&str>, now: i64) -> Result<Filter, BadParameter> {
    let query = Query::parse(query, &["state", "severity", "code", "agent", "since", "limit"])?;
    let all = "pending, firing, acknowledged, suppressed, resolved, comma-separated, or all";
    let every =
        vec![Status::Pending, Status::Firing, Status::Acknowledged, Status::Suppressed, Status::Resolved];
    let states = query.read("state", all, |text| match text {
        "all" => Some(every),
        list => list.split(',').map(Status::from_name).collect(),
    })?;
    let severity = query.read("severity", "info, warning or critical: so bad or worse", |text| {
        [Severity::Info, Severity::Warning, Severity::Critical].into_iter().find(|s| s.name() == text)
    })?;
    let limit = query.read("limit", "a number from 1 to 5000", |text| {
        text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit))
    })?;
    Ok(Filter {
        states: states.unwrap_or_default(),
        severity,
        code: query.get("code").map(str::to_owned),
        agent: query.read("agent", "an agent id", |text| text.parse().ok())?,
        since: query.read("since", TIME, |text| time(text, now))?.unwrap_or(0),
        limit: limit.unwrap_or(LIMIT),
    })
}

/// The alarms that `filter` asks for.
///
/// # Errors
/// What the database says.
pub fn list(connection: &Connection, desk: &Desk, filter: &Filter, now: i64) -> Result<Alarms, StoreError> {
    let mut counts: BTreeMap<String, BTreeMap<String, i64>> = BTreeMap::new();
    for (state, severity, count) in alarms::counts(connection)? {
        counts.entry(state).or_default().insert(severity, count);
    }
    Ok(Alarms {
        now,
        counts,
        silences: desk.silences(),
        notifications_waiting: outbox::waiting(connection)?,
        alarms: alarms::list(connection, filter)?,
    })
}
