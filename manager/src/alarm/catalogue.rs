//! Every code there is: how bad it is, what it means, and how long it must hold, or be gone, before
//! anyone is told. DESIGN.md has this table; a test compares them.

use serde::Serialize;

use super::Severity::{self, Critical, Info, Warning};

/// One code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Its name.
    pub code: &'static str,
    /// How bad it is, unless the alarm itself says otherwise.
    pub severity: Severity,
    /// What it means.
    pub meaning: &'static str,
    /// How long it must hold before it fires.
    pub hold_on: Hold,
    /// How long it must be gone before it is resolved.
    pub hold_off: Hold,
}

/// A stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Reports of the agents that it rests on.
    Reports(i64),
    /// Seconds.
    Seconds(i64),
}

impl Hold {
    /// In milliseconds, for agents that report every `interval_s`.
    #[must_use]
    pub fn millis(self, interval_s: u32) -> i64 {
        match self {
            Self::Reports(count) => count * i64::from(interval_s) * 1000,
            Self::Seconds(seconds) => seconds * 1000,
        }
    }
}

impl std::fmt::Display for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Reports(0) | Self::Seconds(0) => f.write_str("at once"),
            Self::Reports(1) => f.write_str("1 report"),
            Self::Reports(count) => write!(f, "{count} reports"),
            Self::Seconds(seconds) if seconds % 3600 == 0 => write!(f, "{} h", seconds / 3600),
            Self::Seconds(seconds) if seconds % 60 == 0 => write!(f, "{} min", seconds / 60),
            Self::Seconds(seconds) => write!(f, "{seconds} s"),
        }
    }
}

impl Serialize for Hold {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

const NOW: Hold = Hold::Reports(0);
const ONE: Hold = Hold::Reports(1);
const TWO: Hold = Hold::Reports(2);
const FOUR: Hold = Hold::Reports(4);
const MINUTE: Hold = Hold::Seconds(60);
const TEN_MINUTES: Hold = Hold::Seconds(600);

const fn entry(
    code: &'static str,
    severity: Severity,
    hold_on: Hold,
    hold_off: Hold,
    meaning: &'static str,
) -> Entry {
    Entry { code, severity, meaning, hold_on, hold_off }
}

/// Every code, by family.
pub const CODES: &[Entry] = &[
    // WireGuard
    entry(
        "PEER_ONE_SIDED",
        Warning,
        ONE,
        TWO,
        "one host has the other as a WireGuard peer, the other, which reports, does not have it",
    ),
    entry("PEER_ORPHAN_KEY", Warning, ONE, TWO, "a peer's key belonged to a host that has another key now"),
    entry(
        "NO_FORWARD_PATH",
        Warning,
        TWO,
        TWO,
        "what one host sends through a tunnel, data or handshakes, does not reach the other, which has it as a peer",
    ),
    entry(
        "NO_RETURN_PATH",
        Warning,
        TWO,
        TWO,
        "what one host sends arrives, and the answers do not come back or are not understood",
    ),
    entry(
        "PSK_MISMATCH",
        Warning,
        TWO,
        TWO,
        "a WireGuard preshared key is set at one end only, or the two ends have different ones",
    ),
    entry(
        "TUNNEL_DOWN",
        Warning,
        TWO,
        TWO,
        "a tunnel that is kept alive has no fresh handshake, and no rule knows why",
    ),
    entry("TUNNEL_LOSS", Warning, TWO, FOUR, "over a tenth of what one end sends does not reach the other"),
    entry(
        "HANDSHAKE_NO_DATA",
        Info,
        TWO,
        TWO,
        "a tunnel that always carried data has had none for ten minutes, though its handshakes are fresh",
    ),
    entry(
        "HANDSHAKE_CHURN",
        Warning,
        TWO,
        FOUR,
        "a tunnel makes a new handshake with every report, far more often than every 120 s",
    ),
    entry("WG_IFACE_DOWN", Warning, ONE, TWO, "a WireGuard interface is set down"),
    entry("KEY_CHANGED", Info, NOW, NOW, "a WireGuard interface has a new key since less than ten minutes"),
    entry(
        "LISTEN_PORT_CHANGED",
        Info,
        NOW,
        NOW,
        "a WireGuard interface listens on another port since less than ten minutes",
    ),
    // AllowedIPs
    entry(
        "ALLOWED_IPS_SRC",
        Warning,
        TWO,
        TWO,
        "packets come out of a tunnel with a source that its peer's AllowedIPs do not hold, and are dropped",
    ),
    entry(
        "ALLOWED_IPS_DST",
        Warning,
        TWO,
        TWO,
        "packets are sent into a WireGuard interface that has no peer, or no endpoint, for them",
    ),
    entry(
        "ALLOWED_IPS_EMPTY",
        Warning,
        NOW,
        TWO,
        "a peer has no AllowedIPs, most often because another peer of the interface was given them",
    ),
    entry(
        "ALLOWED_IPS_OVERLAP",
        Info,
        TWO,
        TWO,
        "prefixes of two peers of one interface overlap; the longer one wins",
    ),
    entry(
        "ALLOWED_IPS_CONFLICT",
        Warning,
        TWO,
        TWO,
        "a host sends packets for another's tunnel address to a peer that cannot pass them on",
    ),
    entry(
        "ALLOWED_IPS_NOT_RECIPROCAL",
        Warning,
        TWO,
        TWO,
        "a host's tunnel address is not in the AllowedIPs that its peer has for it",
    ),
    entry("ALLOWED_IPS_CHANGED", Info, NOW, NOW, "a peer's AllowedIPs changed less than ten minutes ago"),
    entry(
        "ROUTE_WITHOUT_ALLOWED_IP",
        Warning,
        TWO,
        TWO,
        "a route leads into a WireGuard interface where no peer's AllowedIPs hold its destination",
    ),
    entry(
        "ALLOWED_IP_WITHOUT_ROUTE",
        Info,
        TWO,
        TWO,
        "no route leads a peer's AllowedIPs into its interface",
    ),
    entry(
        "FORWARDING_OFF",
        Warning,
        TWO,
        TWO,
        "others send a host packets to pass on, and its kernel does not forward",
    ),
    // Endpoints, NAT, MTU
    entry("ENDPOINT_IN_OWN_TUNNEL", Critical, ONE, TWO, "a tunnel's own packets are routed into the tunnel"),
    entry(
        "ENDPOINT_DNS_DRIFT",
        Warning,
        TWO,
        TWO,
        "a host sends a tunnel's packets to where its peer is no longer, as others see",
    ),
    entry("ENDPOINT_ROAMED", Info, NOW, NOW, "a peer's endpoint address changed less than ten minutes ago"),
    entry(
        "ENDPOINT_FLAPPING",
        Warning,
        NOW,
        TEN_MINUTES,
        "a peer's endpoint address changed over four times in 15 minutes",
    ),
    entry(
        "BOTH_NO_ENDPOINT",
        Warning,
        TWO,
        TWO,
        "neither end of a tunnel knows where the other is, so none can start",
    ),
    entry(
        "KEEPALIVE_MISSING_BEHIND_NAT",
        Info,
        TEN_MINUTES,
        TWO,
        "a host behind NAT keeps no keepalive, so that its peers cannot reach it when it is quiet",
    ),
    entry(
        "NAT_SYMMETRIC",
        Info,
        TEN_MINUTES,
        TEN_MINUTES,
        "a host's NAT shows each peer another port, so that direct tunnels to it fail",
    ),
    entry(
        "NAT_PORT_REMAP",
        Info,
        TEN_MINUTES,
        TEN_MINUTES,
        "a host's NAT shows another port than the one that it listens on",
    ),
    entry(
        "CGNAT",
        Info,
        TEN_MINUTES,
        TEN_MINUTES,
        "a host is behind its provider's NAT: nobody can reach it unasked",
    ),
    entry("MTU_MISMATCH", Warning, TWO, TWO, "the two ends of a tunnel have different MTUs"),
    entry(
        "MTU_TOO_BIG",
        Warning,
        TWO,
        TWO,
        "a tunnel's packets with their headers do not fit the interface that carries them",
    ),
    // Identity
    entry("DUP_PRIVATE_KEY", Critical, NOW, TWO, "two hosts use the same WireGuard private key"),
    entry("DUP_TUNNEL_IP", Warning, TWO, TWO, "two hosts of one mesh have the same tunnel address"),
    entry("DUP_AGENT_ID", Critical, NOW, MINUTE, "two hosts report under one agent id"),
    entry("DUP_HOSTNAME", Info, TWO, TWO, "two hosts have the same name"),
    entry("DUP_MAC", Warning, TWO, TWO, "two hosts have a network card with the same address"),
    entry(
        "IP_CONFLICT",
        Warning,
        TWO,
        TWO,
        "two hosts on one LAN resolve one address to different network cards",
    ),
    // Clock
    entry("CLOCK_SKEW", Warning, TWO, TWO, "a host's clock is over 30 s off the manager's"),
    entry("CLOCK_REGRESSION", Warning, NOW, NOW, "a host's clock went back less than ten minutes ago"),
    // Hosts and their reports
    entry("AGENT_OFFLINE", Warning, NOW, NOW, "nothing was heard of an agent for over four of its intervals"),
    entry(
        "AGENT_REBOOTED",
        Info,
        NOW,
        NOW,
        "a host started less than ten minutes ago, and had been seen before",
    ),
    entry("COLLECT_PROBLEM", Warning, TWO, TWO, "an agent cannot read a part of its host"),
    entry(
        "REPORT_GAPS",
        Warning,
        NOW,
        TEN_MINUTES,
        "three reports or more of an agent were missing in half an hour",
    ),
    entry("REPORTS_SPOOLED", Info, TWO, TWO, "over ten reports wait at an agent"),
    entry("REPORTS_DROPPED", Warning, NOW, TEN_MINUTES, "an agent gave up reports that it could not deliver"),
    // LAN
    entry("LINK_DOWN", Warning, ONE, TWO, "a network card that was in use has no link"),
    entry(
        "CARRIER_FLAP",
        Warning,
        NOW,
        TEN_MINUTES,
        "a network card's link came and went over four times in 15 minutes",
    ),
    entry("LINK_SLOWER", Warning, TWO, TWO, "a network card's link is slower than it was"),
    entry("DEFAULT_ROUTE_LOST", Warning, TWO, TWO, "a host that had a default route has none"),
    entry(
        "DEFAULT_ROUTE_CHANGED",
        Info,
        NOW,
        NOW,
        "a host's default route leads elsewhere since less than ten minutes",
    ),
    entry(
        "GATEWAY_MAC_CHANGED",
        Warning,
        NOW,
        NOW,
        "a host's gateway has the same address and another network card since less than half an hour",
    ),
    entry(
        "NEIGHBOUR_FAILED",
        Warning,
        TWO,
        TWO,
        "a host on the same LAN, which reports, does not answer to its address any more",
    ),
    // Overlays
    entry(
        "VXLAN_PARAM_MISMATCH",
        Warning,
        TWO,
        TWO,
        "two ends of a VXLAN or GRE have settings that exclude each other",
    ),
    entry(
        "TUNNEL_ONE_SIDED",
        Warning,
        TWO,
        TWO,
        "one host has a tunnel to another, which reports and has none back",
    ),
    // Delivery
    entry("RELAY_IN_USE", Info, TWO, TWO, "an agent's reports come by way of others"),
    entry(
        "RELAY_LOST",
        Warning,
        NOW,
        TWO,
        "an agent that passed others' reports on is silent, and they with it",
    ),
    entry("RELAY_LOOP", Warning, TWO, FOUR, "agents take each other for the way to the manager"),
    entry(
        "RELAY_DIRECT_AVAILABLE",
        Info,
        TEN_MINUTES,
        TWO,
        "an agent's reports take relays, though a shorter way is open to a host like it",
    ),
    entry("RELAY_HOPS_MAX", Warning, TWO, TWO, "an agent's reports take as many relays as they may"),
    entry(
        "OLD_PSK_IN_USE",
        Warning,
        Hold::Seconds(7200),
        TWO,
        "an agent still signs with a PSK from before the last rotation",
    ),
    // The mesh as a whole
    entry(
        "TOPOLOGY_PARTITION",
        Critical,
        TWO,
        TWO,
        "hosts that report are cut off from the rest of the mesh",
    ),
    entry(
        "EDGE_COUNT_DROP",
        Critical,
        TWO,
        TWO,
        "over half of the tunnels that were up within the last hour are not",
    ),
    entry(
        "ARTICULATION_NODE",
        Info,
        TEN_MINUTES,
        TEN_MINUTES,
        "the mesh falls apart when this one host fails",
    ),
    // The manager
    entry(
        "MANAGER_ISOLATED",
        Critical,
        NOW,
        FOUR,
        "over half of the agents fell silent at once: the manager itself is cut off",
    ),
    entry("DATABASE_FAILING", Critical, NOW, MINUTE, "the database takes no writes"),
    entry("DATABASE_SLOW", Warning, MINUTE, MINUTE, "a write to the database waits over two seconds"),
    entry(
        "DISK_NEARLY_FULL",
        Warning,
        MINUTE,
        MINUTE,
        "the database's disk has less than 5 % or 200 MB left",
    ),
    entry("PSK_UNREADABLE", Warning, MINUTE, NOW, "the PSK cannot be read from its source"),
    entry(
        "FORGED_REPORTS",
        Critical,
        NOW,
        MINUTE,
        "ten messages or more in ten minutes were signed with no PSK that was ever valid",
    ),
    entry(
        "REPLAYED_REPORTS",
        Critical,
        NOW,
        MINUTE,
        "ten messages or more in ten minutes were repeated or changed ones",
    ),
    entry(
        "OLD_PSK_REFUSED",
        Warning,
        NOW,
        MINUTE,
        "messages are refused as they are signed with a PSK that is no longer accepted",
    ),
    entry("NOTIFIER_FAILING", Warning, NOW, NOW, "notifications have not been taken for five minutes"),
    entry(
        "FLAPPING",
        Warning,
        NOW,
        NOW,
        "an alarm came and went over four times in 15 minutes; it is told once, as this",
    ),
];

/// The entry of a code.
#[must_use]
pub fn find(code: &str) -> Option<&'static Entry> {
    CODES.iter().find(|entry| entry.code == code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_in_the_design_as_it_is() {
        let design = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../DESIGN.md")).unwrap();
        for Entry { code, severity, meaning, hold_on, hold_off } in CODES {
            let row = format!("| `{code}` | {severity} | {hold_on} | {hold_off} | {meaning} |");
            assert!(design.contains(&row), "DESIGN.md lacks the row\n{row}");
        }
        let rows = design.lines().filter(|line| {
            line.starts_with("| `")
                && ["| info |", "| warning |", "| critical |"].iter().any(|s| line.contains(s))
        });
        assert_eq!(rows.count(), CODES.len());
    }

    #[test]
    fn codes_are_unique() {
        let mut codes: Vec<_> = CODES.iter().map(|entry| entry.code).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), CODES.len());
    }
}
