//! Writes the kernel's answers to all questions that the agent asks by netlink, as they came, for
//! the fixtures and for a look at what a host says: `netlink FOLDER` into files of that folder;
//! without a folder as hexadecimal digits, a line for each answer.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use kattila_agent::collect::{Netlink, Question};

#[expect(clippy::print_stdout, reason = "printing is its purpose")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args_os().nth(1);
    for question in Question::ALL {
        let name = question.name();
        match (Netlink::System.record(question), &folder) {
            (Ok(bytes), Some(folder)) => fs::write(Path::new(folder).join(name), bytes)?,
            (Ok(bytes), None) => {
                let mut digits = String::with_capacity(bytes.len() * 2);
                bytes.iter().try_for_each(|byte| write!(digits, "{byte:02x}"))?;
                println!("{name} {digits}");
            }
            (Err(error), _) => println!("{name} failed: {error}"),
        }
    }
    Ok(())
}
