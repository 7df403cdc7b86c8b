//! Metrics of links: what WireGuard's own exporters tell, under their names, and both halves of each link.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

use proto::ids::AgentId;

use super::prometheus::{Family, Kind, Labels, Part};
use crate::atlas::Atlas;
use crate::fleet::Presence;
use crate::topology::{EdgeState, FoldMap, Handshake, Layer, Link, LinkHalf, PeerId};
use crate::view::agent::AgentList;

/// What `prometheus_wireguard_exporter` calls these, with its labels and the agent beside them.
const WIREGUARD: [&str; 3] =
    ["wireguard_sent_bytes_total", "wireguard_received_bytes_total", "wireguard_latest_handshake_seconds"];

/// Everything that the map knows of its links, one after the other.
#[derive(Debug)]
pub struct Links<'a> {
    atlas: &'a Atlas,
    known: FoldMap<AgentId, Known<'a>>,
    /// How many halves [`Links::edges`] came by.
    halves: Cell<Option<usize>>,
}

/// What is told of an agent beside its links.
#[derive(Debug, Clone, Copy, Default)]
struct Known<'a> {
    hostname: &'a str,
    /// Whether what it told last is still told.
    is_there: bool,
}

/// A link, and its agents; nothing is known where there is none.
struct Found<'a, 'l> {
    link: Link<'l>,
    agents: [Known<'a>; 2],
}

impl<'a> Links<'a> {
    /// The links of the map. `agents` has their names, and who is there.
    #[must_use]
    pub fn new(atlas: &'a Atlas, agents: &'a AgentList) -> Self {
        let known = agents.agents.iter().map(|agent| {
            let is_there = agent.presence != Presence::Offline;
            (agent.id, Known { hostname: &agent.hostname, is_there })
        });
        Self { atlas, known: known.collect(), halves: Cell::new(None) }
    }

    /// The families of the map's edges, where they have room in so many bytes.
    #[must_use]
    pub fn edges(&self, room: usize) -> Part {
        let edges = self.each(|| Edges::new(room), Edges::add);
        self.halves.set(Some(edges.told.count));
        edges.part()
    }

    /// The families that WireGuard's exporters have too, where they have room in so many bytes.
    #[must_use]
    pub fn wireguard(&self, room: usize) -> Part {
        match self.halves.get() {
            // Going over all links once more would tell no more than that.
            Some(halves) if halves.saturating_mul(Tunnels::LEAST) > room => Tunnels::left_out(halves),
            _ => self.each(|| Tunnels::new(room), Tunnels::add).part,
        }
    }

    /// Adds each link to what `new` makes.
    fn each<T>(&self, new: impl Fn() -> T, add: impl Fn(&mut T, &Found<'_, '_>)) -> T {
        self.atlas.in_turns(|turns| {
            let mut found = new();
            for step in turns.step()?.link_steps() {
                turns.step()?.links(step).for_each(|link| add(&mut found, &self.found(link)));
            }
            Ok(found)
        })
    }

    fn found<'l>(&self, link: Link<'l>) -> Found<'a, 'l> {
        let known = |agent: Option<AgentId>| self.known.get(&agent?).copied();
        Found { link, agents: link.agents().map(|agent| known(agent).unwrap_or_default()) }
    }
}

impl<'l> Found<'_, 'l> {
    /// The halves of a link that their agents tell of, each with the place of its end: what one that is offline
    /// told last is left out.
    fn halves(&self) -> impl Iterator<Item = (usize, LinkHalf<'l>)> {
        let halves = self.link.halves().into_iter().enumerate();
        halves.filter_map(|(end, half)| Some((end, half?))).filter(|(end, _)| self.agents[*end].is_there)
    }
}

/// The families of edges while they are filled.
struct Edges {
    part: Part,
    counts: HashMap<(Layer, EdgeState), usize>,
    /// Room for the text of one link.
    nodes: [String; 2],
    labels: Labels,
    told: Told,
}

/// Halves that are told already: where two hosts have one key, a peer is an end of two links.
#[derive(Debug, Default)]
struct Told {
    count: usize,
    shared: HashSet<PeerId>,
}

impl Told {
    /// Whether a half was not told before; from now on it is.
    fn is_new(&mut self, half: &LinkHalf<'_>) -> bool {
        let is_new = !half.is_shared() || self.shared.insert(half.id());
        self.count += usize::from(is_new);
        is_new
    }
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
        Self {
            part: Part::new(families, room),
            counts: HashMap::new(),
            nodes: Default::default(),
            labels: Labels::default(),
            told: Told::default(),
        }
    }

    fn add(&mut self, found: &Found<'_, '_>) {
        let Found { link, agents } = found;
        let state = link.state();
        *self.counts.entry((link.layer(), state)).or_default() += 1;
        let works = match state {
            EdgeState::Up | EdgeState::Idle => Some(1),
            EdgeState::Unknown => None,
            _ => Some(0),
        };
        // The text of a link's ends is made where it is written.
        let fits = self.part.fits();
        let interfaces = link.interfaces().map(Option::unwrap_or_default);
        if fits {
            link.write_nodes(&mut self.nodes);
        }
        let (nodes, labels) = (&self.nodes, &mut self.labels);
        if let Some(works) = works {
            if fits {
                labels.clear();
                labels.push("kind", link.layer().name());
                labels.push("a", &nodes[0]);
                labels.push("a_name", agents[0].hostname);
                labels.push("a_interface", interfaces[0]);
                labels.push("b", &nodes[1]);
                labels.push("b_name", agents[1].hostname);
                labels.push("b_interface", interfaces[1]);
            }
            self.part.add(Self::UP, fits.then_some(&*labels), works);
        }
        for (end, half) in found.halves() {
            self.told.is_new(&half);
            if fits {
                labels.clear();
                labels.push("from", &nodes[end]);
                labels.push("from_interface", interfaces[end]);
                labels.push("to", &nodes[1 - end]);
                labels.push("to_interface", interfaces[1 - end]);
            }
            let way = fits.then_some(&*labels);
            let live = half.handshake() == Handshake::Live || state == EdgeState::Idle;
            self.part.add(Self::HALF_UP, way, u8::from(live));
            if let Some(loss) = half.loss() {
                self.part.add(Self::LOSS, way, loss.percent / 100.0);
            }
            if let Some(rtt) = half.rtt_us() {
                self.part.add(Self::RTT, way, f64::from(rtt) / 1e6);
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
    told: Told,
    /// Room for the text of one half.
    allowed: String,
    labels: Labels,
}

impl Tunnels {
    const SENT: usize = 0;
    const RECEIVED: usize = 1;
    const HANDSHAKE: usize = 2;
    /// Bytes of a half's three samples at least: their names, and with each an agent's id, a key and a digit.
    const LEAST: usize = {
        let [sent, received, handshake] = WIREGUARD;
        let sample = "{agent=\"\",public_key=\"\"} 0\n".len() + 32 + 44;
        sent.len() + received.len() + handshake.len() + 3 * sample
    };

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
        let part = Part::new(families, room);
        Self { part, told: Told::default(), allowed: String::new(), labels: Labels::default() }
    }

    /// What so many halves come to that have no room.
    fn left_out(halves: usize) -> Part {
        Part::left_out(halves * WIREGUARD.len())
    }

    fn add(&mut self, found: &Found<'_, '_>) {
        for (end, half) in found.halves() {
            if !self.told.is_new(&half) {
                continue;
            }
            let fits = self.part.fits();
            if fits {
                self.allowed.clear();
                for ip in half.allowed_ips() {
                    let comma = if self.allowed.is_empty() { "" } else { "," };
                    let _ = write!(self.allowed, "{comma}{ip}");
                }
                self.labels.clear();
                if let Some(agent) = found.link.agents()[end] {
                    self.labels.push_plain("agent", agent);
                }
                self.labels.push("interface", found.link.interfaces()[end].unwrap_or_default());
                self.labels.push_plain("public_key", half.peer());
                self.labels.push("allowed_ips", &self.allowed);
                self.labels.push("friendly_name", found.agents[1 - end].hostname);
            }
            let labels = fits.then_some(&self.labels);
            let (received, sent) = half.bytes();
            self.part.add(Self::SENT, labels, sent);
            self.part.add(Self::RECEIVED, labels, received);
            self.part.add(Self::HANDSHAKE, labels, half.handshake_at().unwrap_or(0));
        }
    }
}
