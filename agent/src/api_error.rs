//! What the endpoint refuses, and how it says so: JSON with a stable code, a sentence and a hint.

use std::fmt;
use std::net::IpAddr;

use gate::Answer;
use proto::limits;
use serde::Serialize;

use crate::relay::NotPassed;

/// Why a request gets no answer of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiError {
    /// There is no such path.
    NotFound,
    /// The path is asked with another method; these are allowed.
    Method(&'static str),
    /// The client is neither on this host nor in the mesh.
    Forbidden(IpAddr),
    /// A page of another site sent it.
    CrossSite,
    /// A message to be passed on was not.
    NotPassed(NotPassed),
    /// This agent knows no way to the manager now.
    NoWay,
    /// Too many messages are being passed on.
    Busy,
    /// This agent has no PSK yet to verify messages with.
    NoPsk,
    /// No admin secret is set, so no one may reset.
    NoAdminSecret,
    /// The body is no reset.
    BadEnvelope(String),
    /// The reset is not signed with the admin secret.
    BadMac,
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("there is nothing at this path"),
            Self::Method(allow) => write!(f, "this path answers {allow}"),
            Self::Forbidden(ip) => write!(f, "{ip} may not ask this agent"),
            Self::CrossSite => f.write_str("the request comes from a page of another site"),
            Self::NotPassed(why) => why.fmt(f),
            Self::NoWay => f.write_str("this agent cannot reach the manager either"),
            Self::Busy => f.write_str("this agent is passing on as many messages as it can"),
            Self::NoPsk => f.write_str("this agent has no PSK yet to verify messages with"),
            Self::NoAdminSecret => f.write_str("this agent takes no resets"),
            Self::BadEnvelope(why) => f.write_str(why),
            Self::BadMac => f.write_str("the reset is not signed with this agent's admin secret"),
        }
    }
}

impl ApiError {
    /// The answer that tells the client.
    #[must_use]
    pub fn answer(&self) -> Answer {
        let (status, code, hint) = match self {
            Self::NotFound => (404, "not_found", "agents have /status/healthcheck and /status/peer"),
            Self::Method(_) => (405, "method_not_allowed", "see the Allow header"),
            Self::Forbidden(_) => (
                403,
                "forbidden_address",
                "agents answer their own host and their WireGuard subnets; AGENT_ALLOW adds others",
            ),
            Self::CrossSite => {
                (403, "cross_site", "send it from a program, without Origin and Sec-Fetch-Site")
            }
            Self::NotPassed(why) => not_passed(why),
            Self::NoWay => (502, "no_way", "try another neighbour, or again in a few seconds"),
            Self::Busy => (503, "busy", "try another neighbour, or again in a few seconds"),
            Self::NoPsk => (503, "no_psk", "see this agent's log"),
            Self::NoAdminSecret => {
                (403, "no_admin_secret", "set ADMIN_SECRET_FILE for this agent and start it again")
            }
            Self::BadEnvelope(_) => (400, "bad_envelope", "run `agent -reset` on this host"),
            Self::BadMac => (401, "bad_mac", "use the secret in this agent's ADMIN_SECRET_FILE"),
        };
        let answer = error(status, code, &self.to_string(), hint);
        match self {
            Self::Method(allow) => answer.with_header("Allow", allow),
            _ => answer,
        }
    }
}

impl From<NotPassed> for ApiError {
    fn from(why: NotPassed) -> Self {
        Self::NotPassed(why)
    }
}

fn not_passed(why: &NotPassed) -> (u16, &'static str, &'static str) {
    match why {
        NotPassed::Envelope(_) => (400, "bad_envelope", "send what `agent -dump FILE` writes"),
        NotPassed::Kind(_) => (400, "wrong_kind", "send this message to the manager itself"),
        NotPassed::BadMac => (401, "bad_mac", "give all agents the same PSK (settings PSK, PSK_FILE or DNS)"),
        NotPassed::BadPath => {
            (401, "bad_path", "a relay on the way holds another PSK, or someone changed the path")
        }
    }
}

/// What the gate itself refuses, in the same form.
#[must_use]
pub fn refusal(status: u16, reason: &'static str) -> Answer {
    let (code, hint) = match status {
        408 => ("too_slow", "send the whole request within 10 s"),
        411 => ("length_required", "send a Content-Length"),
        413 => ("too_large", "see the limits in the manual"),
        417 => ("expectation_failed", "leave the Expect header out"),
        431 => ("head_too_large", "send fewer or shorter header fields"),
        500 => ("internal_error", "the agent's log says more"),
        503 => ("busy", "try again in a few seconds"),
        505 => ("version_not_supported", "speak HTTP/1.1"),
        _ => ("bad_request", "send a plain HTTP/1.1 request"),
    };
    error(status, code, reason, hint)
}

fn error(status: u16, code: &str, message: &str, hint: &str) -> Answer {
    #[derive(Serialize)]
    struct Body<'a> {
        error: Detail<'a>,
    }
    #[derive(Serialize)]
    struct Detail<'a> {
        code: &'a str,
        message: &'a str,
        hint: &'a str,
    }
    let mut message = message.to_owned();
    // A reason may quote what the client sent.
    if message.len() > limits::TEXT_MAX {
        message = message.chars().take(limits::TEXT_MAX).collect();
    }
    let body = Body { error: Detail { code, message: &message, hint } };
    Answer::json(status, serde_json::to_vec(&body).expect("three texts are plain data"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_a_code_a_sentence_and_a_hint() {
        let errors = [
            ApiError::NotFound,
            ApiError::Method("POST"),
            ApiError::Forbidden("192.0.2.1".parse().unwrap()),
            ApiError::CrossSite,
            ApiError::NotPassed(NotPassed::BadMac),
            ApiError::NotPassed(NotPassed::BadPath),
            ApiError::NotPassed(NotPassed::Envelope(proto::envelope::EnvelopeError::NoHeader)),
            ApiError::NotPassed(NotPassed::Kind(proto::sign::Kind::Reset)),
            ApiError::NoWay,
            ApiError::Busy,
            ApiError::NoPsk,
            ApiError::NoAdminSecret,
            ApiError::BadEnvelope("x".repeat(9000)),
            ApiError::BadMac,
        ];
        let refusals = [400, 408, 411, 413, 417, 431, 500, 503, 505].map(|status| refusal(status, "why"));
        for answer in errors.iter().map(ApiError::answer).chain(refusals) {
            let body: serde_json::Value = serde_json::from_slice(answer.body()).unwrap();
            for field in ["code", "message", "hint"] {
                assert!(!body["error"][field].as_str().unwrap().is_empty(), "{body}");
            }
            assert!(answer.body().len() < 600, "{body}");
            assert_eq!(answer.header("Allow").is_some(), answer.status() == 405);
        }
    }
}
