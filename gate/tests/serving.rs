//! How honest requests are served, over real sockets.

mod attacks;
mod victim;

use attacks::{connect, descriptors, exchange, receive, status_of};
use gate::{Answer, Gate, Limits, Stop, listen};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use victim::Victim;

fn get(to: SocketAddr, path: &str) -> String {
    exchange(to, format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes()).expect("an answer")
}

#[test]
fn bodies_of_every_size_come_back_whole() {
    let victim = Victim::start("");
    for size in [0, 1, 5_600, 65_535, 65_536] {
        let body: Vec<u8> = (0..=250u8).cycle().take(size).collect();
        let mut stream = connect(victim.address).unwrap();
        write!(stream, "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: {size}\r\n\r\n").unwrap();
        stream.write_all(&body).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"), "{size}");
        assert!(answer.ends_with(&body) && answer.len() > body.len(), "{size}");
    }
    let beyond =
        exchange(victim.address, b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 65537\r\n\r\n").unwrap();
    assert_eq!(status_of(&beyond), 413, "{beyond}");
}

#[test]
fn a_refused_body_does_not_keep_the_client_from_reading_why() {
    let victim = Victim::start("");
    let mut stream = connect(victim.address).unwrap();
    stream.write_all(b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 200000\r\n\r\n").unwrap();
    stream.write_all(&[b'x'; 200_000]).unwrap();
    let answer = receive(&mut stream).unwrap();
    assert_eq!(status_of(&answer), 413, "{answer}");
}

#[test]
fn head_gets_the_head_alone() {
    let victim = Victim::start("");
    let answer = exchange(victim.address, b"HEAD /ok HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    assert!(answer.contains("\r\nContent-Length: 3\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
}

#[test]
fn handlers_learn_both_addresses() {
    let victim = Victim::start("");
    let mut stream = connect(victim.address).unwrap();
    let expected = format!("{} {}", stream.local_addr().unwrap(), victim.address);
    stream.write_all(b"GET /who HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let answer = receive(&mut stream).unwrap();
    assert!(answer.ends_with(&expected), "{answer} instead of {expected}");
}

#[test]
fn answers_may_come_later_and_hold_no_worker() {
    let victim = Victim::start("workers=1");
    let start = Instant::now();
    let mut streams: Vec<_> = (0..20).map(|_| connect(victim.address).unwrap()).collect();
    for stream in &mut streams {
        stream.write_all(b"GET /later HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    }
    for stream in &mut streams {
        let answer = receive(stream).unwrap();
        assert!(answer.ends_with("\r\n\r\nlater\n"), "{answer}");
    }
    // One after another, 300 ms each, would be 6 s.
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

#[test]
fn a_reply_that_never_comes_is_a_503_and_a_dropped_one_a_500() {
    let victim = Victim::start("answer=1");
    assert_eq!(status_of(&get(victim.address, "/dropped")), 500);
    let start = Instant::now();
    assert_eq!(status_of(&get(victim.address, "/never")), 503);
    let took = start.elapsed();
    assert!(took > Duration::from_millis(900) && took < Duration::from_secs(3), "{took:?}");
    let words = victim.stop();
    assert!(words.contains(" unanswered: 1,") && words.contains(" refused_5xx: 1,"), "{words}");
}

#[test]
fn a_full_queue_is_a_503_and_passes() {
    let victim = Victim::start("workers=1 queue=1");
    let mut streams: Vec<_> = (0..4).map(|_| connect(victim.address).unwrap()).collect();
    for stream in &mut streams {
        stream.write_all(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        std::thread::sleep(Duration::from_millis(50));
    }
    let statuses: Vec<u16> = streams.iter_mut().map(|stream| status_of(&receive(stream).unwrap())).collect();
    assert_eq!(statuses, [200, 200, 503, 503]);
    assert_eq!(status_of(&get(victim.address, "/ok")), 200);
}

#[test]
fn a_client_that_leaves_before_its_answer_leaves_nothing_behind() {
    let victim = Victim::start("");
    assert_eq!(status_of(&get(victim.address, "/ok")), 200);
    let before = descriptors(victim.pid());
    for _ in 0..50 {
        let mut stream = connect(victim.address).unwrap();
        stream.write_all(b"GET /later HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    }
    assert_eq!(status_of(&get(victim.address, "/later")), 200);
    victim.wait_for_descriptors(before);
    assert_eq!(status_of(&get(victim.address, "/ok")), 200);
}

#[test]
fn one_gate_serves_several_listeners_and_tells_how_it_fares() {
    let listeners =
        vec![listen("[::]:0".parse().unwrap()).unwrap(), listen("127.0.0.1:0".parse().unwrap()).unwrap()];
    let ports: Vec<u16> = listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
    let stop = Stop::new().unwrap();
    let limits =
        Limits { body_for: |path| if path == "/small" { 3 } else { usize::MAX }, ..Limits::default() };
    let gate = Gate::new(limits, |request, reply| {
        reply.send(Answer::text(200, format!("{} {}", request.peer.ip(), request.local)));
    })
    .with_refusals(|status, reason| Answer::json(status, format!("{{\"error\":\"{reason}\"}}")));
    let counters = gate.counters();
    let running = std::thread::spawn({
        let stop = stop.clone();
        move || gate.run(listeners, &stop, Duration::from_secs(1))
    });
    for port in ports {
        let answer = get(SocketAddr::from(([127, 0, 0, 1], port)), "/");
        assert!(answer.ends_with(&format!("127.0.0.1 127.0.0.1:{port}")), "{answer}");
        let small = b"POST /small HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nfour";
        let refused = exchange(SocketAddr::from(([127, 0, 0, 1], port)), small).unwrap();
        assert_eq!(status_of(&refused), 413, "{refused}");
        assert!(refused.ends_with("{\"error\":\"the request body is too large\"}"), "{refused}");
    }
    let live = counters.snapshot();
    assert_eq!((live.accepted, live.served, live.refused_4xx), (4, 2, 2));
    stop.trigger();
    let last = running.join().unwrap().unwrap();
    assert_eq!((last.open, last.buffered, last.served), (0, 0, 2));
}
