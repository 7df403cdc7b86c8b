//! What the cases share: a mesh with its daemons, and how alarms are awaited and measured.

pub(crate) mod fleet;
pub(crate) mod healthy;
pub(crate) mod hosts;
pub(crate) mod identity;
pub(crate) mod paths;
pub(crate) mod peers;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use lab::{Host, Mesh, Plan, Proc, until, wait_for};
use serde_json::Value;

use crate::e2e::{Manager, PSK, SOON, agent, now_ms, secret_file};

/// A case: builds its mesh, breaks it, mends it; gives what it measured.
pub(crate) type Case = fn(&'static str) -> Vec<Row>;

/// The longest that an alarm may take: WireGuard's own 180 s, two slow reports, and a busy machine.
const LONG: Duration = Duration::from_secs(420);

/// Resolved 10 minutes after the last sign of trouble, and a busy machine.
pub(crate) const VERY_LONG: Duration = Duration::from_secs(760);

/// Intervals in which a manager that started raises nothing.
const WARM_UP: u32 = 3;

/// A measured alarm.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) case: &'static str,
    /// Seconds between the agents' reports.
    interval_s: u32,
    code: String,
    /// The alarm's number.
    pub(crate) no: i64,
    /// Seconds from the fault to firing.
    fired_s: f64,
    /// Seconds from the mend to resolved.
    resolved_s: Option<f64>,
}

/// The rows as Markdown.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = "\n| case | interval | alarm | fault to firing | mend to resolved |\n| --- | --- | --- | --- | --- |\n".to_owned();
    for row in rows {
        let resolved = row.resolved_s.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.0} s"));
        let fired = if row.no == 0 { "-".to_owned() } else { format!("{:.0} s", row.fired_s) };
        text += &format!("| {} | {} s | {} | {fired} | {resolved} |\n", row.case, row.interval_s, row.code);
    }
    text
}

/// A mesh with a manager and agents, quiet so far.
pub(crate) struct Stage<'mesh> {
    pub(crate) case: &'static str,
    pub(crate) mesh: &'mesh Mesh,
    pub(crate) manager: Manager<'mesh>,
    agents: RefCell<BTreeMap<String, Proc>>,
    /// The agents' ids by host, as they were first.
    ids: RefCell<BTreeMap<String, String>>,
    interval_s: u32,
    rows: RefCell<Vec<Row>>,
}

impl<'mesh> Stage<'mesh> {
    /// Starts the manager on the first of `hosts` and an agent on each, and waits until all report and
    /// the manager raises alarms.
    pub(crate) fn set(case: &'static str, mesh: &'mesh Mesh, hosts: &[&str], interval_s: u32) -> Self {
        Self::set_with(case, mesh, hosts, interval_s, &[])
    }

    /// The same with more settings for the manager.
    pub(crate) fn set_with(
        case: &'static str,
        mesh: &'mesh Mesh,
        hosts: &[&str],
        interval_s: u32,
        settings: &[(&str, &str)],
    ) -> Self {
        let secret = secret_file(mesh.dir().join("admin-secret"), "an admin secret of the lab");
        let mut all = vec![("PSK", PSK), ("ADMIN_SECRET_FILE", secret.to_str().unwrap())];
        all.extend(settings);
        let manager = Manager::start(mesh.host(hosts[0]), &all);
        let started = now_ms();
        let stage = Self {
            case,
            mesh,
            manager,
            agents: RefCell::default(),
            ids: RefCell::default(),
            interval_s,
            rows: RefCell::default(),
        };
        for host in hosts {
            stage.start_agent(host);
        }
        for host in hosts {
            stage.manager.wait_agent(host, "every agent reports", |agent| agent["presence"] == "online");
            stage.id(host);
        }
        let warm = started + i64::from(WARM_UP * interval_s + 6) * 1000;
        std::thread::sleep(Duration::from_millis(u64::try_from(warm - now_ms()).unwrap_or(0)));
        stage.only(&[]);
        stage
    }

    pub(crate) fn host(&self, name: &str) -> &'mesh Host {
        self.mesh.host(name)
    }

    /// Starts a host's agent, anew where it runs.
    pub(crate) fn start_agent(&self, host: &str) {
        self.start_agent_with(host, &[]);
    }

    /// The same with more environment variables.
    pub(crate) fn start_agent_with(&self, host: &str, more: &[(&str, &str)]) {
        self.stop_agent(host);
        let interval = self.interval_s.to_string();
        let mut settings = vec![("PSK", PSK), ("REPORT_INTERVAL", interval.as_str())];
        settings.extend(more);
        let process = self.host(host).spawn(&agent(self.host(host), &self.manager.url(), &settings)).unwrap();
        self.agents.borrow_mut().insert(host.to_owned(), process);
    }

    /// Stops a host's agent by SIGTERM, where it runs.
    pub(crate) fn stop_agent(&self, host: &str) {
        if let Some(process) = self.agents.borrow_mut().remove(host) {
            process.term().unwrap();
            process.wait(SOON).unwrap();
        }
    }

    /// The id of a host's agent, as it was at first.
    pub(crate) fn id(&self, host: &str) -> String {
        let mut ids = self.ids.borrow_mut();
        let look = || self.manager.agent(host).unwrap()["id"].as_str().unwrap().to_owned();
        ids.entry(host.to_owned()).or_insert_with(look).clone()
    }

    pub(crate) fn key(&self, host: &str) -> String {
        self.host(host).keys("wg0").unwrap().public
    }

    /// All alarms in whatever state.
    pub(crate) fn alarms(&self) -> Vec<Value> {
        let (status, answer) = self.manager.get("/status/alarms?state=all&limit=5000");
        assert_eq!(status, 200, "{answer}");
        answer["alarms"].as_array().unwrap().clone()
    }

    /// Waits for the alarm of this code about exactly these hosts to fire, looks at what it says, and
    /// notes how long after `fault` (ms) that was.
    pub(crate) fn fires(&self, fault: i64, code: &str, about: &[&str]) -> Value {
        self.becomes(fault, code, about, &["firing"], LONG)
    }

    /// The same in other states that it may come to.
    pub(crate) fn becomes(
        &self,
        fault: i64,
        code: &str,
        about: &[&str],
        states: &[&str],
        limit: Duration,
    ) -> Value {
        let ids: BTreeSet<String> = about.iter().map(|host| self.id(host)).collect();
        let found = wait_for("", limit, || {
            std::thread::sleep(Duration::from_millis(450));
            self.alarms().into_iter().find(|alarm| {
                alarm["code"] == code
                    && agents_of(alarm) == ids
                    && states.iter().any(|state| alarm["state"] == *state)
                    && alarm["fired_at"].as_i64().is_some_and(|at| at >= fault)
            })
        });
        let alarm = found.unwrap_or_else(|_| {
            panic!("{code} about {about:?} is not {states:?} within {limit:?}: {}", self.shown())
        });
        self.assert_says_why(&alarm, about);
        self.rows.borrow_mut().push(Row {
            case: self.case,
            interval_s: self.interval_s,
            code: code.to_owned(),
            no: alarm["no"].as_i64().unwrap(),
            fired_s: seconds(fault, alarm["fired_at"].as_i64().unwrap()),
            resolved_s: None,
        });
        alarm
    }

    /// Waits until an alarm is over, and notes how long after `mend` (ms) that was.
    pub(crate) fn ends(&self, mend: i64, alarm: &Value) {
        self.ends_within(mend, alarm, LONG);
    }

    pub(crate) fn ends_within(&self, mend: i64, alarm: &Value, limit: Duration) {
        let no = alarm["no"].as_i64().unwrap();
        let mut at = 0;
        let over = until(limit, || {
            std::thread::sleep(Duration::from_millis(450));
            let now = self.alarms().into_iter().find(|other| other["no"] == no).unwrap();
            at = now["since"].as_i64().unwrap();
            now["state"] == "resolved"
        });
        assert!(over, "alarm {no} is not over within {limit:?}: {}", self.shown());
        let mut rows = self.rows.borrow_mut();
        let row = rows.iter_mut().find(|row| row.no == no).unwrap();
        row.resolved_s = Some(seconds(mend, at));
    }

    /// Nothing of warning or worse was told but these codes; nor waits to be.
    pub(crate) fn only(&self, codes: &[&str]) {
        for alarm in self.alarms() {
            let told = alarm["history"].as_array().unwrap().iter().any(|past| past["state"] == "firing");
            let told = told || alarm["state"] == "firing";
            let known = codes.iter().any(|code| alarm["code"] == *code);
            assert!(
                !told || known || alarm["severity"] == "info",
                "{} fired, and nothing but {codes:?} should: {}",
                alarm["code"],
                self.shown()
            );
        }
    }

    /// Lets the fault last.
    pub(crate) fn dwell(&self, seconds: u64) {
        std::thread::sleep(Duration::from_secs(seconds));
    }

    /// Small packets from a host to an address, two a second, as long as the value lives.
    pub(crate) fn traffic(&self, from: &str, to: &str) -> Proc {
        let launch = lab::Launch::new("ping").args(["-n", "-q", "-i", "0.5", to]);
        self.host(from).spawn(&launch).unwrap()
    }

    /// What was measured; every agent and the manager must still run.
    pub(crate) fn rows(self) -> Vec<Row> {
        for process in self.agents.borrow().values() {
            assert!(process.is_running(), "{}'s agent has ended:\n{}", process.host(), process.log());
        }
        self.manager.database().assert_sound();
        self.rows.into_inner()
    }

    /// A row of its own, for what is no alarm.
    pub(crate) fn note(&self, text: &str) {
        self.rows.borrow_mut().push(Row {
            case: self.case,
            interval_s: self.interval_s,
            code: text.to_owned(),
            no: 0,
            fired_s: 0.0,
            resolved_s: None,
        });
    }

    /// A tired person finds in it what is wrong, why, and what to do.
    fn assert_says_why(&self, alarm: &Value, about: &[&str]) {
        let text = |field: &str| alarm[field].as_str().unwrap_or_default().to_owned();
        assert!(text("sentence").ends_with('.') && text("sentence").len() > 20, "{alarm:#}");
        assert!(text("cause").len() > 10 && text("next_step").len() > 5, "{alarm:#}");
        let evidence = alarm["evidence"].as_array().unwrap();
        assert!(!evidence.is_empty(), "{alarm:#}");
        for host in about {
            let id = self.id(host);
            let told = evidence
                .iter()
                .any(|proof| proof["agent"] == id.as_str() || proof["text"].as_str().unwrap().contains(host));
            assert!(told, "no evidence of {host}: {alarm:#}");
        }
    }

    /// All alarms, one a line, with what their agents are called.
    fn shown(&self) -> String {
        let mut text = String::new();
        for alarm in self.alarms() {
            text += &format!(
                "\n  {} {} {} {}: {} Cause: {}. By {}. Evidence: {}. History: {}",
                alarm["no"],
                alarm["code"],
                alarm["severity"],
                alarm["state"],
                alarm["sentence"],
                alarm["cause"],
                alarm["suppressed_by"],
                alarm["evidence"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|proof| proof["text"].to_string())
                    .collect::<Vec<_>>()
                    .join("; "),
                alarm["history"]
            );
        }
        for agent in self.manager.agents() {
            text = text.replace(agent["id"].as_str().unwrap(), agent["hostname"].as_str().unwrap());
        }
        text
    }
}

fn agents_of(alarm: &Value) -> BTreeSet<String> {
    alarm["agents"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect()
}

fn seconds(from: i64, to: i64) -> f64 {
    f64::from(i32::try_from(to - from).unwrap()) / 1000.0
}

/// Three hosts on one LAN with a full WireGuard mesh; `hub` is number 1.
pub(crate) fn trio() -> Mesh {
    let mut plan = Plan::new("trio").lan("lan", "10.1.0.0/24");
    let hosts = ["hub", "ash", "oak"];
    for (n, host) in (1..).zip(hosts) {
        plan = plan.attach(host, "lan", &format!("10.1.0.{n}"));
    }
    let mesh = plan.full_mesh("wg0", "10.77.0.0/24", &hosts).up().unwrap();
    mesh.wait_handshakes(SOON).unwrap();
    mesh
}

/// The hosts of [`trio`].
pub(crate) const TRIO: &[&str] = &["hub", "ash", "oak"];

/// A shared library that sets a program's wall clock off by `seconds`. All namespaces of a kernel
/// share one such clock, so this is as close as a test comes to a host whose clock is wrong.
pub(crate) fn clock_off(mesh: &Mesh, seconds: i64) -> PathBuf {
    let (source, library) = (mesh.dir().join("clock.c"), mesh.dir().join("clock.so"));
    let text = format!(
        "#define _GNU_SOURCE\n#include <sys/syscall.h>\n#include <time.h>\n#include <unistd.h>\n\
         int clock_gettime(clockid_t clock, struct timespec *now)\n{{\n\
         int result = syscall(SYS_clock_gettime, clock, now);\n\
         if (result == 0 && clock == CLOCK_REALTIME)\n now->tv_sec += {seconds};\n return result;\n}}\n"
    );
    std::fs::write(&source, text).unwrap();
    let mut cc = std::process::Command::new("cc");
    let made = cc.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    library
}
