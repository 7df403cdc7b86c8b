//! Much of something.

use super::{CUT_BY, Outcome, Probe, besieged, connect, exchange, status_of};
use nix::libc::linger;
use nix::sys::socket::{setsockopt, sockopt};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};

/// H6: `count` connections that send a request and reset before the answer.
pub(crate) fn connect_and_reset(to: SocketAddr, path: &str, count: usize, probe: Probe) -> Outcome {
    besieged("connect and reset", probe, || {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let mut sent = 0;
        for _ in 0..count {
            let Ok(mut stream) = connect(to) else { continue };
            sent += usize::from(stream.write_all(request.as_bytes()).is_ok());
            // A close with zero linger is a reset (socket(7)).
            setsockopt(&stream, sockopt::Linger, &linger { l_onoff: 1, l_linger: 0 }).expect("SO_LINGER");
        }
        assert!(sent * 10 >= count * 9, "only {sent} of {count} requests could be sent");
        format!("{sent} resets")
    })
}

/// H3: one header line of up to `total` bytes.
pub(crate) fn huge_header_line(to: SocketAddr, total: usize, probe: Probe) -> Outcome {
    besieged("huge header line", probe, || {
        let sent = pour(to, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ", &[b'a'; 64 << 10], total);
        format!("cut after {} of {} KiB", sent >> 10, total >> 10)
    })
}

/// H3: headers of six bytes, up to `total` bytes of them.
pub(crate) fn tiny_headers(to: SocketAddr, total: usize, probe: Probe) -> Outcome {
    besieged("tiny headers", probe, || {
        let sent = pour(to, b"GET / HTTP/1.1\r\nHost: localhost\r\n", &b"a: b\r\n".repeat(10_000), total);
        format!("cut after {} of {} KiB", sent >> 10, total >> 10)
    })
}

/// H16: a chunk size whose digits never end.
pub(crate) fn endless_chunk_size(to: SocketAddr, path: &str, total: usize, probe: Probe) -> Outcome {
    besieged("endless chunk size", probe, || {
        let start = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
        let sent = pour(to, start.as_bytes(), &[b'0'; 64 << 10], total);
        let answer = exchange(to, start.as_bytes()).expect("an answer");
        assert_eq!(status_of(&answer), 411, "{answer}");
        format!("cut after {} of {} KiB", sent >> 10, total >> 10)
    })
}

/// H3, many at once: `count` connections that each send all but the last byte of a body of `size` bytes.
pub(crate) fn many_bodies(to: SocketAddr, path: &str, count: usize, size: usize, probe: Probe) -> Outcome {
    besieged("many unfinished bodies", probe, || {
        let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n");
        let body = vec![b'x'; size - 1];
        let mut held: Vec<TcpStream> = Vec::new();
        for _ in 0..count {
            let Ok(mut stream) = connect(to) else { continue };
            // Whoever is dropped to keep the memory bounded cannot send all of it.
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
            held.push(stream);
        }
        format!("{} connections, {} KiB offered", held.len(), (held.len() * size) >> 10)
    })
}

/// Sends `start` and then `piece` over and over until the server cuts the connection, which must be soon.
fn pour(to: SocketAddr, start: &[u8], piece: &[u8], total: usize) -> usize {
    let mut stream = connect(to).expect("connect");
    stream.write_all(start).expect("the start of a request is taken");
    let mut sent = start.len();
    while sent < total {
        if stream.write_all(piece).is_err() {
            assert!(sent < CUT_BY.min(total), "taken without end: {sent} bytes");
            return sent;
        }
        sent += piece.len();
    }
    panic!("all {total} bytes were taken");
}
