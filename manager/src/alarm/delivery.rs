//! How reports come: by relays, and with which PSK (rule D21).

use std::collections::BTreeMap;

use proto::ids::AgentId;
use proto::limits::HOPS_MAX;

use super::facts::Facts;
use super::{Finding, Proof, Rule};

pub(super) const RULES: &[Rule] = &[relayed, relay_lost, old_psk];

fn proof(facts: &Facts<'_>, id: AgentId, path: &[AgentId]) -> Proof {
    let relays: Vec<String> = path.iter().map(|relay| facts.name(*relay)).collect();
    facts.proof(
        id,
        "path",
        format!("the latest report of {} came by way of {}", facts.name(id), relays.join(", then ")),
    )
}

fn relayed(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    for (id, reporter) in facts.agents.iter().filter(|(_, reporter)| !reporter.path.is_empty()) {
        if reporter.is_offline(facts.now) {
            continue;
        }
        let (name, first) = (facts.name(*id), facts.name(reporter.path[0]));
        let new = |code| {
            Finding::new(code, id.to_string()).of([*id]).every(reporter.interval_s).proof([proof(
                facts,
                *id,
                &reporter.path,
            )])
        };
        found.push(
            new("RELAY_IN_USE")
                .say(format!("{name} does not reach the manager itself; {first} passes its reports on."))
                .because(format!("{name} has no route to the manager, or a firewall is between them"))
                .next(format!("if it should reach it: on {name}: curl -s MANAGER_URL/status/healthcheck")),
        );
        if reporter.path.len() >= HOPS_MAX {
            found.push(
                new("RELAY_HOPS_MAX")
                    .say(format!("{name}'s reports take {HOPS_MAX} relays, as many as they may."))
                    .because("each relay on the way does not reach the manager itself")
                    .next("give one of the relays a direct way to the manager"),
            );
        }
    }
}

fn relay_lost(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    let mut lost: BTreeMap<AgentId, Vec<AgentId>> = BTreeMap::new();
    for (id, reporter) in facts.agents.iter().filter(|(_, reporter)| reporter.is_offline(facts.now)) {
        for relay in &reporter.path {
            lost.entry(*relay).or_default().push(*id);
        }
    }
    for (relay, users) in lost {
        if facts.agents.get(&relay).is_none_or(|reporter| !reporter.is_offline(facts.now)) {
            continue;
        }
        let name = facts.name(relay);
        let names: Vec<String> = users.iter().map(|id| facts.name(*id)).collect();
        let finding = Finding::new("RELAY_LOST", relay.to_string())
            .say(format!("{name} is silent, and with it {} whose reports it passed on.", names.join(", ")))
            .because(format!("{name} is off or cut off; the others may be well"))
            .next(format!("bring {name} back, or give {} another way to the manager", names.join(", ")))
            .proof(users.iter().filter_map(|id| Some(proof(facts, *id, &facts.agents.get(id)?.path))))
            .of([relay])
            .every(facts.interval(&[relay]));
        found.push(finding);
    }
}

fn old_psk(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    let current = facts.manager.psk_generation;
    for (id, reporter) in
        facts.agents.iter().filter(|(_, reporter)| reporter.psk < current && reporter.psk > 0)
    {
        if reporter.is_offline(facts.now) {
            continue;
        }
        let name = facts.name(*id);
        let finding = Finding::new("OLD_PSK_IN_USE", id.to_string())
            .say(format!("{name} still signs with a PSK from before the last rotation; two more rotations and it is refused."))
            .because("its DNS server keeps the old record, or its PSK_FILE was not changed")
            .next(format!("on {name}: dig TXT of the name in DNS=, or copy the new PSK into PSK_FILE"))
            .proof([facts.proof(*id, "psk_generation", format!("{name} uses generation {}, the current one is {current}", reporter.psk))])
            .of([*id])
            .every(reporter.interval_s);
        found.push(finding);
    }
}
