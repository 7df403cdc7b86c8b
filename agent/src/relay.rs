//! May this message of another agent pass? Pure.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use proto::ack::{self, Ack, Code, Details};
use proto::envelope::{Envelope, EnvelopeError, Header};
use proto::ids::AgentId;
use proto::limits;
use proto::psk::Secret;
use proto::sign::{Kind, Tag};

/// Messages remembered, and for how long: far longer than one is on its way.
const SEEN_MAX: usize = 1024;
const SEEN_FOR: Duration = Duration::from_secs(60);

/// Why bytes get no signed answer: their sender did not prove to hold a PSK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotPassed {
    /// They are no envelope.
    Envelope(EnvelopeError),
    /// No PSK that is held here fits.
    BadMac,
    /// A relay's entry in the path does not verify.
    BadPath,
    /// Only reports and first contacts are passed on.
    Kind(Kind),
}

impl fmt::Display for NotPassed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Envelope(error) => error.fmt(f),
            Self::BadMac => f.write_str("the message is not signed with a PSK that this agent holds"),
            Self::BadPath => f.write_str("a relay's entry in the path does not verify"),
            Self::Kind(kind) => write!(f, "a {kind} is not passed on, only reports and first contacts are"),
        }
    }
}

/// Reads a message and verifies that its sender, and every relay so far, holds one of the PSKs;
/// the one that it is signed with comes back too.
///
/// # Errors
/// See [`NotPassed`].
pub fn open<'a, 's>(bytes: &'a [u8], secrets: &'s [Secret]) -> Result<(Envelope<'a>, &'s Secret), NotPassed> {
    let envelope = Envelope::parse(bytes).map_err(NotPassed::Envelope)?;
    // All are tried each time, so that the time taken tells nothing.
    let fitting: Vec<_> = secrets.iter().filter(|secret| envelope.is_signed_with(secret)).collect();
    let secret = *fitting.first().ok_or(NotPassed::BadMac)?;
    if !matches!(envelope.header.kind, Kind::Report | Kind::Register) {
        return Err(NotPassed::Kind(envelope.header.kind));
    }
    let all: Vec<_> = secrets.iter().collect();
    if !envelope.hops_are_signed_with(&all) {
        return Err(NotPassed::BadPath);
    }
    Ok((envelope, secret))
}

/// Why an authentic message is not passed on; its sender gets a signed answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Signed too long ago, or too far ahead.
    ClockSkew,
    /// It passed this agent before, or comes from it.
    Loop,
    /// Its path is full, or would be before the manager.
    Hops,
    /// These very bytes came before: a loop with a forged path, or a replay.
    Seen,
}

impl Refusal {
    fn code(self) -> Code {
        match self {
            Self::ClockSkew => Code::ClockSkew,
            Self::Loop | Self::Hops | Self::Seen => Code::RelayRefused,
        }
    }

    /// What the answer says; part of the protocol.
    #[must_use]
    pub fn message(self) -> &'static str {
        match self {
            Self::ClockSkew => "signed more than 10 minutes from the relay's time",
            Self::Loop => "loop",
            Self::Hops => "hops",
            Self::Seen => "seen",
        }
    }

    /// The signed answer to a message, at `at` by this agent's clock.
    #[must_use]
    pub fn answer(self, header: &Header, secret: &Secret, at: i64) -> (u16, Vec<u8>) {
        let details = Details { message: self.message().to_owned(), ..Details::default() };
        let ack = Ack { code: self.code(), at, details };
        (ack.code.status(), ack::seal(&ack, header.nonce, &header.mac, secret))
    }
}

/// Whether agent `own` may pass a message on. `now` is the manager's time in milliseconds, `None`
/// while this agent has no proof of it: then the manager decides alone about the message's age.
///
/// # Errors
/// Why it may not.
pub fn judge(header: &Header, own: AgentId, now: Option<i64>) -> Result<(), Refusal> {
    let limit = limits::CLOCK_SKEW.as_millis();
    if now.is_some_and(|now| u128::from(header.sent_at.abs_diff(now)) > limit) {
        return Err(Refusal::ClockSkew);
    }
    if header.agent == own || header.path.iter().any(|hop| hop.agent == own) {
        return Err(Refusal::Loop);
    }
    if header.path.len() >= limits::HOPS_MAX {
        return Err(Refusal::Hops);
    }
    Ok(())
}

/// The messages that came lately, by their MACs. Each sending is signed anew, so no honest message
/// comes twice.
#[derive(Debug, Default)]
pub struct Seen {
    oldest_first: VecDeque<(Instant, Tag)>,
}

impl Seen {
    /// Remembers a message.
    ///
    /// # Errors
    /// [`Refusal::Seen`] when it came before. When there are too many the oldest is forgotten: an
    /// honest message must pass however many others come.
    pub fn note(&mut self, mac: Tag, now: Instant) -> Result<(), Refusal> {
        let is_old = |at: Instant| now.saturating_duration_since(at) >= SEEN_FOR;
        while self.oldest_first.front().is_some_and(|&(at, _)| is_old(at)) {
            self.oldest_first.pop_front();
        }
        if self.oldest_first.iter().any(|(_, seen)| *seen == mac) {
            return Err(Refusal::Seen);
        }
        if self.oldest_first.len() >= SEEN_MAX {
            self.oldest_first.pop_front();
        }
        self.oldest_first.push_back((now, mac));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::envelope::{Draft, Sealed};
    use proto::ids::{BootId, Nonce};

    const OWN: AgentId = AgentId([1; 16]);
    const NOW: i64 = 1_795_000_000_000;

    fn secret(number: u8) -> Secret {
        Secret::new(&format!("the secret of number {number}")).unwrap()
    }

    fn message(agent: AgentId, kind: Kind, psk: u8) -> Sealed {
        let draft =
            Draft { kind, agent, boot: BootId([2; 16]), tick: 1, nonce: Nonce([3; 16]), json: b"{\"a\": 1}" };
        draft.seal(&secret(psk), NOW)
    }

    fn report() -> Sealed {
        message(AgentId([9; 16]), Kind::Report, 2)
    }

    #[test]
    fn a_holder_of_any_psk_in_the_ring_may_send() {
        let ring = [secret(3), secret(2)];
        let bytes = report().bytes;
        let (envelope, psk) = open(&bytes, &ring).unwrap();
        assert_eq!((envelope.payload, psk), (&b"{\"a\": 1}"[..], &secret(2)));
        assert_eq!(open(&bytes, &[secret(3)]), Err(NotPassed::BadMac));
        assert_eq!(open(&bytes, &[]), Err(NotPassed::BadMac));
        assert!(matches!(open(b"hello\n", &ring), Err(NotPassed::Envelope(_))));
        let order = message(OWN, Kind::Reset, 2).bytes;
        assert_eq!(open(&order, &ring), Err(NotPassed::Kind(Kind::Reset)));
        assert!(open(&message(OWN, Kind::Register, 2).bytes, &ring).is_ok());
    }

    #[test]
    fn a_forged_path_does_not_pass() {
        let bytes = report().bytes;
        let mut envelope = Envelope::parse(&bytes).unwrap();
        envelope.header.add_hop(AgentId([7; 16]), NOW, &secret(3)).unwrap();
        assert!(open(&envelope.to_bytes(), &[secret(3), secret(2)]).is_ok(), "relays rotate at other times");
        envelope.header.path[0].agent = AgentId([8; 16]);
        assert_eq!(open(&envelope.to_bytes(), &[secret(3), secret(2)]), Err(NotPassed::BadPath));
    }

    #[test]
    fn loops_full_paths_and_old_messages_are_refused_by_name() {
        let bytes = report().bytes;
        let mut header = Envelope::parse(&bytes).unwrap().header;
        assert_eq!(judge(&header, OWN, Some(NOW + 600_000)), Ok(()));
        assert_eq!(judge(&header, OWN, Some(NOW - 600_001)), Err(Refusal::ClockSkew));
        assert_eq!(judge(&header, OWN, Some(i64::MIN)), Err(Refusal::ClockSkew));
        assert_eq!(judge(&header, OWN, None), Ok(()), "without proof of the time the manager decides");
        assert_eq!(judge(&header, header.agent, None), Err(Refusal::Loop));
        for number in 5..8 {
            assert_eq!(judge(&header, OWN, None), Ok(()));
            header.add_hop(AgentId([number; 16]), NOW, &secret(2)).unwrap();
        }
        assert_eq!(judge(&header, OWN, None), Err(Refusal::Hops));
        assert_eq!(judge(&header, AgentId([6; 16]), None), Err(Refusal::Loop));
    }

    #[test]
    fn a_refusal_is_signed_for_its_message() {
        let sent = report();
        let header = Envelope::parse(&sent.bytes).unwrap().header;
        let (status, bytes) = Refusal::Hops.answer(&header, &secret(2), NOW);
        let ack = ack::open(&bytes, sent.nonce, &sent.mac, &secret(2)).unwrap();
        assert_eq!((status, ack.code, ack.details.message.as_str()), (508, Code::RelayRefused, "hops"));
        assert_eq!(Refusal::ClockSkew.answer(&header, &secret(2), NOW).0, 409);
    }

    #[test]
    fn the_same_bytes_pass_once_and_the_memory_is_bounded() {
        let now = Instant::now();
        let tag = |number: u32| {
            let mut tag = [0; 32];
            tag[..4].copy_from_slice(&number.to_be_bytes());
            Tag(tag)
        };
        let mut seen = Seen::default();
        assert_eq!(seen.note(tag(0), now), Ok(()));
        assert_eq!(seen.note(tag(0), now + SEEN_FOR / 2), Err(Refusal::Seen));
        assert_eq!(seen.note(tag(0), now + SEEN_FOR), Ok(()));
        for number in 1..=3000 {
            assert_eq!(seen.note(tag(number), now + SEEN_FOR), Ok(()));
        }
        assert_eq!(seen.oldest_first.len(), SEEN_MAX);
        assert_eq!(seen.note(tag(2500), now + SEEN_FOR), Err(Refusal::Seen));
    }
}
