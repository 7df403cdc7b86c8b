//! The agent's own endpoint.

use std::io::Write as _;
use std::net::TcpStream;

use kattila_agent::discover;
use kattila_agent::push::Client;
use kattila_agent::resets;
use proto::ack::{self, Code};
use proto::envelope::Sealed;
use proto::ids::{AgentId, BootId, Nonce};

use crate::fake::{Agent, Manager, PATIENCE, now_ms, secret, usual, wait_until};

/// Status and error code of an answer to raw bytes.
fn refusal(agent: &Agent, request: &str) -> (u16, String) {
    let answer = agent.raw(request.as_bytes());
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
    let status = head[9..12].parse().unwrap();
    let body: serde_json::Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer}"));
    for field in ["message", "hint"] {
        assert!(body["error"][field].is_string(), "{answer}");
    }
    (status, body["error"]["code"].as_str().unwrap().to_owned())
}

#[test]
fn neighbours_are_told_who_and_how_well() {
    let manager = Manager::start(usual);
    let agent = Agent::new(&manager.url).start();
    let peer = wait_until("a success", || Some(agent.peer()).filter(|peer| peer.reach.distance == Some(0)));
    assert_eq!(peer.agent.to_string(), agent.id_on_disk());
    assert_eq!(peer.boot, manager.reports()[0].0.boot);
    assert_eq!(peer.version, kattila_agent::VERSION);
    assert!(peer.host.interfaces.iter().any(|interface| interface.name == "lo"));
    assert_eq!(peer.host.hostname, manager.reports()[0].1.system.hostname);
    assert!(peer.reach.last_success_age_s.is_some_and(|age| age < 30) && peer.reach.last_error.is_none());
    let (status, body) = Client::new().get(&agent.url("/status/healthcheck"), PATIENCE).unwrap();
    let health: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (status, &health["status"], &health["version"]),
        (200, &"ok".into(), &kattila_agent::VERSION.into())
    );
}

#[test]
fn a_probe_finds_the_agent_and_only_the_agent() {
    let manager = Manager::start(usual);
    let agent = Agent::new(&manager.url).start();
    let peer = agent.peer();
    let addresses = ["127.0.0.2", "127.0.0.1", "127.0.0.3"].map(|ip| ip.parse().unwrap());
    let found = discover::probe_all(&Client::new(), &addresses, agent.port).unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].address.to_string().as_str(), found[0].peer.agent), ("127.0.0.1", peer.agent));
    assert!(found[0].rtt < PATIENCE);
}

#[test]
fn refusals_are_json_with_a_code() {
    let manager = Manager::start(usual);
    let agent = Agent::new(&manager.url).start();
    agent.peer();
    let with = |start: &str, headers: &str| format!("{start} HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
    for (request, status, code) in [
        (with("GET /nothing", ""), 404, "not_found"),
        (with("GET /status/reset", ""), 405, "method_not_allowed"),
        (with("POST /status/relay", "Content-Length: 0\r\n"), 400, "bad_envelope"),
        (with("POST /status/reset", "Content-Length: 0\r\n"), 400, "bad_envelope"),
        (
            with("POST /status/reset", "Content-Length: 0\r\nOrigin: http://evil.example\r\n"),
            403,
            "cross_site",
        ),
        (
            with("POST /status/relay", "Content-Length: 0\r\nSec-Fetch-Site: cross-site\r\n"),
            403,
            "cross_site",
        ),
        (with("POST /status/peer", "Content-Length: 100\r\n"), 413, "too_large"),
        (with("POST /status/reset", "Content-Length: 9000000000000000000\r\n"), 413, "too_large"),
        (with("POST /status/relay", "Transfer-Encoding: chunked\r\n"), 411, "length_required"),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n".to_owned(), 505, "version_not_supported"),
        ("\0\0\0\0\r\n\r\n".to_owned(), 400, "bad_request"),
    ] {
        assert_eq!(refusal(&agent, &request), (status, code.to_owned()), "{request}");
    }
    let answer = agent.raw(with("DELETE /status/peer", "").as_bytes());
    assert!(answer.contains("Allow: GET, HEAD\r\n"), "{answer}");
}

#[test]
fn garbage_on_the_port_disturbs_neither_reports_nor_answers() {
    let manager = Manager::start(usual);
    let agent = Agent::new(&manager.url).start();
    agent.peer();
    let mut held = Vec::new();
    for round in 0..150_u8 {
        let mut stream = TcpStream::connect(("127.0.0.1", agent.port)).unwrap();
        let garbage: Vec<u8> = (0..2000).map(|n: u32| n.to_le_bytes()[0].wrapping_mul(round)).collect();
        let _ = stream.write_all(&garbage);
        // Some stay open and silent.
        held.push(TcpStream::connect(("127.0.0.1", agent.port)).unwrap());
    }
    agent.peer();
    let before = manager.reports().len();
    manager.wait_for_reports(before + 2);
}

fn order(target: AgentId, secret_number: u8) -> Sealed {
    let (boot, nonce) = (BootId([1; 16]), Nonce::random().unwrap());
    resets::seal(target, boot, nonce, &secret(secret_number), now_ms())
}

fn post(agent: &Agent, bytes: &[u8]) -> (u16, Vec<u8>) {
    Client::new().post(&agent.url("/status/reset"), bytes, PATIENCE).unwrap()
}

#[test]
fn a_reset_needs_the_admin_secret_and_works_once() {
    let manager = Manager::start(usual);
    let mut agent = Agent::new(&manager.url);
    agent.set("REPORT_INTERVAL", "3600");
    let agent = agent.start();
    manager.wait_for_reports(1);
    let before = agent.peer();

    let (status, body) = post(&agent, &order(before.agent, 1).bytes);
    assert_eq!(status, 401, "the PSK is not the admin secret: {}", String::from_utf8_lossy(&body));
    let for_another = order(AgentId([9; 16]), 9);
    let (status, body) = post(&agent, &for_another.bytes);
    let ack = ack::open(&body, for_another.nonce, &for_another.mac, &secret(9)).unwrap();
    assert_eq!((status, ack.code), (422, Code::BadPayload));
    let still = agent.peer();
    assert_eq!((still.agent, still.boot), (before.agent, before.boot));

    let good = order(before.agent, 9);
    let (status, body) = post(&agent, &good.bytes);
    let ack = ack::open(&body, good.nonce, &good.mac, &secret(9)).unwrap();
    assert_eq!((status, ack.code), (200, Code::Done));
    let after = agent.peer();
    assert_ne!((after.agent, after.boot), (before.agent, before.boot));
    assert_eq!((ack.details.agent, agent.id_on_disk()), (Some(after.agent), after.agent.to_string()));

    // It reports at once under its new name, although the interval is an hour.
    let reports = manager.wait_for_reports(2);
    assert_eq!((reports[1].0.agent, reports[1].0.tick), (after.agent, 1));
    assert_eq!(reports[1].0.boot, after.boot);

    let (status, body) = post(&agent, &good.bytes);
    let ack = ack::open(&body, good.nonce, &good.mac, &secret(9)).unwrap();
    assert_eq!((status, ack.code), (409, Code::Replayed));
    assert_eq!(agent.peer().agent, after.agent);
}

#[test]
fn a_stale_reset_is_refused_with_the_time() {
    let manager = Manager::start(usual);
    let agent = Agent::new(&manager.url).start();
    let target = agent.peer().agent;
    let stale = resets::seal(target, BootId([1; 16]), Nonce([2; 16]), &secret(9), now_ms() - 120_000);
    let (status, body) = post(&agent, &stale.bytes);
    let ack = ack::open(&body, stale.nonce, &stale.mac, &secret(9)).unwrap();
    assert_eq!((status, ack.code), (409, Code::ClockSkew));
    assert!((ack.at - now_ms()).abs() < 30_000);
    assert_eq!(agent.peer().agent, target);
}

#[test]
fn without_an_admin_secret_no_one_resets() {
    let manager = Manager::start(usual);
    let mut agent = Agent::new(&manager.url);
    agent.set("ADMIN_SECRET_FILE", "");
    let agent = agent.start();
    let target = agent.peer().agent;
    let (status, body) = post(&agent, &order(target, 9).bytes);
    assert_eq!(status, 403);
    assert!(String::from_utf8(body).unwrap().contains("no_admin_secret"));
    assert_eq!(agent.peer().agent, target);
}

#[test]
fn the_reset_command_does_it_all() {
    let manager = Manager::start(usual);
    let agent = Agent::new(&manager.url).start();
    let before = agent.peer().agent;
    let output = agent.command(&["-reset"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let after = agent.peer().agent;
    assert!(output.status.success() && after != before);
    assert!(text.contains(&before.to_string()) && text.contains(&after.to_string()), "{text}");
}
