//! Who may ask this agent: its own host, its WireGuard subnets, and whom the settings name.

use std::net::IpAddr;

use proto::ids::Cidr;
use proto::report::{InterfaceKind, SystemData};

/// Shorter prefixes are the internet and not a mesh: `0.0.0.0/0`, but also the pair `0.0.0.0/1` and
/// `128.0.0.0/1` or `2000::/3` by which a tunnel takes all traffic. `10.0.0.0/8` and `fd00::/8` pass.
const SHORTEST: u8 = 8;

/// The prefixes that lie inside WireGuard: those of its interfaces, and the AllowedIPs of its peers.
#[must_use]
pub fn mesh_prefixes(system: &SystemData) -> Vec<Cidr> {
    let is_wireguard = |name: &str| system.wireguard.iter().any(|device| device.name == name);
    let interfaces = system.interfaces.iter();
    let own = interfaces
        .filter(|interface| interface.kind == InterfaceKind::WireGuard || is_wireguard(&interface.name))
        .flat_map(|interface| &interface.addresses);
    let peers = system.wireguard.iter().flat_map(|device| &device.peers);
    let allowed = peers.flat_map(|peer| &peer.allowed_ips);
    let mut prefixes: Vec<Cidr> =
        own.chain(allowed).copied().filter(|prefix| prefix.prefix() >= SHORTEST).collect();
    prefixes.sort_unstable();
    prefixes.dedup();
    prefixes
}

/// Whether the client at `ip`, who came to the address `local`, may ask. Who has the address that it
/// came to is this host itself.
#[must_use]
pub fn permits(ip: IpAddr, local: IpAddr, mesh: &[Cidr], allowed: &[Cidr]) -> bool {
    let (ip, local) = (ip.to_canonical(), local.to_canonical());
    let inside = |prefixes: &[Cidr]| prefixes.iter().any(|prefix| prefix.contains(ip));
    ip.is_loopback() || ip == local || inside(mesh) || inside(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::ids::PublicKey;
    use proto::report::{Interface, WireGuardDevice, WireGuardPeer};

    fn cidrs(list: &[&str]) -> Vec<Cidr> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn system(allowed_ips: &[&str]) -> SystemData {
        let interface = |name: &str, kind, address: &str| Interface {
            name: name.into(),
            kind,
            addresses: cidrs(&[address]),
            ..Interface::default()
        };
        let peer = WireGuardPeer {
            public_key: PublicKey([2; 32]),
            has_psk: false,
            endpoint: None,
            allowed_ips: cidrs(allowed_ips),
            handshake_at: None,
            handshake_age_s: None,
            rx_bytes: 0,
            tx_bytes: 0,
            keepalive_s: None,
            rtt_us: None,
        };
        SystemData {
            interfaces: vec![
                interface("eth0", InterfaceKind::Physical, "192.168.1.2/24"),
                interface("wg0", InterfaceKind::WireGuard, "10.9.0.1/24"),
                // A userspace WireGuard device looks like a tun device.
                interface("wg1", InterfaceKind::Tun, "fd00:9::1/64"),
            ],
            wireguard: vec![WireGuardDevice {
                name: "wg1".into(),
                peers: vec![peer],
                ..WireGuardDevice::default()
            }],
            ..SystemData::default()
        }
    }

    const LOCAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 1, 2));

    #[test]
    fn loopback_and_the_mesh_may_ask_and_others_may_not() {
        let mesh = mesh_prefixes(&system(&["10.8.0.2/32", "172.16.0.0/16"]));
        let may = |ip: &str| permits(ip.parse().unwrap(), LOCAL, &mesh, &[]);
        for ip in [
            "192.168.1.2",
            "127.0.0.1",
            "::1",
            "::ffff:127.0.0.1",
            "10.9.0.200",
            "fd00:9::5",
            "10.8.0.2",
            "172.16.9.9",
        ] {
            assert!(may(ip), "{ip}");
        }
        for ip in ["192.168.1.3", "10.8.0.3", "203.0.113.1", "fd00:8::1", "::ffff:192.168.1.3"] {
            assert!(!may(ip), "{ip}");
        }
    }

    #[test]
    fn a_tunnel_that_takes_all_traffic_does_not_open_the_agent_to_the_internet() {
        let mesh = mesh_prefixes(&system(&["0.0.0.0/0", "::/0", "0.0.0.0/1", "128.0.0.0/1", "2000::/3"]));
        assert_eq!(mesh, cidrs(&["10.9.0.1/24", "fd00:9::1/64"]));
    }

    #[test]
    fn the_settings_open_it_to_others() {
        let may = |ip: &str, allow: &[&str]| permits(ip.parse().unwrap(), LOCAL, &[], &cidrs(allow));
        assert!(may("192.168.1.3", &["192.168.0.0/16"]) && !may("192.169.1.3", &["192.168.0.0/16"]));
        assert!(may("203.0.113.1", &["0.0.0.0/0", "::/0"]) && may("2001:db8::1", &["0.0.0.0/0", "::/0"]));
        assert!(may("127.0.0.1", &[]) && !may("10.0.0.1", &[]));
    }
}
