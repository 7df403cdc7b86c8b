//! `manager -check`: looks at everything that the manager needs and says what to do about what is missing. It
//! changes nothing, and a running manager stores nothing of it.

use std::fs::{self, OpenOptions};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proto::ack::{self, Code};
use proto::checklist::{Checklist, Finding};
use proto::envelope::Draft;
use proto::ids::{AgentId, BootId, Nonce};
use proto::limits::manager_path;
use proto::psk::Secret;
use proto::sign::Kind;

use crate::alarm::keeper::disk;
use crate::alarm::{DISK_PERCENT, DISK_ROOM};
use crate::call;
use crate::clock::now_ms;
use crate::config::Config;
use crate::error::Error;
use crate::store;

/// How long DNS, and how long the running manager may take.
const DNS_TIME: Duration = Duration::from_secs(10);
const ANSWER_TIME: Duration = Duration::from_secs(5);
const CONNECT_TIME: Duration = Duration::from_secs(4);

/// Looks at everything, which may take half a minute where nothing answers.
#[must_use]
pub fn run() -> Checklist {
    let mut list = Checklist::default();
    let config = Config::load().and_then(|config| match config.psk_source() {
        Ok(_) => Ok(config),
        Err(error) => Err(Error::Setting(error)),
    });
    let config = match config {
        Ok(config) => config,
        Err(error) => {
            let to_do = "mend it in .env here or in the environment; README.md has all settings";
            list.add("settings", Finding::bad(error.to_string(), to_do));
            return list;
        }
    };
    let dot_env = if Path::new(".env").exists() {
        ".env and the environment"
    } else {
        "the environment; there is no .env here"
    };
    list.add("settings", Finding::good(format!("from {dot_env}")));
    let secret = psk(&config, &mut list);
    let to_do = "mend ADMIN_SECRET_FILE, or take it out: resets and acknowledgements need it";
    secret_file(
        "admin",
        config.admin_secret_file.as_deref(),
        config.admin_secret().map(drop),
        to_do,
        &mut list,
    );
    let to_do = "mend NOTIFY_SECRET_FILE, or take it out: webhooks are unsigned then";
    secret_file(
        "notify",
        config.notify_secret_file.as_deref(),
        config.notify_secret().map(drop),
        to_do,
        &mut list,
    );
    list.add("database", database_found(&config.database, look_at(&config.database)));
    list.add("disk", disk_found(disk(&folder_of(&config.database))));
    match gate::listen(config.listen) {
        Ok(_) => {
            list.add("port", Finding::good(format!("{} is free", config.listen)));
            list.add("running", Finding::skipped("no manager runs on this host with these settings"));
        }
        Err(error) => {
            let asked = ask(&config, secret.as_ref());
            let (port, running) = running_found(&config, &error.to_string(), &asked);
            list.add("port", port);
            list.add("running", running);
        }
    }
    list.add("clock", clock_found(SystemTime::now(), built()));
    if let Err(error) = config.authorities() {
        list.add(
            "tls",
            Finding::bad(error.to_string(), "mend TLS_CA_FILE: a PEM file with the authority's certificate"),
        );
    }
    for (url, _) in &config.notify {
        list.add("receiver", receiver_found(url));
    }
    list
}

fn psk(config: &Config, list: &mut Checklist) -> Option<Secret> {
    let source = config.psk_source().ok()?;
    match source.read(DNS_TIME) {
        Ok(secret) => {
            list.add("psk", Finding::good(format!("read from {source}")));
            Some(secret)
        }
        Err(error) => {
            let to_do = "make one: (umask 077; head -c 32 /dev/urandom | base64 >psk), and PSK_FILE=psk";
            list.add("psk", Finding::bad(error.to_string(), to_do));
            None
        }
    }
}

fn secret_file(
    subject: &'static str,
    path: Option<&Path>,
    read: Result<(), Error>,
    to_do: &str,
    list: &mut Checklist,
) {
    let Some(path) = path else { return };
    list.add(
        subject,
        match read {
            Ok(()) => Finding::good(format!("read from {}", path.display())),
            Err(error) => Finding::bad(error.to_string(), to_do),
        },
    );
}

/// What there is at the database's path: nothing, or a file with its schema version (found, known).
enum Database {
    None(Result<(), String>),
    File { mode: u32, versions: (u32, u32), writable: Result<(), String> },
    Unreadable(String),
}

fn look_at(path: &Path) -> Database {
    let Ok(metadata) = fs::metadata(path) else { return Database::None(can_write(&folder_of(path))) };
    let writable = OpenOptions::new().append(true).open(path).map(drop).map_err(|error| error.to_string());
    match store::versions(path) {
        // The log beside the file must be made, too.
        Ok(versions) => Database::File {
            mode: metadata.mode() & 0o777,
            versions,
            writable: writable.and_then(|()| can_write(&folder_of(path))),
        },
        Err(error) => Database::Unreadable(error.to_string()),
    }
}

fn database_found(path: &Path, database: Database) -> Finding {
    let path = path.display();
    let rights = "let the manager's user write the file and its folder, or set DATABASE";
    match database {
        Database::None(Ok(())) => Finding::good(format!("{path} will be made at the first start")),
        Database::None(Err(error)) => Finding::bad(format!("{path} cannot be made: {error}"), rights),
        Database::Unreadable(error) => {
            Finding::bad(format!("{path}: {error}"), "restore a backup over it, or move it away")
        }
        Database::File { versions: (found, known), .. } if found > known => Finding::bad(
            format!("{path} has schema version {found}, this manager knows {known}"),
            "start the newer manager again, or restore a backup made before the upgrade",
        ),
        Database::File { writable: Err(error), .. } => Finding::bad(format!("{path}: {error}"), rights),
        Database::File { mode, .. } if mode & 0o077 != 0 => Finding::poor(
            format!("{path} holds the PSKs and others can read it (mode {mode:04o})"),
            format!("run: chmod 600 {path}"),
        ),
        Database::File { versions: (found, known), .. } if found < known => Finding::good(format!(
            "{path}: schema version {found} becomes {known} at the next start; an older manager refuses it then, so make a backup first"
        )),
        Database::File { versions: (found, _), .. } => {
            Finding::good(format!("{path}: schema version {found}"))
        }
    }
}

/// Room left on the database's disk and the disk's size, in bytes.
fn disk_found(disk: Option<(u64, u64)>) -> Finding {
    let Some((free, size)) = disk else {
        return Finding::bad(
            "the database's folder is not there or cannot be entered",
            "make it, or set DATABASE",
        );
    };
    let what = format!("{} MB of {} MB are free", free >> 20, size >> 20);
    if free < DISK_ROOM || free.saturating_mul(100) < size.saturating_mul(DISK_PERCENT) {
        return Finding::bad(
            what,
            "make room: df -h; or lower RETENTION or HISTORY, or set DATABASE to another disk",
        );
    }
    Finding::good(what)
}

/// What the process on this manager's port says.
#[derive(Debug)]
enum Asked {
    /// A signed answer of this code; it is told how the database fares.
    Signed(Code, String),
    /// An answer that is not signed with this PSK.
    Unsigned(u16),
    /// There is no PSK to sign with.
    NoPsk,
    /// It does not answer.
    Nothing(String),
}

fn ask(config: &Config, secret: Option<&Secret>) -> Asked {
    let Some(secret) = secret else { return Asked::NoPsk };
    let random = || Some((AgentId::random().ok()?, BootId::random().ok()?, Nonce::random().ok()?));
    let Some((agent, boot, nonce)) = random() else {
        return Asked::Nothing("the kernel gives no random numbers yet".to_owned());
    };
    let draft = Draft { kind: Kind::Register, agent, boot, tick: 0, nonce, json: br#"{"check":true}"# };
    let sealed = draft.seal(secret, now_ms());
    match call::post(
        &own_url(config, manager_path::REGISTER),
        &sealed.bytes,
        &[],
        ANSWER_TIME,
        &call::Authorities::default(),
    ) {
        Err(why) => Asked::Nothing(why),
        Ok((status, body)) => match ack::open(&body, sealed.nonce, &sealed.mac, secret) {
            Ok(ack) => Asked::Signed(ack.code, ack.details.message),
            Err(_) => Asked::Unsigned(status),
        },
    }
}

/// Where a manager on this host with these settings is asked.
pub(crate) fn own_url(config: &Config, path: &str) -> String {
    let mut address = config.listen;
    if address.ip().is_unspecified() {
        address.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    format!("http://{address}{path}")
}

fn running_found(config: &Config, taken: &str, asked: &Asked) -> (Finding, Finding) {
    let url = own_url(config, manager_path::HEALTHCHECK);
    let held = Finding::good(format!("{} is held by a running manager", config.listen));
    match asked {
        Asked::Signed(Code::Registered, _) => (held, Finding::good("it answers, signed with this PSK")),
        Asked::Signed(code, message) => {
            (held, Finding::bad(format!("it answers {code}: {message}"), format!("see {url}")))
        }
        Asked::Unsigned(401) => (
            held,
            Finding::bad(
                "it refuses this PSK",
                "it was started with other settings, or the PSK has changed and it will read the new one soon",
            ),
        ),
        Asked::NoPsk => (
            Finding::poor(taken.to_owned(), "a running manager? without a PSK that cannot be told"),
            Finding::skipped("not asked: there is no PSK to sign with"),
        ),
        Asked::Unsigned(_) | Asked::Nothing(_) => {
            let why = if let Asked::Nothing(why) = asked {
                why.as_str()
            } else {
                "what answers there is no manager"
            };
            let to_do = format!(
                "see who holds it: ss -ltnp 'sport = :{}'; end that, or set MANAGER_LISTEN",
                config.listen.port()
            );
            (Finding::bad(taken.to_owned(), to_do), Finding::skipped(why))
        }
    }
}

/// A clock that stands before this program was built is wrong; whether it is right nobody here can tell.
fn clock_found(now: SystemTime, built: Option<SystemTime>) -> Finding {
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    match built {
        Some(built) if now < built => Finding::bad(
            "it stands before the time at which this program was built",
            "set the clock: agents go by the manager's (NTP)",
        ),
        _ => Finding::good(format!("{seconds} s after 1970; agents go by it, so keep it set (NTP)")),
    }
}

fn built() -> Option<SystemTime> {
    fs::metadata(std::env::current_exe().ok()?).ok()?.modified().ok()
}

/// Whether whoever is told of alarms can be reached. The URL may hold a secret after the host.
fn receiver_found(url: &str) -> Finding {
    let (https, rest) = match url.strip_prefix("https://") {
        Some(rest) => (true, rest),
        None => (false, url.strip_prefix("http://").unwrap_or(url)),
    };
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let has_port =
        host.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    let authority =
        if has_port { host.to_owned() } else { format!("{host}:{}", if https { 443 } else { 80 }) };
    let connected = authority.to_socket_addrs().and_then(|mut found| {
        let address: SocketAddr = found.next().ok_or(io::ErrorKind::NotFound)?;
        TcpStream::connect_timeout(&address, CONNECT_TIME)
    });
    match connected {
        Ok(_) => Finding::good(format!("{authority} takes connections")),
        Err(error) => Finding::bad(
            format!("{authority}: {error}"),
            "mend NOTIFY_URL, or the way there; notifications wait until it answers",
        ),
    }
}

/// Whether a file can be made in `folder`; removes it again.
fn can_write(folder: &Path) -> Result<(), String> {
    let path = folder.join(format!(".kattila-check.{}", std::process::id()));
    let named = |error: io::Error| format!("{}: {error}", folder.display());
    OpenOptions::new().write(true).create_new(true).open(&path).map_err(named)?;
    fs::remove_file(&path).map_err(named)
}

fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if folder != Path::new("") => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::settings::Settings;

    fn shown(findings: Vec<(&'static str, Finding)>) -> String {
        let mut list = Checklist::default();
        for (subject, finding) in findings {
            list.add(subject, finding);
        }
        list.to_string()
    }

    #[test]
    fn a_database_is_told_by_version_mode_and_rights() {
        let path = Path::new("k.db");
        let of = |database| ("database", database_found(path, database));
        let file = |mode, found, writable: Result<(), &str>| Database::File {
            mode,
            versions: (found, 2),
            writable: writable.map_err(str::to_owned),
        };
        let found = shown(vec![
            of(Database::None(Ok(()))),
            of(Database::None(Err("Permission denied".into()))),
            of(file(0o600, 2, Ok(()))),
            of(file(0o600, 1, Ok(()))),
            of(file(0o644, 2, Ok(()))),
            of(file(0o600, 3, Ok(()))),
            of(file(0o600, 2, Err("Permission denied"))),
            of(Database::Unreadable("file is not a database".into())),
        ]);
        let expected = "\
ok    database   k.db will be made at the first start
FAIL  database   k.db cannot be made: Permission denied
                 -> let the manager's user write the file and its folder, or set DATABASE
ok    database   k.db: schema version 2
ok    database   k.db: schema version 1 becomes 2 at the next start; an older manager refuses it then, so make a backup first
warn  database   k.db holds the PSKs and others can read it (mode 0644)
                 -> run: chmod 600 k.db
FAIL  database   k.db has schema version 3, this manager knows 2
                 -> start the newer manager again, or restore a backup made before the upgrade
FAIL  database   k.db: Permission denied
                 -> let the manager's user write the file and its folder, or set DATABASE
FAIL  database   k.db: file is not a database
                 -> restore a backup over it, or move it away
4 checks failed";
        assert_eq!(found, expected);
    }

    #[test]
    fn a_taken_port_may_be_a_manager_of_ours() {
        let settings = Settings::new("MANAGER_LISTEN=[::]:5086", []).unwrap();
        let config = Config::from_settings(&settings).unwrap();
        let of = |asked: Asked| {
            let (port, running) = running_found(&config, "cannot listen on [::]:5086: in use", &asked);
            shown(vec![("port", port), ("running", running)])
        };
        assert_eq!(
            of(Asked::Signed(Code::Registered, String::new())),
            "ok    port       [::]:5086 is held by a running manager\nok    running    it answers, signed with this PSK\nall well"
        );
        assert!(
            of(Asked::Signed(Code::Unavailable, "why".into()))
                .contains("FAIL  running    it answers unavailable: why")
        );
        assert!(of(Asked::Unsigned(401)).contains("FAIL  running    it refuses this PSK"));
        let other = of(Asked::Unsigned(404));
        assert!(
            other.starts_with("FAIL  port       cannot listen on")
                && other.contains("what answers there is no manager"),
            "{other}"
        );
        assert!(of(Asked::Nothing("timeout".into())).contains("ss -ltnp 'sport = :5086'"));
        assert!(of(Asked::NoPsk).starts_with("warn  port"));
    }

    #[test]
    fn a_full_disk_and_a_clock_before_the_program_fail() {
        let failed = |finding: Finding| matches!(finding, Finding::Bad(..));
        assert!(
            failed(disk_found(Some((100 << 20, 1 << 40)))) && failed(disk_found(Some((1 << 30, 1 << 40))))
        );
        assert!(!failed(disk_found(Some((100 << 30, 1 << 40)))) && failed(disk_found(None)));
        let day = Duration::from_secs(86_400);
        let now = UNIX_EPOCH + 20_000 * day;
        assert!(
            failed(clock_found(UNIX_EPOCH + day, Some(now))) && !failed(clock_found(now + day, Some(now)))
        );
    }
}
