//! An edge that is asked for what is wanted of it: nothing is made of what is not. For answers that go over
//! all edges of a large fleet.

use std::fmt::Write as _;
use std::ops::Range;

use proto::ids::{AgentId, Cidr, PublicKey};

use super::edge::{EdgeKey, Kept, Near};
use super::keys::KeyIx;
use super::record::{self, Agent, Half};
use super::shape::{EdgeState, Handshake, Layer};
use super::traffic::{self, Loss};
use super::{State, render};

/// Agents whose edges are looked at in one step: a few milliseconds.
const STEP: usize = 2048;

/// An edge of the map.
#[derive(Debug, Clone, Copy)]
pub struct Link<'a> {
    pub(super) state: &'a State,
    pub(super) key: EdgeKey,
    pub(super) kept: Kept,
}

/// What one end of a WireGuard edge says of the other.
#[derive(Debug, Clone, Copy)]
pub struct LinkHalf<'a> {
    state: &'a State,
    near: Near,
    this: (&'a Agent, &'a Half),
    other: Option<(&'a Agent, &'a Half)>,
}

/// A peer of a device of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerId(Near, KeyIx);

impl State {
    /// All links in steps: each range is for [`State::links`].
    pub fn link_steps(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        steps(self.agents.len())
    }

    /// The links whose first ends are at the agents of one step, in no order that means anything.
    pub fn links(&self, step: Range<usize>) -> impl Iterator<Item = Link<'_>> {
        let agents = (0..).take(self.agents.len()).skip(step.start).take(step.len());
        agents.flat_map(|ix| self.edges.of(ix)).map(|(key, kept)| Link {
            state: self,
            key: *key,
            kept: *kept,
        })
    }
}

/// So many agents in steps.
pub(super) fn steps(agents: usize) -> impl Iterator<Item = Range<usize>> {
    (0..agents).step_by(STEP).map(move |first| first..agents.min(first + STEP))
}

impl<'a> Link<'a> {
    /// Which network it belongs to.
    #[must_use]
    pub fn layer(&self) -> Layer {
        self.key.layer
    }

    /// Its state.
    #[must_use]
    pub fn state(&self) -> EdgeState {
        self.kept.state
    }

    /// The agents at its ends; the second may be none.
    #[must_use]
    pub fn agents(&self) -> [Option<AgentId>; 2] {
        self.key.agents().map(|near| Some(self.state.agent(near?.agent())?.id))
    }

    /// Writes the ids of the nodes at its ends over what `nodes` has.
    pub fn write_nodes(&self, nodes: &mut [String; 2]) {
        let Self { state, key, .. } = *self;
        for (node, agent) in nodes.iter_mut().zip(self.agents()) {
            node.clear();
            match agent {
                // Writing to memory cannot fail.
                Some(id) => drop(write!(node, "{id}")),
                None => node.push_str(&render::far_id(state, key.far, Some(key.near))),
            }
        }
    }

    /// The interface at each end, where one is known.
    #[must_use]
    pub fn interfaces(&self) -> [Option<&'a str>; 2] {
        let state = self.state;
        let name = |near: Near| state.agent(near.agent()).map(|agent| agent.name(near.slot));
        self.key.agents().map(|near| name(near?).filter(|name| !name.is_empty()))
    }

    /// What its ends say of each other, where it is a WireGuard edge.
    #[must_use]
    pub fn halves(&self) -> [Option<LinkHalf<'a>>; 2] {
        let (state, halves, ends) = (self.state, render::halves(self.state, self.key), self.key.agents());
        [0, 1]
            .map(|end| Some(LinkHalf { state, near: ends[end]?, this: halves[end]?, other: halves[1 - end] }))
    }
}

impl<'a> LinkHalf<'a> {
    /// The peer's key.
    #[must_use]
    pub fn peer(&self) -> PublicKey {
        self.state.index.keys.key(self.this.1.key)
    }

    /// Which peer it is of which device.
    #[must_use]
    pub fn id(&self) -> PeerId {
        PeerId(self.near, self.this.1.key)
    }

    /// Whether several devices have the peer's key, so that it may be an end of several links.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.state.index.keys.owners(self.this.1.key).len() > 1
    }

    /// How old the last handshake is.
    #[must_use]
    pub fn handshake(&self) -> Handshake {
        self.this.1.handshake(self.this.0)
    }

    /// When the last handshake was, in seconds since the Unix epoch; `None` when there was none.
    #[must_use]
    pub fn handshake_at(&self) -> Option<i64> {
        let age = Some(self.this.1.age_s).filter(|age| *age != record::NEVER)?;
        Some((self.this.0.observed_at() / 1000 - i64::from(age)).max(0))
    }

    /// Bytes received from the peer, and sent to it.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        (self.this.1.samples.rx(), self.this.1.samples.tx())
    }

    /// Round-trip time in microseconds.
    #[must_use]
    pub fn rtt_us(&self) -> Option<u32> {
        Some(self.this.1.rtt_us).filter(|rtt| *rtt > 0)
    }

    /// What this end sent and the other did not receive.
    #[must_use]
    pub fn loss(&self) -> Option<Loss> {
        self.state.loss(self.this, self.other)
    }

    /// Inner addresses that belong to the peer.
    pub fn allowed_ips(&self) -> impl Iterator<Item = Cidr> + use<'a> {
        self.this.1.reach.allowed()
    }
}

impl State {
    /// What one end sent and the other did not receive (E5). What two devices with one key send cannot be told
    /// apart at the other end.
    pub(super) fn loss(
        &self,
        (agent, half): (&Agent, &Half),
        other: Option<(&Agent, &Half)>,
    ) -> Option<Loss> {
        let shared = |half: &Half| self.index.keys.owners(half.key).len() > 1;
        let (there, other) = other.filter(|other| !shared(half) && !shared(other.1))?;
        traffic::loss((&half.samples, &agent.times), (&other.samples, &there.times))
    }
}
