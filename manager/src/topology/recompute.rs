//! Everything from scratch by another way than the incremental one: WireGuard edges by one join
//! over all pairs of keys instead of agent by agent. It checks the incremental state, and measures
//! what recomputing would cost.

use proto::ids::AgentId;

use super::State;
use super::edge::{self, EdgeKey, Far, Near};
use super::keys::KeyIx;
use super::mesh::Groups;
use super::shape::{EdgeState, Layer, Relation};
use super::wireguard::{Shared, Side, side_of, verdict};
use super::{overlay, physical, relay};

/// What a recomputation found, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recomputed {
    /// Edges of all layers.
    pub edges: usize,
    /// Those that are up.
    pub up: usize,
    /// Groups of agents that WireGuard edges which are up or idle join.
    pub components: usize,
}

/// A device, and where its peers are in the list of all.
#[derive(Debug, Clone, Copy)]
struct Block {
    near: Near,
    id: AgentId,
    own: KeyIx,
    start: u32,
    end: u32,
    /// The next device with the same key.
    next: u32,
}

/// A device's peers among all: their keys by themselves, which the join looks at most, and what
/// each end knows.
#[derive(Debug, Default)]
struct Rows {
    blocks: Vec<Block>,
    peers: Vec<KeyIx>,
    sides: Vec<Side>,
    /// The first device of each key.
    first: Vec<u32>,
}

const NONE: u32 = u32::MAX;

impl State {
    /// Recomputes all edges, their states and the components, and keeps nothing of it.
    #[must_use]
    pub fn recompute(&self) -> Recomputed {
        let edges = self.recompute_edges();
        let mut groups = Groups::new(self.agents.len());
        for (key, state) in &edges {
            if let (Layer::WireGuard, EdgeState::Up | EdgeState::Idle, Far::Agent(far)) =
                (key.layer, state, key.far)
            {
                groups.join(key.near.agent, far.agent);
            }
        }
        let agents = (0..).zip(&self.agents).filter(|(_, agent)| agent.is_some());
        let components = agents.filter(|(ix, _)| groups.root(*ix) == *ix).count();
        let up = edges.iter().filter(|(_, state)| *state == EdgeState::Up).count();
        Recomputed { edges: edges.len(), up, components }
    }

    /// Every edge and its state, in no order.
    pub(super) fn recompute_edges(&self) -> Vec<(EdgeKey, EdgeState)> {
        let mut edges = self.join_keys();
        let first = edges.len();
        let mut elsewhere: Vec<EdgeKey> = Vec::new();
        let mut claims: Vec<EdgeKey> = Vec::new();
        for ix in (0..).take(self.agents.len()) {
            physical::claims(self, ix, &mut claims);
            overlay::claims(self, ix, &mut claims);
            relay::claims(self, ix, &mut claims);
            claims.sort_unstable();
            claims.dedup();
            for key in claims.drain(..) {
                // An agent's own edges while its record is at hand; those of others once, later.
                if key.near.agent == ix {
                    edges.push((key, edge::evaluate(self, key).state));
                } else {
                    elsewhere.push(key);
                }
            }
        }
        elsewhere.sort_unstable();
        elsewhere.dedup();
        edges[first..].sort_unstable();
        elsewhere.retain(|key| edges[first..].binary_search_by_key(key, |edge| edge.0).is_err());
        edges.extend(elsewhere.into_iter().map(|key| (key, edge::evaluate(self, key).state)));
        edges
    }

    fn join_keys(&self) -> Vec<(EdgeKey, EdgeState)> {
        let rows = self.rows();
        let mut edges = Vec::with_capacity(rows.peers.len());
        for block in &rows.blocks {
            for at in block.start..block.end {
                self.join(&rows, block, at, &mut edges);
            }
        }
        edges
    }

    fn rows(&self) -> Rows {
        let shared: Vec<Shared> =
            (0..).take(self.index.keys.len()).map(|key| Shared::of(self, key)).collect();
        let mut rows = Rows { first: vec![NONE; shared.len()], ..Rows::default() };
        let place = |len: usize| u32::try_from(len).expect("fewer than 2^32 peers in all");
        for (ix, agent) in (0..).zip(&self.agents).filter_map(|(ix, agent)| Some((ix, agent.as_deref()?))) {
            for device in &agent.devices {
                let side = side_of(agent, Some(device), None, Shared::No);
                let start = place(rows.peers.len());
                rows.peers.extend(device.briefs.iter().map(|brief| brief.key));
                rows.sides.extend(device.briefs.iter().map(|brief| {
                    let half = Some((brief.handshake, brief.trying));
                    Side { half, keepalive: brief.keepalive, shared: shared[brief.key as usize], ..side }
                }));
                let number = place(rows.blocks.len());
                let next =
                    device.key.map_or(NONE, |key| std::mem::replace(&mut rows.first[key as usize], number));
                let near = Near { agent: ix, slot: device.slot };
                let (own, end) = (device.key.unwrap_or(NONE), place(rows.peers.len()));
                rows.blocks.push(Block { near, id: agent.id, own, start, end, next });
            }
        }
        rows
    }

    /// The edges of one peer. A confirmed one is told by the end that comes first.
    fn join(&self, rows: &Rows, block: &Block, at: u32, edges: &mut Vec<(EdgeKey, EdgeState)>) {
        let side = rows.sides[at as usize];
        let owners = || {
            std::iter::successors(rows.block(rows.first[rows.peers[at as usize] as usize]), |b| {
                rows.block(b.next)
            })
        };
        let owners = || owners().filter(|owner| owner.near != block.near);
        let mut confirmed = false;
        for owner in owners() {
            let Some(other) = rows.find(owner, block.own) else { continue };
            confirmed = true;
            if self.comes_first(block, owner) {
                let key = EdgeKey { layer: Layer::WireGuard, near: block.near, far: Far::Agent(owner.near) };
                edges.push((key, verdict([side, rows.sides[other]], Relation::Confirmed)));
            }
        }
        if confirmed {
            return;
        }
        for owner in owners() {
            let there = self.agent(owner.near.agent);
            let there = there.map(|agent| side_of(agent, agent.device(owner.near.slot), None, Shared::No));
            let (mut sides, mut ends) = ([side, there.unwrap_or_default()], [block.near, owner.near]);
            if !self.comes_first(block, owner) {
                sides.reverse();
                ends.reverse();
            }
            let key = EdgeKey { layer: Layer::WireGuard, near: ends[0], far: Far::Agent(ends[1]) };
            edges.push((key, verdict(sides, Relation::OneSided)));
        }
        if owners().next().is_none() {
            let key = EdgeKey::to(Layer::WireGuard, block.near, Far::Key(rows.peers[at as usize]));
            edges.push((key, verdict([side, Side::default()], Relation::External)));
        }
    }

    fn comes_first(&self, a: &Block, b: &Block) -> bool {
        let name = |near: Near| self.agent(near.agent).map(|agent| agent.name(near.slot));
        if a.near.agent == b.near.agent { name(a.near) <= name(b.near) } else { a.id <= b.id }
    }
}

impl Rows {
    fn block(&self, number: u32) -> Option<&Block> {
        self.blocks.get(number as usize)
    }

    /// The place of a device's peer of this key.
    fn find(&self, block: &Block, key: KeyIx) -> Option<usize> {
        let (start, end) = (block.start as usize, block.end as usize);
        self.peers[start..end].iter().position(|peer| *peer == key).map(|at| start + at)
    }
}
