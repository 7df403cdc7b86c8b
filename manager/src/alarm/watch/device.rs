//! What is remembered of a WireGuard device and its peers, and how a report changes it.

use proto::ids::PublicKey;
use proto::report::{Counters, Interface, WireGuardDevice};

use super::super::few::Few;
use super::peer::{KeyTag, PeerWatch};
use super::{Moment, WINDOW};
use crate::counts::SystemCounts;

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
            let mut watch = before.clone();
            watch.place = place;
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
