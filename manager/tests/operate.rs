//! What operators do with a manager's program: its log, its checks, its backups.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test")]

mod common;

use std::time::{Duration, Instant};

use common::Manager;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[test]
fn sigusr1_switches_the_log_to_debug_and_back() {
    let mut manager = Manager::start(&[("LOG_LEVEL", "warn")]);
    let pid = Pid::from_raw(i32::try_from(manager.pid()).unwrap());
    for said in ["SIGUSR1: logging at DEBUG; once more to end it", "SIGUSR1: logging at WARN again"] {
        kill(pid, Signal::SIGUSR1).unwrap();
        let until = Instant::now() + Duration::from_secs(20);
        while !manager.log().contains(said) {
            assert!(Instant::now() < until, "{said}: {}", manager.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    assert_eq!(manager.get("/status/healthcheck").0, 200);
    assert!(manager.terminate().success());
}

#[test]
fn without_a_syslog_daemon_lines_for_it_go_to_stderr() {
    if std::path::Path::new("/dev/log").exists() {
        // They are in this host's log then; gate's own test reads what is sent.
        return;
    }
    let manager = Manager::start(&[("LOG_TO", "syslog")]);
    let until = Instant::now() + Duration::from_secs(20);
    while !manager.log().contains("INFO  manager ") {
        assert!(Instant::now() < until, "{}", manager.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What a command prints, with its exit code.
fn run(manager: &Manager, arguments: &[&str], settings: &[(&str, &str)]) -> (String, i32) {
    let output = manager.command().args(arguments).envs(settings.iter().copied()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (text, output.status.code().unwrap())
}

fn line_of<'a>(text: &'a str, subject: &str) -> &'a str {
    let line = text.lines().find(|line| line.get(6..).is_some_and(|rest| rest.starts_with(subject)));
    line.unwrap_or_else(|| panic!("no line about {subject} in\n{text}"))
}

#[test]
fn a_check_beside_a_running_manager_finds_all_well_and_stores_nothing() {
    let manager = Manager::start(&[]);
    let (text, code) = run(&manager, &["-check"], &[]);
    assert_eq!(code, 0, "{text}");
    let listen = manager.address;
    for (subject, expected) in [
        ("settings", "ok    settings   from the environment; there is no .env here".to_owned()),
        ("psk", "ok    psk        read from file psk".to_owned()),
        ("port", format!("ok    port       {listen} is held by a running manager")),
        ("running", "ok    running    it answers, signed with this PSK".to_owned()),
    ] {
        assert_eq!(line_of(&text, subject), expected);
    }
    assert!(line_of(&text, "database").starts_with("ok    database   kattila_manager.db: schema version "));
    assert!(text.ends_with("all well\n"), "{text}");
    assert_eq!(manager.get("/status/agents").1["agents"].as_array().unwrap().len(), 0);
    assert_eq!(manager.query::<i64>("SELECT count(*) FROM agents"), 0);
    assert_eq!(manager.get("/status/healthcheck").1["refused"], serde_json::json!({}));
}

#[test]
fn a_check_says_what_fails_and_what_to_do() {
    let mut manager = Manager::start(&[]);
    std::fs::write(manager.dir.path().join("other"), "another key, not the manager's").unwrap();
    common::chmod600(&manager.dir.path().join("other"));
    let (text, code) = run(&manager, &["-check"], &[("PSK_FILE", "other")]);
    assert_eq!((line_of(&text, "running"), code), ("FAIL  running    it refuses this PSK", 1), "{text}");
    assert!(manager.terminate().success());

    let holder = std::net::TcpListener::bind(manager.address).unwrap();
    let port = format!("{}", manager.address.port());
    let dead = common::free_address();
    let settings = [
        ("DATABASE", "/proc/nowhere/k.db"),
        ("ADMIN_SECRET_FILE", "nothing"),
        ("NOTIFY_URL", &format!("http://{dead}/secret-path")),
    ];
    let (text, code) = run(&manager, &["-check"], &settings);
    assert_eq!(code, 1, "{text}");
    for subject in ["port", "database", "disk", "admin", "receiver"] {
        assert!(line_of(&text, subject).starts_with("FAIL  "), "{text}");
    }
    assert!(text.contains(&format!("ss -ltnp 'sport = :{port}'")) && !text.contains("secret-path"), "{text}");
    assert!(text.ends_with("5 checks failed\n"), "{text}");
    drop(holder);

    let later = rusqlite::Connection::open(manager.database()).unwrap();
    later.pragma_update(None, "user_version", 99).unwrap();
    drop(later);
    let (text, _) = run(&manager, &["-check"], &[]);
    assert!(line_of(&text, "database").contains("has schema version 99"), "{text}");
    let (text, code) = run(&manager, &["-check"], &[("RETENTION", "soon")]);
    assert!(
        text.starts_with("FAIL  settings   RETENTION=soon: expected a whole number") && code == 2,
        "{text}"
    );
}

#[test]
fn enroll_prints_a_line_with_the_address_or_says_why_not() {
    let manager = Manager::start(&[]);
    let (text, code) = run(&manager, &["-enroll"], &[]);
    assert!(
        code == 1 && text.contains("no other host reaches this manager on MANAGER_LISTEN=127.0.0.1"),
        "{text}"
    );
    let (text, code) = run(&manager, &["-enroll", "vpn.example.org"], &[]);
    let url = format!("sh /tmp/kattila/install.sh http://vpn.example.org:{} psk'", manager.address.port());
    assert!(code == 0 && text.contains(&url), "{text}");
    assert!(text.lines().filter(|line| !line.starts_with('#')).count() == 1, "one line to copy: {text}");
}
