//! What other programs read: golden files under `export/`, held against those programs where they are
//! here. `BLESS=1 cargo test -p manager --test export` writes what is made; look at it before it is
//! committed, for it must be true.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Actor, Manager, exchange, now_ms};
use kattila_manager::atlas::Atlas;
use kattila_manager::export::links::Links;
use kattila_manager::export::metrics::{self, Own, Parts};
use kattila_manager::export::picture::{Picture, Wanted};
use kattila_manager::export::prometheus::Family;
use kattila_manager::export::{csv, dot, mermaid, netjson};
use kattila_manager::fleet::Presence;
use kattila_manager::process::Process;
use kattila_manager::store::writer::WriterHealth;
use kattila_manager::topology::{Receipt, State};
use kattila_manager::view::agent::{AgentList, AgentView};
use proto::ids::{AgentId, BootId, PublicKey};
use proto::report::{IFF_UP, Interface, InterfaceKind, Report, WireGuardDevice, WireGuardPeer};
use proto::sign::Kind;
use serde_json::Value;

/// Names that mean something in one format or another.
const NAMES: [&str; 5] = [
    "<img src=x onerror=alert(1)>",
    "\"quotes\" and \\back\\slashes\\",
    "two\nlines --> %% end; ]} #35; `**b**` &lt;",
    "=HYPERLINK(\"http://evil.example\",\"click\")",
    "Köln, plain",
];
/// When the golden reports came (ms).
const AT: i64 = 1_764_000_000_000;

fn device(me: u8, others: &[u8]) -> WireGuardDevice {
    let peers = others.iter().map(|&other| WireGuardPeer {
        public_key: PublicKey([other; 32]),
        has_psk: false,
        endpoint: Some(format!("192.0.2.{other}:51820")),
        allowed_ips: vec![format!("10.9.0.{other}/32").parse().unwrap(), "fd00:9::/64".parse().unwrap()],
        handshake_at: None,
        handshake_age_s: (other != 5).then_some(20 + u64::from(me)),
        rx_bytes: 1000 * u64::from(me),
        tx_bytes: 1000 * u64::from(other),
        keepalive_s: Some(25),
        rtt_us: (me == 1).then_some(1500),
    });
    WireGuardDevice {
        name: "wg0".into(),
        public_key: Some(PublicKey([me; 32])),
        listen_port: 51820,
        peers: peers.collect(),
        ..WireGuardDevice::default()
    }
}

fn report(me: u8, hostname: &str, others: &[u8], observed_at: i64) -> Report {
    let interface = |name: &str, index, kind, address: String| Interface {
        name: name.into(),
        index,
        kind,
        mtu: 1420,
        flags: IFF_UP,
        operstate: "unknown".into(),
        addresses: vec![address.parse().unwrap()],
        ..Interface::default()
    };
    let mut report = Report { observed_at, interval_s: 30, ..Report::default() };
    report.system.hostname = hostname.into();
    report.system.interfaces = vec![
        interface("docker0", 1, InterfaceKind::Bridge, "172.17.0.1/16".to_owned()),
        interface("wg0", 2, InterfaceKind::WireGuard, format!("10.9.0.{me}/24")),
    ];
    report.system.wireguard = vec![device(me, others)];
    report
}

/// Four hosts in a ring, each with a name of [`NAMES`], and a peer that is no agent.
fn hostile() -> (State, AgentList) {
    let mut state = State::new();
    for (me, others) in [(1, vec![2, 4, 9]), (2, vec![1, 3]), (3, vec![2]), (4, vec![1, 5]), (5, vec![4])] {
        let receipt = Receipt {
            agent: AgentId([me; 16]),
            boot: BootId([me; 16]),
            tick: 1,
            received_at: AT,
            relay: if me == 4 { vec![AgentId([1; 16])] } else { Vec::new() },
        };
        state.apply(&receipt, &report(me, NAMES[usize::from(me) - 1], &others, AT));
    }
    state.settle(AT + 1000);
    let agents = (1..=5_u8).map(|me| AgentView {
        id: AgentId([me; 16]),
        hostname: NAMES[usize::from(me) - 1].into(),
        presence: if me == 5 { Presence::Offline } else { Presence::Online },
        version: if me == 2 { "-1+cmd|' /C calc'!A0".into() } else { "0.1.0".into() },
        first_seen: AT - 86_400_000,
        last_seen: (me != 5).then_some(AT),
        last_seen_age_s: Some(1),
        clock_offset_ms: Some(-1500),
        arrival: (me != 5).then_some(if me == 4 { "relay" } else { "direct" }),
        path: if me == 4 { vec![AgentId([1; 16]), AgentId([2; 16])] } else { Vec::new() },
        psk_generation: Some(1),
        interval_s: Some(30),
        spooled: Some(0),
        dropped: Some(3),
        problems: Some(0),
    });
    (state, AgentList { now: AT + 1000, agents: agents.collect() })
}

fn own() -> Own {
    Own {
        started: AT - 5000,
        writer: WriterHealth { commits: 7, stored: 5, ..WriterHealth::default() },
        queue: 0,
        database_bytes: [90_112, 4096],
        refused: BTreeMap::from([("bad_mac", 2), ("wrong_token", 1)]),
        gate: gate::Stats { accepted: 30, served: 28, refused_4xx: 2, open: 1, ..gate::Stats::default() },
        process: Process {
            cpu_s: Some(1.25),
            resident_bytes: Some(8 << 20),
            threads: Some(14),
            open_fds: Some(40),
            max_fds: Some(1024),
        },
        psk_readable: true,
        notifications: 0,
    }
}

fn all_metrics(state: State, agents: &AgentList) -> String {
    let alarm = |code: &str, count| (code.to_owned(), "warning".to_owned(), "firing".to_owned(), count);
    let alarms = [alarm("PEER_ONE_SIDED", 2), alarm("TUNNEL_DOWN", 1)];
    let atlas = Atlas::from(state);
    let links = Links::new(&atlas, agents);
    let all = Parts::read(None).unwrap();
    metrics::render(24 << 20, all, Some(agents), Some(&links), Some(&alarms), Some(&own()))
}

fn golden(name: &str, found: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/export").join(name);
    let found = found.replace(env!("CARGO_PKG_VERSION"), "VERSION");
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, &found).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(expected == found, "other than {}: made was\n{found}", file.display());
}

/// A program that the exports are held against, or `None`, said loudly.
fn tool(name: &str) -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_BIN_EXE_manager")).ancestors().nth(2).unwrap();
    let fetched = target.join("lab/tools").join(name);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.exists());
    let found = found.or_else(|| fetched.exists().then_some(fetched));
    if found.is_none() {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "CI: {name} is missing; run scripts/test-deps.sh"
        );
        eprintln!("SKIPPED: no {name} to hold exports against; scripts/test-deps.sh installs it");
    }
    found
}

/// What `command` writes when it reads `input`; it must succeed.
fn through(command: &mut Command, input: &str) -> String {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writing = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    let _ = writing.join();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && words.is_empty(), "{command:?}: {}\n{words}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// What the schema of a NetworkGraph asks for (https://netjson.org/rfc.html, section 4).
fn assert_network_graph(text: &str) {
    let graph: Value = serde_json::from_str(text).unwrap();
    let string = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
    assert_eq!(graph["type"], "NetworkGraph");
    for name in ["protocol", "version", "metric", "label"] {
        assert!(string(&graph[name]), "{name} in {graph}");
    }
    let mut ids = BTreeSet::new();
    for node in graph["nodes"].as_array().unwrap() {
        assert!(string(&node["id"]) && node["label"].is_string() && node["properties"].is_object(), "{node}");
        assert!(ids.insert(node["id"].as_str().unwrap()), "twice: {node}");
        let addresses = node["local_addresses"].as_array().unwrap();
        assert!(addresses.iter().all(string), "{node}");
        assert_eq!(
            addresses.iter().filter_map(Value::as_str).collect::<BTreeSet<_>>().len(),
            addresses.len(),
            "{node}"
        );
    }
    for link in graph["links"].as_array().unwrap() {
        for end in ["source", "target"] {
            assert!(ids.contains(link[end].as_str().unwrap()), "{end} of {link}");
        }
        assert!(link["cost"].as_f64().is_some_and(f64::is_finite), "{link}");
        assert!(link["cost_text"].is_string() && link["properties"].is_object(), "{link}");
    }
}

/// Every sample's name and labels are there once, under their TYPE, and counters end in `_total`.
fn assert_exposition(text: &str) {
    let (mut seen, mut family, mut families) = (BTreeSet::new(), String::new(), BTreeSet::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert!(families.insert(name.to_owned()), "{name} twice");
            family = name.to_owned();
        } else if !line.starts_with('#') {
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok_and(f64::is_finite), "{line}");
            assert_eq!(series.split('{').next(), Some(family.as_str()), "{line}");
            assert!(seen.insert(series.to_owned()), "twice: {series}");
        }
    }
}

/// The rows of RFC 4180.
fn rows(text: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut field, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => field.extend(chars.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut field)),
            '\r' if !quoted => {
                assert_eq!(chars.next(), Some('\n'));
                row.push(std::mem::take(&mut field));
                rows.push(std::mem::take(&mut row));
            }
            c => field.push(c),
        }
    }
    assert!(!quoted && field.is_empty() && row.is_empty(), "an unfinished line");
    rows
}

#[test]
fn netjson_is_a_network_graph_whatever_hosts_are_called() {
    let text = netjson::graph(&Picture::from(hostile().0.view(false)));
    assert_network_graph(&text);
    let graph: Value = serde_json::from_str(&text).unwrap();
    let labels: BTreeSet<&str> =
        graph["nodes"].as_array().unwrap().iter().map(|node| node["label"].as_str().unwrap()).collect();
    assert!(NAMES.iter().all(|name| labels.contains(name)), "{labels:?}");
    let node = graph["nodes"].as_array().unwrap().iter().find(|node| node["label"] == NAMES[0]).unwrap();
    assert_eq!(node["local_addresses"], serde_json::json!(["10.9.0.1"]), "docker's address is no name");
    golden("hostile.netjson", &(serde_json::to_string_pretty(&graph).unwrap() + "\n"));
}

#[test]
fn dot_is_drawn_by_graphviz_whatever_hosts_are_called() {
    let text = dot::graph(&Picture::from(hostile().0.view(false)));
    golden("hostile.dot", &text);
    let Some(dot) = tool("dot") else { return };
    let svg = through(Command::new(&dot).arg("-Tsvg"), &text);
    assert!(!svg.contains("<img"), "{svg}");
    assert_eq!(svg.matches("class=\"node\"").count(), 7, "five agents, a peer and the manager: {svg}");
    for name in ["&lt;img src=x onerror=alert(1)&gt;", "&quot;quotes&quot; and \\back\\slashes\\", "&amp;lt;"]
    {
        assert!(svg.replace("&#45;", "-").contains(name), "{name} in {svg}");
    }
}

#[test]
fn mermaid_and_tables_are_as_they_were() {
    let (state, agents) = hostile();
    let picture = Picture::from(state.view(false));
    golden("hostile.mmd", &mermaid::graph(&picture));
    golden("hostile-links.csv", &csv::links(&picture));
    golden("hostile-agents.csv", &csv::agents(&agents));
    for text in [csv::links(&picture), csv::agents(&agents)] {
        let rows = rows(&text);
        assert!(rows.iter().all(|row| row.len() == rows[0].len()), "{rows:?}");
        let outside = rows[1..].iter().flatten().filter(|field| field.parse::<f64>().is_err());
        let formula = |field: &&String| field.starts_with(['=', '+', '-', '@', '\t', '\r']);
        assert_eq!(outside.clone().find(formula), None);
        assert!(
            outside.clone().any(|field| field == NAMES[1]) && outside.clone().any(|field| field == NAMES[2])
        );
    }
}

#[test]
fn metrics_pass_promtool_whatever_hosts_are_called() {
    let (state, agents) = hostile();
    let text = all_metrics(state, &agents);
    assert_exposition(&text.replace("\\n", ""));
    golden("hostile.prom", &text);
    let Some(promtool) = tool("promtool") else { return };
    through(Command::new(promtool).args(["check", "metrics"]), &text);
}

#[test]
fn tunnels_that_cannot_have_room_are_counted_with_the_edges() {
    let (state, agents) = hostile();
    let atlas = Atlas::from(state);
    let alone = || Links::new(&atlas, &agents);
    let whole = alone().wireguard(usize::MAX).families().unwrap();
    let (bytes, samples) =
        (whole.iter().map(Family::size).sum(), whole.iter().map(Family::len).sum::<usize>());
    let beside = alone();
    assert!(samples > 3 && beside.edges(usize::MAX).fits());
    assert!(beside.wireguard(bytes).fits());
    for room in [bytes - 1, bytes / 2, 0] {
        assert_eq!(beside.wireguard(room).families().err(), Some(samples));
        assert_eq!(alone().wireguard(room).families().err(), Some(samples));
    }
}

#[test]
fn what_is_too_large_for_one_answer_is_counted() {
    let of = |bytes: usize| {
        let (state, mut agents) = hostile();
        agents.agents.iter_mut().for_each(|agent| agent.hostname = "x".repeat(bytes).into());
        let text = all_metrics(state, &agents);
        assert!(text.len() < (24 << 20) + 1000, "{}", text.len());
        let samples = |name: &str| text.lines().filter(|line| line.starts_with(name)).count();
        let left_out = |part: &str| {
            let name = format!("kattila_metrics_left_out{{part=\"{part}\"}} ");
            text.lines().find_map(|line| line.strip_prefix(&name)?.parse::<usize>().ok())
        };
        let kept = [samples("kattila_agent"), samples("kattila_edge"), samples("wireguard_")];
        (kept, [left_out("fleet"), left_out("links"), left_out("wireguard")])
    };
    let ([fleet, links, wireguard], none) = of(1);
    assert!(fleet > 30 && links > 15 && wireguard > 10);
    assert_eq!(none, [None, Some(0), Some(0)], "the fleet's part is named where it has to be");
    assert_eq!(of(800_000), ([fleet, links, 0], [None, Some(0), Some(wireguard)]));
    assert_eq!(of(3 << 20), ([fleet, 0, 0], [None, Some(links), Some(wireguard)]));
    assert_eq!(of(6 << 20), ([fleet - 5, 0, 0], [Some(5), Some(links), Some(wireguard)]));
}

#[test]
fn a_part_of_the_map_keeps_all_agents() {
    let of = |query: &str| {
        let wanted = Wanted::read(Some(query), 0).unwrap();
        wanted.of(Picture::from(hostile().0.view(false)))
    };
    let whole = of("");
    assert_eq!((whole.nodes.len(), whole.links.len()), (7, 10));
    let wireguard = of("layer=wireguard");
    assert_eq!((wireguard.nodes.len(), wireguard.links.len()), (6, 5), "the manager is at no such link");
    assert_eq!(of("layer=relay&state=down").links.len(), 0);
    assert_eq!(of("layer=relay&state=down").nodes.len(), 5);
}

/// Every case that the topology is tested with, in every format.
#[test]
fn every_case_of_the_topology_can_be_exported() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/topology/cases");
    let mut texts = Vec::new();
    for folder in std::fs::read_dir(cases).unwrap().map(|entry| entry.unwrap().path()) {
        let entries: Vec<Value> =
            serde_json::from_slice(&std::fs::read(folder.join("reports.json")).unwrap()).unwrap();
        let (mut state, mut fleet, mut last) = (State::new(), BTreeMap::new(), 0);
        for (tick, entry) in (1..).zip(&entries) {
            let report = Report::from_json(&serde_json::to_vec(&entry["report"]).unwrap()).unwrap();
            let agent: AgentId = entry["agent"].as_str().unwrap().parse().unwrap();
            last = entry["received_at"].as_i64().unwrap();
            let boot = BootId([u8::try_from(entry["boot"].as_u64().unwrap_or(0)).unwrap(); 16]);
            state.apply(&Receipt { agent, boot, tick, received_at: last, relay: Vec::new() }, &report);
            fleet.insert(agent, report.system.hostname);
        }
        state.settle(last + 1000);
        let view = |(id, hostname): (AgentId, String)| AgentView {
            id,
            hostname: hostname.into(),
            ..hostile().1.agents[0].clone()
        };
        let agents = AgentList { now: last, agents: fleet.into_iter().map(view).collect() };
        let picture = Picture::from(state.view(false));
        assert_network_graph(&netjson::graph(&picture));
        assert_eq!(rows(&csv::links(&picture)).len(), picture.links.len() + 1);
        let of_map = Picture::from(kattila_manager::view::map::structure(&state));
        assert_eq!((of_map.nodes, of_map.links.len()), (picture.nodes.clone(), picture.links.len()));
        let metrics = all_metrics(state, &agents);
        assert_exposition(&metrics);
        texts.push((folder, dot::graph(&picture), metrics));
    }
    assert!(texts.len() >= 25);
    if let Some(dot) = tool("dot") {
        let all: String = texts.iter().map(|(_, text, _)| text.as_str()).collect();
        through(Command::new(dot).arg("-Tcanon"), &all);
    }
    if let Some(promtool) = tool("promtool") {
        let two_homes = texts.iter().find(|(folder, ..)| folder.ends_with("key_on_two_hosts")).unwrap();
        through(Command::new(promtool).args(["check", "metrics"]), &two_homes.2);
    }
}

/// The status, the head and the body of the answer to a GET.
fn get(manager: &Manager, path: &str) -> (u16, String, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", manager.address);
    let (status, head, body) = exchange(manager.address, request.as_bytes());
    (status, head, String::from_utf8(body).unwrap())
}

#[test]
fn the_manager_serves_every_format_now_and_as_it_was() {
    let manager = Manager::start(&[]);
    let started = now_ms();
    let (a, b) = (Actor::new(NAMES[0]), Actor::new(NAMES[3]));
    for (actor, me, other) in [(&a, 1, 2), (&b, 2, 1)] {
        let mut report = report(me, actor.hostname, &[other], now_ms());
        (report.version, report.hardware) = (proto::report::REPORT_VERSION, actor.hardware.into());
        let json = serde_json::to_vec(&report).unwrap();
        manager.report(&actor.draft(Kind::Report, 1, &json, now_ms()));
    }
    let until = Instant::now() + Duration::from_secs(20);
    while !get(&manager, "/status/export/netjson?layer=wireguard&state=up").2.contains("\"source\"") {
        assert!(Instant::now() < until, "{}", get(&manager, "/status/export/netjson").2);
        std::thread::sleep(Duration::from_millis(100));
    }
    for (path, media_type, disposition) in [
        ("netjson", "application/json", "inline; filename=\"kattila.netjson\""),
        ("dot", "text/vnd.graphviz; charset=utf-8", "attachment; filename=\"kattila.dot\""),
        ("mermaid", "text/plain; charset=utf-8", "inline; filename=\"kattila.mmd\""),
        (
            "links.csv",
            "text/csv; charset=utf-8; header=present",
            "attachment; filename=\"kattila-links.csv\"",
        ),
        (
            "agents.csv",
            "text/csv; charset=utf-8; header=present",
            "attachment; filename=\"kattila-agents.csv\"",
        ),
    ] {
        let path = format!("/status/export/{path}");
        let (status, head, body) = get(&manager, &path);
        assert_eq!(status, 200, "{path}: {body}");
        for line in [format!("Content-Type: {media_type}"), format!("Content-Disposition: {disposition}")] {
            assert!(head.lines().any(|found| found == line), "{line} in {head}");
        }
        assert!(head.contains("X-Content-Type-Options: nosniff"), "{head}");
        assert!(body.contains("wg0") || path.contains("agents"), "{path}: {body}");
    }
    let tag = manager.header("/status/export/netjson", "etag", &[]).1.unwrap();
    assert_eq!(manager.header("/status/export/netjson", "etag", &[("If-None-Match", &tag)]).0, 304);

    // The change is in the history at most a moment after it is on the map.
    let until = Instant::now() + Duration::from_secs(20);
    let past = loop {
        let past = get(&manager, &format!("/status/export/netjson?at={}", now_ms())).2;
        if past.contains("\"source\"") || Instant::now() > until {
            break past;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    assert_network_graph(&past);
    assert!(past.contains("\"handshake_a\":\"live\"") && !past.contains("rx_bytes"), "{past}");
    let before = get(&manager, &format!("/status/export/netjson?at={}", started - 60_000)).2;
    assert_network_graph(&before);
    assert!(!before.contains("\"source\""), "{before}");

    let (status, head, text) = get(&manager, "/metrics");
    assert_eq!(status, 200);
    assert!(head.contains("Content-Type: text/plain; version=0.0.4"), "{head}");
    assert_exposition(&text);
    for part in [
        "kattila_agents{presence=\"online\"} 2",
        "wireguard_sent_bytes_total{agent=\"",
        "kattila_edge_up{kind=\"wireguard\",",
        "kattila_reports_stored_total 2",
        "kattila_gate_requests_total{outcome=\"answered\"}",
        "process_resident_memory_bytes ",
        "kattila_database_bytes{file=\"main\"}",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    if let Some(promtool) = tool("promtool") {
        through(Command::new(promtool).args(["check", "metrics"]), &text);
    }
    let wireguard = get(&manager, "/metrics?only=wireguard").2;
    assert!(wireguard.contains("wireguard_sent") && !wireguard.contains("kattila_edge_up"), "{wireguard}");
    let fleet = get(&manager, "/metrics?only=fleet,alarms").2;
    assert!(fleet.contains("kattila_agent_up") && !fleet.contains("wireguard_"), "{fleet}");

    for (path, name) in [
        ("/metrics?only=everything", "only"),
        ("/status/export/netjson?layer=wg", "layer"),
        ("/status/export/dot?state=broken", "state"),
        ("/status/export/mermaid?at=yesterday", "at"),
        ("/status/export/agents.csv?at=-1h", "at"),
    ] {
        let (status, body) = manager.get(path);
        assert_eq!((status, &body["error"]["code"]), (400, &"bad_parameter".into()), "{path}: {body}");
        assert!(body["error"]["message"].as_str().unwrap().starts_with(name), "{body}");
    }
}
