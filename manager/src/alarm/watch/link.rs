//! What is remembered of a network card, and how a report changes it.

use proto::report::{IFF_UP, Interface};

use super::WINDOW;

/// Flaps remembered of a card.
const FLAPS: usize = 30;

/// What is remembered of a network card.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkWatch {
    /// Whether it had a link and an address once.
    pub was_used: bool,
    /// Whether it is set up.
    pub is_enabled: bool,
    /// Whether it has a link.
    pub has_link: bool,
    changes: Option<u64>,
    #[expect(clippy::box_collection, reason = "most have none")]
    flaps: Option<Box<Vec<(i64, u64)>>>,
    /// Its speed, and the fastest that it had (Mbit/s).
    pub speed: Option<u32>,
    /// The fastest that it had.
    pub fastest: Option<u32>,
    /// Whether it was ever seen to become faster.
    pub is_faster: bool,
    /// Its link-layer address.
    pub mac: Option<Box<str>>,
    /// Where it stands in the report's list of interfaces.
    pub(super) place: u16,
}

impl LinkWatch {
    /// When its link came or went lately (ms), each counted.
    #[must_use]
    pub fn flaps(&self) -> &[(i64, u64)] {
        self.flaps.as_ref().map_or(&[], |flaps| flaps)
    }

    pub(super) fn is_odd(&self) -> bool {
        self.was_used && self.is_enabled && !self.has_link
            || self.flaps.is_some()
            || self.speed < self.fastest
    }

    /// Takes how often its link came or went.
    pub(super) fn count(&mut self, changes: Option<u64>, same_boot: bool, now: i64) {
        if let Some(flaps) = &mut self.flaps {
            flaps.retain(|(at, _)| now - at <= WINDOW);
        }
        if let (Some(was), Some(is), true) = (self.changes, changes, same_boot)
            && is > was
        {
            let flaps = self.flaps.get_or_insert_default();
            if flaps.len() >= FLAPS {
                flaps.remove(0);
            }
            flaps.push((now, is - was));
        }
        self.flaps.take_if(|flaps| flaps.is_empty());
        self.changes = changes;
    }
}

/// What is to be remembered of a card that stands at `place` in a report's list.
pub(super) fn link_watch(
    old: Option<&LinkWatch>,
    (place, interface): (u16, &Interface),
    same_boot: bool,
    now: i64,
) -> LinkWatch {
    let enabled = interface.flags & IFF_UP != 0;
    let linked = enabled && !matches!(interface.operstate.as_str(), "down" | "lowerlayerdown" | "notpresent");
    let mut watch = LinkWatch {
        was_used: linked || old.is_some_and(|old| old.was_used),
        is_enabled: enabled,
        has_link: linked,
        changes: old.and_then(|old| old.changes),
        flaps: old.and_then(|old| old.flaps.clone()),
        speed: interface.speed_mbps,
        fastest: interface.speed_mbps.max(old.and_then(|old| old.fastest)),
        is_faster: old
            .is_some_and(|old| old.is_faster || old.speed.is_some() && interface.speed_mbps > old.speed),
        mac: interface.mac.as_deref().map(Box::from),
        place,
    };
    watch.count(interface.carrier_changes, same_boot, now);
    watch
}
