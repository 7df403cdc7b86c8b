//! The page in lines: a summary, alarms, links, agents, in each what is wrong first. Pure.

use std::collections::{BTreeMap, HashMap};

use super::answer::{Agent, Alarm, Answers, Link, Properties};
use super::table::{Cell, Color, Column, Look, clean, paint, table, wrap};

/// Sentences are not wrapped wider than this: long lines are hard to read.
const READABLE: usize = 110;

/// The page; with a height in no more lines than that, and what was left out is counted.
#[must_use]
pub fn render(answers: &Answers, look: &Look) -> String {
    let mut lines = summary(answers, look);
    let mut add = |title: &str, part: Vec<String>| {
        if !part.is_empty() {
            lines.push(String::new());
            lines.push(paint(title, Some(Color::Title), look));
            lines.extend(part);
        }
    };
    add("ALARMS", alarms(answers, look));
    add("LINKS", links(answers, look));
    add("AGENTS", agents(answers, look));
    if answers.agents.is_empty() {
        lines.push(String::new());
        lines.push("No agent has reported yet: start one with this manager's address and PSK.".to_owned());
    }
    // One line stays free for the cursor, one for the count.
    let height = look.height.map_or(usize::MAX, |height| height.saturating_sub(2).max(5));
    if lines.len() > height {
        let more = format!("… {} lines more, without -watch", lines.len() - height);
        lines.truncate(height);
        lines.push(paint(&more, Some(Color::Faint), look));
    }
    lines.join("\n") + "\n"
}

fn summary(answers: &Answers, look: &Look) -> Vec<String> {
    let health = &answers.health;
    let mut lines = vec![clean(&format!(
        "kattila {} at {}, up {}",
        health.version,
        answers.url,
        duration(health.uptime_s)
    ))];
    if !health.database.writable {
        let why = health.database.failure.as_deref().unwrap_or("no reason is known");
        lines.extend(told(&format!("The database takes no writes: {why}"), Color::Bad, look));
    }
    if let Some(why) = &health.psk_failure {
        lines.extend(told(&format!("The PSK could not be read: {why}"), Color::Doubtful, look));
    }
    let agents = count(answers.agents.iter().map(|agent| agent.presence.as_str()));
    let of_interest = answers.links.iter().filter(|link| link.properties.kind != "relay");
    let links = count(of_interest.clone().map(|link| link.properties.state.as_str()));
    let firing = answers.alarms.iter().filter(|alarm| alarm.state == "firing");
    let alarms = count(firing.map(|alarm| alarm.severity.as_str()));
    let parts = [
        told_counts("Agents", answers.agents.len(), &agents, &["online", "late", "offline", "never"]),
        told_counts(
            "Links",
            of_interest.count(),
            &links,
            &["up", "idle", "stale", "down", "never", "one_sided", "unknown"],
        ),
        told_counts("Alarms firing", alarms.values().sum(), &alarms, &["critical", "warning", "info"]),
    ];
    let one_line = parts.join("   ");
    if one_line.chars().count() <= look.width {
        lines.push(one_line)
    } else {
        lines.extend(parts)
    }
    lines
}

fn told(text: &str, color: Color, look: &Look) -> Vec<String> {
    wrap(text, look.width.min(READABLE)).iter().map(|line| paint(line, Some(color), look)).collect()
}

fn count<'a>(words: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, usize> {
    let mut counts = BTreeMap::new();
    words.for_each(|word| *counts.entry(word).or_default() += 1);
    counts
}

/// `Links 5: 4 up, 1 down`, in the order given.
fn told_counts(what: &str, total: usize, counts: &BTreeMap<&str, usize>, order: &[&str]) -> String {
    let parts = order.iter().filter_map(|word| Some((word, counts.get(word)?)));
    let parts: Vec<String> = parts.map(|(word, n)| format!("{n} {}", word.replace('_', "-"))).collect();
    let colon = if parts.is_empty() { "" } else { ": " };
    format!("{what} {total}{colon}{}", parts.join(", "))
}

fn alarms(answers: &Answers, look: &Look) -> Vec<String> {
    let mut alarms: Vec<&Alarm> = answers.alarms.iter().collect();
    alarms.sort_by_key(|alarm| {
        let severity = ["critical", "warning", "info"].iter().position(|name| *name == alarm.severity);
        (alarm.state != "firing", severity, std::cmp::Reverse(alarm.since))
    });
    let mut lines = Vec::new();
    for alarm in alarms {
        let color = match (alarm.state.as_str(), alarm.severity.as_str()) {
            ("firing", "critical") => Color::Bad,
            ("firing", "warning") => Color::Doubtful,
            _ => Color::Faint,
        };
        let state = if alarm.state == "firing" { String::new() } else { format!(", {}", alarm.state) };
        let head = format!("{} {}", alarm.severity, alarm.code);
        let rest = format!(" for {}{state} (no. {})", duration((answers.now - alarm.since) / 1000), alarm.no);
        lines.push(format!("  {}{}", paint(&clean(&head), Some(color), look), clean(&rest)));
        let room = look.width.min(READABLE).saturating_sub(4);
        lines.extend(wrap(&alarm.sentence, room).into_iter().map(|line| format!("    {line}")));
        if !alarm.next_step.is_empty() {
            let next = wrap(&format!("next: {}", alarm.next_step), room);
            lines.extend(next.into_iter().map(|line| format!("    {line}")));
        }
    }
    lines
}

const LINK: [Column; 8] = [
    Column { title: "STATE", right: false, rank: 0, least: None },
    Column { title: "FOR", right: true, rank: 3, least: None },
    Column { title: "KIND", right: false, rank: 1, least: None },
    Column { title: "ONE END", right: false, rank: 0, least: Some(14) },
    Column { title: "OTHER END", right: false, rank: 0, least: Some(14) },
    Column { title: "HANDSHAKE", right: false, rank: 0, least: None },
    Column { title: "RTT", right: true, rank: 4, least: None },
    Column { title: "LOSS", right: true, rank: 2, least: None },
];

/// The way of reports is told with the agents.
fn links(answers: &Answers, look: &Look) -> Vec<String> {
    let names: HashMap<&str, &str> =
        answers.nodes.iter().map(|node| (node.id.as_str(), node.label.as_str())).collect();
    let end = |id: &str, interface: &Option<String>| {
        let name = names.get(id).copied().unwrap_or(id).to_owned();
        (name, interface.as_ref().map(|interface| format!(" {interface}")).unwrap_or_default())
    };
    let mut shown: Vec<(usize, End, End, &Link)> = answers
        .links
        .iter()
        .filter(|link| link.properties.kind != "relay")
        .map(|link| {
            let (a, b) = (&link.properties.interface_a, &link.properties.interface_b);
            (rank(&link.properties.state), end(&link.source, a), end(&link.target, b), link)
        })
        .collect();
    shown.sort_by(|a, b| {
        let key = |link: &(usize, End, End, &Link)| (link.0, kind_rank(&link.3.properties.kind));
        (key(a), &a.1, &a.2).cmp(&(key(b), &b.1, &b.2))
    });
    let rows: Vec<Vec<Cell>> =
        shown.iter().map(|(rank, a, b, link)| link_row(*rank, a, b, &link.properties)).collect();
    if rows.is_empty() { Vec::new() } else { table(&LINK, &rows, look) }
}

/// A host's name, and its interface.
type End = (String, String);

fn link_row(rank: usize, a: &End, b: &End, link: &Properties) -> Vec<Cell> {
    let color = match rank {
        0 | 1 => Some(Color::Bad),
        2 | 3 => Some(Color::Doubtful),
        4 => Some(Color::Faint),
        _ => Some(Color::Good),
    };
    let handshake = |class: &Option<String>, age: Option<u32>| match (class.as_deref(), age) {
        (_, Some(age)) => duration(i64::from(age)),
        (Some(class), None) => class.to_owned(),
        (None, None) => "-".to_owned(),
    };
    let (one, other) = (
        handshake(&link.handshake_a, link.handshake_age_s_a),
        handshake(&link.handshake_b, link.handshake_age_s_b),
    );
    let handshakes = if one == "-" && other == "-" { String::new() } else { format!("{one} / {other}") };
    let least = |a: Option<f64>, b: Option<f64>| a.into_iter().chain(b).reduce(f64::min);
    let most = |a: Option<f64>, b: Option<f64>| a.into_iter().chain(b).reduce(f64::max);
    let rtt = least(link.rtt_ms_a, link.rtt_ms_b).map(|ms| format!("{ms:.1} ms")).unwrap_or_default();
    let loss = most(link.loss_percent_a, link.loss_percent_b).filter(|loss| *loss >= 0.05);
    vec![
        Cell::colored(link.state.replace('_', "-"), color),
        Cell::new(duration(link.state_age_s)),
        Cell::new(&link.kind),
        Cell::ending(&a.0, &a.1),
        Cell::ending(&b.0, &b.1),
        Cell::new(handshakes),
        Cell::new(rtt),
        Cell::new(loss.map(|loss| format!("{loss:.1} %")).unwrap_or_default()),
    ]
}

/// What is worst comes first.
fn rank(state: &str) -> usize {
    let order = ["down", "one_sided", "stale", "never", "unknown", "up", "idle"];
    order.iter().position(|name| *name == state).unwrap_or(4)
}

fn kind_rank(kind: &str) -> usize {
    ["wireguard", "overlay", "physical"].iter().position(|name| *name == kind).unwrap_or(3)
}

const AGENT: [Column; 8] = [
    Column { title: "PRESENCE", right: false, rank: 0, least: None },
    Column { title: "HOST", right: false, rank: 0, least: Some(12) },
    Column { title: "LAST SEEN", right: true, rank: 0, least: None },
    Column { title: "REPORTS COME", right: false, rank: 1, least: Some(12) },
    Column { title: "CLOCK", right: true, rank: 2, least: None },
    Column { title: "NOTES", right: false, rank: 3, least: Some(12) },
    Column { title: "VERSION", right: false, rank: 4, least: Some(7) },
    Column { title: "ID", right: false, rank: 5, least: None },
];

fn agents(answers: &Answers, look: &Look) -> Vec<String> {
    let names: HashMap<&str, &str> =
        answers.agents.iter().map(|agent| (agent.id.as_str(), agent.hostname.as_str())).collect();
    let order =
        |presence: &str| ["offline", "late", "never", "online"].iter().position(|name| *name == presence);
    let mut agents: Vec<&Agent> = answers.agents.iter().collect();
    agents.sort_by_key(|agent| (order(&agent.presence), &agent.hostname, &agent.id));
    let rows: Vec<Vec<Cell>> = agents.into_iter().map(|agent| agent_row(agent, &names)).collect();
    if rows.is_empty() { Vec::new() } else { table(&AGENT, &rows, look) }
}

fn agent_row(agent: &Agent, names: &HashMap<&str, &str>) -> Vec<Cell> {
    let color = match agent.presence.as_str() {
        "offline" => Color::Bad,
        "late" | "never" => Color::Doubtful,
        _ => Color::Good,
    };
    let way = match agent.arrival.as_deref() {
        Some("relay") => {
            let relays: Vec<&str> =
                agent.path.iter().map(|id| names.get(id.as_str()).copied().unwrap_or(id)).collect();
            format!("by {}", relays.join(", "))
        }
        Some(_) => "directly".to_owned(),
        None => String::new(),
    };
    // An offset of under a second is the way of the report as much as the clock.
    let clock = agent.clock_offset_ms.filter(|offset| offset.abs() >= 1000);
    let clock = clock.map(|offset| {
        let side = if offset > 0 { "behind" } else { "ahead" };
        format!("{} {side}", duration(offset.abs() / 1000))
    });
    let mut notes = Vec::new();
    notes.extend(
        agent.problems.filter(|n| *n > 0).map(|n| format!("{n} problem{}", if n == 1 { "" } else { "s" })),
    );
    notes.extend(agent.spooled.filter(|n| *n > 0).map(|n| format!("{n} waiting")));
    let seen =
        agent.last_seen_age_s.map_or_else(|| "never".to_owned(), |age| format!("{} ago", duration(age)));
    vec![
        Cell::colored(&agent.presence, Some(color)),
        Cell::new(&agent.hostname),
        Cell::new(seen),
        Cell::new(way),
        Cell::new(clock.unwrap_or_default()),
        Cell::new(notes.join(", ")),
        Cell::new(&agent.version),
        Cell::new(&agent.id),
    ]
}

/// A time in its largest unit, rounded down; two units where the next is still of interest.
fn duration(seconds: i64) -> String {
    match seconds.max(0) {
        s @ 0..=119 => format!("{s} s"),
        s @ 120..=7199 => format!("{} min", s / 60),
        s @ 7200..=172_799 => format!("{} h", s / 3600),
        s => format!("{} d", s / 86_400),
    }
}
