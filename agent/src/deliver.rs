//! What a sending came to, and what to do next. Pure: no I/O, no clock.

use std::fmt;

use proto::ack::{self, Ack, AckError, Code};
use proto::ids::{AgentId, Nonce};
use proto::psk::Secret;
use proto::sign::{Kind, Tag};
use serde::Deserialize;

/// Characters of an unsigned refusal's words that are repeated in the log and to neighbours.
const SAYS_MAX: usize = 160;

/// What one sending of a message came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// An answer that a holder of the PSK made for this very sending.
    Answered(Ack),
    /// An HTTP answer that proves nothing.
    Unsigned(Unsigned),
    /// No answer; in words.
    Failed(String),
}

/// An HTTP answer that proves nothing: anyone on the way can have made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsigned {
    /// The HTTP status.
    pub status: u16,
    /// Why it proves nothing.
    pub why: AckError,
    /// What it says, if it has the form of an error of this protocol: code and sentence, or nothing.
    pub says: String,
}

impl fmt::Display for Unsigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HTTP {}", self.status)?;
        if self.says.is_empty() { Ok(()) } else { write!(f, " ({}; unsigned)", self.says) }
    }
}

impl Outcome {
    /// Judges an HTTP answer to the message of this nonce and MAC, which was signed with `secret`.
    #[must_use]
    pub fn of_answer(status: u16, body: &[u8], nonce: Nonce, mac: &Tag, secret: &Secret) -> Self {
        let unsigned = |why| Self::Unsigned(Unsigned { status, why, says: says(body) });
        match ack::open(body, nonce, mac, secret) {
            // The code is under the MAC and the HTTP status is not: both must agree on success.
            Ok(ack) if ack.code.status() == 200 && status != 200 => unsigned(AckError::Malformed),
            Ok(ack) => Self::Answered(ack),
            Err(error) => unsigned(error),
        }
    }
}

/// Code and sentence of an error in this protocol's form, made fit for a log.
fn says(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Body {
        error: Words,
    }
    #[derive(Deserialize)]
    struct Words {
        code: String,
        #[serde(default)]
        message: String,
    }
    let Ok(Body { error }) = serde_json::from_slice(body) else { return String::new() };
    let text = format!("{}: {}", error.code, error.message);
    text.chars().filter(|c| !c.is_control()).take(SAYS_MAX).collect()
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
    /// Send it whole: the manager does not have the report that it is the difference to.
    SendWhole,
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
    /// The manager knows none of the PSKs that this agent holds, or so the answer says.
    UnknownPsk(Unsigned),
    /// The answer is not signed, so whoever gave it may not be the manager.
    Unsigned(Unsigned),
    /// The answer is a redirect, which is never followed.
    Redirect(u16),
    /// It was refused unread, as malformed or too large, by whoever gave the unsigned answer.
    RefusedUnread(Unsigned),
    /// A relay refused it, signed; why.
    RelayRefused(String),
    /// All ways have failed: how the direct one did, and what neighbours do.
    NoWay(Box<Reason>, Neighbours),
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
            Self::UnknownPsk(unsigned) => write!(
                f,
                "the manager answers {unsigned}: it knows none of the PSKs held here; compare DNS or PSK_FILE on both sides"
            ),
            Self::Unsigned(unsigned) => write!(f, "{unsigned}, but {}: is that the manager?", unsigned.why),
            Self::Redirect(status) => {
                write!(f, "HTTP {status}: redirects are not followed; set MANAGER_URL to where it points")
            }
            Self::RefusedUnread(unsigned) => write!(f, "{unsigned}: refused as malformed or too large"),
            Self::RelayRefused(why) => write!(f, "a relay refused it: {why}"),
            Self::NoWay(direct, neighbours) => write!(f, "{direct}{neighbours}"),
            Self::BadPayload(why) => write!(f, "the manager cannot use it: {why}"),
            Self::ClockSkew => write!(f, "the manager finds the clock off although its own time was used"),
            Self::Replayed => write!(f, "the manager has seen its tick or nonce before"),
            Self::DuplicateId => write!(f, "the manager knows this agent id from other hardware"),
            Self::Unavailable(why) => write!(f, "the manager cannot take reports now: {why}"),
            Self::Unexpected(code) => write!(f, "the manager answers {code}"),
        }
    }
}

impl Reason {
    /// Whether no manager's word came back, so that another way is worth a try.
    #[must_use]
    pub fn is_unreached(&self) -> bool {
        match self {
            Self::NoAnswer(_)
            | Self::UnknownPsk(_)
            | Self::Unsigned(_)
            | Self::Redirect(_)
            | Self::RefusedUnread(_)
            | Self::RelayRefused(_)
            | Self::NoWay(..) => true,
            Self::NoPsk
            | Self::BadPayload(_)
            | Self::ClockSkew
            | Self::Replayed
            | Self::DuplicateId
            | Self::Unavailable(_)
            | Self::Unexpected(_) => false,
        }
    }
}

/// What neighbours did for a message that could not be sent directly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Neighbours {
    /// There are none.
    None,
    /// None of them reaches the manager.
    Unable,
    /// The last one that was tried failed so.
    Failed(Box<Reason>),
}

impl fmt::Display for Neighbours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::Unable => f.write_str("; no neighbour passes it on"),
            Self::Failed(reason) => write!(f, "; through a neighbour: {reason}"),
        }
    }
}

/// What was tried for one message already. A new one for each message, way and turn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tries {
    /// Which of the held PSKs it is signed with; 0 is the current one.
    pub psk: usize,
    /// The PSK's source was read because of a refusal.
    psk_read: bool,
    /// It was signed again with the manager's time.
    time_learned: bool,
    /// It was sent whole because the manager asked for that.
    whole: bool,
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
        Outcome::Unsigned(unsigned) => after_unsigned(unsigned, tries, held, may_read),
    }
}

/// Nothing that is not signed makes a report vanish.
fn after_unsigned(unsigned: Unsigned, tries: &mut Tries, held: usize, may_read: bool) -> Decision {
    match unsigned.status {
        401 => match read_psk(tries, may_read) {
            Some(decision) => decision,
            None if tries.psk + 1 < held => {
                tries.psk += 1;
                Decision::OlderPsk
            }
            None => Decision::Hold(Reason::UnknownPsk(unsigned)),
        },
        400 | 413 => Decision::Hold(Reason::RefusedUnread(unsigned)),
        status @ 300..=399 => Decision::Hold(Reason::Redirect(status)),
        status => {
            let claims_success = (200..=299).contains(&status);
            let psk = if claims_success { read_psk(tries, may_read) } else { None };
            psk.unwrap_or(Decision::Hold(Reason::Unsigned(unsigned)))
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
        (Code::NeedFull, Kind::Report) if !tries.whole => {
            tries.whole = true;
            Decision::SendWhole
        }
        (Code::DuplicateId, _) => other.map_or(Decision::Hold(Reason::DuplicateId), Decision::TakeId),
        (Code::Replayed, _) => Decision::NewBoot,
        (Code::BadPayload, _) => Decision::Drop(Reason::BadPayload(ack.details.message)),
        (Code::Unavailable, _) => Decision::Hold(Reason::Unavailable(ack.details.message)),
        (Code::RelayRefused, _) => Decision::Hold(Reason::RelayRefused(ack.details.message)),
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
    use proto::envelope::{Draft, Sealed};
    use proto::ids::BootId;

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

    fn unsigned(status: u16, why: AckError) -> Unsigned {
        Unsigned { status, why, says: String::new() }
    }

    fn first(kind: Kind, outcome: Outcome) -> Decision {
        next(kind, OWN, outcome, &mut Tries::default(), 1, false)
    }

    #[test]
    fn only_a_signed_answer_to_this_sending_counts() {
        let sent = sealed(1);
        let ack = Ack { code: Code::Stored, at: 5, details: Details::default() };
        let bytes = ack::seal(&ack, sent.nonce, &sent.mac, &secret());
        let of = |status, body: &[u8], sent: &Sealed| {
            Outcome::of_answer(status, body, sent.nonce, &sent.mac, &secret())
        };
        assert_eq!(of(200, &bytes, &sent), Outcome::Answered(ack));
        let unsigned = |status, why| Outcome::Unsigned(unsigned(status, why));
        assert_eq!(of(200, b"ok\n", &sent), unsigned(200, AckError::Malformed));
        assert_eq!(of(200, &bytes, &sealed(2)), unsigned(200, AckError::BadMac));
        assert_eq!(of(503, &bytes, &sent), unsigned(503, AckError::Malformed));
    }

    #[test]
    fn what_a_refusal_says_is_told_as_its_claim() {
        let body =
            br#"{"error":{"code":"old_psk","message":"signed with\u001b[31m a retired PSK","hint":"-"}}"#;
        let sent = sealed(1);
        let outcome = Outcome::of_answer(401, body, sent.nonce, &sent.mac, &secret());
        let Decision::Hold(reason) = first(Kind::Report, outcome) else { panic!("it is held") };
        let text = reason.to_string();
        assert!(text.contains("HTTP 401 (old_psk: signed with[31m a retired PSK; unsigned)"), "{text}");
        assert!(reason.is_unreached());
        let long = format!(r#"{{"error":{{"code":"x","message":"{}"}}}}"#, "y".repeat(9000));
        assert_eq!(says(long.as_bytes()).len(), SAYS_MAX);
        assert_eq!((says(b"<html>"), says(br#"{"error":"x"}"#)), (String::new(), String::new()));
    }

    #[test]
    fn a_report_is_delivered_when_it_is_stored_and_not_otherwise() {
        for code in [Code::Stored, Code::AlreadyStored] {
            assert_eq!(first(Kind::Report, answered(code, None)), Decision::Delivered);
        }
        let refused = Decision::Hold(Reason::RelayRefused(String::new()));
        assert_eq!(first(Kind::Report, answered(Code::RelayRefused, None)), refused);
        for code in [Code::Registered, Code::Done, Code::Other] {
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
    fn a_report_is_sent_whole_once_when_the_manager_asks_for_that() {
        let mut tries = Tries::default();
        let mut decide = || next(Kind::Report, OWN, answered(Code::NeedFull, None), &mut tries, 1, true);
        assert_eq!(decide(), Decision::SendWhole);
        let held = Decision::Hold(Reason::Unexpected(Code::NeedFull));
        assert_eq!(decide(), held);
        assert_eq!(first(Kind::Register, answered(Code::NeedFull, None)), held);
    }

    #[test]
    fn a_refused_psk_is_read_again_once_and_then_the_older_ones_are_tried() {
        let unsigned = || unsigned(401, AckError::Malformed);
        let refused = || Outcome::Unsigned(unsigned());
        let mut tries = Tries::default();
        let decisions: Vec<_> =
            (0..4).map(|_| next(Kind::Report, OWN, refused(), &mut tries, 3, true)).collect();
        assert_eq!(
            decisions,
            [
                Decision::ReadPsk,
                Decision::OlderPsk,
                Decision::OlderPsk,
                Decision::Hold(Reason::UnknownPsk(unsigned()))
            ]
        );
        assert_eq!(tries.psk, 2);
        assert_eq!(first(Kind::Report, refused()), Decision::Hold(Reason::UnknownPsk(unsigned())));
    }

    #[test]
    fn an_unsigned_success_is_none_and_may_mean_another_psk() {
        let mut tries = Tries::default();
        let unsigned = || unsigned(200, AckError::BadMac);
        let mut decide = || next(Kind::Report, OWN, Outcome::Unsigned(unsigned()), &mut tries, 3, true);
        assert_eq!(decide(), Decision::ReadPsk);
        assert_eq!(decide(), Decision::Hold(Reason::Unsigned(unsigned())));
    }

    #[test]
    fn nothing_unsigned_makes_a_report_vanish() {
        for status in (100..600).filter(|&status| status != 401) {
            let decision = first(Kind::Report, Outcome::Unsigned(unsigned(status, AckError::Malformed)));
            let Decision::Hold(reason) = decision else { panic!("{status}: {decision:?}") };
            assert!(reason.is_unreached(), "{status}");
            match status {
                400 | 413 => assert!(matches!(reason, Reason::RefusedUnread(_))),
                300..=399 => assert_eq!(reason, Reason::Redirect(status)),
                _ => assert!(matches!(reason, Reason::Unsigned(_))),
            }
        }
        let failed = first(Kind::Report, Outcome::Failed("refused".into()));
        assert_eq!(failed, Decision::Hold(Reason::NoAnswer("refused".into())));
    }

    #[test]
    fn all_ways_are_told() {
        let direct = || Box::new(Reason::NoAnswer("http://m: refused".into()));
        let text = |neighbours| Reason::NoWay(direct(), neighbours).to_string();
        assert_eq!(text(Neighbours::None), "http://m: refused");
        assert_eq!(text(Neighbours::Unable), "http://m: refused; no neighbour passes it on");
        let refused = Neighbours::Failed(Box::new(Reason::RelayRefused("hops".into())));
        assert_eq!(text(refused), "http://m: refused; through a neighbour: a relay refused it: hops");
    }
}
