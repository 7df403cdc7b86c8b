//! The clients: threads that send the fleet's reports, flat out or at a pace, and verify each answer.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use proto::ack::{self, Code};
use proto::envelope::Sealed;

use super::account::Account;
use super::client::Client;
use super::fleet::{Fleet, Scribe};
use super::histogram::Histogram;
use super::host::mix;
use crate::{Error, Result};

/// Enough for a client's frames; the default of 8 MiB for each would be mapped for nothing.
const STACK: usize = 256 << 10;
/// A client that meets this many failures in a row gives up: the server is gone.
const GIVE_UP: u32 = 20;

/// How long a load goes on.
#[derive(Debug, Clone, Copy)]
pub(super) enum Until {
    /// For some time.
    Time(Duration),
    /// Until every agent reported this often.
    Rounds(u32),
}

/// What a good answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expect {
    /// A signed answer that says `stored`.
    Stored,
    /// The same bytes.
    Echo,
}

/// A load.
#[derive(Debug, Clone)]
pub(super) struct Load {
    /// The server.
    pub(super) address: SocketAddr,
    /// Where reports are posted.
    pub(super) path: &'static str,
    /// The agents that report.
    pub(super) agents: Range<u32>,
    /// Threads; each has its share of the agents, one report under way.
    pub(super) clients: u32,
    /// Reports per second of all agents together; `None` is flat out.
    pub(super) rate: Option<f64>,
    /// When it ends.
    pub(super) until: Until,
    /// What a good answer is.
    pub(super) expect: Expect,
    /// Latencies are also kept apart for each such stretch of time.
    pub(super) window: Duration,
}

/// What came of a load.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Reports answered as expected.
    pub(super) reports: u64,
    /// Bytes sent and received for all of them, as TCP carries them.
    pub(super) wire: u64,
    /// All others.
    pub(super) failed: u64,
    /// What the first of those met.
    pub(super) failure: Option<String>,
    /// From the first report to the last answer.
    pub(super) elapsed: Duration,
    /// From connecting to the whole answer, of answered reports.
    pub(super) latency: Histogram,
    /// The same for each window.
    pub(super) windows: Vec<Histogram>,
    /// How late the client itself was in sending at its pace.
    pub(super) late: Histogram,
    /// CPU that the clients used (µs).
    pub(super) client_cpu_us: u64,
}

/// Counts that others may look at while a load goes on.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Reports answered as expected.
    pub(super) reports: AtomicU64,
}

impl Load {
    /// Sends until the end.
    ///
    /// # Errors
    /// When no threads can be had, or the simulated report is none.
    pub(super) fn run(&self, fleet: &Fleet, progress: &Progress) -> Result<Outcome> {
        let clients = self.clients.min(u32::try_from(self.agents.len()).unwrap_or(u32::MAX)).max(1);
        let sum = Mutex::new(Outcome::default());
        let before = Account::of(std::process::id())?.cpu_us;
        let start = Instant::now();
        thread::scope(|scope| {
            let clients: Vec<_> = (0..clients)
                .map(|number| {
                    let (scribe, sum) = (Scribe::new(fleet)?, &sum);
                    thread::Builder::new()
                        .stack_size(STACK)
                        .spawn_scoped(scope, move || {
                            let mut run = Run { load: self, fleet, number, clients, start, progress };
                            let outcome = run.all(scribe);
                            sum.lock().unwrap_or_else(std::sync::PoisonError::into_inner).add(outcome);
                        })
                        .map_err(Error::io("a client thread"))
                })
                .collect::<Result<_>>()?;
            for client in clients {
                client.join().map_err(|_| Error::Plan("a client panicked".to_owned()))?;
            }
            Ok::<_, Error>(())
        })?;
        let mut outcome = sum.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        outcome.elapsed = start.elapsed();
        outcome.client_cpu_us = Account::of(std::process::id())?.cpu_us - before;
        Ok(outcome)
    }
}

impl Outcome {
    fn add(&mut self, other: Self) {
        self.reports += other.reports;
        self.wire += other.wire;
        self.failed += other.failed;
        self.failure = self.failure.take().or(other.failure);
        self.latency.merge(&other.latency);
        self.late.merge(&other.late);
        if self.windows.len() < other.windows.len() {
            self.windows.resize_with(other.windows.len(), Histogram::default);
        }
        for (window, more) in self.windows.iter_mut().zip(&other.windows) {
            window.merge(more);
        }
    }
}

/// One client's work.
struct Run<'a> {
    load: &'a Load,
    fleet: &'a Fleet,
    number: u32,
    clients: u32,
    start: Instant,
    progress: &'a Progress,
}

impl Run<'_> {
    fn all(&mut self, mut scribe: Scribe<'_>) -> Outcome {
        let mut client = Client::new(self.load.address);
        let mut outcome = Outcome::default();
        let mut in_a_row = 0;
        for turn in 0.. {
            let Some((agent, due)) = self.turn(turn) else { break };
            if let Some(due) = due {
                let early = due.saturating_duration_since(Instant::now());
                if !early.is_zero() {
                    thread::sleep(early);
                }
                outcome.late.add(due.elapsed());
            }
            let sealed = scribe.next(agent);
            let sent = Instant::now();
            match self.send(&mut client, &sealed) {
                Ok(()) => {
                    let latency = sent.elapsed();
                    in_a_row = 0;
                    outcome.reports += 1;
                    outcome.latency.add(latency);
                    self.window(&mut outcome, sent).add(latency);
                    self.progress.reports.fetch_add(1, Ordering::Relaxed);
                    self.fleet.stored(agent);
                }
                Err(why) => {
                    in_a_row += 1;
                    outcome.failed += 1;
                    outcome.failure.get_or_insert(why);
                    if in_a_row >= GIVE_UP {
                        break;
                    }
                }
            }
        }
        outcome.wire = client.wire();
        outcome
    }

    /// Which agent reports in a client's turn, and when at a pace; `None` at the end.
    fn turn(&self, turn: u32) -> Option<(u32, Option<Instant>)> {
        let Load { agents, rate, until, .. } = self.load;
        let all = u32::try_from(agents.len()).ok()?;
        // Client n has the agents n, n + clients, ...
        let share = (all - self.number).div_ceil(self.clients);
        let agent = agents.start + self.number + turn % share * self.clients;
        let due = rate.map(|rate| {
            let jitter = mix(u64::from(self.number) << 32 | u64::from(turn)) >> 32;
            let jitter = f64::from(u32::try_from(jitter).unwrap_or(0)) / f64::from(u32::MAX);
            self.start + Duration::from_secs_f64((f64::from(turn) + jitter) * f64::from(self.clients) / rate)
        });
        let goes_on = match *until {
            Until::Rounds(rounds) => turn / share < rounds,
            // A server that cannot keep the pace does not make the run longer.
            Until::Time(time) => Instant::now().max(due.unwrap_or(self.start)) < self.start + time,
        };
        goes_on.then_some((agent, due))
    }

    fn send(&self, client: &mut Client, sealed: &Sealed) -> std::result::Result<(), String> {
        let answer = client.post(self.load.path, &sealed.bytes).map_err(|error| error.to_string())?;
        match self.load.expect {
            Expect::Echo if answer.status == 200 && answer.body == sealed.bytes => Ok(()),
            Expect::Echo => Err(format!("status {}, {} bytes", answer.status, answer.body.len())),
            Expect::Stored => {
                let ack = ack::open(answer.body, sealed.nonce, &sealed.mac, self.fleet.secret());
                match ack.map(|ack| ack.code) {
                    Ok(Code::Stored) => Ok(()),
                    Ok(code) => Err(format!("answered {code}")),
                    Err(error) => Err(format!("status {}: {error}", answer.status)),
                }
            }
        }
    }

    fn window<'o>(&self, outcome: &'o mut Outcome, sent: Instant) -> &'o mut Histogram {
        let window = (sent - self.start).as_millis() / self.load.window.as_millis().max(1);
        let window = usize::try_from(window).unwrap_or(0);
        if outcome.windows.len() <= window {
            outcome.windows.resize_with(window + 1, Histogram::default);
        }
        &mut outcome.windows[window]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_share_the_agents_and_keep_the_pace() {
        let fleet = Fleet::new(10, false).unwrap();
        let load = Load {
            address: "127.0.0.1:9".parse().unwrap(),
            path: "/",
            agents: 3..10,
            clients: 3,
            rate: Some(6.0),
            until: Until::Rounds(2),
            expect: Expect::Stored,
            window: Duration::from_secs(1),
        };
        let start = Instant::now();
        let progress = Progress::default();
        let mut all = Vec::new();
        for number in 0..3 {
            let run = Run { load: &load, fleet: &fleet, number, clients: 3, start, progress: &progress };
            for (turn, (agent, due)) in (0..).map_while(|turn| Some((turn, run.turn(turn)?))) {
                let second = (due.unwrap() - start).as_secs_f64();
                // Three clients at 6/s: each sends once within each half second.
                assert!((f64::from(turn) * 0.5..=f64::from(turn + 1) * 0.5).contains(&second), "{second}");
                all.push(agent);
            }
        }
        all.sort_unstable();
        assert_eq!(all, [3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9]);
    }

    #[test]
    fn a_dead_server_is_reported_and_not_waited_for() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let load = Load {
            address: closed,
            path: "/",
            agents: 0..4,
            clients: 2,
            rate: None,
            until: Until::Time(Duration::from_secs(60)),
            expect: Expect::Stored,
            window: Duration::from_secs(1),
        };
        let outcome = load.run(&Fleet::new(4, false).unwrap(), &Progress::default()).unwrap();
        assert_eq!((outcome.reports, outcome.failed), (0, 2 * u64::from(GIVE_UP)));
        assert!(outcome.failure.unwrap().contains("refused"));
    }
}
