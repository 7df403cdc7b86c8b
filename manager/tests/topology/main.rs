//! Golden cases: folders under `cases/` with the reports of some agents and what must be made of
//! them. `BLESS=1 cargo test -p manager --test topology` writes what is made; look at it before
//! it is committed, for it must be true.
//!
//! `reports.json` lists reports in order: `agent`, `received_at`, `path` (the relays), `report`, and
//! where it matters `boot`. The state is settled after each group of one `received_at`, and at the
//! end 1 s after the last. `paths.json`, if there is one, lists path queries: `from`, `to`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use kattila_manager::topology::{Event, Map, Receipt, State, Target, diff, path, replay};
use proto::ids::{AgentId, BootId};
use proto::report::Report;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Entry {
    agent: AgentId,
    received_at: i64,
    #[serde(default)]
    path: Vec<AgentId>,
    #[serde(default)]
    boot: u8,
    report: Value,
}

#[derive(Deserialize)]
struct Query {
    from: AgentId,
    to: String,
}

#[test]
fn cases_come_out_as_expected() {
    let bless = std::env::var_os("BLESS").is_some();
    let mut wrong = Vec::new();
    let cases = case_folders();
    assert!(cases.len() >= 25, "only {} cases found", cases.len());
    for folder in cases {
        let found = serde_json::to_string_pretty(&outcome(&folder)).unwrap() + "\n";
        let expected = folder.join("expected.json");
        if bless {
            fs::write(&expected, found).unwrap();
        } else if fs::read_to_string(&expected).unwrap_or_default() != found {
            let name = folder.file_name().unwrap().to_string_lossy().into_owned();
            eprintln!(
                "{name}: {}",
                first_difference(&fs::read_to_string(&expected).unwrap_or_default(), &found)
            );
            wrong.push(name);
        }
    }
    assert!(wrong.is_empty(), "other than expected.json: {wrong:?}");
}

fn case_folders() -> Vec<PathBuf> {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/topology/cases");
    let mut folders: Vec<PathBuf> = fs::read_dir(cases).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    folders
}

/// The topology, the path queries, and the changes since the state was first settled.
fn outcome(folder: &Path) -> Value {
    let entries: Vec<Entry> = read(&folder.join("reports.json")).unwrap();
    let mut state = State::new();
    let mut events: Vec<Event> = Vec::new();
    let mut base: Option<Map> = None;
    for (tick, entry) in (1..).zip(&entries) {
        let payload = serde_json::to_vec(&entry.report).unwrap();
        let report =
            Report::from_json(&payload).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let (agent, received_at, relay) = (entry.agent, entry.received_at, entry.path.clone());
        state.apply(&Receipt { agent, boot: BootId([entry.boot; 16]), tick, received_at, relay }, &report);
        let last_of_group =
            entries.get(usize::try_from(tick).unwrap()).is_none_or(|next| next.received_at != received_at);
        if last_of_group {
            let found = state.settle(received_at);
            if base.is_some() {
                events.extend(found);
            } else {
                base = Some(state.map());
            }
        }
    }
    events.extend(state.settle(entries.last().unwrap().received_at + 1000));
    let base = base.unwrap();
    assert_eq!(
        diff(&replay(base, events.clone()), state.map()),
        [],
        "{}: events rebuild the map",
        folder.display()
    );
    let mut outcome = json!({ "topology": state.view(true) });
    if !events.is_empty() {
        outcome["events"] = serde_json::to_value(&events).unwrap();
        let again: Vec<Event> = serde_json::from_value(outcome["events"].clone()).unwrap();
        assert_eq!(again, events, "events survive JSON");
    }
    let queries: Vec<Query> = read(&folder.join("paths.json")).unwrap_or_default();
    let answers = queries.iter().map(|query| {
        let target = query
            .to
            .parse()
            .map(Target::Agent)
            .unwrap_or_else(|_| Target::Address(query.to.parse().unwrap()));
        serde_json::to_value(path(&state, query.from, target).unwrap()).unwrap()
    });
    let answers: Vec<Value> = answers.collect();
    if !answers.is_empty() {
        outcome["paths"] = Value::from(answers);
    }
    outcome
}

fn read<T: serde::de::DeserializeOwned>(file: &Path) -> Option<T> {
    let text = fs::read_to_string(file).ok()?;
    Some(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display())))
}

fn first_difference(expected: &str, found: &str) -> String {
    let lines = expected.lines().zip(found.lines()).zip(1..).find(|((expected, found), _)| expected != found);
    lines.map_or_else(
        || "one is longer".to_owned(),
        |((expected, found), number)| format!("line {number}: expected {expected}, found {found}"),
    )
}
