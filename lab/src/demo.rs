//! `lab demo`: a mesh with the real daemons, to look at in a browser; `lab stage`: the same for tests.

use std::fs::{OpenOptions, Permissions};
use std::io::{BufRead, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use serde_json::Value;

use crate::{Error, Host, Launch, MESH, Mesh, Need, Plan, Proc, Result, bin, require, until, wait_for};

/// The hosts with an agent; the first also has the manager.
const HOSTS: [&str; 5] = ["berlin", "hamburg", "lyon", "nantes", "paris"];

/// The manager's port, inside its host and, where it is free, on this machine's loopback.
const PORT: u16 = 5086;

/// How long a daemon may take to be at work.
const START: Duration = Duration::from_secs(15);

/// How long a daemon may take to stop when asked; then it is killed.
const STOP: Duration = Duration::from_secs(5);

/// Five hosts on two LANs with a router between, and a full WireGuard mesh over both.
pub fn plan() -> Plan {
    let mut plan = Plan::new("demo")
        .lan("north", "10.1.0.0/24")
        .lan("south", "10.2.0.0/24")
        .attach("router", "north", "10.1.0.1")
        .attach("router", "south", "10.2.0.1")
        .router("router");
    for (n, host) in HOSTS.iter().enumerate() {
        let (lan, network) = if n < 2 { ("north", "10.1.0") } else { ("south", "10.2.0") };
        plan =
            plan.attach(host, lan, &format!("{network}.{}", n + 11)).gateway(host, &format!("{network}.1"));
    }
    plan.full_mesh("wg0", "10.77.0.0/24", &HOSTS)
}

/// Runs the demo until Ctrl-C.
pub fn run() -> Result<()> {
    if !(require(MESH) && require(&[Need::Bin("agent"), Need::Bin("manager")])) {
        return Err(Error::Missing("the demo needs what is named above".to_owned()));
    }
    let stop = block_signals()?;
    let mesh = plan().up()?;
    let settings = Settings::make(&mesh, "5")?;
    let mut daemons = vec![settings.start_manager(mesh.host(HOSTS[0]))?];
    await_manager(mesh.host(HOSTS[0]), &daemons[0])?;
    for host in HOSTS {
        daemons.push(settings.start_agent(mesh.host(host))?);
    }
    let reporting = await_agents(mesh.host(HOSTS[0]), &daemons[1..])?;
    let address = forward(mesh.host(HOSTS[0]), &[PORT, 0])?;
    say(&format!(
        "\n{reporting} of {} agents report\n\
         manager:      http://{address}/ (agents: http://{address}/status/agents)\n\
         admin secret: {}\n\
         logs:         {}\n\
         a host:       nsenter -t {} -n -m -u -p (this is {})\n\
         Ctrl-C removes all of it.\n",
        HOSTS.len(),
        settings.admin_secret.display(),
        mesh.dir().display(),
        mesh.host(HOSTS[4]).pid(),
        HOSTS[4],
    ))?;
    await_signal(&stop)?;
    say("stopping\n")?;
    // Agents first, so that the manager sees none fail.
    daemons.rotate_left(1);
    for daemon in &daemons {
        // One that has ended by itself needs no asking.
        let _ = daemon.term();
    }
    for daemon in &daemons {
        let _ = daemon.wait(STOP);
    }
    Ok(())
}

/// Brings the mesh up without daemons, prints `NAME PID FOLDER` of each host and an empty line,
/// and waits for Ctrl-C.
pub fn mesh_only() -> Result<()> {
    if !require(MESH) {
        return Err(Error::Missing("the mesh needs what is named above".to_owned()));
    }
    let stop = block_signals()?;
    let mesh = plan().up()?;
    for host in mesh.hosts() {
        say(&format!("{} {} {}\n", host.name(), host.pid(), host.dir().display()))?;
    }
    say("\n")?;
    await_signal(&stop)
}

/// The demo's mesh for a test of another language, which works it by lines on standard input; ends with it.
///
/// Prints one line of JSON when all agents report: `manager` (URL), `admin_secret` (its file), `folder`.
/// Then it takes a command a line and answers each with a line, `ok` or `failed: ...`:
/// `run HOST SCRIPT` runs a shell script inside; `stop HOST` ends its agent, `start HOST` starts it again.
pub fn stage() -> Result<()> {
    if !(require(MESH) && require(&[Need::Bin("agent"), Need::Bin("manager")])) {
        return Err(Error::Missing("the stage needs what is named above".to_owned()));
    }
    let mesh = plan().up()?;
    let settings = Settings::make(&mesh, "2")?;
    let manager = settings.start_manager(mesh.host(HOSTS[0]))?;
    await_manager(mesh.host(HOSTS[0]), &manager)?;
    let mut agents =
        HOSTS.iter().map(|host| settings.start_agent(mesh.host(host))).collect::<Result<Vec<_>>>()?;
    await_agents(mesh.host(HOSTS[0]), &agents)?;
    let address = forward(mesh.host(HOSTS[0]), &[0])?;
    let told = serde_json::json!({
        "manager": format!("http://{address}"),
        "admin_secret": settings.admin_secret,
        "folder": mesh.dir(),
    });
    say(&format!("{told}\n"))?;
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(Error::io("stdin"))?;
        let words: Vec<&str> = line.splitn(3, ' ').collect();
        let place = |host: &str| HOSTS.iter().position(|known| *known == host);
        let done = match words[..] {
            ["run", host, script] if mesh.hosts().iter().any(|known| known.name() == host) => {
                mesh.host(host).sh(script).map(drop)
            }
            ["stop", host] if place(host).is_some() => {
                let agent = &agents[place(host).unwrap_or_default()];
                agent.term().and_then(|()| agent.wait(STOP)).map(drop)
            }
            ["start", host] if place(host).is_some() => settings
                .start_agent(mesh.host(host))
                .map(|agent| agents[place(host).unwrap_or_default()] = agent),
            _ => Err(Error::Plan(format!("no such command or host: {line}"))),
        };
        match done {
            Ok(()) => say("ok\n")?,
            Err(error) => say(&format!("failed: {}\n", error.to_string().replace('\n', " ")))?,
        }
    }
    Ok(())
}

/// What the daemons are told.
struct Settings {
    manager_url: String,
    /// Seconds between reports.
    interval: &'static str,
    psk: PathBuf,
    admin_secret: PathBuf,
}

impl Settings {
    fn make(mesh: &Mesh, interval: &'static str) -> Result<Self> {
        let manager = SocketAddr::new(mesh.host(HOSTS[0]).address(), PORT);
        let settings = Self {
            manager_url: format!("http://{manager}"),
            interval,
            psk: mesh.dir().join("psk"),
            admin_secret: mesh.dir().join("admin-secret"),
        };
        write_secret(&settings.psk)?;
        write_secret(&settings.admin_secret)?;
        Ok(settings)
    }

    fn start_manager(&self, host: &Host) -> Result<Proc> {
        let launch = Launch::new(bin("manager")?)
            .env("MANAGER_LISTEN", format!("[::]:{PORT}"))
            .env("DATABASE", host.dir().join("kattila_manager.db"))
            .env("PSK_FILE", &self.psk)
            .env("ADMIN_SECRET_FILE", &self.admin_secret);
        host.spawn(&launch)
    }

    fn start_agent(&self, host: &Host) -> Result<Proc> {
        let state = host.dir().join("state");
        std::fs::create_dir_all(&state).map_err(Error::io(state.display().to_string()))?;
        let launch = Launch::new(bin("agent")?)
            .env("MANAGER_URL", &self.manager_url)
            .env("PSK_FILE", &self.psk)
            .env("ADMIN_SECRET_FILE", &self.admin_secret)
            .env("STATE_DIR", state)
            .env("REPORT_INTERVAL", self.interval);
        host.spawn(&launch)
    }
}

/// 32 random bytes as WireGuard writes them, readable by the owner only.
fn write_secret(path: &Path) -> Result<()> {
    let secret = crate::KeyPair::generate()?.private;
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| {
            file.set_permissions(Permissions::from_mode(0o600))?;
            writeln!(file, "{secret}")
        })
        .map_err(Error::io(path.display().to_string()))
}

fn await_manager(host: &Host, manager: &Proc) -> Result<()> {
    let url = format!("http://127.0.0.1:{PORT}/status/healthcheck");
    wait_for("the manager's health check", START, || {
        let healthy = host.http_get(&url).is_ok_and(|answer| answer.status == 200);
        (healthy || !manager.is_running()).then_some(())
    })?;
    still_running(manager)
}

/// Waits for a first report of every agent; gives how many there are when the time is up.
fn await_agents(host: &Host, agents: &[Proc]) -> Result<usize> {
    let url = format!("http://127.0.0.1:{PORT}/status/agents");
    let mut count = 0;
    until(START, || {
        let list: Option<Value> = host.http_get(&url).and_then(|answer| answer.json()).ok();
        count = list.and_then(|list| list["agents"].as_array().map(Vec::len)).unwrap_or(0);
        count == agents.len() || !agents.iter().all(Proc::is_running)
    });
    agents.iter().try_for_each(still_running).map(|()| count)
}

fn still_running(daemon: &Proc) -> Result<()> {
    if daemon.is_running() {
        return Ok(());
    }
    Err(Error::Command {
        host: daemon.host().to_owned(),
        command: daemon.name().to_owned(),
        outcome: "ended at once".to_owned(),
        said: daemon.log(),
    })
}

/// Passes connections to this machine's loopback, at the first of `ports` that is free, on to the manager
/// in its host, for a browser. Only as long as the process lives: this is the demo's door, not a proxy for
/// others.
fn forward(host: &Host, ports: &[u16]) -> Result<SocketAddr> {
    let loopback = |port| SocketAddr::new(IpAddr::from([127, 0, 0, 1]), port);
    let addresses: Vec<SocketAddr> = ports.iter().map(|port| loopback(*port)).collect();
    let listener = TcpListener::bind(&addresses[..]).map_err(Error::io("a port on 127.0.0.1"))?;
    let address = listener.local_addr().map_err(Error::io("own port"))?;
    let door = host.door()?;
    std::thread::spawn(move || {
        for browser in listener.incoming().flatten() {
            let Ok(Ok(manager)) = door.inside(|| TcpStream::connect(loopback(PORT))) else { continue };
            let (Ok(browser2), Ok(manager2)) = (browser.try_clone(), manager.try_clone()) else { continue };
            std::thread::spawn(move || pump(browser, manager));
            std::thread::spawn(move || pump(manager2, browser2));
        }
    });
    Ok(address)
}

/// Copies until the end, and passes the end on.
fn pump(mut from: TcpStream, mut to: TcpStream) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(std::net::Shutdown::Write);
}

/// From here on Ctrl-C and SIGTERM wait for [`await_signal`]; children are not affected.
fn block_signals() -> Result<SigSet> {
    let mut stop = SigSet::empty();
    stop.add(Signal::SIGINT);
    stop.add(Signal::SIGTERM);
    stop.thread_block()
        .map_err(|errno| Error::Io { what: "signal mask".to_owned(), source: errno.into() })?;
    Ok(stop)
}

fn await_signal(stop: &SigSet) -> Result<()> {
    stop.wait().map(drop).map_err(|errno| Error::Io { what: "signals".to_owned(), source: errno.into() })
}

fn say(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(Error::io("stdout"))
}
