//! Bounded reading of small and of endless files.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::path::Path;

/// Largest file that is read whole: /proc/meminfo and os-release have under 4 KiB, and an attribute
/// of /sys has at most one page.
const SMALL_MAX: u64 = 64 << 10;

/// Bytes of a list in /proc that are read at most: 31,000 IPv4 routes, 27,000 IPv6 ones, or 50,000
/// neighbours. A router with a full internet table has 900,000, which would cost seconds each turn.
pub(super) const LIST_MAX: u64 = 4 << 20;

/// Reads small files, one after the other, into one buffer.
#[derive(Debug, Default)]
pub(super) struct SmallFiles {
    buffer: Vec<u8>,
}

impl SmallFiles {
    /// The text of the file at `path`.
    ///
    /// # Errors
    /// What the kernel says; also when the file is over 64 KiB long or not UTF-8.
    pub(super) fn read(&mut self, path: &Path) -> io::Result<&str> {
        self.buffer.clear();
        let read = File::open(path)?.take(SMALL_MAX + 1).read_to_end(&mut self.buffer)?;
        if u64::try_from(read).is_ok_and(|read| read > SMALL_MAX) {
            return Err(io::Error::new(ErrorKind::FileTooLarge, "over 64 KiB"));
        }
        std::str::from_utf8(&self.buffer).map_err(|_| io::Error::new(ErrorKind::InvalidData, "not UTF-8"))
    }
}

/// Gives every line of the file at `path` to `each`, with its number from 1, holding one line at a
/// time. Bytes that are not UTF-8 arrive as U+FFFD. Says whether the file was cut at `max` bytes,
/// where a line that was cut through is left out.
///
/// # Errors
/// What the kernel says.
pub(super) fn each_line(path: &Path, max: u64, each: &mut dyn FnMut(usize, &str)) -> io::Result<bool> {
    let mut reader = BufReader::with_capacity(4 << 10, File::open(path)?.take(max));
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 {
            return Ok(reader.get_ref().limit() == 0);
        }
        let is_cut = reader.get_ref().limit() == 0 && line.last() != Some(&b'\n');
        if !is_cut {
            number += 1;
            each(number, &String::from_utf8_lossy(&line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_file_is_text_of_at_most_64_kib() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let mut files = SmallFiles::default();
        std::fs::write(&path, "long text").unwrap();
        assert_eq!(files.read(&path).unwrap(), "long text");
        std::fs::write(&path, "short").unwrap();
        assert_eq!(files.read(&path).unwrap(), "short");
        std::fs::write(&path, [0xff]).unwrap();
        assert_eq!(files.read(&path).unwrap_err().kind(), ErrorKind::InvalidData);
        std::fs::write(&path, vec![b'x'; (64 << 10) + 1]).unwrap();
        assert_eq!(files.read(&path).unwrap_err().kind(), ErrorKind::FileTooLarge);
        assert_eq!(files.read(dir.path().join("no").as_path()).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn a_list_is_cut_between_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "one\ntwo\nthree").unwrap();
        let lines = |max| {
            let mut lines = Vec::new();
            let cut =
                each_line(&path, max, &mut |number, line| lines.push(format!("{number}{line}"))).unwrap();
            (cut, lines.concat())
        };
        assert_eq!(lines(100), (false, "1one\n2two\n3three".to_owned()));
        assert_eq!(lines(6), (true, "1one\n".to_owned()));
        assert_eq!(lines(8), (true, "1one\n2two\n".to_owned()));
    }
}
