//! An admin's word on alarms: acknowledgements and silences, signed as resets are.

use std::sync::Arc;

use gate::{Reply, Request};
use proto::ack::{Ack, Code, Details};
use proto::ids::AgentId;
use proto::report::ReportError;
use proto::sign::Kind;
use serde::{Deserialize, Serialize};

use super::catalogue;
use super::keeper::Undone;
use super::status::Silence;
use crate::admin::admit;
use crate::clock::now_ms;
use crate::error::Reject;
use crate::handle::{Context, refuse, responder};

/// The longest silence: 30 days.
const SILENCE_MAX_S: i64 = 30 * 86_400;

/// What an acknowledgement says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AckPayload {
    /// The alarm's number.
    pub alarm: i64,
}

/// What a silence says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SilencePayload {
    /// A code, or an agent's id.
    pub target: String,
    /// For how long; 0 lifts it.
    pub for_s: i64,
}

/// Takes a signed acknowledgement.
pub fn acknowledge(context: &Arc<Context>, request: &Request, reply: Reply) {
    order(context, request, reply, |payload: AckPayload, now| {
        let sentence = context.alarms.acknowledge(payload.alarm, now).map_err(rejected)?;
        log::info!("admin: alarm {} acknowledged, from {}", payload.alarm, request.peer.ip());
        Ok(format!("acknowledged: {sentence}"))
    });
}

/// Takes a signed silence.
pub fn silence(context: &Arc<Context>, request: &Request, reply: Reply) {
    order(context, request, reply, |payload: SilencePayload, now| {
        let SilencePayload { target, for_s } = payload;
        let known = catalogue::find(&target).is_some() || target.parse::<AgentId>().is_ok();
        if !known || !(0..=SILENCE_MAX_S).contains(&for_s) {
            let why = "target must be a code or an agent id, for_s at most 30 days".to_owned();
            return Err(Reject::Payload(ReportError::Json(why)));
        }
        let silence = Silence { target: target.clone(), until: now + for_s * 1000 };
        context.alarms.silence(silence, now).map_err(rejected)?;
        log::info!("admin: {target} silenced for {for_s} s, from {}", request.peer.ip());
        Ok(if for_s == 0 {
            format!("{target} is told again")
        } else {
            format!("{target} is silent for {for_s} s")
        })
    });
}

fn rejected(undone: Undone) -> Reject {
    match undone {
        Undone::NoSuchAlarm => Reject::NoSuchAlarm,
        Undone::Unavailable => Reject::Unavailable,
    }
}

/// The whole flow of one order: authentic, fresh, not done before, understood, done, answered.
fn order<T: for<'de> Deserialize<'de>>(
    context: &Arc<Context>,
    request: &Request,
    reply: Reply,
    carry_out: impl FnOnce(T, i64) -> Result<String, Reject>,
) {
    let now = now_ms();
    let (envelope, secret) = match admit(&context.admin, request, Kind::Alarm) {
        Ok(admitted) => admitted,
        Err(reject) => return refuse(context, request.peer, &reject, reply),
    };
    let respond = responder(context, request.peer, &envelope.header, secret, reply);
    let wrong = |why: String| Reject::Payload(ReportError::Json(why));
    let payload = || -> Result<T, Reject> {
        let json = envelope.json().map_err(|error| wrong(error.to_string()))?;
        serde_json::from_slice(&json).map_err(|error| wrong(error.to_string()))
    };
    let outcome =
        context.admin.take(&envelope.header, now).and_then(|()| payload()).and_then(|p| carry_out(p, now));
    let done =
        |message| Ack { code: Code::Done, at: now_ms(), details: Details { message, ..Details::default() } };
    respond(outcome.map(done));
}
