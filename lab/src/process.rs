//! Binaries that run inside a host while the test goes on.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::Mutex;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::command::{kill_group, signal_group, wait};
use crate::holder::Holder;
use crate::wait::{until, wait_for};
use crate::{Error, Result};

/// What to start: program, arguments, environment, working directory, log file. The environment
/// is only what is given here and a search path, so that the test's own settings do not leak in.
#[derive(Clone, Debug)]
pub struct Launch {
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    cwd: Option<PathBuf>,
    log: Option<PathBuf>,
}

impl Launch {
    /// Starts as `program`, without arguments, in the host's folder, logging to `NAME.log` there.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), args: Vec::new(), env: Vec::new(), cwd: None, log: None }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<T: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = T>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable; the last value given for a name counts.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// The working directory; made when it is not there.
    #[must_use]
    pub fn cwd(mut self, dir: impl Into<PathBuf>) -> Self {
        self.cwd = Some(dir.into());
        self
    }

    /// The file to which standard output and error are appended.
    #[must_use]
    pub fn log(mut self, file: impl Into<PathBuf>) -> Self {
        self.log = Some(file.into());
        self
    }

    pub(crate) fn start(&self, host: &str, dir: &Path, holder: &Holder) -> Result<Proc> {
        let name = self.program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let cwd = self.cwd.clone().unwrap_or_else(|| dir.to_owned());
        std::fs::create_dir_all(&cwd).map_err(Error::io(cwd.display().to_string()))?;
        let log = self.log.clone().unwrap_or_else(|| dir.join(format!("{name}.log")));
        let broken = |source| Error::Io { what: log.display().to_string(), source };
        let stdout = File::options().create(true).append(true).open(&log).map_err(broken)?;
        let stderr = stdout.try_clone().map_err(broken)?;
        let child = holder
            .enter()
            .args(["sh", "-c", r#"cd "$0" && exec "$@""#])
            .arg(&cwd)
            .arg(&self.program)
            .args(&self.args)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(std::process::Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .process_group(0)
            .spawn()
            .map_err(Error::io(format!("{host}: {name}")))?;
        let mut proc = Proc { host: host.to_owned(), name, log, child: Mutex::new(child), pid: 0 };
        proc.pid = proc.find_pid()?;
        Ok(proc)
    }
}

/// A running binary. Dropping it kills it.
#[derive(Debug)]
pub struct Proc {
    host: String,
    name: String,
    log: PathBuf,
    /// `nsenter`, which waits for the program and ends as it ended.
    child: Mutex<Child>,
    pid: i32,
}

impl Proc {
    /// The program's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The host on which it runs.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The program's process number on this machine (inside its host it has another).
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Asks it to stop, by SIGTERM.
    pub fn term(&self) -> Result<()> {
        self.signal(Signal::SIGTERM)
    }

    /// Kills it by SIGKILL and waits until it is gone.
    pub fn kill9(&self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.wait(Duration::from_secs(10)).map(drop)
    }

    /// Sends any signal; an error when it no longer runs. SIGSTOP and SIGCONT pause and resume.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        // Asked under the lock: as long as nsenter runs, the number is its program's.
        let mut child = self.lock();
        let what = || format!("{} on {} ({signal})", self.name, self.host);
        if child.try_wait().map_err(Error::io(what()))?.is_some() {
            return Err(Error::Io { what: what(), source: nix::Error::ESRCH.into() });
        }
        kill(Pid::from_raw(self.pid), signal)
            .map_err(|errno| Error::Io { what: what(), source: errno.into() })?;
        // nsenter stops itself with a stopped program, a little later, and must go on with it,
        // also to its end.
        match signal {
            Signal::SIGSTOP => {
                let nsenter = i32::try_from(child.id()).unwrap_or(0);
                until(Duration::from_secs(5), || state_of(nsenter) == Some('T'));
            }
            Signal::SIGCONT | Signal::SIGKILL => signal_group(&child, Signal::SIGCONT),
            _ => (),
        }
        Ok(())
    }

    /// Waits for its end.
    pub fn wait(&self, timeout: Duration) -> Result<ExitStatus> {
        let what = format!("{} on {} to end", self.name, self.host);
        wait(&mut self.lock(), timeout).map_err(Error::io(&*what))?.ok_or_else(|| Error::Timeout {
            what: format!("{what}; its log ends:\n{}", self.log_tail()),
            after: timeout,
        })
    }

    /// Whether it still runs.
    pub fn is_running(&self) -> bool {
        matches!(self.lock().try_wait(), Ok(None))
    }

    /// All it wrote to standard output and error; earlier runs with the same log file included.
    pub fn log(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Waits until the log contains `text`.
    pub fn wait_log(&self, text: &str, timeout: Duration) -> Result<()> {
        wait_for(text, timeout, || self.log().contains(text).then_some(())).map_err(|_| Error::Timeout {
            what: format!(
                "`{text}` in the log of {} on {}, which ends:\n{}",
                self.name,
                self.host,
                self.log_tail()
            ),
            after: timeout,
        })
    }

    /// Resident memory in KiB, from `/proc/PID/status`; 0 when it has ended.
    pub fn rss_kb(&self) -> u64 {
        self.status_kb("VmRSS:")
    }

    /// The most resident memory so far, in KiB; 0 when it has ended.
    pub fn peak_rss_kb(&self) -> u64 {
        self.status_kb("VmHWM:")
    }

    /// Processor time used so far, user and system, in clock ticks (100 a second on Linux), from
    /// `/proc/PID/stat`; 0 when it has ended.
    pub fn cpu_ticks(&self) -> u64 {
        [11, 12].iter().filter_map(|&at| stat_field(self.pid, at)?.parse::<u64>().ok()).sum()
    }

    fn status_kb(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        status
            .lines()
            .find_map(|line| line.strip_prefix(field)?.split_whitespace().next()?.parse().ok())
            .unwrap_or(0)
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// nsenter forks the program; it may also have failed, or be through already.
    fn find_pid(&self) -> Result<i32> {
        let id = self.lock().id();
        let found = wait_for("", Duration::from_secs(10), || {
            child_of(id).or_else(|| (!self.is_running()).then_some(0))
        });
        found.map_err(|_| Error::Timeout {
            what: format!("{} to start on {}", self.name, self.host),
            after: Duration::from_secs(10),
        })
    }
}

impl Drop for Proc {
    fn drop(&mut self) {
        // The program alone first, so that nsenter reaps it: orphans cost the kernel about 2 s when
        // the host goes.
        let gone = self.signal(Signal::SIGKILL).and_then(|()| self.wait(Duration::from_secs(5))).is_ok();
        if !gone && self.is_running() {
            let mut child = self.lock();
            kill_group(&child);
            let _ = child.wait();
        }
        // Captured by the test runner and shown with the failure.
        if std::thread::panicking() {
            eprintln!("--- log of {} on {} ends:\n{}", self.name, self.host, self.log_tail());
        }
    }
}

/// The first child of a process, found by asking every process for its parent.
pub(crate) fn child_of(parent: u32) -> Option<i32> {
    let processes = std::fs::read_dir("/proc").ok()?;
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .find(|&pid| stat_field(pid, 1).and_then(|field| field.parse().ok()) == Some(parent))
}

/// The scheduler's letter for a process: `T` when stopped.
fn state_of(pid: i32) -> Option<char> {
    stat_field(pid, 0)?.chars().next()
}

/// A field of `/proc/PID/stat`, counted from the one after the name in parentheses: the state is
/// 0, the parent 1, user time 11, system time 12.
fn stat_field(pid: i32, at: usize) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(at).map(str::to_owned)
}

/// A number of its own for each path: stands for a machine's identity.
pub(crate) fn stamp(path: &Path) -> u128 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    let low = hasher.finish();
    "more".hash(&mut hasher);
    (u128::from(hasher.finish()) << 64) | u128::from(low)
}
