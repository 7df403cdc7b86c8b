//! Requests whose end is a lie, a riddle, or another request.

use super::{CUT_BY, Outcome, Probe, besieged, connect, exchange, receive, status_of};
use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// H4: bodies declared with up to 2^64 - 1 bytes. Whoever allocates them dies.
pub(crate) fn declared_length(to: SocketAddr, path: &str, probe: Probe) -> Outcome {
    besieged("declared length", probe, || {
        for length in ["9000000000000000000", "18446744073709551615", "99999999999999999999", "4294967296"] {
            for _ in 0..10 {
                let head =
                    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\nx");
                let answer = exchange(to, head.as_bytes()).expect("an answer");
                assert_eq!(status_of(&answer), 413, "Content-Length: {length} got {answer}");
            }
        }
        "413 to all".to_owned()
    })
}

/// H5: `count` HTTP/2 prefaces, and HTTP/2.0 in an otherwise sound request.
pub(crate) fn http2_preface(to: SocketAddr, count: usize, probe: Probe) -> Outcome {
    besieged("HTTP/2 preface", probe, || {
        for n in 0..count {
            let bytes = match n % 2 {
                0 => &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
                _ => b"GET / HTTP/2.0\r\nHost: localhost\r\n\r\n",
            };
            let answer = exchange(to, bytes).expect("an answer");
            assert_eq!(status_of(&answer), 505, "{answer}");
        }
        format!("505 to all {count}")
    })
}

/// H13: every framing that two servers could read differently. Behind each stands a second request; none may be
/// answered, and the first must be refused.
pub(crate) fn ambiguous_framing(to: SocketAddr, path: &str, probe: Probe) -> Outcome {
    let cases = [
        ("Transfer-Encoding: chunked", 411),
        ("Transfer-Encoding: identity", 411),
        ("Transfer-Encoding: xchunked", 411),
        ("Transfer-Encoding:", 411),
        ("Transfer-Encoding: gzip, chunked", 411),
        ("transfer-encoding: chunked\r\nTransfer-Encoding: identity", 411),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", 400),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5", 400),
        ("Content-Length: 5\r\nContent-Length: 5", 400),
        ("Content-Length: 5\r\nContent-Length: 50", 400),
        ("Content-Length: abc", 400),
        ("Content-Length: -1", 400),
        ("Content-Length: +5", 400),
        ("Content-Length: 0x10", 400),
        ("Content-Length: 5, 5", 400),
        ("Content-Length:", 400),
        ("Content-Length : 5", 400),
        ("X: y\r\n Content-Length: 5", 400),
        ("X: y\rContent-Length: 5", 400),
        ("X: y\nContent-Length: 5", 400),
    ];
    refused_once("ambiguous framing", to, path, probe, &cases)
}

/// H14: what a lax parser lets through.
pub(crate) fn malformed_heads(to: SocketAddr, path: &str, probe: Probe) -> Outcome {
    let cases = [
        ("X: a\x01b", 400),
        ("X: a\x7fb", 400),
        ("X: a\0b", 400),
        ("X: \u{e9}", 400),
        ("X\x01: a", 400),
        (": nameless", 400),
        ("no colon", 400),
        (" folded", 400),
        ("Host: second", 400),
        ("Expect: something", 417),
    ];
    refused_once("malformed heads", to, path, probe, &cases)
}

fn refused_once(
    name: &'static str,
    to: SocketAddr,
    path: &str,
    probe: Probe,
    cases: &[(&str, u16)],
) -> Outcome {
    besieged(name, probe, || {
        for (fields, status) in cases {
            let second = format!("GET {path}?smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n");
            let first = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n\r\n0\r\n\r\n");
            let answer = exchange(to, format!("{first}{second}").as_bytes()).expect("an answer");
            assert_eq!(status_of(&answer), *status, "{fields:?} got {answer}");
            assert_eq!(answers_in(&answer), 1, "{fields:?} got {answer}");
            let lower = answer.to_ascii_lowercase();
            assert!(lower.contains("\r\nconnection: close\r\n"), "{fields:?} got {answer}");
        }
        format!("{} cases refused", cases.len())
    })
}

/// H8: requests without end on one connection, again and again for `time`. One answer each, then it is closed.
pub(crate) fn endless_pipelining(to: SocketAddr, path: &str, time: Duration, probe: Probe) -> Outcome {
    besieged("endless pipelining", probe, || {
        let batch = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").repeat(1000);
        let (start, mut connections, mut sent) = (Instant::now(), 0, 0);
        while start.elapsed() < time {
            let Ok(mut stream) = connect(to) else { continue };
            connections += 1;
            let before = sent;
            while start.elapsed() < time && stream.write_all(batch.as_bytes()).is_ok() {
                sent += batch.len();
                assert!(sent - before < CUT_BY, "one connection may send without end");
            }
            // Nothing to read when the reset overtook the answer, as it may for one who sends on and on.
            let answers = receive(&mut stream).map_or(0, |text| answers_in(&text));
            assert!(answers <= 1, "{answers} answers on one connection");
        }
        assert!(connections > 1, "one connection went on for {time:?}");
        format!("{connections} connections, {} KiB sent", sent >> 10)
    })
}

/// Status lines in what came back; a body may well speak of HTTP/1.1.
fn answers_in(text: &str) -> usize {
    text.split("HTTP/1.1 ").skip(1).filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit())).count()
}
