//! Groups: what is joined to what, and in what shape (rule E10).

use std::collections::{BTreeMap, BTreeSet};

use super::State;
use super::edge::{EdgeKey, Far};
use super::fold::FoldMap;
use super::record::{AgentIx, Mac};
use super::render;
use super::shape::{EdgeState, Layer};
use super::view::{Mesh, MeshKind};

/// Sets that are merged, each known by one of its members.
#[derive(Debug, Clone)]
pub(super) struct Groups {
    parents: Vec<u32>,
}

impl Groups {
    pub(super) fn new(len: usize) -> Self {
        Self { parents: (0..).take(len).collect() }
    }

    pub(super) fn root(&mut self, mut item: u32) -> u32 {
        while self.parents[item as usize] != item {
            let above = self.parents[self.parents[item as usize] as usize];
            self.parents[item as usize] = above;
            item = above;
        }
        item
    }

    pub(super) fn join(&mut self, a: u32, b: u32) {
        let (a, b) = (self.root(a), self.root(b));
        self.parents[a.max(b) as usize] = a.min(b);
    }
}

/// The component of each agent and LAN: the groups that edges which are up or idle join, the relay
/// layer aside; 0 is the largest. Agents without any such edge are left out.
pub(super) fn components(state: &State) -> (BTreeMap<AgentIx, usize>, BTreeMap<Mac, usize>) {
    let mut lans: BTreeMap<Mac, u32> = BTreeMap::new();
    let mut next = u32::try_from(state.agents.len()).unwrap_or(u32::MAX);
    let mut joins: Vec<(u32, u32)> = Vec::new();
    for (key, kept) in state.edges.iter() {
        if key.layer == Layer::Relay || !matches!(kept.state, EdgeState::Up | EdgeState::Idle) {
            continue;
        }
        match key.far {
            Far::Agent(far) => joins.push((key.near.agent, far.agent)),
            Far::Lan(mac) => {
                let lan = *lans.entry(mac).or_insert_with(|| {
                    next += 1;
                    next - 1
                });
                joins.push((key.near.agent, lan));
            }
            Far::Key(_) | Far::OwnLan(_) | Far::Behind | Far::Manager => {}
        }
    }
    let mut groups = Groups::new(next as usize);
    joins.iter().for_each(|(a, b)| groups.join(*a, *b));
    let mut is_joined = vec![false; next as usize];
    joins.iter().for_each(|(a, b)| (is_joined[*a as usize], is_joined[*b as usize]) = (true, true));
    let mut members: FoldMap<u32, Vec<u32>> = FoldMap::default();
    for item in (0..next).filter(|item| is_joined[*item as usize]) {
        members.entry(groups.root(item)).or_default().push(item);
    }
    let first = |set: &[u32]| set.iter().filter_map(|ix| state.agent(*ix)).map(|agent| agent.id).min();
    let mut ordered: Vec<Vec<u32>> = members.into_values().collect();
    ordered.sort_by_cached_key(|set| (std::cmp::Reverse(set.len()), first(set)));
    let mut numbers: Vec<(u32, usize)> =
        (0..).zip(&ordered).flat_map(|(number, set)| set.iter().map(move |item| (*item, number))).collect();
    numbers.sort_unstable();
    let numbers: BTreeMap<u32, usize> = numbers.into_iter().collect();
    let lans = lans.into_iter().filter_map(|(mac, item)| Some((mac, *numbers.get(&item)?))).collect();
    let agents = numbers.iter().filter(|(item, _)| state.agent(**item).is_some());
    (agents.map(|(item, number)| (*item, *number)).collect(), lans)
}

/// The groups of agents that confirmed WireGuard edges join, whatever their state; the largest
/// first.
pub(super) fn meshes(state: &State) -> Vec<Mesh> {
    let mut pairs: BTreeSet<(AgentIx, AgentIx)> = BTreeSet::new();
    let mut one_sided: Vec<(AgentIx, AgentIx, EdgeKey)> = Vec::new();
    for key in state.edges.keys().filter(|key| key.layer == Layer::WireGuard) {
        let Far::Agent(far) = key.far else { continue };
        let (a, b) = (key.near.agent.min(far.agent), key.near.agent.max(far.agent));
        if render::halves(state, *key).iter().all(Option::is_some) {
            pairs.insert((a, b));
        } else {
            one_sided.push((a, b, *key));
        }
    }
    let mut groups = Groups::new(state.agents.len());
    pairs.iter().for_each(|(a, b)| groups.join(*a, *b));
    one_sided.retain(|(a, b, _)| !pairs.contains(&(*a, *b)) && a != b);
    let mut members: BTreeMap<AgentIx, BTreeMap<AgentIx, usize>> = BTreeMap::new();
    for (a, b) in pairs.iter().filter(|(a, b)| a != b) {
        let group = members.entry(groups.root(*a)).or_default();
        *group.entry(*a).or_default() += 1;
        *group.entry(*b).or_default() += 1;
    }
    let id = |ix: AgentIx| state.agent(ix).map(|agent| agent.id.to_string()).unwrap_or_default();
    let mut meshes: Vec<Mesh> = Vec::new();
    for (root, degrees) in members {
        let mut agents: Vec<String> = degrees.keys().map(|ix| id(*ix)).collect();
        agents.sort_unstable();
        let inside = |ix: &AgentIx| degrees.contains_key(ix);
        let mut missing: Vec<String> = one_sided
            .iter()
            .filter(|(a, b, _)| inside(a) && inside(b) && groups.root(*a) == root)
            .map(|(_, _, key)| render::id_of(state, *key))
            .collect();
        missing.sort_unstable();
        let count = degrees.values().sum::<usize>() / 2;
        let (mut kind, mut hubs) = shape(&degrees, count, |a, b| pairs.contains(&(a.min(b), a.max(b))));
        if kind == MeshKind::HubAndSpoke && !missing.is_empty() {
            // Somebody means to have more than hubs and spokes.
            (kind, hubs) = (MeshKind::Partial, Vec::new());
        }
        let mut hubs: Vec<String> = hubs.into_iter().map(id).collect();
        hubs.sort_unstable();
        let full = degrees.len() * (degrees.len() - 1) / 2;
        meshes.push(Mesh { kind, agents, pairs: count, full, hubs, missing });
    }
    meshes.sort_by(|a, b| b.agents.len().cmp(&a.agents.len()).then_with(|| a.agents.cmp(&b.agents)));
    meshes
}

/// The shape of a group by its agents' numbers of neighbours. Hubs are those joined to all others;
/// it is hubs and spokes when nothing else is joined.
fn shape(
    degrees: &BTreeMap<AgentIx, usize>,
    pairs: usize,
    joined: impl Fn(AgentIx, AgentIx) -> bool,
) -> (MeshKind, Vec<AgentIx>) {
    let n = degrees.len();
    if n == 2 {
        return (MeshKind::Pair, Vec::new());
    }
    if pairs == n * (n - 1) / 2 {
        return (MeshKind::Full, Vec::new());
    }
    // Two hubs need not be joined to each other, so each of them may lack one.
    let spokes_of =
        |hubs: &[AgentIx]| degrees.keys().copied().filter(|ix| !hubs.contains(ix)).collect::<Vec<_>>();
    let mut hubs: Vec<AgentIx> =
        degrees.iter().filter(|(_, degree)| **degree == n - 1).map(|(ix, _)| *ix).collect();
    if hubs.is_empty() && n > 4 {
        hubs = degrees.iter().filter(|(_, degree)| **degree == n - 2).map(|(ix, _)| *ix).collect();
    }
    let spokes = spokes_of(&hubs);
    let all_reach = spokes.iter().all(|spoke| hubs.iter().all(|hub| joined(*spoke, *hub)));
    let only =
        spokes.len() > hubs.len() && spokes.iter().all(|spoke| degrees.get(spoke) == Some(&hubs.len()));
    if !hubs.is_empty() && all_reach && only {
        (MeshKind::HubAndSpoke, hubs)
    } else {
        (MeshKind::Partial, Vec::new())
    }
}
