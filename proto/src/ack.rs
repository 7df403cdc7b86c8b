//! Answers to signed messages: as signed as the messages, and bound to the one that they answer.
//!
//! An answer has the envelope's form, a header line and a payload. Its MAC covers the nonce *and*
//! the MAC of the message, so an answer to an earlier sending of the same message does not pass.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{AgentId, Nonce};
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

    const KNOWN: [Self; 10] = [
        Self::Stored,
        Self::AlreadyStored,
        Self::Registered,
        Self::Done,
        Self::ClockSkew,
        Self::Replayed,
        Self::DuplicateId,
        Self::BadPayload,
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
            Self::ClockSkew | Self::Replayed | Self::DuplicateId => 409,
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

#[derive(Serialize, Deserialize)]
struct AckHeader {
    v: u32,
    kind: Kind,
    nonce: Nonce,
    at: i64,
    code: String,
    mac: Tag,
}

/// What an answer says beside its code.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Details {
    /// A sentence for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The highest tick stored of this agent and boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top: Option<u64>,
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
    /// They answer another message.
    OtherMessage,
    /// The MAC is not that of the PSK's holder.
    BadMac,
}

impl fmt::Display for AckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the answer is not an answer of this protocol",
            Self::OtherMessage => "the answer belongs to another message",
            Self::BadMac => "the answer is not signed with the PSK",
        })
    }
}

impl std::error::Error for AckError {}

/// Writes and signs an answer to the message named by `nonce` and `request_mac`.
#[must_use]
pub fn seal(ack: &Ack, nonce: Nonce, request_mac: &Tag, secret: &Secret) -> Vec<u8> {
    let payload = serde_json::to_vec(&ack.details).expect("details are plain data");
    let fields = fields(nonce, request_mac, ack.at, ack.code.name());
    let mac = secret.key(Kind::Ack).sign(&with_payload(&fields, &payload));
    let header =
        AckHeader { v: 1, kind: Kind::Ack, nonce, at: ack.at, code: ack.code.name().to_owned(), mac };
    let mut bytes = serde_json::to_vec(&header).expect("a header is plain data");
    bytes.push(b'\n');
    bytes.extend_from_slice(&payload);
    bytes
}

/// Reads an answer and verifies that it was made for this message by a holder of `secret`.
///
/// # Errors
/// See [`AckError`]. An answer that fails must be taken as no answer at all.
pub fn open(bytes: &[u8], nonce: Nonce, request_mac: &Tag, secret: &Secret) -> Result<Ack, AckError> {
    let end = bytes.iter().take(limits::HEADER_MAX).position(|&byte| byte == b'\n');
    let (header, payload) = bytes.split_at(end.ok_or(AckError::Malformed)?);
    let payload = &payload[1..];
    let header: AckHeader = serde_json::from_slice(header).map_err(|_| AckError::Malformed)?;
    if header.v != 1 || header.kind != Kind::Ack {
        return Err(AckError::Malformed);
    }
    if header.nonce != nonce {
        return Err(AckError::OtherMessage);
    }
    let fields = fields(nonce, request_mac, header.at, &header.code);
    if !secret.key(Kind::Ack).verify(&with_payload(&fields, payload), &header.mac) {
        return Err(AckError::BadMac);
    }
    let details = serde_json::from_slice(payload).map_err(|_| AckError::Malformed)?;
    Ok(Ack { code: Code::from_name(&header.code), at: header.at, details })
}

fn fields(nonce: Nonce, request_mac: &Tag, at: i64, code: &str) -> [Vec<u8>; 6] {
    [
        DOMAIN.as_bytes().to_vec(),
        Kind::Ack.name().as_bytes().to_vec(),
        nonce.0.to_vec(),
        request_mac.0.to_vec(),
        at.to_be_bytes().to_vec(),
        code.as_bytes().to_vec(),
    ]
}

fn with_payload<'a>(fields: &'a [Vec<u8>; 6], payload: &'a [u8]) -> [&'a [u8]; 7] {
    let [a, b, c, d, e, f] = fields;
    [a, b, c, d, e, f, payload]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_opens_only_for_its_own_message() {
        let psk = Secret::new("correct horse battery staple").unwrap();
        let other = Secret::new("another secret of that length").unwrap();
        let ack = Ack { code: Code::Stored, at: 5, details: Details { top: Some(9), ..Details::default() } };
        let bytes = seal(&ack, Nonce([1; 16]), &Tag([2; 32]), &psk);
        assert_eq!(open(&bytes, Nonce([1; 16]), &Tag([2; 32]), &psk), Ok(ack));
        let refused = |nonce, mac, secret| open(&bytes, nonce, &mac, secret).unwrap_err();
        assert_eq!(refused(Nonce([0; 16]), Tag([2; 32]), &psk), AckError::OtherMessage);
        assert_eq!(refused(Nonce([1; 16]), Tag([3; 32]), &psk), AckError::BadMac);
        assert_eq!(refused(Nonce([1; 16]), Tag([2; 32]), &other), AckError::BadMac);
        let changed = String::from_utf8(bytes).unwrap().replace(r#""at":5"#, r#""at":6"#);
        assert_eq!(open(changed.as_bytes(), Nonce([1; 16]), &Tag([2; 32]), &psk), Err(AckError::BadMac));
        assert_eq!(open(b"<html>\n", Nonce([1; 16]), &Tag([2; 32]), &psk), Err(AckError::Malformed));
    }

    #[test]
    fn a_code_of_a_later_version_still_verifies() {
        let psk = Secret::new("correct horse battery staple").unwrap();
        let (nonce, request_mac) = (Nonce([1; 16]), Tag([2; 32]));
        let fields = fields(nonce, &request_mac, 5, "postponed");
        let mac = psk.key(Kind::Ack).sign(&with_payload(&fields, b"{}"));
        let header = AckHeader { v: 1, kind: Kind::Ack, nonce, at: 5, code: "postponed".into(), mac };
        let bytes = [serde_json::to_vec(&header).unwrap(), b"\n{}".to_vec()].concat();
        assert_eq!(open(&bytes, nonce, &request_mac, &psk).unwrap().code, Code::Other);
        assert!(Code::KNOWN.into_iter().all(|code| Code::from_name(code.name()) == code));
    }
}
