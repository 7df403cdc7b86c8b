//! Who may read from the real program, and what others are told.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{Manager, chmod600, exchange};

const TOKEN: &str = "a read token for tests";
/// Makes a request from loopback one from somewhere else.
const ELSEWHERE: &str = "X-Forwarded-For: 203.0.113.9";

fn with_token() -> (tempfile::TempDir, Manager) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    chmod600(&file);
    let file = file.to_str().unwrap().to_owned();
    let manager =
        Manager::start(&[("READ_TOKEN_FILE", file.as_str()), ("MANAGER_HOSTS", "status.example.org")]);
    (dir, manager)
}

/// The status, head and body of the answer to `request`, a method and path, with these header lines.
fn ask(manager: &Manager, request: &str, lines: &[&str]) -> (u16, String, String) {
    let host = format!("Host: {}", manager.address);
    let own_host = lines.iter().any(|line| line.starts_with("Host:"));
    let lines = lines.iter().copied().chain((!own_host).then_some(host.as_str()));
    let lines: String = lines.map(|line| format!("{line}\r\n")).collect();
    let (status, head, body) =
        exchange(manager.address, format!("{request} HTTP/1.1\r\n{lines}\r\n").as_bytes());
    (status, head, String::from_utf8(body).unwrap())
}

fn code(body: &str) -> String {
    let json: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    for part in ["message", "hint"] {
        assert!(json["error"][part].as_str().is_some_and(|text| text.len() > 10), "{body}");
    }
    json["error"]["code"].as_str().unwrap().to_owned()
}

const READS: [&str; 6] = [
    "/status/healthcheck",
    "/status/agents",
    "/status/alarms",
    "/status/topology",
    "/status/events",
    "/status/agents/00000000000000000000000000000000",
];

#[test]
fn from_elsewhere_every_read_needs_the_token_and_the_page_none() {
    let (_dir, manager) = with_token();
    let token = format!("Authorization: Bearer {TOKEN}");
    for path in READS {
        let read = |lines: &[&str]| ask(&manager, &format!("GET {path}"), lines);
        let (status, head, body) = read(&[ELSEWHERE]);
        assert_eq!((status, code(&body).as_str()), (401, "token_required"), "{path}");
        assert!(head.contains("\r\nWWW-Authenticate: Bearer"), "{head}");
        let (status, _, body) = read(&[ELSEWHERE, "Authorization: Bearer a read token for test"]);
        assert_eq!((status, code(&body).as_str()), (401, "wrong_token"), "{path}");
        assert!(!body.contains("for test"), "{body}");
        assert!(matches!(read(&[ELSEWHERE, &token]).0, 200 | 404), "{path}");
        assert!(matches!(read(&[]).0, 200 | 404), "{path} from loopback");
        assert_eq!(ask(&manager, &format!("HEAD {path}"), &[ELSEWHERE]).0, 401);
    }
    for path in ["/", "/web/main.js"] {
        assert_eq!(ask(&manager, &format!("GET {path}"), &[ELSEWHERE]).0, 200, "{path}");
    }
    let refused = &manager.get("/status/healthcheck").1["refused"];
    assert_eq!((&refused["token_required"], &refused["wrong_token"]), (&12.into(), &6.into()), "{refused}");
    // Told once, and never what was tried.
    let log = manager.log();
    assert_eq!(log.matches("refused wrong_token").count(), 1, "{log}");
    assert!(!log.contains(TOKEN) && !log.contains("for test"), "{log}");
}

#[test]
fn without_a_token_elsewhere_is_told_what_to_set() {
    let manager = Manager::start(&[]);
    let (status, head, body) = ask(&manager, "GET /status/agents", &[ELSEWHERE]);
    assert_eq!((status, code(&body).as_str()), (403, "forbidden"));
    assert!(body.contains("READ_TOKEN_FILE") && body.contains("MANAGER_ALLOW"), "{body}");
    assert!(!head.contains("WWW-Authenticate"), "{head}");
    let set = Manager::start(&[("MANAGER_ALLOW", "127.0.0.0/8")]);
    assert_eq!(ask(&set, "GET /status/agents", &[ELSEWHERE]).0, 200, "the proxy decides");
}

#[test]
fn a_rebound_name_and_other_sites_get_nothing() {
    let (_dir, manager) = with_token();
    let (status, _, body) = ask(&manager, "GET /status/topology", &["Host: rebind.example:5086"]);
    assert_eq!((status, code(&body).as_str()), (421, "wrong_host"));
    assert!(body.contains("MANAGER_HOSTS"), "{body}");
    for host in ["localhost:5086", "status.example.org", "[::1]:5086"] {
        assert_eq!(ask(&manager, "GET /status/topology", &[&format!("Host: {host}")]).0, 200, "{host}");
    }
    for line in ["Origin: http://evil.example", "Sec-Fetch-Site: cross-site"] {
        for request in ["GET /status/topology", "POST /status/updates", "POST /status/alarms/ack"] {
            let (status, _, body) = ask(&manager, request, &[line, "Content-Length: 0"]);
            assert_eq!((status, code(&body).as_str()), (403, "cross_site"), "{request} with {line}");
        }
    }
}

#[test]
fn every_answer_keeps_browsers_from_guessing_and_framing() {
    let (_dir, manager) = with_token();
    for (request, lines) in [
        ("GET /", &[][..]),
        ("GET /status/agents", &[]),
        ("GET /status/agents", &[ELSEWHERE]),
        ("GET /nothing", &[]),
        ("GET /status/updates", &[]),
    ] {
        let (_, head, _) = ask(&manager, request, lines);
        for part in
            ["X-Content-Type-Options: nosniff", "Referrer-Policy: no-referrer", "frame-ancestors 'none'"]
        {
            assert!(head.contains(part), "{request}: {head}");
        }
        assert!(!head.contains("unsafe-inline") && !head.contains("Access-Control-"), "{head}");
    }
}

#[test]
fn a_token_that_others_can_read_ends_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, TOKEN).unwrap();
    let manager = Manager::start(&[]);
    let started =
        manager.command().env("READ_TOKEN_FILE", &file).env("MANAGER_LISTEN", "127.0.0.1:0").output();
    let started = started.unwrap();
    let words = String::from_utf8_lossy(&started.stderr);
    assert_eq!(started.status.code(), Some(1), "{words}");
    assert!(words.contains("chmod") && words.contains("token") && !words.contains(TOKEN), "{words}");
}
