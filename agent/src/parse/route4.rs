//! `/proc/net/route`: the IPv4 routes of the main table.
//!
//! What it cannot tell, against `ip route`: other tables, the preferred source address, nexthops
//! of a multipath route after the first, and *prohibit* from *unreachable* or *throw* from
//! *blackhole*.

use std::net::{IpAddr, Ipv4Addr};

use proto::ids::Cidr;
use proto::report::{Route, RouteKind, TABLE_MAIN};

use super::{BadField, Fields, Parsed, Row, hex, interface_name, rows};

/// Lines before the first route.
pub const HEADER: usize = 1;

/// Flag: the route is usable (`RTF_UP`, linux/route.h).
const RTF_UP: u32 = 0x1;
/// Flag: the next hop is a gateway (`RTF_GATEWAY`, linux/route.h).
const RTF_GATEWAY: u32 = 0x2;
/// Flag: packets are refused (`RTF_REJECT`, linux/route.h).
const RTF_REJECT: u32 = 0x200;

/// Every usable route, in the kernel's order.
#[must_use]
pub fn parse(text: &str) -> Parsed<Route> {
    rows(text, HEADER, row)
}

/// One route; `None` when it is not up. A route without a device (`*`) is one that drops:
/// `fib_flag_trans` in net/ipv4/fib_trie.c sets `RTF_REJECT` for unreachable and prohibit, and
/// leaves blackhole without it.
///
/// # Errors
/// The first column that is missing or malformed.
pub fn row(line: &str) -> Row<Route> {
    let mut fields = Fields::new(line, 0);
    let device = fields.take("interface name", |word| match word {
        "*" => Some(None),
        name => interface_name(name).map(Some),
    })?;
    let destination = fields.take("destination", address)?;
    let gateway = fields.take("gateway", address)?;
    let flags = fields.take("route flags", hex)?;
    fields.skip(2);
    let metric = fields.parse("metric")?;
    let mask = fields.take("netmask", address)?.to_bits();
    let prefix = mask.leading_ones();
    let destination = u8::try_from(prefix)
        .ok()
        .filter(|_| prefix + mask.trailing_zeros() == 32)
        .and_then(|prefix| Cidr::new(IpAddr::V4(destination), prefix))
        .ok_or(BadField { column: 8, field: "netmask" })?;
    if flags & RTF_UP == 0 {
        return Ok(None);
    }
    let kind = match device {
        _ if flags & RTF_REJECT != 0 => RouteKind::Unreachable,
        None => RouteKind::Blackhole,
        Some(_) => RouteKind::Unicast,
    };
    Ok(Some(Route {
        destination,
        gateway: (flags & RTF_GATEWAY != 0).then_some(IpAddr::V4(gateway)),
        interface: device.filter(|_| kind == RouteKind::Unicast).map(str::to_owned),
        metric,
        source: None,
        table: TABLE_MAIN,
        kind,
    }))
}

/// The kernel prints the four bytes, which are in network order, as one number of the machine.
fn address(word: &str) -> Option<Ipv4Addr> {
    if word.len() == 8 { hex(word).map(|number| Ipv4Addr::from(number.to_ne_bytes())) } else { None }
}

#[cfg(all(test, target_endian = "little"))]
mod tests {
    use super::*;

    const TEXT: &str = "\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
tun0\t02000B0A\t00000000\t0005\t0\t0\t0\tFFFFFFFF\t0\t0\t0
*\t0000420A\t00000000\t0201\t0\t0\t0\t0000FFFF\t0\t0\t0
*\t0000430A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
eth0\t0000440A\t00000000\t0000\t0\t0\t0\t0000FFFF\t0\t0\t0
eth0\t0000440A\t00000000\t0001\t0\t0\t0\tFF00FF00\t0\t0\t0
eth0\t0000440A\t0000
";

    #[test]
    fn routes_have_prefix_gateway_and_kind() {
        let parsed = parse(TEXT);
        let told: Vec<String> = parsed
            .rows
            .iter()
            .map(|r| format!("{} {:?} {:?} {} {:?}", r.destination, r.gateway, r.interface, r.metric, r.kind))
            .collect();
        assert_eq!(
            told,
            [
                r#"0.0.0.0/0 Some(192.0.2.1) Some("eth0") 100 Unicast"#,
                r#"10.11.0.2/32 None Some("tun0") 0 Unicast"#,
                "10.66.0.0/16 None None 0 Unreachable",
                "10.67.0.0/16 None None 0 Blackhole",
            ]
        );
        let errors: Vec<_> = parsed.errors.iter().map(|e| (e.line, e.column)).collect();
        assert_eq!(errors, [(7, 8), (8, 3)]);
    }
}
