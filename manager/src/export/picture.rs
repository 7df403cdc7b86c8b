//! The map as files show it, now or at a past moment, and which part of it is asked for.

use std::collections::{BTreeMap, HashSet};

use crate::query::{BadParameter, Query, TIME, time};
use crate::topology::{EdgeShape, EdgeState, HalfShape, Layer, NodeKind, NodeShape, Topology};
use crate::view::map::Structure;

/// The map at a moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    /// The moment (ms).
    pub at: i64,
    /// Nodes by kind and id.
    pub nodes: Vec<NodeShape>,
    /// Links by id.
    pub links: Vec<Link>,
}

/// An edge of the map.
#[derive(Debug, Clone, PartialEq)]
pub struct Link {
    /// What it is.
    pub shape: EdgeShape,
    /// What each end of a WireGuard edge has set for the other.
    pub halves: [Option<HalfShape>; 2],
    /// What each end of a WireGuard edge measured; `None` for past moments.
    pub figures: [Option<Figures>; 2],
}

/// What one end of a WireGuard edge measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    /// Seconds since the last handshake.
    pub handshake_age_s: Option<u32>,
    /// Bytes received from the other end.
    pub rx_bytes: u64,
    /// Bytes sent to the other end.
    pub tx_bytes: u64,
    /// Round-trip time in microseconds.
    pub rtt_us: Option<u32>,
    /// Part of what it sent that did not arrive, in percent.
    pub loss_percent: Option<f64>,
}

/// Which map, and which part of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The map of that moment (ms); `None` is now.
    pub at: Option<i64>,
    /// Links of these layers only.
    layers: Option<Vec<Layer>>,
    /// Links in these states only.
    states: Option<Vec<EdgeState>>,
}

const LAYERS: [Layer; 4] = [Layer::Physical, Layer::WireGuard, Layer::Overlay, Layer::Relay];
const STATES: [EdgeState; 7] = [
    EdgeState::Up,
    EdgeState::Idle,
    EdgeState::Stale,
    EdgeState::Down,
    EdgeState::Never,
    EdgeState::OneSided,
    EdgeState::Unknown,
];

impl Wanted {
    /// What `?at=`, `?layer=` and `?state=` ask for.
    ///
    /// # Errors
    /// Names the parameter and what is allowed.
    pub fn read(query: Option<&str>, now: i64) -> Result<Self, BadParameter> {
        let query = Query::parse(query, &["at", "layer", "state"])?;
        let layers = query.read("layer", "physical, wireguard, overlay, relay, comma-separated", |list| {
            list.split(',').map(|name| LAYERS.into_iter().find(|layer| layer.name() == name)).collect()
        })?;
        let states = "up, idle, stale, down, never, one_sided, unknown, comma-separated";
        let states = query.read("state", states, |list| {
            list.split(',').map(|name| STATES.into_iter().find(|state| state.name() == name)).collect()
        })?;
        Ok(Self { at: query.read("at", TIME, |text| time(text, now))?, layers, states })
    }

    /// Leaves the links that are asked for, every agent, and the other nodes that those links lead to.
    #[must_use]
    pub fn of(&self, mut picture: Picture) -> Picture {
        if self.layers.is_none() && self.states.is_none() {
            return picture;
        }
        let wanted = |link: &Link| {
            self.layers.as_ref().is_none_or(|layers| layers.contains(&link.shape.layer))
                && self.states.as_ref().is_none_or(|states| states.contains(&link.shape.state))
        };
        picture.links.retain(wanted);
        let ends: HashSet<&str> =
            picture.links.iter().flat_map(|link| &link.shape.ends).map(|end| end.node.as_str()).collect();
        picture.nodes.retain(|node| node.kind == NodeKind::Agent || ends.contains(node.id.as_str()));
        picture
    }
}

impl Picture {
    /// The name of every node by its id.
    #[must_use]
    pub fn names(&self) -> BTreeMap<&str, &str> {
        self.nodes.iter().map(|node| (node.id.as_str(), node.name.as_str())).collect()
    }
}

impl From<Topology> for Picture {
    fn from(map: Topology) -> Self {
        let links = map.edges.into_iter().map(|edge| {
            let halves = edge.halves.unwrap_or_default().map(|half| {
                let half = half?;
                let figures = Figures {
                    handshake_age_s: half.handshake_age_s,
                    rx_bytes: half.rx_bytes,
                    tx_bytes: half.tx_bytes,
                    rtt_us: half.rtt_us,
                    loss_percent: half.loss.map(|loss| loss.percent),
                };
                Some((half.shape, figures))
            });
            let figures = [0, 1].map(|end: usize| halves[end].as_ref().map(|half| half.1));
            Link { shape: edge.shape, halves: halves.map(|half| Some(half?.0)), figures }
        });
        let nodes = map.nodes.into_iter().map(|node| node.shape);
        Self { at: map.at, nodes: in_order(nodes.collect()), links: links.collect() }
    }
}

impl From<Structure> for Picture {
    fn from(map: Structure) -> Self {
        let links = map.edges.into_iter().map(|edge| Link {
            shape: edge.edge,
            halves: edge.halves,
            figures: [None, None],
        });
        Self { at: map.at, nodes: in_order(map.nodes), links: links.collect() }
    }
}

fn in_order(mut nodes: Vec<NodeShape>) -> Vec<NodeShape> {
    nodes.sort_by(|a, b| (a.kind, &a.id).cmp(&(b.kind, &b.id)));
    nodes
}

/// A moment in UTC as ISO 8601 has it, to the second.
#[must_use]
pub fn utc(ms: i64) -> String {
    let seconds = ms.div_euclid(1000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Years that begin in March, in eras of 400 of them (146,097 days).
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, late) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + late;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_told_in_utc() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399_999, "2000-02-28T23:59:59Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (1_764_000_000_123, "2025-11-24T16:00:00Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
        ] {
            assert_eq!(utc(ms), text, "{ms}");
        }
    }

    #[test]
    fn bad_parts_are_named() {
        let wanted = Wanted::read(Some("layer=wireguard,overlay&state=up&at=-1m"), 100_000).unwrap();
        assert_eq!(wanted.at, Some(40_000));
        assert_eq!(wanted.layers, Some(vec![Layer::WireGuard, Layer::Overlay]));
        for (query, name) in [("layer=wg", "layer"), ("state=", ""), ("state=up,,", "state"), ("x=1", "x")] {
            let found = Wanted::read(Some(query), 0).map_err(|bad| bad.name);
            assert_eq!(found.err().unwrap_or_default(), name, "{query}");
        }
    }
}
