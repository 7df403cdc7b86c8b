//! Prints what the agent would report of this host: `collect [TURNS]`. With a number of turns it
//! reads the host that often and prints the last reading, for `time` to be put before it.

use std::time::SystemTime;

use kattila_agent::collect::{Sources, collect, hardware_id};

#[expect(clippy::print_stdout, reason = "printing is its purpose")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let turns: u32 = std::env::args().nth(1).map_or(Ok(1), |count| count.parse())?;
    let sources = Sources::system();
    for _ in 1..turns {
        let _ = collect(&sources, SystemTime::now());
    }
    let (system, problems) = collect(&sources, SystemTime::now());
    println!("{}", serde_json::to_string_pretty(&system)?);
    println!("{}", serde_json::to_string_pretty(&problems)?);
    println!("hardware {}", hardware_id(&sources));
    Ok(())
}
