//! Request head: bytes to [`Head`] or [`Refusal`]. Pure.
//!
//! httparse splits the lines; the strict rules are here, because two parsers that read one request
//! differently are how requests are smuggled. Sources: RFC 9112 (framing, targets, Host), RFC 9110 (fields).

use crate::limits::MAX_HEADERS;
use crate::refusal::Refusal;
use std::fmt;

/// A checked request head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// As sent, case-sensitive.
    pub method: String,
    /// Raw path, not percent-decoded: begins with `/`, or is `*`.
    pub path: String,
    /// What follows the first `?` of the target.
    pub query: Option<String>,
    /// All header fields in the order sent.
    pub headers: Headers,
    /// Declared body length in bytes; 0 when none is declared.
    pub body: usize,
    /// The client waits for `100 Continue` before it sends its body.
    pub expects_continue: bool,
    /// Bytes of the head itself, including the empty line that ends it.
    pub size: usize,
}

/// Header fields of one request, kept in one string.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers {
    text: String,
    /// For each field the ends of its name and of its value in `text`.
    ends: Vec<(usize, usize)>,
}

impl Headers {
    /// The value of the first field called `name`, in any case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Names and values in the order sent.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|&(_, end)| end));
        starts
            .zip(&self.ends)
            .map(|(start, &(name, value))| (&self.text[start..name], &self.text[name..value]))
    }

    fn push(&mut self, name: &str, value: &str) {
        self.text.push_str(name);
        let name_end = self.text.len();
        self.text.push_str(value);
        self.ends.push((name_end, self.text.len()));
    }
}

impl<'a> FromIterator<(&'a str, &'a str)> for Headers {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(fields: I) -> Self {
        let mut headers = Self::default();
        for (name, value) in fields {
            headers.push(name, value);
        }
        headers
    }
}

/// Names only: values may be secrets.
impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

/// Looks at the first bytes of a connection: the checked head, `None` while it is incomplete, or the reason to
/// refuse it. `limit` is the most bytes a head may have. Bytes after the head are not looked at.
///
/// # Errors
/// A head that is malformed, ambiguous or too large, as soon as that can be seen.
pub fn examine(bytes: &[u8], limit: usize) -> Result<Option<Head>, Refusal> {
    let window = &bytes[..bytes.len().min(limit)];
    let Some(size) = find_end(window)? else {
        return if bytes.len() >= limit { Err(Refusal::HeadTooLarge) } else { Ok(None) };
    };
    parse(&window[..size]).map(Some)
}

/// The length of the head, up to and including its empty line. Only visible ASCII, space and tab may stand in
/// a head, and lines end in CR LF; httparse alone would take a bare LF and skip empty lines before the request.
fn find_end(bytes: &[u8]) -> Result<Option<usize>, Refusal> {
    let mut line_start = 0;
    for (i, &byte) in bytes.iter().enumerate() {
        let after_cr = i > 0 && bytes[i - 1] == b'\r';
        match byte {
            b'\n' if !after_cr => return Err(Refusal::BadByte),
            b'\n' if line_start == 0 && i == 1 => return Err(Refusal::BadRequestLine),
            b'\n' if i == line_start + 1 => return Ok(Some(i + 1)),
            b'\n' => line_start = i + 1,
            _ if after_cr => return Err(Refusal::BadByte),
            b'\r' | b'\t' | b' '..=b'~' => {}
            _ => return Err(Refusal::BadByte),
        }
    }
    Ok(None)
}

fn parse(head: &[u8]) -> Result<Head, Refusal> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(head) {
        Ok(httparse::Status::Complete(size)) if size == head.len() => {}
        Ok(_) => return Err(Refusal::BadHeader),
        Err(error) => return Err(refusal_of(error)),
    }
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version) else {
        return Err(Refusal::BadRequestLine);
    };
    let mut headers = Headers::default();
    for field in request.headers.iter() {
        let value = std::str::from_utf8(field.value).map_err(|_| Refusal::BadByte)?;
        headers.push(field.name, value.trim_matches([' ', '\t']));
    }
    let (authority, path, query) = split_target(method, target)?;
    check_host(&headers, authority, minor)?;
    Ok(Head {
        body: body_length(&headers)?,
        expects_continue: expectation(&headers, minor)?,
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.map(str::to_owned),
        headers,
        size: head.len(),
    })
}

fn refusal_of(error: httparse::Error) -> Refusal {
    match error {
        httparse::Error::Version => Refusal::Version,
        httparse::Error::TooManyHeaders => Refusal::TooManyHeaders,
        httparse::Error::HeaderName | httparse::Error::HeaderValue => Refusal::BadHeader,
        httparse::Error::Token | httparse::Error::NewLine | httparse::Error::Status => {
            Refusal::BadRequestLine
        }
    }
}

/// Authority (of an absolute target), path and query. Absolute targets must be understood (RFC 9112 3.2.2);
/// `*` belongs to OPTIONS; CONNECT's `host:port` is not for a server that is no proxy.
fn split_target<'a>(
    method: &str,
    target: &'a str,
) -> Result<(Option<&'a str>, &'a str, Option<&'a str>), Refusal> {
    if target.contains('#') {
        return Err(Refusal::BadTarget);
    }
    if target == "*" && method == "OPTIONS" {
        return Ok((None, "*", None));
    }
    if target.starts_with('/') {
        let (path, query) = split_query(target);
        return Ok((None, path, query));
    }
    let rest = strip_scheme(target).ok_or(Refusal::BadTarget)?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, local) = rest.split_at(end);
    let (path, query) = split_query(local);
    if authority.is_empty() {
        return Err(Refusal::BadTarget);
    }
    Ok((Some(authority), if path.is_empty() { "/" } else { path }, query))
}

fn strip_scheme(target: &str) -> Option<&str> {
    ["http://", "https://"].iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    })
}

fn split_query(target: &str) -> (&str, Option<&str>) {
    target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)))
}

/// RFC 9112 3.2: exactly one well-formed Host in HTTP/1.1, at most one in HTTP/1.0. Stricter than the RFC in
/// one point: an absolute target must name the same host, so that a handler may trust the Host header.
fn check_host(headers: &Headers, authority: Option<&str>, minor: u8) -> Result<(), Refusal> {
    let mut hosts =
        headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("host")).map(|(_, value)| value);
    let host = hosts.next();
    let missing = host.is_none() && minor >= 1;
    let malformed = host.is_some_and(|h| !h.bytes().all(is_host_byte));
    let contradicted = authority.zip(host).is_some_and(|(a, h)| !a.eq_ignore_ascii_case(h));
    if missing || malformed || contradicted || hosts.next().is_some() {
        return Err(Refusal::BadHost);
    }
    Ok(())
}

/// Bytes of `host[:port]`: unreserved, percent, sub-delims, and the colon and brackets of IPv6 (RFC 3986 3.2.2).
fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(&byte)
}

fn body_length(headers: &Headers) -> Result<usize, Refusal> {
    let encoded = headers.get("transfer-encoding").is_some();
    let mut lengths = headers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map(|(_, value)| value);
    let (first, second) = (lengths.next(), lengths.next());
    match (first, second) {
        (Some(_), _) if encoded => Err(Refusal::TwoFramings),
        (None, _) if encoded => Err(Refusal::TransferEncoding),
        (None, _) => Ok(0),
        (Some(_), Some(_)) => Err(Refusal::BadLength),
        (Some(digits), None) => decimal(digits),
    }
}

/// Digits only: no sign, no list, no hexadecimal. What does not fit a machine word is too large for any limit.
fn decimal(digits: &str) -> Result<usize, Refusal> {
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Refusal::BadLength);
    }
    digits.parse().map_err(|_| Refusal::BodyTooLarge)
}

/// HTTP/1.0 knows no expectations, so there they are ignored (RFC 9110 10.1.1).
fn expectation(headers: &Headers, minor: u8) -> Result<bool, Refusal> {
    match headers.get("expect") {
        Some(value) if minor >= 1 => match value.eq_ignore_ascii_case("100-continue") {
            true => Ok(true),
            false => Err(Refusal::Expectation),
        },
        _ => Ok(false),
    }
}

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;
