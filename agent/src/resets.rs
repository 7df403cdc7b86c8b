//! May this order to forget everything be obeyed, and how is one made. Pure.

use std::collections::VecDeque;
use std::fmt;

use proto::ack::Code;
use proto::envelope::{Draft, Envelope, EnvelopeError, Sealed};
use proto::ids::{AgentId, BootId, Nonce};
use proto::limits;
use proto::psk::Secret;
use proto::sign::Kind;
use serde::{Deserialize, Serialize};

/// Nonces remembered at once; orders are signed by an admin and good for a minute or two.
const REMEMBERED: usize = 64;

/// Payload of an order: whom it is for.
#[derive(Debug, Serialize, Deserialize)]
struct Payload {
    target: AgentId,
}

/// Why bytes are no order of an admin.
#[derive(Debug, PartialEq, Eq)]
pub enum NotAnOrder {
    /// They are no envelope.
    Envelope(EnvelopeError),
    /// They are another kind of message.
    Kind(Kind),
    /// They are not signed with the admin secret.
    BadMac,
}

impl fmt::Display for NotAnOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Envelope(error) => error.fmt(f),
            Self::Kind(kind) => write!(f, "the message is a {kind} and not a reset"),
            Self::BadMac => f.write_str("the reset is not signed with this agent's admin secret"),
        }
    }
}

/// Signs an order for `target`.
#[must_use]
pub fn seal(target: AgentId, boot: BootId, nonce: Nonce, secret: &Secret, sent_at: i64) -> Sealed {
    let json = serde_json::to_vec(&Payload { target }).expect("an id is plain data");
    Draft { kind: Kind::Reset, agent: target, boot, tick: 1, nonce, json: &json }.seal(secret, sent_at)
}

/// Reads bytes and verifies that an admin signed them.
///
/// # Errors
/// See [`NotAnOrder`].
pub fn open<'a>(bytes: &'a [u8], secret: &Secret) -> Result<Envelope<'a>, NotAnOrder> {
    let envelope = Envelope::parse(bytes).map_err(NotAnOrder::Envelope)?;
    if envelope.header.kind != Kind::Reset {
        return Err(NotAnOrder::Kind(envelope.header.kind));
    }
    if !envelope.is_signed_with(secret) {
        return Err(NotAnOrder::BadMac);
    }
    Ok(envelope)
}

/// The orders seen lately.
#[derive(Debug, Default)]
pub struct Resets {
    /// Nonce, and until when its message is fresh (milliseconds since the epoch).
    seen: VecDeque<(Nonce, i64)>,
}

impl Resets {
    /// Whether agent `own` should obey a verified order at `now` (milliseconds since the epoch).
    ///
    /// # Errors
    /// The code to answer with, and a sentence for people.
    pub fn judge(&mut self, order: &Envelope<'_>, own: AgentId, now: i64) -> Result<(), (Code, String)> {
        let skew = i64::try_from(limits::ADMIN_SKEW.as_millis()).unwrap_or(i64::MAX);
        let header = &order.header;
        if header.sent_at.saturating_sub(now).saturating_abs() > skew {
            let why = format!("signed more than {} s from this agent's time", limits::ADMIN_SKEW.as_secs());
            return Err((Code::ClockSkew, why));
        }
        self.seen.retain(|&(_, until)| until >= now);
        if self.seen.iter().any(|&(nonce, _)| nonce == header.nonce) {
            return Err((Code::Replayed, "this order was obeyed or refused before".to_owned()));
        }
        if self.seen.len() >= REMEMBERED {
            return Err((Code::Unavailable, "too many orders within a minute".to_owned()));
        }
        self.seen.push_back((header.nonce, header.sent_at.saturating_add(skew)));
        let payload = order.json().map_err(|error| (Code::BadPayload, error.to_string()))?;
        let payload: Payload =
            serde_json::from_slice(&payload).map_err(|error| (Code::BadPayload, error.to_string()))?;
        if payload.target != own {
            return Err((Code::BadPayload, format!("it names agent {}, this is {own}", payload.target)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: AgentId = AgentId([1; 16]);
    const NOW: i64 = 1_795_000_000_000;

    fn secret() -> Secret {
        Secret::new("the admin's own secret").unwrap()
    }

    fn order(target: AgentId, nonce: u8, sent_at: i64) -> Sealed {
        seal(target, BootId([2; 16]), Nonce([nonce; 16]), &secret(), sent_at)
    }

    fn judge(resets: &mut Resets, sealed: &Sealed, now: i64) -> Result<(), Code> {
        let envelope = open(&sealed.bytes, &secret()).unwrap();
        resets.judge(&envelope, OWN, now).map_err(|(code, _)| code)
    }

    #[test]
    fn only_the_admin_secret_signs_orders() {
        let bytes = order(OWN, 1, NOW).bytes;
        let other = Secret::new("correct horse battery staple").unwrap();
        assert_eq!(open(&bytes, &other), Err(NotAnOrder::BadMac));
        assert!(matches!(open(b"reset\n", &secret()), Err(NotAnOrder::Envelope(_))));
        let report = Draft {
            kind: Kind::Report,
            agent: OWN,
            boot: BootId([2; 16]),
            tick: 1,
            nonce: Nonce([1; 16]),
            json: br#"{"target":"01010101010101010101010101010101"}"#,
        };
        let bytes = report.seal(&secret(), NOW).bytes;
        assert_eq!(open(&bytes, &secret()), Err(NotAnOrder::Kind(Kind::Report)));
    }

    #[test]
    fn an_order_is_obeyed_once_while_fresh_and_by_its_target() {
        let mut resets = Resets::default();
        assert_eq!(judge(&mut resets, &order(OWN, 1, NOW), NOW + 60_000), Ok(()));
        assert_eq!(judge(&mut resets, &order(OWN, 1, NOW), NOW), Err(Code::Replayed));
        assert_eq!(judge(&mut resets, &order(OWN, 2, NOW), NOW + 60_001), Err(Code::ClockSkew));
        assert_eq!(judge(&mut resets, &order(OWN, 2, NOW), NOW - 60_001), Err(Code::ClockSkew));
        assert_eq!(judge(&mut resets, &order(OWN, 2, i64::MIN), NOW), Err(Code::ClockSkew));
        assert_eq!(judge(&mut resets, &order(AgentId([9; 16]), 3, NOW), NOW), Err(Code::BadPayload));
        // An order from the future stays known for as long as it is fresh.
        assert_eq!(judge(&mut resets, &order(OWN, 4, NOW + 60_000), NOW), Ok(()));
        assert_eq!(judge(&mut resets, &order(OWN, 4, NOW + 60_000), NOW + 120_000), Err(Code::Replayed));
        assert_eq!(judge(&mut resets, &order(OWN, 4, NOW + 60_000), NOW + 120_001), Err(Code::ClockSkew));
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut resets = Resets::default();
        for nonce in 0..64 {
            assert_eq!(judge(&mut resets, &order(OWN, nonce, NOW), NOW), Ok(()));
        }
        assert_eq!(judge(&mut resets, &order(OWN, 64, NOW), NOW), Err(Code::Unavailable));
        assert_eq!(judge(&mut resets, &order(OWN, 64, NOW + 61_000), NOW + 61_000), Ok(()));
        assert_eq!(resets.seen.len(), 1);
    }
}
