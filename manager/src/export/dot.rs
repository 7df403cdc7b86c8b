//! Graphviz DOT: `dot -Tsvg`, or `fdp`, `sfdp` for many hosts.

use std::fmt::Write as _;

use super::picture::{Link, Picture, utc};
use crate::topology::{EdgeState, Layer, NodeKind, NodeShape, Presence};

/// Its media type.
pub const MEDIA_TYPE: &str = "text/vnd.graphviz; charset=utf-8";

/// The map as an undirected graph. Reports' ways have an arrow.
#[must_use]
pub fn graph(picture: &Picture) -> String {
    let title = quoted(&format!("kattila {}", utc(picture.at)));
    let mut text = format!(
        "graph kattila {{\n  graph [label={title}, labelloc=t, fontname=\"sans-serif\", overlap=false];\n  \
         node [fontname=\"sans-serif\", fontsize=11];\n  edge [fontname=\"sans-serif\", fontsize=9];\n"
    );
    for node in &picture.nodes {
        let style = style(node);
        let (id, name) = (quoted(&node.id), quoted(&node.name));
        let _ = writeln!(text, "  {id} [label={name}, tooltip={id}, {style}];");
    }
    for link in &picture.links {
        let [a, b] = [0, 1].map(|end: usize| quoted(&link.shape.ends[end].node));
        let (label, style) = (quoted(&label(link)), line(link));
        let _ = writeln!(text, "  {a} -- {b} [label={label}, tooltip={}, {style}];", quoted(&link.shape.id));
    }
    text.push_str("}\n");
    text
}

fn style(node: &NodeShape) -> &'static str {
    match (node.kind, node.presence) {
        (NodeKind::Agent, Some(Presence::Silent)) => "shape=box, style=\"rounded,dashed\", color=\"#8a3b12\"",
        (NodeKind::Agent, _) => "shape=box, style=rounded",
        (NodeKind::External, _) => "shape=ellipse, style=dashed",
        (NodeKind::Lan, _) => "shape=hexagon, color=\"#667788\"",
        (NodeKind::Manager, _) => "shape=house",
    }
}

/// Interfaces at both ends, and the state where it is not the usual one.
fn label(link: &Link) -> String {
    let [a, b] = &link.shape.ends;
    let interfaces = match (&a.interface, &b.interface) {
        (Some(a), Some(b)) if a != b => format!("{a} - {b}"),
        (Some(one), _) | (None, Some(one)) => one.clone(),
        (None, None) => String::new(),
    };
    match link.shape.state {
        EdgeState::Up => interfaces,
        state => format!("{interfaces} {}", state.name().replace('_', "-")).trim_start().to_owned(),
    }
}

fn line(link: &Link) -> String {
    let (color, style) = match link.shape.state {
        EdgeState::Up => ("#1a7f37", "solid"),
        EdgeState::Idle => ("#667788", "solid"),
        EdgeState::Stale => ("#b35900", "dashed"),
        EdgeState::Down | EdgeState::Never => ("#cf222e", "dashed"),
        EdgeState::OneSided => ("#8250df", "dashed"),
        EdgeState::Unknown => ("#999999", "dotted"),
    };
    let more = match link.shape.layer {
        Layer::WireGuard => ", penwidth=2",
        Layer::Relay => ", dir=forward, constraint=false",
        Layer::Physical | Layer::Overlay => "",
    };
    format!("color=\"{color}\", style={style}{more}")
}

/// A quoted string. In labels a backslash begins an escape and `&` an entity, so both are escaped too;
/// in ids that only makes other names of them, the same everywhere.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '&' => quoted.push_str("&amp;"),
            c if c.is_control() => quoted.push(' '),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_a_quoted_string_early() {
        assert_eq!(quoted("a\"b\\"), r#""a\"b\\""#);
        assert_eq!(quoted("\\\""), r#""\\\"""#);
        assert_eq!(quoted("x\n\0&lt;"), "\"x  &amp;lt;\"");
    }

    proptest::proptest! {
        #[test]
        fn every_text_stays_inside_its_quotes(text in "\\PC{0,40}|[\"\\\\&\n]{0,10}") {
            let quoted = quoted(&text);
            let inside = &quoted[1..quoted.len() - 1];
            let plain = inside.replace("\\\\", "").replace("\\\"", "");
            proptest::prop_assert!(!plain.contains(['"', '\\', '\n']), "{quoted}");
        }
    }
}
