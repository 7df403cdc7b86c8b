//! This host, as far as it can be read: the only place that reads files under /proc and /sys, asks
//! the kernel by netlink, and daemons of WireGuard by their sockets.
//!
//! ```text
//! rtnetlink links ───────────────────────┬ kinds, tunnels
//! generic netlink, control sockets ──────┤ names of WireGuard devices, and their peers
//! /proc/net/dev, /sys/class/net ─────────┴▶ interfaces
//! rtnetlink routes, rules, neighbours ────▶ the same
//! or /proc/net/route, ipv6_route, arp ────▶ routes, neighbours
//! /proc, os-release ──────────────────────▶ the host's own figures
//! ```
//!
//! Whatever cannot be read is left at its default and named in a [`Problem`]; the rest goes on.

mod addresses;
mod files;
mod hardware;
mod host;
mod interfaces;
mod keep;
mod links;
mod neighbours;
mod netlink;
mod problems;
mod question;
mod routes;
mod rules;
mod wg_sockets;
mod wireguard;

use std::path::PathBuf;
use std::time::SystemTime;

use nix::sys::utsname::uname;
use proto::report::{Problem, SystemData};

pub use addresses::Addresses;
pub use hardware::hardware_id;
pub use netlink::{Netlink, NetlinkError};
pub use question::Question;
pub use wg_sockets::WgSockets;

use files::SmallFiles;
use links::{Links, Names};
use problems::Problems;

/// Where a host is read from. [`Sources::system`] is this host; tests point it at a copied tree.
#[derive(Debug)]
pub struct Sources {
    /// Root of the file system, for `etc`, `usr/lib`, `var`: `/`.
    pub root: PathBuf,
    /// Where procfs is mounted: `/proc`.
    pub proc_root: PathBuf,
    /// Where sysfs is mounted: `/sys`.
    pub sys_root: PathBuf,
    /// The kernel's netlink.
    pub netlink: Netlink,
    /// The sockets of userspace WireGuard, under `root`.
    pub wg_sockets: WgSockets,
    /// Where interface addresses come from.
    pub addresses: Addresses,
    /// Machine hardware name, as `uname -m`.
    pub arch: String,
}

impl Sources {
    /// This host.
    #[must_use]
    pub fn system() -> Self {
        let arch = uname().map(|names| names.machine().to_string_lossy().into_owned());
        Self {
            root: PathBuf::from("/"),
            proc_root: PathBuf::from("/proc"),
            sys_root: PathBuf::from("/sys"),
            netlink: Netlink::System,
            wg_sockets: WgSockets::default(),
            addresses: Addresses::System,
            arch: arch.unwrap_or_else(|_| std::env::consts::ARCH.to_owned()),
        }
    }
}

/// Reads the host once. `now` is the host's own clock, by which handshakes are aged. Every list is
/// within [`proto::limits`]; where one was cut, its `*_total` or a problem says so.
///
/// Where no one tells of WireGuard, `wireguard` is empty, `wireguard_source` is `None` and a problem of
/// the source `wg` says why: no device is known to be gone.
#[must_use]
pub fn collect(sources: &Sources, now: SystemTime) -> (SystemData, Vec<Problem>) {
    let mut problems = Problems::default();
    let mut files = SmallFiles::default();
    let mut system = SystemData::default();

    let links = Links::read(sources, &mut problems);
    let told = wireguard::ask(sources, &links, &mut problems);
    interfaces::read(sources, &told.names(), &links, &mut files, &mut problems, &mut system);
    wireguard::read(told, now, &mut problems, &mut system);
    let names = Names::new(&links, &system);
    routes::read(sources, &names, &mut problems, &mut system);
    rules::read(sources, &mut problems, &mut system);
    neighbours::read(sources, &names, &mut problems, &mut system);
    host::read(sources, &mut files, &mut problems, &mut system);
    (system, problems.into_list())
}
