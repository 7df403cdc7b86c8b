//! `/proc/net/arp`: the IPv4 neighbours.
//!
//! It tells resolved from unresolved, not how long ago (no NUD state): an entry that failed looks
//! like one that is still being asked. IPv6 neighbours are in no file.

use std::net::{IpAddr, Ipv4Addr};

use proto::report::{Neighbour, NeighbourState};

use super::{BadField, Fields, Parsed, Row, interface_name, mac, rows};

/// Lines before the first neighbour.
pub const HEADER: usize = 1;

/// Flag: the entry is resolved (`ATF_COM`, linux/if_arp.h).
const ATF_COM: u32 = 0x2;
/// Flag: the entry was set by hand (`ATF_PERM`, linux/if_arp.h).
const ATF_PERM: u32 = 0x4;
/// Flag: this host answers for the address; it is no neighbour (`ATF_PUBL`, linux/if_arp.h).
const ATF_PUBL: u32 = 0x8;

/// Every neighbour, in the kernel's order.
#[must_use]
pub fn parse(text: &str) -> Parsed<Neighbour> {
    rows(text, HEADER, row)
}

/// One neighbour; `None` for an address that this host answers for itself (proxy ARP).
///
/// # Errors
/// The first column that is missing or malformed.
pub fn row(line: &str) -> Row<Neighbour> {
    let mut fields = Fields::new(line, 0);
    let ip: Ipv4Addr = fields.parse("IPv4 address")?;
    fields.skip(1);
    let flags = fields.take("flags", |word| u32::from_str_radix(word.strip_prefix("0x")?, 16).ok())?;
    // On links without addresses the column is empty, so the rest is counted from the end.
    let address = fields.words.next().unwrap_or_default();
    let device = fields.words.last().and_then(interface_name);
    let interface = device.ok_or(BadField { column: 6, field: "interface name" })?;
    if flags & ATF_PUBL != 0 {
        return Ok(None);
    }
    let state = match flags {
        _ if flags & ATF_COM == 0 => NeighbourState::Incomplete,
        _ if flags & ATF_PERM != 0 => NeighbourState::Permanent,
        _ => NeighbourState::Complete,
    };
    Ok(Some(Neighbour {
        ip: IpAddr::V4(ip),
        mac: mac(address).filter(|_| state != NeighbourState::Incomplete),
        interface: interface.to_owned(),
        state,
        router: false,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_become_states() {
        let text = "\
IP address       HW type     Flags       HW address            Mask     Device
192.0.2.52       0x1         0x2         02:00:00:00:00:52     *        eth0
192.0.2.1        0x1         0x0         00:00:00:00:00:00     *        eth0
192.0.2.50       0x1         0x6         02:00:00:00:00:50     *        br-lan
192.0.2.51       0x1         0xc         00:00:00:00:00:00     *        eth0
192.0.2.60       0x30a       0x2                               *        gre1
192.0.2.70       0x1         2           02:00:00:00:00:50     *        eth0
no
";
        let parsed = parse(text);
        let told: Vec<String> = parsed
            .rows
            .iter()
            .map(|n| format!("{} {:?} {} {:?}", n.ip, n.mac, n.interface, n.state))
            .collect();
        assert_eq!(
            told,
            [
                r#"192.0.2.52 Some("02:00:00:00:00:52") eth0 Complete"#,
                "192.0.2.1 None eth0 Incomplete",
                r#"192.0.2.50 Some("02:00:00:00:00:50") br-lan Permanent"#,
                "192.0.2.60 None gre1 Complete",
            ]
        );
        let errors: Vec<_> = parsed.errors.iter().map(|e| (e.line, e.column)).collect();
        assert_eq!(errors, [(7, 3), (8, 1)]);
    }
}
