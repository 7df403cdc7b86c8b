//! Settings: environment variables, and a `.env` file in the working directory for those that the
//! environment does not set. Both daemons know the same names, so that one file can serve both.

use std::collections::BTreeMap;
use std::fmt;

/// A setting: its name, its default and what it is for. The README's table is made of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name {
    /// The variable's name.
    pub name: &'static str,
    /// Its default in words, as the README shows it.
    pub default: &'static str,
    /// What it sets and what is allowed.
    pub meaning: &'static str,
    /// Whether its value must never be shown.
    pub secret: bool,
}

const fn name(name: &'static str, default: &'static str, meaning: &'static str) -> Name {
    Name { name, default, meaning, secret: false }
}

/// Every setting there is.
pub const NAMES: &[Name] = &[
    name("DNS", "none", "name whose TXT record holds the PSK, such as `kattila.example.org`"),
    Name {
        name: "PSK",
        default: "none",
        meaning: "the PSK itself, 16 to 1024 printable characters; wins over `PSK_FILE` and `DNS`",
        secret: true,
    },
    name("PSK_FILE", "none", "file (mode 0600) that holds the PSK; wins over `DNS`"),
    name(
        "DNS_SERVER",
        "those of `/etc/resolv.conf`",
        "DNS servers to ask: `ADDRESS` or `ADDRESS:PORT`, comma-separated",
    ),
    name(
        "MANAGER_URL",
        "`http://127.0.0.1:5086`",
        "where agents find the manager: `http://HOST[:PORT]`, or `https://` with a program built with TLS",
    ),
    name("TLS_CA_FILE", "Mozilla's list", "PEM file of the authorities that alone vouch for https servers"),
    name(
        "ADMIN_SECRET_FILE",
        "none",
        "file (mode 0600) with the secret that resets and acknowledgements are signed with; without it they are refused",
    ),
    name("AGENT_LISTEN", "`[::]:5087`", "address and port of the agent's HTTP endpoint"),
    name(
        "AGENT_ALLOW",
        "none",
        "prefixes, comma-separated, that may ask the agent beside loopback and its WireGuard subnets; `0.0.0.0/0,::/0` is everyone",
    ),
    name("MANAGER_LISTEN", "`[::]:5086`", "address and port of the manager's HTTP endpoint"),
    name(
        "MANAGER_ALLOW",
        "none",
        "prefixes, comma-separated, that may read from the manager without a token, beside its own host and what is reached through its WireGuard interfaces; `0.0.0.0/0,::/0` is everyone; reports are taken from anywhere",
    ),
    name(
        "READ_TOKEN_FILE",
        "none",
        "file (mode 0600) with the token, 16 to 1024 characters, by which anyone else may read: the page asks for it, programs send `Authorization: Bearer TOKEN`",
    ),
    name(
        "MANAGER_HOSTS",
        "none",
        "names, comma-separated, by which readers may reach the manager beside its addresses, `localhost` and the machine's name",
    ),
    name("REPORT_INTERVAL", "30", "seconds between two reports of an agent, 1 to 3600"),
    name(
        "SPOOL_KB",
        "1024",
        "memory in KiB for an agent's reports that cannot be delivered yet, 0 to 65536; the oldest go first",
    ),
    name(
        "SPOOL_FILE",
        "none",
        "file in a tmpfs, such as `/run/kattila-spool`, that keeps those reports over a restart of the agent; written when it is stopped",
    ),
    name("STATE_DIR", "`.`", "folder where the agent keeps `agent_id.txt`"),
    name("DATABASE", "`kattila_manager.db`", "path of the manager's database"),
    name("RETENTION", "48", "hours that the manager keeps raw reports, 1 to 8760"),
    name("HISTORY", "30", "days that the manager keeps changes of the map, 1 to 3650"),
    name(
        "NOTIFY_URL",
        "none",
        "URLs, comma-separated, that alarms of warning and worse are posted to: `http://HOST[:PORT]/PATH`, or `https://` with a program built with TLS",
    ),
    name(
        "NOTIFY_KIND",
        "`webhook`",
        "body of each, comma-separated or one for all: `webhook` (JSON, signed as in Standard Webhooks), `ntfy` or `slack` (also Mattermost)",
    ),
    name(
        "NOTIFY_SECRET_FILE",
        "none",
        "file (mode 0600) with the secret that webhooks are signed with: `whsec_` and base64, or any text",
    ),
    name(
        "LOG_LEVEL",
        "info",
        "`error`, `warn`, `info`, `debug` or `trace`; SIGUSR1 switches a running daemon to debug and back",
    ),
    name("LOG_TO", "`stderr`", "where log lines go: `stderr` or `syslog`"),
];

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingError {
    /// A line of `.env` that is no assignment.
    Line {
        /// Its number, from 1.
        number: usize,
        /// What is wrong with it.
        why: &'static str,
    },
    /// `.env` sets a name that does not exist.
    Unknown {
        /// Its line's number, from 1.
        number: usize,
        /// The name.
        name: String,
    },
    /// A value that is not allowed.
    Value {
        /// The setting's name.
        name: &'static str,
        /// Its value, or a placeholder for a secret one.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// A setting that must be set is not.
    Missing(String),
}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { number, why } => write!(f, ".env line {number}: {why}"),
            Self::Unknown { number, name } => {
                let known: Vec<_> = NAMES.iter().map(|known| known.name).collect();
                write!(f, ".env line {number}: there is no setting {name}; there are {}", known.join(", "))
            }
            Self::Value { name, value, allowed } => write!(f, "{name}={value}: expected {allowed}"),
            Self::Missing(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for SettingError {}

/// All settings that are set.
#[derive(Clone, Default)]
pub struct Settings {
    values: BTreeMap<&'static str, String>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |(&name, value): (&&'static str, &String)| (name, shown(name, value));
        f.debug_map().entries(self.values.iter().map(shown)).finish()
    }
}

fn shown(name: &str, value: &str) -> String {
    match known(name) {
        Some(Name { secret: true, .. }) => "**hidden**".to_owned(),
        _ => value.to_owned(),
    }
}

fn known(name: &str) -> Option<&'static Name> {
    NAMES.iter().find(|known| known.name == name)
}

impl Settings {
    /// Settings from a `.env` file's text and from the environment, which wins. An empty value is
    /// as good as none.
    ///
    /// # Errors
    /// When a line of the text is no assignment or names no setting.
    pub fn new(
        dot_env: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, SettingError> {
        let mut values = BTreeMap::new();
        for (number, line) in (1..).zip(dot_env.lines()) {
            if let Some((name, value)) = assignment(number, line)? {
                let known =
                    known(name).ok_or_else(|| SettingError::Unknown { number, name: name.to_owned() })?;
                values.insert(known.name, value.to_owned());
            }
        }
        for (name, value) in environment {
            if let Some(known) = known(&name) {
                values.insert(known.name, value);
            }
        }
        values.retain(|_, value| !value.trim().is_empty());
        Ok(Self { values })
    }

    /// The value of a setting, if it is set.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        debug_assert!(known(name).is_some(), "{name} is not in NAMES");
        self.values.get(name).map(|value| value.trim())
    }

    /// The value of a setting as `read` understands it, if it is set.
    ///
    /// # Errors
    /// When `read` refuses the value; `allowed` then says in the error what is allowed.
    pub fn parse<T>(
        &self,
        name: &'static str,
        allowed: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, SettingError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| SettingError::Value {
            name,
            value: shown(name, value),
            allowed: allowed.to_owned(),
        })
    }

    /// A whole number within bounds, or the default.
    ///
    /// # Errors
    /// When it is no such number.
    pub fn number(&self, name: &'static str, min: u64, max: u64, default: u64) -> Result<u64, SettingError> {
        let read = |value: &str| value.parse().ok().filter(|number| (min..=max).contains(number));
        Ok(self.parse(name, &format!("a whole number from {min} to {max}"), read)?.unwrap_or(default))
    }

    /// A comma-separated list.
    ///
    /// # Errors
    /// When `read` refuses one of its items.
    pub fn list<T>(
        &self,
        name: &'static str,
        allowed: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<Vec<T>>, SettingError> {
        self.parse(name, allowed, |value| value.split(',').map(|item| read(item.trim())).collect())
    }
}

/// The name and value of one line; `None` for a blank line or a comment.
fn assignment(number: usize, line: &str) -> Result<Option<(&str, &str)>, SettingError> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let line = line.strip_prefix("export ").unwrap_or(line);
    let wrong = |why| SettingError::Line { number, why };
    let (name, value) = line.split_once('=').ok_or_else(|| wrong("expected NAME=VALUE"))?;
    let value = value.trim();
    let value = match value.chars().next() {
        Some(quote @ ('"' | '\'')) => value[1..]
            .strip_suffix(quote)
            .ok_or_else(|| wrong("the quote is not closed at the end of the line"))?,
        _ => value,
    };
    Ok(Some((name.trim(), value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str, environment: &[(&str, &str)]) -> Result<Settings, SettingError> {
        let owned = environment.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
        Settings::new(text, owned)
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let text = "# a comment\n\nexport DNS='kattila.example.org'\nPSK_FILE=\"psk\"\nRETENTION=\n";
        let settings = settings(text, &[("PSK_FILE", "other"), ("PATH", "/bin")]).unwrap();
        assert_eq!(settings.get("DNS"), Some("kattila.example.org"));
        assert_eq!(settings.get("PSK_FILE"), Some("other"));
        assert_eq!(settings.get("RETENTION"), None);
    }

    #[test]
    fn errors_name_the_line_the_variable_and_what_is_allowed() {
        let error = |text: &str| settings(text, &[]).unwrap_err().to_string();
        assert_eq!(error("DNS"), ".env line 1: expected NAME=VALUE");
        assert_eq!(error("\nDNS='x"), ".env line 2: the quote is not closed at the end of the line");
        assert!(
            error("MANGER_URL=x")
                .starts_with(".env line 1: there is no setting MANGER_URL; there are DNS, PSK,")
        );
        let settings = settings("REPORT_INTERVAL=soon\nRETENTION=0", &[]).unwrap();
        assert_eq!(
            settings.number("REPORT_INTERVAL", 1, 3600, 30).unwrap_err().to_string(),
            "REPORT_INTERVAL=soon: expected a whole number from 1 to 3600"
        );
        assert!(settings.number("RETENTION", 1, 8760, 48).is_err());
        assert_eq!(settings.get("LOG_LEVEL"), None);
    }

    #[test]
    fn secrets_are_never_shown() {
        let settings = settings("PSK=correct-horse", &[]).unwrap();
        let error = settings.parse("PSK", "a longer one", |_| None::<()>).unwrap_err();
        assert!(!format!("{settings:?} {error:?} {error}").contains("horse"));
    }
}
