//! Routes, policy rules and neighbours in a report.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::ids::Cidr;

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
