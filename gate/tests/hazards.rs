//! The hazards of the HTTP server that this gate replaces, H1 to H18, against a real gate in a process of its
//! own: honest requests are answered during and after each, and memory and descriptors stay bounded.

mod attacks;
mod victim;

use attacks::*;
use std::io::Write;
use std::net::TcpStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use victim::Victim;

/// Slowest honest answer allowed, on a loaded machine; usual are a few milliseconds.
const PATIENCE: Duration = Duration::from_secs(4);

/// Attacks run one after another: each is about one server under one attack.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A victim with `options` under `attack`, which must leave it serving, and within `mib` of memory.
fn survives(options: &str, mib: u64, attack: impl FnOnce(&Victim, Probe) -> Outcome) -> String {
    let _turn = alone();
    let victim = Victim::start(options);
    let probe = get_probe(victim.address, "/ok");
    probe().expect("it serves before the attack");
    let before = descriptors(victim.pid());
    attack(&victim, &probe).assert_served_within(PATIENCE);
    let memory = Memory::of(victim.pid());
    eprintln!("{memory:?} KiB");
    assert!(memory.peak < mib << 10, "{memory:?} KiB, allowed are {mib} MiB");
    victim.wait_for_descriptors(before);
    victim.stop()
}

#[test]
fn h1_descriptor_exhaustion() {
    // No cap that would keep the process from running out: EMFILE itself is met.
    survives("nofile=96 connections=100000", 32, |v, probe| {
        idle_connections(v.address, 300, Duration::from_secs(2), probe)
    });
}

#[test]
fn h1_h2_connection_cap() {
    let words = survives("connections=64", 32, |v, probe| {
        // From the attacker's own address and slow to speak, an honest one may be the oldest: it asks again.
        idle_connections(v.address, 500, Duration::from_secs(1), &|| probe().or_else(|_| probe()))
    });
    assert!(!words.contains(" evicted: 0,"), "{words}");
}

#[test]
fn h2_slowloris() {
    survives("nofile=4096", 48, |v, probe| slowloris(v.address, 2000, Duration::from_secs(4), probe));
}

#[test]
fn h3_huge_header_line() {
    survives("", 24, |v, probe| huge_header_line(v.address, 200 << 20, probe));
}

#[test]
fn h3_tiny_headers() {
    survives("", 24, |v, probe| tiny_headers(v.address, 50 << 20, probe));
}

#[test]
fn h3_unfinished_bodies_stay_within_the_budget() {
    // 1,000 x 64 KiB are offered and 32 MiB may be held.
    survives("", 64, |v, probe| many_bodies(v.address, "/echo", 1000, 64 << 10, probe));
}

#[test]
fn h4_declared_length() {
    survives("", 24, |v, probe| declared_length(v.address, "/echo", probe));
}

#[test]
fn h5_http2_preface() {
    survives("", 24, |v, probe| http2_preface(v.address, 300, probe));
}

#[test]
fn h6_connect_and_reset() {
    let words = survives("", 24, |v, probe| connect_and_reset(v.address, "/ok", 3000, probe));
    assert!(words.contains(" panics: 0,"), "{words}");
}

#[test]
fn h7_an_idle_listener_goes_on() {
    survives("read=1 write=1", 24, |_, probe| {
        std::thread::sleep(Duration::from_millis(2500));
        besieged("idle", probe, String::new)
    });
}

#[test]
fn h8_endless_pipelining() {
    survives("", 24, |v, probe| endless_pipelining(v.address, "/ok", Duration::from_secs(3), probe));
}

#[test]
fn h9_unread_answers() {
    // 60 x 8 MiB are asked for; 32 MiB may be held, beside what the workers are making.
    survives("write=3", 128, |v, probe| unread_answers(v.address, "/big", 60, Duration::from_secs(2), probe));
}

#[test]
fn h10_slow_bodies() {
    survives("read=3", 24, |v, probe| slow_bodies(v.address, "/echo", 200, Duration::from_secs(2), probe));
}

#[test]
fn h11_keep_alive_burst() {
    survives("", 24, |v, probe| keep_alive_burst(v.address, "/ok", probe));
}

#[test]
fn h12_handler_panics() {
    let words = survives("", 24, |v, probe| {
        besieged("handler panics", probe, || {
            for _ in 0..50 {
                let answer =
                    exchange(v.address, b"GET /panic HTTP/1.1\r\nHost: h\r\n\r\n").expect("an answer");
                assert_eq!(status_of(&answer), 500, "{answer}");
            }
            "500 to all".to_owned()
        })
    });
    assert!(words.contains(" panics: 50,"), "{words}");
}

#[test]
fn h13_ambiguous_framing() {
    survives("", 24, |v, probe| {
        let outcome = ambiguous_framing(v.address, "/ok", probe);
        let count = exchange(v.address, b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n").expect("an answer");
        assert!(count.ends_with("\r\n\r\n0"), "a handler saw a smuggled request: {count}");
        outcome
    });
}

#[test]
fn h14_malformed_heads() {
    survives("", 24, |v, probe| malformed_heads(v.address, "/ok", probe));
}

#[test]
fn h15_header_injection() {
    survives("", 24, |v, probe| {
        besieged("header injection", probe, || {
            let answer = exchange(v.address, b"GET /reflect HTTP/1.1\r\nHost: h\r\n\r\n").expect("an answer");
            assert!(answer.contains("\r\nX-Name: a  X-Injected: yes\r\n"), "{answer}");
            "one header".to_owned()
        })
    });
}

#[test]
fn h16_endless_chunk_size() {
    survives("", 24, |v, probe| endless_chunk_size(v.address, "/echo", 20 << 20, probe));
}

#[test]
fn h17_shutdown_finishes_what_is_under_way_and_nothing_else() {
    let _turn = alone();
    let victim = Victim::start("");
    let to = victim.address;
    let mut working = connect(to).expect("connect");
    working.write_all(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n").expect("write");
    let mut deferred = connect(to).expect("connect");
    deferred.write_all(b"GET /later HTTP/1.1\r\nHost: h\r\n\r\n").expect("write");
    let mut half = connect(to).expect("connect");
    half.write_all(b"GET /ok HTTP/1.1\r\n").expect("write");
    let mut idle = connect(to).expect("connect");
    std::thread::sleep(Duration::from_millis(200));
    let start = Instant::now();
    let ended = std::thread::spawn(move || victim.stop());
    assert_eq!(receive(&mut idle).expect("closed in order"), "");
    assert!(TcpStream::connect(to).is_err(), "no new connections");
    half.write_all(b"Host: h\r\n\r\n").expect("write");
    for (stream, body) in [(&mut working, "slow\n"), (&mut deferred, "later\n"), (&mut half, "ok\n")] {
        let answer = receive(stream).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(body), "{answer}");
    }
    let words = ended.join().expect("it ended by itself");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert!(words.contains(" served: 3,"), "{words}");
}

#[test]
fn h17_shutdown_waits_for_no_one_beyond_its_grace() {
    let _turn = alone();
    let victim = Victim::start("answer=60");
    let mut never = connect(victim.address).expect("connect");
    never.write_all(b"GET /never HTTP/1.1\r\nHost: h\r\n\r\n").expect("write");
    let mut half = connect(victim.address).expect("connect");
    half.write_all(b"GET /ok HTTP/1.1\r\n").expect("write");
    std::thread::sleep(Duration::from_millis(200));
    let start = Instant::now();
    let ended = std::thread::spawn(move || victim.stop());
    let told = receive(&mut half).expect("an answer");
    assert_eq!(status_of(&told), 408, "{told}");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    ended.join().expect("it ended by itself");
    assert!(start.elapsed() < Duration::from_secs(5), "grace is 3 s, took {:?}", start.elapsed());
}

#[test]
fn h18_a_burst_of_connections_waits_in_the_backlog() {
    let _turn = alone();
    allow_descriptors(2048);
    // Not accepting at all: only the backlog takes them. Beyond it a SYN is repeated after a second.
    let listener = gate::listen("127.0.0.1:0".parse().expect("an address")).expect("listen");
    let to = listener.local_addr().expect("its address");
    let start = Instant::now();
    let held: Vec<TcpStream> = (0..600).map(|_| connect(to).expect("connect")).collect();
    assert!(start.elapsed() < Duration::from_millis(900), "{} took {:?}", held.len(), start.elapsed());
}
