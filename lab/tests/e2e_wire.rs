//! What reports cost on the wire, and that differences hold when the manager lost what they are to.
#![expect(clippy::unwrap_used, reason = "the helpers, too, are tests")]

mod e2e;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use e2e::{Manager, PSK, agent, ready};
use lab::{Host, Launch, MESH, Plan, until};
use proto::envelope::{Encoding, Envelope};
use proto::sign::Kind;

/// For what takes many turns, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(240);
/// Turns that are measured.
const TURNS: usize = 100;
/// Bytes of TCP payload a day and agent, both directions together.
const DAY: usize = 2_000_000;
/// Reports a day at 30 s, and whole ones among them.
const REPORTS: usize = 2880;
const WHOLE: usize = 24;

/// Between an agent and its manager: passes on whole exchanges and keeps what kind of message each
/// was and how many bytes both ways.
#[derive(Clone, Default)]
struct Tap(Arc<Mutex<Vec<(Kind, Encoding, usize)>>>);

impl Tap {
    fn start(host: &Host, listen: SocketAddr, to: SocketAddr) -> Self {
        let tap = Self::default();
        let listener = host.inside(|| TcpListener::bind(listen)).unwrap().unwrap();
        let (door, kept) = (host.door().unwrap(), tap.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(client) = stream else { continue };
                let server = door.inside(|| TcpStream::connect(to)).unwrap();
                // Who breaks off was not measured.
                if let Ok(server) = server {
                    let _ = kept.pass(client, server);
                }
            }
        });
        tap
    }

    fn pass(&self, mut client: TcpStream, mut server: TcpStream) -> std::io::Result<()> {
        for stream in [&client, &server] {
            stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        }
        let request = request(&mut client)?;
        server.write_all(&request)?;
        let mut answer = Vec::new();
        server.read_to_end(&mut answer)?;
        client.write_all(&answer)?;
        let body = request.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        let header = Envelope::parse(&request[body..]).unwrap().header;
        self.0.lock().unwrap().push((header.kind, header.encoding, request.len() + answer.len()));
        Ok(())
    }

    /// Bytes of reports whole, and as differences.
    fn reports(&self) -> (Vec<usize>, Vec<usize>) {
        let all = self.0.lock().unwrap();
        let reports = all.iter().filter(|(kind, ..)| *kind == Kind::Report);
        let (delta, whole): (Vec<_>, Vec<_>) =
            reports.partition(|(_, encoding, _)| matches!(encoding, Encoding::Delta(_)));
        let bytes =
            |exchanges: Vec<&(Kind, Encoding, usize)>| exchanges.iter().map(|(.., bytes)| *bytes).collect();
        (bytes(whole), bytes(delta))
    }
}

/// A whole request, as its head says.
fn request(client: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|end| end + 4);
        if let Some(end) = end {
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            if bytes.len() >= end + length.trim().parse::<usize>().unwrap() {
                return Ok(bytes);
            }
        }
        match client.read(&mut piece)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            len => bytes.extend_from_slice(&piece[..len]),
        }
    }
}

#[test]
fn an_agent_whose_counters_alone_change_stays_within_its_day() {
    if !ready(MESH) {
        return;
    }
    let hosts = ["hub", "a"];
    let mesh = Plan::new("wire")
        .lan("l", "10.1.0.0/24")
        .attach("hub", "l", "10.1.0.1")
        .attach("a", "l", "10.1.0.11")
        .line("t", "10.50.0.0/24", &hosts)
        .line("u", "10.51.0.0/24", &hosts)
        .up()
        .unwrap();
    mesh.wait_handshakes(PATIENCE).unwrap();
    let (hub, host) = (mesh.host("hub"), mesh.host("a"));
    // Six interfaces, two of them tunnels with ten peers, and twenty routes.
    host.sh(
        "set -e
        for n in 0 1; do ip tuntap add d$n mode tap; ip addr add 10.6$n.0.1/24 dev d$n; ip link set d$n up; done
        set -- $(wg show interfaces)
        for n in 1 2 3 4 5; do
          wg set $1 peer $(wg genkey | wg pubkey) allowed-ips 10.7.$n.0/24; ip route add 10.7.$n.0/24 dev $1; done
        for n in 1 2 3; do
          wg set $2 peer $(wg genkey | wg pubkey) allowed-ips 10.8.$n.0/24; ip route add 10.8.$n.0/24 dev $2; done
        for n in 1 2 3 4 5 6 7; do ip route add 10.9.$n.0/24 via 10.1.0.1; done",
    )
    .unwrap();
    let manager = Manager::start(hub, &[("PSK", PSK)]);
    let tap = Tap::start(hub, "10.1.0.1:5999".parse().unwrap(), manager.address());
    let settings = [("PSK", PSK), ("REPORT_INTERVAL", "1")];
    let reporter = host.spawn(&agent(host, "http://10.1.0.1:5999", &settings)).unwrap();
    // 30 s of a busy link in every turn.
    let traffic =
        |address| host.spawn(&Launch::new("ping").args(["-q", "-i", "0.01", "-s", "1200", address])).unwrap();
    let _busy = ["10.50.0.1", "10.51.0.1"].map(traffic);
    let enough = || tap.reports().1.len() >= TURNS;
    assert!(until(PATIENCE, enough), "{:?}\n{}", tap.reports(), reporter.log());
    let (whole, delta) = tap.reports();
    let id = manager.agent("a").unwrap()["id"].as_str().unwrap().to_owned();
    let system = manager.get(&format!("/status/agents/{id}")).1["report"]["system"].clone();
    let count = |name: &str| system[name].as_u64().unwrap();
    let shape = (count("interfaces_total"), count("routes_total"), count("peers_total"));
    assert!(shape.0 >= 6 && shape.1 >= 20 && shape.2 >= 10, "{shape:?}");
    assert!(whole.len() <= 5, "{} of {} reports were whole: {whole:?}", whole.len(), delta.len());
    let mean = delta.iter().sum::<usize>() / delta.len();
    let day = mean * REPORTS + whole.iter().max().unwrap() * WHOLE;
    eprintln!(
        "{shape:?} interfaces, routes, peers: {mean} B a report and answer, {} B a whole one, {day} B a day",
        whole[0]
    );
    assert!(day <= DAY, "{day} B a day: {mean} B a report, whole ones {whole:?}");
    manager.database().assert_gapless();
}

#[test]
fn a_manager_that_lost_its_database_asks_for_whole_reports_directly_and_through_a_relay() {
    if !ready(MESH) {
        return;
    }
    let mesh = Plan::new("lost")
        .lan("office", "10.0.0.0/24")
        .attach("m", "office", "10.0.0.1")
        .attach("a", "office", "10.0.0.2")
        .lan("lan", "10.1.0.0/24")
        .attach("a", "lan", "10.1.0.1")
        .attach("b", "lan", "10.1.0.2")
        .line("t", "10.50.0.0/24", &["a", "b"])
        .up()
        .unwrap();
    mesh.wait_handshakes(PATIENCE).unwrap();
    let mut manager = Manager::start(mesh.host("m"), &[("PSK", PSK)]);
    let settings = [("PSK", PSK), ("REPORT_INTERVAL", "1")];
    let url = "http://10.0.0.1:5086";
    let agents =
        ["a", "b"].map(|name| mesh.host(name).spawn(&agent(mesh.host(name), url, &settings)).unwrap());
    let logs = || agents.iter().map(lab::Proc::log).collect::<Vec<_>>().join("\n");
    // Per agent, whole reports and differences, and the last tick.
    let stored = |manager: &Manager<'_>| {
        let database = manager.database();
        let mut rows = database
            .0
            .prepare(
                "SELECT a.hostname, sum(r.base IS NULL), sum(r.base IS NOT NULL), min(tick), max(tick)
                 FROM reports r JOIN agents a ON a.no = r.agent GROUP BY 1",
            )
            .unwrap();
        let row =
            |row: &rusqlite::Row<'_>| Ok((row.get(0)?, [row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?]));
        rows.query_map([], row).unwrap().collect::<Result<BTreeMap<String, [i64; 4]>, _>>().unwrap()
    };
    let flows = |manager: &Manager<'_>| {
        let stored = stored(manager);
        ["a", "b"]
            .iter()
            .all(|name| stored.get(*name).is_some_and(|&[whole, deltas, ..]| whole > 0 && deltas > 3))
    };
    assert!(until(PATIENCE, || flows(&manager)), "{:?}\n{}", stored(&manager), logs());
    assert_eq!(manager.agent("b").unwrap()["path"].as_array().unwrap().len(), 1, "b reports through a");

    manager.process.term().unwrap();
    manager.process.wait(PATIENCE).unwrap();
    let before = stored(&manager);
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(manager.host.dir().join(format!("kattila_manager.db{suffix}")));
    }
    manager.restart();
    assert!(until(PATIENCE, || flows(&manager)), "{:?}\n{}", stored(&manager), logs());
    let settled = || manager.agents().iter().all(|agent| agent["spooled"] == 0);
    assert!(until(PATIENCE, settled), "{:#?}", manager.agents());
    for (name, [whole, deltas, first, last]) in stored(&manager) {
        let [.., lost] = before[&name];
        assert!(first <= lost + 1, "{name}: reports {lost} to {first} are lost");
        assert_eq!(whole + deltas, last - first + 1, "{name}: all from {first} to {last}, each once");
    }
    let health = manager.health();
    assert!(health["refused"]["need_full"].as_i64().unwrap() >= 2, "{health:#}");
}
