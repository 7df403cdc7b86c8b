//! HTTP to others: the only file of the manager that names ureq.

use std::io::Read as _;
use std::time::Duration;

use proto::limits::ANSWER_MAX;

/// Largest answer to a read: the manager's own limit is lower.
const READ_MAX: usize = 64 << 20;

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
) -> Result<(u16, Vec<u8>), String> {
    let mut request = agent(timeout).post(url);
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
    let mut request = agent(timeout).get(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    read(request.call().map_err(|error| error.to_string())?, READ_MAX)
}

fn agent(timeout: Duration) -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_global(Some(timeout))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .user_agent(concat!("kattila-manager/", env!("CARGO_PKG_VERSION")))
        .build()
        .into()
}

fn read(answer: ureq::http::Response<ureq::Body>, most: usize) -> Result<(u16, Vec<u8>), String> {
    let status = answer.status().as_u16();
    let limit = u64::try_from(most).unwrap_or(u64::MAX);
    let mut body = Vec::new();
    let read = answer.into_body().into_reader().take(limit).read_to_end(&mut body);
    read.map_err(|error| error.to_string())?;
    Ok((status, body))
}
