//! DEFLATE (RFC 1951) of what is large and repeats itself; inflating never yields more than asked for.

use std::fmt;
use std::io;

use miniz_oxide::deflate::core::{
    CompressorOxide, TDEFLFlush, TDEFLStatus, compress_to_output, create_comp_flags_from_zip_params,
};
use miniz_oxide::inflate::stream::{self, InflateState};
use miniz_oxide::inflate::{TINFLStatus, decompress_to_vec_with_limit};
use miniz_oxide::{DataFormat, MZError, MZFlush, MZStatus};

/// Effort 6 of 10: higher ones cost more and gain little on JSON.
const EFFORT: u8 = 6;

/// The bytes, deflated.
#[must_use]
pub fn deflate(bytes: &[u8]) -> Vec<u8> {
    miniz_oxide::deflate::compress_to_vec(bytes, EFFORT)
}

/// Deflates what is written to it, so that a large text never stands in memory whole. Small writes want
/// a [`io::BufWriter`] before it.
pub struct Deflater {
    state: Box<CompressorOxide>,
    out: Vec<u8>,
}

impl Deflater {
    /// One that nothing was written to.
    #[must_use]
    pub fn new() -> Self {
        // No window bits: raw DEFLATE without a header, as `deflate` makes it.
        let flags = create_comp_flags_from_zip_params(i32::from(EFFORT), 0, 0);
        Self { state: Box::new(CompressorOxide::new(flags)), out: Vec::new() }
    }

    /// All that was written, deflated.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        let status = self.feed(&[], TDEFLFlush::Finish);
        debug_assert_eq!(status, TDEFLStatus::Done);
        self.out.shrink_to_fit();
        self.out
    }

    fn feed(&mut self, bytes: &[u8], flush: TDEFLFlush) -> TDEFLStatus {
        let Self { state, out } = self;
        let keep = |deflated: &[u8]| {
            // By a quarter, not by as much again: what comes of a large text is large.
            if out.capacity() - out.len() < deflated.len() {
                out.reserve_exact(deflated.len().max(out.len() / 4));
            }
            out.extend_from_slice(deflated);
            true
        };
        compress_to_output(state, bytes, flush, keep).0
    }
}

impl Default for Deflater {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Deflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deflater").field("out", &self.out.len()).finish_non_exhaustive()
    }
}

impl io::Write for Deflater {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.feed(bytes, TDEFLFlush::None) {
            TDEFLStatus::Okay | TDEFLStatus::Done => Ok(bytes.len()),
            status => Err(io::Error::other(format!("deflate: {status:?}"))),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Why bytes do not inflate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InflateError {
    /// To more than was asked for.
    TooLarge,
    /// They are not deflated, or cut short.
    Broken,
}

impl fmt::Display for InflateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "inflates to more than allowed",
            Self::Broken => "does not inflate",
        })
    }
}

/// What `deflated` stands for, at most `limit` bytes.
///
/// # Errors
/// See [`InflateError`].
pub fn inflate(deflated: &[u8], limit: usize) -> Result<Vec<u8>, InflateError> {
    decompress_to_vec_with_limit(deflated, limit).map_err(|error| match error.status {
        TINFLStatus::HasMoreOutput => InflateError::TooLarge,
        _ => InflateError::Broken,
    })
}

/// Inflates while it is read, so that neither a large text nor what it is made of stands in memory whole. Nothing
/// bounds what comes out: not for bytes of strangers.
pub struct Inflater<R> {
    state: Box<InflateState>,
    deflated: R,
}

impl<R: io::BufRead> Inflater<R> {
    /// What `deflated` stands for.
    #[must_use]
    pub fn new(deflated: R) -> Self {
        Self { state: InflateState::new_boxed(DataFormat::Raw), deflated }
    }
}

impl<R> fmt::Debug for Inflater<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflater").finish_non_exhaustive()
    }
}

impl<R: io::BufRead> io::Read for Inflater<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let deflated = self.deflated.fill_buf()?;
            let step = stream::inflate(&mut self.state, deflated, out, MZFlush::None);
            self.deflated.consume(step.bytes_consumed);
            match step.status {
                Ok(_) if step.bytes_written > 0 || out.is_empty() => return Ok(step.bytes_written),
                Ok(MZStatus::StreamEnd) => return Ok(0),
                // What was left of it so far made nothing yet.
                Ok(_) | Err(MZError::Buf) if step.bytes_consumed > 0 => {}
                // No progress: the rest is missing.
                _ => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, InflateError::Broken.to_string()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};

    #[test]
    fn what_goes_in_comes_out_and_not_a_byte_more_than_asked_for() {
        let text = b"again and ".repeat(1000);
        let deflated = deflate(&text);
        assert!(deflated.len() < 100);
        assert_eq!(inflate(&deflated, text.len()), Ok(text.clone()));
        assert_eq!(inflate(&deflated, text.len() - 1), Err(InflateError::TooLarge));
        assert_eq!(inflate(&deflated[..20], text.len()), Err(InflateError::Broken));
        assert_eq!(inflate(b"\xff\xff", 100), Err(InflateError::Broken));
    }

    #[test]
    fn pieces_deflate_as_the_whole_does() {
        let text: Vec<u8> = (0..60_000_u32).flat_map(|n| format!("{},", n * n % 7919).into_bytes()).collect();
        for piece in [1, 1000, text.len()] {
            let mut deflater = Deflater::new();
            for bytes in text.chunks(piece) {
                deflater.write_all(bytes).unwrap();
            }
            let deflated = deflater.finish();
            assert_eq!(inflate(&deflated, text.len()).as_ref(), Ok(&text), "in pieces of {piece}");
            assert!(deflated.len() < text.len() / 2);
            let mut read = Vec::new();
            let pieces = io::BufReader::with_capacity(piece, &*deflated);
            io::BufReader::with_capacity(piece, Inflater::new(pieces)).read_to_end(&mut read).unwrap();
            assert_eq!(read, text, "read in pieces of {piece}");
            let cut = Inflater::new(&deflated[..deflated.len() / 2]).read_to_end(&mut read);
            assert_eq!(cut.unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
        assert_eq!(
            Inflater::new(&[0xff, 0xff][..]).read(&mut [0; 9]).unwrap_err().to_string(),
            "does not inflate"
        );
        assert_eq!(inflate(&Deflater::new().finish(), 10), Ok(Vec::new()));
    }
}
