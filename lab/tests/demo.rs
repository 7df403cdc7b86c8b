//! `lab demo` as a user runs it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lab::{MESH, Need, require, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[test]
fn the_demo_shows_five_agents_and_leaves_nothing() {
    if !require(MESH) || !require(&[Need::Bin("agent"), Need::Bin("manager")]) {
        return;
    }
    let mut child = Command::new(env!("CARGO_BIN_EXE_lab"))
        .arg("demo")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut line = |start: &str| lines.find(|line| line.starts_with(start)).unwrap_or_default();
    assert_eq!(line("5 of"), "5 of 5 agents report");
    let manager = line("manager:");
    let address = manager.split(['/', ' ']).find(|word| word.starts_with("127.0.0.1:")).unwrap().to_owned();
    let folder = line("logs:").split_whitespace().last().unwrap().to_owned();
    assert!(Path::new(&folder).is_dir());

    let agents = get(&address, "/status/agents");
    for host in ["berlin", "hamburg", "lyon", "nantes", "paris"] {
        assert!(agents.contains(&format!("\"{host}\"")), "{host} is in {agents}");
    }

    let start = Instant::now();
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
    assert!(until(Duration::from_secs(15), || child.try_wait().unwrap().is_some()), "it stops");
    assert!(child.wait().unwrap().success());
    eprintln!("stopped after {:?}", start.elapsed());
    assert!(!Path::new(&folder).exists());
    assert!(TcpStream::connect(&address).is_err(), "the port is closed");
}

fn get(address: &str, path: &str) -> String {
    let ask = || {
        let mut stream = TcpStream::connect(address)?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map(|_| answer)
    };
    ask().unwrap_or_else(|error| panic!("{address}{path}: {error}"))
}
