//! What an agent reports: the serde shapes of a report's payload.
//!
//! Fields that a reader does not know are ignored and absent ones take their default, so that an
//! old agent and a new manager understand each other, and the reverse. Every list is capped in
//! [`crate::limits`]; where an agent had to cut one, the `*_total` beside it holds the true count.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::ids::{Cidr, PublicKey};
use crate::limits;

/// The version of the payload's shape that this code writes.
pub const REPORT_VERSION: u32 = 1;

/// One report: everything that an agent knows of its host at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// [`REPORT_VERSION`] of the writer.
    pub version: u32,
    /// When the host was read: milliseconds since the Unix epoch, on the manager's clock as far as
    /// the agent knows it (its own clock plus `clock_offset_ms`).
    pub observed_at: i64,
    /// Version of the agent that wrote this.
    pub agent_version: String,
    /// Seconds between two reports of this agent.
    pub interval_s: u32,
    /// Hash that names the hardware (machine id and first permanent MAC); tells a restarted agent
    /// from a copied one.
    pub hardware: String,
    /// Milliseconds that the agent adds to its own clock to have the manager's. 0 while they agree.
    pub clock_offset_ms: i64,
    /// How earlier reports fared.
    pub delivery: Delivery,
    /// The host itself.
    pub system: SystemData,
    /// What could not be read, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
}

/// How an agent's earlier reports fared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Delivery {
    /// Reports that wait to be sent, this one not counted.
    pub spooled: u64,
    /// Reports given up since the agent started (or since an earlier start whose spool it took over):
    /// refused, thinned out with age, or the oldest of a full spool.
    pub dropped: u64,
    /// Relays between this agent and the manager at its last success: 0 is direct; `None` while it
    /// has not reached the manager since it started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distance: Option<u32>,
}

/// Something that the agent could not read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Problem {
    /// Which source: a path such as `/proc/net/arp`, or `wg`.
    pub source: String,
    /// What went wrong, in words.
    pub message: String,
}

/// The state of a host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SystemData {
    /// The host's own name: a label, not an identity.
    pub hostname: String,
    /// Name of the distribution, as in os-release(5) PRETTY_NAME.
    pub os: String,
    /// Kernel release, as `uname -r`.
    pub kernel: String,
    /// Machine hardware name, as `uname -m`.
    pub arch: String,
    /// Seconds since the kernel started.
    pub uptime_s: u64,
    /// Load averages over 1, 5 and 15 minutes.
    pub load: [f64; 3],
    /// Memory.
    pub memory: Memory,
    /// Whether the kernel passes packets on between interfaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forwarding: Option<Forwarding>,
    /// Network interfaces, by index.
    pub interfaces: Vec<Interface>,
    /// Interfaces that the host has; more than listed when the list was cut.
    pub interfaces_total: u32,
    /// Routes, IPv4 then IPv6.
    pub routes: Vec<Route>,
    /// Routes that the host has.
    pub routes_total: u32,
    /// Where `routes` came from.
    pub routes_source: Source,
    /// Policy-routing rules, IPv4 then IPv6, each in the order in which the kernel asks them; those
    /// that every kernel starts with (0, 32766, 32767) among them: nothing is to be added in thought.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
    /// Policy-routing rules that the host has.
    pub rules_total: u32,
    /// Where `rules` came from. With a source, an empty list says that this kernel has no policy
    /// routing: it looks into the tables local and main. Without one, nothing is known.
    pub rules_source: Source,
    /// Neighbours (ARP and neighbour discovery).
    pub neighbours: Vec<Neighbour>,
    /// Neighbours that the host has.
    pub neighbours_total: u32,
    /// Where `neighbours` came from.
    pub neighbours_source: Source,
    /// WireGuard devices, by name.
    pub wireguard: Vec<WireGuardDevice>,
    /// Where `wireguard` came from: without a source an empty list says nothing of the host.
    pub wireguard_source: Source,
    /// WireGuard peers that the host has, all devices together.
    pub peers_total: u32,
}

/// Where a list came from: netlink tells more than /proc.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// It could not be read.
    #[default]
    None,
    /// Files under /proc.
    Proc,
    /// rtnetlink(7).
    Netlink,
    /// The wg(8) command.
    Wg,
    /// A source that this version does not know.
    #[serde(other)]
    Other,
}

/// Memory in KiB, as /proc/meminfo names it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// MemTotal.
    pub total_kb: u64,
    /// MemAvailable; `None` on kernels before 3.14.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub available_kb: Option<u64>,
    /// MemFree.
    pub free_kb: u64,
    /// SwapTotal.
    pub swap_total_kb: u64,
    /// SwapFree.
    pub swap_free_kb: u64,
}

/// Whether packets are passed on between interfaces (`net.ipv4.ip_forward` and
/// `net.ipv6.conf.all.forwarding`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Forwarding {
    /// IPv4 forwarding.
    pub ipv4: bool,
    /// IPv6 forwarding.
    pub ipv6: bool,
}

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

/// The kernel's main routing table (`RT_TABLE_MAIN`, linux/rtnetlink.h).
pub const TABLE_MAIN: u32 = 254;

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Destination; `0.0.0.0/0` or `::/0` is the default route.
    pub destination: Cidr,
    /// Next hop; `None` where the destination is on the link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// Interface that it leaves by; `None` for unreachable and blackhole routes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// The lower one of two for the same destination wins.
    #[serde(default)]
    pub metric: u32,
    /// Source address that the kernel prefers on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// Routing table; 254 is main.
    #[serde(default = "table_main", skip_serializing_if = "is_main")]
    pub table: u32,
    /// What happens to packets on it.
    #[serde(default, skip_serializing_if = "RouteKind::is_unicast")]
    pub kind: RouteKind,
}

fn table_main() -> u32 {
    TABLE_MAIN
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_main(table: &u32) -> bool {
    *table == TABLE_MAIN
}

/// What happens to packets on a route (rtm_type, linux/rtnetlink.h).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RouteKind {
    /// Sent on.
    #[default]
    Unicast,
    /// Dropped with an ICMP unreachable.
    Unreachable,
    /// Dropped in silence.
    Blackhole,
    /// Dropped with an ICMP prohibited.
    Prohibit,
    /// Not decided in this table: the next rule is asked.
    Throw,
    /// A kind that this version does not know.
    #[serde(other)]
    Other,
}

impl RouteKind {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
    fn is_unicast(&self) -> bool {
        *self == Self::Unicast
    }
}

/// A policy-routing rule: what is done with which packets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rule {
    /// Lower ones are asked first.
    pub priority: u32,
    /// What is done with packets that match.
    #[serde(skip_serializing_if = "RuleAction::is_table")]
    pub action: RuleAction,
    /// The table to look into; 0 with another action, and where `l3mdev` is set.
    pub table: u32,
    /// Priority of the rule to go on with, where the action is `goto`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub goto: Option<u32>,
    /// Whether it is a rule for IPv6.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ipv6: bool,
    /// Only packets from these addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Cidr>,
    /// Only packets to these addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Cidr>,
    /// Only packets with this mark.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fwmark: Option<u32>,
    /// Bits of the mark that count; `None` is all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fwmask: Option<u32>,
    /// Only packets that came in by this interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iif: Option<String>,
    /// Only packets that leave by this interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oif: Option<String>,
    /// Only packets of a VRF's ports; the VRF's own table is looked into.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub l3mdev: bool,
    /// Only packets that also match what is not listed here: user ids, ports, protocol, type of
    /// service, tunnel id.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// The rule holds for packets that do *not* match.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub invert: bool,
    /// Routes with a prefix of at most this length do not count (`suppress_prefixlength`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suppress_prefix: Option<u32>,
}

/// What a rule does with the packets that it matches (FR_ACT_*, linux/fib_rules.h).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuleAction {
    /// Looks into a table.
    #[default]
    Table,
    /// Goes on with a later rule, or with the next one while there is none of that priority.
    Goto,
    /// Nothing: a mark to go to.
    Nop,
    /// Drops in silence.
    Blackhole,
    /// Drops with an ICMP unreachable.
    Unreachable,
    /// Drops with an ICMP prohibited.
    Prohibit,
    /// An action that this version does not know.
    #[serde(other)]
    Other,
}

impl RuleAction {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
    fn is_table(&self) -> bool {
        *self == Self::Table
    }
}

/// A neighbour on a link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour {
    /// Its address.
    pub ip: IpAddr,
    /// Its link-layer address; `None` while it has not answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Interface that it is seen on.
    pub interface: String,
    /// How sure the kernel is of it.
    #[serde(default)]
    pub state: NeighbourState,
    /// The neighbour calls itself a router (IPv6 only).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub router: bool,
}

/// How sure the kernel is of a neighbour (NUD states, linux/neighbour.h).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NeighbourState {
    /// Resolved, but /proc does not tell how long ago.
    Complete,
    /// Not resolved.
    Incomplete,
    /// Confirmed lately.
    Reachable,
    /// Once confirmed; not used since.
    Stale,
    /// Used; about to be confirmed.
    Delay,
    /// Being asked.
    Probe,
    /// Did not answer.
    Failed,
    /// Needs no resolution.
    Noarp,
    /// Set by hand.
    Permanent,
    /// A state that this version does not know.
    #[default]
    #[serde(other)]
    Unknown,
}

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

/// Why a payload is no report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReportError {
    /// Not JSON of a report's shape; the text says where.
    Json(String),
    /// A list or text is longer than it may be.
    TooLong {
        /// Path of the field, such as `system.interfaces`.
        field: &'static str,
        /// Its length: items of a list, bytes of a text.
        len: usize,
        /// The most that is allowed.
        max: usize,
    },
}

impl fmt::Display for ReportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(why) => write!(f, "payload is not a report: {why}"),
            Self::TooLong { field, len, max } => write!(f, "{field} has {len}, at most {max} are allowed"),
        }
    }
}

impl std::error::Error for ReportError {}

impl Report {
    /// Reads a payload and checks every size against [`crate::limits`].
    ///
    /// # Errors
    /// What is wrong, with the line and column or the field's name.
    pub fn from_json(payload: &[u8]) -> Result<Self, ReportError> {
        let report: Self =
            serde_json::from_slice(payload).map_err(|error| ReportError::Json(error.to_string()))?;
        report.check()?;
        Ok(report)
    }

    fn check(&self) -> Result<(), ReportError> {
        let system = &self.system;
        let text = |field, text: &str| at_most(field, text.len(), limits::TEXT_MAX);
        text("agent_version", &self.agent_version)?;
        text("hardware", &self.hardware)?;
        text("system.hostname", &system.hostname)?;
        text("system.os", &system.os)?;
        text("system.kernel", &system.kernel)?;
        text("system.arch", &system.arch)?;
        at_most("problems", self.problems.len(), limits::PROBLEMS_MAX)?;
        for problem in &self.problems {
            text("problems.source", &problem.source)?;
            text("problems.message", &problem.message)?;
        }
        at_most("system.interfaces", system.interfaces.len(), limits::INTERFACES_MAX)?;
        for interface in &system.interfaces {
            text("system.interfaces.name", &interface.name)?;
            text("system.interfaces.operstate", &interface.operstate)?;
            text("system.interfaces.master", interface.master.as_deref().unwrap_or_default())?;
            text("system.interfaces.mac", interface.mac.as_deref().unwrap_or_default())?;
            let driver_kind = interface.driver_kind.as_deref().unwrap_or_default();
            text("system.interfaces.driver_kind", driver_kind)?;
            at_most("system.interfaces.lower", interface.lower.len(), limits::INTERFACES_MAX)?;
            at_most("system.interfaces.addresses", interface.addresses.len(), limits::ADDRESSES_MAX)?;
        }
        at_most("system.routes", system.routes.len(), limits::ROUTES_MAX)?;
        for route in &system.routes {
            text("system.routes.interface", route.interface.as_deref().unwrap_or_default())?;
        }
        at_most("system.rules", system.rules.len(), limits::RULES_MAX)?;
        for rule in &system.rules {
            text("system.rules.iif", rule.iif.as_deref().unwrap_or_default())?;
            text("system.rules.oif", rule.oif.as_deref().unwrap_or_default())?;
        }
        at_most("system.neighbours", system.neighbours.len(), limits::NEIGHBOURS_MAX)?;
        for neighbour in &system.neighbours {
            text("system.neighbours.interface", &neighbour.interface)?;
            text("system.neighbours.mac", neighbour.mac.as_deref().unwrap_or_default())?;
        }
        at_most("system.wireguard", system.wireguard.len(), limits::DEVICES_MAX)?;
        let peers = system.wireguard.iter().flat_map(|device| &device.peers);
        at_most("system.wireguard.peers", peers.clone().count(), limits::PEERS_MAX)?;
        for peer in peers {
            at_most("system.wireguard.peers.allowed_ips", peer.allowed_ips.len(), limits::ALLOWED_IPS_MAX)?;
            text("system.wireguard.peers.endpoint", peer.endpoint.as_deref().unwrap_or_default())?;
        }
        system.wireguard.iter().try_for_each(|device| text("system.wireguard.name", &device.name))
    }
}

fn at_most(field: &'static str, len: usize, max: usize) -> Result<(), ReportError> {
    if len > max { Err(ReportError::TooLong { field, len, max }) } else { Ok(()) }
}
