//! Tables for spreadsheets: RFC 4180, with a header line.
//!
//! Text that hosts choose is guarded against spreadsheets that take it for a formula: what begins with
//! `=`, `+`, `-`, `@`, a tab or a line end gets an apostrophe before it. Keys are left as they are: their
//! form is checked, and base64 holds no formula.

use std::fmt::Display;

use proto::ids::Cidr;

use super::picture::{Link, Picture, utc};
use crate::view::agent::{AgentList, AgentView};

/// Its media type.
pub const MEDIA_TYPE: &str = "text/csv; charset=utf-8; header=present";

const AGENTS: &str = "id,hostname,presence,version,first_seen,last_seen,interval_s,clock_offset_ms,arrival,hops,\
                      path,psk_generation,spooled,dropped,problems";
const LINK: &str = "id,layer,state,since,relation";
const END: [&str; 14] = [
    "id",
    "name",
    "interface",
    "seen",
    "peer_key",
    "handshake",
    "handshake_age_s",
    "endpoint",
    "keepalive_s",
    "allowed_ips",
    "rx_bytes",
    "tx_bytes",
    "rtt_ms",
    "loss_percent",
];

/// A line of fields.
#[derive(Debug, Default)]
struct Line {
    text: String,
    begun: bool,
}

impl Line {
    /// A field that the manager made.
    fn plain(&mut self, field: impl Display) {
        self.field(&field.to_string());
    }

    /// A number that may not be known.
    fn number(&mut self, field: Option<impl Display>) {
        self.field(&field.map(|number| number.to_string()).unwrap_or_default());
    }

    /// Text from outside.
    fn text(&mut self, text: &str) {
        if text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']) {
            self.field(&format!("'{text}"));
        } else {
            self.field(text);
        }
    }

    fn field(&mut self, field: &str) {
        if self.begun {
            self.text.push(',');
        }
        self.begun = true;
        if field.contains([',', '"', '\r', '\n']) {
            self.text.push('"');
            self.text.push_str(&field.replace('"', "\"\""));
            self.text.push('"');
        } else {
            self.text.push_str(field);
        }
    }

    fn end(self) -> String {
        self.text + "\r\n"
    }
}

/// All agents, a line each.
#[must_use]
pub fn agents(list: &AgentList) -> String {
    let mut text = format!("{AGENTS}\r\n");
    text.extend(list.agents.iter().map(agent));
    text
}

fn agent(agent: &AgentView) -> String {
    let mut line = Line::default();
    line.plain(agent.id);
    line.text(&agent.hostname);
    line.plain(agent.presence.name());
    line.text(&agent.version);
    line.plain(utc(agent.first_seen));
    line.number(agent.last_seen.map(utc));
    line.number(agent.interval_s);
    line.number(agent.clock_offset_ms);
    line.number(agent.arrival);
    line.number(agent.arrival.map(|_| agent.path.len()));
    line.plain(spaced(&agent.path));
    line.number(agent.psk_generation);
    line.number(agent.spooled);
    line.number(agent.dropped);
    line.number(agent.problems);
    line.end()
}

/// All links, a line each, with what either end says of it.
#[must_use]
pub fn links(picture: &Picture) -> String {
    let names = picture.names();
    let ends = ["a", "b"].iter().flat_map(|letter| END.iter().map(move |name| format!(",{letter}_{name}")));
    let mut text = format!("{LINK}{}\r\n", ends.collect::<String>());
    for link in &picture.links {
        let mut line = Line::default();
        line.text(&link.shape.id);
        line.plain(link.shape.layer.name());
        line.plain(link.shape.state.name());
        line.plain(utc(link.shape.since));
        line.plain(link.shape.relation.name());
        for end in [0, 1] {
            let id = link.shape.ends[end].node.as_str();
            line.text(id);
            line.text(names.get(id).copied().unwrap_or_default());
            half(&mut line, link, end);
        }
        text.push_str(&line.end());
    }
    text
}

fn half(line: &mut Line, link: &Link, end: usize) {
    let (half, figures) = (link.halves[end].as_ref(), link.figures[end].as_ref());
    line.text(link.shape.ends[end].interface.as_deref().unwrap_or_default());
    line.plain(link.shape.seen[end]);
    line.number(half.map(|half| half.peer));
    line.number(half.map(|half| half.handshake.name()));
    line.number(figures.and_then(|figures| figures.handshake_age_s));
    line.text(half.and_then(|half| half.endpoint.as_deref()).unwrap_or_default());
    line.number(half.and_then(|half| half.keepalive_s));
    line.plain(half.map(|half: &_| spaced::<Cidr>(&half.allowed_ips)).unwrap_or_default());
    line.number(figures.map(|figures| figures.rx_bytes));
    line.number(figures.map(|figures| figures.tx_bytes));
    line.number(figures.and_then(|figures| figures.rtt_us).map(|us| f64::from(us) / 1000.0));
    line.number(figures.and_then(|figures| figures.loss_percent));
}

fn spaced<T: Display>(list: &[T]) -> String {
    list.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Line)) -> String {
        let mut line = Line::default();
        write(&mut line);
        line.end()
    }

    #[test]
    fn text_from_outside_is_quoted_and_is_no_formula() {
        assert_eq!(written(|line| line.text("=HYPERLINK(\"x\")")), "\"'=HYPERLINK(\"\"x\"\")\"\r\n");
        for formula in ["+1", "-1", "@SUM(A1)", "\t=1", "\r=1"] {
            assert!(
                written(|line| line.text(formula)).trim_start_matches('"').starts_with('\''),
                "{formula:?}"
            );
        }
        assert_eq!(written(|line| line.text("a,b\nc")), "\"a,b\nc\"\r\n");
        assert_eq!(written(|line| line.plain(-5)), "-5\r\n");
        let empty = written(|line| {
            line.text("");
            line.number(None::<u32>);
        });
        assert_eq!(empty, ",\r\n");
    }

    proptest::proptest! {
        #[test]
        fn every_text_is_one_field(text in "\\PC{0,40}|[=+@,\"\r\n\t-]{0,10}") {
            let line = written(|line| {
                line.text(&text);
                line.plain(1);
            });
            let field = line.strip_suffix(",1\r\n").unwrap();
            let field = match field.strip_prefix('"').and_then(|field| field.strip_suffix('"')) {
                Some(inside) => {
                    proptest::prop_assert!(!inside.replace("\"\"", "").contains('"'));
                    inside.replace("\"\"", "\"")
                }
                None => {
                    proptest::prop_assert!(!field.contains(['"', ',', '\r', '\n']));
                    field.to_owned()
                }
            };
            proptest::prop_assert!(!field.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']));
            proptest::prop_assert_eq!(field.strip_prefix('\'').unwrap_or(&field), text.strip_prefix('\'').unwrap_or(&text));
        }
    }
}
