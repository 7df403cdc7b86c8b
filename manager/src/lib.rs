//! The manager: receive -> verify -> store -> infer -> alarm -> serve.
//!
//! ```text
//! gate      hands whole HTTP requests to `handle`, the flow in one place
//! request   what is asked for           reply    what is answered
//! access    who may read: address, token, Host; `networks` knows what lies in WireGuard
//! verify    authentic and fresh?        replay   seen before?
//! content   what a payload says         bases    the reports that others are the difference to
//! counts    what moves in a report while nothing else does     gist   what is kept of one at hand
//! intake    told apart, filed and applied, in the transaction of `store::writer`
//! fleet     who is there now            view     what the API shows of it
//! web       the page's own files          export   what other programs read
//! inbox     what is stored and waits for the map
//! atlas     keeps the live map: `topology` infers it, `scribe` has `store::history` keep its changes
//! written   what the history ends with, when a start compares the map with it
//! turns     reads the map in steps that reports need not wait for
//! alarm     what is wrong: rules, their engine, and who is told
//! status    the same in a terminal, asked of the running manager
//! ```

pub mod access;
pub mod admin;
pub mod alarm;
pub mod atlas;
pub mod bases;
pub mod call;
pub mod check;
pub mod cli;
pub mod clock;
pub mod config;
pub mod content;
pub mod counts;
pub mod daemon;
pub mod enroll;
pub mod error;
pub mod export;
pub mod fleet;
pub mod gist;
pub mod handle;
pub mod inbox;
pub mod intake;
pub mod moving;
pub mod networks;
pub mod process;
pub mod psks;
pub mod query;
pub mod refusals;
pub mod replay;
pub mod reply;
pub mod request;
pub mod scribe;
pub mod status;
pub mod store;
pub mod sweep;
pub mod topology;
pub mod turns;
pub mod verify;
pub mod view;
pub mod web;
pub mod written;
