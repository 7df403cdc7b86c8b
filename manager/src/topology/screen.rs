//! What alarms look at: a glance over all agents and edges, and the view of those few alone that a
//! rule may have something to say of. A whole view costs seconds at 10,000 agents; this, milliseconds.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use proto::ids::{AgentId, Cidr, PublicKey};

use super::edge::Far;
use super::fold::{AgentSet, FoldMap};
use super::record::{Agent, AgentIx, Device, Half, mac_text, parse_mac};
use super::shape::{EdgeState, Layer};
use super::view::NatKind;
use super::{State, mesh, nat, render};

/// An agent at a glance.
#[derive(Debug, Clone, Copy)]
pub struct Glance<'a> {
    /// Its id.
    pub id: AgentId,
    /// Its host's own name; may be empty.
    pub hostname: &'a str,
    /// Whether it reports.
    pub fresh: bool,
}

/// An interface of an agent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The agent.
    pub agent: AgentId,
    /// The interface's name.
    pub interface: String,
    /// Its key, where it is a WireGuard device.
    pub key: Option<PublicKey>,
}

impl State {
    /// All agents at a glance.
    pub fn glances(&self) -> impl Iterator<Item = Glance<'_>> {
        let agents = self.agents.iter().filter_map(Option::as_deref);
        agents.map(|agent| Glance { id: agent.id, hostname: &agent.hostname, fresh: !agent.silent })
    }

    /// Names that the hosts of several agents have, each with those that report, in order.
    #[must_use]
    pub fn namesakes(&self) -> HashMap<&str, Vec<AgentId>> {
        let shared = self.index.hostnames.shared().map(|name| {
            let owners = self.index.hostnames.of(name).iter().filter_map(|(ix, _)| self.agent(*ix));
            let mut ids: Vec<AgentId> = owners.filter(|agent| !agent.silent).map(|agent| agent.id).collect();
            ids.sort_unstable();
            (&**name, ids)
        });
        shared.collect()
    }

    /// All agents.
    pub fn ids(&self) -> impl Iterator<Item = AgentId> {
        self.by_id.keys().copied()
    }

    /// Agents that are silent.
    #[must_use]
    pub fn dark(&self) -> AgentSet {
        self.silent.iter().filter_map(|ix| Some(self.agent(*ix)?.id)).collect()
    }

    fn by_id(&self, id: AgentId) -> Option<&Agent> {
        self.agent(self.find(id)?)
    }

    /// What to call an agent: its host's name, or its id when it has none.
    #[must_use]
    pub fn label(&self, id: AgentId) -> Option<String> {
        Some(self.by_id(id)?.label())
    }

    /// When an agent's latest report was observed (ms).
    #[must_use]
    pub fn observed_at(&self, id: AgentId) -> Option<i64> {
        Some(self.by_id(id)?.observed_at())
    }

    /// The addresses of an agent's interface.
    #[must_use]
    pub fn addresses(&self, id: AgentId, interface: &str) -> &[Cidr] {
        let agent = self.by_id(id);
        let found = agent.and_then(|agent| agent.interfaces.iter().find(|i| agent.name(i.slot) == interface));
        agent.zip(found).map_or(&[], |(agent, interface)| agent.addresses(interface))
    }

    /// Among every `of`th agent from the `nth` on, those whose NAT, or whose keepalive behind it,
    /// may be worth a word.
    #[must_use]
    pub fn natted(&self, nth: usize, of: usize) -> Vec<AgentId> {
        let some = (0..).zip(&self.agents).skip(nth).step_by(of.max(1));
        let natted = some.filter_map(|(ix, agent): (AgentIx, _)| {
            let agent = agent.as_deref()?;
            let nat = nat::of(self, ix, false)?.nat;
            let odd = nat.kind == NatKind::Symmetric || nat.port_kept == Some(false) || nat.carrier;
            let is_natted = nat.kind != NatKind::None;
            (is_natted && (odd || self.lacks_keepalive(ix, agent))).then_some(agent.id)
        });
        natted.collect()
    }

    /// Whether a tunnel of an agent behind NAT, to one that is not, has no keepalive at either end.
    fn lacks_keepalive(&self, ix: AgentIx, agent: &Agent) -> bool {
        agent.claims.iter().filter(|key| key.layer == Layer::WireGuard).any(|key| {
            let Far::Agent(far) = key.far else { return false };
            let other = if key.near.agent() == ix { far.agent() } else { key.near.agent() };
            let halves = render::halves(self, *key);
            let silent = halves.iter().all(|half| half.is_some_and(|(_, half)| half.keepalive_s == 0));
            let natted = || nat::of(self, other, false).is_some_and(|seen| seen.nat.kind != NatKind::None);
            silent && !natted()
        })
    }

    /// The WireGuard devices with this key of agents that report.
    #[must_use]
    pub fn owners_of_key(&self, key: &PublicKey) -> Vec<Place> {
        self.index.keys.find(key).map(|number| self.key_places(number)).unwrap_or_default()
    }

    /// The key of a peer by its place in the report's list of an interface's peers.
    #[must_use]
    pub fn key_of_peer(&self, agent: AgentId, interface: &str, place: u16) -> Option<PublicKey> {
        Some(self.index.keys.key(self.peer(agent, interface, place)?))
    }

    /// Calls `f` with each WireGuard device of that peer's key of agents that report: the agent, the interface.
    pub fn each_owner_of_peer<'a>(
        &'a self,
        agent: AgentId,
        interface: &str,
        place: u16,
        mut f: impl FnMut(AgentId, &'a str),
    ) {
        let owners = self.peer(agent, interface, place).map(|number| self.index.keys.owners(number));
        for (ix, slot) in owners.into_iter().flatten() {
            if let Some(agent) = self.agent(*ix).filter(|agent| !agent.silent) {
                f(agent.id, agent.name(*slot));
            }
        }
    }

    fn peer(&self, agent: AgentId, interface: &str, place: u16) -> Option<u32> {
        let agent = self.agent(self.find(agent)?)?;
        let device = agent.devices.iter().find(|device| agent.name(device.slot) == interface)?;
        Some(device.briefs.get(usize::from(place))?.key)
    }

    /// Keys that several devices of agents that report have.
    #[must_use]
    pub fn shared_keys(&self) -> Vec<(PublicKey, Vec<Place>)> {
        let keys = &self.index.keys;
        let shared = keys.shared().map(|number| (keys.key(number), self.key_places(number)));
        shared.filter(|(_, places)| places.len() > 1).collect()
    }

    fn key_places(&self, number: u32) -> Vec<Place> {
        let owners = self.index.keys.owners(number).iter();
        let mut places: Vec<Place> =
            owners.filter_map(|(ix, slot)| self.place(self.agent(*ix)?, *slot)).collect();
        places.sort_unstable();
        places
    }

    fn place(&self, agent: &Agent, slot: u16) -> Option<Place> {
        let key = agent.device(slot).and_then(|device| device.key).map(|key| self.index.keys.key(key));
        let interface = agent.name(slot).to_owned();
        (!agent.silent).then_some(Place { agent: agent.id, interface, key })
    }

    /// The WireGuard interfaces with this address of agents that report.
    #[must_use]
    pub fn tunnel_owners(&self, ip: IpAddr) -> Vec<Place> {
        let owners = self.index.tunnel_addresses.of(&ip).iter();
        let mut places: Vec<Place> =
            owners.filter_map(|(ix, slot)| self.place(self.agent(*ix)?, *slot)).collect();
        places.sort_unstable();
        places
    }

    /// Addresses that the WireGuard interfaces of several agents that report have.
    #[must_use]
    pub fn shared_tunnel_addresses(&self) -> Vec<(IpAddr, Vec<Place>)> {
        let shared = self.index.tunnel_addresses.shared();
        let places = shared.map(|ip| (*ip, self.tunnel_owners(*ip)));
        places.filter(|(_, places)| places.len() > 1).collect()
    }

    /// Another agent that reports and has an address on an interface that is no WireGuard device.
    #[must_use]
    pub fn lan_owner(&self, ip: IpAddr, than: AgentId) -> Option<AgentId> {
        let owners = self.index.lan_addresses.of(&ip).iter().filter_map(|(ix, _)| self.agent(*ix));
        owners.filter(|agent| !agent.silent && agent.id != than).map(|agent| agent.id).min()
    }

    /// Another agent that has an interface of this link-layer address, reporting or not.
    #[must_use]
    pub fn mac_owner(&self, mac: &str, than: AgentId) -> Option<AgentId> {
        let owners = self.index.mac_owners(parse_mac(mac)?).iter();
        owners.filter_map(|(ix, _)| Some(self.agent(*ix)?.id)).filter(|id| *id != than).min()
    }

    /// Link-layer addresses that several agents that report have.
    #[must_use]
    pub fn shared_macs(&self) -> Vec<(String, Vec<AgentId>)> {
        let owners = self.index.macs.shared().map(|mac| {
            let owners = self.index.mac_owners(*mac).iter().filter_map(|(ix, _)| self.agent(*ix));
            let ids: BTreeSet<AgentId> = owners.filter(|agent| !agent.silent).map(|agent| agent.id).collect();
            (mac_text(*mac), ids.into_iter().collect::<Vec<_>>())
        });
        owners.filter(|(_, ids)| ids.len() > 1).collect()
    }

    /// Calls `f` with every WireGuard peer of an agent: its interface, its key, its AllowedIPs.
    pub fn each_peer<'a>(&'a self, id: AgentId, mut f: impl FnMut(&'a str, PublicKey, &[Cidr])) {
        let Some(agent) = self.by_id(id) else { return };
        let mut allowed: Vec<Cidr> = Vec::new();
        for (device, half) in halves_of(agent) {
            allowed.clear();
            allowed.extend(half.reach.allowed());
            f(agent.name(device.slot), self.index.keys.key(half.key), &allowed);
        }
    }

    /// The agents that an agent has WireGuard edges with, each with its interface and that one's addresses.
    pub fn each_mate<'a>(&'a self, id: AgentId, mut f: impl FnMut(AgentId, &'a [Cidr])) {
        let Some(ix) = self.find(id) else { return };
        let Some(agent) = self.agent(ix) else { return };
        for key in agent.claims.iter().filter(|key| key.layer == Layer::WireGuard) {
            let Far::Agent(far) = key.far else { continue };
            let mate = if key.near.agent() == ix { far } else { key.near };
            let Some(other) = self.agent(mate.agent()).filter(|other| other.id != id) else { continue };
            f(other.id, other.interface(mate.slot).map_or(&[], |interface| other.addresses(interface)));
        }
    }

    /// The part of the map that each agent is in, the largest 0; agents without a working edge in none.
    #[must_use]
    pub fn parts(&self) -> FoldMap<AgentId, usize> {
        let (components, _) = mesh::components(self);
        components.into_iter().filter_map(|(ix, part)| Some((self.agent(ix)?.id, part))).collect()
    }

    /// Agents and LANs that working edges join: ids (none for LANs), and neighbours by number.
    #[must_use]
    pub fn graph(&self) -> (Vec<Option<AgentId>>, Vec<Vec<usize>>) {
        let mut ids: Vec<Option<AgentId>> =
            self.agents.iter().map(|agent| agent.as_ref().map(|agent| agent.id)).collect();
        let mut neighbours: Vec<Vec<usize>> = vec![Vec::new(); ids.len()];
        let mut lans = HashMap::new();
        let works = |state| matches!(state, EdgeState::Up | EdgeState::Idle);
        for (key, _) in self.edges.iter().filter(|(key, kept)| works(kept.state) && key.layer != Layer::Relay)
        {
            let a = key.near.agent() as usize;
            let b = match key.far {
                Far::Agent(far) => far.agent() as usize,
                Far::Lan(mac) => *lans.entry(mac).or_insert_with(|| {
                    ids.push(None);
                    neighbours.push(Vec::new());
                    ids.len() - 1
                }),
                Far::Key(_) | Far::OwnLan(_) | Far::Behind | Far::Manager => continue,
            };
            if a != b {
                neighbours[a].push(b);
                neighbours[b].push(a);
            }
        }
        (ids, neighbours)
    }
}

fn halves_of(agent: &Agent) -> impl Iterator<Item = (&Device, &Half)> {
    agent.devices.iter().flat_map(|device| device.halves.iter().map(move |half| (device, half)))
}
