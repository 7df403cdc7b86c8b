//! What says so: which report of which agent, where in it, and in words with the figures.

use std::fmt;

use proto::ids::AgentId;
use serde::Serialize;

use super::State;
use super::edge::{EdgeKey, Far, Near};
use super::record::{Agent, Device, Half, NEVER, NO_SLOT, Seen, endpoint_text, mac_text};
use super::shape::Layer;
use super::stacking::foreign_vpn;
use super::traffic::Traffic;
use super::{overlay, physical, relay, render};

/// One piece of evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// The agent whose report it is.
    pub agent: AgentId,
    /// When that report was observed: milliseconds since the Unix epoch.
    pub observed_at: i64,
    /// Where in the report: `wireguard[wg0].peers[KEY]`, `neighbours[192.0.2.1%eth0]`.
    pub field: String,
    /// In words, with the figures.
    pub text: String,
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (agent {}, report of {}, {})", self.text, self.agent, self.observed_at, self.field)
    }
}

pub(super) fn from(agent: &Agent, field: String, text: String) -> Evidence {
    Evidence { agent: agent.id, observed_at: agent.observed_at(), field, text }
}

/// Everything that says that an edge is there, and in its state.
pub(super) fn of(state: &State, key: EdgeKey) -> Vec<Evidence> {
    match (key.layer, key.far) {
        (Layer::WireGuard, _) => of_wireguard(state, key),
        (Layer::Physical, Far::Agent(far)) => [(key.near, far), (far, key.near)]
            .iter()
            .filter_map(|(a, b)| of_neighbour(state, *a, *b))
            .collect(),
        (Layer::Physical, _) => of_lan(state, key),
        (Layer::Overlay, Far::Agent(far)) => {
            let mut found = of_overlay(state, key.near, far);
            found.extend(of_overlay(state, far, key.near));
            found
        }
        (Layer::Overlay, _) => of_behind(state, key.near),
        (Layer::Relay, _) => of_delivery(state, key),
    }
}

fn of_wireguard(state: &State, key: EdgeKey) -> Vec<Evidence> {
    let halves = render::halves(state, key).map(|half| half.map(|(_, half)| half));
    let far = if let Far::Agent(far) = key.far { Some(far) } else { None };
    let mut found = Vec::new();
    half_words(state, [Some(key.near), far], halves, &mut found);
    half_words(state, [far, Some(key.near)], [halves[1], halves[0]], &mut found);
    found
}

/// What one end of a WireGuard edge says; its end and half come first.
fn half_words(state: &State, ends: [Option<Near>; 2], halves: [Option<&Half>; 2], found: &mut Vec<Evidence>) {
    let Some((agent, here)) = ends[0].and_then(|near| device(state, near)) else { return };
    let (label, name) = (agent.label(), agent.name(here.slot));
    let whose = match ends[1].and_then(|other| device(state, other)) {
        Some((other, there)) => format!("{}'s {}", other.label(), other.name(there.slot)),
        None => "a key that no agent owns".to_owned(),
    };
    let Some(half) = halves[0] else {
        let text = format!("{label}'s {name} has no peer with the key of {whose}");
        return found.push(from(agent, format!("wireguard[{name}].peers"), text));
    };
    let peer = state.index.keys.key(half.key);
    let text = format!("{label}'s {name} has the peer {peer}, {whose}: {}", figures(agent, half, halves[1]));
    found.push(from(agent, format!("wireguard[{name}].peers[{peer}]"), text));
    let twins = state.index.keys.owners(half.key).iter().map(|&(agent, slot)| Near::new(agent, slot));
    let twins = twins.filter(|twin| !ends.contains(&Some(*twin))).filter_map(|twin| device(state, twin));
    let mut twins: Vec<(AgentId, &str, String)> =
        twins.map(|(twin, there)| (twin.id, twin.name(there.slot), twin.label())).collect();
    twins.sort_unstable();
    for (id, slot, twin) in twins {
        let text = format!("{twin}'s {slot} has the same key {peer}");
        let twin = state.find(id).and_then(|ix| state.agent(ix));
        found.extend(twin.map(|twin| from(twin, format!("wireguard[{slot}].public_key"), text)));
    }
    if !agent.is_up(here.slot) {
        found.push(from(agent, format!("interfaces[{name}]"), format!("{label}'s {name} is down")));
    }
}

fn device(state: &State, near: Near) -> Option<(&Agent, &Device)> {
    let agent = state.agent(near.agent())?;
    Some((agent, agent.device(near.slot)?))
}

fn figures(agent: &Agent, half: &Half, other: Option<&Half>) -> String {
    let handshake = match half.age_s {
        NEVER => "no handshake".to_owned(),
        age => format!("last handshake {age} s ago"),
    };
    let endpoint = half
        .reach
        .endpoint()
        .map_or_else(|| "no endpoint".to_owned(), |e| format!("at {}", endpoint_text(&agent.names, e)));
    let flow = match (
        half.samples.class(&agent.times, half.keepalive_s, other.map(|other| other.keepalive_s)),
        half.samples.last(),
    ) {
        (Traffic::Unanswered, Some((_, tx))) => {
            format!("; {} initiations unanswered since the last report", tx / 148)
        }
        (_, Some((rx, tx))) => format!("; {rx} B received and {tx} B sent since the last report"),
        (_, None) if half.samples.was_reset() => "; counters were reset".to_owned(),
        (_, None) => String::new(),
    };
    let (rx, tx) = (half.samples.rx(), half.samples.tx());
    format!("{handshake}, {endpoint}, {rx} B received, {tx} B sent{flow}")
}

fn of_neighbour(state: &State, near: Near, far: Near) -> Option<Evidence> {
    let seen = physical::sees(state, near, far)?;
    neighbour_words(state, near, far, seen.ip, &mac_text(seen.mac))
}

fn neighbour_words(
    state: &State,
    near: Near,
    far: Near,
    ip: std::net::IpAddr,
    mac: &str,
) -> Option<Evidence> {
    let (agent, other) = (state.agent(near.agent())?, state.agent(far.agent())?);
    let (slot, there) = (agent.name(near.slot), other.name(far.slot));
    let text = format!("{}'s {slot} sees {ip} at {mac}, which is {}'s {there}", agent.label(), other.label());
    Some(from(agent, format!("neighbours[{ip}%{slot}]"), text))
}

fn of_lan(state: &State, key: EdgeKey) -> Vec<Evidence> {
    let Some(agent) = state.agent(key.near.agent()) else { return Vec::new() };
    let (Far::Lan(gateway) | Far::OwnLan(gateway)) = key.far else { return Vec::new() };
    let mac = mac_text(gateway);
    let slot = agent.name(key.near.slot);
    let label = agent.label();
    let member = |agent: &Agent, slot: &str, ip: std::net::IpAddr| {
        let text =
            format!("{}'s default route over {slot} goes to {ip}, which it resolves to {mac}", agent.label());
        from(agent, format!("neighbours[{ip}%{slot}]"), text)
    };
    if let Some(Seen { ip, .. }) =
        agent.lans.iter().find(|lan| (lan.slot, lan.mac) == (key.near.slot, gateway))
    {
        let mut found = vec![member(agent, slot, *ip)];
        if matches!(key.far, Far::OwnLan(_)) {
            let text =
                format!("{mac} is an address that many LANs have, so it joins {label} to no other agent");
            found.push(from(agent, format!("neighbours[{ip}%{slot}]"), text));
        }
        return found;
    }
    let own = format!("{label}'s {slot} has the address {mac}");
    let mut found = vec![from(agent, format!("interfaces[{slot}].mac"), own)];
    // One member's word is enough; the others' are at their own edges.
    let members = state.index.mac_seekers(gateway).iter().filter_map(|ix| state.agent(*ix));
    let words = members.filter_map(|other| {
        let lans = other.lans.iter().filter(|lan| lan.mac == gateway);
        let lan = lans.min_by_key(|lan| other.name(lan.slot))?;
        Some((other, lan))
    });
    let first = words.min_by_key(|(other, _)| (other.silent, other.id));
    found.extend(first.map(|(other, lan)| member(other, other.name(lan.slot), lan.ip)));
    found
}

fn of_overlay(state: &State, near: Near, far: Near) -> Vec<Evidence> {
    let (Some(agent), Some(other)) = (state.agent(near.agent()), state.agent(far.agent())) else {
        return Vec::new();
    };
    let (label, there) = (agent.label(), other.label());
    if near.slot == NO_SLOT {
        let text =
            format!("{label} has no tunnel whose outer addresses are those of {there}'s the other way round");
        return vec![from(agent, "interfaces".to_owned(), text)];
    }
    let slot = agent.name(near.slot);
    let mut found = Vec::new();
    if let Some((local, remote)) = agent.interface(near.slot).and_then(overlay::addresses) {
        let mirrored = if far.slot == NO_SLOT {
            format!("{remote} is {there}'s")
        } else {
            format!("{there}'s {} is the other way round", other.name(far.slot))
        };
        let text = format!("{label}'s {slot} goes from {local} to {remote}; {mirrored}");
        found.push(from(agent, format!("interfaces[{slot}].tunnel"), text));
        if let Some((what, here, far_number)) = overlay::mismatch(state, near, far) {
            let text = format!(
                "{label}'s {slot} has the {what} {here}, {there}'s {}: they exclude each other",
                far_number
            );
            found.push(from(agent, format!("interfaces[{slot}].tunnel"), text));
        }
    }
    if let Some(seen) = overlay::sees(state, near, far) {
        found.extend(neighbour_words(state, near, far, seen.ip, &mac_text(seen.mac)));
    }
    found
}

fn of_behind(state: &State, near: Near) -> Vec<Evidence> {
    let Some(agent) = state.agent(near.agent()) else { return Vec::new() };
    let Some(interface) = agent.interface(near.slot) else { return Vec::new() };
    let (label, slot) = (agent.label(), agent.name(near.slot));
    let updown = if interface.up { "up" } else { "down" };
    let (field, text) = match (overlay::addresses(interface), foreign_vpn(agent, interface)) {
        (Some((local, remote)), _) => (
            format!("interfaces[{slot}].tunnel"),
            format!(
                "{label}'s {slot} goes from {local} to {remote}, where no agent is known to be; it is {updown}"
            ),
        ),
        (None, vpn) => {
            let vpn = vpn.unwrap_or("another VPN");
            (
                format!("interfaces[{slot}]"),
                format!("{label}'s {slot} is of {vpn} by its name and kind; it is {updown}"),
            )
        }
    };
    vec![from(agent, field, text)]
}

fn of_delivery(state: &State, key: EdgeKey) -> Vec<Evidence> {
    let users = relay::users(state, key);
    // Of many who use a hop, the sender's own report says it best; the count says the rest.
    let Some(agent) = users.first().and_then(|ix| state.agent(*ix)) else { return Vec::new() };
    let label = agent.label();
    let relays: Vec<String> = agent
        .relay
        .iter()
        .map(|id| state.find(*id).and_then(|ix| state.agent(ix)).map_or_else(|| id.to_string(), Agent::label))
        .collect();
    let way =
        if relays.is_empty() { "directly".to_owned() } else { format!("by way of {}", relays.join(", ")) };
    let more = if users.len() > 1 {
        format!("; {} agents' reports take this hop", users.len())
    } else {
        String::new()
    };
    let text = format!("report {} of {label} came {way}{more}", agent.tick);
    vec![from(agent, "relay".to_owned(), text)]
}
