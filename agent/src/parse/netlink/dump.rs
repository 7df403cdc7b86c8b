//! One dump: which of the messages that arrive answer the question, and when it is answered.

use std::fmt;

use super::{BadMessage, Messages};

/// NLM_F_REQUEST (linux/netlink.h): a question.
pub const REQUEST: u16 = 0x1;
/// NLM_F_ACK (linux/netlink.h): to be told, too, that all went well.
pub const ACK: u16 = 0x4;
/// NLM_F_DUMP (linux/netlink.h): for the whole list.
pub const DUMP: u16 = 0x300;
/// NLM_F_DUMP_INTR (linux/netlink.h): the list changed while it was being given.
const INTERRUPTED: u16 = 0x10;

/// Kinds below this are about the talk itself (NLMSG_MIN_TYPE, linux/netlink.h).
const CONTROL_END: u16 = 0x10;
/// NLMSG_ERROR.
const ERROR: u16 = 0x2;
/// NLMSG_DONE.
const DONE: u16 = 0x3;
/// NLMSG_OVERRUN.
const OVERRUN: u16 = 0x4;

/// Why a dump did not come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DumpError {
    /// The kernel refused, with this error number.
    Refused(i32),
    /// Messages were lost.
    Lost,
    /// What arrived is no row of messages.
    Broken,
}

impl fmt::Display for DumpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(number) => write!(f, "the kernel refused with error {number}"),
            Self::Lost => f.write_str("messages were lost"),
            Self::Broken => f.write_str("an answer that is no row of messages"),
        }
    }
}

/// A dump on its way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dump {
    /// Kind of the messages that are rows (`RTM_NEW*`).
    pub kind: u16,
    /// Sequence number of the question.
    pub sequence: u32,
    /// Port of the socket that asked.
    pub port: u32,
    /// Rows so far.
    pub rows: usize,
    /// The list changed while it was being given: rows may be missing or there twice.
    pub interrupted: bool,
    /// The first row that could not be read, by its number from 1, and how many there were.
    pub bad: Option<(usize, BadMessage)>,
    /// Rows that could not be read.
    pub bad_rows: usize,
}

impl Dump {
    /// Gives every row of a datagram to `row`; whether the dump is at its end. Answers to other
    /// questions, and messages of other kinds, are passed over.
    ///
    /// # Errors
    /// What ends the dump early.
    pub fn read(
        &mut self,
        datagram: &[u8],
        row: &mut dyn FnMut(&[u8]) -> Result<(), BadMessage>,
    ) -> Result<bool, DumpError> {
        for message in Messages::new(datagram) {
            let message = message.map_err(|_| DumpError::Broken)?;
            if (message.sequence, message.port) != (self.sequence, self.port) {
                continue;
            }
            self.interrupted |= message.flags & INTERRUPTED != 0;
            match message.kind {
                // Since Linux 4.16 the end says, too, whether the dump failed in the middle. Error 0
                // is an acknowledgement, which ends an answer that is no list.
                DONE | ERROR => return refusal(message.body).map_or(Ok(true), Err),
                OVERRUN => return Err(DumpError::Lost),
                kind if kind == self.kind && kind >= CONTROL_END => {
                    self.rows += 1;
                    if let Err(bad) = row(message.body) {
                        self.bad.get_or_insert((self.rows, bad));
                        self.bad_rows += 1;
                    }
                }
                _ => {}
            }
        }
        Ok(false)
    }
}

/// The negative error number that a body begins with, made positive.
fn refusal(body: &[u8]) -> Option<DumpError> {
    let number = super::number(body.get(..4)?)?.cast_signed();
    (number < 0).then(|| DumpError::Refused(number.saturating_neg()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::netlink::request;

    fn message(kind: u16, flags: u16, sequence: u32, number: i32) -> Vec<u8> {
        request(kind, flags, sequence, &number.to_ne_bytes())
    }

    fn read(datagram: &[u8]) -> (Result<bool, DumpError>, Dump) {
        let mut dump = Dump { kind: 24, sequence: 1, ..Dump::default() };
        let mut row = |body: &[u8]| if body[0] == 9 { Err(BadMessage { field: "nine" }) } else { Ok(()) };
        (dump.read(datagram, &mut row), dump)
    }

    #[test]
    fn rows_are_counted_and_bad_ones_named() {
        let datagram =
            [message(24, 2, 1, 0), message(24, 2, 1, 9), message(24, 2, 1, 9), message(3, 2, 1, 0)].concat();
        let (ended, dump) = read(&datagram);
        assert_eq!((ended, dump.rows, dump.bad_rows, dump.interrupted), (Ok(true), 3, 2, false));
        assert_eq!(dump.bad, Some((2, BadMessage { field: "nine" })));
    }

    #[test]
    fn only_answers_to_the_question_count() {
        let datagram = [message(24, 2, 2, 0), message(3, 2, 2, 0), message(16, 2, 1, 0), message(1, 0, 1, 0)];
        let (ended, dump) = read(&datagram.concat());
        assert_eq!((ended, dump.rows), (Ok(false), 0));
        let other_port = Dump { kind: 24, sequence: 1, port: 5, ..Dump::default() };
        let mut dump = other_port;
        assert_eq!(dump.read(&message(3, 2, 1, 0), &mut |_| Ok(())), Ok(false));
    }

    #[test]
    fn every_way_to_fail_is_told() {
        assert_eq!(read(&message(2, 0, 1, -1)).0, Err(DumpError::Refused(1)));
        assert_eq!(read(&message(3, 2, 1, -105)).0, Err(DumpError::Refused(105)));
        assert_eq!(read(&message(2, 0, 1, i32::MIN)).0, Err(DumpError::Refused(i32::MAX)));
        assert_eq!(read(&message(4, 0, 1, 0)).0, Err(DumpError::Lost));
        assert_eq!(read(&message(24, 2, 1, 0)[..17]).0, Err(DumpError::Broken));
        assert_eq!(read(&request(3, 2, 1, &[])).0, Ok(true));
        assert_eq!(read(&message(2, 0, 1, 0)).0, Ok(true), "an acknowledgement");
        assert!(read(&message(24, 2 | INTERRUPTED, 1, 0)).1.interrupted);
    }
}
