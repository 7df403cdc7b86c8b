//! The real agent and manager inside a Debian kernel, where WireGuard, VXLAN, GRE and all the other
//! devices are the kernel's own: what the agent says agrees with `ip` and `wg` for every one of them.
#![expect(clippy::unwrap_used, reason = "the helpers, too, are tests")]

mod e2e;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use e2e::agree::{READ, Reading, assert_agrees};
use e2e::{DAEMONS, PSK, now_ms};
use lab::{HOSTS, KERNEL, Kernel, Transcript, bin, require};
use proto::report::{InterfaceKind as K, Report, Source, TunnelData};
use serde_json::Value;

/// Some ten times what it takes on an idle machine.
const TIMEOUT: Duration = Duration::from_secs(480);

#[test]
fn every_kind_of_interface_is_told_as_the_kernel_tells_it() {
    if !require(KERNEL) || !require(DAEMONS) {
        return;
    }
    let start = Instant::now();
    let done = guest().run(TIMEOUT).unwrap();
    eprintln!("{:?} for {} steps", start.elapsed(), done.steps.len());
    done.ok("hosts").unwrap();
    done.ok("manager").unwrap();
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for host in HOSTS {
        let before = Reading::parse(&done.ok(&format!("before {host}")).unwrap());
        let after = Reading::parse(&done.ok(&format!("after {host}")).unwrap());
        let sysinfo = done.ok(&format!("sysinfo {host}")).unwrap();
        let report: Report = serde_json::from_str(&sysinfo).unwrap();
        assert_agrees(host, &report, &before, &after);
        assert_eq!(report.system.hostname, host);
        assert!(report.problems.is_empty(), "{host}: {:?}", report.problems);
        assert_eq!(
            (report.system.os.as_str(), report.system.neighbours_source),
            ("Lab guest", Source::Netlink),
            "{host}"
        );
        no_key_is_told(&done, host, &sysinfo);
        if host == "a" {
            is_what_was_set_up(&report);
        }
        seen.extend(before.kinds().into_iter().map(|(name, kind)| (kind, name)));
    }
    // So that the comparison cannot lose a kind unnoticed.
    for kind in EVERY_KIND {
        assert!(seen.contains_key(*kind), "no {kind} was compared: {seen:?}");
    }
    reports_reach_the_manager(&done);
    every_layer_is_on_the_map(&done);
}

/// Devices of every shape, as the agent's own fixture has them.
const WIREGUARD: &str = include_str!("../../agent/tests/fixtures/kernel-wireguard/setup.sh");

#[test]
fn the_kernels_wireguard_is_told_as_wg_tells_it() {
    if !require(KERNEL) || !require(DAEMONS) {
        return;
    }
    let done = Kernel::new()
        .copy_binary(bin("agent").unwrap())
        .step("setup", WIREGUARD)
        .step("before", READ)
        .step("sysinfo", "agent -sysinfo")
        .step("after", READ)
        .step("secrets", "wg show all private-key; wg show all preshared-keys")
        .run(TIMEOUT)
        .unwrap();
    done.ok("setup").unwrap();
    let read = |step: &str| Reading::parse(&done.ok(step).unwrap());
    let sysinfo = done.ok("sysinfo").unwrap();
    let report: Report = serde_json::from_str(&sysinfo).unwrap();
    assert_agrees("guest", &report, &read("before"), &read("after"));
    assert_eq!((report.system.wireguard.len(), report.system.peers_total), (4, 66));
    let peers = || report.system.wireguard.iter().flat_map(|device| &device.peers);
    assert!(peers().any(|peer| peer.endpoint.as_deref() == Some("[fe80::1%e0]:51821")), "a zone by its name");
    assert_eq!(peers().filter(|peer| peer.handshake_at.is_some()).count(), 2);
    let secrets = done.ok("secrets").unwrap();
    let secrets = secrets.lines().filter_map(|line| line.split('\t').next_back());
    let secrets: Vec<&str> = secrets.filter(|secret| *secret != "(none)").collect();
    assert!(secrets.len() > 60);
    assert!(secrets.iter().all(|secret| !sysinfo.contains(secret)), "a secret is told");
}

/// Tunnels of the guest that are an edge, and the interface that carries them on `a`.
const TUNNELS: &[(&str, &str, &str, &str)] = &[
    ("wireguard", "a/wg0", "b/wg0", "eth0"),
    ("wireguard", "a/wg0", "c/wg0", "eth0"),
    ("overlay", "a/vxlan100", "b/vxlan100", "eth0"),
    ("overlay", "a/vxlan101", "c/vxlan101", "wg0"),
    ("overlay", "a/gre1", "b/gre1", "eth0"),
    ("overlay", "a/gretap1", "c/gretap1", "eth0"),
    ("overlay", "a/ipip1", "b/ipip1", "eth0"),
    ("overlay", "a/sit1", "b/sit1", "eth0"),
];

fn every_layer_is_on_the_map(done: &Transcript) {
    let map: Value = serde_json::from_str(&done.ok("map").unwrap()).unwrap();
    let nodes = map["nodes"].as_array().unwrap();
    let end = |end: &Value| {
        let node = nodes.iter().find(|node| node["id"] == end["node"]).unwrap();
        format!("{}/{}", node["name"].as_str().unwrap(), end["interface"].as_str().unwrap_or_default())
    };
    let mut edges: Vec<(String, [String; 2], String)> = Vec::new();
    for edge in map["edges"].as_array().unwrap() {
        let mut ends = [end(&edge["ends"][0]), end(&edge["ends"][1])];
        ends.sort();
        let word = |name: &str| edge[name].as_str().unwrap().to_owned();
        assert!(!edge["evidence"].as_array().unwrap().is_empty(), "{edge:#}");
        edges.push((word("layer"), ends, word("relation")));
    }
    let a = nodes.iter().find(|node| node["name"] == "a").unwrap();
    let interface = |name: &str| {
        a["interfaces"].as_array().unwrap().iter().find(|interface| interface["name"] == name).unwrap()
    };
    for (layer, one, other, below) in TUNNELS {
        let ends = [(*one).to_owned(), (*other).to_owned()];
        let is = |edge: &&(String, [String; 2], String)| edge.0 == *layer && edge.1 == ends;
        let found: Vec<_> = edges.iter().filter(is).collect();
        assert_eq!(found.len(), 1, "{layer} {ends:?}: {edges:#?}");
        assert_eq!(found[0].2, "confirmed", "{layer} {ends:?}");
        let name = one.split_once('/').unwrap().1;
        assert_eq!(interface(name)["on"], serde_json::json!([below]), "{name} is carried by");
    }
    let wireguard = edges.iter().filter(|edge| edge.0 == "wireguard").count();
    assert_eq!(wireguard, 3, "no other: {edges:#?}");
    // The kernel counts a stray inner source in the interface's frame errors, and so does the report.
    let again: Value = serde_json::from_str(&done.ok("a again").unwrap()).unwrap();
    let report: Report = serde_json::from_value(again["report"].clone()).unwrap();
    let wg0 = report.system.interfaces.iter().find(|one| one.name == "wg0").unwrap();
    assert!(wg0.counters.rx_frame >= 3, "{:?}", wg0.counters);
}

/// The kinds that the guest's hosts have, as `ip -d` calls them.
const EVERY_KIND: &[&str] = &[
    "bond",
    "bridge",
    "dummy",
    "geneve",
    "gre",
    "gretap",
    "ip6gre",
    "ipip",
    "macvlan",
    "sit",
    "tun",
    "veth",
    "vlan",
    "vxlan",
    "wireguard",
];

/// The hosts, a manager on `a`, and an agent on each; `-sysinfo` between two readings of each host.
fn guest() -> Kernel {
    let mut kernel = Kernel::with_hosts()
        .copy_binary(bin("agent").unwrap())
        .copy_binary(bin("manager").unwrap())
        .file("/etc/kattila/psk", PSK)
        // Handshakes and neighbours, so that there is something to compare.
        .step_on("a", "ping", "for to in 10.77.0.2 10.77.0.3 10.100.0.2 10.101.0.3; do ping -c 1 -W 5 $to >/dev/null || true; done")
        .step_on("b", "ping", "ping -c 1 -W 5 10.77.0.3 >/dev/null || true")
        .step_on(
            "a",
            "manager",
            "DATABASE=/tmp/kattila_manager.db PSK_FILE=/etc/kattila/psk manager >/tmp/manager.log 2>&1 &
             for n in $(seq 60); do wget -q -O- http://127.0.0.1:5086/status/healthcheck && exit 0; sleep 1; done
             cat /tmp/manager.log; exit 1",
        );
    for host in HOSTS {
        kernel = kernel
            .step_on(host, &format!("before {host}"), READ)
            .step_on(host, &format!("sysinfo {host}"), "agent -sysinfo")
            .step_on(host, &format!("after {host}"), READ)
            .step_on(host, &format!("keys {host}"), "cat /tmp/wg.key");
    }
    for host in HOSTS {
        // Through the kernel's own WireGuard, for those that are not on the manager's host.
        let script = "mkdir /tmp/state; MANAGER_URL=http://10.77.0.1:5086 PSK_FILE=/etc/kattila/psk STATE_DIR=/tmp/state \
                      REPORT_INTERVAL=2 agent >/tmp/agent.log 2>&1 &";
        kernel = kernel.step_on(host, &format!("agent {host}"), script);
    }
    kernel = kernel.step_on(
        "a",
        "three",
        r#"for n in $(seq 60); do
               wget -q -O /tmp/agents http://127.0.0.1:5086/status/agents || true
               [ "$(grep -o '"presence":"online"' /tmp/agents | wc -l)" = 3 ] && cat /tmp/agents && exit 0
               sleep 1
           done
           cat /tmp/agents /tmp/manager.log; exit 1"#,
    );
    kernel = kernel.step_on(
        "a",
        "latest",
        r#"for id in $(grep -o '"id":"[0-9a-f]*"' /tmp/agents | cut -d'"' -f4); do
               wget -q -O- "http://127.0.0.1:5086/status/agents/$id"; echo
           done"#,
    );
    // An inner source that a's AllowedIPs do not give to c.
    kernel = kernel.step_on(
        "c",
        "stray",
        "ip address add 10.77.0.99/32 dev lo && { ping -c 3 -W 1 -I 10.77.0.99 10.77.0.1 >/dev/null || true; }",
    );
    kernel = kernel.step_on(
        "a",
        "a again",
        // Emulated on a busy machine, a turn may take many seconds.
        r#"id=$(cut -d: -f1 /tmp/state/agent_id.txt | head -n 1)
           for n in $(seq 60); do
               wget -q -O /tmp/again "http://127.0.0.1:5086/status/agents/$id" && grep -q '"rx_frame":[3-9]' /tmp/again && break
               sleep 1
           done
           cat /tmp/again"#,
    );
    kernel = kernel.step_on("a", "map", "wget -q -O- http://127.0.0.1:5086/status/topology");
    // By the tunnel an agent may be asked, by the LAN not.
    kernel = kernel.step_on(
        "c",
        "asked",
        "wget -q -O- http://10.77.0.2:5087/status/healthcheck; echo
         wget -q -O- http://10.1.0.2:5087/status/healthcheck || echo refused",
    );
    // Emulated on a busy machine, an agent may take longer than the two seconds that a probe waits.
    kernel = kernel.step_on(
        "c",
        "discover",
        "for n in $(seq 20); do agent -discover >/tmp/found; grep -q '4 of 4' /tmp/found && break; sleep 2; done
         cat /tmp/found",
    );
    for host in HOSTS {
        kernel = kernel.step_on(host, &format!("log {host}"), "cat /tmp/agent.log");
    }
    kernel
        .step_on("a", "stop", "kill $(pidof manager) && for n in $(seq 100); do pidof manager || exit 0; sleep 0.1; done; exit 1")
        .step_on("a", "log", "cat /tmp/manager.log")
}

/// Of the host with everything: by name what it must be, in case `ip` and the agent share a mistake.
fn is_what_was_set_up(report: &Report) {
    let get = |name: &str| {
        let found = report.system.interfaces.iter().find(|one| one.name == name);
        found.unwrap_or_else(|| panic!("no {name}"))
    };
    for (name, kind) in [
        ("lo", K::Loopback),
        ("eth0", K::Veth),
        ("wg0", K::WireGuard),
        ("vxlan100", K::Vxlan),
        ("vxlan101", K::Vxlan),
        ("gre1", K::Gre),
        ("gretap1", K::Gre),
        ("ipip1", K::Ipip),
        ("sit1", K::Sit),
        ("gre6", K::Gre),
        ("geneve1", K::Geneve),
        ("eth0.20", K::Vlan),
        ("br0", K::Bridge),
        ("vp0", K::Veth),
        ("vp1", K::Veth),
        ("tap0", K::Tap),
        ("tun0", K::Tun),
        ("dummy0", K::Dummy),
        ("dummy1", K::Dummy),
        ("macvlan0", K::Macvlan),
        ("bond0", K::Bond),
    ] {
        assert_eq!(get(name).kind, kind, "{name}");
    }
    assert_eq!((get("vp0").master.as_deref(), get("tap0").master.as_deref()), (Some("br0"), Some("br0")));
    assert_eq!(get("dummy1").master.as_deref(), Some("bond0"));
    assert_eq!(get("br0").lower, ["tap0", "vp0"]);
    assert_eq!(get("bond0").lower, ["dummy1", "dummy2"]);
    assert_eq!(
        (get("eth0.20").link, get("macvlan0").link),
        (Some(get("eth0").index), Some(get("eth0").index))
    );
    assert_eq!((get("vp0").link, get("vp1").link), (Some(get("vp1").index), Some(get("vp0").index)));
    assert_eq!((get("vp0").link_is_foreign, get("eth0").link_is_foreign), (Some(false), Some(true)));
    let tunnel = |name: &str| get(name).tunnel.clone().unwrap_or_default();
    let of = |id: u32, port: u16, local: &str, remote: &str| TunnelData {
        id: Some(id).filter(|id| *id > 0),
        port: Some(port).filter(|port| *port > 0),
        local: local.parse().ok(),
        remote: remote.parse().ok(),
        ..TunnelData::default()
    };
    assert_eq!(tunnel("vxlan100"), of(100, 4789, "10.1.0.1", "10.1.0.2"));
    assert_eq!(tunnel("vxlan101"), of(101, 4790, "10.77.0.1", "10.77.0.3"));
    assert_eq!(tunnel("gre1"), of(0, 0, "10.1.0.1", "10.1.0.2"));
    assert_eq!(tunnel("gretap1"), of(7, 0, "10.1.0.1", "10.1.0.3"));
    assert_eq!(tunnel("ipip1"), of(0, 0, "10.1.0.1", "10.1.0.2"));
    assert_eq!(tunnel("sit1"), of(0, 0, "10.1.0.1", "10.1.0.2"));
    assert_eq!(tunnel("gre6"), of(0, 0, "fd00:1::1", "fd00:1::2"));
    assert_eq!(tunnel("geneve1"), of(108, 6081, "", "10.1.0.2"));
    assert_eq!(tunnel("eth0.20"), of(20, 0, "", ""));
    assert!(report.system.wireguard[0].peers.iter().all(|peer| peer.handshake_age_s.is_some()));
}

fn no_key_is_told(done: &Transcript, host: &str, sysinfo: &str) {
    let private = done.ok(&format!("keys {host}")).unwrap();
    let private = private.trim();
    assert_eq!(private.len(), 44);
    for text in [
        sysinfo,
        &done.step("latest").text(),
        &done.step(&format!("log {host}")).text(),
        &done.step("log").text(),
    ] {
        assert!(!text.contains(private), "{host}: its private key is told");
        assert!(!text.contains(PSK), "{host}: the PSK is told");
    }
}

fn reports_reach_the_manager(done: &Transcript) {
    let logs: Vec<String> = HOSTS.iter().map(|host| done.step(&format!("log {host}")).text()).collect();
    let three = done.ok("three").unwrap_or_else(|error| panic!("{error}\n{logs:#?}"));
    let agents: Value = serde_json::from_str(&three).unwrap();
    let names: Vec<&str> = agents["agents"]
        .as_array()
        .unwrap()
        .iter()
        .map(|agent| agent["hostname"].as_str().unwrap())
        .collect();
    assert_eq!(names, HOSTS);
    let latest = done.ok("latest").unwrap();
    let reports: Vec<Value> = latest
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(reports.len(), 3);
    for (one, host) in reports.iter().zip(HOSTS) {
        let report: Report = serde_json::from_value(one["report"].clone()).unwrap();
        let told: Report = serde_json::from_str(&done.ok(&format!("sysinfo {host}")).unwrap()).unwrap();
        let shape = |report: &Report| -> Vec<(String, K, u32)> {
            report.system.interfaces.iter().map(|one| (one.name.clone(), one.kind, one.index)).collect()
        };
        assert_eq!(shape(&report), shape(&told), "{host}: what was reported is what -sysinfo prints");
        assert_eq!(report.hardware, told.hardware);
        // The guest's clock is this machine's, roughly.
        assert!((now_ms() - report.observed_at).abs() < 86_400_000, "{host}: {}", report.observed_at);
    }
    let asked = done.ok("asked").unwrap();
    let mut lines = asked.lines().filter(|line| !line.is_empty());
    assert!(lines.next().unwrap().contains("\"status\":\"ok\""), "{asked}");
    assert_eq!(lines.next(), Some("refused"));
    let discovered = done.ok("discover").unwrap();
    for address in ["10.77.0.1 ", "10.77.0.2 ", "fd00:77::1 ", "fd00:77::2 "] {
        assert!(discovered.contains(address), "{discovered}");
    }
    assert!(discovered.contains("4 of 4 addresses run an agent"), "{discovered}");
    done.ok("stop").unwrap();
    assert!(done.ok("log").unwrap().contains("stopped"));
}
