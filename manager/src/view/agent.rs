//! Agents as GET /status/agents shows them.

use std::sync::Arc;

use proto::ids::AgentId;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::fleet::{Agent, Fleet, Presence};

/// All agents.
#[derive(Debug, Serialize)]
pub struct AgentList {
    /// The manager's clock (ms).
    pub now: i64,
    /// By hostname, then id.
    pub agents: Vec<AgentView>,
}

/// One agent in a list.
#[derive(Debug, Clone, Serialize)]
pub struct AgentView {
    /// Its id.
    pub id: AgentId,
    /// Its own name.
    #[serde(serialize_with = "text")]
    pub hostname: Arc<str>,
    /// Whether it reports as it should.
    pub presence: Presence,
    /// Version of its program.
    #[serde(serialize_with = "text")]
    pub version: Arc<str>,
    /// When it was first heard of (ms).
    pub first_seen: i64,
    /// When anything of it last came (ms).
    pub last_seen: Option<i64>,
    /// Seconds since then.
    pub last_seen_age_s: Option<i64>,
    /// What the agent adds to its clock to have the manager's (ms).
    pub clock_offset_ms: Option<i64>,
    /// How its latest report came: `direct`, or `relay` by way of `path`.
    pub arrival: Option<&'static str>,
    /// The relays that its latest report passed, first to last.
    pub path: Vec<AgentId>,
    /// Generation of the PSK that it uses.
    pub psk_generation: Option<u32>,
    /// Seconds between its reports.
    pub interval_s: Option<u32>,
    /// Reports that waited at the agent when it last reported.
    pub spooled: Option<u64>,
    /// Reports that it gave up since it started.
    pub dropped: Option<u64>,
    /// Problems that it met while collecting.
    pub problems: Option<usize>,
}

fn text<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

impl AgentView {
    /// An agent as it is at `now` (ms).
    #[must_use]
    pub fn new(agent: &Agent, now: i64) -> Self {
        let latest = agent.latest.as_ref();
        let arrival = |path: &[AgentId]| if path.is_empty() { "direct" } else { "relay" };
        Self {
            id: agent.id,
            hostname: Arc::clone(&agent.hostname),
            presence: agent.presence(now),
            version: Arc::clone(&agent.version),
            first_seen: agent.first_seen,
            last_seen: agent.last_seen,
            last_seen_age_s: agent.last_seen.map(|seen| (now - seen).max(0) / 1000),
            clock_offset_ms: latest.map(|latest| latest.clock_offset_ms),
            arrival: latest.map(|latest| arrival(&latest.path)),
            path: latest.map(|latest| latest.path.clone()).unwrap_or_default(),
            psk_generation: latest.map(|latest| latest.psk),
            interval_s: latest.map(|latest| latest.interval_s),
            spooled: latest.map(|latest| latest.spooled),
            dropped: latest.map(|latest| latest.dropped),
            problems: latest.map(|latest| latest.problems),
        }
    }
}

/// All visible agents at `now` (ms).
#[must_use]
pub fn list(fleet: &Fleet, now: i64) -> AgentList {
    let visible = fleet.agents.values().filter(|agent| agent.is_visible());
    // The writer waits meanwhile: what is sorted is small, and has the names at hand.
    let mut sorted: Vec<(&str, AgentId, &Arc<Agent>)> =
        visible.map(|agent| (&*agent.hostname, agent.id, agent)).collect();
    sorted.sort_unstable_by_key(|(hostname, id, _)| (*hostname, *id));
    AgentList { now, agents: sorted.into_iter().map(|(.., agent)| AgentView::new(agent, now)).collect() }
}

/// One agent with its latest report.
#[derive(Debug, Serialize)]
pub struct AgentDetail<'a> {
    /// The manager's clock (ms).
    pub now: i64,
    /// The agent.
    pub agent: AgentView,
    /// When its latest report was observed and received (ms), and its number in its boot.
    pub observed_at: Option<i64>,
    /// When its latest report came (ms).
    pub received_at: Option<i64>,
    /// The latest report's number in its boot.
    pub tick: Option<u64>,
    /// The report as the agent wrote it.
    pub report: Option<&'a RawValue>,
}

/// One agent at `now` (ms), with the JSON of its latest report.
#[must_use]
pub fn one<'a>(agent: &Agent, payload: Option<&'a [u8]>, now: i64) -> AgentDetail<'a> {
    let latest = agent.latest.as_ref();
    AgentDetail {
        now,
        agent: AgentView::new(agent, now),
        observed_at: latest.map(|latest| latest.observed_at),
        received_at: latest.map(|latest| latest.received_at),
        tick: latest.map(|latest| latest.tick),
        report: payload.and_then(|json| serde_json::from_slice(json).ok()),
    }
}
