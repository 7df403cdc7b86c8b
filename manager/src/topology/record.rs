//! What is remembered of an agent: its latest report, packed to a few hundred bytes and about a
//! hundred for each WireGuard peer.

use std::net::IpAddr;

use proto::ids::{AgentId, BootId, Cidr, PublicKey};
use proto::report::{Forwarding, InterfaceKind, Neighbour, NeighbourState, Rule, Source, TunnelData};

use super::edge::EdgeKey;
use super::keys::{KeyIx, Keys};
use super::names::Names;
use super::reach::Reach;
use super::routes::Routes;
use super::shape::{Handshake, Presence};
use super::traffic::Samples;
use super::wireguard;

/// Index of an agent in the state.
pub(super) type AgentIx = u32;

/// A link-layer address of six bytes.
pub(super) type Mac = [u8; 6];

/// Place of an interface's name in its agent's list of names: the same for as long as the agent
/// has an interface of that name.
pub(super) type Slot = u16;

/// No interface.
pub(super) const NO_SLOT: Slot = Slot::MAX;

/// An agent's latest report.
#[derive(Debug, Clone)]
pub(super) struct Agent {
    pub(super) id: AgentId,
    pub(super) boot: BootId,
    pub(super) tick: u64,
    /// See [`super::State::rests_on`].
    pub(super) basis: Option<u64>,
    /// Milliseconds since the Unix epoch on the manager's clock.
    pub(super) received_at: i64,
    pub(super) interval_s: u32,
    /// Whether nothing was heard of it for too long, as of the last settling.
    pub(super) silent: bool,
    pub(super) fingerprint: u64,
    pub(super) relay: Box<[AgentId]>,
    pub(super) hostname: Box<str>,
    pub(super) forwarding: Option<Forwarding>,
    pub(super) names: Names,
    pub(super) interfaces: Box<[Iface]>,
    /// The addresses of all interfaces, in their order.
    pub(super) addresses: Box<[Cidr]>,
    pub(super) devices: Box<[Device]>,
    pub(super) routes: Routes,
    pub(super) routes_source: Source,
    /// Whether the host has more routes than it reported.
    pub(super) routes_cut: bool,
    pub(super) rules: Box<[Rule]>,
    pub(super) neighbours: Box<[Seen]>,
    /// The gateways of its default routes that it has resolved, and the interfaces to them.
    pub(super) lans: Box<[Seen]>,
    /// Whether any of its interfaces may have an overlay edge.
    pub(super) overlays: bool,
    /// When its last three reports of this boot were observed, newest first; 0 for none.
    pub(super) times: [i64; 3],
    /// The edges that its report tells of, as of the last settling.
    pub(super) claims: Vec<EdgeKey>,
}

/// A network interface.
#[derive(Debug, Clone)]
pub(super) struct Iface {
    pub(super) slot: Slot,
    pub(super) kind: InterfaceKind,
    pub(super) up: bool,
    pub(super) master: Slot,
    pub(super) mtu: u32,
    pub(super) index: u32,
    pub(super) mac: Option<Mac>,
    /// From where to where its addresses are in those of its agent.
    pub(super) addresses: [u16; 2],
    /// What most interfaces have not.
    pub(super) more: Option<Box<More>>,
}

/// What else is known of an interface that stands on others, or is one of a pair.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct More {
    pub(super) link: Option<u32>,
    pub(super) lower: Box<[Slot]>,
    pub(super) tunnel: Option<TunnelData>,
}

/// A WireGuard device.
#[derive(Debug, Clone)]
pub(super) struct Device {
    pub(super) slot: Slot,
    pub(super) key: Option<KeyIx>,
    pub(super) listen_port: u16,
    /// Whether its interface is up, or not listed and so not known to be down.
    pub(super) up: bool,
    pub(super) fwmark: Option<u32>,
    /// What edges rest on, apart from the rest: for each of `halves` in their order.
    pub(super) briefs: Box<[Brief]>,
    pub(super) halves: Box<[Half]>,
}

/// What the edges of a WireGuard peer rest on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Brief {
    pub(super) key: KeyIx,
    pub(super) handshake: Handshake,
    /// Whether its initiations go unanswered.
    pub(super) trying: bool,
    pub(super) keepalive: bool,
}

/// One end's view of a WireGuard peer.
#[derive(Debug, Clone)]
pub(super) struct Half {
    pub(super) key: KeyIx,
    /// Seconds since the last handshake; [`NEVER`] for none.
    pub(super) age_s: u32,
    /// Round-trip time; 0 for none.
    pub(super) rtt_us: u32,
    pub(super) keepalive_s: u16,
    pub(super) has_psk: bool,
    pub(super) reach: Reach,
    pub(super) samples: Samples,
}

/// The age of a handshake that never was.
pub(super) const NEVER: u32 = u32::MAX;

/// Where a peer's packets are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) ip: IpAddr,
    pub(super) port: u16,
    /// The interface of a link-local address.
    pub(super) zone: Slot,
}

/// A resolved neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seen {
    pub(super) slot: Slot,
    pub(super) ip: IpAddr,
    pub(super) mac: Mac,
}

impl Agent {
    /// The name of a slot; empty for [`NO_SLOT`].
    pub(super) fn name(&self, slot: Slot) -> &str {
        self.names.get(slot)
    }

    pub(super) fn presence(&self) -> Presence {
        if self.silent { Presence::Silent } else { Presence::Fresh }
    }

    pub(super) fn interface(&self, slot: Slot) -> Option<&Iface> {
        self.interfaces.iter().find(|interface| interface.slot == slot)
    }

    pub(super) fn device(&self, slot: Slot) -> Option<&Device> {
        self.devices.iter().find(|device| device.slot == slot)
    }

    /// Whether an interface is up, or not listed and so not known to be down.
    pub(super) fn is_up(&self, slot: Slot) -> bool {
        self.interface(slot).is_none_or(|interface| interface.up)
    }

    /// The addresses of one of its interfaces.
    pub(super) fn addresses(&self, interface: &Iface) -> &[Cidr] {
        let [start, end] = interface.addresses.map(usize::from);
        self.addresses.get(start..end).unwrap_or(&[])
    }

    pub(super) fn holds(&self, interface: &Iface, ip: IpAddr) -> bool {
        self.addresses(interface).iter().any(|address| address.address() == ip)
    }

    /// The interface that holds an address.
    pub(super) fn owner_of(&self, ip: IpAddr) -> Option<&Iface> {
        self.interfaces.iter().find(|interface| self.holds(interface, ip))
    }

    /// When the report was observed: milliseconds since the Unix epoch.
    pub(super) fn observed_at(&self) -> i64 {
        self.times[0]
    }

    /// What to call it: its host's name, or its id when it has none.
    pub(super) fn label(&self) -> String {
        if self.hostname.is_empty() { self.id.to_string() } else { self.hostname.to_string() }
    }

    /// Makes the slots of names that are gone free for others. Only while no edge mentions them.
    pub(super) fn free_names(&mut self) {
        let mut used = vec![false; self.names.len()];
        let slots = self
            .interfaces
            .iter()
            .flat_map(|i| [i.slot, i.master].into_iter().chain(i.lower().iter().copied()));
        let slots = slots.chain(self.devices.iter().map(|device| device.slot));
        let slots = slots.chain(self.routes.iter().map(|route| route.slot));
        let slots = slots.chain(self.neighbours.iter().map(|seen| seen.slot));
        let zones = self.devices.iter().flat_map(|device| &device.halves);
        let zones = zones.filter_map(|half| half.reach.endpoint().map(|endpoint| endpoint.zone));
        for slot in slots.chain(zones) {
            if let Some(used) = used.get_mut(usize::from(slot)) {
                *used = true;
            }
        }
        let free = |slot: Slot| !used[usize::from(slot)] && !self.names.get(slot).is_empty();
        if (0..).take(self.names.len()).any(free) {
            let names = self.names.to_vec().into_iter().zip(used);
            self.names = names.map(|(name, used)| if used { name } else { "".into() }).collect();
        }
    }
}

impl Iface {
    pub(super) fn link(&self) -> Option<u32> {
        self.more.as_ref()?.link
    }

    pub(super) fn lower(&self) -> &[Slot] {
        self.more.as_ref().map_or(&[], |more| &more.lower)
    }

    pub(super) fn tunnel(&self) -> Option<&TunnelData> {
        self.more.as_ref()?.tunnel.as_ref()
    }
}

impl Device {
    pub(super) fn brief(&self, key: KeyIx) -> Option<&Brief> {
        self.briefs.iter().find(|brief| brief.key == key)
    }

    pub(super) fn half(&self, key: KeyIx) -> Option<&Half> {
        let place = self.briefs.iter().position(|brief| brief.key == key)?;
        self.halves.get(place)
    }
}

impl Half {
    pub(super) fn brief(&self, interval_s: u32) -> Brief {
        Brief {
            key: self.key,
            handshake: wireguard::handshake(self.age_s, self.keepalive_s, interval_s),
            trying: self.samples.unanswered(),
            keepalive: self.keepalive_s > 0,
        }
    }
}

/// Whether a neighbour entry says that somebody is there (L1): resolved, and not a mere filter.
pub(super) fn neighbour_counts(neighbour: &Neighbour) -> bool {
    use NeighbourState::{Complete, Delay, Permanent, Probe, Reachable, Stale};
    matches!(neighbour.state, Complete | Reachable | Stale | Delay | Probe | Permanent)
        && neighbour.mac.as_deref().is_some_and(|mac| mac != "00:00:00:00:00:00")
}

/// `aa:bb:cc:dd:ee:ff` as six bytes; other lengths (GRE's addresses) are none.
pub(super) fn parse_mac(text: &str) -> Option<Mac> {
    let mut mac = [0; 6];
    let mut bytes = text.split(':');
    for byte in &mut mac {
        let digits = bytes.next().filter(|digits| digits.len() == 2)?;
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    bytes.next().is_none().then_some(mac)
}

/// Six bytes as `aa:bb:cc:dd:ee:ff`.
pub(super) fn mac_text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// Seconds since the last handshake as a record keeps them.
pub(super) fn age_of(handshake_age_s: Option<u64>) -> u32 {
    handshake_age_s.map_or(NEVER, |age| u32::try_from(age).unwrap_or(NEVER - 1).min(NEVER - 1))
}

/// The text of an endpoint, as `wg` writes it, with the names of its agent.
pub(super) fn endpoint_text(names: &Names, endpoint: Endpoint) -> String {
    let Endpoint { ip, port, zone } = endpoint;
    match ip {
        IpAddr::V4(ip) => format!("{ip}:{port}"),
        IpAddr::V6(ip) if zone == NO_SLOT => format!("[{ip}]:{port}"),
        IpAddr::V6(ip) => format!("[{ip}%{}]:{port}", names.get(zone)),
    }
}

/// The text of a public key in a report's WireGuard device.
pub(super) fn key_of(device: &Device, keys: &Keys) -> Option<PublicKey> {
    device.key.map(|key| keys.key(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macs_have_six_bytes() {
        assert_eq!(parse_mac("aa:bb:cc:00:01:02"), Some([0xaa, 0xbb, 0xcc, 0, 1, 2]));
        assert_eq!(mac_text([0xaa, 0xbb, 0xcc, 0, 1, 2]), "aa:bb:cc:00:01:02");
        for bad in
            ["", "aa:bb:cc:dd:ee", "aa:bb:cc:dd:ee:ff:00", "192.0.2.1", "zz:bb:cc:dd:ee:ff", "c0:00:02:01"]
        {
            assert_eq!(parse_mac(bad), None, "{bad}");
        }
    }
}
