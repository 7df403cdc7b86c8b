//! Questions to the kernel by rtnetlink(7) and generic netlink: one socket for each, whole lists only.
//!
//! A netlink socket of this kind needs no privilege; WireGuard's devices alone do. It may still be
//! refused, by a sandbox or a kernel without it; then /proc and /sys, and `wg`, have to do.

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockType, bind, getsockname, recvfrom, send, setsockopt,
    socket,
};
use nix::sys::time::TimeVal;

use super::problems::Problems;
use super::question::{BYTES_MAX, Question, SEQUENCE};
use crate::parse::netlink::dump::{Dump, DumpError};
use crate::parse::netlink::{BadMessage, Messages};

/// How long one list may take. A host's lists take well under a millisecond, 900,000 routes some
/// 0.2 s of a PC's time; seconds only on slow routers, and where the kernel holds its locks.
const DEADLINE: Duration = Duration::from_secs(3);
/// How often a list that changed while it was being given is asked for. A router whose routes
/// always change gets the last one.
const ATTEMPTS: u32 = 3;
/// Longer lists are not asked for again: they take time, and some always change.
const AGAIN_MAX: usize = 1 << 20;
/// Room for one datagram. The kernel fills up to 32 KiB (`netlink_recvmsg` in af_netlink.c); one
/// that fills all of this has been cut.
const BUFFER: usize = (32 << 10) + 4;

/// Where netlink's answers come from.
#[derive(Debug, Clone)]
pub enum Netlink {
    /// The kernel.
    System,
    /// Files in this folder, one for each [`Question`] ([`Question::file`]): the datagrams of an
    /// answer, one after the other.
    Recorded(PathBuf),
    /// Nowhere: /proc and /sys are to be read.
    Off,
}

/// Why a list could not be had.
#[derive(Debug)]
pub enum NetlinkError {
    /// It is not to be asked for.
    Off,
    /// A recorded answer cannot be read.
    File(io::Error),
    /// A call to the kernel failed.
    Call(&'static str, Errno),
    /// The kernel has not answered in time.
    Late,
    /// A datagram was longer than the kernel makes them, or the answer ends in the middle.
    Truncated,
    /// The answer itself is an error.
    Answer(DumpError),
}

impl fmt::Display for NetlinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("switched off"),
            Self::File(error) => write!(f, "no recorded answer: {error}"),
            Self::Call(call, error) => write!(f, "{call}: {}", error.desc()),
            Self::Late => write!(f, "no answer within {} s", DEADLINE.as_secs()),
            Self::Truncated => f.write_str("an answer that was cut"),
            Self::Answer(DumpError::Refused(number)) => {
                write!(f, "the kernel refused: {}", Errno::from_raw(*number).desc())
            }
            Self::Answer(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for NetlinkError {}

impl NetlinkError {
    /// Whether the kernel says that it has no such thing.
    pub(super) fn is_unsupported(&self) -> bool {
        self.is_refusal(Errno::EOPNOTSUPP)
    }

    /// Whether the kernel says that this process may not know.
    pub(super) fn is_denied(&self) -> bool {
        self.is_refusal(Errno::EPERM)
    }

    /// Whether the interface that was asked for has gone, or is another one now.
    pub(super) fn is_gone(&self) -> bool {
        self.is_refusal(Errno::ENODEV) || self.is_unsupported()
    }

    fn is_refusal(&self, with: Errno) -> bool {
        matches!(self, Self::Answer(DumpError::Refused(number)) if Errno::from_raw(*number) == with)
    }
}

impl Netlink {
    /// Asks for a list and gives each row of it to `row`, together with what `start` made. Where
    /// the list changed meanwhile, all is done anew from `start`, a few times at most. Rows that
    /// cannot be read, and a list that was cut at 64 MiB (4 for WireGuard) or after 3 s, are problems.
    ///
    /// # Errors
    /// When there is no list, or not to its end.
    pub(super) fn list<T>(
        &self,
        question: Question,
        problems: &mut Problems,
        start: impl Fn() -> T,
        mut row: impl FnMut(&mut T, &[u8]) -> Result<(), BadMessage>,
    ) -> Result<T, NetlinkError> {
        let mut list = start();
        let mut each = |body: Option<&[u8]>| match body {
            Some(body) => row(&mut list, body),
            None => {
                list = start();
                Ok(())
            }
        };
        self.walk(question, problems, &mut each)?;
        Ok(list)
    }

    /// Gives each row to `each`, and `None` where the list begins anew. All lists share its code.
    fn walk(
        &self,
        question: Question,
        problems: &mut Problems,
        each: &mut Each<'_>,
    ) -> Result<(), NetlinkError> {
        let mut room = [0; BUFFER];
        for attempt in 1.. {
            let mut answer = self.ask(question, &mut room)?;
            let mut dump =
                Dump { kind: question.answer(), sequence: SEQUENCE, port: answer.port, ..Dump::default() };
            let read = follow(&mut answer, &mut dump, question.bytes_max(), &mut |body| each(Some(body)))?;
            let again = dump.interrupted && read.is_whole && read.bytes < AGAIN_MAX;
            if !again || attempt == ATTEMPTS {
                tell(question, &dump, read.is_whole, problems);
                break;
            }
            // What the rows of this time made is dropped.
            let _ = each(None);
        }
        Ok(())
    }

    /// The answer to a question as it came, of at most 64 MiB: what [`Netlink::Recorded`] reads.
    ///
    /// # Errors
    /// When there is no answer, or not to its end.
    pub fn record(&self, question: Question) -> Result<Vec<u8>, NetlinkError> {
        let mut room = [0; BUFFER];
        let mut answer = self.ask(question, &mut room)?;
        let mut dump = Dump { sequence: SEQUENCE, port: answer.port, ..Dump::default() };
        let mut all = Vec::new();
        while all.len() < BYTES_MAX {
            let datagram = answer.datagram()?;
            all.extend_from_slice(datagram);
            if dump.read(datagram, &mut |_| Ok(())).map_err(NetlinkError::Answer)? {
                break;
            }
        }
        Ok(all)
    }

    fn ask<'a>(&self, question: Question, room: &'a mut [u8]) -> Result<Answer<'a>, NetlinkError> {
        match self {
            Self::System => Answer::from_kernel(question, room),
            Self::Recorded(folder) => {
                let bytes = fs::read(folder.join(question.file())).map_err(NetlinkError::File)?;
                Ok(Answer::recorded(bytes))
            }
            Self::Off => Err(NetlinkError::Off),
        }
    }
}

/// What takes the rows of a list, and `None` where the list begins anew.
type Each<'a> = dyn FnMut(Option<&[u8]>) -> Result<(), BadMessage> + 'a;

/// How far an answer was read.
struct Read {
    bytes: usize,
    is_whole: bool,
}

/// Reads an answer to its end, or up to `max` bytes, or until it is late; the latter only when some
/// of it has come.
fn follow(
    answer: &mut Answer<'_>,
    dump: &mut Dump,
    max: usize,
    row: &mut dyn FnMut(&[u8]) -> Result<(), BadMessage>,
) -> Result<Read, NetlinkError> {
    let mut bytes = 0;
    while bytes < max {
        let datagram = match answer.datagram() {
            Err(NetlinkError::Late) if dump.rows > 0 => break,
            datagram => datagram?,
        };
        bytes += datagram.len();
        if dump.read(datagram, row).map_err(NetlinkError::Answer)? {
            return Ok(Read { bytes, is_whole: true });
        }
    }
    Ok(Read { bytes, is_whole: false })
}

fn tell(question: Question, dump: &Dump, is_whole: bool, problems: &mut Problems) {
    let source = format_args!("netlink {}", question.name());
    if let Some((number, BadMessage { field })) = dump.bad {
        let rows = dump.bad_rows;
        problems.add(source, format_args!("message {number}: not a valid {field}; {rows} left out"));
    }
    if !is_whole {
        let (rows, seconds) = (dump.rows, DEADLINE.as_secs());
        let message = format_args!(
            "over {} MiB long, or longer than {seconds} s on its way: {rows} read, no more",
            question.bytes_max() >> 20
        );
        problems.add(source, message);
    } else if dump.interrupted {
        problems.add(source, "changed whenever it was read: may not be whole");
    }
}

/// An answer on its way.
#[derive(Debug)]
struct Answer<'a> {
    from: From<'a>,
    /// Netlink port of who asked.
    port: u32,
    deadline: Instant,
}

#[derive(Debug)]
enum From<'a> {
    /// The socket, and room for one datagram: the caller's, as a heap gives so much back to the kernel
    /// each time, and takes it anew.
    Kernel(OwnedFd, &'a mut [u8]),
    /// All datagrams, and how much of them has been read.
    Recording(Vec<u8>, usize),
}

impl<'a> Answer<'a> {
    fn from_kernel(question: Question, room: &'a mut [u8]) -> Result<Self, NetlinkError> {
        let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, question.protocol())
            .map_err(|error| NetlinkError::Call("socket", error))?;
        // Port 0: the kernel chooses one.
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0)).map_err(|error| NetlinkError::Call("bind", error))?;
        let own: NetlinkAddr =
            getsockname(fd.as_raw_fd()).map_err(|error| NetlinkError::Call("getsockname", error))?;
        setsockopt(&fd, ReceiveTimeout, &TimeVal::new(1, 0))
            .map_err(|error| NetlinkError::Call("setsockopt", error))?;
        send(fd.as_raw_fd(), &question.request(), MsgFlags::empty())
            .map_err(|error| NetlinkError::Call("send", error))?;
        let deadline = Instant::now() + DEADLINE;
        Ok(Self { from: From::Kernel(fd, room), port: own.pid(), deadline })
    }

    fn recorded(bytes: Vec<u8>) -> Self {
        let port = Messages::new(&bytes).flatten().next().map_or(0, |message| message.port);
        Self { from: From::Recording(bytes, 0), port, deadline: Instant::now() + DEADLINE }
    }

    /// The next datagram. A recording's are of one message each.
    fn datagram(&mut self) -> Result<&[u8], NetlinkError> {
        match &mut self.from {
            From::Kernel(fd, room) => {
                let len = receive(fd, room, self.deadline)?;
                Ok(&room[..len])
            }
            From::Recording(bytes, at) => {
                let rest = &bytes[*at..];
                let first = rest.first_chunk().ok_or(NetlinkError::Truncated)?;
                let len = usize::try_from(u32::from_ne_bytes(*first)).unwrap_or(usize::MAX);
                let start = *at;
                *at += len.clamp(4, rest.len()).next_multiple_of(4).min(rest.len());
                Ok(&bytes[start..*at])
            }
        }
    }
}

/// Bytes of the next datagram from the kernel; those of other senders are passed over.
fn receive(fd: &OwnedFd, buffer: &mut [u8], deadline: Instant) -> Result<usize, NetlinkError> {
    while Instant::now() < deadline {
        match recvfrom::<NetlinkAddr>(fd.as_raw_fd(), buffer) {
            Ok((len, _)) if len == buffer.len() => return Err(NetlinkError::Truncated),
            Ok((len, Some(sender))) if sender.pid() == 0 => return Ok(len),
            Ok(_) | Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(error) => return Err(NetlinkError::Call("recvfrom", error)),
        }
    }
    Err(NetlinkError::Late)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::netlink::{request, route};

    fn rows(count: usize) -> Vec<u8> {
        request(route::NEW, 2, SEQUENCE, &[0; 12]).repeat(count)
    }

    fn read(answer: Vec<u8>, max: usize) -> (Result<Read, NetlinkError>, Dump) {
        let mut dump = Dump { kind: route::NEW, sequence: SEQUENCE, ..Dump::default() };
        let mut answer = Answer::recorded(answer);
        (follow(&mut answer, &mut dump, max, &mut |_| Ok(())), dump)
    }

    #[test]
    fn an_answer_is_read_to_its_end_or_to_the_limit() {
        let (end, dump) = read([rows(50), request(3, 2, SEQUENCE, &[])].concat(), BYTES_MAX);
        assert!(end.unwrap().is_whole && dump.rows == 50);
        let (end, dump) = read(rows(50), 28 * 20);
        assert!(!end.unwrap().is_whole && dump.rows == 20);
        assert!(matches!(read(rows(50), BYTES_MAX).0, Err(NetlinkError::Truncated)), "no end");
    }

    #[test]
    fn one_that_is_late_is_an_error_only_when_nothing_has_come() {
        for (rows_before, is_error) in [(0, true), (1, false)] {
            let mut dump = Dump { rows: rows_before, ..Dump::default() };
            let mut room = [0; BUFFER];
            let mut answer = Answer::from_kernel(Question::Links, &mut room).unwrap();
            answer.deadline = Instant::now();
            let end = follow(&mut answer, &mut dump, BYTES_MAX, &mut |_| Ok(()));
            assert_eq!(matches!(end, Err(NetlinkError::Late)), is_error);
        }
    }

    #[test]
    fn this_kernel_answers_every_question() {
        for question in Question::ALL {
            let mut problems = Problems::default();
            let rows = Netlink::System.list(
                question,
                &mut problems,
                || 0_usize,
                |rows, _| {
                    *rows += 1;
                    Ok(())
                },
            );
            assert!(rows.is_ok_and(|rows| rows > 0 || question != Question::Links), "{question:?}");
        }
    }
}
