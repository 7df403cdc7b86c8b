//! `manager -status`: the running manager's API as a readable page in a terminal.
//!
//! ```text
//! answer   what is asked of the manager, and what it answers
//! render   agents, links and alarms in lines, problems first    table   columns that fit a width
//! terminal its width, and whether it wants colour
//! ```

mod answer;
mod render;
mod table;
mod terminal;

pub use answer::Answers;
pub use render::render;
pub use table::Look;

use std::io::Write as _;
use std::time::Duration;

use proto::psk::Secret;

use crate::error::Error;

/// Between two looks of `-watch`.
const PERIOD: Duration = Duration::from_secs(3);

/// How it is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Again and again, until Ctrl-C.
    pub watch: bool,
    /// As JSON, with everything that the API says.
    pub json: bool,
}

/// All is well.
pub const WELL: u8 = 0;
/// The manager answers, and a critical alarm fires or the manager itself fails.
pub const CRITICAL: u8 = 3;

/// Shows the state of the manager at `url` once and returns the exit code, or again and again.
///
/// # Errors
/// When the manager cannot be asked; while watching that is shown and tried again.
pub fn run(url: &str, token: Option<&Secret>, options: Options) -> Result<u8, Error> {
    if !options.watch {
        let answers = Answers::ask(url, token)?;
        // Who read it may have gone, as `head` does; the exit code still tells.
        let _ = print(&shown(&answers, options.json, &terminal::look(None)));
        return Ok(if answers.is_critical() { CRITICAL } else { WELL });
    }
    let redraw = terminal::is_terminal() && !options.json;
    loop {
        let look = terminal::look(redraw.then(terminal::lines).flatten());
        let text = match Answers::ask(url, token) {
            Ok(answers) => shown(&answers, options.json, &look),
            Err(error) if options.json => {
                format!("{}\n", serde_json::json!({ "error": error.to_string() }))
            }
            Err(error) => format!("{}\n", table::clean(&error.to_string())),
        };
        // Home, each line cleared as it is written, then what is left below: nothing flickers.
        let text = if redraw { format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n")) } else { text };
        if print(&text).is_err() {
            return Ok(WELL);
        }
        std::thread::sleep(PERIOD);
    }
}

fn print(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush())
}

fn shown(answers: &Answers, json: bool, look: &Look) -> String {
    if json { format!("{}\n", answers.json()) } else { render(answers, look) }
}
