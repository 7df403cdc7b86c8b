//! The database: the only place that knows SQL.
//!
//! ```text
//! schema      the tables and the steps between their versions
//! agents      who reports: rows of agents and boots
//! reports     what they reported
//! structure   interfaces, written when they change
//! history     changes of the map, and the map of any moment made of them
//! parts       a kept map, read node by node and edge by edge
//! alarms      alarms, their history and silences
//! retention   what is too old, in short steps
//! outbox      notifications that wait to be sent
//! psks        the PSKs that were ever accepted
//! job         what the writer is asked to do
//! writer      the one thread that writes: group commit, answers after the commit
//! ```

pub mod agents;
pub mod alarms;
mod batch;
mod error;
pub mod history;
mod job;
pub mod outbox;
pub mod parts;
pub mod psks;
pub mod reports;
pub mod retention;
mod schema;
pub mod structure;
pub mod writer;

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

pub use error::StoreError;
pub use rusqlite::Connection;
use rusqlite::OpenFlags;
use rusqlite::config::DbConfig;

use crate::error::Error;

/// Pages that a connection keeps, as SQLite takes it: less than 0 is KiB. The kernel has the file's pages, too; the
/// writer's must hold those that a transaction changes, or they go to the log twice.
const WRITER_CACHE: i32 = -1024;
const READER_CACHE: i32 = -256;

/// Opens the database for writing: makes it where there is none (mode 0600, it holds the PSKs), sets
/// the pragmas and brings the schema up to date.
///
/// # Errors
/// Names the path and what failed.
pub fn open(path: &Path) -> Result<Connection, Error> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| Error::Io(format!("DATABASE={}", path.display()), error))?;
    let prepare = || -> Result<Connection, StoreError> {
        let mut connection = Connection::open(path)?;
        // page_size and auto_vacuum hold only when set before the first table.
        connection.execute_batch(
            "-- Half of SQLite's own: a report's entry in the unique index dirties a page for itself.
             PRAGMA page_size = 2048;
             PRAGMA auto_vacuum = INCREMENTAL;
             PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
             PRAGMA busy_timeout = 5000;
             PRAGMA temp_store = MEMORY;
             PRAGMA foreign_keys = ON;
             -- As large as the log may stay: a page that changes often goes to the file once for many commits.
             PRAGMA wal_autocheckpoint = 8000;
             PRAGMA journal_size_limit = 16777216;",
        )?;
        connection.set_prepared_statement_cache_capacity(64);
        connection.pragma_update(None, "cache_size", WRITER_CACHE)?;
        keep_plans(&connection)?;
        schema::migrate(&mut connection)?;
        Ok(connection)
    };
    prepare().map_err(|error| Error::Database(path.to_owned(), error))
}

/// Bytes of the database's file and of its log.
#[must_use]
pub fn sizes(database: &Path) -> [u64; 2] {
    let mut log = database.as_os_str().to_owned();
    log.push("-wal");
    [database, Path::new(&log)].map(|path| std::fs::metadata(path).map_or(0, |file| file.len()))
}

/// Has statements keep their plans whatever values are bound to them. Once `PRAGMA optimize` has
/// gathered statistics, SQLite would otherwise prepare most of them anew for each execution.
fn keep_plans(connection: &Connection) -> Result<(), StoreError> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

/// Writes a copy of the database, consistent in itself, beside a running manager or without one.
/// The copy has another name until it is whole.
///
/// # Errors
/// Names the path and what failed; nothing is left behind then.
pub fn backup(database: &Path, target: &Path) -> Result<(), Error> {
    let mut partial = target.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let io = |what: &Path| {
        let what = format!("backup to {}", what.display());
        move |error| Error::Io(what, error)
    };
    let make = || -> Result<(), Error> {
        // VACUUM INTO wants an empty file or none; made here so that no one else can read it.
        let _ = std::fs::remove_file(&partial);
        let file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&partial);
        let file = file.map_err(io(&partial))?;
        let sql = || -> Result<(), StoreError> {
            let connection = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
            connection.busy_timeout(std::time::Duration::from_secs(5))?;
            connection.execute("VACUUM INTO ?1", [partial.to_string_lossy()])?;
            Ok(())
        };
        sql().map_err(|error| Error::Database(database.to_owned(), error))?;
        file.sync_all().map_err(io(&partial))?;
        std::fs::rename(&partial, target).map_err(io(target))
    };
    make().inspect_err(|_| {
        let _ = std::fs::remove_file(&partial);
    })
}

/// Schema version of a database and of this program. Only reads.
///
/// # Errors
/// What SQLite says, as of a file that is no database.
pub fn versions(path: &Path) -> Result<(u32, u32), StoreError> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    Ok((connection.pragma_query_value(None, "user_version", |row| row.get(0))?, schema::known()))
}

/// Read-only connections, lent to whoever reads and kept for the next.
#[derive(Debug)]
pub struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

/// Connections kept while nobody reads; as many as there are workers.
const IDLE_READERS: usize = 4;

impl Readers {
    /// Readers of this database, which must exist.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), idle: Mutex::new(Vec::new()) }
    }

    /// Reads with a connection of its own; what it sees is one moment of the database.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn read<T>(&self, query: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => self.open()?,
        };
        let transaction = connection.transaction()?;
        let found = query(&transaction);
        drop(transaction);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_READERS {
            idle.push(connection);
        }
        found
    }

    fn open(&self) -> Result<Connection, StoreError> {
        let connection = Connection::open_with_flags(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        connection.pragma_update(None, "cache_size", READER_CACHE)?;
        keep_plans(&connection)?;
        Ok(connection)
    }
}

/// A time or count that SQLite keeps as a signed number.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// A number of rows as SQLite takes it.
fn as_limit(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}
