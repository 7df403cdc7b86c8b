//! A gate in a process of its own, to be attacked: memory, descriptors and limits are then its own too.
//!
//! The process is this test binary again, running only the ignored test `victim`.

use super::attacks::descriptors;
use gate::{Answer, Gate, Limits, Reply, Request, Stop, listen};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const OPTIONS: &str = "GATE_VICTIM";
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
        let mut child = Command::new(std::env::current_exe().expect("this binary has a path"))
            .args(["--ignored", "--exact", "--nocapture", "victim"])
            .env(OPTIONS, format!("{options} "))
            .env("RUST_BACKTRACE", "0") // a backtrace keeps tens of MB of symbols in memory
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start the victim");
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

/// The victim's side: serves until its standard input ends. Does nothing when no one started it as a victim.
pub(crate) fn be_a_victim() {
    let Ok(options) = std::env::var(OPTIONS) else { return };
    let limits = read_options(&options);
    let stop = Stop::new().expect("an event");
    let setter = stop.clone();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        setter.trigger();
    });
    let listener = listen("127.0.0.1:0".parse().expect("an address")).expect("listen");
    eprintln!("\n{ANNOUNCEMENT}{}", listener.local_addr().expect("its address"));
    let served = Served::default();
    let gate = Gate::new(limits, move |request, reply| served.handle(request, reply));
    let stats = gate.run(vec![listener], &stop, Duration::from_secs(3)).expect("run");
    eprintln!("{stats:?}");
}

fn read_options(options: &str) -> Limits {
    let mut limits = Limits::default();
    for (name, value) in options.split_whitespace().filter_map(|option| option.split_once('=')) {
        let number: u32 = value.parse().expect("a number");
        let seconds = Duration::from_secs(number.into());
        let count = usize::try_from(number).expect("32 bits fit");
        match name {
            "nofile" => {
                use nix::sys::resource::{Resource, setrlimit};
                setrlimit(Resource::RLIMIT_NOFILE, number.into(), number.into()).expect("setrlimit");
            }
            "connections" => limits.connections = count,
            "workers" => limits.workers = count,
            "queue" => limits.queue = count,
            "read" => limits.read = seconds,
            "write" => limits.write = seconds,
            "answer" => limits.answer = seconds,
            _ => panic!("unknown option {name}"),
        }
    }
    limits
}

#[derive(Default)]
struct Served {
    smuggled: AtomicU64,
    kept: Arc<Mutex<Vec<Reply>>>,
}

impl Served {
    fn handle(&self, request: Request, reply: Reply) {
        if request.query.as_deref() == Some("smuggled") {
            self.smuggled.fetch_add(1, Ordering::Relaxed);
        }
        let answer = match (request.method.as_str(), request.path.as_str()) {
            ("GET" | "HEAD", "/ok") => Answer::text(200, "ok\n"),
            ("POST", "/echo") => Answer::new(200, "application/octet-stream", request.body),
            ("GET", "/big") => Answer::text(200, "x".repeat(8 << 20)),
            ("GET", "/smuggled") => Answer::text(200, self.smuggled.load(Ordering::Relaxed).to_string()),
            ("GET", "/who") => Answer::text(200, format!("{} {}", request.peer, request.local)),
            ("GET", "/reflect") => Answer::text(200, "ok\n").with_header("X-Name", "a\r\nX-Injected: yes"),
            ("GET", "/panic") => panic!("as asked"),
            ("GET", "/slow") => {
                std::thread::sleep(Duration::from_millis(700));
                Answer::text(200, "slow\n")
            }
            ("GET", "/later") => {
                std::thread::spawn(move || {
                    std::thread::sleep(Duration::from_millis(300));
                    reply.send(Answer::text(200, "later\n"));
                });
                return;
            }
            ("GET", "/never") => return self.kept.lock().expect("no one panics with it").push(reply),
            ("GET", "/dropped") => return,
            _ => Answer::text(404, "not found\n"),
        };
        reply.send(answer);
    }
}
