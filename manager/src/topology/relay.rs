//! The ways that reports take to the manager.

use super::State;
use super::edge::{EdgeKey, Facts, Far, Near};
use super::record::AgentIx;
use super::shape::{EdgeState, Layer, Relation};

/// The hops of an agent's latest report. A relay that never reported itself is left out, with the
/// two hops that touch it.
pub(super) fn claims(state: &State, ix: AgentIx, found: &mut Vec<EdgeKey>) {
    match state.agent(ix) {
        Some(agent) if agent.relay.is_empty() => found.push(hop(ix, Far::Manager)),
        _ => found.extend(hops(state, ix).into_iter().flatten()),
    }
}

/// The hops in order; `None` where an end is no agent that we know.
fn hops(state: &State, ix: AgentIx) -> Vec<Option<EdgeKey>> {
    let Some(agent) = state.agent(ix) else { return Vec::new() };
    let mut from = Some(ix);
    let mut hops = Vec::with_capacity(agent.relay.len() + 1);
    for relay in &agent.relay {
        let to = state.find(*relay);
        hops.push(from.zip(to).map(|(from, to)| hop(from, Far::Agent(Near::host(to)))));
        from = to;
    }
    hops.push(from.map(|from| hop(from, Far::Manager)));
    hops
}

fn hop(from: AgentIx, far: Far) -> EdgeKey {
    EdgeKey::to(Layer::Relay, Near::host(from), far)
}

/// The agents whose latest report came by a hop: the sender's own first, then in order of id.
pub(super) fn users(state: &State, key: EdgeKey) -> Vec<AgentIx> {
    let Some(sender) = state.agent(key.near.agent()) else { return Vec::new() };
    let others = state.index.relayed_by(sender.id).iter().copied().filter(|ix| *ix != key.near.agent());
    let users = std::iter::once(key.near.agent()).chain(others);
    let mut users: Vec<AgentIx> = users.filter(|ix| hops(state, *ix).contains(&Some(key))).collect();
    users.sort_by_key(|ix| (*ix != key.near.agent(), state.agent(*ix).map(|agent| agent.id)));
    users
}

/// A hop is up while one who uses it reports.
pub(super) fn evaluate(state: &State, key: EdgeKey) -> Facts {
    let lively = |ix: AgentIx| state.agent(ix).is_some_and(|agent| !agent.silent);
    // The sender's own report tells most often; only where it does not, those of others are asked.
    let direct = |ix| state.agent(ix).is_some_and(|agent| agent.relay.is_empty());
    let own = lively(key.near.agent())
        && if direct(key.near.agent()) {
            key.far == Far::Manager
        } else {
            hops(state, key.near.agent()).first() == Some(&Some(key))
        };
    let fresh = own || users(state, key).iter().any(|ix| lively(*ix));
    let state = if fresh { EdgeState::Up } else { EdgeState::Unknown };
    Facts { state, relation: Relation::Delivery, seen: [true, false] }
}
