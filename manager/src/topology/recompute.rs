//! Everything from scratch by another way than the incremental one: WireGuard edges by one join
//! over all pairs of keys instead of agent by agent. It checks the incremental state, and measures
//! what recomputing would cost.

use proto::ids::AgentId;

use super::State;
use super::edge::{self, EdgeKey, Far, Near};
use super::fold::FoldMap;
use super::keys::KeyIx;
use super::mesh::Groups;
use super::record::AgentIx;
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

/// One device's peer, with what its state needs.
#[derive(Debug, Clone, Copy)]
struct Row {
    near: Near,
    own: KeyIx,
    peer: KeyIx,
    side: Side,
    /// The next row of the same pair: another device with the same key.
    next: u32,
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
        let mut others: Vec<EdgeKey> = Vec::with_capacity(2 * self.agents.len());
        for ix in (0..).take(self.agents.len()) {
            physical::claims(self, ix, &mut others);
            overlay::claims(self, ix, &mut others);
            relay::claims(self, ix, &mut others);
        }
        others.sort_unstable();
        others.dedup();
        edges.extend(others.into_iter().map(|key| (key, edge::evaluate(self, key).state)));
        edges
    }

    fn join_keys(&self) -> Vec<(EdgeKey, EdgeState)> {
        let mut rows: Vec<Row> = Vec::new();
        let ids: Vec<Option<AgentId>> =
            self.agents.iter().map(|agent| agent.as_ref().map(|agent| agent.id)).collect();
        let shared: Vec<Shared> =
            (0..).take(self.index.keys.len()).map(|key| Shared::of(self, key)).collect();
        for (agent, ix) in self.agents.iter().zip(0..).filter_map(|(agent, ix)| Some((agent.as_ref()?, ix))) {
            for device in &agent.devices {
                let near = Near { agent: ix, slot: device.slot };
                let own = device.key.unwrap_or(NONE);
                let side = side_of(agent, Some(device), None, Shared::No);
                rows.extend(device.briefs.iter().map(|brief| {
                    let half = Some((brief.handshake, brief.trying));
                    let side =
                        Side { half, keepalive: brief.keepalive, shared: shared[brief.key as usize], ..side };
                    Row { near, own, peer: brief.key, side, next: NONE }
                }));
            }
        }
        // The rows by (own key, peer's key): a half's other half is at (peer's key, own key). Only the
        // rows with the lower own key are put in, and the others look theirs up.
        let mut first: FoldMap<(KeyIx, KeyIx), u32> = FoldMap::default();
        first.reserve(rows.len() / 2 + 1);
        for (at, place) in (0..rows.len()).zip(0..) {
            if rows[at].own <= rows[at].peer {
                let before = first.insert((rows[at].own, rows[at].peer), place);
                rows[at].next = before.unwrap_or(NONE);
            }
        }
        let mut edges = Vec::with_capacity(rows.len());
        let mut matched = vec![false; rows.len()];
        for at in 0..rows.len() {
            let row = rows[at];
            if row.own < row.peer {
                continue;
            }
            let mut place = first.get(&(row.peer, row.own)).copied().unwrap_or(NONE);
            while let Some(other) = rows.get(place as usize) {
                if other.near != row.near {
                    matched[at] = true;
                    matched[place as usize] = true;
                    // Two devices of one key that name each other meet here from both sides.
                    if row.own != row.peer || row.near < other.near {
                        edges.push(self.joined(&ids, row, *other));
                    }
                }
                place = other.next;
            }
        }
        for (row, _) in rows.iter().zip(matched).filter(|(_, matched)| !matched) {
            self.unmatched(&ids, *row, &mut edges);
        }
        edges
    }

    fn joined(&self, ids: &[Option<AgentId>], a: Row, b: Row) -> (EdgeKey, EdgeState) {
        let (a, b) = if self.in_order_of_id(ids, a.near, b.near) { (a, b) } else { (b, a) };
        let key = EdgeKey { layer: Layer::WireGuard, near: a.near, far: Far::Agent(b.near) };
        (key, verdict([a.side, b.side], Relation::Confirmed))
    }

    fn in_order_of_id(&self, ids: &[Option<AgentId>], a: Near, b: Near) -> bool {
        let name = |near: Near| self.agent(near.agent).map(|agent| agent.name(near.slot));
        if a.agent == b.agent { name(a) <= name(b) } else { ids[a.agent as usize] <= ids[b.agent as usize] }
    }

    fn unmatched(&self, ids: &[Option<AgentId>], row: Row, edges: &mut Vec<(EdgeKey, EdgeState)>) {
        let owners =
            self.index.keys.owners(row.peer).iter().map(|&(agent, slot): &(AgentIx, _)| Near { agent, slot });
        let before = edges.len();
        for owner in owners.filter(|owner| *owner != row.near) {
            let there = self
                .agent(owner.agent)
                .map(|agent| side_of(agent, agent.device(owner.slot), None, Shared::No));
            let (mut sides, mut ends) = ([row.side, there.unwrap_or_default()], [row.near, owner]);
            if !self.in_order_of_id(ids, row.near, owner) {
                sides.reverse();
                ends.reverse();
            }
            let key = EdgeKey { layer: Layer::WireGuard, near: ends[0], far: Far::Agent(ends[1]) };
            edges.push((key, verdict(sides, Relation::OneSided)));
        }
        if edges.len() == before {
            let key = EdgeKey::to(Layer::WireGuard, row.near, Far::Key(row.peer));
            edges.push((key, verdict([row.side, Side::default()], Relation::External)));
        }
    }
}
