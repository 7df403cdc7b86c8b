//! What holds for the whole fleet at one moment: who reports, how the manager fares, who shares a name.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap};

use proto::ids::AgentId;

use super::watch::Watches;
use crate::fleet::Fleet;
use crate::topology::{AgentSet, FoldMap, State, Tally};

/// Intervals without a word after which an agent is offline, and the grace beside (ms): as the list
/// of agents has it.
const OFFLINE_AFTER: i64 = 4;
const GRACE: i64 = 10_000;

/// What is known of an agent's reporting.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reporter {
    /// When anything of it last came (ms).
    pub last_seen: i64,
    /// Seconds between its reports.
    pub interval_s: u32,
    /// The relays that its latest report passed.
    pub path: Vec<AgentId>,
    /// Generation of the PSK that it uses.
    pub psk: u32,
}

impl Reporter {
    /// How long nothing came, in its intervals.
    #[must_use]
    pub fn silent_ms(&self, now: i64) -> i64 {
        now - self.last_seen
    }

    /// Its interval in milliseconds.
    #[must_use]
    pub fn interval_ms(&self) -> i64 {
        i64::from(self.interval_s.max(1)) * 1000
    }

    /// Whether nothing came for so long that it is offline.
    #[must_use]
    pub fn is_offline(&self, now: i64) -> bool {
        self.silent_ms(now) > OFFLINE_AFTER * self.interval_ms() + GRACE
    }
}

/// The fleet as alarms look at it: agents that show and have reported.
#[must_use]
pub fn reporters(fleet: &Fleet) -> BTreeMap<AgentId, Reporter> {
    let visible = fleet.agents.values().filter(|agent| agent.is_visible());
    let reported = visible.filter_map(|agent| {
        let latest = agent.latest.as_ref()?;
        let reporter = Reporter {
            last_seen: agent.last_seen.unwrap_or(latest.received_at),
            interval_s: latest.interval_s,
            path: latest.path.clone(),
            psk: latest.psk,
        };
        Some((agent.id, reporter))
    });
    reported.collect()
}

/// How the manager itself fares.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ManagerFacts {
    /// Why the database takes no writes.
    pub database_failure: Option<String>,
    /// How long a write to it waits (ms).
    pub write_ms: u64,
    /// Room left on its disk, and the disk's size (bytes).
    pub disk: Option<(u64, u64)>,
    /// Why the PSK cannot be read.
    pub psk_failure: Option<String>,
    /// The current PSK's generation.
    pub psk_generation: u32,
    /// Messages refused within ten minutes, by reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// Who was last refused, by reason: in words, and the agent where it is known.
    pub refused_from: BTreeMap<&'static str, (String, Option<AgentId>)>,
    /// Since when notifications to a receiver fail (ms), and why.
    pub notifier: BTreeMap<String, (i64, String)>,
}

/// What holds for the whole fleet at one moment.
#[derive(Debug)]
pub struct Setting<'a> {
    /// The manager's clock (ms).
    pub now: i64,
    /// The map, for look-ups.
    pub state: &'a State,
    /// How the fleet's tunnels fare.
    pub tally: &'a Tally,
    /// What is remembered beside it.
    pub watches: &'a Watches,
    /// Who reports, and how.
    pub agents: &'a BTreeMap<AgentId, Reporter>,
    /// The manager.
    pub manager: &'a ManagerFacts,
    /// Those of them of whose reporting there may be something to say: they are offline, come by way of others,
    /// or use an old PSK.
    pub notable: Vec<(AgentId, &'a Reporter)>,
    /// Agents that are silent.
    pub dark: AgentSet,
    /// Names that several hosts have, and those of them that report.
    pub namesakes: HashMap<&'a str, Vec<AgentId>>,
    parts: OnceCell<FoldMap<AgentId, usize>>,
}

impl<'a> Setting<'a> {
    /// That of a moment.
    #[must_use]
    pub fn new(
        now: i64,
        (state, tally): (&'a State, &'a Tally),
        watches: &'a Watches,
        agents: &'a BTreeMap<AgentId, Reporter>,
        manager: &'a ManagerFacts,
    ) -> Self {
        let is_notable = |agent: &Reporter| {
            let old_psk = agent.psk > 0 && agent.psk < manager.psk_generation;
            !agent.path.is_empty() || agent.is_offline(now) || old_psk
        };
        let notable = agents.iter().filter(|(_, agent)| is_notable(agent)).map(|(id, agent)| (*id, agent));
        let notable = notable.collect();
        Self {
            now,
            state,
            tally,
            watches,
            agents,
            notable,
            manager,
            dark: state.dark(),
            namesakes: state.namesakes(),
            parts: OnceCell::new(),
        }
    }

    /// See [`State::parts`], which takes a while.
    pub fn parts(&self) -> &FoldMap<AgentId, usize> {
        self.parts.get_or_init(|| self.state.parts())
    }
}
