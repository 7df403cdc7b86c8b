//! What an agent reports: the serde shapes of a report's payload.
//!
//! Fields that a reader does not know are ignored and absent ones take their default, so that an
//! old agent and a new manager understand each other, and the reverse. Every list is capped in
//! [`crate::limits`]; where an agent had to cut one, the `*_total` beside it holds the true count.

mod interface;
mod routing;
mod wireguard;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::limits;

pub use self::interface::*;
pub use self::routing::*;
pub use self::wireguard::*;

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
    /// Where `wireguard` came from: `netlink` where the kernel was asked, even if it has none or
    /// there are userspace devices besides; `uapi` where all of them are userspace devices. Without a
    /// source an empty list says nothing of the host.
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
    /// netlink(7): the kernel itself.
    Netlink,
    /// The control sockets of userspace WireGuard.
    Uapi,
    /// The wg(8) command, which agents asked before they asked WireGuard itself.
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
