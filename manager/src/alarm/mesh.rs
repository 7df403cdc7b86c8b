//! The mesh as a whole (rule D22).

use std::collections::BTreeMap;

use proto::ids::AgentId;

use super::facts::Facts;
use super::{Finding, Rule};
use crate::topology::Tally;

/// Those that rest on which hosts hang together.
pub(super) const PARTS: &[Rule] = &[partition, edge_count];
/// Those that ask what would hang together without a host.
pub(super) const CUTS: &[Rule] = &[articulation];

/// Fewer tunnels say nothing by half of them being down.
const LEAST_TUNNELS: usize = 4;
/// Agents that a host's failure must cut off before it is told.
const LEAST_HOSTS: usize = 4;

fn partition(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    let part_of = facts.parts();
    // By mesh, the parts that its hosts are in now; those alone have no part.
    let mut parts: BTreeMap<u32, BTreeMap<Option<usize>, Vec<AgentId>>> = BTreeMap::new();
    for glance in facts.state.glances().filter(|glance| glance.fresh) {
        let Some(mesh) = facts.watches.mesh_of.get(&glance.id) else { continue };
        parts.entry(*mesh).or_default().entry(part_of.get(&glance.id).copied()).or_default().push(glance.id);
    }
    let mut cut: Vec<AgentId> = Vec::new();
    for parts in parts.into_values() {
        let largest =
            parts.iter().max_by_key(|(part, hosts)| (part.is_some(), hosts.len(), std::cmp::Reverse(**part)));
        let Some(largest) = largest.map(|(part, _)| *part) else { continue };
        cut.extend(parts.into_iter().filter(|(part, _)| *part != largest).flat_map(|(_, hosts)| hosts));
    }
    cut.sort_unstable();
    if cut.len() < 2 {
        return; // one host alone is told by its own tunnels
    }
    let names: Vec<String> = cut.iter().take(5).map(|id| facts.name(*id)).collect();
    let more = if cut.len() > 5 { format!(" and {} others", cut.len() - 5) } else { String::new() };
    let finding = Finding::new("TOPOLOGY_PARTITION", "fleet")
        .say(format!(
            "The mesh is split: {}{more} report, but have no working tunnel or LAN to the rest.",
            names.join(", ")
        ))
        .because("a link or a hub between the two parts failed")
        .next(format!("GET /status/path?from={}&to=AN_AGENT_OF_THE_REST shows where the way ends", cut[0]))
        .proof(cut.iter().take(5).map(|id| {
            let number = part_of.get(id).copied();
            let part = number.map_or_else(|| "no part".to_owned(), |number| format!("part {number}"));
            facts.proof(
                *id,
                "component",
                format!("{} is in {part} of the map; it was joined to the rest before", facts.name(*id)),
            )
        }))
        .of(cut.iter().copied())
        .every(facts.interval(&cut));
    found.push(finding);
}

fn edge_count(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    let Tally { up, unknown, .. } = *facts.tally;
    let most = facts.watches.most_up.iter().map(|(_, count)| *count).max().unwrap_or(0);
    // Of a silent agent's tunnels nothing is known: they are not down.
    let lost = most.saturating_sub(up + unknown);
    if most < LEAST_TUNNELS || lost * 2 <= most {
        return;
    }
    let finding = Finding::new("EDGE_COUNT_DROP", "fleet")
        .say("Over half of the tunnels that were up within the last hour are not.")
        .because("a hub, a provider or a firewall that most tunnels go through failed")
        .next("look at the alarms of single hosts below: what do the tunnels that are down have in common?")
        .proof([super::Proof {
            agent: None,
            observed_at: None,
            field: "edges".into(),
            text: format!("{up} tunnels are up, {most} were within the last hour"),
        }]);
    found.push(finding);
}

/// Hosts without which the others fall apart (Tarjan's cut vertices, without recursion).
fn articulation(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    let (names, neighbours) = facts.state.graph();
    if names.len() < LEAST_HOSTS {
        return;
    }
    for (node, cut) in cut_vertices(&neighbours) {
        let Some(Some(id)) = names.get(node) else { continue };
        if cut < 2 {
            continue;
        }
        let name = facts.name(*id);
        let finding = Finding::new("ARTICULATION_NODE", id.to_string())
            .say(format!("{name} is the only link of other hosts to the rest of the mesh."))
            .because("in order for a hub with spokes; a risk all the same")
            .next("a second hub, or tunnels between some spokes, makes the mesh survive its failure")
            .proof([facts.proof(
                *id,
                "edges",
                format!(
                    "without {name} the map falls into several parts, the parts cut off holding {cut} hosts"
                ),
            )])
            .of([*id])
            .every(facts.interval(&[*id]));
        found.push(finding);
    }
}

/// The nodes whose loss cuts others off, each with how many of them at the least.
fn cut_vertices(neighbours: &[Vec<usize>]) -> BTreeMap<usize, usize> {
    const NONE: usize = usize::MAX;
    let count = neighbours.len();
    let (mut depth, mut low, mut size) = (vec![NONE; count], vec![NONE; count], vec![1usize; count]);
    let mut cuts: BTreeMap<usize, usize> = BTreeMap::new();
    for root in 0..count {
        if depth[root] != NONE {
            continue;
        }
        (depth[root], low[root]) = (0, 0);
        let mut children = Vec::new();
        let mut stack = vec![(root, NONE, 0usize)];
        while let Some((node, parent, next)) = stack.pop() {
            if let Some(&other) = neighbours[node].get(next) {
                stack.push((node, parent, next + 1));
                if depth[other] == NONE {
                    (depth[other], low[other]) = (depth[node] + 1, depth[node] + 1);
                    stack.push((other, node, 0));
                } else if other != parent {
                    low[node] = low[node].min(depth[other]);
                }
                continue;
            }
            if parent == NONE {
                continue;
            }
            low[parent] = low[parent].min(low[node]);
            size[parent] += size[node];
            if parent == root {
                children.push(size[node]);
            } else if low[node] >= depth[parent] {
                *cuts.entry(parent).or_default() += size[node];
            }
        }
        // The root is one when it has several subtrees: all but the largest are cut off.
        if children.len() > 1 {
            children.sort_unstable();
            cuts.insert(root, children[..children.len() - 1].iter().sum());
        }
    }
    cuts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_vertices_are_found() {
        let star = vec![vec![1, 2, 3], vec![0], vec![0], vec![0]];
        assert_eq!(cut_vertices(&star), BTreeMap::from([(0, 2)]));
        let from_a_leaf = vec![vec![1], vec![0, 2, 3], vec![1], vec![1]];
        assert_eq!(cut_vertices(&from_a_leaf), BTreeMap::from([(1, 2)]));
        let ring = vec![vec![1, 3], vec![0, 2], vec![1, 3], vec![2, 0]];
        assert_eq!(cut_vertices(&ring), BTreeMap::new());
        let chain = vec![vec![1], vec![0, 2], vec![1, 3], vec![2]];
        assert_eq!(cut_vertices(&chain).into_keys().collect::<Vec<_>>(), [1, 2]);
    }
}
