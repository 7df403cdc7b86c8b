//! What earlier versions wrote, and what later ones will: messages, databases, backups.
//!
//! `tests/versions/VERSION/` holds messages as that version sent them, and `schema-N.sql` a database of schema
//! version N. They are kept for good: a reader of ours that no longer takes one breaks somebody's fleet. Only
//! those of the version in the making may be made anew: `BLESS=1 cargo test -p manager --test upgrade`.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Actor, Manager, PSK, chmod600, now_ms, secret};
use proto::ack::{self, Code};
use proto::delta::Base;
use proto::envelope::{Draft, Encoding, Envelope};
use proto::ids::{Nonce, from_hex};
use proto::report::Report;
use proto::sign::Kind;
use rusqlite::Connection;
use rusqlite::types::Value;

/// The secrets of the kept messages, as DESIGN.md has them.
const KEPT_PSK: &str = "correct horse battery staple";
const KEPT_ADMIN: &str = "an admin secret, never the PSK";
/// The schema version of the version in the making.
const SCHEMA: u32 = 1;

fn kept() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/versions")
}

/// The folders of versions, by name.
fn versions() -> Vec<PathBuf> {
    let folders = fs::read_dir(kept()).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<_> = folders.filter(|path| path.is_dir()).collect();
    folders.sort();
    assert!(!folders.is_empty());
    folders
}

#[test]
fn messages_of_every_version_verify_and_are_understood() {
    for folder in versions() {
        let read = |name: &str| fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        for (name, secret_text, kind) in [
            ("report.envelope", KEPT_PSK, Kind::Report),
            ("relayed.envelope", KEPT_PSK, Kind::Report),
            ("next.envelope", KEPT_PSK, Kind::Report),
            ("register.envelope", KEPT_PSK, Kind::Register),
            ("reset.envelope", KEPT_ADMIN, Kind::Reset),
        ] {
            let bytes = read(name);
            let envelope = Envelope::parse(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(envelope.header.kind, kind, "{name}");
            assert!(envelope.is_signed_with(&secret(secret_text)), "{name}");
            assert_eq!(envelope.to_bytes(), bytes, "{name} is passed on as it came");
        }
        let (report, ack) = (read("report.envelope"), read("stored.ack"));
        let envelope = Envelope::parse(&report).unwrap();
        let (nonce, mac) = (envelope.header.nonce, envelope.header.mac);
        assert_eq!(ack::open(&ack, nonce, &mac, &secret(KEPT_PSK)).unwrap().code, Code::Stored);
        // The same payload, signed now: what an agent of that version would send.
        let json = envelope.json().unwrap().into_owned();
        assert_eq!(Report::from_json(&json).unwrap().system.wireguard.len(), 1);
        let manager = Manager::start(&[]);
        let actor = Actor::new("old");
        assert_eq!(manager.report(&actor.draft(Kind::Report, 1, &json, now_ms())).code, Code::Stored);
        let (_, one) = manager.get(&format!("/status/agents/{}", actor.agent));
        assert_eq!(one["report"], serde_json::from_slice::<serde_json::Value>(&json).unwrap());
    }
}

#[test]
fn what_later_versions_add_is_passed_over_or_answered_so_that_they_can_go_back() {
    let manager = Manager::start(&[]);
    let actor = Actor::new("later");
    let mut report = serde_json::to_value(actor.observed(now_ms())).unwrap();
    report["a_later_field"] = serde_json::json!({"of": ["any", "shape", 7]});
    report["system"]["another"] = 1.into();
    report["system"]["interfaces"] =
        serde_json::json!([{"name": "x0", "index": 3, "kind": "a_kind_of_the_future", "mtu": 1500}]);
    let json = serde_json::to_vec(&report).unwrap();
    assert_eq!(manager.report(&actor.draft(Kind::Report, 1, &json, now_ms())).code, Code::Stored);
    let (status, one) = manager.get(&format!("/status/agents/{}", actor.agent));
    assert_eq!((status, &one["report"]["a_later_field"]["of"][2]), (200, &7.into()), "kept byte for byte");

    // An encoding of the future is signed as any other: its sender is told to send the report whole.
    let psk = secret(PSK);
    let draft = |json| Draft {
        kind: Kind::Report,
        agent: actor.agent,
        boot: actor.boot,
        tick: 2,
        nonce: Nonce([7; 16]),
        json,
    };
    let later = draft(&json).seal_as(Encoding::Other("zstd.9".into()), b"\x28\xb5\x2f\xfd", &psk, now_ms());
    assert_eq!(manager.report(&later).code, Code::NeedFull);
    assert_eq!(
        manager.report(&draft(&json).seal(&psk, now_ms())).code,
        Code::Stored,
        "whole, under the same name"
    );

    // A header of the future has no signature that this version could check.
    let mut bytes = actor.draft(Kind::Report, 3, &json, now_ms()).bytes;
    assert_eq!(&bytes[..3], b"k1 ");
    bytes[1] = b'2';
    let (status, body) = manager.post("/status/updates", &bytes);
    let error: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, &error["error"]["code"]), (400, &"bad_envelope".into()));
    assert!(error["error"]["message"].as_str().unwrap().contains('2'), "{error}");
}

/// A database as the SQL that makes it: the tables, then the rows.
fn dump(path: &Path) -> String {
    let database = Connection::open(path).unwrap();
    let list = |sql: &str| -> Vec<(String, String)> {
        let mut statement = database.prepare(sql).unwrap();
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
    };
    let mut sql = String::new();
    let made = list(
        "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite%' ORDER BY rowid",
    );
    for (_, statement) in &made {
        sql.push_str(&format!("{statement};\n"));
    }
    for (table, _) in made.iter().filter(|(_, statement)| statement.starts_with("CREATE TABLE")) {
        let mut statement = database.prepare(&format!("SELECT * FROM \"{table}\"")).unwrap();
        let columns = statement.column_count();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let values: Vec<String> = (0..columns).map(|column| literal(&row.get(column).unwrap())).collect();
            sql.push_str(&format!("INSERT INTO \"{table}\" VALUES ({});\n", values.join(",")));
        }
    }
    let version: u32 = database.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    sql + &format!("PRAGMA user_version = {version};\n")
}

fn literal(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Integer(number) => number.to_string(),
        Value::Real(number) => number.to_string(),
        Value::Text(text) => format!("'{}'", text.replace('\'', "''")),
        Value::Blob(bytes) => format!("X'{}'", proto::ids::to_hex(bytes)),
    }
}

/// The agent in the kept databases.
const KEPT_AGENT: &str = "00112233445566778899aabbccddeeff";

/// Makes a database with something in most tables.
fn make() -> String {
    let mut manager = Manager::start(&[]);
    let mut actor = Actor::new("kept");
    actor.agent.0 = from_hex(KEPT_AGENT).unwrap();
    let json = fs::read(kept().join("0.1.0/report.envelope")).unwrap();
    let json = Envelope::parse(&json).unwrap().json().unwrap().into_owned();
    for tick in 1..=3 {
        assert_eq!(manager.report(&actor.draft(Kind::Report, tick, &json, now_ms())).code, Code::Stored);
    }
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert!(manager.terminate().success());
    dump(&manager.database())
}

#[test]
fn databases_of_every_schema_are_brought_forward() {
    let newest = kept().join(format!("schema-{SCHEMA}.sql"));
    if std::env::var_os("BLESS").is_some() {
        fs::write(&newest, make()).unwrap();
    }
    for version in 1..=SCHEMA {
        let sql = fs::read_to_string(kept().join(format!("schema-{version}.sql"))).unwrap();
        let mut manager = Manager::start(&[]);
        assert!(manager.terminate().success());
        let new = tables(&manager.database());
        for name in ["kattila_manager.db", "kattila_manager.db-wal", "kattila_manager.db-shm"] {
            let _ = fs::remove_file(manager.dir.path().join(name));
        }
        Connection::open(manager.database()).unwrap().execute_batch(&sql).unwrap();
        chmod600(&manager.database());
        manager.resume();
        assert_eq!(manager.query::<u32>("PRAGMA user_version"), SCHEMA);
        let (status, one) = manager.get(&format!("/status/agents/{KEPT_AGENT}"));
        assert_eq!((status, &one["tick"]), (200, &3.into()), "{one}");
        assert_eq!(one["report"]["system"]["hostname"], one["agent"]["hostname"]);
        for path in ["/status/events", "/status/alarms?state=all", "/status/topology"] {
            assert_eq!(manager.get(path).0, 200, "{path}");
        }
        // It goes on where it was.
        let mut actor = Actor::new("kept");
        actor.agent.0 = from_hex(KEPT_AGENT).unwrap();
        let json = fs::read(kept().join("0.1.0/report.envelope")).unwrap();
        let json = Envelope::parse(&json).unwrap().json().unwrap().into_owned();
        assert_eq!(manager.report(&actor.draft(Kind::Report, 1, &json, now_ms())).code, Code::Stored);
        assert_eq!(manager.query::<i64>("SELECT count(*) FROM reports"), 4);
        // The same tables as a new database has.
        assert_eq!(tables(&manager.database()), new);
    }
}

fn tables(path: &Path) -> Vec<String> {
    let database = Connection::open(path).unwrap();
    let mut statement = database
        .prepare(
            "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite%' ORDER BY name",
        )
        .unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

#[test]
fn a_database_of_a_later_version_is_refused_and_left_as_it_is() {
    let mut manager = Manager::start(&[]);
    assert!(manager.terminate().success());
    let database = Connection::open(manager.database()).unwrap();
    database.pragma_update(None, "user_version", SCHEMA + 1).unwrap();
    drop(database);
    let output = manager.command().output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    let expected = format!(
        "it has schema version {}, this manager knows {SCHEMA}: start the newer manager again",
        SCHEMA + 1
    );
    assert!(error.contains(&expected), "{error}");
    assert_eq!(manager.query::<u32>("PRAGMA user_version"), SCHEMA + 1);
}

#[test]
fn a_backup_is_restored_under_a_fleet_that_goes_on() {
    let mut manager = Manager::start(&[]);
    let actor = Actor::new("router");
    let sealed: Vec<_> = (1..=6).map(|tick| actor.report(tick)).collect();
    for report in &sealed[..3] {
        assert_eq!(manager.report(report).code, Code::Stored);
    }
    let output = manager.command().args(["-backup", "copy.db"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for report in &sealed[3..5] {
        assert_eq!(manager.report(report).code, Code::Stored);
    }
    // As README.md says: stop, put the copy in place, take the log away, start.
    manager.kill();
    let folder = manager.dir.path();
    fs::rename(folder.join("copy.db"), folder.join("kattila_manager.db")).unwrap();
    for left in ["kattila_manager.db-wal", "kattila_manager.db-shm"] {
        let _ = fs::remove_file(folder.join(left));
    }
    manager.resume();
    assert_eq!(manager.query::<i64>("SELECT count(*) FROM reports"), 3);
    // What the agent may send again is known or stored, never twice; the next is a matter of course.
    assert_eq!(manager.report(&sealed[2]).code, Code::AlreadyStored);
    assert_eq!(manager.report(&sealed[4]).code, Code::Stored);
    assert_eq!(manager.report(&sealed[4]).code, Code::AlreadyStored);
    // A difference to a report that is gone is asked for whole, and then taken under the same name.
    let json = serde_json::to_vec(&actor.observed(now_ms())).unwrap();
    let payload = Base::new(json.clone()).encode(&json);
    let psk = secret(PSK);
    let next = Draft {
        kind: Kind::Report,
        agent: actor.agent,
        boot: actor.boot,
        tick: 7,
        nonce: Nonce([9; 16]),
        json: &json,
    };
    assert_eq!(
        manager.report(&next.seal_as(Encoding::Delta(4), &payload, &psk, now_ms())).code,
        Code::NeedFull
    );
    assert_eq!(manager.report(&next.seal(&psk, now_ms())).code, Code::Stored);
    assert_eq!(manager.query::<i64>("SELECT count(*) FROM reports"), 5);
    assert_eq!(manager.query::<i64>("SELECT count(DISTINCT tick) FROM reports"), 5);
}
