//! A server to be attacked by the tests, in a process of its own: serves until its standard input ends.
//!
//! Options: `nofile=N connections=N read=SECONDS write=SECONDS answer=SECONDS workers=N queue=N`.

use gate::{Answer, Gate, Limits, Reply, Request, Stop, listen};
use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What comes before the address on standard error.
const ANNOUNCEMENT: &str = "victim listens on ";

fn main() {
    let limits = read_options(std::env::args().skip(1));
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

fn read_options(options: impl Iterator<Item = String>) -> Limits {
    let mut limits = Limits::default();
    for option in options {
        let (name, value) = option.split_once('=').expect("NAME=NUMBER");
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
