//! The manager's program.

use std::process::ExitCode;

use kattila_manager::cli::Command;

fn main() -> ExitCode {
    match Command::parse(std::env::args().skip(1).collect()).and_then(Command::run) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("manager: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
