//! Reports that come as the difference to an earlier one, asked of the real program over HTTP.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::collections::HashMap;

use common::{Actor, Manager, now_ms};
use kattila_manager::bases::Bases;
use kattila_manager::content::{Content, Says};
use kattila_manager::counts::Counts;
use kattila_manager::intake::{self, Learned};
use kattila_manager::store::writer::Delivery;
use kattila_manager::store::{self, Readers};
use proto::ack::Code;
use proto::deflate::deflate;
use proto::delta::Base;
use proto::envelope::{Draft, Encoding, Envelope, Sealed};
use proto::ids::Nonce;
use proto::limits;
use proto::report::{Interface, Report};
use proto::sign::Kind;

/// JSON with numbers and white space that no serialiser of ours would write.
fn json(actor: &Actor, rx_bytes: u64) -> Vec<u8> {
    let mut report: Report = actor.observed(now_ms());
    for name in ["eth0", "eth1", "wg0"] {
        let mut interface = Interface { name: name.into(), ..Interface::default() };
        interface.counters.rx_bytes = rx_bytes;
        report.system.interfaces.push(interface);
    }
    let text = serde_json::to_string(&report).unwrap();
    text.replacen('{', &format!("{{ \"later\": [1{}.50, -0],", rx_bytes % 10), 1).into_bytes()
}

fn sealed(actor: &Actor, tick: u64, nonce: Nonce, json: &[u8], encoding: Encoding, payload: &[u8]) -> Sealed {
    let draft = Draft { kind: Kind::Report, agent: actor.agent, boot: actor.boot, tick, nonce, json };
    draft.seal_as(encoding, payload, &actor.psk, now_ms())
}

fn whole(actor: &Actor, tick: u64, json: &[u8]) -> Sealed {
    sealed(actor, tick, Nonce::random().unwrap(), json, Encoding::Deflate, &deflate(json))
}

fn delta(actor: &Actor, tick: u64, json: &[u8], to: u64, base: &[u8]) -> Sealed {
    let payload = Base::new(base).encode(json);
    sealed(actor, tick, Nonce::random().unwrap(), json, Encoding::Delta(to), &payload)
}

/// The report of an agent as the API shows it, byte for byte.
fn shown(manager: &Manager, actor: &Actor) -> String {
    let path = format!("/status/agents/{}", actor.agent);
    let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", manager.address);
    String::from_utf8(common::exchange(manager.address, request.as_bytes()).2).unwrap()
}

fn shows(manager: &Manager, actor: &Actor, json: &[u8]) -> bool {
    shown(manager, actor).contains(std::str::from_utf8(json).unwrap())
}

#[test]
fn a_difference_is_stored_as_it_came_and_shown_byte_for_byte() {
    let mut manager = Manager::start(&[]);
    let actor = Actor::new("router-1");
    let first = json(&actor, 1000);
    assert_eq!(manager.report(&whole(&actor, 1, &first)).code, Code::Stored);
    assert!(shows(&manager, &actor, &first), "{}", shown(&manager, &actor));
    for tick in 2..5 {
        let next = json(&actor, 1000 * tick);
        let message = delta(&actor, tick, &next, 1, &first);
        assert_eq!(manager.report(&message).code, Code::Stored);
        assert!(shows(&manager, &actor, &next), "{}", shown(&manager, &actor));
        assert_eq!(manager.report(&message).code, Code::AlreadyStored);
    }
    assert!(manager.query::<i64>("SELECT max(length(payload)) FROM reports WHERE tick > 1") < 50);
    let path = format!("/status/agents/{}/rates", actor.agent);
    assert_eq!(manager.get(&path).0, 200);
    // After a start the base is read from the database, and the map from the last report.
    manager.kill();
    manager.resume();
    let next = json(&actor, 9999);
    assert_eq!(manager.report(&delta(&actor, 5, &next, 1, &first)).code, Code::Stored);
    assert!(shows(&manager, &actor, &next));
    manager.wait("/status/topology", |map| map.to_string().contains("router-1"));
    // One that comes late is told apart as ever, whatever it is the difference to.
    let second = json(&actor, 20_000);
    assert_eq!(manager.report(&whole(&actor, 8, &second)).code, Code::Stored);
    let late = json(&actor, 7000);
    assert_eq!(manager.report(&delta(&actor, 7, &late, 8, &second)).code, Code::Stored);
    assert_eq!(manager.query::<i64>("SELECT late FROM reports WHERE tick = 7"), 1);
    assert!(shows(&manager, &actor, &second));
}

#[test]
fn what_changed_before_is_no_reason_to_read_a_report_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let (db, readers, bases) = (store::open(&path).unwrap(), Readers::new(&path), Bases::default());
    let mut fleet = HashMap::new();
    let actor = Actor::new("router-1");
    let json = |rx_bytes: u64, mtu: u32| {
        let mut report: Report = actor.observed(1_790_000_000_000);
        let mut interface = Interface { name: "eth0".into(), mtu, ..Interface::default() };
        interface.counters.rx_bytes = rx_bytes;
        report.system.interfaces.push(interface);
        serde_json::to_vec(&report).unwrap()
    };
    let first = json(1000, 1500);
    // Whether counts alone were read, and which report's structure was taken for theirs.
    let mut take = |tick: u64, rx_bytes: u64, mtu: u32| {
        let text = json(rx_bytes, mtu);
        let sealed = if tick == 1 { whole(&actor, 1, &text) } else { delta(&actor, tick, &text, 1, &first) };
        let envelope = Envelope::parse(&sealed.bytes).unwrap();
        let now = now_ms();
        let content = Content::read(&envelope, &bases, &readers, now).unwrap();
        let like = match &content.says {
            Says::All(report) => {
                assert_eq!(**report, Report::from_json(&text).unwrap());
                None
            }
            Says::Moved(counts, kept) => {
                assert_eq!(**counts, Counts::of(&Report::from_json(&text).unwrap()));
                let structure = content.says.whole(&db, &content.payload).unwrap();
                assert_eq!(structure.system.interfaces[0].mtu, mtu);
                Some(kept.like)
            }
        };
        let (header, path) = (envelope.header, Vec::new());
        let delivery = Delivery { header, received_at: now, psk: 1, path, content: Ok(content) };
        let mut learned = Learned::default();
        intake::report(&db, &mut fleet, delivery, &mut learned).unwrap().unwrap();
        bases.put(learned.bases, now);
        like
    };
    assert_eq!(take(1, 1000, 1500), None);
    assert_eq!(take(2, 2000, 1500), Some(1));
    assert_eq!(take(3, 2500, 1400), None, "something else changed");
    assert_eq!(take(4, 3000, 1400), Some(3), "and stayed so");
    assert_eq!(take(6, 3000, 9000), None);
    assert_eq!(take(5, 2000, 1400), None, "a late one, of which nothing is kept");
    assert_eq!(take(7, 99, 9000), Some(6));
    assert_eq!(take(8, 100, 1500), None, "it is as it was");
    assert_eq!(take(9, 101, 1500), Some(8));
}

#[test]
fn a_manager_that_lost_its_state_asks_for_the_whole_report_and_takes_it_under_the_same_name() {
    let mut manager = Manager::start(&[]);
    let actor = Actor::new("router-1");
    let first = json(&actor, 1000);
    assert_eq!(manager.report(&whole(&actor, 1, &first)).code, Code::Stored);
    manager.kill();
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(manager.dir.path().join(format!("kattila_manager.db{suffix}")));
    }
    manager.resume();
    let next = json(&actor, 2000);
    let message = delta(&actor, 2, &next, 1, &first);
    let ack = manager.report(&message);
    assert_eq!(ack.code, Code::NeedFull, "{ack:?}");
    assert_eq!(manager.query::<i64>("SELECT count(*) FROM reports"), 0);
    let again = sealed(&actor, 2, message.nonce, &next, Encoding::Deflate, &deflate(&next));
    assert_eq!(manager.report(&again).code, Code::Stored);
    assert!(shows(&manager, &actor, &next));
    // The same message in the first form is not a second one.
    assert_eq!(manager.report(&message).code, Code::AlreadyStored);
    let (_, health) = manager.get("/status/healthcheck");
    assert_eq!(health["refused"]["need_full"], 1);
}

#[test]
fn a_report_whose_base_is_damaged_is_asked_for_whole() {
    let mut manager = Manager::start(&[]);
    let actor = Actor::new("router-1");
    let first = json(&actor, 1000);
    assert_eq!(manager.report(&whole(&actor, 1, &first)).code, Code::Stored);
    let damage = |manager: &Manager| {
        let database = store::open(&manager.database()).unwrap();
        assert_eq!(database.execute("UPDATE reports SET payload = x'ff' WHERE base IS NULL", []).unwrap(), 1);
    };
    damage(&manager);
    let next = json(&actor, 2000);
    assert_eq!(
        manager.report(&delta(&actor, 2, &next, 1, &first)).code,
        Code::Stored,
        "that text is not needed"
    );
    let other = String::from_utf8(next.clone()).unwrap().replace("eth1", "eth9").into_bytes();
    assert_eq!(manager.report(&delta(&actor, 3, &other, 1, &first)).code, Code::NeedFull);
    manager.terminate();
    manager.resume();
    assert_eq!(manager.report(&delta(&actor, 3, &next, 1, &first)).code, Code::NeedFull);
    assert_eq!(manager.report(&whole(&actor, 3, &next)).code, Code::Stored);
    assert!(shows(&manager, &actor, &next));
}

#[test]
fn what_is_no_base_of_this_start_or_another_text_or_in_an_unknown_form_is_asked_for_whole() {
    let manager = Manager::start(&[]);
    let actor = Actor::new("router-1");
    let (first, next) = (json(&actor, 1000), json(&actor, 2000));
    assert_eq!(manager.report(&whole(&actor, 1, &first)).code, Code::Stored);
    assert_eq!(manager.report(&delta(&actor, 2, &next, 1, &first)).code, Code::Stored);
    let need_full = |message: &Sealed| assert_eq!(manager.report(message).code, Code::NeedFull);
    need_full(&delta(&actor, 3, &next, 7, &first));
    // A difference is no base.
    need_full(&delta(&actor, 3, &json(&actor, 3000), 2, &next));
    // Stored under that name, but not what the sender thinks.
    need_full(&delta(&actor, 3, &next, 1, &next));
    need_full(&delta(&actor.restarted(), 2, &next, 1, &first));
    let nonce = Nonce::random().unwrap();
    need_full(&sealed(&actor, 3, nonce, &next, Encoding::Other("zstd".into()), &next));
    assert_eq!(manager.report(&whole(&actor, 3, &next)).code, Code::Stored, "its tick is still free");
}

#[test]
fn bombs_and_broken_payloads_are_refused() {
    let manager = Manager::start(&[]);
    let actor = Actor::new("router-1");
    let first = json(&actor, 1000);
    assert_eq!(manager.report(&whole(&actor, 1, &first)).code, Code::Stored);
    let refused = |encoding, payload: &[u8]| {
        let ack = manager.report(&sealed(&actor, 2, Nonce::random().unwrap(), b"", encoding, payload));
        assert_eq!(ack.code, Code::BadPayload);
        ack.details.message
    };
    let bomb = deflate(&vec![b' '; 100 << 20]);
    assert!(bomb.len() < limits::ENVELOPE_MAX - limits::HEADER_MAX);
    assert!(refused(Encoding::Deflate, &bomb).contains("more than allowed"));
    assert!(refused(Encoding::Deflate, b"\xff\xff").contains("does not inflate"));
    let name = &Base::new(first.as_slice()).encode(&first)[..8];
    let broken = refused(Encoding::Delta(1), &[name, &[0xff; 9]].concat());
    assert!(broken.contains("not a difference"), "{broken}");
    assert!(refused(Encoding::Delta(1), &[name, &[3 << 2 | 3], b"abc"].concat()).contains("line 1"));
    let peak = std::fs::read_to_string(format!("/proc/{}/status", manager.pid())).unwrap();
    let peak = peak.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim().to_owned();
    let peak: u64 = peak.trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 64 << 10, "{peak} kB");
}

/// Deletes all that came before `before`; the ticks that are left.
fn retain(manager: &Manager, before: i64) -> Vec<i64> {
    let database = store::open(&manager.database()).unwrap();
    let mut after = Some(0);
    while let Some(from) = after {
        after = store::reports::retain(&database, before, from, 2).unwrap();
    }
    let mut ticks = database.prepare("SELECT tick FROM reports ORDER BY tick").unwrap();
    ticks.query_map([], |row| row.get(0)).unwrap().collect::<Result<Vec<i64>, _>>().unwrap()
}

#[test]
fn a_base_outlives_what_is_the_difference_to_it() {
    let mut manager = Manager::start(&[]);
    let actor = Actor::new("router-1");
    let first = json(&actor, 1000);
    assert_eq!(manager.report(&whole(&actor, 1, &first)).code, Code::Stored);
    for tick in 2..6 {
        let next = json(&actor, 1000 + tick);
        assert_eq!(manager.report(&delta(&actor, tick, &next, 1, &first)).code, Code::Stored);
    }
    manager.terminate();
    let hour = 3_600_000;
    // All are too old: the present one stays, and what it is the difference to.
    assert_eq!(retain(&manager, now_ms() + 3 * hour), [1, 5]);
    manager.resume();
    assert!(shown(&manager, &actor).contains(r#""rx_bytes":1005"#), "{}", shown(&manager, &actor));
    let second = json(&actor, 50_000);
    assert_eq!(manager.report(&whole(&actor, 6, &second)).code, Code::Stored);
    manager.terminate();
    // Whole reports stay two hours longer than others, as later ones may rest on them.
    assert_eq!(retain(&manager, now_ms() + hour), [1, 6]);
    assert_eq!(retain(&manager, now_ms() + 3 * hour), [6]);
}
