//! The text format of Prometheus, version 0.0.4.

use std::fmt::{Display, Write as _};

/// Its media type.
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a family's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, until a restart.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// All samples of one name.
#[derive(Debug)]
pub struct Family {
    name: &'static str,
    text: String,
    samples: usize,
}

impl Family {
    /// A family without samples; a counter's name ends in `_total`.
    #[must_use]
    pub fn new(name: &'static str, kind: Kind, help: &str) -> Self {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let mut text = format!("# HELP {name} ");
        escape(&mut text, help, false);
        let _ = write!(text, "\n# TYPE {name} {kind}\n");
        Self { name, text, samples: 0 }
    }

    /// Adds a sample. Each set of labels once: Prometheus refuses the whole answer otherwise.
    pub fn add(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.add_at(&Labels::new(labels), value);
    }

    /// Adds a sample whose labels serve several families.
    pub fn add_at(&mut self, labels: &Labels, value: impl Display) {
        self.samples += 1;
        let _ = writeln!(self.text, "{}{} {value}", self.name, labels.0);
    }

    /// Adds the only sample of the family.
    #[must_use]
    pub fn with(mut self, value: impl Display) -> Self {
        self.add(&[], value);
        self
    }

    /// Its samples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.samples
    }

    /// Whether there is no sample in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.samples == 0
    }

    /// Its bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.text.len()
    }
}

/// The families with samples, as they go over the wire.
#[must_use]
pub fn text(families: &[Family]) -> String {
    families.iter().filter(|family| !family.is_empty()).map(|family| family.text.as_str()).collect()
}

/// Labels as they are written; those without a value are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels(String);

impl Labels {
    /// Labels of these names and values.
    #[must_use]
    pub fn new(labels: &[(&str, &str)]) -> Self {
        let mut text = String::new();
        for (name, value) in labels.iter().filter(|(_, value)| !value.is_empty()) {
            text.push(if text.is_empty() { '{' } else { ',' });
            text.push_str(name);
            text.push_str("=\"");
            escape(&mut text, value, true);
            text.push('"');
        }
        if !text.is_empty() {
            text.push('}');
        }
        Self(text)
    }
}

/// Backslash and line feed are escaped everywhere, quotes in labels only.
fn escape(text: &mut String, value: &str, quoted: bool) {
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '"' if quoted => text.push_str("\\\""),
            c => text.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_empty_ones_left_out() {
        let mut family = Family::new("x_total", Kind::Counter, "A \\ and\na \"line\".");
        family.add(&[("a", "q\"\\\n}é"), ("none", ""), ("b", "1")], 1.5);
        family.add(&[("none", "")], 7_u64);
        let empty = Family::new("y", Kind::Gauge, "Nothing.");
        assert_eq!(
            text(&[family, empty]),
            "# HELP x_total A \\\\ and\\na \"line\".\n# TYPE x_total counter\n\
             x_total{a=\"q\\\"\\\\\\n}é\",b=\"1\"} 1.5\nx_total 7\n"
        );
    }

    proptest::proptest! {
        #[test]
        fn every_label_reads_back(value in "\\PC{1,40}|[\"\\\\\n}, ]{1,10}") {
            let labels = Labels::new(&[("a", &value)]).0;
            let inside = labels.strip_prefix("{a=\"").and_then(|rest| rest.strip_suffix("\"}")).unwrap();
            let (mut read, mut chars) = (String::new(), inside.chars());
            while let Some(c) = chars.next() {
                proptest::prop_assert!(c != '"' && c != '\n');
                read.push(match c {
                    '\\' => match chars.next() {
                        Some('n') => '\n',
                        other => other.unwrap(),
                    },
                    c => c,
                });
            }
            proptest::prop_assert_eq!(read, value);
        }
    }
}
