//! A guarded HTTP front: sockets in, whole checked requests out.
//!
//! One thread and one epoll own the listeners and every client socket ([`Gate::run`]). Bytes become a
//! [`Request`] only when all of it has arrived, is well-formed and is within the [`Limits`]; everything else
//! is a [`Refusal`] that no handler sees. Workers run the handler; it answers now or later, from any thread,
//! through its [`Reply`]; the gate writes the [`Answer`] and closes the connection.
//!
//! So a slow, huge or malformed request costs a bounded buffer here and never a thread. One request a
//! connection: nothing is pipelined, and no framing is ambiguous. Answers are tiny_http's types, printed by
//! its `raw_print`; its `Server` is not used, because one request of 90 bytes can abort it.

mod answer;
mod conn;
mod daemon;
mod evict;
mod gate;
mod head;
mod incoming;
mod limits;
mod listen;
mod logger;
mod refusal;
mod reply;
mod request;
mod stamp;
mod stats;
mod stop;
mod table;
mod workers;

pub use answer::{Answer, Body};
pub use daemon::{block_signals, raise_nofile};
pub use gate::Gate;
pub use head::{Head, Headers, examine};
pub use incoming::{Incoming, Progress};
pub use limits::{Limits, MAX_HEADERS, NEWCOMERS};
pub use listen::listen;
pub use logger::{LogTo, start_log};
pub use refusal::{MakeRefusal, Refusal, plain_refusal};
pub use reply::Reply;
pub use request::Request;
pub use stats::{Counters, Stats};
pub use stop::Stop;
