//! An agent's side of the protocol, without an agent.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use proto::ack::{self, Ack};
use proto::envelope::{Draft, Sealed};
use proto::ids::{AgentId, BootId, Nonce};
use proto::psk::Secret;
use proto::report::{Interface, REPORT_VERSION, Report};
use proto::sign::Kind;

use super::now_ms;

/// Someone who holds the PSK and reports.
#[derive(Clone)]
pub(crate) struct Actor {
    pub(crate) agent: AgentId,
    pub(crate) boot: BootId,
    pub(crate) hostname: String,
    pub(crate) psk: Secret,
    /// Interfaces in each report: about 150 bytes each.
    pub(crate) interfaces: usize,
}

impl Actor {
    pub(crate) fn new(hostname: &str, psk: &str) -> Self {
        Self {
            agent: AgentId::random().unwrap(),
            boot: BootId::random().unwrap(),
            hostname: hostname.to_owned(),
            psk: Secret::new(psk).unwrap(),
            interfaces: 8,
        }
    }

    /// A report observed and signed now.
    pub(crate) fn report(&self, tick: u64) -> Sealed {
        let mut report = Report {
            version: REPORT_VERSION,
            observed_at: now_ms(),
            agent_version: "0.1.0".into(),
            interval_s: 30,
            hardware: self.hostname.clone(),
            ..Report::default()
        };
        report.system.hostname.clone_from(&self.hostname);
        for n in 0..self.interfaces {
            let mut interface =
                Interface { name: format!("eth{n}"), index: 1, mtu: 1500, ..Interface::default() };
            interface.counters.rx_bytes = tick;
            report.system.interfaces.push(interface);
        }
        self.draft(Kind::Report, tick, &serde_json::to_vec(&report).unwrap(), now_ms())
    }

    pub(crate) fn draft(&self, kind: Kind, tick: u64, json: &[u8], sent_at: i64) -> Sealed {
        let (agent, boot, nonce) = (self.agent, self.boot, Nonce::random().unwrap());
        Draft { kind, agent, boot, tick, nonce, json }.seal(&self.psk, sent_at)
    }

    /// Posts a message; the status and the verified answer. `Err` when there is no answer, or one
    /// that does not verify.
    pub(crate) fn send(&self, to: SocketAddr, sealed: &Sealed) -> Result<(u16, Ack), String> {
        let (status, body) = post(to, "/status/updates", &sealed.bytes).map_err(|error| error.to_string())?;
        let ack = ack::open(&body, sealed.nonce, &sealed.mac, &self.psk)
            .map_err(|error| format!("{status}: {error}: {}", String::from_utf8_lossy(&body)))?;
        Ok((status, ack))
    }
}

/// Posts from the network in which this thread is.
pub(crate) fn post(to: SocketAddr, path: &str, body: &[u8]) -> std::io::Result<(u16, Vec<u8>)> {
    let head = format!("POST {path} HTTP/1.1\r\nHost: {to}\r\nContent-Length: {}\r\n\r\n", body.len());
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.set_write_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(&[head.as_bytes(), body].concat())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let broken = || std::io::Error::other("not an HTTP answer");
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").ok_or_else(broken)?;
    let status = answer.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    Ok((status.ok_or_else(broken)?, answer[end + 4..].to_vec()))
}
