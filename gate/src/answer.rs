//! Answers: tiny_http's response types, printed into memory.

use std::fmt;
use std::io;
use std::sync::Arc;
use tiny_http::{HTTPVersion, Header, Response, StatusCode};

/// The bytes of an answer's body: owned, compiled in, or shared between answers.
#[derive(Clone)]
pub enum Body {
    /// Made for this answer.
    Owned(Vec<u8>),
    /// Part of the program, such as an embedded page.
    Static(&'static [u8]),
    /// Made once and sent to many.
    Shared(Arc<[u8]>),
}

/// One answer. Goes out with `Connection: close` and `Content-Length`, never chunked.
#[derive(Debug, Clone)]
pub struct Answer {
    status: StatusCode,
    headers: Vec<Header>,
    body: Body,
    bare: bool,
}

impl Answer {
    /// An answer with a body of the given media type.
    #[must_use]
    pub fn new(status: u16, content_type: &str, body: impl Into<Body>) -> Self {
        let answer = Self { status: StatusCode(status), headers: Vec::new(), body: body.into(), bare: false };
        answer.with_header("Content-Type", content_type)
    }

    /// Plain text in UTF-8.
    #[must_use]
    pub fn text(status: u16, text: impl Into<String>) -> Self {
        Self::new(status, "text/plain; charset=utf-8", text.into())
    }

    /// JSON that is already serialised.
    #[must_use]
    pub fn json(status: u16, json: impl Into<Body>) -> Self {
        Self::new(status, "application/json", json)
    }

    /// No body and no media type.
    #[must_use]
    pub fn empty(status: u16) -> Self {
        Self { status: StatusCode(status), headers: Vec::new(), body: Body::Static(b""), bare: false }
    }

    /// An answer for programs that need nothing but its length beside the body: no media type, no date,
    /// no server's name.
    #[must_use]
    pub fn bare(status: u16, body: impl Into<Body>) -> Self {
        Self { status: StatusCode(status), headers: Vec::new(), body: body.into(), bare: true }
    }

    /// Adds a header field. Safe for text from outside: what is not visible ASCII, space or tab in `value`
    /// becomes a space (RFC 9110 5.5), so no line end gets through; a `name` that is no token is left out
    /// and logged. `Connection`, `Transfer-Encoding`, `Trailer`, `Upgrade`, `Content-Length` and `Server` are the
    /// gate's and are left out too.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        if !is_token(name) {
            log::error!("answer header left out: {:?} is not a header name", name.escape_debug().to_string());
            return self;
        }
        if OWN_HEADERS.iter().any(|own| name.eq_ignore_ascii_case(own)) {
            return self;
        }
        let clean: Vec<u8> = value.bytes().map(|b| if is_value_byte(b) { b } else { b' ' }).collect();
        // Cannot fail, as both are ASCII by now; a lost header would still be better than a panic.
        self.headers.extend(Header::from_bytes(name, clean));
        self
    }

    /// The status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status.0
    }

    /// The value of the first header field called `name`, in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let field = self.headers.iter().find(|h| h.field.as_str().as_str().eq_ignore_ascii_case(name));
        field.map(|h| h.value.as_str())
    }

    /// The body's bytes.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.body.bytes()
    }

    /// The bytes for the wire, head and body apart so that a body is never copied. `without_body` is for HEAD:
    /// the head alone, with the length that GET would have had.
    pub(crate) fn print(self, without_body: bool) -> Printed {
        let length = self.body.bytes().len();
        if self.bare {
            let reason = self.status.default_reason_phrase();
            let head = format!(
                "HTTP/1.1 {} {reason}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n",
                self.status.0
            );
            let body = if without_body { Body::Static(b"") } else { self.body };
            return Printed { head: head.into_bytes(), body };
        }
        let bodiless = matches!(self.status.0, 100..=199 | 204 | 304);
        let mut headers = self.headers;
        headers.extend(Header::from_bytes("Server", "gate"));
        let response = Response::new(self.status, headers, io::empty(), Some(length), None);
        let mut head = Vec::with_capacity(256);
        // Our body is printed apart, so tiny_http is told to leave its own (empty) one out.
        let printed = response.with_chunked_threshold(usize::MAX).raw_print(
            &mut head,
            HTTPVersion(1, 1),
            &[],
            true,
            None,
        );
        debug_assert!(printed.is_ok(), "writing to memory cannot fail");
        // These statuses have no body, and a length beside them would be a claim about another answer.
        let end: &[u8] = if bodiless { b"Content-Length: 0\r\n\r\n" } else { b"\r\n" };
        let end = if head.ends_with(end) { end.len() } else { 2 };
        head.truncate(head.len().saturating_sub(end));
        head.extend_from_slice(b"Connection: close\r\n\r\n");
        Printed { head, body: if without_body || bodiless { Body::Static(b"") } else { self.body } }
    }
}

const OWN_HEADERS: [&str; 6] =
    ["Connection", "Transfer-Encoding", "Trailer", "Upgrade", "Content-Length", "Server"];

/// An answer as it goes over the wire.
#[derive(Debug)]
pub(crate) struct Printed {
    pub(crate) head: Vec<u8>,
    pub(crate) body: Body,
}

impl Printed {
    /// Bytes of memory that it keeps alive.
    pub(crate) fn held(&self) -> usize {
        self.head.len() + self.body.held()
    }
}

impl Body {
    /// The bytes themselves.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Static(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }

    /// Bytes of memory that this body keeps alive.
    fn held(&self) -> usize {
        match self {
            Self::Static(_) => 0,
            other => other.bytes().len(),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({} bytes)", self.bytes().len())
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Owned(bytes)
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self::Owned(text.into_bytes())
    }
}

impl From<&'static [u8]> for Body {
    fn from(bytes: &'static [u8]) -> Self {
        Self::Static(bytes)
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Self::Static(text.as_bytes())
    }
}

impl From<Arc<[u8]>> for Body {
    fn from(bytes: Arc<[u8]>) -> Self {
        Self::Shared(bytes)
    }
}

/// RFC 9110 5.6.2.
fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

fn is_value_byte(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(answer: Answer, without_body: bool) -> String {
        let Printed { head, body } = answer.print(without_body);
        String::from_utf8([head, body.bytes().to_vec()].concat()).unwrap()
    }

    #[test]
    fn an_answer_has_a_length_closes_and_is_not_chunked() {
        let big = "x".repeat(100_000);
        let text = printed(Answer::json(200, big.clone()), false);
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        for line in
            ["Content-Type: application/json", "Content-Length: 100000", "Connection: close", "Server: gate"]
        {
            assert_eq!(head.lines().filter(|l| l == &line).count(), 1, "{line} in {head}");
        }
        assert!(!head.to_ascii_lowercase().contains("transfer-encoding"), "{head}");
        assert_eq!(body, big);
    }

    #[test]
    fn a_bare_answer_has_a_length_and_closes() {
        let text = printed(Answer::bare(409, b"abc".to_vec()), false);
        assert_eq!(text, "HTTP/1.1 409 Conflict\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc");
    }

    #[test]
    fn head_gets_the_length_and_no_body() {
        let text = printed(Answer::text(200, "hello"), true);
        assert!(
            text.contains("Content-Length: 5\r\n") && text.ends_with("Connection: close\r\n\r\n"),
            "{text}"
        );
    }

    #[test]
    fn statuses_without_body_have_no_length_either() {
        for status in [204, 304] {
            let text = printed(Answer::empty(status).with_header("ETag", "\"1\""), false);
            assert!(!text.contains("Content-Length"), "{text}");
            assert!(
                text.contains("ETag: \"1\"\r\n") && text.ends_with("\r\nConnection: close\r\n\r\n"),
                "{text}"
            );
        }
    }

    #[test]
    fn line_ends_in_values_cannot_make_headers() {
        let answer = Answer::empty(200).with_header("X-Echo", "a\r\nX-Injected: yes\0é");
        assert_eq!(answer.header("x-echo"), Some("a  X-Injected: yes   "));
        let text = printed(answer, false);
        assert!(!text.contains("\nX-Injected"), "{text}");
        let text = printed(Answer::empty(200).with_header("X\r\nY", "v").with_header("", "v"), false);
        assert!(!text.contains(": v"), "{text}");
    }

    #[test]
    fn the_gates_own_headers_cannot_be_overridden() {
        let text = printed(
            Answer::text(200, "abc")
                .with_header("content-length", "1")
                .with_header("Connection", "keep-alive"),
            false,
        );
        assert!(text.contains("Content-Length: 3\r\n") && !text.contains("keep-alive"), "{text}");
    }
}
