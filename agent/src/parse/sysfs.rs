//! Attributes of `/sys/class/net/NAME` (Documentation/ABI/testing/sysfs-class-net), and the
//! decision what an interface is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proto::report::{InterfaceKind, TunnelData};

use super::{colon_hex, mac};

/// What /sys tells of an interface, as far as it bears on what it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SysFacts<'a> {
    /// The interface's name.
    pub name: &'a str,
    /// The kind that its driver gives itself, from netlink.
    pub driver_kind: Option<&'a str>,
    /// `DEVTYPE` in `uevent`.
    pub devtype: Option<&'a str>,
    /// `type`: the link layer (ARPHRD_*, linux/if_arp.h).
    pub link_layer: u32,
    /// `flags` (IFF_*, linux/if.h).
    pub flags: u32,
    /// `tun_flags`, on devices of the TUN driver (linux/if_tun.h).
    pub tun_flags: Option<u32>,
    /// The interface's index.
    pub index: u32,
    /// `iflink`: what it is stacked on or paired with; its own index when nothing, 0 for an
    /// unbound tunnel.
    pub iflink: u32,
    /// `device` is there: a bus device stands behind it.
    pub device: bool,
    /// `bridge/` is there.
    pub bridge: bool,
    /// `bonding/` is there.
    pub bonding: bool,
    /// `brport/` is there: it is a bridge's port.
    pub bridge_port: bool,
    /// `wireless/` or `phy80211` is there.
    pub wireless: bool,
    /// A `lower_*` link is there: it stands on another interface of this namespace.
    pub lower: bool,
    /// `wg`, or a control socket, names it as a WireGuard device.
    pub wireguard: bool,
}

/// ARPHRD_ETHER.
const ETHER: u32 = 1;
/// ARPHRD_PPP.
const PPP: u32 = 512;
/// ARPHRD_TUNNEL: IPIP, and VTI.
const TUNNEL: u32 = 768;
/// ARPHRD_TUNNEL6.
const TUNNEL6: u32 = 769;
/// ARPHRD_LOOPBACK.
const LOOPBACK: u32 = 772;
/// ARPHRD_SIT.
const SIT: u32 = 776;
/// ARPHRD_IPGRE.
const GRE: u32 = 778;
/// ARPHRD_IP6GRE.
const GRE6: u32 = 823;

/// IFF_BROADCAST, IFF_NOARP and IFF_MASTER (linux/if.h).
const BROADCAST: u32 = 0x2;
const NOARP: u32 = 0x80;
const MASTER: u32 = 0x400;

/// IFF_TAP (linux/if_tun.h); devices of the TUN driver without it are layer 3.
const IFF_TAP: u32 = 0x2;

/// What an interface is. The surest sign decides; each was seen on a running kernel.
///
/// Not to be told from /sys alone: a gretap bound to a device looks like one end of a veth pair,
/// and a veth whose other end has the same index in another namespace looks like nothing.
#[must_use]
pub fn kind(facts: &SysFacts<'_>) -> InterfaceKind {
    facts
        .driver_kind
        .and_then(of_driver)
        .or_else(|| by_name_of_type(facts))
        .or_else(|| by_folder(facts))
        .or_else(|| by_link_layer(facts))
        .unwrap_or_else(|| if facts.device { InterfaceKind::Physical } else { by_elimination(facts) })
}

/// What a driver's own name (`IFLA_INFO_KIND`) says. The TUN driver has one for both of its kinds, so
/// that it says nothing.
#[must_use]
pub fn of_driver(name: &str) -> Option<InterfaceKind> {
    Some(match name {
        "wireguard" => InterfaceKind::WireGuard,
        "bridge" => InterfaceKind::Bridge,
        "bond" | "team" => InterfaceKind::Bond,
        "vrf" => InterfaceKind::Vrf,
        "vlan" => InterfaceKind::Vlan,
        "vxlan" => InterfaceKind::Vxlan,
        "geneve" => InterfaceKind::Geneve,
        "gre" | "gretap" | "ip6gre" | "ip6gretap" | "erspan" | "ip6erspan" => InterfaceKind::Gre,
        "ipip" | "ip6tnl" | "vti" | "vti6" => InterfaceKind::Ipip,
        "sit" => InterfaceKind::Sit,
        "macvlan" | "macvtap" | "ipvlan" | "ipvtap" => InterfaceKind::Macvlan,
        "veth" => InterfaceKind::Veth,
        "dummy" => InterfaceKind::Dummy,
        "ppp" => InterfaceKind::Ppp,
        _ => return None,
    })
}

fn by_name_of_type(facts: &SysFacts<'_>) -> Option<InterfaceKind> {
    Some(match facts.devtype {
        _ if facts.link_layer == LOOPBACK => InterfaceKind::Loopback,
        // Userspace WireGuard is a TUN device that only `wg` knows better.
        _ if facts.wireguard => InterfaceKind::WireGuard,
        Some("wireguard") => InterfaceKind::WireGuard,
        Some("bridge") => InterfaceKind::Bridge,
        Some("bond") => InterfaceKind::Bond,
        Some("vlan") => InterfaceKind::Vlan,
        Some("vxlan") => InterfaceKind::Vxlan,
        Some("macvlan" | "macvtap" | "ipvlan") => InterfaceKind::Macvlan,
        Some("wlan") => InterfaceKind::Wireless,
        Some("ppp") => InterfaceKind::Ppp,
        // A port of a switch chip: stacked on the CPU's port, and yet a socket on the case.
        Some("dsa") => InterfaceKind::Physical,
        Some("geneve") => InterfaceKind::Geneve,
        _ => return None,
    })
}

fn by_folder(facts: &SysFacts<'_>) -> Option<InterfaceKind> {
    match facts.tun_flags {
        Some(flags) if flags & IFF_TAP != 0 => Some(InterfaceKind::Tap),
        Some(_) => Some(InterfaceKind::Tun),
        None if facts.wireless => Some(InterfaceKind::Wireless),
        None if facts.bridge => Some(InterfaceKind::Bridge),
        None if facts.bonding => Some(InterfaceKind::Bond),
        None => None,
    }
}

fn by_link_layer(facts: &SysFacts<'_>) -> Option<InterfaceKind> {
    match facts.link_layer {
        GRE | GRE6 => Some(InterfaceKind::Gre),
        // gretap and erspan are Ethernet; only tunnels have no link at all.
        ETHER if facts.iflink == 0 => Some(InterfaceKind::Gre),
        TUNNEL | TUNNEL6 => Some(InterfaceKind::Ipip),
        SIT => Some(InterfaceKind::Sit),
        PPP => Some(InterfaceKind::Ppp),
        _ => None,
    }
}

/// Drivers that leave no mark: told by what they stand on, and by their flags.
fn by_elimination(facts: &SysFacts<'_>) -> InterfaceKind {
    let ether = facts.link_layer == ETHER;
    let stacked = facts.iflink != facts.index;
    let dummy_flags = facts.flags & (BROADCAST | NOARP | MASTER) == BROADCAST | NOARP;
    match () {
        // macvlan (kernels before 6.4 give it no DEVTYPE), macvtap, ipvlan.
        () if ether && stacked && facts.lower => InterfaceKind::Macvlan,
        () if ether && stacked => InterfaceKind::Veth,
        () if ether && dummy_flags && !facts.name.starts_with("ifb") => InterfaceKind::Dummy,
        () if facts.bridge_port => InterfaceKind::BridgePort,
        () => InterfaceKind::Other,
    }
}

/// `DEVTYPE` of a `uevent` file.
#[must_use]
pub fn devtype(uevent: &str) -> Option<&str> {
    uevent.lines().find_map(|line| line.strip_prefix("DEVTYPE="))
}

/// `IFINDEX` of a `uevent` file.
#[must_use]
pub fn ifindex(uevent: &str) -> Option<u32> {
    uevent.lines().find_map(|line| line.strip_prefix("IFINDEX="))?.parse().ok()
}

/// A number as attributes print it: decimal, or hexadecimal after `0x`.
#[must_use]
pub fn number(text: &str) -> Option<u32> {
    let text = text.trim();
    match text.strip_prefix("0x") {
        Some(digits) => super::hex(digits),
        None => text.parse().ok(),
    }
}

/// The `address` of an interface as a MAC: six bytes that are not all zero. Tunnels have IP
/// addresses there, and WireGuard has none.
#[must_use]
pub fn hardware_address(address: &str) -> Option<String> {
    Some(address.trim()).filter(|text| text.len() == 17).and_then(mac)
}

/// Outer addresses of a GRE, IPIP, SIT or VTI device: the drivers keep the local one in `address`
/// and the remote one in `broadcast`. `None` when neither is set.
#[must_use]
pub fn tunnel(address: &str, broadcast: &str) -> Option<TunnelData> {
    let tunnel = TunnelData { local: ip(address), remote: ip(broadcast), ..TunnelData::default() };
    (tunnel.local.is_some() || tunnel.remote.is_some()).then_some(tunnel)
}

/// The IP address of 4 or 16 bytes that a tunnel's attribute holds; `None` for the unspecified one.
fn ip(attribute: &str) -> Option<IpAddr> {
    let bytes = colon_hex(attribute.trim())?;
    let ip = match bytes.len() {
        4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        16 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        _ => return None,
    };
    Some(ip).filter(|ip| !ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ether() -> SysFacts<'static> {
        SysFacts { name: "x", link_layer: ETHER, index: 5, iflink: 5, flags: 0x1003, ..SysFacts::default() }
    }

    // One case per kind; the fixtures hold all that a real kernel makes.
    #[test]
    fn the_surest_sign_decides() {
        use InterfaceKind as K;
        let devtype = |devtype| SysFacts { devtype: Some(devtype), ..ether() };
        let cases = [
            (SysFacts { link_layer: LOOPBACK, name: "lo", ..ether() }, K::Loopback),
            (
                SysFacts { link_layer: 65534, wireguard: true, tun_flags: Some(0x1001), ..ether() },
                K::WireGuard,
            ),
            (SysFacts { link_layer: 65534, ..devtype("wireguard") }, K::WireGuard),
            (SysFacts { link_layer: 65534, tun_flags: Some(0x1001), ..ether() }, K::Tun),
            (SysFacts { tun_flags: Some(0x1002), bridge_port: true, ..ether() }, K::Tap),
            (SysFacts { device: true, iflink: 2, ..devtype("dsa") }, K::Physical),
            (SysFacts { device: true, bridge_port: true, ..ether() }, K::Physical),
            (SysFacts { device: true, wireless: true, ..ether() }, K::Wireless),
            (SysFacts { iflink: 4, lower: true, ..devtype("vlan") }, K::Vlan),
            (SysFacts { iflink: 4, lower: true, ..ether() }, K::Macvlan),
            (SysFacts { iflink: 4, bridge_port: true, ..ether() }, K::Veth),
            (SysFacts { bridge: true, lower: true, ..ether() }, K::Bridge),
            (SysFacts { bonding: true, ..ether() }, K::Bond),
            (SysFacts { flags: 0x83, ..ether() }, K::Dummy),
            (SysFacts { flags: 0x82, name: "ifb0", ..ether() }, K::Other),
            (SysFacts { flags: 0x481, name: "vrf0", ..ether() }, K::Other),
            (SysFacts { bridge_port: true, ..ether() }, K::BridgePort),
            (SysFacts { iflink: 0, ..ether() }, K::Gre),
            (SysFacts { link_layer: SIT, iflink: 0, ..ether() }, K::Sit),
            (SysFacts { driver_kind: Some("gretap"), iflink: 4, ..ether() }, K::Gre),
            (SysFacts { driver_kind: Some("veth"), ..ether() }, K::Veth),
            (SysFacts { driver_kind: Some("tun"), tun_flags: Some(0x1002), ..ether() }, K::Tap),
            (SysFacts { driver_kind: Some("nlmon"), ..ether() }, K::Other),
            (SysFacts { link_layer: PPP, ..ether() }, K::Ppp),
            (ether(), K::Other),
        ];
        for (facts, expected) in cases {
            assert_eq!(kind(&facts), expected, "{facts:?}");
        }
    }

    #[test]
    fn tunnels_keep_addresses_where_others_have_macs() {
        let v4 = tunnel("c0:00:02:0a\n", "c0:00:02:14\n").unwrap();
        assert_eq!(v4.local.unwrap().to_string(), "192.0.2.10");
        assert_eq!(v4.remote.unwrap().to_string(), "192.0.2.20");
        let v6 = "20:01:0d:b8:00:00:00:00:00:00:00:00:00:00:00:10";
        assert_eq!(tunnel(v6, "").unwrap().local.unwrap().to_string(), "2001:db8::10");
        assert_eq!(tunnel("00:00:00:00\n", "00:00:00:00\n"), None);
        assert_eq!(hardware_address("c0:00:02:0a\n"), None);
        assert_eq!(hardware_address("00:00:00:00:00:00\n"), None);
        assert_eq!(hardware_address("00:1A:2b:3c:4d:5e\n").as_deref(), Some("00:1a:2b:3c:4d:5e"));
    }

    #[test]
    fn attributes_are_read_as_printed() {
        assert_eq!(devtype("DEVTYPE=vlan\nINTERFACE=eth0.7\nIFINDEX=25\n"), Some("vlan"));
        assert_eq!(devtype("INTERFACE=eth0\n"), None);
        assert_eq!(ifindex("INTERFACE=eth0\nIFINDEX=25\n"), Some(25));
        assert_eq!((number("0x1003\n"), number("15\n"), number("-1\n")), (Some(0x1003), Some(15), None));
    }
}
