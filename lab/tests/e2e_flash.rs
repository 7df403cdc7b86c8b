//! The agent wears no flash: under strace it writes its id at the first start, and after that nothing;
//! and it starts no other program.
#![expect(clippy::unwrap_used, reason = "the helpers, too, are tests")]

mod e2e;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use e2e::{Manager, PSK, SOON, ready, secret_file};
use lab::{Launch, MESH, Mesh, Need, Plan, Proc, bin, require, until, wait_for};
use nix::sys::signal::Signal;

/// What strace shows: everything that names a file or writes.
const TRACED: &str = "trace=%file,write,writev,pwrite64,pwritev,pwritev2,sendfile,copy_file_range,splice,\
    ftruncate,fallocate,fchmod,fchown,fsetxattr";
/// Reports that a start is watched for.
const TURNS: i64 = 8;

/// Something that an agent did.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Clone)]
enum Deed {
    /// Ran a program: its arguments.
    Ran(Vec<String>),
    /// Wrote to the file.
    Wrote(String),
    /// Opened the file for writing, or made it.
    Opened(String),
    /// Changed a file otherwise: the call as strace shows it.
    Changed(String),
}

#[test]
fn nothing_is_written_in_normal_running_and_nothing_is_started() {
    if !(ready(MESH) && require(&[Need::Tool("strace")])) {
        return;
    }
    let mesh = Plan::new("flash")
        .lan("lan", "10.1.0.0/24")
        .attach("berlin", "lan", "10.1.0.1")
        .attach("lyon", "lan", "10.1.0.2")
        .full_mesh("wg0", "10.77.0.0/24", &["berlin", "lyon"])
        .up()
        .unwrap();
    mesh.wait_handshakes(SOON).unwrap();
    let psk = secret_file(mesh.dir().join("psk"), PSK);
    let manager = Manager::start(mesh.host("berlin"), &[("PSK_FILE", psk.to_str().unwrap())]);
    let host = mesh.host("lyon");

    let first = traced(&mesh, &manager, "first", &psk);
    let reports = await_reports(&manager, 0, 3);
    stop(&first.agent);
    let deeds = first.deeds();
    assert_ran_nothing(&deeds);
    let id = host.dir().join("state/agent_id.txt").display().to_string();
    for deed in deeds.iter().filter(|deed| !matches!(deed, Deed::Ran(_)) && !first.is_log(deed)) {
        let (Deed::Wrote(text) | Deed::Opened(text) | Deed::Changed(text)) = deed else { unreachable!() };
        assert!(text.contains(&id), "the first start also did this: {deed:?}");
    }
    let wrote_id = |deed: &Deed| matches!(deed, Deed::Wrote(path) if path.starts_with(&id));
    assert!(deeds.iter().any(wrote_id), "strace shows nothing of the id: {deeds:?}");

    let second = traced(&mesh, &manager, "second", &psk);
    let reports = await_reports(&manager, reports, 1);
    // The last line of a good start.
    second.agent.wait_log("first report delivered", SOON).unwrap();
    let (said, written) = (second.agent.log().len(), write_bytes(&second.agent));
    let reports = await_reports(&manager, reports, TURNS);
    assert_eq!(
        second.agent.log().len(),
        said,
        "it says something in normal running:\n{}",
        second.agent.log()
    );
    assert_eq!(write_bytes(&second.agent), written, "bytes for storage");

    // Without a manager what waits is kept in memory.
    manager.process.kill9().unwrap();
    second.agent.wait_log("not delivered", SOON).unwrap();
    std::thread::sleep(Duration::from_secs(4));
    drop(manager);
    let manager = Manager::start(mesh.host("berlin"), &[("PSK_FILE", psk.to_str().unwrap())]);
    await_reports(&manager, reports, 6);
    stop(&second.agent);
    let deeds = second.deeds();
    assert_ran_nothing(&deeds);
    let wrong: Vec<&Deed> =
        deeds.iter().filter(|deed| !matches!(deed, Deed::Ran(_)) && !second.is_log(deed)).collect();
    assert!(wrong.is_empty(), "a later start changed files: {wrong:?}");
}

/// An agent under strace.
struct Traced {
    agent: Proc,
    log: PathBuf,
    trace: PathBuf,
}

/// Starts the agent of `lyon`, reporting every second, without a file for what waits.
fn traced(mesh: &Mesh, manager: &Manager<'_>, name: &str, psk: &Path) -> Traced {
    let host = mesh.host("lyon");
    let state = host.dir().join("state");
    std::fs::create_dir_all(&state).unwrap();
    let (log, trace) = (host.dir().join(format!("{name}.log")), host.dir().join(format!("{name}.strace")));
    // -D: the agent, not strace, is the process that was started, and gets the signals.
    let launch = Launch::new("strace")
        .args(["-D", "-f", "-y", "-s", "400", "-e", "signal=none", "-e", TRACED, "-o"])
        .arg(&trace)
        .arg(bin("agent").unwrap())
        .env("MANAGER_URL", manager.url())
        .env("PSK_FILE", psk)
        .env("STATE_DIR", state)
        .env("REPORT_INTERVAL", "1")
        .log(&log);
    Traced { agent: host.spawn(&launch).unwrap(), log, trace }
}

impl Traced {
    /// All that it did; to be asked after its end.
    fn deeds(&self) -> BTreeSet<Deed> {
        // strace ends a moment after the agent, and writes its last lines then.
        let mut text = String::new();
        let whole = until(SOON, || {
            text = std::fs::read_to_string(&self.trace).unwrap();
            text.lines().any(|line| line.contains("+++ exited with 0 +++"))
        });
        assert!(whole, "no end in {}", self.trace.display());
        text.lines().filter_map(deed).collect()
    }

    /// What it says goes to standard error, here a file.
    fn is_log(&self, deed: &Deed) -> bool {
        matches!(deed, Deed::Wrote(path) if Path::new(path) == self.log)
    }
}

/// What a line of strace's says that was done. The beginning of a call names all that matters, so the
/// second half of an interrupted one is passed over.
fn deed(line: &str) -> Option<Deed> {
    let call = line.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start();
    let (name, rest) = call.split_once('(')?;
    if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return None;
    }
    let quoted = || rest.split('"').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    match name {
        "execve" | "execveat" => Some(Deed::Ran(quoted().split_off(1))),
        "open" | "openat" | "openat2" | "creat" => {
            let writing = ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC"].iter().any(|flag| rest.contains(flag));
            let path = quoted().first().cloned().unwrap_or_default();
            ((writing || name == "creat") && path != "/dev/null").then_some(Deed::Opened(path))
        }
        "write" | "writev" | "pwrite64" | "pwritev" | "pwritev2" | "sendfile" | "copy_file_range"
        | "splice" => {
            let file = rest.split_once('<')?.1.split('>').next()?;
            let is_file = file.starts_with('/') && !file.starts_with("/dev/");
            is_file.then(|| Deed::Wrote(file.to_owned()))
        }
        "access" | "faccessat" | "faccessat2" | "stat" | "lstat" | "newfstatat" | "fstatat64" | "statx"
        | "statfs" | "readlink" | "readlinkat" | "getcwd" | "chdir" | "getxattr" | "lgetxattr" => None,
        _ => Some(Deed::Changed(call.to_owned())),
    }
}

fn assert_ran_nothing(deeds: &BTreeSet<Deed>) {
    let ran: Vec<&Vec<String>> = deeds
        .iter()
        .filter_map(|deed| if let Deed::Ran(words) = deed { Some(words) } else { None })
        .collect();
    let own = bin("agent").unwrap().display().to_string();
    assert!(ran.len() == 1 && ran[0][0] == own, "it ran {ran:?}");
}

/// Waits until `more` reports than `before` are stored; how many there are.
fn await_reports(manager: &Manager<'_>, before: i64, more: i64) -> i64 {
    let stored = || Some(manager.database().count("reports")).filter(|&count| count >= before + more);
    // strace makes every call slow.
    wait_for("reports", Duration::from_secs(90), stored).unwrap()
}

/// Bytes that a process caused to be written to storage, its ended children included.
fn write_bytes(process: &Proc) -> u64 {
    let io = std::fs::read_to_string(format!("/proc/{}/io", process.pid())).unwrap();
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes:")).unwrap();
    line.trim().parse().unwrap()
}

fn stop(agent: &Proc) {
    e2e::assert_stops(agent, Signal::SIGTERM, SOON);
}
