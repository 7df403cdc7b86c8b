//! Counters of an agent's last reports, for charts: GET /status/agents/ID/rates.

use std::collections::BTreeMap;

use proto::ids::AgentId;
use proto::report::Report;
use serde::Serialize;

/// Reports in one answer: an hour at the usual interval.
pub const REPORTS: u32 = 120;

/// An agent's counters, report by report.
#[derive(Debug, Serialize)]
pub struct Rates {
    /// The agent.
    pub agent: AgentId,
    /// Oldest first.
    pub samples: Vec<Sample>,
}

/// The counters of one report: bytes received and sent.
#[derive(Debug, Serialize)]
pub struct Sample {
    /// When the host was read (ms).
    pub at: i64,
    /// By the interface's name.
    pub interfaces: BTreeMap<String, [u64; 2]>,
    /// By the WireGuard device's name and the peer's key, with a space between.
    pub peers: BTreeMap<String, [u64; 2]>,
}

/// The counters in these reports, each with when it was observed (ms).
#[must_use]
pub fn view(agent: AgentId, reports: &[(i64, Vec<u8>)]) -> Rates {
    let sample = |(at, payload): &(i64, Vec<u8>)| {
        let report = Report::from_json(payload).ok()?;
        let interfaces = report.system.interfaces.into_iter();
        let devices = report.system.wireguard.into_iter();
        Some(Sample {
            at: *at,
            interfaces: interfaces.map(|i| (i.name, [i.counters.rx_bytes, i.counters.tx_bytes])).collect(),
            peers: devices
                .flat_map(|device| {
                    let key = move |key| format!("{} {key}", device.name);
                    device.peers.into_iter().map(move |p| (key(p.public_key), [p.rx_bytes, p.tx_bytes]))
                })
                .collect(),
        })
    };
    let mut samples: Vec<_> = reports.iter().filter_map(sample).collect();
    samples.sort_by_key(|sample| sample.at);
    Rates { agent, samples }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_come_in_order_of_time_and_what_is_no_report_is_left_out() {
        let json = |rx: u64| {
            format!(
                r#"{{"version":1,"system":{{"interfaces":[{{"name":"eth0","counters":{{"rx_bytes":{rx},"tx_bytes":7}}}}]}}}}"#
            )
            .into_bytes()
        };
        let rates = view(AgentId([1; 16]), &[(30, json(5)), (20, b"{".to_vec()), (10, json(3))]);
        let seen: Vec<_> = rates.samples.iter().map(|s| (s.at, s.interfaces["eth0"])).collect();
        assert_eq!(seen, [(10, [3, 7]), (30, [5, 7])]);
    }
}
