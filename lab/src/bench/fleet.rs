//! The simulated agents: who they are, how far each has come, and their signed reports.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use proto::envelope::{Draft, Sealed};
use proto::ids::{AgentId, BootId, Nonce};
use proto::psk::Secret;
use proto::sign::Kind;

use super::host::{Field, Moment, mix, template};
use super::template::Template;
use crate::{Error, Result};

/// The PSK of a benchmark; it protects nothing.
pub(super) const PSK: &str = "a preshared key for benchmarks";

/// All agents of one run.
#[derive(Debug)]
pub(super) struct Fleet {
    /// Makes this run's ids differ from those of any other.
    seed: u64,
    secret: Secret,
    /// The last tick of each agent. Each is written by one client only.
    ticks: Vec<AtomicU64>,
}

impl Fleet {
    /// A fleet of `agents` that have not reported yet.
    ///
    /// # Errors
    /// When the fixed PSK is not one.
    pub(super) fn new(agents: u32) -> Result<Self> {
        let secret =
            Secret::new(PSK).map_err(|error| Error::Plan(format!("the benchmark's PSK: {error}")))?;
        let seed = u64::try_from(now_ms()).unwrap_or(0);
        Ok(Self { seed, secret, ticks: (0..agents).map(|_| AtomicU64::new(0)).collect() })
    }

    /// How many agents there are.
    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.ticks.len()).expect("made of a u32")
    }

    /// The secret that signs.
    pub(super) fn secret(&self) -> &Secret {
        &self.secret
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
        let ticks = &self.fleet.ticks[usize::try_from(agent).expect("an agent of the fleet")];
        let tick = ticks.fetch_add(1, Ordering::Relaxed) + 1;
        let now_ms = now_ms();
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
        draft.seal(&self.fleet.secret, now_ms)
    }
}

/// Bytes of a simulated report as it is sent, envelope and all.
///
/// # Errors
/// When the report's shape changed under the simulator.
pub(super) fn report_len() -> Result<usize> {
    Ok(Scribe::new(&Fleet::new(1)?)?.next(0).bytes.len())
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
        let fleet = Fleet::new(50).unwrap();
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
}
