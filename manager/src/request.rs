//! A checked HTTP request -> what is asked for. Pure.

use std::net::IpAddr;

use gate::Request;
use proto::ids::{AgentId, Cidr};
use proto::limits::manager_path;

use crate::query::BadParameter;
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
    /// The client's address may not read.
    Forbidden(IpAddr),
    /// A browser sent it on behalf of another site.
    CrossSite,
}

impl From<BadParameter> for Unserved {
    fn from(bad: BadParameter) -> Self {
        Self::Parameter(bad)
    }
}

impl Action {
    /// What `request` asks for.
    ///
    /// # Errors
    /// See [`Unserved`].
    pub fn of(request: &Request, allow: &[Cidr], now: i64) -> Result<Self, Unserved> {
        let (action, method) = route(&request.path, request.query.as_deref(), now)?;
        let read = method == "GET";
        let asked = request.method.as_str();
        if asked != method && !(read && asked == "HEAD") {
            return Err(Unserved::Method(if read { "GET, HEAD" } else { "POST" }));
        }
        // What a browser sends by itself is never a message of ours, and must not become one.
        if !read && is_cross_site(request) {
            return Err(Unserved::CrossSite);
        }
        let peer = request.peer.ip();
        if read && !may_read(peer, allow) {
            return Err(Unserved::Forbidden(peer));
        }
        Ok(action)
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

fn may_read(peer: IpAddr, allow: &[Cidr]) -> bool {
    peer.is_loopback() || allow.iter().any(|prefix| prefix.contains(peer))
}

fn is_cross_site(request: &Request) -> bool {
    let origin = request.header("origin").is_some_and(|origin| {
        let host = request.header("host").unwrap_or_default();
        origin.split_once("://").map(|(_, origin)| origin) != Some(host)
    });
    let site = request.header("sec-fetch-site");
    origin || site.is_some_and(|site| !matches!(site, "same-origin" | "none"))
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

    #[test]
    fn strangers_may_not_read() {
        let allow = ["10.0.0.0/8".parse().unwrap()];
        assert!(may_read("127.0.0.1".parse().unwrap(), &allow));
        assert!(may_read("::1".parse().unwrap(), &[]));
        assert!(may_read("10.1.2.3".parse().unwrap(), &allow));
        assert!(!may_read("203.0.113.1".parse().unwrap(), &allow));
    }
}
