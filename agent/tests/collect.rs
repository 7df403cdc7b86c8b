//! Whole hosts: copied trees in, reports out (see fixtures/README.md).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod wg_dump;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use kattila_agent::collect::{Addresses, Netlink, Sources, WgSockets, collect, hardware_id};
use kattila_agent::parse::{self, host, neighbour, net_dev, route4, route6, sysfs, vlan};
use proptest::prelude::*;
use proto::report::{InterfaceKind, Problem, Report, Source, SystemData};
use serde::{Deserialize, Serialize};

const HOSTS: [&str; 5] =
    ["kernel-every-kind", "kernel-netlink", "userspace-wireguard", "openwrt-without-wg", "nothing"];

/// What a host's golden file holds.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Expected {
    hardware: String,
    system: SystemData,
    problems: Vec<Problem>,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// The entries of a `host.txt` by path; a link's content is `-> TARGET`.
fn entries(host: &str) -> BTreeMap<String, String> {
    let text = fs::read_to_string(fixtures().join(host).join("host.txt")).unwrap();
    let mut entries = BTreeMap::new();
    for entry in text.split("=== ").skip(1) {
        let (head, content) = entry.split_once('\n').unwrap();
        match head.split_once(" -> ") {
            Some((path, target)) => entries.insert(path.to_owned(), format!("-> {target}")),
            None => entries.insert(head.to_owned(), content.to_owned()),
        };
    }
    entries
}

fn unpack(entries: &BTreeMap<String, String>, root: &Path) {
    for (path, content) in entries {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match content.strip_prefix("-> ") {
            Some(target) => symlink(target, path).unwrap(),
            None => fs::write(path, content).unwrap(),
        }
    }
    if let Some(dump) = entries.get("wg.dump") {
        wg_dump::of_daemons(dump).into_iter().for_each(|(name, answer)| daemon(root, &name, answer));
    }
}

/// A userspace WireGuard device, whose daemon answers once.
fn daemon(root: &Path, name: &str, answer: String) {
    let folder = root.join("var/run/wireguard");
    fs::create_dir_all(&folder).unwrap();
    let listener = UnixListener::bind(folder.join(name).with_extension("sock")).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 7]).unwrap();
        // The agent may have left in the middle.
        let _ = stream.write_all(answer.as_bytes());
    });
}

/// Reads an unpacked host; its paths in the problems are shown from its root.
fn read(root: &Path) -> Expected {
    let list = fs::read_to_string(root.join("addresses")).unwrap_or_default();
    let addresses = list.lines().map(|line| {
        let (name, cidr) = line.split_once(' ').unwrap();
        (name.to_owned(), cidr.parse().unwrap())
    });
    let netlink = root.join("netlink");
    let sources = Sources {
        root: root.to_owned(),
        proc_root: root.join("proc"),
        sys_root: root.join("sys"),
        netlink: if netlink.exists() { Netlink::Recorded(netlink) } else { Netlink::Off },
        wg_sockets: WgSockets::default(),
        addresses: Addresses::Fixed(addresses.collect()),
        arch: "x86_64".to_owned(),
    };
    let now = fs::read_to_string(root.join("now")).unwrap_or_else(|_| "0".to_owned());
    let now = UNIX_EPOCH + Duration::from_secs(now.trim().parse().unwrap());
    let (system, mut problems) = collect(&sources, now);
    for problem in &mut problems {
        problem.source = problem.source.replace(root.to_str().unwrap(), "");
    }
    Expected { hardware: hardware_id(&sources), system, problems }
}

fn read_host(host: &str) -> Expected {
    let dir = tempfile::tempdir().unwrap();
    unpack(&entries(host), dir.path());
    let netlink = fixtures().join(host).join("netlink");
    if netlink.exists() {
        symlink(netlink, dir.path().join("netlink")).unwrap();
    }
    read(dir.path())
}

#[cfg(target_endian = "little")]
#[test]
fn every_host_is_read_as_expected() {
    for host in HOSTS {
        let told = read_host(host);
        let path = fixtures().join(host).join("expected.json");
        if std::env::var_os("BLESS").is_some() {
            fs::write(&path, serde_json::to_string_pretty(&told).unwrap() + "\n").unwrap();
        }
        let text = fs::read_to_string(&path).unwrap();
        let expected: Expected = serde_json::from_str(&text).unwrap();
        assert_eq!(told, expected, "{host}");
    }
}

#[test]
fn every_kind_of_interface_is_known() {
    use InterfaceKind as K;
    let told = read_host("kernel-every-kind");
    let kind = |name: &str| told.system.interfaces.iter().find(|i| i.name == name).map(|i| i.kind);
    let expected = [
        ("lo", K::Loopback),
        ("eth0", K::Physical),
        ("eth1", K::Physical),
        ("wlan0", K::Wireless),
        ("hwsim0", K::Other),
        ("br0", K::Bridge),
        ("bond0", K::Bond),
        ("team0", K::Other),
        ("vrf0", K::Other),
        ("eth0.7", K::Vlan),
        ("iot", K::Vlan),
        ("br0.100", K::Vlan),
        ("mv0", K::Macvlan),
        ("mvt0", K::Macvlan),
        ("ipv0", K::Macvlan),
        ("veth0", K::Veth),
        ("veth1", K::Veth),
        ("vn0", K::Veth),
        ("tun0", K::Tun),
        ("tap0", K::Tap),
        ("vx0", K::Vxlan),
        ("gnv0", K::Geneve),
        ("gre1", K::Gre),
        ("gre2", K::Gre),
        ("gt1", K::Gre),
        ("g6", K::Gre),
        ("ipip1", K::Ipip),
        ("vti1", K::Ipip),
        ("t6", K::Ipip),
        ("sit1", K::Sit),
        ("wg0", K::WireGuard),
        ("wg1", K::WireGuard),
        ("wg2", K::WireGuard),
        ("dummy0", K::Dummy),
        ("ifb0", K::Other),
        ("nlm", K::Other),
    ];
    for (name, expected) in expected {
        assert_eq!(kind(name), Some(expected), "{name}");
    }
}

#[test]
fn userspace_wireguard_is_told_from_other_tuns() {
    let told = read_host("userspace-wireguard");
    let of_kind = |kind| -> Vec<&str> {
        told.system.interfaces.iter().filter(|i| i.kind == kind).map(|i| i.name.as_str()).collect()
    };
    assert_eq!(of_kind(InterfaceKind::WireGuard), ["wg0", "wg1"]);
    assert_eq!(of_kind(InterfaceKind::Tun), ["tun7"]);
    assert!(told.system.wireguard[0].peers.iter().any(|peer| peer.handshake_age_s.is_some()));
}

#[test]
fn a_socket_tells_userspace_wireguard_even_if_nobody_answers() {
    let dir = tempfile::tempdir().unwrap();
    let mut entries = entries("userspace-wireguard");
    entries.remove("wg.dump");
    entries.insert("var/run/wireguard/wg0.sock".to_owned(), String::new());
    unpack(&entries, dir.path());
    let told = read(dir.path());
    let wg0 = told.system.interfaces.iter().find(|interface| interface.name == "wg0").unwrap();
    assert_eq!(wg0.kind, InterfaceKind::WireGuard);
    assert_eq!((told.system.wireguard_source, told.system.wireguard.len()), (Source::None, 0));
    let said: Vec<&Problem> = told.problems.iter().filter(|problem| problem.source == "wg").collect();
    assert!(said[0].message.ends_with("nothing is known of the peers of wg0"), "{said:?}");
    assert!(said[1].message.ends_with("wireguard/wg0.sock: no WireGuard answers there any more"), "{said:?}");
}

#[test]
fn no_secret_is_ever_shown() {
    let dump = entries("userspace-wireguard")["wg.dump"].clone();
    let secrets = wg_dump::secrets(&dump);
    assert!(secrets.len() >= 3, "no secrets to look for");
    // Break lines as well: errors must not repeat what they choke on.
    let breaks: [fn(&str) -> String; 3] =
        [str::to_owned, |text| text.replace("_key=", "_key=x"), |text| text.replace("bytes=", "bytes=-")];
    for break_up in breaks {
        let dir = tempfile::tempdir().unwrap();
        let mut entries = entries("userspace-wireguard");
        entries.remove("wg.dump");
        unpack(&entries, dir.path());
        for (name, answer) in wg_dump::of_daemons(&dump) {
            daemon(dir.path(), &name, break_up(&answer));
        }
        let told = read(dir.path());
        let shown = format!("{told:?}{}", serde_json::to_string(&told).unwrap());
        for secret in &secrets {
            assert!(!shown.contains(secret) && !shown.contains(&wg_dump::hex(secret)), "a secret is shown");
        }
    }
}

/// Everything under parse/ over one text.
fn parse_all(text: &str) {
    let _ = (net_dev::parse(text), route4::parse(text), route6::parse(text), neighbour::parse(text));
    let _ = (vlan::parse(text), host::os_release(text), host::meminfo(text));
    let _ = (host::loadavg(text), host::uptime(text), host::switch(text));
    let _ = (sysfs::devtype(text), sysfs::ifindex(text), sysfs::number(text));
    let _ = (sysfs::hardware_address(text), sysfs::tunnel(text, text));
    let _ = (parse::interface_name(text), parse::mac(text));
}

/// A report of what was read must be one that the manager accepts.
fn assert_is_a_report(told: Expected) {
    let report = Report { system: told.system, problems: told.problems, ..Report::default() };
    let json = serde_json::to_vec(&report).unwrap();
    assert_eq!(Report::from_json(&json).unwrap(), report);
}

/// `text` with a piece of it replaced.
fn damaged(text: &str, at: usize, cut: usize, with: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let start = at.min(bytes.len());
    let end = (start + cut).min(bytes.len());
    bytes.splice(start..end, with.bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_parser_panics_on_any_text(text in "(\\PC|[\t\n :/0-9a-f]){0,200}") {
        parse_all(&text);
    }

    #[test]
    fn no_parser_panics_on_damaged_text(
        file in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        cut in 0_usize..40,
        with in "(\\PC|[\t\n :/0-9a-f]){0,12}",
    ) {
        let entries = entries("kernel-every-kind");
        let texts: Vec<&String> = entries.values().filter(|text| !text.is_empty()).collect();
        let text = texts[file.index(texts.len())];
        parse_all(&damaged(text, at.index(text.len()), cut, &with));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_damaged_host_still_gives_a_report(
        damages in prop::collection::vec(
            (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0_usize..200, "(\\PC|[\t\n]){0,400}"),
            1..20,
        ),
    ) {
        let mut entries = entries("userspace-wireguard");
        let paths: Vec<String> = entries
            .keys()
            .filter(|path| !["now", "addresses", "wg.dump"].contains(&path.as_str()) && !entries[*path].starts_with("->"))
            .cloned()
            .collect();
        for (file, at, cut, with) in &damages {
            let text = entries.get_mut(&paths[file.index(paths.len())]).unwrap();
            let at = at.index(text.len() + 1);
            *text = damaged(text, at, *cut, with).replace("-> ", "");
        }
        let dir = tempfile::tempdir().unwrap();
        unpack(&entries, dir.path());
        assert_is_a_report(read(dir.path()));
    }
}

#[test]
fn a_host_with_far_too_much_of_everything_still_gives_a_report() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let mut entries = entries("nothing");
    let mut net_dev = "\n\n".to_owned();
    for number in 0..400 {
        net_dev += &format!("if{number}: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n");
        let folder = format!("sys/class/net/if{number}");
        entries.insert(format!("{folder}/uevent"), format!("INTERFACE=if{number}\nIFINDEX={number}\n"));
        let up = number >= 390;
        entries.insert(format!("{folder}/flags"), if up { "0x1003\n" } else { "0x1002\n" }.to_owned());
        entries.insert(format!("{folder}/operstate"), "x".repeat(1000));
    }
    entries.insert("proc/net/dev".to_owned(), net_dev);
    entries.insert("addresses".to_owned(), "if399 10.0.0.1/8\n".repeat(50));
    let arp = "192.0.2.1 0x1 0x2 02:00:00:00:00:01 * if399\n".repeat(1000);
    entries.insert("proc/net/arp".to_owned(), format!("\n{arp}"));
    entries.insert("etc/os-release".to_owned(), format!("NAME={}", "é".repeat(500)));
    unpack(&entries, root);
    let told = read(root);
    assert_eq!((told.system.interfaces.len(), told.system.interfaces_total), (256, 400));
    assert!(told.system.interfaces.iter().any(|i| i.name == "if399" && i.addresses.len() == 32));
    assert_eq!((told.system.neighbours.len(), told.system.neighbours_total), (256, 1000));
    assert_is_a_report(told);
}
