//! An alarm and where it stands, and what changes of it.

use proto::ids::AgentId;
use serde::{Deserialize, Serialize};

use super::{Proof, Severity};

/// Where an alarm stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Found, and not for long enough.
    Pending,
    /// True, and told.
    Firing,
    /// True, and someone knows.
    Acknowledged,
    /// True, and another alarm or a silence covers it.
    Suppressed,
    /// Over.
    Resolved,
}

impl Status {
    /// Its name in the API and the database.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Firing => "firing",
            Self::Acknowledged => "acknowledged",
            Self::Suppressed => "suppressed",
            Self::Resolved => "resolved",
        }
    }

    /// The state of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Pending, Self::Firing, Self::Acknowledged, Self::Suppressed, Self::Resolved]
            .into_iter()
            .find(|status| status.name() == name)
    }

    /// Whether it holds and was held long enough.
    #[must_use]
    pub fn is_active(self) -> bool {
        matches!(self, Self::Firing | Self::Acknowledged | Self::Suppressed)
    }
}

/// An alarm: one code about one subject, the same row for all its episodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// Its number, by which it is acknowledged.
    pub no: i64,
    /// Which rule.
    pub code: String,
    /// What it is about.
    pub subject: String,
    /// How bad it is.
    pub severity: Severity,
    /// Where it stands.
    pub state: Status,
    /// Since when it is in this state (ms).
    pub since: i64,
    /// When the present episode was first found (ms).
    pub found_at: i64,
    /// When the present episode fired (ms); `None` while it is pending.
    pub fired_at: Option<i64>,
    /// Since when it is no longer found (ms); `None` while it is.
    pub clear_since: Option<i64>,
    /// When it was acknowledged (ms), in this episode.
    pub acked_at: Option<i64>,
    /// What covers it: `CODE SUBJECT`, or a silence in words.
    pub suppressed_by: Option<String>,
    /// Whether the present episode was told to the notifier.
    pub told: bool,
    /// When it fired and was resolved lately (ms).
    pub transitions: Vec<i64>,
    /// One sentence.
    pub sentence: String,
    /// What says so.
    pub evidence: Vec<Proof>,
    /// The likely cause.
    pub cause: String,
    /// What to do next.
    pub next_step: String,
    /// The agents that it concerns.
    pub agents: Vec<AgentId>,
    /// Subjects whose trouble explains it.
    pub under: Vec<String>,
    /// Seconds between the reports that it rests on.
    pub interval_s: u32,
    /// Grows with every change that is written.
    pub version: i64,
}

/// What is to be written and told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// How the alarm is now.
    pub alarm: Alarm,
    /// The state that it came from; the same one where only its words changed.
    pub from: Option<Status>,
    /// Whether the notifier is to be told.
    pub notify: bool,
    /// It was found and went before it lasted: nothing of this episode stays.
    pub forget: bool,
}

/// An order to keep alarms from being told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// A code, or an agent's id.
    pub target: String,
    /// Until when (ms).
    pub until: i64,
}
