//! Instructions that a report takes in the manager's own code, counted by valgrind: the one figure
//! that no neighbour on the machine can spoil. `manager/examples/store_bench.rs` does the work; what
//! only prepares it is taken off by running it without.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

use super::bars::Bar;
use super::fleet::{Fleet, PSK, Scribe};
use super::measure::ratio;
use super::table::{Table, number};
use crate::{Error, Result, bin};

/// Agents that report; as in the figures that the aim comes from.
const AGENTS: u32 = 200;
/// Reports of each in the short run, where most rows are new, and in the long one.
const TICKS: [u32; 2] = [4, 20];
/// Reports in one transaction: one of each agent, as what others are the difference to must be on disk
/// before they come.
const BATCH: u32 = AGENTS;
/// What the driver does, each stage on top of the one before.
const STAGES: [&str; 4] = ["read", "parse", "verify", "store"];

/// Instructions per report, kernel not counted.
#[derive(Debug, Serialize)]
pub(super) struct Instructions {
    /// Agents and reports of each.
    agents: u32,
    ticks: u32,
    batch: u32,
    /// Envelope, and JSON to a report.
    parse: f64,
    /// MAC, clock, and a copy of the JSON for the writer. Valgrind's processor has no instructions for
    /// SHA-256, so the MAC counts for far more here than it costs on one that has them.
    verify: f64,
    /// Replay, rows and commit, first contacts among them.
    store: f64,
    /// The same of later reports only.
    store_steady: f64,
}

/// Counts.
///
/// # Errors
/// When valgrind or the driver is missing or fails.
pub(super) fn run(dir: &Path) -> Result<(Instructions, Vec<Bar>)> {
    let mut totals = [[0; STAGES.len()]; TICKS.len()];
    for (ticks, totals) in TICKS.iter().zip(&mut totals) {
        let reports = dir.join(format!("reports-{ticks}"));
        write_reports(&reports, *ticks)?;
        let database = dir.join(format!("reports-{ticks}.db"));
        // The last one first: it writes what the others read.
        for (stage, total) in STAGES.iter().zip(totals).rev() {
            *total = count(dir, &reports, &database, stage)?;
        }
    }
    let [[_, _, short_verify, short_store], [read, parse, verify, store]] = totals;
    let all = u64::from(AGENTS * TICKS[1]);
    let later = all - u64::from(AGENTS * TICKS[0]);
    let steady = (store - verify).saturating_sub(short_store - short_verify);
    let instructions = Instructions {
        agents: AGENTS,
        ticks: TICKS[1],
        batch: BATCH,
        parse: ratio(parse - read, all),
        verify: ratio(verify - parse, all),
        store: ratio(store - verify, all),
        store_steady: ratio(steady, later),
    };
    let bar =
        Bar::at_most("store, first contacts among them", instructions.store, 200_000.0, "instr./report");
    Ok((instructions, vec![bar]))
}

/// Writes signed reports, a length of four bytes (big endian) before each.
fn write_reports(path: &Path, ticks: u32) -> Result<()> {
    let fleet = Fleet::new(AGENTS, false)?;
    let mut scribe = Scribe::new(&fleet)?;
    let mut bytes = Vec::new();
    for _ in 0..ticks {
        for agent in 0..AGENTS {
            let sealed = scribe.next(agent).bytes;
            fleet.stored(agent);
            let len = u32::try_from(sealed.len()).expect("a few kilobytes");
            bytes.extend_from_slice(&len.to_be_bytes());
            bytes.extend_from_slice(&sealed);
        }
    }
    fs::write(path, bytes).map_err(Error::io(path.display().to_string()))
}

fn count(dir: &Path, reports: &Path, database: &Path, stage: &str) -> Result<u64> {
    let out = dir.join("callgrind.out");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", &format!("--callgrind-out-file={}", out.display())])
        .arg(bin("examples/store_bench")?)
        .arg(reports)
        .arg(database)
        .args([&BATCH.to_string(), stage])
        .env("PSK", PSK)
        .output()
        .map_err(|error| Error::Missing(format!("valgrind: {error} (install the package valgrind)")))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let failed = || Error::Missing(format!("store_bench {stage} under valgrind {}: {said}", output.status));
    if !output.status.success() {
        return Err(failed());
    }
    collected(&said).ok_or_else(failed)
}

/// The count in what callgrind says at its end: `==12== Collected : 123456`.
fn collected(said: &str) -> Option<u64> {
    let line = said.lines().find(|line| line.contains("Collected :"))?;
    line.rsplit(' ').next()?.parse().ok()
}

/// The counts as a table.
pub(super) fn render(instructions: &Instructions) -> String {
    let Instructions { agents, ticks, batch, .. } = instructions;
    let mut table = Table::new(&["part", "instructions/report"]);
    table.row(["parse: envelope, JSON".to_owned(), number(instructions.parse)]);
    table.row(["verify: MAC, without SHA instructions".to_owned(), number(instructions.verify)]);
    table.row(["store: replay, rows, commit".to_owned(), number(instructions.store)]);
    table.row(["store, later reports only".to_owned(), number(instructions.store_steady)]);
    format!("{agents} agents, {ticks} reports each, {batch} in a transaction\n{}", table.render())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found() {
        let said =
            "==7== Events    : Ir\n==7== Collected : 1234567\n==7== \n==7== I   refs:      1,234,567\n";
        assert_eq!(collected(said), Some(1_234_567));
        assert_eq!(collected("==7== killed"), None);
    }

    #[test]
    fn reports_are_written_with_their_lengths() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("reports");
        write_reports(&path, 2).unwrap();
        let bytes = fs::read(path).unwrap();
        let (mut rest, mut count) = (&bytes[..], 0);
        while let Some((len, tail)) = rest.split_first_chunk::<4>() {
            let (report, tail) = tail.split_at(u32::from_be_bytes(*len) as usize);
            proto::envelope::Envelope::parse(report).unwrap();
            (rest, count) = (tail, count + 1);
        }
        assert_eq!(count, 2 * AGENTS);
    }
}
