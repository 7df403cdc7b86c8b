//! Counters that other threads may read while the gate runs.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Live counters of a running gate; cheap to read from any thread.
        #[derive(Debug, Default)]
        pub struct Counters { $($(#[$doc])* pub(crate) $name: AtomicU64),* }

        /// The counters at one moment.
        #[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
        pub struct Stats { $($(#[$doc])* pub $name: u64),* }

        impl Counters {
            /// Reads all counters, each on its own: their sums may be off by what happens meanwhile.
            #[must_use]
            pub fn snapshot(&self) -> Stats {
                Stats { $($name: self.$name.load(Ordering::Relaxed)),* }
            }
        }
    };
}

counters! {
    /// Connections accepted.
    accepted,
    /// Answers of handlers that reached a waiting connection.
    served,
    /// Requests refused by the gate with a 4xx status.
    refused_4xx,
    /// Requests refused by the gate with a 5xx status: busy, late, wrong version.
    refused_5xx,
    /// Connections dropped to make room for others.
    evicted,
    /// Connections whose request or answer did not pass in time.
    expired,
    /// Handlers that panicked.
    panics,
    /// Replies dropped without an answer; each was a 500.
    unanswered,
    /// Times that accept paused for want of descriptors or memory.
    pauses,
    /// Connections open now.
    open,
    /// Bytes held now for all connections.
    buffered,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn set(gauge: &AtomicU64, value: usize) {
        gauge.store(u64::try_from(value).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(crate) fn refused(&self, status: u16) {
        Self::add(if status < 500 { &self.refused_4xx } else { &self.refused_5xx }, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_counted_by_class() {
        let counters = Counters::default();
        for status in [400, 431, 503] {
            counters.refused(status);
        }
        Counters::set(&counters.open, 3);
        let stats = counters.snapshot();
        assert_eq!((stats.refused_4xx, stats.refused_5xx, stats.open), (2, 1, 3));
    }
}
