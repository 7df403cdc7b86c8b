//! Texts and messages of the kernel and of WireGuard's daemons as values: pure functions, one file per source.
//!
//! A row that cannot be read is an error that names its line and column, never its content, and
//! the rows after it are still read. Private and preshared keys end in [`netlink::wireguard`] and
//! [`uapi`].

pub mod host;
pub mod neighbour;
pub mod net_dev;
pub mod netlink;
pub mod route4;
pub mod route6;
pub mod sysfs;
pub mod uapi;
pub mod vlan;
pub mod x25519;

use std::fmt;
use std::str::{FromStr, SplitAsciiWhitespace};

/// A column of a row that is missing or not of the shape that the source documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadField {
    /// Which column, from 1.
    pub column: usize,
    /// What the column holds.
    pub field: &'static str,
}

/// A row that could not be read. It names where, and never repeats what stood there: some rows
/// hold keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseError {
    /// Which line, from 1.
    pub line: usize,
    /// Which column of it, from 1.
    pub column: usize,
    /// What the column should hold.
    pub field: &'static str,
}

impl ParseError {
    /// `bad`, found in line `line` (from 1).
    #[must_use]
    pub fn new(line: usize, bad: BadField) -> Self {
        Self { line, column: bad.column, field: bad.field }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: not a valid {}", self.line, self.column, self.field)
    }
}

impl std::error::Error for ParseError {}

/// What one row came to: a value, nothing (a row that does not count), or a bad column.
pub type Row<T> = Result<Option<T>, BadField>;

/// All rows of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed<T> {
    /// The values, in the text's order.
    pub rows: Vec<T>,
    /// The rows that could not be read.
    pub errors: Vec<ParseError>,
}

/// Reads every line of `text` after the first `header` ones. Blank lines do not count.
pub fn rows<T>(text: &str, header: usize, row: impl Fn(&str) -> Row<T>) -> Parsed<T> {
    let mut parsed = Parsed { rows: Vec::new(), errors: Vec::new() };
    for (index, line) in text.lines().enumerate().skip(header) {
        if line.trim().is_empty() {
            continue;
        }
        match row(line) {
            Ok(value) => parsed.rows.extend(value),
            Err(bad) => parsed.errors.push(ParseError::new(index + 1, bad)),
        }
    }
    parsed
}

/// The words of a line, one after the other, counted.
struct Fields<'a> {
    words: SplitAsciiWhitespace<'a>,
    column: usize,
}

impl<'a> Fields<'a> {
    /// The words of `line`; `before` columns were taken off it already.
    fn new(line: &'a str, before: usize) -> Self {
        Self { words: line.split_ascii_whitespace(), column: before }
    }

    /// The next word, read by `read`.
    fn take<T>(
        &mut self,
        field: &'static str,
        read: impl FnOnce(&'a str) -> Option<T>,
    ) -> Result<T, BadField> {
        self.column += 1;
        self.words.next().and_then(read).ok_or(BadField { column: self.column, field })
    }

    /// The next word as its type's text form.
    fn parse<T: FromStr>(&mut self, field: &'static str) -> Result<T, BadField> {
        self.take(field, |word| word.parse().ok())
    }

    /// Passes over `count` words, which may be missing.
    fn skip(&mut self, count: usize) {
        self.column += count;
        for _ in 0..count {
            self.words.next();
        }
    }
}

/// An interface's name as the kernel allows it (`dev_valid_name` in net/core/dev.c): 1 to 15 bytes,
/// no blanks, no slash, not `.` or `..`. Names become paths below /sys, so nothing else may pass.
/// A colon is let through: kernels before 3.17 allowed it, and old-style aliases have one.
#[must_use]
pub fn interface_name(text: &str) -> Option<&str> {
    let legal = !text.is_empty()
        && text.len() <= 15
        && text != "."
        && text != ".."
        && !text.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control());
    legal.then_some(text)
}

/// A link-layer address of `aa:bb:...` pairs in lowercase, at most 20 bytes long (InfiniBand's);
/// `None` when it is no such text or all zero.
#[must_use]
pub fn mac(text: &str) -> Option<String> {
    let bytes = colon_hex(text)?;
    bytes.iter().any(|byte| *byte != 0).then(|| text.to_ascii_lowercase())
}

/// The bytes of a text of colon-separated pairs of hexadecimal digits, 1 to 20 of them.
fn colon_hex(text: &str) -> Option<Vec<u8>> {
    if text.len() > 20 * 3 {
        return None;
    }
    text.split(':')
        .map(|pair| {
            let digits = pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit());
            digits.then(|| u8::from_str_radix(pair, 16).ok()).flatten()
        })
        .collect()
}

/// A number in hexadecimal digits alone, without `0x` or sign.
fn hex(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
    digits.then(|| u32::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_out_of_a_folder_are_none() {
        for good in ["eth0", "wg0", "br-lan", "eth0.7", "eth0:1", "enp0s31f6", "fifteen-letters"] {
            assert_eq!(interface_name(good), Some(good));
        }
        for bad in ["", ".", "..", "a/b", "../x", "a b", "a\tb", "sixteen-letters-", "a\0"] {
            assert_eq!(interface_name(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn link_layer_addresses_are_pairs() {
        assert_eq!(mac("00:1A:2b:3c:4d:5e").as_deref(), Some("00:1a:2b:3c:4d:5e"));
        for bad in ["", "*", "00:00:00:00:00:00", "0:1:2:3:4:5", "+1:02:03:04:05:06", &"aa:".repeat(30)] {
            assert_eq!(mac(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_error_says_where_and_not_what() {
        let parsed =
            rows("head\n1\n\nsecret\n3\n", 1, |line| Fields::new(line, 0).parse::<u8>("number").map(Some));
        assert_eq!(parsed.rows, [1, 3]);
        assert_eq!(parsed.errors[0].to_string(), "line 4, column 1: not a valid number");
    }
}
