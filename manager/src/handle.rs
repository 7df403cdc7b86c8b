//! The whole flow of a request: what it asks for, whether it may, and what becomes of it.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use gate::{Answer, Counters, Reply, Request};
use proto::ack::{Ack, Code, Details};
use proto::envelope::{Envelope, Header};
use proto::ids::AgentId;
use proto::limits::TEXT_MAX;
use proto::psk::Secret;
use proto::report::ReportError;
use proto::sign::Kind;
use serde::Deserialize;

use crate::access::Access;
use crate::admin;
use crate::alarm::{self, keeper::Desk};
use crate::atlas::Atlas;
use crate::bases::Bases;
use crate::clock::now_ms;
use crate::config::Config;
use crate::content::Content;
use crate::error::{Reject, StoreError};
use crate::export;
use crate::fleet::SharedFleet;
use crate::psks::{self, Nudge, PskHealth, SharedPsks};
use crate::refusals::Refusals;
use crate::reply;
use crate::request::{Action, Unserved};
use crate::store::writer::{Delivery, Registration, Respond, Writer};
use crate::store::{Readers, history, reports};
use crate::verify::{self, Verified};
use crate::view::map::{self, Detail, MapQuery};
use crate::view::{self, agent, brief, health, rates};

/// What requests are handled with.
#[derive(Debug)]
pub struct Context {
    /// The settings.
    pub config: Config,
    /// The way to the database's writer.
    pub writer: Writer,
    /// Connections that read.
    pub readers: Readers,
    /// Reports that others are the difference to.
    pub bases: Arc<Bases>,
    /// The fleet as it is.
    pub fleet: SharedFleet,
    /// The live map.
    pub atlas: Atlas,
    /// The alarms.
    pub alarms: Arc<Desk>,
    /// The PSKs in force.
    pub psks: SharedPsks,
    /// Asks for the PSK to be read early.
    pub nudge: Nudge,
    /// How reading the PSK went.
    pub psk_health: Arc<RwLock<PskHealth>>,
    /// Who may read.
    pub access: Access,
    /// Counts and logs what is refused.
    pub refusals: Arc<Refusals>,
    /// The secret that resets are signed with, and the resets done.
    pub admin: admin::Admin,
    /// The gate's counters, once it runs.
    pub gate: Arc<OnceLock<Arc<Counters>>>,
    /// Bytes of one answer at most: three quarters of what the gate holds for all clients together.
    pub answer_max: usize,
    /// When the manager started (ms).
    pub started: i64,
}

/// Serves one request. Signed messages are answered by the writer after the commit, reads at once.
pub fn handle(context: &Arc<Context>, request: Request, reply: Reply) {
    let action = Action::of(&request, now_ms()).and_then(|action| {
        context.access.check(&request, action.guard()).map(|()| action).map_err(Unserved::Denied)
    });
    let action = match action {
        Ok(action) => action,
        Err(unserved) => {
            if let Unserved::Denied(denied) = &unserved {
                context.refusals.note(&Reject::Denied(denied.clone()), request.peer, None);
            }
            return reply.send(reply::guarded(reply::unserved(&unserved)));
        }
    };
    match action {
        Action::Report => report(context, &request, reply),
        Action::Register => register(context, &request, reply),
        Action::Reset => admin::reset(context, &request, reply),
        Action::AlarmAck => alarm::admin::acknowledge(context, &request, reply),
        Action::AlarmSilence => alarm::admin::silence(context, &request, reply),
        read => {
            let known = request.header("if-none-match");
            let answer = serve(context, &read, known).unwrap_or_else(|error| reply::unreadable(&error));
            reply.send(reply::guarded(answer));
        }
    }
}

fn serve(context: &Context, action: &Action, known: Option<&str>) -> Result<Answer, StoreError> {
    let now = now_ms();
    let fleet = || context.fleet.read().unwrap_or_else(PoisonError::into_inner);
    Ok(match action {
        Action::Healthcheck => {
            let psk = context.psk_health.read().unwrap_or_else(PoisonError::into_inner).clone();
            let health = health::view(
                &context.writer.health(),
                &psk,
                &context.refusals.counts(),
                &fleet(),
                context.started,
                now,
            );
            reply::json(if health.is_ok() { 200 } else { 503 }, &health)
        }
        Action::Agents => {
            // Their text is made once the fleet is let go: the writer waits for it.
            let agents = agent::list(&fleet(), now);
            reply::json(200, &agents)
        }
        Action::Agent(id) => {
            let found = fleet().agents.get(id).filter(|agent| agent.is_visible()).cloned();
            let Some(found) = found else { return Ok(reply::reject(&Reject::NoSuchAgent)) };
            let payload = match &found.latest {
                Some(latest) => context.readers.read(|db| reports::payload(db, latest.report))?,
                None => None,
            };
            reply::json(200, &agent::one(&found, payload.as_deref(), now))
        }
        Action::Rates(id) => {
            if !fleet().agents.get(id).is_some_and(|agent| agent.is_visible()) {
                return Ok(reply::reject(&Reject::NoSuchAgent));
            }
            let recent = context.readers.read(|db| reports::recent(db, *id, rates::REPORTS))?;
            reply::json(200, &rates::view(*id, &recent))
        }
        Action::Alarms(filter) => reply::json(
            200,
            &context.readers.read(|db| view::alarms::list(db, &context.alarms, filter, now))?,
        ),
        Action::AlarmCodes => reply::json(200, &serde_json::json!({ "codes": alarm::catalogue::CODES })),
        Action::Topology(query) => topology(context, query, known)?,
        Action::Events(filter) => {
            let last = context.readers.read(history::last_event)?;
            let tag = format!("{:x}-{last}", context.started);
            if reply::has(known, &tag) && filter.after >= last {
                return Ok(reply::not_modified(&tag));
            }
            reply::tagged(&tag, &context.readers.read(|db| map::events(db, filter, now))?)
        }
        Action::Path(query) => match query.walk(&context.atlas) {
            Ok(answer) => reply::json(200, &answer),
            Err(error) => reply::problem(404, "no_path", &error.to_string(), Reject::NoSuchAgent.hint()),
        },
        Action::Export(format, wanted) => export::gather::map(context, *format, wanted, known)?,
        Action::AgentsCsv => export::gather::agents_csv(context, now),
        Action::Metrics(parts) => export::gather::metrics(context, *parts, now)?,
        Action::Page(file) => file.answer(known),
        Action::Report | Action::Register | Action::Reset | Action::AlarmAck | Action::AlarmSilence => {
            reply::refusal(500, "not a read")
        }
    })
}

fn topology(context: &Context, query: &MapQuery, known: Option<&str>) -> Result<Answer, StoreError> {
    if let Some(at) = query.at {
        let structure = context.readers.read(|db| map::structure_at(db, at))?;
        let tag = format!("{at}-{}", structure.event.unwrap_or(0));
        return Ok(match query.detail {
            Detail::Brief => {
                brief_map(context, &format!("{tag}-b"), brief::past(&structure, context.answer_max))
            }
            Detail::Full | Detail::Structure => reply::tagged(&tag, &structure),
        });
    }
    let state = context.atlas.state();
    let tag = query.tag(&state, context.started);
    if reply::has(known, &tag) {
        return Ok(reply::not_modified(&tag));
    }
    // The text is made after the state is let go: it takes longer than the view.
    if let Some(id) = &query.of {
        let part = brief::part(&state, id);
        drop(state);
        let text = "there is no node or edge of this id now";
        let none = || reply::problem(404, "no_such_part", text, "GET /status/topology lists them");
        return Ok(part.map_or_else(none, |part| reply::tagged(&tag, &part)));
    }
    Ok(match query.detail {
        Detail::Structure => {
            let structure = map::structure(&state);
            drop(state);
            reply::tagged(&tag, &structure)
        }
        Detail::Brief => {
            drop(state);
            let (version, json) = brief::now(&context.atlas, context.answer_max);
            brief_map(context, &MapQuery::brief_tag(version, context.started), json)
        }
        Detail::Full => {
            let view = state.view(true);
            drop(state);
            reply::tagged(&tag, &view)
        }
    })
}

fn brief_map(context: &Context, tag: &str, json: Result<Vec<u8>, brief::TooLarge>) -> Answer {
    let hint = "ask for a part of it: GET /status/export/netjson?state=down";
    let text = || format!("the map is larger than {} MiB", context.answer_max >> 20);
    json.map_or_else(
        |brief::TooLarge| reply::problem(507, "too_large", &text(), hint),
        |json| reply::tagged_json(tag, json),
    )
}

fn report(context: &Arc<Context>, request: &Request, reply: Reply) {
    let received_at = now_ms();
    let (envelope, verified) = match admit(context, request, Kind::Report) {
        Ok(admitted) => admitted,
        Err(reject) => return refuse(context, request.peer, &reject, reply),
    };
    let respond = responder(context, request.peer, &envelope.header, verified.secret.clone(), reply);
    if let Err(skew) = verify::fresh(&envelope.header, received_at) {
        return respond(Err(skew));
    }
    let content = Content::read(&envelope, &context.bases, &context.readers, received_at);
    let Verified { psk, path, .. } = verified;
    let delivery = Delivery { header: envelope.header, received_at, psk, path, content };
    context.writer.report(delivery, respond);
}

#[derive(Deserialize)]
struct RegisterPayload {
    #[serde(default)]
    hardware: String,
    /// Only to be answered: an agent looks whether all is well.
    #[serde(default)]
    check: bool,
}

fn register(context: &Arc<Context>, request: &Request, reply: Reply) {
    let received_at = now_ms();
    let (envelope, verified) = match admit(context, request, Kind::Register) {
        Ok(admitted) => admitted,
        Err(reject) => return refuse(context, request.peer, &reject, reply),
    };
    let respond = responder(context, request.peer, &envelope.header, verified.secret, reply);
    if let Err(skew) = verify::fresh(&envelope.header, received_at) {
        return respond(Err(skew));
    }
    let payload = json(&envelope).and_then(|json| {
        let payload: RegisterPayload =
            serde_json::from_slice(&json).map_err(|error| ReportError::Json(error.to_string()))?;
        let len = payload.hardware.len();
        let too_long = ReportError::TooLong { field: "hardware", len, max: TEXT_MAX };
        if len > TEXT_MAX { Err(too_long) } else { Ok(payload) }
    });
    match payload {
        Ok(RegisterPayload { hardware, check: true }) => {
            respond(Ok(checked(context, envelope.header.agent, &hardware, received_at)));
        }
        Ok(RegisterPayload { hardware, check: false }) => {
            let agent = envelope.header.agent;
            context.writer.register(Registration { agent, received_at, hardware }, respond);
        }
        Err(error) => respond(Err(Reject::Payload(error))),
    }
}

/// The answer to a first contact that is a check: what would become of it. Nothing is stored.
fn checked(context: &Context, agent: AgentId, hardware: &str, at: i64) -> Ack {
    let fleet = context.fleet.read().unwrap_or_else(PoisonError::into_inner);
    let known = fleet.agents.get(&agent).map_or("", |agent| &*agent.hardware);
    let is_others = !known.is_empty() && !hardware.is_empty() && known != hardware;
    let message =
        if is_others { "checked; this id belongs to other hardware" } else { "checked; nothing was stored" };
    let details = Details { message: message.to_owned(), agent: (!is_others).then_some(agent) };
    Ack { code: Code::Registered, at, details }
}

fn json<'a>(envelope: &Envelope<'a>) -> Result<Cow<'a, [u8]>, ReportError> {
    envelope.json().map_err(|error| ReportError::Json(error.to_string()))
}

/// The envelope of an authentic message of this kind.
fn admit<'a>(
    context: &Context,
    request: &'a Request,
    kind: Kind,
) -> Result<(Envelope<'a>, Verified), Reject> {
    let envelope = Envelope::parse(&request.body).map_err(Reject::Envelope)?;
    if envelope.header.kind != kind {
        return Err(Reject::WrongKind(envelope.header.kind.name()));
    }
    let verified = verify::authentic(&envelope, &psks::current(&context.psks))?;
    Ok((envelope, verified))
}

/// Refuses a message whose sender did not prove anything: there is no key to sign the answer with.
pub fn refuse(context: &Context, peer: SocketAddr, reject: &Reject, reply: Reply) {
    if *reject == Reject::BadMac {
        context.nudge.ask();
    }
    context.refusals.note(reject, peer, None);
    reply.send(reply::reject(reject));
}

/// Tells the sender what became of its message, signed with the secret that it used.
pub fn responder(
    context: &Context,
    peer: SocketAddr,
    header: &Header,
    secret: Secret,
    reply: Reply,
) -> Respond {
    let (nonce, mac) = (header.nonce, header.mac);
    let agent = (!matches!(header.kind, Kind::Reset | Kind::Alarm)).then_some(header.agent);
    let refusals = Arc::clone(&context.refusals);
    Box::new(move |outcome| {
        let ack = outcome.unwrap_or_else(|reject| {
            refusals.note(&reject, peer, agent);
            refusal_ack(&reject)
        });
        let bytes = proto::ack::seal(&ack, nonce, &mac, &secret);
        reply.send(reply::signed(ack.code.status(), bytes));
    })
}

/// A refusal as a signed answer.
fn refusal_ack(reject: &Reject) -> Ack {
    let agent = match reject {
        Reject::DuplicateId => AgentId::random().ok(),
        _ => None,
    };
    Ack {
        code: reject.ack().unwrap_or(Code::Unavailable),
        at: now_ms(),
        details: Details { message: format!("{reject}; {}", reject.hint()), agent },
    }
}
