//! An alarm's change as a notification, and several of them as the body that a receiver wants. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use proto::ids::AgentId;
use proto::psk::Secret;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::status::{Alarm, Status};
use super::{Proof, Severity};

/// What kind of body a receiver wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Generic JSON, signed as Standard Webhooks has it.
    Webhook,
    /// Plain text with headers, as ntfy takes it.
    Ntfy,
    /// `{"text": ...}`, as incoming webhooks of Slack and Mattermost take it.
    Slack,
}

impl Kind {
    /// The kind of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "webhook" => Some(Self::Webhook),
            "ntfy" => Some(Self::Ntfy),
            "slack" => Some(Self::Slack),
            _ => None,
        }
    }
}

/// A notification: an alarm that fires, or is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// `alarm.firing` or `alarm.resolved`.
    pub event: String,
    /// When (ms).
    pub at: i64,
    /// The alarm's number.
    pub no: i64,
    /// Which rule.
    pub code: String,
    /// How bad it is.
    pub severity: Severity,
    /// What it is about.
    pub subject: String,
    /// The agents that it concerns.
    pub agents: Vec<AgentId>,
    /// One sentence.
    pub sentence: String,
    /// The likely cause.
    pub cause: String,
    /// What to do next.
    pub next_step: String,
    /// What says so.
    pub evidence: Vec<Proof>,
}

impl Event {
    /// What there is to tell of an alarm as it is.
    #[must_use]
    pub fn of(alarm: &Alarm) -> Self {
        let event = if alarm.state == Status::Resolved { "alarm.resolved" } else { "alarm.firing" };
        Self {
            event: event.to_owned(),
            at: alarm.since,
            no: alarm.no,
            code: alarm.code.clone(),
            severity: alarm.severity,
            subject: alarm.subject.clone(),
            agents: alarm.agents.clone(),
            sentence: alarm.sentence.clone(),
            cause: alarm.cause.clone(),
            next_step: alarm.next_step.clone(),
            evidence: alarm.evidence.clone(),
        }
    }

    fn is_over(&self) -> bool {
        self.event == "alarm.resolved"
    }

    fn line(&self) -> String {
        if self.is_over() {
            format!("Over: {}", self.sentence)
        } else {
            format!("{} Likely cause: {}. Next: {}", self.sentence, self.cause, self.next_step)
        }
    }
}

/// A message ready to be posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its headers.
    pub headers: Vec<(&'static str, String)>,
    /// Its body.
    pub body: Vec<u8>,
}

#[derive(Serialize)]
struct Webhook<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    timestamp: i64,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    alarms: &'a [Event],
}

/// The message of these events. `id` names it: the same each time that it is sent again.
#[must_use]
pub fn message(kind: Kind, id: &str, events: &[Event], secret: Option<&Secret>, now: i64) -> Message {
    match kind {
        Kind::Webhook => {
            let timestamp = events.first().map_or(now, |event| event.at);
            let body = Webhook { kind: "kattila.alarms", timestamp, data: Data { alarms: events } };
            let body = serde_json::to_vec(&body).expect("plain data");
            let sent_s = now / 1000;
            let mut headers = vec![
                ("content-type", "application/json".to_owned()),
                ("webhook-id", id.to_owned()),
                ("webhook-timestamp", sent_s.to_string()),
            ];
            let signature = secret.map(|secret| signature(secret, id, sent_s, &body));
            headers.extend(signature.map(|signature| ("webhook-signature", signature)));
            Message { headers, body }
        }
        Kind::Ntfy => {
            let worst = events.iter().filter(|event| !event.is_over()).map(|event| event.severity).max();
            let (priority, tag) = match worst {
                Some(Severity::Critical) => ("5", "rotating_light"),
                Some(_) => ("4", "warning"),
                None => ("3", "white_check_mark"),
            };
            let headers = vec![
                ("title", title(events)),
                ("priority", priority.to_owned()),
                ("tags", tag.to_owned()),
                ("content-type", "text/plain; charset=utf-8".to_owned()),
            ];
            Message { headers, body: text(events).into_bytes() }
        }
        Kind::Slack => {
            let text = format!("*{}*\n{}", title(events), escape(&text(events)));
            let body = serde_json::json!({ "text": text }).to_string().into_bytes();
            Message { headers: vec![("content-type", "application/json".to_owned())], body }
        }
    }
}

/// `v1,BASE64` of HMAC-SHA256 over `ID.TIMESTAMP.BODY` (Standard Webhooks 1.0). A secret of the form
/// `whsec_BASE64` is the bytes that its base64 stands for, any other one its own text.
#[must_use]
pub fn signature(secret: &Secret, id: &str, timestamp_s: i64, body: &[u8]) -> String {
    let text = secret.expose();
    let decoded = text.strip_prefix("whsec_").and_then(|base64| STANDARD.decode(base64).ok());
    let key = decoded.unwrap_or_else(|| text.as_bytes().to_vec());
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("HMAC takes a key of any length");
    mac.update(format!("{id}.{timestamp_s}.").as_bytes());
    mac.update(body);
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

/// Only ASCII: it travels in a header.
fn title(events: &[Event]) -> String {
    let over = events.iter().filter(|event| event.is_over()).count();
    match events {
        [one] if over == 1 => format!("Over: {}", one.code),
        [one] => format!("{}: {}", one.severity, one.code),
        _ if over == 0 => format!("{} alarms", events.len()),
        _ if over == events.len() => format!("{over} alarms are over"),
        _ => format!("{} new, {over} over", events.len() - over),
    }
}

fn text(events: &[Event]) -> String {
    events.iter().map(Event::line).collect::<Vec<_>>().join("\n")
}

/// Slack's three characters with a meaning.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(event: &str, code: &str, severity: Severity) -> Event {
        Event {
            event: event.into(),
            at: 1_764_000_000_000,
            no: 7,
            code: code.into(),
            severity,
            subject: "s".into(),
            agents: vec![],
            sentence: "hub is <off>.".into(),
            cause: "no power".into(),
            next_step: "plug it in".into(),
            evidence: vec![],
        }
    }

    #[test]
    fn the_signature_is_that_of_the_standard() {
        // The example of the specification's reference libraries.
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let body = br#"{"test": 2432232314}"#;
        assert_eq!(
            signature(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    /// Two alarms that fire, of which one has markup that means something to Slack, and one that is over.
    fn golden_events() -> Vec<Event> {
        let mut offline = event("alarm.firing", "AGENT_OFFLINE", Severity::Critical);
        offline.agents = vec![AgentId([0x11; 16])];
        offline.evidence = vec![Proof {
            agent: Some(AgentId([0x11; 16])),
            observed_at: Some(1_763_999_990_000),
            field: "last_seen".into(),
            text: "the last report of hub came at 1763999990000 ms; it reports every 30 s".into(),
        }];
        let mut mtu = event("alarm.firing", "MTU_MISMATCH", Severity::Warning);
        (mtu.no, mtu.sentence) = (8, "Größe & MTU differ.".into());
        vec![offline, mtu, event("alarm.resolved", "MTU_TOO_BIG", Severity::Warning)]
    }

    /// Headers and body as they go over the wire.
    fn shown(message: &Message) -> String {
        let headers: String =
            message.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
        format!("{headers}\n{}\n", String::from_utf8_lossy(&message.body))
    }

    /// `BLESS=1 cargo test -p manager --lib golden` writes the files anew.
    #[test]
    fn messages_are_those_of_the_golden_files() {
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/notify/golden");
        let all = golden_events();
        for (name, kind, events) in [
            ("webhook", Kind::Webhook, &all[..]),
            ("ntfy", Kind::Ntfy, &all[..]),
            ("ntfy-one", Kind::Ntfy, &all[..1]),
            ("ntfy-over", Kind::Ntfy, &all[2..]),
            ("slack", Kind::Slack, &all[..]),
            ("slack-over", Kind::Slack, &all[2..]),
        ] {
            let got = shown(&message(kind, "msg_19ab_7", events, Some(&secret), 1_764_000_001_000));
            let path = folder.join(format!("{name}.txt"));
            if std::env::var_os("BLESS").is_some() {
                std::fs::write(&path, &got).unwrap();
            }
            let want = std::fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(got, want, "{}", path.display());
        }
    }

    #[test]
    fn bodies_fit_their_receivers() {
        let events = [
            event("alarm.firing", "AGENT_OFFLINE", Severity::Critical),
            event("alarm.resolved", "CGNAT", Severity::Info),
        ];
        let ntfy = message(Kind::Ntfy, "id", &events, None, 0);
        assert!(ntfy.headers.contains(&("priority", "5".into())));
        assert!(ntfy.headers.contains(&("title", "1 new, 1 over".into())));
        let body = String::from_utf8(ntfy.body).unwrap();
        assert_eq!(body, "hub is <off>. Likely cause: no power. Next: plug it in\nOver: hub is <off>.");
        let slack = message(Kind::Slack, "id", &events[..1], None, 0);
        let body: serde_json::Value = serde_json::from_slice(&slack.body).unwrap();
        let said = "*critical: AGENT_OFFLINE*\nhub is &lt;off&gt;. Likely cause: no power. Next: plug it in";
        assert_eq!(body["text"], said);
        let webhook = message(Kind::Webhook, "id", &events, None, 5000);
        let body: serde_json::Value = serde_json::from_slice(&webhook.body).unwrap();
        assert_eq!(body["data"]["alarms"][1]["event"], "alarm.resolved");
        assert!(!webhook.headers.iter().any(|(name, _)| *name == "webhook-signature"), "there is no secret");
    }
}
