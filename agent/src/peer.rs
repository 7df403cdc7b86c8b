//! What an agent tells other agents of itself, at GET /status/peer.

use std::net::IpAddr;

use proto::ids::{AgentId, BootId, Cidr, PublicKey};
use proto::report::{InterfaceKind, RouteKind, SystemData, TABLE_MAIN};
use serde::{Deserialize, Serialize};

/// Interfaces, addresses of one, and routes that neighbours are told of: with the longest addresses
/// the whole stays below [`proto::limits::ANSWER_MAX`].
const INTERFACES: usize = 64;
const ADDRESSES: usize = 8;
const ROUTES: usize = 128;

/// An agent as its neighbours see it. Unknown fields are ignored and absent ones take their default,
/// so that agents of different versions understand each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Who it is.
    pub agent: AgentId,
    /// Which start of it.
    pub boot: BootId,
    /// Version of its program.
    #[serde(default)]
    pub version: String,
    /// Seconds since it started.
    #[serde(default)]
    pub uptime_s: u64,
    /// How well it reaches the manager.
    #[serde(flatten)]
    pub reach: Reach,
    /// Its host.
    #[serde(flatten)]
    pub host: Host,
}

/// What one agent wants to know of another: a part of [`Peer`], cheap to read.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Brief {
    /// Who it is.
    pub agent: AgentId,
    /// Version of its program.
    #[serde(default)]
    pub version: String,
    /// Its host's name.
    #[serde(default)]
    pub hostname: String,
    /// Relays between it and the manager; `None` when it cannot reach it.
    #[serde(default)]
    pub distance: Option<u32>,
    /// The first of those relays.
    #[serde(default)]
    pub via: Option<AgentId>,
}

/// How well an agent reaches the manager.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reach {
    /// Relays between it and the manager: 0 is direct; `None` when it cannot reach the manager, as
    /// far as it knows.
    pub distance: Option<u32>,
    /// The first of those relays.
    pub via: Option<AgentId>,
    /// Seconds since its last success.
    pub last_success_age_s: Option<u64>,
    /// Why its last report was not delivered; `None` when it was.
    pub last_error: Option<String>,
}

/// What a neighbour needs to know of a host to send through it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Host {
    /// Its name: a label, not an identity.
    pub hostname: String,
    /// Its interfaces that have addresses.
    pub interfaces: Vec<PeerInterface>,
    /// Its routes of the main table.
    pub routes: Vec<PeerRoute>,
    /// Its WireGuard devices.
    pub wireguard: Vec<PeerDevice>,
}

/// An interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PeerInterface {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: InterfaceKind,
    /// Its operational state.
    pub operstate: String,
    /// Its addresses with their prefix lengths.
    pub addresses: Vec<Cidr>,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerRoute {
    /// Where to.
    pub destination: Cidr,
    /// Next hop; `None` where the destination is on the link.
    #[serde(default)]
    pub gateway: Option<IpAddr>,
    /// Interface that it leaves by.
    #[serde(default)]
    pub interface: Option<String>,
    /// The lower one of two for the same destination wins.
    #[serde(default)]
    pub metric: u32,
}

/// A WireGuard device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PeerDevice {
    /// Its interface's name.
    pub name: String,
    /// Its public key; `None` while it has none.
    pub public_key: Option<PublicKey>,
}

impl Host {
    /// The part of a host's state that its neighbours need.
    #[must_use]
    pub fn of(system: &SystemData) -> Self {
        let interface = |interface: &proto::report::Interface| PeerInterface {
            name: interface.name.clone(),
            kind: interface.kind,
            operstate: interface.operstate.clone(),
            addresses: interface.addresses.iter().take(ADDRESSES).copied().collect(),
        };
        let addressed = |interface: &&proto::report::Interface| !interface.addresses.is_empty();
        let route = |route: &proto::report::Route| PeerRoute {
            destination: route.destination,
            gateway: route.gateway,
            interface: route.interface.clone(),
            metric: route.metric,
        };
        let usable =
            |route: &&proto::report::Route| route.table == TABLE_MAIN && route.kind == RouteKind::Unicast;
        let device = |device: &proto::report::WireGuardDevice| PeerDevice {
            name: device.name.clone(),
            public_key: device.public_key,
        };
        Self {
            hostname: system.hostname.clone(),
            interfaces: system.interfaces.iter().filter(addressed).take(INTERFACES).map(interface).collect(),
            routes: system.routes.iter().filter(usable).take(ROUTES).map(route).collect(),
            wireguard: system.wireguard.iter().map(device).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::report::{Interface, Route, WireGuardDevice, WireGuardPeer};

    #[test]
    fn neighbours_get_addresses_routes_and_public_keys() {
        let route = |destination: &str, table, kind| Route {
            destination: destination.parse().unwrap(),
            gateway: None,
            interface: Some("wg0".into()),
            metric: 0,
            source: None,
            table,
            kind,
        };
        let peer = WireGuardPeer {
            public_key: PublicKey([2; 32]),
            has_psk: true,
            endpoint: None,
            allowed_ips: vec!["10.9.0.2/32".parse().unwrap()],
            handshake_at: None,
            handshake_age_s: None,
            rx_bytes: 0,
            tx_bytes: 0,
            keepalive_s: None,
            rtt_us: None,
        };
        let system = SystemData {
            hostname: "hub".into(),
            interfaces: vec![Interface {
                name: "wg0".into(),
                kind: InterfaceKind::WireGuard,
                addresses: vec!["10.9.0.1/24".parse().unwrap()],
                ..Interface::default()
            }],
            routes: vec![
                route("10.9.0.0/24", TABLE_MAIN, RouteKind::Unicast),
                route("10.8.0.0/24", 51820, RouteKind::Unicast),
                route("10.7.0.0/24", TABLE_MAIN, RouteKind::Blackhole),
            ],
            wireguard: vec![WireGuardDevice {
                name: "wg0".into(),
                public_key: Some(PublicKey([1; 32])),
                peers: vec![peer],
                ..WireGuardDevice::default()
            }],
            ..SystemData::default()
        };
        let host = Host::of(&system);
        assert_eq!(host.routes.len(), 1);
        let peer = Peer {
            agent: AgentId([1; 16]),
            boot: BootId([2; 16]),
            version: "1".into(),
            uptime_s: 3,
            reach: Reach { distance: Some(0), ..Reach::default() },
            host,
        };
        let json = serde_json::to_string(&peer).unwrap();
        assert!(json.contains(r#""distance":0"#) && json.contains("10.9.0.1/24"), "{json}");
        assert!(!json.contains(&PublicKey([2; 32]).to_string()), "a peer's key is not this host's: {json}");
        assert_eq!(serde_json::from_str::<Peer>(&json).unwrap(), peer);
        let brief: Brief = serde_json::from_str(&json).unwrap();
        assert_eq!((brief.agent, brief.hostname.as_str(), brief.distance), (peer.agent, "hub", Some(0)));
    }

    #[test]
    fn the_largest_answer_is_not_too_large() {
        let longest = "2001:db8:1111:2222:3333:4444:5555:6666";
        let cidr = format!("{longest}/128").parse().unwrap();
        let interface = Interface {
            name: "wireguard-00001".into(),
            kind: InterfaceKind::WireGuard,
            operstate: "lowerlayerdown".into(),
            addresses: vec![cidr; 32],
            ..Interface::default()
        };
        let route = Route {
            destination: cidr,
            gateway: Some(longest.parse().unwrap()),
            interface: Some("wireguard-00001".into()),
            metric: u32::MAX,
            source: None,
            table: TABLE_MAIN,
            kind: RouteKind::Unicast,
        };
        let device = WireGuardDevice {
            name: "wireguard-00001".into(),
            public_key: Some(PublicKey([255; 32])),
            ..WireGuardDevice::default()
        };
        let system = SystemData {
            hostname: "h".repeat(64),
            interfaces: vec![interface; 256],
            routes: vec![route; 256],
            wireguard: vec![device; proto::limits::DEVICES_MAX],
            ..SystemData::default()
        };
        let len = serde_json::to_vec(&Host::of(&system)).unwrap().len();
        assert!(len + 2048 <= proto::limits::ANSWER_MAX, "{len}");
    }

    #[test]
    fn agents_of_other_versions_are_understood() {
        let (agent, boot) = (AgentId([1; 16]), BootId([2; 16]));
        let json = format!(r#"{{"agent":"{agent}","boot":"{boot}","distance":null,"new":[1]}}"#);
        let peer: Peer = serde_json::from_str(&json).unwrap();
        assert_eq!((peer.agent, peer.reach, peer.host), (agent, Reach::default(), Host::default()));
    }
}
