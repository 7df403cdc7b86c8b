//! Packets that get lost on the way, and addresses that change.

use lab::{Device, End, Mesh, Plan, Tunnel};

use super::{Row, Stage, TRIO, VERY_LONG, trio};
use crate::e2e::{SOON, now_ms};

/// Reports every so many seconds: a handshake is tried again every 5 s.
const INTERVAL: u32 = 10;

/// `ash` calls `oak`, which only answers; the hub has the manager and no tunnel.
fn caller_and_callee() -> Mesh {
    let mut plan = Plan::new("call").lan("lan", "10.1.0.0/24");
    for (n, host) in (1..).zip(TRIO) {
        plan = plan.attach(host, "lan", &format!("10.1.0.{n}"));
    }
    let mesh = plan
        .device(Device::new("ash", "wg0", "10.77.0.2/24"))
        .device(Device::new("oak", "wg0", "10.77.0.3/24"))
        .tunnel(Tunnel::between(End::new("ash", "wg0").dial().keepalive(25), End::new("oak", "wg0")))
        .up()
        .unwrap();
    mesh.wait_handshakes(SOON).unwrap();
    mesh
}

/// A firewall at `oak` drops what `ash` sends.
pub(crate) fn forward_blocked(case: &'static str) -> Vec<Row> {
    let mesh = caller_and_callee();
    blocked(case, &mesh, "oak", "ip saddr 10.1.0.2 udp dport 51820", "NO_FORWARD_PATH")
}

/// A firewall at `ash` drops what `oak` answers.
pub(crate) fn return_blocked(case: &'static str) -> Vec<Row> {
    let mesh = caller_and_callee();
    blocked(case, &mesh, "ash", "ip saddr 10.1.0.3 udp sport 51820", "NO_RETURN_PATH")
}

/// The same where both ends call each other: what `ash` sends gets lost.
pub(crate) fn one_way_blocked(case: &'static str) -> Vec<Row> {
    let mesh = trio();
    blocked(case, &mesh, "oak", "ip saddr 10.1.0.2 udp dport 51820", "NO_FORWARD_PATH")
}

fn blocked(case: &'static str, mesh: &Mesh, at: &str, what: &str, code: &str) -> Vec<Row> {
    let stage = Stage::set(case, mesh, TRIO, INTERVAL);
    let pings = stage.traffic("ash", "10.77.0.3");
    let fault = now_ms();
    stage.host(at).cut_in(what).unwrap();
    let alarm = stage.fires(fault, code, &["ash", "oak"]);
    // Past the 180 s of the session, and the 90 s after which an end without keepalive gives up: what is
    // sent changes, and the name of the fault does not.
    stage.dwell(280);
    stage.only(&[code]);
    let mend = now_ms();
    stage.host(at).heal().unwrap();
    stage.ends(mend, &alarm);
    assert!(pings.is_running());
    stage.only(&[code]);
    stage.rows()
}

/// The address of the router before `fox` changes, as a provider does at night: worth a line, and no
/// warning.
pub(crate) fn roaming_behind_nat(case: &'static str) -> Vec<Row> {
    let mesh = Plan::new("roam")
        .lan("wan", "203.0.113.0/24")
        .lan("home", "192.168.1.0/24")
        .attach("hub", "wan", "203.0.113.1")
        .attach("elm", "wan", "203.0.113.2")
        .attach("box", "wan", "203.0.113.50")
        .attach("box", "home", "192.168.1.1")
        .nat("box", "eth0")
        .attach("fox", "home", "192.168.1.20")
        .gateway("fox", "192.168.1.1")
        .hub("wg0", "10.77.0.0/24", "hub", &["elm", "fox"])
        .up()
        .unwrap();
    mesh.wait_handshakes(SOON).unwrap();
    let stage = Stage::set(case, &mesh, &["hub", "elm", "fox"], 5);
    let fault = now_ms();
    stage
        .host("box")
        .sh("ip addr add 203.0.113.60/24 dev eth0; ip addr del 203.0.113.50/24 dev eth0
        ip addr show dev eth0 | grep -q 203.0.113.60 || ip addr add 203.0.113.60/24 dev eth0")
        .unwrap();
    let alarm = stage.fires(fault, "ENDPOINT_ROAMED", &["hub", "fox"]);
    assert_eq!(alarm["severity"], "info", "{alarm:#}");
    assert!(alarm["evidence"][0]["text"].as_str().unwrap().contains("203.0.113.60:"), "{alarm:#}");
    assert!(stage.host("fox").ping("10.77.0.1", SOON), "WireGuard follows");
    // It is shown for ten minutes.
    stage.ends_within(fault, &alarm, VERY_LONG);
    stage.only(&[]);
    stage.rows()
}
