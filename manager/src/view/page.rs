//! The start page: the agents as a table, written by the manager, without any script.

use std::fmt::Write as _;

use gate::Answer;

use super::agent::{AgentList, AgentView};

const HEAD: &str = r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="refresh" content="10"><title>kattila.status</title><style>
:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;margin:2rem;max-width:70rem}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3rem .8rem .3rem 0;border-bottom:1px solid #8884}
code{font-size:.85em}</style></head><body><h1>kattila.status</h1>
"#;

/// The page that shows these agents.
#[must_use]
pub fn answer(list: &AgentList) -> Answer {
    Answer::new(200, "text/html; charset=utf-8", render(list))
        .with_header("Cache-Control", "no-store")
        .with_header(
            "Content-Security-Policy",
            "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
        )
        .with_header("X-Content-Type-Options", "nosniff")
        .with_header("Referrer-Policy", "no-referrer")
}

fn render(list: &AgentList) -> String {
    let mut html = HEAD.to_owned();
    if list.agents.is_empty() {
        html.push_str(
            "<p>No agent has reported yet. On a node, with <code>agent</code> copied to it:</p>\
             <pre>MANAGER_URL=http://THIS-HOST:5086 PSK_FILE=/etc/kattila/psk ./agent</pre>",
        );
    } else {
        html.push_str(
            "<table><thead><tr><th>Host<th>State<th>Last report<th>Arrived<th>Version<th>Clock\
             <th>Agent</tr></thead><tbody>",
        );
        list.agents.iter().for_each(|agent| row(&mut html, agent));
        html.push_str("</tbody></table>");
    }
    html.push_str(
        "<p><a href=\"/status/agents\">agents</a> · <a href=\"/status/alarms\">alarms</a> · \
         <a href=\"/status/healthcheck\">health</a></p></body></html>\n",
    );
    html
}

fn row(html: &mut String, agent: &AgentView) {
    let presence = serde_json::to_value(agent.presence).unwrap_or_default();
    let seen = agent.last_seen_age_s.map_or_else(|| "never".to_owned(), |age| format!("{age} s ago"));
    let arrival = match agent.path.len() {
        0 => agent.arrival.unwrap_or("").to_owned(),
        hops => format!("through {hops} relays"),
    };
    let clock = match agent.clock_offset_ms.unwrap_or(0) {
        0 => "ok".to_owned(),
        offset => format!("off by {} s", offset / 1000),
    };
    // Writing to a string cannot fail.
    let _ = write!(
        html,
        "<tr><td>{}<td>{}<td>{seen}<td>{arrival}<td>{}<td>{clock}<td><a href=\"/status/agents/{id}\"><code>{id}</code></a></tr>",
        escape(&agent.hostname),
        presence.as_str().unwrap_or_default(),
        escape(&agent.version),
        id = agent.id,
    );
}

/// Text from a report as HTML text.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Presence;
    use proto::ids::AgentId;

    #[test]
    fn what_a_report_says_is_never_markup() {
        let agent = AgentView {
            id: AgentId([1; 16]),
            hostname: "<img src=x onerror=alert(1)>".into(),
            presence: Presence::Online,
            version: "\"><script>".into(),
            first_seen: 0,
            last_seen: Some(0),
            last_seen_age_s: Some(0),
            clock_offset_ms: Some(63_000_000),
            arrival: Some("direct"),
            path: Vec::new(),
            psk_generation: Some(1),
            interval_s: Some(30),
            spooled: Some(0),
            dropped: Some(0),
            problems: Some(0),
        };
        let html = render(&AgentList { now: 0, agents: vec![agent] });
        assert!(html.contains("&lt;img src=x onerror=alert(1)&gt;") && html.contains("off by 63000 s"));
        assert!(!html.contains("<img") && !html.contains("<script"));
        assert!(render(&AgentList { now: 0, agents: vec![] }).contains("No agent has reported yet"));
    }
}
