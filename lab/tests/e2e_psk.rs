//! The PSK in a real DNS server's TXT record: rotated while reports flow, gone, empty, ambiguous.
#![expect(clippy::unwrap_used, reason = "the helpers, too, are tests")]

mod e2e;

use e2e::actor::{self, Actor};
use e2e::{Manager, SOON, agent, assert_stops, ready};
use lab::{Dns, MESH, Mesh, Plan, Proc, until, wait_for};
use nix::sys::signal::Signal;
use serde_json::Value;

const NAME: &str = "kattila.lab.test";
const HOSTS: [&str; 3] = ["a", "b", "c"];

/// The PSK of a generation; commas and spaces are allowed in it.
fn psk(generation: u64) -> String {
    format!("generation {generation} of the PSK, for tests")
}

fn mesh() -> Mesh {
    Plan::new("psk")
        .lan("l", "10.1.0.0/24")
        .attach("hub", "l", "10.1.0.1")
        .attach("ns", "l", "10.1.0.2")
        .attach("a", "l", "10.1.0.11")
        .attach("b", "l", "10.1.0.12")
        .attach("c", "l", "10.1.0.13")
        .up()
        .unwrap()
}

/// A manager and three agents that know nothing but the name of the record.
struct Fleet<'mesh> {
    mesh: &'mesh Mesh,
    manager: Manager<'mesh>,
    settings: [(&'static str, String); 2],
    agents: Vec<Proc>,
}

impl<'mesh> Fleet<'mesh> {
    fn start(mesh: &'mesh Mesh) -> Self {
        let settings = [("DNS", NAME.to_owned()), ("DNS_SERVER", mesh.host("ns").address().to_string())];
        let given: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let manager = Manager::start(mesh.host("hub"), &given);
        let mut fleet = Self { mesh, manager, settings, agents: Vec::new() };
        fleet.agents = HOSTS.iter().map(|name| fleet.spawn(name)).collect();
        for name in HOSTS {
            fleet.wait_generation(name, 1);
        }
        fleet
    }

    fn spawn(&self, name: &str) -> Proc {
        let host = self.mesh.host(name);
        let mut settings: Vec<(&str, &str)> =
            self.settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        settings.push(("REPORT_INTERVAL", "2"));
        host.spawn(&agent(host, &self.manager.url(), &settings)).unwrap()
    }

    /// Stops the agent in order and starts it anew: it reads the record.
    fn restart(&mut self, name: &str) {
        let at = HOSTS.iter().position(|host| *host == name).unwrap();
        assert_stops(&self.agents[at], Signal::SIGTERM, SOON);
        self.agents[at] = self.spawn(name);
    }

    fn generation(&self, name: &str) -> u64 {
        self.manager.agent(name).unwrap()["psk_generation"].as_u64().unwrap()
    }

    fn wait_generation(&self, name: &str, generation: u64) {
        self.manager.wait_agent(name, &format!("{name} uses generation {generation}"), |agent| {
            agent["psk_generation"] == generation
        });
    }

    /// Waits for two more reports of everyone.
    fn reports_flow(&self) {
        let seen = |agent: &Value| agent["last_seen"].as_i64().unwrap();
        for _ in 0..2 {
            let last = HOSTS.map(|name| seen(&self.manager.agent(name).unwrap()));
            for (name, last) in HOSTS.iter().zip(last) {
                self.manager.wait_agent(name, &format!("{name} reports on"), |agent| seen(agent) > last);
            }
        }
    }

    /// Nudges until the manager has taken the PSK of this generation over.
    fn wait_taken_over(&self, generation: i64) {
        let database = self.manager.database();
        let taken = || {
            self.nudge();
            database.one::<i64>("SELECT max(generation) FROM psks") == generation
        };
        assert!(until(SOON, taken), "generation {generation}: {}", self.manager.health());
    }

    /// Makes the manager read the record: a message whose MAC it cannot verify may be of a PSK that
    /// it does not know yet.
    fn nudge(&self) {
        let stranger = Actor::new("stranger", "not a PSK of this fleet");
        let sealed = stranger.report(1);
        let to = self.manager.address();
        let sent = self.mesh.host("ns").inside(|| actor::post(to, "/status/updates", &sealed.bytes));
        assert_eq!(sent.unwrap().unwrap().0, 401);
    }

    /// Nudges until the health check says of the PSK what it should.
    fn wait_psk_failure(&self, expected: Option<&str>) {
        let met = || {
            self.nudge();
            let health = self.manager.health();
            assert_eq!(health["status"], "ok", "the database is well: {health}");
            let failure = health["psk_failure"].as_str();
            match expected {
                Some(text) => failure.is_some_and(|failure| failure.contains(text)),
                None => failure.is_none(),
            }
        };
        assert!(until(SOON, met), "psk_failure should be {expected:?}: {}", self.manager.health());
    }
}

#[test]
fn a_psk_rotates_while_reports_flow() {
    if !ready(MESH) {
        return;
    }
    let mesh = mesh();
    let mut dns = Dns::start(mesh.host("ns"), NAME, &psk(1)).unwrap();
    let mut fleet = Fleet::start(&mesh);
    fleet.reports_flow();

    // First rotation. Whoever starts anew signs with the new one, of which the manager learns by that
    // at once, as long as it has not just read the record.
    assert!(until(SOON, || fleet.manager.health()["uptime_s"].as_i64() > Some(6)));
    dns.rotate(&psk(2)).unwrap();
    fleet.restart("b");
    fleet.wait_generation("b", 2);
    // The others read the record only hourly: theirs is accepted, and shown.
    fleet.reports_flow();
    assert_eq!((fleet.generation("a"), fleet.generation("c")), (1, 1));

    // Second rotation, and a manager killed in the middle of it: it accepts the same ones as before.
    dns.rotate(&psk(3)).unwrap();
    fleet.wait_taken_over(3);
    fleet.restart("c");
    fleet.wait_generation("c", 3);
    fleet.manager.process.kill9().unwrap();
    fleet.manager.restart();
    fleet.reports_flow();
    let all = |fleet: &Fleet<'_>| HOSTS.map(|name| fleet.generation(name));
    assert_eq!(all(&fleet), [1, 2, 3], "three generations side by side");

    // Third: the first PSK is accepted no more. Its holder is told so, reads the record, and signs
    // the same report again, all in one turn. Then the same for the second PSK, and the third.
    for (generation, expected) in [(4, [4, 2, 3]), (5, [4, 5, 3]), (6, [4, 5, 6])] {
        dns.rotate(&psk(generation)).unwrap();
        fleet.wait_taken_over(i64::try_from(generation).unwrap());
        assert!(until(SOON, || all(&fleet) == expected), "{generation}: {:?}", all(&fleet));
        fleet.reports_flow();
        assert_eq!(all(&fleet), expected);
    }

    let database = fleet.manager.database();
    database.assert_sound();
    database.assert_gapless();
    assert_eq!(database.count("agents"), 3);
    let dropped: Vec<Value> = fleet.manager.agents().iter().map(|agent| agent["dropped"].clone()).collect();
    assert!(dropped.iter().all(|dropped| *dropped == 0), "{dropped:?}");
    let health = fleet.manager.health();
    assert!(health["refused"]["old_psk"].as_u64() >= Some(1), "{health}");
    // No PSK in any log.
    let mut logs = vec![fleet.manager.process.log(), health.to_string()];
    logs.extend(fleet.agents.iter().map(Proc::log));
    assert!(logs.iter().all(|log| !log.contains("of the PSK, for tests")), "a PSK in a log");
    assert!(fleet.agents[0].log().contains("PSK has changed"), "{}", fleet.agents[0].log());
}

#[test]
fn the_last_good_psk_stays_when_dns_fails() {
    if !ready(MESH) {
        return;
    }
    let mesh = mesh();
    let mut dns = Dns::start(mesh.host("ns"), NAME, &psk(1)).unwrap();
    let mut fleet = Fleet::start(&mesh);
    assert_eq!(fleet.manager.health()["psk_failure"], Value::Null);

    dns.stop();
    fleet.wait_psk_failure(Some(NAME));
    fleet.reports_flow();

    // Records that are no PSK, or not one: each is named, none is taken. The last ones do not fit into
    // one UDP answer.
    let long = ["x", "y", "z"].map(|letter| letter.repeat(500));
    for (records, named) in [
        (vec![], NAME),
        (vec![""], "empty"),
        (vec!["too short"], "9 characters"),
        (vec!["no printable \u{e4}\u{f6}\u{fc} in a PSK"], "not printable"),
        (vec!["one of two different PSKs", "two of two different PSKs"], "2 different"),
        (long.iter().map(String::as_str).collect(), "3 different"),
    ] {
        dns.set(&records).unwrap();
        fleet.wait_psk_failure(Some(named));
        let shown = fleet.manager.health().to_string();
        assert!(!shown.contains("of two different PSKs"), "a record's text is shown: {shown}");
    }
    fleet.reports_flow();
    assert_eq!(fleet.manager.database().count("psks"), 1);

    // An agent that starts meanwhile has nothing to sign with. It says why, and waits; the manager
    // that starts meanwhile still has its last good one.
    fleet.restart("c");
    fleet.agents[2].wait_log("no PSK, reports wait until there is one", SOON).unwrap();
    fleet.manager.process.term().unwrap();
    fleet.manager.process.wait(SOON).unwrap();
    fleet.manager.restart();
    let last = fleet.manager.agent("c").unwrap()["last_seen"].clone();
    fleet.manager.wait_agent("a", "a reports on", |agent| agent["last_seen_age_s"] == 0);
    assert_eq!(fleet.manager.agent("c").unwrap()["last_seen"], last);

    // The same record again: the same generation, and everyone is back.
    dns.rotate(&psk(1)).unwrap();
    fleet.wait_psk_failure(None);
    wait_for("c reports again", 2 * SOON, || {
        (fleet.manager.agent("c").unwrap()["last_seen"] != last).then_some(())
    })
    .unwrap();
    fleet.reports_flow();
    assert_eq!(HOSTS.map(|name| fleet.generation(name)), [1, 1, 1]);
    fleet.manager.database().assert_sound();
}
