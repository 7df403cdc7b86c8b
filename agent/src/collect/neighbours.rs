//! Neighbours, from netlink; where that is refused from /proc, which has IPv4 only and no states.

use std::net::IpAddr;

use proto::limits::NEIGHBOURS_MAX;
use proto::report::{Neighbour, NeighbourState, Source, SystemData};

use super::Sources;
use super::keep::Keep;
use super::links::Names;
use super::netlink::NetlinkError;
use super::problems::Problems;
use super::question::Question;
use super::routes::list;
use crate::parse::neighbour;
use crate::parse::netlink::neighbour as message;

/// Fills in the neighbours, after the routes: gateways are kept first, unresolved entries last.
pub(super) fn read(sources: &Sources, names: &Names, problems: &mut Problems, system: &mut SystemData) {
    let mut gateways = Vec::new();
    for gateway in system.routes.iter().filter_map(|route| route.gateway) {
        if !gateways.contains(&gateway) {
            gateways.push(gateway);
        }
    }
    match from_netlink(sources, names, problems, &gateways) {
        Ok((neighbours, total)) => {
            (system.neighbours, system.neighbours_total) = (neighbours, total);
            system.neighbours_source = Source::Netlink;
        }
        Err(error) => {
            if !matches!(error, NetlinkError::Off) {
                problems.add("netlink neighbours", format_args!("{error}; /proc was read instead"));
            }
            from_proc(sources, problems, &gateways, system);
        }
    }
}

fn from_netlink(
    sources: &Sources,
    names: &Names,
    problems: &mut Problems,
    gateways: &[IpAddr],
) -> Result<(Vec<Neighbour>, u32), NetlinkError> {
    let start = || Keep::new(NEIGHBOURS_MAX);
    let keep = sources.netlink.list(Question::Neighbours, problems, start, |keep, body| {
        if let Some(row) = message::row(body)? {
            keep.push(rank(gateways, row.ip, row.state), row);
        }
        Ok(())
    })?;
    let (rows, total) = keep.finish();
    let neighbour = |row: message::NeighbourRow| Neighbour {
        ip: row.ip,
        mac: row.mac,
        interface: names.of(row.index),
        state: row.state,
        router: row.router,
    };
    Ok((rows.into_iter().map(neighbour).collect(), total))
}

fn from_proc(sources: &Sources, problems: &mut Problems, gateways: &[IpAddr], system: &mut SystemData) {
    let mut keep = Keep::new(NEIGHBOURS_MAX);
    let path = sources.proc_root.join("net/arp");
    let was_read = list(&path, neighbour::HEADER, neighbour::row, problems, |neighbour| {
        keep.push(rank(gateways, neighbour.ip, neighbour.state), neighbour);
    });
    (system.neighbours, system.neighbours_total) = keep.finish();
    system.neighbours_source = if was_read { Source::Proc } else { Source::None };
}

fn rank(gateways: &[IpAddr], ip: IpAddr, state: NeighbourState) -> u8 {
    match state {
        _ if gateways.contains(&ip) => 0,
        NeighbourState::Incomplete | NeighbourState::Failed => 2,
        _ => 1,
    }
}
