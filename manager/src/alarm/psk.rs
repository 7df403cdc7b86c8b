//! Preshared keys of WireGuard that do not fit (rule D4). What a report says of one is whether there is
//! one; that two differ shows in what they do to handshakes.

use super::facts::{Facts, Side, Tunnel};
use super::{Finding, Rule};
use crate::topology::EdgeState;

pub(super) const RULES: &[Rule] = &[mismatch];

/// Whether two ends' preshared keys do not fit.
pub(super) fn is_mismatch(tunnel: &Tunnel<'_>, ends: [&Side<'_>; 2]) -> bool {
    is_at_one_end(ends) || differ(tunnel, ends)
}

fn is_at_one_end([a, b]: [&Side<'_>; 2]) -> bool {
    a.half.zip(b.half).is_some_and(|(a, b)| a.shape.has_psk != b.shape.has_psk)
}

/// Both have one, initiations (148 bytes each) arrive and are answered, and there never was a handshake:
/// the answers, which are the first that the key is needed for, are not understood and do not count as
/// received. Once there was a handshake a path that is blocked is as likely.
fn differ(tunnel: &Tunnel<'_>, [a, b]: [&Side<'_>; 2]) -> bool {
    let has = |side: &Side<'_>| side.half.is_some_and(|half| half.shape.has_psk);
    let answers = |side: &Side<'_>| side.delta().is_some_and(|(rx, tx)| rx > 0 && rx % 148 == 0 && tx > 0);
    let met = answers(a) && (answers(b) || b.is_unanswered()) || answers(b) && a.is_unanswered();
    tunnel.edge.shape.state == EdgeState::Never && has(a) && has(b) && met
}

fn mismatch(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    for (tunnel, [a, b]) in facts.confirmed() {
        let one_end = is_at_one_end([&a, &b]);
        if !one_end && !differ(tunnel, [&a, &b]) {
            continue;
        }
        let first = a.half.is_some_and(|half| half.shape.has_psk);
        let (has, other) = if first { (a, b) } else { (b, a) };
        let (name, whom) = (facts.name(has.id), facts.name(other.id));
        let Some(key) = has.key() else { continue };
        let finding = Finding::new("PSK_MISMATCH", &tunnel.edge.shape.id);
        let finding = if one_end {
            finding
                .say(format!("{name} has a preshared key for {whom}, {whom} has none for {name}: no handshake can succeed."))
                .because("the preshared key was set or removed at one end only")
        } else {
            finding
                .say(format!("Handshakes between {name} and {whom} arrive, and the answers are not understood: their preshared keys differ."))
                .because("the preshared key was miscopied at one end; or a firewall drops the answers")
        };
        let finding = finding
            .next(format!(
                "on {whom}: wg set {} peer {key} preshared-key FILE, with the key that {name} has",
                other.interface
            ))
            .proof([has.proof(facts, Some(&other)), other.proof(facts, Some(&has))])
            .of(tunnel.agents())
            .under(tunnel.stands_on())
            .every(facts.interval(&tunnel.agents()));
        found.push(finding);
    }
}
