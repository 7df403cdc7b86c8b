//! The host that is measured, its manager, and its peers, in network namespaces.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proto::ids::PublicKey;
use proto::sign::sha256;
use serde_json::Value;

use super::tap::Tap;
use crate::{Device, End, Error, Host, Launch, Mesh, Plan, Proc, Result, Tunnel, bin, wait_for};

/// The measured host's tunnels with the peers of each.
const TUNNELS: [(&str, u32); 2] = [("wg0", 7), ("wg1", 3)];
/// Static routes beside those that come with addresses and tunnels; 20 in all.
const STATIC_ROUTES: u32 = 9;
const MANAGER_PORT: u16 = 5086;
const PSK: &str = "a shared secret of the benchmark";
/// How long something may take that takes a moment.
const SOON: Duration = Duration::from_secs(30);

/// Which host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Size {
    /// 6 interfaces, 20 routes, and 2 tunnels with 10 peers, each of which runs an agent.
    Ten,
    /// One more tunnel with so many peers, of which none answers.
    Many(u32),
}

/// The mesh with its manager at work.
#[derive(Debug)]
pub(super) struct Node {
    // In this order: daemons end before their hosts.
    _agents: Vec<Proc>,
    _manager: Proc,
    psk: PathBuf,
    /// The agent's way to the manager.
    pub(super) tap: Tap,
    mesh: Mesh,
}

impl Node {
    /// Brings it up; `agent` is the program that the peers run.
    ///
    /// # Errors
    /// What did not start.
    pub(super) fn up(size: Size, agent: &Path) -> Result<Self> {
        let mesh = plan(size).up()?;
        let psk = mesh.dir().join("psk");
        write_secret(&psk)?;
        let host = mesh.host("manager");
        let launch = Launch::new(bin("manager")?)
            .env("MANAGER_LISTEN", format!("0.0.0.0:{MANAGER_PORT}"))
            .env("DATABASE", host.dir().join("manager.db"))
            .env("PSK_FILE", &psk);
        let manager = host.spawn(&launch)?;
        let url = format!("http://127.0.0.1:{MANAGER_PORT}/status/healthcheck");
        wait_for("the manager's health check", SOON, || host.http_get(&url).ok().map(drop))?;
        let tap = Tap::open(host, SocketAddr::new(host.address(), MANAGER_PORT))?;
        let mut node = Self { _agents: Vec::new(), _manager: manager, psk, tap, mesh };
        match size {
            Size::Ten => {
                node.mesh.wait_handshakes(SOON)?;
                let manager = SocketAddr::new(node.mesh.host("manager").address(), MANAGER_PORT);
                for peer in node.mesh.hosts().iter().filter(|host| host.name().starts_with("peer")) {
                    node._agents.push(peer.spawn(&node.launch(peer, agent, manager, 30)?)?);
                }
            }
            Size::Many(count) => node.add_peers(count)?,
        }
        Ok(node)
    }

    /// The host that is measured.
    pub(super) fn host(&self) -> &Host {
        self.mesh.host("node")
    }

    /// How a program that takes an agent's settings is started on the measured host.
    ///
    /// # Errors
    /// When there is no folder for its state.
    pub(super) fn measured(&self, program: &Path, interval_s: u32) -> Result<Launch> {
        self.launch(self.host(), program, self.tap.address, interval_s)
    }

    /// What the measured host's last report holds: interfaces, routes, peers.
    ///
    /// # Errors
    /// When the manager does not tell.
    pub(super) fn reported(&self) -> Result<[u64; 3]> {
        let host = self.mesh.host("manager");
        let get = |path: &str| -> Result<Value> {
            host.http_get(&format!("http://127.0.0.1:{MANAGER_PORT}{path}"))?.json()
        };
        let agents = get("/status/agents")?;
        let id = agents["agents"].as_array().into_iter().flatten().find(|agent| agent["hostname"] == "node");
        let id = id.and_then(|agent| agent["id"].as_str());
        let id = id.ok_or_else(|| Error::Missing("no report of the measured host".to_owned()))?;
        let agent = get(&format!("/status/agents/{id}"))?;
        let total = |name: &str| agent["report"]["system"][name].as_u64().unwrap_or(0);
        Ok(["interfaces_total", "routes_total", "peers_total"].map(total))
    }

    /// CPU that the measured host's `wireguard-go` used (µs), which is in no agent's account.
    pub(super) fn wireguard_us(&self) -> u64 {
        self.host()
            .devices()
            .values()
            .filter_map(|device| device.process.as_ref())
            .map(Proc::cpu_ticks)
            .sum::<u64>()
            * 10_000
    }

    fn launch(&self, host: &Host, program: &Path, manager: SocketAddr, interval_s: u32) -> Result<Launch> {
        let state = host.dir().join("state");
        std::fs::create_dir_all(&state).map_err(Error::io(state.display().to_string()))?;
        Ok(Launch::new(program)
            .env("MANAGER_URL", format!("http://{manager}"))
            .env("PSK_FILE", &self.psk)
            .env("STATE_DIR", state)
            .env("REPORT_INTERVAL", interval_s.to_string()))
    }

    fn add_peers(&self, count: u32) -> Result<()> {
        let mut text = String::new();
        for number in 0..count {
            // As random as keys are: it must not deflate better than they do.
            let key = PublicKey(sha256(&number.to_be_bytes()));
            let (high, low) = (number / 250, number % 250 + 1);
            // Writing to a string cannot fail. Nobody listens at the discard port.
            let _ = writeln!(
                text,
                "[Peer]\nPublicKey = {key}\nEndpoint = 10.1.0.1:9\nAllowedIPs = 10.99.{high}.{low}/32"
            );
        }
        self.host().run_with(&["wg", "addconf", "wg0", "/dev/stdin"], &text).map(drop)
    }
}

/// The manager and the host that is measured on one LAN, two more LANs, and its tunnels.
fn plan(size: Size) -> Plan {
    let mut plan = Plan::new("bench")
        .lan("lan", "10.1.0.0/24")
        .lan("second", "10.2.0.0/24")
        .lan("third", "10.3.0.0/24")
        .attach("manager", "lan", "10.1.0.1")
        .attach("node", "lan", "10.1.0.2")
        .attach("node", "second", "10.2.0.2")
        .attach("node", "third", "10.3.0.2")
        .gateway("node", "10.1.0.1");
    for route in 0..STATIC_ROUTES {
        plan = plan.route("node", &format!("172.16.{route}.0/24"), "10.1.0.1");
    }
    if size != Size::Ten {
        let second = Device::new("node", "wg1", "10.98.0.1/24");
        return plan.device(Device::new("node", "wg0", "10.99.255.1/16")).device(second);
    }
    for (network, (device, peers)) in (77..).zip(TUNNELS) {
        plan = plan.device(Device::new("node", device, &format!("10.{network}.0.1/24")));
        for number in 0..peers {
            let peer = format!("peer-{device}-{number}");
            let end = |host: &str| End::new(host, device).dial().keepalive(25);
            plan = plan
                .attach(&peer, "lan", &format!("10.1.0.{}", 100 + network % 77 * 50 + number))
                .device(Device::new(&peer, device, &format!("10.{network}.0.{}/24", number + 2)))
                .tunnel(Tunnel::between(end("node"), end(&peer)));
        }
    }
    plan
}

fn write_secret(path: &Path) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| std::io::Write::write_all(&mut file, PSK.as_bytes()))
        .map_err(Error::io(path.display().to_string()))
}
