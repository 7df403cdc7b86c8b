//! Measures the alarms at 10,000 agents with 20 peers each: what is remembered of each report, and
//! an evaluation of all rules, in a fleet that is well and in one where one host in a hundred is in
//! trouble. `cargo run --release -p manager --example alarm_bench [AGENTS [PEERS]]`
//!
//! As in a real fleet the reports are spread over the 30 s between two of an agent, and there is an
//! evaluation every 5 s: before each a sixth of the agents report. The trouble comes with the reports
//! that tell of it, within 30 s. The worst case, that all report at one moment, is a line of its own.

use std::collections::BTreeMap;

use fleet::{cpu, id, mb, ms, per, resident_kb};
use kattila_manager::alarm::engine::{Engine, Moment};
use kattila_manager::alarm::facts::{ManagerFacts, Reporter};
use kattila_manager::alarm::keeper::evaluate;
use kattila_manager::alarm::sieve::Sieve;
use kattila_manager::alarm::watch::Watches;
use kattila_manager::topology::{Receipt, State};
use proto::ids::BootId;
use proto::report::Report;

#[path = "topology_bench.rs"]
#[expect(dead_code, reason = "its own measurements")]
mod fleet;

/// Between two evaluations (ms).
const PERIOD: i64 = 5_000;
/// Evaluations between two reports of an agent.
const TURNS: u32 = 6;

#[expect(clippy::print_stdout, reason = "its output is what it is for")]
fn main() {
    let mut arguments = std::env::args().skip(1).filter_map(|text| text.parse::<u32>().ok());
    let agents = arguments.next().unwrap_or(10_000);
    let peers = arguments.next().unwrap_or(20);
    let reports: Vec<Report> = (0..agents).map(|number| healthy(number, agents, peers)).collect();
    println!("alarms of {agents} agents with {peers} peers each");

    let mut bench = Bench { reports, now: fleet::START, ..Bench::default() };
    for (batch, first) in bench.reports.chunks(100).zip((0u32..).step_by(100)) {
        fleet::apply_all(&mut bench.state, batch, first, 1, bench.now);
        bench.state.settle(bench.now);
    }
    let before = resident_kb();
    bench.note_all(1);
    let kb = resident_kb().saturating_sub(before);
    println!("memory: {:.1} MB, {:.0} B an agent", mb(kb), mb(kb) * 1e6 / f64::from(agents));

    for tick in 2..=4 {
        bench.now += PERIOD * i64::from(TURNS);
        bench.reports.iter_mut().for_each(|report| fleet::count(report, bench.now, age_at(bench.now)));
        fleet::apply_all(&mut bench.state, &bench.reports, 0, tick, bench.now);
        let started = cpu();
        bench.note_all(tick);
        println!("remembered: {:.2} us a report", per(cpu() - started, agents));
        bench.state.settle(bench.now);
    }
    bench.tick = 5;
    bench.measure("after a start, all to be looked at", 1, |_, _| false);
    bench.measure("settling in", TURNS, |_, _| true);
    bench.measure("all well", 2 * TURNS, |_, _| true);
    bench.at_once = true;
    bench.measure("all well, all reported at one moment", TURNS, |_, _| true);
    bench.at_once = false;
    // One host in a hundred has another MTU than its peers.
    let trouble = |number: u32, report: &mut Report| {
        if number.is_multiple_of(100) {
            let tunnels = report.system.interfaces.iter_mut().filter(|nic| nic.name == "wg0");
            tunnels.for_each(|nic| nic.mtu = 1280);
        }
        true
    };
    bench.measure("trouble comes to one in a hundred", TURNS, trouble);
    bench.measure("one in a hundred in trouble", 2 * TURNS, |_, _| true);
}

#[derive(Default)]
struct Bench {
    reports: Vec<Report>,
    state: State,
    watches: Watches,
    sieve: Sieve,
    engine: Engine,
    now: i64,
    tick: u64,
    /// Whether all report before each evaluation.
    at_once: bool,
}

impl Bench {
    /// Evaluates a number of times, and tells how long that takes beside the view that it looks at.
    /// Before each a sixth of the agents whose report `change` lets through report.
    #[expect(clippy::print_stdout, reason = "its output is what it is for")]
    fn measure(&mut self, what: &str, turns: u32, change: impl Fn(u32, &mut Report) -> bool) {
        let manager = ManagerFacts { psk_generation: 1, ..ManagerFacts::default() };
        let (mut rules, mut steps) = (Vec::new(), Vec::new());
        let (mut count, mut changes) = (0, 0);
        for turn in 0..turns {
            self.now += PERIOD;
            self.report(turn % TURNS, &change);
            let agents: BTreeMap<_, _> = self
                .watches
                .iter()
                .map(|(id, watch)| {
                    (id, Reporter { last_seen: watch.received_at, interval_s: 30, path: vec![], psk: 1 })
                })
                .collect();
            let started = cpu();
            let touched = self.state.take_touched();
            let both = (&mut self.watches, &mut self.sieve);
            let (found, moment) = evaluate(self.now, (&self.state, touched), both, &agents, &manager);
            rules.push(ms(cpu() - started));
            count = found.len();
            let started = cpu();
            changes += self.engine.step(found, &Moment { now: self.now, ..moment }).len();
            steps.push(ms(cpu() - started));
        }
        let ((rules, rules_most), (steps, steps_most)) = (median(rules), median(steps));
        println!(
            "{what}: rules {rules:.1} ms (at most {rules_most:.1}), engine {steps:.1} ms (at most \
             {steps_most:.1}); {turns} evaluations, {count} findings, {changes} changes"
        );
    }

    /// Takes the reports of every sixth agent, or of all, which came within the last 5 s.
    fn report(&mut self, nth: u32, change: impl Fn(u32, &mut Report) -> bool) {
        self.tick += u64::from(nth == 0 || self.at_once);
        let (first, step) = if self.at_once { (0, 1) } else { (nth as usize, TURNS as usize) };
        for (number, report) in (0u32..).zip(&mut self.reports).skip(first).step_by(step) {
            let received_at = self.now - i64::from(number) % PERIOD;
            if !change(number, report) {
                continue;
            }
            fleet::count(report, received_at, age_at(received_at));
            let (agent, boot) = (id(number), BootId([1; 16]));
            let receipt = Receipt { agent, boot, tick: self.tick, received_at, relay: Vec::new() };
            self.state.apply(&receipt, report);
            self.watches.note(&receipt, report);
        }
        self.state.settle(self.now);
    }

    fn note_all(&mut self, tick: u64) {
        for (number, report) in (0u32..).zip(&self.reports) {
            let (agent, boot) = (id(number), BootId([1; 16]));
            let receipt = Receipt { agent, boot, tick, received_at: self.now, relay: Vec::new() };
            self.watches.note(&receipt, report);
        }
    }
}

/// The median of times, and the longest.
fn median(mut times: Vec<f64>) -> (f64, f64) {
    times.sort_by(f64::total_cmp);
    (times[times.len() / 2], times.last().copied().unwrap_or_default())
}

/// How old a handshake is that is made anew every 120 s.
fn age_at(now: i64) -> u64 {
    u64::try_from(now / 1000 % 120).unwrap_or(0)
}

/// The topology benchmark's host, with settings that no rule objects to.
fn healthy(number: u32, agents: u32, peers: u32) -> Report {
    let mut report = fleet::report(number, agents, peers);
    for interface in report.system.interfaces.iter_mut().filter(|interface| interface.name == "wg0") {
        interface.mtu = 1420;
    }
    report
}
