//! Everything from scratch by another way than the incremental one: WireGuard edges by one join
//! over all pairs of keys instead of agent by agent. It checks the incremental state, and measures
//! what recomputing would cost.

use proto::ids::AgentId;

use super::State;
use super::edge::{self, EdgeKey, Far, Near};
use super::keys::KeyIx;
use super::mesh::Groups;
use super::record::{Agent, AgentIx};
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
                groups.join(key.near.agent(), far.agent());
            }
        }
        let agents = (0..).zip(&self.agents).filter(|(_, agent)| agent.is_some());
        let components = agents.filter(|(ix, _)| groups.root(*ix) == *ix).count();
        let up = edges.iter().filter(|(_, state)| *state == EdgeState::Up).count();
        Recomputed { edges: edges.len(), up, components }
    }

    /// Every edge and its state, in no order.
    pub(super) fn recompute_edges(&self) -> Vec<(EdgeKey, EdgeState)> {
        let mut edges = Vec::with_capacity(self.edges.len());
        let mut rows = Rows { first: vec![NONE; self.index.keys.len()], ..Rows::default() };
        let shared: Vec<Shared> = (0..).take(rows.first.len()).map(|key| Shared::of(self, key)).collect();
        // Where each agent's own edges begin; each agent's are in order.
        let mut starts = Vec::with_capacity(self.agents.len() + 1);
        let mut elsewhere: Vec<EdgeKey> = Vec::new();
        let mut claims: Vec<EdgeKey> = Vec::new();
        for ix in (0..).take(self.agents.len()) {
            starts.push(edges.len());
            let Some(agent) = self.agent(ix) else { continue };
            rows.add(ix, agent, &shared);
            physical::claims(self, ix, &mut claims);
            overlay::claims(self, ix, &mut claims);
            relay::claims(self, ix, &mut claims);
            claims.sort_unstable();
            claims.dedup();
            for key in claims.drain(..) {
                // An agent's own edges while its record is at hand; those of others once, later.
                if key.near.agent() == ix {
                    edges.push((key, edge::evaluate(self, key).state));
                } else {
                    elsewhere.push(key);
                }
            }
        }
        starts.push(edges.len());
        elsewhere.sort_unstable();
        elsewhere.dedup();
        elsewhere.retain(|key| {
            let ix = key.near.agent() as usize;
            edges[starts[ix]..starts[ix + 1]].binary_search_by_key(key, |edge| edge.0).is_err()
        });
        edges.extend(elsewhere.into_iter().map(|key| (key, edge::evaluate(self, key).state)));
        self.join_keys(&rows, &mut edges);
        edges
    }

    fn join_keys(&self, rows: &Rows, edges: &mut Vec<(EdgeKey, EdgeState)>) {
        // Peers whose one edge the other end has told already.
        let mut told = vec![false; rows.peers.len()];
        for (number, block) in (0..).zip(&rows.blocks) {
            let alone = rows.has_alone(block.own, number);
            for at in block.start..block.end {
                if told[at as usize] {
                    continue;
                }
                match rows.partner(block, at).filter(|_| alone) {
                    Some((owner, other)) => {
                        told[other] = true;
                        edges.push(self.confirmed(rows, (block, at as usize), (owner, other)));
                    }
                    None => self.join(rows, block, at, edges),
                }
            }
        }
    }

    /// The edge of two peers that name each other.
    fn confirmed(&self, rows: &Rows, a: (&Block, usize), b: (&Block, usize)) -> (EdgeKey, EdgeState) {
        let (a, b) = if self.comes_first(a.0, b.0) { (a, b) } else { (b, a) };
        let key = EdgeKey { layer: Layer::WireGuard, near: a.0.near, far: Far::Agent(b.0.near) };
        (key, verdict([rows.sides[a.1], rows.sides[b.1]], Relation::Confirmed))
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
            let there = self.agent(owner.near.agent());
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
        let name = |near: Near| self.agent(near.agent()).map(|agent| agent.name(near.slot));
        if a.near.agent() == b.near.agent() { name(a.near) <= name(b.near) } else { a.id <= b.id }
    }
}

impl Rows {
    /// Adds the devices of an agent, which come in order of its index.
    fn add(&mut self, ix: AgentIx, agent: &Agent, shared: &[Shared]) {
        let place = |len: usize| u32::try_from(len).expect("fewer than 2^32 peers in all");
        for device in &agent.devices {
            let side = side_of(agent, Some(device), None, Shared::No);
            let start = place(self.peers.len());
            self.peers.extend(device.briefs.iter().map(|brief| brief.key));
            self.sides.extend(device.briefs.iter().map(|brief| {
                let half = Some((brief.handshake, brief.trying));
                Side { half, keepalive: brief.keepalive, shared: shared[brief.key as usize], ..side }
            }));
            let number = place(self.blocks.len());
            let next =
                device.key.map_or(NONE, |key| std::mem::replace(&mut self.first[key as usize], number));
            let near = Near::new(ix, device.slot);
            let (own, end) = (device.key.unwrap_or(NONE), place(self.peers.len()));
            self.blocks.push(Block { near, id: agent.id, own, start, end, next });
        }
    }

    fn block(&self, number: u32) -> Option<&Block> {
        self.blocks.get(number as usize)
    }

    /// Whether this device and no other has the key.
    fn has_alone(&self, key: KeyIx, number: u32) -> bool {
        let first = self.first.get(key as usize);
        first == Some(&number) && self.block(number).is_some_and(|block| block.next == NONE)
    }

    /// The other end of a peer and the place of its peer, where one device has the peer's key and names
    /// this one's.
    fn partner(&self, block: &Block, at: u32) -> Option<(&Block, usize)> {
        let owner = self.block(self.first[self.peers[at as usize] as usize])?;
        let fits = owner.next == NONE && owner.near != block.near;
        fits.then_some(owner).zip(self.find(owner, block.own))
    }

    /// The place of a device's peer of this key.
    fn find(&self, block: &Block, key: KeyIx) -> Option<usize> {
        let (start, end) = (block.start as usize, block.end as usize);
        self.peers[start..end].iter().position(|peer| *peer == key).map(|at| start + at)
    }
}
