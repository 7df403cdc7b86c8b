//! What other programs read: each format a pure function of the map or the fleet at a moment.
//!
//! ```text
//! picture      the map as files show it, and which part is asked for
//! netjson      NetJSON NetworkGraph             dot      Graphviz
//! csv          agents, links                    mermaid  for Markdown
//! metrics      for Prometheus: fleet, alarms, the manager; `links` is its largest part
//! prometheus   its text format
//! gather       collects what they are made of and answers
//! ```

pub mod csv;
pub mod dot;
pub mod gather;
pub mod links;
pub mod mermaid;
pub mod metrics;
pub mod netjson;
pub mod picture;
pub mod prometheus;

/// The formats of the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// NetJSON NetworkGraph.
    NetJson,
    /// Graphviz.
    Dot,
    /// Mermaid.
    Mermaid,
    /// Links as a table.
    Links,
}
