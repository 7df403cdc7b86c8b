//! Everything that can go wrong, and the one place that maps it outward.

use std::fmt;
use std::path::PathBuf;

use proto::ack::Code;
use proto::envelope::EnvelopeError;
use proto::psk::PskError;
use proto::report::ReportError;
use proto::settings::SettingError;

use crate::access::Denied;
pub use crate::store::StoreError;

/// Why the manager cannot start or a command fails.
#[derive(Debug)]
pub enum Error {
    /// A setting cannot be used.
    Setting(SettingError),
    /// A secret cannot be read.
    Secret(PskError),
    /// The database cannot be used; the path says which.
    Database(PathBuf, StoreError),
    /// Something of the operating system; the text says what was tried.
    Io(String, std::io::Error),
    /// A command's request to the running manager failed.
    Call(String),
    /// The command line is wrong.
    Usage(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setting(error) => error.fmt(f),
            Self::Secret(error) => error.fmt(f),
            Self::Database(path, error) => write!(f, "database {}: {error}", path.display()),
            Self::Io(what, error) => write!(f, "{what}: {error}"),
            Self::Call(why) => f.write_str(why),
            Self::Usage(why) => write!(f, "{why}; see manager -help"),
        }
    }
}

impl std::error::Error for Error {}

impl From<SettingError> for Error {
    fn from(error: SettingError) -> Self {
        Self::Setting(error)
    }
}

impl Error {
    /// The process's exit code: 2 for wrong use, 1 for anything else.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Setting(_) => 2,
            _ => 1,
        }
    }
}

/// Why a message is refused. Each is counted under its code and named in answer and log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reject {
    /// The bytes are no envelope.
    Envelope(EnvelopeError),
    /// The envelope's kind does not belong to this path.
    WrongKind(&'static str),
    /// No PSK fits.
    BadMac,
    /// Signed with a PSK from before the two previous ones.
    OldPsk,
    /// A relay's entry in the path does not verify.
    BadPath,
    /// Signed too long ago or too far ahead.
    ClockSkew {
        /// Milliseconds by which the sender is ahead of the manager.
        ahead_ms: i64,
    },
    /// Its tick or nonce belonged to another message before.
    Replayed,
    /// The id belongs to other hardware, or two copies of one agent run.
    DuplicateId,
    /// The payload is not what its kind asks for.
    Payload(ReportError),
    /// The payload is the difference to a report that is not here, or in an unknown encoding.
    NeedFull,
    /// The database does not take it now.
    Unavailable,
    /// The fleet is as large as it may be.
    FleetFull,
    /// No admin secret is set.
    NoAdminSecret,
    /// The message names no such agent.
    NoSuchAgent,
    /// The message names no alarm that fires.
    NoSuchAlarm,
    /// It may not be had from there, or not like this.
    Denied(Denied),
}

/// How many kinds of refusal there are.
pub const REJECTS: usize = 20;

impl Reject {
    /// The stable name of the reason.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Envelope(_) => "bad_envelope",
            Self::WrongKind(_) => "wrong_kind",
            Self::BadMac => "bad_mac",
            Self::OldPsk => "old_psk",
            Self::BadPath => "bad_path",
            Self::ClockSkew { .. } => "clock_skew",
            Self::Replayed => "replayed",
            Self::DuplicateId => "duplicate_id",
            Self::Payload(_) => "bad_payload",
            Self::NeedFull => "need_full",
            Self::Unavailable => "unavailable",
            Self::FleetFull => "fleet_full",
            Self::NoAdminSecret => "no_admin_secret",
            Self::NoSuchAgent => "no_such_agent",
            Self::NoSuchAlarm => "no_such_alarm",
            Self::Denied(denied) => denied.code(),
        }
    }

    /// Its place among the counters.
    #[must_use]
    pub fn index(&self) -> usize {
        ALL_CODES.iter().position(|code| *code == self.code()).expect("every code is listed")
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Envelope(_) | Self::WrongKind(_) => 400,
            Self::BadMac | Self::OldPsk | Self::BadPath => 401,
            Self::NoAdminSecret => 403,
            Self::NoSuchAgent | Self::NoSuchAlarm => 404,
            Self::ClockSkew { .. } | Self::Replayed | Self::DuplicateId | Self::NeedFull => 409,
            Self::Payload(_) => 422,
            Self::Unavailable | Self::FleetFull => 503,
            Self::Denied(denied) => denied.status(),
        }
    }

    /// The code of the signed answer; `None` where the sender did not prove that it holds a PSK.
    #[must_use]
    pub fn ack(&self) -> Option<Code> {
        match self {
            Self::ClockSkew { .. } => Some(Code::ClockSkew),
            Self::Replayed => Some(Code::Replayed),
            Self::DuplicateId => Some(Code::DuplicateId),
            Self::NeedFull => Some(Code::NeedFull),
            Self::Payload(_) | Self::NoSuchAgent | Self::NoSuchAlarm => Some(Code::BadPayload),
            Self::Unavailable | Self::FleetFull => Some(Code::Unavailable),
            _ => None,
        }
    }

    /// What the reader can do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Envelope(_) => "send what `agent -dump FILE` writes",
            Self::WrongKind(_) => "post this message to the path of its kind",
            Self::BadMac => "give sender and manager the same PSK (settings PSK, PSK_FILE or DNS)",
            Self::OldPsk => "the PSK was rotated more than twice since: let the sender read it again",
            Self::BadPath => "a relay on the way holds another PSK, or someone changed the path",
            Self::ClockSkew { .. } => "sign again with the manager's time, which this answer tells",
            Self::Replayed => "every new message needs a tick and a nonce of its own",
            Self::DuplicateId => "take the id in this answer, or register again",
            Self::Payload(_) => "the sender's version does not fit; sending it again is no use",
            Self::NeedFull => "send the same report whole, as JSON or deflated",
            Self::Unavailable => "try again later; GET /status/healthcheck says what is wrong",
            Self::FleetFull => "reset agents that are gone: manager -reset ID",
            Self::NoAdminSecret => "set ADMIN_SECRET_FILE to a file with mode 0600",
            Self::NoSuchAgent => "GET /status/agents lists the agents",
            Self::NoSuchAlarm => "GET /status/alarms lists those that fire, with their numbers",
            Self::Denied(denied) => denied.hint(),
        }
    }
}

/// The codes of all refusals, in the order of their counters.
pub const ALL_CODES: [&str; REJECTS] = [
    "bad_envelope",
    "wrong_kind",
    "bad_mac",
    "old_psk",
    "bad_path",
    "clock_skew",
    "replayed",
    "duplicate_id",
    "bad_payload",
    "need_full",
    "unavailable",
    "fleet_full",
    "no_admin_secret",
    "no_such_agent",
    "no_such_alarm",
    "token_required",
    "wrong_token",
    "forbidden",
    "wrong_host",
    "cross_site",
];

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Envelope(error) => error.fmt(f),
            Self::WrongKind(kind) => write!(f, "a message of kind {kind} does not belong here"),
            Self::BadMac => f.write_str("the message is not signed with an accepted PSK"),
            Self::OldPsk => f.write_str("the message is signed with a PSK that is no longer accepted"),
            Self::BadPath => f.write_str("a relay's entry in the path does not verify"),
            Self::ClockSkew { ahead_ms } => {
                let side = if *ahead_ms < 0 { "behind" } else { "ahead of" };
                write!(f, "the sender's clock is {} s {side} the manager's", ahead_ms.unsigned_abs() / 1000)
            }
            Self::Replayed => f.write_str("another message had this tick or nonce"),
            Self::DuplicateId => f.write_str("another host uses this agent id"),
            Self::Payload(error) => error.fmt(f),
            Self::NeedFull => f.write_str("the report that this one is the difference to is not here"),
            Self::Unavailable => f.write_str("the manager cannot store messages now"),
            Self::FleetFull => f.write_str("the manager has as many agents as it may have"),
            Self::NoAdminSecret => f.write_str("the manager has no admin secret, so it takes no orders"),
            Self::NoSuchAgent => f.write_str("there is no such agent"),
            Self::NoSuchAlarm => f.write_str("no alarm of this number fires"),
            Self::Denied(denied) => denied.fmt(f),
        }
    }
}

impl std::error::Error for Reject {}
