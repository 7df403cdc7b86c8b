//! What is remembered of a WireGuard peer, and how a report changes it.

use proto::ids::{Cidr, PublicKey};
use proto::report::WireGuardPeer;

use super::spot::{Spot, host_of};
use super::{MOMENTS, Moment, WINDOW, push};
use crate::counts::PeerCounts;

/// A handshake of so long ago (s) may still be one of a tunnel that is up.
const LATELY_S: i64 = 400;
/// Data, or nothing at all, in so many reports in a row is no accident.
pub const IN_A_ROW: u8 = 2;
/// Data both ways in so many reports in a row make a tunnel one that always carries data: an hour.
const ALWAYS_BUSY: u8 = 120;
/// And none in so many is news: ten minutes.
const QUIET: u8 = 20;
/// New handshakes in so many reports in a row are no coincidence with the 120 s of WireGuard.
pub const CHURN: u8 = 6;

/// What tells a peer's key from those of the same device's others: its first eight bytes. The map has the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyTag(u64);

impl KeyTag {
    /// That of a key.
    #[must_use]
    pub fn of(key: &PublicKey) -> Self {
        Self(key.0.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes)))
    }
}

/// What is remembered of a WireGuard peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerWatch {
    spot: Spot,
    /// What of it changed lately, if anything did.
    past: Option<Box<PeerPast>>,
    /// Seconds; 0 for none.
    handshake_at: u32,
    /// Reports in a row that each brought a new handshake.
    pub churn: u8,
    /// Reports in a row with data both ways.
    pub busy: u8,
    /// Reports since, without any.
    pub quiet: u8,
    /// Reports in a row with data sent.
    pub sending: u8,
    /// Reports in a row with nothing received at all.
    pub deaf: u8,
    rx: u64,
    tx: u64,
    /// Where it stands in the report's list.
    pub place: u16,
}

/// What changed of a WireGuard peer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct PeerPast {
    lost: Vec<(Cidr, i64)>,
    allowed_changed: Option<(i64, Vec<Cidr>)>,
    moved: Option<(i64, String)>,
    moves: Vec<i64>,
}

impl PeerWatch {
    /// Its AllowedIPs.
    #[must_use]
    pub fn allowed(&self) -> Vec<Cidr> {
        self.spot.allowed()
    }

    /// Prefixes that went from it, and when (ms).
    #[must_use]
    pub fn lost(&self) -> &[(Cidr, i64)] {
        self.past.as_ref().map_or(&[], |past| &past.lost)
    }

    /// When its AllowedIPs changed (ms), and what they were.
    #[must_use]
    pub fn allowed_changed(&self) -> Option<(i64, &[Cidr])> {
        self.past.as_ref()?.allowed_changed.as_ref().map(|(at, was)| (*at, &**was))
    }

    /// When it moved to another address (ms), and where it was before.
    #[must_use]
    pub fn moved(&self) -> Option<(i64, &str)> {
        self.past.as_ref()?.moved.as_ref().map(|(at, was)| (*at, was.as_str()))
    }

    /// When its address changed lately (ms).
    #[must_use]
    pub fn moves(&self) -> &[i64] {
        self.past.as_ref().map_or(&[], |past| &past.moves)
    }

    pub(super) fn is_odd(&self, now: i64) -> bool {
        let recent = |at: Option<i64>| at.is_some_and(|at| now - at <= WINDOW);
        recent(self.allowed_changed().map(|(at, _)| at))
            || recent(self.past.as_ref().and_then(|past| past.moved.as_ref()).map(|(at, _)| *at))
            || self.churn >= CHURN
            || self.fell_quiet()
    }

    pub(super) fn is_calm(&self) -> bool {
        self.past.is_none() && self.churn < CHURN && !self.fell_quiet()
    }

    /// Whether it always carried data, and carries none any more.
    #[must_use]
    pub fn fell_quiet(&self) -> bool {
        self.busy >= ALWAYS_BUSY && self.quiet >= QUIET
    }

    /// Whether nothing at all comes from it, though its last handshake is not long ago. Without data the
    /// other way round that is as it should be.
    #[must_use]
    pub fn is_deaf(&self, now: i64) -> bool {
        self.deaf >= IN_A_ROW && now / 1000 - i64::from(self.handshake_at) <= LATELY_S
    }
}

impl PeerWatch {
    pub(super) fn new(place: u16, peer: &WireGuardPeer, moment: &Moment) -> Self {
        let counts = PeerCounts::of(peer);
        Self {
            spot: Spot::new(peer.endpoint.as_deref(), &peer.allowed_ips),
            past: None,
            handshake_at: moment.handshake_at(counts.handshake_age_s),
            churn: 0,
            busy: 0,
            quiet: 0,
            sending: 0,
            deaf: 0,
            rx: counts.rx_bytes,
            tx: counts.tx_bytes,
            place,
        }
    }

    /// Takes what a report says that follows on another.
    pub(super) fn follow(&mut self, peer: &WireGuardPeer, moment: &Moment) {
        let spot = Spot::new(peer.endpoint.as_deref(), &peer.allowed_ips);
        if self.spot != spot {
            let was = std::mem::replace(&mut self.spot, spot);
            self.note_allowed(was.allowed(), moment.now);
            self.note_endpoint(&was.endpoint(), moment.now);
        }
        self.count(&PeerCounts::of(peer), moment);
    }

    /// Notes what the AllowedIPs were: they may be the same, or in another order.
    fn note_allowed(&mut self, before: Vec<Cidr>, now: i64) {
        let (mut was, mut is) = (before.clone(), self.allowed());
        was.sort_unstable_by_key(|prefix| (prefix.address(), prefix.prefix()));
        is.sort_unstable_by_key(|prefix| (prefix.address(), prefix.prefix()));
        if was != is {
            let past = self.past.get_or_insert_default();
            let gone = was.iter().filter(|prefix| !is.contains(prefix)).map(|prefix| (*prefix, now));
            past.lost = gone.take(MOMENTS).collect();
            past.allowed_changed = Some((now, before));
        }
    }

    /// Notes where its packets were sent before: it may be the same place, or nowhere.
    fn note_endpoint(&mut self, before: &str, now: i64) {
        let endpoint = self.spot.endpoint();
        if !before.is_empty() && !endpoint.is_empty() && host_of(before) != host_of(&endpoint) {
            let past = self.past.get_or_insert_default();
            past.moved = Some((now, before.to_owned()));
            push(&mut past.moves, now);
        }
    }

    /// Takes the counters of a report that follows on another.
    pub(super) fn count(&mut self, counts: &PeerCounts, moment: &Moment) {
        if let Some(past) = &mut self.past {
            past.moves.retain(|at| moment.now - at <= WINDOW);
        }
        let more = |count: u8, is: bool| if is { count.saturating_add(1) } else { 0 };
        let handshake_at = moment.handshake_at(counts.handshake_age_s);
        self.churn =
            more(self.churn, self.handshake_at > 0 && handshake_at > self.handshake_at.saturating_add(2));
        self.handshake_at = handshake_at;
        let (rx, tx) = (counts.rx_bytes.checked_sub(self.rx), counts.tx_bytes.checked_sub(self.tx));
        (self.rx, self.tx) = (counts.rx_bytes, counts.tx_bytes);
        // More than any sum of handshakes and keepalives within one interval.
        let noise = 2 * (148 + 92) + 32 * (2 + u64::from(moment.interval_s) / 5);
        self.sending = more(self.sending, tx.is_some_and(|tx| tx > noise));
        self.deaf = more(self.deaf, rx == Some(0));
        match (rx, tx) {
            (Some(rx), Some(tx)) if rx > noise && tx > noise => {
                (self.busy, self.quiet) = (self.busy.saturating_add(1), 0);
            }
            (Some(rx), Some(tx)) if rx <= noise && tx <= noise => self.quiet = more(self.quiet, true),
            _ => (self.busy, self.quiet) = (0, 0),
        }
    }
}

impl Moment {
    /// When a handshake of so many seconds ago was: to the second, on the agent's clock; 0 for none.
    fn handshake_at(&self, age_s: Option<u64>) -> u32 {
        let age_s = age_s.and_then(|age| i64::try_from(age).ok());
        age_s.and_then(|age| u32::try_from((self.observed_at / 1000).checked_sub(age)?).ok()).unwrap_or(0)
    }
}
