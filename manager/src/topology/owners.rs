//! Who has each of some things, and which of the things several agents have.

use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::collections::hash_map::Entry;
use std::hash::Hash;

use super::fold::FoldMap;
use super::keys::{insert, remove};
use super::record::{AgentIx, Slot};

/// Agents, with the place in each, by what they have. Most things are one agent's: those take little room.
#[derive(Debug)]
pub(super) struct Owners<K, T = (AgentIx, Slot)> {
    one: FoldMap<K, T>,
    /// What more than one has, in order.
    more: FoldMap<K, Vec<T>>,
}

/// The same, with those things at hand that several agents have.
#[derive(Debug)]
pub(super) struct SharedOwners<K> {
    owners: Owners<K>,
    /// What more than one agent has: most often nothing.
    shared: BTreeSet<K>,
}

impl<K, T> Default for Owners<K, T> {
    fn default() -> Self {
        Self { one: FoldMap::default(), more: FoldMap::default() }
    }
}

impl<K> Default for SharedOwners<K> {
    fn default() -> Self {
        Self { owners: Owners::default(), shared: BTreeSet::new() }
    }
}

impl<K: Hash + Eq, T: Ord + Copy> Owners<K, T> {
    /// Who has a thing, in order.
    pub(super) fn of<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> &[T]
    where
        K: Borrow<Q>,
    {
        match self.one.get(key) {
            Some(owner) => std::slice::from_ref(owner),
            None => self.more.get(key).map_or(&[], Vec::as_slice),
        }
    }

    pub(super) fn insert(&mut self, key: K, owner: T) {
        if let Some(list) = self.more.get_mut(&key) {
            return insert(list, owner);
        }
        match self.one.entry(key) {
            Entry::Vacant(empty) => {
                empty.insert(owner);
            }
            Entry::Occupied(there) if *there.get() == owner => {}
            Entry::Occupied(there) => {
                let (key, other) = there.remove_entry();
                self.more.insert(key, vec![owner.min(other), owner.max(other)]);
            }
        }
    }

    pub(super) fn remove(&mut self, key: K, owner: T) {
        let Some(list) = self.more.get_mut(&key) else {
            if self.one.get(&key) == Some(&owner) {
                self.one.remove(&key);
            }
            return;
        };
        remove(list, owner);
        if let [last] = list[..] {
            self.more.remove(&key);
            self.one.insert(key, last);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.one.len() + self.more.len()
    }
}

impl<K: Hash + Ord + Clone> SharedOwners<K> {
    /// Who has a thing, in order.
    pub(super) fn of<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> &[(AgentIx, Slot)]
    where
        K: Borrow<Q>,
    {
        self.owners.of(key)
    }

    /// What several agents have, in order.
    pub(super) fn shared(&self) -> impl Iterator<Item = &K> {
        self.shared.iter()
    }

    pub(super) fn insert(&mut self, key: K, place: (AgentIx, Slot)) {
        self.owners.insert(key.clone(), place);
        if of_several(self.of(&key)) {
            self.shared.insert(key);
        }
    }

    pub(super) fn remove(&mut self, key: K, place: (AgentIx, Slot)) {
        self.owners.remove(key.clone(), place);
        if !of_several(self.of(&key)) {
            self.shared.remove(&key);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.owners.len() + self.shared.len()
    }

    #[cfg(test)]
    pub(super) fn check(&self)
    where
        K: std::fmt::Debug,
    {
        let several = self.owners.more.iter().filter(|(_, list)| {
            let agents: BTreeSet<AgentIx> = list.iter().map(|place| place.0).collect();
            agents.len() > 1
        });
        assert_eq!(self.shared, several.map(|(key, _)| key.clone()).collect());
    }
}

/// Whether places, which are in order, are of more than one agent.
fn of_several(places: &[(AgentIx, Slot)]) -> bool {
    places.first().map(|place| place.0) != places.last().map(|place| place.0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_map_of_sorted_sets(
            steps in prop::collection::vec((any::<bool>(), 0..3u8, 0..4u32), 0..60)
        ) {
            let (mut owners, mut sets) = (Owners::default(), BTreeMap::<u8, BTreeSet<u32>>::new());
            for (add, key, owner) in steps {
                let set = sets.entry(key).or_default();
                if add {
                    owners.insert(key, owner);
                    set.insert(owner);
                } else {
                    owners.remove(key, owner);
                    set.remove(&owner);
                }
                prop_assert_eq!(owners.of(&key), set.iter().copied().collect::<Vec<_>>());
                prop_assert_eq!(owners.len(), sets.values().filter(|set| !set.is_empty()).count());
            }
        }
    }
}
