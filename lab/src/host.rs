//! One host of a mesh.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};

use crate::command::{self, DEADLINE, Output};
use crate::holder::Holder;
use crate::process::{Launch, Proc};
use crate::wireguard::Running;
use crate::{Cidr, Error, Result, until};

/// A network interface of a host and the LAN on which it is.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// `eth0`, `eth1`, in the order of the plan.
    pub interface: String,
    /// The LAN's name.
    pub lan: String,
    /// Its addresses.
    pub addresses: Vec<Cidr>,
    /// The far end's name in the switch.
    pub(crate) port: String,
}

/// A host: a network, mount, host name and process namespace of its own.
#[derive(Debug)]
pub struct Host {
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
    pub(crate) attachments: Vec<Attachment>,
    /// `ip -batch` lines that give the interfaces their addresses and routes; repeatable.
    pub(crate) addressing: String,
    pub(crate) wireguard: Mutex<BTreeMap<String, Running>>,
    pub(crate) holder: Holder,
    /// The process that holds the switch, to pull this host's cables.
    pub(crate) switch: i32,
}

/// A way into a host's network, open as long as the value lives.
#[derive(Debug)]
pub struct Door {
    name: String,
    network: std::fs::File,
}

impl Door {
    /// Like [`Host::inside`].
    ///
    /// # Panics
    /// When the function does.
    pub fn inside<T: Send>(&self, function: impl FnOnce() -> T + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&self.network, CloneFlags::CLONE_NEWNET).map_err(|errno| Error::Io {
                    what: format!("network of {}", self.name),
                    source: errno.into(),
                })?;
                Ok(function())
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Host {
    /// The host's name, which is also its hostname.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The host's own folder, the same path inside and outside; removed with the mesh.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The first process of the host, by its number on this machine: `/proc/PID/ns` are the
    /// host's namespaces.
    pub fn pid(&self) -> i32 {
        self.holder.pid()
    }

    /// The interfaces on LANs.
    pub fn attachments(&self) -> &[Attachment] {
        &self.attachments
    }

    /// The first address on the first LAN.
    ///
    /// # Panics
    /// When the plan put the host on no LAN.
    pub fn address(&self) -> std::net::IpAddr {
        self.attachments.iter().flat_map(|on| &on.addresses).next().expect("host is on a LAN").address
    }

    /// Runs a command inside and gives its standard output; anything but exit code 0 is an error.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        self.holder.run(args, "")
    }

    /// The same with text on standard input.
    pub fn run_with(&self, args: &[&str], input: &str) -> Result<String> {
        self.holder.run(args, input)
    }

    /// Runs a shell script inside.
    pub fn sh(&self, script: &str) -> Result<String> {
        self.holder.run(&["sh", "-ec", script], "")
    }

    /// Runs a command inside, however it ends, with its own deadline.
    pub fn output(&self, args: &[&str], deadline: Duration) -> Result<Output> {
        command::output(&self.name, self.holder.enter().args(args), b"", deadline)
    }

    /// The same with environment variables.
    pub fn output_env(&self, args: &[&str], env: &[(&str, &str)], deadline: Duration) -> Result<Output> {
        command::output(&self.name, self.holder.enter().envs(env.iter().copied()).args(args), b"", deadline)
    }

    /// Starts a program that runs while the test goes on.
    pub fn spawn(&self, launch: &Launch) -> Result<Proc> {
        launch.start(&self.name, &self.dir, &self.holder)
    }

    /// Runs a function on a thread that is in this host's network: sockets that it opens are the
    /// host's, and stay so. Files and processes are this machine's.
    ///
    /// # Panics
    /// When the function does.
    pub fn inside<T: Send>(&self, function: impl FnOnce() -> T + Send) -> Result<T> {
        self.door()?.inside(function)
    }

    /// A way into this host's network that does not borrow the host.
    pub fn door(&self) -> Result<Door> {
        let path = format!("/proc/{}/ns/net", self.pid());
        let network = std::fs::File::open(&path).map_err(Error::io(path))?;
        Ok(Door { name: self.name.clone(), network })
    }

    /// Whether one of a few pings to `address` is answered within `timeout`.
    pub fn ping(&self, address: &str, timeout: Duration) -> bool {
        let start = Instant::now();
        until(timeout, || {
            let left = timeout.saturating_sub(start.elapsed()).as_secs().clamp(1, 2).to_string();
            self.output(&["ping", "-n", "-q", "-c", "1", "-W", &left, address], DEADLINE)
                .is_ok_and(|done| done.status.success())
        })
    }

    /// Sets the resolver: the host's `/etc/resolv.conf` then has this one line.
    pub fn use_dns(&self, server: &str) -> Result<()> {
        // In place: the file is what is mounted.
        let path = self.dir.join("etc/resolv.conf");
        std::fs::write(&path, format!("nameserver {server}\n")).map_err(Error::io(path.display().to_string()))
    }

    /// Takes an interface down, as an administrator would.
    pub fn down_link(&self, interface: &str) -> Result<()> {
        self.run(&["ip", "link", "set", interface, "down"]).map(drop)
    }

    /// Takes an interface up again, and gives back the planned addresses and routes that the
    /// kernel dropped meanwhile.
    pub fn up_link(&self, interface: &str) -> Result<()> {
        self.run(&["ip", "link", "set", interface, "up"])?;
        self.restore_addressing()?;
        let running = self.devices();
        if let Some(device) = running.get(interface) { device.address(self) } else { Ok(()) }
    }

    /// Pulls the cable: the interface loses its carrier.
    pub fn unplug(&self, interface: &str) -> Result<()> {
        self.far_end(interface, "down")
    }

    /// Plugs the cable in again.
    pub fn plug(&self, interface: &str) -> Result<()> {
        self.far_end(interface, "up")
    }

    /// Drops what matches an nftables expression (`ip daddr 10.1.0.3`, `udp dport 51820`), coming
    /// in, going out and passing through, until [`Host::heal`]. A drop on the way out is an error
    /// for a UDP sender (EPERM); to lose packets silently, cut at the receiver or on a router.
    pub fn cut(&self, expression: &str) -> Result<()> {
        ["in", "out", "pass"].iter().try_for_each(|chain| self.drop_in(chain, expression))
    }

    /// The same, only for what comes in.
    pub fn cut_in(&self, expression: &str) -> Result<()> {
        self.drop_in("in", expression)
    }

    /// The same, only for what the host itself sends.
    pub fn cut_out(&self, expression: &str) -> Result<()> {
        self.drop_in("out", expression)
    }

    /// The same, only for what a router passes through: silent for both sides.
    pub fn cut_through(&self, expression: &str) -> Result<()> {
        self.drop_in("pass", expression)
    }

    /// Undoes every cut on this host.
    pub fn heal(&self) -> Result<()> {
        self.run_with(&["nft", "-f", "-"], "add table inet lab_cut\ndelete table inet lab_cut\n").map(drop)
    }

    fn drop_in(&self, chain: &str, expression: &str) -> Result<()> {
        let hook = |chain, hook| {
            format!(
                "add chain inet lab_cut {chain} {{ type filter hook {hook} priority -300; policy accept; }}\n"
            )
        };
        let script = format!(
            "add table inet lab_cut\n{}{}{}add rule inet lab_cut {chain} {expression} counter drop\n",
            hook("in", "input"),
            hook("out", "output"),
            hook("pass", "forward"),
        );
        self.run_with(&["nft", "-f", "-"], &script).map(drop)
    }

    pub(crate) fn restore_addressing(&self) -> Result<()> {
        // -force: a route through an interface that is still down must not stop the others.
        let down = |on: &Attachment| {
            self.run(&["ip", "-o", "link", "show", "up", "dev", &on.interface])
                .is_ok_and(|text| text.is_empty())
        };
        let force = self.attachments.iter().any(down);
        let args: &[&str] = if force { &["ip", "-force", "-batch", "-"] } else { &["ip", "-batch", "-"] };
        let done = self.run_with(args, &self.addressing);
        if force { Ok(()) } else { done.map(drop) }
    }

    pub(crate) fn devices(&self) -> MutexGuard<'_, BTreeMap<String, Running>> {
        self.wireguard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn far_end(&self, interface: &str, state: &str) -> Result<()> {
        let on = self
            .attachments
            .iter()
            .find(|on| on.interface == interface)
            .ok_or_else(|| Error::Plan(format!("{}: no LAN on {interface}", self.name)))?;
        let pid = self.switch.to_string();
        command::here(&["nsenter", "-t", &pid, "-n", "--", "ip", "link", "set", &on.port, state], b"")
            .map(drop)
    }
}
