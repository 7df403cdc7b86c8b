//! What moves in a report while nothing else does. Most reports differ from an earlier one of their agent in
//! these alone, and then are read for these alone: no list is taken apart and no text copied.

use proto::delta::Base;
use proto::report::{Counters, Interface, Report, WireGuardDevice, WireGuardPeer};
use serde::Deserialize;

/// What moves in a report, in the order of the report's lists.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// When the host was read (ms, the agent's clock as corrected).
    pub observed_at: i64,
    /// Of the host.
    pub system: SystemCounts,
}

/// What moves of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct SystemCounts {
    /// Seconds since it was started.
    pub uptime_s: u64,
    /// Its interfaces.
    pub interfaces: Vec<InterfaceCounts>,
    /// Its WireGuard devices.
    pub wireguard: Vec<DeviceCounts>,
}

/// What moves of an interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct InterfaceCounts {
    /// How often its link came or went.
    pub carrier_changes: Option<u64>,
    /// Bytes, packets and errors.
    pub counters: Counters,
}

/// What moves of a WireGuard device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct DeviceCounts {
    /// Its peers.
    pub peers: Vec<PeerCounts>,
}

/// What moves of a WireGuard peer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
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

    /// Those of a report's JSON that `delta` makes of `base`; `None` where anything else changes too, or
    /// where it is not sure that nothing does.
    #[must_use]
    pub fn read(base: &Base, delta: &[u8], json: &[u8]) -> Option<Self> {
        base.changes_numbers_only(delta, may_move).then(|| serde_json::from_slice(json).ok()).flatten()
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

/// Whether the number behind this much of a report's JSON may move: it is a counter's, an age's, or one of
/// those that are only shown. In a string no quote stands without a backslash, so that nothing there looks
/// like such a key.
fn may_move(before: &[u8]) -> bool {
    let Some(key) = before.strip_suffix(b"\":") else { return is_of_load(before) };
    let start = key.iter().rposition(|byte| *byte == b'"').map_or(0, |quote| quote + 1);
    matches!(
        &key[start..],
        b"observed_at"
            | b"uptime_s"
            | b"available_kb"
            | b"free_kb"
            | b"swap_free_kb"
            | b"carrier_changes"
            | b"rx_bytes"
            | b"rx_packets"
            | b"rx_errors"
            | b"rx_dropped"
            | b"rx_frame"
            | b"tx_bytes"
            | b"tx_packets"
            | b"tx_errors"
            | b"tx_dropped"
            | b"handshake_at"
            | b"handshake_age_s"
            | b"rtt_us"
    )
}

/// Whether a number is one of `"load":[0.12,0.3,1.0]`.
fn is_of_load(before: &[u8]) -> bool {
    let numbers = before.iter().rev().take_while(|byte| matches!(byte, b'0'..=b'9' | b'.' | b',')).count();
    before[..before.len() - numbers].ends_with(b"\"load\":[")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A report with some of everything.
    fn json(numbers: &[u64; 8], load: &str, name: &str) -> String {
        let [at, up, free, rx, errors, age, handshake, rtt] = numbers;
        format!(
            r#"{{"observed_at":{at},"interval_s":30,"hardware":"x\"rx_bytes\":1","delivery":{{"spooled":0}},
            "system":{{"hostname":{name:?},"uptime_s":{up},"load":[{load}],"memory":{{"total_kb":512,"free_kb":{free}}},
            "interfaces":[{{"name":"eth0","mtu":1500,"carrier_changes":2,"addresses":["10.0.0.1/24"],
              "counters":{{"rx_bytes":{rx},"rx_errors":{errors},"tx_bytes":5}}}}],
            "routes":[{{"destination":"0.0.0.0/0","gateway":"10.0.0.254","metric":7}}],
            "wireguard":[{{"name":"wg0","listen_port":51820,"peers":[{{"public_key":"{key}","endpoint":"192.0.2.7:51820",
              "allowed_ips":["10.1.0.0/16"],"handshake_at":{handshake},"handshake_age_s":{age},
              "rx_bytes":{rx},"tx_bytes":12,"rtt_us":{rtt}}}]}}]}}}}"#,
            key = proto::ids::PublicKey([7; 32]),
        )
    }

    fn read(base: &str, text: &str) -> Option<Counts> {
        let base = Base::new(base.as_bytes());
        Counts::read(&base, &base.encode(text.as_bytes()), text.as_bytes())
    }

    const NUMBERS: [u64; 8] = [1_790_000_000_000, 5, 6, 7, 8, 9, 10, 11];

    #[test]
    fn what_else_changes_is_seen() {
        let base = json(&NUMBERS, "0.10,1.5,12", "a");
        assert!(read(&base, &base).is_some());
        for (from, to) in [
            ("\"interval_s\":30", "\"interval_s\":60"),
            ("\"mtu\":1500", "\"mtu\":1400"),
            ("10.0.0.1/24", "10.0.0.2/24"),
            ("\"metric\":7", "\"metric\":8"),
            ("192.0.2.7:51820", "192.0.2.7:51821"),
            ("\"listen_port\":51820", "\"listen_port\":51821"),
            ("\"spooled\":0", "\"spooled\":1"),
            ("x\\\"rx_bytes\\\":1", "x\\\"rx_bytes\\\":2"),
            ("\"rtt_us\":11", "\"rtt_us\":null"),
            ("\"uptime_s\":5", "\"uptime_s\":-5"),
            ("\"rtt_us\":11", "\"rtt_us\":5000000000"),
            ("\"uptime_s\":5", "\"uptime_s\":05"),
        ] {
            let text = base.replacen(from, to, 1);
            assert_ne!(text, base, "{from}");
            assert_eq!(read(&base, &text), None, "{to}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_of_a_difference_is_what_the_report_says(
            numbers in prop::array::uniform8(0..u64::from(u32::MAX)), load in "[0-9]{1,2}\\.[0-9]{1,2},0\\.[0-9]{1,2},1",
            name in "[a-z\"\\\\:0-9]{0,12}"
        ) {
            let (base, text) = (json(&NUMBERS, "0.10,1.5,12", &name), json(&numbers, &load, &name));
            let counts = read(&base, &text);
            match Report::from_json(text.as_bytes()) {
                Ok(report) => {
                    prop_assert_eq!(counts.as_ref(), Some(&Counts::of(&report)));
                    // Nothing but what may move differs.
                    let mut same = Report::from_json(base.as_bytes()).unwrap();
                    let (old, new) = (&mut same.system, &report.system);
                    (same.observed_at, old.uptime_s, old.load) = (report.observed_at, new.uptime_s, new.load);
                    old.memory = new.memory.clone();
                    old.interfaces[0].counters = new.interfaces[0].counters;
                    let (peer, now) = (&mut old.wireguard[0].peers[0], &new.wireguard[0].peers[0]);
                    (peer.handshake_at, peer.handshake_age_s) = (now.handshake_at, now.handshake_age_s);
                    (peer.rx_bytes, peer.rtt_us) = (now.rx_bytes, now.rtt_us);
                    prop_assert_eq!(same, report);
                }
                // A load of two digits may begin with a zero, which is no JSON.
                Err(_) => prop_assert_eq!(counts, None),
            }
        }
    }
}
