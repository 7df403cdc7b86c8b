//! `manager -status`: golden pages under `status/`, and the real program against a real manager.
//! `BLESS=1 cargo test -p manager --test status` writes the pages; look at them before they are committed.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test")]

mod common;

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use common::{Actor, Manager, chmod600, secret};
use kattila_manager::status::{Answers, Look, render};
use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

const NOW: i64 = 1_764_000_000_000;

fn id(n: u8) -> String {
    format!("{n:02x}").repeat(16)
}

fn agent(n: u8, hostname: &str, presence: &str, more: Value) -> Value {
    let mut agent = json!({
        "id": id(n), "hostname": hostname, "presence": presence, "version": "0.1.0", "first_seen": 1,
        "last_seen": NOW, "last_seen_age_s": 12, "clock_offset_ms": 40, "arrival": "direct", "path": [],
        "psk_generation": 1, "interval_s": 30, "spooled": 0, "dropped": 0, "problems": 0
    });
    agent.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    agent
}

fn link(ends: [u8; 2], kind: &str, state: &str, more: Value) -> Value {
    let mut properties = json!({ "kind": kind, "state": state, "state_age_s": 7300 });
    if kind == "wireguard" {
        properties.as_object_mut().unwrap().extend(
            json!({ "interface_a": "wg0", "interface_b": "wg0", "handshake_a": "live", "handshake_b": "live",
                    "handshake_age_s_a": 31, "handshake_age_s_b": 30, "rtt_ms_a": 12.34 })
            .as_object()
            .unwrap()
            .clone(),
        );
    }
    properties.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let target = if ends[1] == 0 { "manager".to_owned() } else { id(ends[1]) };
    json!({ "source": id(ends[0]), "target": target, "properties": properties })
}

fn answers() -> Answers {
    let names = [
        "berlin-gw",
        "paris-gw",
        "a-host-with-quite-a-long-name.lab.example.org",
        "evil\u{1b}[2J\u{202e}",
        "漢字",
    ];
    let health = json!({
        "status": "ok", "version": "0.1.0", "uptime_s": 200_000, "psk_failure": "no TXT record at x.example",
        "database": { "writable": true, "failure": null, "commits": 7, "last_commit_age_s": 1 }
    });
    let agents = vec![
        agent(1, names[0], "online", json!({})),
        agent(2, names[1], "offline", json!({ "last_seen_age_s": 7400, "problems": 1 })),
        agent(3, names[2], "online", json!({ "arrival": "relay", "path": [id(1)], "spooled": 12 })),
        agent(4, names[3], "late", json!({ "clock_offset_ms": -63_000 })),
        agent(5, names[4], "never", json!({ "last_seen_age_s": null, "arrival": null })),
    ];
    let alarm = |no: i64, code: &str, severity: &str, state: &str, sentence: &str| {
        json!({ "no": no, "code": code, "severity": severity, "state": state, "since": NOW - 240_000 - no,
                "sentence": sentence, "next_step": "Look at paris-gw's power and uplink." })
    };
    let alarms = vec![
        alarm(
            1,
            "PEER_ONE_SIDED",
            "warning",
            "firing",
            "berlin-gw has evil\u{1b}[31m as a peer on wg0, and evil, which reports, does not have berlin-gw.",
        ),
        alarm(
            2,
            "TOPOLOGY_PARTITION",
            "critical",
            "firing",
            "paris-gw is cut off from the rest of the mesh.",
        ),
        alarm(
            3,
            "DUP_MAC",
            "warning",
            "acknowledged",
            "Two hosts have a network card with the same address.",
        ),
    ];
    let nodes: Vec<Value> = (1..).zip(names).map(|(n, name)| json!({ "id": id(n), "label": name })).collect();
    let links = vec![
        link([1, 3], "wireguard", "up", json!({ "loss_percent_a": 2.5 })),
        link(
            [1, 2],
            "wireguard",
            "down",
            json!({ "handshake_a": "dead", "handshake_age_s_a": 7400, "handshake_age_s_b": null, "handshake_b": null }),
        ),
        link(
            [1, 4],
            "wireguard",
            "one_sided",
            json!({ "handshake_a": "never", "handshake_age_s_a": null, "handshake_age_s_b": null, "handshake_b": null, "state_age_s": 5 }),
        ),
        link([3, 4], "physical", "unknown", json!({ "interface_a": "eth0" })),
        link([1, 0], "relay", "up", json!({})),
    ];
    Answers::read(
        "http://127.0.0.1:5086",
        health,
        json!({ "now": NOW, "agents": agents }),
        json!({ "alarms": alarms }),
        json!({ "nodes": nodes, "links": links }),
    )
    .unwrap()
}

#[test]
fn pages_are_as_they_were() {
    for (name, look) in [
        ("80.txt", Look { width: 80, height: None, color: false }),
        ("160.txt", Look { width: 160, height: None, color: false }),
        ("color.txt", Look { width: 100, height: None, color: true }),
        ("24-lines.txt", Look { width: 80, height: Some(24), color: false }),
    ] {
        let found = render(&answers(), &look);
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/status").join(name);
        if std::env::var_os("BLESS").is_some() {
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, &found).unwrap();
        }
        let expected = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(expected == found, "other than {name}:\n{found}");
        if !look.color {
            assert!(!found.contains(['\u{1b}', '\u{202e}']), "{name}");
            // 漢字 takes two columns more than it has characters.
            let widest =
                found.lines().map(|line| line.chars().count() + 2 * line.matches("漢字").count()).max();
            assert!(widest <= Some(look.width), "{name}: {widest:?}");
        }
        assert!(look.height.is_none_or(|height| found.lines().count() < height), "{name}");
    }
}

fn status(manager: &Manager, arguments: &[&str], settings: &[(&str, &str)]) -> Output {
    let mut command = manager.command();
    command.arg("-status").args(arguments).envs(settings.iter().copied()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn it_shows_what_the_manager_knows_and_tells_by_its_exit_code() {
    let mut manager = Manager::start(&[]);
    let output = status(&manager, &[], &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text(&output.stdout).contains("No agent has reported yet"), "{output:?}");

    let actor = Actor::new("router \u{1b}]0;x\u{7}");
    manager.report(&actor.report(1));
    let output = status(&manager, &[], &[("COLUMNS", "80")]);
    let shown = text(&output.stdout);
    assert!(shown.contains("Agents 1: 1 online") && shown.contains("directly"), "{shown}");
    assert!(
        !shown.contains(['\u{1b}', '\u{7}']) && shown.lines().all(|line| line.chars().count() <= 80),
        "{shown}"
    );

    let output = status(&manager, &["-json"], &[]);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["agents"]["agents"][0]["hostname"], actor.hostname);
    assert_eq!(json["map"]["type"], "NetworkGraph");
    assert!(json["healthcheck"]["database"].is_object() && json["alarms"]["alarms"].is_array(), "{json}");

    // Messages that no PSK of this fleet signed are a critical alarm.
    let mut stranger = Actor::new("stranger");
    stranger.psk = secret("the key of another fleet");
    let until = Instant::now() + Duration::from_secs(60);
    let mut tick = 0;
    let output = loop {
        tick += 1;
        assert_eq!(manager.post("/status/updates", &stranger.report(tick).bytes).0, 401);
        let output = status(&manager, &[], &[]);
        if output.status.code() != Some(0) || Instant::now() > until {
            break output;
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let shown = text(&output.stdout);
    assert!(shown.contains("critical FORGED_REPORTS for ") && shown.contains("next: "), "{shown}");
    assert!(shown.find("ALARMS") < shown.find("AGENTS"), "{shown}");

    assert!(manager.terminate().success());
    let output = status(&manager, &[], &[]);
    let words = text(&output.stderr);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{output:?}");
    assert!(
        words.contains(&manager.address.to_string()) && words.contains("is the manager running?"),
        "{words}"
    );
    assert_eq!(status(&manager, &["-colour"], &[]).status.code(), Some(2));
}

#[test]
fn it_gives_the_token_and_says_what_is_wrong_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        chmod600(&path);
        path.to_str().unwrap().to_owned()
    };
    let (right, wrong) = (file("right", "a read token for tests"), file("wrong", "another token for tests"));
    let manager = Manager::start(&[("READ_TOKEN_FILE", &right)]);
    // By a name that is not its own only the token opens.
    let (v4, port) = (manager.address.ip(), manager.address.port());
    let url = format!("http://{v4}:{port}/");
    assert_eq!(status(&manager, &[&url], &[]).status.code(), Some(0));
    let elsewhere = proxy(&manager);
    let output = status(&manager, &[&elsewhere], &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    for (token, said) in
        [(wrong.as_str(), "this is not the read token"), ("", "127.0.0.1 may read with a token only")]
    {
        let output = status(&manager, &[&elsewhere], &[("READ_TOKEN_FILE", token)]);
        let words = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{words}");
        assert!(
            words.contains(said) && words.contains("READ_TOKEN_FILE") && !words.contains("for tests"),
            "{words}"
        );
    }
}

/// The URL of a proxy that says so in a header, for as many requests as are made.
fn proxy(manager: &Manager) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (url, to) = (format!("http://{}", listener.local_addr().unwrap()), manager.address);
    std::thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let mut head = String::new();
            let mut reader = BufReader::new(client.try_clone().unwrap());
            while reader.read_line(&mut head).is_ok_and(|read| read > 2) {}
            let head = head.trim_end().to_owned() + "\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n";
            let mut server = std::net::TcpStream::connect(to).unwrap();
            std::io::Write::write_all(&mut server, head.as_bytes()).unwrap();
            let _ = std::io::copy(&mut server, &mut client);
        }
    });
    url
}

#[test]
fn watching_goes_on_until_ctrl_c_also_while_the_manager_is_away() {
    let mut manager = Manager::start(&[]);
    let mut child =
        manager.command().args(["-status", "-watch", "-json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let first: Value = serde_json::from_str(&lines.next().unwrap()).unwrap();
    assert!(first["healthcheck"].is_object(), "{first}");
    manager.kill();
    assert!(lines.by_ref().take(20).any(|line| line.contains("is the manager running?")));
    manager.resume();
    assert!(lines.by_ref().take(20).any(|line| line.contains("\"healthcheck\"")));
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
    let ended = std::os::unix::process::ExitStatusExt::signal(&child.wait().unwrap());
    assert_eq!(ended, Some(Signal::SIGINT as i32));
}

#[test]
fn a_reader_that_goes_early_is_no_failure() {
    let manager = Manager::start(&[]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = manager.command();
    let output = command.arg("-status").stdout(writer).stderr(Stdio::piped()).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let manager = Manager::start(&[]);
    manager.report(&Actor::new("router").report(1));
    let shown = |settings: &[(&str, &str)]| {
        let pty = openpty(None, None).unwrap();
        let mut command = manager.command();
        command.arg("-status").env("TERM", "xterm").env("COLUMNS", "80").envs(settings.iter().copied());
        let mut child = command.stdout(Stdio::from(pty.slave)).spawn().unwrap();
        drop(command);
        let mut text = Vec::new();
        // The other side's end is an error here.
        let _ = File::from(pty.master).read_to_end(&mut text);
        assert!(child.wait().unwrap().success());
        String::from_utf8(text).unwrap()
    };
    assert!(shown(&[]).contains("\u{1b}[32monline\u{1b}[0m"), "{}", shown(&[]));
    for plain in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        assert!(shown(&[plain]).contains("online") && !shown(&[plain]).contains('\u{1b}'), "{plain:?}");
    }
    assert!(shown(&[("NO_COLOR", "")]).contains('\u{1b}'), "empty is as good as none");
}
