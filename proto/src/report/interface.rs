//! Network interfaces in a report.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::ids::Cidr;

/// A network interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Interface {
    /// Its name, such as `eth0`.
    pub name: String,
    /// Its index in its network namespace.
    pub index: u32,
    /// What it is.
    pub kind: InterfaceKind,
    /// Index that `iflink` names where it is not the interface's own: a VLAN's parent, a veth's
    /// other end (whose index may belong to another namespace), the device that a tunnel is bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<u32>,
    /// Whether `link` is an index of another network namespace, where it says nothing of this
    /// host's interfaces; `None` without a `link`, or where it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_is_foreign: Option<bool>,
    /// The kind that its driver gives itself (`IFLA_INFO_KIND`, as `ip -d link` shows it): `vxlan`,
    /// `ip6gretap`, `team`. `None` for hardware, and where netlink was not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver_kind: Option<String>,
    /// The bridge, bond, team or VRF that it is a port of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master: Option<String>,
    /// Interfaces right below it (`lower_*` in /sys), such as a bridge's ports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lower: Vec<String>,
    /// Link-layer address in lowercase `aa:bb:cc:dd:ee:ff`; `None` where the kind has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Flags as in `/sys/class/net/*/flags`: IFF_UP is 1, IFF_RUNNING 0x40 (see netdevice(7)).
    pub flags: u32,
    /// RFC 2863 operational state as the kernel names it: `up`, `down`, `unknown`, ...
    pub operstate: String,
    /// Times that the carrier came or went.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub carrier_changes: Option<u64>,
    /// Link speed in Mbit/s, where the driver tells it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speed_mbps: Option<u32>,
    /// Parameters of a VLAN, a tunnel or a VRF.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<TunnelData>,
    /// Its addresses with their prefix lengths.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Cidr>,
    /// Traffic since the interface was made.
    pub counters: Counters,
}

/// Interface flag: administratively up (`IFF_UP`, linux/if.h).
pub const IFF_UP: u32 = 0x1;
/// Interface flag: loopback (`IFF_LOOPBACK`, linux/if.h).
pub const IFF_LOOPBACK: u32 = 0x8;
/// Interface flag: operational (`IFF_RUNNING`, linux/if.h).
pub const IFF_RUNNING: u32 = 0x40;

/// What an interface is, told by its driver and from /sys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InterfaceKind {
    /// A network card that is a device of its own.
    Physical,
    /// A wireless card.
    Wireless,
    /// A bridge.
    Bridge,
    /// A port of a bridge that is nothing more telling itself.
    BridgePort,
    /// A bond or a team.
    Bond,
    /// A domain of routing of its own (VRF), with a table of its own.
    Vrf,
    /// A VLAN on a parent.
    Vlan,
    /// A macvlan or ipvlan on a parent.
    Macvlan,
    /// One end of a veth pair.
    Veth,
    /// A tun device (layer 3): a userspace VPN.
    Tun,
    /// A tap device (layer 2).
    Tap,
    /// A VXLAN.
    Vxlan,
    /// A GENEVE tunnel.
    Geneve,
    /// A GRE tunnel, layer 3 or 2.
    Gre,
    /// An IP-in-IP tunnel.
    Ipip,
    /// An IPv6-in-IPv4 tunnel.
    Sit,
    /// A WireGuard device, the kernel's own or a userspace one.
    #[serde(rename = "wireguard")]
    WireGuard,
    /// A point-to-point protocol link, such as a DSL line.
    Ppp,
    /// A dummy device.
    Dummy,
    /// The loopback device.
    Loopback,
    /// Anything else, and kinds that this version does not know.
    #[default]
    #[serde(other)]
    Other,
}

/// Parameters of a VLAN, VXLAN, GENEVE, GRE, VTI, IPIP, SIT or VRF device, as far as they could be
/// read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TunnelData {
    /// VLAN id, network identifier of a VXLAN or GENEVE, key of a GRE or VTI (of received packets),
    /// or table of a VRF.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
    /// Key of sent packets, where a GRE or VTI has another one for them than for received ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_sent: Option<u32>,
    /// UDP port of a VXLAN or GENEVE.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Outer source address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local: Option<IpAddr>,
    /// Outer destination address or group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<IpAddr>,
    /// Something else decides packet by packet where it goes (`external`, collect metadata): the
    /// parameters above say nothing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub external: bool,
}

/// Interface counters, as /proc/net/dev gives them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Receive errors.
    #[serde(skip_serializing_if = "is_zero")]
    pub rx_errors: u64,
    /// Packets dropped on receive.
    #[serde(skip_serializing_if = "is_zero")]
    pub rx_dropped: u64,
    /// Frame errors on receive; WireGuard counts inner sources outside AllowedIPs here.
    #[serde(skip_serializing_if = "is_zero")]
    pub rx_frame: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Transmit errors; WireGuard counts packets without a peer or endpoint here.
    #[serde(skip_serializing_if = "is_zero")]
    pub tx_errors: u64,
    /// Packets dropped on transmit.
    #[serde(skip_serializing_if = "is_zero")]
    pub tx_dropped: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}
