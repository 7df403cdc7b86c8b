//! A manager whose answers a test decides, and the agent's process with a folder of its own.

use std::collections::HashMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use gate::{Answer, Gate, Limits, Reply, Request, Stop};
use kattila_agent::peer::Peer;
use kattila_agent::push::Client;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use proto::ack::{self, Ack, Code, Details};
use proto::delta::Base;
use proto::envelope::{Encoding, Envelope, Header, decode};
use proto::ids::{AgentId, BootId};
use proto::psk::Secret;
use proto::report::Report;
use proto::sign::Kind;
use tempfile::TempDir;

/// Long enough for anything that a test waits for, on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn secret(number: u8) -> Secret {
    Secret::new(&format!("the secret of number {number}")).unwrap()
}

/// Milliseconds since the epoch.
pub(crate) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis().try_into().unwrap()
}

/// An address of this host that nobody listens at. Its port is below those that connections take by themselves
/// (from 32768 on, `net.ipv4.ip_local_port_range`), so that none has it by the time it is used.
pub(crate) fn free_address() -> SocketAddr {
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

/// A message that verified.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) header: Header,
    /// For messages of that kind.
    pub(crate) report: Option<Report>,
    pub(crate) json: serde_json::Value,
}

/// What the manager does with a message.
pub(crate) enum Reaction {
    Ack(Code),
    Details(Code, Details),
    /// With this time of the manager.
    At(Code, i64),
    Raw(Answer),
    Hang,
}

/// What is known to the test.
#[derive(Default)]
struct Book {
    psks: Vec<Secret>,
    /// Reports that came whole.
    bases: HashMap<(AgentId, BootId, u64), Base>,
    received: Vec<Received>,
    /// Messages that no PSK fits.
    refused: usize,
}

pub(crate) struct Manager {
    pub(crate) url: String,
    book: Arc<Mutex<Book>>,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

/// Stores reports and confirms ids.
pub(crate) fn usual(message: &Received) -> Reaction {
    Reaction::Ack(if message.header.kind == Kind::Register { Code::Registered } else { Code::Stored })
}

/// As [`usual`], but `react` decides about reports.
pub(crate) fn reports(
    mut react: impl FnMut(&Received) -> Reaction + Send + 'static,
) -> impl FnMut(&Received) -> Reaction + Send + 'static {
    move |message| if message.report.is_some() { react(message) } else { usual(message) }
}

impl Manager {
    /// A manager with the first PSK that does what `react` says.
    pub(crate) fn start(react: impl FnMut(&Received) -> Reaction + Send + 'static) -> Self {
        Self::start_at("127.0.0.1:0", react)
    }

    pub(crate) fn start_at(address: &str, react: impl FnMut(&Received) -> Reaction + Send + 'static) -> Self {
        let listener = gate::listen(address.parse().unwrap()).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let book = Arc::new(Mutex::new(Book { psks: vec![secret(1)], ..Book::default() }));
        let react = Mutex::new(react);
        let hanging: Mutex<Vec<Reply>> = Mutex::default();
        let kept = Arc::clone(&book);
        let handler = move |request: Request, reply: Reply| {
            let Some((message, psk)) = open(&kept, &request) else {
                kept.lock().unwrap().refused += 1;
                return reply.send(Answer::json(401, r#"{"error":{"code":"bad_mac"}}"#));
            };
            let reaction = (react.lock().unwrap())(&message);
            let Header { nonce, mac, .. } = message.header;
            kept.lock().unwrap().received.push(message);
            let signed = |ack: Ack| {
                Answer::new(ack.code.status(), "application/json", ack::seal(&ack, nonce, &mac, &psk))
            };
            let at = now_ms();
            match reaction {
                Reaction::Ack(code) => reply.send(signed(Ack { code, at, details: Details::default() })),
                Reaction::Details(code, details) => reply.send(signed(Ack { code, at, details })),
                Reaction::At(code, at) => reply.send(signed(Ack { code, at, details: Details::default() })),
                Reaction::Raw(answer) => reply.send(answer),
                Reaction::Hang => hanging.lock().unwrap().push(reply),
            }
        };
        let stop = Stop::new().unwrap();
        let limits = Limits { body: 1 << 20, answer: Duration::from_secs(60), ..Limits::default() };
        let gate_stop = stop.clone();
        let thread = thread::spawn(move || {
            Gate::new(limits, handler).run(vec![listener], &gate_stop, Duration::ZERO).unwrap();
        });
        Self { url, book, stop, thread: Some(thread) }
    }

    /// The PSKs that it accepts from now on.
    pub(crate) fn accept(&self, psks: &[u8]) {
        self.book.lock().unwrap().psks = psks.iter().map(|&number| secret(number)).collect();
    }

    pub(crate) fn refused(&self) -> usize {
        self.book.lock().unwrap().refused
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.book.lock().unwrap().received.clone()
    }

    /// The reports so far.
    pub(crate) fn reports(&self) -> Vec<(Header, Report)> {
        let with_report = |message: Received| Some((message.header, message.report?));
        self.received().into_iter().filter_map(with_report).collect()
    }

    /// Waits until there are that many reports; all of them.
    pub(crate) fn wait_for_reports(&self, count: usize) -> Vec<(Header, Report)> {
        wait_until(&format!("{count} reports"), || {
            Some(self.reports()).filter(|reports| reports.len() >= count)
        })
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.stop.trigger();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn open(book: &Mutex<Book>, request: &Request) -> Option<(Received, Secret)> {
    let envelope = Envelope::parse(&request.body).ok()?;
    let psks = book.lock().unwrap().psks.clone();
    let psk = psks.into_iter().find(|psk| envelope.is_signed_with(psk))?;
    let expected = match envelope.header.kind {
        Kind::Report => "/status/updates",
        Kind::Register => "/status/register",
        _ => return None,
    };
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", expected));
    let Header { agent, boot, tick, ref encoding, .. } = envelope.header;
    let mut book = book.lock().unwrap();
    let base = match *encoding {
        Encoding::Delta(base) => Some(&book.bases[&(agent, boot, base)]),
        _ => None,
    };
    let json = decode(encoding, envelope.payload, base).unwrap().into_owned();
    if base.is_none() {
        book.bases.insert((agent, boot, tick), Base::new(json.as_slice()));
    }
    let is_report = envelope.header.kind == Kind::Report;
    let report = is_report.then(|| Report::from_json(&json).unwrap());
    let json = serde_json::from_slice(&json).unwrap();
    Some((Received { header: envelope.header, report, json }, psk))
}

/// Asks again and again until `look` sees something.
pub(crate) fn wait_until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// An agent with a folder of its own, in which it runs; it ends with the test.
pub(crate) struct Agent {
    pub(crate) folder: TempDir,
    pub(crate) port: u16,
    settings: Vec<(String, String)>,
    child: Option<Child>,
}

impl Agent {
    /// An agent that is set up and not yet started: PSK 1 in a file, admin secret 9, fast turns.
    pub(crate) fn new(manager: &str) -> Self {
        let folder = TempDir::new().unwrap();
        write_secret(&folder.path().join("psk"), 1);
        write_secret(&folder.path().join("admin"), 9);
        let port = free_address().port();
        let mut agent = Self { folder, port, settings: Vec::new(), child: None };
        agent.set("MANAGER_URL", manager);
        agent.set("PSK_FILE", "psk");
        agent.set("ADMIN_SECRET_FILE", "admin");
        agent.set("AGENT_LISTEN", &format!("127.0.0.1:{port}"));
        agent.set("REPORT_INTERVAL", "1");
        agent.set("LOG_LEVEL", "debug");
        agent
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.settings.retain(|(set, _)| set != name);
        self.settings.push((name.to_owned(), value.to_owned()));
    }

    pub(crate) fn start(mut self) -> Self {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log_path()).unwrap();
        self.child = Some(self.command(&[]).stderr(log).spawn().unwrap());
        self
    }

    /// The agent's program with these arguments, in its folder and with its settings.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_agent"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(self.settings.iter().cloned())
            .stdin(Stdio::null());
        command
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap()
    }

    /// The id in its file.
    pub(crate) fn id_on_disk(&self) -> String {
        let text = fs::read_to_string(self.folder.path().join("agent_id.txt")).unwrap();
        text.lines().next().unwrap().to_owned()
    }

    /// Replaces its PSK by another.
    pub(crate) fn rotate_psk(&self, number: u8) {
        write_secret(&self.folder.path().join("psk"), number);
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// What it says of itself, as soon as it listens.
    pub(crate) fn peer(&self) -> Peer {
        let body = wait_until("the agent's endpoint", || {
            Client::new().get(&self.url("/status/peer"), PATIENCE).ok()
        });
        assert_eq!(body.0, 200);
        serde_json::from_slice(&body.1).unwrap()
    }

    /// Sends raw bytes to it; the whole answer.
    pub(crate) fn raw(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Sends SIGTERM and waits for the end; how it ended and how long that took.
    pub(crate) fn terminate(&mut self) -> (ExitStatus, Duration) {
        let mut child = self.child.take().expect("it was started");
        let start = Instant::now();
        kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        let status = wait_until("the agent's end", || child.try_wait().unwrap());
        (status, start.elapsed())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        if thread::panicking() {
            eprintln!("--- the agent's log:\n{}", fs::read_to_string(self.log_path()).unwrap_or_default());
        }
    }
}

fn write_secret(path: &Path, number: u8) {
    let new = path.with_extension("new");
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new).unwrap();
    file.write_all(secret(number).expose().as_bytes()).unwrap();
    fs::rename(new, path).unwrap();
}
