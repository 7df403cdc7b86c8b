//! Measures what readers of a large fleet cost: processor time and memory of one answer each.
//! `cargo run --release -p manager --example readers_bench [AGENTS [PEERS [MIB]]]`, with the MiB that an answer may
//! have, or, for one answer in a process that made no other before, with its name after those: brief, metrics, agents.

use std::hash::Hasher as _;
use std::sync::Arc;

use fleet::{cpu, id, mb, ms, resident_kb};
use kattila_manager::atlas::Atlas;
use kattila_manager::export::links::Links;
use kattila_manager::export::metrics::{self, Parts};
use kattila_manager::fleet::{Agent, Fleet, Latest};
use kattila_manager::topology::State;
use kattila_manager::view::{agent, brief};
use proto::ids::BootId;

#[path = "topology_bench.rs"]
#[expect(dead_code, reason = "its own measurements")]
mod fleet;

/// MiB that an answer may have: what a machine of 2 GB gives it.
const ROOM: u32 = 24;

#[expect(clippy::print_stdout, reason = "its output is what it is for")]
fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut numbers = arguments.iter().filter_map(|text| text.parse::<u32>().ok());
    let agents = numbers.next().unwrap_or(10_000);
    let peers = numbers.next().unwrap_or(20);
    let room = usize::try_from(numbers.next().unwrap_or(ROOM)).map_or(usize::MAX, |mib| mib << 20);
    let asked = arguments.iter().find(|text| text.parse::<u32>().is_err());
    let atlas = Atlas::from(state(agents, peers));
    let fleet = listed(agents);
    println!("{agents} agents with {peers} peers each, {} edges", atlas.state().edge_count());
    let now = fleet::START + 5000;
    let answers: [(&str, &dyn Fn() -> Vec<u8>); 3] = [
        ("brief", &|| brief::now(&atlas, room).1.unwrap_or_default()),
        ("metrics", &|| {
            let agents = agent::list(&fleet, now);
            let links = Links::new(&atlas, &agents);
            let all = Parts::read(None).unwrap_or_default();
            metrics::render(room, all, Some(&agents), Some(&links), None, None).into_bytes()
        }),
        ("agents", &|| serde_json::to_vec(&agent::list(&fleet, now)).unwrap_or_default()),
    ];
    for (name, answer) in answers.into_iter().filter(|(name, _)| asked.is_none_or(|asked| asked == name)) {
        // The allocator puts its free blocks together before it gives out a large one: not in that time.
        drop(std::hint::black_box(vec![1_u8; 4 << 20]));
        let before = resident_kb();
        // The highest resident size starts again from the present one (proc_pid_clear_refs(5)).
        let _ = std::fs::write("/proc/self/clear_refs", "5");
        let started = cpu();
        let bytes = answer();
        let took = ms(cpu() - started);
        let peak = highest_kb().saturating_sub(before);
        let kb = u64::try_from(bytes.len() / 1000).unwrap_or(0);
        let mut hash = std::hash::DefaultHasher::new();
        hash.write(&bytes);
        println!(
            "{name}: {:.1} MB in {took:.0} ms, {:.0} MB more at the highest (hash {:016x})",
            mb(kb),
            mb(peak),
            hash.finish()
        );
    }
}

/// The map of the fleet, settled as agents came.
fn state(agents: u32, peers: u32) -> State {
    let mut state = State::new();
    for first in (0..agents).step_by(100) {
        let batch: Vec<_> = (first..agents.min(first + 100))
            .map(|number| {
                let mut report = fleet::report(number, agents, peers);
                fleet::count(&mut report, fleet::START, 20);
                report
            })
            .collect();
        fleet::apply_all(&mut state, &batch, first, 1, fleet::START);
        state.settle(fleet::START);
    }
    state
}

/// The same agents as the list has them.
fn listed(agents: u32) -> Fleet {
    let agent = |number: u32| Agent {
        no: i64::from(number),
        id: id(number),
        hardware: Arc::from(format!("{number:032x}")),
        hostname: Arc::from(format!("host-{number}")),
        version: Arc::from("0.1.0"),
        first_seen: fleet::START,
        reset_at: None,
        last_seen: Some(fleet::START),
        latest: Some(Latest {
            report: i64::from(number),
            boot: BootId([1; 16]),
            tick: 1,
            sent_at: fleet::START,
            received_at: fleet::START,
            observed_at: fleet::START,
            psk: 1,
            path: Vec::new(),
            interval_s: 30,
            clock_offset_ms: 3,
            spooled: 0,
            dropped: 0,
            problems: 0,
            like: None,
        }),
    };
    Fleet { agents: (0..agents).map(|number| (id(number), agent(number).into())).collect() }
}

fn highest_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
