//! What the guest's steps wrote.

use crate::{Error, Result};

/// What one step left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The label given to it.
    pub label: String,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
    /// Its exit code.
    pub code: i32,
}

impl Step {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// All steps, in order, and the console.
#[derive(Clone, Debug)]
pub struct Transcript {
    /// The steps in their order.
    pub steps: Vec<Step>,
    /// What the kernel and the first process wrote to the console.
    pub console: String,
}

impl Transcript {
    /// The step of this label; the last one, where several have it.
    ///
    /// # Panics
    /// When no step has it.
    pub fn step(&self, label: &str) -> &Step {
        match self.steps.iter().rev().find(|step| step.label == label) {
            Some(step) => step,
            None => panic!("no step {label} in the transcript"),
        }
    }

    /// The standard output of a step; an error when its exit code is not 0.
    ///
    /// # Panics
    /// When no step has this label.
    pub fn ok(&self, label: &str) -> Result<String> {
        let step = self.step(label);
        if step.code == 0 {
            return Ok(step.text());
        }
        Err(Error::Command {
            host: "guest".to_owned(),
            command: label.to_owned(),
            outcome: format!("failed (exit code {})", step.code),
            said: format!("{}{}", step.text(), String::from_utf8_lossy(&step.stderr)),
        })
    }

    /// Reads what came through the serial port: for each step a line `STEP CODE OUT ERR` and as
    /// many bytes of standard output and error, at the end a line `END`. `ending` says how the
    /// guest ended, for the error when not all is there.
    pub(crate) fn read(labels: &[&str], bytes: &[u8], console: String, ending: &str) -> Result<Self> {
        let mut steps = Vec::new();
        let mut rest = bytes;
        while let Some((step, after)) = labels.get(steps.len()).and_then(|label| read_step(label, rest)) {
            steps.push(step);
            rest = after;
        }
        if steps.len() == labels.len() && rest == b"END\n" {
            return Ok(Self { steps, console });
        }
        let reached = labels.get(steps.len()).map_or("the end", |label| label);
        let lines: Vec<&str> = console.lines().collect();
        let tail = lines[lines.len().saturating_sub(30)..].join("\n");
        Err(Error::Command {
            host: "guest".to_owned(),
            command: reached.to_owned(),
            outcome: format!("was not got through ({ending}); the console ends"),
            said: tail,
        })
    }
}

fn read_step<'bytes>(label: &str, bytes: &'bytes [u8]) -> Option<(Step, &'bytes [u8])> {
    let end = bytes.iter().position(|&byte| byte == b'\n')?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?.strip_prefix("STEP ")?;
    let mut words = head.split(' ');
    let code = words.next()?.parse().ok()?;
    let out: usize = words.next()?.parse().ok()?;
    let err: usize = words.next()?.parse().ok()?;
    let (stdout, rest) = bytes[end + 1..].split_at_checked(out)?;
    let (stderr, rest) = rest.split_at_checked(err)?;
    let step = Step { label: label.to_owned(), stdout: stdout.to_vec(), stderr: stderr.to_vec(), code };
    Some((step, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &[u8] = b"STEP 0 4 0\n\x00\r\n\xffSTEP 3 0 2\nnoEND\n";

    #[test]
    fn bytes_survive() {
        let read = Transcript::read(&["one", "two"], TWO, String::new(), "").unwrap();
        assert_eq!(read.step("one").stdout, b"\x00\r\n\xff");
        assert_eq!((read.step("two").code, read.step("two").stderr.as_slice()), (3, b"no".as_slice()));
        assert!(read.ok("one").is_ok());
        assert!(read.ok("two").unwrap_err().to_string().contains("exit code 3): no"));
    }

    #[test]
    fn a_transcript_broken_off_anywhere_names_the_step() {
        for end in 0..TWO.len() {
            let error = Transcript::read(&["one", "two"], &TWO[..end], "panic: x".to_owned(), "killed");
            let text = error.unwrap_err().to_string();
            assert!(text.contains("killed") && text.ends_with("panic: x"), "{text}");
            let reached = if end < 15 {
                "one"
            } else if end < 28 {
                "two"
            } else {
                "the end"
            };
            assert!(text.starts_with(&format!("guest: `{reached}`")), "{end}: {text}");
        }
    }
}
