//! The host's own figures: os-release, meminfo, loadavg, uptime, switches.

use proto::report::Memory;

use super::{BadField, Fields, ParseError};

/// The distribution's name from os-release(5): `PRETTY_NAME`, else `NAME`.
#[must_use]
pub fn os_release(text: &str) -> Option<String> {
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='))?;
        Some(unquote(line)).filter(|value| !value.is_empty())
    };
    value("PRETTY_NAME").or_else(|| value("NAME"))
}

/// A shell word without its quotes and backslashes, as os-release(5) asks.
fn unquote(word: &str) -> String {
    let word = word.trim();
    let quoted = ['"', '\''].iter().find_map(|quote| word.strip_prefix(*quote)?.strip_suffix(*quote));
    let mut plain = String::new();
    let mut chars = quoted.unwrap_or(word).chars();
    while let Some(c) = chars.next() {
        plain.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    plain
}

/// `/proc/meminfo`. Kernels before 3.14 have no `MemAvailable`; without swap support the swap's
/// lines are missing and count as 0.
///
/// # Errors
/// A line that is needed and whose number is not one, or line 1 when `MemTotal` is missing.
pub fn meminfo(text: &str) -> Result<Memory, ParseError> {
    let mut memory = Memory::default();
    for (index, line) in text.lines().enumerate() {
        let Some((key, rest)) = line.split_once(':') else { continue };
        let number =
            || Fields::new(rest, 1).parse("number of KiB").map_err(|b| ParseError::new(index + 1, b));
        match key {
            "MemTotal" => memory.total_kb = number()?,
            "MemAvailable" => memory.available_kb = Some(number()?),
            "MemFree" => memory.free_kb = number()?,
            "SwapTotal" => memory.swap_total_kb = number()?,
            "SwapFree" => memory.swap_free_kb = number()?,
            _ => {}
        }
    }
    if memory.total_kb == 0 {
        return Err(ParseError { line: 1, column: 1, field: "list with MemTotal" });
    }
    Ok(memory)
}

/// `/proc/loadavg`: averages over 1, 5 and 15 minutes.
///
/// # Errors
/// The column that is missing or no load.
pub fn loadavg(text: &str) -> Result<[f64; 3], ParseError> {
    let mut fields = Fields::new(text, 0);
    let mut next = || fields.take("load average", load).map_err(first_line);
    Ok([next()?, next()?, next()?])
}

/// `/proc/uptime`: whole seconds since the kernel started.
///
/// # Errors
/// When the first column is missing or no number of seconds.
pub fn uptime(text: &str) -> Result<u64, ParseError> {
    let whole = |word: &str| word.split('.').next()?.parse().ok();
    Fields::new(text, 0).take("number of seconds", whole).map_err(first_line)
}

/// A switch under /proc/sys: 0 is off.
///
/// # Errors
/// When it is no number.
pub fn switch(text: &str) -> Result<bool, ParseError> {
    Fields::new(text, 0).parse::<u32>("switch").map(|value| value != 0).map_err(first_line)
}

/// A load as the kernel prints it, `WHOLE.HUNDREDTHS` (`loadavg_proc_show` in fs/proc/loadavg.c). Read
/// as a whole number: the tables to read any floating-point number are 15 KB that nothing else needs.
fn load(word: &str) -> Option<f64> {
    let (whole, hundredths) = word.split_once('.')?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if hundredths.len() != 2 || !digits(whole) || !digits(hundredths) {
        return None;
    }
    let (whole, hundredths): (u32, u32) = (whole.parse().ok()?, hundredths.parse().ok()?);
    Some((f64::from(whole) * 100.0 + f64::from(hundredths)) / 100.0)
}

fn first_line(bad: BadField) -> ParseError {
    ParseError::new(1, bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_names_lose_their_quotes() {
        assert_eq!(
            os_release("NAME=\"Debian\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n").as_deref(),
            Some("Debian GNU/Linux 12 (bookworm)")
        );
        assert_eq!(os_release("NAME='A\\'B'\n").as_deref(), Some("A'B"));
        assert_eq!(os_release("NAME=Alpine\\ \n").as_deref(), Some("Alpine"));
        assert_eq!(os_release("PRETTY_NAMES=x\nPRETTY_NAME=\n"), None);
    }

    #[test]
    fn memory_of_old_and_new_kernels() {
        let new =
            "MemTotal:  1000 kB\nMemFree: 10 kB\nMemAvailable: 500 kB\nSwapTotal: 7 kB\nSwapFree: 6 kB\n";
        let memory = Memory {
            total_kb: 1000,
            available_kb: Some(500),
            free_kb: 10,
            swap_total_kb: 7,
            swap_free_kb: 6,
        };
        assert_eq!(meminfo(new), Ok(memory));
        assert_eq!(meminfo("MemTotal: 64 kB\nMemFree: 1 kB\n").unwrap().available_kb, None);
        assert_eq!(
            meminfo("MemTotal: 64 kB\nMemFree: x kB\n").unwrap_err().to_string(),
            "line 2, column 2: not a valid number of KiB"
        );
        assert!(meminfo("").is_err());
    }

    #[test]
    fn load_uptime_and_switches() {
        assert_eq!(loadavg("0.20 0.18 12.00 1/80 11206\n"), Ok([0.20, 0.18, 12.0]));
        for hundredths in 0..2000 {
            let text = format!("{}.{:02}", hundredths / 100, hundredths % 100);
            assert_eq!(load(&text), text.parse().ok(), "{text}");
        }
        for bad in [
            "",
            "1.00 2.00",
            "NaN 0 0",
            "inf 0 0",
            "-1.00 0.00 0.00",
            "+1.00 0.00 0.00",
            "1 0 0",
            ".10 0.00 0.00",
        ] {
            assert!(loadavg(bad).is_err(), "{bad}");
        }
        assert_eq!(uptime("350735.47 234388.90\n"), Ok(350_735));
        assert!(uptime("\n").is_err());
        assert_eq!(switch("1\n"), Ok(true));
        assert_eq!(switch("0\n"), Ok(false));
        assert!(switch("yes").is_err());
    }
}
