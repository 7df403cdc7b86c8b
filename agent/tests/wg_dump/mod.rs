//! What `wg show all dump` (wireguard-tools src/show.c) said of a host, to compare with what the agent
//! makes of the kernel's and of daemons' answers.
//!
//! ```text
//! device  private-key|(none)  public-key|(none)  listen-port  fwmark|off
//! device  public-key  psk|(none)  endpoint|(none)  allowed-ips|(none)  handshake  rx  tx  keepalive|off
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;

use proto::ids::PublicKey;
use proto::report::{WireGuardDevice, WireGuardPeer};

/// Devices by name, each with its peers by public key, as the agent has them.
#[allow(dead_code, reason = "not every test compares")]
pub(crate) fn parse(text: &str) -> Vec<WireGuardDevice> {
    let mut devices: Vec<WireGuardDevice> = Vec::new();
    for row in rows(text) {
        match row.as_slice() {
            [name, _, key, port, mark] => devices.push(WireGuardDevice {
                name: (*name).to_owned(),
                public_key: set(key).map(|key| key.parse().unwrap()),
                listen_port: port.parse().unwrap(),
                fwmark: set(mark).map(|mark| u32::from_str_radix(&mark[2..], 16).unwrap()),
                peers: Vec::new(),
            }),
            [_, key, psk, endpoint, ips, handshake, rx, tx, keepalive] => {
                let ips = set(ips).map(|ips| ips.split(',').map(|ip| ip.parse().unwrap()).collect());
                devices.last_mut().unwrap().peers.push(WireGuardPeer {
                    has_psk: set(psk).is_some(),
                    endpoint: set(endpoint).map(str::to_owned),
                    allowed_ips: ips.unwrap_or_default(),
                    handshake_at: Some(handshake.parse().unwrap()).filter(|at| *at != 0),
                    rx_bytes: rx.parse().unwrap(),
                    tx_bytes: tx.parse().unwrap(),
                    keepalive_s: set(keepalive).map(|seconds| seconds.parse().unwrap()),
                    ..WireGuardPeer::new(key.parse().unwrap())
                });
            }
            _ => panic!("{row:?}"),
        }
    }
    devices.sort_by(|a, b| a.name.cmp(&b.name));
    devices.iter_mut().for_each(|device| device.peers.sort_by_key(|peer| peer.public_key));
    devices
}

/// What a userspace daemon of each device would have answered to `get=1`, by its name.
pub(crate) fn of_daemons(text: &str) -> BTreeMap<String, String> {
    let mut answers: BTreeMap<String, String> = BTreeMap::new();
    for row in rows(text) {
        let answer = answers.entry(row[0].to_owned()).or_default();
        let mut line = |name: &str, value: Option<String>| {
            value.iter().for_each(|value| writeln!(answer, "{name}={value}").unwrap());
        };
        match row.as_slice() {
            [_, private, _, port, mark] => {
                line("private_key", set(private).map(hex));
                line("listen_port", Some((*port).to_owned()));
                let mark = set(mark).map(|mark| u32::from_str_radix(&mark[2..], 16).unwrap().to_string());
                line("fwmark", mark);
            }
            [_, key, psk, endpoint, ips, handshake, rx, tx, keepalive] => {
                line("public_key", Some(hex(key)));
                line("preshared_key", Some(set(psk).map_or_else(|| "0".repeat(64), hex)));
                line("protocol_version", Some("1".to_owned()));
                line("endpoint", set(endpoint).map(str::to_owned));
                line("last_handshake_time_sec", Some((*handshake).to_owned()));
                line("last_handshake_time_nsec", Some("0".to_owned()));
                line("tx_bytes", Some((*tx).to_owned()));
                line("rx_bytes", Some((*rx).to_owned()));
                line("persistent_keepalive_interval", Some(set(keepalive).unwrap_or("0").to_owned()));
                set(ips)
                    .iter()
                    .flat_map(|ips| ips.split(','))
                    .for_each(|ip| line("allowed_ip", Some(ip.to_owned())));
            }
            _ => panic!("{row:?}"),
        }
    }
    answers.values_mut().for_each(|answer| answer.push_str("errno=0\n\n"));
    answers
}

/// The private and preshared keys of a dump.
pub(crate) fn secrets(text: &str) -> Vec<&str> {
    rows(text).filter_map(|row| set(if row.len() == 5 { row[1] } else { row[2] })).collect()
}

/// A key in hexadecimal, as daemons give it.
pub(crate) fn hex(key: &str) -> String {
    let PublicKey(bytes) = key.parse().unwrap();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|line| line.split('\t').collect())
}

fn set(column: &str) -> Option<&str> {
    (!["(none)", "off"].contains(&column)).then_some(column)
}
