//! What a sending came to, and what to do next. Pure: no I/O, no clock.

use std::fmt;

use proto::ack::{self, Ack, AckError, Code};
use proto::envelope::Sealed;
use proto::ids::AgentId;
use proto::psk::Secret;
use proto::sign::Kind;

/// What one sending of a message came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// An answer that a holder of the PSK made for this very sending.
    Answered(Ack),
    /// An HTTP answer that proves nothing.
    Unsigned(u16, AckError),
    /// No answer; in words.
    Failed(String),
}

impl Outcome {
    /// Judges an HTTP answer to `sent`, which was signed with `secret`.
    #[must_use]
    pub fn of_answer(status: u16, body: &[u8], sent: &Sealed, secret: &Secret) -> Self {
        match ack::open(body, sent.nonce, &sent.mac, secret) {
            // The code is under the MAC and the HTTP status is not: both must agree on success.
            Ok(ack) if ack.code.status() == 200 && status != 200 => {
                Self::Unsigned(status, AckError::Malformed)
            }
            Ok(ack) => Self::Answered(ack),
            Err(error) => Self::Unsigned(status, error),
        }
    }
}

/// What to do with a message now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It is stored; forget it.
    Delivered,
    /// Learn the manager's time from this and sign once more.
    SignAgain {
        /// The manager's clock: milliseconds since the Unix epoch.
        at: i64,
    },
    /// Read the PSK's source; when it holds another one sign with that, otherwise decide again.
    ReadPsk,
    /// Sign with the next older PSK that is held: the manager may not have the newest yet.
    OlderPsk,
    /// Go on as this agent, with a new boot id and ticks from 1.
    TakeId(AgentId),
    /// Go on with a new boot id and ticks from 1: this boot's ticks were used by someone else.
    NewBoot,
    /// It will never be taken; forget it and count it.
    Drop(Reason),
    /// Keep it for later.
    Hold(Reason),
}

/// Why a message was not delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// There is no PSK to sign with.
    NoPsk,
    /// No answer; the text names the URL.
    NoAnswer(String),
    /// The manager knows none of the PSKs that this agent holds.
    UnknownPsk,
    /// The answer is not signed, so whoever gave it may not be the manager.
    Unsigned(u16, AckError),
    /// The answer is a redirect, which is never followed.
    Redirect(u16),
    /// The receiver refused it unread, as malformed or too large.
    RefusedUnread(u16),
    /// The manager refused what it says.
    BadPayload(String),
    /// The manager finds the clock off even after it told its own time.
    ClockSkew,
    /// Its tick or nonce was taken again, right after a new start.
    Replayed,
    /// Other hardware has this agent's id, and the manager gave no other.
    DuplicateId,
    /// The manager cannot take it now.
    Unavailable(String),
    /// A signed answer that makes no sense here.
    Unexpected(Code),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPsk => write!(f, "there is no PSK to sign with yet"),
            Self::NoAnswer(why) => write!(f, "{why}"),
            Self::UnknownPsk => write!(
                f,
                "the manager answers 401: it knows none of the PSKs held here; compare DNS or PSK_FILE on both sides"
            ),
            Self::Unsigned(status, why) => write!(f, "HTTP {status}, but {why}: is that the manager?"),
            Self::Redirect(status) => {
                write!(f, "HTTP {status}: redirects are not followed; set MANAGER_URL to where it points")
            }
            Self::RefusedUnread(status) => write!(f, "HTTP {status}: refused as malformed or too large"),
            Self::BadPayload(why) => write!(f, "the manager cannot use it: {why}"),
            Self::ClockSkew => write!(f, "the manager finds the clock off although its own time was used"),
            Self::Replayed => write!(f, "the manager has seen its tick or nonce before"),
            Self::DuplicateId => write!(f, "the manager knows this agent id from other hardware"),
            Self::Unavailable(why) => write!(f, "the manager cannot take reports now: {why}"),
            Self::Unexpected(code) => write!(f, "the manager answers {code}"),
        }
    }
}

/// What was tried for one message already. A new one for each message and turn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tries {
    /// Which of the held PSKs it is signed with; 0 is the current one.
    pub psk: usize,
    /// The PSK's source was read because of a refusal.
    psk_read: bool,
    /// It was signed again with the manager's time.
    time_learned: bool,
}

impl Tries {
    /// A new PSK was read: begin with it.
    pub fn begin_with_current(&mut self) {
        self.psk = 0;
    }
}

/// What to do after a sending of a `kind` of message by agent `own`, with `held` PSKs at hand;
/// `may_read` says whether the PSK's source may be read now.
#[must_use]
pub fn next(
    kind: Kind,
    own: AgentId,
    outcome: Outcome,
    tries: &mut Tries,
    held: usize,
    may_read: bool,
) -> Decision {
    match outcome {
        Outcome::Answered(ack) => after_answer(kind, own, ack, tries),
        Outcome::Failed(why) => Decision::Hold(Reason::NoAnswer(why)),
        Outcome::Unsigned(401, _) => match read_psk(tries, may_read) {
            Some(decision) => decision,
            None if tries.psk + 1 < held => {
                tries.psk += 1;
                Decision::OlderPsk
            }
            None => Decision::Hold(Reason::UnknownPsk),
        },
        Outcome::Unsigned(status @ (400 | 413), _) => Decision::Drop(Reason::RefusedUnread(status)),
        Outcome::Unsigned(status @ 300..=399, _) => Decision::Hold(Reason::Redirect(status)),
        Outcome::Unsigned(status, why) => {
            let claims_success = (200..=299).contains(&status);
            let psk = if claims_success { read_psk(tries, may_read) } else { None };
            psk.unwrap_or(Decision::Hold(Reason::Unsigned(status, why)))
        }
    }
}

fn after_answer(kind: Kind, own: AgentId, ack: Ack, tries: &mut Tries) -> Decision {
    let other = ack.details.agent.filter(|&agent| agent != own);
    match (ack.code, kind) {
        (Code::Stored | Code::AlreadyStored, Kind::Report) => Decision::Delivered,
        (Code::Registered, Kind::Register) => other.map_or(Decision::Delivered, Decision::TakeId),
        (Code::ClockSkew, _) if tries.time_learned => Decision::Hold(Reason::ClockSkew),
        (Code::ClockSkew, _) => {
            tries.time_learned = true;
            Decision::SignAgain { at: ack.at }
        }
        (Code::DuplicateId, _) => other.map_or(Decision::Hold(Reason::DuplicateId), Decision::TakeId),
        (Code::Replayed, _) => Decision::NewBoot,
        (Code::BadPayload, _) => Decision::Drop(Reason::BadPayload(ack.details.message)),
        (Code::Unavailable, _) => Decision::Hold(Reason::Unavailable(ack.details.message)),
        (code, _) => Decision::Hold(Reason::Unexpected(code)),
    }
}

fn read_psk(tries: &mut Tries, may_read: bool) -> Option<Decision> {
    let read = may_read && !tries.psk_read;
    tries.psk_read |= read;
    read.then_some(Decision::ReadPsk)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::ack::Details;
    use proto::envelope::Draft;
    use proto::ids::{BootId, Nonce};

    const OWN: AgentId = AgentId([1; 16]);
    const OTHER: AgentId = AgentId([2; 16]);

    fn secret() -> Secret {
        Secret::new("correct horse battery staple").unwrap()
    }

    fn sealed(sent_at: i64) -> Sealed {
        let (agent, boot, nonce) = (OWN, BootId([2; 16]), Nonce([3; 16]));
        Draft { kind: Kind::Report, agent, boot, tick: 1, nonce, json: b"{}" }.seal(&secret(), sent_at)
    }

    fn answered(code: Code, agent: Option<AgentId>) -> Outcome {
        Outcome::Answered(Ack { code, at: 5, details: Details { agent, ..Details::default() } })
    }

    fn first(kind: Kind, outcome: Outcome) -> Decision {
        next(kind, OWN, outcome, &mut Tries::default(), 1, false)
    }

    #[test]
    fn only_a_signed_answer_to_this_sending_counts() {
        let sent = sealed(1);
        let ack = Ack { code: Code::Stored, at: 5, details: Details::default() };
        let bytes = ack::seal(&ack, sent.nonce, &sent.mac, &secret());
        let of = |status, body: &[u8], sent: &Sealed| Outcome::of_answer(status, body, sent, &secret());
        assert_eq!(of(200, &bytes, &sent), Outcome::Answered(ack));
        assert_eq!(of(200, b"ok\n", &sent), Outcome::Unsigned(200, AckError::Malformed));
        assert_eq!(of(200, &bytes, &sealed(2)), Outcome::Unsigned(200, AckError::BadMac));
        assert_eq!(of(503, &bytes, &sent), Outcome::Unsigned(503, AckError::Malformed));
    }

    #[test]
    fn a_report_is_delivered_when_it_is_stored_and_not_otherwise() {
        for code in [Code::Stored, Code::AlreadyStored] {
            assert_eq!(first(Kind::Report, answered(code, None)), Decision::Delivered);
        }
        for code in [Code::Registered, Code::Done, Code::RelayRefused, Code::Other] {
            let held = Decision::Hold(Reason::Unexpected(code));
            assert_eq!(first(Kind::Report, answered(code, None)), held);
        }
        assert_eq!(
            first(Kind::Register, answered(Code::Stored, None)),
            Decision::Hold(Reason::Unexpected(Code::Stored))
        );
        assert!(matches!(first(Kind::Report, answered(Code::Unavailable, None)), Decision::Hold(_)));
        assert!(matches!(first(Kind::Report, answered(Code::BadPayload, None)), Decision::Drop(_)));
        assert_eq!(first(Kind::Report, answered(Code::Replayed, None)), Decision::NewBoot);
    }

    #[test]
    fn ids_are_taken_from_signed_answers_that_name_another() {
        assert_eq!(first(Kind::Register, answered(Code::Registered, None)), Decision::Delivered);
        assert_eq!(first(Kind::Register, answered(Code::Registered, Some(OWN))), Decision::Delivered);
        assert_eq!(first(Kind::Register, answered(Code::Registered, Some(OTHER))), Decision::TakeId(OTHER));
        assert_eq!(first(Kind::Report, answered(Code::DuplicateId, Some(OTHER))), Decision::TakeId(OTHER));
        for agent in [None, Some(OWN)] {
            let held = Decision::Hold(Reason::DuplicateId);
            assert_eq!(first(Kind::Report, answered(Code::DuplicateId, agent)), held);
        }
    }

    #[test]
    fn the_managers_time_is_used_once_per_message() {
        let mut tries = Tries::default();
        let mut decide = || next(Kind::Report, OWN, answered(Code::ClockSkew, None), &mut tries, 1, true);
        assert_eq!(decide(), Decision::SignAgain { at: 5 });
        assert_eq!(decide(), Decision::Hold(Reason::ClockSkew));
    }

    #[test]
    fn a_refused_psk_is_read_again_once_and_then_the_older_ones_are_tried() {
        let refused = || Outcome::Unsigned(401, AckError::Malformed);
        let mut tries = Tries::default();
        let decisions: Vec<_> =
            (0..4).map(|_| next(Kind::Report, OWN, refused(), &mut tries, 3, true)).collect();
        assert_eq!(
            decisions,
            [Decision::ReadPsk, Decision::OlderPsk, Decision::OlderPsk, Decision::Hold(Reason::UnknownPsk)]
        );
        assert_eq!(tries.psk, 2);
        assert_eq!(first(Kind::Report, refused()), Decision::Hold(Reason::UnknownPsk));
    }

    #[test]
    fn an_unsigned_success_is_none_and_may_mean_another_psk() {
        let mut tries = Tries::default();
        let unsigned = || Outcome::Unsigned(200, AckError::BadMac);
        let mut decide = || next(Kind::Report, OWN, unsigned(), &mut tries, 3, true);
        assert_eq!(decide(), Decision::ReadPsk);
        assert_eq!(decide(), Decision::Hold(Reason::Unsigned(200, AckError::BadMac)));
    }

    #[test]
    fn what_can_never_be_taken_is_dropped_and_the_rest_waits() {
        let unsigned = |status| first(Kind::Report, Outcome::Unsigned(status, AckError::Malformed));
        for status in [400, 413] {
            assert_eq!(unsigned(status), Decision::Drop(Reason::RefusedUnread(status)));
        }
        assert_eq!(unsigned(302), Decision::Hold(Reason::Redirect(302)));
        for status in [403, 404, 408, 422, 429, 500, 503] {
            assert_eq!(unsigned(status), Decision::Hold(Reason::Unsigned(status, AckError::Malformed)));
        }
        let failed = first(Kind::Report, Outcome::Failed("refused".into()));
        assert_eq!(failed, Decision::Hold(Reason::NoAnswer("refused".into())));
    }
}
