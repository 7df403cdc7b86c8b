//! The map against what the lab built: the real agents on real WireGuard interfaces, edge by edge.
#![expect(clippy::unwrap_used, reason = "the helpers, too, are tests")]

mod e2e;

use std::collections::{BTreeMap, BTreeSet};

use e2e::{Manager, PSK, SOON, agent, now_ms, ready};
use lab::{Device, End, MESH, Mesh, Plan, Proc, Tunnel, wait_for};
use serde_json::Value;

const SETTINGS: [(&str, &str); 2] = [("PSK", PSK), ("REPORT_INTERVAL", "1")];

/// Two ends as `host/interface`, in order.
type Pair = (String, String);

/// A mesh with a manager and an agent on each of `hosts`.
struct Fleet<'mesh> {
    mesh: &'mesh Mesh,
    manager: Manager<'mesh>,
    agents: BTreeMap<String, Proc>,
}

impl<'mesh> Fleet<'mesh> {
    fn start(mesh: &'mesh Mesh, manager: &str, hosts: &[&str]) -> Self {
        let manager = Manager::start(mesh.host(manager), &[("PSK", PSK)]);
        let url = manager.url();
        let start = |&name: &&str| {
            let host = mesh.host(name);
            (name.to_owned(), host.spawn(&agent(host, &url, &SETTINGS)).unwrap())
        };
        let agents = hosts.iter().map(start).collect();
        let fleet = Self { mesh, manager, agents };
        for host in hosts {
            fleet.manager.wait_agent(host, "every agent reports", |agent| agent["presence"] == "online");
        }
        fleet
    }

    /// The map once `fits` is content with it; panics with the map that it never liked.
    fn map(&self, what: &str, fits: impl Fn(&Map) -> bool) -> Map {
        self.map_at("/status/topology", what, fits)
    }

    fn map_at(&self, path: &str, what: &str, fits: impl Fn(&Map) -> bool) -> Map {
        let now = || Map(self.manager.get(path).1);
        wait_for("", SOON, || Some(now()).filter(&fits))
            .unwrap_or_else(|_| panic!("{what}: not within {SOON:?}: {:#}", now().0))
    }

    fn id(&self, host: &str) -> String {
        self.manager.agent(host).unwrap()["id"].as_str().unwrap().to_owned()
    }

    /// The edges that the lab built: every tunnel.
    fn built(&self) -> BTreeSet<Pair> {
        let pair = |tunnel: &Tunnel| {
            let [(a, x), (b, y)] = tunnel.ends();
            ordered(format!("{a}/{x}"), format!("{b}/{y}"))
        };
        self.mesh.tunnels().iter().map(pair).collect()
    }

    fn path(&self, from: &str, to: &str) -> Value {
        let (status, answer) = self.manager.get(&format!("/status/path?from={}&to={to}", self.id(from)));
        assert_eq!(status, 200, "{answer:#}");
        answer
    }
}

fn ordered(a: String, b: String) -> Pair {
    if a <= b { (a, b) } else { (b, a) }
}

/// The map as the manager shows it.
struct Map(Value);

impl Map {
    fn edges(&self, layer: &str) -> Vec<&Value> {
        self.0["edges"].as_array().unwrap().iter().filter(|edge| edge["layer"] == layer).collect()
    }

    /// An end as `host/interface`; what is no agent keeps its id.
    fn end(&self, end: &Value) -> String {
        let node = end["node"].as_str().unwrap();
        let known = self.0["nodes"].as_array().unwrap().iter().find(|known| known["id"] == node).unwrap();
        let name = if known["kind"] == "agent" { known["name"].as_str().unwrap() } else { node };
        match end["interface"].as_str() {
            Some(interface) => format!("{name}/{interface}"),
            None => name.to_owned(),
        }
    }

    fn pair(&self, edge: &Value) -> Pair {
        ordered(self.end(&edge["ends"][0]), self.end(&edge["ends"][1]))
    }

    fn pairs(&self, layer: &str, state: &str) -> BTreeSet<Pair> {
        let in_state = self.edges(layer).into_iter().filter(|edge| edge["state"] == state);
        in_state.map(|edge| self.pair(edge)).collect()
    }

    fn edge(&self, a: &str, b: &str) -> &Value {
        let wanted = ordered(a.to_owned(), b.to_owned());
        let all = self.0["edges"].as_array().unwrap();
        all.iter()
            .find(|edge| self.pair(edge) == wanted)
            .unwrap_or_else(|| panic!("no edge {a} - {b}: {:#}", self.0))
    }

    fn node(&self, name: &str) -> &Value {
        self.0["nodes"].as_array().unwrap().iter().find(|node| node["name"] == name).unwrap()
    }

    /// Every edge says why it is there, in words that name an agent's report.
    fn assert_evidence(&self) {
        for edge in self.0["edges"].as_array().unwrap() {
            let evidence = edge["evidence"].as_array().unwrap();
            assert!(!evidence.is_empty(), "{edge:#}");
            assert!(evidence.iter().all(|item| item["text"].as_str().is_some_and(|text| text.len() > 10)));
        }
    }
}

#[test]
fn a_full_mesh_of_six_has_its_fifteen_edges_and_no_other() {
    if !ready(MESH) {
        return;
    }
    let hosts = ["a", "b", "c", "d", "e", "f"];
    let mut plan = Plan::new("six").lan("lan", "10.1.0.0/24");
    for (n, host) in (1..).zip(hosts) {
        plan = plan.attach(host, "lan", &format!("10.1.0.{n}"));
    }
    let mesh = plan.full_mesh("wg0", "10.77.0.0/24", &hosts).up().unwrap();
    mesh.wait_handshakes(SOON).unwrap();
    let fleet = Fleet::start(&mesh, "a", &hosts);
    let built = fleet.built();
    assert_eq!(built.len(), 15);
    let map = fleet.map("all edges are up", |map| map.pairs("wireguard", "up") == built);
    assert_eq!(map.edges("wireguard").len(), 15);
    assert!(map.edges("wireguard").iter().all(|edge| edge["relation"] == "confirmed"));
    assert_eq!(map.edges("overlay").len(), 0);
    map.assert_evidence();
    let meshes = map.0["meshes"].as_array().unwrap();
    assert_eq!((meshes.len(), &meshes[0]["kind"]), (1, &"full".into()), "{meshes:#?}");
    // All of them talk to each other on one LAN, and the neighbour tables say so.
    let neighbours = map.edges("physical");
    assert!(neighbours.iter().all(|edge| map.pair(edge).0.ends_with("/eth0")), "{neighbours:#?}");
}

#[test]
fn a_hub_behind_which_two_homes_have_the_same_prefix() {
    if !ready(MESH) {
        return;
    }
    let mut plan =
        Plan::new("homes").lan("internet", "203.0.113.0/24").attach("hub", "internet", "203.0.113.1");
    for (n, home) in (1..).zip(["one", "two"]) {
        let (router, host) = (format!("router-{home}"), format!("host-{home}"));
        plan = plan
            .lan(home, "192.168.1.0/24")
            .attach(&router, "internet", &format!("203.0.113.{}", 10 + n))
            .attach(&router, home, "192.168.1.1")
            .nat(&router, "eth0")
            .attach(&host, home, "192.168.1.20")
            .gateway(&host, "192.168.1.1");
    }
    let mesh = plan.hub("wg0", "10.77.0.0/24", "hub", &["host-one", "host-two"]).up().unwrap();
    mesh.wait_handshakes(SOON).unwrap();
    let fleet = Fleet::start(&mesh, "hub", &["hub", "host-one", "host-two"]);
    let built = fleet.built();
    let map = fleet.map("both spokes are up", |map| map.pairs("wireguard", "up") == built);
    map.assert_evidence();
    assert_eq!(map.0["meshes"][0]["kind"], "hub_and_spoke", "{:#}", map.0["meshes"]);
    for (n, home) in (1..).zip(["one", "two"]) {
        let node = map.node(&format!("host-{home}"));
        assert_eq!(node["nat"]["kind"], "nat", "{node:#}");
        assert_eq!(node["site"], format!("203.0.113.{}", 10 + n), "{node:#}");
    }
    // The same prefix and the same gateway address are no evidence: two LANs, each with one host.
    let lan = |host: &str| {
        let physical = map.edges("physical");
        let own: Vec<String> = physical
            .into_iter()
            .map(|edge| map.pair(edge))
            .filter(|(a, b)| a.starts_with(host) || b.starts_with(host))
            .flat_map(|(a, b)| [a, b])
            .filter(|end| end.starts_with("lan:"))
            .collect();
        assert_eq!(own.len(), 1, "{host} is on one LAN: {own:?}");
        own[0].clone()
    };
    assert_ne!(lan("host-one"), lan("host-two"));
}

#[test]
fn a_bridge_joins_two_hosts_and_shows_its_ports() {
    if !ready(MESH) {
        return;
    }
    let mesh = Plan::new("bridge")
        .lan("left", "10.3.0.0/24")
        .lan("right", "10.3.0.0/24")
        .attach("switch", "left", "10.3.0.101")
        .attach("switch", "right", "10.3.0.102")
        .attach("one", "left", "10.3.0.1")
        .attach("two", "right", "10.3.0.2")
        .up()
        .unwrap();
    let switch = mesh.host("switch");
    switch
        .sh("ip addr flush dev eth0; ip addr flush dev eth1; ip link add br0 type bridge
            ip link set eth0 master br0; ip link set eth1 master br0
            ip addr add 10.3.0.100/24 dev br0; ip link set br0 up")
        .unwrap();
    assert!(mesh.host("one").ping("10.3.0.2", SOON) && mesh.host("one").ping("10.3.0.100", SOON));
    assert!(mesh.host("two").ping("10.3.0.100", SOON));
    let manager = Manager::start(switch, &[("PSK", PSK)]);
    let _agents: Vec<Proc> = ["switch", "one", "two"]
        .map(|name| {
            mesh.host(name).spawn(&agent(mesh.host(name), "http://10.3.0.100:5086", &SETTINGS)).unwrap()
        })
        .into();
    let map = wait_for("all three and their LAN", SOON, || {
        let map = Map(manager.get("/status/topology").1);
        let known = |a: &str, b: &str| map.pairs("physical", "up").contains(&ordered(a.into(), b.into()));
        let all = known("one/eth0", "switch/br0")
            && known("two/eth0", "switch/br0")
            && known("one/eth0", "two/eth0");
        all.then_some(map)
    })
    .unwrap();
    map.assert_evidence();
    let node = map.node("switch");
    let interface = |name: &str| {
        node["interfaces"].as_array().unwrap().iter().find(|interface| interface["name"] == name).unwrap()
    };
    assert_eq!(interface("br0")["kind"], "bridge");
    assert_eq!(interface("br0")["on"], serde_json::json!(["eth0", "eth1"]), "{node:#}");
    assert_eq!(interface("eth0")["master"], "br0");
}

#[test]
fn a_tunnel_inside_a_tunnel_is_carried_by_it() {
    if !ready(MESH) {
        return;
    }
    let end = |host: &str, device: &str| End::new(host, device).keepalive(5);
    let mesh = Plan::new("nested")
        .lan("lan", "10.1.0.0/24")
        .attach("a", "lan", "10.1.0.1")
        .attach("b", "lan", "10.1.0.2")
        .device(Device::new("a", "wg0", "10.7.0.1/24").port(51820))
        .device(Device::new("b", "wg0", "10.7.0.2/24").port(51820))
        .device(Device::new("a", "wg1", "10.8.0.1/24").port(51821).mtu(1340))
        .device(Device::new("b", "wg1", "10.8.0.2/24").port(51821).mtu(1340))
        .tunnel(Tunnel::between(end("a", "wg0").dial(), end("b", "wg0").dial()))
        .tunnel(Tunnel::between(
            end("a", "wg1").dial_at("10.7.0.2:51821"),
            end("b", "wg1").dial_at("10.7.0.1:51821"),
        ))
        .up()
        .unwrap();
    mesh.wait_handshakes(SOON).unwrap();
    let fleet = Fleet::start(&mesh, "a", &["a", "b"]);
    let built = fleet.built();
    let map = fleet.map("both tunnels are up", |map| map.pairs("wireguard", "up") == built);
    let (outer, inner) = (map.edge("a/wg0", "b/wg0"), map.edge("a/wg1", "b/wg1"));
    for half in inner["halves"].as_array().unwrap() {
        assert_eq!(half["underlay"]["kind"], "nested", "{half:#}");
        assert_eq!(half["underlay"]["inside"], outer["id"], "{half:#}");
    }
    for half in outer["halves"].as_array().unwrap() {
        assert_eq!(
            (&half["underlay"]["kind"], &half["underlay"]["interface"]),
            (&"lan".into(), &"eth0".into())
        );
    }
    let path = fleet.path("a", "10.8.0.2");
    assert_eq!(path["forward"]["outcome"], "delivered", "{path:#}");
    assert_eq!(path["back"]["outcome"], "delivered", "{path:#}");
}

#[test]
fn a_partition_and_its_healing_can_both_be_seen_afterwards() {
    if !ready(MESH) {
        return;
    }
    let mesh = Plan::new("partition")
        .lan("west", "10.1.0.0/24")
        .lan("east", "10.2.0.0/24")
        .attach("router", "west", "10.1.0.254")
        .attach("router", "east", "10.2.0.254")
        .router("router")
        .attach("w", "west", "10.1.0.1")
        .gateway("w", "10.1.0.254")
        .attach("e", "east", "10.2.0.1")
        .gateway("e", "10.2.0.254")
        .full_mesh("wg0", "10.77.0.0/24", &["w", "e"])
        .up()
        .unwrap();
    mesh.wait_handshakes(SOON).unwrap();
    let fleet = Fleet::start(&mesh, "w", &["w", "e"]);
    let edge = ("e/wg0", "w/wg0");
    let is = |map: &Map, presence: &str| map.node("e")["presence"] == presence;
    fleet.map("both sides are there", |map| is(map, "fresh") && !map.pairs("wireguard", "up").is_empty());

    mesh.host("router").cut_through("ip protocol { tcp, udp }").unwrap();
    fleet.map("the east has fallen silent", |map| is(map, "silent"));
    let parted = now_ms();
    std::thread::sleep(std::time::Duration::from_millis(1500));
    mesh.host("router").heal().unwrap();
    fleet.map("the east is back", |map| is(map, "fresh"));

    let at = |moment: i64| Map(fleet.manager.get(&format!("/status/topology?at={moment}")).1);
    assert!(is(&at(parted), "silent"), "{:#}", at(parted).0);
    assert_eq!(at(parted).edge(edge.0, edge.1)["relation"], "confirmed", "the tunnel is still known");
    let id = fleet.id("e");
    let presences = wait_for("both changes are in the history", SOON, || {
        let events = fleet.manager.get(&format!("/status/events?agent={id}&node={id}")).1;
        let changes = events["events"].as_array().unwrap().iter();
        let changes = changes.filter(|event| event["change"]["event"] == "presence_changed");
        let told = |event: &Value| (event["change"]["presence"].clone(), event["at"].as_i64().unwrap());
        Some(changes.map(told).collect::<Vec<_>>()).filter(|told| told.len() >= 2)
    })
    .unwrap();
    assert_eq!(presences.iter().map(|(told, _)| told).collect::<Vec<_>>(), ["silent", "fresh"]);
    assert!(is(&at(presences[1].1), "fresh") && is(&at(presences[1].1 - 1), "silent"));
}

#[test]
fn a_route_loop_and_a_black_hole_are_found_at_the_right_hop() {
    if !ready(MESH) {
        return;
    }
    let hosts = ["a", "b", "c"];
    let mut plan = Plan::new("loop").lan("lan", "10.1.0.0/24");
    for (n, host) in (1..).zip(hosts) {
        plan = plan.attach(host, "lan", &format!("10.1.0.{n}"));
    }
    // The devices let everything through, so that routes alone decide.
    let end = |host: &str, device: &str| End::new(host, device).dial().keepalive(5).allowed("0.0.0.0/0");
    for (n, (a, b)) in [("a", "b"), ("b", "c")].into_iter().enumerate() {
        let name = format!("t{n}");
        plan = plan
            .device(Device::new(a, &name, &format!("10.5.{n}.1/30")))
            .device(Device::new(b, &name, &format!("10.5.{n}.2/30")))
            .tunnel(Tunnel::between(end(a, &name), end(b, &name)))
            .router(a)
            .router(b);
    }
    let mesh = plan.up().unwrap();
    for (host, route) in [
        ("a", "10.99.0.0/24 dev t0"),
        ("b", "10.99.0.0/24 dev t1"),
        ("c", "10.99.0.0/24 dev t1"), // back to b, and so on
        ("a", "10.98.0.0/24 dev t0"),
        ("b", "10.98.0.0/24 dev t1"),
        ("c", "blackhole 10.98.0.0/24"),
        ("a", "10.5.1.0/30 dev t0"),
        ("c", "10.5.0.0/30 dev t1"),
    ] {
        let route: Vec<&str> = route.split(' ').collect();
        let (kind, rest) =
            if route[0] == "blackhole" { (vec!["blackhole"], &route[1..]) } else { (vec![], &route[..]) };
        mesh.host(host).run(&[vec!["ip", "route", "add"], kind, rest.to_vec()].concat()).unwrap();
    }
    mesh.wait_handshakes(SOON).unwrap();
    let fleet = Fleet::start(&mesh, "a", &hosts);
    let built = fleet.built();
    fleet.map("both tunnels are up", |map| map.pairs("wireguard", "up") == built);
    let name = |path: &Value| {
        let way = &path["forward"];
        let end = way["hops"].as_array().unwrap().iter().find(|hop| hop["agent"] == way["ends_at"]).unwrap();
        end["name"].as_str().unwrap().to_owned()
    };
    // The kernel may tell of a link that just came up a second late.
    let path = wait_for("every link is known to be up", SOON, || {
        Some(fleet.path("a", "10.98.0.9")).filter(|path| path["forward"]["outcome"] != "interface_down")
    });
    let path = path.unwrap_or_else(|_| fleet.path("a", "10.98.0.9"));
    assert_eq!((&path["forward"]["outcome"], name(&path)), (&"refused".into(), "c".to_owned()), "{path:#}");
    let path = fleet.path("a", "10.99.0.9");
    assert_eq!(path["forward"]["outcome"], "loop", "{path:#}");
    assert!(["b", "c"].contains(&name(&path).as_str()), "{path:#}");
    let path = fleet.path("a", "10.5.1.2");
    assert_eq!(path["forward"]["outcome"], "delivered", "{path:#}");
    assert!(mesh.host("a").ping("10.5.1.2", SOON), "and so it is");
    assert!(!mesh.host("a").ping("10.98.0.9", std::time::Duration::from_secs(2)));
    let silent: BTreeSet<&String> =
        fleet.agents.iter().filter(|(_, agent)| !agent.is_running()).map(|(name, _)| name).collect();
    assert!(silent.is_empty(), "{silent:?}");
}
