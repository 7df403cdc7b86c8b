//! Notifications by the real manager to a real receiver: each once and in order for a subject, also
//! over a kill -9 and whatever the receiver does; and what hangs there delays no report.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;
#[path = "notify/receiver.rs"]
mod receiver;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::{Actor, Manager, chmod600, now_ms};
use hmac::{Hmac, KeyInit as _, Mac as _};
use proto::ack::Code;
use proto::ids::PublicKey;
use proto::report::{Interface, InterfaceKind, WireGuardDevice};
use proto::sign::Kind;
use receiver::{Got, Mood, Receiver};
use sha2::Sha256;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Two hosts that report every second and say two. Those keys that both have are alarms, each of its
/// own: `DUP_PRIVATE_KEY`, which fires at once.
struct Fleet {
    shared: Arc<Mutex<BTreeSet<u8>>>,
    stop: Arc<AtomicBool>,
    /// The longest that a report took to be acknowledged.
    slowest: Arc<Mutex<Duration>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Fleet {
    fn start(manager: &Manager) -> Self {
        let mut fleet =
            Self { shared: Arc::default(), stop: Arc::default(), slowest: Arc::default(), thread: None };
        let (shared, stop) = (Arc::clone(&fleet.shared), Arc::clone(&fleet.stop));
        let slowest = Arc::clone(&fleet.slowest);
        let address = manager.address;
        fleet.thread = Some(std::thread::spawn(move || {
            let actors = [Actor::new("oak"), Actor::new("dup")];
            for tick in 1.. {
                for (n, actor) in (0..).zip(&actors) {
                    let keys = shared.lock().unwrap().clone();
                    let sealed = report(actor, tick, n, &keys);
                    let start = Instant::now();
                    // The manager may be down: another report comes.
                    if let Some(code) = common::send_to(address, &sealed) {
                        assert_eq!(code, Code::Stored);
                        let mut slowest = slowest.lock().unwrap();
                        *slowest = slowest.max(start.elapsed());
                    }
                }
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(900));
            }
        }));
        fleet
    }

    /// The two have these keys in common from now on.
    fn share(&self, keys: impl IntoIterator<Item = u8>) {
        *self.shared.lock().unwrap() = keys.into_iter().collect();
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking());
    }
}

fn key(number: u8) -> PublicKey {
    PublicKey([number; 32])
}

fn report(actor: &Actor, tick: u64, own: u8, shared: &BTreeSet<u8>) -> proto::envelope::Sealed {
    let mut report = actor.observed(now_ms());
    report.interval_s = 2;
    let keys = std::iter::once(200 + own).chain(shared.iter().copied());
    for (number, name) in keys.map(|number| (number, format!("wg{number}"))) {
        let nic = Interface {
            name: name.clone(),
            kind: InterfaceKind::WireGuard,
            flags: 1,
            mtu: 1420,
            ..Interface::default()
        };
        report.system.interfaces.push(nic);
        let device = WireGuardDevice { name, public_key: Some(key(number)), ..WireGuardDevice::default() };
        report.system.wireguard.push(device);
    }
    actor.draft(Kind::Report, tick, &serde_json::to_vec(&report).unwrap(), now_ms())
}

fn start(receiver: &Receiver, settings: &[(&str, &str)]) -> Manager {
    let url = receiver.url();
    let all: Vec<_> = [("NOTIFY_URL", url.as_str())].iter().chain(settings).copied().collect();
    Manager::start(&all)
}

fn firing(number: u8) -> String {
    format!("alarm.firing key {}", key(number))
}

fn resolved(number: u8) -> String {
    format!("alarm.resolved key {}", key(number))
}

/// Waits until the receiver has taken these events, in this order, and no other.
fn wait_events(receiver: &Receiver, expected: &[String]) {
    receiver.wait(&format!("{expected:?}"), |_| receiver.events().len() >= expected.len());
    assert_eq!(receiver.events(), expected);
}

fn wait_waiting(manager: &Manager, count: i64) {
    let until = Instant::now() + Duration::from_secs(60);
    while manager.query::<i64>("SELECT count(*) FROM outbox") != count {
        assert!(Instant::now() < until, "the outbox never has {count}: {}", manager.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn each_is_delivered_once_and_in_order_over_a_kill() {
    let mut receiver = Receiver::start(Mood::Answers(204));
    let mut manager = start(&receiver, &[]);
    let fleet = Fleet::start(&manager);
    let mut expected = Vec::new();

    // A usual day.
    fleet.share([1]);
    expected.push(firing(1));
    wait_events(&receiver, &expected);
    wait_waiting(&manager, 0);

    // Committed, and nobody there to send it to: killed in between, it is sent after the restart.
    receiver.go();
    fleet.share([]);
    wait_waiting(&manager, 1);
    manager.kill();
    receiver.come();
    manager.resume();
    expected.push(resolved(1));
    wait_events(&receiver, &expected);
    wait_waiting(&manager, 0);

    // Sent, and killed before the answer: sent again, under the same id and with the same content.
    receiver.set(Mood::Hangs);
    fleet.share([1, 2]);
    let before = receiver.all().len();
    receiver.wait("a message that hangs", |got| got.len() > before);
    manager.kill();
    receiver.set(Mood::Answers(200));
    manager.resume();
    let got = receiver.wait("it comes again", |got| got.len() > before + 1);
    let (first, again) = (&got[before], &got[before + 1]);
    assert_eq!((first.id(), &first.body), (again.id(), &again.body));
    expected.extend([firing(1), firing(2)]);
    wait_events(&receiver, &expected);
    fleet.share([]);
    expected.extend([resolved(1), resolved(2)]);
    wait_events(&receiver, &expected);
    wait_waiting(&manager, 0);
    let ids: BTreeSet<_> = receiver.all().iter().map(|got| got.id().to_owned()).collect();
    assert_eq!(ids.len(), receiver.taken().len(), "every message came to be taken");
}

#[test]
fn a_receiver_that_fails_gets_the_same_message_until_it_takes_it() {
    let receiver = Receiver::start(Mood::Answers(500));
    let mut manager = start(&receiver, &[]);
    let fleet = Fleet::start(&manager);
    fleet.share([1]);
    let got = receiver.wait("three attempts", |got| got.len() >= 3);
    assert!(got.iter().all(|one| (one.id(), &one.body) == (got[0].id(), &got[0].body)));
    // After 1 s, after 2 s: at the least.
    assert!(got[1].at - got[0].at >= Duration::from_millis(950), "{:?}", got[1].at - got[0].at);
    assert!(got[2].at - got[1].at >= Duration::from_millis(1950), "{:?}", got[2].at - got[1].at);
    // What comes meanwhile waits behind it.
    fleet.share([1, 2]);
    wait_waiting(&manager, 2);
    let health = manager.get("/status/alarms").1;
    assert_eq!(health["notifications_waiting"], 2);
    receiver.set(Mood::Answers(200));
    wait_events(&receiver, &[firing(1), firing(2)]);
    assert!(manager.log().contains("it answered 500"), "{}", manager.log());
    // One that hangs does not keep the manager from stopping.
    receiver.set(Mood::Hangs);
    let before = receiver.all().len();
    fleet.share([]);
    receiver.wait("a message that hangs", |got| got.len() > before);
    let start = Instant::now();
    assert!(manager.terminate().success(), "{}", manager.log());
    assert!(start.elapsed() < Duration::from_secs(8), "it took {:?} to stop", start.elapsed());
}

#[test]
fn a_receiver_that_hangs_delays_neither_reports_nor_another_receiver() {
    let (hangs, takes) = (Receiver::start(Mood::Hangs), Receiver::start(Mood::Answers(200)));
    let both = format!("{},{}", hangs.url(), takes.url());
    let manager = Manager::start(&[("NOTIFY_URL", &both)]);
    let fleet = Fleet::start(&manager);
    fleet.share([1]);
    hangs.wait("the first message", |got| !got.is_empty());
    *fleet.slowest.lock().unwrap() = Duration::ZERO;
    fleet.share([1, 2]);
    wait_events(&takes, &[firing(1), firing(2)]);
    // Longer than the 10 s that it is given, so twice.
    let got = hangs.wait("it is tried again", |got| got.len() >= 2);
    assert_eq!(got[0].id(), got[1].id());
    let slowest = *fleet.slowest.lock().unwrap();
    assert!(slowest > Duration::ZERO && slowest < Duration::from_secs(5), "a report took {slowest:?}");
    assert_eq!(manager.get("/status/healthcheck").0, 200);
    hangs.set(Mood::Answers(200));
    wait_events(&hangs, &[firing(1), firing(2)]);
}

#[test]
fn what_a_receiver_refuses_is_given_up_and_the_next_goes_on() {
    let receiver = Receiver::start(Mood::Answers(400));
    let manager = start(&receiver, &[]);
    let fleet = Fleet::start(&manager);
    fleet.share([1]);
    let got = receiver.wait("three attempts", |got| got.len() >= 3);
    assert!(got.iter().all(|one| one.events() == [firing(1)]), "{got:#?}");
    wait_waiting(&manager, 0);
    let log = manager.log();
    assert!(log.contains("it answered 400; 1 notifications, given up"), "{log}");
    // Too many requests is no refusal: it is tried again.
    receiver.set(Mood::Answers(429));
    fleet.share([1, 2]);
    let got = receiver.wait("four attempts more", |got| got.len() >= 7);
    assert!(got[3..].iter().all(|one| one.events() == [firing(2)]), "{got:#?}");
    receiver.set(Mood::Answers(200));
    wait_events(&receiver, &[firing(2)]);
}

#[test]
fn messages_are_signed_grouped_and_not_too_many() {
    let receiver = Receiver::start(Mood::Answers(200));
    let secret = tempfile::tempdir().unwrap();
    let file = secret.path().join("notify");
    std::fs::write(&file, SECRET).unwrap();
    chmod600(&file);
    let manager = start(&receiver, &[("NOTIFY_SECRET_FILE", file.to_str().unwrap())]);
    let fleet = Fleet::start(&manager);
    // 25 alarms within one evaluation, and one that follows soon.
    fleet.share(1..=25);
    receiver.wait("the first message", |got| !got.is_empty());
    fleet.share(1..=26);
    receiver.wait("26 alarms", |_| receiver.events().len() >= 26);
    fleet.share([]);
    let got = receiver.wait("26 alarms are over", |_| receiver.events().len() >= 52);
    let events = receiver.events();
    for number in 1..=26 {
        let about: Vec<_> = events.iter().filter(|event| event.ends_with(&key(number).to_string())).collect();
        assert_eq!(about, [&firing(number), &resolved(number)], "each once, the recovery last");
    }
    assert!(got.iter().all(|one| one.events().len() <= 20), "at most 20 together");
    assert!(got.iter().any(|one| one.events().len() == 20) && got.len() <= 8, "{} messages", got.len());
    for pair in got.windows(2) {
        let apart = pair[1].at - pair[0].at;
        assert!(apart >= Duration::from_millis(4900), "two messages within {apart:?}");
    }
    for one in &got {
        assert_eq!(one.header("content-type"), "application/json");
        assert!(verifies(one, "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), "{one:#?}");
        let mut changed = one.clone();
        *changed.body.last_mut().unwrap() ^= 1;
        assert!(!verifies(&changed, "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"));
    }
    let told = String::from_utf8(manager.get("/status/alarms").1.to_string().into_bytes()).unwrap();
    assert!(!told.contains(SECRET) && !manager.log().contains(SECRET));
}

/// As the specification of Standard Webhooks tells receivers to: the secret's base64, the signed text
/// `ID.TIMESTAMP.BODY`, any of the signatures that are given, a timestamp within five minutes.
fn verifies(got: &Got, secret: &str) -> bool {
    let sent: i64 = got.header("webhook-timestamp").parse().unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&STANDARD.decode(secret).unwrap()).unwrap();
    let signed = [got.id().as_bytes(), b".", got.header("webhook-timestamp").as_bytes(), b".", &got.body];
    signed.iter().for_each(|part| mac.update(part));
    let expected = mac.finalize().into_bytes();
    let given = got.header("webhook-signature").split(' ').filter_map(|one| one.strip_prefix("v1,"));
    let fits = given.filter_map(|one| STANDARD.decode(one).ok()).any(|one| one == expected.as_slice());
    fits && (now_ms() / 1000 - sent).abs() < 300
}
