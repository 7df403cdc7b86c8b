//! Alarms over HTTP against a real manager: what is asked for, acknowledged and silenced.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::time::{Duration, Instant};

use common::{Actor, Manager, chmod600, now_ms, secret};
use kattila_manager::alarm::catalogue::CODES;
use proto::ack::{Ack, Code};
use proto::envelope::Sealed;
use proto::ids::{AgentId, PublicKey};
use proto::psk::Secret;
use proto::report::{WireGuardDevice, WireGuardPeer};
use proto::sign::Kind;
use serde_json::Value;

const ADMIN: &str = "an admin secret for tests";
const ACK: &str = "/status/alarms/ack";
const SILENCE: &str = "/status/alarms/silence";

/// A manager with an admin secret and two hosts: both have one private key, which is critical, and the
/// first has a peer without AllowedIPs, which is a warning.
struct Fleet {
    manager: Manager,
    hosts: [Actor; 2],
    tick: u64,
    _dir: tempfile::TempDir,
}

impl Fleet {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("admin");
        std::fs::write(&file, ADMIN).unwrap();
        chmod600(&file);
        let manager = Manager::start(&[("ADMIN_SECRET_FILE", file.to_str().unwrap())]);
        Self { manager, hosts: [Actor::new("hub"), Actor::new("leaf")], tick: 0, _dir: dir }
    }

    /// Both report once more. An interval of a second makes for a short warm-up.
    fn report(&mut self) {
        self.tick += 1;
        for (number, host) in self.hosts.iter().enumerate() {
            let now = now_ms();
            let mut report = host.observed(now);
            report.interval_s = 1;
            let bare = WireGuardPeer {
                public_key: PublicKey([9; 32]),
                has_psk: false,
                endpoint: None,
                allowed_ips: Vec::new(),
                handshake_at: None,
                handshake_age_s: None,
                rx_bytes: 0,
                tx_bytes: 0,
                keepalive_s: None,
                rtt_us: None,
            };
            report.system.wireguard = vec![WireGuardDevice {
                name: "wg0".into(),
                public_key: Some(PublicKey([7; 32])),
                listen_port: 51820,
                peers: if number == 0 { vec![bare] } else { Vec::new() },
                ..WireGuardDevice::default()
            }];
            report.system.interfaces = vec![proto::report::Interface {
                name: "wg0".into(),
                kind: proto::report::InterfaceKind::WireGuard,
                flags: 1,
                ..proto::report::Interface::default()
            }];
            let json = serde_json::to_vec(&report).unwrap();
            let ack = self.manager.report(&host.draft(Kind::Report, self.tick, &json, now));
            assert_eq!(ack.code, Code::Stored, "{ack:?}");
        }
    }

    /// The alarms that a query asks for, with both hosts reporting until there are so many.
    fn wait_for(&mut self, query: &str, count: usize) -> Vec<Value> {
        let until = Instant::now() + Duration::from_secs(90);
        loop {
            self.report();
            let alarms = self.alarms(query);
            if alarms.len() == count {
                return alarms;
            }
            assert!(Instant::now() < until, "{query}: not {count}: {alarms:?}; {}", self.manager.log());
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    fn alarms(&self, query: &str) -> Vec<Value> {
        let (status, answer) = self.manager.get(&format!("/status/alarms{query}"));
        assert_eq!(status, 200, "{query}: {answer}");
        answer["alarms"].as_array().unwrap().clone()
    }

    fn codes(&self, query: &str) -> Vec<String> {
        self.alarms(query).iter().map(|alarm| alarm["code"].as_str().unwrap().to_owned()).collect()
    }

    fn order(&self, path: &str, json: &str) -> Ack {
        let sealed = order(json, &secret(ADMIN), now_ms());
        self.manager.send(path, &sealed, &secret(ADMIN))
    }
}

fn order(json: &str, secret: &Secret, sent_at: i64) -> Sealed {
    let admin = Actor { agent: AgentId([0; 16]), psk: secret.clone(), ..Actor::new("admin") };
    admin.draft(Kind::Alarm, 1, json.as_bytes(), sent_at)
}

#[test]
fn alarms_are_asked_for_acknowledged_and_silenced() {
    let mut fleet = Fleet::start();
    fleet.wait_for("?state=firing&severity=warning", 2);

    // Filters: each alone, the worst first.
    let [hub, leaf] = fleet.hosts.clone().map(|host| host.agent.to_string());
    let both = ["DUP_PRIVATE_KEY", "ALLOWED_IPS_EMPTY"];
    assert_eq!(fleet.codes("?severity=warning"), both);
    assert_eq!(fleet.codes("?severity=critical"), ["DUP_PRIVATE_KEY"]);
    assert_eq!(fleet.codes("?code=ALLOWED_IPS_EMPTY"), ["ALLOWED_IPS_EMPTY"]);
    assert_eq!(fleet.codes(&format!("?severity=warning&agent={hub}")), both);
    assert_eq!(fleet.codes(&format!("?severity=warning&agent={leaf}")), ["DUP_PRIVATE_KEY"]);
    assert_eq!(fleet.codes(&format!("?agent={}", AgentId([3; 16]))), [""; 0]);
    assert_eq!(fleet.codes("?severity=warning&limit=1"), ["DUP_PRIVATE_KEY"]);
    assert_eq!(fleet.codes("?severity=warning&since=-1h"), both);
    assert_eq!(fleet.codes(&format!("?since={}", now_ms() + 60_000)), [""; 0]);
    assert_eq!(fleet.codes("?state=resolved"), [""; 0]);
    for bad in ["?state=gone", "?severity=bad", "?agent=hub", "?since=soon", "?limit=0", "?what=1"] {
        let (status, answer) = fleet.manager.get(&format!("/status/alarms{bad}"));
        assert_eq!(
            (status, answer["error"]["code"].as_str()),
            (400, Some("bad_parameter")),
            "{bad}: {answer}"
        );
    }

    // An alarm says all that its reader needs.
    let alarm = &fleet.alarms("?code=ALLOWED_IPS_EMPTY")[0];
    assert_eq!((alarm["state"].as_str(), alarm["severity"].as_str()), (Some("firing"), Some("warning")));
    assert!(alarm["sentence"].as_str().unwrap().contains("On hub"), "{alarm}");
    assert!(alarm["next_step"].as_str().unwrap().contains("wg set wg0 peer"), "{alarm}");
    assert!(!alarm["cause"].as_str().unwrap().is_empty() && alarm["since"].as_i64().unwrap() > 0, "{alarm}");
    assert_eq!(alarm["evidence"][0]["agent"].as_str(), Some(&*hub));
    assert_eq!(alarm["history"][0]["state"].as_str(), Some("firing"));

    // Acknowledged: still there, no longer firing, in its history.
    let no = alarm["no"].as_i64().unwrap();
    let json = format!(r#"{{"alarm":{no}}}"#);
    let done = fleet.order(ACK, &json);
    assert!(done.code == Code::Done && done.details.message.contains("acknowledged: On hub"), "{done:?}");
    assert_eq!(fleet.codes("?state=acknowledged"), ["ALLOWED_IPS_EMPTY"]);
    let alarm = &fleet.alarms("?code=ALLOWED_IPS_EMPTY")[0];
    assert!(
        alarm["acked_at"].as_i64().is_some() && alarm["history"][0]["state"] == "acknowledged",
        "{alarm}"
    );

    // What is wrong with an order is told, and nothing is done.
    assert_eq!(fleet.order(ACK, r#"{"alarm":999999}"#).code, Code::BadPayload);
    assert_eq!(fleet.order(ACK, r#"{"number":1}"#).code, Code::BadPayload);
    for json in [
        r#"{"target":"NO_SUCH_CODE","for_s":60}"#,
        r#"{"target":"DUP_PRIVATE_KEY","for_s":-1}"#,
        r#"{"target":"DUP_PRIVATE_KEY","for_s":99999999}"#,
    ] {
        assert_eq!(fleet.order(SILENCE, json).code, Code::BadPayload, "{json}");
    }
    let admin = secret(ADMIN);
    let stale = order(&json, &admin, now_ms() - 120_000);
    assert_eq!(fleet.manager.send(ACK, &stale, &admin).code, Code::ClockSkew);
    let once = order(r#"{"target":"DUP_PRIVATE_KEY","for_s":600}"#, &admin, now_ms());
    assert_eq!(fleet.manager.send(SILENCE, &once, &admin).code, Code::Done);
    assert_eq!(fleet.manager.send(SILENCE, &once, &admin).code, Code::Replayed);
    let wrong = order(&json, &secret("not the admin's secret"), now_ms());
    assert_eq!(fleet.manager.post(ACK, &wrong.bytes).0, 401);
    let agents = order(&json, &secret(common::PSK), now_ms());
    assert_eq!(fleet.manager.post(ACK, &agents.bytes).0, 401, "the PSK is no admin secret");

    // Silenced: it says by what, and the silence is listed; lifted, it fires again.
    let alarm = &fleet.alarms("?code=DUP_PRIVATE_KEY&state=suppressed")[0];
    assert!(alarm["suppressed_by"].as_str().unwrap().contains("silence"), "{alarm}");
    let silences = fleet.manager.get("/status/alarms").1["silences"].clone();
    assert_eq!(silences[0]["target"], "DUP_PRIVATE_KEY");
    assert!(silences[0]["until"].as_i64().unwrap() > now_ms() + 500_000, "{silences}");
    assert_eq!(fleet.order(SILENCE, r#"{"target":"DUP_PRIVATE_KEY","for_s":0}"#).code, Code::Done);
    assert_eq!(fleet.codes("?code=DUP_PRIVATE_KEY&state=firing"), ["DUP_PRIVATE_KEY"]);
    assert_eq!(fleet.order(SILENCE, &format!(r#"{{"target":"{hub}","for_s":600}}"#)).code, Code::Done);
    fleet.wait_for("?state=suppressed&severity=warning", 2);

    // All of it outlasts a manager that is killed.
    fleet.manager.kill();
    fleet.manager.resume();
    let after = fleet.alarms("?severity=warning&state=suppressed");
    assert_eq!(after.len(), 2, "{after:?}");
    assert!(after.iter().any(|alarm| alarm["acked_at"].as_i64().is_some()), "{after:?}");
}

#[test]
fn without_an_admin_secret_there_are_no_orders() {
    let manager = Manager::start(&[]);
    for path in [ACK, SILENCE] {
        let (status, body) = manager.post(path, &order("{}", &secret(ADMIN), now_ms()).bytes);
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((status, body["error"]["code"].as_str()), (403, Some("no_admin_secret")), "{body}");
    }
}

#[test]
fn the_codes_are_those_of_the_design() {
    let manager = Manager::start(&[]);
    let (status, answer) = manager.get("/status/alarms/codes");
    assert_eq!(status, 200);
    let listed = answer["codes"].as_array().unwrap();
    assert_eq!(listed.len(), CODES.len());
    let design = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../DESIGN.md")).unwrap();
    let table = design.split("<!-- codes -->").nth(1).unwrap().split("<!-- /codes -->").next().unwrap();
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| `")).collect();
    let shown: Vec<String> = listed
        .iter()
        .map(|code| {
            let text = |name: &str| code[name].as_str().unwrap().to_owned();
            let (severity, on, off) = (text("severity"), text("hold_on"), text("hold_off"));
            format!("| `{}` | {severity} | {on} | {off} | {} |", text("code"), text("meaning"))
        })
        .collect();
    assert_eq!(shown, rows);
}
