//! The host's own figures.

use std::fmt::Display;
use std::path::Path;

use proto::report::{Forwarding, SystemData};

use super::Sources;
use super::files::SmallFiles;
use super::problems::{Problems, short};
use crate::parse::host;

/// Where os-release(5) may be, below the root.
const OS_RELEASE: [&str; 2] = ["etc/os-release", "usr/lib/os-release"];

/// Fills in names, uptime, load, memory and whether packets are passed on.
pub(super) fn read(
    sources: &Sources,
    files: &mut SmallFiles,
    problems: &mut Problems,
    system: &mut SystemData,
) {
    let proc = |name: &str| sources.proc_root.join(name);
    let mut reader = Reader { files, problems };
    system.arch = short(sources.arch.clone());
    system.os = os(sources, &mut reader);
    system.hostname = reader.value(&proc("sys/kernel/hostname"), name).unwrap_or_default();
    system.kernel = reader.value(&proc("sys/kernel/osrelease"), name).unwrap_or_default();
    system.uptime_s = reader.value(&proc("uptime"), host::uptime).unwrap_or_default();
    system.load = reader.value(&proc("loadavg"), host::loadavg).unwrap_or_default();
    system.memory = reader.value(&proc("meminfo"), host::meminfo).unwrap_or_default();
    let ipv4 = reader.value(&proc("sys/net/ipv4/ip_forward"), host::switch);
    // Without IPv6 there is no such file: nothing is passed on, and the routes' problem says why.
    let path = proc("sys/net/ipv6/conf/all/forwarding");
    let ipv6 = if path.exists() { reader.value(&path, host::switch) } else { Some(false) };
    system.forwarding = ipv4.zip(ipv6).map(|(ipv4, ipv6)| Forwarding { ipv4, ipv6 });
}

fn os(sources: &Sources, reader: &mut Reader<'_>) -> String {
    let paths = OS_RELEASE.map(|name| sources.root.join(name));
    let path = paths.iter().find(|path| path.exists()).unwrap_or(&paths[0]);
    let parse = |text: &str| host::os_release(text).map(short).ok_or("names no distribution");
    reader.value(path, parse).unwrap_or_default()
}

fn name(text: &str) -> Result<String, &'static str> {
    let text = text.trim();
    if text.is_empty() { Err("empty") } else { Ok(short(text.to_owned())) }
}

/// Reads files of which each holds one thing.
struct Reader<'a> {
    files: &'a mut SmallFiles,
    problems: &'a mut Problems,
}

impl Reader<'_> {
    /// What `parse` makes of the file at `path`; otherwise a problem.
    fn value<T, E: Display>(&mut self, path: &Path, parse: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        match self.files.read(path).map(parse) {
            Ok(Ok(value)) => Some(value),
            Ok(Err(error)) => {
                self.problems.add_file(path, error);
                None
            }
            Err(error) => {
                self.problems.add_file(path, error);
                None
            }
        }
    }
}
