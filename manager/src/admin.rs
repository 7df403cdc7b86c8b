//! An admin's orders: signed with a secret of their own, fresh within a minute, each taken once.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use gate::{Reply, Request};
use proto::envelope::{Draft, Envelope, Header};
use proto::ids::{AgentId, BootId, Nonce};
use proto::limits::ADMIN_SKEW;
use proto::psk::Secret;
use proto::report::ReportError;
use proto::sign::Kind;
use serde::{Deserialize, Serialize};

use crate::clock::now_ms;
use crate::error::Reject;
use crate::handle::{Context, refuse, responder};
use crate::store::writer::Reset;

/// Resets remembered; more than this within two minutes are refused as replays would be.
const REMEMBERED: usize = 256;

/// What resets are checked against.
#[derive(Debug)]
pub struct Admin {
    secret: Option<Secret>,
    done: Mutex<VecDeque<(Nonce, i64)>>,
}

/// What a reset asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResetPayload {
    /// An agent id, or `all`.
    pub target: String,
    /// Show again what a reset hid.
    #[serde(default)]
    pub undo: bool,
}

impl Admin {
    /// Resets are taken when signed with `secret`, and never when there is none.
    #[must_use]
    pub fn new(secret: Option<Secret>) -> Self {
        Self { secret, done: Mutex::default() }
    }

    /// Whether a message is fresh and was not done before; from now on it was.
    ///
    /// # Errors
    /// When it is neither.
    pub fn take(&self, header: &Header, now: i64) -> Result<(), Reject> {
        let ahead_ms = header.sent_at.saturating_sub(now);
        let limit = i64::try_from(ADMIN_SKEW.as_millis()).unwrap_or(i64::MAX);
        if !(-limit..=limit).contains(&ahead_ms) {
            return Err(Reject::ClockSkew { ahead_ms });
        }
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.retain(|(_, at)| (now - at).abs() <= 2 * limit);
        if done.len() >= REMEMBERED || done.iter().any(|(nonce, _)| *nonce == header.nonce) {
            return Err(Reject::Replayed);
        }
        done.push_back((header.nonce, now));
        Ok(())
    }
}

/// Takes a signed reset.
pub fn reset(context: &Context, request: &Request, reply: Reply) {
    let now = now_ms();
    let (envelope, secret) = match admit(&context.admin, request, Kind::Reset) {
        Ok(admitted) => admitted,
        Err(reject) => return refuse(context, request.peer, &reject, reply),
    };
    let respond = responder(context, request.peer, &envelope.header, secret, reply);
    match context.admin.take(&envelope.header, now).and_then(|()| order(&envelope, now)) {
        Ok(order) => {
            let whom = order.agent.map_or_else(|| "the fleet".to_owned(), |agent| format!("agent {agent}"));
            let what = if order.at.is_some() { "reset" } else { "reset undone" };
            log::warn!("admin: {what} for {whom}, from {}", request.peer.ip());
            context.writer.reset(order, respond);
        }
        Err(reject) => respond(Err(reject)),
    }
}

/// The envelope of an authentic order of this kind, and the secret that signed it.
///
/// # Errors
/// Why it is none.
pub fn admit<'a>(admin: &Admin, request: &'a Request, kind: Kind) -> Result<(Envelope<'a>, Secret), Reject> {
    let secret = admin.secret.clone().ok_or(Reject::NoAdminSecret)?;
    let envelope = Envelope::parse(&request.body).map_err(Reject::Envelope)?;
    if envelope.header.kind != kind {
        return Err(Reject::WrongKind(envelope.header.kind.name()));
    }
    if !envelope.is_signed_with(&secret) {
        return Err(Reject::BadMac);
    }
    Ok((envelope, secret))
}

fn order(envelope: &Envelope<'_>, now: i64) -> Result<Reset, Reject> {
    let wrong = |why: String| Reject::Payload(ReportError::Json(why));
    let json = envelope.json().map_err(|error| wrong(error.to_string()))?;
    let payload: ResetPayload = serde_json::from_slice(&json).map_err(|error| wrong(error.to_string()))?;
    let agent = match payload.target.as_str() {
        "all" => None,
        id => Some(id.parse::<AgentId>().map_err(|error| wrong(format!("target: {error}, or all")))?),
    };
    Ok(Reset { agent, at: (!payload.undo).then_some(now) })
}

/// A signed order of an admin.
///
/// # Errors
/// When the kernel gives no random numbers.
pub fn seal_order(
    kind: Kind,
    json: &[u8],
    secret: &Secret,
    now: i64,
) -> Result<proto::envelope::Sealed, getrandom::Error> {
    let draft = Draft {
        kind,
        agent: AgentId([0; 16]),
        boot: BootId::random()?,
        tick: 1,
        nonce: Nonce::random()?,
        json,
    };
    Ok(draft.seal(secret, now))
}
