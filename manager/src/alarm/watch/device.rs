//! What is remembered of a WireGuard device and its peers, and how a report changes it.

use proto::ids::{Cidr, PublicKey};
use proto::report::{Counters, Interface, WireGuardDevice, WireGuardPeer};

use super::super::few::Few;
use super::spot::{Spot, host_of};
use super::{MOMENTS, Moment, WINDOW, push};
use crate::counts::{PeerCounts, SystemCounts};

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

/// What is remembered of a WireGuard device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceWatch {
    /// Its key.
    pub key: Option<PublicKey>,
    /// Port that it listens on.
    pub port: u16,
    /// Whether its driver is the kernel's.
    pub is_kernel: bool,
    /// Frame errors on receive: last count, increase in the last report and in the one before.
    pub rx_frame: Rise,
    /// Errors on sending.
    pub tx_errors: Rise,
    /// Bytes that came out of it.
    pub rx_bytes: Rise,
    /// Its peers.
    pub peers: Few<KeyTag, PeerWatch>,
    /// What of it changed, if anything did.
    past: Option<Box<DevicePast>>,
    /// Where it stands in the report's list.
    place: u16,
    /// Where its interface stands in the report's list, if there.
    nic: Option<u16>,
}

/// What changed of a WireGuard device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct DevicePast {
    key: Option<(i64, PublicKey)>,
    port: Option<(i64, u16)>,
}

/// A counter and its last two increases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rise {
    /// [`Rise::NONE`] where there is none yet.
    last: u64,
    /// Increases between the last three reports, newest first; the largest number stands for that much and more.
    pub by: [u32; 2],
}

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

impl DeviceWatch {
    /// When its key changed (ms), and the key before.
    #[must_use]
    pub fn key_changed(&self) -> Option<(i64, PublicKey)> {
        self.past.as_ref()?.key
    }

    /// When its port changed (ms), and the port before.
    #[must_use]
    pub fn port_changed(&self) -> Option<(i64, u16)> {
        self.past.as_ref()?.port
    }

    pub(super) fn is_odd(&self, now: i64) -> bool {
        let recent = |at: Option<i64>| at.is_some_and(|at| now - at <= WINDOW);
        let rises = |rise: &Rise| rise.by[0] > 0;
        recent(self.key_changed().map(|(at, _)| at))
            || recent(self.port_changed().map(|(at, _)| at))
            || rises(&self.rx_frame)
            || rises(&self.tx_errors)
            || !self.is_kernel && self.peers.len() == 1 && self.rx_bytes.by == [0, 0]
            || self.peers.values().any(|peer| peer.is_odd(now))
    }
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

    fn is_calm(&self) -> bool {
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

impl Default for Rise {
    fn default() -> Self {
        Self { last: Self::NONE, by: [0; 2] }
    }
}

impl Rise {
    /// No counter was seen: all are less than this.
    const NONE: u64 = u64::MAX;

    fn push(&mut self, count: u64) {
        let rise = u32::try_from(count.saturating_sub(self.last)).unwrap_or(u32::MAX);
        self.by = [rise, self.by[0]];
        self.last = count;
    }

    /// Whether it rose by at least `least` in each of the last two reports.
    #[must_use]
    pub fn rises(&self, least: u32) -> bool {
        self.by.iter().all(|by| *by >= least)
    }
}

/// What is to be remembered of a device that stands at `place` in a report's list, and whose
/// interface, if there, at `nic.0` in that of interfaces. Of what was remembered the peers are taken over.
pub(super) fn device_watch(
    old: Option<&mut DeviceWatch>,
    (place, device): (u16, &WireGuardDevice),
    nic: Option<(u16, &Interface)>,
    moment: &Moment,
) -> DeviceWatch {
    let mut watch = DeviceWatch {
        key: device.public_key,
        port: device.listen_port,
        place,
        nic: nic.map(|(place, _)| place),
        ..DeviceWatch::default()
    };
    if let Some(old) = &old {
        watch.past = old.past.clone();
        if let (Some(was), true) = (old.key, device.public_key.is_some() && old.key != device.public_key) {
            watch.past.get_or_insert_default().key = Some((moment.now, was));
        }
        if old.port != device.listen_port && old.port != 0 && device.listen_port != 0 {
            watch.past.get_or_insert_default().port = Some((moment.now, old.port));
        }
        (watch.rx_frame, watch.tx_errors, watch.rx_bytes) = (old.rx_frame, old.tx_errors, old.rx_bytes);
    }
    if let Some((_, interface)) = nic {
        watch.is_kernel = interface.driver_kind.as_deref() == Some("wireguard");
        watch.count_nic(&interface.counters);
    }
    watch.peers = follow_peers(old.map(|old| std::mem::take(&mut old.peers)), device, moment);
    watch
}

/// What is to be remembered of a device's peers. Most often they are those of before and stand where they stood:
/// then none is to be looked for, and what is equal stays where it is.
fn follow_peers(
    old: Option<Few<KeyTag, PeerWatch>>,
    device: &WireGuardDevice,
    moment: &Moment,
) -> Few<KeyTag, PeerWatch> {
    let mut old = old.unwrap_or_default();
    let reported = |place: u16| device.peers.get(usize::from(place));
    let is_same = |(tag, peer): (&KeyTag, &PeerWatch)| {
        reported(peer.place).is_some_and(|reported| KeyTag::of(&reported.public_key) == *tag)
    };
    if old.len() == device.peers.len() && old.iter().all(is_same) {
        for peer in old.values_mut() {
            if let Some(reported) = reported(peer.place) {
                peer.follow(reported, moment);
            }
        }
        return old;
    }
    let peers = (0..).zip(&device.peers).map(|(place, peer)| {
        let tag = KeyTag::of(&peer.public_key);
        let watch = old.get(&tag).map(|before| {
            let mut watch = PeerWatch { place, ..before.clone() };
            watch.follow(peer, moment);
            watch
        });
        (tag, watch.unwrap_or_else(|| PeerWatch::new(place, peer, moment)))
    });
    Few::of(peers)
}

impl DeviceWatch {
    /// Whether nothing of it can be odd until the next report.
    pub(super) fn is_calm(&self) -> bool {
        let quiet = |rise: &Rise| rise.by[0] == 0;
        self.past.is_none()
            && quiet(&self.rx_frame)
            && quiet(&self.tx_errors)
            && (self.is_kernel || self.peers.len() != 1)
            && self.peers.values().all(PeerWatch::is_calm)
    }

    /// Takes the counters of a report that is otherwise the same as the one before.
    pub(super) fn count(&mut self, counts: &SystemCounts, moment: &Moment) {
        let nic = self.nic.and_then(|place| counts.interfaces.get(usize::from(place)));
        if let Some(nic) = nic {
            self.count_nic(&nic.counters);
        }
        let Some(device) = counts.wireguard.get(usize::from(self.place)) else { return };
        for peer in self.peers.values_mut() {
            if let Some(counts) = device.peers.get(usize::from(peer.place)) {
                peer.count(counts, moment);
            }
        }
    }

    fn count_nic(&mut self, counters: &Counters) {
        self.rx_frame.push(counters.rx_frame);
        self.tx_errors.push(counters.tx_errors);
        self.rx_bytes.push(counters.rx_bytes);
    }
}

impl PeerWatch {
    fn new(place: u16, peer: &WireGuardPeer, moment: &Moment) -> Self {
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
    fn follow(&mut self, peer: &WireGuardPeer, moment: &Moment) {
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
    fn count(&mut self, counts: &PeerCounts, moment: &Moment) {
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
