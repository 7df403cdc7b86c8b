//! Takes many turns without waiting between them, for the benchmark: `turns COUNT STEP`, with the
//! daemon's own settings. After every STEP turns it prints a line of JSON: turns taken, resident memory
//! now and at most (KiB), and CPU time (ms).
//!
//! The loop is the daemon's, told to take the next turn at once as a reset tells it.

use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use kattila_agent::collect::{Sources, hardware_id};
use kattila_agent::config::{self, Config};
use kattila_agent::courier::Courier;
use kattila_agent::cycle::{Cycle, Nudge};
use kattila_agent::identity;
use kattila_agent::psk_keeper::PskKeeper;
use kattila_agent::push::Client;
use kattila_agent::shared::Shared;
use kattila_agent::spool::Spool;

/// Milliseconds in a clock tick of /proc/PID/stat (USER_HZ is 100).
const TICK_MS: u64 = 10;

#[expect(clippy::print_stdout, reason = "printing is its purpose")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut numbers = std::env::args().skip(1);
    let mut number =
        || numbers.next().ok_or("usage: turns COUNT STEP")?.parse::<u64>().map_err(|error| error.to_string());
    let (count, step) = (number()?, number()?.max(1));
    let config = Config::new(&config::read_settings()?)?;
    let sources = Sources::system();
    let hardware = hardware_id(&sources);
    let (agent, _) = identity::load_or_create(&config.state_dir, &hardware)?;
    let shared = Arc::new(Shared::new(agent, config.state_dir.clone(), hardware, config.interval)?);
    let spool = Arc::new(Mutex::new(Spool::new(config.spool)));
    let courier = Courier::new(Client::new(), config.manager, PskKeeper::new(config.psk, Instant::now()));
    let cycle = Cycle::new(sources, Arc::clone(&shared), courier, spool);
    let (nudge, nudges) = mpsc::channel();
    let cycle = thread::Builder::new().stack_size(512 << 10).spawn(move || cycle.run(&nudges))?;

    let mut taken = 0;
    while taken < count {
        for _ in 0..step {
            nudge.send(Nudge::Turn)?;
        }
        taken += step;
        // Every turn sends its report; one more message is the first contact.
        while u64::from(shared.counters.sent.manager.get()) < taken {
            if cycle.is_finished() {
                return Err("the loop has ended".into());
            }
            thread::sleep(Duration::from_millis(5));
        }
        println!("{}", line(taken)?);
    }
    nudge.send(Nudge::Stop)?;
    cycle.join().map_err(|_| "the loop has panicked".into())
}

fn line(turns: u64) -> Result<String, Box<dyn std::error::Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let kb = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.split_whitespace().next().unwrap_or("0").to_owned()
    };
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let rest = stat.rsplit_once(')').ok_or("no name in /proc/self/stat")?.1;
    let ticks =
        |at: usize| rest.split_whitespace().nth(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    Ok(format!(
        r#"{{"turns":{turns},"rss_kb":{},"peak_rss_kb":{},"cpu_ms":{}}}"#,
        kb("VmRSS:"),
        kb("VmHWM:"),
        (ticks(11) + ticks(12)) * TICK_MS,
    ))
}
