//! The manager's own trouble.

use proto::ids::AgentId;

use super::clock::span;
use super::facts::Facts;
use super::{DISK_PERCENT, DISK_ROOM, Finding, Proof, Rule};

pub(super) const RULES: &[Rule] = &[isolated, database, disk, psk, refused, notifier];

/// Fewer agents say nothing by half of them being silent.
const LEAST_AGENTS: usize = 3;
/// Intervals after which an agent counts as silent here: before it is told as offline.
const SILENT: i64 = 3;
/// Agents that were last heard of within so many intervals of each other fell silent at once.
const AT_ONCE: i64 = 3;
/// How long a write may wait (ms).
const SLOW_MS: u64 = 2000;
/// Refused messages in ten minutes that are told: more than a few that a changing PSK explains.
const REFUSED: u64 = 10;

fn own(field: &str, text: String) -> Proof {
    Proof { agent: None, observed_at: None, field: field.to_owned(), text }
}

fn isolated(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    let silent: Vec<(&AgentId, i64, i64)> = facts
        .agents
        .iter()
        .filter(|(_, reporter)| reporter.silent_ms(facts.now) > SILENT * reporter.interval_ms())
        .map(|(id, reporter)| (id, reporter.last_seen, reporter.interval_ms()))
        .collect();
    let Some(last) = silent.iter().map(|(_, seen, _)| *seen).max() else { return };
    let at_once: Vec<_> =
        silent.iter().filter(|(_, seen, interval)| last - seen <= AT_ONCE * interval).collect();
    let fresh = facts.agents.len() - silent.len();
    if fresh + at_once.len() < LEAST_AGENTS || at_once.len() <= fresh {
        return;
    }
    let names: Vec<String> = at_once.iter().take(5).map(|(id, ..)| facts.name(**id)).collect();
    let finding = Finding::new("MANAGER_ISOLATED", "manager")
        .say(format!(
            "{} of {} agents fell silent at once: most likely the manager is cut off, not they.",
            at_once.len(),
            fresh + at_once.len()
        ))
        .because("the manager's own network or tunnel failed, or its address changed")
        .next("on the manager's host: ip route; wg show; ping one of the agents")
        .proof([own(
            "agents",
            format!(
                "silent within {} of each other: {}{}",
                span(AT_ONCE * at_once.iter().map(|(_, _, interval)| *interval).max().unwrap_or(30_000)),
                names.join(", "),
                if at_once.len() > 5 { ", ..." } else { "" }
            ),
        )])
        .every(
            at_once
                .iter()
                .filter_map(|(id, ..)| facts.agents.get(id))
                .map(|one| one.interval_s)
                .max()
                .unwrap_or(30),
        );
    found.push(finding);
}

fn database(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    if let Some(failure) = &facts.manager.database_failure {
        let finding = Finding::new("DATABASE_FAILING", "manager")
            .say("The manager cannot write to its database: reports are refused and wait at the agents.")
            .because(failure.clone())
            .next("on the manager's host: df -h; ls -l on the DATABASE file; dmesg | tail")
            .proof([own("database.failure", failure.clone())]);
        found.push(finding);
    } else if facts.manager.write_ms > SLOW_MS {
        let finding = Finding::new("DATABASE_SLOW", "manager")
            .say("Writes to the manager's database wait over two seconds.")
            .because("the disk is slow or busy, or more agents report than it can take")
            .next("on the manager's host: iostat -x 5; move DATABASE to a faster disk")
            .proof([own("database", format!("a write waited {} ms", facts.manager.write_ms))]);
        found.push(finding);
    }
}

fn disk(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    let Some((free, size)) = facts.manager.disk else { return };
    if free >= DISK_ROOM && free.saturating_mul(100) >= size.saturating_mul(DISK_PERCENT) {
        return;
    }
    let finding = Finding::new("DISK_NEARLY_FULL", "manager")
        .say("The disk with the manager's database is nearly full.")
        .because("the database or something else on that disk has grown")
        .next("on the manager's host: df -h; du -xh / | sort -h | tail; lower RETENTION or HISTORY")
        .proof([own("disk", format!("{} MB of {} MB are free", free >> 20, size >> 20))]);
    found.push(finding);
}

fn psk(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    let Some(failure) = &facts.manager.psk_failure else { return };
    let finding = Finding::new("PSK_UNREADABLE", "manager")
        .say("The manager cannot read the PSK from its source; it goes on with the one that it knows.")
        .because(failure.clone())
        .next("on the manager's host: dig TXT of the name in DNS=, or ls -l on PSK_FILE")
        .proof([own("psk_failure", failure.clone())]);
    found.push(finding);
}

fn refused(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    let count = |codes: &[&str]| codes.iter().filter_map(|code| facts.manager.refused.get(code)).sum::<u64>();
    let from = |codes: &[&str]| {
        codes
            .iter()
            .find_map(|code| facts.manager.refused_from.get(code))
            .map_or_else(|| "an unknown address".to_owned(), |(from, _)| from.clone())
    };
    let new = |code, codes: &[&str]| {
        let text = format!(
            "{} messages refused within ten minutes ({}), the last from {}",
            count(codes),
            codes.join(", "),
            from(codes)
        );
        Finding::new(code, "manager").proof([own("refused", text)])
    };
    let forged = ["bad_mac", "bad_path"];
    if count(&forged) >= REFUSED {
        found.push(
            new("FORGED_REPORTS", &forged)
                .say(format!(
                    "Messages that no accepted PSK has signed keep coming, lately from {}.",
                    from(&forged)
                ))
                .because("an agent has a wrong PSK; or somebody tries to forge reports")
                .next(format!(
                    "if {} is a host of yours, give it the PSK (PSK_FILE or DNS); if not, block it",
                    from(&forged)
                )),
        );
    }
    if count(&["replayed"]) >= REFUSED {
        found.push(
            new("REPLAYED_REPORTS", &["replayed"])
                .say(format!("Repeated messages keep coming, lately from {}.", from(&["replayed"])))
                .because("somebody recorded messages and sends them again; or an agent was restored from a snapshot while it ran")
                .next(format!("find out who {} is; if it is an agent of yours, restart it", from(&["replayed"]))),
        );
    }
    if count(&["old_psk"]) > 0 {
        found.push(
            new("OLD_PSK_REFUSED", &["old_psk"])
                .say(format!("An agent at {} is refused: its PSK was rotated away.", from(&["old_psk"])))
                .because("it missed two rotations or more")
                .next(format!(
                    "on the host at {}: copy the present PSK into PSK_FILE, or let it reach DNS",
                    from(&["old_psk"])
                )),
        );
    }
}

fn notifier(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    for (target, (since, why)) in
        facts.manager.notifier.iter().filter(|(_, (since, _))| facts.now - since > 5 * 60_000)
    {
        let finding = Finding::new("NOTIFIER_FAILING", format!("notifier {target}"))
            .say(format!("Notifications to {target} have not been taken for over five minutes; they wait."))
            .because(why.clone())
            .next(format!(
                "on the manager's host: curl -v {target}; correct NOTIFY_URL, or start the receiver"
            ))
            .proof([own("notifier", format!("failing since {since} ms: {why}"))]);
        found.push(finding);
    }
}
