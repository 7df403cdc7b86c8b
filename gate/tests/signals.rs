//! Shutdown by signal: a daemon in a process of its own, started and signalled by this program's other half.

use gate::{Answer, Gate, Limits, Reply, Request, Stop, block_signals, listen, raise_nofile};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

fn main() {
    if std::env::args().any(|argument| argument == "--daemon") {
        return daemon();
    }
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        the_first_signal_lets_work_finish(signal);
    }
    the_second_signal_ends_it_at_once();
    eprintln!("signals: 3 passed");
}

fn daemon() {
    block_signals().expect("block signals");
    let nofile = raise_nofile().expect("raise the limit");
    let stop = Stop::on_signals().expect("watch signals");
    let listener = listen("127.0.0.1:0".parse().expect("an address")).expect("listen");
    eprintln!("{}", listener.local_addr().expect("its address"));
    let handle = |_: Request, reply: Reply| {
        std::thread::sleep(Duration::from_millis(1500));
        reply.send(Answer::text(200, "done\n"));
    };
    let gate = Gate::new(Limits::default().capped_for(nofile), handle);
    let stats = gate.run(vec![listener], &stop, Duration::from_secs(5)).expect("run");
    std::process::exit(if stats.served == 1 { 0 } else { 3 });
}

fn the_first_signal_lets_work_finish(signal: Signal) {
    let (child, address) = start();
    let mut working = TcpStream::connect(address).expect("connect");
    working.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").expect("write");
    std::thread::sleep(Duration::from_millis(150));
    send(&child, signal);
    let mut answer = String::new();
    working.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("done\n"), "{answer}");
    let (status, took) = wait(child);
    assert!(status.success() && took < Duration::from_secs(2), "{signal}: {status} after {took:?}");
}

fn the_second_signal_ends_it_at_once() {
    let (child, address) = start();
    let mut working = TcpStream::connect(address).expect("connect");
    working.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").expect("write");
    std::thread::sleep(Duration::from_millis(150));
    send(&child, Signal::SIGTERM);
    std::thread::sleep(Duration::from_millis(100)); // two at once would be one
    send(&child, Signal::SIGTERM);
    let (status, took) = wait(child);
    assert_eq!(status.code(), Some(128 + 15), "{status}");
    assert!(took < Duration::from_secs(1), "{took:?}");
}

fn start() -> (Child, SocketAddr) {
    let program = std::env::current_exe().expect("this program has a path");
    let mut child =
        Command::new(program).arg("--daemon").stderr(Stdio::piped()).spawn().expect("start the daemon");
    let mut line = String::new();
    let stderr = child.stderr.as_mut().expect("stderr is piped");
    BufReader::new(stderr).read_line(&mut line).expect("read its address");
    (child, line.trim().parse().expect("an address"))
}

fn send(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).expect("a pid fits")), signal).expect("signal the daemon");
}

fn wait(mut child: Child) -> (ExitStatus, Duration) {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(10) {
        if let Some(status) = child.try_wait().expect("wait") {
            return (status, start.elapsed());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().expect("kill the daemon");
    panic!("the daemon did not end within 10 s");
}
