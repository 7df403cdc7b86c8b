//! Writes the kernel's answers to all questions that the agent asks by netlink, as they came, for
//! the fixtures and for a look at what a host says: `netlink FOLDER` into files of that folder;
//! without a folder as hexadecimal digits, a line for each answer.
//!
//! Where it may ask for them, WireGuard's devices are among the answers, WITH THEIR PRIVATE AND
//! PRESHARED KEYS.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use kattila_agent::collect::{Netlink, NetlinkError, Question};
use kattila_agent::parse::netlink::{Messages, family};

/// WireGuard devices are looked for up to this interface index.
const INDEX_MAX: u32 = 64;

#[expect(clippy::print_stdout, reason = "printing is its purpose")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args_os().nth(1);
    let mut answers: Vec<(Question, Result<Vec<u8>, NetlinkError>)> =
        Question::ALL.map(|question| (question, Netlink::System.record(question))).into();
    let family = Netlink::System.record(Question::WireGuardFamily);
    let number = family.as_ref().ok().and_then(|bytes| family_number(bytes));
    answers.push((Question::WireGuardFamily, family));
    if let Some(family) = number {
        let questions = (1..=INDEX_MAX).map(|index| Question::WireGuard { family, index });
        let devices = questions.map(|question| (question, Netlink::System.record(question)));
        answers.extend(devices.filter(|(_, answer)| answer.is_ok()));
    }
    for (question, answer) in answers {
        let name = question.file();
        match (answer, &folder) {
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

fn family_number(answer: &[u8]) -> Option<u16> {
    family::row(Messages::new(answer).next()?.ok()?.body).ok()
}
