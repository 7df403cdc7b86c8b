//! The bytes in which a message travels, and the exact ones that are signed.
//!
//! An envelope is one line of text, the header, then `\n`, then the payload. The payload's bytes
//! are signed as they are and never written again by anyone; the header's fields are signed as
//! values. A relay adds its hop to the header's end and passes the payload on unchanged, in whatever
//! encoding it is.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use crate::deflate::{self, InflateError};
use crate::delta::{Base, DeltaError};
use crate::ids::{AgentId, BootId, Nonce, from_base64, to_base64};
use crate::limits;
use crate::psk::Secret;
use crate::sign::{DOMAIN, Key, Kind, Tag};

/// The version of the envelope that this code reads and writes.
pub const ENVELOPE_VERSION: u32 = 1;

/// What a header line and an answer's begin with.
pub(crate) const MAGIC: &str = "k1";

/// How the payload is written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Encoding {
    /// JSON as it is: `json`.
    #[default]
    Json,
    /// JSON, deflated (RFC 1951): `deflate`.
    Deflate,
    /// A report's JSON as the difference to an earlier whole report of the same agent and boot:
    /// `delta.7` is to the one of tick 7.
    Delta(u64),
    /// One that this version does not know. It is signed and passed on, but cannot be read.
    Other(Box<str>),
}

impl Encoding {
    fn name(&self) -> Cow<'_, str> {
        match self {
            Self::Json => "json".into(),
            Self::Deflate => "deflate".into(),
            Self::Delta(base) => format!("delta.{base}").into(),
            Self::Other(name) => (&**name).into(),
        }
    }

    fn from_name(name: &str) -> Self {
        let delta = || name.strip_prefix("delta.").and_then(number).map(Self::Delta);
        match name {
            "json" => Self::Json,
            "deflate" => Self::Deflate,
            _ => delta().unwrap_or_else(|| Self::Other(name.into())),
        }
    }
}

/// Why a payload is not JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PayloadError {
    /// It does not inflate, or to too much.
    Inflate(InflateError),
    /// It does not lead to a text, or to too long a one.
    Delta(DeltaError),
    /// It is the difference to a report that is not at hand.
    NoBase,
    /// Its encoding is not known to this version.
    Encoding(Box<str>),
}

impl fmt::Display for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inflate(error) => write!(f, "the payload {error}"),
            Self::Delta(error) => write!(f, "the payload {error}"),
            Self::NoBase => f.write_str("the payload is the difference to a report that is not at hand"),
            Self::Encoding(name) => write!(f, "the payload's encoding {name} is not known"),
        }
    }
}

/// What the sender says of a message, outside its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
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
    pub encoding: Encoding,
    /// MAC of all the above and of the payload.
    pub mac: Tag,
    /// The relays that it passed, first to last; not under `mac`, each entry has its own.
    pub path: Vec<Hop>,
}

/// A relay's entry in the path.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// This field of the header line is missing or malformed.
    Header(&'static str),
    /// It was written by a later version.
    Version(u32),
    /// More hops than [`limits::HOPS_MAX`].
    Hops(usize),
}

impl fmt::Display for EnvelopeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHeader => {
                write!(f, "no envelope: the first {} bytes hold no header line", limits::HEADER_MAX)
            }
            Self::Header(field) => write!(f, "envelope header: {field} is missing or malformed"),
            Self::Version(v) => write!(f, "envelope version {v}, this side reads {ENVELOPE_VERSION}"),
            Self::Hops(hops) => {
                write!(f, "{hops} hops in the path, at most {} are allowed", limits::HOPS_MAX)
            }
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
        let line = std::str::from_utf8(&bytes[..end]).map_err(|_| EnvelopeError::Header("the line"))?;
        let header = Header::from_line(line)?;
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

    /// The payload as JSON, unless it is the difference to another report.
    ///
    /// # Errors
    /// See [`PayloadError`]; more than [`limits::PAYLOAD_MAX`] is too much.
    pub fn json(&self) -> Result<Cow<'a, [u8]>, PayloadError> {
        decode(&self.header.encoding, self.payload, None)
    }

    /// The bytes to send on: the header with its path as it is now, and the payload unchanged.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.header.to_line().into_bytes();
        bytes.reserve_exact(1 + self.payload.len());
        bytes.push(b'\n');
        bytes.extend_from_slice(self.payload);
        bytes
    }
}

/// A payload that can be read by itself: deflated above [`limits::DEFLATE_ABOVE`].
#[must_use]
pub fn whole(json: &[u8]) -> (Encoding, Cow<'_, [u8]>) {
    if json.len() > limits::DEFLATE_ABOVE {
        (Encoding::Deflate, deflate::deflate(json).into())
    } else {
        (Encoding::Json, json.into())
    }
}

/// The JSON of a payload of that encoding; `base` is the report that a delta is to.
///
/// # Errors
/// See [`PayloadError`]; more than [`limits::PAYLOAD_MAX`] is too much.
pub fn decode<'a>(
    encoding: &Encoding,
    payload: &'a [u8],
    base: Option<&Base>,
) -> Result<Cow<'a, [u8]>, PayloadError> {
    match encoding {
        Encoding::Json => Ok(Cow::Borrowed(payload)),
        Encoding::Deflate => {
            deflate::inflate(payload, limits::PAYLOAD_MAX).map(Cow::Owned).map_err(PayloadError::Inflate)
        }
        Encoding::Delta(_) => base
            .ok_or(PayloadError::NoBase)?
            .apply(payload, limits::PAYLOAD_MAX)
            .map(Cow::Owned)
            .map_err(PayloadError::Delta),
        Encoding::Other(name) => Err(PayloadError::Encoding(name.clone())),
    }
}

/// A number as this code writes it: no sign and no zero before it.
fn number<T: FromStr + fmt::Display>(text: &str) -> Option<T> {
    text.parse().ok().filter(|number: &T| number.to_string() == text)
}

impl Header {
    fn from_line(line: &str) -> Result<Self, EnvelopeError> {
        use EnvelopeError::Header as Bad;
        let mut fields = line.split(' ');
        let magic = fields.next().unwrap_or_default();
        if magic != MAGIC {
            let version = magic.strip_prefix('k').and_then(number);
            return Err(version.map_or(Bad("the version"), EnvelopeError::Version));
        }
        let mut next = || fields.next().unwrap_or_default();
        let header = Self {
            kind: Kind::from_name(next()).ok_or(Bad("the kind"))?,
            agent: from_base64(next()).map(AgentId).ok_or(Bad("the agent's id"))?,
            boot: from_base64(next()).map(BootId).ok_or(Bad("the boot's id"))?,
            tick: number(next()).ok_or(Bad("the tick"))?,
            sent_at: number(next()).ok_or(Bad("the time"))?,
            nonce: from_base64(next()).map(Nonce).ok_or(Bad("the nonce"))?,
            encoding: match next() {
                "" => return Err(Bad("the encoding")),
                name => Encoding::from_name(name),
            },
            mac: from_base64(next()).map(Tag).ok_or(Bad("the MAC"))?,
            path: Vec::new(),
        };
        let hops = fields.clone().count();
        if hops > limits::HOPS_MAX {
            return Err(EnvelopeError::Hops(hops));
        }
        let path = fields.map(|hop| Hop::from_text(hop).ok_or(Bad("a hop"))).collect::<Result<_, _>>()?;
        Ok(Self { path, ..header })
    }

    fn to_line(&self) -> String {
        let Self { kind, agent, boot, tick, sent_at, nonce, encoding, mac, path } = self;
        let [agent, boot, nonce] = [agent.0, boot.0, nonce.0].map(|id| to_base64(&id));
        let (encoding, mac) = (encoding.name(), to_base64(&mac.0));
        let mut line = format!("{MAGIC} {kind} {agent} {boot} {tick} {sent_at} {nonce} {encoding} {mac}");
        for Hop { agent, at, mac } in path {
            line.push_str(&format!(" {}.{at}.{}", to_base64(&agent.0), to_base64(&mac.0)));
        }
        line
    }

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
    fn from_text(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let agent = AgentId(from_base64(parts.next()?)?);
        let at = number(parts.next()?)?;
        let mac = Tag(from_base64(parts.next()?)?);
        parts.next().is_none().then_some(Self { agent, at, mac })
    }

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
        let (encoding, payload) = whole(self.json);
        self.seal_as(encoding, &payload, secret, sent_at)
    }

    /// Signs the message with its payload encoded already.
    #[must_use]
    pub fn seal_as(&self, encoding: Encoding, payload: &[u8], secret: &Secret, sent_at: i64) -> Sealed {
        let mut header = Header {
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
        header.mac = header.with_fields(payload, |fields| secret.key(self.kind).sign(fields));
        let mac = header.mac;
        Sealed { bytes: Envelope { header, payload }.to_bytes(), mac, nonce: self.nonce }
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
            |h| h.encoding = Encoding::Delta(1),
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
        assert_eq!(refused, Err(PayloadError::Inflate(InflateError::TooLarge)));
    }

    #[test]
    fn a_difference_is_read_with_its_base_and_an_unknown_encoding_is_only_signed() {
        let psk = secret("correct horse battery staple");
        let base = Base::new(*br#"{"rx":1000,"tx":7}"#);
        let json = br#"{"rx":1005,"tx":7}"#;
        let draft = draft(json);
        let sealed = draft.seal_as(Encoding::Delta(3), &base.encode(json), &psk, 0);
        let envelope = Envelope::parse(&sealed.bytes).unwrap();
        assert_eq!(envelope.header.encoding, Encoding::Delta(3));
        assert!(envelope.is_signed_with(&psk));
        assert_eq!(envelope.json(), Err(PayloadError::NoBase));
        let decoded = decode(&envelope.header.encoding, envelope.payload, Some(&base)).unwrap();
        assert_eq!(&*decoded, json);
        let other = Base::new(*br#"{"rx":1001,"tx":7}"#);
        let refused = decode(&envelope.header.encoding, envelope.payload, Some(&other));
        assert_eq!(refused, Err(PayloadError::Delta(DeltaError::OtherBase)));

        let sealed = draft.seal_as(Encoding::Other("zstd".into()), b"xyz", &psk, 0);
        let envelope = Envelope::parse(&sealed.bytes).unwrap();
        assert!(envelope.is_signed_with(&psk) && envelope.to_bytes() == sealed.bytes);
        assert_eq!(envelope.json(), Err(PayloadError::Encoding("zstd".into())));
        let other = |name| matches!(Encoding::from_name(name), Encoding::Other(_));
        assert!(other("delta.") && other("delta.07") && other("delta.+7") && other("JSON"));
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
        let sealed = draft(b"{}").seal(&secret("correct horse battery staple"), 0);
        let text = String::from_utf8(sealed.bytes).unwrap();
        let parse = |from: &str, to: &str| {
            assert!(text.contains(from), "{from}");
            Envelope::parse(text.replacen(from, to, 1).as_bytes()).map(|_| ())
        };
        assert_eq!(parse("k1 ", "k2 "), Err(EnvelopeError::Version(2)));
        let bad = |field| Err(EnvelopeError::Header(field));
        assert_eq!(parse("k1 ", "{} "), bad("the version"));
        assert_eq!(parse(" report", " reports"), bad("the kind"));
        assert_eq!(parse(" AQE", " +QE"), bad("the agent's id"));
        assert_eq!(parse(" 7 ", " 07 "), bad("the tick"));
        assert_eq!(parse(" 7 0 ", " 7 -0 "), bad("the time"));
        assert_eq!(parse(" json ", "  "), bad("the encoding"));
        assert_eq!(parse(" json ", " "), bad("the MAC"));
        assert_eq!(parse("\n", " x\n"), bad("a hop"));
        assert_eq!(parse("\n", " a b c d\n"), Err(EnvelopeError::Hops(4)));
        let text = Envelope::parse(b"k1 \xff\n").unwrap_err().to_string();
        assert_eq!(text, "envelope header: the line is missing or malformed");
    }
}
