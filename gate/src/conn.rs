//! One client connection: Reading, Working, Writing, Draining.
//!
//! Each call does what the socket allows now and says what comes next; nothing here blocks.

use crate::answer::Printed;
use crate::head::Head;
use crate::incoming::{Incoming, Progress};
use crate::limits::Limits;
use crate::refusal::Refusal;
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Instant;

#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) sock: TcpStream,
    pub(crate) peer: SocketAddr,
    /// When it was accepted.
    pub(crate) since: Instant,
    /// When its present state ends, whatever the client does.
    pub(crate) until: Instant,
    pub(crate) state: State,
    /// Bytes that the table has counted for it.
    pub(crate) counted: usize,
    /// epoll knows it (one-shot, so it may be disarmed).
    pub(crate) watched: bool,
    /// Every byte that the client sent has been read, as far as is known.
    drained: bool,
}

#[derive(Debug)]
pub(crate) enum State {
    /// The request is arriving.
    Reading(Incoming),
    /// The handler has it. The socket is not watched: nothing that the client does matters until the answer.
    /// `without_body`: the request is HEAD.
    Working { bytes: usize, without_body: bool },
    /// The answer is leaving.
    Writing { answer: Printed, sent: usize },
    /// Answered and half-closed: the rest of what the client sends is thrown away, so that the answer
    /// reaches it. (A close with unread input would reset the connection and may destroy the answer.)
    Draining { left: usize },
}

/// What a connection needs next.
#[derive(Debug)]
pub(crate) enum Step {
    /// Tell when more can be read.
    AwaitInput,
    /// Tell when more can be written.
    AwaitOutput,
    /// Nothing, until the handler answers.
    AwaitAnswer,
    /// Hand this request to a worker.
    Serve(Box<Head>, Vec<u8>),
    /// Answer with this refusal.
    Refuse(Refusal),
    /// Drop the connection.
    Close,
}

impl Conn {
    pub(crate) fn new(sock: TcpStream, peer: SocketAddr, now: Instant, limits: &Limits) -> Self {
        Self {
            sock,
            peer,
            since: now,
            until: now + limits.read,
            state: State::Reading(Incoming::default()),
            counted: 0,
            watched: false,
            drained: true,
        }
    }

    /// Bytes of memory held for this connection now.
    pub(crate) fn held(&self) -> usize {
        match &self.state {
            State::Reading(incoming) => incoming.held(),
            State::Working { bytes, .. } => *bytes,
            State::Writing { answer, .. } => answer.held(),
            State::Draining { .. } => 0,
        }
    }

    /// The socket is ready for what was awaited. `scratch` is where bytes land first.
    pub(crate) fn advance(&mut self, scratch: &mut [u8], now: Instant, limits: &Limits) -> Step {
        match self.state {
            State::Reading(_) => self.read(scratch, limits),
            State::Working { .. } => Step::AwaitAnswer,
            State::Writing { .. } => self.write(scratch, now, limits),
            State::Draining { .. } => self.drain(scratch),
        }
    }

    /// Begins the answer. Bytes that the client may still be sending are drained afterwards.
    pub(crate) fn begin_answer(&mut self, answer: Printed, until: Instant) {
        self.drained &= matches!(self.state, State::Working { .. });
        self.until = until;
        self.state = State::Writing { answer, sent: 0 };
    }

    /// One read at a time: a connection that sends without end must not hold up the others, and epoll
    /// tells when there is more.
    fn read(&mut self, scratch: &mut [u8], limits: &Limits) -> Step {
        let State::Reading(incoming) = &mut self.state else { return Step::Close };
        let n = match self.sock.read(scratch) {
            Ok(0) => return Step::Close,
            Ok(n) => n,
            Err(error) if is_momentary(error.kind()) => return Step::AwaitInput,
            Err(_) => return Step::Close,
        };
        match incoming.feed(&scratch[..n], limits) {
            Progress::More => Step::AwaitInput,
            Progress::Continue => {
                // Best effort: a client that misses it sends its body after a while all the same.
                let _ = self.sock.write(b"HTTP/1.1 100 Continue\r\n\r\n");
                Step::AwaitInput
            }
            Progress::Whole { head, body, surplus } => {
                self.drained = surplus == 0;
                let without_body = head.method == "HEAD";
                self.state = State::Working { bytes: head.size + body.len(), without_body };
                Step::Serve(head, body)
            }
            Progress::Refused(refusal) => Step::Refuse(refusal),
        }
    }

    fn write(&mut self, scratch: &mut [u8], now: Instant, limits: &Limits) -> Step {
        let State::Writing { answer, sent } = &mut self.state else { return Step::Close };
        let body = answer.body.bytes();
        let total = answer.head.len() + body.len();
        while *sent < total {
            let head = answer.head.get(*sent..).unwrap_or_default();
            let body = body.get(sent.saturating_sub(answer.head.len())..).unwrap_or_default();
            match self.sock.write_vectored(&[IoSlice::new(head), IoSlice::new(body)]) {
                Ok(0) => return Step::Close,
                Ok(n) => *sent += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Step::AwaitOutput,
                Err(_) => return Step::Close,
            }
        }
        self.finish(scratch, now, limits)
    }

    /// The kernel has the whole answer. A client that sent its request and nothing else is done; one that may
    /// still be sending is drained.
    fn finish(&mut self, scratch: &mut [u8], now: Instant, limits: &Limits) -> Step {
        if self.drained {
            match self.sock.read(scratch) {
                Ok(n) if n > 0 => {}
                _ => return Step::Close,
            }
        }
        if self.sock.shutdown(Shutdown::Write).is_err() {
            return Step::Close;
        }
        self.until = self.until.min(now + limits.linger);
        // Enough for a body that was refused for its size by a client that does not listen while it sends.
        self.state = State::Draining { left: limits.body.saturating_mul(4) };
        Step::AwaitInput
    }

    fn drain(&mut self, scratch: &mut [u8]) -> Step {
        let State::Draining { left } = &mut self.state else { return Step::Close };
        match self.sock.read(scratch) {
            Ok(n) if n > 0 && n <= *left => {
                *left -= n;
                Step::AwaitInput
            }
            Err(error) if is_momentary(error.kind()) => Step::AwaitInput,
            _ => Step::Close,
        }
    }

    /// Tries to tell the client why, in the one write that its socket takes at once. For connections that are
    /// dropped now in any case.
    pub(crate) fn part_with(&mut self, answer: &Printed) {
        // Whoever does not take it has missed nothing but the reason.
        let _ = self.sock.write_vectored(&[IoSlice::new(&answer.head), IoSlice::new(answer.body.bytes())]);
    }
}

fn is_momentary(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::Answer;
    use nix::poll::{PollFd, PollFlags, poll};
    use std::net::TcpListener;
    use std::os::fd::AsFd;

    struct Pair {
        client: TcpStream,
        conn: Conn,
        scratch: Vec<u8>,
        limits: Limits,
    }

    impl Pair {
        fn new() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (sock, peer) = listener.accept().unwrap();
            sock.set_nonblocking(true).unwrap();
            let limits = Limits::default();
            let conn = Conn::new(sock, peer, Instant::now(), &limits);
            Self { client, conn, scratch: vec![0; 4096], limits }
        }

        fn send(&mut self, bytes: &[u8]) -> Step {
            self.client.write_all(bytes).unwrap();
            self.await_input();
            self.advance()
        }

        fn await_input(&self) {
            let mut fds = [PollFd::new(self.conn.sock.as_fd(), PollFlags::POLLIN)];
            assert_eq!(poll(&mut fds, 5000u16), Ok(1), "input never came");
        }

        fn advance(&mut self) -> Step {
            self.conn.advance(&mut self.scratch, Instant::now(), &self.limits)
        }

        fn answer(&mut self, text: String) -> Step {
            let until = Instant::now() + self.limits.write;
            self.conn.begin_answer(Answer::text(200, text).print(false), until);
            self.advance()
        }

        fn received(mut self) -> String {
            drop(self.conn);
            let mut text = String::new();
            self.client.read_to_string(&mut text).unwrap();
            text
        }
    }

    const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";

    #[test]
    fn a_request_in_two_pieces_is_served_and_closed_without_draining() {
        let mut pair = Pair::new();
        assert!(matches!(pair.advance(), Step::AwaitInput));
        assert!(matches!(pair.send(&GET[..5]), Step::AwaitInput));
        assert_eq!(pair.conn.held(), 5);
        assert!(matches!(pair.send(&GET[5..]), Step::Serve(..)));
        assert!(matches!(pair.conn.state, State::Working { .. }));
        assert!(matches!(pair.answer("done".into()), Step::Close));
        assert!(pair.received().ends_with("\r\n\r\ndone"));
    }

    #[test]
    fn surplus_input_is_drained_after_the_answer_up_to_a_bound() {
        let mut pair = Pair::new();
        assert!(matches!(pair.send(&[GET, b"more"].concat()), Step::Serve(..)));
        assert!(matches!(pair.answer("done".into()), Step::AwaitInput));
        assert!(matches!(pair.conn.state, State::Draining { .. }));
        assert!(matches!(pair.send(b"and more"), Step::AwaitInput));
        pair.conn.state = State::Draining { left: 3 };
        assert!(matches!(pair.send(b"four"), Step::Close));
    }

    #[test]
    fn a_refused_request_is_drained_even_when_nothing_more_has_come_yet() {
        let mut pair = Pair::new();
        let step = pair.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9000000000000000000\r\n\r\n");
        assert!(matches!(step, Step::Refuse(Refusal::BodyTooLarge)), "{step:?}");
        assert!(matches!(pair.answer("no".into()), Step::AwaitInput));
        assert!(matches!(pair.conn.state, State::Draining { .. }));
    }

    #[test]
    fn an_unread_answer_waits_and_then_goes_on_where_it_stopped() {
        let mut pair = Pair::new();
        assert!(matches!(pair.send(GET), Step::Serve(..)));
        let long = "0123456789".repeat(2_000_000);
        assert!(matches!(pair.answer(long.clone()), Step::AwaitOutput));
        assert!(pair.conn.held() > long.len(), "counted while it waits");
        let mut client = pair.client.try_clone().unwrap();
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            client.read_to_string(&mut text).map(|_| text)
        });
        while !matches!(pair.advance(), Step::Close) {
            std::thread::yield_now();
        }
        drop(pair.conn);
        let text = reader.join().unwrap().unwrap();
        assert_eq!(text.split_once("\r\n\r\n").unwrap().1, long);
    }

    #[test]
    fn a_client_that_leaves_is_let_go() {
        let mut pair = Pair::new();
        pair.client.shutdown(Shutdown::Both).unwrap();
        pair.await_input();
        assert!(matches!(pair.advance(), Step::Close));
    }
}
