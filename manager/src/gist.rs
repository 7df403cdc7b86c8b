//! What the manager keeps at hand of a report beside its text: few words, shared by all who keep them.

use std::sync::Arc;

use proto::report::Report;

use crate::store::structure;

/// The gist of a report: all that filing a later one needs that differs from it in counters alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gist {
    /// The host's own name, a label.
    pub hostname: Arc<str>,
    /// Version of the agent's program.
    pub version: Arc<str>,
    /// Hash that names the hardware; empty when it is not told.
    pub hardware: Arc<str>,
    /// Seconds between reports.
    pub interval_s: u32,
    /// What the agent adds to its clock (ms).
    pub clock_offset_ms: i64,
    /// Reports that waited at the agent.
    pub spooled: u64,
    /// Reports that the agent gave up since it started.
    pub dropped: u64,
    /// How many problems it met while collecting.
    pub problems: usize,
    /// [`structure::fingerprint`] of its interfaces.
    pub structure: u64,
}

impl Gist {
    /// That of a report.
    #[must_use]
    pub fn of(report: &Report) -> Self {
        Self {
            hostname: report.system.hostname.as_str().into(),
            version: report.agent_version.as_str().into(),
            hardware: report.hardware.as_str().into(),
            interval_s: report.interval_s,
            clock_offset_ms: report.clock_offset_ms,
            spooled: report.delivery.spooled,
            dropped: report.delivery.dropped,
            problems: report.problems.len(),
            structure: structure::fingerprint(report),
        }
    }
}
