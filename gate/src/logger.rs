//! The log: one line an event, to stderr or to syslog, at a level that SIGUSR1 changes, and no flood.

use std::io::{self, Write as _};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use log::{Level, LevelFilter, Log, Metadata, Record};
use simple_logger::SimpleLogger;

use crate::stamp::stamp;

/// Where syslog daemons listen on Linux, journald and busybox's among them.
const SYSLOG: &str = "/dev/log";
/// Longest line for syslog: RFC 3164 allows 1024 bytes, and daemons of small machines cut there.
const SYSLOG_MAX: usize = 1000;
/// Facility `daemon` of RFC 5424, shifted as it stands in a line.
const DAEMON: u8 = 3 << 3;
/// Lines of one place in the program that are let through in each [`WINDOW`]; more are counted.
const BURST: u32 = 50;
const WINDOW: Duration = Duration::from_secs(10);

/// The level that was set at start, to which the second SIGUSR1 returns.
static CHOSEN: AtomicUsize = AtomicUsize::new(LevelFilter::Info as usize);

/// Where log lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogTo {
    /// To stderr, with the time in UTC.
    #[default]
    Stderr,
    /// To the syslog daemon, which adds the time; to stderr while there is none.
    Syslog,
}

impl LogTo {
    /// `stderr` or `syslog`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "stderr" => Some(Self::Stderr),
            "syslog" => Some(Self::Syslog),
            _ => None,
        }
    }
}

/// Starts the log of the process under the name `program`. A line is an event: control characters in it
/// become blanks. Of one place in the program 50 lines in 10 s are let through, and the next line says how
/// many were left out; lines of debug and trace are not counted.
///
/// # Errors
/// When it was started before.
pub fn start_log(to: LogTo, level: LevelFilter, program: &'static str) -> io::Result<()> {
    let out = match to {
        LogTo::Stderr => Out::Stderr(SimpleLogger::new().with_level(LevelFilter::Trace)),
        LogTo::Syslog => Out::Syslog(Syslog::new(SYSLOG.into(), program)?),
    };
    log::set_boxed_logger(Box::new(Logger { out, sites: Mutex::default() })).map_err(io::Error::other)?;
    CHOSEN.store(level as usize, Ordering::Relaxed);
    log::set_max_level(level);
    Ok(())
}

/// From the level of the start to debug (or trace, where debug was it), and back.
pub(crate) fn switch_level() {
    let chosen = CHOSEN.load(Ordering::Relaxed);
    if log::max_level() as usize != chosen {
        let back = LevelFilter::iter().find(|level| *level as usize == chosen).unwrap_or(LevelFilter::Info);
        log::info!("SIGUSR1: logging at {back} again");
        log::set_max_level(back);
        return;
    }
    let more = if chosen < LevelFilter::Debug as usize { LevelFilter::Debug } else { LevelFilter::Trace };
    log::set_max_level(more);
    log::info!("SIGUSR1: logging at {more}; once more to end it");
}

struct Logger {
    out: Out,
    sites: Mutex<Sites>,
}

enum Out {
    Stderr(SimpleLogger),
    Syslog(Syslog),
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // ureq's inner workings drown what the daemon itself has to say.
        metadata.level() <= Level::Warn || !metadata.target().starts_with("ureq")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let mut left_out = 0;
        if record.level() <= Level::Info {
            let site = (record.target(), record.line().unwrap_or(0));
            let mut sites = self.sites.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(before) = sites.admit(site, Instant::now()) else { return };
            left_out = before;
        }
        let text = line(&record.args().to_string(), left_out);
        match &self.out {
            Out::Stderr(logger) => {
                // simple_logger takes the same lock, so the line is one.
                let mut stderr = io::stderr().lock();
                let _ = write!(stderr, "{} ", stamp(SystemTime::now()));
                let metadata = record.metadata().clone();
                logger.log(&Record::builder().metadata(metadata).args(format_args!("{text}")).build());
            }
            Out::Syslog(syslog) => syslog.send(record.level(), &text),
        }
    }

    fn flush(&self) {}
}

/// An event as one line.
fn line(text: &str, left_out: u32) -> String {
    let mut line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if left_out > 0 {
        line.push_str(&format!(" ({left_out} more like it were left out before)"));
    }
    line
}

/// The places in the program that logged of late. There are as many as there are log lines in its source.
#[derive(Debug, Default)]
struct Sites {
    known: Vec<Site>,
}

#[derive(Debug)]
struct Site {
    target: String,
    line: u32,
    since: Instant,
    lines: u32,
    left_out: u32,
}

impl Sites {
    /// Whether a line of this place may be written at `now`, and how many were left out before it.
    fn admit(&mut self, (target, line): (&str, u32), now: Instant) -> Option<u32> {
        let place = self.known.iter().position(|site| site.line == line && site.target == target);
        let place = place.unwrap_or_else(|| {
            let target = target.to_owned();
            self.known.push(Site { target, line, since: now, lines: 0, left_out: 0 });
            self.known.len() - 1
        });
        let site = &mut self.known[place];
        if now.saturating_duration_since(site.since) >= WINDOW {
            (site.since, site.lines) = (now, 0);
        }
        if site.lines >= BURST {
            site.left_out = site.left_out.saturating_add(1);
            return None;
        }
        site.lines += 1;
        Some(std::mem::take(&mut site.left_out))
    }
}

/// The syslog daemon of this host.
#[derive(Debug)]
struct Syslog {
    path: PathBuf,
    program: &'static str,
    socket: UnixDatagram,
}

impl Syslog {
    fn new(path: PathBuf, program: &'static str) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        // A daemon that hangs must not hold up whoever logs.
        socket.set_nonblocking(true)?;
        Ok(Self { path, program, socket })
    }

    fn send(&self, level: Level, text: &str) {
        let datagram = datagram(level, self.program, std::process::id(), text);
        if self.socket.send_to(datagram.as_bytes(), Path::new(&self.path)).is_err() {
            // Nobody is left to tell when stderr is gone, too.
            let _ = writeln!(io::stderr(), "{level:<5} {text}");
        }
    }
}

/// A line as syslog daemons take it (RFC 3164). Without a time: they know it themselves.
fn datagram(level: Level, program: &str, pid: u32, text: &str) -> String {
    let severity = match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    };
    let mut datagram = format!("<{}>{program}[{pid}]: {text}", DAEMON | severity);
    if datagram.len() > SYSLOG_MAX {
        let end = (0..=SYSLOG_MAX).rev().find(|&end| datagram.is_char_boundary(end)).unwrap_or(0);
        datagram.truncate(end);
    }
    datagram
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_and_says_what_was_left_out() {
        assert_eq!(line("agent a\nroot: fake\u{1b}[2J", 0), "agent a root: fake [2J");
        assert_eq!(line("x", 3), "x (3 more like it were left out before)");
    }

    #[test]
    fn a_place_that_repeats_itself_is_cut_and_others_are_not() {
        let start = Instant::now();
        let mut sites = Sites::default();
        for _ in 0..BURST {
            assert_eq!(sites.admit(("a", 1), start), Some(0));
        }
        assert_eq!(sites.admit(("a", 1), start + WINDOW / 2), None);
        assert_eq!(sites.admit(("a", 1), start + WINDOW / 2), None);
        assert_eq!(sites.admit(("a", 2), start + WINDOW / 2), Some(0));
        assert_eq!(sites.admit(("a", 1), start + WINDOW), Some(2));
        assert_eq!(sites.admit(("a", 1), start + WINDOW), Some(0));
    }

    #[test]
    fn syslog_gets_priority_program_and_text_within_its_bounds() {
        assert_eq!(datagram(Level::Warn, "kattila-agent", 7, "no PSK"), "<28>kattila-agent[7]: no PSK");
        assert!(datagram(Level::Error, "a", 1, "x").starts_with("<27>"));
        assert!(datagram(Level::Trace, "a", 1, "x").starts_with("<31>"));
        let long = datagram(Level::Info, "a", 1, &"é".repeat(600));
        assert!(long.len() <= SYSLOG_MAX && long.len() > SYSLOG_MAX - 2 && long.ends_with('é'), "{long}");
    }

    #[test]
    fn lines_reach_a_syslog_socket() {
        let path = std::env::temp_dir().join(format!("kattila-log-{}", std::process::id()));
        let daemon = UnixDatagram::bind(&path).unwrap();
        daemon.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Syslog::new(path.clone(), "kattila-agent").unwrap().send(Level::Info, "first report delivered");
        let mut buffer = [0; 200];
        let read = daemon.recv(&mut buffer).unwrap();
        let expected = format!("<30>kattila-agent[{}]: first report delivered", std::process::id());
        assert_eq!(std::str::from_utf8(&buffer[..read]).unwrap(), expected);
        std::fs::remove_file(path).unwrap();
    }
}
