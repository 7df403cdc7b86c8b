//! The benchmark: a simulated fleet that speaks the real protocol, servers side by side, and what each
//! costs as the kernel counts it.
//!
//! ```text
//! options     what was asked for
//! host        what a simulated host is like, and how it drifts     template   its report, cheaply
//! fleet       who the agents are; signed reports                   client     one exchange
//! load        client threads, flat out or at a pace                histogram  latencies
//! server      the servers compared                                 account    /proc
//! measure     one run, one row        compare    the default run   steady     long runs, growth
//! callgrind   instructions            bars       aims, PASS/MISS   table      for people
//! agent       what the agent costs its host                     plan     30 days by extrapolation
//! ```

mod account;
mod agent;
mod bars;
mod callgrind;
mod client;
mod compare;
mod fleet;
mod histogram;
mod host;
mod load;
mod machine;
mod measure;
mod options;
mod plan;
mod server;
mod steady;
mod table;
mod template;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::{Error, Result};
use machine::Machine;
use options::{HELP, Mode, Options};

/// Runs `lab bench` with the arguments behind it: prints tables, and writes the same as JSON to
/// `target/bench/DATE.json`.
///
/// # Errors
/// What is wrong with the arguments, or what kept a server from running.
pub fn run(arguments: &[&str]) -> Result<()> {
    let options = Options::parse(arguments)?;
    if options.mode == Mode::Help {
        return say(HELP);
    }
    let bench = server::target()?.join("bench");
    fs::create_dir_all(&bench).map_err(Error::io(bench.display().to_string()))?;
    // Under target, not /tmp: that may be memory, and what is measured is a disk.
    let dir = tempfile::Builder::new().prefix("run-").tempdir_in(&bench);
    let dir = dir.map_err(Error::io(bench.display().to_string()))?;
    let date = machine::utc(fleet::now_ms() / 1000);
    let machine = Machine::read();
    let command = ["lab bench", &arguments.join(" ")].join(" ").trim_end().to_owned();
    let report_len = fleet::report_len()?;
    let (line, (variable, value)) = (machine.line(), server::HEAPS);
    say(&format!(
        "{command}, {date}, {line}; reports of {report_len} B; manager with {variable}={value}\n\n"
    ))?;
    let (figures, bars) = figures(&options, dir.path())?;
    say(&format!("\n{}", bars::render(&bars)))?;
    let document = json!({
        "date": date, "machine": machine, "command": command, "report_len": report_len,
        "figures": figures, "bars": bars,
    });
    let path = write(&bench, &date, &document)?;
    say(&format!("\n{}\n", path.display()))
}

/// Does what the mode asks for; the figures as JSON, and the aims.
fn figures(options: &Options, dir: &Path) -> Result<(Value, Vec<bars::Bar>)> {
    Ok(match options.mode {
        Mode::Compare => {
            let rows = compare::run(options, dir)?;
            say(&measure::render(&rows))?;
            (json!({ "rows": rows }), bars::of_rows(&rows))
        }
        Mode::Steady => {
            let (steady, bars) = steady::run(options, dir)?;
            say(&steady::render(&steady))?;
            (json!({ "steady": steady }), bars)
        }
        Mode::Grow => {
            let (growth, bars) = steady::grow(options, dir)?;
            (json!({ "growth": growth }), bars)
        }
        Mode::Plan => {
            let (plan, bars) = plan::run(options, dir)?;
            say(&plan::render(&plan))?;
            (json!({ "plan": plan }), bars)
        }
        Mode::Callgrind => {
            let (instructions, bars) = callgrind::run(dir)?;
            say(&callgrind::render(&instructions))?;
            (json!({ "instructions": instructions }), bars)
        }
        Mode::Agent => {
            let (figures, bars) = agent::run(options)?;
            say(&agent::render(&figures))?;
            (json!({ "agent": figures }), bars)
        }
        Mode::Help => (Value::Null, Vec::new()),
    })
}

fn write(bench: &Path, date: &str, document: &Value) -> Result<PathBuf> {
    // Colons make trouble in file names elsewhere.
    let path = bench.join(format!("{}.json", date.replace(':', "")));
    let text = format!("{document:#}\n");
    fs::write(&path, text).map_err(Error::io(path.display().to_string()))?;
    Ok(path)
}

fn say(text: &str) -> Result<()> {
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Error::io("stdout"))
}
