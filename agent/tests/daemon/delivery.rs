//! What the agent does with every kind of answer, and with none.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gate::Answer;
use proto::ack::{Code, Details};
use proto::ids::AgentId;
use proto::sign::Kind;

use crate::fake::{Agent, Manager, Reaction, free_address, now_ms, reports, secret, usual, wait_until};

const YEAR: i64 = 365 * 24 * 3_600_000;

#[test]
fn the_first_report_arrives_at_once_and_verifies() {
    let manager = Manager::start(usual);
    let mut agent = Agent::new(&manager.url);
    agent.set("REPORT_INTERVAL", "30");
    let start = Instant::now();
    let agent = agent.start();
    let reports = manager.wait_for_reports(1);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    let received = manager.received();
    assert_eq!(received[0].header.kind, Kind::Register, "the first contact comes first");
    assert_eq!(received[0].json["agent_version"], kattila_agent::VERSION);
    let (header, report) = &reports[0];
    assert_eq!((header.tick, report.interval_s, report.clock_offset_ms), (1, 30, 0));
    assert_eq!(header.agent.to_string(), agent.id_on_disk());
    assert!(
        (now_ms() - header.sent_at).abs() < 30_000 && (header.sent_at - report.observed_at).abs() < 30_000
    );
    assert!(report.system.interfaces.iter().any(|interface| interface.name == "lo"));
    assert_eq!(received[0].json["hardware"], report.hardware.as_str());
    wait_until("the success to be told", || agent.peer().reach.distance.filter(|&distance| distance == 0));
    assert_eq!(manager.reports().len(), 1, "the next one comes after the interval");
}

#[test]
fn ticks_count_and_nonces_differ() {
    let manager = Manager::start(usual);
    let _agent = Agent::new(&manager.url).start();
    let reports = manager.wait_for_reports(3);
    assert!(reports.iter().map(|(header, _)| header.tick).eq(1..=3));
    assert_ne!(reports[0].0.nonce, reports[1].0.nonce);
    assert!(reports.iter().all(|(header, _)| header.boot == reports[0].0.boot));
    assert_eq!(reports[2].1.delivery.distance, Some(0));
    assert!(reports.iter().all(|(_, report)| report.delivery.dropped == 0 && report.delivery.spooled == 0));
}

/// The host is two years behind the manager; later someone sets its clock. (Here the manager's time
/// moves instead: only the difference counts.)
#[test]
fn a_clock_two_years_behind_is_corrected_and_is_right_again_after_it_is_set() {
    let ahead = Arc::new(Mutex::new(2 * YEAR));
    let of_manager = Arc::clone(&ahead);
    let manager = Manager::start(move |message| {
        let now = now_ms() + *of_manager.lock().unwrap();
        if (message.header.sent_at - now).abs() > 600_000 {
            return Reaction::At(Code::ClockSkew, now);
        }
        let code = if message.report.is_some() { Code::Stored } else { Code::Registered };
        Reaction::At(code, now)
    });
    let agent = Agent::new(&manager.url).start();
    let is_off = |offset: i64| (offset - 2 * YEAR).abs() < 10_000;
    let corrected = wait_until("reports with the offset", || {
        manager.reports().into_iter().find(|(_, report)| is_off(report.clock_offset_ms))
    });
    assert!((corrected.1.observed_at - now_ms() - 2 * YEAR).abs() < 30_000);
    assert!((corrected.0.sent_at - now_ms() - 2 * YEAR).abs() < 30_000);
    let messages = manager.received();
    assert_eq!(messages[0].header.nonce, messages[1].header.nonce, "the same message is signed again");
    assert!(messages[1].header.sent_at - messages[0].header.sent_at > YEAR);
    assert_eq!(agent.log().matches("off the manager's").count(), 1, "{}", agent.log());

    *ahead.lock().unwrap() = 0;
    let set = manager.reports().len();
    let right = wait_until("reports without offset", || {
        manager.reports().into_iter().skip(set).find(|(_, report)| report.clock_offset_ms == 0)
    });
    assert!((right.1.observed_at - now_ms()).abs() < 30_000 && (right.0.sent_at - now_ms()).abs() < 30_000);
    let twice =
        manager.received().into_iter().filter(|message| message.header.nonce == right.0.nonce).count();
    assert_eq!(twice, 2, "in the same turn in which the manager found it off");
    wait_until("the log to say so", || agent.log().contains("clock is right again").then_some(()));
}

#[test]
fn an_unsigned_success_is_not_taken_as_delivered() {
    let manager = Manager::start(reports(|_| Reaction::Raw(Answer::text(200, "ok"))));
    let agent = Agent::new(&manager.url).start();
    let reports = manager.wait_for_reports(4);
    assert!(reports.iter().all(|(_, report)| report.delivery.distance.is_none()));
    assert!(reports.iter().any(|(_, report)| report.delivery.spooled == 1), "one waits for the next turn");
    let reach = agent.peer().reach;
    assert_eq!((reach.distance, reach.last_success_age_s), (None, None));
    assert!(reach.last_error.unwrap().contains("is that the manager?"));
}

#[test]
fn an_answer_signed_by_another_is_not_taken_as_delivered() {
    let forged = reports(|message| {
        let ack = proto::ack::Ack { code: Code::Stored, at: now_ms(), details: Details::default() };
        let bytes = proto::ack::seal(&ack, message.header.nonce, &message.header.mac, &secret(5));
        Reaction::Raw(Answer::json(200, bytes))
    });
    let manager = Manager::start(forged);
    let agent = Agent::new(&manager.url).start();
    manager.wait_for_reports(2);
    assert_eq!(agent.peer().reach.distance, None);
}

#[test]
fn redirects_are_not_followed() {
    let elsewhere = Manager::start(usual);
    let target = format!("{}/status/updates", elsewhere.url);
    let statuses = Mutex::new([301, 302, 303, 307, 308].into_iter().cycle());
    let manager = Manager::start(move |_| {
        let status = statuses.lock().unwrap().next().unwrap();
        Reaction::Raw(Answer::text(status, "").with_header("Location", &target))
    });
    let agent = Agent::new(&manager.url).start();
    manager.wait_for_reports(3);
    assert!(elsewhere.received().is_empty() && elsewhere.refused() == 0);
    assert!(agent.peer().reach.last_error.unwrap().contains("redirects are not followed"));
}

#[test]
fn a_rotated_psk_is_read_after_a_refusal_and_an_older_one_still_works() {
    let manager = Manager::start(usual);
    let agent = Agent::new(&manager.url).start();
    manager.wait_for_reports(1);
    // The manager moves on first; the agent is refused, and its file is rotated then.
    manager.accept(&[2]);
    wait_until("a refusal", || (manager.refused() > 0).then_some(()));
    agent.rotate_psk(2);
    let before = manager.reports().len();
    manager.wait_for_reports(before + 1);
    assert!(agent.log().contains("PSK has changed"), "{}", agent.log());
    // A manager that has not rotated yet gets the PSK before, in the same turn.
    manager.accept(&[1]);
    let before = manager.reports().len();
    let newest = manager.wait_for_reports(before + 2)[before + 1].0.tick;
    wait_until("all up to that one", || {
        let ticks: Vec<u64> = manager.reports().iter().map(|(header, _)| header.tick).collect();
        (1..=newest).all(|tick| ticks.contains(&tick)).then_some(())
    });
}

#[test]
fn reports_wait_for_a_psk_that_comes_late() {
    let manager = Manager::start(usual);
    let agent = Agent::new(&manager.url);
    std::fs::remove_file(agent.folder.path().join("psk")).unwrap();
    let agent = agent.start();
    wait_until("the refusal to start reporting", || {
        agent.log().contains("no PSK, reports wait").then_some(())
    });
    assert!(agent.peer().reach.last_error.is_none_or(|error| error.contains("no PSK")));
    agent.rotate_psk(1);
    let (_, report) = manager.wait_for_reports(1).remove(0);
    assert!(report.system.interfaces_total > 0);
}

#[test]
fn an_id_that_others_hold_is_changed_for_the_managers() {
    let other = AgentId([0xab; 16]);
    let manager = Manager::start(reports(move |message| {
        if message.header.agent == other {
            return Reaction::Ack(Code::Stored);
        }
        Reaction::Details(Code::DuplicateId, Details { agent: Some(other), ..Details::default() })
    }));
    let agent = Agent::new(&manager.url).start();
    let reports = manager.wait_for_reports(2);
    let (refused, taken) = (&reports[0].0, &reports[1].0);
    assert_ne!(refused.agent, other);
    assert_eq!((taken.agent, taken.tick), (other, 1), "the same report, in the same turn");
    assert_ne!(refused.boot, taken.boot);
    assert_eq!(agent.id_on_disk(), other.to_string());
    let (next, _) = manager.wait_for_reports(3).remove(2);
    assert_eq!((next.agent, next.tick, next.boot), (other, 2, taken.boot));
}

#[test]
fn the_id_of_the_first_contact_is_taken() {
    let other = AgentId([0xcd; 16]);
    let manager = Manager::start(move |message| match message.header.kind {
        Kind::Register => {
            Reaction::Details(Code::Registered, Details { agent: Some(other), ..Details::default() })
        }
        _ => Reaction::Ack(Code::Stored),
    });
    let agent = Agent::new(&manager.url).start();
    let reports = manager.wait_for_reports(2);
    assert!(reports.iter().all(|(header, _)| header.agent == other));
    assert!(reports.iter().map(|(header, _)| header.tick).eq(1..=2));
    assert_eq!(agent.id_on_disk(), other.to_string());
    let contacts = manager.received().into_iter().filter(|message| message.report.is_none()).count();
    assert_eq!(contacts, 1, "once is enough");
}

#[test]
fn a_first_contact_that_fails_does_not_keep_reports_back() {
    let manager = Manager::start(|message| match message.header.kind {
        Kind::Register => Reaction::Raw(Answer::text(404, "")),
        _ => Reaction::Ack(Code::Stored),
    });
    let _agent = Agent::new(&manager.url).start();
    manager.wait_for_reports(2);
}

#[test]
fn ticks_that_were_used_by_another_lead_to_a_new_boot() {
    let first = AtomicBool::new(true);
    let manager = Manager::start(reports(move |_| {
        Reaction::Ack(if first.swap(false, Ordering::Relaxed) { Code::Replayed } else { Code::Stored })
    }));
    let _agent = Agent::new(&manager.url).start();
    let reports = manager.wait_for_reports(2);
    assert_ne!(reports[0].0.boot, reports[1].0.boot);
    assert_ne!(reports[0].0.nonce, reports[1].0.nonce);
    assert_eq!((reports[0].0.agent, reports[1].0.tick), (reports[1].0.agent, 1));
}

#[test]
fn a_signed_refusal_drops_a_report_and_an_unsigned_one_does_not() {
    let count = AtomicUsize::new(0);
    let manager = Manager::start(reports(move |_| match count.fetch_add(1, Ordering::Relaxed) {
        0 => Reaction::Raw(Answer::text(413, "too large")),
        1 => Reaction::Raw(Answer::text(400, "malformed")),
        2 => Reaction::Ack(Code::BadPayload),
        _ => Reaction::Ack(Code::Stored),
    }));
    let _agent = Agent::new(&manager.url).start();
    let reports = manager.wait_for_reports(6);
    let counts = reports.iter().map(|(_, report)| (report.delivery.dropped, report.delivery.spooled));
    assert!(counts.eq([(0, 0), (0, 1), (0, 2), (1, 2), (1, 2), (1, 2)]), "held for ten minutes");
    assert!(reports.iter().map(|(header, _)| header.tick).eq(1..=6), "one is not in the way of others");
}

#[test]
fn a_manager_that_comes_late_gets_every_report_once_the_newest_first() {
    let mut agent = Agent::new("http://127.0.0.1:1");
    let address = free_address();
    agent.set("MANAGER_URL", &format!("http://{address}"));
    let agent = agent.start();
    wait_until("two failures", || agent.peer().reach.last_error.filter(|error| error.contains("refused")));
    std::thread::sleep(Duration::from_millis(9500));
    assert_eq!(agent.log().matches("not delivered").count(), 1, "one line for the same failure");
    let manager = Manager::start_at(&address.to_string(), usual);
    let first = manager.wait_for_reports(1).remove(0);
    let waited = first.0.tick;
    assert!(waited > 7, "{waited}");
    assert_eq!((first.1.delivery.spooled, first.1.delivery.dropped), (waited - 1, 0));
    let reports = wait_until("all that waited", || {
        let reports = manager.reports();
        (1..=waited).all(|tick| reports.iter().any(|(header, _)| header.tick == tick)).then_some(reports)
    });
    let late: Vec<_> = reports.iter().filter(|(header, _)| header.tick < waited).collect();
    assert!(late.iter().map(|(header, _)| header.tick).eq(1..waited), "oldest first and each once");
    assert!(late.is_sorted_by_key(|(_, report)| report.observed_at));
    let old = &late[0];
    assert!(old.0.sent_at - old.1.observed_at > 5000, "signed when it was sent");
    assert!(reports.iter().all(|(header, _)| header.boot == first.0.boot));
    wait_until("the log to say so", || agent.log().contains("first report delivered").then_some(()));
    let last = wait_until("nothing to wait any more", || {
        manager.reports().pop().filter(|(_, report)| report.delivery.spooled == 0)
    });
    assert_eq!(last.1.delivery.dropped, 0);
}

#[test]
fn what_waits_survives_a_restart_in_a_file_that_exists_only_in_between() {
    let address = free_address();
    let mut agent = Agent::new(&format!("http://{address}"));
    agent.set("SPOOL_FILE", "spool");
    let file = agent.folder.path().join("spool");
    let mut agent = agent.start();
    let boot = agent.peer().boot;
    std::thread::sleep(Duration::from_millis(3500));
    assert!(!file.exists(), "nothing is written in normal running");
    let (status, took) = agent.terminate();
    assert!(status.success() && took < Duration::from_secs(2), "{status}, {took:?}");
    assert!(file.exists(), "{}", agent.log());
    let manager = Manager::start_at(&address.to_string(), usual);
    let mut agent = agent.start();
    let first = manager.wait_for_reports(1).remove(0);
    assert!(first.1.delivery.spooled >= 3 && first.1.delivery.dropped == 0, "{:?}", first.1.delivery);
    assert!(!file.exists() && first.0.boot != boot && first.0.tick == 1);
    // They would look like a second agent: they wait until they are a minute old, over another restart.
    manager.wait_for_reports(3);
    assert!(manager.reports().iter().all(|(header, _)| header.boot == first.0.boot));
    assert!(agent.terminate().0.success() && file.exists());
    std::fs::write(&file, "garbage").unwrap();
    let agent = agent.start();
    wait_until("the log to name it", || agent.log().contains("is corrupt and was ignored").then_some(()));
    agent.peer();
}

#[test]
fn a_manager_that_hangs_loses_no_report_when_the_agent_is_stopped() {
    let manager = Manager::start(|_| Reaction::Hang);
    let mut agent = Agent::new(&manager.url);
    agent.set("SPOOL_FILE", "spool");
    let mut agent = agent.start();
    wait_until("a report that hangs", || (!manager.reports().is_empty()).then_some(()));
    let (status, took) = agent.terminate();
    assert!(status.success() && took < Duration::from_secs(2), "{status}, {took:?}");
    assert!(agent.log().contains("1 reports that wait are saved"), "{}", agent.log());
}

#[test]
fn a_retired_psk_is_named_as_the_manager_names_it() {
    let manager = Manager::start(|_| {
        let body = r#"{"error":{"code":"old_psk","message":"signed with a PSK that is no longer accepted"}}"#;
        Reaction::Raw(Answer::json(401, body))
    });
    let agent = Agent::new(&manager.url).start();
    let error = wait_until("the refusal", || agent.peer().reach.last_error);
    assert!(error.contains("old_psk: signed with a PSK that is no longer accepted; unsigned"), "{error}");
    assert!(agent.log().contains("old_psk"));
}

#[test]
fn a_signal_ends_it_within_two_seconds_even_while_the_manager_hangs() {
    let manager = Manager::start(|_| Reaction::Hang);
    let mut agent = Agent::new(&manager.url).start();
    wait_until("a message that hangs", || (!manager.received().is_empty()).then_some(()));
    let (status, took) = agent.terminate();
    assert!(status.success() && took < Duration::from_secs(2), "{status}, {took:?}");
}

#[test]
fn an_idle_agent_ends_at_once() {
    let manager = Manager::start(usual);
    let mut agent = Agent::new(&manager.url).start();
    manager.wait_for_reports(1);
    let (status, took) = agent.terminate();
    assert!(status.success() && took < Duration::from_secs(1), "{status}, {took:?}");
}
