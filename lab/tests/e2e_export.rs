//! What leaves the manager for other programs and for a terminal, on a real mesh: metrics against what
//! `wg` says, the read token across a real LAN, and `manager -status`.
#![allow(clippy::unwrap_used, reason = "the helpers, too, are tests")]

mod e2e;

use std::time::Duration;

use e2e::{Manager, PSK, SOON, agent, ready, secret_file};
use lab::{Device, End, Host, MESH, Plan, Proc, Tunnel, bin, wait_for};

const TOKEN: &str = "a read token of the lab";

/// What `wg` says of the only peer: key, handshake (Unix time), bytes received and sent.
fn peer(host: &Host) -> (String, u64, u64, u64) {
    let dump = host.run(&["wg", "show", "wg0", "dump"]).unwrap();
    let fields: Vec<&str> = dump.lines().nth(1).unwrap().split('\t').collect();
    let number = |at: usize| fields[at].parse().unwrap();
    (fields[0].to_owned(), number(4), number(5), number(6))
}

/// The value of the sample of `name` whose labels hold all of `parts`.
fn sample(metrics: &str, name: &str, parts: &[&str]) -> Option<u64> {
    let mut lines = metrics.lines().filter(|line| line.starts_with(name));
    let line = lines.find(|line| parts.iter().all(|part| line.contains(part)))?;
    line.rsplit_once(' ')?.1.parse().ok()
}

#[test]
fn metrics_say_what_wg_says_and_the_token_opens_the_lan() {
    if !ready(MESH) {
        return;
    }
    let mesh = Plan::new("export")
        .lan("lan", "10.1.0.0/24")
        .attach("a", "lan", "10.1.0.1")
        .attach("b", "lan", "10.1.0.2")
        .device(Device::new("a", "wg0", "10.7.0.1/24").port(51820))
        .device(Device::new("b", "wg0", "10.7.0.2/24").port(51820))
        .tunnel(Tunnel::between(
            End::new("a", "wg0").dial().keepalive(5),
            End::new("b", "wg0").dial().keepalive(5),
        ))
        .up()
        .unwrap();
    mesh.wait_handshakes(SOON).unwrap();
    let (a, b) = (mesh.host("a"), mesh.host("b"));
    let token = secret_file(b.dir().join("read-token"), TOKEN);
    let token = token.to_str().unwrap();
    let manager = Manager::start(a, &[("PSK", PSK), ("READ_TOKEN_FILE", token)]);
    let _agents: Vec<Proc> = [a, b]
        .map(|host| {
            host.spawn(&agent(host, &manager.url(), &[("PSK", PSK), ("REPORT_INTERVAL", "1")])).unwrap()
        })
        .into();
    assert!(a.ping("10.7.0.2", SOON));

    // Counters only grow: what is told lies between what wg said before and what it says after.
    let metrics = || {
        let answer = b.http_get("http://10.7.0.1:5086/metrics").unwrap();
        assert_eq!(answer.status, 200, "through the tunnel no token is asked for");
        String::from_utf8(answer.body).unwrap()
    };
    for (host, other) in [(a, "b"), (b, "a")] {
        let (key, handshake, received, sent) = peer(host);
        let of_peer = [format!("public_key=\"{key}\""), format!("friendly_name=\"{other}\"")];
        let parts: Vec<&str> = of_peer.iter().map(String::as_str).collect();
        let told = wait_for("", SOON, || {
            let metrics = metrics();
            let sent_told = sample(&metrics, "wireguard_sent_bytes_total", &parts)?;
            let received_told = sample(&metrics, "wireguard_received_bytes_total", &parts)?;
            (sent_told >= sent && received_told >= received).then_some((metrics, sent_told, received_told))
        });
        let (metrics, sent_told, received_told) = told.unwrap_or_else(|_| panic!("{}", metrics()));
        let (_, handshake_after, received_after, sent_after) = peer(host);
        assert!(sent_told <= sent_after && received_told <= received_after, "{metrics}");
        let at = sample(&metrics, "wireguard_latest_handshake_seconds", &parts).unwrap();
        assert!(
            (handshake - 2..=handshake_after + 2).contains(&at),
            "{at}, {handshake} to {handshake_after}"
        );
    }
    let up = wait_for("both ends are told", SOON, || {
        let metrics = metrics();
        let halves =
            metrics.lines().filter(|line| line.starts_with("kattila_edge_half_up{") && line.ends_with(" 1"));
        let up = sample(&metrics, "kattila_edge_up{kind=\"wireguard\"", &["a_name=", "b_name="]);
        (halves.count() == 2 && up == Some(1)).then_some(())
    });
    assert!(up.is_ok(), "{}", metrics());

    // By the LAN only the token opens.
    let lan = |headers: &[(&str, &str)]| {
        b.http("GET", "http://10.1.0.1:5086/metrics", headers, b"").unwrap().status
    };
    assert_eq!(lan(&[]), 401);
    assert_eq!(lan(&[("Authorization", "Bearer of something else")]), 401);
    assert_eq!(lan(&[("Authorization", &format!("Bearer {TOKEN}"))]), 200);

    let manager_program = bin("manager").unwrap();
    let status = |url: &str, token: &str| {
        let arguments = [manager_program.to_str().unwrap(), "-status", url];
        b.output_env(&arguments, &[("READ_TOKEN_FILE", token), ("COLUMNS", "100")], Duration::from_secs(30))
            .unwrap()
    };
    let shown = status("http://10.1.0.1:5086", token);
    let page = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert_eq!(shown.status.code(), Some(0), "{shown:?}");
    let tunnel = page.lines().find(|line| line.contains("wireguard")).unwrap_or_default();
    assert!(tunnel.starts_with("  up ") && tunnel.contains("a wg0") && tunnel.contains("b wg0"), "{page}");
    assert_eq!(status("http://10.1.0.1:5086", "").status.code(), Some(1));
    assert_eq!(status("http://10.7.0.1:5086", "").status.code(), Some(0));
}
