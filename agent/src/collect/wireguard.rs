//! WireGuard devices and peers: the kernel's by netlink, userspace ones by their control sockets.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use proto::limits::{ALLOWED_IPS_MAX, DEVICES_MAX, PEERS_MAX};
use proto::report::{Interface, InterfaceKind, Source, SystemData, WireGuardDevice};

use super::Sources;
use super::links::Links;
use super::netlink::{Netlink, NetlinkError};
use super::problems::Problems;
use super::question::Question;
use super::wg_sockets::{self, SocketError};
use crate::parse::netlink::{family, wireguard};

/// The kind of the kernel's own devices.
const KIND: &str = "wireguard";
/// How far a handshake may lie in the future before it is worth a word: WireGuard is asked after
/// `now` was read, and clocks are stepped.
const FUTURE: i64 = 5;

/// What was told of WireGuard.
#[derive(Debug, Default)]
pub(super) struct Told {
    source: Source,
    devices: Vec<WireGuardDevice>,
    /// Names of userspace devices, whether or not they were told of.
    sockets: Vec<String>,
    /// Why the kernel's devices are not known, or not all of them.
    refusal: Option<String>,
    /// What else went wrong.
    complaints: Vec<String>,
}

/// Asks the kernel and all daemons. The secrets among their answers end here.
pub(super) fn ask(sources: &Sources, links: &Links, problems: &mut Problems) -> Told {
    let mut told = Told::default();
    if !links.is_known {
        told.refusal = Some("netlink gives no list of interfaces".to_owned());
    } else if let Err(error) = told.ask_kernel(&sources.netlink, links, problems) {
        told.refusal = Some(format!("netlink: {error}{}", advice(error.is_denied(), "CAP_NET_ADMIN")));
    }
    let of_kernel = told.devices.len();
    told.ask_sockets(sources);
    told.source = match told.devices.len() {
        0 if told.refusal.is_some() || !told.complaints.is_empty() => Source::None,
        1.. if of_kernel == 0 => Source::Uapi,
        _ => Source::Netlink,
    };
    let peers = told.devices.iter_mut().flat_map(|device| &mut device.peers);
    peers.filter_map(|peer| peer.endpoint.as_mut()).for_each(|endpoint| name_zone(endpoint, links));
    sort(&mut told.devices);
    told
}

/// By name, and the peers of each by their key: daemons change their order from answer to answer.
fn sort(devices: &mut [WireGuardDevice]) {
    devices.sort_by(|a, b| a.name.cmp(&b.name));
    for device in devices {
        device.peers.sort_by_key(|peer| peer.public_key);
    }
}

impl Told {
    fn ask_kernel(
        &mut self,
        netlink: &Netlink,
        links: &Links,
        problems: &mut Problems,
    ) -> Result<(), NetlinkError> {
        let mut number = None;
        for link in links.of_kind(KIND) {
            let family = match number {
                Some(number) => number,
                None => *number.insert(family_number(netlink, problems)?),
            };
            let question = Question::WireGuard { family, index: link.index };
            let device = netlink.list(question, problems, WireGuardDevice::default, |device, body| {
                wireguard::row(body, device)
            });
            let mut device = match device {
                Err(error) if error.is_gone() => continue,
                device => device?,
            };
            device.name.clone_from(&link.name);
            self.devices.push(device);
        }
        Ok(())
    }

    fn ask_sockets(&mut self, sources: &Sources) {
        let mut sockets = match wg_sockets::list(&sources.root) {
            Ok(sockets) => sockets,
            Err((folder, error)) => return self.complain(&folder, &error),
        };
        // One that a daemon left behind, whose device is the kernel's now.
        sockets.retain(|(name, _)| self.devices.iter().all(|device| device.name != *name));
        for (answer, (_, path)) in sources.wg_sockets.ask(&sockets).into_iter().zip(&sockets) {
            match answer {
                Ok(answer) => {
                    if let Some(bad) = answer.bad {
                        let (path, count) = (path.display(), answer.bad_lines);
                        self.complaints.push(format!("{path}: {bad}; {count} such left out"));
                    }
                    self.devices.push(answer.device);
                }
                Err(error) => self.complain(path, &error),
            }
        }
        self.sockets = sockets.into_iter().map(|(name, _)| name).collect();
    }

    fn complain(&mut self, path: &Path, error: &SocketError) {
        let advice = advice(error.is_denied(), "CAP_DAC_OVERRIDE");
        self.complaints.push(format!("{}: {error}{advice}", path.display()));
    }

    /// Names of WireGuard devices: those told of, and those with a control socket, which still tells
    /// a userspace device from another TUN device when nobody answers.
    pub(super) fn names(&self) -> Vec<String> {
        let told = self.devices.iter().map(|device| &device.name);
        let rest = self.sockets.iter().filter(|name| self.devices.iter().all(|device| device.name != **name));
        told.chain(rest).cloned().collect()
    }
}

/// What to do where rights are missing.
fn advice(is_denied: bool, capability: &str) -> String {
    if !is_denied {
        return String::new();
    }
    format!(". Without root or {capability} the agent sees no WireGuard peer; all else it sees")
}

fn family_number(netlink: &Netlink, problems: &mut Problems) -> Result<u16, NetlinkError> {
    let number = netlink.list(
        Question::WireGuardFamily,
        problems,
        || None,
        |number, body| {
            *number = Some(family::row(body)?);
            Ok(())
        },
    )?;
    number.ok_or(NetlinkError::Truncated)
}

/// Puts an interface's name for its number in the zone of a link-local address, as `wg` does. The
/// kernel gives the number, and so do daemons written in Rust.
fn name_zone(endpoint: &mut String, links: &Links) {
    if !endpoint.contains('%') {
        return;
    }
    let Ok(SocketAddr::V6(address)) = endpoint.parse() else { return };
    if address.ip().is_unicast_link_local()
        && let Some(zone) = links.name(address.scope_id())
    {
        *endpoint = format!("[{}%{zone}]:{}", address.ip(), address.port());
    }
}

/// Fills in the devices, their peers and the handshakes' ages.
pub(super) fn read(told: Told, now: SystemTime, problems: &mut Problems, system: &mut SystemData) {
    if let Some(refusal) = &told.refusal {
        problems.add("wg", format_args!("{refusal}{}", consequence(&told.devices, &system.interfaces)));
    }
    told.complaints.iter().for_each(|complaint| problems.add("wg", complaint));

    system.wireguard_source = told.source;
    system.wireguard = told.devices;
    let peers = system.wireguard.iter().map(|device| device.peers.len()).sum::<usize>();
    system.peers_total = u32::try_from(peers).unwrap_or(u32::MAX);
    set_ages(&mut system.wireguard, now, problems);
    cut(&mut system.wireguard, problems);
}

/// What a refusal means depends on whether there is WireGuard at all.
fn consequence(devices: &[WireGuardDevice], interfaces: &[Interface]) -> String {
    let is_told = |interface: &Interface| devices.iter().any(|device| device.name == interface.name);
    let names: Vec<&str> = interfaces
        .iter()
        .filter(|interface| interface.kind == InterfaceKind::WireGuard && !is_told(interface))
        .map(|interface| interface.name.as_str())
        .collect();
    match names.as_slice() {
        [] if devices.is_empty() => "; no interface here looks like WireGuard's".to_owned(),
        [] => String::new(),
        names => format!("; nothing is known of the peers of {}", names.join(", ")),
    }
}

fn set_ages(devices: &mut [WireGuardDevice], now: SystemTime, problems: &mut Problems) {
    let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(0));
    let (mut early, mut furthest) = (0_usize, 0);
    for peer in devices.iter_mut().flat_map(|device| &mut device.peers) {
        let Some(at) = peer.handshake_at else { continue };
        let age = now.saturating_sub(at);
        peer.handshake_age_s = Some(u64::try_from(age).unwrap_or(0));
        if age < -FUTURE {
            early += 1;
            furthest = furthest.max(at.saturating_sub(now));
        }
    }
    if early > 0 {
        problems.add(
            "wg",
            format_args!(
                "last handshake of {early} peers lies up to {furthest} s in the future: \
                 this host's clock was set back"
            ),
        );
    }
}

/// Cuts what a report may not hold: devices by name, peers by device and key, prefixes in order.
fn cut(devices: &mut Vec<WireGuardDevice>, problems: &mut Problems) {
    if devices.len() > DEVICES_MAX {
        problems.add("wg", format_args!("{} devices, {DEVICES_MAX} are listed", devices.len()));
        devices.truncate(DEVICES_MAX);
    }
    let (mut room, mut long) = (PEERS_MAX, 0_usize);
    for device in devices {
        device.peers.truncate(room);
        room -= device.peers.len();
        for peer in device.peers.iter_mut().filter(|peer| peer.allowed_ips.len() > ALLOWED_IPS_MAX) {
            peer.allowed_ips.truncate(ALLOWED_IPS_MAX);
            long += 1;
        }
    }
    if long > 0 {
        let message =
            format_args!("{long} peers have over {ALLOWED_IPS_MAX} AllowedIPs, {ALLOWED_IPS_MAX} are listed");
        problems.add("wg", message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::ids::PublicKey;
    use proto::report::WireGuardPeer;
    use std::time::Duration;

    fn devices(devices: u32, peers: u32, prefixes: usize) -> Vec<WireGuardDevice> {
        let peer = |device: u32, peer: u32| {
            let mut key = PublicKey([0; 32]);
            key.0[..8].copy_from_slice(&(u64::from(device) << 32 | u64::from(peer)).to_be_bytes());
            let allowed_ips = vec!["10.0.0.1/32".parse().unwrap(); prefixes];
            WireGuardPeer { allowed_ips, handshake_at: Some(1000), ..WireGuardPeer::new(key) }
        };
        let device = |number| WireGuardDevice {
            name: format!("wg{number}"),
            peers: (0..peers).map(|n| peer(number, n)).collect(),
            ..WireGuardDevice::default()
        };
        (0..devices).map(device).collect()
    }

    fn system(devices: Vec<WireGuardDevice>, now: u64) -> (SystemData, Vec<String>) {
        let (mut problems, mut system) = (Problems::default(), SystemData::default());
        let told = Told { devices, ..Told::default() };
        read(told, UNIX_EPOCH + Duration::from_secs(now), &mut problems, &mut system);
        (system, problems.into_list().into_iter().map(|problem| problem.message).collect())
    }

    #[test]
    fn ages_are_by_the_hosts_own_clock_and_never_negative() {
        let age = |now| {
            let (system, problems) = system(devices(1, 1, 1), now);
            (system.wireguard[0].peers[0].handshake_age_s, problems.len())
        };
        assert_eq!(age(1030), (Some(30), 0));
        assert_eq!(age(996), (Some(0), 0));
        assert_eq!(age(900), (Some(0), 1));
        assert!(system(devices(1, 1, 1), 900).1[0].contains("100 s in the future"));
    }

    #[test]
    fn lists_are_cut_with_the_true_totals() {
        let (system, problems) = system(devices(40, 50, 65), 2000);
        assert_eq!((system.wireguard.len(), system.peers_total), (32, 2000));
        let listed: usize = system.wireguard.iter().map(|device| device.peers.len()).sum();
        assert_eq!(listed, PEERS_MAX);
        assert!(system.wireguard.iter().flat_map(|d| &d.peers).all(|p| p.allowed_ips.len() == 64));
        assert_eq!(
            problems,
            ["40 devices, 32 are listed", "1024 peers have over 64 AllowedIPs, 64 are listed"]
        );
    }

    #[test]
    fn what_is_unknown_matters_where_there_is_wireguard() {
        let wg0 =
            Interface { name: "wg0".to_owned(), kind: InterfaceKind::WireGuard, ..Interface::default() };
        let interfaces = [wg0, Interface::default()];
        assert_eq!(consequence(&[], &interfaces[1..]), "; no interface here looks like WireGuard's");
        assert_eq!(consequence(&[], &interfaces), "; nothing is known of the peers of wg0");
        let [device] = devices(1, 0, 0).try_into().unwrap();
        assert_eq!(consequence(&[device], &interfaces), "");
    }
}
