//! Hosts, LANs and tunnels brought up together.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use tempfile::TempDir;

use crate::command::here;
use crate::holder::Holder;
use crate::plan::HostPlan;
use crate::wireguard::{Running, line};
use crate::{Attachment, Cidr, Error, Host, Plan, Result, Tunnel, wait_for};

/// A running mesh; dropping it takes everything down.
#[derive(Debug)]
pub struct Mesh {
    // In this order: hosts go before the switch, and the folder last.
    hosts: Vec<Host>,
    /// Holds the bridges that stand for the LANs. Never read, only kept.
    _switch: Holder,
    dir: TempDir,
    tunnels: Vec<Tunnel>,
}

impl Mesh {
    /// The host of this name.
    ///
    /// # Panics
    /// When the plan has no such host.
    pub fn host(&self, name: &str) -> &Host {
        match self.hosts.iter().find(|host| host.name == name) {
            Some(host) => host,
            None => panic!("no host {name} in the plan"),
        }
    }

    /// All hosts, in the order of the plan.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// The tunnels as planned: what a map of this mesh has to show.
    pub fn tunnels(&self) -> &[Tunnel] {
        &self.tunnels
    }

    /// The mesh's folder; hosts' folders are in it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Waits until both ends of every tunnel have seen a handshake. Only tunnels with keepalive
    /// or traffic shake hands at all.
    pub fn wait_handshakes(&self, timeout: Duration) -> Result<()> {
        let mut lacking = Vec::new();
        wait_for("", timeout, || {
            lacking = self.without_handshake();
            lacking.is_empty().then_some(())
        })
        .map_err(|_| Error::Timeout { what: format!("handshakes: {}", lacking.join(", ")), after: timeout })
    }

    /// The ends that have seen no handshake, as `host/device -> host`.
    fn without_handshake(&self) -> Vec<String> {
        let seen: BTreeMap<&str, String> = self
            .hosts
            .iter()
            .map(|host| {
                (host.name(), host.run(&["wg", "show", "all", "latest-handshakes"]).unwrap_or_default())
            })
            .collect();
        let mut lacking = Vec::new();
        for tunnel in &self.tunnels {
            for (own, other) in [(&tunnel.a, &tunnel.b), (&tunnel.b, &tunnel.a)] {
                let key =
                    self.host(&other.host).keys(&other.device).map(|keys| keys.public).unwrap_or_default();
                let shaken = seen.get(own.host.as_str()).is_some_and(|text| {
                    text.lines().any(|line| {
                        let mut words = line.split_whitespace();
                        words.next() == Some(&own.device)
                            && words.next() == Some(&key)
                            && words.next().is_some_and(|time| time != "0")
                    })
                });
                if !shaken {
                    lacking.push(format!("{}/{} -> {}", own.host, own.device, other.host));
                }
            }
        }
        lacking
    }

    pub(crate) fn build(plan: Plan) -> Result<Self> {
        let mut devices: BTreeMap<String, BTreeMap<String, Running>> = BTreeMap::new();
        for ((host, device), running) in plan.settle()? {
            devices.entry(host).or_default().insert(device, running);
        }
        let dir = tempfile::Builder::new()
            .prefix(&format!("lab-{}-", plan.name))
            .tempdir()
            .map_err(Error::io("the mesh's folder"))?;
        // All start at once, then each is awaited.
        let switch = Holder::start("switch", &dir.path().join("switch"), Some(dir.path()))?;
        let starting = plan
            .hosts
            .iter()
            .map(|host| Holder::start(&host.name, &dir.path().join(&host.name), None))
            .collect::<Result<Vec<_>>>()?;
        let switch = switch.ready()?;
        let mut hosts = Vec::new();
        let mut port = 0;
        for (host, holder) in plan.hosts.iter().zip(starting) {
            hosts.push(Host {
                name: host.name.clone(),
                dir: dir.path().join(&host.name),
                attachments: attachments(&plan, host, &mut port)?,
                addressing: String::new(),
                wireguard: Mutex::new(devices.remove(&host.name).unwrap_or_default()),
                holder: holder.ready()?,
                switch: switch.pid(),
            });
        }
        cable(&plan, &hosts, &switch)?;
        for (host, host_plan) in hosts.iter_mut().zip(&plan.hosts) {
            set_up(host, host_plan)?;
        }
        start_wireguard(&hosts)?;
        Ok(Self { hosts, _switch: switch, dir, tunnels: plan.tunnels })
    }
}

impl Drop for Mesh {
    /// All hosts go at once; each is then awaited as it is dropped.
    fn drop(&mut self) {
        for host in &mut self.hosts {
            host.devices().clear();
            host.holder.release();
        }
    }
}

fn attachments(plan: &Plan, host: &HostPlan, port: &mut u32) -> Result<Vec<Attachment>> {
    let attach = |(n, (lan, addresses)): (usize, &(String, String))| {
        *port += 1;
        Ok(Attachment {
            interface: format!("eth{n}"),
            lan: lan.clone(),
            addresses: plan.addresses(lan, addresses)?,
            port: format!("port{port}"),
        })
    };
    host.attached.iter().enumerate().map(attach).collect()
}

/// Bridges in the switch, and a veth from each interface to its bridge. Both ends are made where
/// they belong, so this machine's own network never sees a name.
fn cable(plan: &Plan, hosts: &[Host], switch: &Holder) -> Result<()> {
    let mut veths = String::new();
    let mut ports = String::new();
    let bridge = |lan: &str| format!("br{}", plan.lans.keys().position(|name| name == lan).unwrap_or(0));
    for lan in plan.lans.keys() {
        line(&mut ports, format_args!("link add {} type bridge", bridge(lan)));
        line(&mut ports, format_args!("link set {} up", bridge(lan)));
    }
    for host in hosts {
        for on in &host.attachments {
            let (from, to) = (host.pid(), switch.pid());
            let (interface, port) = (&on.interface, &on.port);
            line(
                &mut veths,
                format_args!("link add {interface} netns {from} type veth peer name {port} netns {to}"),
            );
            line(&mut ports, format_args!("link set {port} master {} up", bridge(&on.lan)));
        }
    }
    here(&["ip", "-batch", "-"], veths.as_bytes())?;
    switch.run(&["ip", "-batch", "-"], &ports).map(drop)
}

fn set_up(host: &mut Host, plan: &HostPlan) -> Result<()> {
    let mut batch = String::new();
    for on in &host.attachments {
        for address in &on.addresses {
            line(&mut batch, format_args!("address replace {address} dev {} nodad", on.interface));
        }
        line(&mut batch, format_args!("link set {} up", on.interface));
    }
    for (destination, gateway) in &plan.routes {
        let destination: Cidr = destination.parse()?;
        line(&mut batch, format_args!("route replace {destination} via {gateway}"));
    }
    host.addressing = batch;
    if plan.forwards {
        host.sh("echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding")?;
    }
    if !host.attachments.is_empty() {
        host.restore_addressing()?;
    }
    for outside in &plan.masquerades {
        let rules = format!(
            "add table ip lab_nat\n\
             add chain ip lab_nat out {{ type nat hook postrouting priority srcnat; }}\n\
             add rule ip lab_nat out oifname {outside} masquerade\n"
        );
        host.run_with(&["nft", "-f", "-"], &rules)?;
    }
    Ok(())
}

/// All start first, because each takes its time to make its interface.
fn start_wireguard(hosts: &[Host]) -> Result<()> {
    for host in hosts {
        for running in host.devices().values_mut() {
            running.start(host)?;
        }
    }
    for host in hosts {
        for running in host.devices().values() {
            running.configure(host)?;
        }
    }
    Ok(())
}
