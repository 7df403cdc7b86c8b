//! HTTP to the manager and to other agents: the only file that names ureq.

use std::fmt;
use std::fs;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use proto::limits;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
#[cfg(feature = "tls")]
use ureq::unversioned::transport::{Connector as _, RustlsConnector};
use ureq::unversioned::transport::{NextTimeout, TcpConnector};
use ureq::{Agent, RequestBuilder};

/// Everything from the name's lookup to the answer's last byte.
pub const TIMEOUT: Duration = Duration::from_secs(10);
/// The lookup alone, and the connection alone, where nothing else is said.
const STEP_TIMEOUT: Duration = Duration::from_secs(4);
/// Buffers of one connection, each way; an answer is about 200 bytes.
const BUFFER: usize = 16 << 10;

/// How long a request may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    /// The name's lookup alone, and the connection alone.
    pub connect: Duration,
    /// Everything to the answer's last byte.
    pub whole: Duration,
}

impl From<Duration> for Time {
    fn from(whole: Duration) -> Self {
        Self { connect: STEP_TIMEOUT.min(whole), whole }
    }
}

/// An HTTP client that follows no redirect, uses no proxy and keeps no connection.
#[derive(Debug, Clone)]
pub struct Client {
    agent: Agent,
}

/// Why there is no answer: what failed, and at which URL.
#[derive(Debug)]
pub struct PushError {
    /// Whether the receiver was reached and gave no whole answer in time.
    pub late: bool,
    url: String,
    why: String,
}

impl fmt::Display for PushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.url, self.why)
    }
}

impl std::error::Error for PushError {}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether this program speaks TLS.
pub const HAS_TLS: bool = cfg!(feature = "tls");

/// Who vouches for https servers. Without TLS in the program there is nobody to choose.
#[derive(Debug, Clone, Default)]
pub struct Authorities {
    #[cfg(feature = "tls")]
    roots: Option<ureq::tls::RootCerts>,
}

impl Authorities {
    /// Those in a PEM file, or Mozilla's list, as it was when the program was built.
    ///
    /// # Errors
    /// When the file cannot be read or holds no certificate; in words, with its path.
    pub fn read(file: Option<&Path>) -> Result<Self, String> {
        let Some(path) = file else { return Ok(Self::default()) };
        let pem = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Self::parse(&pem).map_err(|why| format!("{}: {why}", path.display()))
    }

    #[cfg(feature = "tls")]
    fn parse(pem: &[u8]) -> Result<Self, String> {
        use ureq::tls::{PemItem, RootCerts, parse_pem};
        let mut certificates = Vec::new();
        for item in parse_pem(pem) {
            if let PemItem::Certificate(certificate) = item.map_err(|error| error.to_string())? {
                certificates.push(certificate);
            }
        }
        if certificates.is_empty() {
            return Err("there is no certificate in it".to_owned());
        }
        Ok(Self { roots: Some(RootCerts::new_with_certs(&certificates)) })
    }

    #[cfg(not(feature = "tls"))]
    fn parse(_: &[u8]) -> Result<Self, String> {
        Ok(Self::default())
    }

    #[cfg(feature = "tls")]
    fn config(self) -> ureq::tls::TlsConfig {
        ureq::tls::TlsConfig::builder().root_certs(self.roots.unwrap_or(ureq::tls::RootCerts::WebPki)).build()
    }
}

impl Client {
    /// A client with the bounds above.
    #[must_use]
    pub fn new() -> Self {
        Self::trusting(Authorities::default())
    }

    /// The same that has https servers vouched for by these.
    #[must_use]
    #[cfg_attr(
        not(feature = "tls"),
        expect(unused_variables, clippy::needless_pass_by_value, reason = "TLS is not built in")
    )]
    pub fn trusting(authorities: Authorities) -> Self {
        let config = Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .timeout_resolve(Some(STEP_TIMEOUT))
            .timeout_connect(Some(STEP_TIMEOUT))
            // A followed redirect turns a POST into a GET: the report is lost and looks delivered.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .proxy(None)
            // Nobody reads these, and a report is smaller than they are.
            .user_agent("")
            .accept("")
            .input_buffer_size(BUFFER)
            .output_buffer_size(BUFFER)
            .max_response_header_size(BUFFER)
            .max_idle_connections(0)
            .max_idle_connections_per_host(0);
        // TCP alone, or TLS over it: the usual chain of connectors brings in proxies, which are not used.
        #[cfg(not(feature = "tls"))]
        let connector = TcpConnector::default();
        #[cfg(feature = "tls")]
        let (config, connector) = (
            config.tls_config(authorities.config()),
            TcpConnector::default().chain(RustlsConnector::default()),
        );
        Self { agent: Agent::with_parts(config.build(), connector, Lookup::default()) }
    }

    /// Sends an envelope; the answer's status and body.
    ///
    /// # Errors
    /// When there is no whole answer within `time`.
    pub fn post(
        &self,
        url: &str,
        envelope: &[u8],
        time: impl Into<Time>,
    ) -> Result<(u16, Vec<u8>), PushError> {
        let time = time.into();
        let request = self.agent.post(url);
        read(url, time.whole, within(request, time).send(envelope))
    }

    /// Asks for a page; the answer's status and body.
    ///
    /// # Errors
    /// When there is no whole answer within `time`.
    pub fn get(&self, url: &str, time: impl Into<Time>) -> Result<(u16, Vec<u8>), PushError> {
        let time = time.into();
        read(url, time.whole, within(self.agent.get(url), time).call())
    }
}

/// Looks names up. Addresses need no look-up, for which ureq would start a thread, to be able to give up.
#[derive(Debug, Default)]
struct Lookup(DefaultResolver);

impl Resolver for Lookup {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let Some(address) = address_in(uri) else { return self.0.resolve(uri, config, timeout) };
        let mut addresses = self.empty();
        addresses.push(address);
        Ok(addresses)
    }
}

/// The address that an `http` URL names, if it is no name.
fn address_in(uri: &Uri) -> Option<SocketAddr> {
    let host = uri.host().filter(|_| uri.scheme_str() == Some("http"))?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Some(SocketAddr::new(bare.parse().ok()?, uri.port_u16().unwrap_or(80)))
}

fn within<Any>(request: RequestBuilder<Any>, time: Time) -> RequestBuilder<Any> {
    let config = request.config().timeout_global(Some(time.whole));
    config.timeout_resolve(Some(time.connect)).timeout_connect(Some(time.connect)).build()
}

fn read(
    url: &str,
    timeout: Duration,
    response: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
) -> Result<(u16, Vec<u8>), PushError> {
    let failed = |why| PushError { late: false, url: url.to_owned(), why };
    let mut response =
        response.map_err(|error| PushError { late: is_late(&error), ..failed(in_words(&error, timeout)) })?;
    let mut body = Vec::new();
    let limit = u64::try_from(limits::ANSWER_MAX).unwrap_or(u64::MAX);
    let mut reader = response.body_mut().as_reader().take(limit + 1);
    reader.read_to_end(&mut body).map_err(|error| failed(format!("the answer broke off: {error}")))?;
    if body.len() > limits::ANSWER_MAX {
        return Err(failed(format!("the answer is larger than {} bytes", limits::ANSWER_MAX)));
    }
    Ok((response.status().as_u16(), body))
}

fn is_late(error: &ureq::Error) -> bool {
    use ureq::Timeout;
    matches!(error, ureq::Error::Timeout(after) if !matches!(after, Timeout::Resolve | Timeout::Connect))
}

fn in_words(error: &ureq::Error, timeout: Duration) -> String {
    use ureq::Timeout;
    match error {
        ureq::Error::Timeout(Timeout::Resolve) => "the name was not resolved in time".to_owned(),
        ureq::Error::Timeout(Timeout::Connect) => "no connection in time".to_owned(),
        ureq::Error::Timeout(_) => format!("no whole answer within {} s", timeout.as_secs()),
        ureq::Error::HostNotFound => "the name does not resolve".to_owned(),
        ureq::Error::Protocol(why) => format!("the answer is not HTTP: {why}"),
        ureq::Error::Io(why) => why.to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::net::TcpListener;
    use std::time::Instant;

    /// A server that reads a little, says `answer` once and stays silent until dropped.
    fn server(answer: Vec<u8>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/x", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(&answer);
            if answer.is_empty() {
                std::thread::sleep(Duration::from_secs(5));
            }
        });
        url
    }

    #[test]
    fn statuses_are_answers_and_redirects_are_not_followed() {
        let client = Client::new();
        let found = server(
            b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n".to_vec(),
        );
        assert_eq!(client.post(&found, b"x", TIMEOUT).unwrap(), (302, Vec::new()));
        let error = server(b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy".to_vec());
        assert_eq!(client.get(&error, TIMEOUT).unwrap(), (503, b"busy".to_vec()));
    }

    #[test]
    fn addresses_are_not_looked_up_and_names_are() {
        let address = |url: &str| address_in(&url.parse().unwrap()).map(|address| address.to_string());
        assert_eq!(address("http://10.0.0.1:5086/x").as_deref(), Some("10.0.0.1:5086"));
        assert_eq!(address("http://[fd00::1]:5086/x").as_deref(), Some("[fd00::1]:5086"));
        assert_eq!(address("http://10.0.0.1/").as_deref(), Some("10.0.0.1:80"));
        assert_eq!((address("http://localhost:1/"), address("https://10.0.0.1/")), (None, None));
        let by_name = server(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec());
        let by_name = by_name.replace("127.0.0.1", "localhost");
        assert_eq!(Client::new().get(&by_name, TIMEOUT).unwrap(), (200, b"ok".to_vec()));
    }

    #[test]
    fn failures_name_the_url_and_what_failed() {
        let client = Client::new();
        let fails = |url: &str, timeout| client.get(url, timeout).unwrap_err().to_string();
        assert!(!client.get("http://127.0.0.1:1/x", TIMEOUT).unwrap_err().late);
        let late = client.get(&server(Vec::new()), Duration::from_secs(1)).unwrap_err();
        assert!(late.late, "{late}");
        let refused = fails("http://127.0.0.1:1/x", TIMEOUT);
        assert!(refused.starts_with("http://127.0.0.1:1/x: ") && refused.contains("refused"), "{refused}");
        let start = Instant::now();
        let silent = fails(&server(Vec::new()), Duration::from_secs(1));
        assert!(silent.contains("no whole answer within 1 s"), "{silent}");
        assert!(start.elapsed() < Duration::from_secs(3));
        let garbage = fails(&server(b"\0\0\0SSH-2.0\r\n\r\n".to_vec()), TIMEOUT);
        assert!(garbage.contains("not HTTP"), "{garbage}");
        let mut huge = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", limits::ANSWER_MAX + 1);
        huge.push_str(&"x".repeat(limits::ANSWER_MAX + 1));
        let huge = fails(&server(huge.into_bytes()), TIMEOUT);
        assert!(huge.contains("larger than 65536 bytes"), "{huge}");
        let short = fails(&server(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx".to_vec()), TIMEOUT);
        assert!(short.contains("broke off"), "{short}");
    }
}
