//! WireGuard devices and peers, from `wg`.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use proto::limits::{ALLOWED_IPS_MAX, DEVICES_MAX, PEERS_MAX};
use proto::report::{Interface, InterfaceKind, Source, SystemData, WireGuardDevice};

use super::Sources;
use super::problems::{BadRows, Problems};
use super::wg_command::WgError;
use crate::parse::wg_dump::{self, Dump};

/// Where userspace implementations keep the control socket of each device, as `NAME.sock`
/// (wireguard-tools src/ipc-uapi-unix.h).
const SOCKETS: &str = "var/run/wireguard";
/// How far a handshake may lie in the future before it is worth a word: `wg` runs after `now` was
/// read, and clocks are stepped.
const FUTURE: i64 = 5;

/// What `wg` told, and what it complained of.
pub(super) struct Told {
    dump: Dump,
    complaint: Option<String>,
}

/// Runs `wg`. Its output, which holds secrets, ends here.
pub(super) fn dump(sources: &Sources) -> Result<Told, WgError> {
    let output = sources.wg.dump()?;
    Ok(Told { dump: wg_dump::parse(&output.text), complaint: output.complaint })
}

/// Names of WireGuard devices: those of `wg`, and those with a control socket, which still tells
/// a userspace device from another TUN device when `wg` fails.
pub(super) fn names(sources: &Sources, told: Option<&Told>) -> Vec<String> {
    let devices = told.map(|told| told.dump.devices.as_slice()).unwrap_or_default();
    let mut names: Vec<String> = devices.iter().map(|device| device.name.clone()).collect();
    let sockets = fs::read_dir(sources.root.join(SOCKETS)).into_iter().flatten().flatten();
    for file in sockets.filter_map(|entry| entry.file_name().into_string().ok()) {
        if let Some(name) = file.strip_suffix(".sock").filter(|name| !names.iter().any(|n| n == name)) {
            names.push(name.to_owned());
        }
    }
    names
}

/// Fills in the devices, their peers and the handshakes' ages.
pub(super) fn read(
    told: Result<Told, WgError>,
    now: SystemTime,
    problems: &mut Problems,
    system: &mut SystemData,
) {
    let Told { dump, complaint } = match told {
        Ok(told) => told,
        Err(error) => return problems.add("wg", without_wg(&error, &system.interfaces)),
    };
    if let Some(complaint) = complaint {
        problems.add("wg", complaint);
    }
    let mut bad = BadRows::default();
    dump.errors.into_iter().for_each(|error| bad.add(error));
    bad.report("wg", problems);

    system.wireguard_source = Source::Wg;
    system.wireguard = dump.devices;
    let peers = system.wireguard.iter().map(|device| device.peers.len()).sum::<usize>();
    system.peers_total = u32::try_from(peers).unwrap_or(u32::MAX);
    set_ages(&mut system.wireguard, now, problems);
    cut(&mut system.wireguard, problems);
}

/// A host without `wg` says so; what it means depends on whether there is WireGuard at all.
fn without_wg(error: &WgError, interfaces: &[Interface]) -> String {
    let names: Vec<&str> = interfaces
        .iter()
        .filter(|interface| interface.kind == InterfaceKind::WireGuard)
        .map(|interface| interface.name.as_str())
        .collect();
    match (names.as_slice(), error) {
        ([], WgError::Missing) => format!("{error}; no interface here looks like WireGuard's"),
        ([], _) => error.to_string(),
        (names, _) => format!("{error}; nothing is known of the peers of {}", names.join(", ")),
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
    use std::time::Duration;

    fn text(devices: u32, peers: u32, prefixes: usize) -> String {
        let mut text = String::new();
        for device in 0..devices {
            text += &format!("wg{device}\t(none)\t(none)\t0\toff\n");
            for peer in 0..peers {
                let mut key = PublicKey([0; 32]);
                key.0[..8].copy_from_slice(&(u64::from(device) << 32 | u64::from(peer)).to_be_bytes());
                let ips = vec!["10.0.0.1/32"; prefixes].join(",");
                text += &format!("wg{device}\t{key}\t(none)\t(none)\t{ips}\t1000\t1\t2\toff\n");
            }
        }
        text
    }

    fn system(text: &str, now: u64) -> (SystemData, Vec<String>) {
        let (mut problems, mut system) = (Problems::default(), SystemData::default());
        let told = Told { dump: wg_dump::parse(text), complaint: None };
        read(Ok(told), UNIX_EPOCH + Duration::from_secs(now), &mut problems, &mut system);
        (system, problems.into_list().into_iter().map(|problem| problem.message).collect())
    }

    #[test]
    fn ages_are_by_the_hosts_own_clock_and_never_negative() {
        let age = |now| {
            let (system, problems) = system(&text(1, 1, 1), now);
            (system.wireguard[0].peers[0].handshake_age_s, problems.len())
        };
        assert_eq!(age(1030), (Some(30), 0));
        assert_eq!(age(996), (Some(0), 0));
        assert_eq!(age(900), (Some(0), 1));
        assert!(system(&text(1, 1, 1), 900).1[0].contains("100 s in the future"));
    }

    #[test]
    fn lists_are_cut_with_the_true_totals() {
        let (system, problems) = system(&text(40, 50, 65), 2000);
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
    fn a_missing_wg_matters_where_there_is_wireguard() {
        let wg0 =
            Interface { name: "wg0".to_owned(), kind: InterfaceKind::WireGuard, ..Interface::default() };
        assert!(without_wg(&WgError::Missing, &[]).ends_with("no interface here looks like WireGuard's"));
        assert!(without_wg(&WgError::Missing, &[wg0]).ends_with("nothing is known of the peers of wg0"));
    }
}
