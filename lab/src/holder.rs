//! One process that holds a host's namespaces: network, mounts, host name and processes.
//!
//! It waits on a pipe that only the test process can close, on purpose or by ending in whatever
//! way. It is the first process of its process namespace, so with it the kernel kills all that
//! runs in the host; the last of them takes the namespaces and the interfaces along.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::command::{DEADLINE, kill_group, path, run, wait};
use crate::process::{child_of, stamp};
use crate::{Error, Result};

/// Before this, the shell variables `name` and `dir` are the host's name and its folder.
/// Everything of the machine that hosts would share by accident is replaced.
const SETUP: &str = r#"
set -e
mkdir -p /var/run/wireguard
mount -t tmpfs tmpfs /var/run/wireguard
mount -t sysfs sysfs /sys
echo "$name" >/proc/sys/kernel/hostname
for file in resolv.conf hostname hosts machine-id; do
    if [ -e "/etc/$file" ]; then mount --bind "$dir/etc/$file" "/etc/$file"; fi
done
ip link set lo up
echo ready
exec >/dev/null
cat
"#;

/// After the pipe is closed: nobody else removes the folder when the test process was killed.
const SWEEP: &str = "cd /; rm -rf -- \"$sweep\"\n";

/// The holding process; its end is the end of all that runs in the host.
#[derive(Debug)]
pub(crate) struct Holder {
    name: String,
    /// `unshare`, the parent of the first process inside.
    child: Child,
    /// The first process inside, by its number outside.
    pid: i32,
}

impl Holder {
    /// Starts a holder whose `/etc` files come from `dir`; at the end it removes `sweep`.
    /// It is not ready before [`Holder::ready`].
    pub(crate) fn start(name: &str, dir: &Path, sweep: Option<&Path>) -> Result<Self> {
        write_etc(name, dir)?;
        let script = format!("{SETUP}{}", if sweep.is_some() { SWEEP } else { "" });
        let child = Command::new("unshare")
            .args(["--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["--propagation", "private", "--", "sh", "-c", &script])
            .env_clear()
            .env("PATH", path())
            .env("name", name)
            .env("dir", dir)
            .env("sweep", sweep.unwrap_or_else(|| Path::new("/nonexistent")))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(Error::io(format!("{name}: unshare")))?;
        Ok(Self { name: name.to_owned(), child, pid: 0 })
    }

    /// Waits until the namespaces are set up.
    pub(crate) fn ready(mut self) -> Result<Self> {
        // Both ends: "ready" or the end of the process.
        let mut word = [0; 6];
        let answer = self.child.stdout.take().map(|mut stdout| stdout.read_exact(&mut word));
        if !matches!(answer, Some(Ok(()))) || &word != b"ready\n" {
            let mut said = String::new();
            if let Some(stderr) = &mut self.child.stderr {
                let _ = stderr.read_to_string(&mut said);
            }
            return Err(Error::Command {
                host: self.name.clone(),
                command: "unshare".to_owned(),
                outcome: "did not set up the host's namespaces".to_owned(),
                said,
            });
        }
        self.pid = child_of(self.child.id()).ok_or_else(|| Error::Command {
            host: self.name.clone(),
            command: "unshare".to_owned(),
            outcome: "has no child".to_owned(),
            said: String::new(),
        })?;
        Ok(self)
    }

    /// The first process inside, by its number on this machine.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// A command that runs inside, with an environment of its own.
    pub(crate) fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["-t", &self.pid.to_string(), "-n", "-m", "-u", "-i", "-p", "--"])
            .env_clear()
            .env("PATH", path())
            .env("HOME", "/root")
            .env("LC_ALL", "C");
        command
    }

    /// Runs a command inside and gives its output.
    pub(crate) fn run(&self, args: &[&str], input: &str) -> Result<String> {
        run(&self.name, self.enter().args(args), input.as_bytes(), DEADLINE)
    }

    /// Lets the host go, without waiting for its end.
    pub(crate) fn release(&mut self) {
        drop(self.child.stdin.take());
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.release();
        if !matches!(wait(&mut self.child, Duration::from_secs(3)), Ok(Some(_))) {
            kill_group(&self.child);
            let _ = self.child.wait();
        }
    }
}

/// The files of `/etc` in which hosts differ.
fn write_etc(name: &str, dir: &Path) -> Result<()> {
    let etc = dir.join("etc");
    std::fs::create_dir_all(&etc).map_err(Error::io(etc.display().to_string()))?;
    let files = [
        ("resolv.conf", String::new()),
        ("hostname", format!("{name}\n")),
        ("hosts", format!("127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {name}\n")),
        ("machine-id", format!("{:032x}\n", stamp(dir))),
    ];
    for (file, text) in files {
        let path = etc.join(file);
        std::fs::write(&path, text).map_err(Error::io(path.display().to_string()))?;
    }
    Ok(())
}
