//! Taking over from an earlier process: what it knew of the map that the reports do not tell.

use super::edge::EdgeKey;
use super::shape::EdgeState;
use super::{State, render};

impl State {
    /// Gives edges that are still in the state that they were in the moment since when (ms): `before` tells both
    /// of an edge's id.
    pub fn restore_since(&mut self, before: impl Fn(&str) -> Option<(EdgeState, i64)>) {
        let since: Vec<(EdgeKey, i64)> = self
            .edges
            .iter()
            .filter_map(|(key, kept)| {
                let (state, since) = before(&render::id_of(self, *key))?;
                (state == kept.state && since != kept.since).then_some((*key, since))
            })
            .collect();
        for (key, since) in since {
            if let Some(kept) = self.edges.get_mut(&key) {
                kept.since = since;
            }
        }
    }
}
