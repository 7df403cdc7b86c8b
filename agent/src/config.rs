//! The agent's settings, read once at start.

use std::fmt;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use gate::LogTo;
use log::LevelFilter;
use proto::ids::Cidr;
use proto::limits;
use proto::psk::{PskSource, Secret};
use proto::settings::{SettingError, Settings};
use proto::txt;

use crate::push::{Authorities, HAS_TLS};

/// Where https servers listen (RFC 9110 4.2.2).
const HTTPS_PORT: u16 = 443;
/// Memory for reports that wait (KiB): at a report of 900 bytes deflated every 30 s, all of an hour and
/// every tenth of three days.
const SPOOL_KB: u64 = 1024;

/// Everything that can be set, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the PSK comes from.
    pub psk: PskSource,
    /// Where the manager is.
    pub manager: ManagerUrl,
    /// File of the authorities that vouch for an https manager; without it Mozilla's list does.
    pub tls_ca: Option<PathBuf>,
    /// File of the secret that resets are signed with; without it resets are refused.
    pub admin_secret: Option<PathBuf>,
    /// Where the agent's own endpoint listens.
    pub listen: SocketAddr,
    /// Who may ask it beside loopback and the WireGuard subnets.
    pub allow: Vec<Cidr>,
    /// Time between two reports, before jitter.
    pub interval: Duration,
    /// Memory for reports that wait: bytes.
    pub spool: usize,
    /// File that keeps them over a restart, if any.
    pub spool_file: Option<PathBuf>,
    /// Folder of `agent_id.txt`.
    pub state_dir: PathBuf,
    /// The least important messages that are logged.
    pub log_level: LevelFilter,
    /// Where they are logged.
    pub log_to: LogTo,
}

/// Why the agent cannot start with its settings.
#[derive(Debug)]
pub enum ConfigError {
    /// `.env` is there and cannot be read.
    DotEnv(io::Error),
    /// A setting is wrong.
    Setting(SettingError),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DotEnv(error) => write!(f, "cannot read .env in the working directory: {error}"),
            Self::Setting(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ConfigError {}

impl From<SettingError> for ConfigError {
    fn from(error: SettingError) -> Self {
        Self::Setting(error)
    }
}

/// Reads `.env` in the working directory, if there is one, and the environment.
///
/// # Errors
/// When `.env` cannot be read or holds something that is no setting.
pub fn read_settings() -> Result<Settings, ConfigError> {
    let dot_env = match fs::read_to_string(".env") {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(ConfigError::DotEnv(error)),
    };
    // Variables that are not UTF-8 are none of ours.
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    Ok(Settings::new(&dot_env, environment)?)
}

impl Config {
    /// Checks every setting that the agent uses.
    ///
    /// # Errors
    /// The first one that is missing or wrong.
    pub fn new(settings: &Settings) -> Result<Self, SettingError> {
        Ok(Self {
            psk: psk_source(settings)?,
            manager: manager_url(settings)?,
            tls_ca: settings.get("TLS_CA_FILE").map(PathBuf::from),
            admin_secret: settings.get("ADMIN_SECRET_FILE").map(PathBuf::from),
            listen: listen(settings)?,
            allow: settings
                .list("AGENT_ALLOW", "prefixes such as 10.0.0.0/8, comma-separated", |item| {
                    item.parse().ok()
                })?
                .unwrap_or_default(),
            interval: interval(settings)?,
            spool: spool(settings)?,
            spool_file: settings.get("SPOOL_FILE").map(PathBuf::from),
            state_dir: settings.get("STATE_DIR").map_or_else(|| PathBuf::from("."), PathBuf::from),
            log_level: log_level(settings)?,
            log_to: settings.parse("LOG_TO", "stderr or syslog", LogTo::from_name)?.unwrap_or_default(),
        })
    }
}

impl Config {
    /// Who vouches for the manager; read only where its URL is https.
    ///
    /// # Errors
    /// What is wrong with TLS_CA_FILE, in words.
    pub fn authorities(&self) -> Result<Authorities, String> {
        Authorities::read(self.tls_ca.as_deref().filter(|_| self.manager.is_https()))
    }
}

/// An agent's endpoint as a client on the same host reaches it.
#[must_use]
pub fn own_endpoint(listen: SocketAddr) -> SocketAddr {
    match listen.ip() {
        // An IPv6 wildcard takes IPv4 too, and falls back to it on a host without IPv6.
        ip if ip.is_unspecified() => SocketAddr::from((Ipv4Addr::LOCALHOST, listen.port())),
        _ => listen,
    }
}

fn psk_source(settings: &Settings) -> Result<PskSource, SettingError> {
    let allowed = format!("{} to {} printable ASCII characters", limits::PSK_MIN, limits::PSK_MAX);
    if let Some(secret) = settings.parse("PSK", &allowed, |value| Secret::new(value).ok())? {
        return Ok(PskSource::Fixed(secret));
    }
    if let Some(path) = settings.get("PSK_FILE") {
        return Ok(PskSource::File(path.into()));
    }
    let name = settings.get("DNS").map(str::to_owned).ok_or_else(|| {
        SettingError::Missing(
            "no PSK: set DNS to the name whose TXT record holds it, or PSK_FILE to a file (mode 0600) \
             that does, in the environment or in .env"
                .to_owned(),
        )
    })?;
    let servers = settings
        .list("DNS_SERVER", "ADDRESS or ADDRESS:PORT, comma-separated", txt::server)?
        .unwrap_or_default();
    Ok(PskSource::Dns { name, servers })
}

/// Where the agent's own endpoint listens.
///
/// # Errors
/// When AGENT_LISTEN is no address with a port.
pub fn listen(settings: &Settings) -> Result<SocketAddr, SettingError> {
    let default = SocketAddr::from((Ipv6Addr::UNSPECIFIED, limits::AGENT_PORT));
    let read = |value: &str| value.parse().ok();
    let allowed = "ADDRESS:PORT, such as 127.0.0.1:5087 or [::]:5087";
    Ok(settings.parse("AGENT_LISTEN", allowed, read)?.unwrap_or(default))
}

/// Time between two reports, before jitter.
///
/// # Errors
/// When REPORT_INTERVAL is no whole number from 1 to 3600.
pub fn interval(settings: &Settings) -> Result<Duration, SettingError> {
    let default = limits::REPORT_INTERVAL.as_secs();
    settings.number("REPORT_INTERVAL", 1, 3600, default).map(Duration::from_secs)
}

fn spool(settings: &Settings) -> Result<usize, SettingError> {
    let kib = settings.number("SPOOL_KB", 0, 65_536, SPOOL_KB)?;
    Ok(usize::try_from(kib).map_or(usize::MAX, |kib| kib << 10))
}

/// The least important messages that are logged.
///
/// # Errors
/// When LOG_LEVEL names no level.
pub fn log_level(settings: &Settings) -> Result<LevelFilter, SettingError> {
    let read = |value: &str| match value.to_ascii_lowercase().as_str() {
        "error" => Some(LevelFilter::Error),
        "warn" => Some(LevelFilter::Warn),
        "info" => Some(LevelFilter::Info),
        "debug" => Some(LevelFilter::Debug),
        "trace" => Some(LevelFilter::Trace),
        _ => None,
    };
    let level = settings.parse("LOG_LEVEL", "error, warn, info, debug or trace", read)?;
    Ok(level.unwrap_or(LevelFilter::Info))
}

/// Where the manager is: `http://HOST:PORT` or `https://HOST:PORT`, nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagerUrl(String);

impl Default for ManagerUrl {
    /// A manager on this host.
    fn default() -> Self {
        Self(format!("http://127.0.0.1:{}", limits::MANAGER_PORT))
    }
}

impl ManagerUrl {
    /// The URL of one of the manager's paths.
    #[must_use]
    pub fn of(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }

    /// Whether it is reached by TLS.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.0.starts_with("https://")
    }

    /// Host and port, the host as a URL has it.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.0.split_once("://").map_or(&self.0, |(_, authority)| authority)
    }

    /// The host as a URL has it.
    #[must_use]
    pub fn host(&self) -> &str {
        let authority = self.authority();
        authority.rsplit_once(':').map_or(authority, |(host, _)| host)
    }
}

impl fmt::Display for ManagerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn manager_url(settings: &Settings) -> Result<ManagerUrl, SettingError> {
    const NAME: &str = "MANAGER_URL";
    let Some(value) = settings.get(NAME) else {
        return Ok(ManagerUrl::default());
    };
    let refused = |allowed: &str| SettingError::Value {
        name: NAME,
        // Before an @ there may be a password.
        value: if value.contains('@') { "**hidden**".to_owned() } else { value.to_owned() },
        allowed: format!("http://HOST[:PORT]{allowed}"),
    };
    if !HAS_TLS && value.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://")) {
        return Err(refused(
            "; this build has no TLS: use http://, best to an address inside WireGuard (reports are signed \
             either way), or build the agent with --features tls",
        ));
    }
    let (scheme, default_port, rest) = match (value.strip_prefix("http://"), value.strip_prefix("https://")) {
        (Some(rest), _) => ("http", limits::MANAGER_PORT, rest),
        (_, Some(rest)) => ("https", HTTPS_PORT, rest),
        _ => return Err(refused("")),
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains('@') {
        return Err(refused(" without user or password"));
    }
    if authority.contains(['/', '?', '#']) {
        return Err(refused(" without a path"));
    }
    let (host, port) =
        host_and_port(authority, default_port).ok_or_else(|| refused(", PORT from 1 to 65535"))?;
    Ok(ManagerUrl(format!("{scheme}://{host}:{port}")))
}

/// Host as a URL has it (IPv6 in brackets) and port.
fn host_and_port(authority: &str, default_port: u16) -> Option<(&str, u16)> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let good = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(literal) => literal.parse::<Ipv6Addr>().is_ok(),
        None => is_host_name(host),
    };
    let port = match port {
        None => default_port,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
        Some(_) => return None,
    };
    (good && port != 0).then_some((host, port))
}

/// Letters, digits, `-`, `_` and dots, as in IPv4 addresses and DNS names; at most 253 (RFC 1035).
fn is_host_name(host: &str) -> bool {
    let labels = host.strip_suffix('.').unwrap_or(host);
    host.len() <= 253
        && labels.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Result<Config, SettingError> {
        Config::new(&Settings::new(text, []).unwrap())
    }

    fn refusal(text: &str) -> String {
        config(text).unwrap_err().to_string()
    }

    #[test]
    fn defaults_are_those_of_the_table() {
        let config = config("DNS=kattila.example.org").unwrap();
        assert_eq!(config.manager.of("/x"), "http://127.0.0.1:5086/x");
        assert_eq!(config.listen, "[::]:5087".parse().unwrap());
        assert_eq!(own_endpoint(config.listen), "127.0.0.1:5087".parse().unwrap());
        assert_eq!(config.interval, Duration::from_secs(30));
        assert_eq!((config.state_dir, config.log_level), (PathBuf::from("."), LevelFilter::Info));
        assert!(config.allow.is_empty() && config.admin_secret.is_none());
        assert_eq!((config.spool, config.spool_file), (1 << 20, None));
    }

    #[test]
    fn psk_wins_over_psk_file_over_dns_and_one_is_needed() {
        let dns = "DNS=n\nDNS_SERVER=192.0.2.1, [2001:db8::1]:5353\n";
        assert!(matches!(config(dns).unwrap().psk, PskSource::Dns { servers, .. } if servers.len() == 2));
        let file = format!("{dns}PSK_FILE=/psk\n");
        assert!(matches!(config(&file).unwrap().psk, PskSource::File(path) if path.ends_with("psk")));
        let fixed = format!("{file}PSK=correct horse battery\n");
        assert!(matches!(config(&fixed).unwrap().psk, PskSource::Fixed(_)));
        let none = refusal("");
        assert!(none.contains("set DNS") && none.contains("PSK_FILE"), "{none}");
        let short = refusal("PSK=s3cret");
        assert!(short.contains("16 to 1024") && !short.contains("s3cret"), "{short}");
        assert!(refusal("DNS=n\nDNS_SERVER=resolver.example").starts_with("DNS_SERVER=resolver.example: "));
    }

    #[test]
    fn manager_urls_are_checked() {
        let url = |value: &str| config(&format!("DNS=n\nMANAGER_URL={value}"));
        for (value, base) in [
            ("http://manager.example", "http://manager.example:5086"),
            ("http://10.0.0.1:80/", "http://10.0.0.1:80"),
            ("http://[fd00::1]", "http://[fd00::1]:5086"),
            ("http://[fd00::1]:8080", "http://[fd00::1]:8080"),
        ] {
            assert_eq!(url(value).unwrap().manager.to_string(), base);
        }
        for bad in [
            "manager.example",
            "ftp://manager.example",
            "http://",
            "http:///status",
            "http://host/status",
            "http://host?x",
            "http://host:0",
            "http://host:65536",
            "http://host:+80",
            "http://fd00::1",
            "http://[fd00::1",
            "http://[host]",
            "http://two words",
            "http://a..b",
        ] {
            let error = url(bad).unwrap_err().to_string();
            assert!(error.starts_with(&format!("MANAGER_URL={bad}: expected http://HOST[:PORT]")), "{error}");
        }
        match url("https://manager.example") {
            Ok(config) if HAS_TLS => assert_eq!(config.manager.to_string(), "https://manager.example:443"),
            Err(error) if !HAS_TLS => {
                assert!(
                    error.to_string().contains("this build has no TLS")
                        && error.to_string().contains("--features tls"),
                    "{error}"
                );
            }
            other => panic!("{other:?}"),
        }
        let user = url("http://user:s3cret@host").unwrap_err().to_string();
        assert!(user.contains("without user") && !user.contains("s3cret"), "{user}");
    }

    #[test]
    fn wrong_values_are_named() {
        assert!(refusal("DNS=n\nAGENT_LISTEN=5087").starts_with("AGENT_LISTEN=5087: expected ADDRESS:PORT"));
        assert!(refusal("DNS=n\nAGENT_ALLOW=10.0.0.0/33").starts_with("AGENT_ALLOW=10.0.0.0/33: "));
        assert!(refusal("DNS=n\nLOG_LEVEL=loud").contains("error, warn, info, debug or trace"));
        assert!(refusal("DNS=n\nREPORT_INTERVAL=0").contains("1 to 3600"));
        assert!(refusal("DNS=n\nSPOOL_KB=65537").contains("0 to 65536"));
        assert_eq!(config("DNS=n\nSPOOL_KB=0").unwrap().spool, 0);
    }
}
