//! What operators do with a manager's program: its log, its checks, its backups.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test")]

mod common;

use std::time::{Duration, Instant};

use common::Manager;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[test]
fn sigusr1_switches_the_log_to_debug_and_back() {
    let mut manager = Manager::start(&[("LOG_LEVEL", "warn")]);
    let pid = Pid::from_raw(i32::try_from(manager.pid()).unwrap());
    for said in ["SIGUSR1: logging at DEBUG; once more to end it", "SIGUSR1: logging at WARN again"] {
        kill(pid, Signal::SIGUSR1).unwrap();
        let until = Instant::now() + Duration::from_secs(20);
        while !manager.log().contains(said) {
            assert!(Instant::now() < until, "{said}: {}", manager.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    assert_eq!(manager.get("/status/healthcheck").0, 200);
    assert!(manager.terminate().success());
}

#[test]
fn without_a_syslog_daemon_lines_for_it_go_to_stderr() {
    if std::path::Path::new("/dev/log").exists() {
        // They are in this host's log then; gate's own test reads what is sent.
        return;
    }
    let manager = Manager::start(&[("LOG_TO", "syslog")]);
    let until = Instant::now() + Duration::from_secs(20);
    while !manager.log().contains("INFO  manager ") {
        assert!(Instant::now() < until, "{}", manager.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}
