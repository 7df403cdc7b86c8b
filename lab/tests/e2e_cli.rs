//! What people do at the command line: `make run`, `-dump`, `-discover`, resets, backups, and Ctrl-C.
#![expect(clippy::unwrap_used, reason = "the helpers, too, are tests")]

mod e2e;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use e2e::{Database, Manager, PSK, SOON, agent, assert_stops, ready, secret_file};
use lab::{Host, Launch, MESH, Mesh, Output, Plan, Proc, bin, until, wait_for};
use nix::sys::signal::Signal;
use proto::ack::{self, Code};
use proto::envelope::Envelope;
use proto::psk::Secret;
use serde_json::Value;

const ADMIN: &str = "an admin secret, never the PSK";

/// What a daemon may take to stop. Promised are 2 s; the rest is for a machine that stalls. What hangs
/// here would take 5 s or more to give up by itself.
const STOP: Duration = Duration::from_secs(4);

fn one_host() -> Mesh {
    Plan::new("cli").lan("l", "10.1.0.0/24").attach("one", "l", "10.1.0.1").up().unwrap()
}

/// Runs a daemon's command with a good end, and gives what it printed.
fn said(host: &Host, args: &[&str], env: &[(&str, &str)]) -> String {
    let done = run(host, args, env);
    assert!(done.status.success(), "{args:?}: {}\n{}{}", done.status, text(&done.stdout), text(&done.stderr));
    text(&done.stdout)
}

fn run(host: &Host, args: &[&str], env: &[(&str, &str)]) -> Output {
    let program = bin(args[0]).unwrap();
    let args = [&[program.to_str().unwrap()], &args[1..]].concat();
    host.output_env(&args, env, SOON).unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The tree as `scripts/run.sh` wants it, in a folder of its own.
fn checkout(mesh: &Mesh) -> PathBuf {
    let root = mesh.dir().join("checkout");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    std::fs::create_dir_all(root.join("scripts")).unwrap();
    std::fs::create_dir_all(root.join("target/release")).unwrap();
    std::fs::copy(source.join("scripts/run.sh"), root.join("scripts/run.sh")).unwrap();
    for name in ["agent", "manager"] {
        std::os::unix::fs::symlink(bin(name).unwrap(), root.join("target/release").join(name)).unwrap();
    }
    root
}

#[test]
fn make_run_needs_nothing_and_stops_with_ctrl_c() {
    if !ready(MESH) {
        return;
    }
    let mesh = one_host();
    let host = mesh.host("one");
    let root = checkout(&mesh);
    let agents = || -> Vec<Value> {
        let list =
            host.http_get("http://127.0.0.1:5086/status/agents").and_then(|answer| answer.json::<Value>());
        list.map(|list| list["agents"].as_array().unwrap().clone()).unwrap_or_default()
    };
    let start = |name: &str| -> Proc {
        let launch = Launch::new(root.join("scripts/run.sh")).log(mesh.dir().join(name));
        let process = host.spawn(&launch).unwrap();
        process.wait_log("open  http://127.0.0.1:5086/", SOON).unwrap();
        let reporting =
            || agents().iter().any(|agent| agent["presence"] == "online" && agent["hostname"] == "one");
        assert!(until(SOON, reporting), "no report:\n{}", process.log());
        process
    };
    // Its children are asked for by name: nothing else runs in this host.
    let daemons = || text(&host.output(&["pidof", "agent", "manager"], SOON).unwrap().stdout);
    let stop = |process: &Proc| {
        assert_eq!(daemons().split_whitespace().count(), 2, "{}", daemons());
        let start = Instant::now();
        process.signal(Signal::SIGINT).unwrap();
        let status = process.wait(SOON).unwrap();
        let took = start.elapsed();
        eprintln!("make run stopped after {took:?}");
        assert_eq!(status.code(), Some(0), "{}", process.log());
        assert!(took < STOP, "stopped after {took:?}");
        assert_eq!(daemons(), "", "both are gone:\n{}", process.log());
    };

    let first = start("first.log");
    assert_eq!(std::fs::read_to_string(root.join(".env")).unwrap(), "PSK_FILE=run/psk\n");
    let psk = std::fs::read_to_string(root.join("run/psk")).unwrap();
    let mode = |path: &str| std::fs::metadata(root.join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("run/psk"), mode("run/kattila_manager.db"), mode("run")), (0o600, 0o600, 0o700));
    assert!(psk.len() == 64 && psk.bytes().all(|byte| byte.is_ascii_hexdigit()), "32 random bytes");
    assert!(!first.log().contains(&psk), "the PSK is shown");
    let before = agents();
    assert_eq!(before.len(), 1);
    stop(&first);

    let second = start("second.log");
    assert_eq!(std::fs::read_to_string(root.join("run/psk")).unwrap(), psk, "the PSK is kept");
    assert_eq!(std::fs::read_to_string(root.join(".env")).unwrap(), "PSK_FILE=run/psk\n");
    assert!(!second.log().contains("made a random PSK"));
    let after = agents();
    assert_eq!((after.len(), &after[0]["id"]), (1, &before[0]["id"]), "the agent is the same");
    assert_eq!(after[0]["psk_generation"], 1);
    stop(&second);

    // A PSK that others can read is not used. It says what to run, and goes on when that was done.
    std::fs::set_permissions(root.join("run/psk"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let launch = |name: &str| Launch::new(root.join("scripts/run.sh")).log(mesh.dir().join(name));
    let third = host.spawn(&launch("third.log")).unwrap();
    third.wait_log("no PSK, reports wait until there is one: run/psk: others can read this", SOON).unwrap();
    third.wait_log("run: chmod 600 run/psk", SOON).unwrap();
    std::fs::set_permissions(root.join("run/psk"), std::fs::Permissions::from_mode(0o600)).unwrap();
    third.wait_log("first report delivered", SOON).unwrap();
    stop(&third);

    // A set-up that cannot work ends by itself, with a sentence.
    std::fs::write(root.join(".env"), "PSK_FILE=run/psk\nREPORT_INTERVAL=soon\n").unwrap();
    let fourth = host.spawn(&launch("fourth.log")).unwrap();
    assert_ne!(fourth.wait(SOON).unwrap().code(), Some(0));
    assert!(fourth.log().contains("REPORT_INTERVAL=soon: expected"), "{}", fourth.log());
    assert_eq!(daemons(), "");
}

#[test]
fn a_dump_is_what_would_be_sent() {
    if !ready(MESH) {
        return;
    }
    let mesh = one_host();
    let host = mesh.host("one");
    let manager = Manager::start(host, &[("PSK", PSK)]);
    let state = host.dir().to_str().unwrap();
    let file = host.dir().join("dump");
    said(host, &["agent", "-dump", file.to_str().unwrap()], &[("PSK", PSK), ("STATE_DIR", state)]);
    let dump = std::fs::read(&file).unwrap();
    let envelope = Envelope::parse(&dump).unwrap();
    let psk = Secret::new(PSK).unwrap();
    assert!(envelope.is_signed_with(&psk));
    // Posted by hand, as with curl --data-binary.
    let post = || host.http_post("http://127.0.0.1:5086/status/updates", &dump).unwrap();
    for code in [Code::Stored, Code::AlreadyStored] {
        let answer = post();
        let ack = ack::open(&answer.body, envelope.header.nonce, &envelope.header.mac, &psk).unwrap();
        assert_eq!((answer.status, ack.code), (200, code));
    }
    let stored: Vec<u8> = manager.database().one("SELECT payload FROM reports");
    let json = envelope.json().unwrap();
    let same = |one: &[u8], other: &[u8]| {
        serde_json::from_slice::<Value>(one).unwrap() == serde_json::from_slice::<Value>(other).unwrap()
    };
    let shown = manager.get(&format!("/status/agents/{}", envelope.header.agent)).1["report"].clone();
    assert!(same(&json, shown.to_string().as_bytes()));
    assert!(!stored.is_empty());
    // To standard output, and as the daemon that would have sent it.
    let again = said(host, &["agent", "--dump", "-"], &[("PSK", PSK), ("STATE_DIR", state)]);
    let again = Envelope::parse(again.as_bytes()).unwrap();
    assert_eq!(again.header.agent, envelope.header.agent);
    assert_ne!((again.header.boot, again.header.nonce), (envelope.header.boot, envelope.header.nonce));
    let id = std::fs::read_to_string(host.dir().join("agent_id.txt")).unwrap();
    assert!(id.contains(&envelope.header.agent.to_string()), "{id}");
}

#[test]
fn discover_finds_every_other_agent() {
    if !ready(MESH) {
        return;
    }
    let names = ["a", "b", "c", "d"];
    let mut plan = Plan::new("discover").lan("l", "10.1.0.0/24");
    for (n, name) in (1..).zip(names) {
        plan = plan.attach(name, "l", &format!("10.1.0.{n}"));
    }
    let mesh = plan.full_mesh("wg0", "10.77.0.0/24", &names).up().unwrap();
    mesh.wait_handshakes(SOON).unwrap();
    // Nobody runs one yet.
    let none = run(mesh.host("a"), &["agent", "-discover"], &[]);
    assert_eq!(none.status.code(), Some(1), "{}", text(&none.stderr));
    assert!(text(&none.stdout).contains("0 of 3 addresses run an agent"), "{}", text(&none.stdout));

    let manager = Manager::start(mesh.host("a"), &[("PSK", PSK)]);
    let _agents: Vec<Proc> = ["a", "b", "c"]
        .iter()
        .map(|name| mesh.host(name).spawn(&agent(mesh.host(name), &manager.url(), &[("PSK", PSK)])).unwrap())
        .collect();
    for name in ["a", "b", "c"] {
        manager.wait_agent(name, "a report", |agent| agent["presence"] == "online");
    }
    let table = said(mesh.host("a"), &["agent", "-discover"], &[]);
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0][..3], ["ADDRESS", "AGENT", "HOSTNAME"], "{table}");
    for (row, (address, name)) in rows[1..3].iter().zip([("10.77.0.2", "b"), ("10.77.0.3", "c")]) {
        let id = manager.agent(name).unwrap()["id"].as_str().unwrap().to_owned();
        assert_eq!(row[..3], [address, &id, name], "{table}");
        assert_eq!(row[4], "0", "it reaches the manager directly: {table}");
    }
    assert_eq!(rows.len(), 4);
    assert!(table.ends_with("2 of 3 addresses run an agent\n"), "{table}");
    // The agent's other commands on a host in use.
    let sysinfo: Value = serde_json::from_str(&said(mesh.host("d"), &["agent", "-sysinfo"], &[])).unwrap();
    assert_eq!(sysinfo["system"]["hostname"], "d");
    assert!(said(mesh.host("d"), &["agent", "-version"], &[]).starts_with("agent 0."));
    let wrong = run(mesh.host("d"), &["agent", "-discvoer"], &[]);
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn resets_and_backups_work_on_live_daemons() {
    if !ready(MESH) {
        return;
    }
    let mesh = one_host();
    let host = mesh.host("one");
    let admin = secret_file(mesh.dir().join("admin"), ADMIN);
    let admin = [("ADMIN_SECRET_FILE", admin.to_str().unwrap())];
    let settings = [("PSK", PSK), admin[0]];
    let manager = Manager::start(host, &settings);
    let process = host.spawn(&agent(host, &manager.url(), &settings)).unwrap();
    let id = manager.wait_agent("one", "a report", |agent| agent["presence"] == "online")["id"].clone();
    let id = id.as_str().unwrap().to_owned();
    let stops = |process: &Proc| assert_stops(process, Signal::SIGTERM, STOP);

    // Without the secret, or with another, nothing happens.
    let wrong = secret_file(mesh.dir().join("wrong"), "another admin secret altogether");
    for (env, why) in
        [(vec![], "ADMIN_SECRET_FILE"), (vec![("ADMIN_SECRET_FILE", wrong.to_str().unwrap())], "")]
    {
        for args in [&["agent", "-reset"][..], &["manager", "-reset", "all"]] {
            let done = run(host, args, &env);
            assert!(matches!(done.status.code(), Some(1 | 2)), "{args:?} {env:?}");
            assert!(text(&done.stderr).contains(why), "{args:?}: {}", text(&done.stderr));
        }
    }
    assert_eq!(manager.agent("one").unwrap()["id"], id.as_str());

    // The agent forgets who it was and comes back as another, at once.
    let told = said(host, &["agent", "-reset"], &admin);
    assert!(told.contains(&id), "{told}");
    let fresh = wait_for("another agent", SOON, || {
        let agents = manager.agents();
        agents.iter().map(|agent| agent["id"].as_str().unwrap().to_owned()).find(|other| *other != id)
    })
    .unwrap();
    assert!(told.contains(&fresh), "{told}");
    let kept = std::fs::read_to_string(host.dir().join("state/agent_id.txt")).unwrap();
    assert!(kept.contains(&fresh) && !kept.contains(&id), "{kept}");

    // The manager hides one, shows it again, hides all: those that report on come back.
    let ids = || -> Vec<String> {
        manager.agents().iter().map(|agent| agent["id"].as_str().unwrap().to_owned()).collect()
    };
    let mut both = vec![id.clone(), fresh.clone()];
    both.sort();
    let sorted = || {
        let mut ids = ids();
        ids.sort();
        ids
    };
    said(host, &["manager", "-reset", &id], &admin);
    assert_eq!(ids(), [fresh.as_str()]);
    assert_eq!(manager.get(&format!("/status/agents/{id}")).0, 404);
    said(host, &["manager", "-undo", &id], &admin);
    assert_eq!(sorted(), both);
    let reports = manager.database().count("reports");
    said(host, &["manager", "--reset", "all"], &admin);
    assert!(!ids().contains(&id));
    assert!(until(SOON, || ids() == [fresh.as_str()]), "the one that runs comes back: {:?}", ids());
    assert!(manager.database().count("reports") >= reports, "nothing is deleted");
    said(host, &["manager", "-undo", "all"], &admin);
    assert_eq!(sorted(), both);
    let unknown = run(host, &["manager", "-reset", &"0".repeat(32)], &admin);
    assert_eq!(unknown.status.code(), Some(1), "{}", text(&unknown.stderr));

    // A backup beside the running manager: private, whole, and a database that a manager can start with.
    let copy = host.dir().join("copy.db");
    let database = host.dir().join("kattila_manager.db");
    let reports = manager.database().count("reports");
    said(host, &["manager", "-backup", copy.to_str().unwrap()], &[("DATABASE", database.to_str().unwrap())]);
    assert_eq!(std::fs::metadata(&copy).unwrap().permissions().mode() & 0o7777, 0o600);
    let backup = Database::open(&copy);
    backup.assert_sound();
    assert!(backup.count("reports") >= reports);
    drop(backup);
    assert_eq!(manager.health()["status"], "ok");
    stops(&process);
    stops(&manager.process);
    let other = Manager::start(host, &[("PSK", PSK), ("DATABASE", copy.to_str().unwrap())]);
    assert_eq!(other.agents().len(), 2, "the copy has them");
    stops(&other.process);
}

#[test]
fn both_stop_at_once_whatever_hangs() {
    if !ready(MESH) {
        return;
    }
    let mesh = Plan::new("stop")
        .lan("l", "10.1.0.0/24")
        .attach("hub", "l", "10.1.0.1")
        .attach("node", "l", "10.1.0.2")
        .up()
        .unwrap();
    let (hub, node) = (mesh.host("hub"), mesh.host("node"));
    let mut manager = Manager::start(hub, &[("PSK", PSK)]);
    let settings = [("PSK", PSK), ("REPORT_INTERVAL", "1")];
    let starts = std::cell::Cell::new(0);
    let start = || {
        // A log of its own: told to stop before it listens for that it would just die.
        starts.set(starts.get() + 1);
        let log = node.dir().join(format!("agent-{}.log", starts.get()));
        let process = node.spawn(&agent(node, &manager.url(), &settings).log(log)).unwrap();
        process.wait_log("first report delivered", SOON).unwrap();
        process
    };
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        assert_stops(&start(), signal, STOP);
    }
    // The manager hangs: its port takes connections and nobody answers.
    let process = start();
    manager.process.signal(Signal::SIGSTOP).unwrap();
    let hanging = || {
        // A connection of the agent on which something was sent and nothing came back.
        let open = node.run(&["cat", "/proc/net/tcp"]).unwrap();
        // 0100010A:13DE is 10.1.0.1:5086, state 01 established.
        open.lines().any(|line| line.contains(" 0100010A:13DE 01 "))
    };
    assert!(until(SOON, hanging), "the agent waits for an answer");
    assert_stops(&process, Signal::SIGTERM, STOP);
    manager.process.signal(Signal::SIGCONT).unwrap();

    // The manager's network swallows everything.
    let process = start();
    node.cut("ip daddr 10.1.0.1").unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    assert_stops(&process, Signal::SIGTERM, STOP);
    node.heal().unwrap();

    // The manager ends with an agent that reports, and with a client that never finishes its request.
    let _process = start();
    let _half = hub
        .inside(|| {
            let mut stream = std::net::TcpStream::connect("127.0.0.1:5086").unwrap();
            std::io::Write::write_all(&mut stream, b"POST /status/updates HTTP/1.1\r\nContent-Le").unwrap();
            stream
        })
        .unwrap();
    assert_stops(&manager.process, Signal::SIGTERM, STOP);
    manager.restart();
    manager.wait_agent("node", "reports again", |agent| agent["last_seen_age_s"].as_i64() < Some(2));
    assert_stops(&manager.process, Signal::SIGINT, STOP);
    manager.database().assert_sound();
}
