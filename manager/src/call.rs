//! HTTP to others: the only file of the manager that names ureq.

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use proto::limits::ANSWER_MAX;

/// Largest answer to a read: the manager's own limit is lower.
const READ_MAX: usize = 64 << 20;

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

/// Posts `bytes` and returns the status and the answer's body, of which at most
/// [`ANSWER_MAX`] bytes are read. Follows no redirect and uses no proxy.
///
/// # Errors
/// Why there is no answer, in words without the URL, which may hold a secret.
pub fn post(
    url: &str,
    bytes: &[u8],
    headers: &[(&str, &str)],
    timeout: Duration,
    authorities: &Authorities,
) -> Result<(u16, Vec<u8>), String> {
    let mut request = agent(timeout, authorities.clone()).post(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    read(request.send(bytes).map_err(|error| error.to_string())?, ANSWER_MAX)
}

/// Gets what is at `url`: the status and the body, of which at most 64 MiB are read. Follows no
/// redirect and uses no proxy.
///
/// # Errors
/// Why there is no answer, in words without the URL.
pub fn get(url: &str, headers: &[(&str, &str)], timeout: Duration) -> Result<(u16, Vec<u8>), String> {
    let mut request = agent(timeout, Authorities::default()).get(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    read(request.call().map_err(|error| error.to_string())?, READ_MAX)
}

#[cfg_attr(
    not(feature = "tls"),
    expect(unused_variables, clippy::needless_pass_by_value, reason = "TLS is not built in")
)]
fn agent(timeout: Duration, authorities: Authorities) -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(timeout))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .user_agent(concat!("kattila-manager/", env!("CARGO_PKG_VERSION")));
    #[cfg(feature = "tls")]
    let config = config.tls_config(authorities.config());
    config.build().new_agent()
}

fn read(answer: ureq::http::Response<ureq::Body>, most: usize) -> Result<(u16, Vec<u8>), String> {
    let status = answer.status().as_u16();
    let limit = u64::try_from(most).unwrap_or(u64::MAX);
    let mut body = Vec::new();
    let read = answer.into_body().into_reader().take(limit).read_to_end(&mut body);
    read.map_err(|error| error.to_string())?;
    Ok((status, body))
}
