//! The lab tested on itself: what it builds is there, and nothing of it stays.
#![expect(clippy::unwrap_used, reason = "the helpers, too, are tests")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lab::{Device, Dns, End, Host, KeyPair, Launch, MESH, Mesh, Plan, Tunnel, require, until};
use nix::sys::signal::Signal;

const SOON: Duration = Duration::from_secs(10);

/// a and b on one LAN; c, d and e on another; a router between them.
fn two_lans() -> Plan {
    Plan::new("five")
        .lan("lan1", "10.1.0.0/24")
        .lan("lan2", "10.2.0.0/24")
        .attach("router", "lan1", "10.1.0.1")
        .attach("router", "lan2", "10.2.0.1")
        .router("router")
        .attach("a", "lan1", "10.1.0.2")
        .attach("b", "lan1", "10.1.0.3 fd00:1::3/64")
        .attach("c", "lan2", "10.2.0.2")
        .attach("d", "lan2", "10.2.0.3")
        .attach("e", "lan2", "10.2.0.4")
        .gateway("a", "10.1.0.1")
        .gateway("b", "10.1.0.1")
        .gateway("c", "10.2.0.1")
        .gateway("d", "10.2.0.1")
        .gateway("e", "10.2.0.1")
}

const FIVE: [&str; 5] = ["a", "b", "c", "d", "e"];

#[test]
fn a_full_mesh_of_five_hosts_comes_up_and_goes() {
    if !require(MESH) {
        return;
    }
    let start = Instant::now();
    let mesh = two_lans().full_mesh("wg0", "10.77.0.0/24", &FIVE).up().unwrap();
    let up = start.elapsed();
    mesh.wait_handshakes(SOON).unwrap();
    eprintln!("up after {up:?}, handshakes after {:?}", start.elapsed());

    assert_eq!(mesh.tunnels().len(), 10);
    for host in FIVE.map(|name| mesh.host(name)) {
        assert_eq!(host.run(&["hostname"]).unwrap().trim(), host.name());
        assert_eq!(host.run(&["cat", "/etc/hostname"]).unwrap().trim(), host.name());
        for n in 1..=5 {
            assert!(host.ping(&format!("10.77.0.{n}"), SOON), "{} to 10.77.0.{n}", host.name());
        }
        let dump = host.run(&["wg", "show", "all", "dump"]).unwrap();
        let rows: Vec<Vec<&str>> = dump.lines().map(|line| line.split('\t').collect()).collect();
        let peers: Vec<_> = rows.iter().filter(|row| row.len() == 9).collect();
        assert_eq!((rows.len(), peers.len()), (5, 4), "{dump}");
        for peer in peers {
            assert_ne!(peer[5], "0", "no handshake: {}", host.name());
            assert_ne!((peer[6], peer[7]), ("0", "0"), "no traffic: {}", host.name());
        }
        // Its own sysfs: its interfaces and no others.
        let links = host.run(&["ls", "/sys/class/net"]).unwrap();
        assert_eq!(links.split_whitespace().collect::<Vec<_>>(), ["eth0", "lo", "wg0"]);
    }
    assert!(mesh.host("a").ping("10.2.0.4", SOON), "the router forwards");
    assert_ne!(
        mesh.host("a").run(&["cat", "/etc/machine-id"]).unwrap(),
        mesh.host("b").run(&["cat", "/etc/machine-id"]).unwrap()
    );

    let networks: Vec<String> = mesh.hosts().iter().map(network).collect();
    let dir = mesh.dir().to_owned();
    let processes = processes_in(&networks);
    assert!(processes.iter().filter(|row| row.ends_with(" wireguard-go")).count() == 5, "{processes:?}");
    drop(mesh);
    assert_eq!(remaining(&processes), Vec::<String>::new());
    assert!(!dir.exists());
}

#[test]
fn nothing_stays_when_the_process_is_killed() {
    if !require(MESH) {
        return;
    }
    let mut child = Command::new(env!("CARGO_BIN_EXE_lab"))
        .arg("mesh")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    // "NAME PID FOLDER" of each host, then an empty line.
    let rows: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    assert_eq!(rows.len(), 6, "{rows:?}");
    let words = |row: &String| row.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let networks: Vec<String> = rows.iter().map(|row| network_of(words(row)[1].parse().unwrap())).collect();
    let folder = words(&rows[0])[2].clone();
    let processes = processes_in(&networks);
    assert!(processes.len() > 10, "{processes:?}");
    assert!(std::path::Path::new(&folder).exists());

    child.kill().unwrap();
    child.wait().unwrap();
    assert!(until(SOON, || remaining(&processes).is_empty()), "{:?}", remaining(&processes));
    assert!(until(SOON, || !std::path::Path::new(&folder).exists()), "{folder} stayed");
}

#[test]
fn a_panic_takes_the_mesh_down() {
    if !require(MESH) {
        return;
    }
    let (send, receive) = std::sync::mpsc::channel();
    let test = std::thread::spawn(move || {
        let mesh = Plan::new("panic").lan("l", "10.1.0.0/24").attach("a", "l", "10.1.0.1").up().unwrap();
        let sleeper = mesh.host("a").spawn(&Launch::new("sleep").arg("600")).unwrap();
        let processes = processes_in(&[network(mesh.host("a"))]);
        send.send((processes, sleeper.pid())).unwrap();
        panic!("on purpose");
    });
    let (processes, pid) = receive.recv().unwrap();
    assert!(test.join().is_err());
    assert!(processes.iter().any(|row| row.starts_with(&format!("{pid} "))), "{processes:?}");
    assert_eq!(remaining(&processes), Vec::<String>::new());
}

#[test]
fn two_homes_behind_nat_reach_a_hub() {
    if !require(MESH) {
        return;
    }
    let mesh = Plan::new("nat")
        .lan("internet", "192.0.2.0/24")
        .lan("home1", "192.168.1.0/24")
        .lan("home2", "192.168.1.0/24")
        .attach("hub", "internet", "192.0.2.1")
        .attach("box1", "internet", "192.0.2.11")
        .attach("box1", "home1", "192.168.1.1")
        .nat("box1", "eth0")
        .attach("box2", "internet", "192.0.2.12")
        .attach("box2", "home2", "192.168.1.1")
        .nat("box2", "eth0")
        .attach("x", "home1", "192.168.1.2")
        .gateway("x", "192.168.1.1")
        .attach("y", "home2", "192.168.1.2")
        .gateway("y", "192.168.1.1")
        .hub("wg0", "10.8.0.0/24", "hub", &["x", "y"])
        .up()
        .unwrap();
    mesh.wait_handshakes(SOON).unwrap();

    let endpoints = mesh.host("hub").run(&["wg", "show", "wg0", "endpoints"]).unwrap();
    let key = |host: &str| mesh.host(host).keys("wg0").unwrap().public;
    for (spoke, outside) in [("x", "192.0.2.11:"), ("y", "192.0.2.12:")] {
        let line = endpoints.lines().find(|line| line.starts_with(&key(spoke))).unwrap();
        assert!(line.contains(outside), "{spoke} is seen at its router: {line}");
    }
    assert!(mesh.host("x").ping("10.8.0.3", SOON), "spoke to spoke through the hub");
    assert!(!mesh.host("hub").ping("192.168.1.2", Duration::from_secs(1)), "nobody reaches in");
}

#[test]
fn cuts_cables_and_links_fail_and_come_back() {
    if !require(MESH) {
        return;
    }
    let mesh = two_lans().full_mesh("wg0", "10.77.0.0/24", &["a", "c"]).up().unwrap();
    let (a, router) = (mesh.host("a"), mesh.host("router"));
    let reaches = |expected: bool| until(SOON, || a.ping("10.2.0.2", Duration::from_secs(1)) == expected);
    assert!(reaches(true));

    a.cut("ip daddr 10.2.0.2").unwrap();
    assert!(reaches(false), "cut on the host");
    assert!(a.ping("10.2.0.3", SOON), "only that path is cut");
    a.heal().unwrap();
    assert!(reaches(true), "healed");

    router.cut_through("ip saddr 10.2.0.2").unwrap();
    assert!(reaches(false), "answers cut on the router");
    router.heal().unwrap();
    assert!(reaches(true));

    a.unplug("eth0").unwrap();
    assert!(until(SOON, || a
        .run(&["cat", "/sys/class/net/eth0/carrier"])
        .is_ok_and(|text| text.trim() == "0")));
    assert!(reaches(false), "unplugged");
    a.plug("eth0").unwrap();
    assert!(reaches(true), "plugged in");

    a.down_link("eth0").unwrap();
    assert!(reaches(false), "link down");
    a.up_link("eth0").unwrap();
    assert!(reaches(true), "link up, with its default route");

    a.down_link("wg0").unwrap();
    a.up_link("wg0").unwrap();
    assert!(a.ping("10.77.0.2", SOON), "tunnel up again");

    let before = a.run(&["cat", "/sys/class/net/wg0/ifindex"]).unwrap();
    a.restart_wireguard("wg0").unwrap();
    assert_ne!(before, a.run(&["cat", "/sys/class/net/wg0/ifindex"]).unwrap());
    assert!(a.ping("10.77.0.2", SOON), "restarted");
    mesh.wait_handshakes(SOON).unwrap();
}

#[test]
fn single_tunnels_have_the_settings_given() {
    if !require(MESH) {
        return;
    }
    let keys = KeyPair::generate().unwrap();
    let mesh = Plan::new("single")
        .lan("l", "10.1.0.0/24")
        .attach("a", "l", "10.1.0.1")
        .attach("b", "l", "10.1.0.2")
        .device(Device::new("a", "out", "10.9.0.1/32").port(40000).mtu(1280).keys(keys.clone()))
        .device(Device::new("b", "out", "10.9.0.2/32 fd00:9::2/128"))
        .tunnel(
            Tunnel::between(
                End::new("a", "out")
                    .dial_at("10.1.0.2:51820")
                    .keepalive(7)
                    .allowed("10.9.0.2/32")
                    .allowed("10.99.0.0/16"),
                End::new("b", "out"),
            )
            .psk(),
        )
        .line("t", "10.10.0.0/24", &["a", "b"])
        .up()
        .unwrap();
    mesh.wait_handshakes(SOON).unwrap();
    let (a, b) = (mesh.host("a"), mesh.host("b"));
    assert_eq!(a.keys("out").unwrap(), keys);

    let show = |host: &Host, what: &str| host.run(&["wg", "show", "out", what]).unwrap();
    assert_eq!(show(a, "listen-port").trim(), "40000");
    assert!(show(a, "peers").contains(&b.keys("out").unwrap().public));
    assert!(show(a, "allowed-ips").contains("10.9.0.2/32 10.99.0.0/16"));
    assert!(show(a, "persistent-keepalive").trim().ends_with("\t7"));
    assert!(show(b, "persistent-keepalive").trim().ends_with("\toff"));
    assert!(!show(a, "preshared-keys").contains("(none)"));
    assert_eq!(show(a, "preshared-keys").split('\t').nth(1), show(b, "preshared-keys").split('\t').nth(1));
    assert_eq!(a.run(&["cat", "/sys/class/net/out/mtu"]).unwrap().trim(), "1280");
    assert!(a.run(&["ip", "route"]).unwrap().contains("10.99.0.0/16 dev out"));
    assert!(a.run(&["wg", "show", "t0"]).unwrap().contains("allowed ips: 10.10.0.2/32"));
    // The second device of each host found a free port.
    assert_eq!(b.run(&["wg", "show", "t0", "listen-port"]).unwrap().trim(), "51821");
}

#[test]
fn processes_are_watched_and_ended() {
    if !require(MESH) {
        return;
    }
    let mesh = Plan::new("proc").lan("l", "10.1.0.0/24").attach("a", "l", "10.1.0.1").up().unwrap();
    let a = mesh.host("a");

    let script = r#"trap 'echo stopping; exit 7' TERM; echo "$GREETING in $PWD, $# words"; while :; do sleep 0.1; done"#;
    let launch = Launch::new("sh")
        .args(["-c", script, "sh", "one", "two"])
        .env("GREETING", "hello")
        .cwd(a.dir().join("work"));
    let process = a.spawn(&launch).unwrap();
    process.wait_log(&format!("hello in {}, 2 words", a.dir().join("work").display()), SOON).unwrap();
    assert!(process.is_running());
    assert!(process.rss_kb() > 100 && process.peak_rss_kb() >= process.rss_kb(), "{}", process.rss_kb());
    // It is what its number says, inside this host's network.
    assert_eq!(network_of(process.pid()), network(a));

    process.signal(Signal::SIGSTOP).unwrap();
    process.signal(Signal::SIGCONT).unwrap();
    process.term().unwrap();
    assert_eq!(process.wait(SOON).unwrap().code(), Some(7));
    assert!(process.log().ends_with("stopping\n"));
    assert!(process.term().is_err());

    let busy = a
        .spawn(&Launch::new("sh").args(["-c", "while :; do :; done"]).log(a.dir().join("busy.log")))
        .unwrap();
    assert!(until(SOON, || busy.cpu_ticks() > 5));
    busy.signal(Signal::SIGSTOP).unwrap();
    busy.kill9().unwrap();
    assert!(!busy.is_running());

    let error = a.run(&["sh", "-c", "echo broken >&2; exit 3"]).unwrap_err().to_string();
    assert!(
        error.contains("a: `sh -c") && error.contains("exit status: 3") && error.ends_with("broken"),
        "{error}"
    );
    let error = a.output(&["sleep", "60"], Duration::from_millis(200)).unwrap_err().to_string();
    assert!(error.contains("did not end"), "{error}");
    let left = processes_in(&[network(a)]);
    assert!(!left.iter().any(|row| row.ends_with(" sleep")), "{left:?}");
}

#[test]
fn http_is_asked_from_inside() {
    if !require(MESH) {
        return;
    }
    let mesh = Plan::new("http")
        .lan("l", "10.1.0.0/24")
        .attach("a", "l", "10.1.0.1")
        .attach("b", "l", "10.1.0.2 fd00:1::2/64")
        .up()
        .unwrap();
    let (a, b) = (mesh.host("a"), mesh.host("b"));
    let listener = b.inside(|| TcpListener::bind("[::]:5086").unwrap()).unwrap();
    let server = std::thread::spawn(move || {
        // Echoes each request after its head line.
        (0..3)
            .map(|_| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut bytes = [0; 4096];
                let mut seen = String::new();
                while !seen.contains("\r\n\r\n") || (seen.starts_with("POST") && !seen.ends_with('}')) {
                    let n = stream.read(&mut bytes).unwrap();
                    seen.push_str(&String::from_utf8_lossy(&bytes[..n]));
                }
                stream
                    .write_all(b"HTTP/1.1 404 Not Found\r\nX-Say: no\r\nContent-Length: 12\r\nConnection: close\r\n\r\n{\"code\":\"x\"}")
                    .unwrap();
                seen
            })
            .collect::<Vec<_>>()
    });
    let answer = a.http_get("http://10.1.0.2:5086/status/agents?x=1").unwrap();
    assert_eq!((answer.status, answer.header("x-say")), (404, Some("no")));
    assert_eq!(answer.json::<serde_json::Value>().unwrap()["code"], "x");
    a.http_post("http://[fd00:1::2]:5086/post", r#"{"a":1}"#).unwrap_err();
    let answer = b.http_post("http://[fd00:1::2]:5086/post", r#"{"a":1}"#).unwrap();
    assert_eq!(answer.text(), r#"{"code":"x"}"#);
    b.http("DELETE", "http://127.0.0.1:5086/x", &[("x-own", "1")], b"").unwrap();
    let seen = server.join().unwrap();
    assert!(seen[0].starts_with("GET /status/agents?x=1 HTTP/1.1\r\n"), "{}", seen[0]);
    assert!(
        seen[1].contains("content-type: application/json") && seen[1].ends_with("\r\n\r\n{\"a\":1}"),
        "{}",
        seen[1]
    );
    assert!(seen[2].starts_with("DELETE /x") && seen[2].contains("x-own: 1"), "{}", seen[2]);
    // Only that thread was in the other network.
    let own = || std::fs::read_link("/proc/thread-self/ns/net").unwrap().to_string_lossy().into_owned();
    assert_eq!(a.inside(own).unwrap(), network(a));
    assert_ne!(own(), network(a));
}

#[test]
fn a_txt_record_rotates() {
    if !require(MESH) {
        return;
    }
    let mesh = Plan::new("dns")
        .lan("l", "10.1.0.0/24")
        .attach("a", "l", "10.1.0.1")
        .attach("ns", "l", "10.1.0.2")
        .up()
        .unwrap();
    let (a, ns) = (mesh.host("a"), mesh.host("ns"));
    let mut dns = Dns::start(ns, "kattila.lab.test", "the first value, with a comma").unwrap();
    a.use_dns(&dns.address().to_string()).unwrap();
    assert_eq!(a.run(&["cat", "/etc/resolv.conf"]).unwrap(), "nameserver 10.1.0.2\n");

    assert_eq!(txt(a, &dns), ["the first value, with a comma"]);
    dns.rotate("the second value").unwrap();
    assert_eq!(txt(a, &dns), ["the second value"]);
    let long = "y".repeat(300);
    dns.set(&[&long]).unwrap();
    assert_eq!(txt(a, &dns), [long]);
    dns.set(&["one", "two"]).unwrap();
    let mut both = txt(a, &dns);
    both.sort();
    assert_eq!(both, ["one", "two"]);
    dns.set(&[]).unwrap();
    assert_eq!(txt(a, &dns), Vec::<String>::new());
    dns.stop();
    assert!(a.inside(|| ask_txt("10.1.0.2:53".parse().unwrap())).unwrap().is_err());
}

#[test]
fn meshes_side_by_side_do_not_meet() {
    if !require(MESH) {
        return;
    }
    let build = || two_lans().full_mesh("wg0", "10.77.0.0/24", &["a", "c"]).up().unwrap();
    let meshes: Vec<Mesh> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(build)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for mesh in &meshes {
        mesh.wait_handshakes(SOON).unwrap();
        mesh.host("a").run(&["touch", mesh.host("a").dir().join("mine").to_str().unwrap()]).unwrap();
    }
    let keys: std::collections::BTreeSet<String> =
        meshes.iter().map(|mesh| mesh.host("a").keys("wg0").unwrap().public).collect();
    assert_eq!(keys.len(), 3);
    meshes[0].host("a").down_link("eth0").unwrap();
    assert!(meshes[1].host("a").ping("10.77.0.2", SOON));
    // Nothing was made in this machine's own network.
    let own = std::fs::read_to_string("/proc/net/dev").unwrap();
    assert!(!own.contains("port1:") && !own.contains("br0:"), "{own}");
}

#[test]
fn a_wrong_plan_is_refused_by_name() {
    let refused = |plan: Plan| plan.up().map(drop).unwrap_err().to_string();
    if !require(MESH) {
        return;
    }
    assert_eq!(refused(Plan::new("p").attach("a", "nowhere", "10.1.0.1")), "p: no LAN nowhere");
    assert_eq!(refused(Plan::new("p").full_mesh("wg0", "10.0.0.0/24", &["a"])), "p: no host a");
    let plan = Plan::new("p").lan("l", "10.1.0.0/24").attach("a", "l", "10.1.0.1");
    let ends = Tunnel::between(End::new("a", "wg0"), End::new("b", "wg0"));
    assert_eq!(refused(plan.clone().tunnel(ends)), "p: no device wg0 on a");
    assert!(refused(plan.host("b").full_mesh("wg0", "10.0.0.300/24", &["a", "b"])).contains("10.0.0.300/24"));
}

/// The network namespace's identity.
fn network(host: &Host) -> String {
    network_of(host.pid())
}

fn network_of(pid: i32) -> String {
    std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap().to_string_lossy().into_owned()
}

/// All processes in these networks, as `PID START NAME`: a number may be given out again, together
/// with its starting time it is not.
fn processes_in(networks: &[String]) -> Vec<String> {
    let all =
        std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    all.filter(|pid| {
        std::fs::read_link(format!("/proc/{pid}/ns/net"))
            .is_ok_and(|link| networks.iter().any(|network| *network == link.to_string_lossy()))
    })
    .filter_map(|pid| identity(&pid))
    .collect()
}

/// Those that still run, zombies among them.
fn remaining(processes: &[String]) -> Vec<String> {
    let runs = |row: &&String| row.split(' ').next().and_then(identity).as_ref() == Some(*row);
    processes.iter().filter(runs).cloned().collect()
}

fn identity(pid: &str) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (name, rest) = stat.rsplit_once(')')?;
    Some(format!("{pid} {} {}", rest.split_whitespace().nth(19)?, name.split_once('(')?.1))
}

fn txt(host: &Host, dns: &Dns<'_>) -> Vec<String> {
    let server = SocketAddr::new(dns.address(), 53);
    host.inside(|| ask_txt(server)).unwrap().unwrap()
}

/// One hand-made TXT query for `kattila.lab.test`, and the records of the answer, each with its
/// strings joined.
fn ask_txt(server: SocketAddr) -> std::io::Result<Vec<String>> {
    let mut query = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    query.extend(b"\x07kattila\x03lab\x04test\x00\x00\x10\x00\x01");
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    socket.connect(server)?;
    socket.send(&query)?;
    let mut answer = [0; 1500];
    let n = socket.recv(&mut answer)?;
    assert_eq!(answer[..2], query[..2]);
    let number = |at: usize| usize::from(answer[at]) << 8 | usize::from(answer[at + 1]);
    let mut at = query.len();
    let mut records = Vec::new();
    for _ in 0..number(6) {
        // Name (a pointer), type, class, time to live, length.
        let length = number(at + 10);
        let mut data = &answer[at + 12..at + 12 + length];
        let mut text = String::new();
        while let [size, rest @ ..] = data {
            let (string, rest) = rest.split_at(usize::from(*size));
            text.push_str(&String::from_utf8_lossy(string));
            data = rest;
        }
        records.push(text);
        at += 12 + length;
    }
    assert!(at <= n);
    Ok(records)
}
