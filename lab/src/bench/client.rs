//! One HTTP exchange on a connection of its own, with as little ado as a load generator can afford.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// No exchange takes longer between two bytes.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest answer taken: the manager gives at most three quarters of a 64th of the memory, 768 MiB of 64 GiB.
const ANSWER_MAX: usize = 1 << 30;

/// A client that keeps its buffers from one exchange to the next.
#[derive(Debug)]
pub(super) struct Client {
    address: SocketAddr,
    request: Vec<u8>,
    answer: Vec<u8>,
    wire: u64,
}

/// An answer, as long as the client's buffer holds it.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    /// The status code.
    pub(super) status: u16,
    /// The body.
    pub(super) body: &'a [u8],
}

impl Client {
    /// A client of this server.
    pub(super) fn new(address: SocketAddr) -> Self {
        Self { address, request: Vec::new(), answer: Vec::new(), wire: 0 }
    }

    /// Bytes sent and received so far, as TCP carries them.
    pub(super) fn wire(&self) -> u64 {
        self.wire
    }

    /// Posts a body, with the head that an agent writes.
    ///
    /// # Errors
    /// What the socket says, or that the answer is not HTTP.
    pub(super) fn post(&mut self, path: &str, body: &[u8]) -> io::Result<Answer<'_>> {
        self.request.clear();
        write!(
            self.request,
            "POST {path} HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\n\r\n",
            self.address,
            body.len()
        )?;
        self.request.extend_from_slice(body);
        self.exchange()
    }

    /// Gets a path.
    ///
    /// # Errors
    /// What the socket says, or that the answer is not HTTP.
    pub(super) fn get(&mut self, path: &str) -> io::Result<Answer<'_>> {
        self.request.clear();
        write!(self.request, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        self.exchange()
    }

    fn exchange(&mut self) -> io::Result<Answer<'_>> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&self.request)?;
        self.answer.clear();
        let mut head: Option<Head> = None;
        let mut piece = [0; 16 << 10];
        while head.as_ref().is_none_or(|head| self.answer.len() < head.end) {
            let len = stream.read(&mut piece)?;
            self.answer.extend_from_slice(&piece[..len]);
            if self.answer.len() > ANSWER_MAX {
                return Err(io::Error::other("an answer without end"));
            }
            if head.is_none() {
                head = Head::parse(&self.answer)?;
            }
            match &mut head {
                _ if len > 0 => {}
                Some(head) if head.end == usize::MAX => head.end = self.answer.len(),
                _ => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let head = head.ok_or(io::ErrorKind::UnexpectedEof)?;
        self.wire += u64::try_from(self.request.len() + self.answer.len()).unwrap_or(0);
        Ok(Answer { status: head.status, body: &self.answer[head.len..head.end] })
    }
}

/// What the head of an answer says.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    len: usize,
    /// Where the body ends; `usize::MAX` when only the end of the connection tells.
    end: usize,
}

impl Head {
    /// Reads the head; `None` while it is not whole.
    fn parse(bytes: &[u8]) -> io::Result<Option<Self>> {
        let Some(len) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
        let bad = || io::Error::other("the answer is not HTTP");
        let head = std::str::from_utf8(&bytes[..len]).map_err(|_| bad())?;
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).ok_or_else(bad)?;
        let status = status.parse().map_err(|_| bad())?;
        let length = lines
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let len = len + 4;
        let end = match length {
            Some((_, value)) => {
                len.saturating_add(value.trim().parse::<usize>().map_err(|_| bad())?.min(ANSWER_MAX))
            }
            None => usize::MAX,
        };
        Ok(Some(Self { status, len, end }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_head_is_read_when_it_is_whole() {
        let parse = |text: &str| Head::parse(text.as_bytes());
        assert_eq!(parse("HTTP/1.1 200 OK\r\nConte").unwrap(), None);
        let whole = parse("HTTP/1.1 200 OK\r\ncontent-LENGTH: 3\r\n\r\nabc").unwrap();
        assert_eq!(whole, Some(Head { status: 200, len: 38, end: 41 }));
        assert_eq!(parse("HTTP/1.0 503 No\r\n\r\n").unwrap().unwrap().end, usize::MAX);
        assert!(parse("hello\r\n\r\n").is_err());
    }

    #[test]
    fn bodies_end_by_length_or_with_the_connection_and_a_cut_one_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answers = [
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            "HTTP/1.0 200 OK\r\n\r\nuntil the end",
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut",
        ];
        let server = std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 1024];
                assert!(stream.read(&mut request).unwrap() > 0);
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        let mut client = Client::new(address);
        assert_eq!(client.get("/").unwrap().body, b"ok");
        assert_eq!(client.post("/", b"x").unwrap().body, b"until the end");
        assert!(client.get("/").is_err());
        server.join().unwrap();
    }
}
