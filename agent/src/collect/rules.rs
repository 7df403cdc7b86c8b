//! Policy-routing rules, from netlink: no file tells them.

use proto::limits::RULES_MAX;
use proto::report::{Rule, Source, SystemData};

use super::Sources;
use super::netlink::{NetlinkError, Question};
use super::problems::Problems;
use crate::parse::netlink::rule;

/// Rules that are looked at: more than a host has, so that those asked first can be told.
const READ_MAX: usize = 4096;

/// Fills in the rules, all by priority. Where there are too many, those asked first are kept.
pub(super) fn read(sources: &Sources, problems: &mut Problems, system: &mut SystemData) {
    let start = || (Vec::<Rule>::new(), 0_u32);
    let list = sources.netlink.list(Question::Rules, problems, start, |(rules, total), body| {
        if let Some(rule) = rule::row(body)? {
            *total += 1;
            rules.extend(Some(rule).filter(|_| rules.len() < READ_MAX));
        }
        Ok(())
    });
    system.rules_source = Source::Netlink;
    match list {
        Ok((mut rules, total)) => {
            rules.sort_by_key(|rule| (rule.priority, rule.ipv6));
            rules.truncate(RULES_MAX);
            (system.rules, system.rules_total) = (rules, total);
        }
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
