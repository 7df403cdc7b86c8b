//! Two of what should be one: keys, addresses, ids, names (rules D12, D13).

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use proto::ids::AgentId;

use super::facts::Facts;
use super::{Finding, Proof, Rule, Severity};

pub(super) const RULES: &[Rule] = &[private_key, tunnel_ip, agent_id, hostname, mac, ip_conflict];

fn private_key(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    for (key, owners) in facts.owners.iter().filter(|(_, owners)| owners.len() > 1) {
        let mut ids: Vec<AgentId> = owners.iter().map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids.dedup();
        let places: Vec<String> =
            owners.iter().map(|(id, nic)| format!("{}'s {}", facts.name(*id), nic.name)).collect();
        let mut finding = Finding::new("DUP_PRIVATE_KEY", format!("key {key}"))
            .because("a host was cloned, or its configuration copied, key and all")
            .next(format!("on one of them: wg genkey > NEW; wg set {} private-key NEW; give the new public key to its peers", owners[0].1.name))
            .proof(owners.iter().map(|(id, nic)| {
                facts.proof(*id, format!("wireguard[{}].public_key", nic.name), format!("{}'s {} has the key {key}", facts.name(*id), nic.name))
            }))
            .of(ids.iter().copied())
            .every(facts.interval(&ids));
        finding = if ids.len() > 1 {
            finding.say(format!(
                "{} use the same WireGuard private key: packets go to whichever spoke last.",
                places.join(" and ")
            ))
        } else {
            finding.severity = Severity::Info;
            finding.say(format!("{} use the same WireGuard private key, on one host.", places.join(" and ")))
        };
        found.push(finding);
    }
}

fn tunnel_ip(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    for (ip, owners) in facts.tunnel_addresses.iter().filter(|(_, owners)| owners.len() > 1) {
        if ip.is_loopback() || matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local()) {
            continue;
        }
        let ids: Vec<AgentId> = owners.iter().map(|(id, _)| *id).collect();
        // The same private address in two meshes is no conflict: they must have a peer in common.
        let shared = ids.iter().enumerate().find_map(|(n, a)| {
            let later = ids[n + 1..].iter().filter(|b| *b != a);
            later.copied().find(|b| are_joined(facts, *a, *b)).map(|b| (*a, b))
        });
        let Some((a, b)) = shared else { continue };
        // One key on two hosts explains it.
        let key = |id: AgentId| {
            owners
                .iter()
                .find(|(owner, _)| *owner == id)
                .and_then(|(_, nic)| nic.wireguard.as_ref()?.public_key)
        };
        if key(a).is_some() && key(a) == key(b) {
            continue;
        }
        let (name, other) = (facts.name(a), facts.name(b));
        let finding = Finding::new("DUP_TUNNEL_IP", format!("address {ip}"))
            .say(format!("{name} and {other} both have the tunnel address {ip}: each gets a part of the other's packets."))
            .because("the address was given out twice")
            .next(format!("give {other} another tunnel address, and its peers the new AllowedIPs"))
            .proof(owners.iter().map(|(id, nic)| facts.proof(*id, format!("interfaces[{}].addresses", nic.name), format!("{}'s {} has {ip}", facts.name(*id), nic.name))))
            .of([a, b])
            .every(facts.interval(&ids));
        found.push(finding);
    }
}

/// Whether two hosts have a tunnel to each other or to the same key.
fn are_joined(facts: &Facts<'_>, a: AgentId, b: AgentId) -> bool {
    let keys = |id: AgentId| {
        let devices = facts
            .hosts
            .get(&id)
            .and_then(|host| host.watch)
            .into_iter()
            .flat_map(|watch| watch.devices.values());
        devices.flat_map(|device| device.peers.keys().chain(&device.key)).copied().collect::<Vec<_>>()
    };
    let theirs = keys(b);
    keys(a).iter().any(|key| theirs.contains(key))
}

fn agent_id(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    if facts.manager.refused.get("duplicate_id").is_none_or(|count| *count == 0) {
        return;
    }
    let Some((from, agent)) = facts.manager.refused_from.get("duplicate_id") else { return };
    let subject = agent.map_or_else(|| "manager".to_owned(), |agent| agent.to_string());
    let name = agent.map_or_else(|| "an agent".to_owned(), |agent| facts.name(agent));
    let finding = Finding::new("DUP_AGENT_ID", subject)
        .say(format!("A second host, at {from}, reports under the agent id of {name}."))
        .because("a disk image or container was copied with its agent_id.txt")
        .next(format!("on the host at {from}: remove agent_id.txt in STATE_DIR and restart the agent"))
        .proof([Proof {
            agent: None,
            observed_at: None,
            field: "refused.duplicate_id".into(),
            text: format!("messages from {from} were refused with duplicate_id within ten minutes"),
        }])
        .proof(agent.map(|agent| {
            facts.proof(
                agent,
                "hostname",
                format!("the agent {agent} is the host {name}, which goes on to report"),
            )
        }))
        .of(agent.iter().copied());
    found.push(finding);
}

fn hostname(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    let mut names: BTreeMap<&str, Vec<AgentId>> = BTreeMap::new();
    for (id, host) in facts.hosts.iter().filter(|(_, host)| host.fresh) {
        names.entry(&host.node.shape.name).or_default().push(*id);
    }
    for (name, ids) in names.into_iter().filter(|(name, ids)| ids.len() > 1 && *name != "localhost") {
        let finding = Finding::new("DUP_HOSTNAME", format!("name {name}"))
            .say(format!("{} hosts are named {name}.", ids.len()))
            .because("they were made of one image, or named alike by accident")
            .next("hostnamectl set-hostname NEW on one of them")
            .proof(ids.iter().map(|id| facts.proof(*id, "hostname", format!("agent {id} is named {name}"))))
            .of(ids.iter().copied())
            .every(facts.interval(&ids));
        found.push(finding);
    }
}

/// Addresses that several network cards may have: those of routers that stand in for each other
/// (VRRP, CARP, HSRP), and those that docker gives out.
pub(super) fn is_shared(mac: &str) -> bool {
    ["00:00:5e:00:01", "00:00:5e:00:02", "00:00:0c:07:ac", "00:00:0c:9f:f", "02:42:", "00:00:00:00:00:00"]
        .iter()
        .any(|start| mac.starts_with(start))
}

fn mac(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    let mut owners: HashMap<&str, Vec<(AgentId, &str)>> = HashMap::new();
    for (id, _, watch) in facts.watched() {
        for (name, link) in watch.links.iter().filter(|(_, link)| link.is_enabled) {
            if let Some(mac) = link.mac.as_deref().filter(|mac| !is_shared(mac)) {
                let entry = owners.entry(mac).or_default();
                // A card and its VLAN or bridge share one address.
                if entry.iter().all(|(other, _)| *other != id) {
                    entry.push((id, name));
                }
            }
        }
    }
    for (mac, owners) in owners.into_iter().filter(|(_, owners)| owners.len() > 1) {
        let ids: Vec<AgentId> = owners.iter().map(|(id, _)| *id).collect();
        let places: Vec<String> =
            owners.iter().map(|(id, nic)| format!("{}'s {nic}", facts.name(*id))).collect();
        let finding = Finding::new("DUP_MAC", format!("mac {mac}"))
            .say(format!("{} have the same hardware address {mac}.", places.join(" and ")))
            .because("virtual machines were cloned, or the address was set by hand on both")
            .next(
                "give one of the virtual machines a new hardware address; on one LAN they cut each other off",
            )
            .proof(owners.iter().map(|(id, nic)| {
                facts.proof(
                    *id,
                    format!("interfaces[{nic}].mac"),
                    format!("{}'s {nic} has {mac}", facts.name(*id)),
                )
            }))
            .of(ids.iter().copied())
            .every(facts.interval(&ids));
        found.push(finding);
    }
}

/// Who sees an address, at which network card, over which interface.
type View<'a> = (AgentId, &'a str, &'a str);

fn ip_conflict(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    // By LAN, which is known by its gateway's address; one that several LANs have names none.
    let mut seen: BTreeMap<(&str, IpAddr), Vec<View<'_>>> = BTreeMap::new();
    for (id, _, watch) in facts.watched() {
        let Some(way) = &watch.way_out else { continue };
        let Some(lan) = way.mac.as_deref().filter(|mac| !is_shared(mac)) else { continue };
        for (ip, mac, interface) in
            watch.neighbours.iter().filter(|known| known.2 == way.interface && !is_shared(&known.1))
        {
            seen.entry((lan, *ip)).or_default().push((id, mac, interface));
        }
    }
    for ((_, ip), views) in seen {
        let Some((b, ..)) = views.iter().find(|view| view.1 != views[0].1) else { continue };
        let a = views[0].0;
        let name = facts.name(a);
        let finding = Finding::new("IP_CONFLICT", format!("address {ip} on the LAN of {name}"))
            .say(format!("Two network cards on one LAN answer for {ip}."))
            .because("the address was given out twice, by hand and by DHCP for instance; or somebody answers in another's name")
            .next(format!("on {name}: arping -I {} {ip} shows both; find the two cards and give one another address", views[0].2))
            .proof(views.iter().map(|(id, mac, interface)| facts.proof(*id, format!("neighbours[{ip}%{interface}]"), format!("{} sees {ip} at {mac}", facts.name(*id)))))
            .of([a, *b])
            .every(facts.interval(&[a, *b]));
        found.push(finding);
    }
}
