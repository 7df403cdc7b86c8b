//! What can go wrong in the lab, in words that name the host, the command or the file.

use std::fmt;
use std::io;
use std::time::Duration;

/// The lab's result.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the lab could not do what was asked.
pub enum Error {
    /// A command failed or did not end within its deadline.
    Command {
        /// Where it ran: a host's name, or "this machine".
        host: String,
        /// The command line.
        command: String,
        /// How it ended.
        outcome: String,
        /// What it said on standard error (and, when that is empty, on standard output).
        said: String,
    },
    /// A file, socket or process could not be used.
    Io {
        /// What was being done, with the path or address.
        what: String,
        /// The system's reason.
        source: io::Error,
    },
    /// Something that must be built or installed first; the text says how.
    Missing(String),
    /// The plan of the mesh contradicts itself.
    Plan(String),
    /// Something awaited did not happen.
    Timeout {
        /// What was awaited, with the last thing seen.
        what: String,
        /// How long.
        after: Duration,
    },
    /// An HTTP exchange or its answer was not usable.
    Http(String),
}

impl Error {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command { host, command, outcome, said } => {
                write!(f, "{host}: `{command}` {outcome}: {}", said.trim())
            }
            Self::Io { what, source } => write!(f, "{what}: {source}"),
            Self::Missing(text) | Self::Plan(text) | Self::Http(text) => f.write_str(text),
            Self::Timeout { what, after } => {
                write!(f, "waited {:.1} s in vain for {what}", after.as_secs_f64())
            }
        }
    }
}

/// The same as `Display`: this is what a test shows that unwraps.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
