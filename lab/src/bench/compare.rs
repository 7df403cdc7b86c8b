//! The default run: the manager saturated and at a pace, the gate alone, and the Python baseline.

use std::path::Path;
use std::time::Duration;

use super::fleet::Fleet;
use super::load::{Load, Progress, Until};
use super::measure::{Row, measure, ratio};
use super::options::Options;
use super::say;
use super::server::{Kind, Server};
use crate::Result;

/// The gate and the baseline need less time for a steady figure than the manager with its disk.
const SHORT: Duration = Duration::from_secs(6);

/// Clients of the Python baseline: about where it is fastest. With more of them its threads mostly
/// sleep until SQLite's lock is free: with 16 or 64 it did about a third less.
const BASELINE_CLIENTS: u32 = 4;

/// Runs all servers one after the other.
///
/// # Errors
/// When one does not run. A baseline that cannot be set up is said and left out.
pub(super) fn run(options: &Options, dir: &Path) -> Result<Vec<Row>> {
    let mut rows = manager(options, &dir.join("manager"))?;
    rows.push(other(Kind::Echo, options, dir)?);
    if options.baseline {
        for kind in [Kind::Flask, Kind::Gunicorn] {
            match other(kind, options, dir) {
                Ok(row) => rows.push(row),
                Err(error) => say(&format!("{} is left out: {error}\n", kind.name()))?,
            }
        }
    }
    Ok(rows)
}

/// A paced run lasts at least as long as a fleet takes for one round of reports: what a start costs, as the first
/// look at all hosts for alarms, is then a share of it as in life and not a quarter.
const INTERVAL: Duration = Duration::from_secs(30);

/// The manager three times on one database: first contacts, whose rows the later sizes are counted
/// without; saturated; at a pace.
fn manager(options: &Options, dir: &Path) -> Result<Vec<Row>> {
    let fleet = Fleet::new(options.agents, false)?;
    let server = Server::start(Kind::Manager, dir)?;
    warm(&server, options, &fleet, 2)?;
    let small = server.stop()?;

    let server = Server::start(Kind::Manager, dir)?;
    let warmed = warm(&server, options, &fleet, 1)?;
    let (mut saturated, _) = measure(&server, &load(&server, options), &fleet)?;
    let grown = server.stop()?.saturating_sub(small);
    saturated.database = Some(ratio(grown, warmed + saturated.reports));

    let server = Server::start(Kind::Manager, dir)?;
    warm(&server, options, &fleet, 1)?;
    let time = options.time.max(INTERVAL);
    let paced =
        Load { rate: Some(options.rate), until: Until::Time(time), window: time, ..load(&server, options) };
    let (paced, _) = measure(&server, &paced, &fleet)?;
    server.stop()?;
    Ok(vec![saturated, paced])
}

/// Another server, saturated.
fn other(kind: Kind, options: &Options, dir: &Path) -> Result<Row> {
    let fleet = Fleet::new(options.agents, matches!(kind, Kind::Flask | Kind::Gunicorn))?;
    let server = Server::start(kind, &dir.join(kind.name()))?;
    let most = if kind == Kind::Echo { u32::MAX } else { BASELINE_CLIENTS };
    let options = Options { clients: options.clients.min(most), ..*options };
    let warmed = warm(&server, &options, &fleet, 1)?;
    let until = Until::Time(options.time.min(SHORT));
    let (mut row, _) = measure(&server, &Load { until, ..load(&server, &options) }, &fleet)?;
    let size = server.stop()?;
    if kind != Kind::Echo {
        row.database = Some(ratio(size, warmed + row.reports));
    }
    Ok(row)
}

/// Has every agent report `rounds` times; gives how many got through.
///
/// # Errors
/// When the load cannot run.
pub(super) fn warm(server: &Server, options: &Options, fleet: &Fleet, rounds: u32) -> Result<u64> {
    let until = Until::Rounds(rounds);
    Ok(Load { until, ..load(server, options) }.run(fleet, &Progress::default())?.reports)
}

/// The load that the options ask for, saturated.
pub(super) fn load(server: &Server, options: &Options) -> Load {
    Load {
        address: server.address,
        path: server.kind.path(),
        agents: 0..options.agents,
        clients: options.clients,
        rate: None,
        until: Until::Time(options.time),
        expect: server.kind.expect(),
        window: options.time,
    }
}
