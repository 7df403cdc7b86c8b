//! Two of what should be one: keys, addresses, ids, names (rules D12, D13).

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use proto::ids::{AgentId, PublicKey};

use super::facts::Facts;
use super::{Finding, Proof, Rule, Severity};
use crate::topology::{FoldMap, Place};

pub(super) const RULES: &[Rule] = &[private_key, tunnel_ip, agent_id, hostname, mac];
/// Those that look at what each host sees on its LAN.
pub(super) const LANS: &[Rule] = &[ip_conflict];

/// Of more hosts than this only so many are named.
const MANY: usize = 10;

fn private_key(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    for (key, owners) in facts.state.shared_keys() {
        let mut ids: Vec<AgentId> = owners.iter().map(|place| place.agent).collect();
        ids.dedup();
        let places: Vec<String> = owners
            .iter()
            .take(MANY)
            .map(|place| format!("{}'s {}", facts.name(place.agent), place.interface))
            .collect();
        let mut finding = Finding::new("DUP_PRIVATE_KEY", format!("key {key}"))
            .because("a host was cloned, or its configuration copied, key and all")
            .next(format!("on one of them: wg genkey > NEW; wg set {} private-key NEW; give the new public key to its peers", owners[0].interface))
            .proof(owners.iter().take(MANY).map(|Place { agent, interface, .. }| {
                facts.proof(*agent, format!("wireguard[{interface}].public_key"), format!("{}'s {interface} has the key {key}", facts.name(*agent)))
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
    for (ip, owners) in facts.state.shared_tunnel_addresses() {
        let mut ids: Vec<AgentId> = owners.iter().map(|place| place.agent).collect();
        ids.dedup();
        // The same private address in two meshes is no conflict: they must have a peer in common.
        let Some((a, b)) = joined(facts, &ids) else { continue };
        // One key on two hosts explains it.
        let key = |id: AgentId| owners.iter().find(|place| place.agent == id).and_then(|place| place.key);
        if key(a).is_some() && key(a) == key(b) {
            continue;
        }
        let (name, other) = (facts.name(a), facts.name(b));
        let finding = Finding::new("DUP_TUNNEL_IP", format!("address {ip}"))
            .say(format!("{name} and {other} both have the tunnel address {ip}: each gets a part of the other's packets."))
            .because("the address was given out twice")
            .next(format!("give {other} another tunnel address, and its peers the new AllowedIPs"))
            .proof(owners.iter().take(MANY).map(|Place { agent, interface, .. }| facts.proof(*agent, format!("interfaces[{interface}].addresses"), format!("{}'s {interface} has {ip}", facts.name(*agent)))))
            .of([a, b])
            .every(facts.interval(&ids));
        found.push(finding);
    }
}

/// Two of these hosts that have a tunnel to each other or to the same key.
fn joined(facts: &Facts<'_>, ids: &[AgentId]) -> Option<(AgentId, AgentId)> {
    let mut first: HashMap<PublicKey, AgentId> = HashMap::new();
    for id in ids {
        let own = facts.watches.get(*id).into_iter().flat_map(|watch| watch.devices.values());
        let mut keys: Vec<PublicKey> = own.filter_map(|device| device.key).collect();
        facts.state.each_peer(*id, |_, key, _| keys.push(key));
        for key in keys {
            match first.entry(key) {
                Entry::Occupied(other) if other.get() != id => return Some((*other.get(), *id)),
                Entry::Occupied(_) => {}
                Entry::Vacant(place) => drop(place.insert(*id)),
            }
        }
    }
    None
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
    for (name, ids) in facts.namesakes.iter().filter(|(name, ids)| ids.len() > 1 && **name != "localhost") {
        let finding = Finding::new("DUP_HOSTNAME", format!("name {name}"))
            .say(format!("{} hosts are named {name}.", ids.len()))
            .because("they were made of one image, or named alike by accident")
            .next("hostnamectl set-hostname NEW on one of them")
            .proof(
                ids.iter()
                    .take(MANY)
                    .map(|id| facts.proof(*id, "hostname", format!("agent {id} is named {name}"))),
            )
            .of(ids.iter().copied())
            .every(facts.interval(ids));
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
    for (mac, agents) in facts.state.shared_macs().into_iter().filter(|(mac, _)| !is_shared(mac)) {
        // A card and its VLAN or bridge share one address: only cards count, and those that are on.
        let card = |id: &AgentId| {
            let links = facts.watches.get(*id)?.links.iter();
            let mut named = links.filter(|(_, link)| link.is_enabled && link.mac.as_deref() == Some(&mac));
            Some((*id, named.next()?.0.as_ref()))
        };
        let owners: Vec<(AgentId, &str)> = agents.iter().filter_map(card).collect();
        if owners.len() < 2 {
            continue;
        }
        let ids: Vec<AgentId> = owners.iter().map(|(id, _)| *id).collect();
        let places: Vec<String> =
            owners.iter().take(MANY).map(|(id, nic)| format!("{}'s {nic}", facts.name(*id))).collect();
        let finding = Finding::new("DUP_MAC", format!("mac {mac}"))
            .say(format!("{} have the same hardware address {mac}.", places.join(" and ")))
            .because("virtual machines were cloned, or the address was set by hand on both")
            .next(
                "give one of the virtual machines a new hardware address; on one LAN they cut each other off",
            )
            .proof(owners.iter().take(MANY).map(|(id, nic)| {
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

/// What each agent that reports sees on its LAN, which is known by its gateway's address.
fn sights<'f>(facts: &'f Facts<'_>) -> impl Iterator<Item = ((&'f str, IpAddr), View<'f>)> {
    let fresh = facts.watches.iter().filter(|(id, _)| !facts.dark.contains(id));
    fresh
        .filter_map(|(id, watch)| {
            let way = watch.way_out.as_ref()?;
            let lan = way.mac.as_deref().filter(|mac| !is_shared(mac))?;
            let known = watch.neighbours.iter();
            let known = known.filter(|known| known.2 == way.interface && !is_shared(&known.1));
            Some(known.map(move |(ip, mac, nic)| ((lan, *ip), (id, mac.as_str(), nic.as_str()))))
        })
        .flatten()
}

fn ip_conflict(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    // By LAN, which is known by its gateway's address; one that several LANs have names none.
    let mut first: FoldMap<(&str, IpAddr), &str> = FoldMap::default();
    let mut disputed: BTreeSet<(&str, IpAddr)> = BTreeSet::new();
    for (place, view) in sights(facts) {
        if *first.entry(place).or_insert(view.1) != view.1 {
            disputed.insert(place);
        }
    }
    if disputed.is_empty() {
        return;
    }
    let mut seen: BTreeMap<(&str, IpAddr), Vec<View<'_>>> = BTreeMap::new();
    for (place, view) in sights(facts).filter(|(place, _)| disputed.contains(place)) {
        seen.entry(place).or_default().push(view);
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
