//! The manager killed with -9 under load, and on a full disk: nothing acknowledged is lost, nothing
//! is stored twice, and no replay gets through.
#![expect(clippy::unwrap_used, reason = "the helpers, too, are tests")]

mod e2e;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use e2e::actor::Actor;
use e2e::{Database, Manager, PSK, SOON, ready};
use lab::{Host, MESH, Mesh, Plan, until, wait_for};
use proto::ack::Code;
use proto::envelope::Sealed;

/// Who report at the same time.
const ACTORS: usize = 16;
/// Times that the manager is killed.
const ROUNDS: u64 = 20;

fn one_host() -> Mesh {
    Plan::new("one").lan("l", "10.1.0.0/24").attach("hub", "l", "10.1.0.1").up().unwrap()
}

fn loopback() -> SocketAddr {
    "127.0.0.1:5086".parse().unwrap()
}

/// What the threads tell each other.
#[derive(Default)]
struct Load {
    /// Times that the manager came back from a kill.
    lives: AtomicU64,
    acknowledged: AtomicU64,
    sent_again: AtomicU64,
    over: AtomicBool,
}

/// A report that was acknowledged, and its number.
type Stored = (u64, Sealed);

#[test]
fn killed_under_load_the_manager_loses_nothing_and_stores_nothing_twice() {
    if !ready(MESH) {
        return;
    }
    let mesh = one_host();
    let hub = mesh.host("hub");
    let mut manager = Manager::start(hub, &[("PSK", PSK)]);
    let load = Load::default();
    let actors: Vec<Actor> = (0..ACTORS).map(|n| Actor::new(&format!("actor-{n}"), PSK)).collect();

    let stored: Vec<Vec<Stored>> = std::thread::scope(|scope| {
        let threads: Vec<_> = actors
            .iter()
            .map(|actor| scope.spawn(|| hub.inside(|| report_on(actor, &load)).unwrap()))
            .collect();
        let ends = EndOnDrop(&load);
        for round in 1..=ROUNDS {
            let before = load.acknowledged.load(Ordering::SeqCst);
            let enough = || load.acknowledged.load(Ordering::SeqCst) >= before + 5 * ACTORS as u64;
            assert!(until(SOON, enough), "reports flow in life {round}");
            // Another moment of a commit each time.
            std::thread::sleep(Duration::from_micros(round * 7_300));
            manager.process.kill9().unwrap();
            manager.restart();
            load.lives.store(round, Ordering::SeqCst);
        }
        let before = load.sent_again.load(Ordering::SeqCst);
        let all_again = || load.sent_again.load(Ordering::SeqCst) >= before + ACTORS as u64;
        assert!(until(SOON, all_again), "every actor has sent again after the last kill");
        drop(ends);
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });

    let count: usize = stored.iter().map(Vec::len).sum();
    let again = load.sent_again.into_inner();
    eprintln!("{count} reports acknowledged by a manager killed {ROUNDS} times; {again} sent again");
    assert!(again >= ROUNDS * ACTORS as u64);
    // The kill that nobody sees: also after an orderly end all is still there.
    manager.process.term().unwrap();
    assert_eq!(manager.process.wait(SOON).unwrap().code(), Some(0));
    assert_holds(&manager.database(), &actors, &stored);
    assert_eq!(manager.database().count("agents"), i64::try_from(ACTORS).unwrap());
}

/// Lets the actors end also when the test panics.
struct EndOnDrop<'a>(&'a Load);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::SeqCst);
    }
}

/// Reports until the load is over; after each kill sends what was acknowledged before it once more.
fn report_on(actor: &Actor, load: &Load) -> Vec<Stored> {
    let mut stored: Vec<Stored> = Vec::new();
    let mut life = 0;
    for tick in 1.. {
        let now = load.lives.load(Ordering::SeqCst);
        if now > life {
            life = now;
            // The last ones, whose commit the kill came right after, and the very first.
            for (tick, sealed) in stored.iter().rev().take(3).chain(stored.first()) {
                if let Some(code) = deliver(actor, sealed, load) {
                    assert_eq!(code, Code::AlreadyStored, "tick {tick} of {} again", actor.hostname);
                    load.sent_again.fetch_add(1, Ordering::SeqCst);
                }
            }
        }
        let sealed = actor.report(tick);
        let Some(code) = deliver(actor, &sealed, load) else { break };
        // Already stored: the kill came between the commit and the answer.
        assert!(matches!(code, Code::Stored | Code::AlreadyStored), "{}: {code}", actor.hostname);
        stored.push((tick, sealed));
        load.acknowledged.fetch_add(1, Ordering::SeqCst);
        if load.over.load(Ordering::SeqCst) {
            break;
        }
    }
    stored
}

/// Sends until there is a signed answer, as an agent does; `None` when the load is over before.
fn deliver(actor: &Actor, sealed: &Sealed, load: &Load) -> Option<Code> {
    let start = Instant::now();
    loop {
        match actor.send(loopback(), sealed) {
            // Too many at once: it says so, and stores it when asked again.
            Ok((_, ack)) if ack.code == Code::Unavailable => {}
            Ok((_, ack)) => return Some(ack.code),
            Err(_) if load.over.load(Ordering::SeqCst) => return None,
            Err(error) => assert!(start.elapsed() < SOON, "{}: {error}", actor.hostname),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Every acknowledged report is in the database, once, and nothing but what was sent.
fn assert_holds(database: &Database, actors: &[Actor], stored: &[Vec<Stored>]) {
    database.assert_sound();
    let mut statement = database
        .0
        .prepare(
            "SELECT lower(hex(a.id)), r.tick, lower(hex(r.nonce)) FROM reports r JOIN agents a ON a.no = r.agent",
        )
        .unwrap();
    let rows: Vec<(String, u64, String)> = statement
        .query_map([], |row| {
            let tick: i64 = row.get(1)?;
            Ok((row.get(0)?, u64::try_from(tick).unwrap(), row.get(2)?))
        })
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let unique: BTreeSet<&(String, u64, String)> = rows.iter().collect();
    assert_eq!(unique.len(), rows.len());
    let mut acknowledged = 0;
    for (actor, stored) in actors.iter().zip(stored) {
        for (tick, sealed) in stored {
            let row = (actor.agent.to_string(), *tick, sealed.nonce.to_string());
            assert!(unique.contains(&row), "tick {tick} of {} was acknowledged and is lost", actor.hostname);
            acknowledged += 1;
        }
    }
    // What each was sending when it ended may be there unacknowledged.
    assert!(rows.len() <= acknowledged + actors.len(), "{} rows, {acknowledged} acknowledged", rows.len());
}

#[test]
fn a_full_disk_is_told_and_got_over() {
    if !ready(MESH) {
        return;
    }
    let mesh = one_host();
    let hub = mesh.host("hub");
    let disk = hub.dir().join("disk");
    let disk = disk.to_str().unwrap();
    hub.sh(&format!(
        "mkdir {disk}; mount -t tmpfs -o size=6m tmpfs {disk}; head -c 5m /dev/zero >{disk}/filler"
    ))
    .unwrap();
    let database = format!("{disk}/kattila_manager.db");
    let mut manager = Manager::start(hub, &[("PSK", PSK), ("DATABASE", &database)]);
    let actors: Vec<Actor> =
        (0..4).map(|n| Actor { interfaces: 50, ..Actor::new(&format!("actor-{n}"), PSK) }).collect();
    let mut stored: Vec<Vec<Stored>> = actors.iter().map(|_| Vec::new()).collect();
    let send =
        |actor: &Actor, sealed: &Sealed| hub.inside(|| actor.send(loopback(), sealed)).unwrap().unwrap();

    // Until it is full.
    let mut refused: Vec<Option<Stored>> = actors.iter().map(|_| None).collect();
    let mut tick = 0;
    while refused.iter().any(Option::is_none) {
        tick += 1;
        assert!(tick < 2000, "the disk does not fill up");
        for (n, actor) in actors.iter().enumerate() {
            if refused[n].is_some() {
                continue;
            }
            let sealed = actor.report(tick);
            let (status, ack) = send(actor, &sealed);
            match ack.code {
                Code::Stored => stored[n].push((tick, sealed)),
                Code::Unavailable => {
                    assert_eq!(status, 503);
                    refused[n] = Some((tick, sealed));
                }
                other => panic!("{other} on a full disk"),
            }
        }
    }
    let count: usize = stored.iter().map(Vec::len).sum();
    eprintln!("full after {count} reports");
    assert!(count > actors.len(), "some were stored before");

    // It says so, signed, again and again, and goes on showing what it has.
    for (actor, refused) in actors.iter().zip(&refused) {
        let (status, ack) = send(actor, &refused.as_ref().unwrap().1);
        assert_eq!((status, ack.code), (503, Code::Unavailable));
    }
    let (status, health) = manager.get("/status/healthcheck");
    assert_eq!(
        (status, &health["status"], &health["database"]["writable"]),
        (503, &"failing".into(), &false.into())
    );
    assert!(health["database"]["failure"].as_str().unwrap().contains("full"), "{health}");
    let agents = manager.agents();
    assert_eq!(agents.len(), actors.len());
    for (actor, stored) in actors.iter().zip(&stored) {
        let (status, one) = manager.get(&format!("/status/agents/{}", actor.agent));
        assert_eq!((status, &one["tick"]), (200, &stored.last().unwrap().0.into()), "{}", actor.hostname);
        assert_eq!(one["report"]["system"]["hostname"], actor.hostname.as_str());
    }

    // Somebody makes room; nobody touches the manager.
    hub.sh(&format!("rm {disk}/filler")).unwrap();
    for (n, actor) in actors.iter().enumerate() {
        let (tick, sealed) = refused[n].take().unwrap();
        let code = wait_for("the refused report is taken", SOON, || {
            let (_, ack) = send(actor, &sealed);
            (ack.code != Code::Unavailable).then_some(ack.code)
        });
        assert_eq!(code.unwrap(), Code::Stored, "{}", actor.hostname);
        stored[n].push((tick, sealed));
    }
    let (status, health) = manager.get("/status/healthcheck");
    assert_eq!((status, &health["status"]), (200, &"ok".into()), "{health}");
    for (actor, stored) in actors.iter().zip(&stored) {
        assert_eq!(send(actor, &stored[0].1).1.code, Code::AlreadyStored);
    }
    let log = manager.process.log();
    assert_eq!(
        log.matches("messages are refused until it works again").count(),
        1,
        "it is logged once: {log}"
    );

    // Killed right then, nothing of it is lost.
    manager.process.kill9().unwrap();
    manager.restart();
    for (actor, stored) in actors.iter().zip(&stored) {
        for (_, sealed) in stored {
            assert_eq!(send(actor, sealed).1.code, Code::AlreadyStored, "{}", actor.hostname);
        }
    }
    manager.process.term().unwrap();
    manager.process.wait(SOON).unwrap();
    assert_holds(&copy_out(hub, &database), &actors, &stored);
}

/// The disk is mounted for the host alone; this machine sees it by the host's first process.
fn copy_out(host: &Host, database: &str) -> Database {
    let copy = host.dir().join("copy.db");
    std::fs::copy(format!("/proc/{}/root{database}", host.pid()), &copy).unwrap();
    Database::open(&copy)
}
