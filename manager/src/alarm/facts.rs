//! Everything that a rule may look at, at one moment, with the look-ups that rules share.

use std::collections::{BTreeMap, HashMap, HashSet};

use proto::ids::{AgentId, PublicKey};

use super::Proof;
pub use super::setting::{ManagerFacts, Reporter, Setting, reporters};
use super::watch::{DeviceWatch, KeyTag, PeerWatch, Watch, Watches};
use crate::topology::{
    AgentSet, Edge, Excerpt, FoldMap, Half, HostView, Layer, Nic, Relation, State, Tally, Traffic,
};

/// Everything that a rule may look at.
#[derive(Debug)]
pub struct Facts<'a> {
    setting: &'a Setting<'a>,
    /// The manager's clock (ms).
    pub now: i64,
    /// The map, for look-ups.
    pub state: &'a State,
    /// The part of the map that rules of single hosts and edges look at.
    pub excerpt: &'a Excerpt<'a>,
    /// How the fleet's tunnels fare.
    pub tally: &'a Tally,
    /// What is remembered beside it.
    pub watches: &'a Watches,
    /// Who reports, and how.
    pub agents: &'a BTreeMap<AgentId, Reporter>,
    /// Those of whose reporting there may be something to say.
    pub notable: &'a [(AgentId, &'a Reporter)],
    /// The manager.
    pub manager: &'a ManagerFacts,
    /// The excerpt's agents by id.
    pub hosts: BTreeMap<AgentId, Host<'a>>,
    /// WireGuard edges of the excerpt, in order of id.
    tunnels: Vec<Tunnel<'a>>,
    /// By agent, the places of its tunnels in `tunnels`.
    tunnels_by_agent: HashMap<AgentId, Vec<usize>>,
    /// Agents that are silent.
    pub dark: &'a AgentSet,
    /// Names that several hosts have, and those of them that report.
    pub namesakes: &'a HashMap<&'a str, Vec<AgentId>>,
}

/// An agent with what is known of it.
#[derive(Debug, Clone, Copy)]
pub struct Host<'a> {
    /// What the map has of it.
    pub view: HostView<'a>,
    /// What is remembered of it.
    pub watch: Option<&'a Watch>,
    /// Whether it reports.
    pub fresh: bool,
    /// Whether all its edges are in the excerpt.
    pub is_whole: bool,
}

/// A WireGuard edge with what is known of both its ends.
#[derive(Debug, Clone)]
pub struct Tunnel<'a> {
    /// The edge.
    pub edge: &'a Edge,
    /// Its ends; the second is `None` where it is no agent.
    pub ends: [Option<Side<'a>>; 2],
    /// Whether it is to be looked at, and not there only to bear witness of another's ends.
    is_asked: bool,
}

/// One end of a tunnel.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// Its agent.
    pub id: AgentId,
    /// The same with what is known of it.
    pub host: Host<'a>,
    /// The interface's name.
    pub interface: &'a str,
    /// The interface.
    pub nic: Option<Nic<'a>>,
    /// What it has set for the other end.
    pub half: Option<&'a Half>,
    /// What is remembered of the device.
    pub device: Option<&'a DeviceWatch>,
    /// What is remembered of the peer.
    pub peer: Option<&'a PeerWatch>,
}

impl<'a> Facts<'a> {
    /// The facts of a moment, with those `picked` to be looked at, of whom the excerpt is.
    #[must_use]
    pub fn new(setting: &'a Setting<'a>, picked: &[AgentId], excerpt: &'a Excerpt<'a>) -> Self {
        let picked: HashSet<AgentId> = picked.iter().copied().collect();
        let Setting { now, state, tally, watches, agents, notable, manager, dark, namesakes, .. } = setting;
        let now = *now;
        let hosts: BTreeMap<AgentId, Host<'_>> = excerpt
            .hosts
            .iter()
            .map(|view| {
                let (id, fresh) = (view.id(), view.is_fresh());
                (id, Host { view: *view, watch: watches.get(id), fresh, is_whole: picked.contains(&id) })
            })
            .collect();
        let edges = excerpt.edges.iter().zip(&excerpt.refs);
        let edges = edges.filter(|(edge, _)| edge.shape.layer == Layer::WireGuard);
        let tunnels: Vec<Tunnel<'_>> =
            edges.map(|(edge, (_, is_asked))| tunnel(edge, *is_asked, &hosts)).collect();
        let mut tunnels_by_agent: HashMap<AgentId, Vec<usize>> = HashMap::new();
        for (place, tunnel) in tunnels.iter().enumerate() {
            for agent in tunnel.agents() {
                let places = tunnels_by_agent.entry(agent).or_default();
                // One between two devices of one host is one of its tunnels once.
                if places.last() != Some(&place) {
                    places.push(place);
                }
            }
        }
        Self {
            setting,
            now,
            state,
            excerpt,
            tally,
            watches,
            agents,
            notable,
            manager,
            hosts,
            tunnels,
            tunnels_by_agent,
            dark,
            namesakes,
        }
    }

    /// What to call an agent: its host's name, with the beginning of its id where two share it.
    #[must_use]
    pub fn name(&self, id: AgentId) -> String {
        let Some(name) = self.state.label(id) else { return format!("agent {id}") };
        if self.namesakes.contains_key(name.as_str()) {
            format!("{name} ({})", &id.to_string()[..8])
        } else {
            name
        }
    }

    /// The part of the map that each agent is in.
    #[must_use]
    pub fn parts(&self) -> &'a FoldMap<AgentId, usize> {
        self.setting.parts()
    }

    /// The tunnels to look at.
    pub fn tunnels(&self) -> impl Iterator<Item = &Tunnel<'a>> {
        self.tunnels.iter().filter(|tunnel| tunnel.is_asked)
    }

    /// Tunnels between two agents that both report and both have each other.
    pub fn confirmed(&self) -> impl Iterator<Item = (&Tunnel<'a>, [Side<'a>; 2])> {
        self.tunnels().filter_map(|tunnel| {
            let [Some(a), Some(b)] = tunnel.ends else { return None };
            tunnel.is_confirmed().then_some((tunnel, [a, b]))
        })
    }

    /// The tunnels of an agent.
    pub fn tunnels_of(&self, id: AgentId) -> impl Iterator<Item = &Tunnel<'a>> {
        self.tunnels_by_agent.get(&id).into_iter().flatten().map(|place| &self.tunnels[*place])
    }

    /// Those of the agents to look at that report, with what is remembered of them.
    pub fn watched(&self) -> impl Iterator<Item = (AgentId, &Host<'a>, &'a Watch)> {
        self.hosts
            .iter()
            .filter(|(_, host)| host.fresh && host.is_whole)
            .filter_map(|(id, host)| Some((*id, host, host.watch?)))
    }

    /// A proof of an agent's latest report.
    #[must_use]
    pub fn proof(&self, id: AgentId, field: impl Into<String>, text: impl Into<String>) -> Proof {
        let observed_at = self.state.observed_at(id);
        Proof { agent: Some(id), observed_at, field: field.into(), text: text.into() }
    }

    /// Seconds between the reports of the slowest of these agents.
    #[must_use]
    pub fn interval(&self, agents: &[AgentId]) -> u32 {
        agents.iter().filter_map(|id| Some(self.agents.get(id)?.interval_s)).max().unwrap_or(30)
    }
}

fn tunnel<'a>(edge: &'a Edge, is_asked: bool, hosts: &BTreeMap<AgentId, Host<'a>>) -> Tunnel<'a> {
    let side = |number: usize| {
        let end = &edge.shape.ends[number];
        let id: AgentId = end.node.parse().ok()?;
        let host = *hosts.get(&id)?;
        let interface = end.interface.as_deref().unwrap_or_default();
        let nic = host.view.nic(interface);
        let half = edge.halves.as_ref().and_then(|halves| halves[number].as_ref());
        let device = host.watch.and_then(|watch| watch.devices.get(interface));
        let peer =
            device.zip(half).and_then(|(device, half)| device.peers.get(&KeyTag::of(&half.shape.peer)));
        Some(Side { id, host, interface, nic, half, device, peer })
    };
    Tunnel { edge, ends: [side(0), side(1)], is_asked }
}

impl Tunnel<'_> {
    /// The agents at its ends.
    #[must_use]
    pub fn agents(&self) -> Vec<AgentId> {
        self.ends.iter().flatten().map(|side| side.id).collect()
    }

    /// Whether it is between two agents that both report and both have each other.
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        let fresh = |side: &Option<Side<'_>>| side.is_some_and(|side| side.host.fresh);
        self.edge.shape.relation == Relation::Confirmed && self.ends.iter().all(fresh)
    }

    /// The interfaces that it stands on: its own and those that carry it.
    #[must_use]
    pub fn stands_on(&self) -> Vec<String> {
        let mut subjects = Vec::new();
        for side in self.ends.iter().flatten() {
            subjects.push(format!("{}/{}", side.id, side.interface));
            let carrier = side.half.and_then(|half| half.underlay.as_ref()?.interface.clone());
            subjects.extend(carrier.map(|carrier| format!("{}/{carrier}", side.id)));
            // A card without a link has often lost its routes too, and with them what says that it
            // carries the tunnel.
            let down = side.host.watch.into_iter().flat_map(|watch| watch.links.iter());
            let down = down.filter(|(_, link)| link.was_used && !link.has_link);
            subjects.extend(down.map(|(name, _)| format!("{}/{name}", side.id)));
        }
        subjects.sort_unstable();
        subjects.dedup();
        subjects
    }
}

impl Side<'_> {
    /// Its public key.
    #[must_use]
    pub fn key(&self) -> Option<PublicKey> {
        self.nic?.public_key()
    }

    /// Bytes received and sent between its last two reports.
    #[must_use]
    pub fn delta(&self) -> Option<(u64, u64)> {
        self.half?.delta
    }

    /// Whether it sends handshake initiations that nobody answers.
    #[must_use]
    pub fn is_unanswered(&self) -> bool {
        self.half.is_some_and(|half| half.traffic == Traffic::Unanswered)
    }

    /// What it says of the other end, as evidence.
    #[must_use]
    pub fn proof(&self, facts: &Facts<'_>, other: Option<&Side<'_>>) -> Proof {
        let (name, interface) = (facts.name(self.id), self.interface);
        let peer = other.map_or_else(|| "a key that no agent has".to_owned(), |side| facts.name(side.id));
        let Some(half) = self.half else {
            let text = format!("{name}'s {interface} has no peer with the key of {peer}");
            return facts.proof(self.id, format!("wireguard[{interface}].peers"), text);
        };
        let handshake = match half.handshake_age_s {
            Some(age) => format!("last handshake {age} s before"),
            None => "never had a handshake".to_owned(),
        };
        let endpoint = half.shape.endpoint.as_deref().unwrap_or("no endpoint");
        let flow = match half.delta {
            Some((0, tx)) if tx > 0 && tx % 148 == 0 => {
                format!(
                    "; since the report before, nothing received and {} handshake initiations sent",
                    tx / 148
                )
            }
            Some((rx, tx)) => format!("; since the report before, {rx} B received and {tx} B sent"),
            None => String::new(),
        };
        let text = format!("{name}'s {interface} has the peer {peer} at {endpoint}: {handshake}{flow}");
        facts.proof(self.id, format!("wireguard[{interface}].peers[{}]", half.shape.peer), text)
    }
}
