//! The kernel lab tested on itself: the kernel's own devices are there, and packets pass.
#![expect(clippy::unwrap_used, reason = "the helpers, too, are tests")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use lab::{HOSTS, KERNEL, Kernel, Transcript, require};
use serde_json::Value;

/// Some ten times what it takes on an idle machine.
const TIMEOUT: Duration = Duration::from_secs(300);

#[test]
fn kernel_wireguard_and_every_kind_of_device() {
    if !require(KERNEL) {
        return;
    }
    let bytes: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    let mut kernel = Kernel::with_hosts()
        .copy_binary("/usr/bin/env")
        .file("/etc/every-byte", bytes.clone())
        .step("fails", "echo before; echo reason >&2; false; echo after")
        .step("bytes", "cat /etc/every-byte")
        .step("dynamic", "env -i HELLO=there env")
        .step("background", "on b sh -c 'while :; do sleep 1; done' & echo started")
        .step("still", "pidof sleep >/dev/null && echo running");
    for (from, to) in PINGS {
        kernel = kernel.step_on(from, &format!("ping {to}"), &ping(to));
    }
    for host in HOSTS {
        kernel = kernel
            .step_on(host, &format!("links {host}"), "ip -j -d link")
            .step_on(host, &format!("wg {host}"), "wg show all dump")
            .step_on(host, &format!("name {host}"), "hostname; cat /etc/machine-id");
    }
    kernel = kernel.step_on("a", "uevent", "cat /sys/class/net/wg0/uevent");
    let start = Instant::now();
    let done = kernel.run(TIMEOUT).unwrap();
    eprintln!("{:?} for {} steps", start.elapsed(), done.steps.len());

    done.ok("hosts").unwrap();
    let failed = done.step("fails");
    assert_eq!(
        (failed.code, failed.text().as_str(), failed.stderr.as_slice()),
        (1, "before\n", &b"reason\n"[..])
    );
    assert!(done.ok("fails").is_err());
    assert!(done.step("bytes").stdout == bytes, "bytes come through as they are");
    assert_eq!(done.ok("dynamic").unwrap(), "HELLO=there\n");
    assert_eq!(done.ok("background").unwrap(), "started\n");
    assert_eq!(done.ok("still").unwrap(), "running\n");
    for (from, to) in PINGS {
        assert!(done.ok(&format!("ping {to}")).is_ok(), "{from} to {to}:\n{}", done.console);
    }

    assert_devices(&done);
    for host in HOSTS {
        let number = HOSTS.iter().position(|name| *name == host).unwrap() + 1;
        assert_eq!(done.ok(&format!("name {host}")).unwrap(), format!("{host}\n{number:032}\n"));
        let dump = done.ok(&format!("wg {host}")).unwrap();
        let peers: Vec<Vec<&str>> = dump
            .lines()
            .map(|line| line.split('\t').collect::<Vec<_>>())
            .filter(|row| row.len() == 9)
            .collect();
        assert_eq!(peers.len(), 2, "{host}: {dump}");
        assert!(peers.iter().all(|row| row[5] != "0"), "{host}: a handshake with every peer");
    }
    assert!(done.ok("uevent").unwrap().contains("DEVTYPE=wireguard\n"), "it is the kernel's own");
}

/// From which host to which address: every kind of tunnel once.
const PINGS: [(&str, &str); 13] = [
    ("a", "10.1.0.2"),
    ("a", "10.77.0.2"),
    ("b", "10.77.0.3"),
    ("c", "fd00:77::1"),
    ("a", "10.100.0.2"),
    ("a", "10.101.0.3"),
    ("a", "10.102.0.2"),
    ("a", "10.103.0.3"),
    ("a", "10.104.0.2"),
    ("a", "fd00:105::2"),
    ("a", "fd00:106::2"),
    ("a", "10.107.0.2"),
    ("a", "10.108.0.2"),
];

/// Emulation is slow: the first packets may be lost to a handshake.
fn ping(to: &str) -> String {
    format!("for n in 1 2 3 4 5 6 7 8 9 10; do ping -c 1 -W 2 {to} && exit 0; done; exit 1")
}

fn assert_devices(done: &Transcript) {
    let links: Vec<Value> = serde_json::from_str(&done.ok("links a").unwrap()).unwrap();
    let by_name: BTreeMap<&str, &Value> =
        links.iter().map(|link| (link["ifname"].as_str().unwrap(), link)).collect();
    let kinds = [
        ("wg0", "wireguard"),
        ("vxlan100", "vxlan"),
        ("vxlan101", "vxlan"),
        ("gre1", "gre"),
        ("gretap1", "gretap"),
        ("ipip1", "ipip"),
        ("sit1", "sit"),
        ("gre6", "ip6gre"),
        ("geneve1", "geneve"),
        ("eth0.20", "vlan"),
        ("eth0", "veth"),
        ("br0", "bridge"),
        ("vp0", "veth"),
        ("dummy0", "dummy"),
        ("tun0", "tun"),
        ("tap0", "tun"),
        ("macvlan0", "macvlan"),
        ("bond0", "bond"),
    ];
    for (name, kind) in kinds {
        let link = by_name.get(name).unwrap_or_else(|| panic!("no {name} on a"));
        assert_eq!(link["linkinfo"]["info_kind"], kind, "{name}: {link}");
        assert!(link["flags"].as_array().unwrap().contains(&"UP".into()), "{name} is up: {link}");
    }
    assert_eq!(by_name["vp0"]["master"], "br0");
    assert_eq!(by_name["vp0"]["linkinfo"]["info_slave_kind"], "bridge");
    assert_eq!(by_name["dummy1"]["master"], "bond0");
    assert_eq!(by_name["eth0.20"]["linkinfo"]["info_data"]["id"], 20);
    assert_eq!(by_name["vxlan101"]["linkinfo"]["info_data"]["remote"], "10.77.0.3");
}

#[test]
fn a_binary_that_is_not_there_is_named() {
    if !require(KERNEL) {
        return;
    }
    let text = Kernel::new().copy_binary("/no/such/agent").run(TIMEOUT).unwrap_err().to_string();
    assert!(text.contains("/no/such/agent"), "{text}");
}

#[test]
fn a_guest_that_hangs_is_ended_and_the_step_named() {
    if !require(KERNEL) {
        return;
    }
    let start = Instant::now();
    let text = Kernel::new()
        .step("first", "true")
        .step("hanging", "echo stuck >/dev/ttyS0; sleep 1000")
        .step("never", "true")
        .run(Duration::from_secs(30))
        .unwrap_err()
        .to_string();
    assert!(start.elapsed() < Duration::from_secs(60));
    assert!(text.starts_with("guest: `hanging` was not got through"), "{text}");
    assert!(text.contains("stuck"), "{text}");
}
