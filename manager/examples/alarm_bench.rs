//! Measures the alarms at 10,000 agents with 20 peers each: what is remembered of each report, and
//! an evaluation of all rules, in a fleet that is well and in one where one host in a hundred is in
//! trouble. `cargo run --release -p manager --example alarm_bench [AGENTS [PEERS]]`

use std::collections::BTreeMap;

use fleet::{cpu, id, mb, ms, per, resident_kb};
use kattila_manager::alarm::engine::{Engine, Moment};
use kattila_manager::alarm::facts::{ManagerFacts, Reporter};
use kattila_manager::alarm::keeper::evaluate;
use kattila_manager::alarm::sieve::Sieve;
use kattila_manager::alarm::watch::Watches;
use kattila_manager::topology::{Receipt, State};
use proto::ids::{AgentId, BootId};
use proto::report::Report;

#[path = "topology_bench.rs"]
#[expect(dead_code, reason = "its own measurements")]
mod fleet;

#[expect(clippy::print_stdout, reason = "its output is what it is for")]
fn main() {
    let mut arguments = std::env::args().skip(1).filter_map(|text| text.parse::<u32>().ok());
    let agents = arguments.next().unwrap_or(10_000);
    let peers = arguments.next().unwrap_or(20);
    let mut reports: Vec<Report> = (0..agents).map(|number| healthy(number, agents, peers)).collect();
    println!("alarms of {agents} agents with {peers} peers each");

    let mut state = State::new();
    let mut watches = Watches::default();
    let mut now = fleet::START;
    for (batch, first) in reports.chunks(100).zip((0u32..).step_by(100)) {
        fleet::apply_all(&mut state, batch, first, 1, now);
        state.settle(now);
    }
    let before = resident_kb();
    note_all(&mut watches, &reports, 1, now);
    let kb = resident_kb().saturating_sub(before);
    println!("memory: {:.1} MB, {:.0} B an agent", mb(kb), mb(kb) * 1e6 / f64::from(agents));

    for tick in 2..=4 {
        now += 30_000;
        reports.iter_mut().for_each(|report| fleet::count(report, now, age_at(now)));
        fleet::apply_all(&mut state, &reports, 0, tick, now);
        let started = cpu();
        note_all(&mut watches, &reports, tick, now);
        let noted = per(cpu() - started, agents);
        state.settle(now);
        println!("remembered: {noted:.2} us a report");
    }
    let (mut engine, mut sieve) = (Engine::default(), Sieve::default());
    measure("all well", &mut state, &mut watches, &mut sieve, &mut engine, now);

    // One host in a hundred has another MTU than its peers.
    now += 30_000;
    for (number, report) in (0u32..).zip(&mut reports) {
        fleet::count(report, now, age_at(now));
        if number % 100 == 0 {
            report
                .system
                .interfaces
                .iter_mut()
                .filter(|nic| nic.name == "wg0")
                .for_each(|nic| nic.mtu = 1280);
        }
    }
    fleet::apply_all(&mut state, &reports, 0, 5, now);
    note_all(&mut watches, &reports, 5, now);
    state.settle(now);
    measure("one in a hundred in trouble", &mut state, &mut watches, &mut sieve, &mut engine, now);
}

/// Evaluates a few times, and tells how long that takes beside the view that it looks at.
#[expect(clippy::print_stdout, reason = "its output is what it is for")]
fn measure(
    what: &str,
    state: &mut State,
    watches: &mut Watches,
    sieve: &mut Sieve,
    engine: &mut Engine,
    now: i64,
) {
    let agents: BTreeMap<AgentId, Reporter> = watches
        .iter()
        .map(|(id, watch)| {
            (id, Reporter { last_seen: watch.received_at, interval_s: 30, path: vec![], psk: 1 })
        })
        .collect();
    let manager = ManagerFacts { psk_generation: 1, ..ManagerFacts::default() };
    let (mut rules, mut steps) = (Vec::new(), Vec::new());
    let (mut count, mut changes) = (0, 0);
    for turn in 0..6 {
        let started = cpu();
        // The first looks at all, those after it at what the sieve lets through.
        let touched = state.take_touched();
        let changed = touched.len();
        let (found, moment) = evaluate(now + turn, (state, touched), (watches, sieve), &agents, &manager);
        let took = ms(cpu() - started);
        println!("{what}: {took:.1} ms with {changed} agents changed, {} findings", found.len());
        rules.push(took);
        count = found.len();
        let started = cpu();
        changes += engine.step(found, &Moment { now: now + turn, ..moment }).len();
        steps.push(ms(cpu() - started));
    }
    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    println!(
        "{what}: rules {:.1} ms, engine {:.1} ms (medians of 6); {count} findings, {changes} changes",
        median(&mut rules),
        median(&mut steps)
    );
}

/// How old a handshake is that is made anew every 120 s.
fn age_at(now: i64) -> u64 {
    u64::try_from(now / 1000 % 120).unwrap_or(0)
}

fn note_all(watches: &mut Watches, reports: &[Report], tick: u64, now: i64) {
    for (number, report) in (0u32..).zip(reports) {
        let (agent, boot) = (id(number), BootId([1; 16]));
        watches.note(&Receipt { agent, boot, tick, received_at: now, relay: Vec::new() }, report);
    }
}

/// The topology benchmark's host, with settings that no rule objects to.
fn healthy(number: u32, agents: u32, peers: u32) -> Report {
    let mut report = fleet::report(number, agents, peers);
    for interface in report.system.interfaces.iter_mut().filter(|interface| interface.name == "wg0") {
        interface.mtu = 1420;
    }
    report
}
