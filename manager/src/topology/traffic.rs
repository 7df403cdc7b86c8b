//! What flows over a WireGuard peer, told from its counters alone (rules E4 to E7).
//!
//! Message sizes: handshake initiation 148 bytes, response 92, keepalive 32, data 32 plus the
//! packet padded to 16 (drivers/net/wireguard/messages.h).

use serde::{Deserialize, Serialize};

const INITIATION: u64 = 148;
const RESPONSE: u64 = 92;
const KEEPALIVE: u64 = 32;
/// Milliseconds after which an unanswered data packet is answered by a keepalive (KEEPALIVE_TIMEOUT).
const PASSIVE_KEEPALIVE_MS: i64 = 10_000;
/// Milliseconds between keepalives of a peer whose setting is not known: few set less.
const UNKNOWN_KEEPALIVE_MS: i64 = 5_000;
/// Milliseconds between two handshakes of a busy tunnel (REKEY_AFTER_TIME).
const REKEY_MS: i64 = 120_000;
/// Bytes below which a loss figure would say more about keepalives in flight than about the path.
const LOSS_MIN_BYTES: u64 = 10_000;

/// What a peer's counters say was exchanged between the last two reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Traffic {
    /// Data both ways.
    Active,
    /// Data sent, only handshakes and keepalives received.
    SendOnly,
    /// Data received, only handshakes and keepalives sent.
    ReceiveOnly,
    /// Handshakes and keepalives only.
    Idle,
    /// Nothing at all.
    Silent,
    /// Handshake initiations that nobody answers (E6).
    Unanswered,
    /// Fewer than two reports, or the counters were reset.
    Unknown,
}

/// Bytes that one end sent and the other did not get (E5), over a window that both ends reported.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Loss {
    /// Best estimate in percent, both counters interpolated to the same moments.
    pub percent: f64,
    /// What was lost at the least, in percent, whatever happened between the samples.
    pub at_least_percent: f64,
    /// Bytes sent in the window.
    pub sent_bytes: u64,
    /// Bytes received in the window.
    pub received_bytes: u64,
    /// Length of the window in seconds.
    pub window_s: u64,
}

/// A peer's counters in the last report, and how they grew in the two intervals before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Samples {
    rx: u64,
    tx: u64,
    /// Newest first; [`WIDE`] stands for that much and more.
    rx_growth: [u32; 2],
    tx_growth: [u32; 2],
    count: u8,
    reset: bool,
}

/// 4 GiB and more between two reports: over 1 Gbit/s at 30 s. Enough to know that it is data; loss
/// is not told from it.
const WIDE: u32 = u32::MAX;

impl Samples {
    /// Takes the counters of a new report. A decrease is a new baseline, never a rate (E7).
    pub(super) fn push(&mut self, rx: u64, tx: u64) {
        self.reset = self.count > 0 && (rx < self.rx || tx < self.tx);
        self.count = if self.reset { 1 } else { (self.count + 1).min(3) };
        let growth = |new: u64, old: u64| u32::try_from(new.saturating_sub(old)).unwrap_or(WIDE);
        self.rx_growth = [growth(rx, self.rx), self.rx_growth[0]];
        self.tx_growth = [growth(tx, self.tx), self.tx_growth[0]];
        (self.rx, self.tx) = (rx, tx);
    }

    pub(super) fn rx(&self) -> u64 {
        self.rx
    }

    pub(super) fn tx(&self) -> u64 {
        self.tx
    }

    /// Whether the last report's counters were lower than those before: the peer was added again,
    /// or the interface made anew.
    pub(super) fn was_reset(&self) -> bool {
        self.reset
    }

    /// Bytes received and sent between the last two reports.
    pub(super) fn last(&self) -> Option<(u64, u64)> {
        (self.count >= 2).then(|| (u64::from(self.rx_growth[0]), u64::from(self.tx_growth[0])))
    }

    /// Whether handshake initiations went out and nothing came back (E6).
    pub(super) fn unanswered(&self) -> bool {
        self.last().is_some_and(|(rx, tx)| rx == 0 && is_initiations(tx))
    }

    /// What [`Samples::unanswered`] will be once these counters are pushed.
    pub(super) fn would_be_unanswered(&self, rx: u64, tx: u64) -> bool {
        self.count > 0 && rx == self.rx && tx > self.tx && is_initiations(tx - self.tx)
    }

    /// The counters of the last three reports from the oldest of them on, newest first.
    fn three(&self, growth: [u32; 2]) -> Option<[u64; 3]> {
        let [new, old] = growth;
        let all = self.count >= 3 && new != WIDE && old != WIDE;
        all.then(|| [u64::from(old) + u64::from(new), u64::from(old), 0])
    }

    /// The class of what flowed between the last two reports, `times` those of all three, by both
    /// ends' keepalive settings; the other's may not be known.
    pub(super) fn class(
        &self,
        times: &[i64; 3],
        keepalive_s: u16,
        peers_keepalive_s: Option<u16>,
    ) -> Traffic {
        let Some((rx, tx)) = self.last() else { return Traffic::Unknown };
        let span_ms = times[0] - times[1];
        if span_ms <= 0 {
            return Traffic::Unknown;
        }
        if self.unanswered() {
            return Traffic::Unanswered;
        }
        let peers_ms = peers_keepalive_s.map_or(UNKNOWN_KEEPALIVE_MS, |seconds| i64::from(seconds) * 1000);
        let sent = is_data(tx, span_ms, i64::from(keepalive_s) * 1000);
        let received = is_data(rx, span_ms, peers_ms);
        match (rx + tx, sent, received) {
            (0, ..) => Traffic::Silent,
            (_, true, true) => Traffic::Active,
            (_, true, false) => Traffic::SendOnly,
            (_, false, true) => Traffic::ReceiveOnly,
            (_, false, false) => Traffic::Idle,
        }
    }
}

/// Whether so many bytes are handshake initiations alone.
fn is_initiations(bytes: u64) -> bool {
    bytes > 0 && bytes < u64::from(WIDE) && bytes.is_multiple_of(INITIATION)
}

/// Whether so many bytes in so long must hold data: they are no sum of a plausible number of
/// initiations, responses and keepalives (E4).
fn is_data(bytes: u64, span_ms: i64, keepalive_ms: i64) -> bool {
    if bytes == 0 {
        return false;
    }
    let every = if keepalive_ms > 0 { keepalive_ms.min(PASSIVE_KEEPALIVE_MS) } else { PASSIVE_KEEPALIVE_MS };
    let keepalives = u64::try_from(span_ms / every + 2).unwrap_or(0);
    // Retries come every 5 s, but only while nothing is answered; one spare of each for the border.
    let handshakes = u64::try_from(span_ms / REKEY_MS + 2).unwrap_or(0);
    let mut noise =
        (0..=handshakes).flat_map(|i| (0..=handshakes).map(move |r| i * INITIATION + r * RESPONSE));
    !noise.any(|hs| {
        bytes
            .checked_sub(hs)
            .is_some_and(|rest| rest.is_multiple_of(KEEPALIVE) && rest / KEEPALIVE <= keepalives)
    })
}

/// The loss from a sender's `tx` to a receiver's `rx`, when both were sampled three times without
/// a reset and enough was sent.
pub(super) fn loss(sender: (&Samples, &[i64; 3]), receiver: (&Samples, &[i64; 3])) -> Option<Loss> {
    let (sent_at, got_at) = (sender.1, receiver.1);
    let sent = &sender.0.three(sender.0.tx_growth)?;
    let got = &receiver.0.three(receiver.0.rx_growth)?;
    if [sent_at, got_at].iter().any(|at| at[0] <= at[1] || at[1] <= at[2] || at[2] <= 0) {
        return None;
    }
    let (from, to) = (sent_at[2].max(got_at[2]), sent_at[0].min(got_at[0]));
    if to - from < (sent_at[0] - sent_at[2]).min(got_at[0] - got_at[2]) / 2 {
        return None;
    }
    let over = |counts: &[u64; 3], at: &[i64; 3]| at_time(counts, at, to) - at_time(counts, at, from);
    let (sent_bytes, received_bytes) = (over(sent, sent_at), over(got, got_at));
    let window_s = u64::try_from((to - from) / 1000).unwrap_or(0);
    if sent_bytes < f64_of(LOSS_MIN_BYTES) {
        return None;
    }
    // What left the sender between two of its samples that lie inside the receiver's window must
    // have arrived within that window.
    let inside: Vec<u64> = (0..3).filter(|i| (from..=to).contains(&sent_at[*i])).map(|i| sent[i]).collect();
    let inner = inside.first().zip(inside.last()).map_or(0, |(last, first)| last - first);
    let outer = got[0] - got[2];
    let at_least = if inner >= LOSS_MIN_BYTES { percent_missing(f64_of(inner), f64_of(outer)) } else { 0.0 };
    Some(Loss {
        percent: percent_missing(sent_bytes, received_bytes),
        at_least_percent: at_least,
        sent_bytes: u64_of(sent_bytes),
        received_bytes: u64_of(received_bytes),
        window_s,
    })
}

/// Whether [`loss`] may say that at least so many percent were lost: quickly told, as this is asked of all
/// tunnels. What is sent between two of the samples is no more than between all three.
pub(super) fn may_lose(sender: &Samples, receiver: &Samples, percent: f64) -> bool {
    let (sent, got) = (sender.three(sender.tx_growth), receiver.three(receiver.rx_growth));
    sent.zip(got).is_some_and(|(sent, got)| {
        // The figure is rounded to a tenth.
        sent[0] >= LOSS_MIN_BYTES && f64_of(got[0]) <= f64_of(sent[0]) * (100.1 - percent) / 100.0
    })
}

/// A counter at a moment between its samples, on the straight line between two of them.
fn at_time(counts: &[u64; 3], at: &[i64; 3], moment: i64) -> f64 {
    let (new, old) = if moment >= at[1] { (0, 1) } else { (1, 2) };
    let part = f64_of(u64::try_from(moment - at[old]).unwrap_or(0))
        / f64_of(u64::try_from(at[new] - at[old]).unwrap_or(1));
    f64_of(counts[old] - counts[2]) + f64_of(counts[new] - counts[old]) * part
}

fn percent_missing(sent: f64, received: f64) -> f64 {
    let percent = ((1.0 - received / sent) * 1000.0).round() / 10.0;
    percent.clamp(0.0, 100.0)
}

#[expect(clippy::cast_precision_loss, reason = "byte counts within a minute lie far below 2^52")]
fn f64_of(count: u64) -> f64 {
    count as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "differences of counters, not negative"
)]
fn u64_of(count: f64) -> u64 {
    count.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: [i64; 3] = [60_000, 30_000, 1];

    fn samples(rx: &[u64], tx: &[u64]) -> Samples {
        let mut samples = Samples::default();
        rx.iter().zip(tx).for_each(|(rx, tx)| samples.push(*rx, *tx));
        samples
    }

    fn class(rx: u64, tx: u64, keepalive: u16) -> Traffic {
        samples(&[1000, 1000 + rx], &[1000, 1000 + tx]).class(&TIMES, keepalive, Some(keepalive))
    }

    #[test]
    fn classes_follow_message_sizes() {
        assert_eq!(class(0, 0, 0), Traffic::Silent);
        assert_eq!(
            class(92, 180, 25),
            Traffic::Idle,
            "one handshake and a keepalive, as measured in the lab"
        );
        assert_eq!(class(32, 64, 25), Traffic::Idle);
        assert_eq!(class(0, 740, 5), Traffic::Unanswered, "five initiations");
        assert_eq!(class(92, 820, 0), Traffic::SendOnly, "five pings that nobody answers");
        assert_eq!(class(820, 92, 0), Traffic::ReceiveOnly);
        assert_eq!(class(50_000, 90_000, 25), Traffic::Active);
        assert_eq!(samples(&[5], &[5]).class(&TIMES, 0, None), Traffic::Unknown);
    }

    #[test]
    fn a_decrease_is_a_new_baseline() {
        let mut samples = samples(&[10, 20, 30], &[10, 20, 30]);
        samples.push(5, 40);
        assert!(samples.was_reset());
        assert_eq!(samples.last(), None);
        samples.push(6, 41);
        assert!(!samples.was_reset());
        assert_eq!(samples.last(), Some((1, 1)));
    }

    #[test]
    fn loss_needs_three_samples_and_finds_none_where_none_is() {
        let sent = samples(&[0; 3], &[0, 60_000, 120_000]);
        let got = samples(&[0, 60_000, 120_000], &[0; 3]);
        assert_eq!(loss((&sent, &[60_001, 30_001, 1]), (&got, &[60_001, 30_001, 1])).unwrap().percent, 0.0);
        let shifted = samples(&[20_000, 80_000, 140_000], &[0; 3]);
        let found = loss((&sent, &[60_001, 30_001, 1]), (&shifted, &[70_001, 40_001, 10_001])).unwrap();
        assert_eq!((found.percent, found.at_least_percent, found.window_s), (0.0, 0.0, 50));
        assert_eq!(loss((&samples(&[0; 2], &[0, 60_000]), &TIMES), (&got, &TIMES)), None);
    }

    proptest::proptest! {
        #[test]
        fn what_may_be_lost_is_no_less_than_what_is(
            sent in proptest::array::uniform3(0..50_000u64),
            got in proptest::array::uniform3(0..50_000u64),
            later_ms in 0..40_000i64,
            percent in 1..60u8,
        ) {
            let sums = |by: [u64; 3]| [by[0], by[0] + by[1], by[0] + by[1] + by[2]];
            let (sent, got) = (samples(&[0; 3], &sums(sent)), samples(&sums(got), &[0; 3]));
            let later = TIMES.map(|at| at + later_ms);
            let found = loss((&sent, &TIMES), (&got, &later));
            let percent = f64::from(percent);
            if found.is_some_and(|loss| loss.at_least_percent >= percent) {
                proptest::prop_assert!(may_lose(&sent, &got, percent));
            }
        }
    }

    #[test]
    fn loss_is_what_is_missing() {
        let at = [60_001, 30_001, 1];
        let sent = samples(&[0; 3], &[0, 50_000, 100_000]);
        let got = samples(&[0, 40_000, 80_000], &[0; 3]);
        let found = loss((&sent, &at), (&got, &at)).unwrap();
        assert_eq!((found.percent, found.at_least_percent), (20.0, 20.0));
        assert_eq!((found.sent_bytes, found.received_bytes), (100_000, 80_000));
        let dead = loss((&sent, &at), (&samples(&[7; 3], &[0; 3]), &at)).unwrap();
        assert_eq!(dead.percent, 100.0);
    }
}
