//! A mesh that is well, doing what is harmless.

use std::time::{Duration, Instant};

use lab::{End, Plan, Tunnel, until};

use super::{Row, Stage};
use crate::e2e::SOON;

/// How long it is watched.
const LONG: Duration = Duration::from_secs(600);

const HOSTS: [&str; 5] = ["hub", "ash", "oak", "elm", "fox"];

/// Ten minutes, in which an agent is upgraded, another restarted by force, the manager restarted, a
/// tunnel without keepalive used once and left idle, and a busy one becomes quiet. Nothing of warning
/// or worse may be told.
pub(crate) fn ten_minutes(case: &'static str) -> Vec<Row> {
    let mut plan = Plan::new("healthy").lan("lan", "10.1.0.0/24");
    for (n, host) in (1..).zip(HOSTS) {
        plan = plan.attach(host, "lan", &format!("10.1.0.{n}"));
    }
    // All but fox are in full mesh with keepalive; fox has one tunnel, without.
    let mesh = plan
        .full_mesh("wg0", "10.77.0.0/24", &HOSTS[..4])
        .device(lab::Device::new("fox", "wg0", "10.77.0.5/24"))
        .tunnel(Tunnel::between(End::new("fox", "wg0").dial(), End::new("hub", "wg0")))
        .up()
        .unwrap();
    assert!(mesh.host("fox").ping("10.77.0.1", SOON));
    mesh.wait_handshakes(SOON).unwrap();
    let mut stage = Stage::set(case, &mesh, &HOSTS, 5);
    let start = Instant::now();
    let at = |seconds: u64| {
        std::thread::sleep(Duration::from_secs(seconds).saturating_sub(start.elapsed()));
    };
    let busy = stage.traffic("ash", "10.77.0.3");
    at(60);
    stage.start_agent("oak"); // as an upgrade does
    at(150);
    drop(busy);
    at(200);
    assert_eq!(
        stage.manager.process.signal(nix::sys::signal::Signal::SIGTERM).map_err(|e| e.to_string()),
        Ok(())
    );
    stage.manager.process.wait(SOON).unwrap();
    stage.manager.restart();
    at(300);
    stage.start_agent("ash");
    at(400);
    stage.manager.process.kill9().unwrap();
    stage.manager.restart();
    // Long idle by now: used again, it works at once.
    assert!(stage.host("fox").ping("10.77.0.1", SOON));
    while start.elapsed() < LONG {
        stage.only(&[]);
        std::thread::sleep(Duration::from_secs(5));
    }
    let online = || stage.manager.agents().iter().filter(|agent| agent["presence"] == "online").count();
    assert!(until(SOON, || online() == HOSTS.len()), "{:#?}", stage.manager.agents());
    for alarm in stage.alarms() {
        let worse = alarm["severity"] != "info";
        assert!(!worse || alarm["fired_at"].is_null(), "nothing was even covered: {alarm:#}");
    }
    stage.note("none of warning or worse");
    stage.rows()
}
