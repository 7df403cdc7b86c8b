//! The command line.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use gate::LogTo;
use log::LevelFilter;
use proto::ids::{BootId, Nonce};
use proto::limits;
use proto::psk;
use proto::report::Source;

use crate::basis::Form;
use crate::clock::Moment;
use crate::collect::{self, Sources};
use crate::config::{self, Config};
use crate::discover::{self, Summary, Targets};
use crate::message::Message;
use crate::pretty::pretty;
use crate::push::Client;
use crate::{atomic, check, daemon, identity, order, report};

const HELP: &str = "\
Reads this host's network and reports it to the manager.

USAGE: agent [COMMAND]

Without a command it runs until SIGTERM or SIGINT. Commands, with one dash or two:

  -sysinfo      print everything that a report holds, as JSON
  -dump FILE    write one signed message, exactly as it would be sent; - is stdout
  -discover     ask the addresses in WireGuard's AllowedIPs which of them run an agent
                (exit code 0: at least one; 1: none; 2: error)
  -check        look at settings, PSK, port, WireGuard, manager and clock; each line is ok or says
                what to do (exit code 0: nothing failed; 1: something did; 2: wrong settings)
  -reset        make the agent on this host forget everything and take a new id
                (needs ADMIN_SECRET_FILE)
  -version      print the version
  -help         print this

Settings come from the environment and from .env in the working directory: DNS, PSK_FILE
or PSK, MANAGER_URL, and more; the README has them all.";

/// The agent's name in the log of its host.
const NAME: &str = "kattila-agent";
/// How long -dump may wait for DNS.
const PSK_TIME: Duration = Duration::from_secs(10);

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Command {
    Run,
    SysInfo,
    Dump(PathBuf),
    Discover,
    Check,
    Reset,
    Version,
    Help,
}

/// Why the program ends without having done it, and with which exit code.
#[derive(Debug)]
struct Failure {
    code: u8,
    message: String,
}

/// Exit code of a wrong command line or wrong settings.
const USAGE: u8 = 2;

fn wrong(message: impl fmt::Display) -> Failure {
    Failure { code: USAGE, message: message.to_string() }
}

fn failed(message: impl fmt::Display) -> Failure {
    Failure { code: 1, message: message.to_string() }
}

/// The whole program.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = std::env::args_os().skip(1).collect();
    let done = parse(arguments).map_err(wrong).and_then(execute);
    done.unwrap_or_else(|failure| {
        // Nobody to tell when stderr is gone.
        let _ = writeln!(io::stderr(), "agent: {}", failure.message);
        ExitCode::from(failure.code)
    })
}

fn parse(arguments: Vec<OsString>) -> Result<Command, String> {
    let mut arguments = pico_args::Arguments::from_vec(arguments.into_iter().map(two_dashes).collect());
    let mut commands = Vec::new();
    for (name, command) in [
        ("--help", Command::Help),
        ("--version", Command::Version),
        ("--sysinfo", Command::SysInfo),
        ("--discover", Command::Discover),
        ("--check", Command::Check),
        ("--reset", Command::Reset),
    ] {
        if arguments.contains(name) {
            commands.push(command);
        }
    }
    let path = |text: &std::ffi::OsStr| Ok::<_, String>(PathBuf::from(text));
    let dump = arguments.opt_value_from_os_str("--dump", path);
    let dump = dump.map_err(|_| "-dump needs a file to write to, or - for stdout".to_owned())?;
    commands.extend(dump.map(Command::Dump));
    if let Some(unknown) = arguments.finish().first() {
        return Err(format!("there is no argument {}; try agent -help", unknown.to_string_lossy()));
    }
    match commands.len() {
        0 => Ok(Command::Run),
        1 => Ok(commands.remove(0)),
        _ => Err("one command at a time; try agent -help".to_owned()),
    }
}

/// `-sysinfo` is documented; pico-args knows `--sysinfo`.
fn two_dashes(argument: OsString) -> OsString {
    match argument.to_str() {
        Some("-h") => "--help".into(),
        Some("-V") => "--version".into(),
        Some(text) if text.len() > 2 && text.starts_with('-') && !text.starts_with("--") => {
            format!("-{text}").into()
        }
        _ => argument,
    }
}

fn execute(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Help => print(HELP),
        Command::Version => print(concat!("agent ", env!("CARGO_PKG_VERSION"))),
        Command::SysInfo => sysinfo(),
        Command::Discover => discover(),
        Command::Dump(path) => dump(&path),
        Command::Check => {
            let found = check::run();
            print(&found.to_string())?;
            Ok(ExitCode::from(found.exit_code()))
        }
        Command::Reset => reset(),
        Command::Run => {
            let config = config()?;
            gate::start_log(config.log_to, config.log_level, NAME).map_err(failed)?;
            daemon::run(config).map_err(failed)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn sysinfo() -> Result<ExitCode, Failure> {
    let settings = config::read_settings().map_err(wrong)?;
    start_log(config::log_level(&settings).map_err(wrong)?)?;
    let interval = config::interval(&settings).map_err(wrong)?;
    let sources = Sources::system();
    let now = Moment::now();
    let (system, problems) = collect::collect(&sources, SystemTime::now());
    let mut report = report::new(system, problems, collect::hardware_id(&sources), interval);
    report.observed_at = now.wall;
    let json = String::from_utf8(report::json_of(&report)).map_err(failed)?;
    print(&pretty(&json))
}

fn dump(path: &Path) -> Result<ExitCode, Failure> {
    let config = config()?;
    start_log(config.log_level)?;
    let sources = Sources::system();
    let hardware = collect::hardware_id(&sources);
    let (agent, _) = identity::load_or_create(&config.state_dir, &hardware).map_err(failed)?;
    let secret = config.psk.read(PSK_TIME).map_err(failed)?;
    let now = Moment::now();
    let (system, problems) = collect::collect(&sources, SystemTime::now());
    let mut report = report::new(system, problems, hardware, config.interval);
    report.observed_at = now.wall;
    let (boot, nonce) = (BootId::random().map_err(failed)?, Nonce::random().map_err(failed)?);
    let json = report::to_json(&mut report);
    let message = Message::report(boot, 1, nonce, json, now, report.observed_at);
    let sealed = message.seal(agent, &secret, &Form::whole(&message.json), Moment::now().wall);
    write_dump(path, &sealed.bytes).map_err(|error| failed(format!("{}: {error}", path.display())))?;
    Ok(ExitCode::SUCCESS)
}

/// A regular file is replaced whole; a pipe or a device is written to.
fn write_dump(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if path == Path::new("-") {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes)?;
        return stdout.flush();
    }
    match fs::metadata(path) {
        Ok(there) if !there.is_file() => OpenOptions::new().write(true).open(path)?.write_all(bytes),
        _ => atomic::write(path, bytes, atomic::PUBLIC),
    }
}

fn discover() -> Result<ExitCode, Failure> {
    let settings = config::read_settings().map_err(wrong)?;
    start_log(config::log_level(&settings).map_err(wrong)?)?;
    let (system, problems) = collect::collect(&Sources::system(), SystemTime::now());
    if system.wireguard_source == Source::None {
        let why = problems.iter().find(|problem| problem.source == "wg");
        let why = why.map_or("nothing was said", |problem| problem.message.as_str());
        return Err(wrong(format!("cannot ask WireGuard: {why}")));
    }
    let targets = Targets::of(&system);
    let found = discover::probe_all(&Client::new(), &targets.addresses, limits::AGENT_PORT)
        .map_err(|error| wrong(format!("cannot start a thread: {error}")))?;
    print(&Summary { found: &found, targets: &targets }.to_string())?;
    Ok(ExitCode::from(u8::from(found.is_empty())))
}

fn reset() -> Result<ExitCode, Failure> {
    let settings = config::read_settings().map_err(wrong)?;
    start_log(config::log_level(&settings).map_err(wrong)?)?;
    let path = settings.get("ADMIN_SECRET_FILE").ok_or_else(|| {
        wrong("ADMIN_SECRET_FILE is not set: name the file (mode 0600) with the secret that resets are signed with")
    })?;
    let admin = psk::read_secret_file(Path::new(path)).map_err(wrong)?;
    let endpoint = config::own_endpoint(config::listen(&settings).map_err(wrong)?);
    let (before, after) = order::reset(endpoint, &admin).map_err(failed)?;
    match after {
        Some(after) => print(&format!("agent {before} has forgotten everything and is now {after}")),
        None => print(&format!("agent {before} has forgotten everything")),
    }
}

fn config() -> Result<Config, Failure> {
    let settings = config::read_settings().map_err(wrong)?;
    Config::new(&settings).map_err(wrong)
}

/// A command's log, for whoever gave it: on stderr.
fn start_log(level: LevelFilter) -> Result<(), Failure> {
    gate::start_log(LogTo::Stderr, level, NAME).map_err(failed)
}

fn print(text: &str) -> Result<ExitCode, Failure> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(failed(format!("stdout: {error}"))),
        // Whoever read has seen enough.
        _ => Ok(ExitCode::SUCCESS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(arguments: &[&str]) -> Result<Command, String> {
        parse(arguments.iter().map(OsString::from).collect())
    }

    #[test]
    fn commands_are_known_with_one_dash_and_with_two() {
        assert_eq!(command(&[]), Ok(Command::Run));
        for (name, expected) in [
            ("sysinfo", Command::SysInfo),
            ("discover", Command::Discover),
            ("check", Command::Check),
            ("reset", Command::Reset),
            ("version", Command::Version),
            ("help", Command::Help),
        ] {
            assert_eq!(command(&[&format!("-{name}")]), Ok(expected.clone()));
            assert_eq!(command(&[&format!("--{name}")]), Ok(expected));
        }
        for dash in ["-dump", "--dump"] {
            assert_eq!(command(&[dash, "-"]), Ok(Command::Dump("-".into())));
            assert_eq!(command(&[dash, "/tmp/x"]), Ok(Command::Dump("/tmp/x".into())));
        }
        assert_eq!((command(&["-h"]), command(&["-V"])), (Ok(Command::Help), Ok(Command::Version)));
    }

    #[test]
    fn what_is_unknown_or_too_much_is_named_with_a_hint() {
        for (arguments, expected) in [
            (&["-sysinfos"][..], "there is no argument --sysinfos; try agent -help"),
            (&["start"], "there is no argument start; try agent -help"),
            (&["-dump"], "-dump needs a file"),
            (&["-sysinfo", "-discover"], "one command at a time"),
            (&["-sysinfo", "extra"], "there is no argument extra"),
        ] {
            let error = command(arguments).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn a_dump_replaces_files_and_writes_to_devices() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dump");
        write_dump(&path, b"one").unwrap();
        write_dump(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        write_dump(Path::new("/dev/null"), b"three").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
        assert!(write_dump(Path::new("/nonexistent/dump"), b"x").is_err());
    }
}
