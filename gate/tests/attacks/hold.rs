//! Connections that stay.

use super::{Outcome, Probe, allow_descriptors, besieged, connect, receive, status_of};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// H1, H2: `count` connections that say nothing, held for `time`. With a count beyond the server's descriptors
/// it is descriptor exhaustion.
pub(crate) fn idle_connections(to: SocketAddr, count: usize, time: Duration, probe: Probe) -> Outcome {
    allow_descriptors(count as u64 + 256);
    besieged("idle connections", probe, || {
        let held: Vec<TcpStream> = (0..count).filter_map(|_| connect(to).ok()).collect();
        std::thread::sleep(time);
        format!("{} connections held", held.len())
    })
}

/// H2: `count` connections that send a request byte by byte for `time`, and come back when dropped.
pub(crate) fn slowloris(to: SocketAddr, count: usize, time: Duration, probe: Probe) -> Outcome {
    allow_descriptors(count as u64 + 256);
    besieged("slowloris", probe, || {
        let open = || {
            let stream = connect(to).ok()?;
            stream.set_nonblocking(true).ok()?;
            (&stream).write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ").ok().map(|()| stream)
        };
        let mut streams: Vec<Option<TcpStream>> = (0..count).map(|_| open()).collect();
        let (start, mut returned) = (Instant::now(), 0);
        while start.elapsed() < time {
            for slot in &mut streams {
                let alive = slot.as_mut().is_some_and(drip);
                if !alive {
                    *slot = open();
                    returned += 1;
                }
                if start.elapsed() >= time {
                    break;
                }
            }
        }
        format!("{count} connections, {returned} reconnects")
    })
}

/// One more byte of a header value; false when the server has dropped the connection.
fn drip(stream: &mut TcpStream) -> bool {
    let gone = match stream.read(&mut [0; 512]) {
        Ok(0) => true,
        Ok(_) => false,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    };
    !gone && stream.write_all(b"a").is_ok()
}

/// H10: bodies that never come, some announced with `Expect: 100-continue`, held for `time`.
pub(crate) fn slow_bodies(to: SocketAddr, path: &str, count: usize, time: Duration, probe: Probe) -> Outcome {
    allow_descriptors(count as u64 + 256);
    besieged("slow bodies", probe, || {
        let mut held = Vec::new();
        for n in 0..count {
            let Ok(mut stream) = connect(to) else { continue };
            let (expect, body) = if n % 2 == 0 { ("", "x") } else { ("Expect: 100-continue\r\n", "") };
            let head = format!(
                "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000\r\n{expect}\r\n{body}"
            );
            stream.write_all(head.as_bytes()).expect("the head is taken");
            held.push(stream);
        }
        let mut told = [0; 25];
        let expecting = held.get_mut(1).expect("two connections at least");
        expecting.read_exact(&mut told).expect("an answer to Expect");
        assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n");
        std::thread::sleep(time);
        format!("{} bodies unfinished", held.len())
    })
}

/// H9: `count` clients that ask for a large answer at `path` and do not read it, for `time`.
pub(crate) fn unread_answers(
    to: SocketAddr,
    path: &str,
    count: usize,
    time: Duration,
    probe: Probe,
) -> Outcome {
    allow_descriptors(count as u64 + 256);
    besieged("unread answers", probe, || {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let mut held = Vec::new();
        for _ in 0..count {
            let Ok(mut stream) = connect(to) else { continue };
            stream.write_all(request.as_bytes()).expect("the request is taken");
            held.push(stream);
        }
        std::thread::sleep(time);
        format!("{} answers unread", held.len())
    })
}

/// H11: bursts of 8, 20 and 100 clients that ask once with `keep-alive` and leave their connections open. All must
/// be answered within two seconds, though no connection ends by its client.
pub(crate) fn keep_alive_burst(to: SocketAddr, path: &str, probe: Probe) -> Outcome {
    besieged("keep-alive burst", probe, || {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n");
        for count in [8, 20, 100] {
            let mut streams: Vec<TcpStream> = (0..count).map(|_| connect(to).expect("connect")).collect();
            let start = Instant::now();
            for stream in &mut streams {
                stream.write_all(request.as_bytes()).expect("write");
            }
            for (n, stream) in streams.iter_mut().enumerate() {
                let answer =
                    receive(stream).unwrap_or_else(|error| panic!("{n} of {count} unanswered: {error}"));
                assert_eq!(status_of(&answer), 200, "{n} of {count}: {answer}");
            }
            assert!(start.elapsed() < Duration::from_secs(2), "{count} took {:?}", start.elapsed());
        }
        "all of 8, 20 and 100 answered".to_owned()
    })
}
