//! Metrics of links: what WireGuard's own exporters tell, under their names, and both halves of each link.

use std::collections::{HashMap, HashSet};

use super::prometheus::{Family, Kind, Labels};
use crate::fleet::Presence;
use crate::topology::{Edge, EdgeState, Handshake, Layer, State};
use crate::view::agent::{AgentList, AgentView};

/// What `prometheus_wireguard_exporter` calls these, with its labels and the agent beside them.
const SENT: &str = "wireguard_sent_bytes_total";
const RECEIVED: &str = "wireguard_received_bytes_total";
const HANDSHAKE: &str = "wireguard_latest_handshake_seconds";

/// The families of links while they are filled.
#[derive(Debug)]
pub struct Links {
    up: Family,
    half_up: Family,
    loss: Family,
    rtt: Family,
    sent: Family,
    received: Family,
    handshake: Family,
    counts: HashMap<(Layer, EdgeState), usize>,
    /// Halves that are told already: where two hosts have one key, a peer is an end of two links.
    told: HashSet<(String, String, String)>,
}

impl Links {
    /// Everything that the map knows of its links. `agents` has their names, and who is there.
    #[must_use]
    pub fn of(state: &State, agents: &AgentList) -> Self {
        let gauge = |name, help| Family::new(name, Kind::Gauge, help);
        let mut links = Self {
            up: gauge(
                "kattila_edge_up",
                "Whether a link of the map works, or is in order and unused; links that nobody can tell of now are \
                 left out.",
            ),
            half_up: gauge(
                "kattila_edge_half_up",
                "Whether one end of a WireGuard link has a live session with the other, or is in order and unused.",
            ),
            loss: gauge("kattila_edge_loss_ratio", "Part of what one end sent that did not reach the other."),
            rtt: gauge(
                "kattila_edge_rtt_seconds",
                "Time of a TCP connect from one end to the agent at the other.",
            ),
            sent: Family::new(SENT, Kind::Counter, "Bytes sent to the peer."),
            received: Family::new(RECEIVED, Kind::Counter, "Bytes received from the peer."),
            handshake: gauge(
                HANDSHAKE,
                "UNIX time of the last handshake, within a second or two; 0 when there was none.",
            ),
            counts: HashMap::new(),
            told: HashSet::new(),
        };
        let known: HashMap<String, &AgentView> =
            agents.agents.iter().map(|agent| (agent.id.to_string(), agent)).collect();
        state.each_edge(|edge| links.add(&edge, &known));
        links
    }

    /// The families, filled: of the map's edges, and those that WireGuard's exporters have too.
    #[must_use]
    pub fn families(self) -> (Vec<Family>, Vec<Family>) {
        let help = "Links of the map by layer and state.";
        let mut counts = Family::new("kattila_edges", Kind::Gauge, help);
        let mut all: Vec<_> = self.counts.into_iter().collect();
        all.sort_unstable_by_key(|(key, _)| *key);
        for ((layer, state), count) in all {
            counts.add(&[("kind", layer.name()), ("state", state.name())], count);
        }
        let edges = vec![counts, self.up, self.half_up, self.loss, self.rtt];
        (edges, vec![self.sent, self.received, self.handshake])
    }

    fn add(&mut self, edge: &Edge, known: &HashMap<String, &AgentView>) {
        let shape = &edge.shape;
        *self.counts.entry((shape.layer, shape.state)).or_default() += 1;
        let nodes = [&shape.ends[0].node, &shape.ends[1].node];
        let interfaces = [0, 1].map(|end| shape.ends[end].interface.as_deref().unwrap_or_default());
        let names = nodes.map(|id| known.get(id).map_or("", |agent| agent.hostname.as_str()));
        let works = match shape.state {
            EdgeState::Up | EdgeState::Idle => Some(1),
            EdgeState::Unknown => None,
            _ => Some(0),
        };
        if let Some(works) = works {
            let labels = [
                ("kind", shape.layer.name()),
                ("a", nodes[0]),
                ("a_name", names[0]),
                ("a_interface", interfaces[0]),
                ("b", nodes[1]),
                ("b_name", names[1]),
                ("b_interface", interfaces[1]),
            ];
            self.up.add(&labels, works);
        }
        for (end, half) in edge.halves.iter().flatten().enumerate() {
            let there = known.get(nodes[end]).is_some_and(|agent| agent.presence != Presence::Offline);
            let Some(half) = half.as_ref().filter(|_| there) else { continue };
            let way = Labels::new(&[
                ("from", nodes[end]),
                ("from_interface", interfaces[end]),
                ("to", nodes[1 - end]),
                ("to_interface", interfaces[1 - end]),
            ]);
            let live = half.shape.handshake == Handshake::Live || shape.state == EdgeState::Idle;
            self.half_up.add_at(&way, u8::from(live));
            if let Some(loss) = &half.loss {
                self.loss.add_at(&way, loss.percent / 100.0);
            }
            if let Some(rtt) = half.rtt_us {
                self.rtt.add_at(&way, f64::from(rtt) / 1e6);
            }
            let key = half.shape.peer.to_string();
            if !self.told.insert((nodes[end].clone(), interfaces[end].to_owned(), key.clone())) {
                continue;
            }
            let allowed: Vec<String> = half.shape.allowed_ips.iter().map(ToString::to_string).collect();
            let allowed = allowed.join(",");
            let labels = Labels::new(&[
                ("agent", nodes[end]),
                ("interface", interfaces[end]),
                ("public_key", &key),
                ("allowed_ips", &allowed),
                ("friendly_name", names[1 - end]),
            ]);
            self.sent.add_at(&labels, half.tx_bytes);
            self.received.add_at(&labels, half.rx_bytes);
            let at = half.handshake_age_s.map_or(0, |age| (half.observed_at / 1000 - i64::from(age)).max(0));
            self.handshake.add_at(&labels, at);
        }
    }
}
