//! What can go wrong with the database.

use std::fmt;

/// Why the store refuses or fails.
#[derive(Debug)]
pub enum StoreError {
    /// SQLite's own error.
    Sqlite(rusqlite::Error),
    /// The file was written by a later version of the manager.
    Later {
        /// Schema version of the file.
        found: u32,
        /// Schema version of this program.
        known: u32,
    },
    /// A row does not hold what the program wrote there; the text names the table.
    Broken(String),
    /// The writer thread has ended.
    Closed,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(error) => error.fmt(f),
            Self::Later { found, known } => write!(
                f,
                "it has schema version {found}, this manager knows {known}: \
                 start the newer manager again, or restore a backup made before the upgrade"
            ),
            Self::Broken(what) => write!(f, "a row cannot be read: {what}"),
            Self::Closed => f.write_str("the writer has stopped"),
        }
    }
}

impl std::error::Error for StoreError {}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}
