//! What the end-to-end tests share: the two daemons on hosts, their API and database, a protocol
//! actor, and the comparison of a report with what its host says of itself.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "tests")]

pub(crate) mod actor;
pub(crate) mod agree;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lab::{Host, Launch, Need, Proc, bin, require, wait_for};
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

/// The daemons under test.
pub(crate) const DAEMONS: &[Need] = &[Need::Bin("agent"), Need::Bin("manager")];

/// A deadline for what takes a moment; the machine may be busy.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// The PSK where a test has but one.
pub(crate) const PSK: &str = "correct horse battery staple of the lab";

/// Whether the lab and the daemons are there; otherwise says so, and the test is to return.
pub(crate) fn ready(needs: &[Need]) -> bool {
    require(needs) && require(DAEMONS)
}

pub(crate) fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// Writes a file that only its owner may read.
pub(crate) fn secret_file(path: PathBuf, secret: &str) -> PathBuf {
    std::fs::write(&path, secret).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// A manager on its host's port 5086.
pub(crate) struct Manager<'mesh> {
    pub(crate) host: &'mesh Host,
    pub(crate) process: Proc,
    launch: Launch,
}

impl<'mesh> Manager<'mesh> {
    /// Starts it with these settings; its database is in the host's folder unless they say otherwise.
    pub(crate) fn start(host: &'mesh Host, settings: &[(&str, &str)]) -> Self {
        let mut launch =
            Launch::new(bin("manager").unwrap()).env("DATABASE", host.dir().join("kattila_manager.db"));
        for (name, value) in settings {
            launch = launch.env(name, value);
        }
        let process = host.spawn(&launch).unwrap();
        let manager = Self { host, process, launch };
        manager.await_answers();
        manager
    }

    /// Starts it anew after its end.
    pub(crate) fn restart(&mut self) {
        self.process = self.host.spawn(&self.launch).unwrap();
        self.await_answers();
    }

    fn await_answers(&self) {
        let answers = || {
            assert!(self.process.is_running(), "the manager has ended:\n{}", self.process.log());
            self.host.http_get("http://127.0.0.1:5086/status/healthcheck").ok().map(drop)
        };
        wait_for("the manager's first answer", SOON, answers).unwrap();
    }

    /// Where agents find it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::new(self.host.address(), 5086)
    }

    pub(crate) fn get(&self, path: &str) -> (u16, Value) {
        let answer = self.host.http_get(&format!("http://127.0.0.1:5086{path}")).unwrap();
        (answer.status, answer.json().unwrap())
    }

    /// All agents, as GET /status/agents shows them.
    pub(crate) fn agents(&self) -> Vec<Value> {
        let (status, list) = self.get("/status/agents");
        assert_eq!(status, 200, "{list}");
        list["agents"].as_array().unwrap().clone()
    }

    /// The agent of this host name; panics when there are two.
    pub(crate) fn agent(&self, hostname: &str) -> Option<Value> {
        let mut found: Vec<Value> =
            self.agents().into_iter().filter(|agent| agent["hostname"] == hostname).collect();
        assert!(found.len() <= 1, "{hostname} is there twice: {found:?}");
        found.pop()
    }

    /// Waits until `probe` is content with the agent of this host name.
    pub(crate) fn wait_agent(&self, hostname: &str, what: &str, probe: impl Fn(&Value) -> bool) -> Value {
        let found = wait_for("", SOON, || self.agent(hostname).filter(&probe));
        found.unwrap_or_else(|_| panic!("{what}: not within {SOON:?}: {:#?}", self.agents()))
    }

    pub(crate) fn health(&self) -> Value {
        self.get("/status/healthcheck").1
    }

    pub(crate) fn database(&self) -> Database {
        Database::open(&self.host.dir().join("kattila_manager.db"))
    }
}

/// The manager's database, read as it is.
pub(crate) struct Database(pub(crate) Connection);

impl Database {
    pub(crate) fn open(path: &Path) -> Self {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        connection.busy_timeout(Duration::from_secs(10)).unwrap();
        Self(connection)
    }

    pub(crate) fn one<T: rusqlite::types::FromSql>(&self, sql: &str) -> T {
        self.0.query_row(sql, [], |row| row.get(0)).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    pub(crate) fn count(&self, sql: &str) -> i64 {
        self.one(&format!("SELECT count(*) FROM {sql}"))
    }

    /// `agent boot ticks`: each start of each agent with the ticks that are stored, sorted.
    pub(crate) fn ticks(&self) -> Vec<(String, String, Vec<i64>)> {
        let sql =
            "SELECT lower(hex(a.id)), lower(hex(b.id)), r.tick FROM reports r JOIN agents a ON a.no = r.agent
                   JOIN boots b ON b.no = r.boot ORDER BY a.no, b.no, r.tick";
        let mut statement = self.0.prepare(sql).unwrap();
        let rows = statement
            .query_map([], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?))
            })
            .unwrap();
        let mut starts: Vec<(String, String, Vec<i64>)> = Vec::new();
        for row in rows {
            let (agent, boot, tick) = row.unwrap();
            match starts.last_mut() {
                Some(last) if last.0 == agent && last.1 == boot => last.2.push(tick),
                _ => starts.push((agent, boot, vec![tick])),
            }
        }
        starts
    }

    /// Every start of every agent has stored all ticks from 1 to its last.
    pub(crate) fn assert_gapless(&self) {
        let starts = self.ticks();
        assert!(!starts.is_empty());
        for (agent, boot, ticks) in starts {
            assert!(
                ticks.iter().copied().eq(1..=i64::try_from(ticks.len()).unwrap()),
                "agent {agent} boot {boot} has lost reports: {ticks:?}"
            );
        }
    }

    pub(crate) fn assert_sound(&self) {
        assert_eq!(self.one::<String>("PRAGMA integrity_check"), "ok");
        assert_eq!(
            self.count("(SELECT nonce FROM reports GROUP BY nonce HAVING count(*) > 1)"),
            0,
            "a report is stored twice"
        );
    }
}

/// How the agent of a host is started: its state is in the host's folder, reports every 2 s.
pub(crate) fn agent(host: &Host, url: &str, settings: &[(&str, &str)]) -> Launch {
    let state = host.dir().join("state");
    std::fs::create_dir_all(&state).unwrap();
    let mut launch = Launch::new(bin("agent").unwrap())
        .env("MANAGER_URL", url)
        .env("STATE_DIR", state)
        .env("REPORT_INTERVAL", "2");
    for (name, value) in settings {
        launch = launch.env(name, value);
    }
    launch
}

/// Asserts that the process ends by itself, well, within `limit` of being told to.
pub(crate) fn assert_stops(process: &Proc, signal: nix::sys::signal::Signal, limit: Duration) {
    let start = Instant::now();
    process.signal(signal).unwrap();
    let status = process.wait(SOON).unwrap();
    let took = start.elapsed();
    eprintln!("{} on {} stopped after {took:?}", process.name(), process.host());
    assert_eq!(status.code(), Some(0), "{}:\n{}", process.name(), process.log());
    assert!(took <= limit, "{} took {took:?} to stop", process.name());
}
