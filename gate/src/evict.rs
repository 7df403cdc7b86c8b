//! Whom to drop when something runs out. Pure.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Instant;

/// An open connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    pub(crate) id: u64,
    pub(crate) source: IpAddr,
    pub(crate) since: Instant,
    /// Whether it may be dropped: not while a worker has it.
    pub(crate) droppable: bool,
    /// Bytes held for it.
    pub(crate) held: usize,
}

/// For want of a slot: the oldest connection of the source that has most of them. Honest requests are done in
/// milliseconds, so under attack they are never the oldest, even from the attacker's own address.
///
/// What is in work counts for its source, and a source makes no room for a newcomer whose own has more:
/// otherwise, where a flood is all in work, the one that goes would be the honest request that still arrives.
pub(crate) fn oldest_of_busiest(
    candidates: impl Iterator<Item = Candidate>,
    newcomer: Option<IpAddr>,
) -> Option<u64> {
    let mut sources: HashMap<IpAddr, (usize, Option<(Instant, u64)>)> = HashMap::new();
    if let Some(source) = newcomer {
        sources.entry(source_group(source)).or_default().0 += 1;
    }
    for c in candidates {
        let (count, oldest) = sources.entry(source_group(c.source)).or_default();
        *count += 1;
        // Those of one round came at one time; their numbers tell which came first.
        if c.droppable && oldest.is_none_or(|oldest| (c.since, c.id) < oldest) {
            *oldest = Some((c.since, c.id));
        }
    }
    let own = newcomer.and_then(|source| sources.get(&source_group(source))).map_or(0, |&(count, _)| count);
    let droppable = sources.into_values().filter_map(|(count, oldest)| oldest.map(|oldest| (count, oldest)));
    let (count, (_, id)) = droppable.max_by_key(|&(count, (since, _))| (count, Reverse(since)))?;
    (count >= own).then_some(id)
}

/// For want of memory: the largest holder, the oldest among equals.
pub(crate) fn largest(candidates: impl Iterator<Item = Candidate>) -> Option<u64> {
    candidates.filter(|c| c.droppable && c.held > 0).max_by_key(|c| (c.held, Reverse(c.since))).map(|c| c.id)
}

/// One host on the internet has a whole /64 of IPv6 addresses, so that counts as one source. Addresses of
/// meshes and links (fd00::/8, fe80::/10) are hosts of their own.
pub(crate) fn source_group(source: IpAddr) -> IpAddr {
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
            droppable: true,
            held,
        };
        rows.iter().enumerate().map(candidate).collect::<Vec<_>>().into_iter()
    }

    #[test]
    fn the_busiest_source_loses_its_oldest() {
        let rows = [("192.0.2.1", 50, 0), ("192.0.2.2", 1, 0), ("192.0.2.2", 9, 0), ("192.0.2.2", 3, 0)];
        assert_eq!(oldest_of_busiest(candidates(&rows), None), Some(2));
        assert_eq!(
            oldest_of_busiest(candidates(&rows[..2]), None),
            Some(0),
            "equal counts: the oldest of all"
        );
        assert_eq!(oldest_of_busiest(candidates(&[]), None), None);
    }

    #[test]
    fn who_floods_does_not_drive_out_who_has_little() {
        let rows = [("192.0.2.1", 1, 0), ("192.0.2.2", 9, 0), ("192.0.2.2", 3, 0)];
        let in_work = || candidates(&rows).map(|c| Candidate { droppable: c.id == 0, ..c });
        let newcomer = |source: &str| oldest_of_busiest(in_work(), Some(source.parse().unwrap()));
        assert_eq!(newcomer("192.0.2.2"), None, "its own are in work, and the other has fewer");
        assert_eq!(newcomer("192.0.2.3"), Some(0), "as few as the newcomer's");
        let flood = oldest_of_busiest(candidates(&rows), Some("192.0.2.2".parse().unwrap()));
        assert_eq!(flood, Some(1), "its own oldest makes room");
        let round = [("192.0.2.2", 5, 0); 9];
        let reversed = candidates(&round).collect::<Vec<_>>().into_iter().rev();
        assert_eq!(oldest_of_busiest(reversed, None), Some(0), "of one round the first");
    }

    #[test]
    fn a_public_64_is_one_source_and_mesh_addresses_are_not() {
        let public = [("198.51.100.1", 50, 0), ("2001:db8::1", 2, 0), ("2001:db8::2", 4, 0)];
        assert_eq!(oldest_of_busiest(candidates(&public), None), Some(2));
        let mesh = [("198.51.100.1", 50, 0), ("fd00::1", 2, 0), ("fd00::2", 4, 0)];
        assert_eq!(oldest_of_busiest(candidates(&mesh), None), Some(0));
    }

    #[test]
    fn memory_is_taken_from_the_largest() {
        let rows = [("192.0.2.1", 5, 10), ("192.0.2.2", 1, 30), ("192.0.2.2", 9, 30)];
        assert_eq!(largest(candidates(&rows)), Some(2));
        assert_eq!(largest(candidates(&[("192.0.2.1", 5, 0)])), None, "nothing to gain");
    }
}
