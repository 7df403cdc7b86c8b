//! The way back: answers from any thread to the gate's thread.

use crate::answer::{Answer, Printed};
use crate::refusal::{MakeRefusal, Refusal};
use crate::stats::Counters;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The right to answer one request, once, from any thread and at any time.
///
/// Dropped without an answer it answers 500. When the client has gone, or was already told 503 because the
/// answer took longer than [`Limits::answer`](crate::Limits::answer), sending does nothing.
pub struct Reply {
    id: u64,
    without_body: bool,
    shared: Option<Arc<Shared>>,
}

/// What the gate's thread, its workers and all replies have in common.
pub(crate) struct Shared {
    pub(crate) mailbox: Mailbox,
    pub(crate) counters: Arc<Counters>,
    pub(crate) make_refusal: MakeRefusal,
}

/// Answers on their way to the gate's thread; its descriptor is readable when some have come.
pub(crate) struct Mailbox {
    answers: Mutex<Vec<(u64, Printed)>>,
    bell: EventFd,
}

impl Reply {
    pub(crate) fn new(id: u64, without_body: bool, shared: Arc<Shared>) -> Self {
        Self { id, without_body, shared: Some(shared) }
    }

    /// Answers the request. Never blocks on the client.
    pub fn send(mut self, answer: Answer) {
        if let Some(shared) = self.shared.take() {
            shared.mailbox.put(self.id, answer.print(self.without_body));
        }
    }

    /// Gives the right back unused, when the gate answers in its place.
    pub(crate) fn retract(mut self) {
        self.shared = None;
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take() {
            Counters::add(&shared.counters.unanswered, 1);
            shared.mailbox.put(self.id, shared.refusal(Refusal::NoAnswer).print(self.without_body));
        }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reply({})", self.id)
    }
}

impl Shared {
    pub(crate) fn refusal(&self, refusal: Refusal) -> Answer {
        (self.make_refusal)(refusal.status(), refusal.reason())
    }
}

impl Mailbox {
    pub(crate) fn new() -> io::Result<Self> {
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self { answers: Mutex::new(Vec::new()), bell })
    }

    fn put(&self, id: u64, answer: Printed) {
        let mut answers = self.lock();
        let first = answers.is_empty();
        answers.push((id, answer));
        drop(answers);
        // Only the first of a batch rings: the gate takes all that have come.
        if first && let Err(error) = self.bell.write(1) {
            log::error!("cannot wake the gate: {error}"); // it still looks five times a second
        }
    }

    /// Swaps the answers that have come with the (empty) `into`.
    pub(crate) fn take(&self, into: &mut Vec<(u64, Printed)>) {
        std::mem::swap(&mut *self.lock(), into);
    }

    /// Silences the descriptor until the next answer comes.
    pub(crate) fn quiet(&self) {
        // Fails only when nothing rang, which is as good.
        let _ = self.bell.read();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(u64, Printed)>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for Mailbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::plain_refusal;

    fn shared() -> Arc<Shared> {
        let mailbox = Mailbox::new().unwrap();
        Arc::new(Shared { mailbox, counters: Arc::default(), make_refusal: plain_refusal })
    }

    fn status_lines(shared: &Shared) -> Vec<(u64, String)> {
        let mut taken = Vec::new();
        shared.mailbox.take(&mut taken);
        let line = |head: &[u8]| String::from_utf8_lossy(head).lines().next().unwrap_or_default().to_owned();
        taken.iter().map(|(id, printed)| (*id, line(&printed.head))).collect()
    }

    #[test]
    fn a_sent_answer_arrives_once_from_any_thread() {
        let shared = shared();
        let reply = Reply::new(7, false, Arc::clone(&shared));
        std::thread::spawn(move || reply.send(Answer::text(201, "made"))).join().unwrap();
        assert_eq!(status_lines(&shared), [(7, "HTTP/1.1 201 Created".to_owned())]);
        assert!(status_lines(&shared).is_empty());
    }

    #[test]
    fn a_dropped_reply_is_a_500() {
        let shared = shared();
        drop(Reply::new(8, false, Arc::clone(&shared)));
        assert_eq!(status_lines(&shared), [(8, "HTTP/1.1 500 Internal Server Error".to_owned())]);
        assert_eq!(shared.counters.snapshot().unanswered, 1);
    }
}
