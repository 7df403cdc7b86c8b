//! The agent's commands, and what keeps it from starting.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;

use kattila_agent::push::Client;
use proto::ack::{Code, Details};
use proto::envelope::Envelope;
use proto::report::Report;
use proto::sign::Kind;

use crate::fake::{Agent, Manager, PATIENCE, Reaction, now_ms, secret, usual};

fn run(agent: &Agent, arguments: &[&str]) -> Output {
    agent.command(arguments).output().unwrap()
}

fn error_of(agent: &Agent, arguments: &[&str], code: i32) -> String {
    let output = run(agent, arguments);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{error}");
    error
}

fn set_up() -> Agent {
    Agent::new("http://127.0.0.1:1")
}

#[test]
fn sysinfo_prints_a_report_without_any_setting() {
    let mut agent = set_up();
    for name in ["PSK_FILE", "ADMIN_SECRET_FILE", "MANAGER_URL"] {
        agent.set(name, "");
    }
    for argument in ["-sysinfo", "--sysinfo"] {
        let output = run(&agent, &[argument]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let report = Report::from_json(&output.stdout).unwrap();
        assert!(report.system.interfaces.iter().any(|interface| interface.name == "lo"));
        assert!(output.stdout.starts_with(b"{\n  \"version\": 1,"), "pretty");
        assert_eq!(report.agent_version, kattila_agent::VERSION);
    }
    assert!(!agent.folder.path().join("agent_id.txt").exists(), "looking changes nothing");
}

#[test]
fn a_dump_is_a_message_that_a_manager_takes() {
    let manager = Manager::start(usual);
    let agent = Agent::new(&manager.url);
    assert!(run(&agent, &["-dump", "message"]).status.success());
    let bytes = fs::read(agent.folder.path().join("message")).unwrap();
    let envelope = Envelope::parse(&bytes).unwrap();
    assert!(envelope.is_signed_with(&secret(1)));
    assert_eq!(envelope.header.agent.to_string(), agent.id_on_disk());
    assert!((envelope.header.sent_at - now_ms()).abs() < 30_000);
    let url = format!("{}/status/updates", manager.url);
    assert_eq!(Client::new().post(&url, &bytes, PATIENCE).unwrap().0, 200);
    assert_eq!(manager.reports().len(), 1);
    // Over an old one, and to stdout.
    assert!(run(&agent, &["--dump", "message"]).status.success());
    assert_ne!(fs::read(agent.folder.path().join("message")).unwrap(), bytes);
    let output = run(&agent, &["-dump", "-"]);
    assert_eq!(Envelope::parse(&output.stdout).unwrap().header.kind, Kind::Report);
    let error = error_of(&agent, &["-dump", "nowhere/message"], 1);
    assert!(error.contains("nowhere/message"), "{error}");
}

#[test]
fn version_and_help_are_printed() {
    let agent = set_up();
    for (argument, expected) in
        [("-version", kattila_agent::VERSION), ("--help", "-sysinfo"), ("-h", "USAGE")]
    {
        let output = run(&agent, &[argument]);
        assert!(output.status.success() && String::from_utf8(output.stdout).unwrap().contains(expected));
    }
    let error = error_of(&agent, &["-sysinf"], 2);
    assert!(error.contains("there is no argument --sysinf") && error.contains("-help"), "{error}");
}

#[test]
fn settings_that_cannot_work_are_named() {
    for (name, value, expected) in [
        ("MANAGER_URL", "https://manager.example", "this build has no TLS"),
        ("MANAGER_URL", "manager.example", "MANAGER_URL=manager.example: expected http://HOST[:PORT]"),
        ("REPORT_INTERVAL", "soon", "REPORT_INTERVAL=soon: expected a whole number from 1 to 3600"),
        ("PSK_FILE", "", "no PSK: set DNS"),
    ] {
        let mut agent = set_up();
        agent.set(name, value);
        let error = error_of(&agent, &[], 2);
        assert!(error.contains(expected), "{error}");
    }
    let agent = set_up();
    fs::write(agent.folder.path().join(".env"), "PSK_FLIE=psk\n").unwrap();
    let error = error_of(&agent, &[], 2);
    assert!(error.contains(".env line 1: there is no setting PSK_FLIE"), "{error}");
}

#[test]
fn what_keeps_it_from_starting_is_named_with_the_cure() {
    let agent = set_up();
    let admin = agent.folder.path().join("admin");
    fs::set_permissions(&admin, fs::Permissions::from_mode(0o644)).unwrap();
    let error = error_of(&agent, &[], 1);
    assert!(error.contains("ADMIN_SECRET_FILE") && error.contains("chmod 600 admin"), "{error}");

    let mut agent = set_up();
    agent.set("STATE_DIR", "missing");
    let error = error_of(&agent, &[], 1);
    assert!(error.contains("missing/agent_id.txt") && error.contains("STATE_DIR"), "{error}");

    let mut agent = set_up();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    agent.set("AGENT_LISTEN", &address);
    let error = error_of(&agent, &[], 1);
    assert!(error.contains("AGENT_LISTEN") && error.contains(&address), "{error}");
}

#[test]
fn a_reset_without_an_agent_or_a_secret_says_so() {
    let mut agent = set_up();
    let error = error_of(&agent, &["-reset"], 1);
    assert!(error.contains("is it running?"), "{error}");
    agent.set("ADMIN_SECRET_FILE", "");
    let error = error_of(&agent, &["-reset"], 2);
    assert!(error.contains("ADMIN_SECRET_FILE is not set"), "{error}");
}

#[test]
fn discovery_without_wireguard_finds_no_one() {
    let agent = set_up();
    let output = run(&agent, &["-discover"]);
    // 2 where there is no `wg`, 1 where it shows no device; tests run on hosts of both kinds.
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    match output.status.code() {
        Some(1) => assert!(text.contains("addresses run an agent"), "{text}"),
        Some(2) => assert!(text.contains("cannot ask WireGuard: "), "{text}"),
        other => panic!("{other:?}: {text}"),
    }
}

/// Lines of `-check` with numbers and ids that differ from run to run taken out.
fn check(agent: &Agent, code: i32) -> String {
    let output = run(agent, &["-check"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(code), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn line_of<'a>(text: &'a str, subject: &str) -> &'a str {
    let line = text.lines().find(|line| line.get(6..).is_some_and(|rest| rest.starts_with(subject)));
    line.unwrap_or_else(|| panic!("no line about {subject} in\n{text}"))
}

#[test]
fn a_check_finds_all_well_and_stores_nothing() {
    let manager = Manager::start(|message| {
        assert_eq!(message.json["check"], true);
        let agent = Some(message.header.agent);
        Reaction::Details(Code::Registered, Details { agent, ..Details::default() })
    });
    let agent = Agent::new(&manager.url);
    let output = run(&agent, &["-check"]);
    let text = String::from_utf8(output.stdout).unwrap();
    for (subject, expected) in [
        (
            "settings",
            format!(
                "ok    settings   from the environment; there is no .env here; reports go to {} every 1 s",
                manager.url
            ),
        ),
        ("psk", "ok    psk        read from file psk".to_owned()),
        ("admin", "ok    admin      read from admin".to_owned()),
        ("state", "ok    state      . can be written; the first start makes an id".to_owned()),
        ("port", format!("ok    port       127.0.0.1:{} is free", agent.port)),
        ("name", "ok    name       127.0.0.1 is an address, no DNS is needed".to_owned()),
        ("manager", format!("ok    manager    {} answers, signed with this PSK", manager.url)),
        ("clock", "ok    clock      agrees with the manager's".to_owned()),
    ] {
        assert_eq!(line_of(&text, subject), expected);
    }
    // Whether this host has `wg` decides about that line and nothing else.
    let failed = line_of(&text, "wg").starts_with("FAIL");
    assert_eq!(output.status.code(), Some(i32::from(failed)), "{text}");
    let left: Vec<_> =
        fs::read_dir(agent.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "only psk and admin: {left:?}");
    // Beside a running agent the port is well taken.
    let agent = agent.start();
    let id = agent.peer().agent;
    let text = String::from_utf8(run(&agent, &["-check"]).stdout).unwrap();
    let held = format!(
        "ok    port       127.0.0.1:{} is held by a running agent {}, {id}",
        agent.port,
        kattila_agent::VERSION
    );
    assert_eq!(line_of(&text, "port"), held);
    assert_eq!(line_of(&text, "state"), format!("ok    state      . can be written; this is agent {id}"));
}

#[test]
fn a_check_says_what_fails_and_what_to_do() {
    let manager = Manager::start(usual);
    manager.accept(&[2]);
    let mut agent = Agent::new(&manager.url);
    let taken = std::net::TcpListener::bind(("127.0.0.1", agent.port)).unwrap();
    fs::set_permissions(agent.folder.path().join("admin"), fs::Permissions::from_mode(0o644)).unwrap();
    agent.set("STATE_DIR", "/proc/nowhere");
    let text = check(&agent, 1);
    assert_eq!(
        line_of(&text, "manager"),
        format!("FAIL  manager    {} refuses this PSK (bad_mac)", manager.url)
    );
    assert!(
        line_of(&text, "port").starts_with("FAIL") && text.contains("end that, or set AGENT_LISTEN"),
        "{text}"
    );
    assert!(
        line_of(&text, "admin").contains("chmod 600") && line_of(&text, "state").starts_with("FAIL"),
        "{text}"
    );
    drop(taken);
    drop(manager);
    let text = check(&agent, 1);
    assert!(line_of(&text, "manager").starts_with("FAIL") && text.contains("try: curl http://"), "{text}");
    assert!(line_of(&text, "clock").starts_with("-"), "{text}");
    agent.set("PSK_FILE", "nothing");
    let text = check(&agent, 1);
    assert!(line_of(&text, "psk").starts_with("FAIL  psk        nothing: No such file"), "{text}");
    assert!(line_of(&text, "manager").starts_with("-     manager    not asked"), "{text}");
    agent.set("MANAGER_URL", "http://no-such-host.invalid");
    assert!(line_of(&check(&agent, 1), "name").starts_with("FAIL  name       no-such-host.invalid: "));
    agent.set("REPORT_INTERVAL", "soon");
    let text = check(&agent, 2);
    assert!(text.starts_with("FAIL  settings   REPORT_INTERVAL=soon: expected a whole number"), "{text}");
}
