//! Taking over from an earlier process: what it knew of the map that the reports do not tell.

use std::collections::BTreeMap;

use super::shape::Map;
use super::{State, render};

impl State {
    /// Gives edges that are in the state of `before` the moment since when they are.
    pub fn restore_since(&mut self, before: &Map) {
        let since: BTreeMap<_, _> = self
            .edges
            .iter()
            .filter_map(|(key, kept)| {
                let edge = &before.edges.get(&render::id_of(self, *key))?.edge;
                (edge.state == kept.state).then_some((*key, edge.since))
            })
            .collect();
        for (key, since) in since {
            if let Some(kept) = self.edges.get_mut(&key) {
                kept.since = since;
            }
        }
    }
}
