//! Alarms that rest on what the manager remembered, after it was started anew. What is lost with the
//! process is not asked for again: the alarm itself is the memory. It goes on until it would have ended
//! by itself, or until the present contradicts it.

use super::facts::Facts;
use super::status::Alarm;
use super::watch::Watches;
use super::{Finding, catalogue};

/// An alarm that was active when the manager stopped.
#[derive(Debug, Clone)]
pub struct Recalled {
    finding: Finding,
    until: i64,
}

const MINUTE: i64 = 60_000;

/// How long (ms) what a code tells of is news, from when it was found.
fn is_news_for(code: &str) -> Option<i64> {
    match code {
        "KEY_CHANGED"
        | "LISTEN_PORT_CHANGED"
        | "ALLOWED_IPS_CHANGED"
        | "ENDPOINT_ROAMED"
        | "CLOCK_REGRESSION"
        | "AGENT_REBOOTED"
        | "DEFAULT_ROUTE_CHANGED"
        | "REPORTS_DROPPED" => Some(10 * MINUTE),
        "GATEWAY_MAC_CHANGED" => Some(30 * MINUTE),
        "EDGE_COUNT_DROP" => Some(60 * MINUTE),
        _ => None,
    }
}

/// How long (ms) the counting takes that a code rests on: so long after a start it is not known whether
/// what it counts goes on.
fn is_counted_for(code: &str) -> Option<i64> {
    match code {
        "ENDPOINT_FLAPPING" | "CARRIER_FLAP" => Some(15 * MINUTE),
        "REPORT_GAPS" => Some(30 * MINUTE),
        "FORGED_REPORTS" | "REPLAYED_REPORTS" | "OLD_PSK_REFUSED" | "DUP_AGENT_ID" => Some(10 * MINUTE),
        // Five minutes until it is told, and the longest pause between two attempts.
        "NOTIFIER_FAILING" => Some(7 * MINUTE),
        _ => None,
    }
}

/// Codes that are found again, and whose words rest on what was before.
fn has_better_words(code: &str) -> bool {
    matches!(code, "ALLOWED_IPS_EMPTY" | "DEFAULT_ROUTE_LOST")
}

/// Takes the alarms as they were when the manager stopped, at its start (ms).
pub fn recall<'a>(watches: &mut Watches, alarms: impl Iterator<Item = &'a Alarm>, started: i64) {
    for alarm in alarms.filter(|alarm| alarm.state.is_active()) {
        watches.assumed.insert(format!("{} {}", alarm.code, alarm.subject));
        if alarm.code == "TOPOLOGY_PARTITION" {
            watches.cut.clone_from(&alarm.agents);
        }
        let Some(entry) = catalogue::find(&alarm.code) else { continue };
        let code = entry.code;
        let until = match (is_news_for(code), is_counted_for(code)) {
            (Some(span), _) => alarm.found_at + span,
            (_, Some(span)) => started + span,
            _ if has_better_words(code) || code == "LINK_SLOWER" => i64::MAX,
            _ => continue,
        };
        let finding = Finding {
            code,
            subject: alarm.subject.clone(),
            severity: alarm.severity,
            sentence: alarm.sentence.clone(),
            evidence: alarm.evidence.clone(),
            cause: alarm.cause.clone(),
            next_step: alarm.next_step.clone(),
            agents: alarm.agents.clone(),
            under: alarm.under.clone(),
            interval_s: alarm.interval_s,
        };
        watches.recalled.push(Recalled { finding, until });
    }
}

/// Adds to what is found what only an earlier process could know of; forgets what is over.
pub(super) fn add(recalled: &mut Vec<Recalled>, facts: &Facts<'_>, found: &mut Vec<Finding>) {
    recalled.retain(|old| old.until > facts.now && !is_contradicted(&old.finding, facts));
    recalled.retain(|old| {
        let same = |new: &&mut Finding| new.code == old.finding.code && new.subject == old.finding.subject;
        match found.iter_mut().find(same) {
            Some(new) if has_better_words(new.code) => {
                new.sentence.clone_from(&old.finding.sentence);
                new.cause.clone_from(&old.finding.cause);
                new.next_step.clone_from(&old.finding.next_step);
                new.evidence.clone_from(&old.finding.evidence);
                true
            }
            // The present tells it by itself.
            Some(_) => false,
            None if has_better_words(old.finding.code) => !is_seen(&old.finding, facts),
            None => {
                found.push(old.finding.clone());
                true
            }
        }
    });
}

/// Whether all that it concerns reports again, so that the present speaks for itself.
fn is_seen(old: &Finding, facts: &Facts<'_>) -> bool {
    old.agents.iter().all(|id| facts.watches.get(*id).is_some() && !facts.dark.contains(id))
}

fn is_contradicted(old: &Finding, facts: &Facts<'_>) -> bool {
    match old.code {
        "EDGE_COUNT_DROP" => facts.tally.up * 2 >= facts.tally.all,
        "LINK_SLOWER" => {
            let place = old.subject.split_once('/');
            let watch = place.and_then(|(id, nic)| Some((facts.watches.get(id.parse().ok()?)?, nic)));
            watch.is_some_and(|(watch, nic)| {
                watch.links.get(nic).is_none_or(|link| link.is_faster || !link.has_link)
            })
        }
        _ => false,
    }
}
