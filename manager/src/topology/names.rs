//! The names of an agent's interfaces by slot, in one text: a box for each took five times the room.

use super::record::Slot;

/// Names by slot; an empty one is free for another name.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    text: Box<str>,
    /// Where each name ends in the text, which is where the next one begins.
    ends: Box<[u32]>,
}

impl Names {
    /// The name of a slot; empty for one that has none.
    pub(super) fn get(&self, slot: Slot) -> &str {
        let at = usize::from(slot);
        let place = |at: usize| self.ends.get(at).and_then(|end| usize::try_from(*end).ok());
        let start = if at == 0 { Some(0) } else { place(at - 1) };
        start.zip(place(at)).and_then(|(start, end)| self.text.get(start..end)).unwrap_or("")
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// All of them by slot, to be changed.
    pub(super) fn to_vec(&self) -> Vec<Box<str>> {
        (0..).take(self.len()).map(|slot| self.get(slot).into()).collect()
    }
}

impl FromIterator<Box<str>> for Names {
    fn from_iter<T: IntoIterator<Item = Box<str>>>(names: T) -> Self {
        let (mut text, mut ends) = (String::new(), Vec::new());
        for name in names {
            text.push_str(&name);
            // A report's caps (limits.rs) keep all that an agent says below 2^32 bytes.
            ends.push(u32::try_from(text.len()).expect("fewer than 2^32 bytes"));
        }
        Self { text: text.into(), ends: ends.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::record::NO_SLOT;

    #[test]
    fn names_are_found_by_slot() {
        let list: Vec<Box<str>> = ["eth0", "", "wg0", "é"].map(Box::from).into();
        let names: Names = list.iter().cloned().collect();
        assert_eq!([0, 1, 2, 3, 4, NO_SLOT].map(|slot| names.get(slot)), ["eth0", "", "wg0", "é", "", ""]);
        assert_eq!((names.to_vec(), names.len()), (list, 4));
        assert_eq!((Names::default().get(0), Names::default().len()), ("", 0));
    }
}
