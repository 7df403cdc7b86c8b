//! Network interfaces: which there are from /proc/net/dev, what they are from /sys/class/net and
//! netlink.
//!
//! /proc/net/dev is always of this process's network namespace; /sys shows the namespace in which
//! it was mounted, so an interface may lack its folder there. Then netlink tells the most of it.

use std::fs;
use std::path::{Path, PathBuf};

use proto::ids::Cidr;
use proto::limits::{ADDRESSES_MAX, INTERFACES_MAX};
use proto::report::{Counters, IFF_UP, Interface, InterfaceKind, SystemData, TunnelData};

use super::Sources;
use super::files::SmallFiles;
use super::keep::Keep;
use super::links::Links;
use super::problems::{Problems, short};
use super::routes::list;
use crate::parse::netlink::link::Link;
use crate::parse::sysfs::{self, SysFacts};
use crate::parse::{interface_name, net_dev, vlan};

/// Fills in the interfaces by index. Those that are up and a network card or WireGuard are kept
/// first. `wireguard` names the WireGuard devices.
pub(super) fn read(
    sources: &Sources,
    wireguard: &[String],
    links: &Links,
    files: &mut SmallFiles,
    problems: &mut Problems,
    system: &mut SystemData,
) {
    let class = sources.sys_root.join("class/net");
    let mut found = Vec::new();
    let net_dev = sources.proc_root.join("net/dev");
    list(&net_dev, net_dev::HEADER, net_dev::row, problems, |row| found.push(row));
    let found = choose(found, &class, wireguard, files, system);
    let addresses = sources.addresses.read(problems);
    let mut bare = Vec::new();
    for (name, counters) in found {
        let link = links.get(&name);
        let is_wireguard = wireguard.contains(&name);
        let mut interface = match (Folder::open(&class, &name, files), link) {
            (Some(mut folder), _) => folder.interface(&name, is_wireguard, link),
            (None, link) => {
                bare.push(name.clone());
                link.map(|link| of_link(link, is_wireguard, links)).unwrap_or_default()
            }
        };
        if let Some(link) = link {
            interface.link = link.link.filter(|link| *link != 0);
            interface.link_is_foreign = interface.link.map(|_| link.link_is_foreign);
            interface.driver_kind.clone_from(&link.kind);
            interface.tunnel = link.tunnel.clone().or(interface.tunnel);
        }
        interface.name = name;
        interface.counters = counters;
        interface.addresses = few_addresses(addresses.of(&interface), &interface.name, problems);
        system.interfaces.push(interface);
    }
    if !bare.is_empty() {
        let names = bare.join(", ");
        problems.add_file(&class, format_args!("no folder of {names}: is /sys mounted in this namespace?"));
    }
    set_vlan_ids(sources, problems, &mut system.interfaces);
    system.interfaces.sort_by(|a, b| (a.index, &a.name).cmp(&(b.index, &b.name)));
}

/// Those that a report has room for. Only where there are too many, the folders are looked into.
fn choose(
    found: Vec<(String, Counters)>,
    class: &Path,
    wireguard: &[String],
    files: &mut SmallFiles,
    system: &mut SystemData,
) -> Vec<(String, Counters)> {
    let mut keep = Keep::new(INTERFACES_MAX);
    let many = found.len() > INTERFACES_MAX;
    for row in found {
        let rank = if many { rank(&row.0, class, wireguard, files) } else { 0 };
        keep.push(rank, row);
    }
    let (kept, total) = keep.finish();
    system.interfaces_total = total;
    kept
}

fn rank(name: &str, class: &Path, wireguard: &[String], files: &mut SmallFiles) -> u8 {
    let path = class.join(name);
    let telling = path.join("device").exists() || wireguard.iter().any(|device| device == name);
    let flags = files.read(&path.join("flags")).ok().and_then(sysfs::number).unwrap_or(0);
    match (flags & IFF_UP != 0, telling) {
        (true, true) => 0,
        (true, false) => 1,
        (false, true) => 2,
        (false, false) => 3,
    }
}

fn few_addresses(mut own: Vec<Cidr>, name: &str, problems: &mut Problems) -> Vec<Cidr> {
    if own.len() > ADDRESSES_MAX {
        problems.add(name, format_args!("{} addresses, {ADDRESSES_MAX} are listed", own.len()));
        own.truncate(ADDRESSES_MAX);
    }
    own
}

fn set_vlan_ids(sources: &Sources, problems: &mut Problems, interfaces: &mut [Interface]) {
    let lacks_id =
        |interface: &Interface| interface.kind == InterfaceKind::Vlan && interface.tunnel.is_none();
    if !interfaces.iter().any(lacks_id) {
        return;
    }
    let mut ids = Vec::new();
    let path = sources.proc_root.join("net/vlan/config");
    list(&path, vlan::HEADER, vlan::row, problems, |row| ids.push(row));
    for interface in interfaces.iter_mut().filter(|interface| lacks_id(interface)) {
        let id = ids.iter().find(|(name, _)| *name == interface.name).map(|(_, id)| *id);
        interface.tunnel = id.map(|id| TunnelData { id: Some(id), ..TunnelData::default() });
    }
}

/// An interface that has no folder in /sys/class/net.
fn of_link(link: &Link, is_wireguard: bool, links: &Links) -> Interface {
    let facts = SysFacts {
        name: &link.name,
        driver_kind: link.kind.as_deref(),
        link_layer: link.link_layer,
        flags: link.flags,
        index: link.index,
        iflink: link.link.unwrap_or(link.index),
        device: link.device,
        wireguard: is_wireguard,
        ..SysFacts::default()
    };
    Interface {
        index: link.index,
        kind: sysfs::kind(&facts),
        master: link.master.and_then(|index| links.name(index)).map(str::to_owned),
        flags: link.flags,
        ..of_netlink(link)
    }
}

/// What /sys and netlink tell alike.
fn of_netlink(link: &Link) -> Interface {
    Interface {
        mac: link.mac.clone(),
        mtu: link.mtu,
        operstate: link.operstate.to_owned(),
        carrier_changes: link.carrier_changes.map(u64::from),
        ..Interface::default()
    }
}

/// An interface's folder in /sys/class/net.
struct Folder<'a> {
    path: PathBuf,
    names: Names,
    files: &'a mut SmallFiles,
}

/// What is told by a name's being there.
#[derive(Default)]
struct Names {
    device: bool,
    bridge: bool,
    bonding: bool,
    bridge_port: bool,
    wireless: bool,
    tun: bool,
    master: bool,
    lower: Vec<String>,
}

impl<'a> Folder<'a> {
    fn open(class: &Path, name: &str, files: &'a mut SmallFiles) -> Option<Self> {
        let path = class.join(name);
        let mut names = Names::default();
        for entry in fs::read_dir(&path).ok()?.flatten() {
            let entry = entry.file_name();
            match entry.to_str().unwrap_or_default() {
                "device" => names.device = true,
                "bridge" => names.bridge = true,
                "bonding" => names.bonding = true,
                "brport" => names.bridge_port = true,
                "wireless" | "phy80211" => names.wireless = true,
                "tun_flags" => names.tun = true,
                "master" => names.master = true,
                other => names.lower.extend(lower(other)),
            }
        }
        names.lower.sort_unstable();
        names.lower.truncate(INTERFACES_MAX);
        Some(Self { path, names, files })
    }

    /// What netlink has told already is not read again: files are most of a turn's system calls.
    fn interface(&mut self, name: &str, wireguard: bool, link: Option<&Link>) -> Interface {
        let driver_kind = link.and_then(|link| link.kind.as_deref());
        let is_told = driver_kind.and_then(sysfs::of_driver).is_some();
        let uevent = if is_told { String::new() } else { self.text("uevent").unwrap_or_default().to_owned() };
        let index = link.map(|link| link.index).or_else(|| sysfs::ifindex(&uevent));
        let index = index.or_else(|| self.number("ifindex")).unwrap_or(0);
        let iflink = match link {
            Some(link) => link.link.unwrap_or(index),
            None => self.number("iflink").unwrap_or(index),
        };
        // Netlink adds what follows from the state of the link.
        let flags = self.number("flags").unwrap_or(0);
        let kind = sysfs::kind(&SysFacts {
            name,
            driver_kind,
            devtype: sysfs::devtype(&uevent),
            link_layer: link.map(|link| link.link_layer).or_else(|| self.number("type")).unwrap_or(0),
            flags,
            tun_flags: if self.names.tun { Some(self.number("tun_flags").unwrap_or(0)) } else { None },
            index,
            iflink,
            device: self.names.device,
            bridge: self.names.bridge,
            bonding: self.names.bonding,
            bridge_port: self.names.bridge_port,
            wireless: self.names.wireless,
            lower: !self.names.lower.is_empty(),
            wireguard,
        });
        let mut interface = match link {
            Some(link) => of_netlink(link),
            None => Interface {
                mac: self.text("address").and_then(sysfs::hardware_address),
                mtu: self.number("mtu").unwrap_or(0),
                operstate: self
                    .text("operstate")
                    .map(|text| short(text.trim().to_owned()))
                    .unwrap_or_default(),
                carrier_changes: self.number("carrier_changes").map(u64::from),
                ..Interface::default()
            },
        };
        interface.index = index;
        interface.kind = kind;
        interface.flags = flags;
        interface.link = Some(iflink).filter(|iflink| *iflink != 0 && *iflink != index);
        interface.master = self.master();
        interface.speed_mbps = self.speed(kind, flags);
        interface.tunnel = self.tunnel(kind);
        interface.lower = std::mem::take(&mut self.names.lower);
        interface
    }

    fn text(&mut self, attribute: &str) -> Option<&str> {
        self.path.push(attribute);
        let read = self.files.read(&self.path);
        self.path.pop();
        read.ok()
    }

    fn number(&mut self, attribute: &str) -> Option<u32> {
        self.text(attribute).and_then(sysfs::number)
    }

    fn master(&self) -> Option<String> {
        let target =
            if self.names.master { fs::read_link(self.path.join("master")).ok()? } else { return None };
        interface_name(target.file_name()?.to_str()?).map(str::to_owned)
    }

    /// Only where a driver knows it: virtual devices make one up, and refuse while they are down.
    fn speed(&mut self, kind: InterfaceKind, flags: u32) -> Option<u32> {
        let has_speed = matches!(kind, InterfaceKind::Physical | InterfaceKind::Bond);
        if has_speed && flags & IFF_UP != 0 { self.number("speed").filter(|speed| *speed > 0) } else { None }
    }

    fn tunnel(&mut self, kind: InterfaceKind) -> Option<TunnelData> {
        if !matches!(kind, InterfaceKind::Gre | InterfaceKind::Ipip | InterfaceKind::Sit) {
            return None;
        }
        let local = self.text("address")?.to_owned();
        sysfs::tunnel(&local, self.text("broadcast")?)
    }
}

/// The interface that a `lower_NAME` link names.
fn lower(entry: &str) -> Option<String> {
    entry.strip_prefix("lower_").and_then(interface_name).map(str::to_owned)
}
