//! Clocks (rule D14).

use super::facts::Facts;
use super::wireguard::RECENT;
use super::{Finding, Rule};

pub(super) const RULES: &[Rule] = &[skew, regression];

/// A clock that is off by more (ms) confuses logs, certificates and WireGuard's timestamps.
pub(super) const SKEW: i64 = 30_000;

/// A stretch of time in words.
pub(super) fn span(ms: i64) -> String {
    let seconds = ms.unsigned_abs() / 1000;
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

fn skew(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    for (id, _, watch) in facts.watched().filter(|(_, _, watch)| watch.clock_offset_ms.abs() > SKEW) {
        let name = facts.name(id);
        // What must be added to its clock is what it lacks.
        let side = if watch.clock_offset_ms > 0 { "behind" } else { "ahead of" };
        let finding = Finding::new("CLOCK_SKEW", id.to_string())
            .say(format!("{name}'s clock is {} {side} the manager's.", span(watch.clock_offset_ms)))
            .because("it is not set by NTP, or has no battery and its NTP server cannot be reached")
            .next(format!("on {name}: timedatectl status (on OpenWrt: date; /etc/init.d/sysntpd restart); if two hosts show this, check the manager's clock"))
            .proof([facts.proof(id, "clock_offset_ms", format!("{name} corrects its clock by {} ms to have the manager's time", watch.clock_offset_ms))])
            .of([id])
            .every(watch.interval_s);
        found.push(finding);
    }
}

fn regression(facts: &Facts<'_>, found: &mut Vec<Finding>) {
    for (id, _, watch) in facts.watched() {
        let Some((_, back)) = watch.past().clock_back.filter(|(at, _)| facts.now - at <= RECENT) else {
            continue;
        };
        let name = facts.name(id);
        let finding = Finding::new("CLOCK_REGRESSION", id.to_string())
            .say(format!("{name}'s clock went back by {}.", span(back)))
            .because("it ran ahead and was set right, or it was set wrong; WireGuard refuses handshakes dated before the last one, so its tunnels may fail until the time is reached again")
            .next(format!("if tunnels of {name} stay down: restart the interface of its peers, which makes them forget (ip link set wg0 down; ip link set wg0 up)"))
            .proof([facts.proof(id, "observed_at", format!("between two reports of {name} its own clock went back, while it did not restart"))])
            .of([id])
            .every(watch.interval_s);
        found.push(finding);
    }
}
