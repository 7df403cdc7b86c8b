//! A key per kind of message, made from a secret; MAC and verification over exact bytes.
//!
//! `key(kind) = HMAC-SHA256(secret, "kattila/1" || kind)`, so that a tag made for one kind of
//! message never verifies as another. The MAC covers each field behind its length (32 bits, big
//! endian), so that no two different lists of fields have the same input.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::ids::{IdError, from_hex, to_hex};

/// What separates this protocol's keys and MACs from any other use of the same secret.
pub const DOMAIN: &str = "kattila/1";

/// The kinds of message that have a key of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// An agent's report.
    Report,
    /// An agent's first contact.
    Register,
    /// An answer to any of the others.
    Ack,
    /// A relay's entry in a message's path.
    Relay,
    /// An admin's order to forget; signed with the admin secret, never with the PSK.
    Reset,
    /// An admin's word on alarms: acknowledged, or not to be told; signed with the admin secret.
    Alarm,
}

impl Kind {
    /// Its name in the envelope and in the key's derivation.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Report => "report",
            Self::Register => "register",
            Self::Ack => "ack",
            Self::Relay => "relay",
            Self::Reset => "reset",
            Self::Alarm => "alarm",
        }
    }
}

impl Kind {
    /// The kind of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let kinds = [Self::Report, Self::Register, Self::Ack, Self::Relay, Self::Reset, Self::Alarm];
        kinds.into_iter().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A key for one kind of message.
#[derive(Clone)]
pub struct Key(Hmac<Sha256>);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(**hidden**)")
    }
}

impl Key {
    /// The key of `kind` under `secret`.
    #[must_use]
    pub fn derive(secret: &[u8], kind: Kind) -> Self {
        let mut mac = keyed(secret);
        mac.update(DOMAIN.as_bytes());
        mac.update(kind.name().as_bytes());
        Self(keyed(&mac.finalize().into_bytes()))
    }

    /// The tag of these fields.
    #[must_use]
    pub fn sign(&self, fields: &[&[u8]]) -> Tag {
        Tag(self.feed(fields).finalize().into_bytes().into())
    }

    /// Whether `tag` is the tag of these fields, compared in constant time.
    #[must_use]
    pub fn verify(&self, fields: &[&[u8]], tag: &Tag) -> bool {
        self.feed(fields).verify_slice(&tag.0).is_ok()
    }

    fn feed(&self, fields: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        for field in fields {
            let length = u32::try_from(field.len()).expect("limits keep every field far below 4 GiB");
            mac.update(&length.to_be_bytes());
            mac.update(field);
        }
        mac
    }
}

fn keyed(secret: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(secret).expect("HMAC takes a key of any length")
}

/// SHA-256 of `bytes`, for naming things that must not be told themselves.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// A MAC: 32 bytes, in text 64 lowercase hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tag(pub [u8; 32]);

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_hex(&self.0))
    }
}

impl TryFrom<String> for Tag {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        from_hex(&text).map(Self).ok_or(IdError { expected: "a MAC: 64 lowercase hexadecimal digits" })
    }
}

impl From<Tag> for String {
    fn from(tag: Tag) -> String {
        to_hex(&tag.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_of_one_kind_is_none_of_another() {
        let secret = b"correct horse battery staple";
        let tag = Key::derive(secret, Kind::Report).sign(&[b"a", b"b"]);
        assert!(Key::derive(secret, Kind::Report).verify(&[b"a", b"b"], &tag));
        assert!(!Key::derive(secret, Kind::Reset).verify(&[b"a", b"b"], &tag));
        assert!(!Key::derive(b"another secret", Kind::Report).verify(&[b"a", b"b"], &tag));
    }

    #[test]
    fn moving_a_byte_between_fields_changes_the_tag() {
        let key = Key::derive(b"correct horse battery staple", Kind::Report);
        assert_ne!(key.sign(&[b"ab", b"c"]), key.sign(&[b"a", b"bc"]));
        assert_ne!(key.sign(&[b"ab"]), key.sign(&[b"ab", b""]));
    }

    #[test]
    fn keys_do_not_show_themselves() {
        assert_eq!(format!("{:?}", Key::derive(b"s3cret", Kind::Ack)), "Key(**hidden**)");
    }
}
