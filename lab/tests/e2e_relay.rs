//! Reports get through: relays over real WireGuard interfaces, outages, lost answers, hostile clients.
//! DESIGN.md's table of failures names these tests.
#![expect(clippy::unwrap_used, reason = "the helpers, too, are tests")]

mod e2e;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use e2e::actor::{Actor, post};
use e2e::{Database, Manager, PSK, agent, now_ms, ready};
use lab::{Host, MESH, Mesh, Plan, Proc, until};
use proto::envelope::{Draft, Envelope};
use proto::ids::{AgentId, Nonce};
use proto::sign::Kind;
use serde_json::Value;

/// For what takes several turns and back-offs, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);
const SECOND: Duration = Duration::from_secs(1);

fn settings(interval: &'static str) -> Vec<(&'static str, &'static str)> {
    vec![("PSK", PSK), ("REPORT_INTERVAL", interval)]
}

/// Agents on `hosts`, all told of the same manager.
fn start(mesh: &Mesh, manager: &str, hosts: &[&str], interval: &'static str) -> BTreeMap<String, Proc> {
    let settings = settings(interval);
    let spawn = |&name: &&str| {
        let host = mesh.host(name);
        (name.to_owned(), host.spawn(&agent(host, manager, &settings)).unwrap())
    };
    hosts.iter().map(spawn).collect()
}

/// Host names of the relays that an agent's latest report passed, first to last.
fn path(manager: &Manager<'_>, host: &str) -> Option<Vec<String>> {
    let agents = manager.agents();
    let one = agents.iter().find(|agent| agent["hostname"] == host)?;
    let name = |id: &Value| {
        let known = agents.iter().find(|agent| agent["id"] == *id);
        known.map_or_else(|| id.to_string(), |agent| agent["hostname"].as_str().unwrap().to_owned())
    };
    Some(one["path"].as_array()?.iter().map(name).collect())
}

fn wait_path(manager: &Manager<'_>, host: &str, expected: &[&str], logs: &BTreeMap<String, Proc>) {
    let found = until(PATIENCE, || path(manager, host).is_some_and(|path| path == expected));
    let agents: Vec<_> =
        manager.agents().iter().map(|agent| (agent["hostname"].clone(), agent["path"].clone())).collect();
    assert!(found, "{host} does not report by {expected:?}: {agents:#?}\n{}", logs[host].log());
}

fn peer(host: &Host) -> Value {
    host.http_get("http://127.0.0.1:5087/status/peer").unwrap().json().unwrap()
}

fn counters(host: &Host) -> Value {
    host.http_get("http://127.0.0.1:5087/status/healthcheck").unwrap().json().unwrap()
}

/// Every tick from the first to the last of each boot is there, each once (the table forbids twice).
fn assert_gapless(database: &Database, but: i64) {
    for (agent, boot, ticks) in database.ticks() {
        let (first, last) = (ticks[0], ticks[ticks.len() - 1]);
        let missing = last - first + 1 - i64::try_from(ticks.len()).unwrap();
        assert!(missing <= but, "agent {agent} boot {boot}: {missing} missing in {ticks:?}");
        assert_eq!(ticks.iter().collect::<BTreeSet<_>>().len(), ticks.len(), "{ticks:?}");
    }
}

/// A manager on a LAN of its own, which only the first of a line of hosts is on.
fn line(hosts: &[&str]) -> Mesh {
    let mut plan = Plan::new("line")
        .lan("office", "10.0.0.0/24")
        .attach("m", "office", "10.0.0.1")
        .lan("lan", "10.1.0.0/24");
    for (n, host) in (1..).zip(hosts) {
        plan = plan.attach(host, "lan", &format!("10.1.0.{n}"));
    }
    plan = plan.attach(hosts[0], "office", "10.0.0.2");
    let mesh = plan.line("t", "10.50.0.0/24", hosts).up().unwrap();
    mesh.wait_handshakes(PATIENCE).unwrap();
    mesh
}

#[test]
fn a_line_relays_over_three_hops_and_not_over_four() {
    if !ready(MESH) {
        return;
    }
    let hosts = ["a", "b", "c", "d", "e"];
    let mesh = line(&hosts);
    let manager = Manager::start(mesh.host("m"), &[("PSK", PSK)]);
    let agents = start(&mesh, "http://10.0.0.1:5086", &hosts, "1");
    wait_path(&manager, "a", &[], &agents);
    wait_path(&manager, "b", &["a"], &agents);
    wait_path(&manager, "c", &["b", "a"], &agents);
    wait_path(&manager, "d", &["c", "b", "a"], &agents);
    assert_eq!(peer(mesh.host("d"))["distance"], 3);
    // The fifth would need four relays: it waits, and says why.
    std::thread::sleep(5 * SECOND);
    assert!(manager.agent("e").is_none(), "{:#?}", manager.agents());
    let waiting = peer(mesh.host("e"));
    assert!(waiting["last_error"].is_string(), "{waiting:#}");
    let before = now_ms();
    // A nearer way appears: it comes to the office itself.
    mesh.host("e").run(&["ip", "addr", "add", "10.1.0.50/24", "dev", "eth0"]).unwrap();
    mesh.host("a").sh("sysctl -qw net.ipv4.ip_forward=1; ip route replace 10.0.0.0/24 dev eth1").unwrap();
    mesh.host("m").run(&["ip", "route", "add", "10.1.0.0/24", "via", "10.0.0.2"]).unwrap();
    mesh.host("e").run(&["ip", "route", "add", "10.0.0.0/24", "via", "10.1.0.1"]).unwrap();
    wait_path(&manager, "e", &[], &agents);
    let late = || {
        manager.database().count(&format!(
            "reports r JOIN agents a ON a.no = r.agent WHERE a.hostname = 'e' AND r.observed_at < {before}"
        ))
    };
    assert!(until(PATIENCE, || late() >= 4), "what e could not send before came later: {}", late());
    let drained = || manager.agents().iter().all(|agent| agent["spooled"] == 0);
    assert!(until(PATIENCE, drained), "{:#?}", manager.agents());
    let hops: i64 = manager.database().one("SELECT max(length(path)) / 16 FROM reports");
    assert_eq!(hops, 3);
    assert_gapless(&manager.database(), 0);
}

#[test]
fn a_ring_without_a_manager_makes_no_storm_and_loses_nothing() {
    if !ready(MESH) {
        return;
    }
    let hosts = ["a", "b", "c", "d"];
    let mut plan = Plan::new("ring").lan("lan", "10.1.0.0/24").attach("m", "lan", "10.1.0.100");
    for (n, host) in (1..).zip(hosts) {
        plan = plan.attach(host, "lan", &format!("10.1.0.{n}"));
    }
    let mesh = plan.full_mesh("wg0", "10.77.0.0/24", &hosts).up().unwrap();
    mesh.wait_handshakes(PATIENCE).unwrap();
    let mut manager = Manager::start(mesh.host("m"), &[("PSK", PSK)]);
    let agents = start(&mesh, "http://10.1.0.100:5086", &hosts, "1");
    for host in hosts {
        wait_path(&manager, host, &[], &agents);
    }
    manager.process.kill9().unwrap();
    let sent = |host: &str| {
        let sent = &counters(mesh.host(host))["sent"];
        ["manager", "relay", "peer"].map(|what| sent[what].as_u64().unwrap()).iter().sum::<u64>()
    };
    let before: u64 = hosts.iter().map(|host| sent(host)).sum();
    let outage = Duration::from_secs(20);
    std::thread::sleep(outage);
    let requests: u64 = hosts.iter().map(|host| sent(host)).sum::<u64>() - before;
    let turns = outage.as_secs() * 4;
    eprintln!("{requests} requests of 4 agents in {turns} turns without a manager");
    assert!(requests <= 6 * turns, "{requests} requests in {turns} turns is a storm");
    manager.restart();
    let waiting = || -> u64 { manager.agents().iter().filter_map(|agent| agent["spooled"].as_u64()).sum() };
    let all_back = || {
        manager
            .agents()
            .iter()
            .all(|agent| agent["presence"] == "online" && agent["last_seen_age_s"].as_i64() < Some(3))
    };
    assert!(until(PATIENCE, || all_back() && waiting() == 0), "{:#?}", manager.agents());
    let database = manager.database();
    assert_gapless(&database, 0);
    let disordered = "reports a JOIN reports b ON a.agent = b.agent AND a.boot = b.boot AND a.tick < b.tick AND a.observed_at > b.observed_at";
    assert_eq!(database.count(disordered), 0, "observed_at grows with the tick");
    assert!(database.count("reports WHERE late") > 0, "what came late is history");
}

#[test]
fn after_a_long_outage_with_restarts_only_what_the_spool_cannot_hold_is_lost() {
    if !ready(MESH) {
        return;
    }
    let mesh = Plan::new("outage")
        .lan("lan", "10.1.0.0/24")
        .attach("m", "lan", "10.1.0.1")
        .attach("keeps", "lan", "10.1.0.2")
        .attach("forgets", "lan", "10.1.0.3")
        .up()
        .unwrap();
    let mut manager = Manager::start(mesh.host("m"), &[("PSK", PSK)]);
    let url = manager.url();
    let spool = mesh.host("keeps").dir().join("spool");
    let mut keeps = settings("1");
    keeps.push(("SPOOL_FILE", spool.to_str().unwrap()));
    let run = |name: &str, settings: &[(&str, &str)]| {
        let host = mesh.host(name);
        host.spawn(&agent(host, &url, settings)).unwrap()
    };
    let mut agents = [run("keeps", &keeps), run("forgets", &settings("1"))];
    for host in ["keeps", "forgets"] {
        manager.wait_agent(host, "it reports", |agent| agent["presence"] == "online");
    }
    manager.process.kill9().unwrap();
    // 20 turns of outage stand for 10 minutes at 30 s; a restart in the middle.
    std::thread::sleep(10 * SECOND);
    for agent in &agents {
        agent.term().unwrap();
        agent.wait(5 * SECOND).unwrap();
    }
    agents = [run("keeps", &keeps), run("forgets", &settings("1"))];
    std::thread::sleep(10 * SECOND);
    manager.restart();
    let drained = |host: &str| {
        manager
            .agent(host)
            .is_some_and(|agent| agent["spooled"] == 0 && agent["last_seen_age_s"].as_i64() < Some(3))
    };
    assert!(
        until(PATIENCE, || drained("keeps") && drained("forgets")),
        "{:#?}\n{}",
        manager.agents(),
        agents[0].log()
    );
    let database = manager.database();
    assert_gapless(&database, 0);
    let first_boot = |host: &str| -> i64 {
        database.one(&format!(
            "SELECT count(*) FROM reports r JOIN agents a ON a.no = r.agent
             WHERE a.hostname = '{host}' AND r.boot = (SELECT min(no) FROM boots WHERE agent = a.no)"
        ))
    };
    // With the file nothing is lost; without it, what the first start could not send any more.
    assert!(first_boot("keeps") >= 8, "{}", first_boot("keeps"));
    assert!(first_boot("forgets") < first_boot("keeps"), "memory ends with the process");
    assert!(!spool.exists(), "it is taken in and gone");
}

#[test]
fn a_relay_killed_in_the_middle_of_forwarding_costs_nothing() {
    if !ready(MESH) {
        return;
    }
    let hosts = ["a", "b"];
    let mesh = line(&hosts);
    let manager = Manager::start(mesh.host("m"), &[("PSK", PSK)]);
    let mut agents = start(&mesh, "http://10.0.0.1:5086", &hosts, "1");
    wait_path(&manager, "b", &["a"], &agents);
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(2300));
        agents["a"].kill9().unwrap();
        std::thread::sleep(Duration::from_millis(400));
        agents.extend(start(&mesh, "http://10.0.0.1:5086", &["a"], "1"));
    }
    let drained =
        || manager.agent("b").is_some_and(|b| b["spooled"] == 0 && b["last_seen_age_s"].as_i64() < Some(3));
    assert!(until(PATIENCE, drained), "{:#?}\n{}", manager.agents(), agents["b"].log());
    let ticks = manager.database().ticks();
    let id = manager.agent("b").unwrap()["id"].as_str().unwrap().to_owned();
    let (_, _, b) = ticks.iter().find(|(agent, ..)| *agent == id).unwrap();
    assert_eq!(b.len(), usize::try_from(b[b.len() - 1] - b[0] + 1).unwrap(), "no gap: {b:?}");
}

#[test]
fn an_answer_lost_after_the_commit_is_no_second_report() {
    if !ready(MESH) {
        return;
    }
    let mesh = Plan::new("lost")
        .lan("lan", "10.1.0.0/24")
        .attach("m", "lan", "10.1.0.1")
        .attach("a", "lan", "10.1.0.2")
        .up()
        .unwrap();
    let manager = Manager::start(mesh.host("m"), &[("PSK", PSK)]);
    let agents = start(&mesh, "http://10.1.0.1:5086", &["a"], "1");
    wait_path(&manager, "a", &[], &agents);
    // Segments of 200 bytes and more carry answers: connections are made, reports arrive and are
    // stored, and the agent never hears of it.
    mesh.host("a").cut_in("tcp sport 5086 ip length > 150").unwrap();
    let stored = || manager.database().count("reports");
    let before = stored();
    assert!(until(PATIENCE, || stored() > before), "reports are stored although no answer arrives");
    let unheard = || peer(mesh.host("a"))["last_error"].is_string();
    assert!(until(PATIENCE, unheard), "it counts as not delivered: {:#}", peer(mesh.host("a")));
    mesh.host("a").heal().unwrap();
    let drained = || {
        manager.agent("a").is_some_and(|a| a["spooled"] == 0) && peer(mesh.host("a"))["last_error"].is_null()
    };
    assert!(until(PATIENCE, drained), "{:#?}\n{}", manager.agents(), agents["a"].log());
    assert_gapless(&manager.database(), 0);
    let twice = "(SELECT nonce FROM reports GROUP BY nonce HAVING count(*) > 1)";
    assert_eq!(manager.database().count(twice), 0);
}

#[test]
fn one_way_traffic_is_found_out_and_gone_round() {
    if !ready(MESH) {
        return;
    }
    let hosts = ["a", "b"];
    let mut plan = Plan::new("asymmetric").lan("lan", "10.1.0.0/24").attach("m", "lan", "10.1.0.100");
    for (n, host) in (1..).zip(hosts) {
        plan = plan.attach(host, "lan", &format!("10.1.0.{n}"));
    }
    let mesh = plan.full_mesh("wg0", "10.77.0.0/24", &hosts).up().unwrap();
    mesh.wait_handshakes(PATIENCE).unwrap();
    let manager = Manager::start(mesh.host("m"), &[("PSK", PSK)]);
    let agents = start(&mesh, "http://10.1.0.100:5086", &hosts, "1");
    wait_path(&manager, "a", &[], &agents);
    // What the manager sends to a is dropped at a; a can still send to it.
    mesh.host("a").cut_in("ip saddr 10.1.0.100").unwrap();
    wait_path(&manager, "a", &["b"], &agents);
    mesh.host("a").heal().unwrap();
    wait_path(&manager, "a", &[], &agents);
    assert_gapless(&manager.database(), 0);
}

#[test]
fn hostile_relay_clients_do_not_keep_honest_reports_from_getting_through() {
    if !ready(MESH) {
        return;
    }
    let hosts = ["a", "b"];
    let mesh = line(&hosts);
    let manager = Manager::start(mesh.host("m"), &[("PSK", PSK)]);
    let agents = start(&mesh, "http://10.0.0.1:5086", &hosts, "1");
    wait_path(&manager, "b", &["a"], &agents);
    let relay: SocketAddr = "10.50.0.1:5087".parse().unwrap();
    let own: AgentId = peer(mesh.host("a"))["agent"].as_str().unwrap().parse().unwrap();
    let before = manager.database().count("agents");
    let statuses = mesh.host("b").inside(move || attack(relay, own)).unwrap();
    eprintln!("{statuses:?}");
    assert_eq!(statuses["wrong_mac"], BTreeSet::from([401]));
    assert_eq!(statuses["own_id"], BTreeSet::from([508]));
    assert_eq!(
        statuses["forged_path"],
        BTreeSet::from([401]),
        "the relay or the manager finds the forged hop out"
    );
    assert_eq!(statuses["full_path"], BTreeSet::from([508]));
    assert_eq!(statuses["path_of_5"], BTreeSet::from([400]));
    assert_eq!(statuses["path_of_2000"], BTreeSet::from([413]));
    assert_eq!(statuses["oversized"], BTreeSet::from([413]));
    // During and after: b's reports still arrive through a.
    let tick = |host: &str| -> i64 {
        manager.database().one(&format!(
            "SELECT max(tick) FROM reports r JOIN agents a ON a.no = r.agent WHERE a.hostname = '{host}'"
        ))
    };
    let then = tick("b");
    assert!(until(PATIENCE, || tick("b") > then + 2), "{}", agents["b"].log());
    let drained = || manager.agent("b").is_some_and(|b| b["spooled"] == 0);
    assert!(until(PATIENCE, drained));
    assert_gapless(&manager.database(), 0);
    assert_eq!(manager.database().count("agents"), before, "nobody else was let in");
    assert!(agents["a"].rss_kb() < 64 << 10, "{} KiB", agents["a"].rss_kb());
}

/// What a relay answers to each kind of attack.
fn attack(relay: SocketAddr, own: AgentId) -> BTreeMap<&'static str, BTreeSet<u16>> {
    let mut statuses: BTreeMap<&'static str, BTreeSet<u16>> = BTreeMap::new();
    let mut note = |what, bytes: &[u8]| {
        let answer = post(relay, "/status/relay", bytes);
        let status = answer.map_or(0, |(status, _)| status);
        statuses.entry(what).or_default().insert(status);
    };
    let stranger = Actor::new("stranger", "a preshared key of someone else");
    let insider = Actor::new("insider", PSK);
    note("wrong_mac", &stranger.report(1).bytes);
    // A message of the relay itself, and one that has passed it.
    let looping = Actor { agent: own, ..insider.clone() };
    note("own_id", &looping.report(1).bytes);
    let hop = |by: &Actor, hops: usize| {
        let sealed = insider.report(1);
        let mut envelope = Envelope::parse(&sealed.bytes).unwrap();
        for _ in 0..hops {
            envelope.header.add_hop(AgentId::random().unwrap(), now_ms(), &by.psk).unwrap();
        }
        envelope.to_bytes()
    };
    note("full_path", &hop(&insider, 3));
    note("forged_path", &hop(&stranger, 1));
    for (what, hops) in [("path_of_5", 5), ("path_of_2000", 2000)] {
        let message = hop(&insider, 1);
        let end = message.iter().position(|&byte| byte == b'\n').unwrap();
        let at = message[..end].iter().rposition(|&byte| byte == b' ').unwrap();
        let entries = message[at..end].repeat(hops);
        note(what, &[&message[..at], &entries, &message[end..]].concat());
    }
    note("oversized", &vec![b'x'; 1 << 20]);
    let slow: Vec<_> = (0..20).filter_map(|_| TcpStream::connect(relay).ok()).collect();
    for mut stream in &slow {
        let _ = stream.write_all(b"POST /status/relay HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\nx");
    }
    let flood = std::thread::scope(|scope| {
        let one = || {
            let draft = Draft {
                kind: Kind::Report,
                agent: AgentId([9; 16]),
                boot: insider.boot,
                tick: 1,
                nonce: Nonce([9; 16]),
                json: b"{}",
            };
            let bytes = draft.seal(&stranger.psk, now_ms()).bytes;
            let start = Instant::now();
            let mut answered = 0;
            for _ in 0..40 {
                answered += u32::from(post(relay, "/status/relay", &bytes).is_ok());
            }
            (answered, start.elapsed())
        };
        let threads: Vec<_> = (0..25).map(|_| scope.spawn(one)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    let answered: u32 = flood.iter().map(|(answered, _)| answered).sum();
    eprintln!("{answered} of 1000 forged messages at once were answered");
    for mut stream in slow {
        let _ = stream.set_read_timeout(Some(SECOND));
        let _ = stream.read(&mut [0; 100]);
    }
    statuses
}
