//! What processes cost, as the kernel counts it under /proc.

use std::fs;

use crate::{Error, Result};

/// Microseconds in a clock tick of /proc/PID/stat: USER_HZ is 100 on every architecture that we build
/// for.
const TICK_US: u64 = 10_000;

/// What a process and its descendants used since each started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Account {
    /// CPU, user and system, children that ended included (µs, in steps of 10 ms).
    pub(super) cpu_us: u64,
    /// Bytes that they caused to be written to storage.
    pub(super) written: u64,
    /// Resident memory now (KiB), shared pages counted for each.
    pub(super) rss_kb: u64,
    /// The most resident memory ever (KiB), summed over processes.
    pub(super) peak_rss_kb: u64,
}

impl Account {
    /// Reads the account of a process and all its living descendants.
    ///
    /// # Errors
    /// When the process is not there.
    pub(super) fn of_tree(root: u32) -> Result<Self> {
        let mut sum = Self::of(root)?;
        for pid in descendants(root) {
            // One that ended meanwhile is in its parent's account.
            if let Ok(Self { cpu_us, written, rss_kb, peak_rss_kb }) = Self::of(pid) {
                sum.cpu_us += cpu_us;
                sum.written += written;
                sum.rss_kb += rss_kb;
                sum.peak_rss_kb += peak_rss_kb;
            }
        }
        Ok(sum)
    }

    /// Reads the account of one process and of its children that ended.
    ///
    /// # Errors
    /// When the process is not there.
    pub(super) fn of(pid: u32) -> Result<Self> {
        let read = |name: &str| {
            let path = format!("/proc/{pid}/{name}");
            fs::read_to_string(&path).map_err(Error::io(path))
        };
        let stat = parse_stat(&read("stat")?).ok_or_else(|| Error::Plan(format!("/proc/{pid}/stat")))?;
        let status = read("status")?;
        Ok(Self {
            cpu_us: (stat.ticks + stat.child_ticks) * TICK_US,
            // Not readable for processes of others.
            written: read("io").map_or(0, |io| number_after(&io, "write_bytes:")),
            rss_kb: number_after(&status, "VmRSS:"),
            peak_rss_kb: number_after(&status, "VmHWM:"),
        })
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    ticks: u64,
    child_ticks: u64,
}

/// Reads /proc/PID/stat, see proc(5): the command's name may hold blanks and parentheses.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<_> = rest.split_ascii_whitespace().collect();
    // Field 3 of proc(5) is the first one here: ppid is 4; utime, stime, cutime, cstime are 14 to 17.
    let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        ticks: ticks(11)? + ticks(12)?,
        child_ticks: ticks(13)? + ticks(14)?,
    })
}

fn number_after(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn descendants(root: u32) -> Vec<u32> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parents: Vec<(u32, u32)> = pids
        .filter_map(|pid| {
            Some((pid, parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?.parent))
        })
        .collect();
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found.split_off(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_behind_the_last_parenthesis() {
        let text = "42 (a) b (c) S 7 42 42 0 -1 4194560 100 0 0 0 3 4 5 6 20 0 1 0 100 1000 10 1";
        assert_eq!(parse_stat(text), Some(Stat { parent: 7, ticks: 7, child_ticks: 11 }));
        assert_eq!(parse_stat("42 (x) S 7"), None);
    }

    #[test]
    fn a_process_and_its_child_are_counted() {
        let mut child = std::process::Command::new("sleep").arg("10").spawn().unwrap();
        let own = Account::of(std::process::id()).unwrap();
        assert!(own.peak_rss_kb >= own.rss_kb && own.rss_kb > 500);
        assert!(descendants(std::process::id()).contains(&child.id()));
        assert!(Account::of_tree(std::process::id()).unwrap().rss_kb > own.rss_kb);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(Account::of(child.id()).is_err());
    }
}
