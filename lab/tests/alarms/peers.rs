//! What two ends have set for each other: peers, keys, AllowedIPs.

use lab::KeyPair;

use super::{Row, Stage, TRIO, trio};
use crate::e2e::now_ms;

/// `ash` loses its peer `oak`, and gets it again.
pub(crate) fn removed(case: &'static str) -> Vec<Row> {
    let mesh = trio();
    let stage = Stage::set(case, &mesh, TRIO, 2);
    let (ash, oak) = (stage.host("ash"), stage.key("oak"));
    let fault = now_ms();
    ash.run(&["wg", "set", "wg0", "peer", &oak, "remove"]).unwrap();
    let alarm = stage.fires(fault, "PEER_ONE_SIDED", &["ash", "oak"]);
    // What it says to do is what mends it.
    let step = alarm["next_step"].as_str().unwrap();
    let command = format!("wg set wg0 peer {oak} allowed-ips 10.77.0.3/32");
    assert!(step.starts_with(&format!("on ash: {command}")), "{step}");
    // Past the 180 s of the old session.
    stage.dwell(200);
    stage.only(&["PEER_ONE_SIDED"]);
    let mend = now_ms();
    ash.sh(&command).unwrap();
    stage.ends(mend, &alarm);
    stage.only(&["PEER_ONE_SIDED"]);
    stage.rows()
}

/// A preshared key at `ash` only.
pub(crate) fn preshared_key(case: &'static str) -> Vec<Row> {
    let mesh = trio();
    let stage = Stage::set(case, &mesh, TRIO, 5);
    let (ash, oak) = (stage.host("ash"), stage.key("oak"));
    let fault = now_ms();
    let set = |key: &str| {
        ash.run_with(&["wg", "set", "wg0", "peer", &oak, "preshared-key", "/dev/stdin"], key).unwrap();
    };
    set(&KeyPair::generate().unwrap().private);
    let alarm = stage.fires(fault, "PSK_MISMATCH", &["ash", "oak"]);
    // Past the session of before, when handshakes are answered and get nowhere.
    stage.dwell(220);
    stage.only(&["PSK_MISMATCH"]);
    let mend = now_ms();
    ash.run(&["wg", "set", "wg0", "peer", &oak, "preshared-key", "/dev/null"]).unwrap();
    stage.ends(mend, &alarm);
    stage.only(&["PSK_MISMATCH"]);
    stage.rows()
}

/// `oak` gets a new key; `hub` and `ash` are told of it later.
pub(crate) fn key_rotated(case: &'static str) -> Vec<Row> {
    let mesh = trio();
    let stage = Stage::set(case, &mesh, TRIO, 2);
    let (old, new) = (stage.key("oak"), KeyPair::generate().unwrap());
    let fault = now_ms();
    stage.host("oak").run_with(&["wg", "set", "wg0", "private-key", "/dev/stdin"], &new.private).unwrap();
    let alarms = ["hub", "ash"].map(|host| stage.fires(fault, "PEER_ORPHAN_KEY", &[host, "oak"]));
    stage.dwell(60);
    stage.only(&["PEER_ORPHAN_KEY"]);
    let mend = now_ms();
    for (host, alarm) in ["hub", "ash"].iter().zip(&alarms) {
        // The step of the alarm, word by word.
        let step = alarm["next_step"].as_str().unwrap();
        assert!(step.contains(&old) && step.contains(&new.public), "{step}");
        let commands = step.strip_prefix(&format!("on {host}: ")).unwrap();
        stage.host(host).sh(commands).unwrap();
    }
    alarms.iter().for_each(|alarm| stage.ends(mend, alarm));
    stage.only(&["PEER_ORPHAN_KEY"]);
    stage.rows()
}

/// On `ash`, `oak` is given the hub's prefix too, so that the hub has none.
pub(crate) fn allowed_ips_stolen(case: &'static str) -> Vec<Row> {
    let mesh = trio();
    let stage = Stage::set(case, &mesh, TRIO, 2);
    let (ash, hub, oak) = (stage.host("ash"), stage.key("hub"), stage.key("oak"));
    let fault = now_ms();
    ash.run(&["wg", "set", "wg0", "peer", &oak, "allowed-ips", "10.77.0.3/32,10.77.0.1/32"]).unwrap();
    let alarm = stage.fires(fault, "ALLOWED_IPS_EMPTY", &["ash"]);
    let sentence = alarm["sentence"].as_str().unwrap();
    assert_eq!(sentence, "On ash, hub has lost its AllowedIPs to oak, so nothing can be sent to hub.");
    stage.dwell(60);
    stage.only(&["ALLOWED_IPS_EMPTY"]);
    let mend = now_ms();
    ash.run(&["wg", "set", "wg0", "peer", &oak, "allowed-ips", "10.77.0.3/32"]).unwrap();
    ash.run(&["wg", "set", "wg0", "peer", &hub, "allowed-ips", "10.77.0.1/32"]).unwrap();
    stage.ends(mend, &alarm);
    stage.only(&["ALLOWED_IPS_EMPTY"]);
    stage.rows()
}
