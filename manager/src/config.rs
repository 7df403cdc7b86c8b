//! The manager's settings, checked.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use gate::LogTo;
use log::LevelFilter;
use proto::ids::Cidr;
use proto::limits::MANAGER_PORT;
use proto::psk::{PskSource, Secret, read_secret_file};
use proto::settings::{SettingError, Settings};
use proto::txt;

use crate::alarm::message::Kind;
use crate::call::{Authorities, HAS_TLS};
use crate::error::Error;

/// Everything that can be set.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address and port to listen on.
    pub listen: SocketAddr,
    /// Who may read without a token, beside this host and its WireGuard networks.
    pub allow: Vec<Cidr>,
    /// Names of this manager, beside its addresses and the machine's name.
    pub hosts: Vec<String>,
    /// File with the token that lets others read.
    pub read_token_file: Option<PathBuf>,
    /// Path of the database.
    pub database: PathBuf,
    /// Where the PSK comes from; `None` is an error for the daemon only.
    pub psk: Option<PskSource>,
    /// File with the secret that resets are signed with.
    pub admin_secret_file: Option<PathBuf>,
    /// How long raw reports are kept.
    pub retention: Duration,
    /// How long changes of the map are kept.
    pub history: Duration,
    /// Who is told of alarms: URL and kind of body.
    pub notify: Vec<(String, Kind)>,
    /// File of the authorities that vouch for https receivers; without it Mozilla's list does.
    pub tls_ca: Option<PathBuf>,
    /// File with the secret that webhooks are signed with.
    pub notify_secret_file: Option<PathBuf>,
    /// What is logged.
    pub log_level: LevelFilter,
    /// Where it is logged.
    pub log_to: LogTo,
}

impl Config {
    /// Settings from `.env` in the working directory and from the environment.
    ///
    /// # Errors
    /// Names the setting, its value and what is allowed.
    pub fn load() -> Result<Self, Error> {
        let dot_env = match std::fs::read_to_string(".env") {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(Error::Io(".env".to_owned(), error)),
        };
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Ok(Self::from_settings(&Settings::new(&dot_env, environment)?)?)
    }

    /// Settings that are already read.
    ///
    /// # Errors
    /// Names the setting, its value and what is allowed.
    pub fn from_settings(settings: &Settings) -> Result<Self, SettingError> {
        let listen = settings
            .parse("MANAGER_LISTEN", "ADDRESS:PORT, such as [::]:5086 or 127.0.0.1:5086", |text| {
                text.parse().ok()
            })?
            .unwrap_or_else(|| SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, MANAGER_PORT)));
        let allow = settings
            .list("MANAGER_ALLOW", "prefixes such as 10.0.0.0/8, comma-separated", |item| item.parse().ok())?
            .unwrap_or_default();
        let hosts = settings.list("MANAGER_HOSTS", "names without port, comma-separated", name)?;
        Ok(Self {
            listen,
            allow,
            hosts: hosts.unwrap_or_default(),
            read_token_file: settings.get("READ_TOKEN_FILE").map(PathBuf::from),
            database: settings.get("DATABASE").unwrap_or("kattila_manager.db").into(),
            psk: psk_source(settings)?,
            admin_secret_file: settings.get("ADMIN_SECRET_FILE").map(PathBuf::from),
            retention: Duration::from_secs(3600 * settings.number("RETENTION", 1, 8760, 48)?),
            history: Duration::from_secs(86_400 * settings.number("HISTORY", 1, 3650, 30)?),
            notify: receivers(settings)?,
            tls_ca: settings.get("TLS_CA_FILE").map(PathBuf::from),
            notify_secret_file: settings.get("NOTIFY_SECRET_FILE").map(PathBuf::from),
            log_level: settings
                .parse("LOG_LEVEL", "error, warn, info, debug or trace", |text| {
                    text.parse().ok().filter(|level| *level != LevelFilter::Off)
                })?
                .unwrap_or(LevelFilter::Info),
            log_to: settings.parse("LOG_TO", "stderr or syslog", LogTo::from_name)?.unwrap_or_default(),
        })
    }

    /// The PSK's source.
    ///
    /// # Errors
    /// When none is set.
    pub fn psk_source(&self) -> Result<&PskSource, SettingError> {
        self.psk.as_ref().ok_or_else(|| {
            SettingError::Missing(
                "no PSK: set PSK_FILE to a file (mode 0600) that holds it, or DNS to the name whose \
                 TXT record does, in .env or in the environment"
                    .to_owned(),
            )
        })
    }

    /// The token that lets others read; `None` where no file is set.
    ///
    /// # Errors
    /// When the file cannot be read or others can read it.
    pub fn read_token(&self) -> Result<Option<Secret>, Error> {
        self.read_token_file.as_deref().map(|path| read_secret_file(path).map_err(Error::Secret)).transpose()
    }

    /// Who vouches for https receivers; read only where there is one.
    ///
    /// # Errors
    /// What is wrong with TLS_CA_FILE.
    pub fn authorities(&self) -> Result<Authorities, Error> {
        let has_https = self.notify.iter().any(|(url, _)| url.starts_with("https://"));
        Authorities::read(self.tls_ca.as_deref().filter(|_| has_https))
            .map_err(|why| Error::Io("TLS_CA_FILE".to_owned(), std::io::Error::other(why)))
    }

    /// The secret that webhooks are signed with; `None` where no file is set.
    ///
    /// # Errors
    /// When the file cannot be read or others can read it.
    pub fn notify_secret(&self) -> Result<Option<Secret>, Error> {
        self.notify_secret_file
            .as_deref()
            .map(|path| read_secret_file(path).map_err(Error::Secret))
            .transpose()
    }

    /// The secret that resets are signed with; `None` where no file is set.
    ///
    /// # Errors
    /// When the file cannot be read or others can read it.
    pub fn admin_secret(&self) -> Result<Option<Secret>, Error> {
        self.admin_secret_file
            .as_deref()
            .map(|path| read_secret_file(path).map_err(Error::Secret))
            .transpose()
    }
}

/// A host's name as a URL has it.
fn name(item: &str) -> Option<String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    (!item.is_empty() && item.bytes().all(fits)).then(|| item.to_owned())
}

fn receivers(settings: &Settings) -> Result<Vec<(String, Kind)>, SettingError> {
    let url = |item: &str| {
        let host =
            item.strip_prefix("http://").or_else(|| item.strip_prefix("https://").filter(|_| HAS_TLS))?;
        (!host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic())).then(|| item.to_owned())
    };
    let allowed = if HAS_TLS {
        "http://HOST[:PORT]/PATH or https://HOST[:PORT]/PATH, comma-separated"
    } else {
        "http://HOST[:PORT]/PATH, comma-separated; this build has no TLS: build the manager with --features tls"
    };
    let urls = settings.list("NOTIFY_URL", allowed, url)?.unwrap_or_default();
    let allowed = "webhook, ntfy or slack, one for all or as many as there are in NOTIFY_URL";
    let kinds =
        settings.list("NOTIFY_KIND", allowed, Kind::from_name)?.unwrap_or_else(|| vec![Kind::Webhook]);
    let kinds = match kinds.as_slice() {
        [one] => vec![*one; urls.len()],
        several if several.len() == urls.len() => several.to_vec(),
        _ => {
            let value = settings.get("NOTIFY_KIND").unwrap_or_default().to_owned();
            return Err(SettingError::Value { name: "NOTIFY_KIND", value, allowed: allowed.to_owned() });
        }
    };
    Ok(urls.into_iter().zip(kinds).collect())
}

fn psk_source(settings: &Settings) -> Result<Option<PskSource>, SettingError> {
    let servers = settings
        .list("DNS_SERVER", "ADDRESS or ADDRESS:PORT, comma-separated", txt::server)?
        .unwrap_or_default();
    let fixed = settings.parse("PSK", "16 to 1024 printable characters", |text| Secret::new(text).ok())?;
    Ok(fixed
        .map(PskSource::Fixed)
        .or_else(|| settings.get("PSK_FILE").map(|path| PskSource::File(path.into())))
        .or_else(|| settings.get("DNS").map(|name| PskSource::Dns { name: name.to_owned(), servers })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Result<Config, SettingError> {
        Config::from_settings(&Settings::new(text, [])?)
    }

    #[test]
    fn defaults_are_those_of_the_readme() {
        let config = config("").unwrap();
        assert_eq!(config.listen.to_string(), "[::]:5086");
        assert_eq!(config.database, PathBuf::from("kattila_manager.db"));
        assert_eq!(config.retention, Duration::from_secs(48 * 3600));
        assert_eq!(config.log_level, LevelFilter::Info);
        assert!(config.allow.is_empty() && config.hosts.is_empty());
        assert!(config.psk_source().unwrap_err().to_string().contains("PSK_FILE"));
    }

    #[test]
    fn malformed_values_are_named() {
        let error = |text: &str| config(text).unwrap_err().to_string();
        assert_eq!(
            error("MANAGER_LISTEN=5086"),
            "MANAGER_LISTEN=5086: expected ADDRESS:PORT, such as [::]:5086 or 127.0.0.1:5086"
        );
        assert!(
            error("MANAGER_ALLOW=10.0.0.0/99").starts_with("MANAGER_ALLOW=10.0.0.0/99: expected prefixes")
        );
        assert_eq!(
            error("MANAGER_HOSTS=status.example.org:5086"),
            "MANAGER_HOSTS=status.example.org:5086: expected names without port, comma-separated"
        );
        assert!(error("LOG_LEVEL=loud").starts_with("LOG_LEVEL=loud: expected error, warn"));
        assert!(error("DNS_SERVER=dns.example.org").starts_with("DNS_SERVER=dns.example.org: expected"));
        assert!(!error("PSK=hunter2").contains("hunter2"));
    }

    #[test]
    fn https_receivers_need_a_build_with_tls() {
        let config = config("NOTIFY_URL=https://hooks.example/x");
        assert_eq!(config.is_ok(), HAS_TLS);
        assert!(HAS_TLS || config.unwrap_err().to_string().contains("this build has no TLS"));
    }

    #[test]
    fn the_nearest_source_of_the_psk_wins() {
        let shown = |text: &str| config(text).unwrap().psk.unwrap().to_string();
        assert_eq!(shown("DNS=a.example"), "TXT record of a.example");
        assert_eq!(shown("DNS=a.example\nPSK_FILE=/f"), "file /f");
        assert_eq!(shown("DNS=a.example\nPSK_FILE=/f\nPSK=correct-horse-battery"), "setting PSK");
    }
}
