//! Which addresses are reached through this host's own WireGuard interfaces, by its routes.
//!
//! A client whose answers leave by a WireGuard interface holds the key of a peer that has its address in
//! its AllowedIPs: nobody else gets the answer to a TCP handshake. So the route back is what counts, not
//! whether an address looks private. Kernel interfaces are known by `DEVTYPE=wireguard` in sysfs, those of
//! a WireGuard in user space by their socket in /run/wireguard. Only the main table's routes (and all IPv6
//! ones) are read; who comes by another table needs `MANAGER_ALLOW` or the token.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use proto::ids::Cidr;

/// Routes read less than this ago are taken as they were.
const FRESH: Duration = Duration::from_secs(5);

/// Shorter prefixes are the internet and not a mesh, also where a tunnel takes all traffic.
const SHORTEST: u8 = 8;

/// Routes that are no way to anywhere (RTF_REJECT), and those to own addresses (RTF_LOCAL).
const REJECT: u32 = 0x0200;
const LOCAL: u32 = 0x8000_0000;

/// The routes of this host, read anew when they are asked for and old.
#[derive(Debug, Default)]
pub struct Networks {
    known: Mutex<Option<(Instant, Vec<Route>)>>,
}

/// A route, and whether it leads into WireGuard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Route {
    destination: Cidr,
    wireguard: bool,
}

impl Networks {
    /// Whether what is sent to `ip` goes through a WireGuard interface.
    #[must_use]
    pub fn in_wireguard(&self, ip: IpAddr) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref().is_none_or(|(at, _)| at.elapsed() > FRESH) {
            *known = Some((Instant::now(), read(Path::new("/"))));
        }
        known.as_ref().is_some_and(|(_, routes)| leads_into_wireguard(routes, ip))
    }
}

/// The longest prefix decides; where several are as long, all of them have to agree.
fn leads_into_wireguard(routes: &[Route], ip: IpAddr) -> bool {
    let matching = routes.iter().filter(|route| route.destination.contains(ip));
    let Some(longest) = matching.clone().map(|route| route.destination.prefix()).max() else { return false };
    longest >= SHORTEST
        && matching.filter(|route| route.destination.prefix() == longest).all(|route| route.wireguard)
}

/// Reads the routes below `root`. What cannot be read gives none, so that nobody is let in by mistake.
fn read(root: &Path) -> Vec<Route> {
    let text = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_default();
    let (v4, v6) = (text("proc/self/net/route"), text("proc/self/net/ipv6_route"));
    let mut known: Vec<(String, bool)> = Vec::new();
    let parsed = v4.lines().filter_map(ipv4).chain(v6.lines().filter_map(ipv6));
    let routes = parsed.map(|(destination, interface)| {
        let seen = known.iter().find(|(name, _)| name == interface).map(|(_, wireguard)| *wireguard);
        let wireguard = seen.unwrap_or_else(|| {
            let wireguard = is_wireguard(root, interface);
            known.push((interface.to_owned(), wireguard));
            wireguard
        });
        Route { destination, wireguard }
    });
    routes.collect()
}

/// Whether an interface is WireGuard's, by the files below `root`.
#[must_use]
pub fn is_wireguard(root: &Path, name: &str) -> bool {
    let uevent =
        std::fs::read_to_string(root.join(format!("sys/class/net/{name}/uevent"))).unwrap_or_default();
    let socket = |folder: &str| root.join(folder).join(format!("{name}.sock")).exists();
    uevent.lines().any(|line| line == "DEVTYPE=wireguard")
        || socket("run/wireguard")
        || socket("var/run/wireguard")
}

/// A line of /proc/net/route: interface, destination, gateway, flags, ..., mask in column 8; numbers in
/// hexadecimal, addresses in the machine's own byte order. The first line, which names the columns, is
/// no such line.
fn ipv4(line: &str) -> Option<(Cidr, &str)> {
    let columns: Vec<&str> = line.split_ascii_whitespace().collect();
    let hex = |at: usize| columns.get(at).and_then(|text| u32::from_str_radix(text, 16).ok());
    let address = |at| Some(Ipv4Addr::from(hex(at)?.to_ne_bytes()));
    let prefix = u8::try_from(address(7)?.to_bits().count_ones()).ok()?;
    (hex(3)? & REJECT == 0).then_some((Cidr::new(address(1)?.into(), prefix)?, *columns.first()?))
}

/// A line of /proc/net/ipv6_route: destination, prefix length, source, its length, gateway, metric,
/// references, uses, flags, interface; numbers in hexadecimal.
fn ipv6(line: &str) -> Option<(Cidr, &str)> {
    let columns: Vec<&str> = line.split_ascii_whitespace().collect();
    let address = u128::from_str_radix(columns.first()?, 16).ok().map(Ipv6Addr::from)?;
    let prefix = u8::from_str_radix(columns.get(1)?, 16).ok()?;
    let flags = u32::from_str_radix(columns.get(8)?, 16).ok()?;
    (flags & (REJECT | LOCAL) == 0).then_some((Cidr::new(address.into(), prefix)?, *columns.get(9)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines as the kernel of a little-endian machine prints them.
    const V4: &str = "\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
wg1\t00000000\t00000000\t0001\t0\t0\t0\t00000080\t0\t0\t0
wg0\t0000090A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
eth0\t4000090A\t00000000\t0001\t0\t0\t0\tF0FFFFFF\t0\t0\t0
wg1\t0500080A\t00000000\t0005\t0\t0\t0\tFFFFFFFF\t0\t0\t0
*\t0700080A\t00000000\t0205\t0\t0\t0\tFFFFFFFF\t0\t0\t0
eth0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0
";
    const V6: &str = "\
fd000009000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001 wg0
fd000009000000000000000000000001 80 00000000000000000000000000000000 00 00000000000000000000000000000000 00000000 00000002 00000000 80200001 wg0
fe800000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001 wg0
fe800000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001 eth0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200 lo
";

    #[test]
    #[cfg(target_endian = "little")]
    fn the_route_back_tells_who_is_inside_wireguard() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("proc/self/net/route", V4);
        write("proc/self/net/ipv6_route", V6);
        write("sys/class/net/wg0/uevent", "DEVTYPE=wireguard\nINTERFACE=wg0\nIFINDEX=3\n");
        write("sys/class/net/wg1/uevent", "INTERFACE=wg1\nIFINDEX=4\n");
        write("sys/class/net/eth0/uevent", "INTERFACE=eth0\nIFINDEX=2\n");
        write("run/wireguard/wg1.sock", "");
        let routes = read(dir.path());
        let inside = |ip: &str| leads_into_wireguard(&routes, ip.parse().unwrap());
        for ip in ["10.9.0.1", "10.9.0.200", "10.8.0.5", "fd00:9::5"] {
            assert!(inside(ip), "{ip}");
        }
        for ip in [
            "10.9.0.65", // a longer prefix leads out of the tunnel
            "192.168.1.7",
            "8.8.8.8", // a tunnel that takes half the internet is no mesh
            "200.1.1.1",
            "fe80::1", // on a LAN as well
            "2001:db8::1",
        ] {
            assert!(!inside(ip), "{ip}");
        }
        assert!(read(Path::new("/nonexistent")).is_empty());
    }

    #[test]
    fn malformed_lines_are_passed_over() {
        for line in ["", "eth0", "eth0 zz 0 1 0 0 0 0", "eth0 0 0 1"] {
            assert_eq!(ipv4(line), None, "{line}");
            assert_eq!(ipv6(line), None, "{line}");
        }
    }
}
