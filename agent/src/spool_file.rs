//! The spool in a file, from one start of the agent to the next.
//!
//! A line of JSON that says whose it is, then for each report a line of JSON and its deflated
//! payload, then the SHA-256 of all that. It is written when the agent is stopped and removed when
//! it is read, so it belongs in a tmpfs: flash is not written to in normal running.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use proto::ids::{AgentId, BootId, Nonce};
use proto::sign;
use serde::{Deserialize, Serialize};

use crate::atomic;
use crate::clock::Moment;
use crate::message::Observed;
use crate::spool::{Spool, Waiting};

/// Version of the file's form.
const VERSION: u32 = 1;
/// Longest line: five numbers and three ids take under 300 bytes.
const LINE_MAX: usize = 1024;
const SUM_LEN: usize = 32;

/// What a file begins with.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    version: u32,
    agent: AgentId,
    /// Which start of the host: the uptimes below count from it.
    host_boot: String,
    dropped: u64,
    reports: usize,
}

/// What a report begins with.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    boot: BootId,
    tick: u64,
    nonce: Nonce,
    wall: i64,
    uptime: i64,
    at: i64,
    settled: bool,
    len: usize,
}

/// Why a file's reports are lost.
#[derive(Debug)]
pub enum SpoolFileError {
    /// It cannot be read, written or removed.
    Io(PathBuf, io::Error),
    /// It is not what was written.
    Corrupt(PathBuf),
    /// It is another agent's.
    Foreign(PathBuf, AgentId),
}

impl fmt::Display for SpoolFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(path, error) => write!(f, "SPOOL_FILE {}: {error}", path.display()),
            Self::Corrupt(path) => write!(f, "SPOOL_FILE {} is corrupt and was ignored", path.display()),
            Self::Foreign(path, agent) => {
                write!(f, "SPOOL_FILE {} is agent {agent}'s and was ignored", path.display())
            }
        }
    }
}

impl std::error::Error for SpoolFileError {}

/// Writes all that waits, for its owner's eyes only; nothing when nothing waits. How many reports.
///
/// # Errors
/// When the file cannot be written; an earlier one is as it was.
pub fn save(path: &Path, spool: &Spool, agent: AgentId) -> Result<usize, SpoolFileError> {
    let reports = spool.all();
    if reports.is_empty() {
        return Ok(0);
    }
    let bytes = write(&reports, agent, spool.dropped(), &host_boot());
    atomic::write(path, &bytes, atomic::PRIVATE)
        .map_err(|error| SpoolFileError::Io(path.to_owned(), error))?;
    Ok(reports.len())
}

/// A spool of `limit` bytes with what the file holds, which is gone then. Without a file it is empty.
///
/// # Errors
/// When there is a file and its reports are lost; the next ones are not.
pub fn load(path: &Path, limit: usize, agent: AgentId, now: Moment) -> Result<Spool, SpoolFileError> {
    let io = |error| SpoolFileError::Io(path.to_owned(), error);
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Spool::new(limit)),
        Err(error) => return Err(io(error)),
    };
    fs::remove_file(path).map_err(io)?;
    // A report's line is no longer than what the ring reckons for it.
    let most = limit.saturating_mul(3).saturating_add(1 << 20);
    let mut bytes = Vec::new();
    file.by_ref().take(u64::try_from(most).unwrap_or(u64::MAX)).read_to_end(&mut bytes).map_err(io)?;
    let (head, reports) = read(&bytes).ok_or_else(|| SpoolFileError::Corrupt(path.to_owned()))?;
    if head.agent != agent {
        return Err(SpoolFileError::Foreign(path.to_owned(), head.agent));
    }
    let same_start = !head.host_boot.is_empty() && head.host_boot == host_boot();
    let mut spool = Spool::new(limit);
    spool.add_dropped(head.dropped);
    for mut report in reports {
        if !same_start {
            // The uptime began anew: the ages begin anew too, and the time in the payload stays.
            report.observed = Observed { then: now, settled: true, ..report.observed };
        }
        spool.push(report);
    }
    Ok(spool)
}

fn write(reports: &[Waiting], agent: AgentId, dropped: u64, host_boot: &str) -> Vec<u8> {
    let host_boot = host_boot.to_owned();
    let head = Head { version: VERSION, agent, host_boot, dropped, reports: reports.len() };
    let mut bytes = line(&head);
    for Waiting { boot, tick, nonce, observed, deflated, .. } in reports {
        let Observed { then: Moment { wall, uptime }, at, settled } = *observed;
        let (boot, tick, nonce, len) = (*boot, *tick, *nonce, deflated.len());
        bytes.extend(line(&Entry { boot, tick, nonce, wall, uptime, at, settled, len }));
        bytes.extend_from_slice(deflated);
    }
    let sum = sign::sha256(&bytes);
    bytes.extend(sum);
    bytes
}

fn line(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("numbers and ids are plain data");
    line.push(b'\n');
    line
}

fn read(bytes: &[u8]) -> Option<(Head, Vec<Waiting>)> {
    let (content, sum) = bytes.split_at(bytes.len().checked_sub(SUM_LEN)?);
    if sign::sha256(content) != sum {
        return None;
    }
    let (head, mut rest) = split_line::<Head>(content)?;
    if head.version != VERSION {
        return None;
    }
    let mut reports = Vec::new();
    for _ in 0..head.reports {
        let (entry, after) = split_line::<Entry>(rest)?;
        let Entry { boot, tick, nonce, wall, uptime, at, settled, len } = entry;
        let (deflated, after) = after.split_at_checked(len)?;
        let observed = Observed { then: Moment { wall, uptime }, at, settled };
        reports.push(Waiting::new(boot, tick, nonce, observed, deflated.to_vec()));
        rest = after;
    }
    rest.is_empty().then_some((head, reports))
}

fn split_line<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<(T, &'a [u8])> {
    let end = bytes.iter().take(LINE_MAX).position(|&byte| byte == b'\n')?;
    Some((serde_json::from_slice(&bytes[..end]).ok()?, &bytes[end + 1..]))
}

/// Names this start of the host; empty where it cannot be told.
fn host_boot() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;
    use proptest::prelude::*;
    use std::os::unix::fs::PermissionsExt as _;

    const AGENT: AgentId = AgentId([1; 16]);
    const NOW: Moment = Moment { wall: 1_795_000_000_000, uptime: 100_000 };

    fn spool(reports: u64) -> Spool {
        let mut spool = Spool::new(1 << 20);
        for tick in 1..=reports {
            let json = format!(r#"{{"observed_at":{tick}}}"#).into_bytes();
            spool.add(Message::report(BootId([2; 16]), tick, Nonce::random().unwrap(), json, NOW, 7), NOW);
        }
        spool.add_dropped(5);
        spool
    }

    #[test]
    fn what_waits_survives_a_restart_with_its_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spool");
        let before = spool(3);
        assert_eq!(save(&path, &before, AGENT).unwrap(), 3);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let after = load(&path, 1 << 20, AGENT, NOW).unwrap();
        assert_eq!((after.all(), after.dropped()), (before.all(), 5));
        assert!(!path.exists(), "it is read once");
        assert!(load(&path, 1 << 20, AGENT, NOW).unwrap().is_empty());
        assert_eq!(save(&path, &Spool::new(0), AGENT).unwrap(), 0);
        assert!(!path.exists(), "nothing waits, nothing is written");
        save(&path, &before, AGENT).unwrap();
        let small = load(&path, 400, AGENT, NOW).unwrap();
        assert!(small.len() < 3 && small.len() + small.dropped() == 8, "the new bound holds");
    }

    #[test]
    fn corrupt_and_foreign_files_are_named_and_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spool");
        let load = || load(&path, 1 << 20, AGENT, NOW).map_err(|error| error.to_string());
        for bad in [&b""[..], b"\0\0", b"{}\n", &[0xff; 5000]] {
            fs::write(&path, bad).unwrap();
            assert!(load().unwrap_err().contains("is corrupt and was ignored"));
            assert!(load().unwrap().is_empty());
        }
        save(&path, &spool(2), AgentId([9; 16])).unwrap();
        assert!(load().unwrap_err().contains(&AgentId([9; 16]).to_string()));
        let nowhere = folder.path().join("missing/spool");
        assert!(save(&nowhere, &spool(1), AGENT).unwrap_err().to_string().contains("missing/spool"));
    }

    #[test]
    fn after_a_new_start_of_the_host_ages_begin_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spool");
        let bytes = write(&spool(2).all(), AGENT, 0, "another start");
        fs::write(&path, bytes).unwrap();
        let now = Moment { wall: 5, uptime: 6 };
        let loaded = load(&path, 1 << 20, AGENT, now).unwrap();
        assert!(
            loaded.all().iter().all(|report| report.observed == Observed { then: now, at: 7, settled: true })
        );
    }

    proptest! {
        #[test]
        fn no_bytes_are_a_panic_and_no_change_goes_unnoticed(
            junk in prop::collection::vec(any::<u8>(), 0..300), place in any::<prop::sample::Index>()
        ) {
            prop_assert!(read(&junk).is_none());
            let mut bytes = write(&spool(2).all(), AGENT, 0, "x");
            let place = place.index(bytes.len());
            bytes[place] ^= 1;
            prop_assert!(read(&bytes).is_none());
            prop_assert!(read(&bytes[..place]).is_none());
        }
    }
}
