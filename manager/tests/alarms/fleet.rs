//! A made-up fleet: hosts in full mesh whose tunnels are kept alive, as a case then changes them.

#![allow(unreachable_pub, missing_docs, missing_debug_implementations, reason = "parts of a test")]

use std::collections::BTreeMap;

use proto::ids::{AgentId, BootId, PublicKey};
use proto::report::Report;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// When every case starts (ms).
pub const START: i64 = 1_764_000_000_000;

/// A case.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What it shows.
    pub about: String,
    /// Codes that must fire and are told.
    #[serde(default)]
    pub fires: Vec<String>,
    /// Codes of warning or worse that fire too.
    #[serde(default)]
    pub also: Vec<String>,
    /// How long it goes on.
    pub seconds: i64,
    /// Hosts; each has eth0 (192.0.2.N/24), wg0 (10.9.0.N/24), and all others as peers.
    pub hosts: Vec<String>,
    /// What is other than in the healthy mesh, from one moment to another.
    #[serde(default)]
    changes: Vec<Change>,
    /// When the manager is started anew.
    #[serde(default)]
    pub restarts: Vec<i64>,
    /// What the manager suffers.
    #[serde(default)]
    pub manager: Vec<ManagerChange>,
    /// Orders not to tell.
    #[serde(default)]
    pub silences: Vec<SilenceOrder>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    #[serde(default)]
    from: i64,
    #[serde(default = "forever")]
    until: i64,
    /// The host that it is at; all hosts when it is not given.
    host: Option<String>,
    /// Values by place, such as `wg0.peers.leaf.endpoint`, `eth0.mtu`, `system.uptime_s`; null removes.
    #[serde(default)]
    set: Map<String, Value>,
    /// What flows over the host's tunnel to a peer: see [`Fleet::flow`].
    #[serde(default)]
    flow: BTreeMap<String, String>,
    /// Items added to a list of `system`: routes, neighbours, interfaces.
    #[serde(default)]
    add: BTreeMap<String, Vec<Value>>,
    /// It does not report.
    #[serde(default)]
    silent: bool,
    /// Its reports of this time are kept and sent when it is over.
    #[serde(default)]
    spools: bool,
    /// Its agent is started anew at `from`.
    #[serde(default)]
    restart: bool,
    /// Relays that its reports pass.
    #[serde(default)]
    path: Vec<String>,
    /// Generation of the PSK that it uses.
    psk: Option<u32>,
    /// A counter that grows by so much with every report: `wg0.tx_errors`.
    #[serde(default)]
    grow: BTreeMap<String, u64>,
    /// Several values that take turns, one a report.
    #[serde(default)]
    turns: BTreeMap<String, Vec<Value>>,
}

fn forever() -> i64 {
    i64::MAX
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManagerChange {
    #[serde(default)]
    pub from: i64,
    #[serde(default = "forever")]
    pub until: i64,
    pub database_failure: Option<String>,
    pub write_ms: Option<u64>,
    pub disk_mb: Option<(u64, u64)>,
    pub psk_failure: Option<String>,
    pub psk_generation: Option<u32>,
    #[serde(default)]
    pub refused: BTreeMap<String, u64>,
    pub refused_agent: Option<u8>,
    pub notifier_failing_since: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SilenceOrder {
    pub at: i64,
    pub target: String,
    pub for_s: i64,
}

/// How a report travels.
pub struct How {
    pub boot: BootId,
    pub tick: u64,
    pub path: Vec<AgentId>,
    pub psk: u32,
}

pub fn id_of(number: u8) -> AgentId {
    AgentId([number; 16])
}

/// A host's key, and those that it has later.
pub fn key_of(number: u8, turn: u8) -> PublicKey {
    PublicKey([number + 64 * turn; 32])
}

pub struct Fleet<'a> {
    case: &'a Case,
    hosts: Vec<HostState>,
}

#[derive(Default)]
struct HostState {
    ticks: u64,
    boots: u8,
    reports: usize,
    /// Bytes received from and sent to each peer, and when the last handshake was (s).
    peers: BTreeMap<u8, (u64, u64, Option<i64>)>,
    grown: BTreeMap<String, u64>,
    spool: Vec<(u64, Report)>,
}

impl<'a> Fleet<'a> {
    pub fn new(case: &'a Case) -> Self {
        let hosts = case.hosts.iter().map(|_| HostState::default()).collect();
        Self { case, hosts }
    }

    pub fn names(&self) -> impl Iterator<Item = (u8, &str)> {
        (1..).zip(self.case.hosts.iter().map(String::as_str))
    }

    pub fn number(&self, name: &str) -> Option<u8> {
        self.names().find(|(_, known)| *known == name).map(|(number, _)| number)
    }

    fn active(&self, number: u8, second: i64) -> impl Iterator<Item = &'a Change> {
        let name = self.case.hosts[usize::from(number) - 1].clone();
        self.case.changes.iter().filter(move |change| {
            (change.from..change.until).contains(&second)
                && change.host.as_ref().is_none_or(|host| *host == name)
        })
    }

    /// The reports that arrive at a second: host, when signed (ms), its number, what it says.
    pub fn due(&mut self, second: i64) -> Vec<(u8, i64, u64, Report)> {
        let mut due = Vec::new();
        for number in 1..=u8::try_from(self.hosts.len()).unwrap() {
            // Hosts do not report all at once.
            if (second - i64::from(number) * 5) % 30 != 0 || second < i64::from(number) * 5 {
                continue;
            }
            if self.active(number, second).any(|change| change.restart && second - change.from < 30) {
                let host = &mut self.hosts[usize::from(number) - 1];
                host.boots += 1;
                host.ticks = 0;
            }
            let report = self.report(number, second);
            let silent = self.active(number, second).any(|change| change.silent);
            let spools = self.active(number, second).any(|change| change.spools);
            let now = START + second * 1000;
            let host = &mut self.hosts[usize::from(number) - 1];
            host.ticks += 1;
            if spools {
                host.spool.push((host.ticks, report));
            } else if !silent {
                due.push((number, now, host.ticks, report));
                due.extend(host.spool.drain(..).map(|(tick, report)| (number, now, tick, report)));
            }
        }
        due
    }

    pub fn delivery_of(&self, number: u8, second: i64, tick: u64) -> How {
        let path: Vec<AgentId> = self
            .active(number, second)
            .flat_map(|change| &change.path)
            .map(|name| id_of(self.number(name).unwrap()))
            .collect();
        let psk = self.active(number, second).filter_map(|change| change.psk).last().unwrap_or(1);
        let host = &self.hosts[usize::from(number) - 1];
        let boot = BootId([number.wrapping_add(host.boots.wrapping_mul(16)); 16]);
        How { boot, tick, path, psk }
    }

    fn report(&mut self, number: u8, second: i64) -> Report {
        let changes: Vec<&Change> = self.active(number, second).collect();
        let mut report = base(number, &self.case.hosts, second);
        let others: Vec<u8> = self.names().map(|(other, _)| other).filter(|other| *other != number).collect();
        for other in others {
            let name = &self.case.hosts[usize::from(other) - 1];
            let mut flow =
                changes.iter().filter_map(|change| change.flow.get(name).or_else(|| change.flow.get("*")));
            let flow = flow.next_back().map_or("alive", String::as_str);
            let peer = self.flow(number, other, second, flow);
            let (rx, tx, handshake) = peer;
            let at = format!("/system/wireguard/0/peers/{}", place_of(number, other));
            let peer = report.pointer_mut(&at).unwrap();
            peer["rx_bytes"] = json!(rx);
            peer["tx_bytes"] = json!(tx);
            peer["handshake_age_s"] = json!(handshake.map(|at| second - at));
        }
        let state = &mut self.hosts[usize::from(number) - 1];
        for change in &changes {
            for (place, by) in &change.grow {
                *state.grown.entry(place.clone()).or_default() += by;
            }
        }
        for (place, grown) in state.grown.clone() {
            *self.find(&mut report, number, &place) = json!(grown);
        }
        let turn = self.hosts[usize::from(number) - 1].reports;
        self.hosts[usize::from(number) - 1].reports += 1;
        for change in changes {
            for (list, items) in &change.add {
                let items =
                    items.iter().map(|item| serde_json::from_str(&self.named(&item.to_string())).unwrap());
                report["system"][list].as_array_mut().unwrap().extend(items);
            }
            for (place, value) in &change.set {
                let value: Value = serde_json::from_str(&self.named(&value.to_string())).unwrap();
                self.put(&mut report, number, place, value);
            }
            for (place, values) in &change.turns {
                self.put(&mut report, number, place, values[turn % values.len()].clone());
            }
        }
        let mut report: Report =
            serde_json::from_value(report).unwrap_or_else(|error| panic!("{}: {error}", self.case.about));
        report.system.routes_total = u32::try_from(report.system.routes.len()).unwrap();
        report
    }

    /// What flows with a peer until this report: `alive` (handshakes every 120 s, keepalives), `data`,
    /// `unanswered` (six initiations, nothing back), `answers` (initiations come in, responses go
    /// out), `send` and `receive` (data one way), `quiet` (nothing at all; the handshake grows old),
    /// `churn` (a new handshake each time), `never`.
    fn flow(&mut self, number: u8, other: u8, second: i64, flow: &str) -> (u64, u64, Option<i64>) {
        let state = &mut self.hosts[usize::from(number) - 1];
        let peer = state.peers.entry(other).or_insert((1000, 1000, Some(0)));
        let renewed = second / 120 * 120;
        let (rx, tx) = match flow {
            "data" => (50_000, 50_000),
            "send" => (32, 50_000),
            "receive" => (50_000, 32),
            "unanswered" => (0, 6 * 148),
            "answers" => (6 * 148, 6 * 92),
            "answers and calls" | "misunderstood" => (6 * 148, 6 * 92 + 6 * 148),
            "quiet" | "never" => (0, 0),
            _ => (64, 64),
        };
        peer.0 += rx;
        peer.1 += tx;
        peer.2 = match flow {
            "alive" | "data" | "send" | "receive" => Some(renewed.max(peer.2.unwrap_or(0))),
            "churn" => Some(second - 3),
            "never" | "misunderstood" => None,
            _ => peer.2,
        };
        *peer
    }

    /// `ID(host)`, `KEY(host)` and `KEY(host')` as what they stand for.
    fn named(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (number, name) in self.names() {
            text = text.replace(&format!("ID({name})"), &id_of(number).to_string());
            for turn in 0..3 {
                let prime = "'".repeat(usize::from(turn));
                text = text.replace(&format!("KEY({name}{prime})"), &key_of(number, turn).to_string());
            }
        }
        text
    }

    /// Puts a value at a place; null takes an item of a list away.
    fn put(&self, report: &mut Value, number: u8, place: &str, value: Value) {
        if value.is_null()
            && let Some((list, item)) = place.rsplit_once('.')
            && let Some(items) = self.find(report, number, list).as_array_mut()
        {
            let at = self.item(items, item);
            items.remove(at);
            return;
        }
        *self.find(report, number, place) = value;
    }

    /// The value at a place: the first part is an interface's name, or `system`, `report` or `device`.
    fn find<'v>(&self, report: &'v mut Value, number: u8, place: &str) -> &'v mut Value {
        let mut parts = place.split('.');
        let first = parts.next().unwrap();
        let rest: Vec<&str> = parts.collect();
        let wireguard = rest
            .first()
            .is_some_and(|part| matches!(*part, "peers" | "public_key" | "listen_port" | "fwmark"));
        let mut value = match (first, wireguard) {
            ("report", _) => report,
            ("system", _) => &mut report["system"],
            (name, true) => self.named_item(&mut report["system"]["wireguard"], name),
            (name, false) => self.named_item(&mut report["system"]["interfaces"], name),
        };
        for part in rest {
            // Short for the counters of an interface.
            if matches!(part, "rx_frame" | "tx_errors" | "rx_errors") {
                value = &mut value["counters"];
            }
            value = if value.is_array() { self.named_item(value, part) } else { &mut value[part] };
        }
        let _ = number;
        value
    }

    fn named_item<'v>(&self, list: &'v mut Value, name: &str) -> &'v mut Value {
        let items = list.as_array_mut().unwrap();
        let at = self.item(items, name);
        &mut items[at]
    }

    fn item(&self, items: &[Value], name: &str) -> usize {
        if let Ok(number) = name.parse() {
            return number;
        }
        let key = self.number(name).map(|number| key_of(number, 0).to_string());
        let fits = |item: &Value| {
            item["name"] == name
                || key.as_ref().is_some_and(|key| item["public_key"] == *key)
                || item["ip"] == name
        };
        items.iter().position(fits).unwrap_or_else(|| panic!("there is no {name}"))
    }
}

fn place_of(number: u8, other: u8) -> u8 {
    if other < number { other - 1 } else { other - 2 }
}

/// A healthy host's report.
fn base(number: u8, hosts: &[String], second: i64) -> Value {
    let peers = (1..=u8::try_from(hosts.len()).unwrap()).filter(|other| *other != number).map(|other| {
        json!({
            "public_key": key_of(other, 0), "endpoint": format!("192.0.2.{other}:51820"),
            "allowed_ips": [format!("10.9.0.{other}/32")], "keepalive_s": 25
        })
    });
    let peers: Vec<Value> = peers.collect();
    json!({
        "version": 1, "observed_at": START + second * 1000, "agent_version": "0.1.0", "interval_s": 30,
        "hardware": format!("hardware {number}"),
        "system": {
            "hostname": hosts[usize::from(number) - 1], "uptime_s": 86_400 + second,
            "forwarding": { "ipv4": true, "ipv6": false },
            "interfaces": [
                { "name": "eth0", "index": 2, "kind": "physical", "mac": format!("aa:00:00:00:00:{number:02x}"),
                  "mtu": 1500, "flags": 0x43, "operstate": "up", "carrier_changes": 1, "speed_mbps": 1000,
                  "addresses": [format!("192.0.2.{number}/24")], "counters": {} },
                { "name": "wg0", "index": 3, "kind": "wireguard", "driver_kind": "wireguard", "mtu": 1420,
                  "flags": 0x41, "operstate": "unknown", "addresses": [format!("10.9.0.{number}/24")],
                  "counters": {} }
            ],
            "routes": [
                { "destination": "0.0.0.0/0", "gateway": "192.0.2.254", "interface": "eth0" },
                { "destination": "192.0.2.0/24", "interface": "eth0" },
                { "destination": "10.9.0.0/24", "interface": "wg0" }
            ],
            "routes_source": "netlink",
            "neighbours": [
                { "ip": "192.0.2.254", "mac": "bb:00:00:00:00:fe", "interface": "eth0", "state": "reachable" }
            ],
            "neighbours_source": "netlink",
            "wireguard": [{
                "name": "wg0", "public_key": key_of(number, 0), "listen_port": 51820, "peers": peers
            }],
            "wireguard_source": "wg"
        }
    })
}
