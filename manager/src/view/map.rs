//! The map, its history and the ways through it, as the API shows them.

use proto::ids::AgentId;
use serde::Serialize;

use crate::atlas::Atlas;
use crate::error::StoreError;
use crate::query::{BadParameter, Query, TIME, time};
use crate::store::history::{EventRow, Filter};
use crate::store::{Connection, history};
use crate::topology::{self, MapEdge, NodeShape, PathAnswer, PathError, State, Target};

/// Changes in one answer unless fewer are asked for.
const EVENTS: u32 = 1000;
/// Changes in one answer at most.
const EVENTS_MAX: u32 = 10_000;

/// What is asked of the map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapQuery {
    /// The map of that moment (ms); `None` is now.
    pub at: Option<i64>,
    /// How much is told.
    pub detail: Detail,
    /// Only this node with its edges, or this edge with its ends.
    pub of: Option<String>,
}

/// How much of the map is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Detail {
    /// Everything.
    #[default]
    Full,
    /// Nodes and edges without figures and evidence: changes only when the structure does.
    Structure,
    /// What is needed to draw the structure, in few bytes.
    Brief,
}

impl MapQuery {
    /// What `?at=` and `?detail=` ask for.
    ///
    /// # Errors
    /// Names the parameter and what is allowed.
    pub fn read(query: Option<&str>, now: i64) -> Result<Self, BadParameter> {
        let query = Query::parse(query, &["at", "detail", "of"])?;
        let at = query.read("at", TIME, |text| time(text, now))?;
        let detail = query.read("detail", "full, structure or brief", |text| match text {
            "full" => Some(Detail::Full),
            "structure" => Some(Detail::Structure),
            "brief" => Some(Detail::Brief),
            _ => None,
        })?;
        Ok(Self { at, detail: detail.unwrap_or_default(), of: query.get("of").map(str::to_owned) })
    }

    /// What an answer made now would be tagged with: the same tag, the same answer. `process` tells
    /// this run of the program from others.
    #[must_use]
    pub fn tag(&self, state: &State, process: i64) -> String {
        let (version, revision) = (state.version(), state.revision());
        match self.detail {
            _ if self.of.is_some() => format!("{process:x}-{version}-{revision}-p"),
            Detail::Full => format!("{process:x}-{version}-{revision}"),
            Detail::Structure => format!("{process:x}-{version}-s"),
            Detail::Brief => Self::brief_tag(version, process),
        }
    }

    /// The tag of the brief map of a version.
    #[must_use]
    pub fn brief_tag(version: u64, process: i64) -> String {
        format!("{process:x}-{version}-b")
    }
}

/// The structure of the map at a moment.
#[derive(Debug, Serialize)]
pub struct Structure {
    /// The moment (ms).
    pub at: i64,
    /// Number of the last change in it, where it is a past one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<i64>,
    /// Nodes by id.
    pub nodes: Vec<NodeShape>,
    /// Edges by id.
    pub edges: Vec<MapEdge>,
}

/// The map's structure now.
#[must_use]
pub fn structure(state: &State) -> Structure {
    let map = state.map();
    let (nodes, edges) = (map.nodes.into_values().collect(), map.edges.into_values().collect());
    Structure { at: state.now(), event: None, nodes, edges }
}

/// The map's structure at a past moment.
///
/// # Errors
/// What the database says.
pub fn structure_at(connection: &Connection, at: i64) -> Result<Structure, StoreError> {
    let (map, event) = history::map_at(connection, at)?;
    let (nodes, edges) = (map.nodes.into_values().collect(), map.edges.into_values().collect());
    Ok(Structure { at, event: Some(event), nodes, edges })
}

/// Changes of the map.
#[derive(Debug, Serialize)]
pub struct Events {
    /// The manager's clock (ms).
    pub now: i64,
    /// Ask for `after=` this to go on.
    pub last: i64,
    /// Oldest first.
    pub events: Vec<EventRow>,
}

/// Which changes `?after=`, `?since=`, `?until=`, `?agent=`, `?edge=`, `?node=` and `?limit=` ask for.
///
/// # Errors
/// Names the parameter and what is allowed.
pub fn filter(query: Option<&str>, now: i64) -> Result<Filter, BadParameter> {
    let query = Query::parse(query, &["after", "since", "until", "agent", "edge", "node", "limit"])?;
    let moment = |name| query.read(name, TIME, |text| time(text, now));
    let limit = query.read("limit", "a number from 1 to 10000", |text| {
        text.parse().ok().filter(|limit| (1..=EVENTS_MAX).contains(limit))
    })?;
    Ok(Filter {
        after: query.read("after", "the number of a change", |text| text.parse().ok())?.unwrap_or(0),
        since: moment("since")?.unwrap_or(0),
        until: moment("until")?,
        agent: query.read("agent", "an agent id", |text| text.parse().ok())?,
        subject: query.get("edge").or_else(|| query.get("node")).map(str::to_owned),
        limit: limit.unwrap_or(EVENTS),
    })
}

/// The changes that `filter` asks for.
///
/// # Errors
/// What the database says.
pub fn events(connection: &Connection, filter: &Filter, now: i64) -> Result<Events, StoreError> {
    let events = history::events(connection, filter)?;
    let last = events.last().map_or(filter.after, |event| event.no);
    Ok(Events { now, last, events })
}

/// The ends of a path query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathQuery {
    /// Who sends.
    pub from: AgentId,
    /// Where to.
    pub to: Target,
}

impl PathQuery {
    /// What `?from=` and `?to=` ask for.
    ///
    /// # Errors
    /// Names the parameter and what is allowed.
    pub fn read(query: Option<&str>) -> Result<Self, BadParameter> {
        let query = Query::parse(query, &["from", "to"])?;
        let needed = |name: &str, allowed| BadParameter { name: name.to_owned(), allowed };
        let from = "an agent id";
        let to = "an agent id or an IP address";
        Ok(Self {
            from: query.read("from", from, |text| text.parse().ok())?.ok_or_else(|| needed("from", from))?,
            to: query
                .read("to", to, |text| {
                    let agent = text.parse().map(Target::Agent).ok();
                    agent.or_else(|| text.parse().map(Target::Address).ok())
                })?
                .ok_or_else(|| needed("to", to))?,
        })
    }

    /// Walks there and back.
    ///
    /// # Errors
    /// When an agent is not known.
    pub fn walk(self, atlas: &Atlas) -> Result<PathAnswer, PathError> {
        topology::path(&atlas.state(), self.from, self.to)
    }
}
