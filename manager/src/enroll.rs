//! `manager -enroll`: the one line that brings a node in, with the address at which nodes reach this manager.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use proto::psk::PskSource;

use crate::config::Config;
use crate::error::Error;
use crate::networks::is_wireguard;

/// An address of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// The interface that has it.
    pub interface: String,
    /// Whether that is WireGuard's.
    pub is_wireguard: bool,
    /// The address.
    pub ip: IpAddr,
}

/// The addresses of this host's interfaces that are up.
///
/// # Errors
/// What the system says.
pub fn own_addresses() -> Result<Vec<Own>, Error> {
    let list = nix::ifaddrs::getifaddrs()
        .map_err(|error| Error::Io("the addresses of this host".to_owned(), error.into()))?;
    let own = list.filter(|entry| entry.flags.contains(nix::net::if_::InterfaceFlags::IFF_UP)).filter_map(
        |entry| {
            let address = entry.address?;
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            let ip = v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))?;
            let is_wireguard = is_wireguard(Path::new("/"), &entry.interface_name);
            Some(Own { interface: entry.interface_name, is_wireguard, ip })
        },
    );
    Ok(own.collect())
}

/// Those at which nodes may reach a manager that listens on `listen`, the likeliest first: WireGuard's, then
/// public and private ones, those of bridges that only containers use last.
#[must_use]
pub fn candidates(listen: SocketAddr, own: &[Own]) -> Vec<Own> {
    let any = listen.ip().is_unspecified();
    let reached = |own: &&Own| {
        let link_local = match own.ip {
            IpAddr::V4(ip) => ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        };
        let family = listen.is_ipv6() || own.ip.is_ipv4();
        !own.ip.is_loopback() && !link_local && if any { family } else { own.ip == listen.ip() }
    };
    let mut found: Vec<Own> = own.iter().filter(reached).cloned().collect();
    found.sort_by_key(|own| (rank(own), own.ip.is_ipv6()));
    found
}

fn rank(own: &Own) -> u8 {
    let containers = ["docker", "br-", "veth", "virbr", "cni", "lxc", "podman"];
    match own {
        Own { is_wireguard: true, .. } => 0,
        own if containers.iter().any(|start| own.interface.starts_with(start)) => 2,
        _ => 1,
    }
}

/// What to print: comments, and the one line. `host` is taken as it is; without it the likeliest address is.
///
/// # Errors
/// When no node can reach this manager.
pub fn text(config: &Config, host: Option<&str>, own: &[Own]) -> Result<String, Error> {
    let found = candidates(config.listen, own);
    let mut text = String::new();
    let host = match (host, found.first()) {
        (Some(host), _) => in_url(host),
        (None, Some(first)) => {
            let what = if first.is_wireguard {
                "WireGuard"
            } else {
                "not WireGuard: reports can be read on the way"
            };
            text.push_str(&format!(
                "# Nodes reach this manager at {} ({}, {what}).\n",
                first.ip, first.interface
            ));
            in_url(&first.ip.to_string())
        }
        (None, None) => {
            return Err(Error::Call(format!(
                "no other host reaches this manager on MANAGER_LISTEN={}: set it to [::]:{} or to an address of \
                 this host, or name the address by -enroll HOST",
                config.listen,
                config.listen.port()
            )));
        }
    };
    if found.len() > 1 {
        let others: Vec<String> = found.iter().map(|own| format!("{} ({})", own.ip, own.interface)).collect();
        text.push_str(&format!(
            "# Other: manager -enroll HOST, with a name or one of {}\n",
            others.join(", ")
        ));
    }
    let url = format!("http://{host}:{}", config.listen.port());
    let (files, psk) = psk(config)?;
    text.push_str(&format!(
        "# In the unpacked folder of kattila-agent for the node's machine, with the node's name for NODE:\n\
         tar -czf - *{files} | ssh root@NODE 'rm -rf /tmp/kattila && mkdir -m 700 /tmp/kattila && \
         tar -xzf - -C /tmp/kattila && sh /tmp/kattila/install.sh {url} {psk}'\n\
         # It ends with \"all well\", and within a minute the node is on {url}/ and in {url}/status/agents\n"
    ));
    Ok(text)
}

/// A host as a URL has it.
fn in_url(host: &str) -> String {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(ip)) => format!("[{ip}]"),
        _ => host.to_owned(),
    }
}

/// What tar takes along for the PSK, and how the node's script is told of it.
fn psk(config: &Config) -> Result<(String, String), Error> {
    Ok(match config.psk_source()? {
        PskSource::Dns { name, .. } => (String::new(), format!("dns:{name}")),
        PskSource::File(path) => {
            let absolute = fs::canonicalize(path).unwrap_or_else(|_| path.clone());
            let folder = absolute.parent().unwrap_or_else(|| Path::new("/")).display().to_string();
            let name = absolute.file_name().unwrap_or_default().to_string_lossy().into_owned();
            (format!(" -C {} {}", quoted(&folder), quoted(&name)), quoted(&name))
        }
        // It must not stand on a command line.
        PskSource::Fixed(_) => {
            return Err(Error::Call(
                "the PSK is the setting PSK here, which must not stand on a command line: put it into a file \
                 (mode 0600) and set PSK_FILE"
                    .to_owned(),
            ));
        }
    })
}

/// For a shell, also inside single quotes: names with anything unusual are refused by nobody, only quoted.
fn quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+".contains(&byte);
    if text.bytes().all(plain) { text.to_owned() } else { format!("\"{text}\"") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::settings::Settings;

    fn own(interface: &str, is_wireguard: bool, ip: &str) -> Own {
        Own { interface: interface.to_owned(), is_wireguard, ip: ip.parse().unwrap() }
    }

    fn host() -> Vec<Own> {
        vec![
            own("lo", false, "127.0.0.1"),
            own("eth0", false, "fe80::1"),
            own("docker0", false, "172.17.0.1"),
            own("eth0", false, "192.168.1.5"),
            own("wg0", true, "fd00:9::1"),
            own("wg0", true, "10.9.0.1"),
        ]
    }

    fn config(text: &str) -> Config {
        Config::from_settings(&Settings::new(text, []).unwrap()).unwrap()
    }

    fn enroll(text_of_settings: &str, host_name: Option<&str>, own: &[Own]) -> Result<String, String> {
        text(&config(text_of_settings), host_name, own).map_err(|error| error.to_string())
    }

    #[test]
    fn wireguard_comes_first_and_containers_last() {
        let found = |listen: &str| -> Vec<String> {
            candidates(listen.parse().unwrap(), &host()).iter().map(|own| own.ip.to_string()).collect()
        };
        assert_eq!(found("[::]:5086"), ["10.9.0.1", "fd00:9::1", "192.168.1.5", "172.17.0.1"]);
        assert_eq!(found("0.0.0.0:5086"), ["10.9.0.1", "192.168.1.5", "172.17.0.1"]);
        assert_eq!(found("192.168.1.5:5086"), ["192.168.1.5"]);
        assert!(found("127.0.0.1:5086").is_empty());
    }

    #[test]
    fn the_line_has_address_psk_and_start() {
        let expected = "\
# Nodes reach this manager at 10.9.0.1 (wg0, WireGuard).
# Other: manager -enroll HOST, with a name or one of 10.9.0.1 (wg0), fd00:9::1 (wg0), 192.168.1.5 (eth0), 172.17.0.1 (docker0)
# In the unpacked folder of kattila-agent for the node's machine, with the node's name for NODE:
tar -czf - * -C /nowhere/kattila psk | ssh root@NODE 'rm -rf /tmp/kattila && mkdir -m 700 /tmp/kattila && tar -xzf - -C /tmp/kattila && sh /tmp/kattila/install.sh http://10.9.0.1:5086 psk'
# It ends with \"all well\", and within a minute the node is on http://10.9.0.1:5086/ and in http://10.9.0.1:5086/status/agents
";
        assert_eq!(enroll("PSK_FILE=/nowhere/kattila/psk", None, &host()).unwrap(), expected);
        let named =
            enroll("DNS=kattila.example.org\nMANAGER_LISTEN=127.0.0.1:80", Some("fd00::7"), &host()).unwrap();
        assert!(
            named.contains("tar -czf - * | ssh")
                && named.contains("install.sh http://[fd00::7]:80 dns:kattila.example.org'"),
            "{named}"
        );
    }

    #[test]
    fn what_cannot_work_is_said() {
        let loopback = enroll("PSK_FILE=/psk\nMANAGER_LISTEN=127.0.0.1:5086", None, &host()).unwrap_err();
        assert!(loopback.contains("set it to [::]:5086"), "{loopback}");
        let fixed = enroll("PSK=correct horse battery", None, &host()).unwrap_err();
        assert!(fixed.contains("PSK_FILE") && !fixed.contains("horse"), "{fixed}");
        assert!(enroll("", None, &host()).unwrap_err().contains("no PSK"));
    }
}
