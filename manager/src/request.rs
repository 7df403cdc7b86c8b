//! A checked HTTP request -> what is asked for. Pure.

use gate::Request;
use proto::ids::AgentId;
use proto::limits::manager_path;

use crate::access::{Denied, Guard};
use crate::export::Format;
use crate::export::metrics::Parts;
use crate::export::picture::Wanted;
use crate::query::{BadParameter, Query};
use crate::store::alarms;
use crate::store::history::Filter;
use crate::view;
use crate::view::map::{self, MapQuery, PathQuery};
use crate::web;

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Take a signed report.
    Report,
    /// Confirm an agent's id.
    Register,
    /// Take a signed reset.
    Reset,
    /// A file of the page.
    Page(&'static web::File),
    /// How the manager fares.
    Healthcheck,
    /// All agents.
    Agents,
    /// One agent's latest telemetry.
    Agent(AgentId),
    /// Counters of one agent's last reports.
    Rates(AgentId),
    /// The alarms.
    Alarms(alarms::Filter),
    /// Every code that an alarm may have.
    AlarmCodes,
    /// Take a signed acknowledgement.
    AlarmAck,
    /// Take a signed silence.
    AlarmSilence,
    /// The map, now or at a past moment.
    Topology(MapQuery),
    /// Changes of the map.
    Events(Filter),
    /// The way from one agent to another, or to an address.
    Path(PathQuery),
    /// The map in another format.
    Export(Format, Wanted),
    /// The agents as a table.
    AgentsCsv,
    /// Metrics for Prometheus.
    Metrics(Parts),
}

/// Why a request is not served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unserved {
    /// There is nothing at this path.
    NotFound,
    /// This path takes other methods.
    Method(&'static str),
    /// The last part of the path is no agent id.
    BadId,
    /// A parameter of the query cannot be used.
    Parameter(BadParameter),
    /// It may not be had from there, or not like this.
    Denied(Denied),
}

impl From<BadParameter> for Unserved {
    fn from(bad: BadParameter) -> Self {
        Self::Parameter(bad)
    }
}

/// Bytes of a report that is read in a moment, whatever it inflates to.
const BRIEF: usize = 2048;

/// A report that says what moved: taking it in costs less than a wake-up does, and waits for nobody.
#[must_use]
pub fn is_brief(request: &Request) -> bool {
    request.body.len() <= BRIEF && request.method == "POST" && request.path == manager_path::UPDATES
}

impl Action {
    /// What `request` asks for.
    ///
    /// # Errors
    /// See [`Unserved`].
    pub fn of(request: &Request, now: i64) -> Result<Self, Unserved> {
        let (action, method) = route(&request.path, request.query.as_deref(), now)?;
        let read = method == "GET";
        let asked = request.method.as_str();
        if asked != method && !(read && asked == "HEAD") {
            return Err(Unserved::Method(if read { "GET, HEAD" } else { "POST" }));
        }
        Ok(action)
    }

    /// What it is guarded as.
    #[must_use]
    pub fn guard(&self) -> Guard {
        match self {
            Self::Page(_) => Guard::Page,
            Self::Report | Self::Register | Self::Reset | Self::AlarmAck | Self::AlarmSilence => {
                Guard::Message
            }
            _ => Guard::Data,
        }
    }
}

fn route(path: &str, query: Option<&str>, now: i64) -> Result<(Action, &'static str), Unserved> {
    Ok(match path {
        manager_path::UPDATES => (Action::Report, "POST"),
        manager_path::REGISTER => (Action::Register, "POST"),
        manager_path::ADMIN_RESET => (Action::Reset, "POST"),
        manager_path::HEALTHCHECK => (Action::Healthcheck, "GET"),
        manager_path::AGENTS => (Action::Agents, "GET"),
        manager_path::ALARMS => (Action::Alarms(view::alarms::filter(query, now)?), "GET"),
        manager_path::ALARM_CODES => (Action::AlarmCodes, "GET"),
        manager_path::ALARM_ACK => (Action::AlarmAck, "POST"),
        manager_path::ALARM_SILENCE => (Action::AlarmSilence, "POST"),
        manager_path::TOPOLOGY => (Action::Topology(MapQuery::read(query, now)?), "GET"),
        manager_path::EVENTS => (Action::Events(map::filter(query, now)?), "GET"),
        manager_path::NETJSON => (Action::Export(Format::NetJson, Wanted::read(query, now)?), "GET"),
        manager_path::DOT => (Action::Export(Format::Dot, Wanted::read(query, now)?), "GET"),
        manager_path::MERMAID => (Action::Export(Format::Mermaid, Wanted::read(query, now)?), "GET"),
        manager_path::LINKS_CSV => (Action::Export(Format::Links, Wanted::read(query, now)?), "GET"),
        manager_path::AGENTS_CSV => (Query::parse(query, &[]).map(|_| Action::AgentsCsv)?, "GET"),
        manager_path::METRICS => (Action::Metrics(Parts::read(query)?), "GET"),
        manager_path::PATH => (Action::Path(PathQuery::read(query)?), "GET"),
        _ => {
            if let Some(file) = web::find(path) {
                return Ok((Action::Page(file), "GET"));
            }
            let id = path.strip_prefix(manager_path::AGENTS).and_then(|rest| rest.strip_prefix('/'));
            let id = id.ok_or(Unserved::NotFound)?;
            let read = |id: &str| id.parse().map_err(|_| Unserved::BadId);
            match id.strip_suffix("/rates") {
                Some(id) => (Action::Rates(read(id)?), "GET"),
                None => (Action::Agent(read(id)?), "GET"),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_actions() {
        let id = "0123456789abcdef0123456789abcdef";
        assert_eq!(route("/status/updates", None, 0), Ok((Action::Report, "POST")));
        assert_eq!(
            route(&format!("/status/agents/{id}"), None, 0),
            Ok((Action::Agent(id.parse().unwrap()), "GET"))
        );
        assert_eq!(route("/status/agents/", None, 0), Err(Unserved::BadId));
        assert_eq!(route("/status/agentsx", None, 0), Err(Unserved::NotFound));
        assert_eq!(route("/status/agents/../updates", None, 0), Err(Unserved::BadId));
        assert_eq!(route("/nothing", None, 0), Err(Unserved::NotFound));
    }
}
