//! A gate in a process of its own, to be attacked: memory, descriptors and limits are then its own too.
//!
//! The process is the example `victim`, which cargo builds along with the tests.

use super::attacks::descriptors;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

const ANNOUNCEMENT: &str = "victim listens on ";

/// A running victim. Dropped, it is stopped.
pub(crate) struct Victim {
    child: Child,
    stderr: BufReader<ChildStderr>,
    pub(crate) address: SocketAddr,
}

impl Victim {
    /// Options: `nofile=N connections=N read=SECONDS write=SECONDS answer=SECONDS workers=N queue=N`.
    pub(crate) fn start(options: &str) -> Self {
        let program = program();
        let mut child = Command::new(&program)
            .args(options.split_whitespace())
            .env("RUST_BACKTRACE", "0") // a backtrace keeps tens of MB of symbols in memory
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{}: {error}; build it: cargo build -p gate --example victim", program.display())
            });
        let mut stderr = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let mut line = String::new();
        while !line.starts_with(ANNOUNCEMENT) {
            line.clear();
            assert_ne!(stderr.read_line(&mut line).expect("read the victim's stderr"), 0, "the victim died");
        }
        let address = line[ANNOUNCEMENT.len()..].trim().parse().expect("an address");
        Self { child, stderr, address }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whatever clients have left open is closed by its deadline at the latest: waits until no more than `count`
    /// descriptors are open, at most 6 s.
    pub(crate) fn wait_for_descriptors(&self, count: usize) {
        let start = Instant::now();
        while descriptors(self.pid()) > count {
            assert!(start.elapsed() < Duration::from_secs(6), "{} descriptors", descriptors(self.pid()));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stops it; it must end by itself. Returns its last words: its counters.
    pub(crate) fn stop(mut self) -> String {
        drop(self.child.stdin.take());
        let mut words = String::new();
        self.stderr.read_to_string(&mut words).expect("read the victim's stderr");
        assert!(self.child.wait().expect("wait for the victim").success(), "{words}");
        words
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The example lies beside the folder of the test binaries.
fn program() -> PathBuf {
    let test = std::env::current_exe().expect("this binary has a path");
    let profile = test.ancestors().nth(2).expect("target/PROFILE/deps/TEST");
    profile.join("examples/victim")
}
