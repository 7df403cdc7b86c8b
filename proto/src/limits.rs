//! Sizes, ages, ports and paths that both sides must agree on, each with its source.

use std::time::Duration;

/// Port of the manager's HTTP endpoint.
pub const MANAGER_PORT: u16 = 5086;
/// Port of every agent's HTTP endpoint.
pub const AGENT_PORT: u16 = 5087;

/// Largest envelope on the wire, header line and payload together. A hub with 1,024 WireGuard
/// peers needs about 80 KiB deflated (32 bytes of every peer are its key, which does not compress).
pub const ENVELOPE_MAX: usize = 128 << 10;
/// Largest header line of an envelope: nine fields and three relay hops take under 500 bytes.
pub const HEADER_MAX: usize = 2 << 10;
/// Largest payload after inflation; a payload that inflates to more is refused.
pub const PAYLOAD_MAX: usize = 512 << 10;
/// Payloads longer than this travel deflated; shorter ones gain little and stay readable JSON.
pub const DEFLATE_ABOVE: usize = 512;
/// A report that others are the difference to is replaced by a later one after this long ...
pub const BASE_AGE: Duration = Duration::from_secs(3600);
/// ... and the manager reads no difference to one that came longer ago than this. It keeps such
/// reports that much longer than the others.
pub const BASE_AGE_MAX: Duration = Duration::from_secs(7200);
/// Largest answer that an agent reads.
pub const ANSWER_MAX: usize = 64 << 10;

/// How far `sent_at` may lie from the receiver's clock, either way.
pub const CLOCK_SKEW: Duration = Duration::from_secs(600);
/// How far an admin message's `sent_at` may lie from the receiver's clock, either way.
pub const ADMIN_SKEW: Duration = Duration::from_secs(60);
/// Ticks behind the highest one within which a late report is still told from a repeated one.
/// 960 ticks are 8 hours at 30 s.
pub const TICK_WINDOW: u64 = 960;
/// Nonces remembered per agent, so that a report sent twice is known as such.
pub const NONCES: usize = 120;
/// Relays that one message may pass.
pub const HOPS_MAX: usize = 3;

/// Seconds between two reports of an agent, unless it is set otherwise.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(30);
/// Seconds between two readings of the PSK's source; jitter of a tenth is taken off.
pub const PSK_REFRESH: Duration = Duration::from_secs(3600);
/// Shortest PSK accepted, in bytes: 16 random characters of base64 are 96 bits.
pub const PSK_MIN: usize = 16;
/// Longest PSK accepted, in bytes: one TXT record's strings joined, well under one UDP answer.
pub const PSK_MAX: usize = 1024;
/// Earlier PSKs that the manager still accepts beside the current one.
pub const PSK_PREVIOUS: usize = 2;

/// Interfaces in one report. Linux hosts with containers reach a few hundred.
pub const INTERFACES_MAX: usize = 256;
/// Addresses on one interface.
pub const ADDRESSES_MAX: usize = 32;
/// Routes in one report; a full internet table must not be sent.
pub const ROUTES_MAX: usize = 256;
/// Policy-routing rules in one report.
pub const RULES_MAX: usize = 64;
/// Neighbours in one report.
pub const NEIGHBOURS_MAX: usize = 256;
/// WireGuard devices in one report.
pub const DEVICES_MAX: usize = 32;
/// WireGuard peers in one report, all devices together.
pub const PEERS_MAX: usize = 1024;
/// AllowedIPs of one peer.
pub const ALLOWED_IPS_MAX: usize = 64;
/// Problems in one report.
pub const PROBLEMS_MAX: usize = 32;
/// Longest text field of a report, in bytes (a hostname has at most 64, `HOST_NAME_MAX`).
pub const TEXT_MAX: usize = 256;

/// URL paths of the manager.
pub mod manager_path {
    /// POST: a signed report.
    pub const UPDATES: &str = "/status/updates";
    /// POST: first contact of an agent.
    pub const REGISTER: &str = "/status/register";
    /// GET: is the manager well.
    pub const HEALTHCHECK: &str = "/status/healthcheck";
    /// GET: all agents; with `/ID` one of them.
    pub const AGENTS: &str = "/status/agents";
    /// GET: alarms.
    pub const ALARMS: &str = "/status/alarms";
    /// GET: every code that an alarm may have.
    pub const ALARM_CODES: &str = "/status/alarms/codes";
    /// POST: a signed word that somebody knows of an alarm.
    pub const ALARM_ACK: &str = "/status/alarms/ack";
    /// POST: a signed order not to tell alarms of a code or an agent for a while.
    pub const ALARM_SILENCE: &str = "/status/alarms/silence";
    /// GET: the map, now or at a past moment.
    pub const TOPOLOGY: &str = "/status/topology";
    /// GET: changes of the map.
    pub const EVENTS: &str = "/status/events";
    /// GET: the way from one agent to another, or to an address.
    pub const PATH: &str = "/status/path";
    /// GET: the map as NetJSON NetworkGraph.
    pub const NETJSON: &str = "/status/export/netjson";
    /// GET: the map for Graphviz.
    pub const DOT: &str = "/status/export/dot";
    /// GET: the map for Mermaid.
    pub const MERMAID: &str = "/status/export/mermaid";
    /// GET: links as a table.
    pub const LINKS_CSV: &str = "/status/export/links.csv";
    /// GET: agents as a table.
    pub const AGENTS_CSV: &str = "/status/export/agents.csv";
    /// GET: metrics in Prometheus' text format.
    pub const METRICS: &str = "/metrics";
    /// POST: a signed reset of one agent or of the fleet.
    pub const ADMIN_RESET: &str = "/status/admin/reset";
}

/// URL paths of an agent.
pub mod agent_path {
    /// GET: is the agent well.
    pub const HEALTHCHECK: &str = "/status/healthcheck";
    /// GET: who this agent is and how well it reaches the manager.
    pub const PEER: &str = "/status/peer";
    /// POST: pass an envelope on.
    pub const RELAY: &str = "/status/relay";
    /// POST: a signed reset of this agent.
    pub const RESET: &str = "/status/reset";
}
