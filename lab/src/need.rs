//! What a test needs of the machine, and skipping it loudly where that is missing.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::unistd::geteuid;

use crate::{Error, bin, command, kernel};

/// One thing a test needs.
#[derive(Clone, Copy, Debug)]
pub enum Need {
    /// Root with the right to make namespaces.
    Root,
    /// A command on the search path.
    Tool(&'static str),
    /// A device file.
    Device(&'static str),
    /// A built binary of this workspace: `agent`, `manager`.
    Bin(&'static str),
    /// The unpacked Debian kernel.
    Kernel,
}

/// What [`crate::Mesh`] needs.
pub const MESH: &[Need] = &[
    Need::Root,
    Need::Tool("ip"),
    Need::Tool("unshare"),
    Need::Tool("nsenter"),
    Need::Tool("wg"),
    Need::Tool("wireguard-go"),
    Need::Tool("nft"),
    Need::Tool("ping"),
    Need::Tool("dnsmasq"),
    Need::Device("/dev/net/tun"),
];

/// What [`crate::Kernel`] needs.
pub const KERNEL: &[Need] = &[
    Need::Tool("qemu-system-x86_64"),
    Need::Tool("busybox"),
    Need::Tool("modprobe"),
    Need::Tool("cpio"),
    Need::Tool("ldd"),
    Need::Tool("ip"),
    Need::Tool("wg"),
    Need::Tool("setpriv"),
    Need::Kernel,
];

/// Whether all `needs` are met. Where not, the test is to return: it says so on the real standard
/// error, which the test runner does not hide.
///
/// # Panics
/// With `CI=true`, where nothing may be skipped.
pub fn require(needs: &[Need]) -> bool {
    let missing: Vec<String> = needs.iter().filter_map(|need| missing(*need)).collect();
    if missing.is_empty() {
        return true;
    }
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    let text = format!("SKIPPED: {test}: needs {} (run: scripts/test-deps.sh as root)", missing.join(", "));
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{text}; CI=true: nothing may be skipped");
    // Not eprintln: that is captured and lost when a test passes. Nobody listening is no harm.
    let _ = writeln!(std::io::stderr(), "{text}");
    false
}

/// What is missing, in words.
fn missing(need: Need) -> Option<String> {
    match need {
        Need::Root if !geteuid().is_root() => Some("root".to_owned()),
        Need::Root if !may_unshare() => Some("the right to make namespaces".to_owned()),
        Need::Root => None,
        Need::Tool(tool) => (!on_path(tool)).then(|| format!("the command {tool}")),
        Need::Device(path) => (!Path::new(path).exists()).then(|| path.to_owned()),
        Need::Bin(name) => bin(name).err().map(|error: Error| error.to_string()),
        Need::Kernel => kernel::installed().err().map(|error| error.to_string()),
    }
}

fn on_path(tool: &str) -> bool {
    command::path().split(':').any(|folder| !folder.is_empty() && Path::new(folder).join(tool).is_file())
}

/// Root in a container often may not.
fn may_unshare() -> bool {
    Command::new("unshare")
        .args(["--net", "--mount", "--uts", "--pid", "--fork", "true"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(missing(Need::Tool("no-such-tool")), Some("the command no-such-tool".to_owned()));
        assert_eq!(missing(Need::Tool("sh")), None);
        assert_eq!(missing(Need::Device("/dev/no-such-device")), Some("/dev/no-such-device".to_owned()));
        assert_eq!(missing(Need::Device("/dev/null")), None);
    }
}
