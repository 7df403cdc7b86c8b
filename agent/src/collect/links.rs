//! Interfaces as netlink tells them, and their names by index.

use proto::report::{Interface, SystemData};

use super::Sources;
use super::netlink::NetlinkError;
use super::problems::Problems;
use super::question::Question;
use crate::parse::netlink::link::{self, Link};

/// Interfaces that are remembered: sixteen times those that a report holds. Routes by others have
/// their numbers for names.
const LINKS_MAX: usize = 4096;

/// The interfaces that netlink told of.
#[derive(Debug, Default)]
pub(super) struct Links {
    list: Vec<Link>,
    /// There was an answer: an interface that is not in it does not exist.
    pub(super) is_known: bool,
}

impl Links {
    /// Asks the kernel. Without an answer, /sys has to do: that is no problem worth a word beyond
    /// those of the routes and neighbours.
    pub(super) fn read(sources: &Sources, problems: &mut Problems) -> Self {
        let list = sources.netlink.list(Question::Links, problems, Vec::new, |list, body| {
            let link = link::row(body)?;
            list.extend(Some(link).filter(|_| list.len() < LINKS_MAX));
            Ok(())
        });
        match list {
            Ok(list) => Self { list, is_known: true },
            Err(NetlinkError::Off) => Self::default(),
            Err(error) => {
                problems.add("netlink links", format_args!("{error}; /sys was read alone"));
                Self::default()
            }
        }
    }

    /// Those of a kind, as their driver calls it.
    pub(super) fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Link> {
        self.list.iter().filter(move |link| link.kind.as_deref() == Some(kind))
    }

    /// What was told of the interface `name`.
    pub(super) fn get(&self, name: &str) -> Option<&Link> {
        self.list.iter().find(|link| link.name == name)
    }

    /// The name of the interface with an index.
    pub(super) fn name(&self, index: u32) -> Option<&str> {
        self.list.iter().find(|link| link.index == index).map(|link| link.name.as_str())
    }
}

/// Names of interfaces by index.
#[derive(Debug)]
pub(super) struct Names(Vec<(u32, String)>);

impl Names {
    /// Those that netlink told of, and those that were read from /sys.
    pub(super) fn new(links: &Links, system: &SystemData) -> Self {
        let told = links.list.iter().map(|link| (link.index, link.name.clone()));
        let named = |interface: &Interface| (interface.index, interface.name.clone());
        // An interface whose index could not be read has 0.
        let read = system.interfaces.iter().map(named).filter(|(index, _)| *index != 0);
        Self(told.chain(read).collect())
    }

    /// The name of the interface with an index. One that has gone meanwhile is called `if7`, as
    /// iproute2 calls it.
    pub(super) fn of(&self, index: u32) -> String {
        let known = self.0.iter().find(|(known, _)| *known == index);
        known.map_or_else(|| format!("if{index}"), |(_, name)| name.clone())
    }
}
