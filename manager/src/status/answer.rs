//! What is asked of the running manager, and what it answers.

use std::time::Duration;

use proto::limits::manager_path;
use proto::psk::Secret;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::call;
use crate::error::Error;

/// How long the manager may take for one answer.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Everything that is shown.
#[derive(Debug, Clone)]
pub struct Answers {
    /// Where it was asked.
    pub url: String,
    pub(super) health: Health,
    pub(super) agents: Vec<Agent>,
    pub(super) alarms: Vec<Alarm>,
    pub(super) nodes: Vec<Node>,
    pub(super) links: Vec<Link>,
    /// The manager's clock (ms).
    pub(super) now: i64,
    whole: Value,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Health {
    pub(super) status: String,
    pub(super) version: String,
    pub(super) uptime_s: i64,
    pub(super) database: Database,
    pub(super) psk_failure: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Database {
    pub(super) writable: bool,
    pub(super) failure: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Agent {
    pub(super) hostname: String,
    pub(super) id: String,
    pub(super) presence: String,
    pub(super) version: String,
    pub(super) last_seen_age_s: Option<i64>,
    pub(super) clock_offset_ms: Option<i64>,
    pub(super) arrival: Option<String>,
    pub(super) path: Vec<String>,
    pub(super) spooled: Option<u64>,
    pub(super) problems: Option<usize>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Alarm {
    pub(super) no: i64,
    pub(super) code: String,
    pub(super) severity: String,
    pub(super) state: String,
    pub(super) sentence: String,
    pub(super) next_step: String,
    pub(super) since: i64,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Node {
    pub(super) id: String,
    pub(super) label: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Link {
    pub(super) source: String,
    pub(super) target: String,
    pub(super) properties: Properties,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Properties {
    pub(super) kind: String,
    pub(super) state: String,
    pub(super) state_age_s: i64,
    pub(super) interface_a: Option<String>,
    pub(super) interface_b: Option<String>,
    pub(super) handshake_a: Option<String>,
    pub(super) handshake_b: Option<String>,
    pub(super) handshake_age_s_a: Option<u32>,
    pub(super) handshake_age_s_b: Option<u32>,
    pub(super) rtt_ms_a: Option<f64>,
    pub(super) rtt_ms_b: Option<f64>,
    pub(super) loss_percent_a: Option<f64>,
    pub(super) loss_percent_b: Option<f64>,
}

impl Answers {
    /// Asks the manager at `url`.
    ///
    /// # Errors
    /// Why it did not answer, or what it answered instead.
    pub fn ask(url: &str, token: Option<&Secret>) -> Result<Self, Error> {
        let url = url.trim_end_matches('/');
        let get = |path: &str| {
            let url = format!("{url}{path}");
            let bearer = token.map(|token| format!("Bearer {}", token.expose()));
            let headers: Vec<(&str, &str)> =
                bearer.iter().map(|value| ("Authorization", value.as_str())).collect();
            let (status, body) = call::get(&url, &headers, TIMEOUT)
                .map_err(|why| Error::Call(format!("{url}: {why}; is the manager running?")))?;
            // A failing manager says so in its health, which is an answer.
            match serde_json::from_slice::<Value>(&body) {
                Ok(value) if status == 200 || (status == 503 && value.get("database").is_some()) => Ok(value),
                Ok(value) if value["error"].is_object() => {
                    let word = |name: &str| value["error"][name].as_str().unwrap_or("?").to_owned();
                    Err(Error::Call(format!(
                        "{url} answered {status}: {}; {}",
                        word("message"),
                        word("hint")
                    )))
                }
                _ => Err(Error::Call(format!("{url} answered {status}, and not as a manager does"))),
            }
        };
        let alarms = format!("{}?state=firing,acknowledged&limit=5000", manager_path::ALARMS);
        let health = get(manager_path::HEALTHCHECK)?;
        Self::read(url, health, get(manager_path::AGENTS)?, get(&alarms)?, get(manager_path::NETJSON)?)
            .map_err(|error| {
                Error::Call(format!("{url} answers what this version does not understand: {error}"))
            })
    }

    /// Understands the four answers.
    ///
    /// # Errors
    /// Which part is not as it should be.
    pub fn read(
        url: &str,
        health: Value,
        agents: Value,
        alarms: Value,
        map: Value,
    ) -> Result<Self, serde_json::Error> {
        fn part<T: DeserializeOwned>(value: &Value) -> Result<T, serde_json::Error> {
            T::deserialize(value)
        }
        Ok(Self {
            url: url.to_owned(),
            health: part(&health)?,
            agents: part(&agents["agents"])?,
            alarms: part(&alarms["alarms"])?,
            nodes: part(&map["nodes"])?,
            links: part(&map["links"])?,
            now: part(&agents["now"])?,
            whole: json!({ "healthcheck": health, "agents": agents, "alarms": alarms, "map": map }),
        })
    }

    /// The four answers as they came, under the names `healthcheck`, `agents`, `alarms` and `map`.
    #[must_use]
    pub fn json(&self) -> &Value {
        &self.whole
    }

    /// Whether a critical alarm fires that nobody has acknowledged, or the manager itself fails.
    #[must_use]
    pub fn is_critical(&self) -> bool {
        let critical = |alarm: &Alarm| alarm.severity == "critical" && alarm.state == "firing";
        self.health.status != "ok" || self.alarms.iter().any(critical)
    }
}
