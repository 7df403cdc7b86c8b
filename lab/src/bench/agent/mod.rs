//! What the agent costs its host: the real program on a real host in a network namespace.
//!
//! ```text
//! node    the host with its interfaces, routes, tunnels and peers; the manager; other agents
//! tap     the way to the manager, which counts bytes
//! ```

mod node;
mod tap;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::account::Account;
use super::bars::Bar;
use super::options::Options;
use super::table::{Table, number};
use crate::{Error, MESH, Need, Proc, Result, bin, require, wait_for};
use node::{Node, Size};

/// Turns before the measurement: the first contact, the first handshakes, all buffers grown.
const WARM_UP: u64 = 5;
/// Peers of the larger host.
const MANY: u32 = 1000;
/// Reports in a day at the usual interval of 30 s.
const TURNS_A_DAY: f64 = 2880.0;
/// The larger host takes fewer turns: they cost more and say the same.
const MANY_SHARE: u64 = 4;

/// Turns by which every buffer has grown to what it needs.
const SETTLED: u64 = 100;
/// A heap that holds still may still take a few pages more: a leak of 16 bytes a turn is 160 KiB in 10,000.
const GROWTH_KB: f64 = 128.0;

/// What one program cost on one host, per turn where nothing else is said.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    host: String,
    turns: u64,
    interval_s: u32,
    interfaces: u64,
    routes: u64,
    peers: u64,
    /// CPU of the agent, user and system (ms).
    cpu_ms: f64,
    /// CPU of the host's `wireguard-go` (ms), which is not the agent's.
    wireguard_go_ms: f64,
    peak_rss_kb: u64,
    /// How much more memory it held after the last turn than after the first ones (KiB).
    growth_kb: i64,
    /// TCP payload to and from the manager.
    wire: f64,
    /// Bytes written to storage in all turns.
    written: u64,
}

/// Many turns without waiting: memory after each part of them.
#[derive(Debug, Serialize)]
pub(super) struct Turns {
    steps: Vec<Step>,
}

/// What `agent/examples/turns.rs` prints.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Step {
    turns: u64,
    rss_kb: u64,
    peak_rss_kb: u64,
    cpu_ms: u64,
}

/// All of it.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    program: PathBuf,
    is_static: bool,
    binary: u64,
    rows: Vec<Row>,
    turns: Turns,
}

/// Runs the agent on both hosts at its interval, then many turns without waiting.
///
/// # Errors
/// What is missing, or what did not start.
pub(super) fn run(options: &Options) -> Result<(Figures, Vec<Bar>)> {
    if !(require(MESH) && require(&[Need::Bin("agent"), Need::Bin("manager"), Need::Bin("examples/turns")])) {
        return Err(Error::Missing("the agent's figures need what is named above".to_owned()));
    }
    let (program, is_static) = program()?;
    let binary = std::fs::metadata(&program).map_err(Error::io(program.display().to_string()))?.len();
    let ten = Node::up(Size::Ten, &program)?;
    let mut rows = vec![measure("2 tunnels, 10 peers", &ten, &program, options.interval_s, options.turns)?];
    let turns = many_turns(&ten, options.many_turns)?;
    drop(ten);
    let many = Node::up(Size::Many(MANY), &program)?;
    let few = (options.turns / MANY_SHARE).max(1);
    rows.push(measure("2 tunnels, 1,000 peers", &many, &program, options.interval_s, few)?);
    let figures = Figures { program, is_static, binary, rows, turns };
    let bars = bars(&figures);
    Ok((figures, bars))
}

/// The static agent of this machine where it was built, else the one beside `lab`.
fn program() -> Result<(PathBuf, bool)> {
    let machine = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../agent/bin/agent-{machine}"));
    match built.canonicalize() {
        Ok(path) if std::env::var_os("KATTILA_BIN_DIR").is_none() => Ok((path, true)),
        _ => Ok((bin("agent")?, false)),
    }
}

fn measure(host: &str, node: &Node, program: &Path, interval_s: u32, turns: u64) -> Result<Row> {
    let agent = node.host().spawn(&node.measured(program, interval_s)?)?;
    await_turn(node, &agent, node.tap.exchanges() + WARM_UP, interval_s)?;
    let account = || Account::of(u32::try_from(agent.pid()).unwrap_or(0));
    let (first, first_wireguard) = (account()?, node.wireguard_us());
    let (begin, wire) = (node.tap.exchanges(), node.tap.bytes());
    await_turn(node, &agent, begin + turns, interval_s)?;
    let (last, last_wireguard) = (account()?, node.wireguard_us());
    let taken = node.tap.exchanges() - begin;
    let each = |sum: u64| as_f64(sum) / as_f64(taken);
    let [interfaces, routes, peers] = node.reported()?;
    let row = Row {
        host: host.to_owned(),
        turns: taken,
        interval_s,
        interfaces,
        routes,
        peers,
        cpu_ms: each(last.cpu_us - first.cpu_us) / 1000.0,
        wireguard_go_ms: each(last_wireguard - first_wireguard) / 1000.0,
        peak_rss_kb: last.peak_rss_kb,
        growth_kb: i64::try_from(last.rss_kb).unwrap_or(0) - i64::try_from(first.rss_kb).unwrap_or(0),
        wire: each(node.tap.bytes() - wire),
        written: last.written - first.written,
    };
    agent.term()?;
    agent.wait(Duration::from_secs(10))?;
    Ok(row)
}

/// Waits until the agent has had `count` exchanges with the manager: one a turn.
fn await_turn(node: &Node, agent: &Proc, count: u64, interval_s: u32) -> Result<()> {
    let turns = count.saturating_sub(node.tap.exchanges());
    let limit = Duration::from_secs(60 + 2 * turns * u64::from(interval_s));
    let done = || (node.tap.exchanges() >= count || !agent.is_running()).then_some(());
    wait_for("the agent's turns", limit, done)?;
    if agent.is_running() {
        Ok(())
    } else {
        Err(Error::Missing(format!("the agent ended:\n{}", agent.log())))
    }
}

/// The loop of the agent, told `turns` times to go on at once.
fn many_turns(node: &Node, turns: u64) -> Result<Turns> {
    let log = node.host().dir().join("turns.log");
    let step = (turns / 10).max(1);
    let launch = node.measured(&bin("examples/turns")?, 1)?;
    let run = node.host().spawn(&launch.args([turns.to_string(), step.to_string()]).log(&log))?;
    let status = run.wait(Duration::from_secs(60 + turns / 5))?;
    let said = run.log();
    if !status.success() {
        return Err(Error::Missing(format!("{turns} turns ended with {status}: {said}")));
    }
    let steps: Vec<Step> = said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    Ok(Turns { steps })
}

impl Turns {
    /// Memory at the end over that after the first tenth (KiB); `None` when that were too few turns.
    fn growth_kb(&self) -> Option<i64> {
        let (first, last) = (self.steps.first().filter(|first| first.turns >= SETTLED)?, self.steps.last()?);
        Some(i64::try_from(last.rss_kb).ok()? - i64::try_from(first.rss_kb).ok()?)
    }
}

fn bars(figures: &Figures) -> Vec<Bar> {
    let mut bars = Vec::new();
    if figures.is_static {
        bars.push(Bar::at_most("agent, static program", as_f64(figures.binary) / 1e6, 1.2, "MB"));
    }
    for row in &figures.rows {
        let is_many = row.peers > 100;
        let cpu = if is_many { 25.0 } else { 3.0 };
        bars.push(Bar::at_most(&format!("agent CPU, {}", row.host), row.cpu_ms, cpu, "ms/turn"));
        bars.push(Bar::at_most(&format!("agent written, {}", row.host), as_f64(row.written), 0.0, "B"));
        if !is_many {
            bars.push(Bar::at_most("agent peak RSS", as_f64(row.peak_rss_kb) / 1000.0 * 1.024, 2.5, "MB"));
            bars.push(Bar::at_most(
                "agent wire, a day of such turns at 30 s",
                row.wire * TURNS_A_DAY / 1e6,
                2.0,
                "MB/day",
            ));
        }
    }
    if let Some(growth) = figures.turns.growth_kb() {
        #[expect(clippy::cast_precision_loss, reason = "KiB of memory")]
        bars.push(Bar::at_most("agent growth over all turns", growth as f64, GROWTH_KB, "KiB"));
    }
    bars
}

/// Tables for people.
pub(super) fn render(figures: &Figures) -> String {
    let kind = if figures.is_static { "static" } else { "not the static one: make build-agent has not run" };
    let mut table = Table::new(&[
        "host",
        "interfaces",
        "routes",
        "peers",
        "turns",
        "agent ms",
        "wireguard-go ms",
        "peak RSS KiB",
        "growth KiB",
        "wire B/turn",
        "written B",
    ]);
    for row in &figures.rows {
        table.row([
            row.host.clone(),
            row.interfaces.to_string(),
            row.routes.to_string(),
            row.peers.to_string(),
            format!("{} of {} s", row.turns, row.interval_s),
            number(row.cpu_ms),
            number(row.wireguard_go_ms),
            row.peak_rss_kb.to_string(),
            row.growth_kb.to_string(),
            number(row.wire),
            row.written.to_string(),
        ]);
    }
    let mut steps = Table::new(&["turns at once", "RSS KiB", "peak KiB", "agent ms/turn"]);
    for step in &figures.turns.steps {
        let each = |sum: u64| number(as_f64(sum) / as_f64(step.turns));
        steps.row([
            step.turns.to_string(),
            step.rss_kb.to_string(),
            step.peak_rss_kb.to_string(),
            each(step.cpu_ms),
        ]);
    }
    format!(
        "agent: {}, {} B ({kind}); CPU, wire and memory of the agent, CPU per turn\n\n{}\n\
         examples/turns, the same loop without waiting:\n\n{}",
        figures.program.display(),
        figures.binary,
        table.render(),
        steps.render()
    )
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn as_f64(number: u64) -> f64 {
    number as f64
}
