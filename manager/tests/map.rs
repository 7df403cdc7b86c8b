//! The live map, its history and path queries, asked of the real program over HTTP.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::time::Duration;

use common::{Actor, Manager, now_ms};
use proto::ack::Code;
use proto::delta::Base;
use proto::envelope::{Draft, Encoding};
use proto::ids::{Nonce, PublicKey};
use proto::report::{IFF_UP, Interface, InterfaceKind, Report, Route, WireGuardDevice, WireGuardPeer};
use proto::sign::Kind;
use serde_json::Value;

/// One end of a tunnel between hosts `me` and `other`.
fn tunnel(actor: &Actor, me: u8, other: u8, handshake_age_s: Option<u64>) -> Report {
    let mut report = actor.observed(now_ms());
    let interface = |name: &str, index, kind, address: String| Interface {
        name: name.into(),
        index,
        kind,
        mtu: 1500 - 80 * (index - 1),
        flags: IFF_UP,
        operstate: "unknown".into(),
        addresses: vec![address.parse().unwrap()],
        ..Interface::default()
    };
    report.system.interfaces = vec![
        interface("eth0", 1, InterfaceKind::Physical, format!("192.0.2.{me}/24")),
        interface("wg0", 2, InterfaceKind::WireGuard, format!("10.9.0.{me}/24")),
    ];
    let route = |destination: &str, interface: &str| Route {
        destination: destination.parse().unwrap(),
        gateway: None,
        interface: Some(interface.into()),
        metric: 0,
        source: None,
        table: proto::report::TABLE_MAIN,
        kind: proto::report::RouteKind::Unicast,
    };
    report.system.routes = vec![route("192.0.2.0/24", "eth0"), route("10.9.0.0/24", "wg0")];
    report.system.wireguard = vec![WireGuardDevice {
        name: "wg0".into(),
        public_key: Some(PublicKey([me; 32])),
        listen_port: 51820,
        peers: vec![WireGuardPeer {
            public_key: PublicKey([other; 32]),
            has_psk: false,
            endpoint: Some(format!("192.0.2.{other}:51820")),
            allowed_ips: vec![format!("10.9.0.{other}/32").parse().unwrap()],
            handshake_at: None,
            handshake_age_s,
            rx_bytes: 1000,
            tx_bytes: 1000,
            keepalive_s: Some(25),
            rtt_us: None,
        }],
        ..WireGuardDevice::default()
    }];
    report
}

fn send(manager: &Manager, actor: &Actor, tick: u64, report: &Report) {
    let json = serde_json::to_vec(report).unwrap();
    assert_eq!(manager.report(&actor.draft(Kind::Report, tick, &json, now_ms())).code, Code::Stored);
}

/// Waits until the answer of `path` fits.
fn wireguard_state(map: &Value) -> Option<String> {
    let edges = map["edges"].as_array()?;
    let edge = edges.iter().find(|edge| edge["layer"] == "wireguard")?;
    Some(edge["state"].as_str()?.to_owned())
}

#[test]
fn both_ends_make_one_edge_whose_past_can_be_seen_also_after_a_restart() {
    let mut manager = Manager::start(&[]);
    let (a, b) = (Actor::new("a"), Actor::new("b"));
    send(&manager, &a, 1, &tunnel(&a, 1, 2, Some(20)));
    send(&manager, &b, 1, &tunnel(&b, 2, 1, Some(20)));
    let map = manager.wait("/status/topology", |map| wireguard_state(map).as_deref() == Some("up"));
    let edge = map["edges"].as_array().unwrap().iter().find(|edge| edge["layer"] == "wireguard").unwrap();
    assert_eq!(edge["relation"], "confirmed");
    assert!(!edge["evidence"].as_array().unwrap().is_empty(), "no edge without evidence");
    let healthy = manager.wait("/status/events", |events| {
        events["events"].as_array().unwrap().iter().any(|event| event["change"]["event"] == "edge_appeared")
    });
    let then = healthy["events"].as_array().unwrap().last().unwrap()["at"].as_i64().unwrap();
    for at in ["", "&at=-0s"] {
        let brief = manager.get(&format!("/status/topology?detail=brief{at}")).1;
        let ids = |map: &Value, list| -> Vec<Value> {
            map[list].as_array().unwrap().iter().map(|part| part["id"].clone()).collect()
        };
        assert_eq!(ids(&brief, "edges"), ids(&map, "edges"), "{at}");
        let tunnel = brief["edges"].as_array().unwrap().iter().find(|part| part["id"] == edge["id"]).unwrap();
        assert_eq!(
            (&tunnel["state"], &tunnel["handshakes"]),
            (&"up".into(), &serde_json::json!(["live", "live"]))
        );
        for (place, end) in tunnel["ends"].as_array().unwrap().iter().zip(edge["ends"].as_array().unwrap()) {
            let place = usize::try_from(place.as_u64().unwrap()).unwrap();
            assert_eq!(ids(&brief, "nodes")[place], end["node"]);
        }
        assert_eq!(brief["meshes"].as_array().unwrap().is_empty(), !at.is_empty());
    }

    std::thread::sleep(Duration::from_millis(1100));
    send(&manager, &a, 2, &tunnel(&a, 1, 2, Some(900)));
    send(&manager, &b, 2, &tunnel(&b, 2, 1, Some(900)));
    manager.wait("/status/topology", |map| wireguard_state(map).as_deref() == Some("down"));
    manager.wait(&format!("/status/topology?at={}", now_ms() + 60_000), |map| {
        wireguard_state(map).as_deref() == Some("down")
    });
    let past = |manager: &Manager| manager.get(&format!("/status/topology?at={then}")).1;
    assert_eq!(wireguard_state(&past(&manager)).as_deref(), Some("up"), "{:#}", past(&manager));
    assert_eq!(
        manager.get("/status/topology?at=1").1["edges"],
        serde_json::json!([]),
        "before the beginning"
    );

    let events = manager.get(&format!("/status/events?agent={}&after={}", a.agent, healthy["last"])).1;
    let changed: Vec<_> =
        events["events"].as_array().unwrap().iter().map(|event| &event["change"]["event"]).collect();
    assert!(changed.iter().any(|event| **event == "edge_state_changed"), "{events:#}");
    let other = Actor::new("c").agent;
    assert_eq!(manager.get(&format!("/status/events?agent={other}")).1["events"], serde_json::json!([]));

    let last = manager.get("/status/events").1["last"].as_i64().unwrap();
    let state: String = manager.query("SELECT state FROM topology_edges WHERE layer = 'wireguard'");
    assert_eq!(state, "down");
    manager.kill();
    manager.resume();
    let map = manager.wait("/status/topology", |map| wireguard_state(map).as_deref() == Some("down"));
    let edge = map["edges"].as_array().unwrap().iter().find(|edge| edge["layer"] == "wireguard").unwrap();
    let since: i64 = manager.query("SELECT since FROM topology_edges WHERE layer = 'wireguard'");
    std::thread::sleep(Duration::from_millis(1500));
    assert!(since < now_ms() - 1500 && edge["since"].as_i64().unwrap() <= now_ms());
    let again = manager.get("/status/events").1;
    assert_eq!(again["last"].as_i64(), Some(last), "a restart is no change: {again:#}");
    assert_eq!(wireguard_state(&past(&manager)).as_deref(), Some("up"));
}

#[test]
fn counts_alone_reach_the_map_whatever_came_between() {
    let mut manager = Manager::start(&[]);
    let a = Actor::new("a");
    let at = |rx_bytes: u64, mtu: u32| {
        let mut report = tunnel(&a, 1, 2, Some(20));
        report.system.wireguard[0].peers[0].rx_bytes = rx_bytes;
        report.system.interfaces[0].mtu = mtu;
        serde_json::to_vec(&report).unwrap()
    };
    let first = at(1000, 1500);
    let base = Base::new(first.as_slice());
    assert_eq!(manager.report(&a.draft(Kind::Report, 1, &first, now_ms())).code, Code::Stored);
    let next = |manager: &Manager, tick, rx_bytes, mtu| {
        let (json, kind, nonce) = (at(rx_bytes, mtu), Kind::Report, Nonce::random().unwrap());
        let draft = Draft { kind, agent: a.agent, boot: a.boot, tick, nonce, json: &json };
        let sealed = draft.seal_as(Encoding::Delta(1), &base.encode(&json), &a.psk, now_ms());
        assert_eq!(manager.report(&sealed).code, Code::Stored);
        manager.wait("/status/topology", |map| {
            let edges = map["edges"].as_array().unwrap();
            let edge = edges.iter().find(|edge| edge["layer"] == "wireguard");
            let nodes = map["nodes"].as_array().unwrap();
            let node = nodes.iter().find(|node| node["id"] == a.agent.to_string());
            let mtu_is = |node: &Value| node["interfaces"].to_string().contains(&format!("\"mtu\":{mtu}"));
            edge.is_some_and(|edge| edge["halves"][0]["rx_bytes"] == rx_bytes) && node.is_some_and(mtu_is)
        });
    };
    next(&manager, 2, 2000, 1500);
    next(&manager, 3, 3000, 1400);
    next(&manager, 4, 3500, 1400);
    next(&manager, 5, 4000, 1500);
    next(&manager, 6, 4500, 1400);
    manager.kill();
    manager.resume();
    next(&manager, 7, 5000, 1400);
    next(&manager, 8, 5500, 1400);
    next(&manager, 9, 6000, 1500);
    next(&manager, 10, 6500, 1500);
}

#[test]
fn a_poller_is_told_when_nothing_changed() {
    let manager = Manager::start(&[]);
    let a = Actor::new("a");
    send(&manager, &a, 1, &tunnel(&a, 1, 2, Some(20)));
    manager.wait("/status/topology", |map| wireguard_state(map).is_some());
    let written = |events: &Value| events.to_string().contains("edge_appeared");
    manager.wait("/status/events", written);
    for path in ["/status/topology", "/status/topology?detail=structure", "/status/events?after=100"] {
        let tag = manager.header(path, "etag", &[]).1.unwrap();
        assert_eq!(manager.header(path, "etag", &[("If-None-Match", &tag)]), (304, Some(tag.clone())));
        assert_eq!(manager.header(path, "etag", &[("If-None-Match", "\"other\"")]).0, 200);
    }
    let tag = manager.header("/status/topology?detail=structure", "etag", &[]).1.unwrap();
    let figures = manager.header("/status/topology", "etag", &[]).1.unwrap();
    send(&manager, &a, 2, &tunnel(&a, 1, 2, Some(21)));
    std::thread::sleep(Duration::from_millis(1500));
    let structure = "/status/topology?detail=structure";
    let status = manager.header(structure, "etag", &[("If-None-Match", &tag)]).0;
    assert_eq!(status, 304, "only figures changed: {:#}", manager.get("/status/events").1);
    assert_eq!(manager.header("/status/topology", "etag", &[("If-None-Match", &figures)]).0, 200);
}

#[test]
fn a_path_is_walked_there_and_back_and_bad_questions_are_named() {
    let manager = Manager::start(&[]);
    let (a, b) = (Actor::new("a"), Actor::new("b"));
    send(&manager, &a, 1, &tunnel(&a, 1, 2, Some(20)));
    send(&manager, &b, 1, &tunnel(&b, 2, 1, Some(20)));
    manager.wait("/status/topology", |map| wireguard_state(map).as_deref() == Some("up"));
    let path = manager.get(&format!("/status/path?from={}&to={}", a.agent, b.agent)).1;
    assert_eq!(path["forward"]["outcome"], "delivered", "{path:#}");
    assert_eq!(path["back"]["outcome"], "delivered");
    let path = manager.get(&format!("/status/path?from={}&to=10.9.0.77", a.agent)).1;
    assert_eq!(path["forward"]["outcome"], "no_allowed_ips", "{path:#}");
    for (query, status) in [
        ("path?from=x&to=10.0.0.1", 400),
        ("path?to=10.0.0.1", 400),
        ("path?from=00000000000000000000000000000000&to=10.0.0.1", 404),
        ("topology?at=yesterday", 400),
        ("topology?detail=all", 400),
        ("events?limit=0", 400),
        ("events?agent=router", 400),
        ("events?colour=red", 400),
    ] {
        let (got, json) = manager.get(&format!("/status/{query}"));
        assert_eq!(got, status, "{query}: {json}");
        assert!(json["error"]["message"].as_str().unwrap().len() > 10);
    }
}

#[test]
fn a_reset_takes_an_agent_off_the_map_and_undo_brings_it_back() {
    let dir = tempfile::tempdir().unwrap();
    let admin = dir.path().join("admin");
    std::fs::write(&admin, "an admin secret for tests").unwrap();
    common::chmod600(&admin);
    let manager = Manager::start(&[("ADMIN_SECRET_FILE", admin.to_str().unwrap())]);
    let a = Actor::new("a");
    send(&manager, &a, 1, &tunnel(&a, 1, 2, Some(20)));
    let shown =
        |map: &Value| map["nodes"].as_array().unwrap().iter().any(|node| node["id"] == a.agent.to_string());
    manager.wait("/status/topology", shown);
    assert!(manager.command().args(["-reset", "all"]).output().unwrap().status.success());
    manager.wait("/status/topology", |map| !shown(map));
    assert!(manager.command().args(["-undo", "all"]).output().unwrap().status.success());
    manager.wait("/status/topology", shown);
}
