//! What `agent -check` and `manager -check` print: a line for each thing that was looked at, `ok` or what to do.

use std::fmt;

/// What became of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// All is well; in words, what was found.
    Good(String),
    /// It works, but less well than it could: what, and what to do.
    Poor(String, String),
    /// It does not work: what is wrong, and what to do.
    Bad(String, String),
    /// It could not be looked at: why not.
    Skipped(String),
}

impl Finding {
    /// All is well.
    pub fn good(what: impl Into<String>) -> Self {
        Self::Good(what.into())
    }

    /// It works less well than it could.
    pub fn poor(what: impl Into<String>, to_do: impl Into<String>) -> Self {
        Self::Poor(what.into(), to_do.into())
    }

    /// It does not work.
    pub fn bad(what: impl Into<String>, to_do: impl Into<String>) -> Self {
        Self::Bad(what.into(), to_do.into())
    }

    /// It was not looked at.
    pub fn skipped(why: impl Into<String>) -> Self {
        Self::Skipped(why.into())
    }
}

/// Findings in the order in which they were made. Shown as lines for people, greppable by their first word.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checklist {
    lines: Vec<(&'static str, Finding)>,
}

impl Checklist {
    /// Adds what was found about `subject`.
    pub fn add(&mut self, subject: &'static str, finding: Finding) {
        self.lines.push((subject, finding));
    }

    /// How many things do not work.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.lines.iter().filter(|(_, finding)| matches!(finding, Finding::Bad(..))).count()
    }

    /// The process's exit code: 0 when nothing failed, 2 when the settings did, else 1.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        let settings_failed = self.lines.iter().any(|line| matches!(line, ("settings", Finding::Bad(..))));
        match self.failed() {
            0 => 0,
            _ if settings_failed => 2,
            _ => 1,
        }
    }
}

impl fmt::Display for Checklist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (subject, finding) in &self.lines {
            let (mark, what, to_do) = match finding {
                Finding::Good(what) => ("ok", what, None),
                Finding::Poor(what, to_do) => ("warn", what, Some(to_do)),
                Finding::Bad(what, to_do) => ("FAIL", what, Some(to_do)),
                Finding::Skipped(why) => ("-", why, None),
            };
            writeln!(f, "{mark:<5} {subject:<10} {what}")?;
            if let Some(to_do) = to_do {
                writeln!(f, "{:<16} -> {to_do}", "")?;
            }
        }
        match self.failed() {
            0 => f.write_str("all well"),
            1 => f.write_str("1 check failed"),
            failed => write!(f, "{failed} checks failed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_ok_or_says_what_to_do() {
        let mut list = Checklist::default();
        list.add("psk", Finding::good("read from file psk"));
        list.add("wg", Finding::poor("no WireGuard interface is up", "bring one up"));
        assert_eq!(list.exit_code(), 0);
        list.add("manager", Finding::bad("http://10.9.0.1:5086: connection refused", "start it"));
        list.add("clock", Finding::skipped("not known without an answer of the manager"));
        let expected = "\
ok    psk        read from file psk
warn  wg         no WireGuard interface is up
                 -> bring one up
FAIL  manager    http://10.9.0.1:5086: connection refused
                 -> start it
-     clock      not known without an answer of the manager
1 check failed";
        assert_eq!((list.to_string(), list.exit_code()), (expected.to_owned(), 1));
        list.add("settings", Finding::bad("x", "y"));
        assert_eq!((list.failed(), list.exit_code()), (2, 2));
    }
}
