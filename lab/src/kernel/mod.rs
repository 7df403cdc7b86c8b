//! A Debian kernel under qemu, for what only the kernel's own modules show: WireGuard, VXLAN, GRE
//! and the other devices that a network namespace of this machine may not have.
//!
//! Everything is emulated, so that it runs wherever qemu does; it needs no root. The guest is an
//! initramfs made on the spot. It runs the given steps one after the other, sends what each wrote
//! through a serial port, and powers off.

mod image;
mod transcript;

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::command::{HERE, output, path};
use crate::{Error, Result};

use image::Image;
pub use transcript::{Step, Transcript};

/// The names of the hosts that [`Kernel::with_hosts`] sets up.
pub const HOSTS: [&str; 3] = ["a", "b", "c"];

/// Sets up the hosts; the comments in it say what there is.
const HOSTS_SETUP: &str = include_str!("hosts.sh");

/// The modules that make the devices of `hosts.sh`, and nftables.
const MODULES: &[&str] = &[
    "wireguard",
    "vxlan",
    "ip_gre",
    "ip6_gre",
    "ipip",
    "sit",
    "8021q",
    "bridge",
    "dummy",
    "veth",
    "tun",
    "bonding",
    "macvlan",
    "geneve",
    "nf_tables",
    "nft_ct",
    "nft_masq",
];

/// A guest to run: what is in it, and the steps.
#[derive(Clone, Debug)]
pub struct Kernel {
    modules: Vec<String>,
    binaries: Vec<PathBuf>,
    files: Vec<(String, Vec<u8>)>,
    steps: Vec<(String, String)>,
}

impl Kernel {
    /// A guest with a shell, busybox's tools, iproute2 and `wg`, and all its modules loaded, but
    /// no hosts.
    #[expect(clippy::new_without_default, reason = "a guest is not a neutral value")]
    pub fn new() -> Self {
        let tools = ["sh", "ip", "bridge", "wg", "nft"];
        Self {
            modules: MODULES.iter().map(|&name| name.to_owned()).collect(),
            binaries: tools.iter().filter_map(|tool| find(tool)).collect(),
            files: Vec::new(),
            steps: Vec::new(),
        }
    }

    /// The same with the [`HOSTS`], connected by kernel WireGuard and every kind of tunnel. The
    /// transcript's first step, `hosts`, is their setup.
    pub fn with_hosts() -> Self {
        Self::new().step("hosts", HOSTS_SETUP)
    }

    /// Loads more modules.
    #[must_use]
    pub fn modules(mut self, names: &[&str]) -> Self {
        self.modules.extend(names.iter().map(|&name| name.to_owned()));
        self
    }

    /// Puts a binary, with the shared libraries it needs, into the guest's `/usr/bin`.
    #[must_use]
    pub fn copy_binary(mut self, path: impl Into<PathBuf>) -> Self {
        self.binaries.push(path.into());
        self
    }

    /// Puts a file into the guest, readable by its root only.
    #[must_use]
    pub fn file(mut self, path: &str, contents: impl Into<Vec<u8>>) -> Self {
        self.files.push((path.to_owned(), contents.into()));
        self
    }

    /// Adds a step: a shell script, whose output and exit code are in the transcript under
    /// `label`. What it leaves in the background goes on running. A step that fails does not end
    /// the run.
    #[must_use]
    pub fn step(mut self, label: &str, script: &str) -> Self {
        self.steps.push((label.to_owned(), script.to_owned()));
        self
    }

    /// Adds a step that runs inside a host.
    #[must_use]
    pub fn step_on(mut self, host: &str, label: &str, script: &str) -> Self {
        let file = format!("/lab/on/{}", self.steps.len());
        self.files.push((file.clone(), script.into()));
        self.step(label, &format!("on {host} sh -e {file}"))
    }

    /// Boots, runs the steps and powers off. An error when the guest does not get through them
    /// within `timeout` (booting alone takes some 5 s, more on a busy machine): it has the end of
    /// the console and names the step.
    pub fn run(&self, timeout: Duration) -> Result<Transcript> {
        let (kernel, modules) = installed()?;
        let dir = tempfile::Builder::new()
            .prefix("lab-kernel-")
            .tempdir()
            .map_err(Error::io("the guest's folder"))?;
        let _sweeper = Sweeper::start(dir.path())?;
        let initrd = self.image(dir.path(), &modules)?;
        let file = |name: &str| dir.path().join(name);
        let serial = |name: &str| format!("file:{}", file(name).display());
        let mut qemu = Command::new("setpriv");
        // The kernel ends qemu with this thread, which waits for it, however the test ends.
        qemu.args([
            "--pdeathsig",
            "KILL",
            "--",
            "qemu-system-x86_64",
            "-accel",
            "tcg,thread=multi",
            "-cpu",
            "max",
        ])
        .args([
            "-m",
            "512",
            "-smp",
            "2",
            "-display",
            "none",
            "-monitor",
            "none",
            "-nic",
            "none",
            "-no-reboot",
        ])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(initrd)
        // no_timer_check: on a busy machine the emulated timer may seem dead for a moment.
        .args(["-append", "console=ttyS0 quiet panic=-1 no_timer_check"])
        .args(["-serial", &serial("console"), "-serial", &serial("transcript")])
        .env("PATH", path());
        let ended = output(HERE, &mut qemu, b"", timeout);
        let read = |name: &str| std::fs::read(file(name)).unwrap_or_default();
        let console = String::from_utf8_lossy(&read("console")).into_owned();
        let labels: Vec<&str> = self.steps.iter().map(|(label, _)| label.as_str()).collect();
        let failure = match ended {
            Ok(done) if done.status.success() => "powered off".to_owned(),
            Ok(done) => format!("{}: {}", done.status, String::from_utf8_lossy(&done.stderr)),
            Err(error) => error.to_string(),
        };
        Transcript::read(&labels, &read("transcript"), console, &failure)
    }

    fn image(&self, dir: &Path, modules: &ModuleTree) -> Result<PathBuf> {
        let image = Image::new(&dir.join("root"))?;
        image.busybox(&find("busybox").ok_or_else(|| Error::Missing("no busybox".to_owned()))?)?;
        for binary in &self.binaries {
            image.binary(binary)?;
        }
        image.modules(modules, &self.modules)?;
        for (path, contents) in &self.files {
            image.file(path, contents, 0o600)?;
        }
        for (n, (_, script)) in self.steps.iter().enumerate() {
            image.file(&format!("/lab/steps/{n:04}"), script.as_bytes(), 0o700)?;
        }
        image.pack(&dir.join("initrd"))
    }
}

/// Removes the guest's folder when the pipe to it closes, which the kernel does when the test
/// process is killed.
#[derive(Debug)]
struct Sweeper(Child);

impl Sweeper {
    fn start(dir: &Path) -> Result<Self> {
        let child = Command::new("sh")
            .args(["-c", r#"cat; cd /; rm -rf -- "$0""#])
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(Error::io("sh"))?;
        Ok(Self(child))
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// Where the modules are: the root of the unpacked package and the kernel's release.
#[derive(Debug)]
pub(crate) struct ModuleTree {
    root: PathBuf,
    release: String,
}

/// The kernel and its modules that `scripts/test-deps.sh` fetched into the build folder.
pub(crate) fn installed() -> Result<(PathBuf, ModuleTree)> {
    let executable = std::env::current_exe().map_err(Error::io("own executable's path"))?;
    for folder in executable.ancestors() {
        let root = folder.join("lab/kernel");
        let Ok(release) = std::fs::read_to_string(root.join("release")) else { continue };
        let release = release.trim().to_owned();
        let kernel = root.join(format!("boot/vmlinuz-{release}"));
        if kernel.is_file() {
            return Ok((kernel, ModuleTree { root, release }));
        }
    }
    Err(Error::Missing("no lab/kernel in the build folder (run: scripts/test-deps.sh)".to_owned()))
}

/// A command's place on the search path.
fn find(tool: &str) -> Option<PathBuf> {
    path().split(':').map(|folder| Path::new(folder).join(tool)).find(|path| path.is_file())
}
