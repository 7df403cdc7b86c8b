//! The real agent on five hosts and the real manager: everything that the hosts say of themselves
//! arrives, and nothing that must stay secret does.
#![expect(clippy::unwrap_used, reason = "the helpers, too, are tests")]

mod e2e;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use e2e::agree::{Reading, assert_agrees};
use e2e::{Database, Manager, PSK, SOON, agent, now_ms, ready, secret_file};
use lab::{Device, End, MESH, Mesh, Need, Plan, Proc, Tunnel, require, until, wait_for};
use proto::report::Report;
use serde_json::Value;

const HOSTS: [&str; 5] = ["berlin", "hamburg", "lyon", "nantes", "paris"];

/// Two LANs with a router between, and a full WireGuard mesh, dual stack; the tunnels of the first
/// host have preshared keys.
fn five_hosts() -> Mesh {
    let mut plan = Plan::new("five")
        .lan("north", "10.1.0.0/24")
        .lan("south", "10.2.0.0/24")
        .attach("router", "north", "10.1.0.1")
        .attach("router", "south", "10.2.0.1")
        .router("router");
    for (n, host) in (1..).zip(HOSTS) {
        let (lan, net) = if n < 3 { ("north", 1) } else { ("south", 2) };
        plan = plan
            .attach(host, lan, &format!("10.{net}.0.{} fd00:{net}::{n}/64", n + 10))
            .gateway(host, &format!("10.{net}.0.1"))
            .device(Device::new(host, "wg0", &format!("10.77.0.{n}/24 fd00:77::{n}/64")));
    }
    for (n, one) in HOSTS.iter().enumerate() {
        for other in &HOSTS[n + 1..] {
            let end = |host: &str| End::new(host, "wg0").dial().keepalive(5);
            let tunnel = Tunnel::between(end(one), end(other));
            plan = plan.tunnel(if n == 0 { tunnel.psk() } else { tunnel });
        }
    }
    plan.up().unwrap()
}

#[test]
fn five_hosts_report_what_they_are() {
    if !ready(MESH) {
        return;
    }
    let mesh = five_hosts();
    mesh.wait_handshakes(SOON).unwrap();
    let psk = secret_file(mesh.dir().join("psk"), PSK);
    let settings = [("PSK_FILE", psk.to_str().unwrap())];
    let manager = Manager::start(mesh.host("berlin"), &settings);

    let start = Instant::now();
    let mut agents: Vec<Proc> = HOSTS
        .iter()
        .map(|name| mesh.host(name).spawn(&agent(mesh.host(name), &manager.url(), &settings)).unwrap())
        .collect();
    wait_for("five agents", SOON, || (manager.agents().len() == 5).then_some(()))
        .unwrap_or_else(|error| panic!("{error}: {:?}", manager.agents()));
    let took = start.elapsed();
    eprintln!("all five after {took:?}");
    assert!(took < Duration::from_secs(5), "all five appear after {took:?}");
    for name in HOSTS {
        let agent = manager.wait_agent(name, "online", |agent| agent["presence"] == "online");
        assert_eq!((&agent["arrival"], &agent["clock_offset_ms"]), (&"direct".into(), &0.into()), "{agent}");
        assert_eq!(agent["interval_s"], 2, "{agent}");
    }

    for name in HOSTS {
        reports_the_truth(&manager, &mesh, name);
    }
    kill_and_restart(&manager, &mesh, &mut agents, &settings);
    nothing_secret_is_anywhere(&manager, &mesh);
    let database = manager.database();
    database.assert_sound();
    database.assert_gapless();
}

/// Compares the next report of a host with what the host says before and after it.
fn reports_the_truth(manager: &Manager<'_>, mesh: &Mesh, name: &str) {
    let host = mesh.host(name);
    let id = manager.agent(name).unwrap()["id"].as_str().unwrap().to_owned();
    // `wg` and `ip` are read one after the other: a report while that goes on is neither before nor after.
    let before = Reading::of(host);
    let since = now_ms();
    let report: Report = wait_for("the next report", SOON, || {
        let (status, one) = manager.get(&format!("/status/agents/{id}"));
        assert_eq!(status, 200, "{one}");
        (one["observed_at"].as_i64()? > since).then(|| serde_json::from_value(one["report"].clone()).unwrap())
    })
    .unwrap();
    let after = Reading::of(host);
    assert_eq!(report.system.hostname, name);
    assert!(report.problems.is_empty(), "{name}: {:?}", report.problems);
    assert_agrees(name, &report, &before, &after);
    // What the plan says, in case both readers have the same blind spot.
    let names: Vec<&str> = report.system.interfaces.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["lo", "eth0", "wg0"], "{name}");
    let device = &report.system.wireguard[0];
    assert_eq!(device.public_key.unwrap().to_string(), host.keys("wg0").unwrap().public, "{name}");
    assert_eq!(device.peers.len(), 4, "{name}");
    for (n, other) in (1..).zip(HOSTS).filter(|(_, other)| *other != name) {
        let key = mesh.host(other).keys("wg0").unwrap().public;
        let peer = device.peers.iter().find(|peer| peer.public_key.to_string() == key).unwrap();
        assert_eq!(peer.has_psk, name == "berlin" || other == "berlin", "{name} -> {other}");
        assert!(peer.handshake_age_s.is_some_and(|age| age < 180), "{name} -> {other}: {peer:?}");
        assert_eq!(peer.keepalive_s, Some(5));
        let allowed: Vec<String> = peer.allowed_ips.iter().map(ToString::to_string).collect();
        assert!(
            allowed.contains(&format!("10.77.0.{n}/32")) && allowed.contains(&format!("fd00:77::{n}/128"))
        );
        let address = mesh.host(other).address();
        assert_eq!(peer.endpoint, Some(format!("{address}:51820")), "{name} -> {other}");
    }
}

/// One agent is killed with -9: the manager notices, and it comes back as itself.
fn kill_and_restart(manager: &Manager<'_>, mesh: &Mesh, agents: &mut [Proc], settings: &[(&str, &str)]) {
    let database = manager.database();
    let was = manager.agent("paris").unwrap();
    let id = was["id"].as_str().unwrap();
    let rows = |table: &str| {
        database.count(&format!("{table} WHERE agent = (SELECT no FROM agents WHERE hostname = 'paris')"))
    };
    assert_eq!(rows("agent_interfaces"), 3);
    // Each of the ten tunnels is one edge, whoever reports it.
    let tunnels = || database.count("topology_edges WHERE layer = 'wireguard'");
    assert!(until(SOON, || tunnels() == 10), "{} edges", tunnels());
    agents[4].kill9().unwrap();
    manager.wait_agent("paris", "late", |agent| agent["presence"] == "late");
    manager.wait_agent("paris", "offline", |agent| agent["presence"] == "offline");
    assert_eq!(manager.health()["agents"]["online"], 4);

    agents[4] = mesh.host("paris").spawn(&agent(mesh.host("paris"), &manager.url(), settings)).unwrap();
    let is = manager.wait_agent("paris", "online again", |agent| agent["presence"] == "online");
    assert_eq!(is["id"], was["id"]);
    assert_eq!(is["first_seen"], was["first_seen"]);
    assert_eq!(manager.agents().len(), 5);
    assert_eq!(database.count("agents"), 5);
    assert_eq!(rows("boots"), 2, "one row per start");
    assert_eq!((rows("agent_interfaces"), tunnels()), (3, 10), "nothing is there twice");
    let starts: Vec<_> = database.ticks().into_iter().filter(|(agent, ..)| agent == id).collect();
    assert_eq!(starts.len(), 2, "reports of both starts");
}

/// No private and no preshared key of the mesh in any file, answer or log; the manager's PSK only
/// where it belongs.
fn nothing_secret_is_anywhere(manager: &Manager<'_>, mesh: &Mesh) {
    let mut secrets = Vec::new();
    for name in HOSTS {
        let keys = mesh.host(name).keys("wg0").unwrap();
        secrets.push(keys.private);
        let table = mesh.host(name).run(&["wg", "show", "all", "preshared-keys"]).unwrap();
        secrets.extend(table.lines().filter_map(|line| line.split('\t').nth(2)).map(str::to_owned));
    }
    secrets.retain(|secret| secret != "(none)");
    secrets.sort();
    secrets.dedup();
    assert_eq!(secrets.len(), 5 + 4, "five private keys, four preshared ones");
    let mut forms: Vec<Vec<u8>> = Vec::new();
    for secret in &secrets {
        let bytes = secret.parse::<proto::ids::PublicKey>().unwrap().0;
        forms.push(secret.trim_end_matches('=').into());
        forms.push(proto::ids::to_hex(&bytes).into());
        forms.push(bytes.into());
    }

    let mut texts: Vec<(String, Vec<u8>)> = Vec::new();
    for file in files_in(mesh.dir()) {
        texts.push((file.display().to_string(), std::fs::read(&file).unwrap()));
    }
    let mut paths = vec!["/".to_owned()];
    paths.extend(["healthcheck", "agents", "alarms"].map(|path| format!("/status/{path}")));
    paths.extend(
        manager.agents().iter().map(|agent| format!("/status/agents/{}", agent["id"].as_str().unwrap())),
    );
    for path in paths {
        let answer = manager.host.http_get(&format!("http://127.0.0.1:5086{path}")).unwrap();
        assert_eq!(answer.status, 200, "{path}");
        texts.push((path, answer.body));
    }
    for name in HOSTS {
        let answer = mesh.host(name).http_get("http://127.0.0.1:5087/status/peer").unwrap();
        assert_eq!(answer.status, 200);
        texts.push((format!("{name} /status/peer"), answer.body));
    }
    assert!(texts.len() > 5 + 5 + 4 + 5, "files, reports and peers are looked into");

    // The search finds what is there.
    let public = mesh.host("paris").keys("wg0").unwrap().public;
    let with_public = texts.iter().filter(|(_, text)| holds(text, public.as_bytes())).count();
    assert!(with_public > 5, "the public key is in reports and answers");
    for (name, text) in &texts {
        assert!(!forms.iter().any(|form| holds(text, form)), "a WireGuard secret is in {name}");
        let keeps_psk = name.ends_with("/psk") || name.contains("/kattila_manager.db");
        assert!(keeps_psk || !holds(text, PSK.as_bytes()), "the PSK is in {name}");
    }
}

fn holds(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files_in(&entry.path()));
        } else if entry.file_type().unwrap().is_file() {
            found.push(entry.path());
        }
    }
    found
}

/// Gives a program the wall clock of two years ago. All namespaces of a kernel share one such clock,
/// so this is as close as a test comes to a router without a battery.
const OLD_CLOCK: &str = r#"
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *now)
{
    int result = syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && clock == CLOCK_REALTIME)
        now->tv_sec -= 2 * 365 * 86400;
    return result;
}
"#;

#[test]
fn a_host_two_years_behind_reports_with_the_managers_time() {
    if !ready(MESH) || !require(&[Need::Tool("cc")]) {
        return;
    }
    let mesh = Plan::new("clock")
        .lan("l", "10.1.0.0/24")
        .attach("hub", "l", "10.1.0.1")
        .attach("old", "l", "10.1.0.2")
        .full_mesh("wg0", "10.77.0.0/24", &["hub", "old"])
        .up()
        .unwrap();
    mesh.wait_handshakes(SOON).unwrap();
    let (source, library) = (mesh.dir().join("clock.c"), mesh.dir().join("clock.so"));
    std::fs::write(&source, OLD_CLOCK).unwrap();
    let made =
        Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));

    let manager = Manager::start(mesh.host("hub"), &[("PSK", PSK)]);
    let old = mesh.host("old");
    let launch = agent(old, &manager.url(), &[("PSK", PSK)]).env("LD_PRELOAD", &library);
    let started = now_ms();
    let process = old.spawn(&launch).unwrap();
    manager.wait_agent("old", "a report", |agent| agent["presence"] == "online");
    let two_years = 2 * 365 * 86_400_000;
    let is_it = |agent: &Value| (agent["clock_offset_ms"].as_i64().unwrap() - two_years).abs() < 60_000;
    let agent = manager.wait_agent("old", "its offset shows", is_it);
    assert!(process.log().contains("this host's clock is -6307"), "it says so:\n{}", process.log());

    let (_, one) = manager.get(&format!("/status/agents/{}", agent["id"].as_str().unwrap()));
    let report: Report = serde_json::from_value(one["report"].clone()).unwrap();
    assert!(
        (started - 1000..now_ms() + 1000).contains(&report.observed_at),
        "{} in the manager's time",
        report.observed_at
    );
    // Here the handshake lies in the agent's future. Its age may be absent or small, never two years.
    let peer = &report.system.wireguard[0].peers[0];
    assert!(peer.handshake_age_s.is_none_or(|age| age < 60), "{peer:?}");
    let database: Database = manager.database();
    database.assert_gapless();
    assert_eq!(manager.health()["refused"]["clock_skew"].as_u64().map(|n| n > 0), Some(true));
    // What was signed with the old clock was refused and signed again.
    let first: i64 = database.one("SELECT min(sent_at) FROM reports");
    assert!((started - 1000..now_ms() + 1000).contains(&first), "{first}");
}
