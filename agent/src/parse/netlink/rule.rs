//! RTM_NEWRULE: the policy-routing rules of IPv4 and IPv6.

use std::net::IpAddr;

use proto::ids::Cidr;
use proto::report::{Rule, RuleAction};

use super::{Attributes, BadMessage, INET, INET6, ip_of, name, number, take, u8_at, u32_at, unspecified};

/// RTM_GETRULE (linux/rtnetlink.h).
pub const GET: u16 = 34;
/// RTM_NEWRULE (linux/rtnetlink.h).
pub const NEW: u16 = 32;
/// Bytes of `struct fib_rule_hdr` (linux/fib_rules.h).
pub const HEADER: usize = 12;

const FRA_DST: u16 = 1;
const FRA_SRC: u16 = 2;
const FRA_IIFNAME: u16 = 3;
const FRA_GOTO: u16 = 4;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
/// Realms, which are given to packets, not asked for.
const FRA_FLOW: u16 = 11;
const FRA_SUPPRESS_IFGROUP: u16 = 13;
const FRA_SUPPRESS_PREFIXLEN: u16 = 14;
const FRA_TABLE: u16 = 15;
const FRA_FWMASK: u16 = 16;
const FRA_OIFNAME: u16 = 17;
const FRA_PAD: u16 = 18;
const FRA_L3MDEV: u16 = 19;
/// Who made the rule.
const FRA_PROTOCOL: u16 = 21;

/// FIB_RULE_INVERT (linux/fib_rules.h).
const INVERT: u32 = 0x2;

/// One rule; `None` for those of other families (multicast routing has its own).
///
/// # Errors
/// What is missing or malformed.
pub fn row(body: &[u8]) -> Result<Option<Rule>, BadMessage> {
    let header = |at| take(body, "rule header", |body| u8_at(body, at));
    let (family, to_prefix, from_prefix, service) = (header(0)?, header(1)?, header(2)?, header(3)?);
    let (table, action) = (header(4)?, header(7)?);
    let flags = take(body, "rule header", |body| u32_at(body, 8))?;
    if !matches!(family, INET | INET6) {
        return Ok(None);
    }
    let (mut to, mut from, mut mark, mut mask) = (unspecified(family), unspecified(family), None, None);
    let mut rule = Rule {
        action: rule_action(action),
        table: u32::from(table),
        ipv6: family == INET6,
        more: service != 0,
        invert: flags & INVERT != 0,
        ..Rule::default()
    };
    for attribute in Attributes::after(body, HEADER) {
        match attribute? {
            (FRA_DST, value) => to = take(value, "destination", |value| ip_of(family, value))?,
            (FRA_SRC, value) => from = take(value, "source", |value| ip_of(family, value))?,
            (FRA_IIFNAME, value) => rule.iif = Some(take(value, "incoming interface", name)?),
            (FRA_OIFNAME, value) => rule.oif = Some(take(value, "outgoing interface", name)?),
            (FRA_GOTO, value) => rule.goto = Some(take(value, "goto", number)?),
            (FRA_PRIORITY, value) => rule.priority = take(value, "priority", number)?,
            (FRA_FWMARK, value) => mark = Some(take(value, "mark", number)?),
            (FRA_FWMASK, value) => mask = Some(take(value, "mask", number)?),
            (FRA_TABLE, value) => rule.table = take(value, "table", number)?,
            // All ones is none, in both.
            (FRA_SUPPRESS_PREFIXLEN, value) => {
                let length = take(value, "suppressed prefix length", number)?;
                rule.suppress_prefix = Some(length).filter(|length| *length != u32::MAX);
            }
            (FRA_SUPPRESS_IFGROUP, value) => {
                rule.more |= take(value, "suppressed group", number)? != u32::MAX;
            }
            (FRA_L3MDEV, value) => rule.l3mdev = take(value, "l3mdev", |value| u8_at(value, 0))? != 0,
            (FRA_FLOW | FRA_PROTOCOL | FRA_PAD, _) => {}
            // Users, ports, protocols, tunnels, and what later kernels add.
            _ => rule.more = true,
        }
    }
    rule.to = some_of(to, to_prefix)?;
    rule.from = some_of(from, from_prefix)?;
    // A mark of 0 is left out where there is a mask, and both where the mark does not matter.
    rule.fwmark = mark.or_else(|| mask.filter(|mask| *mask != 0).map(|_| 0));
    rule.fwmask = mask.filter(|mask| *mask != u32::MAX && *mask != 0);
    if rule.action != RuleAction::Table || rule.l3mdev {
        rule.table = 0;
    }
    Ok(Some(rule))
}

/// FR_ACT_* of linux/fib_rules.h.
fn rule_action(action: u8) -> RuleAction {
    match action {
        1 => RuleAction::Table,
        2 => RuleAction::Goto,
        3 => RuleAction::Nop,
        6 => RuleAction::Blackhole,
        7 => RuleAction::Unreachable,
        8 => RuleAction::Prohibit,
        _ => RuleAction::Other,
    }
}

/// A prefix that packets are asked for; `None` where any will do.
fn some_of(address: IpAddr, prefix: u8) -> Result<Option<Cidr>, BadMessage> {
    let cidr = Cidr::new(address, prefix).ok_or(BadMessage { field: "prefix length" })?;
    Ok(Some(cidr).filter(|_| prefix != 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::netlink::request_attribute as encode;

    fn told(header: [u8; 8], flags: u32, attributes: &[(u16, &[u8])]) -> Rule {
        let mut body = header.to_vec();
        body.extend_from_slice(&flags.to_ne_bytes());
        attributes.iter().for_each(|(kind, value)| body.extend(encode(*kind, value)));
        row(&body).unwrap().unwrap()
    }

    #[test]
    fn what_wg_quick_makes_is_told_whole() {
        let rule = told(
            [INET, 0, 0, 0, 0, 0, 0, 1],
            INVERT,
            &[
                (FRA_TABLE, &51_820_u32.to_ne_bytes()),
                (FRA_SUPPRESS_PREFIXLEN, &u32::MAX.to_ne_bytes()),
                (FRA_PROTOCOL, &[3]),
                (FRA_PRIORITY, &32_765_u32.to_ne_bytes()),
                (FRA_FWMARK, &51_820_u32.to_ne_bytes()),
                (FRA_FWMASK, &u32::MAX.to_ne_bytes()),
            ],
        );
        let expected =
            Rule { priority: 32_765, table: 51_820, fwmark: Some(51_820), invert: true, ..Rule::default() };
        assert_eq!(rule, expected);
        let suppress = (FRA_SUPPRESS_PREFIXLEN, 0_u32.to_ne_bytes());
        let main = told([INET6, 0, 0, 0, 254, 0, 0, 1], 0, &[(suppress.0, &suppress.1)]);
        assert_eq!((main.table, main.ipv6, main.suppress_prefix), (254, true, Some(0)));
    }

    #[test]
    fn conditions_and_actions() {
        let from =
            told([INET, 0, 24, 0, 7, 0, 0, 1], 0, &[(FRA_SRC, &[10, 0, 0, 0]), (FRA_IIFNAME, b"wg0\0")]);
        assert_eq!(from.from.unwrap().to_string(), "10.0.0.0/24");
        assert_eq!((from.to, from.iif.as_deref(), from.more), (None, Some("wg0"), false));
        let goto = told([INET, 0, 0, 0, 0, 0, 0, 2], 0, &[(FRA_GOTO, &90_u32.to_ne_bytes())]);
        assert_eq!((goto.action, goto.goto, goto.table), (RuleAction::Goto, Some(90), 0));
        let vrf = told([INET, 0, 0, 0, 0, 0, 0, 1], 0, &[(FRA_L3MDEV, &[1])]);
        assert!(vrf.l3mdev && vrf.table == 0);
        let masked = told([INET, 0, 0, 0, 7, 0, 0, 1], 0, &[(FRA_FWMASK, &255_u32.to_ne_bytes())]);
        assert_eq!((masked.fwmark, masked.fwmask), (Some(0), Some(255)));
        assert!(told([INET, 0, 0, 16, 7, 0, 0, 1], 0, &[]).more, "a type of service");
        assert!(told([INET, 0, 0, 0, 7, 0, 0, 1], 0, &[(200, &[])]).more, "a condition of a later kernel");
    }

    #[test]
    fn malformed_ones_are_named_and_other_families_left_out() {
        assert_eq!(row(&[128; 12]), Ok(None));
        assert_eq!(row(&[INET; 8]).unwrap_err().field, "rule header");
        assert_eq!(row(&[INET, 33, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]).unwrap_err().field, "prefix length");
    }
}
