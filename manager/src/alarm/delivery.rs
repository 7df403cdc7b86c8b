//! How reports come: by relays (rule D21), and with which PSK.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use proto::ids::AgentId;
use proto::limits::HOPS_MAX;

use super::facts::{Facts, Reporter};
use super::{Finding, Proof, Rule};
use crate::topology::EdgeState;

pub(super) const RULES: &[Rule] = &[relayed, relay_loop, direct_available, relay_lost, old_psk];

fn proof(facts: &Facts<'_>, id: AgentId, path: &[AgentId]) -> Proof {
    let relays: Vec<String> = path.iter().map(|relay| facts.name(*relay)).collect();
    facts.proof(
        id,
        "path",
        format!("the latest report of {} came by way of {}", facts.name(id), relays.join(", then ")),
    )
}

fn relayed(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    for (id, reporter) in facts.notable.iter().filter(|(_, reporter)| !reporter.path.is_empty()) {
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

/// The relays that each take the next for their way to the manager, beginning and ending with `id`,
/// where it is the least of them: a circle is found once.
fn circle(facts: &Facts<'_>, id: AgentId) -> Option<Vec<AgentId>> {
    let next = |id: &AgentId| {
        let reporter = facts.agents.get(id).filter(|reporter| !reporter.is_offline(facts.now))?;
        reporter.path.first().copied()
    };
    let mut chain = vec![id];
    while chain.len() <= HOPS_MAX + 1 {
        let last = chain.last()?;
        // A relay that passed one report twice, or its own, closes a circle within that report's path.
        let path = &facts.agents.get(last)?.path;
        let twice = path.iter().enumerate().find(|(n, relay)| path[..*n].contains(relay) || *relay == last);
        if let (1, Some((_, relay))) = (chain.len(), twice) {
            return Some(vec![id, *relay]);
        }
        let following = next(last)?;
        if following == id {
            return (chain.len() > 1 && chain.iter().all(|other| *other >= id)).then_some(chain);
        }
        if chain.contains(&following) {
            return None; // a circle that it leads into and is no part of
        }
        chain.push(following);
    }
    None
}

fn relay_loop(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    let relayed = facts.notable.iter().filter(|(_, reporter)| !reporter.path.is_empty());
    for (id, _) in relayed.filter(|(_, reporter)| !reporter.is_offline(facts.now)) {
        let Some(ids) = circle(facts, *id) else { continue };
        let names: Vec<String> = ids.iter().map(|id| facts.name(*id)).collect();
        let finding = Finding::new("RELAY_LOOP", id.to_string())
            .say(format!("{} take each other for the way to the manager: their reports go in a circle.", names.join(" and ")))
            .because("the way of one of them to the manager comes and goes, and each follows the other's older word")
            .next(format!("on {}: curl -s MANAGER_URL/status/healthcheck; give one of them a way to the manager that lasts", names[0]))
            .proof(ids.iter().filter_map(|id| Some(proof(facts, *id, &facts.agents.get(id)?.path))))
            .of(ids.iter().copied())
            .every(facts.interval(&ids));
        found.push(finding);
    }
}

/// A shorter way than the relays that an agent uses, and whose example shows it.
fn direct_available(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    let relayed = facts.notable.iter().filter(|(_, reporter)| !reporter.path.is_empty());
    let relayed: Vec<_> = relayed.filter(|(_, reporter)| !reporter.is_offline(facts.now)).collect();
    if relayed.is_empty() {
        return;
    }
    // By gateway, an agent that goes out by it and reaches the manager itself.
    let mut direct: HashMap<&str, AgentId> = HashMap::new();
    for (id, watch) in facts.watches.iter() {
        let gateway = watch.way_out.as_ref().and_then(|way| way.mac.as_deref());
        if let (Some(gateway), true) =
            (gateway, facts.agents.get(&id).is_some_and(|r| is_direct(r, facts.now)))
        {
            direct.entry(gateway).or_insert(id);
        }
    }
    for (id, reporter) in relayed {
        let name = facts.name(*id);
        let gateway = facts.watches.get(*id).and_then(|watch| watch.way_out.as_ref()?.mac.as_deref());
        let same_way = gateway.and_then(|gateway| Some((gateway, *direct.get(gateway)?)));
        let new = || {
            Finding::new("RELAY_DIRECT_AVAILABLE", id.to_string())
                .proof([proof(facts, *id, &reporter.path)])
                .every(reporter.interval_s)
        };
        if let Some((gateway, example)) = same_way {
            let other = facts.name(example);
            found.push(
                new()
                    .say(format!("{name} reports by way of others, though {other}, behind the same gateway, reaches the manager itself."))
                    .because(format!("a firewall on {name} or a rule for it alone, or MANAGER_URL on {name} names another address"))
                    .next(format!("on {name}: curl -s MANAGER_URL/status/healthcheck, with the MANAGER_URL of {other}"))
                    .proof([facts.proof(example, format!("neighbours[{gateway}]"), format!("{other} has the gateway {gateway} as {name} has, and its reports come straight"))])
                    .of([*id, example]),
            );
        } else if let (true, Some(near)) = (reporter.path.len() > 1, direct_peer(facts, *id)) {
            let (near, address) = near;
            let other = facts.name(near);
            found.push(
                new()
                    .say(format!("{name}'s reports take {} relays, though it has a working tunnel to {other}, which reaches the manager itself.", reporter.path.len()))
                    .because(format!("{other} does not let {name} ask it (AGENT_ALLOW), or its port for relaying is closed to {name}"))
                    .next(format!("on {name}: curl -s http://{address}:5087/status/healthcheck"))
                    .proof([facts.proof(near, "path", format!("the latest report of {other} came straight"))])
                    .of([*id, near]),
            );
        }
    }
}

fn is_direct(reporter: &Reporter, now: i64) -> bool {
    reporter.path.is_empty() && !reporter.is_offline(now)
}

/// A host that an agent has a working tunnel to, and that reaches the manager itself; its address there.
fn direct_peer(facts: &Facts<'_>, id: AgentId) -> Option<(AgentId, IpAddr)> {
    let up = facts.tunnels_of(id).filter(|tunnel| tunnel.edge.shape.state == EdgeState::Up);
    up.flat_map(|tunnel| tunnel.ends.iter().flatten()).filter(|side| side.id != id).find_map(|side| {
        let address = side.nic?.addresses().first()?.address();
        facts.agents.get(&side.id).is_some_and(|r| is_direct(r, facts.now)).then_some((side.id, address))
    })
}

fn relay_lost(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    let mut lost: BTreeMap<AgentId, Vec<AgentId>> = BTreeMap::new();
    for (id, reporter) in facts.notable.iter().filter(|(_, reporter)| reporter.is_offline(facts.now)) {
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
        facts.notable.iter().filter(|(_, reporter)| reporter.psk < current && reporter.psk > 0)
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
