//! The WireGuard keys of the fleet: a small number for each, who owns it and who names it.

use std::collections::{BTreeSet, HashMap};

use proto::ids::PublicKey;

use super::few::Few;
use super::record::{Agent, AgentIx, Slot};

/// Number of a key.
pub(super) type KeyIx = u32;

/// All keys that some report mentions.
#[derive(Debug, Default)]
pub(super) struct Keys {
    numbers: HashMap<PublicKey, KeyIx>,
    uses: Vec<KeyUse>,
    unused: Vec<KeyIx>,
    /// Those that more than one device has as its own.
    shared: BTreeSet<KeyIx>,
    /// Numbers that lost a use since the last [`Keys::sweep`].
    suspects: Vec<KeyIx>,
}

#[derive(Debug)]
struct KeyUse {
    key: PublicKey,
    owners: Few<(AgentIx, Slot)>,
    holders: Vec<(AgentIx, Slot)>,
}

impl Keys {
    /// The number of a key, a new one if no report has mentioned it.
    pub(super) fn intern(&mut self, key: PublicKey) -> KeyIx {
        if let Some(number) = self.numbers.get(&key) {
            return *number;
        }
        let entry = KeyUse { key, owners: Few::None, holders: Vec::new() };
        let number = if let Some(number) = self.unused.pop() {
            self.uses[number as usize] = entry;
            number
        } else {
            self.uses.push(entry);
            // Reports cap the peers of an agent at 1,024, so 2^32 keys are 4 million agents.
            KeyIx::try_from(self.uses.len() - 1).expect("fewer than 2^32 keys")
        };
        self.numbers.insert(key, number);
        number
    }

    /// The number of a key that some report mentions.
    pub(super) fn find(&self, key: &PublicKey) -> Option<KeyIx> {
        self.numbers.get(key).copied()
    }

    pub(super) fn key(&self, number: KeyIx) -> PublicKey {
        self.uses[number as usize].key
    }

    /// Number of numbers given, free ones included.
    pub(super) fn len(&self) -> usize {
        self.uses.len()
    }

    /// The devices whose own key it is, in order.
    pub(super) fn owners(&self, number: KeyIx) -> &[(AgentIx, Slot)] {
        self.uses[number as usize].owners.as_slice()
    }

    /// The keys that more than one device has as its own, in order of number.
    pub(super) fn shared(&self) -> impl Iterator<Item = KeyIx> {
        self.shared.iter().copied()
    }

    /// The devices that have a peer of this key, in order.
    pub(super) fn holders(&self, number: KeyIx) -> &[(AgentIx, Slot)] {
        &self.uses[number as usize].holders
    }

    /// Notes the keys of a record.
    pub(super) fn add(&mut self, ix: AgentIx, agent: &Agent) {
        for device in &agent.devices {
            if let Some(key) = device.key {
                let owners = &mut self.uses[key as usize].owners;
                owners.insert((ix, device.slot));
                if owners.as_slice().len() > 1 {
                    self.shared.insert(key);
                }
            }
            for half in &device.halves {
                insert(&mut self.uses[half.key as usize].holders, (ix, device.slot));
            }
        }
    }

    /// Takes back what [`Keys::add`] noted.
    pub(super) fn remove(&mut self, ix: AgentIx, agent: &Agent) {
        for device in &agent.devices {
            if let Some(key) = device.key {
                let owners = &mut self.uses[key as usize].owners;
                owners.remove((ix, device.slot));
                if owners.as_slice().len() < 2 {
                    self.shared.remove(&key);
                }
                self.suspects.push(key);
            }
            for half in &device.halves {
                remove(&mut self.uses[half.key as usize].holders, (ix, device.slot));
                self.suspects.push(half.key);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn in_use(&self) -> usize {
        self.numbers.len() + self.shared.len()
    }

    /// Frees the numbers that nobody uses any more. Only while no edge mentions them.
    pub(super) fn sweep(&mut self) {
        self.suspects.sort_unstable();
        self.suspects.dedup();
        for number in self.suspects.drain(..) {
            let entry = &self.uses[number as usize];
            if entry.owners.is_empty()
                && entry.holders.is_empty()
                && self.numbers.remove(&entry.key).is_some()
            {
                self.unused.push(number);
            }
        }
    }
}

/// Inserts into a sorted list, once.
pub(super) fn insert<T: Ord>(list: &mut Vec<T>, item: T) {
    if let Err(place) = list.binary_search(&item) {
        // Lists are many and short, and grow while agents come: room for little more, not for twice.
        if list.len() == list.capacity() {
            list.reserve_exact(list.len() / 16 + 1);
        }
        list.insert(place, item);
    }
}

/// Removes from a sorted list.
pub(super) fn remove<T: Ord>(list: &mut Vec<T>, item: T) {
    if let Ok(place) = list.binary_search(&item) {
        list.remove(place);
    }
}
