//! Tunnels other than WireGuard (rules Y1 and Y2).

use proto::ids::AgentId;

use super::facts::Facts;
use super::{Finding, Proof, Rule};
use crate::topology::{Edge, EdgeState, Layer, Nic, Relation};

pub(super) const RULES: &[Rule] = &[overlays];

type End<'a> = (AgentId, Option<Nic<'a>>);

fn overlays(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    for edge in facts.excerpt.edges.iter().filter(|edge| edge.shape.layer == Layer::Overlay) {
        let end = |number: usize| -> Option<End<'_>> {
            let end = &edge.shape.ends[number];
            let id: AgentId = end.node.parse().ok()?;
            let host = facts.hosts.get(&id).filter(|host| host.fresh)?;
            Some((id, end.interface.as_ref().and_then(|name| host.view.nic(name))))
        };
        let (Some(a), Some(b)) = (end(0), end(1)) else { continue };
        found.extend(mismatch(facts, edge, a, b));
        found.extend(one_sided(facts, edge, a, b));
    }
}

fn proofs(facts: &Facts<'_>, ends: [End<'_>; 2]) -> Vec<Proof> {
    let all = ends.into_iter().filter_map(|(id, nic)| {
        let nic = nic?;
        let tunnel = nic.tunnel()?;
        let ip = |ip: Option<std::net::IpAddr>| ip.map_or_else(|| "anywhere".to_owned(), |ip| ip.to_string());
        let number = tunnel.id.map(|id| format!(", number {id}")).unwrap_or_default();
        let port = tunnel.port.map(|port| format!(", port {port}")).unwrap_or_default();
        let text = format!(
            "{}'s {} goes from {} to {}{number}{port}",
            facts.name(id),
            nic.name(),
            ip(tunnel.local),
            ip(tunnel.remote)
        );
        Some(facts.proof(id, format!("interfaces[{}].tunnel", nic.name()), text))
    });
    all.collect()
}

fn mismatch(facts: &Facts<'_>, edge: &Edge, a: End<'_>, b: End<'_>) -> Option<Finding> {
    let (x, y) = (a.1?, b.1?);
    let (here, there) = (x.tunnel()?, y.tunnel()?);
    let differ = |x: Option<u32>, y: Option<u32>| x.zip(y).filter(|(x, y)| x != y);
    let (what, one, two) =
        differ(here.id, there.id).map(|(x, y)| ("network number", x, y)).or_else(|| {
            differ(here.port.map(u32::from), there.port.map(u32::from)).map(|(x, y)| ("UDP port", x, y))
        })?;
    let (name, other) = (facts.name(a.0), facts.name(b.0));
    let setting = if what == "UDP port" { "dstport" } else { "id" };
    Some(
        Finding::new("VXLAN_PARAM_MISMATCH", &edge.shape.id)
            .say(format!("{name}'s {} and {other}'s {} have different {what}s ({one} and {two}): nothing passes between them.", x.name(), y.name()))
            .because(if setting == "dstport" { "the standard's port is 4789, Linux without dstport takes 8472".to_owned() } else { format!("the {what} was set at one end only") })
            .next(format!("make {} anew at one end with {setting} {one}: ip -d link show {} shows the present settings", y.name(), y.name()))
            .proof(proofs(facts, [a, b]))
            .of([a.0, b.0])
            .every(facts.interval(&[a.0, b.0])),
    )
}

fn one_sided(facts: &Facts<'_>, edge: &Edge, a: End<'_>, b: End<'_>) -> Option<Finding> {
    if edge.shape.relation != Relation::OneSided || edge.shape.state != EdgeState::OneSided {
        return None;
    }
    let (has, lacks) = if a.1.is_some() { (a, b) } else { (b, a) };
    let nic = has.1?;
    let tunnel = nic.tunnel()?;
    let (name, other) = (facts.name(has.0), facts.name(lacks.0));
    let (local, remote) = (tunnel.remote?, tunnel.local?);
    Some(
        Finding::new("TUNNEL_ONE_SIDED", &edge.shape.id)
            .say(format!("{name} has the tunnel {} to {other}, but {other} has none back.", nic.name()))
            .because(format!("it was removed on {other}, never made there, or has other addresses there"))
            .next(format!(
                "on {other}: ip -d link; make one with local {local} remote {remote}, or remove {} on {name}",
                nic.name()
            ))
            .proof(proofs(facts, [a, b]))
            .of([a.0, b.0])
            .every(facts.interval(&[a.0, b.0])),
    )
}
