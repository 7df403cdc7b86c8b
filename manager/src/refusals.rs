//! Counts what is refused, by reason, and logs it without letting anyone fill the log.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use proto::ids::AgentId;

use crate::error::{ALL_CODES, REJECTS, Reject};

/// A reason is logged in full at most this often; in between it is only counted.
const QUIET: Duration = Duration::from_secs(10);

/// Where a refused message came from, and whose it said it was.
type Source = (IpAddr, Option<AgentId>);

/// What was refused since the start.
#[derive(Debug, Default)]
pub struct Refusals {
    counts: [AtomicU64; REJECTS],
    logged: Mutex<[Option<(Instant, u64)>; REJECTS]>,
    last: Mutex<[Option<Source>; REJECTS]>,
}

impl Refusals {
    /// Counts a refusal, and logs it unless its reason was logged just before.
    pub fn note(&self, reject: &Reject, peer: SocketAddr, agent: Option<AgentId>) {
        let index = reject.index();
        let count = self.counts[index].fetch_add(1, Ordering::Relaxed) + 1;
        self.last.lock().unwrap_or_else(PoisonError::into_inner)[index] = Some((peer.ip(), agent));
        let now = Instant::now();
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        let more = match logged[index] {
            Some((at, _)) if now.duration_since(at) < QUIET => return,
            Some((_, before)) => count - before - 1,
            None => 0,
        };
        logged[index] = Some((now, count));
        drop(logged);
        let who = agent.map(|agent| format!(" agent {agent}")).unwrap_or_default();
        let also = if more > 0 { format!(" ({more} more like it since)") } else { String::new() };
        log::warn!("refused {}: {reject}, from {}{who}{also}", reject.code(), peer.ip());
    }

    /// Whose message was last refused for each reason: its address, and the agent where it is known.
    #[must_use]
    pub fn last(&self) -> BTreeMap<&'static str, (IpAddr, Option<AgentId>)> {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        ALL_CODES.into_iter().zip(last).filter_map(|(code, last)| Some((code, last?))).collect()
    }

    /// How often each reason was given; reasons that never were are left out.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        ALL_CODES.into_iter().zip(counts).filter(|(_, count)| *count > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_is_counted_under_its_code() {
        let refusals = Refusals::default();
        let peer = SocketAddr::from(([192, 0, 2, 1], 5));
        for reject in [Reject::BadMac, Reject::BadMac, Reject::ClockSkew { ahead_ms: 700_000 }] {
            refusals.note(&reject, peer, None);
        }
        assert_eq!(refusals.counts(), BTreeMap::from([("bad_mac", 2), ("clock_skew", 1)]));
    }
}
