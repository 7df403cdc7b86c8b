//! The PSK: a secret that agents and manager share, where it comes from, and its rotation.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::limits;
use crate::sign::{Key, Kind};
use crate::txt::{self, TxtError};

/// A shared secret. It never shows itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(**hidden**)")
    }
}

impl Secret {
    /// A secret from its text, without the white space around it.
    ///
    /// # Errors
    /// When it is shorter than [`limits::PSK_MIN`], longer than [`limits::PSK_MAX`], or holds
    /// anything but printable ASCII.
    pub fn new(text: &str) -> Result<Self, PskError> {
        let text = text.trim();
        if !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return Err(PskError::NotPrintable);
        }
        if !(limits::PSK_MIN..=limits::PSK_MAX).contains(&text.len()) {
            return Err(PskError::Length(text.len()));
        }
        Ok(Self(text.to_owned()))
    }

    /// The text, for storing it where only its owner reads it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The key of one kind of message under this secret.
    #[must_use]
    pub fn key(&self, kind: Kind) -> Key {
        Key::derive(self.0.as_bytes(), kind)
    }
}

/// Why there is no PSK to be had.
#[derive(Debug)]
pub enum PskError {
    /// It has this many bytes, which is too few or too many.
    Length(usize),
    /// It holds a byte that is not printable ASCII.
    NotPrintable,
    /// The file cannot be read.
    File(PathBuf, io::Error),
    /// The file can be read by others than its owner.
    Mode(PathBuf, u32),
    /// DNS does not tell it.
    Txt(String, TxtError),
    /// The name has several TXT records that differ: which one is it?
    Several(String, usize),
}

impl fmt::Display for PskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (min, max) = (limits::PSK_MIN, limits::PSK_MAX);
        match self {
            Self::Length(0) => write!(f, "the secret is empty; it must have {min} to {max} characters"),
            Self::Length(len) => write!(f, "the secret has {len} characters; it must have {min} to {max}"),
            Self::NotPrintable => write!(f, "the secret holds a character that is not printable ASCII"),
            Self::File(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Mode(path, mode) => write!(
                f,
                "{path}: others can read this secret (mode {mode:04o}); run: chmod 600 {path}",
                path = path.display()
            ),
            Self::Txt(name, error) => write!(f, "TXT record of {name}: {error}"),
            Self::Several(name, count) => write!(
                f,
                "TXT record of {name}: {count} different records; keep one, the PSK \
                 (earlier ones are remembered by the manager)"
            ),
        }
    }
}

impl std::error::Error for PskError {}

/// Reads a secret from a file that only its owner may read.
///
/// # Errors
/// When the file cannot be read, others can read it, or its content is no secret.
pub fn read_secret_file(path: &Path) -> Result<Secret, PskError> {
    let at_path = |error| PskError::File(path.to_owned(), error);
    let mode = fs::metadata(path).map_err(at_path)?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(PskError::Mode(path.to_owned(), mode));
    }
    Secret::new(&fs::read_to_string(path).map_err(at_path)?)
}

/// Where the PSK comes from.
#[derive(Debug, Clone)]
pub enum PskSource {
    /// The setting `PSK`: fixed until the process starts anew.
    Fixed(Secret),
    /// The setting `PSK_FILE`: read again at every refresh.
    File(PathBuf),
    /// The setting `DNS`: the TXT record of a name.
    Dns {
        /// The record's name.
        name: String,
        /// Resolvers to ask; empty means those of `/etc/resolv.conf`, read anew each time.
        servers: Vec<std::net::SocketAddr>,
    },
}

impl fmt::Display for PskSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(_) => f.write_str("setting PSK"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Dns { name, .. } => write!(f, "TXT record of {name}"),
        }
    }
}

impl PskSource {
    /// Reads the PSK now; DNS may take up to `deadline`.
    ///
    /// # Errors
    /// When it cannot be read or is no proper secret; an earlier one should then be kept.
    pub fn read(&self, deadline: Duration) -> Result<Secret, PskError> {
        match self {
            Self::Fixed(secret) => Ok(secret.clone()),
            Self::File(path) => read_secret_file(path),
            Self::Dns { name, servers } => {
                let records = txt::lookup(name, servers, deadline)
                    .map_err(|error| PskError::Txt(name.clone(), error))?;
                one_of(name, records)
            }
        }
    }
}

/// The one PSK among a name's TXT records; the same one twice is one.
fn one_of(name: &str, mut records: Vec<String>) -> Result<Secret, PskError> {
    records.sort_unstable();
    records.dedup();
    match records.as_slice() {
        [record] => Secret::new(record),
        several => Err(PskError::Several(name.to_owned(), several.len())),
    }
}

/// The PSK in use and the ones before it, newest first.
#[derive(Debug, Clone)]
pub struct PskRing {
    secrets: Vec<Secret>,
}

impl PskRing {
    /// A ring with one PSK.
    #[must_use]
    pub fn new(current: Secret) -> Self {
        Self { secrets: vec![current] }
    }

    /// The one to sign with.
    #[must_use]
    pub fn current(&self) -> &Secret {
        &self.secrets[0]
    }

    /// All that are accepted, the current one first.
    #[must_use]
    pub fn all(&self) -> &[Secret] {
        &self.secrets
    }

    /// Makes `secret` the current one; false when it was already. One that returns from among the
    /// earlier ones moves to the front.
    pub fn rotate(&mut self, secret: Secret) -> bool {
        if *self.current() == secret {
            return false;
        }
        self.secrets.retain(|earlier| *earlier != secret);
        self.secrets.insert(0, secret);
        self.secrets.truncate(1 + limits::PSK_PREVIOUS);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn secrets_are_checked_and_hidden() {
        assert_eq!(Secret::new("  sixteen chars ok \n").unwrap().expose(), "sixteen chars ok");
        assert!(matches!(Secret::new(" \n"), Err(PskError::Length(0))));
        assert!(matches!(Secret::new("too short"), Err(PskError::Length(9))));
        assert!(matches!(Secret::new(&"x".repeat(1025)), Err(PskError::Length(1025))));
        assert!(matches!(Secret::new("sixteen chars\u{7f} ok"), Err(PskError::NotPrintable)));
        let shown = format!("{:?}", PskSource::Fixed(Secret::new("correct horse battery").unwrap()));
        assert!(!shown.contains("horse"), "{shown}");
    }

    #[test]
    fn a_secret_file_that_others_can_read_is_refused_with_the_cure() {
        let path = std::env::temp_dir().join(format!("kattila-psk-{}", std::process::id()));
        fs::write(&path, "correct horse battery staple\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let refused = read_secret_file(&path).unwrap_err().to_string();
        assert!(refused.contains("0644") && refused.contains("chmod 600 "), "{refused}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read_secret_file(&path).unwrap().expose(), "correct horse battery staple");
        fs::remove_file(&path).unwrap();
        assert!(matches!(read_secret_file(&path), Err(PskError::File(..))));
    }

    #[test]
    fn several_records_are_refused_and_equal_ones_are_one() {
        let records = |texts: &[&str]| one_of("n", texts.iter().map(|&text| text.to_owned()).collect());
        assert!(records(&["correct horse battery"; 2]).is_ok());
        assert!(matches!(
            records(&["correct horse battery", "correct horse stable"]),
            Err(PskError::Several(_, 2))
        ));
        assert!(matches!(records(&[""]), Err(PskError::Length(0))));
    }

    #[test]
    fn the_ring_keeps_two_earlier_ones() {
        let secret = |n: u8| Secret::new(&format!("the secret of number {n}")).unwrap();
        let mut ring = PskRing::new(secret(1));
        assert!(!ring.rotate(secret(1)));
        for n in 2..=4 {
            assert!(ring.rotate(secret(n)));
        }
        assert_eq!(ring.all(), [secret(4), secret(3), secret(2)]);
        assert!(ring.rotate(secret(3)));
        assert_eq!(ring.all(), [secret(3), secret(4), secret(2)]);
    }
}
