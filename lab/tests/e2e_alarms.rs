//! Alarms on real interfaces: real WireGuard meshes in network namespaces, the real agent and
//! manager, one fault each. What must fire fires, about the right hosts and with evidence; nothing
//! else of warning or worse does; and it ends after the mend. Prints the seconds that both took.
//!
//! `CASE=mtu cargo test -p lab --test e2e_alarms` runs the cases whose names contain `mtu`.
#![expect(clippy::unwrap_used, reason = "the helpers, too, are tests")]

mod alarms;
mod e2e;

use std::collections::VecDeque;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use alarms::{Case, Row, fleet, healthy, hosts, identity, paths, peers};
use e2e::ready;
use lab::{MESH, Need, require};

/// Cases at once, beside the long ones, which mostly wait and have a thread each.
const AT_ONCE: usize = 5;
/// Between two starts: a mesh that comes up takes a whole core for a second.
const APART: Duration = Duration::from_secs(2);

const LONG: &[(&str, Case)] = &[
    ("healthy mesh for ten minutes", healthy::ten_minutes),
    ("endpoint roams behind NAT", paths::roaming_behind_nat),
    ("agent id cloned", identity::agent_id_cloned),
];

const CASES: &[(&str, Case)] = &[
    ("path blocked one way, one end calls", paths::forward_blocked),
    ("return path blocked, one end calls", paths::return_blocked),
    ("path blocked one way, both ends call", paths::one_way_blocked),
    ("peer removed on one side", peers::removed),
    ("preshared key on one side only", peers::preshared_key),
    ("key rotated on one side", peers::key_rotated),
    ("AllowedIPs stolen by a second peer", peers::allowed_ips_stolen),
    ("private key cloned", identity::private_key_cloned),
    ("router down, hosts behind it", fleet::host_down),
    ("most hosts silent at once", fleet::most_silent),
    ("MTU mismatch", hosts::mtu_mismatch),
    ("endpoint inside its own tunnel", hosts::endpoint_in_own_tunnel),
    ("wrong clock", hosts::wrong_clock),
    ("WireGuard interface set down", hosts::interface_down),
];

#[test]
fn every_fault_is_told_by_its_name_and_ends() {
    if !ready(MESH) || !require(&[Need::Tool("cc")]) {
        return;
    }
    let only = std::env::var("CASE").unwrap_or_default();
    let wanted = |case: &&(&'static str, Case)| case.0.contains(&only);
    let waiting: Mutex<VecDeque<_>> = Mutex::new(CASES.iter().filter(wanted).collect());
    let done: Mutex<Vec<Row>> = Mutex::default();
    let failed: Mutex<Vec<String>> = Mutex::default();
    let gate = Mutex::new(());
    let run = |&(name, case): &(&'static str, Case)| {
        {
            let _turn = gate.lock().unwrap();
            std::thread::sleep(APART);
        }
        let start = Instant::now();
        match catch_unwind(AssertUnwindSafe(|| case(name))) {
            Ok(rows) => {
                say(&format!("{name}: well, {} s\n", start.elapsed().as_secs()));
                done.lock().unwrap().extend(rows);
            }
            Err(panic) => {
                let why = panic.downcast_ref::<String>().cloned();
                let why = why.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
                say(&format!("{name}: FAILED after {} s\n", start.elapsed().as_secs()));
                failed.lock().unwrap().push(format!("{name}: {}", why.unwrap_or_default()));
            }
        }
    };
    std::thread::scope(|scope| {
        for case in LONG.iter().filter(wanted) {
            scope.spawn(|| run(case));
        }
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().unwrap().pop_front();
                    let Some(case) = next else { return };
                    run(case);
                }
            });
        }
    });
    let mut rows = done.into_inner().unwrap();
    rows.sort_by_key(|row| {
        let place = LONG.iter().chain(CASES).position(|(name, _)| *name == row.case);
        (place, row.no)
    });
    say(&alarms::table(&rows));
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} cases failed:\n{}", failed.len(), failed.join("\n\n"));
    assert!(!only.is_empty() || rows.len() >= CASES.len() + LONG.len() - 1, "cases are missing");
}

/// On the real standard error: the table is for people, also when all is well.
fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
