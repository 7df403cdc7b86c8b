//! What is remembered of a WireGuard device and its peers, and how a report changes it.

use proto::ids::{Cidr, PublicKey};
use proto::report::{Interface, Report, WireGuardDevice, WireGuardPeer};

use super::super::few::Few;
use super::{MOMENTS, WINDOW, push};

/// A handshake of so long ago (s) may still be one of a tunnel that is up.
const LATELY_S: i64 = 400;

/// What is remembered of a WireGuard device.
#[derive(Debug, Clone, Default)]
pub struct DeviceWatch {
    /// Its key.
    pub key: Option<PublicKey>,
    /// When its key changed (ms), and the key before.
    pub key_changed: Option<(i64, PublicKey)>,
    /// Port that it listens on.
    pub port: u16,
    /// When its port changed (ms), and the port before.
    pub port_changed: Option<(i64, u16)>,
    /// Whether its driver is the kernel's.
    pub is_kernel: bool,
    /// Frame errors on receive: last count, increase in the last report and in the one before.
    pub rx_frame: Rise,
    /// Errors on sending.
    pub tx_errors: Rise,
    /// Bytes that came out of it.
    pub rx_bytes: Rise,
    /// Its peers.
    pub peers: Few<PublicKey, PeerWatch>,
}

/// A counter and its last two increases.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rise {
    last: Option<u64>,
    /// Increases between the last three reports, newest first.
    pub by: [u64; 2],
}

/// What is remembered of a WireGuard peer.
#[derive(Debug, Clone, Default)]
pub struct PeerWatch {
    /// AllowedIPs that it has, or had before they were taken from it.
    pub allowed: Box<[Cidr]>,
    endpoint: Option<Box<str>>,
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
}

/// What changed of a WireGuard peer.
#[derive(Debug, Clone, Default)]
struct PeerPast {
    lost: Vec<(Cidr, i64)>,
    allowed_changed: Option<(i64, Box<[Cidr]>)>,
    moved: Option<(i64, Box<str>)>,
    moves: Vec<i64>,
}

impl DeviceWatch {
    pub(super) fn is_odd(&self, now: i64) -> bool {
        let recent = |at: Option<i64>| at.is_some_and(|at| now - at <= WINDOW);
        let rises = |rise: &Rise| rise.by[0] > 0;
        recent(self.key_changed.map(|(at, _)| at))
            || recent(self.port_changed.map(|(at, _)| at))
            || rises(&self.rx_frame)
            || rises(&self.tx_errors)
            || !self.is_kernel && self.peers.len() == 1 && self.rx_bytes.by == [0, 0]
            || self.peers.values().any(|peer| peer.is_odd(now))
    }
}

impl PeerWatch {
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
        self.past.as_ref()?.moved.as_ref().map(|(at, was)| (*at, &**was))
    }

    /// When its address changed lately (ms).
    #[must_use]
    pub fn moves(&self) -> &[i64] {
        self.past.as_ref().map_or(&[], |past| &past.moves)
    }

    pub(super) fn is_odd(&self, now: i64) -> bool {
        let recent = |at: Option<i64>| at.is_some_and(|at| now - at <= WINDOW);
        recent(self.allowed_changed().map(|(at, _)| at))
            || recent(self.moved().map(|(at, _)| at))
            || self.churn > 3
            || self.deaf >= 2 && now / 1000 - i64::from(self.handshake_at) <= LATELY_S
            || self.busy > 0 && self.quiet > 3
    }
}

impl Rise {
    fn push(&mut self, count: u64) {
        let rise = self.last.map_or(0, |last| count.saturating_sub(last));
        self.by = [rise, self.by[0]];
        self.last = Some(count);
    }

    /// Whether it rose by at least `least` in each of the last two reports.
    #[must_use]
    pub fn rises(&self, least: u64) -> bool {
        self.by.iter().all(|by| *by >= least)
    }
}

pub(super) fn device_watch(
    old: Option<&DeviceWatch>,
    device: &WireGuardDevice,
    interface: Option<&Interface>,
    report: &Report,
    now: i64,
) -> DeviceWatch {
    let mut watch =
        DeviceWatch { key: device.public_key, port: device.listen_port, ..DeviceWatch::default() };
    if let Some(old) = old {
        watch.key_changed = old.key_changed;
        watch.port_changed = old.port_changed;
        if let (Some(was), true) = (old.key, device.public_key.is_some() && old.key != device.public_key) {
            watch.key_changed = Some((now, was));
        }
        if old.port != device.listen_port && old.port != 0 && device.listen_port != 0 {
            watch.port_changed = Some((now, old.port));
        }
        (watch.rx_frame, watch.tx_errors, watch.rx_bytes) = (old.rx_frame, old.tx_errors, old.rx_bytes);
    }
    if let Some(interface) = interface {
        watch.is_kernel = interface.driver_kind.as_deref() == Some("wireguard");
        watch.rx_frame.push(interface.counters.rx_frame);
        watch.tx_errors.push(interface.counters.tx_errors);
        watch.rx_bytes.push(interface.counters.rx_bytes);
    }
    let peers = device.peers.iter().map(|peer| {
        let before = old.and_then(|old| old.peers.get(&peer.public_key));
        (peer.public_key, peer_watch(before, peer, report, now))
    });
    watch.peers = Few::of(peers);
    watch
}

fn peer_watch(old: Option<&PeerWatch>, peer: &WireGuardPeer, report: &Report, now: i64) -> PeerWatch {
    let age_s = peer.handshake_age_s.and_then(|age| i64::try_from(age).ok());
    // To the second, on the agent's clock; a second's rounding either way is the same handshake.
    let handshake_at = age_s.and_then(|age| u32::try_from(report.observed_at / 1000 - age).ok());
    let mut watch = PeerWatch {
        allowed: peer.allowed_ips.as_slice().into(),
        endpoint: peer.endpoint.as_deref().map(Box::from),
        handshake_at: handshake_at.unwrap_or(0),
        rx: peer.rx_bytes,
        tx: peer.tx_bytes,
        ..PeerWatch::default()
    };
    let Some(old) = old else { return watch };
    watch.past = old.past.clone().map(|mut past| {
        past.moves.retain(|at| now - at <= WINDOW);
        past
    });
    if old.allowed != watch.allowed {
        take_allowed(&mut watch, old, now);
    }
    if let (Some(was), Some(is)) = (&old.endpoint, &watch.endpoint)
        && host_of(was) != host_of(is)
    {
        let past = watch.past.get_or_insert_default();
        past.moved = Some((now, was.clone()));
        push(&mut past.moves, now);
    }
    let renewed = old.handshake_at > 0 && watch.handshake_at > old.handshake_at + 2;
    watch.churn = if renewed { old.churn.saturating_add(1) } else { 0 };
    let (rx, tx) = (peer.rx_bytes.checked_sub(old.rx), peer.tx_bytes.checked_sub(old.tx));
    // More than any sum of handshakes and keepalives within one interval.
    let noise = 2 * (148 + 92) + 32 * (2 + u64::from(report.interval_s) / 5);
    watch.sending = if tx.is_some_and(|tx| tx > noise) { old.sending.saturating_add(1) } else { 0 };
    watch.deaf = if rx == Some(0) { old.deaf.saturating_add(1) } else { 0 };
    match (rx, tx) {
        (Some(rx), Some(tx)) if rx > noise && tx > noise => watch.busy = old.busy.saturating_add(1),
        (Some(rx), Some(tx)) if rx <= noise && tx <= noise => {
            (watch.busy, watch.quiet) = (old.busy, old.quiet.saturating_add(1));
        }
        _ => {}
    }
    watch
}

/// Takes AllowedIPs that are others than before, or the same in another order.
fn take_allowed(watch: &mut PeerWatch, old: &PeerWatch, now: i64) {
    let (mut was, mut is) = (old.allowed.to_vec(), watch.allowed.to_vec());
    was.sort_unstable_by_key(|prefix| (prefix.address(), prefix.prefix()));
    is.sort_unstable_by_key(|prefix| (prefix.address(), prefix.prefix()));
    if was != is {
        let past = watch.past.get_or_insert_default();
        let gone = was.iter().filter(|prefix| !is.contains(prefix)).map(|prefix| (*prefix, now));
        past.lost = gone.take(MOMENTS).collect();
        past.allowed_changed = Some((now, old.allowed.clone()));
    }
}

/// The address of an endpoint, without its port.
fn host_of(endpoint: &str) -> &str {
    endpoint.rsplit_once(':').map_or(endpoint, |(host, _)| host)
}
