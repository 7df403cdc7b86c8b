//! What is wrong on one host: MTU, routes, clock, an interface that is down; and orders on alarms.

use lab::{Plan, bin};
use proto::ack;
use proto::envelope::Draft;
use proto::ids::{AgentId, BootId, Nonce};
use proto::psk::Secret;
use proto::sign::Kind;
use serde_json::Value;

use super::{Row, Stage, TRIO, clock_off, trio};
use crate::e2e::{SOON, now_ms};

/// `oak`'s interface gets another MTU. The alarm is acknowledged and silenced meanwhile.
pub(crate) fn mtu_mismatch(case: &'static str) -> Vec<Row> {
    let mesh = trio();
    let stage = Stage::set(case, &mesh, TRIO, 2);
    let oak = stage.host("oak");
    let fault = now_ms();
    oak.run(&["ip", "link", "set", "wg0", "mtu", "1300"]).unwrap();
    let alarms = ["hub", "ash"].map(|host| stage.fires(fault, "MTU_MISMATCH", &[host, "oak"]));
    orders(&stage, &alarms[0]);
    stage.only(&["MTU_MISMATCH"]);
    let mend = now_ms();
    oak.run(&["ip", "link", "set", "wg0", "mtu", "1420"]).unwrap();
    alarms.iter().for_each(|alarm| stage.ends(mend, alarm));
    stage.only(&["MTU_MISMATCH"]);
    stage.rows()
}

/// `manager -ack` and `-silence`, and the same orders by POST.
fn orders(stage: &Stage<'_>, alarm: &Value) {
    let no = alarm["no"].as_i64().unwrap();
    let state = || {
        let alarms = stage.alarms();
        let now = alarms.iter().find(|other| other["no"] == no).unwrap();
        (now["state"].as_str().unwrap().to_owned(), now["suppressed_by"].as_str().map(str::to_owned))
    };
    let secret = stage.mesh.dir().join("admin-secret");
    let manager = |arguments: &[&str]| {
        let program = bin("manager").unwrap();
        let line: Vec<&str> =
            std::iter::once(program.to_str().unwrap()).chain(arguments.iter().copied()).collect();
        let env = [("ADMIN_SECRET_FILE", secret.to_str().unwrap())];
        let done = stage.manager.host.output_env(&line, &env, SOON).unwrap();
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        done.text()
    };
    let said = manager(&["-ack", &no.to_string()]);
    assert!(said.contains("MTU 1300"), "it says which: {said}");
    assert_eq!(state(), ("acknowledged".to_owned(), None));
    manager(&["-silence", "MTU_MISMATCH", "10m"]);
    assert_eq!(state(), ("suppressed".to_owned(), Some("silence of MTU_MISMATCH".to_owned())));
    manager(&["-silence", "MTU_MISMATCH", "0"]);
    assert_eq!(state(), ("acknowledged".to_owned(), None));

    let post = |path: &str, json: &str, secret: &str| {
        let secret = Secret::new(secret).unwrap();
        let (boot, nonce) = (BootId::random().unwrap(), Nonce::random().unwrap());
        let draft =
            Draft { kind: Kind::Alarm, agent: AgentId([0; 16]), boot, tick: 1, nonce, json: json.as_bytes() };
        let sealed = draft.seal(&secret, now_ms());
        let url = format!("http://127.0.0.1:5086{path}");
        let answer = stage.manager.host.http_post(&url, &sealed.bytes).unwrap();
        let code =
            ack::open(&answer.body, sealed.nonce, &sealed.mac, &secret).map(|ack| ack.code.to_string());
        (answer.status, code.ok())
    };
    let oak = stage.id("oak");
    let silence = |seconds: u32| format!("{{\"target\":\"{oak}\",\"for_s\":{seconds}}}");
    let path = "/status/alarms/silence";
    assert_eq!(post(path, &silence(60), "another secret, not the one").0, 401);
    assert_eq!(state().0, "acknowledged", "nothing was done");
    let done = (200, Some("done".to_owned()));
    assert_eq!(post(path, &silence(600), "an admin secret of the lab"), done);
    assert_eq!(state(), ("suppressed".to_owned(), Some(format!("silence of {oak}"))));
    assert_eq!(post(path, &silence(0), "an admin secret of the lab"), done);
    assert_eq!(state(), ("acknowledged".to_owned(), None));
}

/// `oak`, behind a router, sends everything into its tunnel, and with it the tunnel's own packets.
pub(crate) fn endpoint_in_own_tunnel(case: &'static str) -> Vec<Row> {
    let mesh = Plan::new("loop")
        .lan("north", "10.1.0.0/24")
        .lan("south", "10.2.0.0/24")
        .attach("router", "north", "10.1.0.1")
        .attach("router", "south", "10.2.0.1")
        .router("router")
        .attach("hub", "north", "10.1.0.11")
        .gateway("hub", "10.1.0.1")
        .attach("oak", "north", "10.1.0.12")
        .gateway("oak", "10.1.0.1")
        .attach("exit", "south", "10.2.0.11")
        .gateway("exit", "10.2.0.1")
        .router("exit")
        .full_mesh("wg0", "10.77.0.0/24", &["exit", "oak"])
        .up()
        .unwrap();
    mesh.wait_handshakes(SOON).unwrap();
    let stage = Stage::set(case, &mesh, &["hub", "oak", "exit"], 5);
    let oak = stage.host("oak");
    let peer = stage.key("exit");
    // A packet that goes round is dropped at its second turn, or it would keep a core busy.
    oak.cut_out("oifname wg0 udp dport 51820").unwrap();
    let fault = now_ms();
    oak.run(&["wg", "set", "wg0", "peer", &peer, "allowed-ips", "0.0.0.0/0"]).unwrap();
    oak.run(&["ip", "route", "replace", "default", "dev", "wg0"]).unwrap();
    let alarm = stage.fires(fault, "ENDPOINT_IN_OWN_TUNNEL", &["oak", "exit"]);
    assert_eq!(alarm["severity"], "critical");
    stage.dwell(200);
    stage.only(&["ENDPOINT_IN_OWN_TUNNEL"]);
    let mend = now_ms();
    // As it says: a route of its own for the endpoint.
    let step = alarm["next_step"].as_str().unwrap();
    assert!(step.starts_with("on oak: ip route add 10.2.0.11 via YOUR_GATEWAY"), "{step}");
    oak.run(&["ip", "route", "add", "10.2.0.11", "via", "10.1.0.1"]).unwrap();
    stage.ends(mend, &alarm);
    assert!(oak.ping("10.77.0.1", SOON), "the tunnel works again");
    stage.only(&["ENDPOINT_IN_OWN_TUNNEL"]);
    stage.rows()
}

/// `oak` starts with a clock two hours behind, as a router without a battery does, and is set right.
pub(crate) fn wrong_clock(case: &'static str) -> Vec<Row> {
    let mesh = trio();
    let stage = Stage::set(case, &mesh, &["hub", "ash"], 2);
    let library = clock_off(&mesh, -7260);
    let fault = now_ms();
    stage.start_agent_with("oak", &[("LD_PRELOAD", library.to_str().unwrap())]);
    stage.manager.wait_agent("oak", "a report", |agent| agent["presence"] == "online");
    let alarm = stage.fires(fault, "CLOCK_SKEW", &["oak"]);
    assert_eq!(alarm["sentence"], "oak's clock is 2 h behind the manager's.");
    stage.dwell(30);
    let mend = now_ms();
    stage.start_agent("oak");
    stage.ends(mend, &alarm);
    stage.only(&["CLOCK_SKEW"]);
    stage.rows()
}

/// Somebody sets `oak`'s interface down: one alarm, and the tunnels are covered by it.
pub(crate) fn interface_down(case: &'static str) -> Vec<Row> {
    let mesh = trio();
    let stage = Stage::set(case, &mesh, TRIO, 5);
    let fault = now_ms();
    stage.host("oak").down_link("wg0").unwrap();
    let alarm = stage.fires(fault, "WG_IFACE_DOWN", &["oak"]);
    stage.dwell(200);
    stage.only(&["WG_IFACE_DOWN"]);
    let mend = now_ms();
    stage.host("oak").up_link("wg0").unwrap();
    stage.ends(mend, &alarm);
    stage.only(&["WG_IFACE_DOWN"]);
    stage.rows()
}
