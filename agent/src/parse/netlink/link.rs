//! RTM_NEWLINK: what /sys does not tell of an interface, above all what its driver says of itself
//! (IFLA_LINKINFO).

use std::net::IpAddr;

use proto::report::TunnelData;

use super::{
    Attributes, BadMessage, hardware_address, ip, name, number, number_be, port, take, text, u16_at, u32_at,
};

/// RTM_GETLINK (linux/rtnetlink.h).
pub const GET: u16 = 18;
/// RTM_NEWLINK (linux/rtnetlink.h).
pub const NEW: u16 = 16;
/// Bytes of `struct ifinfomsg` (linux/rtnetlink.h).
pub const HEADER: usize = 16;
/// IFLA_EXT_MASK (linux/if_link.h), asking the kernel to leave something out.
pub const EXT_MASK: u16 = 29;
/// RTEXT_FILTER_SKIP_STATS (linux/rtnetlink.h).
pub const SKIP_STATS: u32 = 0x8;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_OPERSTATE: u16 = 16;
const IFLA_LINKINFO: u16 = 18;
const IFLA_CARRIER_CHANGES: u16 = 35;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_PARENT_DEV_NAME: u16 = 56;

const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;

/// An interface, as the kernel tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// Its index in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// The link layer (ARPHRD_*, linux/if_arp.h).
    pub link_layer: u32,
    /// IFF_* of linux/if.h.
    pub flags: u32,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Its address, if it is a MAC of six bytes.
    pub mac: Option<String>,
    /// RFC 2863 state, as /sys words it.
    pub operstate: &'static str,
    /// Index of the bridge, bond or VRF that it is a port of.
    pub master: Option<u32>,
    /// Index of what it is stacked on or paired with; 0 for an unbound tunnel. `None` when nothing.
    pub link: Option<u32>,
    /// `link` is an index of another namespace.
    pub link_is_foreign: bool,
    /// Times that the carrier came or went.
    pub carrier_changes: Option<u32>,
    /// A bus device stands behind it (Linux 5.14 and later tell).
    pub device: bool,
    /// The kind that its driver gives itself, such as `vxlan`.
    pub kind: Option<String>,
    /// Parameters of a tunnel, VLAN or VRF.
    pub tunnel: Option<TunnelData>,
}

/// One interface.
///
/// # Errors
/// What is missing or malformed.
pub fn row(body: &[u8]) -> Result<Link, BadMessage> {
    let header = |at| take(body, "link header", |body| u32_at(body, at));
    let mut link = Link {
        link_layer: u32::from(take(body, "link header", |body| u16_at(body, 2))?),
        index: header(4)?,
        flags: header(8)?,
        operstate: operstate(0),
        ..Link::default()
    };
    let mut info = LinkInfo::default();
    for attribute in Attributes::after(body, HEADER) {
        match attribute? {
            (IFLA_IFNAME, value) => link.name = take(value, "interface name", name)?,
            (IFLA_MTU, value) => link.mtu = take(value, "MTU", number)?,
            (IFLA_ADDRESS, value) if value.len() == 6 => link.mac = hardware_address(value),
            (IFLA_OPERSTATE, value) => link.operstate = value.first().map_or("unknown", |n| operstate(*n)),
            (IFLA_MASTER, value) => link.master = Some(take(value, "master", number)?),
            (IFLA_LINK, value) => link.link = Some(take(value, "link", number)?),
            (IFLA_LINK_NETNSID, _) => link.link_is_foreign = true,
            (IFLA_CARRIER_CHANGES, value) => {
                link.carrier_changes = Some(take(value, "carrier changes", number)?);
            }
            (IFLA_PARENT_DEV_NAME, _) => link.device = true,
            (IFLA_LINKINFO, value) => info = link_info(value)?,
            _ => {}
        }
    }
    (link.kind, link.tunnel) = (info.kind, info.tunnel);
    // Kernels differ in whether a VXLAN counts as stacked on the device that it is bound to.
    link.link = link.link.or(info.device);
    if link.name.is_empty() { Err(BadMessage { field: "interface name" }) } else { Ok(link) }
}

/// IF_OPER_* of linux/if.h, as net/core/net-sysfs.c prints them.
fn operstate(number: u8) -> &'static str {
    match number {
        1 => "notpresent",
        2 => "down",
        3 => "lowerlayerdown",
        4 => "testing",
        5 => "dormant",
        6 => "up",
        _ => "unknown",
    }
}

/// What a driver tells of an interface of its own.
#[derive(Default)]
struct LinkInfo {
    kind: Option<String>,
    tunnel: Option<TunnelData>,
    /// Index of the interface that a VXLAN is bound to.
    device: Option<u32>,
}

fn link_info(bytes: &[u8]) -> Result<LinkInfo, BadMessage> {
    let (mut kind, mut data) = (None, None);
    for attribute in Attributes::new(bytes) {
        match attribute? {
            (IFLA_INFO_KIND, value) => kind = Some(take(value, "link kind", word)?),
            (IFLA_INFO_DATA, value) => data = Some(value),
            _ => {}
        }
    }
    let parameters = kind.as_deref().and_then(parameters);
    let (mut tunnel, mut device) = (None, None);
    if let Some((data, parameters)) = data.zip(parameters) {
        let told = tunnel_data(data, parameters)?;
        tunnel = Some(told.0).filter(|tunnel| *tunnel != TunnelData::default());
        device = told.1;
    }
    Ok(LinkInfo { kind, tunnel, device })
}

/// A kind's name: a few letters and digits (the longest in the kernel has 14).
fn word(value: &[u8]) -> Option<String> {
    let good = |text: &&str| text.len() <= 32 && text.bytes().all(|byte| byte.is_ascii_graphic());
    text(value).filter(good).map(str::to_owned)
}

/// What an attribute of IFLA_INFO_DATA means, for the kinds of interface that have what a
/// [`TunnelData`] holds.
#[derive(Clone, Copy)]
enum Parameter {
    /// Index of the interface that it is bound to.
    Device,
    /// A number of two bytes.
    ShortId,
    Id,
    Port,
    /// Keys of received and of sent packets, in network order. Where `key` is not flagged, the
    /// kernel gives 0.
    KeyIn,
    KeyOut,
    KeyInFlags,
    KeyOutFlags,
    Local,
    Remote,
    /// A byte that is 1, or nothing at all: it is there.
    External,
}

/// The attributes of a kind, with their numbers (linux/if_link.h and if_tunnel.h).
fn parameters(kind: &str) -> Option<&'static [(u16, Parameter)]> {
    use Parameter as P;
    Some(match kind {
        "vlan" => &[(1, P::ShortId)],
        // IFLA_VRF_TABLE
        "vrf" => &[(1, P::Id)],
        "vxlan" => &[
            (1, P::Id),
            (2, P::Remote),
            (3, P::Device),
            (4, P::Local),
            (15, P::Port),
            (16, P::Remote),
            (17, P::Local),
            (25, P::External),
        ],
        "geneve" => &[(1, P::Id), (2, P::Remote), (5, P::Port), (6, P::External), (7, P::Remote)],
        "gre" | "gretap" | "ip6gre" | "ip6gretap" | "erspan" | "ip6erspan" => &[
            (2, P::KeyInFlags),
            (3, P::KeyOutFlags),
            (4, P::KeyIn),
            (5, P::KeyOut),
            (6, P::Local),
            (7, P::Remote),
            (18, P::External),
        ],
        "ipip" | "sit" | "ip6tnl" => &[(2, P::Local), (3, P::Remote), (19, P::External)],
        "vti" | "vti6" => &[(2, P::KeyIn), (3, P::KeyOut), (4, P::Local), (5, P::Remote)],
        _ => return None,
    })
}

/// GRE_KEY (linux/if_tunnel.h): packets have a key.
const GRE_KEY: u16 = 0x2000;

fn tunnel_data(
    data: &[u8],
    parameters: &[(u16, Parameter)],
) -> Result<(TunnelData, Option<u32>), BadMessage> {
    let (mut tunnel, mut device) = (TunnelData::default(), None);
    let (mut received, mut sent) = (Key::default(), Key::default());
    for attribute in Attributes::new(data) {
        let (number_of, value) = attribute?;
        let Some((_, parameter)) = parameters.iter().find(|(number, _)| *number == number_of) else {
            continue;
        };
        match parameter {
            Parameter::Device => device = Some(take(value, "tunnel device", number)?),
            Parameter::ShortId => {
                tunnel.id = Some(u32::from(take(value, "VLAN id", |value| u16_at(value, 0))?));
            }
            Parameter::Id => tunnel.id = Some(take(value, "tunnel id", number)?),
            Parameter::Port => tunnel.port = Some(take(value, "tunnel port", port)?),
            Parameter::KeyIn => received.number = take(value, "tunnel key", number_be)?,
            Parameter::KeyOut => sent.number = take(value, "tunnel key", number_be)?,
            Parameter::KeyInFlags => received.flags = Some(take(value, "tunnel flags", port)?),
            Parameter::KeyOutFlags => sent.flags = Some(take(value, "tunnel flags", port)?),
            Parameter::Local => tunnel.local = outer(value)?.or(tunnel.local),
            Parameter::Remote => tunnel.remote = outer(value)?.or(tunnel.remote),
            Parameter::External => tunnel.external = value.first() != Some(&0),
        }
    }
    tunnel.id = tunnel.id.or_else(|| received.value()).filter(|_| !tunnel.external);
    let sent = sent.value().filter(|_| !tunnel.external);
    tunnel.id_sent = sent.filter(|_| sent != tunnel.id);
    Ok((tunnel, device))
}

/// A key of a GRE or VTI.
#[derive(Default)]
struct Key {
    /// GRE_* flags; VTI has none.
    flags: Option<u16>,
    number: u32,
}

impl Key {
    /// The key; without flags, 0 is none.
    fn value(&self) -> Option<u32> {
        let is_set = self.flags.map_or(self.number != 0, |flags| flags & GRE_KEY != 0);
        is_set.then_some(self.number)
    }
}

/// An outer address; `None` for the unspecified one.
fn outer(value: &[u8]) -> Result<Option<IpAddr>, BadMessage> {
    Ok(Some(take(value, "tunnel address", ip)?).filter(|ip| !ip.is_unspecified()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::netlink::request_attribute as encode;

    fn body(attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut body = vec![0, 0];
        body.extend_from_slice(&1_u16.to_ne_bytes());
        for number in [5_u32, 0x1003, 0] {
            body.extend_from_slice(&number.to_ne_bytes());
        }
        body.extend(attributes.concat());
        body
    }

    fn info(kind: &str, data: &[(u16, &[u8])]) -> Vec<u8> {
        let data: Vec<u8> = data.iter().flat_map(|(kind, value)| encode(*kind, value)).collect();
        encode(
            IFLA_LINKINFO,
            &[encode(IFLA_INFO_KIND, kind.as_bytes()), encode(IFLA_INFO_DATA, &data)].concat(),
        )
    }

    fn told(kind: &str, data: &[(u16, &[u8])]) -> TunnelData {
        let link = row(&body(&[encode(IFLA_IFNAME, b"x0\0"), info(kind, data)])).unwrap();
        assert_eq!(link.kind.as_deref(), Some(kind.trim_end_matches('\0')));
        link.tunnel.unwrap_or_default()
    }

    #[test]
    fn an_interface_without_its_folder_in_sys_is_told() {
        let link = row(&body(&[
            encode(IFLA_IFNAME, b"eth0\0"),
            encode(IFLA_MTU, &1500_u32.to_ne_bytes()),
            encode(IFLA_ADDRESS, &[2, 0, 0, 0, 0, 9]),
            encode(IFLA_OPERSTATE, &[6]),
            encode(IFLA_LINK, &5_u32.to_ne_bytes()),
            encode(IFLA_LINK_NETNSID, &0_u32.to_ne_bytes()),
        ]))
        .unwrap();
        let expected = Link {
            index: 5,
            name: "eth0".to_owned(),
            link_layer: 1,
            flags: 0x1003,
            mtu: 1500,
            mac: Some("02:00:00:00:00:09".to_owned()),
            operstate: "up",
            link: Some(5),
            link_is_foreign: true,
            ..Link::default()
        };
        assert_eq!(link, expected);
    }

    // What kernels really give is in the fixtures; here is what they give seldom.
    #[test]
    fn tunnels_of_both_families_and_keys_of_both_directions() {
        let v6 = [0xfd; 16];
        let vxlan = told("vxlan", &[(1, &7_u32.to_ne_bytes()), (16, &v6), (15, &4789_u16.to_be_bytes())]);
        assert_eq!((vxlan.id, vxlan.port, vxlan.remote), (Some(7), Some(4789), ip(&v6)));
        let keyed = |flags_in: u16, flags_out: u16| {
            let data: [(u16, &[u8]); 4] = [
                (2, &flags_in.to_be_bytes()),
                (3, &flags_out.to_be_bytes()),
                (4, &1_u32.to_be_bytes()),
                (5, &2_u32.to_be_bytes()),
            ];
            let tunnel = told("ip6gretap", &data);
            (tunnel.id, tunnel.id_sent)
        };
        assert_eq!(keyed(GRE_KEY, GRE_KEY), (Some(1), Some(2)));
        assert_eq!(keyed(0, GRE_KEY), (None, Some(2)));
        assert_eq!(keyed(0, 0), (None, None));
        let same = told("vti\0", &[(2, &9_u32.to_be_bytes()), (3, &9_u32.to_be_bytes())]);
        assert_eq!((same.id, same.id_sent), (Some(9), None));
        let external = told("vxlan", &[(1, &0_u32.to_ne_bytes()), (25, &[1])]);
        assert_eq!((external.id, external.external), (None, true));
        assert!(!told("vxlan", &[(25, &[0])]).external && told("geneve", &[(6, &[])]).external);
        assert_eq!(told("gre", &[(6, &[0; 4]), (7, &[0; 4])]), TunnelData::default());
        assert_eq!(told("of-a-later-kernel", &[(1, &[1])]), TunnelData::default());
    }

    #[test]
    fn malformed_ones_are_named() {
        let field = |attributes: &[Vec<u8>]| row(&body(attributes)).unwrap_err().field;
        assert_eq!(field(&[]), "interface name");
        assert_eq!(field(&[encode(IFLA_IFNAME, b"../../etc\0")]), "interface name");
        assert_eq!(field(&[info("vxlan", &[(1, &[7])])]), "tunnel id");
        assert_eq!(field(&[info("gre", &[(6, &[1; 5])])]), "tunnel address");
        assert_eq!(field(&[info("a kind", &[])]), "link kind");
        assert_eq!(row(&[0; 8]).unwrap_err().field, "link header");
    }
}
