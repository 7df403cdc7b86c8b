//! Changes of the map: one map against another, and a map rebuilt from an earlier one and the
//! changes since. Equal maps give no events.

use serde::{Deserialize, Serialize};

use super::shape::{EdgeState, HalfShape, InterfaceShape, Map, MapEdge, NodeShape, Presence, Relation};

/// A change of the map. Each carries what is needed to make the later map of the earlier one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A node is there that was not.
    NodeAppeared {
        /// The node.
        node: NodeShape,
    },
    /// A node is gone.
    NodeVanished {
        /// Its id.
        id: String,
    },
    /// A node has another name.
    NodeRenamed {
        /// Its id.
        id: String,
        /// Its new name.
        name: String,
    },
    /// An agent fell silent or reports again.
    PresenceChanged {
        /// Id of its node.
        id: String,
        /// How it is now.
        presence: Option<Presence>,
    },
    /// An interface is new, gone, or another in some respect.
    InterfaceChanged {
        /// Id of the node.
        id: String,
        /// The interface's name.
        interface: String,
        /// What changed: `appeared`, `vanished`, or fields such as `up`, `addresses`, `listen_port`.
        changed: Vec<String>,
        /// How it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<Box<InterfaceShape>>,
        /// How it is now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<Box<InterfaceShape>>,
    },
    /// An edge is there that was not.
    EdgeAppeared {
        /// The edge.
        edge: Box<MapEdge>,
    },
    /// An edge is gone.
    EdgeVanished {
        /// Its id.
        id: String,
        /// The state that it was in.
        state: EdgeState,
    },
    /// An edge is in another state, or in the same one again since another moment.
    EdgeStateChanged {
        /// Its id.
        id: String,
        /// The state that it was in.
        from: EdgeState,
        /// The state that it is in.
        to: EdgeState,
        /// Since when: milliseconds since the Unix epoch.
        since: i64,
    },
    /// Another end, or both, say so now.
    EdgeRelationChanged {
        /// Its id.
        id: String,
        /// How its ends belong together now.
        relation: Relation,
        /// Whether the host at each end says so itself.
        seen: [bool; 2],
    },
    /// One end of a WireGuard edge is set up in another way, or its handshake has another age.
    HalfChanged {
        /// Id of the edge.
        id: String,
        /// Which of the edge's ends: 0 or 1.
        end: usize,
        /// What changed: `appeared`, `vanished`, or fields such as `endpoint`, `allowed_ips`.
        changed: Vec<String>,
        /// How it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<HalfShape>,
        /// How it is now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<HalfShape>,
    },
}

impl Event {
    /// Id of the node or edge that changed.
    #[must_use]
    pub fn subject(&self) -> &str {
        match self {
            Self::NodeAppeared { node } => &node.id,
            Self::EdgeAppeared { edge } => &edge.edge.id,
            Self::NodeVanished { id }
            | Self::NodeRenamed { id, .. }
            | Self::PresenceChanged { id, .. }
            | Self::InterfaceChanged { id, .. }
            | Self::EdgeVanished { id, .. }
            | Self::EdgeStateChanged { id, .. }
            | Self::EdgeRelationChanged { id, .. }
            | Self::HalfChanged { id, .. } => id,
        }
    }
}

/// The events that turn one map into another, in a fixed order.
#[must_use]
pub fn diff(before: &Map, after: Map) -> Vec<Event> {
    let (mut changes, mut events) = (Changes::since(before.clone()), Vec::new());
    after.nodes.into_values().for_each(|node| changes.node(node, &mut events));
    after.edges.into_values().for_each(|edge| changes.edge(edge, &mut events));
    changes.gone(|event| events.push(event));
    sort(&mut events);
    events
}

/// What a map became since, found part by part; what never came is gone.
#[derive(Debug)]
pub struct Changes(Map);

impl Changes {
    /// Since this map.
    #[must_use]
    pub fn since(before: Map) -> Self {
        Self(before)
    }

    /// What a node became.
    pub fn node(&mut self, node: NodeShape, events: &mut Vec<Event>) {
        node_events(self.0.nodes.remove(&node.id).as_ref(), Some(node), events);
    }

    /// What an edge became.
    pub fn edge(&mut self, edge: MapEdge, events: &mut Vec<Event>) {
        edge_events(self.0.edges.remove(&edge.edge.id).as_ref(), Some(edge), events);
    }

    /// What is gone, once all that is there has come.
    pub fn gone(self, mut tell: impl FnMut(Event)) {
        let mut events = Vec::new();
        self.0.nodes.values().for_each(|node| node_events(Some(node), None, &mut events));
        self.0.edges.values().for_each(|edge| edge_events(Some(edge), None, &mut events));
        events.drain(..).for_each(&mut tell);
    }
}

/// The map that `base` becomes by these events. Events about what is not there change nothing.
#[must_use]
pub fn replay(mut base: Map, events: impl IntoIterator<Item = Event>) -> Map {
    events.into_iter().for_each(|event| apply(&mut base, event));
    base
}

/// Puts events in a fixed order: nodes before edges, each by id, and by kind for one id.
pub(super) fn sort(events: &mut [Event]) {
    events.sort_by(|a, b| rank(a).cmp(&rank(b)));
}

fn rank(event: &Event) -> (u8, &str, u8, &str, usize) {
    match event {
        Event::NodeAppeared { node } => (0, &node.id, 0, "", 0),
        Event::NodeVanished { id } => (0, id, 1, "", 0),
        Event::NodeRenamed { id, .. } => (0, id, 2, "", 0),
        Event::PresenceChanged { id, .. } => (0, id, 3, "", 0),
        Event::InterfaceChanged { id, interface, .. } => (0, id, 4, interface, 0),
        Event::EdgeAppeared { edge } => (1, &edge.edge.id, 0, "", 0),
        Event::EdgeVanished { id, .. } => (1, id, 1, "", 0),
        Event::EdgeStateChanged { id, .. } => (1, id, 2, "", 0),
        Event::EdgeRelationChanged { id, .. } => (1, id, 3, "", 0),
        Event::HalfChanged { id, end, .. } => (1, id, 4, "", *end),
    }
}

/// What became of one node.
pub(super) fn node_events(before: Option<&NodeShape>, after: Option<NodeShape>, events: &mut Vec<Event>) {
    let (before, after) = match (before, after) {
        (None, None) => return,
        (Some(before), None) => return events.push(Event::NodeVanished { id: before.id.clone() }),
        (None, Some(after)) => return events.push(Event::NodeAppeared { node: after }),
        (Some(before), Some(after)) => (before, after),
    };
    let id = || after.id.clone();
    if before.name != after.name {
        events.push(Event::NodeRenamed { id: id(), name: after.name.clone() });
    }
    if before.presence != after.presence {
        events.push(Event::PresenceChanged { id: id(), presence: after.presence });
    }
    let find = |node: &NodeShape, name: &str| node.interfaces.iter().find(|i| i.name == name).cloned();
    let mut names: Vec<&str> =
        before.interfaces.iter().chain(&after.interfaces).map(|i| i.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let (before, after) = (find(before, name), find(&after, name));
        if before != after {
            let changed = changed_fields(before.as_ref(), after.as_ref());
            let (before, after) = (before.map(Box::new), after.map(Box::new));
            events.push(Event::InterfaceChanged {
                id: id(),
                interface: name.to_owned(),
                changed,
                before,
                after,
            });
        }
    }
}

/// What became of one edge.
pub(super) fn edge_events(before: Option<&MapEdge>, after: Option<MapEdge>, events: &mut Vec<Event>) {
    let (before, after) = match (before, after) {
        (None, None) => return,
        (Some(MapEdge { edge, .. }), None) => {
            return events.push(Event::EdgeVanished { id: edge.id.clone(), state: edge.state });
        }
        (None, Some(after)) => return events.push(Event::EdgeAppeared { edge: Box::new(after) }),
        (Some(before), Some(after)) => (before, after),
    };
    let id = || after.edge.id.clone();
    let (was, is) = (&before.edge, &after.edge);
    if (was.state, was.since) != (is.state, is.since) {
        events.push(Event::EdgeStateChanged { id: id(), from: was.state, to: is.state, since: is.since });
    }
    if (was.relation, was.seen) != (is.relation, is.seen) {
        events.push(Event::EdgeRelationChanged { id: id(), relation: is.relation, seen: is.seen });
    }
    for (end, (before, after)) in before.halves.iter().zip(&after.halves).enumerate() {
        if before != after {
            let changed = changed_fields(before.as_ref(), after.as_ref());
            let (before, after) = (before.clone(), after.clone());
            events.push(Event::HalfChanged { id: id(), end, changed, before, after });
        }
    }
}

/// The names of the fields that differ, those of a nested object instead of the object's.
fn changed_fields<T: Serialize>(before: Option<&T>, after: Option<&T>) -> Vec<String> {
    let (Some(before), Some(after)) = (before, after) else {
        return vec![if after.is_some() { "appeared" } else { "vanished" }.to_owned()];
    };
    let mut changed = Vec::new();
    // Shapes are plain structs with text keys, which always serialise.
    if let (Ok(before), Ok(after)) = (serde_json::to_value(before), serde_json::to_value(after)) {
        compare(&before, &after, "", &mut changed);
    }
    changed
}

fn compare(before: &serde_json::Value, after: &serde_json::Value, name: &str, changed: &mut Vec<String>) {
    let (Some(was), Some(is)) = (before.as_object(), after.as_object()) else {
        if before != after {
            changed.push(name.to_owned());
        }
        return;
    };
    let mut names: Vec<&String> = was.keys().chain(is.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let null = serde_json::Value::Null;
    for name in names {
        compare(was.get(name).unwrap_or(&null), is.get(name).unwrap_or(&null), name, changed);
    }
}

/// Makes a change on a map. One of what is not there changes nothing.
pub fn apply(map: &mut Map, event: Event) {
    match event {
        Event::NodeAppeared { node } => {
            map.nodes.insert(node.id.clone(), node);
        }
        Event::NodeVanished { id } => {
            map.nodes.remove(&id);
        }
        Event::NodeRenamed { id, name } => on(map.nodes.get_mut(&id), |node| node.name = name),
        Event::PresenceChanged { id, presence } => {
            on(map.nodes.get_mut(&id), |node| node.presence = presence)
        }
        Event::InterfaceChanged { id, interface, after, .. } => on(map.nodes.get_mut(&id), |node| {
            node.interfaces.retain(|known| known.name != interface);
            node.interfaces.extend(after.map(|after| *after));
            node.interfaces.sort_by(|a, b| a.name.cmp(&b.name));
        }),
        Event::EdgeAppeared { edge } => {
            map.edges.insert(edge.edge.id.clone(), *edge);
        }
        Event::EdgeVanished { id, .. } => {
            map.edges.remove(&id);
        }
        Event::EdgeStateChanged { id, to, since, .. } => on(map.edges.get_mut(&id), |edge| {
            edge.edge.state = to;
            edge.edge.since = since;
        }),
        Event::EdgeRelationChanged { id, relation, seen } => on(map.edges.get_mut(&id), |edge| {
            edge.edge.relation = relation;
            edge.edge.seen = seen;
        }),
        Event::HalfChanged { id, end, after, .. } => on(map.edges.get_mut(&id), |edge| {
            if let Some(half) = edge.halves.get_mut(end) {
                *half = after;
            }
        }),
    }
}

fn on<T>(subject: Option<&mut T>, change: impl FnOnce(&mut T)) {
    if let Some(subject) = subject {
        change(subject);
    }
}
