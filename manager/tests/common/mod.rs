//! A real manager on loopback, and an agent's side of the protocol to talk to it.

#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    missing_debug_implementations,
    clippy::unwrap_used,
    reason = "each test file uses a part of it"
)]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use proto::ack::{self, Ack};
use proto::envelope::{Draft, Sealed};
use proto::ids::{AgentId, BootId, Nonce};
use proto::psk::Secret;
use proto::report::{REPORT_VERSION, Report};
use proto::sign::Kind;

pub const PSK: &str = "a preshared key for tests";

pub fn secret(text: &str) -> Secret {
    Secret::new(text).unwrap()
}

pub fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// An address of this host that nobody listens at. Its port is below those that connections take by themselves
/// (from 32768 on, `net.ipv4.ip_local_port_range`), so that none has it by the time it is used.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = process::id().wrapping_mul(97) + NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 10_000 + u16::try_from(number % 22_000).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// A manager in a folder of its own.
pub struct Manager {
    pub dir: tempfile::TempDir,
    pub address: SocketAddr,
    pub settings: Vec<(String, String)>,
    child: Option<Child>,
}

impl Manager {
    pub fn start(settings: &[(&str, &str)]) -> Self {
        let address = free_address();
        let settings = settings.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("psk"), PSK).unwrap();
        chmod600(&dir.path().join("psk"));
        let mut manager = Self { dir, address, settings, child: None };
        manager.resume();
        manager
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_manager"));
        command
            .current_dir(self.dir.path())
            .env_clear()
            .env("PSK_FILE", "psk")
            .env("MANAGER_LISTEN", self.address.to_string());
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts it again in the same folder, and waits until it answers.
    pub fn resume(&mut self) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log_path()).unwrap();
        let child = self.command().stdin(Stdio::null()).stderr(log).spawn().unwrap();
        self.child = Some(child);
        let until = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(self.address).is_err() {
            assert!(Instant::now() < until, "the manager does not listen: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub fn terminate(&mut self) -> process::ExitStatus {
        let mut child = self.child.take().unwrap();
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM).unwrap();
        child.wait().unwrap()
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    pub fn database(&self) -> PathBuf {
        self.dir.path().join("kattila_manager.db")
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    pub fn query<T: rusqlite::types::FromSql>(&self, sql: &str) -> T {
        let database = rusqlite::Connection::open(self.database()).unwrap();
        database.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    pub fn get(&self, path: &str) -> (u16, serde_json::Value) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address);
        let (status, _, body) = exchange(self.address, request.as_bytes());
        let json = serde_json::from_slice(&body)
            .unwrap_or_else(|_| panic!("{path}: {}", String::from_utf8_lossy(&body)));
        (status, json)
    }

    /// What a path shows, once it fits.
    pub fn wait(&self, path: &str, fits: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            let (status, json) = self.get(path);
            if status == 200 && fits(&json) {
                return json;
            }
            assert!(Instant::now() < until, "{path} is still {json:#}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The status and one header of the answer to a GET with these headers.
    pub fn header(&self, path: &str, name: &str, headers: &[(&str, &str)]) -> (u16, Option<String>) {
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{headers}\r\n", self.address);
        let (status, head, _) = exchange(self.address, request.as_bytes());
        let named = |line: &str| {
            let (field, value) = line.split_once(": ")?;
            field.eq_ignore_ascii_case(name).then(|| value.to_owned())
        };
        (status, head.lines().find_map(named))
    }

    pub fn post(&self, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
        let (status, _, body) = exchange(self.address, &[head.as_bytes(), body].concat());
        (status, body)
    }

    /// Posts a signed message and opens the signed answer; panics where that is unsigned.
    pub fn send(&self, path: &str, sealed: &Sealed, psk: &Secret) -> Ack {
        let (_, body) = self.post(path, &sealed.bytes);
        ack::open(&body, sealed.nonce, &sealed.mac, psk)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&body)))
    }

    pub fn report(&self, sealed: &Sealed) -> Ack {
        self.send("/status/updates", sealed, &secret(PSK))
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub fn chmod600(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// The status, head and body of the answer.
pub fn exchange(address: SocketAddr, request: &[u8]) -> (u16, String, Vec<u8>) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("an HTTP answer");
    let status = std::str::from_utf8(&answer[9..12]).unwrap().parse().unwrap();
    (status, String::from_utf8_lossy(&answer[..end + 2]).into_owned(), answer[end + 4..].to_vec())
}

/// Posts a report to a manager that may not be there; the code of its signed answer.
pub fn send_to(address: SocketAddr, sealed: &Sealed) -> Option<ack::Code> {
    let head =
        format!("POST /status/updates HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", sealed.bytes.len());
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    stream.write_all(&[head.as_bytes(), &sealed.bytes].concat()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    Some(ack::open(&answer[end + 4..], sealed.nonce, &sealed.mac, &secret(PSK)).ok()?.code)
}

/// An agent's side of the protocol.
#[derive(Clone)]
pub struct Actor {
    pub agent: AgentId,
    pub boot: BootId,
    pub hardware: &'static str,
    pub hostname: &'static str,
    pub psk: Secret,
}

impl Actor {
    pub fn new(hostname: &'static str) -> Self {
        Self {
            agent: AgentId::random().unwrap(),
            boot: BootId::random().unwrap(),
            hardware: hostname,
            hostname,
            psk: secret(PSK),
        }
    }

    /// The same agent after a restart.
    pub fn restarted(&self) -> Self {
        Self { boot: BootId::random().unwrap(), ..self.clone() }
    }

    pub fn observed(&self, observed_at: i64) -> Report {
        let mut report = Report {
            version: REPORT_VERSION,
            observed_at,
            agent_version: "0.1.0".into(),
            interval_s: 30,
            hardware: self.hardware.into(),
            ..Report::default()
        };
        report.system.hostname = self.hostname.into();
        report
    }

    pub fn draft(&self, kind: Kind, tick: u64, json: &[u8], sent_at: i64) -> Sealed {
        let (agent, boot, nonce) = (self.agent, self.boot, Nonce::random().unwrap());
        Draft { kind, agent, boot, tick, nonce, json }.seal(&self.psk, sent_at)
    }

    /// A report observed and signed now.
    pub fn report(&self, tick: u64) -> Sealed {
        self.report_at(tick, now_ms(), now_ms())
    }

    pub fn report_at(&self, tick: u64, observed_at: i64, sent_at: i64) -> Sealed {
        let json = serde_json::to_vec(&self.observed(observed_at)).unwrap();
        self.draft(Kind::Report, tick, &json, sent_at)
    }
}
