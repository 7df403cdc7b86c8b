//! What the agent and the manager must agree on.
//!
//! ```text
//! report     what an agent says of its host
//! envelope   the bytes in which a message travels, and the exact ones that are signed
//! ack        the answer to it
//! deflate    payloads made smaller: by themselves, or
//! delta      as the difference to an earlier report
//! sign       a key per kind of message, made from the PSK; MAC and verification
//! psk        the PSK itself and where it comes from; txt reads it from DNS
//! settings   `.env` and environment variables, the same names on both sides
//! limits     sizes, ages, ports, paths
//! checklist  what -check prints
//! ```

pub mod ack;
pub mod checklist;
pub mod deflate;
pub mod delta;
pub mod envelope;
pub mod ids;
pub mod limits;
pub mod psk;
pub mod report;
pub mod settings;
pub mod sign;
pub mod txt;
