//! Findings over time -> alarms: held back until they last, told once, folded when they flap, hidden
//! behind the one that explains them. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::catalogue::{self, Hold};
use super::cover::{FLAPPING, cover_of, is_of_silence, is_own, lingering};
use super::status::{Alarm, Change, Silence, Status};
use super::{Finding, Severity};
use crate::topology::AgentSet;

/// Window (ms) in which transitions are counted.
const FLAP_WINDOW: i64 = 15 * 60_000;
/// More transitions than this within the window are flapping.
const FLAPS: usize = 4;

/// What an evaluation rests on beside the findings.
#[derive(Debug, Clone, Default)]
pub struct Moment {
    /// The manager's clock (ms).
    pub now: i64,
    /// Agents that are silent: what they would say of an alarm is not known.
    pub dark: AgentSet,
    /// Agents that are known at all.
    pub known: AgentSet,
    /// The manager has just started and has not heard of all agents yet.
    pub warming: bool,
}

/// All alarms that are not over, and those that were lately.
#[derive(Debug, Clone, Default)]
pub struct Engine {
    alarms: BTreeMap<(String, String), Alarm>,
    silences: Vec<Silence>,
    last_no: i64,
    /// Number and version of alarms that are over, for when they come again.
    past: HashMap<(String, String), (i64, i64)>,
}

/// Alarms that are over and remembered. Whoever makes up subjects must not fill the memory; one that
/// was forgotten is found again in the database, by a conflict.
const PAST_MAX: usize = 50_000;

impl Engine {
    /// As it was when the manager stopped.
    #[must_use]
    pub fn restore(alarms: Vec<Alarm>, silences: Vec<Silence>, last_no: i64) -> Self {
        let mut engine = Self { silences, last_no, ..Self::default() };
        for alarm in alarms {
            let key = (alarm.code.clone(), alarm.subject.clone());
            if alarm.state == Status::Resolved && alarm.transitions.is_empty() {
                engine.past.insert(key, (alarm.no, alarm.version));
            } else {
                engine.alarms.insert(key, alarm);
            }
        }
        engine
    }

    /// All that it holds.
    pub fn alarms(&self) -> impl Iterator<Item = &Alarm> {
        self.alarms.values()
    }

    /// The silences in force.
    #[must_use]
    pub fn silences(&self) -> &[Silence] {
        &self.silences
    }

    /// Takes what is true at a moment and tells what changed.
    pub fn step(&mut self, mut findings: Vec<Finding>, moment: &Moment) -> Vec<Change> {
        let now = moment.now;
        self.silences.retain(|silence| silence.until > now);
        findings.extend(self.flapping(now));
        let before: BTreeMap<(String, String), Alarm> = self.alarms.clone();
        let mut found: HashSet<(String, String)> = HashSet::new();
        for finding in findings {
            let key = (finding.code.to_owned(), finding.subject.clone());
            self.take(&key, finding, moment);
            found.insert(key);
        }
        let mut forgotten = Vec::new();
        for (key, alarm) in &mut self.alarms {
            if !found.contains(key) && miss(alarm, moment) {
                forgotten.push(key.clone());
            }
        }
        for key in forgotten {
            if let Some(alarm) = self.alarms.remove(&key) {
                self.past.insert(key, (alarm.no, alarm.version));
            }
        }
        self.cover(now);
        self.changes(&before, now)
    }

    /// Marks an alarm as known to someone. `None` when there is no such alarm that fires.
    pub fn acknowledge(&mut self, no: i64, now: i64) -> Option<Change> {
        let alarm = self.alarms.values_mut().find(|alarm| alarm.no == no && alarm.state.is_active())?;
        let from = alarm.state;
        alarm.acked_at = Some(now);
        if alarm.state == Status::Firing {
            alarm.state = Status::Acknowledged;
            alarm.since = now;
        }
        alarm.version += 1;
        Some(Change { alarm: alarm.clone(), from: Some(from), notify: false, forget: false })
    }

    /// Keeps alarms of a code or an agent from being told until a moment; one that is past lifts it.
    pub fn silence(&mut self, silence: Silence, now: i64) -> Vec<Change> {
        self.silences.retain(|other| other.target != silence.target);
        if silence.until > now {
            self.silences.push(silence);
        }
        let before = self.alarms.clone();
        self.cover(now);
        self.changes(&before, now)
    }

    /// The alarms that came and went too often, each as one finding.
    fn flapping(&mut self, now: i64) -> Vec<Finding> {
        let mut found = Vec::new();
        for alarm in self.alarms.values_mut() {
            alarm.transitions.retain(|at| now - at <= FLAP_WINDOW);
            if alarm.transitions.len() <= FLAPS || alarm.code == FLAPPING {
                continue;
            }
            let mut finding = Finding::new(FLAPPING, format!("{} {}", alarm.code, alarm.subject))
                .say(format!("This comes and goes: {}", alarm.sentence))
                .because(alarm.cause.clone())
                .next(alarm.next_step.clone())
                .proof(alarm.evidence.clone())
                .of(alarm.agents.iter().copied())
                .every(alarm.interval_s);
            finding.severity = alarm.severity;
            found.push(finding);
        }
        found
    }

    fn take(&mut self, key: &(String, String), finding: Finding, moment: &Moment) {
        let now = moment.now;
        let entry = catalogue::find(finding.code);
        let hold = entry.map_or(Hold::Reports(2), |entry| entry.hold_on).millis(finding.interval_s);
        let old = self.alarms.remove(key);
        let fresh = old.as_ref().is_none_or(|alarm| alarm.state == Status::Resolved);
        let (no, version, transitions) = match &old {
            Some(alarm) => (alarm.no, alarm.version, alarm.transitions.clone()),
            None => match self.past.remove(key) {
                Some((no, version)) => (no, version, Vec::new()),
                None => {
                    self.last_no += 1;
                    (self.last_no, 0, Vec::new())
                }
            },
        };
        let mut alarm = Alarm {
            no,
            code: key.0.clone(),
            subject: key.1.clone(),
            severity: finding.severity,
            state: Status::Pending,
            since: now,
            found_at: now,
            fired_at: None,
            clear_since: None,
            acked_at: None,
            suppressed_by: None,
            told: false,
            transitions,
            sentence: finding.sentence,
            evidence: finding.evidence,
            cause: finding.cause,
            next_step: finding.next_step,
            agents: finding.agents,
            under: finding.under,
            interval_s: finding.interval_s,
            version,
        };
        if let Some(old) = old.filter(|_| !fresh) {
            alarm.state = old.state;
            alarm.since = old.since;
            alarm.found_at = old.found_at;
            alarm.fired_at = old.fired_at;
            alarm.acked_at = old.acked_at;
            alarm.suppressed_by = old.suppressed_by;
            alarm.told = old.told;
            // What says so is kept as it was when it fired: the figures of then explain it.
            if old.state.is_active() && old.sentence == alarm.sentence {
                alarm.evidence = old.evidence;
            }
        }
        let frozen = moment.warming && !is_own(&alarm.code)
            || !is_of_silence(&alarm.code) && alarm.agents.iter().any(|agent| moment.dark.contains(agent));
        if alarm.state == Status::Pending && now - alarm.found_at >= hold && !frozen {
            alarm.state = Status::Firing;
            alarm.since = now;
            alarm.fired_at = Some(now);
            alarm.transitions.push(now);
        }
        self.alarms.insert(key.clone(), alarm);
    }

    /// Finds for every active alarm whether something covers it, one hop up.
    fn cover(&mut self, now: i64) {
        let active: HashMap<(&str, &str), bool> = self
            .alarms
            .values()
            .filter(|alarm| alarm.state.is_active())
            .map(|alarm| ((alarm.code.as_str(), alarm.subject.as_str()), true))
            .collect();
        let covers: Vec<Option<String>> = self
            .alarms
            .values()
            .map(|alarm| alarm.state.is_active().then(|| cover_of(alarm, &active, &self.silences)).flatten())
            .collect();
        let over: HashMap<String, i64> = self
            .alarms
            .values()
            .filter(|alarm| alarm.state == Status::Resolved)
            .map(|alarm| (format!("{} {}", alarm.code, alarm.subject), alarm.since))
            .collect();
        for (alarm, cover) in self.alarms.values_mut().zip(covers) {
            if !alarm.state.is_active() {
                continue;
            }
            let cover = cover.or_else(|| lingering(alarm, &over, now));
            let state = match (&cover, alarm.acked_at) {
                (Some(_), _) => Status::Suppressed,
                (None, Some(_)) => Status::Acknowledged,
                (None, None) => Status::Firing,
            };
            if state != alarm.state {
                alarm.state = state;
                alarm.since = now;
            }
            alarm.suppressed_by = cover;
        }
    }

    fn changes(&mut self, before: &BTreeMap<(String, String), Alarm>, now: i64) -> Vec<Change> {
        let mut changes = Vec::new();
        for (key, old) in before {
            if !self.alarms.contains_key(key) && old.state == Status::Pending {
                let forget =
                    Change { alarm: old.clone(), from: Some(old.state), notify: false, forget: true };
                changes.push(forget);
            }
        }
        for (key, alarm) in &mut self.alarms {
            let old = before.get(key);
            let from = old.map(|old| old.state);
            let notify = match alarm.state {
                Status::Firing if !alarm.told => true,
                Status::Resolved => from != Some(Status::Resolved) && alarm.told,
                _ => false,
            } && alarm.severity > Severity::Info;
            alarm.told |= alarm.state == Status::Firing;
            if old.is_some_and(|old| is_same(old, alarm)) {
                continue;
            }
            alarm.version += 1;
            changes.push(Change { alarm: alarm.clone(), from, notify, forget: false });
        }
        // Those that are over stay until they cannot flap any more.
        let over = |alarm: &Alarm| alarm.state == Status::Resolved && now - alarm.since > FLAP_WINDOW;
        let keys: Vec<_> =
            self.alarms.iter().filter(|(_, alarm)| over(alarm)).map(|(key, _)| key.clone()).collect();
        if self.past.len() + keys.len() > PAST_MAX {
            self.past.clear();
        }
        for key in keys {
            if let Some(alarm) = self.alarms.remove(&key) {
                self.past.insert(key, (alarm.no, alarm.version));
            }
        }
        changes
    }
}

/// Whether nothing worth writing changed.
fn is_same(old: &Alarm, new: &Alarm) -> bool {
    let words = |alarm: &Alarm| (alarm.sentence.clone(), alarm.cause.clone(), alarm.next_step.clone());
    (old.state, old.severity, old.clear_since, old.acked_at, &old.suppressed_by, old.told)
        == (new.state, new.severity, new.clear_since, new.acked_at, &new.suppressed_by, new.told)
        && words(old) == words(new)
}

/// What becomes of an alarm that is not found. True when nothing of it stays.
fn miss(alarm: &mut Alarm, moment: &Moment) -> bool {
    let now = moment.now;
    if alarm.state == Status::Resolved {
        return false;
    }
    let gone = !alarm.agents.is_empty() && !alarm.agents.iter().any(|agent| moment.known.contains(agent));
    let unknown = moment.warming && !is_own(&alarm.code)
        || !is_of_silence(&alarm.code) && alarm.agents.iter().any(|agent| moment.dark.contains(agent));
    if unknown && !gone {
        // What was not sure yet begins anew with the next report: it must not fire on a stale one.
        return alarm.state == Status::Pending && !moment.warming;
    }
    if alarm.state == Status::Pending {
        return true;
    }
    let since = *alarm.clear_since.get_or_insert(now);
    let hold = catalogue::find(&alarm.code).map_or(Hold::Reports(2), |entry| entry.hold_off);
    if now - since >= hold.millis(alarm.interval_s) {
        alarm.state = Status::Resolved;
        alarm.since = now;
        alarm.suppressed_by = None;
        alarm.transitions.push(now);
    }
    false
}

#[cfg(test)]
mod tests {
    use proto::ids::AgentId;

    use super::*;

    fn agent(number: u8) -> AgentId {
        AgentId([number; 16])
    }

    fn finding(code: &'static str, subject: &str, agents: &[u8]) -> Finding {
        Finding::new(code, subject).say("It is broken.").of(agents.iter().map(|number| agent(*number)))
    }

    fn at(seconds: i64) -> Moment {
        let known = (0..9).map(agent).collect();
        Moment { now: seconds * 1000, known, ..Moment::default() }
    }

    fn states(changes: &[Change]) -> Vec<(&str, Status, bool)> {
        changes.iter().map(|c| (c.alarm.code.as_str(), c.alarm.state, c.notify)).collect()
    }

    #[test]
    fn an_alarm_is_held_told_once_and_resolved() {
        let mut engine = Engine::default();
        let found = || vec![finding("MTU_MISMATCH", "e", &[1])];
        assert_eq!(states(&engine.step(found(), &at(0))), [("MTU_MISMATCH", Status::Pending, false)]);
        assert!(engine.step(found(), &at(30)).is_empty());
        assert_eq!(states(&engine.step(found(), &at(60))), [("MTU_MISMATCH", Status::Firing, true)]);
        assert!(engine.step(found(), &at(90)).is_empty());
        assert_eq!(engine.step(vec![], &at(120)).len(), 1, "gone, and not yet for long enough");
        assert_eq!(states(&engine.step(vec![], &at(180))), [("MTU_MISMATCH", Status::Resolved, true)]);
        assert!(engine.step(vec![], &at(210)).is_empty());
    }

    #[test]
    fn what_does_not_last_leaves_nothing() {
        let mut engine = Engine::default();
        engine.step(vec![finding("MTU_MISMATCH", "e", &[1])], &at(0));
        let changes = engine.step(vec![], &at(30));
        assert!(changes.len() == 1 && changes[0].forget && !changes[0].notify);
        assert_eq!(engine.alarms().count(), 0);
    }

    #[test]
    fn a_silent_agent_covers_its_edges_and_freezes_them() {
        let mut engine = Engine::default();
        let edge = || finding("ALLOWED_IPS_EMPTY", "e", &[1, 2]);
        engine.step(vec![edge()], &at(0));
        let dark = |seconds| Moment { dark: AgentSet::from_iter([agent(2)]), ..at(seconds) };
        let offline = || finding("AGENT_OFFLINE", &agent(2).to_string(), &[2]);
        let changes = engine.step(vec![offline()], &dark(130));
        assert_eq!(
            states(&changes),
            [("AGENT_OFFLINE", Status::Firing, true), ("ALLOWED_IPS_EMPTY", Status::Suppressed, false)]
        );
        assert!(engine.step(vec![offline()], &dark(900)).is_empty(), "it is neither over nor new");
        let changes = engine.step(vec![edge()], &at(930));
        assert_eq!(
            states(&changes),
            [("AGENT_OFFLINE", Status::Resolved, true)],
            "what it hid may be over too"
        );
        let changes = engine.step(vec![edge()], &at(995));
        assert_eq!(
            states(&changes),
            [("ALLOWED_IPS_EMPTY", Status::Firing, false)],
            "it comes back without being told again"
        );
        let _ = engine.step(vec![], &at(1000));
        let changes = engine.step(vec![], &at(1060));
        assert_eq!(states(&changes), [("ALLOWED_IPS_EMPTY", Status::Resolved, true)]);
    }

    #[test]
    fn flapping_is_one_alarm() {
        let mut engine = Engine::default();
        let mut told = Vec::new();
        for round in 0..12 {
            let on = vec![finding("AGENT_OFFLINE", "a", &[1])];
            told.extend(engine.step(on, &at(round * 60)).into_iter().filter(|change| change.notify));
            told.extend(engine.step(vec![], &at(round * 60 + 30)).into_iter().filter(|change| change.notify));
        }
        let codes: Vec<_> =
            told.iter().map(|change| (change.alarm.code.as_str(), change.alarm.state)).collect();
        assert_eq!(codes.iter().filter(|(code, _)| *code == FLAPPING).count(), 1, "{codes:?}");
        assert!(codes.len() <= 7, "{codes:?}");
        let over = engine.step(vec![], &at(12 * 60 + 1000));
        assert!(
            over.iter().any(|c| c.alarm.code == FLAPPING && c.alarm.state == Status::Resolved),
            "{over:?}"
        );
    }

    #[test]
    fn nothing_changes_while_warming_up() {
        let mut engine = Engine::default();
        engine.step(vec![finding("ALLOWED_IPS_EMPTY", "e", &[1])], &at(0));
        let warming = |seconds| Moment { warming: true, ..at(seconds) };
        assert!(engine.step(vec![], &warming(10)).is_empty(), "firing survives");
        let own = engine.step(vec![finding("DATABASE_FAILING", "manager", &[])], &warming(20));
        assert_eq!(states(&own), [("DATABASE_FAILING", Status::Firing, true)]);
        let still = finding("DATABASE_FAILING", "manager", &[]);
        let new = engine.step(vec![still, finding("DUP_PRIVATE_KEY", "k", &[1])], &warming(30));
        assert!(states(&new).iter().all(|(_, state, notify)| *state != Status::Firing && !notify), "{new:?}");
    }

    #[test]
    fn acknowledged_and_silenced_alarms_are_not_told_but_their_end_is() {
        let mut engine = Engine::default();
        let found = || vec![finding("ALLOWED_IPS_EMPTY", "e", &[1])];
        engine.step(found(), &at(0));
        let no = engine.alarms().next().unwrap().no;
        let change = engine.acknowledge(no, 5000).unwrap();
        assert_eq!((change.alarm.state, change.from), (Status::Acknowledged, Some(Status::Firing)));
        assert!(engine.acknowledge(no + 1, 5000).is_none());
        let silence = Silence { target: "ALLOWED_IPS_EMPTY".into(), until: 50_000 };
        assert_eq!(
            states(&engine.silence(silence, 6000)),
            [("ALLOWED_IPS_EMPTY", Status::Suppressed, false)]
        );
        assert_eq!(
            states(&engine.step(found(), &at(60))),
            [("ALLOWED_IPS_EMPTY", Status::Acknowledged, false)]
        );
        engine.step(vec![], &at(90));
        assert_eq!(states(&engine.step(vec![], &at(150))), [("ALLOWED_IPS_EMPTY", Status::Resolved, true)]);
    }

    #[test]
    fn a_planned_silence_is_never_told() {
        let mut engine = Engine::default();
        engine.silence(Silence { target: agent(1).to_string(), until: 3_600_000 }, 0);
        let changes = engine.step(vec![finding("AGENT_OFFLINE", &agent(1).to_string(), &[1])], &at(10));
        assert_eq!(states(&changes), [("AGENT_OFFLINE", Status::Suppressed, false)]);
        assert_eq!(states(&engine.step(vec![], &at(40))), [("AGENT_OFFLINE", Status::Resolved, false)]);
    }
}
