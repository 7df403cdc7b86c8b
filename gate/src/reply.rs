//! The way back: answers from any thread to the gate's thread.

use crate::answer::{Answer, Printed};
use crate::refusal::{MakeRefusal, Refusal};
use crate::stats::Counters;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

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
    inbox: Mutex<Inbox>,
    bell: EventFd,
    /// More bytes than this make workers wait.
    room: usize,
    taken: Condvar,
}

#[derive(Default)]
struct Inbox {
    letters: Vec<Letter>,
    /// Bytes that the letters hold.
    bytes: usize,
    /// The gate has ended: nobody takes any more.
    closed: bool,
}

/// One answer and the connection that it is for.
pub(crate) struct Letter {
    pub(crate) id: u64,
    pub(crate) answer: Printed,
    /// The handler dropped its reply, so this is the gate's own 500.
    pub(crate) unanswered: bool,
}

impl Reply {
    pub(crate) fn new(id: u64, without_body: bool, shared: Arc<Shared>) -> Self {
        Self { id, without_body, shared: Some(shared) }
    }

    /// Answers the request. Never blocks on the client.
    pub fn send(mut self, answer: Answer) {
        if let Some(shared) = self.shared.take() {
            let answer = answer.print(self.without_body);
            shared.mailbox.put(Letter { id: self.id, answer, unanswered: false });
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
            let answer = shared.refusal(Refusal::NoAnswer).print(self.without_body);
            shared.mailbox.put(Letter { id: self.id, answer, unanswered: true });
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
    pub(crate) fn new(room: usize) -> io::Result<Self> {
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self { inbox: Mutex::default(), bell, room, taken: Condvar::new() })
    }

    fn put(&self, letter: Letter) {
        let mut inbox = self.lock();
        if inbox.closed {
            return;
        }
        let first = inbox.letters.is_empty();
        inbox.bytes += letter.answer.held();
        inbox.letters.push(letter);
        drop(inbox);
        // Only the first of a batch rings: the gate takes all that have come.
        if first && let Err(error) = self.bell.write(1) {
            log::error!("cannot wake the gate: {error}"); // it still looks five times a second
        }
    }

    /// Swaps the answers that have come with the (empty) `into`.
    pub(crate) fn take(&self, into: &mut Vec<Letter>) {
        let mut inbox = self.lock();
        std::mem::swap(&mut inbox.letters, into);
        let crowded = std::mem::take(&mut inbox.bytes) > self.room;
        drop(inbox);
        if crowded {
            self.taken.notify_all();
        }
    }

    /// Waits until the gate has taken what is too much. It never waits for a client, so this is short; but
    /// workers can make large answers faster than the gate can pass them on.
    pub(crate) fn wait_for_room(&self) {
        let inbox = self.lock();
        let full = |inbox: &mut Inbox| inbox.bytes > self.room && !inbox.closed;
        drop(self.taken.wait_while(inbox, full).unwrap_or_else(PoisonError::into_inner));
    }

    /// Silences the descriptor until the next answer comes.
    pub(crate) fn quiet(&self) {
        // Fails only when nothing rang, which is as good.
        let _ = self.bell.read();
    }

    /// Throws away what comes from now on.
    pub(crate) fn close(&self) {
        *self.lock() = Inbox { closed: true, ..Inbox::default() };
        self.taken.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
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
    use std::time::Duration;

    fn shared() -> Arc<Shared> {
        let mailbox = Mailbox::new(5000).unwrap();
        Arc::new(Shared { mailbox, counters: Arc::default(), make_refusal: plain_refusal })
    }

    fn letters(shared: &Shared) -> Vec<(u64, String, bool)> {
        let mut taken = Vec::new();
        shared.mailbox.take(&mut taken);
        let line = |head: &[u8]| String::from_utf8_lossy(head).lines().next().unwrap_or_default().to_owned();
        taken.iter().map(|letter| (letter.id, line(&letter.answer.head), letter.unanswered)).collect()
    }

    #[test]
    fn a_sent_answer_arrives_once_from_any_thread() {
        let shared = shared();
        let reply = Reply::new(7, false, Arc::clone(&shared));
        std::thread::spawn(move || reply.send(Answer::text(201, "made"))).join().unwrap();
        assert_eq!(letters(&shared), [(7, "HTTP/1.1 201 Created".to_owned(), false)]);
        assert!(letters(&shared).is_empty());
    }

    #[test]
    fn a_dropped_reply_is_a_500() {
        let shared = shared();
        drop(Reply::new(8, false, Arc::clone(&shared)));
        assert_eq!(letters(&shared), [(8, "HTTP/1.1 500 Internal Server Error".to_owned(), true)]);
    }

    #[test]
    fn whoever_makes_answers_faster_than_they_leave_has_to_wait() {
        let shared = shared();
        Reply::new(1, false, Arc::clone(&shared)).send(Answer::text(200, "small"));
        shared.mailbox.wait_for_room();
        Reply::new(2, false, Arc::clone(&shared)).send(Answer::text(200, "x".repeat(5000)));
        let waiting = Arc::clone(&shared);
        let waiter = std::thread::spawn(move || waiting.mailbox.wait_for_room());
        std::thread::sleep(Duration::from_millis(50));
        assert!(!waiter.is_finished(), "5000 bytes and two heads are too much");
        assert_eq!(letters(&shared).len(), 2);
        waiter.join().unwrap();
    }

    #[test]
    fn a_closed_mailbox_keeps_nothing_and_no_one_waiting() {
        let shared = shared();
        shared.mailbox.close();
        Reply::new(1, false, Arc::clone(&shared)).send(Answer::text(200, "x".repeat(5000)));
        shared.mailbox.wait_for_room();
        assert!(letters(&shared).is_empty());
    }
}
