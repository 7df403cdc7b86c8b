//! The problems met in one turn, bounded.

use std::fmt::Display;
use std::path::Path;

use proto::limits::{PROBLEMS_MAX, TEXT_MAX};
use proto::report::Problem;

use crate::parse::ParseError;

/// The problems of one turn. What does not fit is counted.
#[derive(Debug, Default)]
pub(super) struct Problems {
    list: Vec<Problem>,
    more: usize,
}

impl Problems {
    pub(super) fn add(&mut self, source: impl Display, message: impl Display) {
        // The last place is kept for the count of those left out.
        if self.list.len() + 1 < PROBLEMS_MAX {
            self.list
                .push(Problem { source: short(source.to_string()), message: short(message.to_string()) });
        } else {
            self.more += 1;
        }
    }

    pub(super) fn add_file(&mut self, path: &Path, message: impl Display) {
        self.add(path.display(), message);
    }

    pub(super) fn into_list(mut self) -> Vec<Problem> {
        if self.more > 0 {
            let message = format!("{} further problems are not listed", self.more);
            self.list.push(Problem { source: "agent".to_owned(), message });
        }
        self.list
    }
}

/// The rows of one source that could not be read: the first one, and how many there were.
#[derive(Debug, Default)]
pub(super) struct BadRows {
    first: Option<ParseError>,
    count: usize,
}

impl BadRows {
    pub(super) fn add(&mut self, error: ParseError) {
        self.first.get_or_insert(error);
        self.count += 1;
    }

    pub(super) fn report(self, source: impl Display, problems: &mut Problems) {
        match (self.first, self.count) {
            (None, _) => {}
            (Some(error), 1) => problems.add(source, format_args!("{error}; left out")),
            (Some(error), count) => {
                problems.add(source, format_args!("{error}; {count} lines were left out"));
            }
        }
    }
}

/// A text of at most [`TEXT_MAX`] bytes, cut between characters.
pub(super) fn short(mut text: String) -> String {
    if text.len() > TEXT_MAX {
        let end = (0..=TEXT_MAX).rev().find(|index| text.is_char_boundary(*index)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_never_more_than_the_report_may_hold() {
        let mut problems = Problems::default();
        for number in 0..100 {
            problems.add("source", number);
        }
        let list = problems.into_list();
        assert_eq!(list.len(), PROBLEMS_MAX);
        assert_eq!(list[PROBLEMS_MAX - 2].message, "30");
        assert_eq!(list[PROBLEMS_MAX - 1].message, "69 further problems are not listed");
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(short("é".repeat(200)).len(), 256);
        assert_eq!(short(format!("x{}", "é".repeat(200))).len(), 255);
    }
}
