//! What moves in a report while nothing else does. Most reports differ from an earlier one of their agent in
//! these alone, and then are read for these alone ([`crate::moving`]).

use proto::report::{Counters, Interface, Report, WireGuardDevice, WireGuardPeer};

/// What moves in a report, in the order of the report's lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// When the host was read (ms, the agent's clock as corrected).
    pub observed_at: i64,
    /// Of the host.
    pub system: SystemCounts,
}

/// What moves of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SystemCounts {
    /// Seconds since it was started.
    pub uptime_s: u64,
    /// Its interfaces.
    pub interfaces: Vec<InterfaceCounts>,
    /// Its WireGuard devices.
    pub wireguard: Vec<DeviceCounts>,
}

/// What moves of an interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InterfaceCounts {
    /// How often its link came or went.
    pub carrier_changes: Option<u64>,
    /// Bytes, packets and errors.
    pub counters: Counters,
}

/// What moves of a WireGuard device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceCounts {
    /// Its peers.
    pub peers: Vec<PeerCounts>,
}

/// What moves of a WireGuard peer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerCounts {
    /// Seconds since the last handshake; `None`: there was none.
    pub handshake_age_s: Option<u64>,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Round-trip time (µs).
    pub rtt_us: Option<u32>,
}

impl Counts {
    /// Those of a report.
    #[must_use]
    pub fn of(report: &Report) -> Self {
        let system = &report.system;
        Self {
            observed_at: report.observed_at,
            system: SystemCounts {
                uptime_s: system.uptime_s,
                interfaces: system.interfaces.iter().map(InterfaceCounts::of).collect(),
                wireguard: system.wireguard.iter().map(DeviceCounts::of).collect(),
            },
        }
    }
}

impl InterfaceCounts {
    fn of(interface: &Interface) -> Self {
        Self { carrier_changes: interface.carrier_changes, counters: interface.counters }
    }
}

impl DeviceCounts {
    fn of(device: &WireGuardDevice) -> Self {
        Self { peers: device.peers.iter().map(PeerCounts::of).collect() }
    }
}

impl PeerCounts {
    /// Those of a peer.
    #[must_use]
    pub fn of(peer: &WireGuardPeer) -> Self {
        Self {
            handshake_age_s: peer.handshake_age_s,
            rx_bytes: peer.rx_bytes,
            tx_bytes: peer.tx_bytes,
            rtt_us: peer.rtt_us,
        }
    }
}
