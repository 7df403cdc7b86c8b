//! What the terminal is like: its size, and whether it wants colour.

use std::fs::File;
use std::io::IsTerminal as _;
use std::process::{Command, Stdio};

use super::table::Look;

/// Columns where nobody says how many there are: for pipes and files, where lines may be long.
const WIDE: usize = 160;
/// Columns of a terminal that does not tell.
const USUAL: usize = 80;

/// Whether a terminal shows what is printed.
pub(super) fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// How to print; within `height` lines where it is given.
pub(super) fn look(height: Option<usize>) -> Look {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let terminal = is_terminal();
    let told = variable("COLUMNS").and_then(|columns| columns.parse().ok()).filter(|columns| *columns > 0);
    let width =
        told.or_else(|| terminal.then(|| size().map_or(USUAL, |(_, columns)| columns))).unwrap_or(WIDE);
    // https://no-color.org
    let dumb = variable("TERM").is_none_or(|term| term == "dumb");
    Look { width, height, color: terminal && !dumb && variable("NO_COLOR").is_none() }
}

/// Lines of the terminal.
pub(super) fn lines() -> Option<usize> {
    size().map(|(lines, _)| lines)
}

/// Lines and columns, as `stty` says: asking the kernel takes an ioctl, and so code that is unsafe.
fn size() -> Option<(usize, usize)> {
    let terminal = File::open("/dev/tty").ok()?;
    let mut stty = Command::new("stty");
    let output = stty.arg("size").stdin(terminal).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (lines, columns) = text.trim().split_once(' ')?;
    let size = (lines.parse().ok()?, columns.parse().ok()?);
    (size.0 > 0 && size.1 > 0).then_some(size)
}
