//! Is a message authentic and fresh? Pure: the PSKs and `now` come in, a named reason goes out.

use proto::envelope::{Envelope, Header};
use proto::ids::AgentId;
use proto::limits;
use proto::psk::Secret;

use crate::error::Reject;
use crate::psks::Psks;

/// What verification learned of an authentic message.
#[derive(Debug, Clone)]
pub struct Verified {
    /// Generation of the PSK that it was signed with.
    pub psk: u32,
    /// The PSK itself; the answer is signed with the same.
    pub secret: Secret,
    /// The relays that it passed; all of them wrote their own entry.
    pub path: Vec<AgentId>,
}

/// Finds the PSK that a message and all its hops are signed with.
///
/// # Errors
/// [`Reject::OldPsk`] when it was signed with a PSK that is no longer accepted, otherwise
/// [`Reject::BadMac`]. All PSKs are tried each time, so that the time taken tells nothing.
pub fn authentic(envelope: &Envelope<'_>, psks: &Psks) -> Result<Verified, Reject> {
    let mut found = None;
    for (generation, secret) in &psks.accepted {
        if envelope.is_signed_with(secret) && found.is_none() {
            found = Some((*generation, secret.clone()));
        }
    }
    let Some((psk, secret)) = found else {
        let retired = psks.retired.iter().any(|secret| envelope.is_signed_with(secret));
        return Err(if retired { Reject::OldPsk } else { Reject::BadMac });
    };
    let path = &envelope.header.path;
    if !path.is_empty() {
        let secrets: Vec<_> = psks.accepted.iter().map(|(_, secret)| secret).collect();
        if !envelope.hops_are_signed_with(&secrets) {
            return Err(Reject::BadPath);
        }
    }
    Ok(Verified { psk, secret, path: path.iter().map(|hop| hop.agent).collect() })
}

/// Whether a message was signed within [`limits::CLOCK_SKEW`] of `now` (milliseconds).
///
/// # Errors
/// [`Reject::ClockSkew`] with how far the sender is ahead.
pub fn fresh(header: &Header, now: i64) -> Result<(), Reject> {
    let ahead = header.sent_at.saturating_sub(now);
    let limit = i64::try_from(limits::CLOCK_SKEW.as_millis()).unwrap_or(i64::MAX);
    if (-limit..=limit).contains(&ahead) { Ok(()) } else { Err(Reject::ClockSkew { ahead_ms: ahead }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::envelope::Draft;
    use proto::ids::{BootId, Nonce};
    use proto::sign::Kind;

    fn secret(n: u32) -> Secret {
        Secret::new(&format!("the secret of number {n}")).unwrap()
    }

    fn psks() -> Psks {
        Psks { accepted: vec![(5, secret(5)), (4, secret(4)), (3, secret(3))], retired: vec![secret(2)] }
    }

    fn sealed(secret: &Secret) -> Vec<u8> {
        let draft = Draft {
            kind: Kind::Report,
            agent: AgentId([1; 16]),
            boot: BootId([2; 16]),
            tick: 1,
            nonce: Nonce([3; 16]),
            json: b"{}",
        };
        draft.seal(secret, 1_000_000).bytes
    }

    #[test]
    fn the_generation_that_signed_is_told() {
        for n in 3..=5 {
            let bytes = sealed(&secret(n));
            assert_eq!(authentic(&Envelope::parse(&bytes).unwrap(), &psks()).unwrap().psk, n);
        }
    }

    #[test]
    fn an_old_psk_is_told_from_a_wrong_one() {
        let reject = |n| authentic(&Envelope::parse(&sealed(&secret(n))).unwrap(), &psks()).unwrap_err();
        assert_eq!(reject(2), Reject::OldPsk);
        assert_eq!(reject(9), Reject::BadMac);
    }

    #[test]
    fn a_forged_hop_is_refused_and_a_rotated_relay_is_not() {
        let bytes = sealed(&secret(4));
        let mut envelope = Envelope::parse(&bytes).unwrap();
        envelope.header.add_hop(AgentId([7; 16]), 5, &secret(5)).unwrap();
        assert_eq!(authentic(&envelope, &psks()).unwrap().path, [AgentId([7; 16])]);
        envelope.header.path[0].agent = AgentId([8; 16]);
        assert_eq!(authentic(&envelope, &psks()).unwrap_err(), Reject::BadPath);
    }

    #[test]
    fn ten_minutes_either_way_are_allowed() {
        let bytes = sealed(&secret(5));
        let header = Envelope::parse(&bytes).unwrap().header;
        assert_eq!(fresh(&header, 1_000_000 + 600_000), Ok(()));
        assert_eq!(fresh(&header, 1_000_000 - 600_000), Ok(()));
        assert_eq!(fresh(&header, 1_600_001), Err(Reject::ClockSkew { ahead_ms: -600_001 }));
        assert_eq!(fresh(&header, i64::MIN), Err(Reject::ClockSkew { ahead_ms: i64::MAX }));
    }
}
