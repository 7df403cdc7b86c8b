//! A host's routing decision, as its kernel would take it from what it reported.

use std::net::IpAddr;

use proto::ids::Cidr;
use proto::report::{Rule, Source, TABLE_MAIN};

use super::record::{Agent, Slot};
use super::routes::Route;

/// The kernel's table of local addresses (`RT_TABLE_LOCAL`, linux/rtnetlink.h); reports leave it out.
const TABLE_LOCAL: u32 = 255;

/// A packet as far as routing looks at it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packet {
    pub(super) to: IpAddr,
    /// `None` while the kernel has yet to choose it.
    pub(super) from: Option<IpAddr>,
    pub(super) mark: u32,
    /// Interface that it came in by; `None` for one made here.
    pub(super) came_by: Option<Slot>,
}

/// The route that a packet takes, and why one should not be too sure of it.
#[derive(Debug, Clone)]
pub(super) struct Decision {
    pub(super) route: Option<Route>,
    /// What the report does not tell and may change the answer.
    pub(super) caveats: Vec<String>,
}

/// Looks a packet up: the rules in order of priority, in each one's table the longest prefix, of
/// equal ones the lowest metric.
pub(super) fn lookup(agent: &Agent, packet: Packet) -> Decision {
    let family_rules = || agent.rules.iter().filter(|rule| rule.ipv6 == packet.to.is_ipv6());
    let mut caveats = Vec::new();
    if agent.routes_cut {
        caveats.push("the host has more routes than it reported".to_owned());
    }
    if agent.routes_source == Source::Proc {
        caveats.push("only the main table was read, from /proc".to_owned());
    }
    if family_rules().next().is_none() {
        let route = best(agent, packet.to, |route| route.table == TABLE_MAIN, None);
        return Decision { route, caveats };
    }
    let mut rules: Vec<&Rule> = family_rules().filter(|rule| rule.table != TABLE_LOCAL).collect();
    rules.sort_by_key(|rule| rule.priority);
    for rule in rules.into_iter().filter(|rule| matches(agent, rule, packet)) {
        let route = best(agent, packet.to, |route| route.table == rule.table, rule.suppress_prefix);
        if let Some(route) = route {
            if rule.table != TABLE_MAIN {
                caveats.push(format!("policy rule {} chose table {}", rule.priority, rule.table));
            }
            return Decision { route: Some(route), caveats };
        }
    }
    Decision { route: None, caveats }
}

/// Routes over an interface without carrier still count, as in the kernel by default
/// (`ignore_routes_with_linkdown` 0); those over one that was set down it removes itself.
fn best(
    agent: &Agent,
    to: IpAddr,
    in_table: impl Fn(&Route) -> bool,
    suppress: Option<u32>,
) -> Option<Route> {
    let fits = agent.routes.to(to).filter(|route| in_table(route));
    let found = fits.min_by_key(|route| (u8::MAX - route.destination.prefix(), route.metric));
    found.filter(|route| suppress.is_none_or(|least| u32::from(route.destination.prefix()) > least))
}

fn matches(agent: &Agent, rule: &Rule, packet: Packet) -> bool {
    let inside = |prefix: Option<Cidr>, ip: Option<IpAddr>| match (prefix, ip) {
        (None, _) => true,
        (Some(prefix), Some(ip)) => prefix.contains(ip),
        // Without a source yet, only a rule for every source holds.
        (Some(prefix), None) => prefix.prefix() == 0,
    };
    let came_by = |name: &str| match packet.came_by {
        Some(slot) => agent.name(slot) == name,
        None => name == "lo",
    };
    let all = inside(rule.from, packet.from)
        && inside(rule.to, Some(packet.to))
        && rule.fwmark.is_none_or(|mark| mark == packet.mark)
        && rule.iif.as_deref().is_none_or(came_by)
        && rule.oif.is_none();
    all != rule.invert
}

#[cfg(test)]
mod tests {
    use super::super::tests::agent_with;
    use super::*;
    use proto::report::{Interface, Route as Reported, RouteKind, SystemData};

    fn route(destination: &str, interface: &str, metric: u32, table: u32) -> Reported {
        let destination = destination.parse().unwrap();
        let interface = Some(interface.to_owned());
        Reported {
            destination,
            gateway: None,
            interface,
            metric,
            source: None,
            table,
            kind: RouteKind::Unicast,
        }
    }

    fn interface(name: &str, index: u32, flags: u32) -> Interface {
        Interface { name: name.into(), index, flags, operstate: "up".into(), ..Interface::default() }
    }

    fn taken(system: SystemData, to: &str, mark: u32) -> Option<String> {
        let agent = agent_with(SystemData { routes_source: Source::Netlink, ..system });
        let packet = Packet { to: to.parse().unwrap(), from: None, mark, came_by: None };
        lookup(&agent, packet).route.map(|route| agent.name(route.slot).to_owned())
    }

    #[test]
    fn the_longest_prefix_wins_then_the_lowest_metric() {
        let system = || SystemData {
            interfaces: vec![interface("eth0", 2, 1), interface("eth1", 3, 1), interface("eth2", 4, 0)],
            routes: vec![
                route("0.0.0.0/0", "eth0", 100, TABLE_MAIN),
                route("0.0.0.0/0", "eth1", 50, TABLE_MAIN),
                route("10.0.0.0/8", "eth0", 900, TABLE_MAIN),
                route("10.1.0.0/16", "eth2", 0, TABLE_MAIN),
            ],
            ..SystemData::default()
        };
        assert_eq!(taken(system(), "192.0.2.1", 0).as_deref(), Some("eth1"));
        assert_eq!(taken(system(), "10.2.2.3", 0).as_deref(), Some("eth0"));
        assert_eq!(
            taken(system(), "10.1.2.3", 0).as_deref(),
            Some("eth2"),
            "no carrier, yet its route counts"
        );
        assert_eq!(taken(system(), "2001:db8::1", 0), None);
    }

    #[test]
    fn rules_choose_the_table_as_wg_quick_sets_them() {
        let rule = |priority, table| Rule { priority, table, ..Rule::default() };
        let system = || SystemData {
            interfaces: vec![interface("eth0", 2, 1), interface("wg0", 3, 1)],
            routes: vec![
                route("0.0.0.0/0", "wg0", 0, 51820),
                route("0.0.0.0/0", "eth0", 0, TABLE_MAIN),
                route("192.168.1.0/24", "eth0", 0, TABLE_MAIN),
            ],
            rules: vec![
                Rule { suppress_prefix: Some(0), ..rule(32764, TABLE_MAIN) },
                Rule { fwmark: Some(51820), invert: true, ..rule(32765, 51820) },
                rule(32766, TABLE_MAIN),
            ],
            ..SystemData::default()
        };
        assert_eq!(taken(system(), "203.0.113.1", 0).as_deref(), Some("wg0"));
        assert_eq!(
            taken(system(), "203.0.113.1", 51820).as_deref(),
            Some("eth0"),
            "its own packets go round it"
        );
        assert_eq!(taken(system(), "192.168.1.9", 0).as_deref(), Some("eth0"));
    }
}
