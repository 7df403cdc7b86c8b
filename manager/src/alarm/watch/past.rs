//! What is odd of an agent, or was lately: of most agents nothing is, and then it takes no room.

use std::net::IpAddr;

use proto::ids::{Cidr, PublicKey};

use super::{GAP_WINDOW, WINDOW, WayOut};

/// What is odd of an agent, or was lately.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Past {
    /// When its clock went back, and by how much (ms).
    pub clock_back: Option<(i64, i64)>,
    /// When its host was found to have been started anew (ms).
    pub rebooted_at: Option<i64>,
    /// When it last gave up reports, and how many.
    pub dropped_at: Option<(i64, u64)>,
    /// Whence its reports came late or not at all (ms).
    pub gaps: Vec<i64>,
    /// What it could not read: source and reason.
    pub problems: Vec<(String, String)>,
    /// The default route before the present one, and when it changed (ms).
    pub way_out_before: Option<(Option<WayOut>, i64)>,
    /// Addresses that do not answer, with their interface, and whether they are known to have answered.
    pub failed: Vec<(IpAddr, String, bool)>,
    /// Routes into WireGuard interfaces where no AllowedIPs hold their destination.
    pub stray_routes: Vec<(String, Cidr)>,
    /// AllowedIPs that no route leads into their interface, with the interface that it leads to.
    pub stray_prefixes: Vec<(String, PublicKey, Cidr, Option<String>)>,
}

/// Where nothing is odd.
static NOTHING: Past = Past {
    clock_back: None,
    rebooted_at: None,
    dropped_at: None,
    gaps: Vec::new(),
    problems: Vec::new(),
    way_out_before: None,
    failed: Vec::new(),
    stray_routes: Vec::new(),
    stray_prefixes: Vec::new(),
};

/// A [`Past`], most often none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Rare(Option<Box<Past>>);

impl Rare {
    pub(super) fn get(&self) -> &Past {
        self.0.as_deref().unwrap_or(&NOTHING)
    }

    /// It, to be changed and put back.
    pub(super) fn take(&mut self) -> Past {
        self.0.take().map(|past| *past).unwrap_or_default()
    }
}

impl From<Past> for Rare {
    fn from(past: Past) -> Self {
        Self((past != NOTHING).then(|| Box::new(past)))
    }
}

impl Past {
    /// Whether something of it may be worth a word; `has_way_out` where there is a default route.
    pub(super) fn is_odd(&self, now: i64, has_way_out: bool) -> bool {
        let recent = |at: Option<i64>| at.is_some_and(|at| now - at <= WINDOW);
        let way_out = self.way_out_before.as_ref();
        recent(self.clock_back.map(|(at, _)| at))
            || recent(self.rebooted_at)
            || recent(self.dropped_at.map(|(at, _)| at))
            || way_out.is_some_and(|(_, at)| !has_way_out || now - at <= GAP_WINDOW)
            || !(self.gaps.is_empty() && self.problems.is_empty() && self.failed.is_empty())
            || !(self.stray_routes.is_empty() && self.stray_prefixes.is_empty())
    }

    /// Whether something of it happened once, and so may be odd until the next report.
    pub(super) fn has_happened(&self) -> bool {
        self.clock_back.is_some()
            || self.rebooted_at.is_some()
            || self.dropped_at.is_some()
            || self.way_out_before.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_no_room_while_nothing_is_odd() {
        let mut rare = Rare::from(Past { gaps: vec![5], ..Past::default() });
        assert_eq!(rare.get().gaps, [5]);
        let past = rare.take();
        assert_eq!((&past.gaps[..], rare.get()), (&[5][..], &Past::default()));
        assert_eq!(Rare::from(Past { gaps: Vec::new(), ..past }), Rare(None));
    }
}
