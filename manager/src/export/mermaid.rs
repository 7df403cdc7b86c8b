//! Mermaid, as Markdown viewers draw it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::picture::{Link, Picture, utc};
use crate::topology::{EdgeState, NodeKind, NodeShape, Presence, Relation};

/// Its media type: there is no registered one.
pub const MEDIA_TYPE: &str = "text/plain; charset=utf-8";

/// Links that Mermaid draws unless the page that shows it says otherwise.
const EDGES: usize = 500;

/// The map as a flowchart.
#[must_use]
pub fn graph(picture: &Picture) -> String {
    let mut text = format!("flowchart LR\n  %% kattila {}\n", utc(picture.at));
    if picture.links.len() > EDGES {
        let _ = writeln!(
            text,
            "  %% {} links, and Mermaid draws {EDGES} unless its maxEdges is set; ?layer= and ?state= ask for fewer",
            picture.links.len()
        );
    }
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for (place, node) in picture.nodes.iter().enumerate() {
        places.insert(&node.id, place);
        let (open, close) = match node.kind {
            NodeKind::Agent => ("[", "]"),
            NodeKind::External => ("([", "])"),
            NodeKind::Lan => ("{{", "}}"),
            NodeKind::Manager => ("[/", "\\]"),
        };
        let _ = writeln!(text, "  n{place}{open}\"{}\"{close}{}", escaped(&node.name), class(node));
    }
    for link in &picture.links {
        let ends = [0, 1].map(|end: usize| places.get(link.shape.ends[end].node.as_str()));
        let [Some(mut a), Some(mut b)] = ends else { continue };
        if link.shape.relation == Relation::OneSided && link.shape.seen == [false, true] {
            (a, b) = (b, a);
        }
        let label = label(link);
        let label = if label.is_empty() { label } else { format!("|\"{}\"|", escaped(&label)) };
        let _ = writeln!(text, "  n{a} {}{label} n{b}", line(link));
    }
    text.push_str("  classDef silent stroke-dasharray:4,stroke:#8a3b12\n");
    text
}

fn class(node: &NodeShape) -> &'static str {
    if node.presence == Some(Presence::Silent) { ":::silent" } else { "" }
}

/// A full line works, a dotted one does not; an arrow leads from the only end that says so, or along
/// with the reports.
fn line(link: &Link) -> &'static str {
    let arrow = matches!(link.shape.relation, Relation::Delivery | Relation::OneSided);
    match (link.shape.state, arrow) {
        (EdgeState::Up | EdgeState::Idle, false) => "---",
        (EdgeState::Up | EdgeState::Idle, true) => "-->",
        (_, false) => "-.-",
        (_, true) => "-.->",
    }
}

fn label(link: &Link) -> String {
    let names: Vec<&str> = link.shape.ends.iter().filter_map(|end| end.interface.as_deref()).collect();
    let mut label = match names.as_slice() {
        [a, b] if a != b => format!("{a} - {b}"),
        [one, ..] => (*one).to_owned(),
        [] => String::new(),
    };
    if link.shape.state != EdgeState::Up {
        let state = link.shape.state.name().replace('_', "-");
        label = if label.is_empty() { state } else { format!("{label} {state}") };
    }
    label
}

/// Text inside quotes: whatever might mean something to Mermaid, Markdown or HTML goes by its number.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if c.is_alphanumeric() || matches!(c, ' ' | '.' | '-') => escaped.push(c),
            c if c.is_control() || c.is_whitespace() => escaped.push(' '),
            c => {
                let _ = write!(escaped, "#{};", u32::from(c));
            }
        }
    }
    if escaped.trim().is_empty() { "?".to_owned() } else { escaped }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_something_goes_by_its_number() {
        assert_eq!(escaped("Köln-1.lan"), "Köln-1.lan");
        assert_eq!(escaped("\"]`%%{\n"), "#34;#93;#96;#37;#37;#123; ");
        assert_eq!(escaped("<b>&#35;"), "#60;b#62;#38;#35;35#59;");
        assert_eq!(escaped("\n"), "?");
    }

    proptest::proptest! {
        #[test]
        fn every_text_is_letters_and_numbers(text in "\\PC{0,40}|[\"`#;%<>&|{}()\\[\\]\n]{0,10}") {
            let escaped = escaped(&text);
            let safe = |c: char| c.is_alphanumeric() || " .-#;?".contains(c);
            proptest::prop_assert!(!escaped.is_empty() && escaped.chars().all(safe), "{escaped}");
            let mut numbers = escaped.split('#').skip(1).map(|part| part.split_once(';').map(|(number, _)| number));
            let whole = |number: Option<&str>| number.is_some_and(|number| number.parse::<u32>().is_ok());
            proptest::prop_assert!(numbers.all(whole), "{escaped}");
        }
    }
}
