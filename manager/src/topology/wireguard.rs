//! WireGuard edges: two devices that name each other's key (rules E1 to E3 and E6).

use super::State;
use super::edge::{EdgeKey, Facts, Far, Near};
use super::keys::KeyIx;
use super::record::{Agent, AgentIx, Brief, Device, Half, NEVER};
use super::shape::{EdgeState, Handshake, Layer, Relation};

/// Seconds after which a session must not be used any more (REJECT_AFTER_TIME).
const REJECT_AFTER_S: u32 = 180;
/// Seconds after which a session's keys are zeroed (three times REJECT_AFTER_TIME).
const ZEROED_AFTER_S: u32 = 540;

/// The edges of an agent's WireGuard peers.
pub(super) fn claims(state: &State, ix: AgentIx, found: &mut Vec<EdgeKey>) {
    let Some(agent) = state.agent(ix) else { return };
    for device in &agent.devices {
        for brief in &device.briefs {
            half_edges(state, Near::new(ix, device.slot), device, brief.key, found);
        }
    }
}

/// The edges of one peer: most often one; several only where several devices own its key.
pub(super) fn half_edges(state: &State, near: Near, device: &Device, peer: KeyIx, found: &mut Vec<EdgeKey>) {
    let owners = state.index.keys.owners(peer).iter().map(|&(agent, slot)| Near::new(agent, slot));
    let owners = owners.filter(|owner| *owner != near);
    let mutual = owners.clone().filter(|owner| holds(state, *owner, device.key));
    let before = found.len();
    found.extend(mutual.map(|owner| EdgeKey::between(state, Layer::WireGuard, near, owner)));
    // A key that one owner uses to name us back is not missing on its other owners.
    if found.len() == before {
        found.extend(owners.map(|owner| EdgeKey::between(state, Layer::WireGuard, near, owner)));
    }
    if found.len() == before {
        found.push(EdgeKey::to(Layer::WireGuard, near, Far::Key(peer)));
    }
}

fn holds(state: &State, owner: Near, key: Option<KeyIx>) -> bool {
    let device = state.agent(owner.agent()).and_then(|agent| agent.device(owner.slot));
    device.zip(key).is_some_and(|(device, key)| device.brief(key).is_some())
}

/// The age class of a peer's handshake (E3). With keepalive the initiator alone rekeys, so that
/// the age may pass 180 s by one keepalive and one report interval.
pub(super) fn handshake(age_s: u32, keepalive_s: u16, interval_s: u32) -> Handshake {
    let live = REJECT_AFTER_S + u32::from(keepalive_s) + interval_s;
    match age_s {
        NEVER => Handshake::Never,
        age if age <= live => Handshake::Live,
        age if age <= ZEROED_AFTER_S + interval_s => Handshake::Stale,
        _ => Handshake::Dead,
    }
}

impl Half {
    pub(super) fn handshake(&self, agent: &Agent) -> Handshake {
        handshake(self.age_s, self.keepalive_s, agent.interval_s)
    }
}

/// Who has a peer's key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Shared {
    /// One device, or none that we know.
    #[default]
    No,
    /// Several devices of one host: two ways out with one identity, one of them in use.
    OneHost,
    /// Devices of several hosts: a copied key.
    Hosts,
}

impl Shared {
    pub(super) fn of(state: &State, key: KeyIx) -> Self {
        match state.index.keys.owners(key) {
            [] | [_] => Self::No,
            [first, rest @ ..] if rest.iter().all(|owner| owner.0 == first.0) => Self::OneHost,
            _ => Self::Hosts,
        }
    }
}

/// What one end knows.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Side {
    /// Its handshake and whether it tries in vain; `None` where it does not name the other's key.
    pub(super) half: Option<(Handshake, bool)>,
    /// Whether it keeps the tunnel alive.
    pub(super) keepalive: bool,
    /// Whether its agent reports.
    pub(super) fresh: bool,
    /// Whether its interface is up.
    pub(super) up: bool,
    /// Whether its half may as well be with another device that has the same key.
    pub(super) shared: Shared,
}

/// What an edge is, from both devices' latest reports.
pub(super) fn evaluate(state: &State, key: EdgeKey) -> Facts {
    let (sides, external) = sides(state, key);
    let seen = sides.map(|side| side.half.is_some());
    let relation = match (external, seen) {
        (true, _) => Relation::External,
        (false, [true, true]) => Relation::Confirmed,
        (false, _) => Relation::OneSided,
    };
    Facts { state: verdict(sides, relation), relation, seen }
}

fn sides(state: &State, key: EdgeKey) -> ([Side; 2], bool) {
    let [near, far] =
        [Some(key.near), if let Far::Agent(far) = key.far { Some(far) } else { None }].map(|end| {
            end.and_then(|near| state.agent(near.agent()).map(|agent| (agent, agent.device(near.slot))))
        });
    let own_key = |end: Option<(&Agent, Option<&Device>)>| end.and_then(|(_, device)| device?.key);
    let side = |end: Option<(&Agent, Option<&Device>)>, peer: Option<KeyIx>| {
        let Some((agent, device)) = end else { return Side::default() };
        let half = device.zip(peer).and_then(|(device, peer)| device.brief(peer));
        side_of(agent, device, half, peer.map_or(Shared::No, |peer| Shared::of(state, peer)))
    };
    match key.far {
        Far::Key(peer) => ([side(near, Some(peer)), Side::default()], true),
        _ => ([side(near, own_key(far)), side(far, own_key(near))], false),
    }
}

pub(super) fn side_of(agent: &Agent, device: Option<&Device>, half: Option<&Brief>, shared: Shared) -> Side {
    Side {
        half: half.map(|half| (half.handshake, half.trying)),
        keepalive: half.is_some_and(|half| half.keepalive),
        fresh: !agent.silent,
        up: device.is_some_and(|device| device.up),
        shared,
    }
}

/// The state of an edge from its two sides (E2, E3): the better half decides, and a half that may
/// be with another device only where there is none that is not.
pub(super) fn verdict(sides: [Side; 2], relation: Relation) -> EdgeState {
    let able =
        sides.iter().filter(|side| side.fresh && (side.half.is_some() || relation == Relation::OneSided));
    let telling = sides.iter().filter(|side| side.fresh && side.half.is_some());
    if telling.clone().next().is_none() {
        return EdgeState::Unknown;
    }
    if relation == Relation::OneSided {
        return if able.count() == 2 { EdgeState::OneSided } else { EdgeState::Unknown };
    }
    if telling.clone().any(|side| !side.up) {
        return EdgeState::Down;
    }
    let all_shared = telling.clone().all(|side| side.shared != Shared::No);
    // The other device of the same host has the session: this one stands by.
    let standby = telling.clone().any(|side| {
        !all_shared
            && side.shared == Shared::OneHost
            && side.half.is_some_and(|half| half.0 == Handshake::Live)
    });
    let halves = telling.filter(|side| all_shared || side.shared == Shared::No).filter_map(|side| side.half);
    let best = halves.clone().map(|(handshake, _)| handshake).min().unwrap_or(Handshake::Never);
    let wanted = sides.iter().any(|side| side.keepalive) || halves.clone().any(|(_, trying)| trying);
    match best {
        Handshake::Live => EdgeState::Up,
        _ if standby => EdgeState::Idle,
        Handshake::Never => EdgeState::Never,
        Handshake::Stale if wanted => EdgeState::Stale,
        Handshake::Dead if wanted => EdgeState::Down,
        Handshake::Stale | Handshake::Dead => EdgeState::Idle,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(handshake: Handshake) -> Side {
        Side { half: Some((handshake, false)), keepalive: false, fresh: true, up: true, shared: Shared::No }
    }

    fn confirmed(a: Side, b: Side) -> EdgeState {
        verdict([a, b], Relation::Confirmed)
    }

    #[test]
    fn the_better_half_decides() {
        use Handshake::{Dead, Live, Never, Stale};
        let kept = |handshake| Side { keepalive: true, ..side(handshake) };
        let silent = |handshake| Side { fresh: false, ..side(handshake) };
        assert_eq!(confirmed(side(Live), side(Never)), EdgeState::Up);
        assert_eq!(confirmed(side(Stale), side(Stale)), EdgeState::Idle, "nobody keeps it alive");
        assert_eq!(confirmed(kept(Stale), side(Stale)), EdgeState::Stale);
        assert_eq!(confirmed(side(Dead), kept(Dead)), EdgeState::Down);
        assert_eq!(confirmed(side(Dead), side(Dead)), EdgeState::Idle);
        assert_eq!(confirmed(kept(Never), kept(Never)), EdgeState::Never);
        assert_eq!(confirmed(silent(Live), kept(Dead)), EdgeState::Down, "what the silent end said is old");
        assert_eq!(confirmed(silent(Live), silent(Live)), EdgeState::Unknown);
        let trying = Side { half: Some((Dead, true)), ..side(Dead) };
        assert_eq!(confirmed(trying, side(Dead)), EdgeState::Down);
        assert_eq!(confirmed(Side { up: false, ..side(Live) }, side(Live)), EdgeState::Down);
        let standby = Side { shared: Shared::OneHost, ..kept(Live) };
        assert_eq!(confirmed(standby, kept(Dead)), EdgeState::Idle, "the host's other device is in use");
        let shared = Side { shared: Shared::Hosts, ..kept(Live) };
        assert_eq!(confirmed(shared, kept(Dead)), EdgeState::Down, "the live half is with the other device");
    }

    #[test]
    fn a_missing_half_needs_a_far_end_that_reports() {
        let missing = Side { half: None, ..side(Handshake::Live) };
        let one_sided = |a, b| verdict([a, b], Relation::OneSided);
        assert_eq!(one_sided(side(Handshake::Never), missing), EdgeState::OneSided);
        assert_eq!(one_sided(side(Handshake::Never), Side { fresh: false, ..missing }), EdgeState::Unknown);
        assert_eq!(one_sided(Side { fresh: false, ..side(Handshake::Never) }, missing), EdgeState::Unknown);
        assert_eq!(verdict([side(Handshake::Live), Side::default()], Relation::External), EdgeState::Up);
    }

    #[test]
    fn handshake_ages_have_slack_for_keepalive_and_interval() {
        assert_eq!(handshake(210, 0, 30), Handshake::Live);
        assert_eq!(handshake(211, 0, 30), Handshake::Stale);
        assert_eq!(handshake(235, 25, 30), Handshake::Live);
        assert_eq!(handshake(570, 25, 30), Handshake::Stale);
        assert_eq!(handshake(571, 25, 30), Handshake::Dead);
        assert_eq!(handshake(NEVER, 25, 30), Handshake::Never);
    }
}
