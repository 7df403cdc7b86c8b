//! Makes a report of what was collected, small enough to travel.

use std::time::Duration;

use proto::envelope::Draft;
use proto::ids::{AgentId, BootId, Nonce};
use proto::limits;
use proto::psk::Secret;
use proto::report::{Problem, REPORT_VERSION, Report, SystemData};
use proto::sign::Kind;
use serde::Serialize;

/// Rounds of halving: 2 to the 16th is more than any list may hold.
const ROUNDS: u32 = 64;

/// A report of what was read; times and delivery are the caller's to fill in.
#[must_use]
pub fn new(system: SystemData, problems: Vec<Problem>, hardware: String, interval: Duration) -> Report {
    Report {
        version: REPORT_VERSION,
        agent_version: crate::VERSION.to_owned(),
        interval_s: u32::try_from(interval.as_secs()).unwrap_or(u32::MAX),
        hardware,
        system,
        problems,
        ..Report::default()
    }
}

/// The JSON of a report that is cut, longest list first, until it may travel. The true counts beside
/// the lists stay, and a problem says that something was left out.
#[must_use]
pub fn to_json(report: &mut Report) -> Vec<u8> {
    report.problems.truncate(limits::PROBLEMS_MAX);
    let mut json = json_of(report);
    let mut told = false;
    for _ in 0..ROUNDS {
        if may_travel(&json) || !halve_the_longest(&mut report.system) {
            break;
        }
        if !told {
            told = true;
            report.problems.truncate(limits::PROBLEMS_MAX - 1);
            report.problems.push(Problem {
                source: "report".to_owned(),
                message: "lists were cut: the whole report is larger than may be sent".to_owned(),
            });
        }
        json = json_of(report);
    }
    json
}

/// The JSON of a report or a part of one.
pub(crate) fn json_of(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("reports are plain data")
}

fn may_travel(json: &[u8]) -> bool {
    if json.len() + limits::HEADER_MAX <= limits::ENVELOPE_MAX {
        return true;
    }
    json.len() <= limits::PAYLOAD_MAX && sealed_len(json) <= limits::ENVELOPE_MAX
}

/// Bytes of an envelope with this payload and a full path; they do not depend on who signs.
fn sealed_len(json: &[u8]) -> usize {
    let secret = Secret::new("only the length counts").expect("it has 22 printable characters");
    let draft = Draft {
        kind: Kind::Report,
        agent: AgentId([0; 16]),
        boot: BootId([0; 16]),
        tick: u64::MAX,
        nonce: Nonce([0; 16]),
        json,
    };
    // A hop takes about 180 bytes; the header line never takes more than its limit.
    draft.seal(&secret, i64::MAX).bytes.len() + limits::HEADER_MAX / 2
}

/// Cuts the list that takes the most bytes to half its items; false when nothing is left to cut.
fn halve_the_longest(system: &mut SystemData) -> bool {
    let peers: Vec<_> = system.wireguard.iter().flat_map(|device| &device.peers).collect();
    let sizes = [
        json_of(&peers).len(),
        json_of(&system.interfaces).len(),
        json_of(&system.routes).len(),
        json_of(&system.neighbours).len(),
    ];
    let longest = (0..sizes.len()).max_by_key(|&list| sizes[list]).unwrap_or(0);
    match longest {
        0 => halve_peers(system),
        1 => halve(&mut system.interfaces),
        2 => halve(&mut system.routes),
        _ => halve(&mut system.neighbours),
    }
}

/// AllowedIPs first: a peer with some of them is worth more than no peer.
fn halve_peers(system: &mut SystemData) -> bool {
    let mut peers: Vec<_> = system.wireguard.iter_mut().flat_map(|device| &mut device.peers).collect();
    let longest = peers.iter().map(|peer| peer.allowed_ips.len()).max().unwrap_or(0);
    if longest > 1 {
        peers.iter_mut().for_each(|peer| peer.allowed_ips.truncate(longest / 2));
        return true;
    }
    let device = system.wireguard.iter_mut().max_by_key(|device| device.peers.len());
    device.is_some_and(|device| halve(&mut device.peers))
}

fn halve<T>(list: &mut Vec<T>) -> bool {
    let before = list.len();
    list.truncate(before / 2);
    before > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::ids::PublicKey;
    use proto::report::{WireGuardDevice, WireGuardPeer};

    fn report(peers: u32, allowed_ips: u32) -> Report {
        let peer = |number: u32| {
            let mut key = [0; 32];
            getrandom::fill(&mut key).unwrap();
            WireGuardPeer {
                public_key: PublicKey(key),
                has_psk: true,
                endpoint: Some(format!("203.0.113.{}:{}", number % 256, 1024 + number)),
                allowed_ips: (0..allowed_ips)
                    .map(|n| format!("10.{}.{}.{n}/32", number % 256, number / 256).parse().unwrap())
                    .collect(),
                handshake_at: Some(1_795_000_000 + i64::from(number)),
                handshake_age_s: Some(u64::from(number)),
                rx_bytes: u64::from(number) << 20,
                tx_bytes: u64::from(number) << 19,
                keepalive_s: Some(25),
                rtt_us: None,
            }
        };
        let wireguard = vec![WireGuardDevice {
            name: "wg0".into(),
            peers: (0..peers).map(peer).collect(),
            ..WireGuardDevice::default()
        }];
        Report {
            system: SystemData { wireguard, peers_total: peers, ..SystemData::default() },
            ..Report::default()
        }
    }

    #[test]
    fn a_usual_report_is_sent_whole() {
        let mut whole = report(50, 3);
        let json = to_json(&mut whole);
        assert_eq!(Report::from_json(&json).unwrap(), whole);
        assert!(whole.problems.is_empty() && whole.system.wireguard[0].peers.len() == 50);
    }

    #[test]
    fn a_hub_with_a_thousand_peers_is_sent_whole() {
        let mut hub = report(1024, 1);
        let json = to_json(&mut hub);
        assert!(sealed_len(&json) <= limits::ENVELOPE_MAX, "{}", sealed_len(&json));
        assert!(hub.problems.is_empty(), "{}", sealed_len(&json));
    }

    #[test]
    fn what_is_too_large_is_cut_and_says_so() {
        let mut huge = report(1024, 64);
        let json = to_json(&mut huge);
        assert!(json.len() <= limits::PAYLOAD_MAX && sealed_len(&json) <= limits::ENVELOPE_MAX);
        let sent = Report::from_json(&json).unwrap();
        assert_eq!(sent.system.peers_total, 1024);
        assert_eq!(sent.system.wireguard[0].peers.len(), 1024, "AllowedIPs go first");
        assert!(sent.problems.iter().any(|problem| problem.source == "report"));
    }
}
