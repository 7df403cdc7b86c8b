//! Nodes and edges as they are at one moment, packed: what changed since the last settling is told from these, and
//! at a start, or when a network fails, it is all of them at once. Texts are made of them one at a time.

use super::State;
use super::edge::{self, EdgeKey, Facts, Kept};
use super::keys::KeyIx;
use super::reach::Reach;
use super::record::{Agent, Half, endpoint_text};
use super::render;
use super::shape::{EdgeShape, EdgeState, HalfShape, Handshake, MapEdge, NodeShape, Presence, Relation};

/// How an agent's node was.
#[derive(Debug)]
pub(super) enum NodeBefore {
    /// It was not there.
    Absent,
    /// As it is now, but for whether it reports.
    Alike(Presence),
    /// Perhaps in another way.
    Other(Box<NodeShape>),
}

/// An edge at one moment. Its key tells its ends, whose indices and names stay until the state is settled.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct EdgeSnapshot {
    pub(super) state: EdgeState,
    since: i64,
    relation: Relation,
    seen: [bool; 2],
    halves: [Option<HalfSnapshot>; 2],
}

#[derive(Debug, PartialEq, Eq)]
struct HalfSnapshot {
    reach: Reach,
    peer: KeyIx,
    keepalive_s: u16,
    has_psk: bool,
    handshake: Handshake,
}

impl EdgeSnapshot {
    /// An edge as it is now.
    pub(super) fn of(state: &State, key: EdgeKey, kept: &Kept) -> Self {
        let Facts { relation, seen, .. } = edge::evaluate(state, key);
        let half = |(agent, half): (&Agent, &Half)| HalfSnapshot {
            reach: half.reach.clone(),
            peer: half.key,
            keepalive_s: half.keepalive_s,
            has_psk: half.has_psk,
            handshake: half.handshake(agent),
        };
        let halves = render::halves(state, key).map(|found| found.map(half));
        Self { state: kept.state, since: kept.since, relation, seen, halves }
    }

    /// The same as the map has it.
    pub(super) fn shape(&self, state: &State, key: EdgeKey) -> MapEdge {
        let half = |end: usize| {
            let (near, half) = (key.agents()[end]?, self.halves[end].as_ref()?);
            let (_, names) = state.known(near.agent())?;
            Some(HalfShape {
                peer: state.index.keys.key(half.peer),
                handshake: half.handshake,
                endpoint: half.reach.endpoint().map(|endpoint| endpoint_text(names, endpoint)),
                keepalive_s: (half.keepalive_s > 0).then_some(half.keepalive_s),
                allowed_ips: half.reach.allowed().collect(),
                has_psk: half.has_psk,
            })
        };
        let edge = EdgeShape {
            id: render::id_of(state, key),
            layer: key.layer,
            ends: render::ends(state, key),
            relation: self.relation,
            state: self.state,
            since: self.since,
            seen: self.seen,
        };
        MapEdge { edge, halves: [half(0), half(1)] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_a_fraction_of_what_the_map_has() {
        assert_eq!((size_of::<EdgeSnapshot>(), size_of::<NodeBefore>()), (64, 16));
    }
}
