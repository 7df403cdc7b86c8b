//! What `lab bench` was asked to do.

use std::time::Duration;

use crate::{Error, Result};

/// How to use it.
pub(super) const HELP: &str = "\
usage: lab bench [MODE] [OPTION...]

MODE (default: the manager saturated and paced, the gate alone, the Python baseline; two minutes)
  --steady        one fleet at its pace for long, with readers, then a restart
  --grow          memory per further agent
  --callgrind     instructions per report in the store, under valgrind
  --plan          30 days planned from a million reports in the store, reads of the past, retention (minutes)
  --agent         what the agent costs its host, in network namespaces (as root; about 6 minutes)

OPTION
  --agents N      agents of the fleet (1000; 100000 for --steady, 2000 further ones for --grow)
  --clients N     client threads (64)
  --seconds N     length of the saturated run, and of the paced one if over 30 (10; 600 for --steady)
  --reports N     reports of --plan (1000000)
  --rate N        reports per second of the paced run (333; 3333 for --steady)
  --turns N       turns of the agent at its interval (200)
  --interval N    seconds between them (1)
  --many-turns N  turns without waiting between them, for memory (2000)
  --no-baseline   without the Python baseline
  --help          this text

KATTILA_BIN_DIR names another folder of the binaries under test.
";

/// Which figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Servers side by side.
    Compare,
    /// A fleet at its pace, for long.
    Steady,
    /// Memory per further agent.
    Grow,
    /// Instructions in the store.
    Callgrind,
    /// 30 days by extrapolation.
    Plan,
    /// The agent on its host.
    Agent,
    /// How to use it.
    Help,
}

/// The options, with the defaults of the mode.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Options {
    /// Which figures.
    pub(super) mode: Mode,
    /// Agents of the fleet.
    pub(super) agents: u32,
    /// Client threads.
    pub(super) clients: u32,
    /// Length of a run.
    pub(super) time: Duration,
    /// Reports per second where there is a pace.
    pub(super) rate: f64,
    /// Reports that a plan is made from.
    pub(super) reports: u32,
    /// Turns of the agent at its interval.
    pub(super) turns: u64,
    /// That interval (s).
    pub(super) interval_s: u32,
    /// Turns of the agent without waiting between them.
    pub(super) many_turns: u64,
    /// Whether the Python baseline runs too.
    pub(super) baseline: bool,
}

impl Options {
    /// Understands the arguments behind `lab bench`.
    ///
    /// # Errors
    /// Names the argument and what is allowed.
    pub(super) fn parse(arguments: &[&str]) -> Result<Self> {
        let mut mode = Mode::Compare;
        let mut baseline = true;
        let (mut agents, mut clients, mut seconds, mut rate) = (None, None, None, None);
        let (mut turns, mut interval, mut many_turns, mut reports) = (None, None, None, None);
        let mut arguments = arguments.iter();
        while let Some(&argument) = arguments.next() {
            let mut number = |max: u32| {
                let value = arguments.next().copied().unwrap_or_default();
                let number = value.parse().ok().filter(|number| (1..=max).contains(number));
                number.map(Some).ok_or_else(|| wrong(argument, value, max))
            };
            match argument {
                "--steady" => mode = Mode::Steady,
                "--grow" => mode = Mode::Grow,
                "--callgrind" => mode = Mode::Callgrind,
                "--plan" => mode = Mode::Plan,
                "--agent" => mode = Mode::Agent,
                "--help" | "-help" | "-h" => mode = Mode::Help,
                "--no-baseline" => baseline = false,
                "--agents" => agents = number(200_000)?,
                "--clients" => clients = number(1000)?,
                "--seconds" => seconds = number(86_400)?,
                "--reports" => reports = number(100_000_000)?,
                "--turns" => turns = number(1_000_000)?,
                "--interval" => interval = number(3600)?,
                "--many-turns" => many_turns = number(1_000_000)?,
                "--rate" => rate = number(1_000_000)?,
                unknown => {
                    return Err(Error::Plan(format!("there is no option {unknown}; see lab bench --help")));
                }
            }
        }
        let steady = mode == Mode::Steady;
        let default_agents = match mode {
            Mode::Steady => 100_000,
            Mode::Grow => 2_000,
            _ => 1_000,
        };
        Ok(Self {
            mode,
            agents: agents.unwrap_or(default_agents),
            clients: clients.unwrap_or(64),
            time: Duration::from_secs(seconds.unwrap_or(if steady { 600 } else { 10 }).into()),
            rate: rate.unwrap_or(if steady { 3333 } else { 333 }).into(),
            reports: reports.unwrap_or(1_000_000),
            turns: turns.unwrap_or(200).into(),
            interval_s: interval.unwrap_or(1),
            many_turns: many_turns.unwrap_or(2000).into(),
            baseline,
        })
    }
}

fn wrong(argument: &str, value: &str, max: u32) -> Error {
    Error::Plan(format!("{argument} {value}: expected a whole number from 1 to {max}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mode_has_its_defaults() {
        let options = Options::parse(&[]).unwrap();
        assert_eq!((options.mode, options.agents, options.clients), (Mode::Compare, 1000, 64));
        let options = Options::parse(&["--steady", "--seconds", "5"]).unwrap();
        assert_eq!((options.agents, options.rate, options.time.as_secs()), (100_000, 3333.0, 5));
        assert!(!Options::parse(&["--no-baseline", "--rate", "7"]).unwrap().baseline);
    }

    #[test]
    fn wrong_use_is_named() {
        let error = |arguments: &[&str]| Options::parse(arguments).unwrap_err().to_string();
        assert!(error(&["--agnets", "5"]).contains("--agnets"));
        assert_eq!(error(&["--agents", "0"]), "--agents 0: expected a whole number from 1 to 200000");
        assert!(error(&["--rate"]).starts_with("--rate : expected"));
    }
}
