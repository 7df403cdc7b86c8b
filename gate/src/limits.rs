//! Every bound of the gate, with its default and where the number comes from.

use std::time::Duration;

/// The most header fields one request may have; more are refused with 431.
///
/// Browsers send about 20, our agents 6; tiny headers cost the parser memory, so they are counted too.
pub const MAX_HEADERS: usize = 64;

/// Connections beyond the cap, for sources that have none open: a flood whose requests are all in work leaves
/// others these. They are taken from the descriptors that [`Limits::capped_for`] keeps free.
pub const NEWCOMERS: usize = 16;

/// Descriptors kept free for everything that is not a client: listeners, epoll, database, logs.
const RESERVED_DESCRIPTORS: u64 = 64;

/// What the gate allows. Nothing that a client sends can take more than this.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections open at once (1024). At the cap the source with most of them loses its oldest.
    pub connections: usize,
    /// Bytes of request line and header fields together (8 KiB, what common servers allow).
    pub head: usize,
    /// Bytes of a request body (64 KiB: a full report is about 6 KB, and checking a MAC over
    /// 64 KiB costs about half a millisecond).
    pub body: usize,
    /// A lower body limit for some paths; the smaller of this and `body` holds. Default: none.
    pub body_for: fn(path: &str) -> usize,
    /// Bytes held for all connections together (32 MiB): heads, bodies, bodies being worked on and unread
    /// answers. Beyond it the largest holder is dropped.
    pub buffered: usize,
    /// From accept to the last byte of the request (10 s). Absolute: a byte now and then renews nothing.
    pub read: Duration,
    /// From answer to its last byte taken by the kernel (10 s). Absolute too.
    pub write: Duration,
    /// How long an answered client may take to close its side, or a refused one to stop sending (2 s).
    pub linger: Duration,
    /// From hand-over to the worker queue to the handler's answer (15 s); then the client gets 503.
    pub answer: Duration,
    /// Threads that run the handler (4). They never touch a socket.
    pub workers: usize,
    /// Whole requests that wait for a worker (256); more are refused with 503.
    pub queue: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            head: 8 << 10,
            body: 64 << 10,
            body_for: |_| usize::MAX,
            buffered: 32 << 20,
            read: Duration::from_secs(10),
            write: Duration::from_secs(10),
            linger: Duration::from_secs(2),
            answer: Duration::from_secs(15),
            workers: 4,
            queue: 256,
        }
    }
}

impl Limits {
    /// The same limits with connections capped so that `nofile` descriptors (see
    /// [`raise_nofile`](crate::raise_nofile)) leave 64 for other uses; never fewer than 8.
    #[must_use]
    pub fn capped_for(mut self, nofile: u64) -> Self {
        let room = usize::try_from(nofile.saturating_sub(RESERVED_DESCRIPTORS)).unwrap_or(usize::MAX);
        self.connections = self.connections.min(room).max(8);
        self
    }

    /// The body limit of `path`, in bytes.
    #[must_use]
    pub fn body_limit(&self, path: &str) -> usize {
        self.body.min((self.body_for)(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cap_leaves_descriptors_for_others() {
        assert_eq!(Limits::default().capped_for(8192).connections, 1024);
        assert_eq!(Limits::default().capped_for(256).connections, 192);
        assert_eq!(Limits::default().capped_for(10).connections, 8);
    }

    #[test]
    fn a_path_can_only_lower_the_body_limit() {
        let body_for = |path: &str| if path == "/small" { 10 } else { usize::MAX };
        let limits = Limits { body: 100, body_for, ..Limits::default() };
        assert_eq!(limits.body_limit("/small"), 10);
        assert_eq!(limits.body_limit("/other"), 100);
    }
}
