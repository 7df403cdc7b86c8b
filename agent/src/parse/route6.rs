//! `/proc/net/ipv6_route`: the IPv6 routes, without the kernel's own bookkeeping.
//!
//! The file mixes all tables. What `ip -6 route` shows of the main table is kept by leaving out:
//!
//! - rows with `RTF_LOCAL`, `RTF_ANYCAST` or `RTF_CACHE`: this host's own addresses, the
//!   subnet-router anycast addresses and learned exceptions, all outside the main table;
//! - destinations in `ff00::/8`, the multicast routes of the local table, and `::1`, which kernels
//!   before 4.x list in the main table;
//! - the null entry that ends every table: rejected, with the highest metric there is.
//!
//! What it cannot tell: which table a route is from (a policy-routing table's rows look like the
//! main table's), the source prefix of a source-specific route's match, and *prohibit* or
//! *blackhole* from *unreachable*.

use std::net::{IpAddr, Ipv6Addr};

use proto::ids::Cidr;
use proto::report::{Route, RouteKind, TABLE_MAIN};

use super::{BadField, Fields, Parsed, Row, hex, interface_name, rows};

/// Flag: the next hop is a gateway (`RTF_GATEWAY`, linux/route.h).
const RTF_GATEWAY: u32 = 0x2;
/// Flag: packets are refused (`RTF_REJECT`, linux/route.h).
const RTF_REJECT: u32 = 0x200;
/// Flags of rows outside the main table (`RTF_ANYCAST`, `RTF_CACHE`, `RTF_LOCAL`,
/// linux/ipv6_route.h).
const NOT_MAIN: u32 = 0x0010_0000 | 0x0100_0000 | 0x8000_0000;

/// Every route that counts, in the kernel's order.
#[must_use]
pub fn parse(text: &str) -> Parsed<Route> {
    rows(text, 0, row)
}

/// One route; `None` when it is one of those that are left out.
///
/// # Errors
/// The first column that is missing or malformed.
pub fn row(line: &str) -> Row<Route> {
    let mut fields = Fields::new(line, 0);
    let destination = fields.take("destination", address)?;
    let prefix = fields.take("prefix length", hex)?;
    fields.skip(2);
    let gateway = fields.take("next hop", address)?;
    let metric = fields.take("metric", hex)?;
    fields.skip(2);
    let flags = fields.take("route flags", hex)?;
    let device = fields.take("interface name", interface_name)?;
    let cidr = u8::try_from(prefix)
        .ok()
        .and_then(|prefix| Cidr::new(IpAddr::V6(destination), prefix))
        .ok_or(BadField { column: 2, field: "prefix length" })?;
    let rejected = flags & RTF_REJECT != 0;
    let is_null_entry = rejected && metric == u32::MAX;
    if flags & NOT_MAIN != 0 || destination.is_multicast() || destination.is_loopback() || is_null_entry {
        return Ok(None);
    }
    Ok(Some(Route {
        destination: cidr,
        gateway: (flags & RTF_GATEWAY != 0).then_some(IpAddr::V6(gateway)),
        // The kernel names `lo` for routes that refuse.
        interface: (!rejected).then(|| device.to_owned()),
        metric,
        source: None,
        table: TABLE_MAIN,
        kind: if rejected { RouteKind::Unreachable } else { RouteKind::Unicast },
    }))
}

/// 32 hexadecimal digits in network order.
fn address(word: &str) -> Option<Ipv6Addr> {
    let digits = word.len() == 32 && word.bytes().all(|b| b.is_ascii_hexdigit());
    digits.then(|| u128::from_str_radix(word, 16).ok()).flatten().map(Ipv6Addr::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZERO: &str = "00000000000000000000000000000000";

    #[test]
    fn only_the_main_table_is_left() {
        let text = format!(
            "\
20010db8000000000000000000000000 40 {ZERO} 00 {ZERO} 00000100 00000003 00000000 00000001     eth0
{ZERO} 00 {ZERO} 00 20010db8000000000000000000000001 00000400 00000001 00000000 00000003     eth0
20010db8006600000000000000000000 30 {ZERO} 00 {ZERO} 00000400 00000004 00000000 00200200       lo
{ZERO} 00 {ZERO} 00 {ZERO} ffffffff 00000002 00000000 00200200       lo
00000000000000000000000000000001 80 {ZERO} 00 {ZERO} 00000000 00000004 00000000 80200001       lo
20010db8000000000000000000000000 80 {ZERO} 00 {ZERO} 00000000 00000003 00000000 00300001     eth0
ff000000000000000000000000000000 08 {ZERO} 00 {ZERO} 00000100 00000003 00000000 00000001     eth0
20010db8000000000000000000000000 81 {ZERO} 00 {ZERO} 00000100 00000003 00000000 00000001     eth0
20010db8 40
"
        );
        let parsed = parse(&text);
        let told: Vec<String> = parsed
            .rows
            .iter()
            .map(|r| format!("{} {:?} {:?} {} {:?}", r.destination, r.gateway, r.interface, r.metric, r.kind))
            .collect();
        assert_eq!(
            told,
            [
                r#"2001:db8::/64 None Some("eth0") 256 Unicast"#,
                r#"::/0 Some(2001:db8::1) Some("eth0") 1024 Unicast"#,
                "2001:db8:66::/48 None None 1024 Unreachable",
            ]
        );
        let errors: Vec<_> = parsed.errors.iter().map(|e| (e.line, e.column)).collect();
        assert_eq!(errors, [(8, 2), (9, 1)]);
    }
}
