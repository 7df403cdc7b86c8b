//! What is read by rtnetlink, against iproute2 on the same host, and with damaged answers.

#![expect(clippy::unwrap_used, reason = "the helpers, too, are tests")]

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, UNIX_EPOCH};

use kattila_agent::collect::{Addresses, Netlink, Question, Sources, WgSockets, collect};
use kattila_agent::parse::netlink::{INET, INET6, Messages, address, dump, link, neighbour, route, rule};
use proptest::prelude::*;
use proto::limits::ROUTES_MAX;
use proto::report::{Problem, Report, Source, SystemData};
use serde_json::Value;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/kernel-netlink")
}

/// A host of which only netlink's answers are known.
fn read(folder: &Path) -> (SystemData, Vec<Problem>) {
    let nowhere = folder.join("nothing-is-here");
    let sources = Sources {
        root: nowhere.clone(),
        proc_root: nowhere.clone(),
        sys_root: nowhere,
        netlink: Netlink::Recorded(folder.to_owned()),
        wg_sockets: WgSockets::default(),
        addresses: Addresses::Fixed(Vec::new()),
        arch: String::new(),
    };
    collect(&sources, UNIX_EPOCH)
}

/// What `ip -j` said, a file for each command: `link`, `route4`, `route6`, `rule4`, `rule6`, `neigh`.
struct Ip<'a>(&'a Path);

impl Ip<'_> {
    fn list(&self, name: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.0.join(name).with_extension("json")).unwrap();
        // Older iproute2 prints nothing at all for an empty list.
        if text.trim().is_empty() { Vec::new() } else { serde_json::from_str(&text).unwrap() }
    }

    fn links(&self) -> BTreeSet<String> {
        let links = self.list("link");
        let index = |name: &str| links.iter().find(|link| link["ifname"] == name).unwrap()["ifindex"].clone();
        let line = |link: &Value| {
            let (info, data) = (&link["linkinfo"], &link["linkinfo"]["info_data"]);
            let kind = info["info_kind"].as_str();
            let bound = data["link"].as_str().filter(|_| kind == Some("vxlan"));
            let below = link["link"].as_str().or(bound).map(index);
            let below = below.as_ref().or_else(|| link.get("link_index")).and_then(Value::as_u64);
            let any =
                |names: &[&str]| names.iter().find_map(|name| data[*name].as_str()).filter(|ip| *ip != "any");
            let external = data["external"] == true;
            let key = |name: &str| {
                data[name].as_str().map(|key| u32::from(key.parse::<std::net::Ipv4Addr>().unwrap()))
            };
            let has_key =
                kind.is_some_and(|kind| kind.contains("gre") || kind.contains("vti") || kind == "erspan");
            let id = data["id"].as_u64().or_else(|| data["table"].as_u64()).filter(|_| !external);
            let id = if has_key { key("ikey").map(u64::from) } else { id };
            let sent = if has_key { key("okey").map(u64::from).filter(|key| Some(*key) != id) } else { None };
            let has_port = matches!(kind, Some("vxlan" | "geneve"));
            format!(
                "{} {} {:?} on {below:?} {:?} master {:?} {id:?}/{sent:?} {:?} {:?} > {:?} {external}",
                link["ifname"].as_str().unwrap(),
                link["ifindex"],
                kind,
                below.map(|_| link.get("link_netnsid").is_some()),
                link["master"].as_str(),
                data["port"].as_u64().filter(|_| has_port),
                any(&["local", "local6"]),
                any(&["remote", "remote6", "group", "group6"]),
            )
        };
        links.iter().map(line).collect()
    }

    fn routes(&self) -> BTreeSet<String> {
        let mut lines = BTreeSet::new();
        for (name, zero) in [("route4", "0.0.0.0/0"), ("route6", "::/0")] {
            for route in self.list(name) {
                let kind = match route["type"].as_str().unwrap() {
                    "1" => "unicast",
                    "6" => "blackhole",
                    "7" => "unreachable",
                    "8" => "prohibit",
                    "9" => "throw",
                    // local, broadcast, anycast and multicast: own addresses.
                    _ => continue,
                };
                let table = route["table"].as_str().unwrap_or("254");
                if table == "255" {
                    continue;
                }
                let to = route["dst"].as_str().unwrap();
                let width = if name == "route4" { 32 } else { 128 };
                let to = match to {
                    "default" => zero.to_owned(),
                    to if to.contains('/') => to.to_owned(),
                    to => format!("{to}/{width}"),
                };
                let hops = route["nexthops"].as_array().cloned().unwrap_or_else(|| vec![route.clone()]);
                for hop in hops {
                    let via = hop["gateway"].as_str().or_else(|| hop["via"]["host"].as_str());
                    let dev = hop["dev"].as_str().filter(|_| kind == "unicast");
                    let metric = route["metric"].as_u64().unwrap_or(0);
                    let source = route["prefsrc"].as_str();
                    let is_dead = hop["flags"].as_array().is_some_and(|flags| flags.contains(&"dead".into()));
                    if !is_dead {
                        lines.insert(format!("{kind} {to} {via:?} {dev:?} {metric} {source:?} {table}"));
                    }
                }
            }
        }
        lines
    }

    fn rules(&self) -> BTreeSet<String> {
        let mut lines = BTreeSet::new();
        for (name, width) in [("rule4", 32), ("rule6", 128)] {
            for rule in self.list(name) {
                let has = |name: &&str| rule.get(*name).is_some();
                let prefix = |address: &str, length: &str| {
                    let ip = rule[address].as_str().filter(|ip| *ip != "all")?;
                    Some(format!("{ip}/{}", rule[length].as_u64().unwrap_or(width)))
                };
                let mark = |name: &str| {
                    let text = rule[name].as_str()?;
                    u32::from_str_radix(text.trim_start_matches("0x"), 16).ok()
                };
                let actions =
                    [("goto", ""), ("nop", ""), ("blackhole", "6"), ("unreachable", "7"), ("prohibit", "8")];
                let is_action = |(name, number): &(&str, &str)| has(name) || rule["action"] == *number;
                let action = actions.iter().find(|action| is_action(action)).map(|(name, _)| *name);
                let more =
                    ["uid_start", "ipproto", "sport", "dport", "sport_start", "dport_start", "tos", "tun_id"];
                lines.insert(format!(
                    "{} {width} {} {:?} {:?} from {:?} to {:?} mark {:?}/{:?} {:?} > {:?} l3mdev {} not {} {} {:?}",
                    rule["priority"],
                    action.unwrap_or("table"),
                    rule["table"].as_str(),
                    rule["goto"].as_u64(),
                    prefix("src", "srclen"),
                    prefix("dst", "dstlen"),
                    mark("fwmark"),
                    mark("fwmask"),
                    rule["iif"].as_str(),
                    rule["oif"].as_str(),
                    has(&"l3mdev"),
                    has(&"not"),
                    more.iter().any(has),
                    rule["suppress_prefixlen"].as_u64(),
                ));
            }
        }
        lines
    }

    fn neighbours(&self) -> BTreeSet<String> {
        let line = |entry: &Value| {
            let state = entry["state"][0].as_str().unwrap().to_ascii_lowercase();
            let (to, dev) = (entry["dst"].as_str().unwrap(), entry["dev"].as_str().unwrap());
            let is_router = entry.get("router").is_some();
            format!("{to} {dev} {:?} {state} {is_router}", entry["lladdr"].as_str())
        };
        self.list("neigh").iter().map(line).collect()
    }
}

/// A value's name in JSON.
fn word(value: impl serde::Serialize) -> String {
    serde_json::to_value(value).unwrap().as_str().unwrap().to_owned()
}

fn links(system: &SystemData) -> BTreeSet<String> {
    let line = |interface: &proto::report::Interface| {
        let tunnel = interface.tunnel.clone().unwrap_or_default();
        format!(
            "{} {} {:?} on {:?} {:?} master {:?} {:?}/{:?} {:?} {:?} > {:?} {}",
            interface.name,
            interface.index,
            interface.driver_kind.as_deref(),
            interface.link,
            interface.link_is_foreign,
            interface.master.as_deref(),
            tunnel.id,
            tunnel.id_sent,
            tunnel.port,
            tunnel.local.map(|ip| ip.to_string()).as_deref(),
            tunnel.remote.map(|ip| ip.to_string()).as_deref(),
            tunnel.external,
        )
    };
    system.interfaces.iter().map(line).collect()
}

fn routes(system: &SystemData) -> BTreeSet<String> {
    let line = |route: &proto::report::Route| {
        let (via, source) = (route.gateway.map(|ip| ip.to_string()), route.source.map(|ip| ip.to_string()));
        format!(
            "{} {} {:?} {:?} {} {:?} {}",
            word(route.kind),
            route.destination,
            via.as_deref(),
            route.interface.as_deref(),
            route.metric,
            source.as_deref(),
            route.table,
        )
    };
    system.routes.iter().map(line).collect()
}

fn rules(system: &SystemData) -> BTreeSet<String> {
    let line = |rule: &proto::report::Rule| {
        format!(
            "{} {} {} {:?} {:?} from {:?} to {:?} mark {:?}/{:?} {:?} > {:?} l3mdev {} not {} {} {:?}",
            rule.priority,
            if rule.ipv6 { 128 } else { 32 },
            word(rule.action),
            Some(rule.table).filter(|table| *table != 0).map(|table| table.to_string()).as_deref(),
            rule.goto,
            rule.from.map(|cidr| cidr.to_string()),
            rule.to.map(|cidr| cidr.to_string()),
            rule.fwmark,
            rule.fwmask,
            rule.iif.as_deref(),
            rule.oif.as_deref(),
            rule.l3mdev,
            rule.invert,
            rule.more,
            rule.suppress_prefix,
        )
    };
    system.rules.iter().map(line).collect()
}

fn neighbours(system: &SystemData) -> BTreeSet<String> {
    let line = |neighbour: &proto::report::Neighbour| {
        let (ip, dev, state) = (neighbour.ip, &neighbour.interface, word(neighbour.state));
        format!("{ip} {dev} {:?} {state} {}", neighbour.mac.as_deref(), neighbour.router)
    };
    system.neighbours.iter().map(line).collect()
}

fn assert_same(what: &str, ours: &BTreeSet<String>, theirs: &BTreeSet<String>) {
    let only = |a: &BTreeSet<String>, b: &BTreeSet<String>| {
        a.difference(b).cloned().collect::<Vec<_>>().join("\n  ")
    };
    assert!(!theirs.is_empty(), "{what}: nothing to compare with");
    assert!(ours == theirs, "{what}\nonly we:\n  {}\nonly ip:\n  {}", only(ours, theirs), only(theirs, ours));
}

fn assert_agrees_with(ip: &Ip<'_>, system: &SystemData) {
    assert_same("links", &links(system), &ip.links());
    assert_same("routes", &routes(system), &ip.routes());
    assert_same("rules", &rules(system), &ip.rules());
    assert_same("neighbours", &neighbours(system), &ip.neighbours());
    let sources = [system.routes_source, system.rules_source, system.neighbours_source];
    assert_eq!(sources, [Source::Netlink; 3]);
}

#[cfg(target_endian = "little")]
#[test]
fn a_debian_kernel_is_read_as_iproute2_reads_it() {
    let text = fs::read_to_string(fixture().join("expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    let system: SystemData = serde_json::from_value(expected["system"].clone()).unwrap();
    assert!(system.interfaces.len() > 40 && system.rules.len() > 20, "the fixture has it all");
    assert_agrees_with(&Ip(&fixture().join("ip")), &system);
}

/// A host with what this machine's kernel can make, the kinds of route and rule that every kernel
/// knows, and an interface whose other end is in another namespace.
const HOST: &str = r#"
mount -t sysfs sysfs /sys
ip link set lo up
ip link add e0 type veth peer name e1
ip link add far0 type veth peer name near0
unshare -n sleep 60 & other=$!
while [ "$(readlink /proc/$other/ns/net)" = "$(readlink /proc/$$/ns/net)" ]; do sleep 0.01; done
ip link set near0 netns $other
ip link add br0 type bridge
ip link set e1 master br0
ip link add link e0 name mv0 type macvlan || true
ip link add vx0 type vxlan id 7 local 10.50.0.1 remote 10.50.0.2 dev e0 dstport 4789 || true
for name in e0 e1 br0; do ip link set $name up; done
ip address add 10.50.0.1/24 dev e0
ip address add fd00:50::1/64 dev e0 nodad
ip route add 10.60.0.0/16 nexthop via 10.50.0.2 dev e0 nexthop via 10.50.0.3 dev e0 weight 3
ip route add blackhole 10.62.0.0/16
ip route add unreachable 10.63.0.0/16 metric 7
ip route add throw 10.65.0.0/16 table 100 || true
ip route add default via 10.50.0.9 table 51820 src 10.50.0.1 || true
ip -6 route add prohibit fd00:64::/48
ip -6 route add default via fd00:50::fe metric 300
ip rule add pref 90 from 10.50.0.0/24 iif e0 lookup 100 || true
ip -6 rule add pref 32765 not fwmark 0x10/0xff lookup 51820 || true
ip neigh add 10.50.0.20 lladdr 02:00:00:00:00:20 dev e0
ip neigh add 10.50.0.21 lladdr 02:00:00:00:00:21 dev e0 nud stale
ip neigh add proxy 10.50.0.26 dev e0
ip neigh add fd00:50::20 lladdr 02:00:00:00:00:20 dev e0 router
"$AGENT" -sysinfo >"$OUT/sysinfo"
cd "$OUT"
ip -j -d link >link.json
ip -j -d -N -4 route show table all >route4.json
ip -j -d -N -6 route show table all >route6.json
ip -j -d -N -4 rule >rule4.json
ip -j -d -N -6 rule >rule6.json
ip -j neigh >neigh.json
kill $other
"#;

/// Runs a script in namespaces of its own; `None`, said aloud, where this machine may not.
fn in_namespace(script: &str, out: &Path) -> Option<()> {
    let may = Command::new("unshare").args(["-n", "-m", "ip", "-j", "-V"]).output();
    if !may.is_ok_and(|output| output.status.success()) {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "CI=true: nothing may be skipped");
        let _ = writeln!(std::io::stderr(), "SKIPPED: needs root, unshare and iproute2");
        return None;
    }
    let agent = env!("CARGO_BIN_EXE_agent");
    let mut command = Command::new("unshare");
    let output = command.args(["-n", "-m", "sh", "-ec", script]).env("AGENT", agent).env("OUT", out).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(())
}

fn sysinfo(out: &Path) -> (SystemData, Vec<Problem>) {
    let report: Report = serde_json::from_slice(&fs::read(out.join("sysinfo")).unwrap()).unwrap();
    (report.system, report.problems)
}

#[test]
fn this_kernel_is_read_as_iproute2_reads_it() {
    let out = tempfile::tempdir().unwrap();
    if in_namespace(HOST, out.path()).is_some() {
        assert_agrees_with(&Ip(out.path()), &sysinfo(out.path()).0);
    }
}

#[test]
fn a_table_of_many_routes_is_read_within_its_bounds() {
    let out = tempfile::tempdir().unwrap();
    let script = "
        ip link add e0 type veth peer name e1; ip link set e0 up; ip link set e1 up
        awk 'BEGIN { for (n = 0; n < 100000; n++)
            printf \"route add 10.%d.%d.%d/32 dev e0\\n\", n / 65536, n / 256 % 256, n % 256 }' |
            ip -batch -
        ip route add default dev e0
        ip -6 route add default dev e0
        \"$AGENT\" -sysinfo >\"$OUT/sysinfo\"";
    let start = Instant::now();
    if in_namespace(script, out.path()).is_none() {
        return;
    }
    let (system, problems) = sysinfo(out.path());
    assert!(start.elapsed() < Duration::from_secs(60));
    assert_eq!((system.routes_source, system.routes.len()), (Source::Netlink, ROUTES_MAX));
    assert!(system.routes_total > 100_002, "all are counted: {}", system.routes_total);
    assert!(problems.iter().all(|problem| !problem.source.starts_with("netlink")), "{problems:?}");
    let defaults = system.routes.iter().filter(|route| route.destination.prefix() == 0).count();
    assert_eq!(defaults, 2, "the default routes of both families are kept");
}

/// The recorded answer to a question.
fn recorded(question: Question) -> Vec<u8> {
    fs::read(fixture().join("netlink").join(question.name())).unwrap()
}

/// Every parser over one body.
fn parse_all(body: &[u8]) {
    let mut rows = 0;
    for family in [INET, INET6] {
        let _ = route::rows(family, body, |_, _| rows += 1);
    }
    assert!(rows <= body.len(), "more rows than bytes");
    let _ = (link::row(body).is_ok(), neighbour::row(body).is_ok(), rule::row(body).is_ok());
    let _ = address::row(body).is_ok();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_parser_panics_on_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        parse_all(&bytes);
        let mut dump = dump::Dump { kind: 24, ..dump::Dump::default() };
        let _ = dump.read(&bytes, &mut |_| Ok(()));
        prop_assert!(Messages::new(&bytes).count() <= bytes.len());
    }

    #[test]
    fn no_parser_panics_on_damaged_messages(
        question in 0_usize..5,
        at in any::<prop::sample::Index>(),
        damages in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        end in any::<prop::sample::Index>(),
    ) {
        let bytes = recorded(Question::ALL[question]);
        let bodies: Vec<&[u8]> = Messages::new(&bytes).map(|message| message.unwrap().body).collect();
        let mut body = bodies[at.index(bodies.len())].to_vec();
        for (at, value) in damages {
            let at = at.index(body.len());
            body[at] = value;
        }
        parse_all(&body);
        parse_all(&body[..end.index(body.len() + 1)]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_damaged_answer_still_gives_a_report(
        damages in prop::collection::vec(
            (0_usize..5, any::<prop::sample::Index>(), any::<u8>(), any::<bool>()),
            1..12,
        ),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut answers = Question::ALL.map(recorded);
        for (question, at, value, cut) in damages {
            let answer = &mut answers[question];
            if !answer.is_empty() {
                let at = at.index(answer.len());
                if cut && value < 32 { answer.truncate(at) } else { answer[at] = value }
            }
        }
        for (question, answer) in Question::ALL.into_iter().zip(&answers) {
            fs::write(folder.path().join(question.name()), answer).unwrap();
        }
        let (system, problems) = read(folder.path());
        let report = Report { system, problems, ..Report::default() };
        let json = serde_json::to_vec(&report).unwrap();
        prop_assert_eq!(Report::from_json(&json).unwrap(), report);
    }
}

/// What a kernel that refuses answers: an error instead of rows.
fn refusal(number: i32) -> Vec<u8> {
    let mut bytes = kattila_agent::parse::netlink::request(2, 0, 1, &number.to_ne_bytes());
    bytes.extend_from_slice(&[0; 16]);
    let len = u32::try_from(bytes.len()).unwrap();
    bytes[..4].copy_from_slice(&len.to_ne_bytes());
    bytes
}

#[test]
fn a_refusal_leads_to_proc_and_is_told() {
    let folder = tempfile::tempdir().unwrap();
    for question in Question::ALL {
        fs::write(folder.path().join(question.name()), refusal(-1)).unwrap();
    }
    let (system, problems) = read(folder.path());
    assert_eq!([system.routes_source, system.rules_source, system.neighbours_source], [Source::None; 3]);
    let told: Vec<_> = problems.iter().filter(|problem| problem.source.starts_with("netlink")).collect();
    let sources: Vec<_> = told.iter().map(|problem| problem.source.as_str()).collect();
    assert_eq!(sources, ["netlink links", "netlink routes", "netlink rules", "netlink neighbours"]);
    assert!(told.iter().all(|problem| problem.message.contains("Operation not permitted")), "{told:?}");
}

#[test]
fn a_kernel_without_policy_routing_or_ipv6_is_no_problem() {
    let folder = tempfile::tempdir().unwrap();
    for question in Question::ALL {
        let answer = match question {
            Question::Rules | Question::Routes6 => refusal(-95),
            question => recorded(question),
        };
        fs::write(folder.path().join(question.name()), answer).unwrap();
    }
    let (system, problems) = read(folder.path());
    assert_eq!((system.routes_source, system.rules_source), (Source::Netlink, Source::Netlink));
    assert!(system.rules.is_empty() && system.routes.iter().all(|r| r.destination.address().is_ipv4()));
    assert!(problems.iter().all(|problem| !problem.source.starts_with("netlink")), "{problems:?}");
}

#[test]
fn an_answer_that_always_changes_is_taken_in_the_end() {
    let folder = tempfile::tempdir().unwrap();
    for question in Question::ALL {
        let mut answer = recorded(question);
        answer[6] |= 0x10;
        fs::write(folder.path().join(question.name()), answer).unwrap();
    }
    let (system, problems) = read(folder.path());
    assert!(system.routes.len() > 40 && system.neighbours.len() > 5);
    let told = problems.iter().filter(|problem| problem.message.starts_with("changed whenever"));
    assert_eq!(told.count(), 5);
}
