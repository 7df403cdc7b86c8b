//! Every hazard of reliability that the gate is built against, and garbage, against the real agent
//! and the real manager: honest requests are answered during and after, and memory stays bounded.
#![expect(clippy::unwrap_used, reason = "the helpers, too, are tests")]

#[path = "../../gate/tests/attacks/mod.rs"]
mod attacks;
mod e2e;

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use attacks::{
    Outcome, Probe, ambiguous_framing, besieged, connect_and_reset, declared_length, endless_chunk_size,
    endless_pipelining, exchange, get_probe, http2_preface, huge_header_line, idle_connections,
    malformed_heads, many_bodies, receive, slow_bodies, slowloris, status_of, tiny_headers, unread_answers,
};
use e2e::actor::{Actor, post};
use e2e::{Manager, PSK, SOON, agent, ready, secret_file};
use lab::{Host, Launch, MESH, Mesh, Plan, Proc, bin, until, wait_for};
use proto::ack::Code;
use proto::envelope::Envelope;
use proto::ids::{AgentId, BootId, Nonce};
use proto::sign::Kind;

/// Slowest honest answer allowed, on a loaded machine; usual are a few milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// Messages of random content sent to each daemon.
const RANDOM: usize = 10_000;

/// Attacks take the whole machine: one daemon at a time.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A hub and an agent with a tunnel between them, and a stranger on the same LAN.
fn mesh() -> Mesh {
    Plan::new("hostile")
        .lan("l", "10.1.0.0/24")
        .attach("hub", "l", "10.1.0.1 fd00:1::1/64")
        .attach("node", "l", "10.1.0.2 fd00:1::2/64")
        .attach("stranger", "l", "10.1.0.3 fd00:1::3/64")
        .full_mesh("wg0", "10.77.0.0/24", &["hub", "node"])
        .up()
        .unwrap()
}

/// A daemon under attack.
struct Victim<'a> {
    host: &'a Host,
    process: &'a Proc,
    port: u16,
    /// Where it takes a body.
    post: &'static str,
    /// The most memory it may have taken, in MiB: a debug build at rest, its buffers, its threads.
    mib: u64,
    /// The most connections that it holds.
    connections: usize,
    /// Times that an honest client asks before it gives up. With all slots in work, a newcomer is
    /// turned away at once, whoever it is; the agent has only 64.
    tries: usize,
}

impl Victim<'_> {
    /// Runs one attack inside the victim's host, from its own LAN address, which may ask. The honest
    /// requests come from another one, 127.0.0.1: at the connection cap the busiest source pays.
    fn survives(&self, attack: impl FnOnce(SocketAddr, Probe<'_>) -> Outcome + Send) {
        let to = SocketAddr::new(self.host.address(), self.port);
        let honest = SocketAddr::new([127, 0, 0, 1].into(), self.port);
        let start = Instant::now();
        let ask = get_probe(honest, "/status/healthcheck");
        let patient = || (1..self.tries).find_map(|_| ask().ok()).map_or_else(&ask, Ok);
        let outcome = self.host.inside(|| attack(to, &patient)).unwrap();
        outcome.assert_served_within(PATIENCE);
        let peak = self.process.peak_rss_kb();
        eprintln!(
            "  {} on {}: peak {peak} KiB, {:?}",
            self.process.name(),
            self.host.name(),
            start.elapsed()
        );
        assert!(self.process.is_running());
        assert!(
            peak > 0 && peak < self.mib << 10,
            "{}: {peak} KiB after {}",
            self.process.name(),
            outcome.attack
        );
    }

    /// The hazard table, each row once.
    fn survives_all(&self) {
        let before = self.descriptors();
        let second = Duration::from_secs(1);
        self.survives(|to, probe| declared_length(to, self.post, probe));
        self.survives(|to, probe| idle_connections(to, self.connections + 300, second, probe));
        self.survives(|to, probe| http2_preface(to, 100, probe));
        self.survives(|to, probe| connect_and_reset(to, "/status/healthcheck", 3000, probe));
        self.survives(|to, probe| huge_header_line(to, 200 << 20, probe));
        self.survives(|to, probe| tiny_headers(to, 50 << 20, probe));
        self.survives(|to, probe| endless_pipelining(to, "/status/healthcheck", second, probe));
        self.survives(|to, probe| slow_bodies(to, self.post, 60, second, probe));
        self.survives(|to, probe| many_bodies(to, self.post, 600, 64 << 10, probe));
        self.survives(|to, probe| ambiguous_framing(to, self.post, probe));
        self.survives(|to, probe| malformed_heads(to, self.post, probe));
        self.survives(|to, probe| endless_chunk_size(to, self.post, 20 << 20, probe));
        self.survives(|to, probe| slowloris(to, 2000, 2 * second, probe));
        self.survives(|to, probe| keep_alive_bursts(to, self.connections, probe));
        self.survives(|to, probe| garbage(to, self.post, probe));
        let back = until(SOON, || self.descriptors() <= before + 2);
        assert!(back, "{} descriptors, {before} before", self.descriptors());
    }

    fn descriptors(&self) -> usize {
        attacks::descriptors(u32::try_from(self.process.pid()).unwrap())
    }
}

/// Bursts of clients that leave their connections open: as many as there may be.
fn keep_alive_bursts(to: SocketAddr, connections: usize, probe: Probe<'_>) -> Outcome {
    besieged("keep-alive bursts", probe, || {
        let request = "GET /status/healthcheck HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n";
        for count in [8, 20, 100].map(|count: usize| count.min(connections * 3 / 4)) {
            let mut streams: Vec<_> = (0..count).map(|_| attacks::connect(to).unwrap()).collect();
            for stream in &mut streams {
                std::io::Write::write_all(stream, request.as_bytes()).unwrap();
            }
            for (n, stream) in streams.iter_mut().enumerate() {
                let answer = receive(stream).unwrap_or_else(|error| panic!("{n} of {count}: {error}"));
                assert_eq!(status_of(&answer), 200, "{n} of {count}: {answer}");
            }
        }
        "all answered".to_owned()
    })
}

/// What comes by at any open port: other protocols, and noise.
fn garbage(to: SocketAddr, path: &str, probe: Probe<'_>) -> Outcome {
    besieged("garbage", probe, || {
        let mut random = Random(1);
        let tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03random and so on\x00\x00\x20\x13\x02";
        let named: [&[u8]; 6] = [
            tls,
            b"SSH-2.0-OpenSSH_9.2p1\r\n",
            b"\x00",
            b"\r\n\r\n\r\n\r\n",
            b"GET /status/healthcheck\r\n",
            b"\xff\xf4\xff\xfd\x06",
        ];
        let mut answers = 0;
        let noise = (0..300).map(|n| random.bytes(1 + n * 7));
        for bytes in named.iter().map(|bytes| bytes.to_vec()).chain(noise) {
            // Closed with unread bytes it may be a reset.
            let Ok(answer) = exchange(to, &bytes) else { continue };
            assert!(!answer.starts_with("HTTP/1.1 2"), "{bytes:?} got {answer}");
            answers += usize::from(status_of(&answer) != 0);
        }
        assert!(answers > 0, "not one refusal in words");
        // Noise where a message belongs.
        for n in 0..200 {
            let (status, _) = post(to, path, &random.bytes(n * 11)).unwrap();
            assert!(matches!(status, 400 | 401 | 403 | 503), "{status} for noise");
        }
        format!("{answers} refusals in words")
    })
}

#[test]
fn the_manager_stands_every_hazard() {
    if !ready(MESH) {
        return;
    }
    let _turn = alone();
    let mesh = mesh();
    let admin = secret_file(mesh.dir().join("admin"), "an admin secret, never the PSK");
    let settings = [("PSK", PSK), ("ADMIN_SECRET_FILE", admin.to_str().unwrap())];
    let manager = Manager::start(mesh.host("hub"), &settings);
    let node = mesh.host("node");
    let _agent = node.spawn(&agent(node, &manager.url(), &[("PSK", PSK)])).unwrap();
    manager.wait_agent("node", "a report", |agent| agent["presence"] == "online");
    let victim = Victim {
        host: manager.host,
        process: &manager.process,
        port: 5086,
        post: "/status/updates",
        mib: 128,
        connections: 1024,
        tries: 1,
    };
    victim.survives_all();

    // Answers that nobody reads: the largest there are, a full report.
    let large = Actor { interfaces: 250, ..Actor::new("large", PSK) };
    let sent = manager.host.inside(|| large.send(manager.address(), &large.report(1))).unwrap().unwrap();
    assert_eq!(sent.1.code, Code::Stored);
    let path: &'static str = format!("/status/agents/{}", large.agent).leak();
    victim.survives(|to, probe| unread_answers(to, path, 200, Duration::from_secs(1), probe));

    // Well-framed messages of random content, some of them almost right.
    let log = manager.process.log().len();
    victim.survives(|to, probe| {
        random_messages(to, probe, &["/status/updates", "/status/register", "/status/admin/reset"])
    });
    let refused = &manager.health()["refused"];
    let count = |reason: &str| refused[reason].as_u64().unwrap_or(0);
    assert!(
        count("bad_mac") > 1000 && count("bad_envelope") > 1000 && count("wrong_kind") > 100,
        "{refused}"
    );
    let grown = manager.process.log().len() - log;
    assert!(grown < 64 << 10, "the log grew by {grown} bytes");
    let (agents, reports) = (manager.database().count("agents"), manager.database().count("reports"));
    assert_eq!(agents, 2, "nobody else came to be");

    // All that time the agent's reports were stored: none is missing.
    manager
        .wait_agent("node", "reports go on", |agent| agent["presence"] == "online" && agent["dropped"] == 0);
    let more = || manager.database().count("reports") > reports;
    assert!(until(SOON, more), "reports go on");
    manager.database().assert_gapless();
    manager.database().assert_sound();
}

#[test]
fn the_agent_stands_every_hazard() {
    if !ready(MESH) {
        return;
    }
    let _turn = alone();
    let mesh = mesh();
    let manager = Manager::start(mesh.host("hub"), &[("PSK", PSK)]);
    let node = mesh.host("node");
    let admin = secret_file(mesh.dir().join("admin"), "an admin secret, never the PSK");
    let settings = [("PSK", PSK), ("ADMIN_SECRET_FILE", admin.to_str().unwrap())];
    let process = node.spawn(&agent(node, &manager.url(), &settings)).unwrap();
    let id = manager.wait_agent("node", "a report", |agent| agent["presence"] == "online")["id"].clone();
    let victim = Victim {
        host: node,
        process: &process,
        port: 5087,
        post: "/status/relay",
        mib: 64,
        connections: 64,
        tries: 5,
    };
    victim.survives_all();
    victim.survives(|to, probe| unread_answers(to, "/status/peer", 60, Duration::from_secs(1), probe));
    let log = process.log().len();
    victim.survives(|to, probe| random_messages(to, probe, &["/status/relay", "/status/reset"]));
    let grown = process.log().len() - log;
    assert!(grown < 64 << 10, "the log grew by {grown} bytes");

    // It is the same agent, and its reports went on all the time.
    let reports = manager.database().count("reports");
    assert!(until(SOON, || manager.database().count("reports") > reports), "reports go on");
    assert_eq!(manager.agent("node").unwrap()["id"], id);
    assert_eq!(manager.agent("node").unwrap()["dropped"], 0);
    manager.database().assert_gapless();
}

/// With hardly any descriptors: EMFILE itself is near.
#[test]
fn both_serve_with_few_descriptors() {
    if !ready(MESH) {
        return;
    }
    let _turn = alone();
    let mesh = mesh();
    let mut running = Vec::new();
    for (name, port) in [("manager", 5086_u16), ("agent", 5087)] {
        let host = mesh.host(if name == "manager" { "hub" } else { "node" });
        let launch = Launch::new("sh")
            .args(["-c", r#"ulimit -n 96 && exec "$0""#])
            .arg(bin(name).unwrap())
            .env("PSK", PSK)
            .env("MANAGER_URL", format!("http://{}:5086", mesh.host("hub").address()));
        let process = host.spawn(&launch).unwrap();
        let url = format!("http://127.0.0.1:{port}/status/healthcheck");
        wait_for("an answer", SOON, || host.http_get(&url).ok())
            .unwrap_or_else(|_| panic!("{}", process.log()));
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.pid())).unwrap();
        assert!(
            limits.lines().any(|line| line.starts_with("Max open files") && line.contains(" 96 ")),
            "{limits}"
        );
        let victim = Victim { host, process: &process, port, post: "/", mib: 96, connections: 32, tries: 1 };
        victim.survives(|to, probe| idle_connections(to, 400, Duration::from_secs(2), probe));
        victim.survives(|to, probe| slowloris(to, 400, Duration::from_secs(1), probe));
        if name == "agent" {
            // It also needs some for its own reports.
            let wanted = || process.log().contains("first report delivered") || !process.is_running();
            assert!(until(SOON, wanted), "{}", process.log());
            assert!(process.is_running());
        }
        // The manager stays for the agent's reports.
        running.push(process);
    }
}

#[test]
fn the_agent_answers_the_mesh_and_nobody_else() {
    if !ready(MESH) {
        return;
    }
    let mesh = mesh();
    mesh.wait_handshakes(SOON).unwrap();
    let (hub, node, stranger) = (mesh.host("hub"), mesh.host("node"), mesh.host("stranger"));
    let manager = Manager::start(hub, &[("PSK", PSK)]);
    let process = node.spawn(&agent(node, &manager.url(), &[("PSK", PSK)])).unwrap();
    manager.wait_agent("node", "a report", |agent| agent["presence"] == "online");
    let asked = |from: &Host, to: &str| {
        from.http_get(&format!("http://{to}:5087/status/peer"))
            .map(|answer| (answer.status, answer.text()))
            .unwrap()
    };
    for to in ["127.0.0.1", "[::1]", "10.77.0.2", "10.1.0.2"] {
        let (status, body) = asked(node, to);
        assert_eq!(status, 200, "the node itself at {to}: {body}");
    }
    let (status, body) = asked(hub, "10.77.0.2");
    assert_eq!(status, 200, "through the tunnel: {body}");
    assert!(body.contains("\"hostname\":\"node\""), "{body}");
    for (from, to) in
        [(stranger, "10.1.0.2"), (stranger, "[fd00:1::2]"), (hub, "10.1.0.2"), (hub, "[fd00:1::2]")]
    {
        let (status, body) = asked(from, to);
        assert_eq!(status, 403, "{} by the LAN at {to}: {body}", from.name());
        assert!(body.contains("\"code\":\"forbidden_address\"") && !body.contains("hostname"), "{body}");
    }
    // Also what changes something, and what a stranger claims to be makes no difference.
    let sent =
        stranger.http("POST", "http://10.1.0.2:5087/status/reset", &[("X-Forwarded-For", "127.0.0.1")], b"x");
    assert_eq!(sent.unwrap().status, 403);
    // Where the settings allow the LAN, it is answered.
    process.term().unwrap();
    process.wait(SOON).unwrap();
    let open = agent(node, &manager.url(), &[("PSK", PSK), ("AGENT_ALLOW", "10.1.0.3/32")]);
    let _open = node.spawn(&open).unwrap();
    let answered =
        || stranger.http_get("http://10.1.0.2:5087/status/peer").is_ok_and(|answer| answer.status == 200);
    assert!(until(SOON, answered));
    assert_eq!(asked(hub, "10.1.0.2").0, 403);

    // The manager takes reports from anywhere and shows them to its host and through its WireGuard.
    let shown = |from: &Host, to: &str| {
        let answer = from.http_get(&format!("http://{to}:5086/status/agents")).unwrap();
        (answer.status, String::from_utf8_lossy(&answer.body).into_owned())
    };
    for (from, to) in [(hub, "127.0.0.1"), (hub, "10.1.0.1"), (node, "10.77.0.1")] {
        let (status, body) = shown(from, to);
        assert_eq!(status, 200, "{} at {to}: {body}", from.name());
    }
    for from in [stranger, node] {
        let (status, body) = shown(from, "10.1.0.1");
        assert_eq!(status, 403, "{} by the LAN: {body}", from.name());
        assert!(body.contains("\"code\":\"forbidden\"") && body.contains("READ_TOKEN_FILE"), "{body}");
    }
}

/// Messages with sound framing: headers of random fields, bits flipped in sound ones, halves of them.
fn random_messages(to: SocketAddr, probe: Probe<'_>, paths: &[&str]) -> Outcome {
    besieged("random messages", probe, || {
        let actor = Actor::new("stranger", "not a PSK of this fleet");
        let statuses = Mutex::new(std::collections::BTreeMap::<u16, usize>::new());
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let (actor, statuses) = (&actor, &statuses);
                scope.spawn(move || {
                    let mut random = Random(thread + 2);
                    for n in 0..RANDOM / 4 {
                        let message = random.message(actor, n);
                        let path = paths[n % paths.len()];
                        let (status, body) = post(to, path, &message).unwrap_or_else(|error| {
                            panic!("{path}: {error}: {:?}", String::from_utf8_lossy(&message))
                        });
                        assert!(
                            matches!(status, 400 | 401 | 503),
                            "{path}: {status} {}",
                            String::from_utf8_lossy(&body)
                        );
                        *statuses.lock().unwrap().entry(status).or_default() += 1;
                    }
                });
            }
        });
        format!("{:?}", statuses.into_inner().unwrap())
    })
}

/// A generator that is the same in every run (xorshift64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // Zero would stay zero; the seeds are small, so they are spread first.
        if self.0 < 1 << 32 {
            self.0 = (self.0 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).unwrap()).unwrap()
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next().to_le_bytes()[3]).collect()
    }

    fn id(&mut self) -> [u8; 16] {
        self.bytes(16).try_into().unwrap()
    }

    fn message(&mut self, actor: &Actor, n: usize) -> Vec<u8> {
        let kinds = [Kind::Report, Kind::Register, Kind::Reset];
        let stranger = Actor { agent: AgentId(self.id()), boot: BootId(self.id()), ..actor.clone() };
        let length = self.below(2000);
        let json = self.bytes(length);
        let mut bytes = stranger.draft(kinds[n / 7 % 3], self.next(), &json, e2e::now_ms()).bytes;
        match n % 4 {
            // Sound, but signed with a PSK that nobody knows.
            0 => {
                assert!(Envelope::parse(&bytes).is_ok());
                bytes
            }
            // Flipped bits anywhere.
            1 => {
                for _ in 0..=self.below(8) {
                    let at = self.below(bytes.len());
                    bytes[at] ^= 1 << self.below(8);
                }
                bytes
            }
            // Broken off.
            2 => {
                bytes.truncate(self.below(bytes.len()));
                bytes
            }
            // A header line with wrong things in some of its fields.
            _ => {
                let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
                let line = String::from_utf8(line.to_vec()).unwrap();
                let mut fields: Vec<&str> = line.split(' ').collect();
                let values =
                    ["", "-1", "1e999", "k2", "delta.", "delta.7", "18446744073709551616", "AAAA", "a.b.c"];
                for _ in 0..=self.below(3) {
                    let at = self.below(fields.len());
                    fields[at] = values[self.below(values.len())];
                }
                format!("{}\n{}", fields.join(" "), Nonce(self.id())).into_bytes()
            }
        }
    }
}
