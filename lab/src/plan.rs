//! The description of a mesh.

use std::collections::BTreeMap;

use crate::wireguard::{Peer, Running, endpoint};
use crate::{Cidr, Device, End, Error, KeyPair, Mesh, Result, Tunnel};

/// WireGuard's usual port; further devices of a host take the next ones.
const FIRST_PORT: u16 = 51820;

/// The keepalive that the helpers set: it makes a tunnel shake hands at once and stay up.
const KEEPALIVE: u16 = 25;

/// What to build: LANs, hosts and tunnels. Names of hosts may be repeated in any order; nothing
/// is checked before [`Plan::up`].
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub(crate) name: String,
    pub(crate) lans: BTreeMap<String, String>,
    pub(crate) hosts: Vec<HostPlan>,
    pub(crate) devices: Vec<Device>,
    pub(crate) tunnels: Vec<Tunnel>,
}

/// One host of the plan.
#[derive(Clone, Debug, Default)]
pub(crate) struct HostPlan {
    pub(crate) name: String,
    /// LAN and addresses, in the order of the interfaces.
    pub(crate) attached: Vec<(String, String)>,
    /// Destination and gateway.
    pub(crate) routes: Vec<(String, String)>,
    pub(crate) forwards: bool,
    /// The interfaces out of which it masquerades.
    pub(crate) masquerades: Vec<String>,
}

impl Plan {
    /// An empty plan; the name only serves people.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// A LAN: one broadcast domain, with the network that its hosts' addresses are in.
    #[must_use]
    pub fn lan(mut self, name: &str, network: &str) -> Self {
        self.lans.insert(name.to_owned(), network.to_owned());
        self
    }

    /// A host; [`Plan::attach`] does this too.
    #[must_use]
    pub fn host(mut self, name: &str) -> Self {
        self.entry(name);
        self
    }

    /// Puts a host on a LAN, by its next interface (`eth0`, `eth1`, ...). Several addresses have
    /// spaces between; one without a prefix length has the LAN's.
    #[must_use]
    pub fn attach(mut self, host: &str, lan: &str, addresses: &str) -> Self {
        self.entry(host).attached.push((lan.to_owned(), addresses.to_owned()));
        self
    }

    /// A host's default gateway.
    #[must_use]
    pub fn gateway(self, host: &str, gateway: &str) -> Self {
        let all = if gateway.contains(':') { "::/0" } else { "0.0.0.0/0" };
        self.route(host, all, gateway)
    }

    /// A static route.
    #[must_use]
    pub fn route(mut self, host: &str, destination: &str, gateway: &str) -> Self {
        self.entry(host).routes.push((destination.to_owned(), gateway.to_owned()));
        self
    }

    /// A host that forwards packets.
    #[must_use]
    pub fn router(mut self, host: &str) -> Self {
        self.entry(host).forwards = true;
        self
    }

    /// A home router: forwards, and masquerades what leaves by `outside`.
    #[must_use]
    pub fn nat(mut self, host: &str, outside: &str) -> Self {
        self.entry(host).masquerades.push(outside.to_owned());
        self.router(host)
    }

    /// A WireGuard device.
    #[must_use]
    pub fn device(mut self, device: Device) -> Self {
        self.devices.push(device);
        self
    }

    /// A tunnel between two devices.
    #[must_use]
    pub fn tunnel(mut self, tunnel: Tunnel) -> Self {
        self.tunnels.push(tunnel);
        self
    }

    /// Device `name` on every host, numbered in `network` from 1, and a tunnel between every two,
    /// each end calling the other, with keepalive.
    #[must_use]
    pub fn full_mesh(mut self, name: &str, network: &str, hosts: &[&str]) -> Self {
        self = self.numbered(name, network, hosts);
        for (at, a) in hosts.iter().enumerate() {
            for b in &hosts[at + 1..] {
                let end = |host| End::new(host, name).dial().keepalive(KEEPALIVE);
                self = self.tunnel(Tunnel::between(end(a), end(b)));
            }
        }
        self
    }

    /// Device `name` on the hub (number 1 in `network`) and every spoke; only spokes call, and
    /// reach each other through the hub, which forwards.
    #[must_use]
    pub fn hub(mut self, name: &str, network: &str, hub: &str, spokes: &[&str]) -> Self {
        let hosts: Vec<&str> = std::iter::once(hub).chain(spokes.iter().copied()).collect();
        self = self.numbered(name, network, &hosts).router(hub);
        for spoke in spokes {
            let call = End::new(spoke, name).dial().keepalive(KEEPALIVE).allowed(network);
            self = self.tunnel(Tunnel::between(End::new(hub, name), call));
        }
        self
    }

    /// A line of tunnels, each of its own two-address network: `a-b`, `b-c`, ... All forward.
    /// The devices are called `PREFIXn` after the tunnel's number; `network` is cut into /30s.
    #[must_use]
    pub fn line(mut self, prefix: &str, network: &str, hosts: &[&str]) -> Self {
        for (n, pair) in (0_u32..).zip(hosts.windows(2)) {
            let name = format!("{prefix}{n}");
            let address = |k| {
                network
                    .parse::<Cidr>()
                    .map_or_else(|_| network.to_owned(), |all| format!("{}/30", all.nth(4 * n + k).address))
            };
            self = self
                .device(Device::new(pair[0], &name, &address(1)))
                .device(Device::new(pair[1], &name, &address(2)))
                .tunnel(Tunnel::between(
                    End::new(pair[0], &name).dial().keepalive(KEEPALIVE),
                    End::new(pair[1], &name).dial().keepalive(KEEPALIVE),
                ))
                .router(pair[0])
                .router(pair[1]);
        }
        self
    }

    /// Builds it all; returns when every interface is configured. Handshakes take about a second
    /// more: [`Mesh::wait_handshakes`].
    pub fn up(self) -> Result<Mesh> {
        Mesh::build(self)
    }

    fn numbered(mut self, name: &str, network: &str, hosts: &[&str]) -> Self {
        for (n, host) in (1..).zip(hosts) {
            // A malformed network is kept as it is, for `up` to refuse by name.
            let address = network
                .parse::<Cidr>()
                .map_or_else(|_| network.to_owned(), |network| network.nth(n).to_string());
            self = self.device(Device::new(host, name, &address));
        }
        self
    }

    fn entry(&mut self, name: &str) -> &mut HostPlan {
        let at = self.hosts.iter().position(|host| host.name == name).unwrap_or_else(|| {
            self.hosts.push(HostPlan { name: name.to_owned(), ..HostPlan::default() });
            self.hosts.len() - 1
        });
        &mut self.hosts[at]
    }

    /// The addresses of an attachment.
    pub(crate) fn addresses(&self, lan: &str, text: &str) -> Result<Vec<Cidr>> {
        let network: Cidr =
            self.lans.get(lan).ok_or_else(|| Error::Plan(format!("{}: no LAN {lan}", self.name)))?.parse()?;
        let read = |word: &str| {
            let mut address: Cidr = word.parse()?;
            if !word.contains('/') && address.address.is_ipv4() == network.address.is_ipv4() {
                address.length = network.length;
            }
            Ok(address)
        };
        text.split_whitespace().map(read).collect()
    }

    /// The devices of all hosts with their peers, keys made, ports given out: by host and name.
    pub(crate) fn settle(&self) -> Result<BTreeMap<(String, String), Running>> {
        let mut settled: BTreeMap<(String, String), Running> = BTreeMap::new();
        for device in &self.devices {
            if !self.hosts.iter().any(|host| host.name == device.host) {
                return Err(Error::Plan(format!("{}: no host {}", self.name, device.host)));
            }
            let taken =
                |port| settled.iter().any(|((host, _), other)| *host == device.host && other.port == port);
            let port = device.port.or_else(|| (FIRST_PORT..).find(|&port| !taken(port)));
            let running = Running {
                name: device.name.clone(),
                keys: device.keys.clone().map_or_else(KeyPair::generate, Ok)?,
                port: port.unwrap_or(FIRST_PORT),
                mtu: device.mtu,
                addresses: device.addresses.split_whitespace().map(str::parse).collect::<Result<_>>()?,
                peers: Vec::new(),
                process: None,
            };
            if settled.insert((device.host.clone(), device.name.clone()), running).is_some() {
                return Err(Error::Plan(format!("{}: {} twice on {}", self.name, device.name, device.host)));
            }
        }
        for tunnel in &self.tunnels {
            let psk = if tunnel.psk {
                Some(crate::command::here(&["wg", "genpsk"], b"")?.trim().to_owned())
            } else {
                None
            };
            for (own, other) in [(&tunnel.a, &tunnel.b), (&tunnel.b, &tunnel.a)] {
                let peer = self.peer(&settled, own, other, psk.clone())?;
                if let Some(device) = settled.get_mut(&(own.host.clone(), own.device.clone())) {
                    device.peers.push(peer);
                }
            }
        }
        Ok(settled)
    }

    /// What `own`'s configuration says about `other`.
    fn peer(
        &self,
        settled: &BTreeMap<(String, String), Running>,
        own: &End,
        other: &End,
        psk: Option<String>,
    ) -> Result<Peer> {
        let missing =
            |end: &End| Error::Plan(format!("{}: no device {} on {}", self.name, end.device, end.host));
        settled.get(&(own.host.clone(), own.device.clone())).ok_or_else(|| missing(own))?;
        let far = settled.get(&(other.host.clone(), other.device.clone())).ok_or_else(|| missing(other))?;
        let allowed = if own.allowed.is_empty() {
            far.addresses.iter().map(|cidr| Cidr::single(cidr.address)).collect()
        } else {
            own.allowed.iter().map(|prefix| prefix.parse()).collect::<Result<_>>()?
        };
        let endpoint = match &own.endpoint {
            crate::wireguard::Endpoint::None => None,
            crate::wireguard::Endpoint::Given(text) => Some(text.clone()),
            crate::wireguard::Endpoint::Auto => Some(endpoint(self.first_address(&other.host)?, far.port)),
        };
        Ok(Peer { public_key: far.keys.public.clone(), psk, endpoint, keepalive: own.keepalive, allowed })
    }

    fn first_address(&self, host: &str) -> Result<std::net::IpAddr> {
        let attached =
            self.hosts.iter().find(|plan| plan.name == host).and_then(|plan| plan.attached.first());
        let (lan, text) = attached.ok_or_else(|| {
            Error::Plan(format!("{}: {host} is on no LAN, so nobody can call it", self.name))
        })?;
        let addresses = self.addresses(lan, text)?;
        let first =
            addresses.first().ok_or_else(|| Error::Plan(format!("{}: {host} has no address", self.name)))?;
        Ok(first.address)
    }
}
