//! The command line: the daemon, or one of its helpers.

use std::path::{Path, PathBuf};
use std::time::Duration;

use proto::ack::{self, Code};
use proto::limits::{ANSWER_MAX, manager_path};

use crate::admin::{self, ResetPayload};
use crate::clock::now_ms;
use crate::config::Config;
use crate::daemon;
use crate::error::Error;
use crate::store;

const HELP: &str = "\
kattila manager: receives, verifies, stores and shows the reports of all agents

  manager                  run the daemon
  manager -backup FILE     write a copy of the database, beside a running manager or without one
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
    /// Copy the database.
    Backup(PathBuf),
    /// Hide or show what was reported.
    Reset(ResetPayload),
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
        let help = arguments.contains(["-h", "--help"]);
        let version = arguments.contains(["-V", "--version"]);
        let backup: Option<PathBuf> = arguments.opt_value_from_str("--backup").map_err(usage)?;
        let reset: Option<String> = arguments.opt_value_from_str("--reset").map_err(usage)?;
        let undo: Option<String> = arguments.opt_value_from_str("--undo").map_err(usage)?;
        if let Some(unknown) = arguments.finish().first() {
            return Err(Error::Usage(format!("there is no argument {}", unknown.to_string_lossy())));
        }
        let payload = |target: String, undo| match target.as_str() {
            "all" => Ok(Self::Reset(ResetPayload { target, undo })),
            id if id.parse::<proto::ids::AgentId>().is_ok() => Ok(Self::Reset(ResetPayload { target, undo })),
            _ => Err(Error::Usage(format!("{target} is no agent id (32 hexadecimal digits) and not all"))),
        };
        match (help, version, backup, reset, undo) {
            (true, ..) => Ok(Self::Help),
            (_, true, None, None, None) => Ok(Self::Version),
            (_, _, Some(path), None, None) => Ok(Self::Backup(path)),
            (_, _, None, Some(target), None) => payload(target, false),
            (_, _, None, None, Some(target)) => payload(target, true),
            (_, false, None, None, None) => Ok(Self::Daemon),
            _ => Err(Error::Usage("one command at a time".to_owned())),
        }
    }

    /// Does it.
    ///
    /// # Errors
    /// Why it could not be done.
    #[expect(clippy::print_stdout, reason = "what was asked for")]
    pub fn run(self) -> Result<(), Error> {
        match self {
            Self::Help => print!("{HELP}"),
            Self::Version => println!("manager {}", env!("CARGO_PKG_VERSION")),
            Self::Daemon => daemon::run(&Config::load()?)?,
            Self::Backup(target) => {
                let database = Config::load()?.database;
                require(&database)?;
                store::backup(&database, &target)?;
                println!("{} written", target.display());
            }
            Self::Reset(payload) => println!("{}", reset(&Config::load()?, &payload)?),
        }
        Ok(())
    }
}

fn require(database: &Path) -> Result<(), Error> {
    std::fs::metadata(database)
        .map(|_| ())
        .map_err(|error| Error::Io(format!("DATABASE={}", database.display()), error))
}

/// Has the running manager do a reset; returns what it answered.
fn reset(config: &Config, payload: &ResetPayload) -> Result<String, Error> {
    let secret = config.admin_secret()?.ok_or_else(|| {
        Error::Call("a reset needs ADMIN_SECRET_FILE, the same file that the manager runs with".to_owned())
    })?;
    let random = |_| Error::Call("the kernel gives no random numbers yet".to_owned());
    let sealed = admin::seal(payload, &secret, now_ms()).map_err(random)?;
    let url = format!("http://127.0.0.1:{}{}", config.listen.port(), manager_path::ADMIN_RESET);
    let (status, body) = post(&url, &sealed.bytes)?;
    let Ok(answer) = ack::open(&body, sealed.nonce, &sealed.mac, &secret) else {
        let body = String::from_utf8_lossy(&body);
        return Err(Error::Call(format!("{url} answered {status}: {}", body.trim())));
    };
    match answer.code {
        Code::Done => Ok(answer.details.message),
        code => Err(Error::Call(format!("{url} answered {code}: {}", answer.details.message))),
    }
}

fn post(url: &str, bytes: &[u8]) -> Result<(u16, Vec<u8>), Error> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(20)))
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .build()
        .into();
    let failed = |error: ureq::Error| Error::Call(format!("{url}: {error}; is the manager running?"));
    let mut answer = agent.post(url).send(bytes).map_err(failed)?;
    let limit = u64::try_from(ANSWER_MAX).unwrap_or(u64::MAX);
    let body = answer.body_mut().with_config().limit(limit).read_to_vec().map_err(failed)?;
    Ok((answer.status().as_u16(), body))
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
    }

    #[test]
    fn wrong_use_is_named() {
        assert_eq!(parse(&["-resett"]), Err("there is no argument --resett; see manager -help".into()));
        assert!(parse(&["-reset", "router"]).unwrap_err().contains("router is no agent id"));
        assert!(parse(&["-reset"]).is_err());
        assert!(parse(&["-reset", "all", "-backup", "x"]).unwrap_err().contains("one command at a time"));
    }
}
