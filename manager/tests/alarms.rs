//! Golden alarm cases: a small fleet over time, through the real intake, map, rules and engine.
//!
//! `alarms/cases/NAME/reports.json` says what the fleet does (see [`Case`]); `expected.json` is every
//! change of an alarm that follows. `BLESS=1 cargo test -p manager --test alarms` writes it anew: look
//! at each before it is committed, it must be true.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "alarms/fleet.rs"]
mod fleet;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use fleet::{Case, Fleet, START, id_of, key_of};
use kattila_manager::alarm::catalogue::CODES;
use kattila_manager::alarm::engine::{Engine, Moment};
use kattila_manager::alarm::facts::{ManagerFacts, Reporter, reporters};
use kattila_manager::alarm::keeper::evaluate;
use kattila_manager::alarm::recall::recall;
use kattila_manager::alarm::sieve::Sieve;
use kattila_manager::alarm::status::{Silence, Status};
use kattila_manager::alarm::watch::Watches;
use kattila_manager::atlas;
use kattila_manager::bases::Bases;
use kattila_manager::content::Content;
use kattila_manager::fleet as seen;
use kattila_manager::inbox::News;
use kattila_manager::intake::{self, Live};
use kattila_manager::store::writer::Delivery;
use kattila_manager::store::{self, Connection, Readers};
use kattila_manager::topology::State;
use proto::delta::Base;
use proto::envelope::{Draft, Encoding, Envelope};
use proto::ids::{AgentId, BootId};
use proto::psk::Secret;
use proto::report::Report;
use serde_json::{Value, json};

/// Seconds between evaluations, as the manager has it.
const PERIOD: i64 = 5;

#[test]
fn every_case_raises_what_it_should_and_nothing_else() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/alarms/cases");
    let only = std::env::var("CASE").ok();
    let mut cases: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    let mut wrong = Vec::new();
    let mut count = 0;
    let mut shown_codes: BTreeSet<String> = BTreeSet::new();
    for path in cases {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
            continue;
        }
        count += 1;
        let text = std::fs::read_to_string(path.join("reports.json")).unwrap();
        let case: Case = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let got = run(&case);
        let firing = got.iter().filter(|change| change["state"] == "firing");
        shown_codes.extend(firing.map(|change| change["code"].as_str().unwrap().to_owned()));
        let expected = path.join("expected.json");
        let mut shown = String::from("[\n");
        let lines: Vec<String> = got.iter().map(|change| format!("  {change}")).collect();
        shown.push_str(&lines.join(",\n"));
        shown.push_str(if lines.is_empty() { "]\n" } else { "\n]\n" });
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&expected, shown).unwrap();
            continue;
        }
        let want = std::fs::read_to_string(&expected).unwrap_or_default();
        if want != shown {
            wrong.push(format!("--- {name}: {}\nexpected {want}got {shown}", case.about));
        }
        // What a case says it is about must be in it, or must not.
        let fired =
            |code: &str| got.iter().any(|change| change["code"] == code && change["state"] == "firing");
        let firing = got.iter().filter(|change| change["state"] == "firing");
        shown_codes.extend(firing.map(|change| change["code"].as_str().unwrap().to_owned()));
        for code in &case.fires {
            assert!(fired(code), "{name}: {code} did not fire: {shown}");
        }
        for change in &got {
            let told = change["state"] == "firing" && change["severity"] != "info";
            let code = change["code"].as_str().unwrap();
            let known = case.fires.iter().chain(&case.also).any(|known| known == code);
            assert!(!told || known, "{name}: {code} fired, which the case does not name: {shown}");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    if only.is_none() {
        let all = CODES.iter().map(|entry| entry.code.to_owned());
        let never: Vec<String> = all.filter(|code| !shown_codes.contains(code)).collect();
        assert!(never.is_empty(), "no case shows how these fire: {never:?}");
        assert!(count >= 60, "only {count} cases");
    }
}

struct World {
    db: Connection,
    live: HashMap<AgentId, Live>,
    state: State,
    watches: Watches,
    sieve: Sieve,
    engine: Engine,
    manager_started: i64,
    bases: Bases,
    readers: Readers,
    /// The last whole report of each host.
    last_whole: HashMap<u8, (BootId, u64, Base)>,
    _dir: tempfile::TempDir,
}

fn run(case: &Case) -> Vec<Value> {
    let dir = tempfile::tempdir().unwrap();
    let db = store::open(&dir.path().join("db")).unwrap();
    // Nothing has to outlive the test, and readers see each report at once.
    db.execute_batch("PRAGMA synchronous = OFF").unwrap();
    let mut world = World {
        db,
        live: HashMap::new(),
        state: State::new(),
        watches: Watches::default(),
        sieve: Sieve::default(),
        engine: Engine::default(),
        // Long up, unless the case starts it anew.
        manager_started: START - 3_600_000,
        bases: Bases::default(),
        readers: Readers::new(&dir.path().join("db")),
        last_whole: HashMap::new(),
        _dir: dir,
    };
    let mut fleet = Fleet::new(case);
    let mut got = Vec::new();
    for second in (0..=case.seconds).step_by(usize::try_from(PERIOD).unwrap()) {
        let now = START + second * 1000;
        if case.restarts.contains(&second) {
            world.restart(now);
        }
        for (host, sent_at, tick, report) in fleet.due(second) {
            world.report(case, host, sent_at, now, report, fleet.delivery_of(host, second, tick));
        }
        for silence in case.silences.iter().filter(|silence| silence.at == second) {
            let target = fleet
                .number(&silence.target)
                .map_or_else(|| silence.target.clone(), |n| id_of(n).to_string());
            let silence = Silence { target, until: now + silence.for_s * 1000 };
            world.engine.silence(silence, now);
        }
        for change in world.evaluate(now, case, second) {
            let name = |text: &str| rename(text, &fleet);
            let (state, from) = (change.alarm.state, change.from);
            if from == Some(state) || state == Status::Pending || change.forget {
                continue;
            }
            let mut shown = serde_json::Map::new();
            let mut put = |name: &str, value: Value| drop(shown.insert(name.to_owned(), value));
            put("at", json!(second));
            put("code", json!(change.alarm.code));
            put("subject", json!(name(&change.alarm.subject)));
            put("state", json!(state));
            put("severity", json!(change.alarm.severity));
            if let Some(by) = &change.alarm.suppressed_by {
                put("by", json!(name(by)));
            }
            if state == Status::Firing {
                put("sentence", json!(name(&change.alarm.sentence)));
                put("cause", json!(name(&change.alarm.cause)));
                put("next_step", json!(name(&change.alarm.next_step)));
                let evidence: Vec<String> =
                    change.alarm.evidence.iter().map(|proof| name(&proof.text)).collect();
                put("evidence", json!(evidence));
            }
            put("told", json!(change.notify));
            got.push(Value::Object(shown));
        }
    }
    got
}

/// Ids and keys as the names of their hosts.
fn rename(text: &str, fleet: &Fleet<'_>) -> String {
    let mut text = text.to_owned();
    for (number, name) in fleet.names() {
        text = text.replace(&id_of(number).to_string(), name);
        for turn in 0..3 {
            let prime = "'".repeat(usize::from(turn));
            let key = key_of(number, turn).to_string();
            text = text.replace(&key, &format!("KEY({name}{prime})"));
            text = text.replace(&key[..8], &format!("KEY({name}{prime})"));
        }
    }
    text
}

impl World {
    /// The manager is started anew: what is stored stays.
    fn restart(&mut self, now: i64) {
        let past: Vec<_> = self.engine.alarms().cloned().collect();
        let last = past.iter().map(|alarm| alarm.no).max().unwrap_or(0);
        let old_keys = std::mem::take(&mut self.watches.old_keys);
        self.engine = Engine::restore(past, self.engine.silences().to_vec(), last);
        self.watches = Watches::default();
        self.watches.old_keys = old_keys;
        recall(&mut self.watches, self.engine.alarms(), now);
        self.state = State::new();
        self.sieve = Sieve::default();
        self.manager_started = now;
        let agents: Vec<seen::Agent> =
            self.live.values().map(|live| seen::Agent::clone(&live.agent)).collect();
        self.live.clear();
        for agent in agents {
            let latest = agent.latest.as_ref().unwrap();
            let payload = store::reports::payload(&self.db, latest.report).unwrap().unwrap();
            let report = Report::from_json(&payload).unwrap();
            let receipt = kattila_manager::topology::Receipt {
                agent: agent.id,
                boot: latest.boot,
                tick: latest.tick,
                received_at: latest.received_at,
                relay: latest.path.clone(),
            };
            self.state.apply(&receipt, &report);
            self.watches.note(&receipt, &report);
        }
    }

    fn report(&mut self, case: &Case, host: u8, sent_at: i64, now: i64, report: Report, how: fleet::How) {
        let psk = Secret::new("a preshared key for tests").unwrap();
        let json = serde_json::to_vec(&report).unwrap();
        let nonce = proto::ids::Nonce::random().unwrap();
        let kind = proto::sign::Kind::Report;
        let draft = Draft { kind, agent: id_of(host), boot: how.boot, tick: how.tick, nonce, json: &json };
        // Three of four are the difference to the one before, as agents send them.
        let last = self.last_whole.get(&host);
        let base = last.filter(|(boot, ..)| *boot == how.boot && !how.tick.is_multiple_of(4));
        let sealed = match base {
            Some((_, tick, base)) => {
                draft.seal_as(Encoding::Delta(*tick), &base.encode(&json), &psk, sent_at)
            }
            None => {
                self.last_whole.insert(host, (how.boot, how.tick, Base::new(json.as_slice())));
                draft.seal(&psk, sent_at)
            }
        };
        let envelope = Envelope::parse(&sealed.bytes).unwrap();
        let content = Ok(Content::read(&envelope, &self.bases, &self.readers, now).unwrap());
        let header = envelope.header;
        let delivery = Delivery { header, received_at: now, psk: how.psk, path: how.path, content };
        let mut learned = intake::Learned::default();
        let outcome = intake::report(&self.db, &mut self.live, delivery, &mut learned).unwrap();
        assert!(outcome.is_ok(), "{}: {outcome:?}", case.about);
        for news in learned.news {
            let News::Report(receipt, present) = news else { continue };
            atlas::take(&mut self.state, &mut self.watches, &self.readers, &receipt, present).unwrap();
        }
        self.bases.put(learned.bases, now);
    }

    fn evaluate(
        &mut self,
        now: i64,
        case: &Case,
        second: i64,
    ) -> Vec<kattila_manager::alarm::status::Change> {
        self.state.settle(now);
        let touched = self.state.take_touched();
        let agents: seen::Fleet = seen::Fleet {
            agents: self.live.values().map(|live| (live.agent.id, live.agent.clone())).collect(),
        };
        let mut agents: BTreeMap<AgentId, Reporter> = reporters(&agents);
        // After a restart the writer's memory is empty until each reports; the fleet's is not.
        for (id, watch) in self.watches.iter() {
            agents.entry(id).or_insert_with(|| Reporter {
                last_seen: watch.received_at,
                interval_s: 30,
                path: Vec::new(),
                psk: 1,
            });
        }
        let manager = self.manager(case, second);
        // What is passed over as being well must be: looking at all finds the same.
        let mut all = Sieve::open();
        let mut watches = self.watches.clone();
        let full = (&mut watches, &mut all);
        let (whole, _) = evaluate(now, (&self.state, touched.clone()), full, &agents, &manager);
        let sieved = (&mut self.watches, &mut self.sieve);
        let (found, moment) = evaluate(now, (&self.state, touched), sieved, &agents, &manager);
        assert_eq!(found, whole, "{} at {second} s", case.about);
        let warming = now - self.manager_started < 90_000;
        self.engine.step(found, &Moment { warming, ..moment })
    }

    fn manager(&self, case: &Case, second: i64) -> ManagerFacts {
        let mut facts = ManagerFacts { psk_generation: 1, ..ManagerFacts::default() };
        for change in case.manager.iter().filter(|change| (change.from..change.until).contains(&second)) {
            facts.database_failure = change.database_failure.clone().or(facts.database_failure);
            facts.write_ms = change.write_ms.unwrap_or(facts.write_ms);
            facts.disk = change.disk_mb.map(|(free, size)| (free << 20, size << 20)).or(facts.disk);
            facts.psk_failure = change.psk_failure.clone().or(facts.psk_failure);
            facts.psk_generation = change.psk_generation.unwrap_or(facts.psk_generation);
            for (code, count) in &change.refused {
                let code = kattila_manager::error::ALL_CODES.into_iter().find(|known| known == code).unwrap();
                facts.refused.insert(code, *count);
                facts.refused_from.insert(code, ("203.0.113.66".into(), change.refused_agent.map(id_of)));
            }
            if let Some(since) = change.notifier_failing_since {
                let since = START + since * 1000;
                facts.notifier.insert("http://hooks.example".into(), (since, "it answered 500".into()));
            }
        }
        facts
    }
}
