//! Which agent this is: `agent_id.txt`, bound to the hardware so that a copied SD card is another.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use proto::ids::AgentId;

use crate::atomic;

const FILE: &str = "agent_id.txt";
const ASIDE: &str = "agent_id.txt.bad";
/// A longer file is none of ours: 32 digits, `hardware ` and a hash of 64.
const FILE_MAX: usize = 1024;

/// Where an agent's id came from at start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The file held it.
    Kept,
    /// There was no file: the first start.
    Created,
    /// The file was made on other hardware: a copied card.
    Copied,
    /// The file could not be understood; it was kept aside.
    Corrupt,
}

/// Why there is no id to be had.
#[derive(Debug)]
pub enum IdentityError {
    /// The file cannot be read.
    Read(PathBuf, io::Error),
    /// The file cannot be written.
    Write(PathBuf, io::Error),
    /// The kernel gives no random numbers yet.
    NoRandom,
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(path, error) => write!(
                f,
                "cannot read {}: {error}; let the agent's user read it, or set STATE_DIR to a folder of its own",
                path.display()
            ),
            Self::Write(path, error) => write!(
                f,
                "cannot write {}: {error}; create the folder and let the agent's user write to it, \
                 or set STATE_DIR to another one",
                path.display()
            ),
            Self::NoRandom => f.write_str("the kernel gives no random numbers yet; start again later"),
        }
    }
}

impl std::error::Error for IdentityError {}

/// The id in `folder`, or a new one where there is none, it belongs to other `hardware`, or its file
/// is corrupt. A new one is durable when this returns. Hardware that cannot be told (empty) is no
/// other; an id made on such gets bound to the first that can.
///
/// # Errors
/// When the file can neither be read nor written.
pub fn load_or_create(folder: &Path, hardware: &str) -> Result<(AgentId, Origin), IdentityError> {
    let path = folder.join(FILE);
    let origin = match fs::read(&path) {
        Ok(bytes) => match parse(&bytes) {
            Some((id, "")) if !hardware.is_empty() => {
                store(folder, id, hardware)?;
                return Ok((id, Origin::Kept));
            }
            Some((id, of)) if of == hardware || hardware.is_empty() => return Ok((id, Origin::Kept)),
            Some(_) => Origin::Copied,
            None => {
                let aside = folder.join(ASIDE);
                fs::rename(&path, &aside).map_err(|error| IdentityError::Write(aside, error))?;
                Origin::Corrupt
            }
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Origin::Created,
        Err(error) => return Err(IdentityError::Read(path, error)),
    };
    let id = AgentId::random().map_err(|_| IdentityError::NoRandom)?;
    store(folder, id, hardware)?;
    Ok((id, origin))
}

/// The id that [`load_or_create`] would keep; nothing is written.
#[must_use]
pub fn known(folder: &Path, hardware: &str) -> Option<AgentId> {
    let bytes = fs::read(folder.join(FILE)).ok()?;
    let (id, of) = parse(&bytes)?;
    (of.is_empty() || hardware.is_empty() || of == hardware).then_some(id)
}

/// Makes `id` the one in `folder`, durably.
///
/// # Errors
/// When the file cannot be written.
pub fn store(folder: &Path, id: AgentId, hardware: &str) -> Result<(), IdentityError> {
    let path = folder.join(FILE);
    atomic::write(&path, format!("{id}\nhardware {hardware}\n").as_bytes(), atomic::PUBLIC)
        .map_err(|error| IdentityError::Write(path, error))
}

/// Removes what an earlier start kept aside, if it did.
pub fn remove_aside(folder: &Path) {
    match fs::remove_file(folder.join(ASIDE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            log::warn!("cannot remove {}: {error}", folder.join(ASIDE).display());
        }
        _ => {}
    }
}

fn parse(bytes: &[u8]) -> Option<(AgentId, &str)> {
    let text = std::str::from_utf8(bytes.get(..FILE_MAX).unwrap_or(bytes)).ok()?;
    let mut lines = text.lines();
    let id = lines.next()?.trim().parse().ok()?;
    let hardware = lines.next()?.strip_prefix("hardware")?.trim();
    Some((id, hardware))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_first_start_makes_an_id_and_later_ones_keep_it() {
        let folder = tempfile::tempdir().unwrap();
        let (id, origin) = load_or_create(folder.path(), "abc").unwrap();
        assert_eq!(origin, Origin::Created);
        assert_eq!(load_or_create(folder.path(), "abc").unwrap(), (id, Origin::Kept));
        let path = folder.path().join(FILE);
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{id}\nhardware abc\n"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
    }

    #[test]
    fn another_hardware_or_a_corrupt_file_makes_a_new_id() {
        let folder = tempfile::tempdir().unwrap();
        let (first, _) = load_or_create(folder.path(), "abc").unwrap();
        let (second, origin) = load_or_create(folder.path(), "def").unwrap();
        assert_eq!(origin, Origin::Copied);
        assert_ne!(first, second);
        let path = folder.path().join(FILE);
        for bad in [&b""[..], b"\0\0\0\0", b"agent\n", &[0xff; 5000], format!("{first}\n").as_bytes()] {
            fs::write(&path, bad).unwrap();
            let (third, origin) = load_or_create(folder.path(), "def").unwrap();
            assert_eq!(origin, Origin::Corrupt);
            assert_eq!(fs::read(folder.path().join("agent_id.txt.bad")).unwrap(), bad);
            assert_eq!(load_or_create(folder.path(), "def").unwrap(), (third, Origin::Kept));
        }
    }

    #[test]
    fn hardware_that_cannot_be_told_is_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let load = |hardware| load_or_create(folder.path(), hardware).unwrap();
        let (id, _) = load("");
        assert_eq!(load(""), (id, Origin::Kept));
        assert_eq!(load("abc"), (id, Origin::Kept));
        assert_eq!(load(""), (id, Origin::Kept));
        assert_eq!(load("def").1, Origin::Copied);
    }

    #[test]
    fn an_id_of_the_manager_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        load_or_create(folder.path(), "abc").unwrap();
        store(folder.path(), AgentId([7; 16]), "abc").unwrap();
        assert_eq!(load_or_create(folder.path(), "abc").unwrap(), (AgentId([7; 16]), Origin::Kept));
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named() {
        let error = load_or_create(Path::new("/nonexistent/state"), "abc").unwrap_err().to_string();
        assert!(error.contains("/nonexistent/state/agent_id.txt") && error.contains("STATE_DIR"), "{error}");
    }
}
