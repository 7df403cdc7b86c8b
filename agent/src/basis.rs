//! Which of this agent's reports the next ones are told as the difference to. Pure: `now` comes in.
//!
//! A report travels whole when there is none yet in this start, at least once an hour, and when
//! differences have become dear: once they have cost more, over the cheapest one, than a whole report
//! did. So a change of structure leads to a whole report soon, and a small one does not at once.

use std::borrow::Cow;
use std::time::Instant;

use proto::delta::Base;
use proto::envelope::{self, Encoding};
use proto::ids::AgentId;
use proto::limits::BASE_AGE;
use proto::sign::Kind;

use crate::message::Message;
use crate::shared::Identity;

/// The report that the manager holds for this agent to build on, if any.
#[derive(Debug, Default)]
pub struct Basis {
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    /// Whose report it is: another id or another start begins anew.
    by: Identity,
    tick: u64,
    base: Base,
    since: Instant,
    /// Bytes that it took as a whole.
    whole: usize,
    /// Bytes of the smallest difference to it so far.
    least: usize,
    /// Bytes that all differences took more than the smallest.
    excess: usize,
}

/// A payload as it travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form<'a> {
    /// How it is written.
    pub encoding: Encoding,
    /// Its bytes.
    pub payload: Cow<'a, [u8]>,
}

impl<'a> Form<'a> {
    /// A payload that can be read by itself.
    #[must_use]
    pub fn whole(json: &'a [u8]) -> Self {
        let (encoding, payload) = envelope::whole(json);
        Self { encoding, payload }
    }
}

impl Basis {
    /// The form in which agent `agent` sends a message at `now`.
    #[must_use]
    pub fn form<'a>(&self, agent: AgentId, message: &'a Message, now: Instant) -> Form<'a> {
        let by = Identity { agent, boot: message.boot };
        let usable = |held: &&Held| {
            held.by == by && now.saturating_duration_since(held.since) < BASE_AGE && held.excess < held.whole
        };
        if message.kind == Kind::Report
            && let Some(held) = self.held.as_ref().filter(usable)
        {
            let payload = held.base.encode(&message.json);
            if payload.len() < held.whole {
                return Form { encoding: Encoding::Delta(held.tick), payload: payload.into() };
            }
        }
        Form::whole(&message.json)
    }

    /// The manager stored a report of this agent, `own`, in that form; `len` are its payload's bytes.
    pub fn stored(
        &mut self,
        own: Identity,
        message: &Message,
        encoding: &Encoding,
        len: usize,
        now: Instant,
    ) {
        if message.kind != Kind::Report || message.boot != own.boot {
            return;
        }
        match (encoding, &mut self.held) {
            (Encoding::Delta(base), Some(held)) if held.by == own && held.tick == *base => {
                held.least = held.least.min(len);
                held.excess += len - held.least;
            }
            (Encoding::Delta(_), _) => {}
            (_, Some(held)) if held.by == own && held.tick > message.tick => {}
            _ => {
                let base = Base::new(message.json.as_slice());
                let (whole, least) = (len, usize::MAX);
                self.held =
                    Some(Held { by: own, tick: message.tick, base, since: now, whole, least, excess: 0 });
            }
        }
    }

    /// The manager does not have it any more, or cannot read differences.
    pub fn forget(&mut self) {
        self.held = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Moment;
    use proto::ids::{BootId, Nonce};

    const OWN: Identity = Identity { agent: AgentId([1; 16]), boot: BootId([2; 16]) };

    fn report(tick: u64, extra: &str) -> Message {
        let rest: String = (0..60).map(|n| format!(r#","field{n}":{}"#, n * 7919)).collect();
        let json = format!(r#"{{"observed_at":{}{extra}{rest}}}"#, 1_795_000_000_000 + tick * 30_000);
        let moment = Moment { wall: 0, uptime: 0 };
        Message::report(OWN.boot, tick, Nonce([3; 16]), json.into_bytes(), moment, 0)
    }

    fn send(basis: &mut Basis, message: &Message, now: Instant) -> Encoding {
        let form = basis.form(OWN.agent, message, now);
        basis.stored(OWN, message, &form.encoding, form.payload.len(), now);
        form.encoding
    }

    #[test]
    fn the_first_one_travels_whole_the_next_ones_as_differences_for_an_hour() {
        let (mut basis, now) = (Basis::default(), Instant::now());
        assert_eq!(send(&mut basis, &report(1, ""), now), Encoding::Deflate);
        assert_eq!(send(&mut basis, &report(2, ""), now), Encoding::Delta(1));
        let small = basis.form(OWN.agent, &report(3, ""), now).payload.len();
        assert!(small < 20, "{small}");
        assert_eq!(send(&mut basis, &report(120, ""), now + BASE_AGE), Encoding::Deflate);
        assert_eq!(send(&mut basis, &report(121, ""), now + BASE_AGE), Encoding::Delta(120));
        // What waited since before comes late: it does not become the base.
        let late = Form::whole(&report(5, "").json).encoding;
        basis.stored(OWN, &report(5, ""), &late, 100, now);
        assert_eq!(send(&mut basis, &report(6, ""), now + BASE_AGE), Encoding::Delta(120));
        basis.forget();
        assert_eq!(send(&mut basis, &report(122, ""), now), Encoding::Deflate);
    }

    #[test]
    fn another_start_or_id_begins_whole() {
        let (mut basis, now) = (Basis::default(), Instant::now());
        send(&mut basis, &report(1, ""), now);
        assert_eq!(basis.form(AgentId([9; 16]), &report(2, ""), now).encoding, Encoding::Deflate);
        let restarted = Message { boot: BootId([9; 16]), ..report(2, "") };
        assert_eq!(basis.form(OWN.agent, &restarted, now).encoding, Encoding::Deflate);
        // A spooled report of an earlier start is no base for this one.
        basis.stored(OWN, &restarted, &Encoding::Deflate, 100, now);
        assert_eq!(send(&mut basis, &report(2, ""), now), Encoding::Delta(1));
    }

    #[test]
    fn a_change_that_makes_every_difference_dear_leads_to_a_whole_report() {
        let (mut basis, now) = (Basis::default(), Instant::now());
        send(&mut basis, &report(1, ""), now);
        send(&mut basis, &report(2, ""), now);
        let extra = format!(r#","new":"{}""#, "x".repeat(100));
        let forms: Vec<_> = (3..20).map(|tick| send(&mut basis, &report(tick, &extra), now)).collect();
        let whole = forms.iter().position(|form| *form == Encoding::Deflate).unwrap();
        assert!((2..=6).contains(&whole), "{forms:?}");
        assert_eq!(forms.iter().filter(|form| **form == Encoding::Deflate).count(), 1, "{forms:?}");
        // One that is larger than the whole is never sent.
        let noise: String = (0..400).map(|n| char::from(b'a' + u8::try_from(n * n % 23).unwrap())).collect();
        assert_eq!(send(&mut basis, &report(20, &format!(r#","n":"{noise}""#)), now), Encoding::Deflate);
    }
}
