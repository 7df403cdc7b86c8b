//! A whole map as the database keeps it, read node by node and edge by edge: all of a large fleet's at once would
//! take several times what the live map does.

use std::fmt;
use std::io::Read;
use std::marker::PhantomData;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::topology::{Map, MapEdge, NodeShape};

/// A node or an edge of a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// A node.
    Node(NodeShape),
    /// An edge.
    Edge(Box<MapEdge>),
}

impl Part {
    /// Its id: no node has that of an edge.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::Node(node) => &node.id,
            Self::Edge(edge) => &edge.edge.id,
        }
    }

    /// Makes it a part of `map`.
    pub fn put(self, map: &mut Map) {
        match self {
            Self::Node(node) => drop(map.nodes.insert(node.id.clone(), node)),
            Self::Edge(edge) => drop(map.edges.insert(edge.edge.id.clone(), *edge)),
        }
    }
}

/// Shows the parts of a [`Map`] in JSON.
///
/// # Errors
/// When it is not of that shape; parts before the fault were shown.
pub fn read(json: impl Read, mut show: impl FnMut(Part)) -> Result<(), serde_json::Error> {
    let mut json = serde_json::Deserializer::from_reader(json);
    json.deserialize_map(Parts(&mut show))?;
    json.end()
}

struct Parts<'a>(&'a mut dyn FnMut(Part));

impl<'de> Visitor<'de> for Parts<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of nodes and edges")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let show = self.0;
        while let Some(field) = map.next_key::<String>()? {
            match field.as_str() {
                "nodes" => map.next_value_seed(Each::of(&mut |node| show(Part::Node(node))))?,
                "edges" => map.next_value_seed(Each::of(&mut |edge| show(Part::Edge(Box::new(edge)))))?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// The values of an object; its keys are in them.
struct Each<'a, T>(&'a mut dyn FnMut(T), PhantomData<T>);

impl<'a, T> Each<'a, T> {
    fn of(show: &'a mut dyn FnMut(T)) -> Self {
        Self(show, PhantomData)
    }
}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for Each<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Each<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object by id")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some((_, value)) = map.next_entry::<IgnoredAny, T>()? {
            (self.0)(value);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(json: &str) -> Result<Map, serde_json::Error> {
        let mut map = Map::default();
        read(json.as_bytes(), |part| part.put(&mut map))?;
        Ok(map)
    }

    #[test]
    fn parts_are_those_of_the_whole_map() {
        let json = r#"{"nodes": {"a": {"id": "a", "kind": "agent", "name": "alpha", "presence": "fresh"},
                "manager": {"id": "manager", "kind": "manager", "name": "manager"}}, "more": [1, {}],
            "edges": {"relay:a:manager": {"id": "relay:a:manager", "layer": "relay",
                "ends": [{"node": "a"}, {"node": "manager"}], "relation": "delivery", "state": "up",
                "since": 7, "seen": [true, false]}}}"#;
        let map = read_all(json).unwrap();
        assert_eq!((map.nodes.len(), map.edges.len()), (2, 1));
        assert_eq!(map, serde_json::from_str(json).unwrap());
        assert_eq!(read_all("{}").unwrap(), Map::default());
    }

    #[test]
    fn what_is_no_map_is_an_error() {
        for bad in
            ["", "[]", "{", r#"{"nodes": []}"#, r#"{"nodes": {"a": {}}}"#, "{} {}", r#"{"edges": {"a": 1}}"#]
        {
            assert!(read_all(bad).is_err(), "{bad}");
        }
    }
}
