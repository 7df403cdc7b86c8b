//! Messages of other agents, sent through the built agent.

use std::thread;
use std::time::Duration;

use gate::Answer;
use kattila_agent::push::Client;
use proto::ack::{self, Ack, Code, Details};
use proto::envelope::{Draft, Envelope, Sealed};
use proto::ids::{AgentId, BootId, Nonce};
use proto::limits;
use proto::report::Report;
use proto::sign::Kind;

use crate::fake::{Agent, Manager, PATIENCE, Reaction, now_ms, reports, secret, usual, wait_until};

const SENDER: AgentId = AgentId([0x5e; 16]);

fn message(kind: Kind, psk: u8, sent_at: i64) -> Sealed {
    let json = serde_json::to_vec(&Report::default()).unwrap();
    let (boot, nonce) = (BootId([1; 16]), Nonce::random().unwrap());
    Draft { kind, agent: SENDER, boot, tick: 1, nonce, json: &json }.seal(&secret(psk), sent_at)
}

fn report() -> Sealed {
    message(Kind::Report, 1, now_ms())
}

/// An agent whose own reports are few, once it has delivered its first.
fn relay(manager: &Manager) -> Agent {
    let mut agent = Agent::new(&manager.url);
    agent.set("REPORT_INTERVAL", "3600");
    let agent = agent.start();
    wait_until("a success", || agent.peer().reach.distance);
    agent
}

fn post(agent: &Agent, bytes: &[u8]) -> (u16, Vec<u8>) {
    Client::new().post(&agent.url("/status/relay"), bytes, PATIENCE).unwrap()
}

/// HTTP status, and the code and message of a signed answer to `sent`.
fn signed(agent: &Agent, bytes: &[u8], sent: &Sealed) -> (u16, Code, String) {
    let (status, body) = post(agent, bytes);
    let ack = ack::open(&body, sent.nonce, &sent.mac, &secret(1));
    let ack = ack.unwrap_or_else(|error| panic!("{error}: {status} {}", String::from_utf8_lossy(&body)));
    (status, ack.code, ack.details.message)
}

/// HTTP status and error code of an unsigned answer.
fn unsigned(agent: &Agent, bytes: &[u8]) -> (u16, String) {
    let (status, body) = post(agent, bytes);
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    (status, body["error"]["code"].as_str().unwrap().to_owned())
}

fn health(agent: &Agent) -> serde_json::Value {
    let (_, body) = Client::new().get(&agent.url("/status/healthcheck"), PATIENCE).unwrap();
    serde_json::from_slice(&body).unwrap()
}

#[test]
fn a_report_goes_on_byte_for_byte_with_one_hop_more_and_the_answer_comes_back() {
    let manager = Manager::start(usual);
    let agent = relay(&manager);
    let id = agent.peer().agent;
    for kind in [Kind::Report, Kind::Register] {
        let sent = message(kind, 1, now_ms());
        let expected = if kind == Kind::Report { Code::Stored } else { Code::Registered };
        assert_eq!(signed(&agent, &sent.bytes, &sent), (200, expected, String::new()));
        let received =
            manager.received().into_iter().find(|message| message.header.nonce == sent.nonce).unwrap();
        let path = &received.header.path;
        assert_eq!((path.len(), path[0].agent, received.header.agent), (1, id, SENDER));
        assert!((path[0].at - now_ms()).abs() < 30_000);
        let envelope = Envelope::parse(&sent.bytes).unwrap();
        assert_eq!(
            serde_json::from_slice::<serde_json::Value>(&envelope.json().unwrap()).unwrap(),
            received.json
        );
        let with_hop = Envelope { header: received.header, payload: envelope.payload };
        assert!(with_hop.is_signed_with(&secret(1)) && with_hop.hops_are_signed_with(&[&secret(1)]));
    }
    assert_eq!(health(&agent)["relay"]["passed"], 2);
}

#[test]
fn loops_full_paths_repeats_and_old_messages_get_a_signed_refusal() {
    let manager = Manager::start(usual);
    let agent = relay(&manager);
    let id = agent.peer().agent;
    let refused = |message: &str| (508, Code::RelayRefused, message.to_owned());
    let with_hops = |sent: &Sealed, hops: &[AgentId]| {
        let mut envelope = Envelope::parse(&sent.bytes).unwrap();
        for &hop in hops {
            envelope.header.add_hop(hop, now_ms(), &secret(1)).unwrap();
        }
        envelope.to_bytes()
    };
    let sent = report();
    assert_eq!(signed(&agent, &with_hops(&sent, &[id]), &sent), refused("loop"));
    assert_eq!(
        signed(&agent, &with_hops(&sent, &[7, 8, 9].map(|n| AgentId([n; 16]))), &sent),
        refused("hops")
    );
    // Refused ones were not remembered; this one passes, and not again, whatever path is forged.
    assert_eq!(signed(&agent, &with_hops(&sent, &[AgentId([7; 16])]), &sent).1, Code::Stored);
    assert_eq!(signed(&agent, &sent.bytes, &sent), refused("seen"));
    let old = message(Kind::Report, 1, now_ms() - 601_000);
    let (status, code, _) = signed(&agent, &old.bytes, &old);
    assert_eq!((status, code), (409, Code::ClockSkew));
    let (boot, nonce) = (BootId([1; 16]), Nonce([2; 16]));
    let own =
        Draft { kind: Kind::Report, agent: id, boot, tick: 1, nonce, json: b"{}" }.seal(&secret(1), now_ms());
    assert_eq!(signed(&agent, &own.bytes, &own), refused("loop"));
    assert_eq!(manager.reports().len(), 2, "its own first report and the one that passed");
    assert_eq!(health(&agent)["relay"]["refused"], 5);
}

#[test]
fn what_no_holder_of_a_psk_sent_goes_nowhere() {
    let manager = Manager::start(usual);
    let agent = relay(&manager);
    let before = manager.received().len();
    assert_eq!(unsigned(&agent, &message(Kind::Report, 2, now_ms()).bytes), (401, "bad_mac".into()));
    assert_eq!(unsigned(&agent, &message(Kind::Reset, 1, now_ms()).bytes), (400, "wrong_kind".into()));
    assert_eq!(unsigned(&agent, b"{}\n{}"), (400, "bad_envelope".into()));
    let sent = report();
    let mut forged = Envelope::parse(&sent.bytes).unwrap();
    forged.header.add_hop(AgentId([7; 16]), now_ms(), &secret(2)).unwrap();
    assert_eq!(unsigned(&agent, &forged.to_bytes()), (401, "bad_path".into()));
    let hop = forged.header.path[0].clone();
    for (hops, refusal) in
        [(4, (400, "bad_envelope")), (100, (400, "bad_envelope")), (2000, (413, "too_large"))]
    {
        forged.header.path = vec![hop.clone(); hops];
        assert_eq!(unsigned(&agent, &forged.to_bytes()), (refusal.0, refusal.1.to_owned()), "{hops}");
    }
    let huge = vec![b' '; limits::ENVELOPE_MAX + 1];
    assert_eq!(unsigned(&agent, &huge), (413, "too_large".into()));
    assert_eq!((manager.received().len(), manager.refused()), (before, 0));
}

#[test]
fn a_relay_without_a_way_says_so_quickly_and_asks_no_one_for_a_while() {
    let manager = Manager::start(usual);
    let agent = relay(&manager);
    drop(manager);
    let start = std::time::Instant::now();
    for _ in 0..20 {
        assert_eq!(unsigned(&agent, &report().bytes), (502, "no_way".into()));
    }
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    let health = health(&agent);
    assert_eq!(health["relay"]["no_way"], 20);
    assert!(health["sent"]["manager"].as_u64().unwrap() <= 5, "{health}");
    assert_eq!(agent.peer().reach.distance, None, "neighbours learn that it is no relay now");
}

#[test]
fn an_unsigned_success_is_no_success_for_the_sender_either() {
    let manager = Manager::start(reports(|message| match message.header.agent {
        SENDER => Reaction::Raw(Answer::text(200, "ok")),
        _ => Reaction::Ack(Code::Stored),
    }));
    let agent = relay(&manager);
    assert_eq!(unsigned(&agent, &report().bytes), (502, "no_way".into()));
    let forged = Manager::start(reports(|message| {
        let ack = Ack { code: Code::Stored, at: now_ms(), details: Details::default() };
        let psk = if message.header.agent == SENDER { secret(5) } else { secret(1) };
        Reaction::Raw(Answer::json(200, ack::seal(&ack, message.header.nonce, &message.header.mac, &psk)))
    }));
    let agent = relay(&forged);
    assert_eq!(unsigned(&agent, &report().bytes), (502, "no_way".into()));
}

#[test]
fn a_psk_that_the_manager_does_not_know_is_told_to_the_sender() {
    let manager = Manager::start(usual);
    let agent = relay(&manager);
    manager.accept(&[2]);
    assert_eq!(unsigned(&agent, &report().bytes), (401, "bad_mac".into()));
    assert_eq!(agent.peer().reach.distance, Some(0), "that says nothing of the way");
}

#[test]
fn a_message_that_does_not_verify_has_the_relay_read_its_psk() {
    let manager = Manager::start(usual);
    let mut agent = Agent::new(&manager.url);
    agent.set("REPORT_INTERVAL", "3600");
    let agent = agent.start();
    wait_until("a success", || agent.peer().reach.distance);
    manager.accept(&[2, 1]);
    agent.rotate_psk(2);
    // It reads no more often than every 10 s, and has just begun.
    thread::sleep(Duration::from_secs(11));
    let sent = message(Kind::Report, 2, now_ms());
    assert_eq!(unsigned(&agent, &sent.bytes).0, 401);
    wait_until("the relay to have read the new one", || {
        let sent = message(Kind::Report, 2, now_ms());
        (post(&agent, &sent.bytes).0 == 200).then_some(())
    });
}

#[test]
fn a_manager_that_hangs_keeps_the_relay_neither_from_answering_nor_from_others() {
    let manager = Manager::start(reports(|message| match message.header.agent {
        SENDER => Reaction::Hang,
        _ => Reaction::Ack(Code::Stored),
    }));
    let agent = relay(&manager);
    let statuses: Vec<u16> = thread::scope(|scope| {
        let senders: Vec<_> = (0..30).map(|_| scope.spawn(|| post(&agent, &report().bytes).0)).collect();
        for _ in 0..10 {
            let start = std::time::Instant::now();
            health(&agent);
            agent.peer();
            assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        }
        senders.into_iter().map(|sender| sender.join().unwrap()).collect()
    });
    assert!(statuses.iter().all(|status| matches!(status, 502 | 503)), "{statuses:?}");
    assert!(statuses.contains(&503), "one source does not fill the pool: {statuses:?}");
    assert!(health(&agent)["relay"]["busy"].as_u64().unwrap() > 0);
}
