//! An agent and its interfaces, asked for what is wanted of them: nothing is made of what is not. Alarms look at
//! the hosts at both ends of many edges, and want little of most.

use proto::ids::{AgentId, Cidr, PublicKey};
use proto::report::{InterfaceKind, TunnelData};

use super::keys::Keys;
use super::record::{Agent, AgentIx, Device, Iface, key_of};
use super::view::Nat;
use super::{State, nat};

/// An agent.
#[derive(Debug, Clone, Copy)]
pub struct HostView<'a> {
    state: &'a State,
    ix: AgentIx,
    agent: &'a Agent,
}

/// An interface of an agent.
#[derive(Debug, Clone, Copy)]
pub struct Nic<'a> {
    keys: &'a Keys,
    agent: &'a Agent,
    interface: &'a Iface,
}

impl State {
    pub(super) fn host(&self, ix: AgentIx) -> Option<HostView<'_>> {
        Some(HostView { state: self, ix, agent: self.agent(ix)? })
    }
}

impl<'a> HostView<'a> {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> AgentId {
        self.agent.id
    }

    /// Whether it reports.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        !self.agent.silent
    }

    /// Its interfaces in order of their names.
    #[must_use]
    pub fn nics(&self) -> Vec<Nic<'a>> {
        let mut nics: Vec<Nic<'a>> = self.agent.interfaces.iter().map(|it| self.of(it)).collect();
        nics.sort_by_key(Nic::name);
        nics
    }

    /// Its interface of a name.
    #[must_use]
    pub fn nic(&self, name: &str) -> Option<Nic<'a>> {
        let found = self.agent.interfaces.iter().find(|it| self.agent.name(it.slot) == name);
        found.map(|interface| self.of(interface))
    }

    fn of(&self, interface: &'a Iface) -> Nic<'a> {
        Nic { keys: &self.state.index.keys, agent: self.agent, interface }
    }

    /// How its peers see it through NAT, without their words, which few ask for: see [`State::nat_evidence`].
    #[must_use]
    pub fn nat(&self) -> Option<Nat> {
        nat::of(self.state, self.ix, false).map(|seen| seen.nat)
    }
}

impl<'a> Nic<'a> {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'a str {
        self.agent.name(self.interface.slot)
    }

    /// What it is.
    #[must_use]
    pub fn kind(&self) -> InterfaceKind {
        self.interface.kind
    }

    /// Whether it is up, as far as can be told.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.interface.up
    }

    /// Largest packet in bytes; 0 where it is not known.
    #[must_use]
    pub fn mtu(&self) -> u32 {
        self.interface.mtu
    }

    /// Addresses with their prefix lengths.
    #[must_use]
    pub fn addresses(&self) -> &'a [Cidr] {
        self.agent.addresses(self.interface)
    }

    /// Parameters of a VLAN or tunnel.
    #[must_use]
    pub fn tunnel(&self) -> Option<&'a TunnelData> {
        self.interface.tunnel()
    }

    fn device(&self) -> Option<&'a Device> {
        self.agent.device(self.interface.slot)
    }

    /// Whether it is a WireGuard device.
    #[must_use]
    pub fn is_wireguard(&self) -> bool {
        self.device().is_some()
    }

    /// Its public key, where it is a WireGuard device.
    #[must_use]
    pub fn public_key(&self) -> Option<PublicKey> {
        key_of(self.device()?, self.keys)
    }

    /// The UDP port that it listens on, where it is a WireGuard device.
    #[must_use]
    pub fn listen_port(&self) -> Option<u16> {
        Some(self.device()?.listen_port)
    }
}
