//! Requests that the gate's own thread may answer.

mod attacks;

use attacks::{connect, exchange, receive, status_of};
use gate::{Answer, Gate, Limits, Reply, Request, Stop, listen};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// A gate with one worker whose handler answers with the name of its thread.
struct Running {
    address: SocketAddr,
    stop: Stop,
    thread: JoinHandle<()>,
    /// Told when the handler of `/held` has begun.
    begun: Receiver<()>,
    /// Lets one of them end.
    release: Sender<()>,
}

impl Running {
    fn start() -> Self {
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a listener");
        let address = listener.local_addr().expect("its address");
        let stop = Stop::new().expect("a stop");
        let (begin, begun) = channel();
        let (release, held) = channel::<()>();
        let held = Mutex::new(held);
        let handler = move |request: Request, reply: Reply| {
            match &*request.path {
                "/held" => {
                    begin.send(()).expect("the test waits");
                    held.lock()
                        .expect("one holder")
                        .recv_timeout(Duration::from_secs(10))
                        .expect("a release");
                }
                "/brief/panic" => panic!("on purpose"),
                _ => {}
            }
            reply.send(Answer::text(200, std::thread::current().name().unwrap_or_default().to_owned()));
        };
        let gate = Gate::new(Limits { workers: 1, ..Limits::default() }, handler)
            .with_brief(|request| request.path.starts_with("/brief"));
        let thread = std::thread::Builder::new()
            .name("front".into())
            .spawn({
                let stop = stop.clone();
                move || {
                    gate.run(vec![listener], &stop, Duration::from_secs(5)).expect("a gate that ran");
                }
            })
            .expect("a thread");
        Self { address, stop, thread, begun, release }
    }

    fn send(&self, path: &str) -> TcpStream {
        let mut stream = connect(self.address).expect("a connection");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").expect("room for a request");
        stream
    }

    fn end(self) {
        self.stop.trigger();
        self.thread.join().expect("no panic");
    }
}

fn body(stream: &mut TcpStream) -> String {
    let answer = receive(stream).expect("an answer");
    assert_eq!(status_of(&answer), 200, "{answer}");
    answer.split_once("\r\n\r\n").expect("a body").1.to_owned()
}

#[test]
fn a_brief_request_that_comes_alone_wakes_no_worker_and_others_do() {
    let gate = Running::start();
    assert_eq!(body(&mut gate.send("/brief")), "front");
    assert_eq!(body(&mut gate.send("/other")), "worker-0");
    gate.end();
}

#[test]
fn a_busy_worker_keeps_no_brief_request_but_those_that_wait_for_it_go_first() {
    let gate = Running::start();
    let mut held = gate.send("/held");
    gate.begun.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(body(&mut gate.send("/brief")), "front");
    let mut waiting = gate.send("/other");
    std::thread::sleep(Duration::from_millis(200));
    let mut last = gate.send("/brief");
    std::thread::sleep(Duration::from_millis(200));
    gate.release.send(()).unwrap();
    let answers = [body(&mut held), body(&mut waiting), body(&mut last)];
    assert_eq!(answers, ["worker-0", "worker-0", "worker-0"]);
    gate.end();
}

#[test]
fn a_panic_over_a_brief_request_is_a_500_and_the_gate_goes_on() {
    let gate = Running::start();
    let answer = exchange(gate.address, b"GET /brief/panic HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    assert_eq!(status_of(&answer), 500, "{answer}");
    // By whom does not matter: the gate may still hear of the answer before.
    body(&mut gate.send("/brief"));
    gate.end();
}
