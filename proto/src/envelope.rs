//! The bytes in which a message travels, and the exact ones that are signed.
//!
//! An envelope is one line of JSON, the header, then `\n`, then the payload. The payload's bytes
//! are signed as they are and never written again by anyone; the header's fields are signed as
//! values. A relay adds its hop to the header's `path` and passes the payload on unchanged.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::deflate::{self, InflateError};
use crate::ids::{AgentId, BootId, Nonce};
use crate::limits;
use crate::psk::Secret;
use crate::sign::{DOMAIN, Key, Kind, Tag};

/// The version of the envelope that this code reads and writes.
pub const ENVELOPE_VERSION: u32 = 1;

/// Media type of an envelope in HTTP.
pub const MEDIA_TYPE: &str = "application/vnd.kattila.envelope";

/// How the payload is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// JSON as it is.
    #[default]
    Json,
    /// JSON, deflated (RFC 1951).
    Deflate,
}

impl Encoding {
    fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Deflate => "deflate",
        }
    }
}

/// What the sender says of a message, outside its payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`ENVELOPE_VERSION`] of the writer.
    pub v: u32,
    /// Which kind of message.
    pub kind: Kind,
    /// Who sent it.
    pub agent: AgentId,
    /// Which start of the sender.
    pub boot: BootId,
    /// Its number in that start, from 1; kept when it is sent again.
    pub tick: u64,
    /// When it was signed: milliseconds since the Unix epoch on the manager's clock, as far as the
    /// sender knows it.
    pub sent_at: i64,
    /// Names the message; kept when it is sent again.
    pub nonce: Nonce,
    /// How the payload is written.
    #[serde(default)]
    pub encoding: Encoding,
    /// MAC of all the above and of the payload.
    pub mac: Tag,
    /// The relays that it passed, first to last; not under `mac`, each entry has its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub path: Vec<Hop>,
}

/// A relay's entry in the path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hop {
    /// The relay.
    pub agent: AgentId,
    /// When it passed the message on, by its own clock as corrected: milliseconds since the epoch.
    pub at: i64,
    /// MAC of this entry and of the tag before it, so that entries cannot be swapped or moved.
    pub mac: Tag,
}

/// Why bytes are no envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnvelopeError {
    /// There is no line end within [`limits::HEADER_MAX`] bytes.
    NoHeader,
    /// The header is not JSON of the right shape; the text says where.
    Header(String),
    /// It was written by a later version.
    Version(u32),
    /// More hops than [`limits::HOPS_MAX`].
    Hops(usize),
    /// The payload is not what `encoding` says, or inflates to more than [`limits::PAYLOAD_MAX`].
    Payload(InflateError),
}

impl fmt::Display for EnvelopeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHeader => {
                write!(f, "no envelope: the first {} bytes hold no header line", limits::HEADER_MAX)
            }
            Self::Header(why) => write!(f, "envelope header: {why}"),
            Self::Version(v) => write!(f, "envelope version {v}, this side reads {ENVELOPE_VERSION}"),
            Self::Hops(hops) => {
                write!(f, "{hops} hops in the path, at most {} are allowed", limits::HOPS_MAX)
            }
            Self::Payload(why) => write!(f, "envelope payload: {why}"),
        }
    }
}

impl std::error::Error for EnvelopeError {}

/// A message as received: a header and the payload's exact bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// The header.
    pub header: Header,
    /// The payload as it travelled.
    pub payload: &'a [u8],
}

impl<'a> Envelope<'a> {
    /// Splits received bytes into header and payload; verifies nothing.
    ///
    /// # Errors
    /// When the bytes have no header line of the right shape and version, or too long a path.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, EnvelopeError> {
        let end = bytes.iter().take(limits::HEADER_MAX).position(|&byte| byte == b'\n');
        let end = end.ok_or(EnvelopeError::NoHeader)?;
        let header: Header = serde_json::from_slice(&bytes[..end])
            .map_err(|error| EnvelopeError::Header(error.to_string()))?;
        if header.v != ENVELOPE_VERSION {
            return Err(EnvelopeError::Version(header.v));
        }
        if header.path.len() > limits::HOPS_MAX {
            return Err(EnvelopeError::Hops(header.path.len()));
        }
        Ok(Self { header, payload: &bytes[end + 1..] })
    }

    /// Whether the sender held `secret`: the MAC over the header's fields and the payload.
    #[must_use]
    pub fn is_signed_with(&self, secret: &Secret) -> bool {
        let Header { kind, mac, .. } = self.header;
        self.header.with_fields(self.payload, |fields| secret.key(kind).verify(fields, &mac))
    }

    /// Whether every hop was written by a holder of one of the secrets, in this order. Relays need
    /// not agree on one: they rotate at different times.
    #[must_use]
    pub fn hops_are_signed_with(&self, secrets: &[&Secret]) -> bool {
        let keys: Vec<_> = secrets.iter().map(|secret| secret.key(Kind::Relay)).collect();
        let mut before = self.header.mac;
        self.header.path.iter().all(|hop| {
            let good = keys.iter().any(|key| hop.verify(key, &before));
            before = hop.mac;
            good
        })
    }

    /// The payload as JSON, inflated where it travelled deflated.
    ///
    /// # Errors
    /// When it does not inflate, or to more than [`limits::PAYLOAD_MAX`].
    pub fn json(&self) -> Result<Cow<'a, [u8]>, EnvelopeError> {
        match self.header.encoding {
            Encoding::Json => Ok(Cow::Borrowed(self.payload)),
            Encoding::Deflate => deflate::inflate(self.payload, limits::PAYLOAD_MAX)
                .map(Cow::Owned)
                .map_err(EnvelopeError::Payload),
        }
    }

    /// The bytes to send on: the header with its path as it is now, and the payload unchanged.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(&self.header).expect("a header is plain data");
        bytes.reserve_exact(1 + self.payload.len());
        bytes.push(b'\n');
        bytes.extend_from_slice(self.payload);
        bytes
    }
}

impl Header {
    /// Calls `use_fields` with what the MAC covers, in its order.
    fn with_fields<T>(&self, payload: &[u8], use_fields: impl FnOnce(&[&[u8]]) -> T) -> T {
        use_fields(&[
            DOMAIN.as_bytes(),
            self.kind.name().as_bytes(),
            &self.agent.0,
            &self.boot.0,
            &self.tick.to_be_bytes(),
            &self.sent_at.to_be_bytes(),
            &self.nonce.0,
            self.encoding.name().as_bytes(),
            payload,
        ])
    }

    /// Adds this relay's entry to the path.
    ///
    /// # Errors
    /// When the path is full.
    pub fn add_hop(&mut self, agent: AgentId, at: i64, secret: &Secret) -> Result<(), EnvelopeError> {
        if self.path.len() >= limits::HOPS_MAX {
            return Err(EnvelopeError::Hops(self.path.len() + 1));
        }
        let before = self.path.last().map_or(self.mac, |hop| hop.mac);
        let mac =
            secret.key(Kind::Relay).sign(&Hop::fields(&before, agent, at).each_ref().map(Vec::as_slice));
        self.path.push(Hop { agent, at, mac });
        Ok(())
    }
}

impl Hop {
    fn verify(&self, key: &Key, before: &Tag) -> bool {
        key.verify(&Self::fields(before, self.agent, self.at).each_ref().map(Vec::as_slice), &self.mac)
    }

    fn fields(before: &Tag, agent: AgentId, at: i64) -> [Vec<u8>; 4] {
        [DOMAIN.as_bytes().to_vec(), before.0.to_vec(), agent.0.to_vec(), at.to_be_bytes().to_vec()]
    }
}

/// A message before it is signed.
#[derive(Debug, Clone)]
pub struct Draft<'a> {
    /// Which kind of message.
    pub kind: Kind,
    /// Who sends it.
    pub agent: AgentId,
    /// Which start of the sender.
    pub boot: BootId,
    /// Its number in that start.
    pub tick: u64,
    /// Its name.
    pub nonce: Nonce,
    /// The payload as JSON.
    pub json: &'a [u8],
}

/// A signed message, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// The bytes to send.
    pub bytes: Vec<u8>,
    /// Its tag, which the answer's MAC covers.
    pub mac: Tag,
    /// Its nonce, which the answer names.
    pub nonce: Nonce,
}

impl Draft<'_> {
    /// Signs the message. A payload above [`limits::DEFLATE_ABOVE`] travels deflated.
    #[must_use]
    pub fn seal(&self, secret: &Secret, sent_at: i64) -> Sealed {
        let (encoding, payload) = if self.json.len() > limits::DEFLATE_ABOVE {
            (Encoding::Deflate, Cow::Owned(deflate::deflate(self.json)))
        } else {
            (Encoding::Json, Cow::Borrowed(self.json))
        };
        let mut header = Header {
            v: ENVELOPE_VERSION,
            kind: self.kind,
            agent: self.agent,
            boot: self.boot,
            tick: self.tick,
            sent_at,
            nonce: self.nonce,
            encoding,
            mac: Tag([0; 32]),
            path: Vec::new(),
        };
        header.mac = header.with_fields(&payload, |fields| secret.key(self.kind).sign(fields));
        let mac = header.mac;
        Sealed { bytes: Envelope { header, payload: &payload }.to_bytes(), mac, nonce: self.nonce }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn secret(text: &str) -> Secret {
        Secret::new(text).unwrap()
    }

    fn draft(json: &[u8]) -> Draft<'_> {
        Draft {
            kind: Kind::Report,
            agent: AgentId([1; 16]),
            boot: BootId([2; 16]),
            tick: 7,
            nonce: Nonce([3; 16]),
            json,
        }
    }

    #[test]
    fn a_sealed_message_verifies_and_any_change_breaks_it() {
        let psk = secret("correct horse battery staple");
        let sealed = draft(br#"{"a": 1.10, "a": -0}"#).seal(&psk, 1_764_000_000_000);
        let envelope = Envelope::parse(&sealed.bytes).unwrap();
        assert!(envelope.is_signed_with(&psk));
        assert!(!envelope.is_signed_with(&secret("some other secret text")));
        assert_eq!(&*envelope.json().unwrap(), br#"{"a": 1.10, "a": -0}"#, "byte for byte");
        let changes: [fn(&mut Header); 7] = [
            |h| h.kind = Kind::Register,
            |h| h.agent.0[0] ^= 1,
            |h| h.boot.0[0] ^= 1,
            |h| h.tick += 1,
            |h| h.sent_at += 1,
            |h| h.nonce.0[0] ^= 1,
            |h| h.encoding = Encoding::Deflate,
        ];
        for change in changes {
            let mut changed = envelope.clone();
            change(&mut changed.header);
            assert!(!changed.is_signed_with(&psk), "{:?}", changed.header);
        }
        let mut bytes = sealed.bytes.clone();
        *bytes.last_mut().unwrap() ^= 1;
        assert!(!Envelope::parse(&bytes).unwrap().is_signed_with(&psk));
    }

    #[test]
    fn large_payloads_travel_deflated_and_bombs_are_refused() {
        let psk = secret("correct horse battery staple");
        let json = format!(r#"{{"x":"{}"}}"#, "y".repeat(limits::DEFLATE_ABOVE));
        let sealed = draft(json.as_bytes()).seal(&psk, 0);
        assert!(sealed.bytes.len() < 2_000);
        let envelope = Envelope::parse(&sealed.bytes).unwrap();
        assert!(envelope.is_signed_with(&psk));
        assert_eq!(&*envelope.json().unwrap(), json.as_bytes());
        let bomb = draft(&vec![b' '; limits::PAYLOAD_MAX + 1]).seal(&psk, 0);
        let refused = Envelope::parse(&bomb.bytes).unwrap().json();
        assert_eq!(refused, Err(EnvelopeError::Payload(InflateError::TooLarge)));
    }

    #[test]
    fn hops_are_chained_to_the_message_and_to_each_other() {
        let psk = secret("correct horse battery staple");
        let sealed = draft(b"{}").seal(&psk, 0);
        let mut envelope = Envelope::parse(&sealed.bytes).unwrap();
        for hop in 1..=3 {
            envelope.header.add_hop(AgentId([hop; 16]), i64::from(hop), &psk).unwrap();
        }
        assert!(envelope.hops_are_signed_with(&[&psk]) && envelope.is_signed_with(&psk));
        assert_eq!(envelope.header.add_hop(AgentId([4; 16]), 4, &psk), Err(EnvelopeError::Hops(4)));
        let bytes = envelope.to_bytes();
        let mut swapped = Envelope::parse(&bytes).unwrap();
        swapped.header.path.swap(0, 1);
        assert!(!swapped.hops_are_signed_with(&[&psk]));
        let mut cut = Envelope::parse(&bytes).unwrap();
        cut.header.path.remove(0);
        assert!(!cut.hops_are_signed_with(&[&psk]));
        let mut forged = Envelope::parse(&bytes).unwrap();
        forged.header.path[2].agent = AgentId([9; 16]);
        assert!(!forged.hops_are_signed_with(&[&psk]));
    }

    #[test]
    fn what_is_no_envelope_is_named() {
        assert_eq!(Envelope::parse(b""), Err(EnvelopeError::NoHeader));
        assert_eq!(Envelope::parse(&[b'x'; 70_000]), Err(EnvelopeError::NoHeader));
        assert!(matches!(Envelope::parse(b"{}\n"), Err(EnvelopeError::Header(_))));
        let sealed = draft(b"{}").seal(&secret("correct horse battery staple"), 0);
        let later = String::from_utf8(sealed.bytes).unwrap().replacen(r#""v":1"#, r#""v":2"#, 1);
        assert_eq!(Envelope::parse(later.as_bytes()), Err(EnvelopeError::Version(2)));
    }
}
