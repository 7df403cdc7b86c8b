//! WireGuard devices and tunnels: what the plan says, and what runs on a host.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::command::here;
use crate::{Cidr, Error, Host, Launch, Proc, Result, wait_for};

/// A WireGuard key pair in base64.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// The private key.
    pub private: String,
    /// The public key.
    pub public: String,
}

impl KeyPair {
    /// A new random pair.
    pub fn generate() -> Result<Self> {
        let private = here(&["wg", "genkey"], b"")?.trim().to_owned();
        let public = here(&["wg", "pubkey"], private.as_bytes())?.trim().to_owned();
        Ok(Self { private, public })
    }
}

impl std::fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyPair").field("public", &self.public).finish_non_exhaustive()
    }
}

/// A WireGuard interface of a host.
#[derive(Clone, Debug)]
pub struct Device {
    pub(crate) host: String,
    pub(crate) name: String,
    pub(crate) addresses: String,
    pub(crate) port: Option<u16>,
    pub(crate) mtu: u16,
    pub(crate) keys: Option<KeyPair>,
}

impl Device {
    /// Interface `name` on `host` with `addresses` (`"10.77.0.1/24"`, several with spaces between).
    pub fn new(host: &str, name: &str, addresses: &str) -> Self {
        Self {
            host: host.to_owned(),
            name: name.to_owned(),
            addresses: addresses.to_owned(),
            port: None,
            mtu: 1420,
            keys: None,
        }
    }

    /// The listen port; the first free one from 51820 up where none is given.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// The interface's MTU in bytes; 1420 where none is given.
    #[must_use]
    pub fn mtu(mut self, mtu: u16) -> Self {
        self.mtu = mtu;
        self
    }

    /// The keys; new ones where none are given. The same pair on two hosts is a cloned key.
    #[must_use]
    pub fn keys(mut self, keys: KeyPair) -> Self {
        self.keys = Some(keys);
        self
    }
}

/// How an end of a tunnel finds the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// It waits to be called.
    None,
    /// The other host's first LAN address and the other device's port.
    Auto,
    /// As given.
    Given(String),
}

/// One end of a tunnel: what this host's `[Peer]` section says about the other end.
#[derive(Clone, Debug)]
pub struct End {
    pub(crate) host: String,
    pub(crate) device: String,
    pub(crate) endpoint: Endpoint,
    pub(crate) keepalive: u16,
    pub(crate) allowed: Vec<String>,
}

impl End {
    /// The end at `device` of `host`. It waits to be called, and allows the other device's own
    /// addresses, where nothing else is said.
    pub fn new(host: &str, device: &str) -> Self {
        Self {
            host: host.to_owned(),
            device: device.to_owned(),
            endpoint: Endpoint::None,
            keepalive: 0,
            allowed: Vec::new(),
        }
    }

    /// Calls the other host at its first LAN address.
    #[must_use]
    pub fn dial(mut self) -> Self {
        self.endpoint = Endpoint::Auto;
        self
    }

    /// Calls the other end at `ADDRESS:PORT`, such as a NAT router's outer address.
    #[must_use]
    pub fn dial_at(mut self, endpoint: &str) -> Self {
        self.endpoint = Endpoint::Given(endpoint.to_owned());
        self
    }

    /// Persistent keepalive in seconds; off where none is given.
    #[must_use]
    pub fn keepalive(mut self, seconds: u16) -> Self {
        self.keepalive = seconds;
        self
    }

    /// Adds an allowed prefix, in place of the other device's own addresses.
    #[must_use]
    pub fn allowed(mut self, prefix: &str) -> Self {
        self.allowed.push(prefix.to_owned());
        self
    }
}

/// A tunnel between two devices.
#[derive(Clone, Debug)]
pub struct Tunnel {
    /// One end.
    pub a: End,
    /// The other end.
    pub b: End,
    pub(crate) psk: bool,
}

impl Tunnel {
    /// A tunnel between two ends, without a preshared key.
    pub fn between(a: End, b: End) -> Self {
        Self { a, b, psk: false }
    }

    /// With a preshared key on both sides.
    #[must_use]
    pub fn psk(mut self) -> Self {
        self.psk = true;
        self
    }

    /// `(host, device)` of both ends.
    pub fn ends(&self) -> [(&str, &str); 2] {
        [&self.a, &self.b].map(|end| (end.host.as_str(), end.device.as_str()))
    }
}

/// A `[Peer]` section, all settled.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) public_key: String,
    pub(crate) psk: Option<String>,
    pub(crate) endpoint: Option<String>,
    pub(crate) keepalive: u16,
    pub(crate) allowed: Vec<Cidr>,
}

/// A device with its `wireguard-go`.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) name: String,
    pub(crate) keys: KeyPair,
    pub(crate) port: u16,
    pub(crate) mtu: u16,
    pub(crate) addresses: Vec<Cidr>,
    pub(crate) peers: Vec<Peer>,
    pub(crate) process: Option<Proc>,
}

impl Running {
    /// Starts `wireguard-go`, which makes the interface a little later.
    pub(crate) fn start(&mut self, host: &Host) -> Result<()> {
        let launch = Launch::new("wireguard-go")
            .args(["-f", &self.name])
            .env("LOG_LEVEL", "error")
            .log(host.dir.join(format!("wireguard-{}.log", self.name)));
        self.stop(host);
        self.process = Some(host.spawn(&launch)?);
        Ok(())
    }

    /// Ends `wireguard-go`, if it runs. Asked to stop it removes its socket; killed it does not.
    fn stop(&mut self, host: &Host) {
        if let Some(process) = self.process.take() {
            // One that has ended by itself needs no asking.
            let _ = process.term();
            let _ = process.wait(Duration::from_secs(2));
            let _ = std::fs::remove_file(self.socket(host));
        }
    }

    /// The control socket by which `wg` finds it, in the host's own mounts.
    fn socket(&self, host: &Host) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root/run/wireguard/{}.sock", host.pid(), self.name))
    }

    /// Waits for the interface, sets keys and peers, addresses and routes.
    pub(crate) fn configure(&self, host: &Host) -> Result<()> {
        self.await_socket(host)?;
        host.run_with(&["wg", "setconf", &self.name, "/dev/stdin"], &self.config())?;
        self.address(host)
    }

    fn await_socket(&self, host: &Host) -> Result<()> {
        let socket = self.socket(host);
        let ended = || self.process.as_ref().is_none_or(|process| !process.is_running());
        let seen = wait_for("", Duration::from_secs(20), || {
            if socket.exists() { Some(true) } else { ended().then_some(false) }
        });
        if matches!(seen, Ok(true)) {
            return Ok(());
        }
        let said = self.process.as_ref().map(Proc::log).unwrap_or_default();
        Err(Error::Command {
            host: host.name.clone(),
            command: format!("wireguard-go -f {}", self.name),
            outcome: "made no interface".to_owned(),
            said,
        })
    }

    /// Addresses, MTU, up, and a route for every allowed prefix that is not on link; repeatable.
    pub(crate) fn address(&self, host: &Host) -> Result<()> {
        let name = &self.name;
        let mut batch = String::new();
        for address in &self.addresses {
            line(&mut batch, format_args!("address replace {address} dev {name} nodad"));
        }
        line(&mut batch, format_args!("link set {name} mtu {} up", self.mtu));
        for &prefix in self.peers.iter().flat_map(|peer| &peer.allowed) {
            let on_link = self.addresses.iter().any(|address| address.contains(prefix));
            // A tunnel that takes everything needs policy routing, which is the test's own affair.
            if !on_link && prefix.length > 0 {
                line(&mut batch, format_args!("route replace {prefix} dev {name}"));
            }
        }
        host.run_with(&["ip", "-batch", "-"], &batch).map(drop)
    }

    fn config(&self) -> String {
        let mut text =
            format!("[Interface]\nPrivateKey = {}\nListenPort = {}\n", self.keys.private, self.port);
        for peer in &self.peers {
            line(&mut text, format_args!("[Peer]\nPublicKey = {}", peer.public_key));
            if let Some(psk) = &peer.psk {
                line(&mut text, format_args!("PresharedKey = {psk}"));
            }
            if let Some(endpoint) = &peer.endpoint {
                line(&mut text, format_args!("Endpoint = {endpoint}"));
            }
            if peer.keepalive > 0 {
                line(&mut text, format_args!("PersistentKeepalive = {}", peer.keepalive));
            }
            let allowed: Vec<String> = peer.allowed.iter().map(Cidr::to_string).collect();
            line(&mut text, format_args!("AllowedIPs = {}", allowed.join(", ")));
        }
        text
    }
}

impl Host {
    /// The keys of a WireGuard device as planned.
    pub fn keys(&self, device: &str) -> Result<KeyPair> {
        self.device(device, |running| Ok(running.keys.clone()))
    }

    /// Ends `wireguard-go` and starts it anew with the planned keys, peers and addresses: the
    /// interface is another one, and all sessions are gone.
    pub fn restart_wireguard(&self, device: &str) -> Result<()> {
        self.device(device, |running| {
            running.start(self)?;
            running.configure(self)
        })
    }

    /// Sets all keys and peers to the plan again, whatever `wg set` has changed meanwhile.
    pub fn reset_wireguard(&self, device: &str) -> Result<()> {
        self.device(device, |running| running.configure(self))
    }

    /// Ends `wireguard-go`: the interface is gone.
    pub fn stop_wireguard(&self, device: &str) -> Result<()> {
        self.device(device, |running| {
            running.stop(self);
            Ok(())
        })
    }

    fn device<T>(&self, name: &str, act: impl FnOnce(&mut Running) -> Result<T>) -> Result<T> {
        let mut devices = self.devices();
        let running = devices
            .get_mut(name)
            .ok_or_else(|| Error::Plan(format!("{}: no WireGuard device {name}", self.name)))?;
        act(running)
    }
}

/// `ADDRESS:PORT`, with brackets where the address has colons.
pub(crate) fn endpoint(address: IpAddr, port: u16) -> String {
    SocketAddr::new(address, port).to_string()
}

/// Adds a line; writing to a `String` cannot fail.
pub(crate) fn line(text: &mut String, args: std::fmt::Arguments<'_>) {
    let _ = writeln!(text, "{args}");
}
