//! The agent's HTTP endpoint: request -> action -> answer.

use std::net::IpAddr;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

use gate::{Answer, Reply, Request};
use proto::ack::{self, Ack, Code, Details};
use proto::ids::Cidr;
use proto::limits::{self, agent_path};
use proto::psk::Secret;
use serde::Serialize;

use crate::access;
use crate::api_error::ApiError;
use crate::clock::Moment;
use crate::counters::Counters;
use crate::cycle::Nudge;
use crate::forward::Forwarder;
use crate::resets::{self, NotAnOrder, Resets};
use crate::shared::Shared;

/// Largest body of a reset: an envelope's header line and one id.
const RESET_MAX: usize = limits::HEADER_MAX + 256;

/// What the endpoint needs to answer.
#[derive(Debug)]
pub struct Api {
    shared: Arc<Shared>,
    allowed: Vec<Cidr>,
    admin: Option<Secret>,
    resets: Mutex<Resets>,
    nudge: Sender<Nudge>,
    forwarder: Arc<Forwarder>,
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Healthcheck,
    Peer,
    Relay,
    Reset,
}

/// The most that a request to `path` may carry.
#[must_use]
pub fn body_limit(path: &str) -> usize {
    match path {
        agent_path::RELAY => limits::ENVELOPE_MAX,
        agent_path::RESET => RESET_MAX,
        _ => 0,
    }
}

impl Api {
    /// An endpoint that answers the mesh and `allowed`; without `admin` it refuses resets.
    #[must_use]
    pub fn new(
        shared: Arc<Shared>,
        allowed: Vec<Cidr>,
        admin: Option<Secret>,
        nudge: Sender<Nudge>,
        forwarder: Forwarder,
    ) -> Self {
        let forwarder = Arc::new(forwarder);
        Self { shared, allowed, admin, resets: Mutex::default(), nudge, forwarder }
    }

    /// Answers a request; one to be passed on is answered later.
    pub fn serve(&self, request: Request, reply: Reply) {
        let answer = match self.admit(&request) {
            Ok(Action::Relay) => return self.forwarder.submit(request, reply),
            Ok(Action::Healthcheck) => Ok(self.healthcheck()),
            Ok(Action::Peer) => Ok(json(&self.shared.peer())),
            Ok(Action::Reset) => self.reset(&request.body),
            Err(error) => Err(error),
        };
        reply.send(answer.unwrap_or_else(|error| {
            log::debug!("{} {} from {}: {error}", request.method, request.path, request.peer);
            error.answer()
        }));
    }

    fn admit(&self, request: &Request) -> Result<Action, ApiError> {
        self.check_access(request.peer.ip(), request.local.ip())?;
        let action = action(&request.method, &request.path)?;
        if matches!(action, Action::Relay | Action::Reset) {
            refuse_other_sites(|name| request.header(name))?;
        }
        Ok(action)
    }

    fn check_access(&self, ip: IpAddr, local: IpAddr) -> Result<(), ApiError> {
        let permitted = self.shared.with_mesh(|mesh| access::permits(ip, local, mesh, &self.allowed));
        if permitted { Ok(()) } else { Err(ApiError::Forbidden(ip)) }
    }

    fn healthcheck(&self) -> Answer {
        #[derive(Serialize)]
        struct Health<'a> {
            status: &'static str,
            version: &'static str,
            uptime_s: u64,
            #[serde(flatten)]
            counters: &'a Counters,
        }
        let Shared { counters, .. } = &*self.shared;
        json(&Health { status: "ok", version: crate::VERSION, uptime_s: self.shared.uptime_s(), counters })
    }

    /// Forgets everything, if an admin says so. Whatever carries the admin's MAC gets a signed answer.
    fn reset(&self, body: &[u8]) -> Result<Answer, ApiError> {
        let admin = self.admin.as_ref().ok_or(ApiError::NoAdminSecret)?;
        let order = resets::open(body, admin).map_err(|error| match error {
            NotAnOrder::BadMac => ApiError::BadMac,
            other => ApiError::BadEnvelope(other.to_string()),
        })?;
        let now = self.shared.clock().manager_time(Moment::now());
        let own = self.shared.identity().agent;
        let judged = self.resets.lock().unwrap_or_else(PoisonError::into_inner).judge(&order, own, now);
        let (code, details) = match judged {
            Err((code, message)) => (code, Details { message, ..Details::default() }),
            Ok(()) => self.forget(own),
        };
        log::warn!("reset ordered by an admin: {code} {}", details.message);
        let ack = Ack { code, at: now, details };
        let bytes = ack::seal(&ack, order.header.nonce, &order.header.mac, admin);
        Ok(Answer::bare(code.status(), bytes))
    }

    fn forget(&self, own: proto::ids::AgentId) -> (Code, Details) {
        match self.shared.reset(own) {
            Ok(Some(agent)) => {
                // Without a loop to hear it the process is ending anyway.
                let _ = self.nudge.send(Nudge::Turn);
                let message = format!("agent {own} is now {agent}");
                (Code::Done, Details { message, agent: Some(agent) })
            }
            Ok(None) => {
                let message = "this agent has become another one meanwhile".to_owned();
                (Code::BadPayload, Details { message, ..Details::default() })
            }
            Err(error) => (Code::Unavailable, Details { message: error.to_string(), ..Details::default() }),
        }
    }
}

fn action(method: &str, path: &str) -> Result<Action, ApiError> {
    let (action, allow) = match path {
        agent_path::HEALTHCHECK => (Action::Healthcheck, "GET, HEAD"),
        agent_path::PEER => (Action::Peer, "GET, HEAD"),
        agent_path::RELAY => (Action::Relay, "POST"),
        agent_path::RESET => (Action::Reset, "POST"),
        _ => return Err(ApiError::NotFound),
    };
    if allow.split(", ").any(|allowed| allowed == method) { Ok(action) } else { Err(ApiError::Method(allow)) }
}

/// A page of another site in someone's browser must not post here. Programs send neither header.
fn refuse_other_sites<'a>(header: impl Fn(&str) -> Option<&'a str>) -> Result<(), ApiError> {
    let foreign_fetch = header("Sec-Fetch-Site").is_some_and(|site| !matches!(site, "same-origin" | "none"));
    let host = header("Host").unwrap_or_default();
    let foreign_origin = header("Origin").is_some_and(|origin| {
        !origin.strip_prefix("http://").is_some_and(|origin| origin.eq_ignore_ascii_case(host))
    });
    if foreign_fetch || foreign_origin { Err(ApiError::CrossSite) } else { Ok(()) }
}

fn json(value: &impl Serialize) -> Answer {
    Answer::json(200, serde_json::to_vec(value).expect("answers are plain data"))
        .with_header("Cache-Control", "no-store")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_become_actions_or_named_refusals() {
        assert_eq!(action("GET", "/status/healthcheck"), Ok(Action::Healthcheck));
        assert_eq!(action("HEAD", "/status/peer"), Ok(Action::Peer));
        assert_eq!(action("POST", "/status/relay"), Ok(Action::Relay));
        assert_eq!(action("POST", "/status/reset"), Ok(Action::Reset));
        assert_eq!(action("GET", "/status/reset"), Err(ApiError::Method("POST")));
        assert_eq!(action("post", "/status/reset"), Err(ApiError::Method("POST")));
        assert_eq!(action("DELETE", "/status/peer"), Err(ApiError::Method("GET, HEAD")));
        for path in ["/", "/status", "/status/peer/", "//status/peer", "/status/updates", "*"] {
            assert_eq!(action("GET", path), Err(ApiError::NotFound), "{path}");
        }
    }

    #[test]
    fn bodies_are_only_taken_where_one_belongs() {
        assert_eq!(body_limit("/status/relay"), limits::ENVELOPE_MAX);
        assert_eq!(body_limit("/status/reset"), RESET_MAX);
        assert_eq!((body_limit("/status/peer"), body_limit("/")), (0, 0));
    }

    #[test]
    fn pages_of_other_sites_cannot_post() {
        let check = |headers: &[(&str, &'static str)]| {
            refuse_other_sites(|name| headers.iter().find(|(key, _)| *key == name).map(|(_, value)| *value))
        };
        let host = ("Host", "10.9.0.1:5087");
        assert_eq!(check(&[host]), Ok(()));
        assert_eq!(
            check(&[host, ("Origin", "http://10.9.0.1:5087"), ("Sec-Fetch-Site", "same-origin")]),
            Ok(())
        );
        for header in [
            ("Sec-Fetch-Site", "cross-site"),
            ("Sec-Fetch-Site", "same-site"),
            ("Origin", "null"),
            ("Origin", "https://10.9.0.1:5087"),
            ("Origin", "http://evil.example"),
            ("Origin", "http://10.9.0.1:5087.evil.example"),
        ] {
            assert_eq!(check(&[host, header]), Err(ApiError::CrossSite), "{header:?}");
        }
    }
}
