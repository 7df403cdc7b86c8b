//! What becomes of messages, asked of the real program over HTTP.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{Actor, Manager, PSK, chmod600, now_ms, secret};
use proto::ack::{self, Code};
use proto::envelope::Envelope;
use proto::ids::AgentId;
use proto::sign::Kind;

fn count(manager: &Manager) -> i64 {
    manager.query("SELECT count(*) FROM reports")
}

#[test]
fn a_report_is_stored_and_shown_byte_for_byte() {
    let manager = Manager::start(&[]);
    let actor = Actor::new("router-1");
    let sealed = actor.report(1);
    let ack = manager.report(&sealed);
    assert_eq!(ack.code, Code::Stored);
    let (status, list) = manager.get("/status/agents");
    assert_eq!((status, &list["agents"][0]["hostname"]), (200, &"router-1".into()));
    assert_eq!(list["agents"][0]["presence"], "online");
    assert_eq!(list["agents"][0]["arrival"], "direct");
    let stored: Vec<u8> = manager.query("SELECT payload FROM reports");
    assert_eq!(stored, Envelope::parse(&sealed.bytes).unwrap().payload);
    let (status, one) = manager.get(&format!("/status/agents/{}", actor.agent));
    assert_eq!((status, &one["report"]["system"]["hostname"]), (200, &"router-1".into()));
    let (status, health) = manager.get("/status/healthcheck");
    assert_eq!((status, &health["reports_stored"], &health["agents"]["online"]), (200, &1.into(), &1.into()));
}

#[test]
fn the_same_report_twice_is_stored_once() {
    let mut manager = Manager::start(&[]);
    let actor = Actor::new("router-1");
    let json = serde_json::to_vec(&actor.observed(now_ms())).unwrap();
    let sealed = actor.draft(Kind::Report, 1, &json, now_ms());
    assert_eq!(manager.report(&sealed).code, Code::Stored);
    assert_eq!(manager.report(&sealed).code, Code::AlreadyStored);
    manager.kill();
    manager.resume();
    assert_eq!(manager.report(&sealed).code, Code::AlreadyStored, "after kill -9");
    // Another message with the same tick is not the same report.
    assert_eq!(manager.report(&actor.report(1)).code, Code::Replayed);
    assert_eq!(count(&manager), 1);
    let (_, health) = manager.get("/status/healthcheck");
    assert_eq!(health["refused"]["replayed"], 1);
}

#[test]
fn a_wrong_key_a_changed_byte_and_the_wrong_path_are_refused_by_name() {
    let manager = Manager::start(&[]);
    let mut stranger = Actor::new("stranger");
    stranger.psk = secret("some other preshared key");
    let refused = |path: &str, bytes: &[u8]| {
        let (status, body) = manager.post(path, bytes);
        let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert!(!json["error"]["hint"].as_str().unwrap().is_empty(), "{json}");
        (status, json["error"]["code"].as_str().unwrap().to_owned())
    };
    assert_eq!(refused("/status/updates", &stranger.report(1).bytes), (401, "bad_mac".into()));
    let mut changed = Actor::new("router-1").report(1).bytes;
    let last = changed.len() - 2;
    changed[last] ^= 1;
    assert_eq!(refused("/status/updates", &changed), (401, "bad_mac".into()));
    assert_eq!(refused("/status/updates", b"\x16\x03\x01garbage"), (400, "bad_envelope".into()));
    assert_eq!(refused("/status/register", &Actor::new("a").report(1).bytes), (400, "wrong_kind".into()));
    assert_eq!(refused("/status/updates", &vec![b'x'; 200_000]), (413, "too_large".into()));
    assert_eq!(refused("/status/admin/reset", b"x"), (403, "no_admin_secret".into()));
    assert_eq!(refused("/status/agents", b"x"), (405, "method_not_allowed".into()));
    assert_eq!(manager.get("/status/agents/nobody").0, 404);
    assert_eq!(count(&manager), 0);
}

#[test]
fn a_clock_that_is_off_gets_the_managers_time_signed() {
    let manager = Manager::start(&[]);
    let actor = Actor::new("router-1");
    let two_years = 2 * 365 * 86_400_000;
    let ack = manager.report(&actor.report_at(1, now_ms() - two_years, now_ms() - two_years));
    assert_eq!(ack.code, Code::ClockSkew);
    assert!((ack.at - now_ms()).abs() < 10_000 && ack.details.message.contains("behind"), "{ack:?}");
    assert_eq!(manager.report(&actor.report_at(1, ack.at, ack.at)).code, Code::Stored);
}

#[test]
fn a_payload_that_is_no_report_is_refused_and_its_tick_stays_free() {
    let manager = Manager::start(&[]);
    let actor = Actor::new("router-1");
    let ack = manager.report(&actor.draft(Kind::Report, 1, b"{\"version\":\"one\"}", now_ms()));
    assert_eq!(ack.code, Code::BadPayload);
    assert!(ack.details.message.contains("line 1 column"), "{ack:?}");
    assert_eq!(manager.report(&actor.report(1)).code, Code::Stored);
}

#[test]
fn late_reports_are_history_and_change_nothing() {
    let manager = Manager::start(&[]);
    let actor = Actor::new("router-1");
    assert_eq!(manager.report(&actor.report(5)).code, Code::Stored);
    for tick in [3, 1, 4] {
        assert_eq!(manager.report(&actor.report_at(tick, now_ms() - 90_000, now_ms())).code, Code::Stored);
    }
    let (_, one) = manager.get(&format!("/status/agents/{}", actor.agent));
    assert_eq!(one["tick"], 5);
    assert_eq!(manager.query::<i64>("SELECT count(*) FROM reports WHERE late"), 3);
}

#[test]
fn a_restarted_agent_takes_over_and_its_old_spool_does_not() {
    let manager = Manager::start(&[]);
    let first = Actor::new("router-1");
    assert_eq!(manager.report(&first.report(9)).code, Code::Stored);
    let second = first.restarted();
    assert_eq!(manager.report(&second.report(1)).code, Code::Stored);
    // Kept over the restart and signed just now, by the name that it was given then.
    assert_eq!(manager.report(&first.report_at(8, now_ms() - 3_600_000, now_ms())).code, Code::Stored);
    let (_, one) = manager.get(&format!("/status/agents/{}", first.agent));
    assert_eq!(one["tick"], 1);
}

#[test]
fn of_two_hosts_with_one_id_the_second_gets_another() {
    let manager = Manager::start(&[]);
    let original = Actor::new("router-1");
    assert_eq!(manager.report(&original.report(1)).code, Code::Stored);
    let copy = Actor { hardware: "other-board", ..original.restarted() };
    let ack = manager.report(&copy.report(1));
    assert_eq!(ack.code, Code::DuplicateId);
    assert!(ack.details.agent.is_some_and(|id| id != original.agent));
    assert_eq!(manager.report(&original.report(2)).code, Code::Stored);

    // Two processes on the same hardware take turns: the younger one has to go.
    let twin = original.restarted();
    let mut codes = Vec::new();
    for tick in 3..6 {
        codes.push(manager.report(&twin.report(tick)).code);
        std::thread::sleep(std::time::Duration::from_millis(3));
        assert_eq!(manager.report(&original.report(tick)).code, Code::Stored);
        std::thread::sleep(std::time::Duration::from_millis(3));
    }
    assert_eq!(codes, [Code::Stored, Code::DuplicateId, Code::DuplicateId]);
}

#[test]
fn registering_confirms_an_id_or_issues_another() {
    let manager = Manager::start(&[]);
    let actor = Actor::new("router-1");
    let register = |hardware: &str| {
        let json = serde_json::json!({ "hardware": hardware }).to_string();
        let sealed = actor.draft(Kind::Register, 1, json.as_bytes(), now_ms());
        let ack = manager.send("/status/register", &sealed, &secret(PSK));
        assert_eq!(ack.code, Code::Registered);
        ack.details.agent.unwrap()
    };
    assert_eq!(register("board-a"), actor.agent);
    assert_eq!(register("board-a"), actor.agent);
    assert_ne!(register("board-b"), actor.agent);
    assert_eq!(manager.get("/status/agents").1["agents"][0]["presence"], "never");
}

#[test]
fn three_generations_of_psk_are_accepted_and_older_ones_named() {
    let mut manager = Manager::start(&[]);
    let keys = [
        "a preshared key for tests",
        "the second preshared key",
        "the third preshared key!",
        "the fourth preshared key",
    ];
    for key in &keys[1..] {
        manager.terminate();
        std::fs::write(manager.dir.path().join("psk"), key).unwrap();
        manager.resume();
    }
    for (generation, key) in (1..).zip(keys) {
        let mut actor = Actor::new("router-1");
        actor.psk = secret(key);
        let sealed = actor.report(1);
        let (status, body) = manager.post("/status/updates", &sealed.bytes);
        if generation == 1 {
            let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!((status, &json["error"]["code"]), (401, &"old_psk".into()));
        } else {
            let ack = ack::open(&body, sealed.nonce, &sealed.mac, &actor.psk).unwrap();
            assert_eq!(ack.code, Code::Stored);
            let (_, one) = manager.get(&format!("/status/agents/{}", actor.agent));
            assert_eq!(one["agent"]["psk_generation"], generation);
        }
    }
}

#[test]
fn a_psk_rotated_in_its_file_is_found_when_the_first_message_needs_it() {
    let manager = Manager::start(&[]);
    let mut actor = Actor::new("router-1");
    std::fs::write(manager.dir.path().join("psk"), "a rotated preshared key").unwrap();
    actor.psk = secret("a rotated preshared key");
    let until = std::time::Instant::now() + std::time::Duration::from_secs(15);
    loop {
        let sealed = actor.report(1);
        let (status, body) = manager.post("/status/updates", &sealed.bytes);
        if status == 200 {
            assert!(ack::open(&body, sealed.nonce, &sealed.mac, &actor.psk).is_ok());
            break;
        }
        assert!(std::time::Instant::now() < until, "{}", manager.log());
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
}

#[test]
fn a_reset_hides_undo_shows_and_only_the_admin_may() {
    let dir = tempfile::tempdir().unwrap();
    let admin = dir.path().join("admin");
    std::fs::write(&admin, "an admin secret for tests").unwrap();
    chmod600(&admin);
    let manager = Manager::start(&[("ADMIN_SECRET_FILE", admin.to_str().unwrap())]);
    let actor = Actor::new("router-1");
    assert_eq!(manager.report(&actor.report(1)).code, Code::Stored);
    let shown = || manager.get("/status/agents").1["agents"].as_array().unwrap().len();
    let run = |arguments: &[&str]| manager.command().args(arguments).output().unwrap();
    let id = actor.agent.to_string();
    assert!(run(&["-reset", &id]).status.success());
    assert_eq!(shown(), 0);
    assert!(run(&["-undo", "all"]).status.success());
    assert_eq!(shown(), 1);
    let nobody = run(&["-reset", &AgentId([0; 16]).to_string()]);
    assert!(!nobody.status.success() && String::from_utf8_lossy(&nobody.stderr).contains("no such agent"));
    // The PSK is no admin secret.
    let sealed = actor.draft(Kind::Reset, 1, br#"{"target":"all"}"#, now_ms());
    assert_eq!(manager.post("/status/admin/reset", &sealed.bytes).0, 401);
    // A recorded reset cannot be played again.
    let mut root = actor.clone();
    root.psk = secret("an admin secret for tests");
    let sealed = root.draft(Kind::Reset, 1, br#"{"target":"all"}"#, now_ms());
    assert_eq!(manager.send("/status/admin/reset", &sealed, &root.psk).code, Code::Done);
    assert_eq!(manager.send("/status/admin/reset", &sealed, &root.psk).code, Code::Replayed);
    assert_eq!(shown(), 0);
    assert_eq!(manager.report(&actor.report(2)).code, Code::Stored);
    assert_eq!(shown(), 1, "an agent that reports again is seen again");
}
