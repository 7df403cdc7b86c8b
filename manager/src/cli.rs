//! The command line: the daemon, or one of its helpers.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use proto::ack::{self, Code};
use proto::limits::manager_path;
use proto::sign::Kind;
use serde::Serialize;

use crate::admin::{self, ResetPayload};
use crate::alarm::admin::{AckPayload, SilencePayload};
use crate::call;
use crate::check;
use crate::clock::now_ms;
use crate::config::Config;
use crate::daemon;
use crate::enroll;
use crate::error::Error;
use crate::status;
use crate::store;

/// How long the running manager may take to answer.
const TIMEOUT: Duration = Duration::from_secs(20);

const HELP: &str = "\
kattila manager: receives, verifies, stores and shows the reports of all agents

  manager                  run the daemon
  manager -status [URL]    show agents, links and alarms of the running manager, what is wrong first (exit code
                           0: well; 1: it cannot be asked; 3: a critical alarm fires or the manager fails);
                           -watch redraws every 3 s until Ctrl-C, -json prints all that the API says
  manager -check           look at settings, PSK, database, disk, port and the running manager; each line is
                           ok or says what to do (exit code 0: nothing failed; 1: something did; 2: settings)
  manager -enroll [HOST]   print the line that brings a node in, with this manager's address or HOST
  manager -backup FILE     write a copy of the database, beside a running manager or without one
  manager -ack NUMBER      mark an alarm as known (needs ADMIN_SECRET_FILE)
  manager -silence CODE|ID DURATION
                           do not tell alarms of a code or an agent for 30m, 2h, 1d; 0 lifts it
  manager -reset ID|all    hide what an agent, or all, reported so far (needs ADMIN_SECRET_FILE)
  manager -undo ID|all     show it again
  manager -version         print the version
  manager -help            print this

Settings come from .env in the working directory and from the environment; see README.md.
";

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Run the daemon.
    Daemon,
    /// Show what the running manager at this URL, or on this host, knows.
    Status(Option<String>, status::Options),
    /// Look whether all is well.
    Check,
    /// Print the line that brings a node in; with the host by which nodes know the manager.
    Enroll(Option<String>),
    /// Copy the database.
    Backup(PathBuf),
    /// Hide or show what was reported.
    Reset(ResetPayload),
    /// Mark an alarm as known.
    Ack(AckPayload),
    /// Keep alarms from being told.
    Silence(SilencePayload),
    /// Print the version.
    Version,
    /// Print the help.
    Help,
}

impl Command {
    /// Understands the arguments, the program's name left out. Long options may have one dash or two.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(arguments: Vec<String>) -> Result<Self, Error> {
        let two_dashes = |argument: String| match argument.strip_prefix('-') {
            Some(name) if name.len() > 1 && !name.starts_with('-') => format!("-{argument}"),
            _ => argument,
        };
        let arguments = arguments.into_iter().map(|argument| two_dashes(argument).into()).collect();
        let mut arguments = pico_args::Arguments::from_vec(arguments);
        let usage = |error: pico_args::Error| Error::Usage(error.to_string());
        let mut commands = Vec::new();
        for (names, command) in [(["-h", "--help"], Self::Help), (["-V", "--version"], Self::Version)] {
            if arguments.contains(names) {
                commands.push(command);
            }
        }
        if arguments.contains("--check") {
            commands.push(Self::Check);
        }
        let backup = arguments.opt_value_from_str("--backup").map_err(usage)?;
        commands.extend(backup.map(Self::Backup));
        for (name, undo) in [("--reset", false), ("--undo", true)] {
            if let Some(target) = arguments.opt_value_from_str(name).map_err(usage)? {
                commands.push(reset(target, undo)?);
            }
        }
        let ack = arguments.opt_value_from_str("--ack").map_err(usage)?;
        commands.extend(ack.map(|alarm| Self::Ack(AckPayload { alarm })));
        if let Some(target) = arguments.opt_value_from_str("--silence").map_err(usage)? {
            let duration: String = arguments.free_from_str().map_err(usage)?;
            let for_s = seconds(&duration).ok_or_else(|| {
                Error::Usage(format!("{duration} is no duration: 90s, 30m, 2h, 1d, or 0 to lift the silence"))
            })?;
            commands.push(Self::Silence(SilencePayload { target, for_s }));
        }
        let options =
            status::Options { watch: arguments.contains("--watch"), json: arguments.contains("--json") };
        if arguments.contains("--status") {
            let url: Option<String> = arguments.opt_free_from_str().map_err(usage)?;
            if let Some(url) = url.as_ref().filter(|url| !url.starts_with("http://")) {
                return Err(Error::Usage(format!("{url} is no URL: http://HOST[:PORT]")));
            }
            commands.push(Self::Status(url, options));
        } else if options != status::Options::default() {
            return Err(Error::Usage("-watch and -json belong to -status".to_owned()));
        }
        if arguments.contains("--enroll") {
            commands.push(Self::Enroll(arguments.opt_free_from_str().map_err(usage)?));
        }
        if let Some(unknown) = arguments.finish().first() {
            return Err(Error::Usage(format!("there is no argument {}", unknown.to_string_lossy())));
        }
        match commands.len() {
            0 => Ok(Self::Daemon),
            1 => Ok(commands.remove(0)),
            _ => Err(Error::Usage("one command at a time".to_owned())),
        }
    }

    /// Does it.
    ///
    /// # Errors
    /// Why it could not be done.
    #[expect(clippy::print_stdout, reason = "what was asked for")]
    pub fn run(self) -> Result<ExitCode, Error> {
        match self {
            Self::Status(url, options) => {
                let config = Config::load()?;
                let url = url.unwrap_or_else(|| check::own_url(&config, ""));
                return Ok(ExitCode::from(status::run(&url, config.read_token()?.as_ref(), options)?));
            }
            Self::Check => {
                let found = check::run();
                println!("{found}");
                return Ok(ExitCode::from(found.exit_code()));
            }
            Self::Enroll(host) => {
                let own = enroll::own_addresses()?;
                print!("{}", enroll::text(&Config::load()?, host.as_deref(), &own)?);
            }
            Self::Help => print!("{HELP}"),
            Self::Version => println!("manager {}", env!("CARGO_PKG_VERSION")),
            Self::Daemon => daemon::run(&Config::load()?)?,
            Self::Backup(target) => {
                let database = Config::load()?.database;
                require(&database)?;
                store::backup(&database, &target)?;
                println!("{} written", target.display());
            }
            Self::Reset(payload) => {
                println!("{}", order(&Config::load()?, Kind::Reset, manager_path::ADMIN_RESET, &payload)?);
            }
            Self::Ack(payload) => {
                println!("{}", order(&Config::load()?, Kind::Alarm, manager_path::ALARM_ACK, &payload)?);
            }
            Self::Silence(payload) => {
                println!("{}", order(&Config::load()?, Kind::Alarm, manager_path::ALARM_SILENCE, &payload)?);
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn reset(target: String, undo: bool) -> Result<Command, Error> {
    if target != "all" && target.parse::<proto::ids::AgentId>().is_err() {
        return Err(Error::Usage(format!("{target} is no agent id (32 hexadecimal digits) and not all")));
    }
    Ok(Command::Reset(ResetPayload { target, undo }))
}

fn require(database: &Path) -> Result<(), Error> {
    std::fs::metadata(database)
        .map(|_| ())
        .map_err(|error| Error::Io(format!("DATABASE={}", database.display()), error))
}

/// `90s`, `30m`, `2h`, `1d` or `0` in seconds.
fn seconds(text: &str) -> Option<i64> {
    if text == "0" {
        return Some(0);
    }
    let unit = match text.chars().next_back()? {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return None,
    };
    let count: u32 = text[..text.len() - 1].parse().ok()?;
    Some(i64::from(count) * unit)
}

/// Has the running manager carry out an admin's order; returns what it answered.
fn order(config: &Config, kind: Kind, path: &str, payload: &impl Serialize) -> Result<String, Error> {
    let secret = config.admin_secret()?.ok_or_else(|| {
        Error::Call("this needs ADMIN_SECRET_FILE, the same file that the manager runs with".to_owned())
    })?;
    let random = |_| Error::Call("the kernel gives no random numbers yet".to_owned());
    let json = serde_json::to_vec(payload).expect("plain data");
    let sealed = admin::seal_order(kind, &json, &secret, now_ms()).map_err(random)?;
    let url = check::own_url(config, path);
    let (status, body) = call::post(&url, &sealed.bytes, &[], TIMEOUT, &call::Authorities::default())
        .map_err(|why| Error::Call(format!("{url}: {why}; is the manager running?")))?;
    let Ok(answer) = ack::open(&body, sealed.nonce, &sealed.mac, &secret) else {
        let body = String::from_utf8_lossy(&body);
        return Err(Error::Call(format!("{url} answered {status}: {}", body.trim())));
    };
    match answer.code {
        Code::Done => Ok(answer.details.message),
        code => Err(Error::Call(format!("{url} answered {code}: {}", answer.details.message))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Command, String> {
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Command::parse(arguments).map_err(|error| error.to_string())
    }

    #[test]
    fn one_dash_is_as_good_as_two() {
        assert_eq!(parse(&[]), Ok(Command::Daemon));
        assert_eq!(parse(&["-version"]), Ok(Command::Version));
        assert_eq!(parse(&["--version"]), parse(&["-V"]));
        assert_eq!(parse(&["-backup", "x.db"]), Ok(Command::Backup("x.db".into())));
        let all = ResetPayload { target: "all".into(), undo: true };
        assert_eq!(parse(&["-undo", "all"]), Ok(Command::Reset(all)));
        assert_eq!(parse(&["-enroll"]), Ok(Command::Enroll(None)));
        assert_eq!(parse(&["-enroll", "vpn.example"]), Ok(Command::Enroll(Some("vpn.example".into()))));
        let silence = SilencePayload { target: "MTU_MISMATCH".into(), for_s: 1800 };
        assert_eq!(parse(&["-silence", "MTU_MISMATCH", "30m"]), Ok(Command::Silence(silence)));
        let json = status::Options { watch: false, json: true };
        assert_eq!(parse(&["-status", "-json"]), Ok(Command::Status(None, json)));
        let watch = status::Options { watch: true, json: false };
        let url = "http://10.9.0.1:5086";
        assert_eq!(parse(&["-watch", "-status", url]), Ok(Command::Status(Some(url.into()), watch)));
        assert_eq!(parse(&["-ack", "7"]), Ok(Command::Ack(AckPayload { alarm: 7 })));
    }

    #[test]
    fn wrong_use_is_named() {
        assert_eq!(parse(&["-resett"]), Err("there is no argument --resett; see manager -help".into()));
        assert!(parse(&["-reset", "router"]).unwrap_err().contains("router is no agent id"));
        assert!(parse(&["-reset"]).is_err());
        assert!(parse(&["-status", "-colour"]).unwrap_err().contains("--colour is no URL"));
        assert!(parse(&["-json"]).unwrap_err().contains("belong to -status"));
        assert!(parse(&["-check", "-ack", "7"]).unwrap_err().contains("one command at a time"));
        assert!(parse(&["-reset", "all", "-backup", "x"]).unwrap_err().contains("one command at a time"));
    }
}
