//! `agent -check`: looks at everything that the agent needs and says what to do about what is missing. It stores
//! nothing here but a file that it removes again, and nothing at the manager.

use std::fs::{self, OpenOptions};
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, SystemTime};

use proto::ack::{self, Ack, Code};
use proto::checklist::{Checklist, Finding};
use proto::ids::{AgentId, BootId, Nonce};
use proto::limits::{agent_path, manager_path};
use proto::psk::{self, Secret};
use proto::report::{Problem, Source, SystemData};

use crate::basis::Form;
use crate::clock::{self, Moment};
use crate::collect::{self, Sources};
use crate::config::{self, Config, ManagerUrl};
use crate::identity;
use crate::message::Message;
use crate::peer::Brief;
use crate::push::{self, Client};

/// How long DNS may take, for the PSK and for the manager's name each.
const DNS_TIME: Duration = Duration::from_secs(10);

/// Looks at everything, which may take half a minute where nothing answers.
#[must_use]
pub fn run() -> Checklist {
    let mut list = Checklist::default();
    let settings = config::read_settings().map_err(|error| error.to_string());
    let config = settings.and_then(|settings| Config::new(&settings).map_err(|error| error.to_string()));
    let config = match config {
        Ok(config) => config,
        Err(error) => {
            list.add(
                "settings",
                Finding::bad(error, "mend it in .env here or in the environment; README.md has all settings"),
            );
            return list;
        }
    };
    let dot_env = Path::new(".env").exists();
    list.add("settings", settings_found(&config, dot_env));
    let secret = match config.psk.read(DNS_TIME) {
        Ok(secret) => {
            list.add("psk", Finding::good(format!("read from {}", config.psk)));
            Some(secret)
        }
        Err(error) => {
            list.add(
                "psk",
                Finding::bad(error.to_string(), "give this agent the manager's PSK by PSK_FILE or DNS"),
            );
            None
        }
    };
    if let Some(path) = &config.admin_secret {
        list.add(
            "admin",
            match psk::read_secret_file(path) {
                Ok(_) => Finding::good(format!("read from {}", path.display())),
                Err(error) => Finding::bad(
                    error.to_string(),
                    "mend ADMIN_SECRET_FILE, or take it out: only resets need it",
                ),
            },
        );
    }
    let sources = Sources::system();
    let hardware = collect::hardware_id(&sources);
    let id = identity::known(&config.state_dir, &hardware);
    list.add("state", state_found(&config.state_dir, can_write(&config.state_dir), id));
    if let Some(folder) = config.spool_file.as_deref().map(folder_of) {
        list.add("spool", folder_found("SPOOL_FILE", &folder, can_write(&folder)));
    }
    let (system, problems) = collect::collect(&sources, SystemTime::now());
    list.add("wg", wireguard_found(&system, &problems));
    let client = match config.authorities() {
        Ok(authorities) => Client::trusting(authorities),
        Err(error) => {
            list.add(
                "tls",
                Finding::bad(error, "mend TLS_CA_FILE: a PEM file with the authority's certificate"),
            );
            Client::new()
        }
    };
    let listened = gate::listen(config.listen).map(drop).map_err(|error| error.to_string());
    let neighbour = listened.is_err().then(|| running_agent(&client, config.listen)).flatten();
    list.add("port", port_found(config.listen, listened, neighbour));
    list.add("name", name_found(config.manager.host(), resolve(&config.manager)));
    let asked = match &secret {
        Some(secret) => ask(&client, &config.manager, secret, id, &hardware, &system.hostname),
        None => Asked::NoPsk,
    };
    list.add("manager", manager_found(&config.manager, &asked));
    list.add("clock", clock_found(&asked));
    list
}

/// What came of a signed first contact that asks the manager to store nothing.
#[derive(Debug)]
enum Asked {
    /// There is no PSK to sign with.
    NoPsk,
    /// A signed answer, and how far the manager's clock is ahead (ms).
    Signed(Ack, i64),
    /// An answer that nobody with the PSK has signed: status, and the code of its error where it has one.
    Unsigned(u16, String),
    /// None.
    Nothing(String),
}

fn ask(
    client: &Client,
    manager: &ManagerUrl,
    secret: &Secret,
    id: Option<AgentId>,
    hardware: &str,
    hostname: &str,
) -> Asked {
    let random = || Some((BootId::random().ok()?, Nonce::random().ok()?, AgentId::random().ok()?));
    let Some((boot, nonce, random)) = random() else {
        return Asked::Nothing("the kernel gives no random numbers yet".to_owned());
    };
    let message = Message::check(boot, nonce, hardware, hostname);
    let url = manager.of(manager_path::REGISTER);
    let before = Moment::now();
    let sealed = message.seal(id.unwrap_or(random), secret, &Form::whole(&message.json), before.wall);
    match client.post(&url, &sealed.bytes, push::TIMEOUT) {
        Err(error) => Asked::Nothing(error.to_string()),
        Ok((status, body)) => match ack::open(&body, sealed.nonce, &sealed.mac, secret) {
            Ok(ack) => {
                // Half of the way there and back.
                let now = Moment::now();
                let ahead = ack.at - (before.wall + (now.wall - before.wall) / 2);
                Asked::Signed(ack, ahead)
            }
            Err(_) => Asked::Unsigned(status, error_code(&body)),
        },
    }
}

/// The code in an error of the manager's, or nothing.
fn error_code(body: &[u8]) -> String {
    let json: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    json.and_then(|json| json["error"]["code"].as_str().map(str::to_owned)).unwrap_or_default()
}

fn settings_found(config: &Config, dot_env: bool) -> Finding {
    let from = if dot_env { ".env and the environment" } else { "the environment; there is no .env here" };
    Finding::good(format!(
        "from {from}; reports go to {} every {} s",
        config.manager,
        config.interval.as_secs()
    ))
}

fn state_found(folder: &Path, writable: Result<(), String>, id: Option<AgentId>) -> Finding {
    match (writable, id) {
        (Ok(()), Some(id)) => {
            Finding::good(format!("{} can be written; this is agent {id}", folder.display()))
        }
        (Ok(()), None) => {
            Finding::good(format!("{} can be written; the first start makes an id", folder.display()))
        }
        (Err(error), Some(id)) => Finding::poor(
            format!("{}: {error}; this is agent {id}", folder.display()),
            "a new id from the manager could not be kept: let the agent's user write there, or set STATE_DIR",
        ),
        (Err(error), None) => Finding::bad(
            format!("{}: {error}", folder.display()),
            "let the agent's user write there, or set STATE_DIR to a folder that it can write",
        ),
    }
}

fn folder_found(setting: &str, folder: &Path, writable: Result<(), String>) -> Finding {
    match writable {
        Ok(()) => Finding::good(format!("{} can be written", folder.display())),
        Err(error) => Finding::bad(
            format!("{}: {error}", folder.display()),
            format!("set {setting} to a file in a folder that it can write, such as /run/kattila"),
        ),
    }
}

fn wireguard_found(system: &SystemData, problems: &[Problem]) -> Finding {
    let said = problems.iter().find(|problem| problem.source == "wg").map(|problem| problem.message.as_str());
    let rights = "run it as root or give it that capability: packaging/README.md, \"Without root\"";
    let compare = "compare with `wg show all` as root; all else is reported";
    match (system.wireguard_source, said) {
        (Source::None, Some(said)) if said.contains("Without root") => Finding::bad(said, rights),
        (Source::None, said) => Finding::bad(said.unwrap_or("WireGuard does not tell of itself"), compare),
        (_, Some(said)) => Finding::poor(said, compare),
        (_, None) if system.wireguard.is_empty() => {
            Finding::poor("there is no WireGuard interface", "bring one up; the agent finds it by itself")
        }
        (_, None) => {
            let names: Vec<&str> = system.wireguard.iter().map(|device| device.name.as_str()).collect();
            Finding::good(format!("{} with {} peers", names.join(", "), system.peers_total))
        }
    }
}

fn port_found(listen: SocketAddr, listened: Result<(), String>, running: Option<Brief>) -> Finding {
    match (listened, running) {
        (Ok(()), _) => Finding::good(format!("{listen} is free")),
        (Err(_), Some(agent)) => {
            Finding::good(format!("{listen} is held by a running agent {}, {}", agent.version, agent.agent))
        }
        (Err(error), None) => Finding::bad(
            error,
            format!("see who holds it: ss -ltnp 'sport = :{}'; end that, or set AGENT_LISTEN", listen.port()),
        ),
    }
}

fn name_found(host: &str, resolved: Result<Vec<SocketAddr>, String>) -> Finding {
    match resolved {
        Ok(found) => {
            let mut addresses: Vec<String> = found.iter().map(|address| address.ip().to_string()).collect();
            addresses.dedup();
            Finding::good(match addresses.as_slice() {
                [one] if one == host.trim_matches(['[', ']']) => {
                    format!("{host} is an address, no DNS is needed")
                }
                several => format!("{host} is {}", several.join(", ")),
            })
        }
        Err(error) => {
            Finding::bad(format!("{host}: {error}"), "mend /etc/resolv.conf, or give MANAGER_URL an address")
        }
    }
}

fn manager_found(manager: &ManagerUrl, asked: &Asked) -> Finding {
    match asked {
        Asked::NoPsk => Finding::skipped("not asked: there is no PSK to sign with"),
        Asked::Nothing(error) => Finding::bad(
            error.as_str(),
            format!(
                "is it running there, and reachable from here? try: curl {}",
                manager.of(manager_path::HEALTHCHECK)
            ),
        ),
        Asked::Unsigned(401, code) => Finding::bad(
            format!("{manager} refuses this PSK ({code})"),
            "give this agent and the manager the same PSK (PSK_FILE or DNS)",
        ),
        Asked::Unsigned(status, code) => Finding::bad(
            format!(
                "{manager} answered {} without a signature: no manager with this PSK",
                [&status.to_string(), code.as_str()].join(" ").trim_end()
            ),
            "see what MANAGER_URL leads to; a proxy there must pass the manager's answers on unchanged",
        ),
        Asked::Signed(ack, _) => match ack.code {
            Code::Registered if ack.details.agent.is_none() => Finding::poor(
                format!("{manager} answers, signed with this PSK, and knows another host by this agent's id"),
                "a copied disk? the manager will give this agent an id of its own",
            ),
            // Out of time is the clock's affair: the signature has been proved.
            Code::Registered | Code::ClockSkew => {
                Finding::good(format!("{manager} answers, signed with this PSK"))
            }
            code => Finding::bad(
                format!("{manager} answers {code}: {}", ack.details.message),
                format!("see {}", manager.of(manager_path::HEALTHCHECK)),
            ),
        },
    }
}

fn clock_found(asked: &Asked) -> Finding {
    let Asked::Signed(_, ahead) = asked else {
        return Finding::skipped("not known without an answer of the manager");
    };
    let seconds = ahead.unsigned_abs() / 1000;
    let side = if *ahead > 0 { "behind" } else { "ahead of" };
    if clock::differ(*ahead, 0) {
        let what = format!("this host is {seconds} s {side} the manager");
        return Finding::poor(
            what,
            "reports carry the manager's time; set the clock (NTP), as WireGuard needs it, too",
        );
    }
    Finding::good("agrees with the manager's")
}

/// Whether a file can be made in `folder`; removes it again.
fn can_write(folder: &Path) -> Result<(), String> {
    let path = folder.join(format!(".kattila-check.{}", std::process::id()));
    OpenOptions::new().write(true).create_new(true).open(&path).map_err(|error| error.to_string())?;
    fs::remove_file(&path).map_err(|error| error.to_string())
}

fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if folder != Path::new("") => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Who answers as an agent on this host's port, if anyone does.
fn running_agent(client: &Client, listen: SocketAddr) -> Option<Brief> {
    let url = format!("http://{}{}", config::own_endpoint(listen), agent_path::PEER);
    let (status, body) = client.get(&url, Duration::from_secs(3)).ok()?;
    (status == 200).then(|| serde_json::from_slice(&body).ok()).flatten()
}

/// The manager's addresses. A look-up cannot be broken off, so it is left behind when it takes too long.
fn resolve(manager: &ManagerUrl) -> Result<Vec<SocketAddr>, String> {
    let (tell, told) = mpsc::channel();
    let authority = manager.authority().to_owned();
    let look_up = move || {
        let found = authority.to_socket_addrs().map(Iterator::collect::<Vec<_>>);
        // Nobody waits any more when it fails.
        let _ = tell.send(found);
    };
    thread::Builder::new().spawn(look_up).map_err(|error| error.to_string())?;
    match told.recv_timeout(DNS_TIME) {
        Ok(Ok(found)) if found.is_empty() => Err("has no address".to_owned()),
        Ok(found) => found.map_err(|error| error.to_string()),
        Err(_) => Err(format!("not resolved within {} s", DNS_TIME.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::ack::Details;

    fn signed(code: Code, agent: Option<AgentId>, ahead: i64) -> Asked {
        let details = Details { message: "in words".into(), agent };
        Asked::Signed(Ack { code, at: 0, details }, ahead)
    }

    fn shown(findings: Vec<(&'static str, Finding)>) -> String {
        let mut list = Checklist::default();
        for (subject, finding) in findings {
            list.add(subject, finding);
        }
        list.to_string()
    }

    #[test]
    fn what_the_manager_answers_is_told_with_what_to_do() {
        let manager = ManagerUrl::default();
        let of = |asked: &Asked| ("manager", manager_found(&manager, asked));
        let id = AgentId([1; 16]);
        let found = shown(vec![
            of(&signed(Code::Registered, Some(id), 0)),
            of(&signed(Code::Registered, None, 0)),
            of(&signed(Code::ClockSkew, None, -700_000)),
            of(&signed(Code::Unavailable, None, 0)),
            of(&Asked::Unsigned(401, "bad_mac".into())),
            of(&Asked::Unsigned(404, String::new())),
            of(&Asked::Nothing("http://127.0.0.1:5086/x: connection refused".into())),
            of(&Asked::NoPsk),
        ]);
        let expected = "\
ok    manager    http://127.0.0.1:5086 answers, signed with this PSK
warn  manager    http://127.0.0.1:5086 answers, signed with this PSK, and knows another host by this agent's id
                 -> a copied disk? the manager will give this agent an id of its own
ok    manager    http://127.0.0.1:5086 answers, signed with this PSK
FAIL  manager    http://127.0.0.1:5086 answers unavailable: in words
                 -> see http://127.0.0.1:5086/status/healthcheck
FAIL  manager    http://127.0.0.1:5086 refuses this PSK (bad_mac)
                 -> give this agent and the manager the same PSK (PSK_FILE or DNS)
FAIL  manager    http://127.0.0.1:5086 answered 404 without a signature: no manager with this PSK
                 -> see what MANAGER_URL leads to; a proxy there must pass the manager's answers on unchanged
FAIL  manager    http://127.0.0.1:5086/x: connection refused
                 -> is it running there, and reachable from here? try: curl http://127.0.0.1:5086/status/healthcheck
-     manager    not asked: there is no PSK to sign with
4 checks failed";
        assert_eq!(found, expected);
    }

    #[test]
    fn clocks_that_differ_are_told_by_how_much() {
        let of = |ahead| ("clock", clock_found(&signed(Code::Registered, None, ahead)));
        let found = shown(vec![of(900), of(-700_000), of(90_000), ("clock", clock_found(&Asked::NoPsk))]);
        let to_do = "                 -> reports carry the manager's time; set the clock (NTP), as WireGuard needs it, too";
        let expected = format!(
            "ok    clock      agrees with the manager's\n\
             warn  clock      this host is 700 s ahead of the manager\n{to_do}\n\
             warn  clock      this host is 90 s behind the manager\n{to_do}\n\
             -     clock      not known without an answer of the manager\nall well"
        );
        assert_eq!(found, expected);
    }

    #[test]
    fn wireguard_that_cannot_be_read_is_told_from_none() {
        let problem = |message: &str| vec![Problem { source: "wg".into(), message: message.into() }];
        let found = |source, problems: &[Problem]| {
            let system = SystemData { wireguard_source: source, ..SystemData::default() };
            shown(vec![("wg", wireguard_found(&system, problems))])
        };
        let denied = problem(
            "netlink: the kernel refused: Operation not permitted. Without root or CAP_NET_ADMIN the agent sees no WireGuard peer; all else it sees",
        );
        assert!(found(Source::None, &denied).contains("packaging/README.md"));
        let missing = found(Source::None, &problem("netlink gives no list of interfaces"));
        let expected = "FAIL  wg         netlink gives no list of interfaces\n";
        assert!(missing.starts_with(expected), "{missing}");
        let none = found(Source::Netlink, &[]);
        assert!(none.starts_with("warn  wg         there is no WireGuard interface\n"), "{none}");
    }

    #[test]
    fn a_port_may_be_held_by_the_agent_itself() {
        let listen = "127.0.0.1:5087".parse().unwrap();
        let agent = Brief {
            agent: AgentId([1; 16]),
            version: "0.1.0".into(),
            hostname: String::new(),
            distance: None,
            via: None,
        };
        let found = |listened: Result<(), String>, running| {
            shown(vec![("port", port_found(listen, listened, running))])
        };
        assert!(found(Ok(()), None).starts_with("ok    port       127.0.0.1:5087 is free\n"));
        let ours = found(Err("in use".into()), Some(agent));
        assert!(
            ours.starts_with("ok    port       127.0.0.1:5087 is held by a running agent 0.1.0, 0101"),
            "{ours}"
        );
        let others = found(Err("cannot listen on 127.0.0.1:5087: in use".into()), None);
        assert!(others.contains("ss -ltnp 'sport = :5087'") && others.starts_with("FAIL"), "{others}");
    }
}
