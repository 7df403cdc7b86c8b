//! A request on its way in: bytes are fed as they arrive. Pure.

use crate::head::{Head, examine};
use crate::limits::Limits;
use crate::refusal::Refusal;

/// The part of one request that has arrived.
#[derive(Debug)]
pub struct Incoming {
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// The head is not complete yet; its bytes so far.
    Head(Vec<u8>),
    /// The head is known; the body so far, always shorter than declared.
    Body { head: Box<Head>, body: Vec<u8> },
    /// Handed over or refused: nothing more comes out.
    Over,
}

/// What feeding bytes led to.
#[derive(Debug)]
pub enum Progress {
    /// More bytes are needed.
    More,
    /// More bytes are needed, and the client waits for `100 Continue`. Told once.
    Continue,
    /// The whole request. `surplus` bytes followed it, which belong to nothing.
    Whole {
        /// The checked head.
        head: Box<Head>,
        /// Exactly as many bytes as the head declares.
        body: Vec<u8>,
        /// How many of the bytes fed lie beyond the request.
        surplus: usize,
    },
    /// It must not be served.
    Refused(Refusal),
}

impl Default for Incoming {
    fn default() -> Self {
        Self { stage: Stage::Head(Vec::new()) }
    }
}

impl Incoming {
    /// Takes the next bytes of the connection.
    pub fn feed(&mut self, bytes: &[u8], limits: &Limits) -> Progress {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Head(buffer) => self.feed_head(buffer, bytes, limits),
            Stage::Body { head, body } => self.feed_body(head, body, bytes),
            Stage::Over => Progress::More,
        }
    }

    /// Bytes of memory that the buffers hold.
    #[must_use]
    pub fn held(&self) -> usize {
        match &self.stage {
            Stage::Head(buffer) => buffer.capacity(),
            Stage::Body { head, body } => head.size + body.capacity(),
            Stage::Over => 0,
        }
    }

    /// No byte has arrived yet.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        matches!(&self.stage, Stage::Head(buffer) if buffer.is_empty())
    }

    /// `buffer` is what came before `bytes`; a head that comes in one piece is never copied into it.
    fn feed_head(&mut self, mut buffer: Vec<u8>, bytes: &[u8], limits: &Limits) -> Progress {
        let in_one_piece = buffer.is_empty();
        if !in_one_piece {
            buffer.extend_from_slice(bytes);
        }
        let all = if in_one_piece { bytes } else { &buffer };
        match examine(all, limits.head) {
            Err(refusal) => Progress::Refused(refusal),
            Ok(None) => {
                self.stage = Stage::Head(if in_one_piece { bytes.to_vec() } else { buffer });
                Progress::More
            }
            Ok(Some(head)) if head.body > limits.body_limit(&head.path) => {
                Progress::Refused(Refusal::BodyTooLarge)
            }
            Ok(Some(head)) => {
                let rest = &all[head.size..];
                let expects = head.expects_continue && rest.is_empty() && head.body > 0;
                match self.feed_body(Box::new(head), Vec::new(), rest) {
                    Progress::More if expects => Progress::Continue,
                    progress => progress,
                }
            }
        }
    }

    /// Memory grows with what has come, at most twofold, and never beyond what was declared.
    fn feed_body(&mut self, head: Box<Head>, mut body: Vec<u8>, bytes: &[u8]) -> Progress {
        let missing = head.body - body.len();
        let taken = bytes.len().min(missing);
        if body.capacity() - body.len() < taken {
            body.reserve_exact(taken.max(body.len()).min(missing));
        }
        body.extend_from_slice(&bytes[..taken]);
        if taken == missing {
            return Progress::Whole { head, body, surplus: bytes.len() - taken };
        }
        self.stage = Stage::Body { head, body };
        Progress::More
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const POST: &[u8] = b"POST /r?x=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello";

    fn whole(progress: Progress) -> (Head, Vec<u8>, usize) {
        match progress {
            Progress::Whole { head, body, surplus } => (*head, body, surplus),
            other => panic!("not whole: {other:?}"),
        }
    }

    #[test]
    fn a_request_in_one_piece_is_whole_at_once() {
        let (head, body, surplus) = whole(Incoming::default().feed(POST, &Limits::default()));
        assert_eq!((head.path.as_str(), head.query.as_deref()), ("/r", Some("x=1")));
        assert_eq!((body.as_slice(), surplus), (&b"hello"[..], 0));
    }

    #[test]
    fn what_follows_a_request_is_surplus_and_never_a_second_request() {
        let bytes = [POST, POST].concat();
        let mut incoming = Incoming::default();
        let (_, body, surplus) = whole(incoming.feed(&bytes, &Limits::default()));
        assert_eq!((body.as_slice(), surplus), (&b"hello"[..], POST.len()));
        assert!(matches!(incoming.feed(POST, &Limits::default()), Progress::More));
        assert_eq!(incoming.held(), 0);
    }

    #[test]
    fn continue_is_told_once_and_only_to_a_client_that_waits() {
        let head = b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
        let mut incoming = Incoming::default();
        assert!(matches!(incoming.feed(head, &Limits::default()), Progress::Continue));
        assert!(matches!(incoming.feed(b"a", &Limits::default()), Progress::More));
        assert_eq!(whole(incoming.feed(b"b", &Limits::default())).1, b"ab");
        let eager = [&head[..], b"a"].concat();
        assert!(matches!(Incoming::default().feed(&eager, &Limits::default()), Progress::More));
    }

    #[test]
    fn a_body_beyond_the_limit_of_its_path_is_refused_before_it_is_read() {
        let limits =
            Limits { body_for: |path| if path == "/r" { 4 } else { usize::MAX }, ..Limits::default() };
        let progress = Incoming::default().feed(POST, &limits);
        assert!(matches!(progress, Progress::Refused(Refusal::BodyTooLarge)), "{progress:?}");
    }

    fn fed_in_pieces(bytes: &[u8], cuts: &[usize], limits: &Limits) -> Vec<Progress> {
        let mut incoming = Incoming::default();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]);
        pieces.map(|piece| incoming.feed(piece, limits)).collect()
    }

    proptest! {
        #[test]
        fn a_valid_request_is_the_same_however_it_is_split(
            body in proptest::collection::vec(any::<u8>(), 0..600),
            path in "/[a-z0-9/]{0,20}",
            value in "[ -~]{0,40}",
            cuts in proptest::collection::vec(any::<usize>(), 0..6),
        ) {
            let head = format!(
                "PUT {path} HTTP/1.1\r\nHost: a\r\nX-V: {value}\r\nContent-Length: {}\r\n\r\n", body.len());
            let bytes = [head.as_bytes(), &body].concat();
            let limits = Limits::default();
            let once = whole(Incoming::default().feed(&bytes, &limits));
            prop_assert_eq!(&once.1, &body);
            prop_assert_eq!(once.0.headers.get("x-v"), Some(value.trim()));
            let mut steps = fed_in_pieces(&bytes, &cuts, &limits);
            let end = steps.iter().position(|s| matches!(s, Progress::Whole { .. })).expect("never whole");
            prop_assert_eq!(whole(steps.swap_remove(end)), once);
        }

        #[test]
        fn nothing_is_served_from_a_refused_request(
            noise in proptest::collection::vec(any::<u8>(), 0..200),
            at in any::<usize>(),
            cuts in proptest::collection::vec(any::<usize>(), 0..6),
        ) {
            let mut bytes = [POST, POST].concat();
            let at = at % bytes.len();
            bytes.splice(at..at, noise);
            let steps = fed_in_pieces(&bytes, &cuts, &Limits::default());
            let over = steps.iter().position(|s| matches!(s, Progress::Whole { .. } | Progress::Refused(_)));
            if let Some(over) = over {
                prop_assert!(steps[over + 1..].iter().all(|s| matches!(s, Progress::More)));
            }
        }

        #[test]
        fn no_bytes_hold_more_than_the_limits(
            piece in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), any::<u8>(), b' '..=b'~'], 0..400),
        ) {
            let limits = Limits { head: 512, body: 1000, ..Limits::default() };
            let mut incoming = Incoming::default();
            let start = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 999\r\n";
            incoming.feed(start, &limits);
            for _ in 0..10 {
                incoming.feed(&piece, &limits);
                prop_assert!(incoming.held() <= 2 * limits.head + limits.body);
            }
        }
    }
}
