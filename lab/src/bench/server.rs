//! The servers that are compared, each started in a folder of its own.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::account::Account;
use super::client::Client;
use super::fleet::PSK;
use super::load::Expect;
use crate::{Error, Result, bin};

/// Ports are searched from here: below those that the kernel gives to outgoing connections
/// (`ip_local_port_range` begins at 32768), which may hold a port when the server returns to it.
const PORTS: std::ops::Range<u16> = 21_000..31_000;
/// How long a server may take to start; a manager reads its whole fleet.
const STARTS_WITHIN: Duration = Duration::from_secs(300);
/// How long it may take to end: a manager writes its log back into the database.
const ENDS_WITHIN: Duration = Duration::from_secs(120);

/// What the shipped services set for the manager: two heaps for all its threads.
pub(super) const HEAPS: (&str, &str) = ("MALLOC_ARENA_MAX", "2");

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The manager under test, with its default settings, as the shipped services start it.
    Manager,
    /// `gate/examples/echo`: what HTTP alone costs.
    Echo,
    /// The Python baseline on Flask's threaded server.
    Flask,
    /// The Python baseline under gunicorn with two workers.
    Gunicorn,
}

impl Kind {
    /// Its name in the table.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Manager => "manager",
            Self::Echo => "gate echo",
            Self::Flask => "flask",
            Self::Gunicorn => "gunicorn -w 2",
        }
    }

    /// Where reports are posted.
    pub(super) fn path(self) -> &'static str {
        if self == Self::Echo { "/echo" } else { proto::limits::manager_path::UPDATES }
    }

    /// What it answers.
    pub(super) fn expect(self) -> Expect {
        if self == Self::Echo { Expect::Echo } else { Expect::Stored }
    }

    fn health_path(self) -> &'static str {
        if self == Self::Echo { "/ok" } else { proto::limits::manager_path::HEALTHCHECK }
    }

    fn command(self, address: SocketAddr, database: &Path) -> Result<Command> {
        let script = baseline().join("manager.py");
        let mut command = match self {
            Self::Manager => dying_with_us(&bin("manager")?),
            Self::Echo => dying_with_us(&bin("examples/echo")?),
            Self::Flask => dying_with_us(&venv("python")?),
            Self::Gunicorn => dying_with_us(&venv("gunicorn")?),
        };
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("PSK", PSK);
        command.env("DATABASE", database).env("PYTHONDONTWRITEBYTECODE", "1");
        match self {
            Self::Manager => command.env("MANAGER_LISTEN", address.to_string()).env(HEAPS.0, HEAPS.1),
            Self::Echo => command.arg(address.to_string()),
            Self::Flask => command.env("PORT", address.port().to_string()).arg(script),
            Self::Gunicorn => command
                .args(["-w", "2", "--log-level", "error", "-b"])
                .arg(address.to_string())
                .arg("--chdir")
                .arg(baseline())
                .arg("manager:app"),
        };
        Ok(command)
    }
}

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Server {
    /// Which one.
    pub(super) kind: Kind,
    /// Where it listens.
    pub(super) address: SocketAddr,
    dir: PathBuf,
    child: Child,
}

impl Server {
    /// Starts one in `dir`, which may hold the database of an earlier run, and waits until it is well.
    ///
    /// # Errors
    /// What is missing, or what it said when it did not start.
    pub(super) fn start(kind: Kind, dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).map_err(Error::io(dir.display().to_string()))?;
        let address = free_address()?;
        let log = dir.join("log");
        let file = File::options().create(true).append(true).open(&log);
        let file = file.map_err(Error::io(log.display().to_string()))?;
        let child = kind
            .command(address, &database(dir))?
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(file.try_clone().map_err(Error::io(log.display().to_string()))?)
            .stderr(file)
            .spawn()
            .map_err(Error::io(kind.name()))?;
        let mut server = Self { kind, address, dir: dir.to_owned(), child };
        server.await_health(|_| true)?;
        Ok(server)
    }

    /// Waits until the health check answers 200 with a body that `is_enough`.
    ///
    /// # Errors
    /// What it said when it ended, or that it takes too long.
    pub(super) fn await_health(&mut self, is_enough: impl Fn(&[u8]) -> bool) -> Result<()> {
        let start = Instant::now();
        let mut client = Client::new(self.address);
        while start.elapsed() < STARTS_WITHIN {
            if let Ok(answer) = client.get(self.kind.health_path())
                && answer.status == 200
                && is_enough(answer.body)
            {
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                let said = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
                let said = said.lines().last().unwrap_or_default();
                return Err(Error::Missing(format!("{} ended with {status}: {said}", self.kind.name())));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(Error::Timeout { what: format!("{} to be well", self.kind.name()), after: STARTS_WITHIN })
    }

    /// What it and its children used so far.
    ///
    /// # Errors
    /// When it is gone.
    pub(super) fn account(&self) -> Result<Account> {
        Account::of_tree(self.child.id())
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it in order, and gives the bytes of its database, the log that is left included.
    ///
    /// # Errors
    /// When it does not end.
    pub(super) fn stop(mut self) -> Result<u64> {
        self.terminate()?;
        let file = database(&self.dir);
        if matches!(self.kind, Kind::Flask | Kind::Gunicorn) {
            // These leave the log to the next who opens the database and closes it again.
            let code = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('PRAGMA wal_checkpoint(TRUNCATE)')";
            let _ = Command::new(venv("python")?).args(["-c", code]).arg(&file).status();
        }
        let size = |path: PathBuf| fs::metadata(path).map_or(0, |metadata| metadata.len());
        Ok(size(file.clone()) + size(file.with_extension("db-wal")))
    }

    fn terminate(&mut self) -> Result<()> {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let start = Instant::now();
        while start.elapsed() < ENDS_WITHIN {
            if self.child.try_wait().map_err(Error::io(self.kind.name()))?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err(Error::Timeout { what: format!("{} to end", self.kind.name()), after: ENDS_WITHIN })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

pub(super) fn database(dir: &Path) -> PathBuf {
    dir.join("bench.db")
}

/// The workspace's target folder: `lab` is in `target/release`.
pub(super) fn target() -> Result<PathBuf> {
    let lab = std::env::current_exe().map_err(Error::io("own executable's path"))?;
    Ok(lab.ancestors().nth(2).unwrap_or_else(|| Path::new("target")).to_owned())
}

/// The folder of the Python baseline.
pub(super) fn baseline() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("baseline")
}

/// A program of the baseline's Python environment; `setup.sh` makes it where it is not there.
fn venv(program: &str) -> Result<PathBuf> {
    let folder = target()?.join("bench/venv");
    let setup = baseline().join("setup.sh");
    let status = Command::new(&setup).arg(&folder).stdin(Stdio::null()).status();
    match status {
        Ok(status) if status.success() => Ok(folder.join("bin").join(program)),
        _ => Err(Error::Missing(format!(
            "no Python environment for the baseline: {} failed (needs python3 with venv, and PyPI)",
            setup.display()
        ))),
    }
}

/// A command that the kernel kills when this process ends, however that happens.
fn dying_with_us(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

fn free_address() -> Result<SocketAddr> {
    PORTS
        .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .find(|&address| TcpListener::bind(address).is_ok())
        .ok_or_else(|| Error::Missing("no free port on 127.0.0.1".to_owned()))
}
