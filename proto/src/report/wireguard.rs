//! WireGuard devices and their peers in a report.

use serde::{Deserialize, Serialize};

use crate::ids::{Cidr, PublicKey};

/// A WireGuard device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WireGuardDevice {
    /// Its interface's name.
    pub name: String,
    /// Its public key; `None` while it has no private key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_key: Option<PublicKey>,
    /// UDP port that it listens on; 0 while it is down.
    pub listen_port: u16,
    /// Mark on its own packets; `None` is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fwmark: Option<u32>,
    /// Its peers.
    pub peers: Vec<WireGuardPeer>,
}

/// A peer of a WireGuard device, as this host sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireGuardPeer {
    /// The peer's public key.
    pub public_key: PublicKey,
    /// Whether a preshared key is set; never the key itself.
    #[serde(default)]
    pub has_psk: bool,
    /// Where its packets are sent: `192.0.2.1:51820`, `[2001:db8::1]:51820`, `[fe80::1%eth0]:51820`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Inner addresses that belong to it.
    #[serde(default)]
    pub allowed_ips: Vec<Cidr>,
    /// Last handshake: seconds since the Unix epoch on the agent's own clock; `None` is never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handshake_at: Option<i64>,
    /// Seconds since the last handshake, both read on the agent's own clock; `None` is never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handshake_age_s: Option<u64>,
    /// Bytes received from it, as WireGuard counts them.
    #[serde(default)]
    pub rx_bytes: u64,
    /// Bytes sent to it.
    #[serde(default)]
    pub tx_bytes: u64,
    /// Seconds between keepalives; `None` is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keepalive_s: Option<u16>,
    /// Round-trip time in microseconds to the agent behind this peer, when last probed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_us: Option<u32>,
}

impl WireGuardPeer {
    /// A peer of which no more is known than its key.
    #[must_use]
    pub fn new(public_key: PublicKey) -> Self {
        Self {
            public_key,
            has_psk: false,
            endpoint: None,
            allowed_ips: Vec::new(),
            handshake_at: None,
            handshake_age_s: None,
            rx_bytes: 0,
            tx_bytes: 0,
            keepalive_s: None,
            rtt_us: None,
        }
    }
}
