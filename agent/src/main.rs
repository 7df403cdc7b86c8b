//! The agent: reads this host and reports it to the manager.

use std::process::ExitCode;

fn main() -> ExitCode {
    kattila_agent::cli::main()
}
