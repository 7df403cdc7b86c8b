//! What the control socket of a userspace WireGuard answers to `get=1`: lines `NAME=VALUE`, first the
//! device's, then each peer's from its `public_key` on, at last `errno`
//! (<https://www.wireguard.com/xplatform/>).
//!
//! Keys are in hexadecimal. The private key goes to a function that makes the public one of it, and
//! no further; a preshared key is only looked at to see whether there is one.

use std::net::IpAddr;
use std::str::FromStr;

use proto::ids::PublicKey;
use proto::report::{WireGuardDevice, WireGuardPeer};

use super::{BadField, ParseError, interface_name};

/// What is asked.
pub const GET: &[u8] = b"get=1\n\n";

/// An answer, line by line.
#[derive(Debug, Default)]
pub struct Answer {
    /// What has been told; peers are in the daemon's order.
    pub device: WireGuardDevice,
    /// The first line that could not be read, and how many there were. A peer's whole section goes
    /// with it, and a device's line alone.
    pub bad: Option<ParseError>,
    /// Lines that could not be read.
    pub bad_lines: usize,
    /// How the daemon ended its answer: 0 is well. `None` until then.
    pub errno: Option<i32>,
    lines: usize,
    /// The peer of these lines was dropped.
    is_skipping: bool,
}

impl Answer {
    /// Takes the next line, without its end. `public_key` makes a public key of a private one.
    pub fn line(&mut self, line: &str, public_key: &mut dyn FnMut(&[u8; 32]) -> PublicKey) {
        self.lines += 1;
        if let Err(field) = self.read(line, public_key) {
            self.bad_lines += 1;
            let lines = self.lines;
            self.bad.get_or_insert_with(|| ParseError::new(lines, BadField { column: 2, field }));
        }
    }

    fn read(
        &mut self,
        line: &str,
        public_key: &mut dyn FnMut(&[u8; 32]) -> PublicKey,
    ) -> Result<(), &'static str> {
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        match name {
            "errno" => self.errno = Some(parsed(value, "errno")?),
            "public_key" => {
                self.is_skipping = true;
                let key = PublicKey(key(value).ok_or("peer's public key")?);
                self.device.peers.push(WireGuardPeer::new(key));
                self.is_skipping = false;
            }
            _ if self.is_skipping => {}
            _ => match self.device.peers.last_mut() {
                Some(peer) => {
                    let read = of_peer(peer, name, value);
                    if read.is_err() {
                        self.device.peers.pop();
                        self.is_skipping = true;
                    }
                    read?;
                }
                None => of_device(&mut self.device, name, value, public_key)?,
            },
        }
        Ok(())
    }
}

fn of_device(
    device: &mut WireGuardDevice,
    name: &str,
    value: &str,
    public_key: &mut dyn FnMut(&[u8; 32]) -> PublicKey,
) -> Result<(), &'static str> {
    match name {
        "private_key" => {
            let private = key(value).ok_or("private key")?;
            device.public_key = is_set(&private).then(|| public_key(&private));
        }
        "listen_port" => device.listen_port = parsed(value, "listen port")?,
        "fwmark" => device.fwmark = Some(parsed(value, "firewall mark")?).filter(|mark| *mark != 0),
        _ => {}
    }
    Ok(())
}

fn of_peer(peer: &mut WireGuardPeer, name: &str, value: &str) -> Result<(), &'static str> {
    match name {
        "preshared_key" => peer.has_psk = is_set(&key(value).ok_or("preshared key")?),
        "endpoint" => peer.endpoint = Some(endpoint(value).ok_or("endpoint")?),
        "persistent_keepalive_interval" => {
            peer.keepalive_s = Some(parsed(value, "keepalive interval")?).filter(|seconds| *seconds > 0);
        }
        "allowed_ip" => peer.allowed_ips.push(parsed(value, "allowed IP")?),
        "rx_bytes" => peer.rx_bytes = parsed(value, "number of bytes received")?,
        "tx_bytes" => peer.tx_bytes = parsed(value, "number of bytes sent")?,
        "last_handshake_time_sec" => {
            peer.handshake_at = Some(parsed(value, "handshake time")?).filter(|seconds| *seconds > 0);
        }
        _ => {}
    }
    Ok(())
}

fn parsed<T: FromStr>(value: &str, field: &'static str) -> Result<T, &'static str> {
    value.parse().map_err(|_| field)
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

/// A key of 64 hexadecimal digits.
fn key(value: &str) -> Option<[u8; 32]> {
    let mut key = [0; 32];
    if value.len() != 64 {
        return None;
    }
    for (byte, digits) in key.iter_mut().zip(value.as_bytes().chunks_exact(2)) {
        let digit = |at: usize| char::from(digits[at]).to_digit(16);
        *byte = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
    }
    Some(key)
}

/// All zeros is no key.
fn is_set(key: &[u8; 32]) -> bool {
    key.iter().any(|byte| *byte != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::x25519;

    fn read(text: &str) -> Answer {
        let mut answer = Answer::default();
        text.lines().for_each(|line| answer.line(line, &mut x25519::public_key));
        answer
    }

    fn hex(byte: u8) -> String {
        format!("{byte:02x}").repeat(32)
    }

    #[test]
    fn devices_and_peers_without_secrets() {
        // The private key of RFC 7748.
        let private = "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a";
        let text = format!(
            "private_key={private}\nlisten_port=51820\nfwmark=51820\npublic_key={}\npreshared_key={}\n\
             protocol_version=1\nendpoint=[fe80::1%eth0]:51820\nlast_handshake_time_sec=1700000000\n\
             last_handshake_time_nsec=5\ntx_bytes=180\nrx_bytes=92\npersistent_keepalive_interval=25\n\
             allowed_ip=10.20.0.2/32\nallowed_ip=fd20::2/128\npublic_key={}\npreshared_key={}\n\
             last_handshake_time_sec=0\nlast_handshake_time_nsec=0\ntx_bytes=0\nrx_bytes=0\n\
             persistent_keepalive_interval=0\nerrno=0\n\n",
            hex(0xb1),
            hex(0x5e),
            hex(0xa2),
            hex(0),
        );
        let answer = read(&text);
        assert_eq!((answer.bad, answer.errno), (None, Some(0)));
        let device = &answer.device;
        assert_eq!((device.listen_port, device.fwmark), (51820, Some(51820)));
        assert_eq!(device.public_key.unwrap().0[..4], [0x85, 0x20, 0xf0, 0x09]);
        let [b, a] = device.peers.as_slice() else { panic!("{answer:?}") };
        assert_eq!((b.public_key, b.has_psk), (PublicKey([0xb1; 32]), true));
        assert_eq!(b.endpoint.as_deref(), Some("[fe80::1%eth0]:51820"));
        assert_eq!((b.handshake_at, b.rx_bytes, b.tx_bytes), (Some(1_700_000_000), 92, 180));
        assert_eq!((b.keepalive_s, b.allowed_ips.len()), (Some(25), 2));
        let bare = WireGuardPeer::new(PublicKey([0xa2; 32]));
        assert_eq!(*a, bare);
        let shown = format!("{answer:?}");
        assert!(!shown.contains(private) && !shown.contains(&hex(0x5e)), "{shown}");
    }

    #[test]
    fn a_device_without_a_key_has_none() {
        for text in ["listen_port=0\nerrno=0\n", &format!("private_key={}\nerrno=0\n", hex(0))] {
            assert_eq!((read(text).device, read(text).errno), (WireGuardDevice::default(), Some(0)));
        }
        assert_eq!(read("errno=-13\n").errno, Some(-13));
    }

    #[test]
    fn a_peer_that_cannot_be_read_is_left_out_whole() {
        for (line, field) in [
            ("endpoint=fe80::1:51820", "endpoint"),
            ("preshared_key=5e5e", "preshared key"),
            ("allowed_ip=10.0.0.0/33", "allowed IP"),
            ("rx_bytes=-1", "number of bytes received"),
            ("last_handshake_time_sec=never", "handshake time"),
            ("persistent_keepalive_interval=70000", "keepalive interval"),
        ] {
            let [one, two] = [hex(1), hex(2)];
            let text = format!(
                "listen_port=1\npublic_key={one}\n{line}\nallowed_ip=10.0.0.1/32\npublic_key={two}\n{line}"
            );
            let answer = read(&text.replace(&format!("{two}\n{line}"), &two));
            assert_eq!(answer.device.peers, [WireGuardPeer::new(PublicKey([2; 32]))], "{line}");
            let error = answer.bad.unwrap();
            assert_eq!((error.line, error.field, answer.bad_lines), (3, field, 1));
            assert!(!format!("{error}").contains("5e5e"));
            assert!(read(&text).device.peers.is_empty() && read(&text).bad_lines == 2);
        }
        let unnamed = read("public_key=zz\nallowed_ip=10.0.0.1/32\nlisten_port=5\nerrno=0");
        assert_eq!((unnamed.device, unnamed.bad_lines), (WireGuardDevice::default(), 1));
        let bad_device = read(&format!("listen_port=x\nfwmark=5\npublic_key={}\n", hex(1)));
        assert_eq!((bad_device.device.peers.len(), bad_device.bad_lines), (1, 1));
    }
}
