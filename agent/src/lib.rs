//! Reads this host and reports it to the manager.
//!
//! ```text
//! collect ─▶ report ─▶ message ─▶ courier ─▶ push ─▶ manager or a relay   every 30 s, by cycle
//!  (parse)              (clock,    (deliver: what an answer means,
//!                       psk_keeper) route: which way next)  └─▶ spool: what waits
//!                        basis: as a difference to which report
//! gate ─▶ api ─▶ shared ◀─ cycle                            what neighbours and admins ask
//!          └─▶ forward ─▶ push    (relay: may it pass)       messages of other agents
//! cycle ─▶ probes ─▶ discover                               who runs an agent, how far away
//! cli ─▶ daemon | -sysinfo | -dump | -discover | -check | -reset
//! ```

pub mod access;
pub mod api;
pub mod api_error;
pub mod atomic;
pub mod backoff;
pub mod basis;
pub mod check;
pub mod cli;
pub mod clock;
pub mod collect;
pub mod config;
pub mod counters;
pub mod courier;
pub mod cycle;
pub mod daemon;
pub mod deliver;
pub mod discover;
pub mod forward;
pub mod identity;
pub mod jitter;
pub mod message;
pub mod order;
pub mod parse;
pub mod peer;
pub mod pool;
pub mod pretty;
pub mod prober;
pub mod probes;
pub mod psk_keeper;
pub mod push;
pub mod relay;
pub mod repeats;
pub mod report;
pub mod resets;
pub mod route;
pub mod shared;
pub mod spool;
pub mod spool_file;
pub mod way;

/// Version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
