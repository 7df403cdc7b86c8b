//! Attacks on an HTTP server, one function per hazard, for any server behind the gate.
//!
//! Each takes the server's address and a probe: an honest request that says whether it was answered as it
//! should be. While the attack goes on, and after it, the probe runs on a thread of its own; the [`Outcome`]
//! tells how it fared. What the attacked server must answer (413 to a declared length of 9e18, say) each attack
//! asserts itself. All loops are bounded. Other crates' tests include this file by `#[path]`; they need nix with
//! its `resource` and `socket` features.
#![allow(dead_code, unused_imports, reason = "each test binary uses its own part")]

mod flood;
mod framing;
mod hold;

pub(crate) use flood::*;
pub(crate) use framing::*;
pub(crate) use hold::*;

use std::fmt;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// An honest request: `Err` says what went wrong.
pub(crate) type Probe<'a> = &'a (dyn Fn() -> Result<(), String> + Sync);

/// How honest requests fared during an attack and after it.
pub(crate) struct Outcome {
    pub(crate) attack: &'static str,
    pub(crate) answered: usize,
    pub(crate) failures: Vec<String>,
    pub(crate) slowest: Duration,
    /// What the attacker got to see.
    pub(crate) note: String,
}

impl Outcome {
    /// Panics unless every honest request was answered, none slower than `limit`.
    pub(crate) fn assert_served_within(&self, limit: Duration) {
        eprintln!("{self}");
        assert!(self.failures.is_empty(), "{self}");
        assert!(self.answered >= AFTERWARDS, "{self}");
        assert!(self.slowest <= limit, "{self}");
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} honest requests answered, ", self.attack, self.answered)?;
        write!(f, "slowest {} ms, {} failed", self.slowest.as_millis(), self.failures.len())?;
        if let Some(first) = self.failures.first() {
            write!(f, " (first: {first})")?;
        }
        if self.note.is_empty() { Ok(()) } else { write!(f, "; {}", self.note) }
    }
}

/// Honest requests made after the attack has ended.
const AFTERWARDS: usize = 5;

/// Where one connection must have been cut: limits are KiB, and socket buffers some MiB at the most.
const CUT_BY: usize = 32 << 20;

/// Runs `attack` while the probe keeps asking, and some more probes afterwards. The attack's text is the note.
pub(crate) fn besieged(name: &'static str, probe: Probe, attack: impl FnOnce() -> String) -> Outcome {
    let over = AtomicBool::new(false);
    let mut outcome = Outcome {
        attack: name,
        answered: 0,
        failures: Vec::new(),
        slowest: Duration::ZERO,
        note: String::new(),
    };
    std::thread::scope(|scope| {
        let honest = scope.spawn(|| {
            let (mut answered, mut failures, mut slowest) = (0, Vec::new(), Duration::ZERO);
            let mut left = AFTERWARDS;
            while left > 0 {
                left -= usize::from(over.load(Ordering::Relaxed));
                let start = Instant::now();
                match probe() {
                    Ok(()) => answered += 1,
                    Err(error) => failures.push(error),
                }
                slowest = slowest.max(start.elapsed());
                std::thread::sleep(Duration::from_millis(10));
            }
            (answered, failures, slowest)
        });
        let ended = EndOnDrop(&over);
        outcome.note = attack();
        drop(ended);
        (outcome.answered, outcome.failures, outcome.slowest) = honest.join().expect("probe does not panic");
    });
    outcome
}

/// Lets the honest thread end also when the attack panics.
struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Resident memory of a process, now and at its highest, in KiB.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) rss: u64,
    pub(crate) peak: u64,
}

impl Memory {
    /// From /proc/PID/status (proc_pid_status(5)).
    pub(crate) fn of(pid: u32) -> Self {
        let path = format!("/proc/{pid}/status");
        let status = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let kib = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
            number.unwrap_or_else(|| panic!("{path} has no {key}"))
        };
        Self { rss: kib("VmRSS:"), peak: kib("VmHWM:") }
    }
}

/// Open descriptors of a process.
pub(crate) fn descriptors(pid: u32) -> usize {
    let path = format!("/proc/{pid}/fd");
    std::fs::read_dir(&path).unwrap_or_else(|error| panic!("{path}: {error}")).count()
}

/// Lets this process hold thousands of attacking sockets. Panics where the hard limit forbids it.
pub(crate) fn allow_descriptors(wanted: u64) {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("getrlimit");
    if soft < wanted {
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).expect("the hard limit of open files is too low");
    }
}

/// A connection whose reads and writes give up after five seconds.
pub(crate) fn connect(to: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    Ok(stream)
}

/// Sends `bytes`, half-closes and returns all that comes back, at most 1 MiB.
pub(crate) fn exchange(to: SocketAddr, bytes: &[u8]) -> std::io::Result<String> {
    let mut stream = connect(to)?;
    stream.write_all(bytes)?;
    // Fails when the server has closed already, which its answer explains.
    let _ = stream.shutdown(Shutdown::Write);
    receive(&mut stream)
}

/// All that comes until the server closes, at most 1 MiB.
pub(crate) fn receive(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut answer = Vec::new();
    stream.take(1 << 20).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The status of an answer, 0 when it is none.
pub(crate) fn status_of(answer: &str) -> u16 {
    answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok()).unwrap_or(0)
}

/// The simplest honest probe: `GET path` must be 200 on a connection of its own.
pub(crate) fn get_probe(to: SocketAddr, path: &'static str) -> impl Fn() -> Result<(), String> + Sync {
    move || {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let mut stream = connect(to).map_err(|error| format!("connect: {error}"))?;
        stream.write_all(request.as_bytes()).map_err(|error| format!("write: {error}"))?;
        let answer = receive(&mut stream).map_err(|error| format!("read: {error}"))?;
        if status_of(&answer) == 200 { Ok(()) } else { Err(format!("answered {:?}", answer.lines().next())) }
    }
}
