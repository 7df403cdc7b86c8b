//! A map of a few items, kept as a sorted list: a tree or a hash table takes kilobytes for one item, and
//! there is one of these for every agent and every WireGuard device.

use std::borrow::Borrow;

/// A map of a few items in order of their keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Few<K, V>(Box<[(K, V)]>);

impl<K, V> Default for Few<K, V> {
    fn default() -> Self {
        Self(Box::default())
    }
}

impl<K: Ord, V> Few<K, V> {
    /// The items, the last of those with the same key.
    pub(super) fn of(items: impl Iterator<Item = (K, V)>) -> Self {
        let mut list: Vec<(K, V)> = items.collect();
        list.reverse();
        list.sort_by(|a, b| a.0.cmp(&b.0));
        list.dedup_by(|later, first| later.0 == first.0);
        Self(list.into_boxed_slice())
    }

    /// The value of a key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let place = self.0.binary_search_by(|item| item.0.borrow().cmp(key)).ok()?;
        Some(&self.0[place].1)
    }

    pub(super) fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let place = self.0.binary_search_by(|item| item.0.borrow().cmp(key)).ok()?;
        Some(&mut self.0[place].1)
    }

    /// All items.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// All keys.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.0.iter().map(|(key, _)| key)
    }

    /// All values.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.0.iter().map(|(_, value)| value)
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.0.iter_mut().map(|(_, value)| value)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_found_in_order_and_the_last_of_a_key_stays() {
        let few = Few::of([("b", 1), ("a", 2), ("b", 3)].into_iter());
        assert_eq!(few.iter().collect::<Vec<_>>(), [(&"a", &2), (&"b", &3)]);
        assert_eq!((few.get("a"), few.get("b"), few.get("c"), few.len()), (Some(&2), Some(&3), None, 2));
    }
}
