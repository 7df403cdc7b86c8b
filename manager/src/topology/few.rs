//! A sorted list that most often has one item: no allocation then, and a third of a `Vec`'s room.

use super::keys::{insert, remove};

#[derive(Debug, Default)]
pub(super) enum Few<T> {
    #[default]
    None,
    One(T),
    #[expect(clippy::box_collection, reason = "the two cases before stay small")]
    Many(Box<Vec<T>>),
}

impl<T: Ord + Copy> Few<T> {
    pub(super) fn as_slice(&self) -> &[T] {
        match self {
            Self::None => &[],
            Self::One(item) => std::slice::from_ref(item),
            Self::Many(items) => items,
        }
    }

    /// Inserts an item, once.
    pub(super) fn insert(&mut self, item: T) {
        match self {
            Self::None => *self = Self::One(item),
            Self::One(there) if *there == item => {}
            Self::One(there) => {
                let (first, second) = if *there < item { (*there, item) } else { (item, *there) };
                *self = Self::Many(Box::new(vec![first, second]));
            }
            Self::Many(items) => insert(items, item),
        }
    }

    /// Removes an item if it is there.
    pub(super) fn remove(&mut self, item: T) {
        match self {
            Self::One(there) if *there == item => *self = Self::None,
            Self::None | Self::One(_) => {}
            Self::Many(items) => {
                remove(items, item);
                if let [last] = items[..] {
                    *self = Self::One(last);
                }
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_sorted_set(steps in prop::collection::vec((any::<bool>(), 0..5u32), 0..40)) {
            let (mut few, mut set) = (Few::default(), BTreeSet::new());
            for (add, item) in steps {
                if add {
                    few.insert(item);
                    set.insert(item);
                } else {
                    few.remove(item);
                    set.remove(&item);
                }
                prop_assert_eq!(few.as_slice(), set.iter().copied().collect::<Vec<_>>());
                prop_assert_eq!(few.is_empty(), set.is_empty());
            }
        }
    }
}
