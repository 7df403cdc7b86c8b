//! Who has each of some things, and which of the things several agents have.

use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::hash::Hash;

use super::few::Few;
use super::fold::FoldMap;
use super::record::{AgentIx, Slot};

/// Agents, with the place in each, by what they have.
#[derive(Debug)]
pub(super) struct Owners<K> {
    lists: FoldMap<K, Few<(AgentIx, Slot)>>,
    /// What more than one agent has: most often nothing.
    shared: BTreeSet<K>,
}

impl<K> Default for Owners<K> {
    fn default() -> Self {
        Self { lists: FoldMap::default(), shared: BTreeSet::new() }
    }
}

impl<K: Hash + Ord + Clone> Owners<K> {
    /// Who has a thing, in order.
    pub(super) fn of<Q: Hash + Ord + ?Sized>(&self, key: &Q) -> &[(AgentIx, Slot)]
    where
        K: Borrow<Q>,
    {
        self.lists.get(key).map_or(&[], Few::as_slice)
    }

    /// What several agents have, in order.
    pub(super) fn shared(&self) -> impl Iterator<Item = &K> {
        self.shared.iter()
    }

    pub(super) fn insert(&mut self, key: K, place: (AgentIx, Slot)) {
        let list = self.lists.entry(key.clone()).or_default();
        list.insert(place);
        if of_several(list.as_slice()) {
            self.shared.insert(key);
        }
    }

    pub(super) fn remove(&mut self, key: &K, place: (AgentIx, Slot)) {
        let Some(list) = self.lists.get_mut(key) else { return };
        list.remove(place);
        if !of_several(list.as_slice()) {
            self.shared.remove(key);
        }
        if list.is_empty() {
            self.lists.remove(key);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lists.len() + self.shared.len()
    }

    #[cfg(test)]
    pub(super) fn check(&self)
    where
        K: std::fmt::Debug,
    {
        let several = self.lists.iter().filter(|(_, list)| {
            let agents: BTreeSet<AgentIx> = list.as_slice().iter().map(|place| place.0).collect();
            agents.len() > 1
        });
        assert_eq!(self.shared, several.map(|(key, _)| key.clone()).collect());
    }
}

/// Whether places, which are in order, are of more than one agent.
fn of_several(places: &[(AgentIx, Slot)]) -> bool {
    places.first().map(|place| place.0) != places.last().map(|place| place.0)
}
