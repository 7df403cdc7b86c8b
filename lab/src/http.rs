//! HTTP asked from inside a host.

use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::{Error, Host, Result};

/// A daemon in the lab answers in milliseconds; a busy machine is given more.
const DEADLINE: Duration = Duration::from_secs(10);

/// Larger answers are an error.
const LARGEST_BODY: u64 = 64 << 20;

/// An HTTP answer, whatever its status.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Header fields, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The first header field of this name (in lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON of the given shape, such as `serde_json::Value`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body).map_err(|error| {
            Error::Http(format!(
                "status {}, body is not the JSON expected ({error}): {}",
                self.status,
                self.text()
            ))
        })
    }
}

impl Host {
    /// GET from inside this host.
    pub fn http_get(&self, url: &str) -> Result<Answer> {
        self.http("GET", url, &[], b"")
    }

    /// POST of a JSON body from inside this host.
    pub fn http_post(&self, url: &str, body: impl AsRef<[u8]>) -> Result<Answer> {
        self.http("POST", url, &[("content-type", "application/json")], body.as_ref())
    }

    /// Any request from inside this host. An error only when there is no answer.
    pub fn http(&self, method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Answer> {
        self.inside(|| ask(method, url, headers, body))?
            .map_err(|error| Error::Http(format!("{}: {method} {url}: {error}", self.name())))
    }
}

fn ask(
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::result::Result<Answer, Box<ureq::Error>> {
    // A fresh agent: no connection is kept, and no proxy of the environment is asked.
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(DEADLINE))
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .build()
        .into();
    let mut request = ureq::http::Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(body).map_err(|error| Box::new(error.into()))?;
    let mut answer = agent.run(request)?;
    let headers = answer
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let body = answer.body_mut().with_config().limit(LARGEST_BODY).read_to_vec()?;
    Ok(Answer { status: answer.status().as_u16(), headers, body })
}
