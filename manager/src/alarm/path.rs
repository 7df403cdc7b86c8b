//! Packets of a tunnel that do not arrive: one way, neither way, or too many of them (rules D3, D4, E5).

use super::endpoint::drifted;
use super::facts::{Facts, Side, Tunnel};
use super::watch::IN_A_ROW;
use super::wireguard::is_shared;
use super::{Finding, Rule, psk};
use crate::topology::EdgeState;

pub(super) const RULES: &[Rule] = &[no_path, tunnel_down, tunnel_loss];

/// Reports of two hosts further apart than an interval and this (ms) are not of the same time.
const SKEWED: i64 = 1_000;
/// Loss (percent) that is told.
pub(super) const LOSS: f64 = 10.0;

/// Between which ends packets get lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    /// What the first sends does not reach the second.
    Forward,
    /// The first calls and the second hears it, and what the second answers does not come back.
    Return,
    /// Neither's packets reach the other.
    Both,
}

fn broken<'a>(now: i64, [a, b]: [Side<'a>; 2]) -> Option<(Side<'a>, Side<'a>, Broken)> {
    let (from, to) = match (is_lost(now, &a, &b), is_lost(now, &b, &a)) {
        (true, true) => return Some((a, b, Broken::Both)),
        (true, false) => (a, b),
        (false, true) => (b, a),
        (false, false) => return None,
    };
    // One that keeps the tunnel alive calls by itself; by that, not by what it happened to send
    // lately, so that one fault keeps one name.
    let calls = |side: &Side<'_>| side.half.is_some_and(|half| half.shape.keepalive_s.is_some());
    // With preshared keys, answers that arrive and are not understood look the same.
    let keyed = to.is_unanswered() && [&from, &to].iter().all(|side| has_psk(side));
    if !keyed && calls(&from) || !calls(&to) && !to.is_unanswered() {
        Some((from, to, Broken::Forward))
    } else {
        Some((to, from, Broken::Return))
    }
}

fn has_psk(side: &Side<'_>) -> bool {
    side.half.is_some_and(|half| half.shape.has_psk)
}

/// Whether what `from` sends does not reach `to`, by what both last reported: data in two reports of
/// the one and nothing at all in two of the other, or handshakes that nobody answers.
fn is_lost(now: i64, from: &Side<'_>, to: &Side<'_>) -> bool {
    let (Some((heard, sent)), Some((got, _))) = (from.delta(), to.delta()) else { return false };
    let (Some(here), Some(there)) = (from.host.watch, to.host.watch) else { return false };
    let slower = 1000 * i64::from(here.interval_s.max(there.interval_s));
    let apart = (here.observed_at - there.observed_at).abs() > slower + slower / 10 + SKEWED;
    if apart || [here, there].iter().any(|watch| now - watch.received_at > 2 * slower + SKEWED) {
        return false; // one of them has just fallen silent, or is just back
    }
    let twice = |count: Option<u8>| count.is_some_and(|count| count >= IN_A_ROW);
    // A receiver that reports far more often may have nothing in two short intervals.
    let data = twice(from.peer.map(|peer| peer.sending))
        && twice(to.peer.map(|peer| peer.deaf))
        && here.interval_s <= 2 * there.interval_s;
    let calls = from.is_unanswered() && got == 0;
    // It hears the other's handshakes and does something about them, and the other hears nothing.
    let answers = to.is_unanswered() && heard > 0 && sent > 0;
    data || calls || answers
}

fn no_path(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    for (tunnel, ends) in facts.confirmed() {
        let [a, b] = &ends;
        let down = |side: &Side<'_>| side.nic.is_some_and(|nic| !nic.is_up());
        if psk::is_mismatch(tunnel, [a, b])
            || down(a)
            || down(b)
            || is_looped(tunnel)
            || is_shared(facts, [a, b])
        {
            continue;
        }
        let Some((from, to, how)) = broken(facts.now, ends) else { continue };
        if has_drifted(facts, ends) {
            continue;
        }
        let (name, other) = (facts.name(from.id), facts.name(to.id));
        let port = to.nic.and_then(|nic| nic.listen_port()).unwrap_or(0);
        let at = from
            .half
            .and_then(|half| half.shape.endpoint.clone())
            .unwrap_or_else(|| "no endpoint".to_owned());
        let clock = clock_words(facts, &from, &to);
        let finding = match how {
            Broken::Forward => Finding::new("NO_FORWARD_PATH", &tunnel.edge.shape.id)
                .say(format!("What {name} sends through the tunnel does not reach {other}."))
                .because(clock.unwrap_or_else(|| {
                    format!("{name} sends to {at}, {other} listens on port {port}: a wrong endpoint, or a firewall before {other}")
                }))
                .next(format!("on {other}: tcpdump -ni any udp port {port}; if nothing comes, look for a firewall or correct the endpoint on {name}")),
            Broken::Both => Finding::new("NO_FORWARD_PATH", &tunnel.edge.shape.id)
                .say(format!("Nothing of the tunnel between {name} and {other} reaches either of them."))
                .because(clock.unwrap_or_else(|| {
                    "UDP between the two is blocked, or both endpoints are wrong".to_owned()
                }))
                .next(format!("on {name}: ping {}; then on {other}: tcpdump -ni any udp port {port}", host_part(&at))),
            Broken::Return => Finding::new("NO_RETURN_PATH", &tunnel.edge.shape.id)
                .say(format!("What {name} sends through the tunnel reaches {other}, but {other}'s answers do not reach {name}{}.", if has_psk(&from) { " or are not understood" } else { "" }))
                .because(clock.unwrap_or_else(|| {
                    let psk = from.half.is_some_and(|half| half.shape.has_psk);
                    let psk = if psk { ", or the preshared keys of the two differ" } else { "" };
                    format!("a firewall or NAT before {name} drops what comes back{psk}")
                }))
                .next(format!("on {name}: tcpdump -ni any udp and host {}; if the answers do not come, look for a firewall between the two", host_part(&at))),
        };
        let finding = finding
            .proof([from.proof(facts, Some(&to)), to.proof(facts, Some(&from))])
            .of(tunnel.agents())
            .under(tunnel.stands_on())
            .every(facts.interval(&tunnel.agents()));
        found.push(finding);
    }
}

/// Whether one end sends to where the other is no longer, which is told as that.
fn has_drifted(facts: &Facts<'_>, [a, b]: [Side<'_>; 2]) -> bool {
    [(a, b), (b, a)].iter().any(|(from, to)| drifted(facts, from, to).is_some())
}

/// A handshake dated before the last one is refused as a repetition: a clock that went back explains
/// silence better than any firewall.
fn clock_words(facts: &Facts<'_>, a: &Side<'_>, b: &Side<'_>) -> Option<String> {
    [a, b].into_iter().find_map(|side| {
        let (at, _) = side.host.watch?.past().clock_back?;
        (facts.now - at <= 3_600_000).then(|| {
            format!(
                "{}'s clock went back, and WireGuard refuses handshakes that are dated before the last one",
                facts.name(side.id)
            )
        })
    })
}

fn host_part(endpoint: &str) -> &str {
    let host = endpoint.rsplit_once(':').map_or(endpoint, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

fn is_looped(tunnel: &Tunnel<'_>) -> bool {
    let halves = tunnel.edge.halves.iter().flatten().flatten();
    halves
        .filter_map(|half| half.underlay.as_ref())
        .any(|way| way.kind == crate::topology::UnderlayKind::Loop)
}

fn tunnel_down(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    for (tunnel, ends) in facts.confirmed() {
        let [a, b] = &ends;
        let state = tunnel.edge.shape.state;
        let kept = ends.iter().any(|side| side.half.is_some_and(|half| half.shape.keepalive_s.is_some()));
        let wanted =
            kept && ends.iter().any(|side| side.half.is_some_and(|half| half.shape.endpoint.is_some()));
        let is_down = matches!(state, EdgeState::Down | EdgeState::Stale | EdgeState::Never);
        let interface_down = ends.iter().any(|side| side.nic.is_some_and(|nic| !nic.is_up()));
        if !is_down || !wanted || interface_down {
            continue;
        }
        if psk::is_mismatch(tunnel, [a, b])
            || broken(facts.now, ends).is_some()
            || is_looped(tunnel)
            || has_drifted(facts, ends)
        {
            continue;
        }
        let (name, other) = (facts.name(a.id), facts.name(b.id));
        let say = match state {
            EdgeState::Never => format!("The tunnel between {name} and {other} never had a handshake."),
            _ => format!("The tunnel between {name} and {other} has had no handshake for too long."),
        };
        let sends = ends.iter().any(|side| side.delta().is_some_and(|(_, tx)| tx > 0));
        let because = clock_words(facts, a, b).unwrap_or_else(|| {
            if sends {
                "packets are sent and no handshake comes of it".to_owned()
            } else {
                "neither end sends anything, though a keepalive is set: WireGuard gave up for now".to_owned()
            }
        });
        let finding = Finding::new("TUNNEL_DOWN", &tunnel.edge.shape.id)
            .say(say)
            .because(because)
            .next(format!(
                "on {name}: wg show {}; on {other}: wg show {}; compare keys, endpoints and times",
                a.interface, b.interface
            ))
            .proof([a.proof(facts, Some(b)), b.proof(facts, Some(a))])
            .of(tunnel.agents())
            .under(tunnel.stands_on())
            .every(facts.interval(&tunnel.agents()));
        found.push(finding);
    }
}

fn tunnel_loss(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    for (tunnel, [a, b]) in facts.confirmed() {
        // All of it is another matter: no path.
        if broken(facts.now, [a, b]).is_some() || is_shared(facts, [&a, &b]) {
            continue;
        }
        for (from, to) in [(a, b), (b, a)] {
            let Some(loss) =
                from.half.and_then(|half| half.loss).filter(|loss| loss.at_least_percent >= LOSS)
            else {
                continue;
            };
            // What the receiver drops for its source did arrive.
            let dropped = to.device.is_some_and(|device| device.rx_frame.by[0] > 0);
            if tunnel.edge.shape.state != EdgeState::Up || dropped {
                continue;
            }
            let (name, other) = (facts.name(from.id), facts.name(to.id));
            let text = format!(
                "{name} sent {} B in {} s, {other} received {} B of them: {} % lost, {} % at the least",
                loss.sent_bytes, loss.window_s, loss.received_bytes, loss.percent, loss.at_least_percent
            );
            let field = format!("wireguard[{}].peers", from.interface);
            let finding = Finding::new("TUNNEL_LOSS", format!("{} from {}", tunnel.edge.shape.id, from.id))
                .say(format!("Over a tenth of what {name} sends to {other} through the tunnel is lost."))
                .because("a bad or overloaded link between the two, or packets too large for it")
                .next(format!(
                    "on {name}: ping -M do -s 1300 to {other}'s tunnel address, then with smaller sizes; look for errors on the cards that carry the tunnel (ip -s link)"
                ))
                .proof([facts.proof(from.id, field, text)])
                .of(tunnel.agents())
                .under(tunnel.stands_on())
                .every(facts.interval(&tunnel.agents()));
            found.push(finding);
        }
    }
}
