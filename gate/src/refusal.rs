//! Why the gate itself answers instead of the handler.

use crate::Answer;

/// Makes the answer of a refusal from its status and a short English reason, so that a daemon can refuse in
/// its own error format. Runs on the gate's thread: it must be quick and must not panic.
pub type MakeRefusal = fn(status: u16, reason: &'static str) -> Answer;

/// The default [`MakeRefusal`]: the reason as one line of plain text.
#[must_use]
pub fn plain_refusal(status: u16, reason: &'static str) -> Answer {
    Answer::text(status, format!("{reason}\n"))
}

/// A named reason for which a request is refused before, or instead of, its handler's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// A control byte, a byte beyond ASCII, or a CR or LF that is not part of CR LF.
    BadByte,
    /// Not a request line, or words after the version.
    BadRequestLine,
    /// A header field without a name, folded over lines, or with a space before its colon.
    BadHeader,
    /// Neither `/path`, nor `http://host/path`, nor `*` for OPTIONS.
    BadTarget,
    /// No Host in HTTP/1.1, more than one, a malformed one, or one that contradicts the target.
    BadHost,
    /// Content-Length is not one plain decimal number, or is given twice.
    BadLength,
    /// Content-Length and Transfer-Encoding together: two framings, one of them a lie.
    TwoFramings,
    /// Any Transfer-Encoding: bodies have a declared length here.
    TransferEncoding,
    /// Request line and header fields exceed the limit.
    HeadTooLarge,
    /// More than [`MAX_HEADERS`](crate::MAX_HEADERS) header fields.
    TooManyHeaders,
    /// The declared body exceeds the limit of its path.
    BodyTooLarge,
    /// An Expect other than `100-continue`.
    Expectation,
    /// A version other than HTTP/1.0 and HTTP/1.1.
    Version,
    /// The request did not arrive within its deadline.
    TooSlow,
    /// The queue, the memory budget or the connection table is full.
    Busy,
    /// The handler did not answer within its deadline.
    Late,
    /// The handler panicked or dropped its reply.
    NoAnswer,
}

impl Refusal {
    /// The HTTP status that tells the client.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::BadByte | Self::BadRequestLine | Self::BadHeader | Self::BadTarget => 400,
            Self::BadHost | Self::BadLength | Self::TwoFramings => 400,
            Self::TooSlow => 408,
            Self::TransferEncoding => 411,
            Self::BodyTooLarge => 413,
            Self::Expectation => 417,
            Self::HeadTooLarge | Self::TooManyHeaders => 431,
            Self::NoAnswer => 500,
            Self::Busy | Self::Late => 503,
            Self::Version => 505,
        }
    }

    /// One short sentence for the client and the log.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::BadByte => "the request head holds a byte that HTTP does not allow there",
            Self::BadRequestLine => "the request line is malformed",
            Self::BadHeader => "a header field is malformed",
            Self::BadTarget => "the request target is malformed",
            Self::BadHost => "the Host header is missing, repeated or malformed",
            Self::BadLength => "Content-Length is not one decimal number",
            Self::TwoFramings => "Content-Length and Transfer-Encoding exclude each other",
            Self::TransferEncoding => "send a Content-Length, not a Transfer-Encoding",
            Self::HeadTooLarge => "the request head is too large",
            Self::TooManyHeaders => "the request has too many header fields",
            Self::BodyTooLarge => "the request body is too large",
            Self::Expectation => "only 100-continue can be expected",
            Self::Version => "only HTTP/1.0 and HTTP/1.1 are spoken here",
            Self::TooSlow => "the request took too long to arrive",
            Self::Busy => "the server is busy, try again later",
            Self::Late => "no answer was ready in time, try again later",
            Self::NoAnswer => "the server failed to answer this request",
        }
    }
}
