//! Agents and their hosts: offline, rebooted, what they cannot read, reports that are missing.

use proto::ids::AgentId;

use super::clock::{SKEW, span};
use super::facts::{Facts, Reporter};
use super::identity::is_shared;
use super::watch::Watch;
use super::wireguard::RECENT;
use super::{Finding, Proof, Rule};

pub(super) const RULES: &[Rule] = &[rebooted, problems, gaps, spooled, dropped];
/// Rules that look at all agents.
pub(super) const WHOLE: &[Rule] = &[offline];

/// Reports missing in half an hour that are told.
const GAPS: usize = 3;
/// Reports that may wait at an agent.
const SPOOLED: u64 = 10;

fn offline(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    let silent: Vec<_> =
        facts.notable.iter().filter(|(_, reporter)| reporter.is_offline(facts.now)).collect();
    if silent.is_empty() {
        return;
    }
    for (id, reporter) in silent {
        let mut parents = reporter.path.clone();
        parents.extend(gateway(facts, *id));
        if parents.iter().any(|parent| is_about_to_be(facts, *parent, reporter)) {
            continue;
        }
        let name = facts.name(*id);
        let last = facts.watches.get(*id);
        let because = if reporter.path.is_empty() {
            "the host is off or cut off from the network, or its agent stopped"
        } else {
            "the host is off or cut off, or the relay that its reports took is"
        };
        let finding = Finding::new("AGENT_OFFLINE", id.to_string())
            .say(format!("Nothing has been heard of {name} for over {}.", span(4 * reporter.interval_ms())))
            .because(because)
            .next(format!("ping {name}; if it answers: ssh {name} 'pgrep agent; curl -s http://127.0.0.1:5087/status/healthcheck'"))
            .proof([Proof {
                agent: Some(*id),
                observed_at: last.map(|watch| watch.observed_at),
                field: "last_seen".into(),
                text: format!(
                    "no report of {name} has come for {}; it reports every {} s",
                    span(reporter.silent_ms(facts.now)),
                    reporter.interval_s
                ),
            }])
            .of([*id])
            .under(parents.iter().map(ToString::to_string))
            .every(reporter.interval_s);
        found.push(finding);
    }
}

/// Whether a host's relay or gateway is silent too and will be told as offline soon: then it is told
/// first, and the host behind it not at all. Waits no longer than it took so far.
fn is_about_to_be(facts: &Facts<'_>, parent: AgentId, child: &Reporter) -> bool {
    let Some(parent) = facts.agents.get(&parent) else { return false };
    let waited = child.silent_ms(facts.now) > 2 * (4 * child.interval_ms() + 10_000);
    let silent = parent.silent_ms(facts.now) > 2 * parent.interval_ms();
    silent && !parent.is_offline(facts.now) && !waited
}

/// The agent that is a host's gateway, by the gateway's link-layer address.
fn gateway(facts: &Facts<'_>, id: AgentId) -> Option<AgentId> {
    let mac = facts.watches.get(id)?.way_out.as_ref()?.mac.as_deref().filter(|mac| !is_shared(mac))?;
    facts.state.mac_owner(mac, id)
}

fn rebooted(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    for (id, _, watch) in facts.watched() {
        if watch.past().rebooted_at.is_none_or(|at| facts.now - at > RECENT) {
            continue;
        }
        let name = facts.name(id);
        let finding = Finding::new("AGENT_REBOOTED", id.to_string())
            .say(format!("{name} was restarted."))
            .because("somebody restarted it, it lost power, or it crashed")
            .next(format!("if nobody did: on {name}: last -x | head; journalctl -b -1 -e"))
            .proof([facts.proof(
                id,
                "uptime_s",
                format!("{name} has been up for less time than when it reported before"),
            )])
            .of([id])
            .every(watch.interval_s);
        found.push(finding);
    }
}

fn problems(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    for (id, _, watch) in facts.watched() {
        let name = facts.name(id);
        let told = |problem: &&(String, String)| !is_of_clock(facts, watch, &problem.1);
        let Some((source, message)) = watch.past().problems.iter().find(told) else { continue };
        let finding = Finding::new("COLLECT_PROBLEM", id.to_string())
            .say(format!("{name}'s agent cannot read {source}: {message}."))
            .because("the agent lacks rights or a program, or its kernel is set up otherwise")
            .next(format!(
                "on {name}: ./agent -sysinfo as root shows all problems; WireGuard tells root alone, or who has CAP_NET_ADMIN"
            ))
            .proof(
                watch
                    .past().problems
                    .iter()
                    .map(|(source, message)| facts.proof(id, "problems", format!("{source}: {message}"))),
            )
            .of([id])
            .every(watch.interval_s);
        found.push(finding);
    }
}

/// Whether a wrong clock, which has an alarm of its own, is all that a problem is about.
fn is_of_clock(facts: &Facts<'_>, watch: &Watch, message: &str) -> bool {
    let went_back = watch.past().clock_back.is_some_and(|(at, _)| facts.now - at <= RECENT);
    message.contains("in the future") && (went_back || watch.clock_offset_ms.abs() > SKEW)
}

fn gaps(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    for (id, _, watch) in facts.watched() {
        let recent = watch.past().gaps.iter().filter(|at| facts.now - **at <= 30 * 60_000).count();
        if recent < GAPS {
            continue;
        }
        let name = facts.name(id);
        let finding = Finding::new("REPORT_GAPS", id.to_string())
            .say(format!("Reports of {name} are missing again and again."))
            .because("its way to the manager loses packets, or the host is overloaded")
            .next(format!("on {name}: mtr to the manager; curl -s http://127.0.0.1:5087/status/healthcheck tells how its reports fare"))
            .proof([facts.proof(id, "tick", format!("{recent} times in half an hour no report of {name} came for over two intervals"))])
            .of([id])
            .every(watch.interval_s);
        found.push(finding);
    }
}

fn spooled(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    for (id, _, watch) in facts.watched().filter(|(_, _, watch)| watch.spooled > SPOOLED) {
        let name = facts.name(id);
        let finding = Finding::new("REPORTS_SPOOLED", id.to_string())
            .say(format!("Reports wait at {name} to be delivered."))
            .because("it could not reach the manager for a while and catches up, or the manager takes its reports too slowly")
            .next("wait; if it lasts, look at GET /status/healthcheck of the manager")
            .proof([facts.proof(id, "delivery.spooled", format!("{} reports wait at {name}", watch.spooled))])
            .of([id])
            .every(watch.interval_s);
        found.push(finding);
    }
}

fn dropped(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    for (id, _, watch) in facts.watched() {
        let Some((_, count)) = watch.past().dropped_at.filter(|(at, _)| facts.now - at <= RECENT) else {
            continue;
        };
        let name = facts.name(id);
        let finding = Finding::new("REPORTS_DROPPED", id.to_string())
            .say(format!("{name} gave up reports that it could not deliver: its history has a hole."))
            .because("the manager could not be reached for longer than the agent can keep reports, or refused some")
            .next(format!("on {name}: look in the agent's log for why; the manager's healthcheck counts what it refused"))
            .proof([facts.proof(id, "delivery.dropped", format!("{count} reports were given up since the report before"))])
            .of([id])
            .every(watch.interval_s);
        found.push(finding);
    }
}
