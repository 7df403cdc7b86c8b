//! What hides an alarm: another that explains it, or a silence.

use std::collections::{BTreeSet, HashMap};

use proto::ids::AgentId;

use super::catalogue::Hold;
use super::status::{Alarm, Silence, Status};

/// How long (ms), beside two reports, an alarm stays covered after what covered it is over.
const GRACE: i64 = 5_000;
/// The code of the alarm that stands for a flapping one.
pub(super) const FLAPPING: &str = "FLAPPING";

/// Codes about the manager itself: true whether or not agents report.
pub(super) fn is_own(code: &str) -> bool {
    matches!(
        code,
        "DATABASE_FAILING"
            | "DATABASE_SLOW"
            | "DISK_NEARLY_FULL"
            | "PSK_UNREADABLE"
            | "FORGED_REPORTS"
            | "REPLAYED_REPORTS"
            | "OLD_PSK_REFUSED"
            | "NOTIFIER_FAILING"
    )
}

/// Codes that say of an agent that it is silent: they are not frozen by its silence.
pub(super) fn is_of_silence(code: &str) -> bool {
    matches!(code, "AGENT_OFFLINE" | "RELAY_LOST" | "MANAGER_ISOLATED" | FLAPPING) || is_own(code)
}

/// What covers an alarm: a silence, its own flapping, the manager's isolation, a silent agent, or
/// the interface or host that it stands on.
pub(super) fn cover_of(
    alarm: &Alarm,
    active: &HashMap<(&str, &str), bool>,
    silences: &[Silence],
) -> Option<String> {
    let id = |agent: &AgentId| agent.to_string();
    let silence = silences.iter().find(|silence| {
        silence.target == alarm.code || alarm.agents.iter().any(|agent| id(agent) == silence.target)
    });
    if let Some(silence) = silence {
        return Some(format!("silence of {}", silence.target));
    }
    let is_active = |code: &str, subject: &str| active.contains_key(&(code, subject));
    let by = |code: &str, subject: &str| is_active(code, subject).then(|| format!("{code} {subject}"));
    if alarm.code == FLAPPING || is_own(&alarm.code) || alarm.code == "MANAGER_ISOLATED" {
        return None;
    }
    let own = format!("{} {}", alarm.code, alarm.subject);
    if let Some(flapping) = by(FLAPPING, &own) {
        return Some(flapping);
    }
    if let Some(isolated) = by("MANAGER_ISOLATED", "manager")
        && (matches!(
            alarm.code.as_str(),
            "AGENT_OFFLINE" | "RELAY_LOST" | "EDGE_COUNT_DROP" | "TOPOLOGY_PARTITION"
        ) || alarm.agents.iter().any(|agent| is_active("AGENT_OFFLINE", &id(agent))))
    {
        return Some(isolated);
    }
    let hosts: BTreeSet<String> = alarm.agents.iter().map(id).collect();
    if !matches!(alarm.code.as_str(), "AGENT_OFFLINE" | "RELAY_LOST")
        && let Some(offline) = hosts.iter().find_map(|agent| by("AGENT_OFFLINE", agent))
    {
        return Some(offline);
    }
    alarm.under.iter().find_map(|subject| {
        let covers = ["LINK_DOWN", "WG_IFACE_DOWN", "RELAY_LOST", "AGENT_OFFLINE"];
        let mut others = covers.iter().filter(|code| !(**code == alarm.code && *subject == alarm.subject));
        others.find_map(|code| by(code, subject))
    })
}

/// What covered an alarm and is over since so short a time that what was hidden behind it may just not
/// have reported yet.
pub(super) fn lingering(alarm: &Alarm, over: &HashMap<String, i64>, now: i64) -> Option<String> {
    let by = alarm.suppressed_by.as_ref().filter(|_| alarm.state == Status::Suppressed)?;
    let grace = Hold::Reports(2).millis(alarm.interval_s) + GRACE;
    over.get(by).filter(|since| now - **since < grace).map(|_| by.clone())
}
