//! Messages that wait to be signed and sent: reports, and the first contact.

use std::collections::BTreeMap;

use proto::envelope::{Draft, Sealed};
use proto::ids::{AgentId, BootId, Nonce};
use proto::psk::Secret;
use proto::sign::Kind;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::basis::Form;
use crate::clock::{self, Clock, Moment};

/// One message. Its boot, tick and nonce stay when it is sent again, even by a later start of the
/// agent; it is signed at each sending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Which kind.
    pub kind: Kind,
    /// The start of the agent that made it.
    pub boot: BootId,
    /// Its number in that start; a first contact has 0.
    pub tick: u64,
    /// Its name.
    pub nonce: Nonce,
    /// Its payload.
    pub json: Vec<u8>,
    /// When a report's host was read.
    pub observed: Option<Observed>,
}

/// When a report's host was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observed {
    /// On this host's clocks.
    pub then: Moment,
    /// On the manager's, as the payload has it now.
    pub at: i64,
    /// The host has started anew since, so `then` tells nothing of the time in the payload.
    pub settled: bool,
}

impl Message {
    /// A report that was read at `then`, as JSON.
    #[must_use]
    pub fn report(
        boot: BootId,
        tick: u64,
        nonce: Nonce,
        json: Vec<u8>,
        then: Moment,
        observed_at: i64,
    ) -> Self {
        let observed = Some(Observed { then, at: observed_at, settled: false });
        Self { kind: Kind::Report, boot, tick, nonce, json, observed }
    }

    /// The first contact.
    #[must_use]
    pub fn register(boot: BootId, nonce: Nonce, hardware: &str, hostname: &str) -> Self {
        Self::contact(
            boot,
            nonce,
            Register { hardware, hostname, agent_version: crate::VERSION, check: false },
        )
    }

    /// A first contact of which the manager stores nothing.
    #[must_use]
    pub fn check(boot: BootId, nonce: Nonce, hardware: &str, hostname: &str) -> Self {
        Self::contact(
            boot,
            nonce,
            Register { hardware, hostname, agent_version: crate::VERSION, check: true },
        )
    }

    fn contact(boot: BootId, nonce: Nonce, payload: Register<'_>) -> Self {
        let json = serde_json::to_vec(&payload).expect("texts and a flag are plain data");
        Self { kind: Kind::Register, boot, tick: 0, nonce, json, observed: None }
    }

    /// Signs it for sending in that form at `sent_at`.
    #[must_use]
    pub fn seal(&self, agent: AgentId, secret: &Secret, form: &Form<'_>, sent_at: i64) -> Sealed {
        let Self { kind, boot, tick, nonce, ref json, .. } = *self;
        let draft = Draft { kind, agent, boot, tick, nonce, json };
        draft.seal_as(form.encoding.clone(), &form.payload, secret, sent_at)
    }

    /// Gives a report the right time before it is sent at `now`, where the one in it turns out to be
    /// wrong because the clock was learned or set since.
    pub fn restamp(&mut self, clock: Clock, now: Moment) {
        let Some(observed) = &mut self.observed else { return };
        let at = clock.manager_time_then(observed.then, now);
        if observed.settled || !clock::differ(at, observed.at) {
            return;
        }
        // Only these two are written anew; what the rest says need not be understood.
        let raw = |number: i64| RawValue::from_string(number.to_string()).expect("a number is JSON");
        let (at_raw, offset) = (raw(at), raw(clock.offset()));
        if let Ok(mut fields) = serde_json::from_slice::<BTreeMap<&str, &RawValue>>(&self.json) {
            fields.insert("observed_at", &at_raw);
            fields.insert("clock_offset_ms", &offset);
            self.json = serde_json::to_vec(&fields).expect("JSON by name is plain data");
            observed.at = at;
        }
    }
}

/// Payload of the first contact.
#[derive(Serialize)]
struct Register<'a> {
    hardware: &'a str,
    hostname: &'a str,
    agent_version: &'a str,
    /// Only to be answered, not to be stored.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    check: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::envelope::Envelope;
    use proto::report::{Report, SystemData};

    const YEAR: i64 = 365 * 24 * 3_600_000;
    const TODAY: i64 = 1_795_000_000_000;

    fn sealed(message: &mut Message, clock: Clock, now: Moment) -> (Report, i64) {
        let secret = Secret::new("correct horse battery staple").unwrap();
        message.restamp(clock, now);
        let form = Form::whole(&message.json);
        let sealed = message.seal(AgentId([1; 16]), &secret, &form, clock.manager_time(now));
        let envelope = Envelope::parse(&sealed.bytes).unwrap();
        assert!(envelope.is_signed_with(&secret));
        (Report::from_json(&envelope.json().unwrap()).unwrap(), envelope.header.sent_at)
    }

    #[test]
    fn a_report_read_under_a_wrong_clock_is_sent_with_the_right_time() {
        let then = Moment { wall: TODAY - 2 * YEAR, uptime: 10_000 };
        let hostname = "a \"name\"".to_owned();
        let system = SystemData { hostname, ..SystemData::default() };
        let report = Report { observed_at: then.wall, system, ..Report::default() };
        let json = serde_json::to_vec(&report).unwrap();
        let mut message = Message::report(BootId([2; 16]), 1, Nonce([3; 16]), json, then, then.wall);
        // Nothing is known yet: sent as it is.
        let (sent, sent_at) = sealed(&mut message, Clock::default(), then);
        assert_eq!((sent.observed_at, sent_at), (then.wall, then.wall));
        // The manager's time was learned a second later.
        let now = Moment { wall: then.wall + 1000, uptime: 11_000 };
        let mut clock = Clock::default();
        assert!(clock.learn(TODAY + 1000, now));
        let (sent, sent_at) = sealed(&mut message, clock, now);
        assert_eq!((sent.observed_at, sent_at), (TODAY, TODAY + 1000));
        assert_eq!(sent.clock_offset_ms, 2 * YEAR);
        assert_eq!(sent, Report { observed_at: TODAY, clock_offset_ms: 2 * YEAR, ..report });
        // It waits for an hour; meanwhile the clock is set, and the offset goes.
        let later = Moment { wall: TODAY + 3_600_000, uptime: 10_000 + 3_600_000 };
        let (sent, sent_at) = sealed(&mut message, Clock::default(), later);
        assert_eq!((sent.observed_at, sent_at), (TODAY, TODAY + 3_600_000));
        assert_eq!((message.tick, message.nonce), (1, Nonce([3; 16])));
        // After a new start of the host its uptime begins anew: the time stays as it is.
        message.observed.as_mut().unwrap().settled = true;
        let (sent, _) = sealed(&mut message, Clock::default(), Moment { wall: 0, uptime: 5 });
        assert_eq!(sent.observed_at, TODAY);
    }

    #[test]
    fn the_first_contact_says_who_asks() {
        let message = Message::register(BootId([2; 16]), Nonce([3; 16]), "abc", "router");
        let json: serde_json::Value = serde_json::from_slice(&message.json).unwrap();
        let expected = serde_json::json!({
            "hardware": "abc", "hostname": "router", "agent_version": crate::VERSION
        });
        assert_eq!((json, message.tick), (expected, 0));
    }
}
