//! What this agent sent and passed on since it started.

use std::sync::atomic::{AtomicU32, Ordering};

use serde::{Serialize, Serializer};

/// A number that only grows; 32 bits, as some routers' processors count no further at once.
#[derive(Debug, Default)]
pub struct Count(AtomicU32);

impl Count {
    /// One more.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How many so far.
    #[must_use]
    pub fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Serialize for Count {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.get())
    }
}

/// All counts, as /status/healthcheck shows them.
#[derive(Debug, Default, Serialize)]
pub struct Counters {
    /// Requests that this agent made.
    pub sent: Sent,
    /// Messages of other agents.
    pub relay: Relayed,
}

/// Requests made.
#[derive(Debug, Default, Serialize)]
pub struct Sent {
    /// Messages sent to the manager, own ones and those of others.
    pub manager: Count,
    /// Messages sent to a relay, own ones and those of others.
    pub relay: Count,
    /// Addresses asked for their /status/peer.
    pub peer: Count,
}

/// What became of other agents' messages.
#[derive(Debug, Default, Serialize)]
pub struct Relayed {
    /// Passed on, with the manager's signed answer brought back.
    pub passed: Count,
    /// Refused: not authentic, a loop, too many hops, seen before, too old.
    pub refused: Count,
    /// Sent back because no way to the manager was found.
    pub no_way: Count,
    /// Sent back because too many were in work.
    pub busy: Count,
}
