//! Whom to probe next for an agent behind each WireGuard peer, and how far away those found are.
//! Pure: `now` comes in.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use proto::ids::PublicKey;
use proto::report::{SystemData, WireGuardPeer};

use crate::discover::{self, Found};
use crate::jitter;

/// No peer is probed more often than this.
const EVERY: Duration = Duration::from_secs(60);
/// Where all addresses of a peer were tried in vain, the wait doubles up to this.
const LONGEST: Duration = Duration::from_secs(600);
/// Probes begun in one turn.
const PROBES_MAX: usize = 128;
/// A round-trip time is reported for this long after it was measured.
const VALID: Duration = Duration::from_secs(300);
/// An agent that does not answer this often in a row is looked for elsewhere.
const MISSES: u32 = 3;

/// What is known of all peers.
#[derive(Debug, Default)]
pub struct Probes {
    peers: HashMap<Name, Peer>,
}

/// A peer by its device and key: the same key may stand on two devices.
pub type Name = (String, PublicKey);

#[derive(Debug)]
struct Peer {
    due: Instant,
    agent: Option<IpAddr>,
    /// Which of its addresses comes next while no agent is known.
    next: usize,
    /// Probes, or rounds over all addresses, that failed in a row.
    misses: u32,
    rtt: Option<(u32, Instant)>,
}

/// One probe to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Of which peer.
    pub name: Name,
    /// Where.
    pub address: IpAddr,
}

impl Probes {
    /// The probes due at `now`, of the peers that a host has now; each counts as made.
    pub fn plan(&mut self, system: &SystemData, now: Instant) -> Vec<Probe> {
        let own = discover::own_addresses(system);
        let mut before = std::mem::take(&mut self.peers);
        let mut due = Vec::new();
        for device in &system.wireguard {
            for peer in &device.peers {
                let name = (device.name.clone(), peer.public_key);
                let state = before.remove(&name).unwrap_or_else(|| Peer::new(now));
                if state.due <= now {
                    due.push((state.due, name.clone(), peer));
                }
                self.peers.insert(name, state);
            }
        }
        // Those that wait longest come first, so that none of very many is left out.
        due.sort_by_key(|(since, ..)| *since);
        due.truncate(PROBES_MAX);
        let probe = |(_, name, peer): (_, Name, &WireGuardPeer)| {
            let address = self.peers.get_mut(&name)?.begin(peer, |ip| !own.contains(&ip), now)?;
            Some(Probe { name, address })
        };
        due.into_iter().filter_map(probe).collect()
    }

    /// What a probe brought.
    pub fn settle(&mut self, probe: &Probe, found: Option<&Found>, now: Instant) {
        let Some(peer) = self.peers.get_mut(&probe.name) else { return };
        match found {
            Some(found) => {
                let rtt = u32::try_from(found.rtt.as_micros()).unwrap_or(u32::MAX);
                (peer.agent, peer.rtt, peer.misses) = (Some(probe.address), Some((rtt, now)), 0);
            }
            None => peer.missed(now),
        }
    }

    /// Writes the round-trip times into what is reported of the peers.
    pub fn fill(&self, system: &mut SystemData, now: Instant) {
        for device in &mut system.wireguard {
            for peer in &mut device.peers {
                let known = self.peers.get(&(device.name.clone(), peer.public_key));
                let rtt = known.and_then(|known| known.rtt);
                peer.rtt_us =
                    rtt.filter(|(_, at)| now.saturating_duration_since(*at) < VALID).map(|(rtt, _)| rtt);
            }
        }
    }

    /// Where agents answer.
    #[must_use]
    pub fn agents(&self) -> Vec<IpAddr> {
        self.peers.values().filter_map(|peer| peer.agent).collect()
    }
}

impl Peer {
    fn new(now: Instant) -> Self {
        Self { due: now, agent: None, next: 0, misses: 0, rtt: None }
    }

    /// The address to probe now; `None` when the peer has none that can be asked.
    fn begin(&mut self, peer: &WireGuardPeer, may: impl Fn(IpAddr) -> bool, now: Instant) -> Option<IpAddr> {
        let rounds = if self.agent.is_some() { 0 } else { self.misses };
        let wait = EVERY.saturating_mul(1 << rounds.min(16)).min(LONGEST);
        // Plus up to a tenth: never less than the wait.
        self.due = now + wait + (wait - jitter::before(wait, jitter::random()));
        if self.agent.is_some_and(|agent| may(agent) && peer.allowed_ips.iter().any(|ip| ip.contains(agent)))
        {
            return self.agent;
        }
        self.agent = None;
        let mut addresses = discover::addresses_of(peer).filter(|&ip| may(ip));
        let address = addresses.nth(self.next);
        if address.is_some() {
            return address;
        }
        // All were tried: begin anew, later.
        (self.next, self.misses) = (0, self.misses.saturating_add(1));
        discover::addresses_of(peer).find(|&ip| may(ip))
    }

    fn missed(&mut self, now: Instant) {
        self.rtt = None;
        if self.agent.is_none() {
            self.next += 1;
            return;
        }
        self.misses += 1;
        if self.misses >= MISSES {
            (self.agent, self.next, self.misses) = (None, 0, 0);
            self.due = now + EVERY;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::Brief;
    use proto::ids::AgentId;
    use proto::report::WireGuardDevice;

    fn system(peers: &[&[&str]]) -> SystemData {
        let peer = |(number, allowed_ips): (u8, &&[&str])| WireGuardPeer {
            public_key: PublicKey([number; 32]),
            has_psk: false,
            endpoint: None,
            allowed_ips: allowed_ips.iter().map(|text| text.parse().unwrap()).collect(),
            handshake_at: None,
            handshake_age_s: None,
            rx_bytes: 0,
            tx_bytes: 0,
            keepalive_s: None,
            rtt_us: None,
        };
        let peers = (1..).zip(peers).map(peer).collect();
        let device = WireGuardDevice { name: "wg0".into(), peers, ..WireGuardDevice::default() };
        SystemData { wireguard: vec![device], ..SystemData::default() }
    }

    fn found(probe: &Probe) -> Found {
        let agent = AgentId([1; 16]);
        let peer =
            Brief { agent, version: String::new(), hostname: String::new(), distance: None, via: None };
        Found { address: probe.address, peer, rtt: Duration::from_micros(1234) }
    }

    fn texts(probes: &[Probe]) -> Vec<String> {
        probes.iter().map(|probe| probe.address.to_string()).collect()
    }

    #[test]
    fn a_peer_is_probed_once_a_minute_and_its_agent_reported() {
        let now = Instant::now();
        let mut system = system(&[&["10.9.0.2/32"], &["10.9.0.3/32", "0.0.0.0/0"]]);
        let mut probes = Probes::default();
        let first = probes.plan(&system, now);
        assert_eq!(texts(&first), ["10.9.0.2", "10.9.0.3"]);
        probes.settle(&first[0], Some(&found(&first[0])), now);
        probes.settle(&first[1], None, now);
        assert!(probes.plan(&system, now + Duration::from_secs(59)).is_empty());
        probes.fill(&mut system, now + Duration::from_secs(59));
        let rtts: Vec<_> = system.wireguard[0].peers.iter().map(|peer| peer.rtt_us).collect();
        assert_eq!(rtts, [Some(1234), None]);
        assert_eq!(probes.agents(), [first[0].address]);
        assert!(texts(&probes.plan(&system, now + EVERY.mul_f64(1.1))).contains(&"10.9.0.2".to_owned()));
        probes.fill(&mut system, now + VALID);
        assert_eq!(system.wireguard[0].peers[0].rtt_us, None, "it is out of date");
    }

    #[test]
    fn a_subnet_is_walked_one_address_a_minute_and_larger_ones_never() {
        let system = system(&[&["10.1.0.0/30", "10.9.0.7/32", "10.0.0.0/8"]]);
        let mut probes = Probes::default();
        let mut now = Instant::now();
        let mut asked = Vec::new();
        for _ in 0..5 {
            let plan = probes.plan(&system, now);
            plan.iter().for_each(|probe| probes.settle(probe, None, now));
            asked.extend(texts(&plan));
            now += Duration::from_secs(700);
        }
        assert_eq!(asked, ["10.9.0.7", "10.1.0.1", "10.1.0.2", "10.9.0.7", "10.1.0.1"]);
    }

    #[test]
    fn a_peer_without_an_agent_is_probed_ever_less_often() {
        let system = system(&[&["10.9.0.2/32"]]);
        let mut probes = Probes::default();
        let start = Instant::now();
        let times: Vec<u64> = (0..3600)
            .filter(|&second| {
                let plan = probes.plan(&system, start + Duration::from_secs(second));
                plan.iter().for_each(|probe| probes.settle(probe, None, start + Duration::from_secs(second)));
                !plan.is_empty()
            })
            .collect();
        let waits: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(waits.iter().all(|&wait| (60..=661).contains(&wait)), "{waits:?}");
        assert!(waits.last().is_some_and(|&last| last >= 600) && times.len() < 12, "{waits:?}");
    }

    #[test]
    fn an_agent_that_went_away_is_looked_for_again() {
        let system = system(&[&["10.1.0.0/30"]]);
        let mut probes = Probes::default();
        let mut now = Instant::now();
        let mut probe = |answers: bool| {
            now += Duration::from_secs(700);
            let plan = probes.plan(&system, now);
            probes.settle(&plan[0], answers.then(|| found(&plan[0])).as_ref(), now);
            plan[0].address.to_string()
        };
        assert_eq!([probe(false), probe(true), probe(true)], ["10.1.0.1", "10.1.0.2", "10.1.0.2"]);
        assert_eq!([probe(false), probe(false), probe(false)], ["10.1.0.2"; 3]);
        assert_eq!([probe(false), probe(false)], ["10.1.0.1", "10.1.0.2"]);
    }

    #[test]
    fn all_of_very_many_peers_get_their_turn() {
        let lists: Vec<String> = (0..250).map(|number| format!("10.9.1.{number}/32")).collect();
        let lists: Vec<[&str; 1]> = lists.iter().map(|text| [text.as_str()]).collect();
        let system = system(&lists.iter().map(<[&str; 1]>::as_slice).collect::<Vec<_>>());
        let mut probes = Probes::default();
        let now = Instant::now();
        let first = probes.plan(&system, now);
        let second = probes.plan(&system, now + Duration::from_secs(30));
        assert_eq!((first.len(), second.len()), (PROBES_MAX, 250 - PROBES_MAX));
        assert!(first.iter().all(|probe| !second.contains(probe)));
    }
}
