//! What the kernel says of this process.

use std::path::Path;

/// This process as the kernel counts it. What cannot be read is `None`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Process {
    /// Seconds of processor time.
    pub cpu_s: Option<f64>,
    /// Bytes in memory.
    pub resident_bytes: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
    /// Descriptors in use.
    pub open_fds: Option<u64>,
    /// Descriptors that it may have.
    pub max_fds: Option<u64>,
}

/// Bytes of memory of this machine; `None` where /proc/meminfo does not say.
#[must_use]
pub fn memory() -> Option<usize> {
    memory_of(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

/// Bytes that all clients' requests and answers may take together on a machine with so much memory: a 64th of it, and
/// at least 32 MiB, as the map of some 100,000 edges is as large.
#[must_use]
pub fn buffered(memory: Option<usize>) -> usize {
    (memory.unwrap_or(0) / 64).max(32 << 20)
}

fn memory_of(meminfo: &str) -> Option<usize> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_ascii_whitespace().next()?.parse::<usize>().ok()?.checked_mul(1024)
}

/// Ticks a second in /proc/PID/stat: USER_HZ, 100 on all machines that Linux runs on today.
const TICKS: f64 = 100.0;

impl Process {
    /// Reads /proc/self.
    #[must_use]
    pub fn read() -> Self {
        let proc = Path::new("/proc/self");
        let text = |name: &str| std::fs::read_to_string(proc.join(name)).unwrap_or_default();
        let fds = std::fs::read_dir(proc.join("fd")).ok().and_then(|fds| u64::try_from(fds.count()).ok());
        Self { open_fds: fds, ..Self::parse(&text("stat"), &text("status"), &text("limits")) }
    }

    fn parse(stat: &str, status: &str, limits: &str) -> Self {
        // The program's name is in parentheses and may hold anything.
        let ticks = stat.rsplit_once(')').and_then(|(_, rest)| {
            let mut fields = rest.split_ascii_whitespace().skip(11);
            let mut next = || fields.next()?.parse::<u32>().ok().map(f64::from);
            Some(next()? + next()?)
        });
        let field = |name: &str| -> Option<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_ascii_whitespace().next()?.parse().ok()
        };
        let files = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
        Self {
            cpu_s: ticks.map(|ticks| ticks / TICKS),
            resident_bytes: field("VmRSS:").map(|kb| kb * 1024),
            threads: field("Threads:"),
            open_fds: None,
            max_fds: files.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_understood() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 900 0 0 0 150 50 0 0 20 0 9 0 12345 1000 250";
        let status = "Name:\ta) b\nVmRSS:\t    1024 kB\nThreads:\t9\n";
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 4096                 files\n";
        let found = Process::parse(stat, status, limits);
        assert_eq!((found.cpu_s, found.resident_bytes), (Some(2.0), Some(1 << 20)));
        assert_eq!((found.threads, found.max_fds), (Some(9), Some(1024)));
        assert_eq!(Process::parse("", "", "Max open files unlimited"), Process::default());
        assert_eq!(buffered(None), 32 << 20);
        assert_eq!(buffered(Some(1 << 30)), 32 << 20);
        assert_eq!(buffered(Some(8 << 30)), 128 << 20);
        assert_eq!(memory_of("MemFree: 1 kB\nMemTotal:       2048 kB\n"), Some(2 << 20));
        assert_eq!(memory_of("MemTotal: much"), None);
        let own = Process::read();
        assert!(own.resident_bytes > Some(100_000) && own.open_fds > Some(2), "{own:?}");
    }
}
