//! What one transaction of the writer did, and for how long it was held.

use std::sync::mpsc::SyncSender;
use std::time::Duration;

use proto::ack::Ack;
use proto::ids::AgentId;

use super::job::Respond;
use super::retention::Place;
use crate::error::{Reject, StoreError};
use crate::intake::Learned;

/// For how long something held the writer, so that reports waited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// A whole transaction with its commit.
    pub transaction: Duration,
    /// A step of retention and incremental vacuum in one.
    pub retention: Duration,
    /// A step of the map's history in one.
    pub history: Duration,
}

impl Held {
    pub(super) fn extend(&mut self, other: Self) {
        self.transaction = self.transaction.max(other.transaction);
        self.retention = self.retention.max(other.retention);
        self.history = self.history.max(other.history);
    }
}

/// What one transaction did, for those who must hear of it after the commit.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) answers: Vec<(Respond, Result<Ack, Reject>)>,
    pub(super) touched: Vec<AgentId>,
    pub(super) reload: bool,
    pub(super) psks: bool,
    pub(super) told: Vec<(SyncSender<bool>, bool)>,
    pub(super) walked: Vec<(SyncSender<Option<Place>>, Option<Place>)>,
    pub(super) held: Held,
    pub(super) learned: Learned,
    pub(super) stored: u64,
}

impl Batch {
    /// Keeps an answer until the commit; a database error goes up, and its sender hears of it too.
    pub(super) fn answer(
        &mut self,
        respond: Respond,
        answer: Result<Result<Ack, Reject>, StoreError>,
    ) -> Result<(), StoreError> {
        match answer {
            Ok(answer) => {
                self.answers.push((respond, answer));
                Ok(())
            }
            Err(error) => {
                self.answers.push((respond, Err(Reject::Unavailable)));
                Err(error)
            }
        }
    }
}
