//! WG_CMD_GET_DEVICE: a WireGuard device of the kernel with its peers.
//!
//! The kernel spreads a device over as many messages as it takes: the first has the device's own
//! attributes, each has a row of peers, and a peer whose AllowedIPs do not fit goes on in the next
//! message, under its public key alone. Private keys are never looked at, preshared keys only to see
//! whether there is one.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use proto::ids::{Cidr, PublicKey};
use proto::report::{WireGuardDevice, WireGuardPeer};

use super::{
    Attributes, BadMessage, INET, INET6, ip_of, long_number, name, number, port, take, u8_at, u16_at, u32_at,
};

pub use super::family::HEADER;

/// WG_GENL_NAME (linux/wireguard.h) with its closing zero byte.
pub const FAMILY: &[u8] = b"wireguard\0";
/// The start of a question: WG_CMD_GET_DEVICE, version 1.
pub const GET: [u8; HEADER] = [0, 1, 0, 0];
/// WGDEVICE_A_IFINDEX (linux/wireguard.h), of the device that is asked for.
pub const INDEX: u16 = 1;

const WGDEVICE_A_IFNAME: u16 = 2;
const WGDEVICE_A_PUBLIC_KEY: u16 = 4;
const WGDEVICE_A_LISTEN_PORT: u16 = 6;
const WGDEVICE_A_FWMARK: u16 = 7;
const WGDEVICE_A_PEERS: u16 = 8;

const WGPEER_A_PUBLIC_KEY: u16 = 1;
const WGPEER_A_PRESHARED_KEY: u16 = 2;
const WGPEER_A_ENDPOINT: u16 = 4;
const WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL: u16 = 5;
const WGPEER_A_LAST_HANDSHAKE_TIME: u16 = 6;
const WGPEER_A_RX_BYTES: u16 = 7;
const WGPEER_A_TX_BYTES: u16 = 8;
const WGPEER_A_ALLOWEDIPS: u16 = 9;

const WGALLOWEDIP_A_FAMILY: u16 = 1;
const WGALLOWEDIP_A_IPADDR: u16 = 2;
const WGALLOWEDIP_A_CIDR_MASK: u16 = 3;

/// Adds what a message tells to `device`; peers are in the kernel's order. An endpoint's zone is a
/// number (`[fe80::1%2]:51820`).
///
/// # Errors
/// What is missing or malformed; what came before it has been added.
pub fn row(body: &[u8], device: &mut WireGuardDevice) -> Result<(), BadMessage> {
    for attribute in Attributes::after(body, HEADER) {
        match attribute? {
            (WGDEVICE_A_IFNAME, value) => device.name = take(value, "device name", name)?,
            (WGDEVICE_A_PUBLIC_KEY, value) => device.public_key = Some(take(value, "public key", key)?),
            (WGDEVICE_A_LISTEN_PORT, value) => {
                device.listen_port = take(value, "listen port", |value| u16_at(value, 0))?;
            }
            (WGDEVICE_A_FWMARK, value) => {
                device.fwmark = Some(take(value, "firewall mark", number)?).filter(|mark| *mark != 0);
            }
            (WGDEVICE_A_PEERS, value) => {
                for attribute in Attributes::new(value) {
                    add(peer(attribute?.1)?, &mut device.peers);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Adds a peer, or what is left of the last one.
fn add(peer: WireGuardPeer, peers: &mut Vec<WireGuardPeer>) {
    match peers.last_mut() {
        Some(last) if last.public_key == peer.public_key => last.allowed_ips.extend(peer.allowed_ips),
        _ => peers.push(peer),
    }
}

fn peer(bytes: &[u8]) -> Result<WireGuardPeer, BadMessage> {
    let (mut peer, mut is_named) = (WireGuardPeer::new(PublicKey([0; 32])), false);
    for attribute in Attributes::new(bytes) {
        match attribute? {
            (WGPEER_A_PUBLIC_KEY, value) => {
                peer.public_key = take(value, "peer's public key", key)?;
                is_named = true;
            }
            // All zeros is none.
            (WGPEER_A_PRESHARED_KEY, value) => peer.has_psk = value.iter().any(|byte| *byte != 0),
            (WGPEER_A_ENDPOINT, value) => {
                peer.endpoint = Some(take(value, "endpoint", endpoint)?.to_string());
            }
            (WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL, value) => {
                let seconds = take(value, "keepalive interval", |value| u16_at(value, 0))?;
                peer.keepalive_s = Some(seconds).filter(|seconds| *seconds > 0);
            }
            // Seconds and nanoseconds, of eight bytes each (`struct __kernel_timespec`).
            (WGPEER_A_LAST_HANDSHAKE_TIME, value) => {
                let at = take(value, "handshake time", |value| long_number(value.get(..8)?))?;
                peer.handshake_at = Some(at.cast_signed()).filter(|seconds| *seconds > 0);
            }
            (WGPEER_A_RX_BYTES, value) => {
                peer.rx_bytes = take(value, "number of bytes received", long_number)?;
            }
            (WGPEER_A_TX_BYTES, value) => peer.tx_bytes = take(value, "number of bytes sent", long_number)?,
            (WGPEER_A_ALLOWEDIPS, value) => {
                for attribute in Attributes::new(value) {
                    peer.allowed_ips.push(allowed_ip(attribute?.1)?);
                }
            }
            _ => {}
        }
    }
    if is_named { Ok(peer) } else { Err(BadMessage { field: "peer's public key" }) }
}

fn key(value: &[u8]) -> Option<PublicKey> {
    value.try_into().ok().map(PublicKey)
}

/// `struct sockaddr_in` or `sockaddr_in6` (linux/in.h, linux/in6.h).
fn endpoint(value: &[u8]) -> Option<SocketAddr> {
    let port = port(value.get(2..4)?)?;
    match (u16_at(value, 0)?.try_into().ok()?, value.len()) {
        (INET, 8..) => Some(SocketAddr::new(ip_of(INET, &value[4..8])?, port)),
        (INET6, 28..) => match ip_of(INET6, &value[8..24])? {
            IpAddr::V6(ip) => Some(SocketAddrV6::new(ip, port, 0, u32_at(value, 24)?).into()),
            IpAddr::V4(_) => None,
        },
        _ => None,
    }
}

fn allowed_ip(bytes: &[u8]) -> Result<Cidr, BadMessage> {
    let (mut family, mut address, mut prefix) = (None, None, None);
    for attribute in Attributes::new(bytes) {
        match attribute? {
            (WGALLOWEDIP_A_FAMILY, value) => family = u16_at(value, 0).and_then(|n| u8::try_from(n).ok()),
            (WGALLOWEDIP_A_IPADDR, value) => address = Some(value),
            (WGALLOWEDIP_A_CIDR_MASK, value) => prefix = u8_at(value, 0),
            _ => {}
        }
    }
    let ip = family.zip(address).and_then(|(family, address)| ip_of(family, address));
    ip.zip(prefix).and_then(|(ip, prefix)| Cidr::new(ip, prefix)).ok_or(BadMessage { field: "allowed IP" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::netlink::request_attribute as encode;

    /// A row of attributes in an attribute.
    fn nest(kind: u16, inside: &[Vec<u8>]) -> Vec<u8> {
        encode(kind, &inside.concat())
    }

    fn read(messages: &[&[Vec<u8>]]) -> Result<WireGuardDevice, BadMessage> {
        let mut device = WireGuardDevice::default();
        for attributes in messages {
            row(&[GET.to_vec(), attributes.concat()].concat(), &mut device)?;
        }
        Ok(device)
    }

    fn peers(peers: &[Vec<u8>]) -> Vec<u8> {
        nest(WGDEVICE_A_PEERS, peers)
    }

    fn allowed(ip: &[u8], prefix: u8) -> Vec<u8> {
        let family = u16::from(if ip.len() == 4 { INET } else { INET6 });
        nest(
            0,
            &[
                encode(WGALLOWEDIP_A_CIDR_MASK, &[prefix]),
                encode(WGALLOWEDIP_A_FAMILY, &family.to_ne_bytes()),
                encode(WGALLOWEDIP_A_IPADDR, ip),
            ],
        )
    }

    fn peer_of(key: u8, rest: &[Vec<u8>]) -> Vec<u8> {
        nest(0, &[encode(WGPEER_A_PUBLIC_KEY, &[key; 32]), rest.concat()])
    }

    fn sockaddr6(scope: u32) -> Vec<u8> {
        let ip = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        [&10_u16.to_ne_bytes()[..], &51820_u16.to_be_bytes(), &[0; 4], &ip, &scope.to_ne_bytes()].concat()
    }

    // What kernels really give is in the fixtures; here is what must not be got wrong.
    #[test]
    fn a_peer_goes_on_in_the_next_message() {
        let ips = |rows: &[Vec<u8>]| nest(WGPEER_A_ALLOWEDIPS, rows);
        let first = [
            encode(WGDEVICE_A_IFNAME, b"wg0\0"),
            encode(3, &[7; 32]),
            encode(WGDEVICE_A_PUBLIC_KEY, &[8; 32]),
            encode(WGDEVICE_A_FWMARK, &0_u32.to_ne_bytes()),
            encode(WGDEVICE_A_LISTEN_PORT, &51820_u16.to_ne_bytes()),
            peers(&[
                peer_of(2, &[encode(WGPEER_A_PRESHARED_KEY, &[0; 32])]),
                peer_of(
                    1,
                    &[
                        encode(WGPEER_A_PRESHARED_KEY, &[9; 32]),
                        encode(WGPEER_A_ENDPOINT, &sockaddr6(4)),
                        encode(WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL, &25_u16.to_ne_bytes()),
                        encode(
                            WGPEER_A_LAST_HANDSHAKE_TIME,
                            &[1_700_000_000_u64.to_ne_bytes(), [1; 8]].concat(),
                        ),
                        encode(WGPEER_A_RX_BYTES, &92_u64.to_ne_bytes()),
                        encode(WGPEER_A_TX_BYTES, &180_u64.to_ne_bytes()),
                        ips(&[allowed(&[10, 0, 0, 1], 32)]),
                    ],
                ),
            ]),
        ];
        let second = [
            encode(WGDEVICE_A_IFNAME, b"wg0\0"),
            peers(&[
                peer_of(1, &[ips(&[allowed(&[0xfd; 16], 128), allowed(&[10, 9, 0, 0], 16)])]),
                peer_of(3, &[]),
            ]),
        ];
        let device = read(&[&first, &second]).unwrap();
        assert_eq!((device.name.as_str(), device.listen_port, device.fwmark), ("wg0", 51820, None));
        assert_eq!(device.public_key, Some(PublicKey([8; 32])));
        let [two, one, three] = device.peers.as_slice() else { panic!("{device:?}") };
        assert_eq!([two.public_key.0[0], one.public_key.0[0], three.public_key.0[0]], [2, 1, 3]);
        assert_eq!([two.has_psk, one.has_psk, three.has_psk], [false, true, false]);
        assert_eq!(one.endpoint.as_deref(), Some("[fe80::1%4]:51820"));
        assert_eq!((one.keepalive_s, one.handshake_at), (Some(25), Some(1_700_000_000)));
        assert_eq!((one.rx_bytes, one.tx_bytes), (92, 180));
        let ips: Vec<String> = one.allowed_ips.iter().map(ToString::to_string).collect();
        let long = format!("{}/128", std::net::Ipv6Addr::from([0xfd; 16]));
        assert_eq!(ips, ["10.0.0.1/32", &long, "10.9.0.0/16"]);
        assert!(!format!("{device:?}").contains("[7, 7"), "the private key is not looked at");
    }

    #[test]
    fn zeros_are_off_never_and_none() {
        let device = read(&[&[peers(&[peer_of(
            1,
            &[
                encode(WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL, &[0; 2]),
                encode(WGPEER_A_LAST_HANDSHAKE_TIME, &[0; 16]),
                encode(
                    WGPEER_A_ENDPOINT,
                    &[&2_u16.to_ne_bytes()[..], &[0, 9, 192, 0, 2, 1], &[0; 8]].concat(),
                ),
            ],
        )])]])
        .unwrap();
        let peer = &device.peers[0];
        assert_eq!((peer.keepalive_s, peer.handshake_at), (None, None));
        assert_eq!(peer.endpoint.as_deref(), Some("192.0.2.1:9"));
        assert_eq!(device.public_key, None);
    }

    #[test]
    fn malformed_ones_are_named() {
        let field = |attribute: Vec<u8>| read(&[&[attribute]]).unwrap_err().field;
        let of_peer = |attribute: Vec<u8>| field(peers(&[peer_of(1, &[attribute])]));
        assert_eq!(field(encode(WGDEVICE_A_IFNAME, b"../x\0")), "device name");
        assert_eq!(field(encode(WGDEVICE_A_PUBLIC_KEY, &[1; 31])), "public key");
        assert_eq!(field(peers(&[nest(0, &[])])), "peer's public key");
        assert_eq!(of_peer(encode(WGPEER_A_ENDPOINT, &sockaddr6(0)[..24])), "endpoint");
        assert_eq!(of_peer(encode(WGPEER_A_ENDPOINT, &[9; 28])), "endpoint");
        assert_eq!(of_peer(encode(WGPEER_A_RX_BYTES, &[0; 4])), "number of bytes received");
        assert_eq!(of_peer(nest(WGPEER_A_ALLOWEDIPS, &[allowed(&[10, 0, 0, 0], 33)])), "allowed IP");
        assert_eq!(of_peer(nest(WGPEER_A_ALLOWEDIPS, &[nest(0, &[])])), "allowed IP");
    }
}
