//! What the history ends with, as a start compares the map with it: whole where it must be, and otherwise marks
//! of what each part was. After most starts hardly any part is another one than before, and whole maps are large.

use std::collections::HashSet;
use std::collections::hash_map::{DefaultHasher, HashMap};
use std::hash::Hasher;
use std::io::{self, Write};

use serde::Serialize;

use crate::error::StoreError;
use crate::store::parts::Part;
use crate::store::{Connection, Readers, history};
use crate::topology::{Changes, EdgeState, Event, Map, State, apply};

/// The map that the history ends with.
#[derive(Debug, Default)]
pub struct Written {
    /// The last event in the whole map that was kept last.
    base: i64,
    /// Parts that were another after that, and those that are others now, once they were looked up.
    whole: Map,
    /// All other parts, by the hash of their ids.
    marks: HashMap<u64, Mark>,
}

/// What a part was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    print: u64,
    /// An edge's state, and since when (ms).
    state: Option<(EdgeState, i64)>,
}

impl Written {
    /// The map that the history ends with.
    ///
    /// # Errors
    /// What the database says.
    pub fn read(db: &Connection) -> Result<Self, StoreError> {
        let mut written = Self { base: history::last_kept(db, i64::MAX)?, ..Self::default() };
        let mut changed = HashSet::new();
        history::each_event(db, written.base, i64::MAX, |event| {
            changed.insert(hash(event.subject()));
        })?;
        history::each_part(db, written.base, |part| {
            let id = hash(part.id());
            if changed.contains(&id) {
                part.put(&mut written.whole);
            } else {
                written.marks.insert(id, Mark::of(&part));
            }
        })?;
        history::each_event(db, written.base, i64::MAX, |event| apply(&mut written.whole, event))?;
        Ok(written)
    }

    /// Gives the edges of `state` that are in the state that they were in the moment since when they are.
    pub fn restore_since(&self, state: &mut State) {
        state.restore_since(|id| match self.whole.edges.get(id) {
            Some(there) => Some((there.edge.state, there.edge.since)),
            None => self.marks.get(&hash(id))?.state,
        });
    }

    /// Tells what of `state` is another than it was.
    ///
    /// # Errors
    /// What the database says; nothing was told then.
    pub fn changes(
        mut self,
        state: &State,
        readers: &Readers,
        mut tell: impl FnMut(Event),
    ) -> Result<(), StoreError> {
        let mut same = HashSet::new();
        let mut compare = |part: &Part| {
            let id = hash(part.id());
            if self.marks.get(&id) == Some(&Mark::of(part)) {
                self.marks.remove(&id);
                same.insert(id);
            }
        };
        state.each_node(|node| compare(&Part::Node(node)));
        state.each_map_edge(|edge| compare(&Part::Edge(Box::new(edge))));
        // What is left is another, or gone: what it was is told by the map alone.
        let Self { base, mut whole, marks } = self;
        if !marks.is_empty() {
            readers.read(|db| {
                history::each_part(db, base, |part| {
                    if marks.contains_key(&hash(part.id())) {
                        part.put(&mut whole);
                    }
                })
            })?;
        }
        let (mut changes, mut found) = (Changes::since(whole), Vec::new());
        state.each_node(|node| {
            if !same.contains(&hash(&node.id)) {
                changes.node(node, &mut found);
                found.drain(..).for_each(&mut tell);
            }
        });
        state.each_map_edge(|edge| {
            if !same.contains(&hash(&edge.edge.id)) {
                changes.edge(edge, &mut found);
                found.drain(..).for_each(&mut tell);
            }
        });
        changes.gone(tell);
        Ok(())
    }
}

impl Mark {
    fn of(part: &Part) -> Self {
        match part {
            Part::Node(node) => Self { print: print(node), state: None },
            Part::Edge(edge) => Self { print: print(edge), state: Some((edge.edge.state, edge.edge.since)) },
        }
    }
}

/// The hash of an id. Of a million parts, two have the same with a chance of one in 37 million.
fn hash(id: &str) -> u64 {
    let mut hash = DefaultHasher::new();
    hash.write(id.as_bytes());
    hash.finish()
}

/// The hash of all that a part says.
fn print(part: &impl Serialize) -> u64 {
    let mut print = Print(DefaultHasher::new());
    serde_json::to_writer(&mut print, part).expect("a map is plain data");
    print.0.finish()
}

struct Print(DefaultHasher);

impl Write for Print {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
