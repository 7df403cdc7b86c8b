//! Neighbours, from /proc: IPv4 only.

use proto::limits::NEIGHBOURS_MAX;
use proto::report::{Neighbour, NeighbourState, Source, SystemData};

use super::Sources;
use super::keep::Keep;
use super::problems::Problems;
use super::routes::list;
use crate::parse::neighbour;

/// Fills in the neighbours, after the routes: gateways are kept first, unresolved entries last.
pub(super) fn read(sources: &Sources, problems: &mut Problems, system: &mut SystemData) {
    let rank = |neighbour: &Neighbour| {
        let gateway = system.routes.iter().any(|route| route.gateway == Some(neighbour.ip));
        match neighbour.state {
            _ if gateway => 0,
            NeighbourState::Incomplete => 2,
            _ => 1,
        }
    };
    let mut keep = Keep::new(NEIGHBOURS_MAX);
    let path = sources.proc_root.join("net/arp");
    let was_read = list(&path, neighbour::HEADER, neighbour::row, problems, |neighbour| {
        keep.push(rank(&neighbour), neighbour);
    });
    (system.neighbours, system.neighbours_total) = keep.finish();
    system.neighbours_source = if was_read { Source::Proc } else { Source::None };
}
