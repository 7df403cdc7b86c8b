//! Which way next: to the manager itself, or through which neighbour. Pure: `now` comes in.
//!
//! Every agent tells at /status/peer how many relays lie between it and the manager, and who is the
//! first of them. A neighbour is asked for that before anything is sent through it, so a message goes
//! only where the manager gets nearer; a path holds at most [`limits::HOPS_MAX`] relays, and no one
//! sends through a neighbour whose own way leads back here.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proto::ids::AgentId;
use proto::limits;

use crate::backoff::Backoff;
use crate::jitter;
use crate::way::{Heard, Relay, Way};

/// Neighbours remembered: those with the latest handshakes.
pub const NEIGHBOURS_MAX: usize = 32;
/// Neighbours asked in one search.
const ASKED_MAX: usize = 8;
/// Relays tried for one message in one go.
const RELAYS_MAX: u32 = 2;
/// No other way is begun for a message after this long: the turn has other things to do.
const PATIENCE: Duration = Duration::from_secs(15);
/// What a neighbour said is believed for this long.
const FRESH: Duration = Duration::from_secs(120);
/// An agent that found no way refuses what others send through it for this long, unasked.
const NO_WAY: Duration = Duration::from_secs(5);
/// Bounds of the longest wait before a neighbour is asked or used again: two intervals within these.
const NEIGHBOUR_WAIT: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));
/// The same for the direct way: one interval, so that a manager that returned is used in the second.
const DIRECT_WAIT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What to do next for a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Send it this way. A quick try takes little of the turn when the way is probably still down.
    Try(Way, Patience),
    /// Ask these neighbours first.
    Ask(Vec<SocketAddr>),
    /// There is no way now.
    GiveUp,
}

/// How long a try may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// As long as it needs.
    Full,
    /// Little: it failed lately, and there is another way.
    Quick,
}

/// Where a message of another agent goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Onward {
    /// These ways, in this order.
    Ways(Vec<Way>),
    /// There is a way, but with it the path would hold too many relays.
    TooFar,
    /// None that is worth a try.
    NoWay,
}

/// What was tried for one message. A new one for each.
#[derive(Debug, Clone)]
pub struct Tried {
    since: Instant,
    /// Only a way that is known to work, as for a first contact.
    known_only: bool,
    direct: bool,
    searched: bool,
    relays: Vec<SocketAddr>,
}

impl Tried {
    /// Nothing yet.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { since: now, known_only: false, direct: false, searched: false, relays: Vec::new() }
    }

    /// Nothing yet, for a message that may wait: one try, and no search.
    #[must_use]
    pub fn known_only(now: Instant) -> Self {
        Self { known_only: true, ..Self::new(now) }
    }
}

/// What is known of all ways.
#[derive(Debug)]
pub struct Route {
    direct: Backoff,
    neighbours: Vec<Neighbour>,
    /// The way that worked last, while it has not failed since.
    current: Option<Way>,
    no_way_until: Option<Instant>,
    direct_wait: Duration,
    neighbour_wait: Duration,
}

#[derive(Debug)]
struct Neighbour {
    address: SocketAddr,
    heard: Option<(Heard, Instant)>,
    backoff: Backoff,
}

impl Route {
    /// Nothing known; the manager is tried first. `interval` is the time between two reports.
    #[must_use]
    pub fn new(interval: Duration) -> Self {
        let clamp = |wait: Duration, (least, most): (Duration, Duration)| wait.clamp(least, most);
        Self {
            direct: Backoff::default(),
            neighbours: Vec::new(),
            current: None,
            no_way_until: None,
            direct_wait: clamp(interval, DIRECT_WAIT),
            neighbour_wait: clamp(interval * 2, NEIGHBOUR_WAIT),
        }
    }

    /// Replaces the neighbours by these, the most promising first. What is known of one stays.
    pub fn set_neighbours(&mut self, addresses: &[SocketAddr]) {
        let mut before = std::mem::take(&mut self.neighbours);
        let keep = |&address: &SocketAddr| {
            let known = before.iter().position(|known| known.address == address);
            let new = || Neighbour { address, heard: None, backoff: Backoff::default() };
            known.map_or_else(new, |known| before.swap_remove(known))
        };
        self.neighbours = addresses.iter().take(NEIGHBOURS_MAX).map(keep).collect();
        if let Some(Way::Relay(relay)) = self.current
            && self.neighbour(relay.address).is_none()
        {
            self.current = None;
        }
    }

    /// What to do next for a message of agent `own`.
    #[must_use]
    pub fn next(&self, own: AgentId, tried: &mut Tried, now: Instant) -> Step {
        let begun = tried.direct || !tried.relays.is_empty();
        if begun && (tried.known_only || now.saturating_duration_since(tried.since) >= PATIENCE) {
            return Step::GiveUp;
        }
        let relay = self.best(own, now, |neighbour, _| !tried.relays.contains(&neighbour.address));
        if !tried.direct && (self.direct.is_fine() || self.direct.is_due(now)) {
            tried.direct = true;
            let hopeful = self.direct.is_fine() || relay.is_none();
            return Step::Try(Way::Direct, if hopeful { Patience::Full } else { Patience::Quick });
        }
        let relays = u32::try_from(tried.relays.len()).unwrap_or(u32::MAX);
        if let Some(relay) = relay.filter(|_| relays < RELAYS_MAX) {
            tried.relays.push(relay.address);
            return Step::Try(Way::Relay(relay), Patience::Full);
        }
        if !tried.searched && !tried.known_only {
            tried.searched = true;
            let asked = self.to_ask(now);
            if !asked.is_empty() {
                return Step::Ask(asked);
            }
        }
        if !tried.direct && !begun && !tried.known_only {
            tried.direct = true;
            return Step::Try(Way::Direct, Patience::Full);
        }
        Step::GiveUp
    }

    /// Where a message goes on that came over `hops` relays and must not come to any of `passed`
    /// again: its sender and those relays, this agent among them or not.
    #[must_use]
    pub fn onward(&self, own: AgentId, passed: &[AgentId], hops: usize, now: Instant) -> Onward {
        if self.no_way_until.is_some_and(|until| now < until) {
            return Onward::NoWay;
        }
        let mut ways = Vec::new();
        if self.direct.is_fine() || self.direct.is_due(now) {
            ways.push(Way::Direct);
        }
        let relay = self.best(own, now, |_, heard| !passed.contains(&heard.agent));
        // Its relays so far, this agent, that neighbour, and those behind it.
        let fits = |relay: &Relay| relays(hops + 2, relay) <= limits::HOPS_MAX;
        match relay {
            Some(relay) if fits(&relay) => ways.push(Way::Relay(relay)),
            Some(_) if ways.is_empty() => return Onward::TooFar,
            _ => {}
        }
        // While a relay works the loop tries the direct way, and messages of others do not wait for it.
        if !self.direct.is_fine() && ways.len() == 2 {
            ways.remove(0);
        }
        if ways.is_empty() { Onward::NoWay } else { Onward::Ways(ways) }
    }

    /// A neighbour that was asked for its way has answered, or not. One that is of no use is left
    /// alone for a while.
    pub fn heard(&mut self, own: AgentId, address: SocketAddr, heard: Option<Heard>, now: Instant) {
        let wait = self.neighbour_wait;
        let Some(neighbour) = self.neighbours.iter_mut().find(|known| known.address == address) else {
            return;
        };
        if !heard.is_some_and(|heard| is_useful(&heard, own)) {
            neighbour.backoff.failed(now, wait, jitter::random());
        }
        self.learned(own, address, heard, now);
    }

    /// What a neighbour says of its way, asked or not.
    pub fn learned(&mut self, own: AgentId, address: SocketAddr, heard: Option<Heard>, now: Instant) {
        let Some(neighbour) = self.neighbours.iter_mut().find(|known| known.address == address) else {
            return;
        };
        neighbour.heard = heard.map(|heard| (heard, now));
        let useful = heard.filter(|heard| is_useful(heard, own));
        if let Some(Way::Relay(relay)) = &mut self.current
            && relay.address == address
        {
            match useful.and_then(|heard| Some((heard.agent, heard.distance?))) {
                Some((agent, distance)) => (relay.agent, relay.distance) = (agent, distance),
                None => self.current = None,
            }
        }
    }

    /// The manager has answered over this way.
    pub fn worked(&mut self, way: &Way) {
        match way {
            Way::Direct => self.direct.succeeded(),
            Way::Relay(relay) => {
                let used = self.neighbours.iter_mut().find(|known| known.address == relay.address);
                used.into_iter().for_each(|known| known.backoff.succeeded());
            }
        }
        // A message of another agent that went through a relay does not make us forget a direct way.
        let worse = matches!((way, self.current), (Way::Relay(_), Some(Way::Direct)));
        if !(worse && self.direct.is_fine()) {
            self.current = Some(*way);
        }
        self.no_way_until = None;
    }

    /// The manager has not answered over this way.
    pub fn failed(&mut self, way: &Way, now: Instant) {
        let random = jitter::random();
        match way {
            Way::Direct => {
                self.direct.failed(now, self.direct_wait, random);
                self.current = self.current.filter(|current| *current != Way::Direct);
            }
            Way::Relay(relay) => {
                let wait = self.neighbour_wait;
                let used = self.neighbours.iter_mut().find(|known| known.address == relay.address);
                used.into_iter().for_each(|known| known.backoff.failed(now, wait, random));
                let is_it =
                    |current: &Way| matches!(current, Way::Relay(used) if used.address == relay.address);
                self.current = self.current.filter(|current| !is_it(current));
            }
        }
    }

    /// All ways have failed: others need not ask for a moment.
    pub fn gave_up(&mut self, now: Instant) {
        self.current = None;
        self.no_way_until = Some(now + NO_WAY);
    }

    /// The way that worked last, while it has not failed since.
    #[must_use]
    pub fn current(&self) -> Option<Way> {
        self.current
    }

    /// Relays between this agent and the manager, and the first of them, while a way works.
    #[must_use]
    pub fn reach(&self) -> (Option<u32>, Option<AgentId>) {
        match self.current {
            None => (None, None),
            Some(Way::Direct) => (Some(0), None),
            Some(Way::Relay(relay)) => (Some(relay.distance.saturating_add(1)), Some(relay.agent)),
        }
    }

    /// Whether there is anyone to ask.
    #[must_use]
    pub fn has_neighbours(&self) -> bool {
        !self.neighbours.is_empty()
    }

    /// The nearest neighbour that may be used: the one in use when several are.
    fn best(&self, own: AgentId, now: Instant, may: impl Fn(&Neighbour, &Heard) -> bool) -> Option<Relay> {
        let in_use = |address| matches!(self.current, Some(Way::Relay(relay)) if relay.address == address);
        let usable = |neighbour: &Neighbour| {
            let (heard, at) = neighbour.heard?;
            let fresh = now.saturating_duration_since(at) < FRESH || in_use(neighbour.address);
            let usable =
                fresh && neighbour.backoff.is_due(now) && is_useful(&heard, own) && may(neighbour, &heard);
            let Heard { agent, distance, .. } = heard;
            distance.filter(|_| usable).map(|distance| Relay { address: neighbour.address, agent, distance })
        };
        let usable = self.neighbours.iter().filter_map(usable);
        usable.min_by_key(|relay| (relay.distance, !in_use(relay.address)))
    }

    /// Whom a search asks: no one again who was heard a moment ago or is in its back-off.
    fn to_ask(&self, now: Instant) -> Vec<SocketAddr> {
        let due = |neighbour: &&Neighbour| {
            let just_heard = neighbour
                .heard
                .is_some_and(|(_, at)| now.saturating_duration_since(at) < Duration::from_secs(1));
            neighbour.backoff.is_due(now) && !just_heard
        };
        self.neighbours.iter().filter(due).take(ASKED_MAX).map(|neighbour| neighbour.address).collect()
    }

    fn neighbour(&self, address: SocketAddr) -> Option<&Neighbour> {
        self.neighbours.iter().find(|known| known.address == address)
    }
}

/// Whether sending through a neighbour brings a message nearer to the manager.
fn is_useful(heard: &Heard, own: AgentId) -> bool {
    heard.distance.is_some() && heard.agent != own && heard.via != Some(own)
}

/// Relays in the end when there are `before` with this one included.
fn relays(before: usize, relay: &Relay) -> usize {
    before.saturating_add(usize::try_from(relay.distance).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: AgentId = AgentId([1; 16]);
    const INTERVAL: Duration = Duration::from_secs(30);

    fn agent(number: u8) -> AgentId {
        AgentId([number; 16])
    }

    fn address(number: u8) -> SocketAddr {
        SocketAddr::from(([10, 9, 0, number], limits::AGENT_PORT))
    }

    fn relay(number: u8, distance: u32) -> Way {
        Way::Relay(Relay { address: address(number), agent: agent(number), distance })
    }

    /// A route whose neighbours say these distances and next hops.
    fn route(neighbours: &[(u8, Option<u32>, Option<u8>)], now: Instant) -> Route {
        let mut route = Route::new(INTERVAL);
        let addresses: Vec<_> = neighbours.iter().map(|&(number, ..)| address(number)).collect();
        route.set_neighbours(&addresses);
        for &(number, distance, via) in neighbours {
            let heard = Heard { agent: agent(number), distance, via: via.map(agent) };
            route.heard(OWN, address(number), Some(heard), now);
        }
        route
    }

    fn steps(route: &Route, now: Instant) -> Vec<Step> {
        let mut tried = Tried::new(now);
        let mut steps = Vec::new();
        loop {
            match route.next(OWN, &mut tried, now) {
                Step::GiveUp => return steps,
                step => steps.push(step),
            }
            assert!(steps.len() < 10, "{steps:?}");
        }
    }

    fn tried(way: Way) -> Step {
        Step::Try(way, Patience::Full)
    }

    #[test]
    fn the_manager_comes_first_then_who_is_known_then_a_search() {
        let now = Instant::now();
        let mut route = Route::new(INTERVAL);
        assert_eq!(steps(&route, now), [tried(Way::Direct)], "no one to ask");
        route.set_neighbours(&[address(2), address(3)]);
        assert_eq!(steps(&route, now), [tried(Way::Direct), Step::Ask(vec![address(2), address(3)])]);
    }

    #[test]
    fn the_nearest_neighbour_is_used_and_the_one_in_use_on_a_tie() {
        let now = Instant::now();
        let later = now + Duration::from_millis(100);
        let mut route =
            route(&[(2, Some(2), None), (3, Some(0), None), (4, Some(0), None), (5, None, None)], now);
        route.failed(&Way::Direct, now);
        assert_eq!(steps(&route, later)[..2], [tried(relay(3, 0)), tried(relay(4, 0))]);
        route.worked(&relay(4, 0));
        assert_eq!(steps(&route, later)[0], tried(relay(4, 0)));
        assert_eq!(route.reach(), (Some(1), Some(agent(4))));
        // It got farther away.
        let heard = Heard { agent: agent(4), distance: Some(2), via: Some(agent(9)) };
        route.heard(OWN, address(4), Some(heard), later);
        assert_eq!(route.reach(), (Some(3), Some(agent(4))));
        assert_eq!(steps(&route, later)[0], tried(relay(3, 0)));
    }

    #[test]
    fn no_one_is_used_who_cannot_reach_the_manager_or_only_through_us() {
        let now = Instant::now();
        let mut route = route(&[(2, None, None), (3, Some(1), Some(1)), (1, Some(0), None)], now);
        route.failed(&Way::Direct, now);
        // Not even asked again at once, and the manager itself is tried when nothing else can be.
        assert_eq!(steps(&route, now), [tried(Way::Direct)]);
    }

    #[test]
    fn while_a_relay_works_the_manager_is_tried_quickly_and_within_an_interval() {
        let now = Instant::now();
        let mut route = route(&[(2, Some(0), None)], now);
        for _ in 0..20 {
            route.failed(&Way::Direct, now);
        }
        route.worked(&relay(2, 0));
        let soon = now + INTERVAL / 2;
        assert_eq!(steps(&route, soon)[0], tried(relay(2, 0)), "most messages do not wait for it");
        let later = now + INTERVAL.mul_f64(1.1);
        assert_eq!(steps(&route, later)[0], Step::Try(Way::Direct, Patience::Quick));
        route.worked(&Way::Direct);
        assert_eq!((steps(&route, later)[0].clone(), route.reach()), (tried(Way::Direct), (Some(0), None)));
    }

    #[test]
    fn a_relay_that_fails_is_left_alone_ever_longer() {
        let now = Instant::now();
        let mut route = route(&[(2, Some(0), None)], now);
        route.failed(&Way::Direct, now);
        route.worked(&relay(2, 0));
        route.failed(&relay(2, 0), now);
        assert_eq!(route.reach(), (None, None));
        assert_eq!(steps(&route, now), [tried(Way::Direct)]);
        assert!(steps(&route, now + Duration::from_secs(2)).contains(&tried(relay(2, 0))));
        for _ in 0..20 {
            route.failed(&relay(2, 0), now);
        }
        let used = |after: u64| steps(&route, now + Duration::from_secs(after)).contains(&tried(relay(2, 0)));
        assert!(!used(50) && used(70));
    }

    #[test]
    fn what_was_heard_long_ago_is_asked_again() {
        let now = Instant::now();
        let mut route = route(&[(2, Some(0), None)], now);
        route.failed(&Way::Direct, now);
        let later = now + FRESH;
        assert_eq!(steps(&route, later)[1], Step::Ask(vec![address(2)]));
        route.worked(&relay(2, 0));
        assert!(steps(&route, later).contains(&tried(relay(2, 0))), "its use shows that it is true");
    }

    #[test]
    fn a_message_is_not_sent_round_for_ever() {
        let now = Instant::now();
        let many: Vec<_> = (2..=200).map(|number| (number, Some(0), None)).collect();
        let mut route = route(&many, now);
        route.failed(&Way::Direct, now);
        assert_eq!(route.neighbours.len(), NEIGHBOURS_MAX);
        let tries = steps(&route, now).iter().filter(|step| matches!(step, Step::Try(..))).count();
        assert_eq!(tries, 2);
        let mut tried = Tried::new(now);
        assert!(matches!(route.next(OWN, &mut tried, now), Step::Try(Way::Relay(_), _)));
        assert_eq!(route.next(OWN, &mut tried, now + PATIENCE), Step::GiveUp);
    }

    #[test]
    fn a_first_contact_gets_one_try() {
        let now = Instant::now();
        let mut route = Route::new(INTERVAL);
        route.set_neighbours(&[address(2)]);
        let mut first = Tried::known_only(now);
        assert_eq!(route.next(OWN, &mut first, now), tried(Way::Direct));
        assert_eq!(route.next(OWN, &mut first, now), Step::GiveUp);
        route.failed(&Way::Direct, now);
        assert_eq!(route.next(OWN, &mut Tried::known_only(now), now), Step::GiveUp);
    }

    #[test]
    fn messages_of_others_go_where_the_path_has_room_and_never_back() {
        let now = Instant::now();
        let mut route = route(&[(2, Some(0), None), (3, Some(1), None)], now);
        let onward = |route: &Route, passed: &[u8]| {
            let passed: Vec<_> = passed.iter().map(|&number| agent(number)).collect();
            route.onward(OWN, &passed, passed.len() - 1, now)
        };
        assert_eq!(onward(&route, &[9]), Onward::Ways(vec![Way::Direct, relay(2, 0)]));
        route.failed(&Way::Direct, now);
        assert_eq!(onward(&route, &[9]), Onward::Ways(vec![relay(2, 0)]));
        assert_eq!(onward(&route, &[2]), Onward::Ways(vec![relay(3, 1)]), "the sender is not asked");
        assert_eq!(onward(&route, &[9, 8]), Onward::Ways(vec![relay(2, 0)]));
        assert_eq!(onward(&route, &[9, 2]), Onward::TooFar, "a fourth relay");
        assert_eq!(onward(&route, &[9, 8, 7]), Onward::TooFar);
        assert_eq!(onward(&route, &[2, 3]), Onward::NoWay);
    }

    #[test]
    fn the_last_relay_of_a_full_path_still_reaches_the_manager_itself() {
        let now = Instant::now();
        let route = route(&[(2, Some(0), None)], now);
        let passed = [agent(9), agent(8), agent(7)];
        assert_eq!(route.onward(OWN, &passed, 2, now), Onward::Ways(vec![Way::Direct]));
    }

    #[test]
    fn who_found_no_way_says_so_for_a_moment_unasked() {
        let now = Instant::now();
        let mut route = route(&[(2, Some(0), None)], now);
        route.gave_up(now);
        let onward = |after| route.onward(OWN, &[agent(9)], 0, now + after);
        assert_eq!(onward(Duration::from_secs(4)), Onward::NoWay);
        assert!(matches!(onward(NO_WAY), Onward::Ways(_)));
        route.gave_up(now);
        route.worked(&relay(2, 0));
        assert!(matches!(route.onward(OWN, &[agent(9)], 0, now), Onward::Ways(_)));
    }

    #[test]
    fn a_neighbour_that_is_gone_is_no_way() {
        let now = Instant::now();
        let mut route = route(&[(2, Some(0), None)], now);
        route.worked(&relay(2, 0));
        route.set_neighbours(&[address(3)]);
        assert_eq!((route.current(), route.has_neighbours()), (None, true));
    }
}
