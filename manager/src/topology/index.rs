//! Who has what: the look-ups by which one agent's report is joined to another's, and whom a
//! change of one concerns.

use std::hash::{Hash, Hasher};
use std::net::IpAddr;

use proto::ids::AgentId;
use proto::report::InterfaceKind;

use super::edge::is_global;
use super::fold::Fold;
use super::keys::{KeyIx, Keys};
use super::overlay;
use super::owners::{Owners, SharedOwners};
use super::record::{Agent, AgentIx, Iface, Mac, NO_SLOT, Slot};

/// The look-ups.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) keys: Keys,
    pub(super) macs: SharedOwners<Mac>,
    /// Addresses of WireGuard devices.
    pub(super) tunnel_addresses: SharedOwners<IpAddr>,
    pub(super) hostnames: SharedOwners<Box<str>>,
    mac_seekers: Owners<Mac, AgentIx>,
    /// Addresses of other interfaces.
    pub(super) lan_addresses: Owners<IpAddr>,
    address_seekers: Owners<IpAddr, AgentIx>,
    tunnels: Owners<TunnelEnds>,
    relayed: Owners<AgentId, AgentIx>,
}

type TunnelEnds = (InterfaceKind, IpAddr, IpAddr);

/// Something of an agent that other agents' edges may rest on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Topic {
    /// That it exists, for those whose reports it relays.
    Id(AgentId),
    /// A device's own key, for those who have it as a peer.
    Key(KeyIx),
    /// That a device has this key as a peer, for its owners.
    Holds(KeyIx),
    /// An interface's link-layer address, for those who see it.
    Mac(Mac),
    /// That it sees this link-layer address, for its owners.
    Sees(Mac),
    /// An address, for those who have a tunnel to it.
    Address(IpAddr),
    /// A tunnel's outer addresses, for those who have them the other way round.
    Tunnel(u8, IpAddr, IpAddr),
}

impl Index {
    pub(super) fn mac_owners(&self, mac: Mac) -> &[(AgentIx, Slot)] {
        self.macs.of(&mac)
    }

    /// Agents that have a neighbour of this link-layer address.
    pub(super) fn mac_seekers(&self, mac: Mac) -> &[AgentIx] {
        self.mac_seekers.of(&mac)
    }

    /// Interfaces that hold an address: WireGuard devices after the others.
    pub(super) fn address_owners(&self, ip: IpAddr) -> impl Iterator<Item = (AgentIx, Slot)> + '_ {
        self.lan_addresses.of(&ip).iter().chain(self.tunnel_addresses.of(&ip)).copied()
    }

    /// Tunnels by their outer addresses.
    pub(super) fn tunnels(&self, kind: InterfaceKind, local: IpAddr, remote: IpAddr) -> &[(AgentIx, Slot)] {
        self.tunnels.of(&(kind, local, remote))
    }

    /// Agents whose latest report came through this one.
    pub(super) fn relayed_by(&self, relay: AgentId) -> &[AgentIx] {
        self.relayed.of(&relay)
    }

    /// Notes a record.
    pub(super) fn add(&mut self, ix: AgentIx, agent: &Agent) {
        self.keys.add(ix, agent);
        self.each(ix, agent, Change::Add);
    }

    /// Takes back what [`Index::add`] noted.
    pub(super) fn remove(&mut self, ix: AgentIx, agent: &Agent) {
        self.keys.remove(ix, agent);
        self.each(ix, agent, Change::Remove);
    }

    /// Number of entries, of which none may stay when no agent is left.
    #[cfg(test)]
    pub(super) fn leftovers(&self) -> usize {
        let macs = self.macs.len() + self.mac_seekers.len() + self.hostnames.len();
        let addresses = self.lan_addresses.len() + self.address_seekers.len() + self.tunnel_addresses.len();
        macs + addresses + self.tunnels.len() + self.relayed.len() + self.keys.in_use()
    }

    /// What several agents have is what a look at all finds.
    #[cfg(test)]
    pub(super) fn check(&self) {
        self.macs.check();
        self.tunnel_addresses.check();
        self.hostnames.check();
        let shared = (0..).take(self.keys.len()).filter(|key| self.keys.owners(*key).len() > 1);
        assert_eq!(self.keys.shared().collect::<Vec<_>>(), shared.collect::<Vec<KeyIx>>());
    }

    fn each(&mut self, ix: AgentIx, agent: &Agent, change: Change) {
        if !agent.hostname.is_empty() {
            change.note(&mut self.hostnames, agent.hostname.clone(), (ix, NO_SLOT));
        }
        for interface in &agent.interfaces {
            let place = (ix, interface.slot);
            if let Some(mac) = interface.mac {
                change.note(&mut self.macs, mac, place);
            }
            let is_device = agent.device(interface.slot).is_some();
            for ip in addresses(agent, interface) {
                if is_device {
                    change.note(&mut self.tunnel_addresses, ip, place);
                } else {
                    change.apply(&mut self.lan_addresses, ip, place);
                }
            }
            if let Some((local, remote)) = overlay::addresses(interface) {
                change.apply(&mut self.tunnels, (interface.kind, local, remote), place);
                change.apply(&mut self.address_seekers, remote, ix);
            }
        }
        for seen in &agent.neighbours {
            change.apply(&mut self.mac_seekers, seen.mac, ix);
        }
        for relay in &agent.relay {
            change.apply(&mut self.relayed, *relay, ix);
        }
    }

    /// What others' edges may rest on, each with a number that changes when it changes; sorted.
    pub(super) fn topics(agent: &Agent) -> Vec<(Topic, u64)> {
        let silent = u8::from(agent.silent);
        let tag = |slot: Slot, more: &dyn Fn(&mut Fold)| {
            let mut hash = Fold::default();
            hash.write_u16(slot);
            hash.write_u8(silent | u8::from(agent.is_up(slot)) << 1);
            more(&mut hash);
            hash.finish()
        };
        let mut topics = vec![(Topic::Id(agent.id), 0)];
        for device in &agent.devices {
            topics.extend(device.key.map(|key| (Topic::Key(key), tag(device.slot, &|_| {}))));
            let own = device.key.unwrap_or(KeyIx::MAX);
            let held = tag(device.slot, &|hash| hash.write_u32(own));
            topics.extend(device.halves.iter().map(|half| (Topic::Holds(half.key), held)));
        }
        for interface in &agent.interfaces {
            let all = |hash: &mut Fold| hash_interface(hash, agent, interface);
            topics.extend(interface.mac.map(|mac| (Topic::Mac(mac), tag(interface.slot, &all))));
            topics.extend(
                addresses(agent, interface).map(|ip| (Topic::Address(ip), tag(interface.slot, &|_| {}))),
            );
            if let Some((local, remote)) = overlay::addresses(interface) {
                topics.push((Topic::Tunnel(interface.kind as u8, local, remote), tag(interface.slot, &all)));
            }
        }
        let seen = |slot| tag(slot, &|_| {});
        topics.extend(agent.neighbours.iter().map(|entry| (Topic::Sees(entry.mac), seen(entry.slot))));
        topics.sort_unstable();
        topics
    }

    /// The agents whose edges may rest on these topics of an agent, each once.
    pub(super) fn concerned(&self, topics: &[(Topic, u64)], agent: &Agent) -> Vec<AgentIx> {
        let mut concerned: Vec<AgentIx> =
            topics.iter().flat_map(|(topic, _)| self.interested(*topic, agent)).collect();
        concerned.sort_unstable();
        concerned.dedup();
        concerned
    }

    /// The agents whose edges may rest on a topic.
    fn interested(&self, topic: Topic, agent: &Agent) -> Vec<AgentIx> {
        let agents = |owners: &[(AgentIx, Slot)]| owners.iter().map(|owner| owner.0).collect();
        match topic {
            Topic::Id(id) => self.relayed_by(id).to_vec(),
            Topic::Key(key) => agents(self.keys.holders(key)),
            Topic::Holds(key) => agents(self.keys.owners(key)),
            Topic::Mac(mac) => self.mac_seekers(mac).to_vec(),
            Topic::Sees(mac) => agents(self.mac_owners(mac)),
            Topic::Address(ip) => self.address_seekers.of(&ip).to_vec(),
            Topic::Tunnel(_, local, remote) => {
                let kinds =
                    agent.interfaces.iter().filter(|i| overlay::addresses(i) == Some((local, remote)));
                let twins = kinds.flat_map(|i| {
                    [(local, remote), (remote, local)].map(|(a, b)| self.tunnels(i.kind, a, b))
                });
                twins.flatten().map(|owner| owner.0).collect()
            }
        }
    }
}

fn hash_interface(hash: &mut Fold, agent: &Agent, interface: &Iface) {
    hash.write_u8(interface.kind as u8);
    hash.write_u16(interface.master);
    hash.write_u8(u8::from(agent.device(interface.slot).is_some()));
    hash.text(agent.name(interface.slot));
    for port in interface.lower().iter().filter_map(|slot| agent.interface(*slot)) {
        hash.write_u16(port.slot);
        hash.write_u8(port.kind as u8);
    }
    for address in &agent.addresses {
        hash.cidr(*address);
    }
    for lan in agent.lans.iter().filter(|lan| lan.slot == interface.slot) {
        hash.write(&lan.mac);
    }
    let tunnel = interface.tunnel();
    hash.write_u32(tunnel.and_then(|tunnel| tunnel.id).unwrap_or(u32::MAX));
    hash.write_u32(tunnel.and_then(|tunnel| tunnel.port).map_or(u32::MAX, u32::from));
}

fn addresses<'a>(agent: &'a Agent, interface: &Iface) -> impl Iterator<Item = IpAddr> + use<'a> {
    agent.addresses(interface).iter().map(|address| address.address()).filter(|ip| is_global(*ip))
}

#[derive(Debug, Clone, Copy)]
enum Change {
    Add,
    Remove,
}

impl Change {
    fn note<K: Hash + Ord + Clone>(self, owners: &mut SharedOwners<K>, key: K, place: (AgentIx, Slot)) {
        match self {
            Self::Add => owners.insert(key, place),
            Self::Remove => owners.remove(key, place),
        }
    }

    fn apply<K: Hash + Eq, T: Ord + Copy>(self, owners: &mut Owners<K, T>, key: K, owner: T) {
        match self {
            Self::Add => owners.insert(key, owner),
            Self::Remove => owners.remove(key, owner),
        }
    }
}
