//! Two of what should be one.

use lab::{Host, Launch, Plan, wait_for};

use super::{Row, Stage, VERY_LONG};
use crate::e2e::{SOON, now_ms};

/// The hosts: `dup` becomes a copy of `oak`.
const HOSTS: &[&str] = &["hub", "ash", "oak", "dup"];

fn mesh() -> lab::Mesh {
    let mut plan = Plan::new("copy").lan("lan", "10.1.0.0/24");
    for (n, host) in (1..).zip(HOSTS) {
        plan = plan.attach(host, "lan", &format!("10.1.0.{n}"));
    }
    let mesh = plan.full_mesh("wg0", "10.77.0.0/24", &HOSTS[..3]).up().unwrap();
    mesh.wait_handshakes(SOON).unwrap();
    mesh
}

/// `dup` comes up with the configuration of `oak`, key and all.
pub(crate) fn private_key_cloned(case: &'static str) -> Vec<Row> {
    let mesh = mesh();
    let stage = Stage::set(case, &mesh, HOSTS, 2);
    let dup = stage.host("dup");
    let config = stage.host("oak").run(&["wg", "showconf", "wg0"]).unwrap();
    let fault = now_ms();
    let device = dup.spawn(&Launch::new("wireguard-go").args(["-f", "wg0"])).unwrap();
    wait_for("the interface", SOON, || configure(dup, &config).then_some(())).unwrap();
    let alarm = stage.fires(fault, "DUP_PRIVATE_KEY", &["oak", "dup"]);
    // The two take the session from each other: that the tunnel suffers is true.
    let also = ["DUP_PRIVATE_KEY", "HANDSHAKE_CHURN", "ENDPOINT_FLAPPING"];
    stage.dwell(60);
    stage.only(&also);
    let mend = now_ms();
    device.term().unwrap();
    device.wait(SOON).unwrap();
    stage.ends(mend, &alarm);
    stage.only(&also);
    stage.rows()
}

fn configure(host: &Host, config: &str) -> bool {
    host.run_with(&["wg", "setconf", "wg0", "/dev/stdin"], config).is_ok()
        && host.sh("ip addr replace 10.77.0.3/24 dev wg0; ip link set wg0 mtu 1420 up").is_ok()
}

/// `dup` is a virtual machine copied from `oak`: with its agent's id and its machine id.
pub(crate) fn agent_id_cloned(case: &'static str) -> Vec<Row> {
    let mesh = mesh();
    let stage = Stage::set(case, &mesh, &HOSTS[..3], 2);
    let id = stage.id("oak");
    std::fs::create_dir_all(stage.host("dup").dir().join("state")).unwrap();
    for file in ["etc/machine-id", "state/agent_id.txt"] {
        // In place: the machine id is what is mounted.
        let bytes = std::fs::read(stage.host("oak").dir().join(file)).unwrap();
        std::fs::write(stage.host("dup").dir().join(file), bytes).unwrap();
    }
    let fault = now_ms();
    stage.start_agent("dup");
    let alarm = stage.becomes(fault, "DUP_AGENT_ID", &["oak"], &["firing"], SOON * 2);
    assert_eq!((&alarm["severity"], alarm["subject"].as_str()), (&"critical".into(), Some(id.as_str())));
    // The manager gives one of them another id at once, and so it is over. It is shown for as long as
    // refusals are counted.
    stage.ends_within(fault, &alarm, VERY_LONG);
    let agents = stage.manager.agents();
    let of =
        |host: &str| agents.iter().find(|agent| agent["hostname"] == host && agent["presence"] == "online");
    assert_ne!(of("oak").unwrap()["id"], of("dup").unwrap()["id"], "{agents:#?}");
    stage.only(&["DUP_AGENT_ID"]);
    stage.rows()
}
