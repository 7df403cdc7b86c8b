//! Whom to drop when something runs out. Pure.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Instant;

/// A connection that may be dropped.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    pub(crate) id: u64,
    pub(crate) source: IpAddr,
    pub(crate) since: Instant,
    /// Bytes held for it.
    pub(crate) held: usize,
}

/// For want of a slot: the oldest connection of the source that has most of them. Honest requests are done in
/// milliseconds, so under attack they are never the oldest, even from the attacker's own address.
pub(crate) fn oldest_of_busiest(candidates: impl Iterator<Item = Candidate>) -> Option<u64> {
    let mut sources: HashMap<IpAddr, (usize, Instant, u64)> = HashMap::new();
    for c in candidates {
        let entry = sources.entry(source_group(c.source)).or_insert((0, c.since, c.id));
        entry.0 += 1;
        if c.since < entry.1 {
            (entry.1, entry.2) = (c.since, c.id);
        }
    }
    sources.into_values().max_by_key(|&(count, since, _)| (count, Reverse(since))).map(|(_, _, id)| id)
}

/// For want of memory: the largest holder, the oldest among equals.
pub(crate) fn largest(candidates: impl Iterator<Item = Candidate>) -> Option<u64> {
    candidates.filter(|c| c.held > 0).max_by_key(|c| (c.held, Reverse(c.since))).map(|c| c.id)
}

/// One host on the internet has a whole /64 of IPv6 addresses, so that counts as one source. Addresses of
/// meshes and links (fd00::/8, fe80::/10) are hosts of their own.
fn source_group(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V6(ip) if ip.segments()[0] & 0xe000 == 0x2000 => {
            let [a, b, c, d, ..] = ip.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn candidates(rows: &[(&str, u64, usize)]) -> impl Iterator<Item = Candidate> {
        let start = Instant::now();
        let candidate = move |(id, &(source, age, held)): (usize, &(&str, u64, usize))| Candidate {
            id: id as u64,
            source: source.parse().unwrap(),
            since: start + Duration::from_secs(100 - age),
            held,
        };
        rows.iter().enumerate().map(candidate).collect::<Vec<_>>().into_iter()
    }

    #[test]
    fn the_busiest_source_loses_its_oldest() {
        let rows = [("192.0.2.1", 50, 0), ("192.0.2.2", 1, 0), ("192.0.2.2", 9, 0), ("192.0.2.2", 3, 0)];
        assert_eq!(oldest_of_busiest(candidates(&rows)), Some(2));
        assert_eq!(oldest_of_busiest(candidates(&rows[..2])), Some(0), "equal counts: the oldest of all");
        assert_eq!(oldest_of_busiest(candidates(&[])), None);
    }

    #[test]
    fn a_public_64_is_one_source_and_mesh_addresses_are_not() {
        let public = [("198.51.100.1", 50, 0), ("2001:db8::1", 2, 0), ("2001:db8::2", 4, 0)];
        assert_eq!(oldest_of_busiest(candidates(&public)), Some(2));
        let mesh = [("198.51.100.1", 50, 0), ("fd00::1", 2, 0), ("fd00::2", 4, 0)];
        assert_eq!(oldest_of_busiest(candidates(&mesh)), Some(0));
    }

    #[test]
    fn memory_is_taken_from_the_largest() {
        let rows = [("192.0.2.1", 5, 10), ("192.0.2.2", 1, 30), ("192.0.2.2", 9, 30)];
        assert_eq!(largest(candidates(&rows)), Some(2));
        assert_eq!(largest(candidates(&[("192.0.2.1", 5, 0)])), None, "nothing to gain");
    }
}
