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
        self.text.push_str(self.name);
        self.text.push_str(&labels.0);
        let _ = writeln!(self.text, " {value}");
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

/// Families with samples as they go over the wire, one after the other.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
    size: usize,
}

impl Page {
    /// Adds a family and lets go of it: never are all of them there twice.
    pub fn add(&mut self, family: Family) {
        self.size += family.size();
        if !family.is_empty() {
            self.text.push_str(&family.text);
        }
    }

    /// Bytes of all families added, those without samples included.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// What goes over the wire.
    #[must_use]
    pub fn text(self) -> String {
        self.text
    }
}

impl Extend<Family> for Page {
    fn extend<T: IntoIterator<Item = Family>>(&mut self, families: T) {
        families.into_iter().for_each(|family| self.add(family));
    }
}

/// Families that go into an answer together, or not at all.
#[derive(Debug)]
pub struct Part {
    families: Vec<Family>,
    room: usize,
    samples: usize,
}

impl Part {
    /// Families that are to take so many bytes together at most.
    #[must_use]
    pub fn new(families: Vec<Family>, room: usize) -> Self {
        Self { families, room, samples: 0 }.cut()
    }

    /// What would have so many samples, and has no room.
    #[must_use]
    pub fn left_out(samples: usize) -> Self {
        Self { families: Vec::new(), room: 0, samples }
    }

    /// Whether there was room so far; after that samples are counted alone, and need no labels.
    #[must_use]
    pub fn fits(&self) -> bool {
        !self.families.is_empty()
    }

    /// Adds a sample to one of the families; its labels may be `None` where they did not fit before.
    pub fn add(&mut self, family: usize, labels: Option<&Labels>, value: impl Display) {
        self.samples += 1;
        if let Some((family, labels)) = self.families.get_mut(family).zip(labels) {
            family.add_at(labels, value);
            if size(&self.families) > self.room {
                self.families = Vec::new();
            }
        }
    }

    /// The families.
    ///
    /// # Errors
    /// How many samples are left out for want of room.
    pub fn families(self) -> Result<Vec<Family>, usize> {
        if self.fits() { Ok(self.families) } else { Err(self.samples) }
    }

    fn cut(self) -> Self {
        let families = if size(&self.families) > self.room { Vec::new() } else { self.families };
        Self { families, ..self }
    }
}

fn size(families: &[Family]) -> usize {
    families.iter().map(Family::size).sum()
}

/// Labels as they are written; those without a value are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels(String);

impl Labels {
    /// Labels of these names and values.
    #[must_use]
    pub fn new(labels: &[(&str, &str)]) -> Self {
        let mut new = Self::default();
        labels.iter().for_each(|(name, value)| new.push(name, value));
        new
    }

    /// Takes all labels away, and keeps their room for others.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Adds a label.
    pub fn push(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.begin(name);
            escape(&mut self.0, value, true);
            self.0.push_str("\"}");
        }
    }

    /// Adds a label whose value is not empty and has nothing to be escaped.
    pub fn push_plain(&mut self, name: &str, value: impl Display) {
        self.begin(name);
        let _ = write!(self.0, "{value}\"}}");
    }

    fn begin(&mut self, name: &str) {
        let is_first = self.0.pop().is_none();
        self.0.push(if is_first { '{' } else { ',' });
        self.0.push_str(name);
        self.0.push_str("=\"");
    }
}

/// Backslash and line feed are escaped everywhere, quotes in labels only.
fn escape(text: &mut String, value: &str, quoted: bool) {
    // By bytes, as most values are looked at for nothing.
    if !value.bytes().any(|byte| matches!(byte, b'\\' | b'\n' | b'"')) {
        return text.push_str(value);
    }
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
        let mut page = Page::default();
        page.extend([family, empty]);
        assert_eq!(
            page.text(),
            "# HELP x_total A \\\\ and\\na \"line\".\n# TYPE x_total counter\n\
             x_total{a=\"q\\\"\\\\\\n}é\",b=\"1\"} 1.5\nx_total 7\n"
        );
    }

    #[test]
    fn what_has_no_room_is_counted() {
        let full = |room: usize| {
            let families = vec![Family::new("x", Kind::Gauge, "X."), Family::new("y", Kind::Gauge, "Y.")];
            let mut part = Part::new(families, room);
            for number in 0..3 {
                let labels = part.fits().then(|| Labels::new(&[("n", "1")]));
                part.add(number % 2, labels.as_ref(), number);
            }
            part.families()
        };
        let all = full(1000).unwrap();
        let bytes = size(&all);
        let mut page = Page::default();
        page.extend(all);
        assert_eq!((page.size(), page.text().len()), (bytes, bytes));
        assert_eq!(size(&full(bytes).unwrap()), bytes);
        for room in [bytes - 1, bytes / 2, 3] {
            assert_eq!(full(room).unwrap_err(), 3);
        }
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
