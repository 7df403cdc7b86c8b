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
        let text = format!("# HELP {name} {}\n# TYPE {name} {kind}\n", escaped(help, false));
        Self { name, text, samples: 0 }
    }

    /// Adds a sample. Each set of labels once: Prometheus refuses the whole answer otherwise.
    pub fn add(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.samples += 1;
        self.text.push_str(self.name);
        let mut opened = false;
        for (name, label) in labels.iter().filter(|(_, label)| !label.is_empty()) {
            let _ =
                write!(self.text, "{}{name}=\"{}\"", if opened { ',' } else { '{' }, escaped(label, true));
            opened = true;
        }
        let _ = writeln!(self.text, "{} {value}", if opened { "}" } else { "" });
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

/// Backslash and line feed are escaped everywhere, quotes in labels only.
fn escaped(text: &str, quoted: bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => escaped.push_str("\\\\"),
            '\n' => escaped.push_str("\\n"),
            '"' if quoted => escaped.push_str("\\\""),
            c => escaped.push(c),
        }
    }
    escaped
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
}
