//! Many hosts at once: what one failure hides.

use lab::{Mesh, Plan};
use serde_json::Value;

use super::{Row, Stage};
use crate::e2e::{SOON, now_ms};

const INTERVAL: u32 = 5;
const NEAR: &[&str] = &["hub", "ash", "oak", "elm"];
const BEHIND: &[&str] = &["gate", "barn", "mill"];

/// Four hosts on one LAN; `gate` is the router to another, with two hosts. All have a tunnel to the
/// hub.
fn mesh() -> Mesh {
    let mut plan = Plan::new("fleet").lan("near", "10.1.0.0/24").lan("far", "10.2.0.0/24");
    for (n, host) in (1..).zip(NEAR) {
        plan = plan.attach(host, "near", &format!("10.1.0.{n}")).route(host, "10.2.0.0/24", "10.1.0.9");
    }
    plan = plan.attach("gate", "near", "10.1.0.9").attach("gate", "far", "10.2.0.1").router("gate");
    for (n, host) in (2..).zip(&BEHIND[1..]) {
        plan = plan.attach(host, "far", &format!("10.2.0.{n}")).gateway(host, "10.2.0.1");
    }
    let spokes: Vec<&str> = NEAR[1..].iter().chain(BEHIND).copied().collect();
    let mesh = plan.hub("wg0", "10.77.0.0/24", "hub", &spokes).up().unwrap();
    mesh.wait_handshakes(SOON).unwrap();
    mesh
}

fn all() -> Vec<&'static str> {
    NEAR.iter().chain(BEHIND).copied().collect()
}

/// `gate` goes, and with it the way to `barn` and `mill`: one alarm is told, the others hide behind it.
pub(crate) fn host_down(case: &'static str) -> Vec<Row> {
    let mesh = mesh();
    let stage = Stage::set(case, &mesh, &all(), INTERVAL);
    let gate = stage.host("gate");
    let fault = now_ms();
    for nic in ["eth0", "eth1"] {
        gate.unplug(nic).unwrap();
    }
    let alarm = stage.fires(fault, "AGENT_OFFLINE", &["gate"]);
    for host in ["barn", "mill"] {
        let hidden = stage.becomes(fault, "AGENT_OFFLINE", &[host], &["suppressed"], SOON * 2);
        let by = hidden["suppressed_by"].as_str().unwrap();
        assert_eq!(by, format!("AGENT_OFFLINE {}", stage.id("gate")), "{hidden:#}");
        assert!(!was_told(&hidden), "{hidden:#}");
    }
    // Past the sessions of the tunnels.
    stage.dwell(200);
    assert_eq!(told(&stage), ["AGENT_OFFLINE"], "one alarm alone is told");
    stage.only(&["AGENT_OFFLINE"]);
    let mend = now_ms();
    for nic in ["eth0", "eth1"] {
        gate.plug(nic).unwrap();
    }
    stage.ends(mend, &alarm);
    for agent in stage.alarms().iter().filter(|alarm| alarm["code"] == "AGENT_OFFLINE") {
        stage.ends(mend, agent);
    }
    stage.only(&["AGENT_OFFLINE"]);
    assert_eq!(told(&stage), ["AGENT_OFFLINE"], "nothing more is told when they are back");
    stage.rows()
}

/// The manager's cable is pulled: the one that is cut off is the manager.
pub(crate) fn most_silent(case: &'static str) -> Vec<Row> {
    let mesh = mesh();
    let stage = Stage::set(case, &mesh, &all(), INTERVAL);
    let hub = stage.host("hub");
    let fault = now_ms();
    hub.unplug("eth0").unwrap();
    let alarm = stage.fires(fault, "MANAGER_ISOLATED", &[]);
    assert_eq!(alarm["severity"], "critical", "{alarm:#}");
    for host in ["ash", "mill"] {
        let hidden = stage.becomes(fault, "AGENT_OFFLINE", &[host], &["suppressed"], SOON * 2);
        assert_eq!(hidden["suppressed_by"], "MANAGER_ISOLATED manager", "{hidden:#}");
    }
    stage.dwell(60);
    assert_eq!(told(&stage), ["MANAGER_ISOLATED"], "one alarm alone is told");
    let mend = now_ms();
    hub.plug("eth0").unwrap();
    stage.ends(mend, &alarm);
    for agent in stage.alarms().iter().filter(|alarm| alarm["code"] == "AGENT_OFFLINE") {
        let known = ["ash", "mill"].iter().any(|host| agent["agents"][0] == stage.id(host).as_str());
        if known {
            stage.ends(mend, agent);
        }
    }
    // What waited at the agents comes late, and raises nothing.
    stage.dwell(30);
    assert_eq!(told(&stage), ["MANAGER_ISOLATED"], "nothing more is told when they are back");
    stage.rows()
}

/// The codes of warning or worse that were told, each alarm once.
fn told(stage: &Stage<'_>) -> Vec<String> {
    let alarms = stage.alarms();
    let told = alarms.iter().filter(|alarm| alarm["severity"] != "info" && was_told(alarm));
    let mut codes: Vec<String> = told.map(|alarm| alarm["code"].as_str().unwrap().to_owned()).collect();
    codes.sort();
    codes
}

fn was_told(alarm: &Value) -> bool {
    alarm["state"] == "firing"
        || alarm["history"].as_array().unwrap().iter().any(|past| past["state"] == "firing")
}
