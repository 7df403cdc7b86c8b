//! Metrics of links: what WireGuard's own exporters tell, under their names, and both halves of each link.

use std::collections::{HashMap, HashSet};

use proto::ids::AgentId;

use super::prometheus::{Family, Kind, Labels, Part};
use crate::atlas::Atlas;
use crate::fleet::Presence;
use crate::topology::{EdgeState, Handshake, Layer, Link, LinkHalf, PeerId};
use crate::view::agent::{AgentList, AgentView};

/// What `prometheus_wireguard_exporter` calls these, with its labels and the agent beside them.
const WIREGUARD: [&str; 3] =
    ["wireguard_sent_bytes_total", "wireguard_received_bytes_total", "wireguard_latest_handshake_seconds"];

/// Everything that the map knows of its links, one after the other.
#[derive(Debug)]
pub struct Links<'a> {
    atlas: &'a Atlas,
    known: HashMap<AgentId, &'a AgentView>,
}

impl<'a> Links<'a> {
    /// The links of the map. `agents` has their names, and who is there.
    #[must_use]
    pub fn new(atlas: &'a Atlas, agents: &'a AgentList) -> Self {
        Self { atlas, known: agents.agents.iter().map(|agent| (agent.id, agent)).collect() }
    }

    /// The families of the map's edges, where they have room in so many bytes.
    #[must_use]
    pub fn edges(&self, room: usize) -> Part {
        self.each(|| Edges::new(room), Edges::add).part()
    }

    /// The families that WireGuard's exporters have too, where they have room in so many bytes.
    #[must_use]
    pub fn wireguard(&self, room: usize) -> Part {
        self.each(|| Tunnels::new(room), Tunnels::add).part
    }

    /// Adds each link to what `new` makes.
    fn each<T>(&self, new: impl Fn() -> T, add: impl Fn(&mut T, &Self, &Link<'_>)) -> T {
        self.atlas.in_turns(|turns| {
            let mut found = new();
            for step in turns.step()?.link_steps() {
                turns.step()?.links(step).for_each(|link| add(&mut found, self, &link));
            }
            Ok(found)
        })
    }

    fn name(&self, agent: Option<AgentId>) -> &str {
        agent.and_then(|id| self.known.get(&id)).map_or("", |agent| &agent.hostname)
    }

    /// The halves of a link that their agents tell of, each with the place of its end: what one that is offline
    /// told last is left out.
    fn halves<'l>(&self, link: &Link<'l>) -> impl Iterator<Item = (usize, LinkHalf<'l>)> {
        let agents = link.agents();
        let is_there = move |end: usize| {
            let agent = agents[end].and_then(|id| self.known.get(&id));
            agent.is_some_and(|agent| agent.presence != Presence::Offline)
        };
        let halves = link.halves().into_iter().enumerate();
        halves.filter_map(|(end, half)| Some((end, half?))).filter(move |(end, _)| is_there(*end))
    }
}

/// The families of edges while they are filled.
struct Edges {
    part: Part,
    counts: HashMap<(Layer, EdgeState), usize>,
}

impl Edges {
    const COUNTS: usize = 0;
    const UP: usize = 1;
    const HALF_UP: usize = 2;
    const LOSS: usize = 3;
    const RTT: usize = 4;

    fn new(room: usize) -> Self {
        let gauge = |name, help| Family::new(name, Kind::Gauge, help);
        let families = vec![
            gauge("kattila_edges", "Links of the map by layer and state."),
            gauge(
                "kattila_edge_up",
                "Whether a link of the map works, or is in order and unused; links that nobody can tell of now are \
                 left out.",
            ),
            gauge(
                "kattila_edge_half_up",
                "Whether one end of a WireGuard link has a live session with the other, or is in order and unused.",
            ),
            gauge("kattila_edge_loss_ratio", "Part of what one end sent that did not reach the other."),
            gauge(
                "kattila_edge_rtt_seconds",
                "Time of a TCP connect from one end to the agent at the other.",
            ),
        ];
        Self { part: Part::new(families, room), counts: HashMap::new() }
    }

    fn add(&mut self, links: &Links<'_>, link: &Link<'_>) {
        let state = link.state();
        *self.counts.entry((link.layer(), state)).or_default() += 1;
        let works = match state {
            EdgeState::Up | EdgeState::Idle => Some(1),
            EdgeState::Unknown => None,
            _ => Some(0),
        };
        // The text of a link's ends is made where it is written.
        let ends = self.part.fits().then(|| (link.nodes(), link.interfaces().map(Option::unwrap_or_default)));
        if let Some(works) = works {
            let labels = ends.as_ref().map(|(nodes, interfaces)| {
                let names = link.agents().map(|agent| links.name(agent));
                Labels::new(&[
                    ("kind", link.layer().name()),
                    ("a", &nodes[0]),
                    ("a_name", names[0]),
                    ("a_interface", interfaces[0]),
                    ("b", &nodes[1]),
                    ("b_name", names[1]),
                    ("b_interface", interfaces[1]),
                ])
            });
            self.part.add(Self::UP, labels.as_ref(), works);
        }
        for (end, half) in links.halves(link) {
            let way = ends.as_ref().map(|(nodes, interfaces)| {
                Labels::new(&[
                    ("from", &nodes[end]),
                    ("from_interface", interfaces[end]),
                    ("to", &nodes[1 - end]),
                    ("to_interface", interfaces[1 - end]),
                ])
            });
            let live = half.handshake() == Handshake::Live || state == EdgeState::Idle;
            self.part.add(Self::HALF_UP, way.as_ref(), u8::from(live));
            if let Some(loss) = half.loss() {
                self.part.add(Self::LOSS, way.as_ref(), loss.percent / 100.0);
            }
            if let Some(rtt) = half.rtt_us() {
                self.part.add(Self::RTT, way.as_ref(), f64::from(rtt) / 1e6);
            }
        }
    }

    /// The families, with the counts of all links.
    fn part(mut self) -> Part {
        let mut counts: Vec<_> = self.counts.into_iter().collect();
        counts.sort_unstable_by_key(|(key, _)| *key);
        for ((layer, state), count) in counts {
            let labels = Labels::new(&[("kind", layer.name()), ("state", state.name())]);
            self.part.add(Self::COUNTS, Some(&labels), count);
        }
        self.part
    }
}

/// The families of tunnels while they are filled.
struct Tunnels {
    part: Part,
    /// Halves that are told already: where two hosts have one key, a peer is an end of two links.
    told: HashSet<PeerId>,
}

impl Tunnels {
    const SENT: usize = 0;
    const RECEIVED: usize = 1;
    const HANDSHAKE: usize = 2;

    fn new(room: usize) -> Self {
        let [sent, received, handshake] = WIREGUARD;
        let families = vec![
            Family::new(sent, Kind::Counter, "Bytes sent to the peer."),
            Family::new(received, Kind::Counter, "Bytes received from the peer."),
            Family::new(
                handshake,
                Kind::Gauge,
                "UNIX time of the last handshake, within a second or two; 0 when there was none.",
            ),
        ];
        Self { part: Part::new(families, room), told: HashSet::new() }
    }

    fn add(&mut self, links: &Links<'_>, link: &Link<'_>) {
        for (end, half) in links.halves(link) {
            if half.is_shared() && !self.told.insert(half.id()) {
                continue;
            }
            let labels = self.part.fits().then(|| {
                let allowed: Vec<String> = half.allowed_ips().map(|ip| ip.to_string()).collect();
                let agents = link.agents();
                Labels::new(&[
                    ("agent", &agents[end].map(|id| id.to_string()).unwrap_or_default()),
                    ("interface", link.interfaces()[end].unwrap_or_default()),
                    ("public_key", &half.peer().to_string()),
                    ("allowed_ips", &allowed.join(",")),
                    ("friendly_name", links.name(agents[1 - end])),
                ])
            });
            let (received, sent) = half.bytes();
            self.part.add(Self::SENT, labels.as_ref(), sent);
            self.part.add(Self::RECEIVED, labels.as_ref(), received);
            self.part.add(Self::HANDSHAKE, labels.as_ref(), half.handshake_at().unwrap_or(0));
        }
    }
}
