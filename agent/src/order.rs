//! `agent -reset`: tells the agent on this host to forget everything.

use std::fmt;
use std::net::SocketAddr;

use proto::ack::{self, Ack, Code};
use proto::ids::{AgentId, BootId, Nonce};
use proto::limits::agent_path;
use proto::psk::Secret;

use crate::clock::{Clock, Moment};
use crate::peer::Brief;
use crate::push::{self, Client};
use crate::resets;

/// Why the order was not carried out.
#[derive(Debug)]
pub enum OrderError {
    /// The kernel gives no random numbers.
    NoRandom,
    /// The agent does not answer; in words.
    NoAnswer(String),
    /// What answers is no agent.
    NoAgent(SocketAddr),
    /// It refused without a signature: HTTP status and body.
    Unsigned(u16, String),
    /// It refused, signed.
    Refused(Ack),
}

impl fmt::Display for OrderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRandom => f.write_str("the kernel gives no random numbers yet"),
            Self::NoAnswer(why) => write!(f, "no agent answers on this host (is it running?): {why}"),
            Self::NoAgent(endpoint) => write!(f, "what answers at {endpoint} is no agent"),
            Self::Unsigned(status, body) => write!(f, "refused with HTTP {status}: {body}"),
            Self::Refused(ack) => write!(f, "refused ({}): {}", ack.code, ack.details.message),
        }
    }
}

impl std::error::Error for OrderError {}

/// Orders the agent at `endpoint` to forget everything; its id before and after.
///
/// # Errors
/// See [`OrderError`]; the agent is then as it was, unless its answer was lost.
pub fn reset(endpoint: SocketAddr, admin: &Secret) -> Result<(AgentId, Option<AgentId>), OrderError> {
    let client = Client::new();
    let target = ask_id(&client, endpoint)?;
    let mut clock = Clock::default();
    let mut ack = send(&client, endpoint, target, admin, clock)?;
    // The agent goes by the manager's time, which this command does not know yet.
    if ack.code == Code::ClockSkew && clock.learn(ack.at, Moment::now()) {
        ack = send(&client, endpoint, target, admin, clock)?;
    }
    if ack.code == Code::Done { Ok((target, ack.details.agent)) } else { Err(OrderError::Refused(ack)) }
}

fn ask_id(client: &Client, endpoint: SocketAddr) -> Result<AgentId, OrderError> {
    let url = format!("http://{endpoint}{}", agent_path::PEER);
    let (status, body) =
        client.get(&url, push::TIMEOUT).map_err(|error| OrderError::NoAnswer(error.to_string()))?;
    if status != 200 {
        return Err(OrderError::Unsigned(status, text(&body)));
    }
    let peer: Brief = serde_json::from_slice(&body).map_err(|_| OrderError::NoAgent(endpoint))?;
    Ok(peer.agent)
}

fn send(
    client: &Client,
    endpoint: SocketAddr,
    target: AgentId,
    admin: &Secret,
    clock: Clock,
) -> Result<Ack, OrderError> {
    let (Ok(boot), Ok(nonce)) = (BootId::random(), Nonce::random()) else { return Err(OrderError::NoRandom) };
    let sealed = resets::seal(target, boot, nonce, admin, clock.manager_time(Moment::now()));
    let url = format!("http://{endpoint}{}", agent_path::RESET);
    let (status, body) = client
        .post(&url, &sealed.bytes, push::TIMEOUT)
        .map_err(|error| OrderError::NoAnswer(error.to_string()))?;
    ack::open(&body, sealed.nonce, &sealed.mac, admin).map_err(|_| OrderError::Unsigned(status, text(&body)))
}

/// An error's body for a terminal: one line, short.
fn text(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect()
}
