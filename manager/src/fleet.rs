//! The fleet as it is now, in memory: who is there, and what the latest report of each says of it.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use proto::ids::{AgentId, BootId};
use serde::Serialize;

use crate::gist::Gist;

/// An agent as the manager knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// Its number in the database.
    pub no: i64,
    /// Its id.
    pub id: AgentId,
    /// Hash that names its hardware; empty when it never told.
    pub hardware: Arc<str>,
    /// Its own name, a label.
    pub hostname: Arc<str>,
    /// Version of its program.
    pub version: Arc<str>,
    /// When it was first heard of (ms).
    pub first_seen: i64,
    /// What it reported up to then is hidden (ms).
    pub reset_at: Option<i64>,
    /// When anything of it last came (ms, the manager's clock).
    pub last_seen: Option<i64>,
    /// Its present state.
    pub latest: Option<Latest>,
}

/// What is kept in memory of an agent's latest report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latest {
    /// The report's number in the database.
    pub report: i64,
    /// Which start of the agent.
    pub boot: BootId,
    /// Its number in that start.
    pub tick: u64,
    /// When it was signed (ms, the sender's clock as corrected).
    pub sent_at: i64,
    /// When it came (ms, the manager's clock).
    pub received_at: i64,
    /// When the host was read (ms, the sender's clock as corrected).
    pub observed_at: i64,
    /// Generation of the PSK that signed it.
    pub psk: u32,
    /// The relays that it passed, first to last; empty is direct.
    pub path: Vec<AgentId>,
    /// Seconds between its reports.
    pub interval_s: u32,
    /// What the agent adds to its clock (ms).
    pub clock_offset_ms: i64,
    /// Reports that waited at the agent.
    pub spooled: u64,
    /// Reports that the agent gave up since it started.
    pub dropped: u64,
    /// How many problems it met while collecting.
    pub problems: usize,
    /// The report of that start from which it differs in counters alone, or itself, where later ones may be read by it;
    /// `None` where that is not known.
    pub like: Option<u64>,
}

impl Latest {
    /// Takes from a report what is kept in memory.
    pub fn describe(&mut self, gist: &Gist) {
        self.interval_s = gist.interval_s;
        self.clock_offset_ms = gist.clock_offset_ms;
        self.spooled = gist.spooled;
        self.dropped = gist.dropped;
        self.problems = gist.problems;
    }
}

/// Whether an agent reports as it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Presence {
    /// It registered and has not reported.
    Never,
    /// It reports in time.
    Online,
    /// A report is overdue.
    Late,
    /// Several reports are overdue.
    Offline,
}

impl Presence {
    /// Its name as the API has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Online => "online",
            Self::Late => "late",
            Self::Offline => "offline",
        }
    }
}

/// Intervals after which a report is overdue, and after which the agent counts as offline: one lost
/// report is not an outage.
const LATE_AFTER: i64 = 2;
const OFFLINE_AFTER: i64 = 4;
/// Milliseconds allowed beside, for jitter and a delivery that takes its time.
const GRACE: i64 = 10_000;

impl Agent {
    /// Whether it shows: not when a reset hid all that it reported.
    #[must_use]
    pub fn is_visible(&self) -> bool {
        match (self.reset_at, self.last_seen) {
            (Some(reset), Some(seen)) => seen > reset,
            (Some(_), None) => false,
            (None, _) => true,
        }
    }

    /// Whether it reports as it should, by the manager's clock `now` (ms).
    #[must_use]
    pub fn presence(&self, now: i64) -> Presence {
        let Some(latest) = &self.latest else { return Presence::Never };
        let silent = now - self.last_seen.unwrap_or(latest.received_at);
        let interval = i64::from(latest.interval_s.max(1)) * 1000;
        match silent {
            _ if silent <= LATE_AFTER * interval + GRACE => Presence::Online,
            _ if silent <= OFFLINE_AFTER * interval + GRACE => Presence::Late,
            _ => Presence::Offline,
        }
    }
}

/// All agents.
#[derive(Debug, Default)]
pub struct Fleet {
    /// By id, those hidden by a reset included.
    pub agents: HashMap<AgentId, Arc<Agent>>,
}

/// The fleet as all threads share it; only the writer changes it, after a commit.
pub type SharedFleet = Arc<RwLock<Fleet>>;

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(last_seen: Option<i64>, reset_at: Option<i64>) -> Agent {
        let latest = last_seen.map(|received_at| Latest {
            report: 1,
            boot: BootId([0; 16]),
            tick: 1,
            sent_at: received_at,
            received_at,
            observed_at: received_at,
            psk: 1,
            path: Vec::new(),
            interval_s: 30,
            clock_offset_ms: 0,
            spooled: 0,
            dropped: 0,
            problems: 0,
            like: None,
        });
        Agent {
            no: 1,
            id: AgentId([0; 16]),
            hardware: "".into(),
            hostname: "".into(),
            version: "".into(),
            first_seen: 0,
            reset_at,
            last_seen,
            latest,
        }
    }

    #[test]
    fn one_lost_report_is_no_outage() {
        let presence = |age_s: i64| agent(Some(0), None).presence(age_s * 1000);
        assert_eq!(presence(31), Presence::Online);
        assert_eq!(presence(70), Presence::Online);
        assert_eq!(presence(71), Presence::Late);
        assert_eq!(presence(131), Presence::Offline);
        assert_eq!(presence(-5), Presence::Online, "the manager's clock was set back");
        assert_eq!(agent(None, None).presence(0), Presence::Never);
    }

    #[test]
    fn a_reset_hides_until_the_next_report() {
        assert!(agent(Some(5), None).is_visible());
        assert!(!agent(Some(5), Some(5)).is_visible());
        assert!(agent(Some(6), Some(5)).is_visible());
        assert!(!agent(None, Some(5)).is_visible());
    }
}
