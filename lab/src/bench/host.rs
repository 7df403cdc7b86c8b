//! What the simulated hosts are like: a router with six interfaces, 20 routes, and two WireGuard
//! devices with seven and three peers; and how that drifts from report to report.
//!
//! Every value is a function of the agent's number and the tick, so a fleet of any size needs no
//! memory for it. Counters of 3 of 6 interfaces and 6 of 10 peers move every tick, a handshake every
//! fourth, and something of structure (a route's metric) about every 200th report. What two hosts say of
//! the tunnel between them agrees, so that nothing in such a fleet is an alarm.

use proto::ids::PublicKey;
use proto::report::Report;
use serde_json::{Value, json};

use super::template::{Marker, Template, write_digits};

/// Ring distances of the peers of wg0 and wg1; 0 stands for the agent at the other side of the ring.
/// Symmetric, so every tunnel is reported from both ends.
const PEERS: [&[i64]; 2] = [&[-3, -2, -1, 0, 1, 2, 3], &[-10, 0, 10]];
const INTERFACES: [(&str, &str); 6] = [
    ("lo", "loopback"),
    ("eth0", "physical"),
    ("eth1", "physical"),
    ("br-lan", "bridge"),
    ("wg0", "wireguard"),
    ("wg1", "wireguard"),
];
/// Interfaces whose counters stand still: spare ports of a router.
const IDLE: [usize; 3] = [0, 2, 5];
/// Peers of wg0 and wg1 whose counters move.
const ACTIVE: [&[u8]; 2] = [&[0, 1, 5, 6], &[0, 2]];
const ROUTES: u8 = 20;
/// Reports of one agent between two changes of structure.
const STRUCTURE_EVERY: u64 = 200;
/// Port of wg0; wg1 has the next one.
const LISTEN_PORT: u16 = 51_820;
/// Marks the metric that changes.
const METRIC: u64 = 999;
/// 2026-01-01 in Unix seconds: where the simulated handshakes begin.
const HANDSHAKES_FROM: u64 = 1_767_225_600;

/// What is written into a hole of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    ObservedAt,
    /// Six decimal digits of the agent's number.
    Number,
    /// Three octets of a MAC address, with colons.
    Mac,
    Uptime,
    Load(u8),
    MemoryAvailable,
    /// A counter of an interface: (interface, which one).
    Counter(u8, u8),
    /// A device's own public key.
    Key(u8),
    /// Three octets that stand for the agent in its addresses.
    Octets,
    /// A peer's public key: (device, peer).
    PeerKey(u8, u8),
    /// Three octets that stand for a peer in its addresses.
    PeerOctets(u8, u8),
    /// A route's metric.
    Metric,
    HandshakeAt(u8, u8),
    HandshakeAge(u8, u8),
    /// A counter of a peer: (device, peer, which one).
    PeerCounter(u8, u8, u8),
}

/// Where and when a report is made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    /// The agent's number.
    pub(super) agent: u32,
    /// Agents in the ring.
    pub(super) fleet: u32,
    /// The report's number in its boot.
    pub(super) tick: u64,
    /// The clock (ms since the epoch).
    pub(super) now_ms: i64,
}

/// The template of a report.
///
/// # Errors
/// Where a marker got lost: the report's shape no longer is what this module thinks.
pub(super) fn template() -> Result<Template<Field>, String> {
    let report: Report = serde_json::from_value(marked()).map_err(|error| error.to_string())?;
    let text = serde_json::to_string(&report).map_err(|error| error.to_string())?;
    Template::new(&text, &markers())
}

impl Moment {
    /// Writes a field's value at this moment; as many bytes as its hole has.
    pub(super) fn write(&self, field: Field, hole: &mut [u8]) {
        let &Self { agent, tick, .. } = self;
        let me = u64::from(agent);
        match field {
            Field::ObservedAt => write_digits(hole, u64::try_from(self.now_ms).unwrap_or(0)),
            Field::Number => write_digits(hole, me),
            Field::Mac => write_mac(hole, agent),
            Field::Uptime => write_digits(hole, 1_000_000 + me + 30 * tick),
            Field::Load(n) => write_load(hole, mix(me ^ u64::from(n) << 40 ^ tick << 44)),
            Field::MemoryAvailable => write_digits(hole, 300_000 + mix(me ^ tick << 32) % 20_000),
            Field::Counter(interface, which) => {
                let seed = mix(me << 8 | u64::from(interface) << 4 | u64::from(which));
                let tick = if IDLE.contains(&usize::from(interface)) { 0 } else { tick };
                write_digits(hole, counter(seed, tick, hole.len()));
            }
            Field::PeerCounter(device, peer, which) => {
                // What one end sends the other receives.
                let other = u64::from(self.peer(device, peer));
                let (from, to) = if which == 0 { (other, me) } else { (me, other) };
                let tick = if ACTIVE[usize::from(device)].contains(&peer) { tick } else { 0 };
                write_digits(hole, counter(mix(from << 34 | to << 2 | u64::from(device)), tick, hole.len()));
            }
            Field::Key(device) => write_key(hole, agent, device),
            Field::PeerKey(device, peer) => write_key(hole, self.peer(device, peer), device),
            Field::Octets => write_octets(hole, agent),
            Field::PeerOctets(device, peer) => write_octets(hole, self.peer(device, peer)),
            Field::Metric => write_digits(hole, 100 + (tick + me) / STRUCTURE_EVERY % 100),
            Field::HandshakeAt(device, peer) => {
                let phase = me + u64::from(device) * 8 + u64::from(peer);
                write_digits(hole, HANDSHAKES_FROM + (tick + phase) / 4 * 120);
            }
            Field::HandshakeAge(device, peer) => {
                let phase = me + u64::from(device) * 8 + u64::from(peer);
                write_digits(hole, 10 + (tick + phase) % 4 * 29);
            }
        }
    }

    fn peer(&self, device: u8, peer: u8) -> u32 {
        let fleet = i64::from(self.fleet.max(1));
        let distance = match PEERS[usize::from(device)][usize::from(peer)] {
            0 => fleet / 2,
            distance => distance,
        };
        u32::try_from((i64::from(self.agent) + distance).rem_euclid(fleet)).expect("below the fleet's size")
    }
}

/// A counter of just `digits` digits that grows with `tick` and never falls.
fn counter(seed: u64, tick: u64, digits: usize) -> u64 {
    let least = 10_u64.pow(u32::try_from(digits).unwrap_or(19).min(19) - 1);
    let rate = least / 100_000 + seed % (least / 10_000);
    let jitter = mix(seed ^ tick) % (rate / 16 + 1);
    least + seed % (4 * least) + (tick * rate + jitter) % (4 * least)
}

fn write_octets(hole: &mut [u8], agent: u32) {
    for (octet, place) in hole.chunks_mut(4).zip([150 * 150, 150, 1]) {
        write_digits(&mut octet[..3], u64::from(100 + agent / place % 150));
    }
}

fn write_mac(hole: &mut [u8], agent: u32) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let [_, bytes @ ..] = agent.to_be_bytes();
    for (octet, byte) in hole.chunks_mut(3).zip(bytes) {
        octet[0] = HEX[usize::from(byte >> 4)];
        octet[1] = HEX[usize::from(byte & 15)];
    }
}

fn write_key(hole: &mut [u8], agent: u32, device: u8) {
    let mut bytes = [0; 32];
    for (part, chunk) in (0_u64..).zip(bytes.chunks_mut(8)) {
        chunk.copy_from_slice(
            &mix(u64::from(agent) << 16 | u64::from(device) << 8 | (part + 1)).to_le_bytes(),
        );
    }
    hole.copy_from_slice(PublicKey(bytes).to_string().as_bytes());
}

/// A load average from 0.00 to 3.99.
fn write_load(hole: &mut [u8], number: u64) {
    write_digits(&mut hole[..1], number % 4);
    write_digits(&mut hole[2..], number / 4 % 100);
}

/// A number that looks random and depends on `seed` alone (SplitMix64's finaliser).
pub(super) fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Keys of an interface's counters with their digits.
const COUNTERS: [(&str, u32); 4] = [("rx_bytes", 11), ("rx_packets", 9), ("tx_bytes", 11), ("tx_packets", 9)];
/// Keys of a peer's counters; ten digits tell them from an interface's.
const PEER_COUNTERS: [(&str, u32); 2] = [("rx_bytes", 10), ("tx_bytes", 10)];

/// A number of `digits` digits that stands for hole number `id`. Its second digit tells numbers of
/// different lengths apart, so that none begins with another.
fn mark(digits: u32, id: u64) -> u64 {
    u64::from(90 + digits % 10) * 10_u64.pow(digits - 2) + id
}

fn mark_key(id: u8) -> PublicKey {
    PublicKey([id; 32])
}

fn mark_octets(device: u8, peer: u8) -> String {
    format!("251.10{device}.10{peer}")
}

/// The report with a marker in every hole. Octets from 250 stand nowhere else.
fn marked() -> Value {
    let interfaces: Vec<_> = (0..6).map(marked_interface).collect();
    let routes: Vec<_> = (0..ROUTES).map(marked_route).collect();
    let devices: Vec<_> = (0..2).map(marked_device).collect();
    json!({
        "version": 1, "observed_at": mark(13, 0), "agent_version": "0.1.0", "interval_s": 30,
        "hardware": "5a1f0c9e3b7d4826aaaa@@@@@@", "delivery": { "distance": 0 },
        "system": {
            "hostname": "router-@@@@@@", "os": "OpenWrt 24.10.0", "kernel": "6.6.73", "arch": "mips64",
            "uptime_s": mark(7, 0), "load": [7.11, 7.22, 7.33],
            "memory": { "total_kb": 512_000, "available_kb": mark(6, 0), "free_kb": 131_072 },
            "forwarding": { "ipv4": true, "ipv6": true },
            "interfaces": interfaces, "interfaces_total": 6,
            "routes": routes, "routes_total": ROUTES, "routes_source": "netlink",
            "neighbours_source": "netlink",
            "wireguard": devices, "wireguard_source": "netlink", "peers_total": 10,
        },
    })
}

fn marked_interface(index: u8) -> Value {
    let (name, kind) = INTERFACES[usize::from(index)];
    let mut counters = serde_json::Map::new();
    for (which, (key, digits)) in (0..).zip(COUNTERS) {
        counters.insert(key.to_owned(), mark(digits, u64::from(index) * 10 + which).into());
    }
    let mut interface = json!({
        "name": name, "index": index + 1, "kind": kind, "flags": 0x1043, "operstate": "up",
        "mtu": if kind == "wireguard" { 1420 } else { 1500 }, "counters": counters,
        "addresses": [format!("1{index}.252.252.252/16")],
    });
    if !matches!(kind, "loopback" | "wireguard") {
        interface["mac"] = format!("02:4b:0{index}:mm:mm:mm").into();
    }
    interface
}

fn marked_route(number: u8) -> Value {
    let (destination, interface) = match number {
        0 => ("0.0.0.0/0".to_owned(), "eth0"),
        // The peers' addresses lie behind the tunnels.
        1 => ("14.0.0.0/8".to_owned(), "wg0"),
        2 => ("15.0.0.0/8".to_owned(), "wg1"),
        _ => (format!("10.{number}.0.0/16"), INTERFACES[usize::from(number % 3 + 1)].0),
    };
    let metric = if number == 7 { METRIC } else { 0 };
    let mut route = json!({ "destination": destination, "interface": interface, "metric": metric });
    if number == 0 {
        route["gateway"] = "192.0.2.1".into();
    }
    route
}

fn marked_device(device: u8) -> Value {
    let peers: Vec<_> =
        (0..).zip(PEERS[usize::from(device)]).map(|(peer, _)| marked_peer(device, peer)).collect();
    json!({
        "name": format!("wg{device}"), "public_key": mark_key(250 + device), "listen_port": LISTEN_PORT + u16::from(device),
        "peers": peers,
    })
}

fn marked_peer(device: u8, peer: u8) -> Value {
    let id = u64::from(device * 10 + peer);
    let octets = mark_octets(device, peer);
    json!({
        "public_key": mark_key(device * 10 + peer), "has_psk": peer.is_multiple_of(2),
        "endpoint": format!("198.{octets}:{}", LISTEN_PORT + u16::from(device)), "allowed_ips": [format!("1{}.{octets}/32", device + 4)],
        "handshake_at": mark(10, id), "handshake_age_s": 77,
        "rx_bytes": mark(10, id * 10), "tx_bytes": mark(10, id * 10 + 1),
    })
}

/// The markers of [`marked`] as the text has them. A peer's age has two digits, too few to be a marker
/// by themselves: it follows the peer's handshake.
fn markers() -> Vec<Marker<Field>> {
    let mut markers = vec![
        number("observed_at", mark(13, 0), Field::ObservedAt),
        text("@@@@@@".to_owned(), Field::Number),
        text("mm:mm:mm".to_owned(), Field::Mac),
        number("uptime_s", mark(7, 0), Field::Uptime),
        text("7.11".to_owned(), Field::Load(0)),
        text("7.22".to_owned(), Field::Load(1)),
        text("7.33".to_owned(), Field::Load(2)),
        number("available_kb", mark(6, 0), Field::MemoryAvailable),
        text("252.252.252".to_owned(), Field::Octets),
        number("metric", METRIC, Field::Metric),
    ];
    for interface in 0..6 {
        for (which, (key, digits)) in (0..).zip(COUNTERS) {
            let mark = mark(digits, u64::from(interface) * 10 + u64::from(which));
            markers.push(number(key, mark, Field::Counter(interface, which)));
        }
    }
    for (device, peers) in (0..).zip(PEERS) {
        markers.push(text(mark_key(250 + device).to_string(), Field::Key(device)));
        for (peer, _) in (0..).zip(peers) {
            peer_markers(device, peer, &mut markers);
        }
    }
    markers
}

fn peer_markers(device: u8, peer: u8, markers: &mut Vec<Marker<Field>>) {
    let id = u64::from(device * 10 + peer);
    markers.push(text(mark_key(device * 10 + peer).to_string(), Field::PeerKey(device, peer)));
    markers.push(text(mark_octets(device, peer), Field::PeerOctets(device, peer)));
    markers.push(number("handshake_at", mark(10, id), Field::HandshakeAt(device, peer)));
    let before = format!("{},\"handshake_age_s\":", mark(10, id));
    let age = Marker {
        text: format!("{before}77"),
        before: before.len(),
        field: Field::HandshakeAge(device, peer),
    };
    markers.push(age);
    for (which, (key, digits)) in (0..).zip(PEER_COUNTERS) {
        let mark = mark(digits, id * 10 + u64::from(which));
        markers.push(number(key, mark, Field::PeerCounter(device, peer, which)));
    }
}

fn text(text: String, field: Field) -> Marker<Field> {
    Marker { text, before: 0, field }
}

fn number(key: &str, mark: u64, field: Field) -> Marker<Field> {
    let before = format!("\"{key}\":");
    Marker { text: format!("{before}{mark}"), before: before.len(), field }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(agent: u32, tick: u64) -> Report {
        let moment = Moment { agent, fleet: 1000, tick, now_ms: 1_790_000_000_123 };
        let mut template = template().unwrap();
        let json = template.fill(|field, hole| moment.write(field, hole));
        Report::from_json(json).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(json)))
    }

    #[test]
    fn a_report_is_of_the_size_and_shape_that_the_figures_are_about() {
        let moment = Moment { agent: 7, fleet: 1000, tick: 3, now_ms: 1_790_000_000_123 };
        let len = template().unwrap().fill(|field, hole| moment.write(field, hole)).len();
        assert!((5_400..=6_000).contains(&len), "{len} bytes");
        let Report { observed_at, system, hardware, .. } = report(7, 3);
        assert_eq!((observed_at, system.hostname.as_str()), (1_790_000_000_123, "router-000007"));
        assert!(hardware.ends_with("000007"));
        let peers: Vec<_> = system.wireguard.iter().map(|device| device.peers.len()).collect();
        assert_eq!((system.interfaces.len(), system.routes.len(), peers), (6, 20, vec![7, 3]));
        assert_eq!(system.interfaces[1].mac.as_deref(), Some("02:4b:01:00:00:07"));
        assert_eq!(system.interfaces[4].addresses[0].to_string(), "14.100.100.107/16");
        assert_eq!(system.wireguard[0].peers[4].endpoint.as_deref(), Some("198.100.100.108:51820"));
    }

    #[test]
    fn every_tunnel_is_reported_from_both_ends() {
        let (a, b) = (report(0, 1), report(1, 1));
        for device in 0..2 {
            let key = a.system.wireguard[device].public_key.unwrap();
            let distance = if device == 0 { 1 } else { 10 };
            let other = report(distance, 1);
            assert!(other.system.wireguard[device].peers.iter().any(|peer| peer.public_key == key));
        }
        // What one end sent the other received: agents 0 and 2.
        let (at_a, at_b) = (&a.system.wireguard[0].peers[5], &report(2, 1).system.wireguard[0].peers[1]);
        assert_eq!((at_a.rx_bytes, at_a.tx_bytes), (at_b.tx_bytes, at_b.rx_bytes));
        assert_ne!(a.system.wireguard[0].public_key, b.system.wireguard[0].public_key);
        assert_ne!(a.system.wireguard[0].public_key, a.system.wireguard[1].public_key);
    }

    #[test]
    fn counters_move_handshakes_often_structure_rarely() {
        let (before, after) = (report(42, 400), report(42, 401));
        let moved = |i: usize| before.system.interfaces[i].counters != after.system.interfaces[i].counters;
        assert_eq!((0..6).filter(|&i| moved(i)).count(), 3);
        let pairs = || {
            let peers = |report: &Report| -> Vec<_> {
                report.system.wireguard.iter().flat_map(|device| device.peers.clone()).collect()
            };
            peers(&before).into_iter().zip(peers(&after))
        };
        let grew = |n: u64, m: u64| m > n;
        assert_eq!(pairs().filter(|(a, b)| grew(a.rx_bytes, b.rx_bytes)).count(), 6);
        let handshakes = pairs().filter(|(a, b)| a.handshake_at != b.handshake_at).count();
        assert!((1..=4).contains(&handshakes), "{handshakes}");
        assert!(pairs().all(|(a, b)| a.endpoint == b.endpoint && a.public_key == b.public_key));
        let metrics =
            |tick| report(42, tick).system.routes.iter().map(|route| route.metric).collect::<Vec<_>>();
        let changes = (1000..2000).filter(|&tick| metrics(tick) != metrics(tick + 1)).count();
        assert_eq!(changes, 5, "one in 200");
    }
}
