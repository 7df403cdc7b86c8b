//! The lab's own commands: a mesh to look at, and the demo. `lab help` names them.

use std::io::Write;
use std::process::ExitCode;

use lab::{Error, Result, bench, demo};

const HELP: &str = "\
usage: lab COMMAND (as root)

  demo    five hosts on two LANs, a full WireGuard mesh, a manager, and an agent on every host;
          prints the address to open; Ctrl-C removes all of it
  mesh    the same mesh without manager and agents; prints NAME PID FOLDER of each host, for
          nsenter -t PID -n -m -u -p
  stage   the demo's mesh for tests, worked by lines on standard input (`run HOST SCRIPT`,
          `stop HOST`, `start HOST`); ends with it
  bench   the benchmark, without root; `lab bench --help` names its modes
  help    this text
";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let done = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["demo"] => demo::run(),
        ["mesh"] => demo::mesh_only(),
        ["stage"] => demo::stage(),
        ["bench", ref options @ ..] => bench::run(options),
        ["help" | "--help" | "-help" | "-h"] => say(HELP),
        _ => {
            let _ = std::io::stderr().write_all(HELP.as_bytes());
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "lab: {error}");
            ExitCode::FAILURE
        }
    }
}

fn say(text: &str) -> Result<()> {
    std::io::stdout()
        .write_all(text.as_bytes())
        .map_err(|source| Error::Io { what: "stdout".to_owned(), source })
}
