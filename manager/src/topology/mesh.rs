//! Groups: what is joined to what, and in what shape (rule E10).

use std::collections::BTreeMap;

use proto::ids::AgentId;

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
            Far::Agent(far) => joins.push((key.near.agent(), far.agent())),
            Far::Lan(mac) => {
                let lan = *lans.entry(mac).or_insert_with(|| {
                    next += 1;
                    next - 1
                });
                joins.push((key.near.agent(), lan));
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
    let mut pairs: Vec<(AgentIx, AgentIx)> = Vec::new();
    let mut one_sided: Vec<(AgentIx, AgentIx, EdgeKey)> = Vec::new();
    for key in state.edges.keys().filter(|key| key.layer == Layer::WireGuard) {
        let Far::Agent(far) = key.far else { continue };
        let (a, b) = (key.near.agent().min(far.agent()), key.near.agent().max(far.agent()));
        if a == b {
            continue;
        }
        if render::halves(state, *key).iter().all(Option::is_some) {
            pairs.push((a, b));
        } else {
            one_sided.push((a, b, *key));
        }
    }
    pairs.sort_unstable();
    pairs.dedup();
    let joined = |a: AgentIx, b: AgentIx| pairs.binary_search(&(a.min(b), a.max(b))).is_ok();
    let mut groups = Groups::new(state.agents.len());
    let mut degrees: Vec<usize> = vec![0; state.agents.len()];
    for (a, b) in &pairs {
        groups.join(*a, *b);
        degrees[*a as usize] += 1;
        degrees[*b as usize] += 1;
    }
    one_sided.retain(|(a, b, _)| !joined(*a, *b));
    // Of each group its pairs that one side means to have, and its agents with their numbers of neighbours.
    let inside = |ix: AgentIx| degrees[ix as usize] > 0;
    let missing =
        one_sided.into_iter().filter(|(a, b, _)| inside(*a) && inside(*b)).filter_map(|(a, b, key)| {
            let root = groups.root(a);
            (root == groups.root(b)).then_some((root, key))
        });
    let mut missing: Vec<(u32, EdgeKey)> = missing.collect();
    missing.sort_unstable();
    let members = (0..).zip(&degrees).filter(|(_, degree)| **degree > 0);
    let mut members: Vec<(u32, AgentIx, usize)> =
        members.map(|(ix, degree)| (groups.root(ix), ix, *degree)).collect();
    members.sort_unstable();
    let ids = |agents: &mut dyn Iterator<Item = AgentIx>| {
        let mut ids: Vec<AgentId> = agents.filter_map(|ix| Some(state.agent(ix)?.id)).collect();
        ids.sort_unstable();
        ids
    };
    let mut meshes: Vec<Mesh> = Vec::new();
    for group in members.chunk_by(|a, b| a.0 == b.0) {
        let of_group = missing.partition_point(|(root, _)| *root < group[0].0)..;
        let missing = missing[of_group].iter().take_while(|(root, _)| *root == group[0].0);
        let mut missing: Vec<String> = missing.map(|(_, key)| render::id_of(state, *key)).collect();
        missing.sort_unstable();
        let degrees: Vec<(AgentIx, usize)> = group.iter().map(|(_, ix, degree)| (*ix, *degree)).collect();
        let count = degrees.iter().map(|(_, degree)| degree).sum::<usize>() / 2;
        let (mut kind, mut hubs) = shape(&degrees, count, joined);
        if kind == MeshKind::HubAndSpoke && !missing.is_empty() {
            // Somebody means to have more than hubs and spokes.
            (kind, hubs) = (MeshKind::Partial, Vec::new());
        }
        let full = degrees.len() * (degrees.len() - 1) / 2;
        let agents = ids(&mut degrees.iter().map(|(ix, _)| *ix));
        let hubs = ids(&mut hubs.into_iter());
        meshes.push(Mesh { kind, agents, pairs: count, full, hubs, missing });
    }
    meshes.sort_by(|a, b| b.agents.len().cmp(&a.agents.len()).then_with(|| a.agents.cmp(&b.agents)));
    meshes
}

/// The shape of a group by its agents, each with its number of neighbours. Hubs are those joined to all others;
/// it is hubs and spokes when nothing else is joined.
fn shape(
    degrees: &[(AgentIx, usize)],
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
    let with = |wanted: usize| -> Vec<AgentIx> {
        degrees.iter().filter(|(_, degree)| *degree == wanted).map(|(ix, _)| *ix).collect()
    };
    let mut hubs = with(n - 1);
    if hubs.is_empty() && n > 4 {
        // Two hubs need not be joined to each other, so each of them may lack one.
        hubs = with(n - 2);
    }
    let spokes = || degrees.iter().filter(|(ix, _)| hubs.binary_search(ix).is_err());
    // Asked first, as it is soon told: few groups are of this shape.
    let only = spokes().count() > hubs.len() && spokes().all(|(_, degree)| *degree == hubs.len());
    let all_reach = || spokes().all(|(spoke, _)| hubs.iter().all(|hub| joined(*spoke, *hub)));
    if !hubs.is_empty() && only && all_reach() {
        (MeshKind::HubAndSpoke, hubs)
    } else {
        (MeshKind::Partial, Vec::new())
    }
}
