//! What the writer is asked to write, and whom it tells.

use std::sync::mpsc::SyncSender;

use proto::ack::Ack;
use proto::envelope::Header;
use proto::ids::AgentId;
use proto::psk::Secret;
use rusqlite::Connection;

use super::history::PackedMap;
use super::retention::Place;
use crate::content::Content;
use crate::error::{Reject, StoreError};
use crate::topology::Event;

/// A verified report on its way to the database.
#[derive(Debug)]
pub struct Delivery {
    /// Its envelope's header.
    pub header: Header,
    /// When it came (ms, the manager's clock).
    pub received_at: i64,
    /// Generation of the PSK that signed it.
    pub psk: u32,
    /// The relays that it passed.
    pub path: Vec<AgentId>,
    /// What came in it, or why it cannot be taken.
    pub content: Result<Content, Reject>,
}

/// A verified first contact.
#[derive(Debug)]
pub struct Registration {
    /// Who says it is.
    pub agent: AgentId,
    /// When it came (ms, the manager's clock).
    pub received_at: i64,
    /// Hash that names its hardware.
    pub hardware: String,
}

/// An order to hide what was reported, or to show it again.
#[derive(Debug, Clone, Copy)]
pub struct Reset {
    /// One agent, or all.
    pub agent: Option<AgentId>,
    /// Hide what came up to then (ms); `None` shows everything again.
    pub at: Option<i64>,
}

/// What a sender is told after the commit.
pub type Respond = Box<dyn FnOnce(Result<Ack, Reject>) + Send>;

/// What the writer thread is asked to do.
pub(super) enum Job {
    Report(Box<Delivery>, Respond),
    Register(Registration, Respond),
    Reset(Reset, Respond),
    RotatePsk(Secret, i64),
    Retain(Cutoff, Place, SyncSender<Option<Place>>),
    History(History, SyncSender<bool>),
    Work(Work, SyncSender<bool>),
    Stop,
}

/// Something else to be done in a transaction.
pub(super) type Work = Box<dyn FnOnce(&Connection) -> Result<(), StoreError> + Send>;

/// What is too old to be kept (ms).
#[derive(Debug, Clone, Copy)]
pub struct Cutoff {
    /// Reports that came before go.
    pub reports: i64,
    /// Changes of the map that were noticed before go.
    pub history: i64,
}

/// Changes of the map to be written.
#[derive(Debug)]
pub struct History {
    /// When they were noticed (ms).
    pub at: i64,
    /// The changes.
    pub events: Vec<Event>,
    /// The whole map after them, now and then.
    pub map: Option<PackedMap>,
}

impl Job {
    /// Tells whoever waits that it is not done.
    pub(super) fn refuse(self) {
        match self {
            Self::Report(_, respond) | Self::Register(_, respond) | Self::Reset(_, respond) => {
                respond(Err(Reject::Unavailable));
            }
            Self::RotatePsk(..) | Self::Retain(..) | Self::History(..) | Self::Work(..) | Self::Stop => {}
        }
    }
}
