//! All edges, by the agent at their first end: a short sorted list each, which takes half the room of
//! one hash table for all and keeps an agent's edges together.

use super::edge::{EdgeKey, Kept};
use super::record::AgentIx;

#[derive(Debug, Default)]
pub(super) struct Edges {
    /// By index of the agent.
    lists: Vec<Vec<(EdgeKey, Kept)>>,
    len: usize,
}

impl Edges {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn get(&self, key: &EdgeKey) -> Option<&Kept> {
        let list = self.of(key.near.agent());
        place(list, key).ok().map(|place| &list[place].1)
    }

    pub(super) fn get_mut(&mut self, key: &EdgeKey) -> Option<&mut Kept> {
        let list = self.lists.get_mut(key.near.agent() as usize)?;
        place(list, key).ok().map(|place| &mut list[place].1)
    }

    pub(super) fn contains(&self, key: &EdgeKey) -> bool {
        self.get(key).is_some()
    }

    /// The edge of this key, which becomes `new` when it is not there.
    pub(super) fn get_or_insert(&mut self, key: EdgeKey, new: Kept) -> &mut Kept {
        let ix = key.near.agent() as usize;
        if self.lists.len() <= ix {
            self.lists.resize_with(ix + 1, Vec::new);
        }
        let list = &mut self.lists[ix];
        let place = place(list, &key).unwrap_or_else(|place| {
            if list.len() == list.capacity() {
                list.reserve_exact(list.len() / 16 + 1);
            }
            list.insert(place, (key, new));
            self.len += 1;
            place
        });
        &mut list[place].1
    }

    pub(super) fn remove(&mut self, key: &EdgeKey) {
        let Some(list) = self.lists.get_mut(key.near.agent() as usize) else { return };
        if let Ok(place) = place(list, key) {
            list.remove(place);
            self.len -= 1;
            if list.is_empty() {
                *list = Vec::new();
            }
        }
    }

    /// The edges whose first end is at an agent, in order.
    pub(super) fn of(&self, ix: AgentIx) -> &[(EdgeKey, Kept)] {
        self.lists.get(ix as usize).map_or(&[], |list| list)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(EdgeKey, Kept)> {
        self.lists.iter().flatten()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &EdgeKey> {
        self.iter().map(|(key, _)| key)
    }
}

fn place(list: &[(EdgeKey, Kept)], key: &EdgeKey) -> Result<usize, usize> {
    list.binary_search_by_key(key, |edge| edge.0)
}
