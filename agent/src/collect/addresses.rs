//! The addresses of all interfaces.

use proto::ids::Cidr;
use proto::report::Interface;

use super::netlink::{Netlink, NetlinkError};
use super::problems::Problems;
use super::question::Question;
use crate::parse::netlink::address;

/// Addresses that are remembered: those of 64 interfaces with 64 each.
const ALL_MAX: usize = 4096;

/// Where interface addresses come from.
#[derive(Debug, Clone)]
pub enum Addresses {
    /// The kernel, by rtnetlink. There is no other way: getifaddrs(3) asks the same.
    System,
    /// These: interface name or label (`eth0:1`), and address with prefix length.
    Fixed(Vec<(String, Cidr)>),
}

/// All addresses in the kernel's order, each with its interface.
pub(super) enum All<'a> {
    ByIndex(Vec<(u32, Cidr)>),
    ByName(&'a [(String, Cidr)]),
}

impl Addresses {
    /// Every IPv4 and IPv6 address; none, and a problem, when the kernel does not tell.
    pub(super) fn read(&self, problems: &mut Problems) -> All<'_> {
        match self {
            Self::Fixed(list) => All::ByName(list),
            Self::System => All::ByIndex(ask(problems).unwrap_or_else(|error| {
                problems.add("netlink addresses", error);
                Vec::new()
            })),
        }
    }
}

fn ask(problems: &mut Problems) -> Result<Vec<(u32, Cidr)>, NetlinkError> {
    Netlink::System.list(Question::Addresses, problems, Vec::new, |list, body| {
        list.extend(address::row(body)?.filter(|_| list.len() < ALL_MAX));
        Ok(())
    })
}

impl All<'_> {
    /// Those of an interface.
    pub(super) fn of(&self, interface: &Interface) -> Vec<Cidr> {
        match self {
            Self::ByIndex(list) => {
                list.iter().filter(|(index, _)| *index == interface.index).map(|(_, cidr)| *cidr).collect()
            }
            Self::ByName(list) => {
                let is_own = |label: &str| label.split(':').next() == Some(&interface.name);
                list.iter().filter(|(label, _)| is_own(label)).map(|(_, cidr)| *cidr).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_its_addresses() {
        let mut problems = Problems::default();
        let all = Addresses::System.read(&mut problems);
        // Loopback is the first interface of every network namespace.
        let loopback = all.of(&Interface { index: 1, ..Interface::default() });
        assert!(loopback.contains(&"127.0.0.1/8".parse().unwrap()), "{loopback:?}");
        assert!(problems.into_list().is_empty());
    }

    #[test]
    fn each_interface_has_its_own() {
        let cidr = |text: &str| text.parse::<Cidr>().unwrap();
        let by_index = All::ByIndex(vec![(2, cidr("10.0.0.1/24")), (3, cidr("10.1.0.1/24"))]);
        assert_eq!(by_index.of(&Interface { index: 3, ..Interface::default() }), [cidr("10.1.0.1/24")]);
        let fixed = ["eth0", "eth0:1", "eth01"].map(|label| (label.to_owned(), cidr("10.0.0.1/24")));
        let eth0 = Interface { name: "eth0".to_owned(), ..Interface::default() };
        assert_eq!(All::ByName(&fixed).of(&eth0), [cidr("10.0.0.1/24"); 2]);
    }
}
