//! `wg show all dump` (wireguard-tools src/show.c), where private and preshared keys end.
//!
//! ```text
//! device  private-key|(none)  public-key|(none)  listen-port  fwmark|off
//! device  public-key  psk|(none)  endpoint|(none)  allowed-ips|(none)  handshake  rx  tx  keepalive|off
//! ```
//!
//! Columns are parted by tabs; a column may be empty, and tools that build on `wg` append columns
//! of their own. So the two shapes are told apart by the fourth column, which is a number on a
//! device's line and an endpoint on a peer's. Column 2 of a device and column 3 of a peer are
//! secrets: the first is never looked at, the second only to see whether there is one.

use std::net::IpAddr;
use std::str::FromStr;

use proto::ids::Cidr;
use proto::report::{WireGuardDevice, WireGuardPeer};

use super::{BadField, ParseError, interface_name};

/// What `wg` tells, without secrets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dump {
    /// Devices by name, each with its peers by public key: `wg` gives them in an order that
    /// userspace implementations change from call to call.
    pub devices: Vec<WireGuardDevice>,
    /// Lines that could not be read.
    pub errors: Vec<ParseError>,
}

/// Columns of a device's line.
const DEVICE_COLUMNS: usize = 5;
/// Columns of a peer's line.
const PEER_COLUMNS: usize = 9;

/// Reads the output of `wg show all dump`. `handshake_age_s` is left open: it needs a clock.
#[must_use]
pub fn parse(text: &str) -> Dump {
    let mut dump = Dump::default();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
        if let Err(bad) = read_line(line, &mut dump.devices) {
            dump.errors.push(ParseError::new(index + 1, bad));
        }
    }
    dump.devices.sort_by(|a, b| a.name.cmp(&b.name));
    for device in &mut dump.devices {
        device.peers.sort_by_key(|peer| peer.public_key);
    }
    dump
}

fn read_line(line: &str, devices: &mut Vec<WireGuardDevice>) -> Result<(), BadField> {
    let columns = Columns(line);
    let name = columns.read(1, "device name", interface_name)?;
    if is_device(&columns) {
        let public_key = columns.option(3, "public key", "(none)", parsed)?;
        let listen_port = columns.option(4, "listen port", "(none)", parsed)?.unwrap_or(0);
        let fwmark = columns.option(5, "firewall mark", "off", mark)?;
        let device = device_named(devices, name);
        *device = WireGuardDevice { public_key, listen_port, fwmark, ..std::mem::take(device) };
    } else {
        let peer = read_peer(&columns)?;
        device_named(devices, name).peers.push(peer);
    }
    Ok(())
}

fn is_device(columns: &Columns<'_>) -> bool {
    match columns.get(4) {
        Some("") => columns.get(PEER_COLUMNS).is_none() && columns.get(DEVICE_COLUMNS).is_some(),
        Some(text) => text.bytes().all(|b| b.is_ascii_digit()),
        None => columns.get(DEVICE_COLUMNS).is_some(),
    }
}

fn read_peer(columns: &Columns<'_>) -> Result<WireGuardPeer, BadField> {
    Ok(WireGuardPeer {
        public_key: columns.read(2, "public key", parsed)?,
        has_psk: columns.option(3, "preshared key", "(none)", |_| Some(()))?.is_some(),
        endpoint: columns.option(4, "endpoint", "(none)", endpoint)?,
        allowed_ips: columns.option(5, "list of allowed IPs", "(none)", prefixes)?.unwrap_or_default(),
        handshake_at: columns.option(6, "handshake time", "0", parsed)?.filter(|seconds: &i64| *seconds > 0),
        handshake_age_s: None,
        rx_bytes: columns.read(7, "number of bytes received", parsed)?,
        tx_bytes: columns.read(8, "number of bytes sent", parsed)?,
        keepalive_s: columns.option(9, "keepalive interval", "off", parsed)?.filter(|seconds| *seconds > 0),
        rtt_us: None,
    })
}

/// The device of that name; made when its own line has not come (yet).
fn device_named<'a>(devices: &'a mut Vec<WireGuardDevice>, name: &str) -> &'a mut WireGuardDevice {
    let index = devices.iter().position(|device| device.name == name).unwrap_or_else(|| {
        devices.push(WireGuardDevice { name: name.to_owned(), ..WireGuardDevice::default() });
        devices.len() - 1
    });
    &mut devices[index]
}

/// A line's columns, counted from 1.
struct Columns<'a>(&'a str);

impl<'a> Columns<'a> {
    fn get(&self, column: usize) -> Option<&'a str> {
        self.0.split('\t').nth(column - 1)
    }

    /// A column that must be there.
    fn read<T>(
        &self,
        column: usize,
        field: &'static str,
        read: impl FnOnce(&'a str) -> Option<T>,
    ) -> Result<T, BadField> {
        self.get(column).and_then(read).ok_or(BadField { column, field })
    }

    /// A column that must be there and may be empty or say `none`.
    fn option<T>(
        &self,
        column: usize,
        field: &'static str,
        none: &str,
        read: impl FnOnce(&'a str) -> Option<T>,
    ) -> Result<Option<T>, BadField> {
        match self.get(column) {
            Some(text) if text.is_empty() || text == none => Ok(None),
            Some(text) => read(text).map(Some).ok_or(BadField { column, field }),
            None => Err(BadField { column, field }),
        }
    }
}

fn parsed<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

/// `0xca6c`, or in decimal as older versions print it; 0 is off.
fn mark(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// `ADDRESS:PORT`, where IPv6 stands in brackets and may have a zone: `[fe80::1%eth0]:51820`.
fn endpoint(text: &str) -> Option<String> {
    let (host, port) = text.rsplit_once(':')?;
    port.parse::<u16>().ok()?;
    let address = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?,
        None => host,
    };
    let (address, zone) = address.split_once('%').unwrap_or((address, "-"));
    let is_v6 = address.parse::<IpAddr>().ok()?.is_ipv6();
    (is_v6 == host.starts_with('[') && interface_name(zone).is_some()).then(|| text.to_owned())
}

fn prefixes(text: &str) -> Option<Vec<Cidr>> {
    text.split(',').map(|prefix| prefix.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // Keys made for this test.
    const PRIVATE: &str = "IFU48J3mS9epjc+HwSZ52wKUVyWZ+riqvk4yaegdjFs=";
    const PSK: &str = "YycjaiiP5kc9kE430S+slYoO3oq4ErxeBeT+OZalbP8=";
    const DEVICE: &str = "kQ2ydY0+sM0PDEaUBh+iid9YZGXd2CmCkLM2LvuvoUg=";
    const PEER_A: &str = "EUI3LO/Y2kxehrOXWSCddbYQ9FEz3posvCZ0BP1eDiI=";
    const PEER_B: &str = "t37RvB314AonAHWz4SDmTDMzrTjKHK7TZK1fi1IelnI=";

    fn columns(parts: &[&str]) -> String {
        parts.join("\t")
    }

    #[test]
    fn devices_and_peers_without_secrets() {
        let text = [
            columns(&["wg0", PEER_B, "(none)", "[fe80::1%eth0]:51820", "(none)", "0", "0", "0", "off"]),
            columns(&["wg0", PRIVATE, DEVICE, "51820", "0xca6c"]),
            columns(&[
                "wg0",
                PEER_A,
                PSK,
                "192.0.2.20:51820",
                "10.20.0.2/32,fd20::2/128",
                "1700000000",
                "92",
                "180",
                "25",
            ]),
            columns(&["wg1", "(none)", "(none)", "0", "off"]),
        ]
        .join("\n");
        let dump = parse(&text);
        assert_eq!(dump.errors, []);
        let [wg0, wg1] = dump.devices.as_slice() else { panic!("{dump:?}") };
        assert_eq!((wg0.name.as_str(), wg0.listen_port, wg0.fwmark), ("wg0", 51820, Some(0xca6c)));
        assert_eq!(wg0.public_key.unwrap().to_string(), DEVICE);
        assert_eq!((wg1.public_key, wg1.listen_port, wg1.fwmark), (None, 0, None));
        let [a, b] = wg0.peers.as_slice() else { panic!("{dump:?}") };
        assert_eq!((a.public_key.to_string().as_str(), a.has_psk), (PEER_A, true));
        assert_eq!((a.handshake_at, a.rx_bytes, a.tx_bytes), (Some(1_700_000_000), 92, 180));
        assert_eq!((a.keepalive_s, a.allowed_ips.len()), (Some(25), 2));
        assert_eq!((b.has_psk, b.endpoint.as_deref()), (false, Some("[fe80::1%eth0]:51820")));
        assert_eq!((b.handshake_at, b.keepalive_s, b.allowed_ips.len()), (None, None, 0));
        let shown = format!("{dump:?}{}", serde_json::to_string(&dump.devices).unwrap());
        assert!(!shown.contains(PRIVATE) && !shown.contains(PSK), "{shown}");
    }

    #[test]
    fn empty_and_further_columns_are_fine() {
        let text = [
            columns(&["wg0", "", "", "", ""]),
            columns(&["wg0", PEER_A, "", "", "", "", "1", "2", "", "of another tool", ""]),
            columns(&["awg0", PRIVATE, DEVICE, "1", "off", "4", "40", "70", "0", "0", "1"]),
        ]
        .join("\n");
        let dump = parse(&text);
        assert_eq!(dump.errors, []);
        assert_eq!(dump.devices.iter().map(|d| d.peers.len()).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(dump.devices[1].peers[0].tx_bytes, 2);
    }

    #[test]
    fn errors_name_line_and_column_and_no_content() {
        let cases = [
            (columns(&["wg0"]), 2),
            (columns(&["wg/0", PRIVATE, DEVICE, "1", "off"]), 1),
            (columns(&["wg0", PRIVATE, PSK, "70000", "off"]), 4),
            (columns(&["wg0", PRIVATE, &DEVICE[1..], "1", "off"]), 3),
            (columns(&["wg0", PRIVATE, DEVICE, "1", "0xzz"]), 5),
            (columns(&["wg0", PRIVATE, DEVICE, "1"]), 5),
            (columns(&["wg0", "short", PSK, "(none)", "(none)", "0", "0", "0", "off"]), 2),
            (columns(&["wg0", PEER_A, PSK, "fe80::1:51820", "(none)", "0", "0", "0", "off"]), 4),
            (columns(&["wg0", PEER_A, PSK, "192.0.2.1", "(none)", "0", "0", "0", "off"]), 4),
            (columns(&["wg0", PEER_A, PSK, "(none)", "10.0.0.0/33", "0", "0", "0", "off"]), 5),
            (columns(&["wg0", PEER_A, PSK, "(none)", "(none)", "never", "0", "0", "off"]), 6),
            (columns(&["wg0", PEER_A, PSK, "(none)", "(none)", "0", "-1", "0", "off"]), 7),
            (columns(&["wg0", PEER_A, PSK, "(none)", "(none)", "0", "0", "0"]), 9),
        ];
        for (line, column) in cases {
            let dump = parse(&format!("wg1\t(none)\t(none)\t0\toff\n{line}\n"));
            assert_eq!(dump.devices.len(), 1, "{line}");
            let [error] = dump.errors.as_slice() else { panic!("{line}") };
            assert_eq!((error.line, error.column), (2, column), "{line}");
            let shown = format!("{dump:?} {error}");
            assert!(!shown.contains(PRIVATE) && !shown.contains(PSK), "{shown}");
        }
    }
}
