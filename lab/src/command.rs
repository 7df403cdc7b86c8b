//! Commands with a deadline.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::{Error, Result};

/// How long an ordinary command may take: all of them end in milliseconds, but the machine may be
/// busy with other tests.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Where a command ran that ran on no host.
pub(crate) const HERE: &str = "this machine";

/// What a command that ended has left.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// Runs `command` to its end, however it ends. Output goes through files, not pipes, so that
/// neither its size nor a child left in the background can block.
pub(crate) fn output(host: &str, command: &mut Command, input: &[u8], deadline: Duration) -> Result<Output> {
    let line = line(command);
    let broken = |source| Error::Io { what: format!("{host}: `{line}`"), source };
    let mut stdout = tempfile::tempfile().map_err(broken)?;
    let mut stderr = tempfile::tempfile().map_err(broken)?;
    let mut child = command
        .stdin(input_file(input).map_err(broken)?)
        .stdout(stdout.try_clone().map_err(broken)?)
        .stderr(stderr.try_clone().map_err(broken)?)
        .process_group(0)
        .spawn()
        .map_err(broken)?;
    let ended = wait(&mut child, deadline).map_err(broken)?;
    if ended.is_none() {
        kill_group(&child);
        child.wait().map_err(broken)?;
    }
    let stdout = contents(&mut stdout).map_err(broken)?;
    let stderr = contents(&mut stderr).map_err(broken)?;
    match ended {
        Some(status) => Ok(Output { status, stdout, stderr }),
        None => Err(Error::Command {
            host: host.to_owned(),
            command: line,
            outcome: format!("did not end within {} s", deadline.as_secs()),
            said: said(&stdout, &stderr),
        }),
    }
}

/// Runs `command` and gives its standard output; an exit code other than 0 is an error.
pub(crate) fn run(host: &str, command: &mut Command, input: &[u8], deadline: Duration) -> Result<String> {
    let done = output(host, command, input, deadline)?;
    if done.status.success() {
        return Ok(done.text());
    }
    Err(Error::Command {
        host: host.to_owned(),
        command: line(command),
        outcome: format!("failed ({})", done.status),
        said: said(&done.stdout, &done.stderr),
    })
}

/// Runs a command on this machine, in no host.
pub(crate) fn here(args: &[&str], input: &[u8]) -> Result<String> {
    let mut command = Command::new(args[0]);
    command.args(&args[1..]).env("LC_ALL", "C").env("PATH", path());
    run(HERE, &mut command, input, DEADLINE)
}

/// The search path: the administrator's tools are not on everyone's.
pub(crate) fn path() -> String {
    let own = std::env::var("PATH").unwrap_or_default();
    format!("{own}:/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin")
}

/// Waits for a child until the deadline; `None` when it still runs.
pub(crate) fn wait(child: &mut Child, deadline: Duration) -> std::io::Result<Option<ExitStatus>> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if start.elapsed() >= deadline {
            return Ok(None);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Kills the group that a not yet reaped child leads, so its id cannot be another's.
pub(crate) fn kill_group(child: &Child) {
    signal_group(child, Signal::SIGKILL);
}

/// Signals the group that a not yet reaped child leads.
pub(crate) fn signal_group(child: &Child, signal: Signal) {
    if let Ok(pid) = i32::try_from(child.id()) {
        // Already gone is as good.
        let _ = killpg(Pid::from_raw(pid), signal);
    }
}

fn input_file(input: &[u8]) -> std::io::Result<Stdio> {
    if input.is_empty() {
        return Ok(Stdio::null());
    }
    let mut file = tempfile::tempfile()?;
    file.write_all(input)?;
    file.rewind()?;
    Ok(file.into())
}

fn contents(file: &mut File) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn said(stdout: &[u8], stderr: &[u8]) -> String {
    let bytes = if stderr.trim_ascii().is_empty() { stdout } else { stderr };
    String::from_utf8_lossy(bytes).into_owned()
}

/// The command line for people, without the way into the host.
fn line(command: &Command) -> String {
    let mut words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    if words[0] == "nsenter"
        && let Some(end) = words.iter().position(|word| word == "--")
    {
        words.drain(..=end);
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_command_and_reason() {
        let text = here(&["sh", "-c", "echo no such thing >&2; exit 3"], b"").unwrap_err().to_string();
        assert!(text.starts_with("this machine: `sh -c "), "{text}");
        assert!(text.contains("exit status: 3"), "{text}");
        assert!(text.ends_with("no such thing"), "{text}");
    }

    #[test]
    fn a_deadline_ends_the_whole_group() {
        let start = Instant::now();
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 60 & echo $!; wait"]);
        let error = run(HERE, &mut command, b"", Duration::from_millis(300)).unwrap_err();
        assert!(start.elapsed() < Duration::from_secs(5));
        let Error::Command { said, outcome, .. } = error else { panic!("{error}") };
        assert!(outcome.contains("did not end"), "{outcome}");
        let sleeper = format!("/proc/{}/stat", said.trim());
        // Gone, or a zombie that its new parent has yet to reap; a loaded machine takes its time to kill.
        let state = || std::fs::read_to_string(&sleeper).unwrap_or_default();
        let is_over = || state().is_empty() || state().contains(") Z ");
        assert!(crate::until(Duration::from_secs(10), is_over), "{}", state());
    }

    #[test]
    fn input_reaches_the_command() {
        assert_eq!(here(&["cat"], b"in and out").unwrap(), "in and out");
    }
}
