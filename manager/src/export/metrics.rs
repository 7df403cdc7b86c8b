//! GET /metrics: the fleet, its links, its alarms and the manager itself, for Prometheus.
//!
//! Names of agents and links are ids, which stay; `kattila_agent_info` has the names that belong to them.
//! Times are moments, not ages. Nothing is told of a link by an agent that is offline: a counter that
//! stands still would say that nothing flows.

use std::collections::BTreeMap;
use std::fmt;

use gate::Stats;

use super::links::Links;
use super::prometheus::{Family, Kind, Labels, Page, Part};
use crate::fleet::Presence;
use crate::process::Process;
use crate::query::{BadParameter, Query};
use crate::store::writer::WriterHealth;
use crate::view::agent::{AgentList, AgentView};

/// Which parts of the metrics are asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "one for each part")]
pub struct Parts {
    /// Agents.
    pub fleet: bool,
    /// Links of the map: three or more series for each.
    pub links: bool,
    /// What WireGuard's exporters tell: six series for each tunnel.
    pub wireguard: bool,
    /// Alarms.
    pub alarms: bool,
    /// The manager itself.
    pub manager: bool,
}

impl Parts {
    /// What `?only=` asks for.
    ///
    /// # Errors
    /// Names the parameter and what is allowed.
    pub fn read(query: Option<&str>) -> Result<Self, BadParameter> {
        let query = Query::parse(query, &["only"])?;
        let names = "fleet, links, wireguard, alarms, manager, comma-separated";
        let only = query.read("only", names, |list| {
            let mut parts = Self::default();
            for name in list.split(',') {
                match name {
                    "fleet" => parts.fleet = true,
                    "links" => parts.links = true,
                    "wireguard" => parts.wireguard = true,
                    "alarms" => parts.alarms = true,
                    "manager" => parts.manager = true,
                    _ => return None,
                }
            }
            Some(parts)
        })?;
        let all = Self { fleet: true, links: true, wireguard: true, alarms: true, manager: true };
        Ok(only.unwrap_or(all))
    }
}

/// The manager's own state.
#[derive(Debug)]
pub struct Own {
    /// When it started (ms).
    pub started: i64,
    /// How its writer fares.
    pub writer: WriterHealth,
    /// Jobs that wait for it.
    pub queue: usize,
    /// Bytes of the database and of its log.
    pub database_bytes: [u64; 2],
    /// Refusals by reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// The gate's counters.
    pub gate: Stats,
    /// What the kernel says.
    pub process: Process,
    /// Whether the PSK could be read lately.
    pub psk_readable: bool,
    /// Notifications that wait to be sent.
    pub notifications: i64,
}

/// Alarms that are not over: code, severity, state, how many.
pub type AlarmCount = (String, String, String, i64);

/// Makes a part of links that has so many bytes of room.
type Walk<'a> = fn(&Links<'a>, usize) -> Part;

/// The whole answer of at most `room` bytes, of the parts that are given; of `links` those that are asked for. What
/// finds no room is left out: links first, and of a large fleet what is told of its agents last.
#[must_use]
pub fn render(
    room: usize,
    parts: Parts,
    fleet: Option<&AgentList>,
    links: Option<&Links<'_>>,
    alarms: Option<&[AlarmCount]>,
    own: Option<&Own>,
) -> String {
    let mut page = Page::default();
    page.extend(own.map(manager).unwrap_or_default());
    page.extend(alarms.map(alarm_counts));
    let mut left_out = Family::new(
        "kattila_metrics_left_out",
        Kind::Gauge,
        "Samples left out of this answer as it would be too large, by part; ask for ?only=links and ?only=wireguard \
         by themselves.",
    );
    let agents_left_out = fleet.map_or(0, |list| agents(list, room, &mut page));
    if agents_left_out > 0 {
        left_out.add(&[("part", "fleet")], agents_left_out);
    }
    if let Some(links) = links {
        let each: [(&str, bool, Walk<'_>); 2] =
            [("links", parts.links, Links::edges), ("wireguard", parts.wireguard, Links::wireguard)];
        for (name, _, of) in each.into_iter().filter(|(_, asked, _)| *asked) {
            let found = of(links, room.saturating_sub(page.size())).families();
            left_out.add(&[("part", name)], found.as_ref().err().copied().unwrap_or(0));
            page.extend(found.unwrap_or_default());
        }
    }
    page.add(left_out);
    page.text()
}

fn alarm_counts(counts: &[AlarmCount]) -> Family {
    let mut family =
        Family::new("kattila_alarms", Kind::Gauge, "Alarms that are not over, by code, severity and state.");
    for (code, severity, state, count) in counts {
        family.add(&[("code", code), ("severity", severity), ("state", state)], count);
    }
    family
}

/// Adds the families of agents that there is room for, and tells how many samples the others have.
fn agents(list: &AgentList, room: usize, page: &mut Page) -> usize {
    let mut left_out = 0;
    let mut add = |family: Family, fill: &mut dyn FnMut(&mut Part)| {
        let mut part = Part::new(vec![family], room.saturating_sub(page.size()));
        fill(&mut part);
        match part.families() {
            Ok(families) => page.extend(families),
            Err(samples) => left_out += samples,
        }
    };
    let present =
        Family::new("kattila_agents", Kind::Gauge, "Agents by presence: online, late, offline or never.");
    add(present, &mut |part| {
        for presence in [Presence::Online, Presence::Late, Presence::Offline, Presence::Never] {
            let count = list.agents.iter().filter(|agent| agent.presence == presence).count();
            part.add(0, Some(&Labels::new(&[("presence", presence.name())])), count);
        }
    });
    let mut labels = Labels::default();
    let info = Family::new("kattila_agent_info", Kind::Gauge, "Names of an agent; always 1.");
    add(info, &mut |part| {
        for agent in &list.agents {
            if part.fits() {
                labels.clear();
                labels.push_plain("agent", agent.id);
                labels.push("hostname", &agent.hostname);
                labels.push("version", &agent.version);
            }
            part.add(0, part.fits().then_some(&labels), 1);
        }
    });
    let mut each = |name, kind, help, value: &dyn Fn(&AgentView) -> Option<Value>| {
        add(Family::new(name, kind, help), &mut |part| {
            for agent in &list.agents {
                if let Some(value) = value(agent) {
                    if part.fits() {
                        labels.clear();
                        labels.push_plain("agent", agent.id);
                    }
                    part.add(0, part.fits().then_some(&labels), value);
                }
            }
        });
    };
    let up = |agent: &AgentView| Some(Value::Count(u64::from(agent.presence == Presence::Online)));
    each("kattila_agent_up", Kind::Gauge, "Whether an agent reports in time.", &up);
    each(
        "kattila_agent_last_report_timestamp_seconds",
        Kind::Gauge,
        "When anything of an agent last came, on the manager's clock.",
        &|agent| agent.last_seen.map(Value::Millis),
    );
    each(
        "kattila_agent_report_hops",
        Kind::Gauge,
        "Relays that an agent's latest report passed.",
        &|agent| agent.arrival.map(|_| Value::Count(agent.path.len() as u64)),
    );
    each(
        "kattila_agent_clock_offset_seconds",
        Kind::Gauge,
        "What an agent adds to its clock to have the manager's.",
        &|agent| agent.clock_offset_ms.map(Value::Millis),
    );
    each("kattila_agent_spooled_reports", Kind::Gauge, "Reports that wait at an agent.", &|agent| {
        agent.spooled.map(Value::Count)
    });
    each(
        "kattila_agent_dropped_reports_total",
        Kind::Counter,
        "Reports that an agent gave up since it started.",
        &|agent| agent.dropped.map(Value::Count),
    );
    each(
        "kattila_agent_problems",
        Kind::Gauge,
        "Problems that an agent met while collecting its latest report.",
        &|agent| agent.problems.map(|count| Value::Count(count as u64)),
    );
    left_out
}

/// What a sample of an agent says. Written by hand: the formatter takes several times as long for numbers with a point.
#[derive(Debug, Clone, Copy)]
enum Value {
    Count(u64),
    /// Milliseconds, told as seconds.
    Millis(i64),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = match *self {
            Self::Count(count) => return count.fmt(f),
            Self::Millis(ms) => ms,
        };
        let (sign, all) = (if ms < 0 { "-" } else { "" }, ms.unsigned_abs());
        let (whole, part) = (all / 1000, all % 1000);
        match part {
            0 => write!(f, "{sign}{whole}"),
            _ if part % 100 == 0 => write!(f, "{sign}{whole}.{}", part / 100),
            _ if part % 10 == 0 => write!(f, "{sign}{whole}.{:02}", part / 10),
            _ => write!(f, "{sign}{whole}.{part:03}"),
        }
    }
}

fn manager(own: &Own) -> Vec<Family> {
    let gauge = |name, help| Family::new(name, Kind::Gauge, help);
    let counter = |name, help| Family::new(name, Kind::Counter, help);
    let mut info = gauge("kattila_manager_info", "The manager's program; always 1.");
    info.add(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    let mut bytes = gauge("kattila_database_bytes", "Size of the database's files.");
    for (file, size) in ["main", "wal"].into_iter().zip(own.database_bytes) {
        bytes.add(&[("file", file)], size);
    }
    let mut refused = counter("kattila_refused_total", "Requests refused since the start, by reason.");
    for (reason, count) in &own.refused {
        refused.add(&[("reason", reason)], count);
    }
    let mut requests = counter("kattila_gate_requests_total", "Requests by what became of them.");
    let gate = &own.gate;
    for (outcome, count) in [
        ("answered", gate.served),
        ("refused_4xx", gate.refused_4xx),
        ("refused_5xx", gate.refused_5xx),
        ("evicted", gate.evicted),
        ("expired", gate.expired),
        ("panicked", gate.panics),
        ("unanswered", gate.unanswered),
    ] {
        requests.add(&[("outcome", outcome)], count);
    }
    let mut families = vec![
        info,
        counter("kattila_reports_stored_total", "Reports stored since the start.").with(own.writer.stored),
        counter("kattila_database_commits_total", "Transactions since the start.").with(own.writer.commits),
        gauge("kattila_database_writable", "Whether the last transaction worked.")
            .with(u8::from(own.writer.failure.is_none())),
        bytes,
        gauge("kattila_writer_queue", "Messages that wait to be written.").with(own.queue),
        refused,
        counter("kattila_gate_connections_total", "Connections accepted.").with(gate.accepted),
        requests,
        counter(
            "kattila_gate_pauses_total",
            "Times that accepting paused for want of descriptors or memory.",
        )
        .with(gate.pauses),
        gauge("kattila_gate_open_connections", "Connections open now.").with(gate.open),
        gauge("kattila_gate_buffered_bytes", "Bytes held now for all connections.").with(gate.buffered),
        gauge("kattila_psk_readable", "Whether the PSK could be read lately.")
            .with(u8::from(own.psk_readable)),
        gauge("kattila_notifications_waiting", "Notifications that wait to be sent.").with(own.notifications),
        gauge("process_start_time_seconds", "When the process started.").with(seconds(own.started)),
    ];
    let process = &own.process;
    let mut add = |name, kind, help, value: Option<f64>| {
        families.extend(value.map(|value| Family::new(name, kind, help).with(value)));
    };
    add("process_cpu_seconds_total", Kind::Counter, "Processor time used.", process.cpu_s);
    let memory = process.resident_bytes.and_then(small);
    add("process_resident_memory_bytes", Kind::Gauge, "Memory in use.", memory);
    add("process_threads", Kind::Gauge, "Threads.", process.threads.and_then(small));
    add("process_open_fds", Kind::Gauge, "Descriptors in use.", process.open_fds.and_then(small));
    add("process_max_fds", Kind::Gauge, "Descriptors that it may have.", process.max_fds.and_then(small));
    families
}

/// Milliseconds as seconds.
#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 ms, which is in the year 287396")]
fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

/// A count as a sample.
#[expect(clippy::cast_precision_loss, reason = "Prometheus knows nothing but doubles")]
#[expect(clippy::unnecessary_wraps, reason = "shape of its uses")]
fn small(count: u64) -> Option<f64> {
    Some(count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_are_told_as_seconds() {
        let text = |ms| Value::Millis(ms).to_string();
        for ms in
            [0, 1, 10, 100, 999, 1000, 1001, 1010, 1100, -3, -1500, 1_764_241_274_120, 1_764_241_274_123]
        {
            assert_eq!(text(ms), seconds(ms).to_string());
        }
        assert_eq!(text(i64::MIN), "-9223372036854775.808");
    }
}
