//! Policy-routing rules, from netlink: no file tells them.

use proto::limits::RULES_MAX;
use proto::report::{Rule, Source, SystemData};

use super::Sources;
use super::keep::Keep;
use super::netlink::NetlinkError;
use super::problems::Problems;
use super::question::Question;
use crate::parse::netlink::rule;

/// Fills in the rules in the kernel's order. Where there are too many, those that are asked first
/// are kept, of both families alike.
pub(super) fn read(sources: &Sources, problems: &mut Problems, system: &mut SystemData) {
    let start = || (Keep::<Rule>::new(RULES_MAX), [0_u8; 2]);
    let list = sources.netlink.list(Question::Rules, problems, start, |(keep, ranks), body| {
        if let Some(rule) = rule::row(body)? {
            let rank = &mut ranks[usize::from(rule.ipv6)];
            keep.push(*rank, rule);
            *rank = rank.saturating_add(1);
        }
        Ok(())
    });
    system.rules_source = Source::Netlink;
    match list {
        Ok((keep, _)) => (system.rules, system.rules_total) = keep.finish(),
        // A kernel without policy routing, whose only tables are local and main.
        Err(error) if error.is_unsupported() => {}
        Err(error) => {
            system.rules_source = Source::None;
            if !matches!(error, NetlinkError::Off) {
                problems.add("netlink rules", error);
            }
        }
    }
}
