//! A real DNS server on a host, for TXT records that change.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::wireguard::line;
use crate::{Error, Host, Launch, Proc, Result, wait_for};

/// `dnsmasq` with TXT records on one host; dropping it ends it.
#[derive(Debug)]
pub struct Dns<'mesh> {
    host: &'mesh Host,
    name: String,
    process: Option<Proc>,
}

impl<'mesh> Dns<'mesh> {
    /// Starts a server on `host` that knows `name` with one TXT record `value`, and nothing else.
    pub fn start(host: &'mesh Host, name: &str, value: &str) -> Result<Self> {
        let mut dns = Self { host, name: name.to_owned(), process: None };
        dns.set(&[value])?;
        Ok(dns)
    }

    /// The server's address, for `DNS_SERVER` and [`Host::use_dns`].
    pub fn address(&self) -> IpAddr {
        self.host.address()
    }

    /// Puts one other value in place of what is there.
    pub fn rotate(&mut self, value: &str) -> Result<()> {
        self.set(&[value])
    }

    /// Puts these records in place of what is there: none, one, or several. A value longer than
    /// 255 bytes becomes one record of several strings.
    pub fn set(&mut self, values: &[&str]) -> Result<()> {
        self.stop();
        // A file, because quotes, and so commas in a value, are only understood there.
        // The name's zone is its own: without a record the answer is "no data", not "refused".
        let mut config = format!(
            "no-resolv\nno-hosts\nno-ping\npid-file\nlog-queries\nuser=root\ngroup=root\nlocal=/{}/\n",
            self.name
        );
        for value in values {
            line(&mut config, format_args!("txt-record={},{}", self.name, quoted(value)));
        }
        let file = self.host.dir().join("dnsmasq.conf");
        std::fs::write(&file, config).map_err(Error::io(file.display().to_string()))?;
        let launch = Launch::new("dnsmasq").arg("--no-daemon").arg("-C").arg(&file);
        let process = self.host.spawn(&launch)?;
        let address = SocketAddr::new(self.address(), 53);
        let answers =
            || self.host.inside(|| TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok());
        let up = wait_for("", Duration::from_secs(10), || {
            if matches!(answers(), Ok(true)) { Some(true) } else { (!process.is_running()).then_some(false) }
        });
        if !matches!(up, Ok(true)) {
            return Err(Error::Command {
                host: self.host.name().to_owned(),
                command: "dnsmasq".to_owned(),
                outcome: "does not answer".to_owned(),
                said: process.log(),
            });
        }
        self.process = Some(process);
        Ok(())
    }

    /// Ends the server, as if the machine had failed; [`Dns::rotate`] starts it again.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// What dnsmasq logged: every query among it.
    pub fn log(&self) -> String {
        self.process.as_ref().map(Proc::log).unwrap_or_default()
    }
}

/// Strings of at most 255 bytes, each in quotes so that commas stay; dnsmasq has no way to write
/// a quote, which no PSK needs.
fn quoted(value: &str) -> String {
    let pieces: Vec<String> =
        value.as_bytes().chunks(255).map(|piece| format!("\"{}\"", String::from_utf8_lossy(piece))).collect();
    pieces.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_become_several_strings() {
        assert_eq!(quoted("a,b"), "\"a,b\"");
        let long = "x".repeat(300);
        assert_eq!(quoted(&long), format!("\"{}\",\"{}\"", "x".repeat(255), "x".repeat(45)));
    }
}
