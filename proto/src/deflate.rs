//! DEFLATE (RFC 1951) of what is large and repeats itself; inflating never yields more than asked for.

use std::fmt;

use miniz_oxide::inflate::{TINFLStatus, decompress_to_vec_with_limit};

/// Effort 6 of 10: higher ones cost more and gain little on JSON.
const EFFORT: u8 = 6;

/// The bytes, deflated.
#[must_use]
pub fn deflate(bytes: &[u8]) -> Vec<u8> {
    miniz_oxide::deflate::compress_to_vec(bytes, EFFORT)
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
