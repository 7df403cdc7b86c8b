//! Routes, from netlink; from /proc where that is refused.

use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::path::Path;

use proto::limits::ROUTES_MAX;
use proto::report::{InterfaceKind, Route, Source, SystemData};

use super::Sources;
use super::files::{LIST_MAX, each_line};
use super::keep::Keep;
use super::links::Names;
use super::netlink::NetlinkError;
use super::problems::{BadRows, Problems};
use super::question::Question;
use crate::parse::netlink::{INET, INET6, route};
use crate::parse::{ParseError, Row, route4, route6};

/// Fills in the routes. Default routes and those through WireGuard are kept first, the link-local
/// ones last.
pub(super) fn read(sources: &Sources, names: &Names, problems: &mut Problems, system: &mut SystemData) {
    match from_netlink(sources, names, problems, system) {
        Ok((routes, total)) => {
            (system.routes, system.routes_total) = (routes, total);
            system.routes_source = Source::Netlink;
        }
        Err(error) => {
            if !matches!(error, NetlinkError::Off) {
                problems.add("netlink routes", format_args!("{error}; /proc was read instead"));
            }
            from_proc(sources, problems, system);
        }
    }
}

/// Both families or none, so that a list has one source.
fn from_netlink(
    sources: &Sources,
    names: &Names,
    problems: &mut Problems,
    system: &SystemData,
) -> Result<(Vec<Route>, u32), NetlinkError> {
    let wireguard = system.interfaces.iter().filter(|interface| interface.kind == InterfaceKind::WireGuard);
    let wireguard: Vec<u32> = wireguard.map(|interface| interface.index).collect();
    let mut ask = |question, family| {
        let start = || Keep::new(ROUTES_MAX);
        sources.netlink.list(question, problems, start, |keep, body| {
            route::rows(family, body, |route, index| {
                let is_wireguard = index.is_some_and(|index| wireguard.contains(&index));
                keep.push(rank(&route, is_wireguard), (route, index));
            })
        })
    };
    let mut keep = ask(Question::Routes4, INET)?;
    match ask(Question::Routes6, INET6) {
        Ok(ipv6) => keep.append(ipv6),
        // A kernel without IPv6.
        Err(error) if error.is_unsupported() => {}
        Err(error) => return Err(error),
    }
    let (rows, total) = keep.finish();
    let named =
        |(route, index): (Route, Option<u32>)| Route { interface: index.map(|i| names.of(i)), ..route };
    Ok((rows.into_iter().map(named).collect(), total))
}

fn from_proc(sources: &Sources, problems: &mut Problems, system: &mut SystemData) {
    let is_wireguard = |name: &str| {
        let mut devices = system.interfaces.iter().filter(|i| i.kind == InterfaceKind::WireGuard);
        devices.any(|interface| interface.name == name)
    };
    let mut keep = Keep::new(ROUTES_MAX);
    let mut push = |route: Route| {
        let is_wireguard = route.interface.as_deref().is_some_and(is_wireguard);
        keep.push(rank(&route, is_wireguard), route);
    };
    let ipv4 = sources.proc_root.join("net/route");
    let ipv6 = sources.proc_root.join("net/ipv6_route");
    let read_ipv4 = list(&ipv4, route4::HEADER, route4::row, problems, &mut push);
    let read_ipv6 = list(&ipv6, 0, route6::row, problems, &mut push);
    (system.routes, system.routes_total) = keep.finish();
    system.routes_source = if read_ipv4 || read_ipv6 { Source::Proc } else { Source::None };
}

fn rank(route: &Route, is_wireguard: bool) -> u8 {
    match route.destination.address() {
        _ if route.destination.prefix() == 0 || is_wireguard => 0,
        IpAddr::V6(ip) if ip.is_unicast_link_local() => 2,
        _ => 1,
    }
}

/// Gives each row of a list under /proc to `push`, skipping `header` lines; whether it was read.
pub(super) fn list<T>(
    path: &Path,
    header: usize,
    row: impl Fn(&str) -> Row<T>,
    problems: &mut Problems,
    mut push: impl FnMut(T),
) -> bool {
    let (mut bad, mut lines) = (BadRows::default(), 0);
    let outcome = each_line(path, LIST_MAX, &mut |number, line| {
        lines = number;
        if number > header && !line.trim().is_empty() {
            match row(line) {
                Ok(value) => value.into_iter().for_each(&mut push),
                Err(error) => bad.add(ParseError::new(number, error)),
            }
        }
    });
    bad.report(path.display(), problems);
    tell(path, &outcome, lines, problems);
    outcome.is_ok()
}

/// How the reading of a list went: a problem unless it was read whole.
fn tell(path: &Path, outcome: &io::Result<bool>, lines: usize, problems: &mut Problems) {
    match outcome {
        Ok(false) => {}
        Ok(true) => {
            let message = format_args!("longer than {} MiB: read up to line {lines} only", LIST_MAX >> 20);
            problems.add_file(path, message);
        }
        Err(error) if error.kind() == ErrorKind::NotFound && path.ends_with("ipv6_route") => {
            problems.add_file(path, "not there: the kernel runs without IPv6");
        }
        Err(error) => problems.add_file(path, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::report::Interface;

    #[test]
    fn a_full_table_is_cut_to_what_matters() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("net")).unwrap();
        let mut text =
            "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n".to_owned();
        for number in 0..20_000_u32 {
            let destination = u32::from_ne_bytes((number << 8).to_be_bytes());
            text += &format!("eth0\t{destination:08X}\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n");
        }
        text += "wg0\t00001E0A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";
        text += "eth0\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n";
        std::fs::write(dir.path().join("net/route"), text).unwrap();
        let mut system = SystemData::default();
        system.interfaces.push(Interface {
            name: "wg0".to_owned(),
            kind: InterfaceKind::WireGuard,
            ..Interface::default()
        });
        let (mut problems, sources) =
            (Problems::default(), Sources { proc_root: dir.path().to_owned(), ..Sources::system() });
        from_proc(&sources, &mut problems, &mut system);
        assert_eq!((system.routes.len(), system.routes_total), (ROUTES_MAX, 20_002));
        assert_eq!(system.routes[254].interface.as_deref(), Some("wg0"));
        assert_eq!(system.routes[255].destination.to_string(), "0.0.0.0/0");
        let problems = problems.into_list();
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].message, "not there: the kernel runs without IPv6");
    }

    #[test]
    fn an_endless_table_is_cut_and_said_to_be() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("route");
        let line = "eth0\t00000000\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0                          \n";
        std::fs::write(&path, line.repeat((4 << 20) / line.len() + 10)).unwrap();
        let (mut problems, mut count) = (Problems::default(), 0);
        assert!(list(&path, 0, route4::row, &mut problems, |_| count += 1));
        assert_eq!(count, (4 << 20) / line.len());
        let message = &problems.into_list()[0].message;
        assert_eq!(*message, format!("longer than 4 MiB: read up to line {count} only"));
    }
}
