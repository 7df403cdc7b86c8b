//! Answers to signed messages: as signed as the messages, and bound to the one that they answer.
//!
//! An answer has the envelope's form, a header line and a payload, which may be empty. Its MAC covers
//! the nonce *and* the MAC of the message, so an answer to another message, or to an earlier sending
//! of the same one, does not pass.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::envelope::MAGIC;
use crate::ids::{AgentId, Nonce, from_base64, to_base64};
use crate::limits;
use crate::psk::Secret;
use crate::sign::{DOMAIN, Kind, Tag};

/// What became of a message. The names are part of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// Stored, durably.
    Stored,
    /// It had been stored before; nothing was stored now.
    AlreadyStored,
    /// The agent's id is confirmed, or another is in `agent`.
    Registered,
    /// The reset was done.
    Done,
    /// `sent_at` is too far from the manager's clock; `at` is the manager's time.
    ClockSkew,
    /// Its tick or nonce was used by another message.
    Replayed,
    /// The agent id belongs to other hardware, or two copies of one agent run.
    DuplicateId,
    /// The payload is not what its kind asks for; sending it again is no use.
    BadPayload,
    /// The payload is in an encoding that the manager cannot read now: send it whole.
    NeedFull,
    /// It passed too many relays, or this one before.
    RelayRefused,
    /// The receiver could not store it now; try again later.
    Unavailable,
    /// A code that this version does not know.
    Other,
}

impl Code {
    /// The code of that name; [`Code::Other`] for one that this version does not know.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        Self::KNOWN.into_iter().find(|code| code.name() == name).unwrap_or(Self::Other)
    }

    const KNOWN: [Self; 11] = [
        Self::Stored,
        Self::AlreadyStored,
        Self::Registered,
        Self::Done,
        Self::ClockSkew,
        Self::Replayed,
        Self::DuplicateId,
        Self::BadPayload,
        Self::NeedFull,
        Self::RelayRefused,
        Self::Unavailable,
    ];

    /// Its name in the answer.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::AlreadyStored => "already_stored",
            Self::Registered => "registered",
            Self::Done => "done",
            Self::ClockSkew => "clock_skew",
            Self::Replayed => "replayed",
            Self::DuplicateId => "duplicate_id",
            Self::BadPayload => "bad_payload",
            Self::NeedFull => "need_full",
            Self::RelayRefused => "relay_refused",
            Self::Unavailable => "unavailable",
            Self::Other => "other",
        }
    }

    /// The HTTP status that goes with it.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Stored | Self::AlreadyStored | Self::Registered | Self::Done => 200,
            Self::ClockSkew | Self::Replayed | Self::DuplicateId | Self::NeedFull => 409,
            Self::BadPayload => 422,
            Self::RelayRefused => 508,
            Self::Unavailable | Self::Other => 503,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What an answer says beside its code.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Details {
    /// A sentence for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The id to use from now on ([`Code::Registered`], [`Code::DuplicateId`]).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
}

/// A verified answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// What became of the message.
    pub code: Code,
    /// The answerer's clock: milliseconds since the Unix epoch.
    pub at: i64,
    /// What else it says.
    pub details: Details,
}

/// Why bytes are no answer to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AckError {
    /// They have not the form of an answer.
    Malformed,
    /// The MAC is not that of the PSK's holder, or answers another message.
    BadMac,
}

impl fmt::Display for AckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the answer is not an answer of this protocol",
            Self::BadMac => "the answer is not signed for this message with the PSK",
        })
    }
}

impl std::error::Error for AckError {}

/// Writes and signs an answer to the message named by `nonce` and `request_mac`.
#[must_use]
pub fn seal(ack: &Ack, nonce: Nonce, request_mac: &Tag, secret: &Secret) -> Vec<u8> {
    let payload = match ack.details == Details::default() {
        true => Vec::new(),
        false => serde_json::to_vec(&ack.details).expect("details are plain data"),
    };
    let code = ack.code.name();
    let mac = mac(nonce, request_mac, ack.at, code, &payload, |fields| secret.key(Kind::Ack).sign(fields));
    let mut bytes = format!("{MAGIC} {} {code} {} {}\n", Kind::Ack, ack.at, to_base64(&mac.0)).into_bytes();
    bytes.extend_from_slice(&payload);
    bytes
}

/// Reads an answer and verifies that it was made for this message by a holder of `secret`.
///
/// # Errors
/// See [`AckError`]. An answer that fails must be taken as no answer at all.
pub fn open(bytes: &[u8], nonce: Nonce, request_mac: &Tag, secret: &Secret) -> Result<Ack, AckError> {
    let (code, at, tag, payload) = split(bytes).ok_or(AckError::Malformed)?;
    let good = |fields: &[&[u8]]| secret.key(Kind::Ack).verify(fields, &tag);
    if !mac(nonce, request_mac, at, code, payload, good) {
        return Err(AckError::BadMac);
    }
    let details = match payload {
        b"" => Details::default(),
        json => serde_json::from_slice(json).map_err(|_| AckError::Malformed)?,
    };
    Ok(Ack { code: Code::from_name(code), at, details })
}

/// Code, time, MAC and payload of an answer.
fn split(bytes: &[u8]) -> Option<(&str, i64, Tag, &[u8])> {
    let end = bytes.iter().take(limits::HEADER_MAX).position(|&byte| byte == b'\n')?;
    let line = std::str::from_utf8(&bytes[..end]).ok()?;
    let fields: Vec<_> = line.splitn(6, ' ').collect();
    let [MAGIC, kind, code, at, mac] = fields[..] else { return None };
    let is_ack = kind == Kind::Ack.name();
    is_ack.then_some((code, at.parse().ok()?, Tag(from_base64(mac)?), &bytes[end + 1..]))
}

/// Calls `use_fields` with what the MAC covers, in its order.
fn mac<T>(
    nonce: Nonce,
    request_mac: &Tag,
    at: i64,
    code: &str,
    payload: &[u8],
    use_fields: impl FnOnce(&[&[u8]]) -> T,
) -> T {
    let kind = Kind::Ack.name().as_bytes();
    let (domain, at) = (DOMAIN.as_bytes(), at.to_be_bytes());
    use_fields(&[domain, kind, &nonce.0, &request_mac.0, &at, code.as_bytes(), payload])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_opens_only_for_its_own_message() {
        let psk = Secret::new("correct horse battery staple").unwrap();
        let other = Secret::new("another secret of that length").unwrap();
        let ack = Ack {
            code: Code::Stored,
            at: 5,
            details: Details { agent: Some(AgentId([9; 16])), ..Details::default() },
        };
        let bytes = seal(&ack, Nonce([1; 16]), &Tag([2; 32]), &psk);
        assert_eq!(open(&bytes, Nonce([1; 16]), &Tag([2; 32]), &psk), Ok(ack.clone()));
        let refused = |nonce, mac, secret| open(&bytes, nonce, &mac, secret).unwrap_err();
        assert_eq!(refused(Nonce([0; 16]), Tag([2; 32]), &psk), AckError::BadMac);
        assert_eq!(refused(Nonce([1; 16]), Tag([3; 32]), &psk), AckError::BadMac);
        assert_eq!(refused(Nonce([1; 16]), Tag([2; 32]), &other), AckError::BadMac);
        let changed = String::from_utf8(bytes).unwrap().replace(" 5 ", " 6 ");
        assert_eq!(open(changed.as_bytes(), Nonce([1; 16]), &Tag([2; 32]), &psk), Err(AckError::BadMac));
        for malformed in [&b"<html>\n"[..], b"k1 ack stored 5\n", b"k1 report stored 5 x\n"] {
            assert_eq!(open(malformed, Nonce([1; 16]), &Tag([2; 32]), &psk), Err(AckError::Malformed));
        }
        let short = seal(&Ack { details: Details::default(), ..ack }, Nonce([1; 16]), &Tag([2; 32]), &psk);
        assert!(short.ends_with(b"\n") && short.len() < 70, "{}", short.len());
    }

    #[test]
    fn a_code_of_a_later_version_still_verifies() {
        let psk = Secret::new("correct horse battery staple").unwrap();
        let (nonce, request_mac) = (Nonce([1; 16]), Tag([2; 32]));
        let tag = mac(nonce, &request_mac, 5, "postponed", b"{}", |fields| psk.key(Kind::Ack).sign(fields));
        let bytes = format!("k1 ack postponed 5 {}\n{{}}", to_base64(&tag.0)).into_bytes();
        assert_eq!(open(&bytes, nonce, &request_mac, &psk).unwrap().code, Code::Other);
        assert!(Code::KNOWN.into_iter().all(|code| Code::from_name(code.name()) == code));
    }
}
