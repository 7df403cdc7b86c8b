//! Runs `wg show all dump`, the only program that the agent ever starts.

use std::fmt;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// How long `wg` may take. It takes milliseconds; seconds only when the kernel holds its locks.
const DEADLINE: Duration = Duration::from_secs(3);
/// Largest output: 1,024 peers with 20 prefixes each are 600 KiB.
const OUTPUT_MAX: usize = 1 << 20;
/// What is kept of the error output.
const COMPLAINT_MAX: usize = 512;
/// How long a killed `wg` may take to end before it is left for the next turn.
const REAP: Duration = Duration::from_millis(500);
/// Where `wg` is looked for, in this order, and the PATH that it is given. The agent's own
/// environment has no say in what it starts.
const SEARCH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/sbin:/opt/bin:\
    /run/current-system/sw/bin";

/// The `wg` command of wireguard-tools.
#[derive(Debug)]
pub struct Wg {
    command: PathBuf,
    deadline: Duration,
    /// A killed `wg` that had not ended yet, stuck in the kernel: reaped later, and until then no
    /// other is started.
    stuck: Mutex<Option<Child>>,
}

/// What `wg` printed.
#[derive(Debug)]
pub(super) struct Output {
    /// Standard output, whole. It holds secrets.
    pub(super) text: String,
    /// Why it did not end well although it printed something.
    pub(super) complaint: Option<String>,
}

/// Why there is no output of `wg`.
#[derive(Debug)]
pub(super) enum WgError {
    /// It is not installed.
    Missing,
    /// It could not be started or read.
    Io(io::Error),
    /// It did not end in time and was killed.
    Late(Duration),
    /// It printed too much and was killed.
    Flood,
    /// One that was killed earlier has still not ended.
    Stuck,
    /// It ended with an error and printed nothing.
    Failed(String),
}

impl fmt::Display for WgError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("not installed (Debian and OpenWrt package: wireguard-tools)"),
            Self::Io(error) => write!(f, "could not be run: {error}"),
            Self::Late(deadline) => {
                write!(f, "did not end within {} ms and was killed", deadline.as_millis())
            }
            Self::Flood => write!(f, "printed more than {} KiB and was killed", OUTPUT_MAX >> 10),
            Self::Stuck => f.write_str("killed earlier and still not ended; not started again until it has"),
            Self::Failed(why) => f.write_str(why),
        }
    }
}

impl From<io::Error> for WgError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Wg {
    /// A name is looked for in the system's folders for programs; a path with a slash is used as
    /// it is.
    #[must_use]
    pub fn new(command: impl Into<PathBuf>) -> Self {
        Self { command: command.into(), deadline: DEADLINE, stuck: Mutex::new(None) }
    }

    /// The same with another deadline than 3 s.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Runs `wg show all dump`. It is given no input and no environment but a PATH, and has ended
    /// when this returns (or is remembered, see [`WgError::Stuck`]).
    pub(super) fn dump(&self) -> Result<Output, WgError> {
        let mut stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(child) = stuck.as_mut() {
            if child.try_wait()?.is_none() {
                return Err(WgError::Stuck);
            }
            *stuck = None;
        }
        let mut child = start(&self.find().ok_or(WgError::Missing)?)?;
        let deadline = Instant::now() + self.deadline;
        let outcome = read(&mut child, deadline, self.deadline)
            .and_then(|printed| ended(&mut child, deadline).map(|status| (printed, status)));
        match outcome {
            Ok((printed, Some(status))) => finish(printed, status),
            late_or_error => {
                if !kill(&mut child) {
                    *stuck = Some(child);
                }
                Err(late_or_error.err().unwrap_or(WgError::Late(self.deadline)))
            }
        }
    }

    fn find(&self) -> Option<PathBuf> {
        if self.command.components().count() > 1 {
            return self.command.is_file().then(|| self.command.clone());
        }
        SEARCH.split(':').map(|dir| Path::new(dir).join(&self.command)).find(|path| path.is_file())
    }
}

/// In a process group of its own, so that whatever it may start is killed with it.
fn start(path: &Path) -> io::Result<Child> {
    Command::new(path)
        .args(["show", "all", "dump"])
        .env_clear()
        .env("PATH", SEARCH)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
}

/// Reads both outputs until both are closed.
fn read(child: &mut Child, deadline: Instant, allowed: Duration) -> Result<[Vec<u8>; 2], WgError> {
    let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
    let mut printed = [Vec::new(), Vec::new()];
    while out.is_some() || err.is_some() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(WgError::Late(allowed));
        }
        let (out_ready, err_ready) = wait_readable(out.as_ref(), err.as_ref(), left)?;
        if out_ready && !read_some(out.as_mut(), &mut printed[0], OUTPUT_MAX + 1)? {
            out = None;
        }
        if err_ready && !read_some(err.as_mut(), &mut printed[1], COMPLAINT_MAX)? {
            err = None;
        }
        if printed[0].len() > OUTPUT_MAX {
            return Err(WgError::Flood);
        }
    }
    Ok(printed)
}

/// Whether each of two pipes has something to read or has been closed.
fn wait_readable<A: AsFd, B: AsFd>(a: Option<&A>, b: Option<&B>, left: Duration) -> io::Result<(bool, bool)> {
    let mut fds = Vec::with_capacity(2);
    fds.extend(a.map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)));
    fds.extend(b.map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)));
    let millis = u16::try_from(left.as_millis()).unwrap_or(u16::MAX).saturating_add(1);
    match poll(&mut fds, PollTimeout::from(millis)) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(error) => return Err(error.into()),
    }
    let mut ready = fds.iter().map(|fd| fd.any().unwrap_or(false));
    Ok((a.is_some() && ready.next() == Some(true), b.is_some() && ready.next() == Some(true)))
}

/// Reads what is there, keeping at most `max` bytes in all; false at the end.
fn read_some(pipe: Option<&mut impl Read>, kept: &mut Vec<u8>, max: usize) -> io::Result<bool> {
    let mut chunk = [0; 4 << 10];
    let Some(pipe) = pipe else { return Ok(false) };
    let count = pipe.read(&mut chunk)?;
    let room = max.saturating_sub(kept.len()).min(count);
    kept.extend_from_slice(&chunk[..room]);
    Ok(count > 0)
}

/// How the child ended; `None` when it has not by `deadline`.
fn ended(child: &mut Child, deadline: Instant) -> Result<Option<ExitStatus>, WgError> {
    let mut pause = Duration::from_micros(100);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Kills the child and all that it started; whether it could be reaped.
fn kill(child: &mut Child) -> bool {
    if let Ok(pid) = i32::try_from(child.id()) {
        // It fails only when the group is gone already.
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
    matches!(ended(child, Instant::now() + REAP), Ok(Some(_)))
}

fn finish([text, complaint]: [Vec<u8>; 2], status: ExitStatus) -> Result<Output, WgError> {
    let text = String::from_utf8_lossy(&text).into_owned();
    let complaint = complaint_of(&complaint, status);
    match complaint {
        Some(why) if text.is_empty() => Err(WgError::Failed(why)),
        complaint => Ok(Output { text, complaint }),
    }
}

/// What the error output and the exit status say, and what to do about it; `None` when all is well.
fn complaint_of(stderr: &[u8], status: ExitStatus) -> Option<String> {
    let text = String::from_utf8_lossy(stderr);
    let first = text.lines().map(str::trim).find(|line| !line.is_empty());
    if status.success() && first.is_none() {
        return None;
    }
    let said = first.map_or_else(|| status.to_string(), without_keys);
    let denied = ["not permitted", "ermission denied"].iter().any(|words| text.contains(words));
    let advice = if denied {
        ". Without root or the ambient capability CAP_NET_ADMIN the agent sees no WireGuard peer; all else it sees"
    } else {
        ""
    };
    Some(format!("{said}{advice}"))
}

/// The first 160 characters of a line, with anything that looks like a key covered.
fn without_keys(line: &str) -> String {
    let cover = |word: &str| {
        let key = word.len() >= 43 && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b));
        if key { "**hidden**".to_owned() } else { word.to_owned() }
    };
    let covered: Vec<String> =
        line.split(|c: char| c.is_whitespace() || "`'\"".contains(c)).map(cover).collect();
    covered.join(" ").chars().filter(|c| !c.is_control()).take(160).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt as _;

    /// A stand-in for `wg` from the fixtures: committed, not written here, because a file that
    /// another thread's fork still holds open for writing cannot be started.
    fn stand_in(name: &str) -> Wg {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/bin").join(name);
        Wg::new(path).with_deadline(Duration::from_millis(400))
    }

    #[test]
    fn one_that_is_late_is_killed_with_its_children_and_reaped() {
        let begin = Instant::now();
        let wg = stand_in("late");
        assert!(matches!(wg.dump(), Err(WgError::Late(_))));
        let took = begin.elapsed();
        assert!(took >= Duration::from_millis(400) && took < Duration::from_secs(2), "{took:?}");
        assert!(wg.stuck.lock().unwrap().is_none(), "not reaped");
    }

    #[test]
    fn one_that_closes_its_output_and_stays_is_late_too() {
        let wg = stand_in("silent");
        assert!(matches!(wg.dump(), Err(WgError::Late(_))));
        assert!(wg.stuck.lock().unwrap().is_none(), "not reaped");
    }

    #[test]
    fn one_that_floods_is_stopped_at_the_cap() {
        let wg = stand_in("flood").with_deadline(Duration::from_secs(20));
        assert!(matches!(wg.dump(), Err(WgError::Flood)));
        assert!(wg.stuck.lock().unwrap().is_none(), "not reaped");
    }

    #[test]
    fn endless_complaints_are_read_and_cut() {
        let Err(WgError::Failed(why)) = stand_in("complain").with_deadline(Duration::from_secs(20)).dump()
        else {
            panic!("no error")
        };
        assert!(why.starts_with("complaint 1") && why.len() <= 160, "{why}");
    }

    #[test]
    fn one_that_fails_says_why_and_what_to_do() {
        let error = stand_in("denied").dump().unwrap_err();
        assert_eq!(
            error.to_string(),
            "Unable to access interface wg0: Operation not permitted. \
             Without root or the ambient capability CAP_NET_ADMIN the agent sees no WireGuard peer; all else it sees"
        );
        let output = stand_in("half").dump().unwrap();
        assert_eq!(output.text, "wg0\t(none)\t(none)\t0\toff\n");
        assert_eq!(output.complaint.as_deref(), Some("Unable to access interface wg1: No such device"));
    }

    #[test]
    fn it_gets_no_environment_and_no_input() {
        let output = stand_in("environment").dump().unwrap();
        let mut lines: Vec<&str> = output.text.lines().filter(|line| !is_the_shells_own(line)).collect();
        lines.sort_unstable();
        assert_eq!(lines, [&format!("PATH={SEARCH}"), "arguments: show all dump", "input: ''"]);
    }

    fn is_the_shells_own(line: &str) -> bool {
        ["PWD=", "OLDPWD=", "SHLVL=", "_="].iter().any(|name| line.starts_with(name))
    }

    #[test]
    fn a_missing_one_is_named_as_such() {
        assert!(matches!(Wg::new("/nowhere/wg").dump(), Err(WgError::Missing)));
        assert!(matches!(Wg::new("no-such-program-here").dump(), Err(WgError::Missing)));
    }

    #[test]
    fn complaints_hold_no_keys() {
        let key = "IFU48J3mS9epjc+HwSZ52wKUVyWZ+riqvk4yaegdjFs=";
        let line = format!("Key is not the correct length or format: `{key}'\n");
        let why = complaint_of(line.as_bytes(), ExitStatus::from_raw(256)).unwrap();
        assert!(!why.contains(key) && why.contains("**hidden**"), "{why}");
        assert_eq!(complaint_of(b"", ExitStatus::from_raw(9)).as_deref(), Some("signal: 9 (SIGKILL)"));
    }
}
