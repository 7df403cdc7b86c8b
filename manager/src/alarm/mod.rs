//! Alarms: what is wrong, why, and what to do next.
//!
//! ```text
//! watch      what is remembered of each agent's reports beside the map: earlier keys, errors, restarts
//! sieve      which agents a rule may have something to say of
//! setting    who reports and how the manager fares at one moment
//! facts      that, and the part of the map to be looked at, with the look-ups that rules share
//! wireguard, path, psk, allowed_ips, endpoint, identity, clock, host, lan, overlay, delivery, mesh, manager
//!            the rules: pure functions of the facts, each a family
//! catalogue  every code: how bad it is, what it means, how long it must hold before it is told
//! status     an alarm and where it stands
//! engine     findings over time -> pending, firing, acknowledged, suppressed, resolved; pure
//! cover      what hides an alarm: another that explains it, or a silence
//! recall     alarms that rest on the past, after a start
//! keeper     the thread that evaluates and has the store keep the changes
//! message    an alarm as a notification's body      notify   the thread that sends them
//! ```

use std::fmt;

use proto::ids::AgentId;
use serde::{Deserialize, Serialize};

pub mod admin;
mod allowed_ips;
pub mod catalogue;
mod clock;
mod cover;
mod delivery;
mod endpoint;
pub mod engine;
pub mod facts;
pub mod few;
mod host;
mod identity;
pub mod keeper;
mod lan;
mod manager;
mod mesh;
pub mod message;
pub mod notify;
mod overlay;
mod path;
mod psk;
pub mod recall;
pub mod setting;
pub mod sieve;
pub mod status;
pub mod watch;
mod wireguard;

pub use facts::Facts;
use sieve::Sweep;

/// Least room on the database's disk: bytes.
pub const DISK_ROOM: u64 = 200 << 20;
/// The same in percent of the disk.
pub const DISK_PERCENT: u64 = 5;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; nobody is woken.
    Info,
    /// Something does not work, or will not for long.
    Warning,
    /// Much does not work, or somebody may be at it.
    Critical,
}

impl Severity {
    /// Its name in the API and the database.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One piece of evidence: what which agent's report says, with the figures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// The agent whose report it is; `None` for the manager's own figures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
    /// When that report was observed: milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_at: Option<i64>,
    /// Where in the report.
    pub field: String,
    /// In words, with the figures.
    pub text: String,
}

/// What a rule finds: true now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which rule, one of [`catalogue::CODES`].
    pub code: &'static str,
    /// What it is about: an agent, `AGENT/INTERFACE`, an edge, `manager`, `fleet`.
    pub subject: String,
    /// How bad it is; the code's own severity unless the rule knows better.
    pub severity: Severity,
    /// One sentence for people, without figures that change from report to report.
    pub sentence: String,
    /// What says so.
    pub evidence: Vec<Proof>,
    /// The likely cause.
    pub cause: String,
    /// What to do next.
    pub next_step: String,
    /// The agents that it concerns: while one of them is silent nothing new is known of it.
    pub agents: Vec<AgentId>,
    /// Subjects whose own trouble explains this one: `AGENT/INTERFACE` or `AGENT`.
    pub under: Vec<String>,
    /// Seconds between the reports that it rests on.
    pub interval_s: u32,
}

impl Finding {
    /// A finding of this code about `subject`, with the code's severity.
    ///
    /// # Panics
    /// When the catalogue does not have the code, which a test excludes.
    #[must_use]
    pub fn new(code: &'static str, subject: impl Into<String>) -> Self {
        let severity = catalogue::find(code).map_or(Severity::Warning, |entry| entry.severity);
        debug_assert!(catalogue::find(code).is_some(), "{code} is not in the catalogue");
        Self {
            code,
            subject: subject.into(),
            severity,
            sentence: String::new(),
            evidence: Vec::new(),
            cause: String::new(),
            next_step: String::new(),
            agents: Vec::new(),
            under: Vec::new(),
            interval_s: 30,
        }
    }

    fn say(mut self, sentence: impl Into<String>) -> Self {
        self.sentence = sentence.into();
        self
    }

    fn because(mut self, cause: impl Into<String>) -> Self {
        self.cause = cause.into();
        self
    }

    fn next(mut self, step: impl Into<String>) -> Self {
        self.next_step = step.into();
        self
    }

    fn proof(mut self, proof: impl IntoIterator<Item = Proof>) -> Self {
        self.evidence.extend(proof);
        self
    }

    fn of(mut self, agents: impl IntoIterator<Item = AgentId>) -> Self {
        self.agents.extend(agents);
        self.agents.sort_unstable();
        self.agents.dedup();
        self
    }

    fn under(mut self, subjects: impl IntoIterator<Item = String>) -> Self {
        self.under.extend(subjects);
        self
    }

    fn every(mut self, interval_s: u32) -> Self {
        self.interval_s = interval_s.max(1);
        self
    }
}

/// What the rules of single hosts and edges find, of those that the facts hold.
#[must_use]
fn local_findings(facts: &Facts<'_>) -> Vec<Finding> {
    found_by(
        facts,
        &[
            wireguard::RULES,
            path::RULES,
            psk::RULES,
            allowed_ips::RULES,
            endpoint::RULES,
            clock::RULES,
            host::RULES,
            lan::RULES,
            overlay::RULES,
        ],
    )
}

/// What the rules find that look at all agents, in what is small of each.
#[must_use]
fn whole_findings(facts: &Facts<'_>) -> Vec<Finding> {
    found_by(facts, &[identity::RULES, host::WHOLE, delivery::RULES, manager::RULES])
}

/// What the rules of one sweep find.
#[must_use]
fn sweep_findings(sweep: Sweep, facts: &Facts<'_>) -> Vec<Finding> {
    let rules = match sweep {
        Sweep::Parts => mesh::PARTS,
        Sweep::Cuts => mesh::CUTS,
        Sweep::Lans => identity::LANS,
    };
    found_by(facts, &[rules])
}

fn found_by(facts: &Facts<'_>, families: &[&[Rule]]) -> Vec<Finding> {
    let mut found = Vec::new();
    families.iter().copied().flatten().for_each(|rule| rule(facts, &mut found));
    found
}

/// A rule: what it finds in the facts is added to the list.
type Rule = fn(&Facts<'_>, &mut Vec<Finding>);
