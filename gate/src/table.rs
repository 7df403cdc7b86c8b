//! All open connections, with the sums that the limits are about.

use crate::conn::{Conn, State};
use crate::evict::{Candidate, largest, oldest_of_busiest, source_group};
use crate::stats::Counters;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

/// Connections by id. Ids are never used twice, so an old event or a late answer finds nothing.
#[derive(Debug)]
pub(crate) struct Table {
    conns: HashMap<u64, Conn>,
    next: u64,
    buffered: usize,
    counters: Arc<Counters>,
}

impl Table {
    /// Ids begin at `first`.
    pub(crate) fn new(first: u64, counters: Arc<Counters>) -> Self {
        Self { conns: HashMap::new(), next: first, buffered: 0, counters }
    }

    pub(crate) fn insert(&mut self, conn: Conn) -> u64 {
        let id = self.next;
        self.next += 1;
        self.conns.insert(id, conn);
        Counters::set(&self.counters.open, self.conns.len());
        id
    }

    pub(crate) fn get_mut(&mut self, id: u64) -> Option<&mut Conn> {
        self.conns.get_mut(&id)
    }

    pub(crate) fn len(&self) -> usize {
        self.conns.len()
    }

    /// Bytes held for all connections, as of each one's last [`Table::settle`].
    pub(crate) fn buffered(&self) -> usize {
        self.buffered
    }

    /// Counts what the connection holds now.
    pub(crate) fn settle(&mut self, id: u64) {
        if let Some(conn) = self.conns.get_mut(&id) {
            let held = conn.held();
            self.buffered = self.buffered - conn.counted + held;
            conn.counted = held;
            Counters::set(&self.counters.buffered, self.buffered);
        }
    }

    /// Forgets the connection; its socket closes when the returned value is dropped.
    pub(crate) fn remove(&mut self, id: u64) -> Option<Conn> {
        let conn = self.conns.remove(&id)?;
        self.buffered -= conn.counted;
        Counters::set(&self.counters.buffered, self.buffered);
        Counters::set(&self.counters.open, self.conns.len());
        Some(conn)
    }

    /// Drops one connection to make room, for `newcomer` where it is known; false when all that could
    /// make room for it is being worked on.
    pub(crate) fn evict(&mut self, newcomer: Option<IpAddr>) -> bool {
        self.drop_victim(oldest_of_busiest(self.candidates(), newcomer))
    }

    /// Whether a connection from where `newcomer` comes from is open.
    pub(crate) fn knows(&self, newcomer: IpAddr) -> bool {
        let from = source_group(newcomer);
        self.conns.values().any(|conn| source_group(conn.peer.ip()) == from)
    }

    /// Brings the bytes held back to `limit` as far as connections may be dropped for it.
    pub(crate) fn slim(&mut self, limit: usize) {
        while self.buffered > limit && self.drop_victim(largest(self.candidates())) {}
    }

    /// Connections whose state has outlived its deadline.
    pub(crate) fn overdue(&self, now: Instant) -> Vec<u64> {
        self.conns.iter().filter(|(_, conn)| conn.until <= now).map(|(&id, _)| id).collect()
    }

    /// At shutdown: connections that have sent nothing go; those that have sent something get until `soon`.
    pub(crate) fn hurry(&mut self, soon: Instant) {
        let untouched =
            |conn: &Conn| matches!(&conn.state, State::Reading(incoming) if incoming.is_untouched());
        let idle: Vec<u64> = self.conns.iter().filter(|(_, c)| untouched(c)).map(|(&id, _)| id).collect();
        for id in idle {
            self.remove(id);
        }
        for conn in self.conns.values_mut().filter(|conn| matches!(conn.state, State::Reading(_))) {
            conn.until = conn.until.min(soon);
        }
    }

    /// What a worker has is not dropped: the work would be done for nothing, and its slot is freed soon.
    fn candidates(&self) -> impl Iterator<Item = Candidate> {
        self.conns.iter().map(|(&id, conn)| Candidate {
            id,
            source: conn.peer.ip(),
            since: conn.since,
            droppable: !matches!(conn.state, State::Working { .. }),
            held: conn.counted,
        })
    }

    fn drop_victim(&mut self, victim: Option<u64>) -> bool {
        let dropped = victim.and_then(|id| self.remove(id)).is_some();
        if dropped {
            Counters::add(&self.counters.evicted, 1);
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::Answer;
    use crate::incoming::Incoming;
    use crate::limits::Limits;
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    fn conn(since: Instant, state: State) -> Conn {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let sock = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let peer = sock.peer_addr().unwrap();
        let mut conn = Conn::new(sock, peer, since, &Limits::default());
        conn.state = state;
        conn
    }

    fn writing(bytes: usize) -> State {
        State::Writing { answer: Answer::text(200, "x".repeat(bytes)).print(false), sent: 0 }
    }

    #[test]
    fn sums_follow_states_and_the_largest_goes_first() {
        let mut table = Table::new(10, Arc::default());
        let now = Instant::now();
        let small = table.insert(conn(now, writing(1000)));
        let large = table.insert(conn(now, writing(5000)));
        let working = table.insert(conn(now, State::Working { bytes: 9000, without_body: false }));
        for id in [small, large, working] {
            table.settle(id);
        }
        assert!(table.buffered() > 15_000, "{}", table.buffered());
        table.slim(14_000);
        assert!(table.get_mut(large).is_none() && table.get_mut(small).is_some());
        table.slim(0);
        assert!(table.get_mut(small).is_none(), "what is worked on stays");
        assert_eq!((table.len(), table.buffered()), (1, 9000));
        assert!(!table.evict(None));
        table.remove(working);
        let stats = table.counters.snapshot();
        assert_eq!((stats.open, stats.buffered, stats.evicted), (0, 0, 2));
    }

    #[test]
    fn a_shutdown_drops_the_untouched_and_hurries_the_rest() {
        let mut table = Table::new(10, Arc::default());
        let now = Instant::now();
        let mut begun = Incoming::default();
        begun.feed(b"GET", &Limits::default());
        table.insert(conn(now, State::Reading(Incoming::default())));
        let begun = table.insert(conn(now, State::Reading(begun)));
        table.hurry(now + Duration::from_secs(1));
        assert_eq!(table.len(), 1);
        assert!(table.overdue(now).is_empty());
        assert_eq!(table.overdue(now + Duration::from_secs(1)), [begun]);
    }
}
