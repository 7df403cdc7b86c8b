//! Peers and their handshakes: one-sided peers, stale keys, silence and haste (rules D1, D2, D19, D20, D24).

use super::allowed_ips::has_twin;
use super::facts::{Facts, Side};
use super::watch::CHURN;
use super::{Finding, Rule};
use crate::topology::{EdgeState, Relation};

pub(super) const RULES: &[Rule] =
    &[one_sided, orphan_key, handshake_no_data, handshake_churn, interface_down, recent_changes];

/// How long a change is shown (ms).
pub(super) const RECENT: i64 = 10 * 60_000;
fn one_sided(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    for tunnel in facts.tunnels().filter(|tunnel| tunnel.edge.shape.state == EdgeState::OneSided) {
        let [Some(a), Some(b)] = tunnel.ends else { continue };
        let (has, lacks) = if a.half.is_some() { (a, b) } else { (b, a) };
        // One that has the key of before is told by it: PEER_ORPHAN_KEY.
        if has_old_key(facts, &lacks, &has) {
            continue;
        }
        let (name, other) = (facts.name(has.id), facts.name(lacks.id));
        let Some(key) = has.key() else { continue };
        let allowed = has.nic.map(|nic| {
            let hosts =
                nic.addresses().iter().map(|address| proto::ids::Cidr::host(address.address()).to_string());
            hosts.collect::<Vec<_>>().join(",")
        });
        let allowed = allowed.filter(|list| !list.is_empty()).unwrap_or_else(|| "ADDRESS/32".to_owned());
        let finding = Finding::new("PEER_ONE_SIDED", &tunnel.edge.shape.id)
            .say(format!("{name} has {other} as a WireGuard peer, but {other} does not have {name}."))
            .because(format!(
                "the peer was removed on {other}, never added there, or {name}'s key was changed without telling {other}"
            ))
            .next(format!(
                "on {other}: wg set {} peer {key} allowed-ips {allowed} (or remove the peer on {name})",
                lacks.interface
            ))
            .proof([has.proof(facts, Some(&lacks)), lacks.proof(facts, Some(&has))])
            .of(tunnel.agents())
            .under(tunnel.stands_on())
            .every(facts.interval(&tunnel.agents()));
        found.push(finding);
    }
}

/// Whether a device has a peer with a key that another had before.
fn has_old_key(facts: &Facts<'_>, holder: &Side<'_>, owner: &Side<'_>) -> bool {
    if facts.watches.old_keys.is_empty() {
        return false;
    }
    let mut found = false;
    facts.state.each_peer(holder.id, |interface, key, _| {
        let old = facts.watches.old_keys.get(&key).filter(|_| interface == holder.interface);
        found |= old.is_some_and(|(id, interface, _)| *id == owner.id && interface == owner.interface);
    });
    found
}

fn orphan_key(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    for tunnel in facts.tunnels().filter(|tunnel| tunnel.edge.shape.relation == Relation::External) {
        let Some(a) = tunnel.ends[0].filter(|side| side.host.fresh) else { continue };
        let Some(half) = a.half else { continue };
        let Some((owner, interface, _)) = facts.watches.old_keys.get(&half.shape.peer) else { continue };
        if facts.dark.contains(owner) {
            continue;
        }
        let watch = facts.watches.get(*owner).and_then(|watch| watch.devices.get(interface.as_str()));
        let Some(new) = watch.and_then(|device| device.key) else { continue };
        if new == half.shape.peer {
            continue;
        }
        let (name, other) = (facts.name(a.id), facts.name(*owner));
        let mut already = false;
        facts.state.each_peer(a.id, |interface, key, _| already |= interface == a.interface && key == new);
        let allowed: Vec<String> = half.shape.allowed_ips.iter().map(ToString::to_string).collect();
        let step = if already {
            format!("on {name}: wg set {} peer {} remove", a.interface, half.shape.peer)
        } else {
            let allowed = if allowed.is_empty() { "ADDRESS/32".to_owned() } else { allowed.join(",") };
            let endpoint =
                half.shape.endpoint.as_deref().map(|at| format!(" endpoint {at}")).unwrap_or_default();
            format!(
                "on {name}: wg set {i} peer {} remove; wg set {i} peer {new} allowed-ips {allowed}{endpoint}",
                half.shape.peer,
                i = a.interface
            )
        };
        let finding = Finding::new("PEER_ORPHAN_KEY", &tunnel.edge.shape.id)
            .say(format!(
                "{name} still has the old key of {other} as a peer; {other}'s {interface} has a new key."
            ))
            .because(format!("the key was changed on {other} and not on {name}"))
            .next(step)
            .proof([
                a.proof(facts, None),
                facts.proof(
                    *owner,
                    format!("wireguard[{interface}].public_key"),
                    format!("{other}'s {interface} now has the key {new}"),
                ),
            ])
            .of([a.id, *owner])
            .every(facts.interval(&[a.id, *owner]));
        found.push(finding);
    }
}

/// Whether one of the two keys is on several devices: packets go to whichever spoke last, and that has
/// an alarm of its own.
pub(super) fn is_shared(facts: &Facts<'_>, ends: [&Side<'_>; 2]) -> bool {
    ends.iter().filter_map(|side| side.key()).any(|key| has_twin(facts, key))
}

fn handshake_no_data(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    for (tunnel, [a, b]) in facts.confirmed() {
        // After a start of the manager, one that was told before goes on until data flows again.
        let told = facts.watches.assumes("HANDSHAKE_NO_DATA", &tunnel.edge.shape.id);
        let quiet =
            |side: &Side<'_>| side.peer.is_some_and(|peer| peer.fell_quiet() || told && peer.busy == 0);
        if tunnel.edge.shape.state != EdgeState::Up || !quiet(&a) || !quiet(&b) {
            continue;
        }
        let (name, other) = (facts.name(a.id), facts.name(b.id));
        let finding = Finding::new("HANDSHAKE_NO_DATA", &tunnel.edge.shape.id)
            .say(format!("The tunnel between {name} and {other} carries no data any more, though its handshakes succeed."))
            .because("what used it stopped, or its packets are routed elsewhere or dropped before the tunnel")
            .next(format!("on {name}: ping {other}'s tunnel address, and ip route get to it"))
            .proof([a.proof(facts, Some(&b)), b.proof(facts, Some(&a))])
            .of(tunnel.agents())
            .every(facts.interval(&tunnel.agents()));
        found.push(finding);
    }
}

fn handshake_churn(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    for (tunnel, [a, b]) in facts.confirmed() {
        let churns = |side: &Side<'_>| {
            side.peer.is_some_and(|peer| peer.churn >= CHURN)
                && side.host.watch.is_some_and(|watch| watch.interval_s <= 60)
        };
        if !churns(&a) && !churns(&b) {
            continue;
        }
        let (name, other) = (facts.name(a.id), facts.name(b.id));
        let finding = Finding::new("HANDSHAKE_CHURN", &tunnel.edge.shape.id)
            .say(format!("The tunnel between {name} and {other} makes a new handshake with every report, far more often than every 120 s."))
            .because("two devices use the same key and take the tunnel from each other, or one end is set up anew again and again")
            .next(format!("on {name} and {other}: journalctl | grep -i wg; look for scripts that run wg set or restart the interface"))
            .proof([a.proof(facts, Some(&b)), b.proof(facts, Some(&a))])
            .of(tunnel.agents())
            .every(facts.interval(&tunnel.agents()));
        found.push(finding);
    }
}

fn interface_down(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    for (id, host, watch) in facts.watched() {
        let nics = host.view.nics().into_iter();
        for nic in nics.filter(|nic| !nic.is_up() && nic.is_wireguard()).map(|nic| nic.name()) {
            let peers = watch.devices.get(nic).map_or(0, |device| device.peers.len());
            if peers == 0 {
                continue;
            }
            let name = facts.name(id);
            let finding = Finding::new("WG_IFACE_DOWN", format!("{id}/{nic}"))
                .say(format!("{name}'s WireGuard interface {nic} is down."))
                .because("it was set down, or its start failed half-way")
                .next(format!("on {name}: ip link set {nic} up (or wg-quick up {nic})"))
                .proof([facts.proof(
                    id,
                    format!("interfaces[{nic}]"),
                    format!("{name}'s {nic} is down and has {peers} peers"),
                )])
                .of([id])
                .every(watch.interval_s);
            found.push(finding);
        }
    }
}

fn recent_changes(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    for (id, _, watch) in facts.watched() {
        let name = facts.name(id);
        for (interface, device) in watch.devices.iter() {
            let subject = format!("{id}/{interface}");
            if let (Some((at, before)), Some(key)) = (device.key_changed(), device.key)
                && facts.now - at <= RECENT
            {
                let finding = Finding::new("KEY_CHANGED", &subject)
                    .say(format!("{name}'s {interface} has a new WireGuard key."))
                    .because("the key was rotated, or the interface was set up anew")
                    .next("if nobody rotated it, find out who has access to the host; otherwise give the new key to its peers")
                    .proof([facts.proof(id, format!("wireguard[{interface}].public_key"), format!("was {before}, is {key}"))])
                    .of([id])
                    .every(watch.interval_s);
                found.push(finding);
            }
            if let Some((at, before)) = device.port_changed()
                && facts.now - at <= RECENT
            {
                let port = device.port;
                let finding = Finding::new("LISTEN_PORT_CHANGED", &subject)
                    .say(format!("{name}'s {interface} listens on port {port} now, no longer on {before}."))
                    .because("no port is set, so that each start chooses another, or the setting was changed")
                    .next(format!("set ListenPort on {name}, or the endpoint port {port} on those who have {name} as a peer"))
                    .proof([facts.proof(id, format!("wireguard[{interface}].listen_port"), format!("was {before}, is {port}"))])
                    .of([id])
                    .every(watch.interval_s);
                found.push(finding);
            }
        }
    }
}
