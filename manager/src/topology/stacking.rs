//! Interfaces of one host on top of each other, and whose VPN an interface is.

use proto::report::InterfaceKind;

use super::record::{Agent, Iface, NO_SLOT, Slot};
use super::underlay;

/// The interfaces of the same host right below one: a bridge's ports, a VLAN's parent, and those
/// that carry a tunnel's packets.
pub(super) fn below(agent: &Agent, interface: &Iface) -> Vec<Slot> {
    let mut below: Vec<Slot> = interface.lower().to_vec();
    let ports = agent.interfaces.iter().filter(|port| port.master == interface.slot);
    below.extend(ports.map(|port| port.slot));
    if interface.kind != InterfaceKind::Veth {
        let parent = agent.interfaces.iter().find(|parent| Some(parent.index) == interface.link());
        below.extend(parent.map(|parent| parent.slot));
    }
    below.extend(underlay::carriers(agent, interface));
    below.retain(|slot| *slot != interface.slot && *slot != NO_SLOT);
    below.sort_by_key(|slot| agent.name(*slot));
    below.dedup();
    below
}

/// The other end of a veth pair where both are on this host: each names the other's index. A
/// number alone is none, for it may belong to another network namespace.
pub(super) fn pair(agent: &Agent, interface: &Iface) -> Option<Slot> {
    let mut others = agent.interfaces.iter().filter(|other| other.kind == InterfaceKind::Veth);
    let other = others.find(|other| Some(other.index) == interface.link() && other.slot != interface.slot)?;
    (interface.kind == InterfaceKind::Veth && other.link() == Some(interface.index)).then_some(other.slot)
}

/// Which other VPN an interface is of, by its name and kind. A userspace WireGuard device is a tun
/// device too, and is none.
pub(super) fn foreign_vpn(agent: &Agent, interface: &Iface) -> Option<&'static str> {
    if !is_virtual(interface.kind) || agent.device(interface.slot).is_some() {
        return None;
    }
    vpn_of_name(agent.name(interface.slot), interface.kind)
}

fn is_virtual(kind: InterfaceKind) -> bool {
    matches!(kind, InterfaceKind::Tun | InterfaceKind::Tap)
}

fn vpn_of_name(name: &str, kind: InterfaceKind) -> Option<&'static str> {
    let numbered = |prefix: &str| {
        name.strip_prefix(prefix)
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
    };
    if !is_virtual(kind) {
        return None;
    }
    match name {
        _ if numbered("tailscale") => Some("tailscale"),
        // ZeroTier names its interfaces zt and eight or more letters and digits made of the network's id.
        _ if name.starts_with("zt") && name.len() >= 10 => Some("zerotier"),
        _ if name.starts_with("nebula") => Some("nebula"),
        _ if numbered("tun") || numbered("tap") || name.starts_with("ovpn") => Some("openvpn"),
        _ if numbered("utun") || kind == InterfaceKind::Tun => Some("tun"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vpns_are_known_by_name_and_kind() {
        use InterfaceKind::{Physical, Tap, Tun};
        let cases = [
            ("tun0", Tun, Some("openvpn")),
            ("tap1", Tap, Some("openvpn")),
            ("tailscale0", Tun, Some("tailscale")),
            ("ztabcdefgh", Tap, Some("zerotier")),
            ("nebula1", Tun, Some("nebula")),
            ("vnet0", Tap, None),
            ("tun0", Physical, None),
            ("edgevpn0", Tun, Some("tun")),
        ];
        for (name, kind, vpn) in cases {
            assert_eq!(vpn_of_name(name, kind), vpn, "{name}");
        }
    }
}
