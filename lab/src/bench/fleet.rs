//! The simulated agents: who they are, how far each has come, and their signed reports.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use proto::delta::Base;
use proto::envelope::{self, Draft, Encoding, Sealed};
use proto::ids::{AgentId, BootId, Nonce};
use proto::psk::Secret;
use proto::sign::Kind;

use super::host::{Field, Moment, mix, template};
use super::template::Template;
use crate::{Error, Result};

/// The PSK of a benchmark; it protects nothing.
pub(super) const PSK: &str = "a preshared key for benchmarks";
/// Reports of one agent between two whole ones: an hour of them.
const WHOLE_EVERY: u64 = 120;

/// All agents of one run.
#[derive(Debug)]
pub(super) struct Fleet {
    /// Makes this run's ids differ from those of any other.
    seed: u64,
    secret: Secret,
    /// Whether reports travel whole and as JSON, as the Python baseline reads them.
    plain: bool,
    /// Each is used by one client only.
    agents: Vec<Mutex<Agent>>,
}

/// What an agent remembers.
#[derive(Debug, Default)]
struct Agent {
    /// The tick of its last report.
    tick: u64,
    /// The report that the next ones are the difference to, and its tick.
    base: Option<(u64, Base)>,
    /// Its last report, while it may become that.
    whole: Option<Base>,
}

impl Fleet {
    /// A fleet of `agents` that have not reported yet.
    ///
    /// # Errors
    /// When the fixed PSK is not one.
    pub(super) fn new(agents: u32, plain: bool) -> Result<Self> {
        let secret =
            Secret::new(PSK).map_err(|error| Error::Plan(format!("the benchmark's PSK: {error}")))?;
        let seed = u64::try_from(now_ms()).unwrap_or(0);
        Ok(Self { seed, secret, plain, agents: (0..agents).map(|_| Mutex::default()).collect() })
    }

    /// How many agents there are.
    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.agents.len()).expect("made of a u32")
    }

    /// The secret that signs.
    pub(super) fn secret(&self) -> &Secret {
        &self.secret
    }

    fn agent(&self, number: u32) -> MutexGuard<'_, Agent> {
        let agent = &self.agents[usize::try_from(number).expect("an agent of the fleet")];
        agent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last report of an agent was stored.
    pub(super) fn stored(&self, number: u32) {
        let mut agent = self.agent(number);
        if let Some(base) = agent.whole.take() {
            agent.base = Some((agent.tick, base));
        }
    }

    fn id(&self, what: u64, number: u64) -> [u8; 16] {
        let half = |n: u64| mix(self.seed ^ mix(what << 56 ^ number << 1 ^ n)).to_le_bytes();
        let mut id = [0; 16];
        id[..8].copy_from_slice(&half(0));
        id[8..].copy_from_slice(&half(1));
        id
    }
}

/// Writes and signs reports; one for each client thread.
#[derive(Debug)]
pub(super) struct Scribe<'a> {
    fleet: &'a Fleet,
    template: Template<Field>,
}

impl<'a> Scribe<'a> {
    /// A scribe for this fleet.
    ///
    /// # Errors
    /// When the report's shape changed under the simulator.
    pub(super) fn new(fleet: &'a Fleet) -> Result<Self> {
        let template = template().map_err(|why| Error::Plan(format!("the simulated report: {why}")))?;
        Ok(Self { fleet, template })
    }

    /// The next report of an agent, observed and signed now.
    pub(super) fn next(&mut self, agent: u32) -> Sealed {
        self.next_at(agent, now_ms())
    }

    /// The next report of an agent, observed and signed at a moment (ms).
    pub(super) fn next_at(&mut self, agent: u32, now_ms: i64) -> Sealed {
        let mut memory = self.fleet.agent(agent);
        memory.tick += 1;
        let tick = memory.tick;
        let moment = Moment { agent, fleet: self.fleet.len(), tick, now_ms };
        let json = self.template.fill(|field, hole| moment.write(field, hole));
        let number = u64::from(agent);
        let draft = Draft {
            kind: Kind::Report,
            agent: AgentId(self.fleet.id(1, number)),
            boot: BootId(self.fleet.id(2, number)),
            tick,
            nonce: Nonce(self.fleet.id(3, number << 32 | tick)),
            json,
        };
        memory.whole = None;
        let (encoding, payload) = match &memory.base {
            _ if self.fleet.plain => (Encoding::Json, json.into()),
            Some((tick, base)) if draft.tick % WHOLE_EVERY != number % WHOLE_EVERY => {
                (Encoding::Delta(*tick), base.encode(json).into())
            }
            _ => {
                memory.whole = Some(Base::new(json));
                envelope::whole(json)
            }
        };
        draft.seal_as(encoding, &payload, &self.fleet.secret, now_ms)
    }
}

/// Bytes of a simulated report as JSON.
///
/// # Errors
/// When the report's shape changed under the simulator.
pub(super) fn report_len() -> Result<usize> {
    let (fleet, now_ms) = (Fleet::new(1, true)?, now_ms());
    let moment = Moment { agent: 0, fleet: 1, tick: 1, now_ms };
    Ok(Scribe::new(&fleet)?.template.fill(|field, hole| moment.write(field, hole)).len())
}

/// Milliseconds since the Unix epoch.
pub(super) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::envelope::Envelope;
    use proto::report::Report;

    #[test]
    fn every_report_is_signed_valid_and_its_own() {
        let fleet = Fleet::new(50, true).unwrap();
        let mut scribe = Scribe::new(&fleet).unwrap();
        let mut seen = std::collections::HashSet::new();
        for (agent, tick) in [(0, 1), (49, 1), (0, 2), (0, 3)] {
            let sealed = scribe.next(agent);
            let envelope = Envelope::parse(&sealed.bytes).unwrap();
            assert!(envelope.is_signed_with(fleet.secret()));
            assert_eq!(envelope.header.tick, tick);
            Report::from_json(&envelope.json().unwrap()).unwrap();
            assert!(seen.insert(envelope.header.nonce));
            assert!(seen.insert(Nonce(envelope.header.agent.0)) || tick > 1);
        }
    }

    #[test]
    fn reports_are_differences_to_one_that_was_stored() {
        let fleet = Fleet::new(50, false).unwrap();
        let mut scribe = Scribe::new(&fleet).unwrap();
        let mut next = |agent| {
            let bytes = scribe.next(agent).bytes;
            let envelope = Envelope::parse(&bytes).unwrap();
            assert!(envelope.is_signed_with(fleet.secret()));
            let json = match envelope.header.encoding {
                Encoding::Delta(_) => {
                    let memory = fleet.agent(agent);
                    let base = memory.base.as_ref().map(|(_, base)| base);
                    envelope::decode(&envelope.header.encoding, envelope.payload, base).unwrap().into_owned()
                }
                _ => envelope.json().unwrap().into_owned(),
            };
            Report::from_json(&json).unwrap();
            envelope.header.encoding
        };
        assert_eq!((next(7), next(7)), (Encoding::Deflate, Encoding::Deflate), "no answer yet");
        fleet.stored(7);
        assert_eq!((next(7), next(7)), (Encoding::Delta(2), Encoding::Delta(2)));
        for _ in 5..=6 {
            next(7);
            fleet.stored(7);
        }
        assert_eq!(next(7), Encoding::Deflate, "tick 7 of agent 7");
        fleet.stored(7);
        assert_eq!(next(7), Encoding::Delta(7));
        assert_eq!(next(8), Encoding::Deflate);
    }
}
