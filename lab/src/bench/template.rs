//! A report as text with holes: rendered once, then only the holes are written anew, so that making
//! a report costs far less than sending it.

use std::ops::Range;

/// A JSON text and where its holes are. Every hole keeps its width.
#[derive(Debug, Clone)]
pub(super) struct Template<F> {
    text: Vec<u8>,
    holes: Vec<(Range<usize>, F)>,
}

/// What marks a hole while the text is rendered.
#[derive(Debug, Clone)]
pub(super) struct Marker<F> {
    /// The text around and in the hole; it may occur several times, and must occur once at least.
    pub(super) text: String,
    /// How much of `text` comes before the hole, such as a number's key.
    pub(super) before: usize,
    /// What belongs in the hole.
    pub(super) field: F,
}

impl<F: Copy> Template<F> {
    /// Finds the holes of `text`.
    ///
    /// # Errors
    /// The marker that does not occur, or the two that overlap.
    pub(super) fn new(text: &str, markers: &[Marker<F>]) -> Result<Self, String> {
        let mut holes = Vec::new();
        for Marker { text: marker, before, field } in markers {
            let found = holes.len();
            let hole = |(start, _): (usize, &str)| (start + before..start + marker.len(), *field);
            holes.extend(text.match_indices(marker).map(hole));
            if holes.len() == found {
                return Err(format!("the marker {marker} is not in the text"));
            }
        }
        holes.sort_by_key(|(hole, _)| hole.start);
        if let Some(pair) = holes.windows(2).find(|pair| pair[0].0.end > pair[1].0.start) {
            return Err(format!("two holes overlap at byte {}", pair[1].0.start));
        }
        Ok(Self { text: text.as_bytes().to_vec(), holes })
    }

    /// Writes every hole, and gives the whole text.
    pub(super) fn fill(&mut self, mut write: impl FnMut(F, &mut [u8])) -> &[u8] {
        for (hole, field) in &self.holes {
            write(*field, &mut self.text[hole.clone()]);
        }
        &self.text
    }
}

/// Writes the last digits of a number, as many as the hole is wide. A number that is to be JSON must
/// have just that many digits.
pub(super) fn write_digits(hole: &mut [u8], mut number: u64) {
    for digit in hole.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).expect("a digit");
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_filled_and_the_rest_stays() {
        let marker = |text: &str, before, field| Marker { text: text.into(), before, field };
        let markers = [marker("\"n\":77", 4, 'n'), marker("XX", 0, 'x')];
        let mut template = Template::new(r#"{"n":77,"m":77,"a":"XX","b":["XX"]}"#, &markers).unwrap();
        let filled = template.fill(|field, hole| match field {
            'n' => write_digits(hole, 1234),
            _ => hole.copy_from_slice(b"ab"),
        });
        assert_eq!(std::str::from_utf8(filled), Ok(r#"{"n":34,"m":77,"a":"ab","b":["ab"]}"#));
    }

    #[test]
    fn a_missing_or_ambiguous_marker_is_named() {
        let marker = |text: &str| Marker { text: text.into(), before: 0, field: () };
        assert!(Template::new("{}", &[marker("XX")]).unwrap_err().contains("XX"));
        assert!(Template::new("ABC", &[marker("AB"), marker("BC")]).unwrap_err().contains("overlap"));
    }
}
