//! LANs, cables and ways out (rule L5).

use super::facts::Facts;
use super::wireguard::RECENT;
use super::{Finding, Rule};

pub(super) const RULES: &[Rule] = &[links, way_out, neighbours];

/// More changes of a link than this within 15 minutes are a bad cable.
const FLAPS: u64 = 4;
/// How long another card at the gateway's address is told (ms).
const GATEWAY_RECENT: i64 = 30 * 60_000;

fn links(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    for (id, _, watch) in facts.watched() {
        for (nic, link) in watch.links.iter() {
            let (name, subject) = (facts.name(id), format!("{id}/{nic}"));
            let new = |code| Finding::new(code, &subject).of([id]).every(watch.interval_s);
            let was_used = link.was_used || facts.watches.assumes("LINK_DOWN", &subject);
            if was_used && link.is_enabled && !link.has_link {
                found.push(
                    new("LINK_DOWN")
                        .say(format!("{name}'s {nic} has no link."))
                        .because("the cable is out, or what it leads to is off")
                        .next(format!("check the cable and the switch; on {name}: ethtool {nic}"))
                        .proof([facts.proof(
                            id,
                            format!("interfaces[{nic}].operstate"),
                            format!("{name}'s {nic} is set up and has no carrier; it had one before"),
                        )]),
                );
            }
            let flaps: u64 = link
                .flaps()
                .iter()
                .filter(|(at, _)| facts.now - at <= 15 * 60_000)
                .map(|(_, count)| count)
                .sum();
            if flaps > FLAPS {
                found.push(
                    new("CARRIER_FLAP")
                        .say(format!("The link of {name}'s {nic} comes and goes."))
                        .because("a bad cable or plug, a failing port, or power saving")
                        .next(format!("change the cable, then the port; on {name}: ethtool -S {nic}"))
                        .proof([facts.proof(
                            id,
                            format!("interfaces[{nic}].carrier_changes"),
                            format!("the link of {nic} changed {flaps} times within 15 minutes"),
                        )]),
                );
            }
            if let (Some(speed), Some(fastest)) = (link.speed, link.fastest)
                && speed < fastest
                && link.has_link
            {
                found.push(
                    new("LINK_SLOWER")
                        .say(format!("{name}'s {nic} runs at {speed} Mbit/s; it ran at {fastest} before."))
                        .because("a damaged cable (one pair broken), another port, or a changed setting")
                        .next(format!("on {name}: ethtool {nic}; change the cable"))
                        .proof([facts.proof(
                            id,
                            format!("interfaces[{nic}].speed_mbps"),
                            format!("was {fastest}, is {speed}"),
                        )]),
                );
            }
        }
    }
}

fn way_out(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    for (id, _, watch) in facts.watched() {
        let (name, subject) = (facts.name(id), id.to_string());
        let new = |code| Finding::new(code, &subject).of([id]).every(watch.interval_s);
        if watch.way_out.is_none()
            && watch.past().way_out_before.is_none()
            && facts.watches.assumes("DEFAULT_ROUTE_LOST", &subject)
        {
            let finding = new("DEFAULT_ROUTE_LOST")
                .say(format!("{name} has no default route any more: it reaches its own networks only."))
                .because("its DHCP lease ran out, its uplink went down, or somebody removed the route")
                .next(format!(
                    "on {name}: ip route; then renew the lease or: ip route add default via GATEWAY"
                ))
                .proof([facts.proof(
                    id,
                    "routes",
                    "it had one before the manager was restarted, and has none",
                )]);
            found.push(finding);
            continue;
        }
        let Some((before, at)) = &watch.past().way_out_before else { continue };
        let words = |way: &super::watch::WayOut| match way.gateway {
            Some(gateway) => format!("{gateway} on {}", way.interface),
            None => way.interface.clone(),
        };
        match (before, &watch.way_out) {
            (Some(was), None) if watch.had_way_out => found.push(
                new("DEFAULT_ROUTE_LOST")
                    .say(format!("{name} has no default route any more: it reaches its own networks only."))
                    .because("its DHCP lease ran out, its uplink went down, or somebody removed the route")
                    .next(format!(
                        "on {name}: ip route; then renew the lease or: ip route add default via {}",
                        was.gateway.map_or_else(|| "GATEWAY".to_owned(), |ip| ip.to_string())
                    ))
                    .proof([facts.proof(id, "routes", format!("was by {}, is none", words(was)))])
                    .under([format!("{id}/{}", was.interface)]),
            ),
            (Some(was), Some(is)) => {
                let same = (&was.interface, was.gateway) == (&is.interface, is.gateway);
                if same
                    && was.mac.is_some()
                    && is.mac.is_some()
                    && was.mac != is.mac
                    && facts.now - at <= GATEWAY_RECENT
                {
                    let (old, new_mac) =
                        (was.mac.clone().unwrap_or_default(), is.mac.clone().unwrap_or_default());
                    found.push(
                        new("GATEWAY_MAC_CHANGED")
                            .say(format!("{name}'s gateway {} is another network card now.", words(is)))
                            .because("the router was replaced or another took over; or somebody on the LAN answers in its name")
                            .next(format!("check that {new_mac} is your router's; if not, find that card by the switch's tables"))
                            .proof([facts.proof(id, format!("neighbours[{}]", words(is)), format!("was {old}, is {new_mac}"))]),
                    );
                } else if !same && facts.now - at <= RECENT {
                    found.push(
                        new("DEFAULT_ROUTE_CHANGED")
                            .say(format!(
                                "{name}'s default route goes by {} now, no longer by {}.",
                                words(is),
                                words(was)
                            ))
                            .because("it moved to another network or uplink")
                            .next("nothing, if it was meant")
                            .proof([facts.proof(
                                id,
                                "routes",
                                format!("was by {}, is by {}", words(was), words(is)),
                            )]),
                    );
                }
            }
            _ => {}
        }
    }
}

fn neighbours(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    for (id, _, watch) in facts.watched().filter(|(_, _, watch)| !watch.past().failed.is_empty()) {
        for (ip, interface, sure) in &watch.past().failed {
            if !sure && !facts.watches.assumes("NEIGHBOUR_FAILED", &format!("{id}/{interface} {ip}")) {
                continue;
            }
            let Some(other) = facts.state.lan_owner(*ip, id) else { continue };
            let (name, peer) = (facts.name(id), facts.name(other));
            let finding = Finding::new("NEIGHBOUR_FAILED", format!("{id}/{interface} {ip}"))
                .say(format!("{peer} does not answer {name} at {ip} on their LAN any more, though both report."))
                .because("they are on different switches or VLANs now, a filter was set up, or the wireless network keeps its clients apart")
                .next(format!("on {name}: arping -I {interface} {ip}; compare the VLANs of the two"))
                .proof([facts.proof(id, format!("neighbours[{ip}%{interface}]"), format!("{name}: {ip} failed to answer; it answered before"))])
                .of([id, other])
                .under(watch.links.keys().map(|nic| format!("{id}/{nic}")))
                .every(watch.interval_s);
            found.push(finding);
        }
    }
}
