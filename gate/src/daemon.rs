//! What a daemon does once at start: signals and descriptors.
//!
//! SIGPIPE needs nothing here: Rust's runtime ignores it before `main`, so a write to a closed socket is an
//! error and not a death, and `std::process::Command` resets mask and dispositions in children.

use crate::logger;
use crate::stop::Stop;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use std::io;

/// The most descriptors asked for: 1024 clients and a database need far fewer, and tables sized by the limit
/// stay small.
const WANTED_NOFILE: u64 = 8192;

fn signals() -> SigSet {
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGUSR1].into_iter().collect()
}

/// Blocks SIGTERM, SIGINT and SIGUSR1 in this thread and in all that it starts. Call it first in `main`, before any
/// thread exists; then [`Stop::on_signals`].
///
/// # Errors
/// What the system says.
pub fn block_signals() -> io::Result<()> {
    Ok(signals().thread_block()?)
}

impl Stop {
    /// A handle that the first SIGTERM or SIGINT sets, on a thread of its own. A second one ends the process
    /// at once, with 128 + its number, for the operator whose patience is over. SIGUSR1 switches between the log's level and debug. Needs
    /// [`block_signals`] before.
    ///
    /// # Errors
    /// No descriptor or no thread is free.
    pub fn on_signals() -> io::Result<Self> {
        let stop = Self::new()?;
        let setter = stop.clone();
        let wait = move || {
            while let Ok(signal) = signals().wait() {
                if signal == Signal::SIGUSR1 {
                    logger::switch_level();
                    continue;
                }
                if setter.is_set() {
                    log::warn!("second {signal}: ending at once");
                    std::process::exit(128 + signal as i32);
                }
                log::info!("{signal}: shutting down");
                setter.trigger();
            }
        };
        std::thread::Builder::new().name("signals".into()).stack_size(64 << 10).spawn(wait)?;
        Ok(stop)
    }
}

/// Raises the soft limit of open descriptors to 8192, or to the hard limit where that is lower, and returns
/// the soft limit that holds now. A higher one is left as it is.
///
/// # Errors
/// What the system says.
pub fn raise_nofile() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let wanted = hard.min(WANTED_NOFILE);
    if soft >= wanted {
        return Ok(soft);
    }
    setrlimit(Resource::RLIMIT_NOFILE, wanted, hard)?;
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_descriptor_limit_is_raised_and_never_lowered() {
        let (before, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let now = raise_nofile().unwrap();
        assert!(now >= before && now >= hard.min(WANTED_NOFILE));
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (now, hard));
    }

    #[test]
    fn a_write_to_a_closed_pipe_is_an_error_and_not_a_death() {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
        let ignored = u64::from_str_radix(ignored.trim(), 16).unwrap();
        assert_ne!(ignored & 1 << (Signal::SIGPIPE as u64 - 1), 0, "{status}");
    }
}
