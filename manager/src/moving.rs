//! Where in a report's JSON the numbers stand that may move, and what they were. That is enough to read
//! [`Counts`] of a difference which changes them alone: the text itself is not needed, nor made.

use proto::delta::{Base, Digits, Edits, Numbers};
use proto::limits::PAYLOAD_MAX;
use proto::report::Counters;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::counts::{Counts, DeviceCounts, InterfaceCounts, PeerCounts};

/// The numbers of a report that may move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moving {
    numbers: Numbers,
    /// What each of them is, and where a list's next element begins.
    steps: Box<[Step]>,
}

/// A number, or the beginning of what the next numbers are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Interface,
    Device,
    Peer,
    ObservedAt,
    Uptime,
    /// One that is only shown.
    Shown,
    /// The digits behind a point, as in a load: only shown, too.
    Fraction,
    CarrierChanges,
    Counter(Counter),
    HandshakeAge,
    RxBytes,
    TxBytes,
    Rtt,
}

/// A field of [`Counters`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counter {
    RxBytes,
    RxPackets,
    RxErrors,
    RxDropped,
    RxFrame,
    TxBytes,
    TxPackets,
    TxErrors,
    TxDropped,
}

impl Moving {
    /// Those of a report's JSON. `None` where it is not written as agents write it: then reports that differ
    /// from it are read whole.
    #[must_use]
    pub fn of(base: &Base) -> Option<Self> {
        let report: RawReport<'_> = serde_json::from_slice(base.text()).ok()?;
        let mut index = Index { text: base.text(), places: Vec::new(), steps: Vec::new() };
        index.report(&report)?;
        let Index { places, steps, .. } = index;
        Some(Self { numbers: Numbers::of(base, places)?, steps: steps.into() })
    }

    /// What a difference to that report makes of them that changes the same as `edits` beside them. `None` where it
    /// changes anything else, or where it is not sure that it does not.
    #[must_use]
    pub fn read(&self, delta: &[u8], edits: &Edits) -> Option<Counts> {
        let mut counts = Counts::default();
        let mut steps = self.steps.iter();
        self.numbers.after(delta, edits, PAYLOAD_MAX, |digits| {
            let step = steps.find(|step| !counts.begin(**step))?;
            counts.set(*step, digits)
        })?;
        steps.all(|step| counts.begin(*step)).then_some(counts)
    }

    /// What a difference to that report, `base`, changes beside them, so that later ones which change the same can
    /// be read; `counts` is what the report says that it makes. `None` where they could not.
    #[must_use]
    pub fn edits(&self, base: &Base, delta: &[u8], counts: &Counts) -> Option<Edits> {
        let edits = self.numbers.edits(base, delta)?;
        (self.read(delta, &edits)? == *counts).then_some(edits)
    }

    /// Bytes that they take.
    #[must_use]
    pub fn size(&self) -> usize {
        self.numbers.size() + size_of_val(&self.steps) + size_of_val(&*self.steps)
    }
}

impl Counts {
    /// Begins an element of a list. False when this is a number instead.
    fn begin(&mut self, step: Step) -> bool {
        let system = &mut self.system;
        match step {
            Step::Interface => system.interfaces.push(InterfaceCounts::default()),
            Step::Device => system.wireguard.push(DeviceCounts::default()),
            Step::Peer => system
                .wireguard
                .last_mut()
                .into_iter()
                .for_each(|device| device.peers.push(PeerCounts::default())),
            _ => return false,
        }
        true
    }

    /// Takes a number; `None` where it is none that the field may have.
    fn set(&mut self, step: Step, digits: Digits) -> Option<()> {
        if digits.has_leading_zero() && step != Step::Fraction {
            return None;
        }
        let value = digits.value();
        let system = &mut self.system;
        match step {
            Step::ObservedAt => self.observed_at = i64::try_from(value).ok()?,
            Step::Uptime => system.uptime_s = value,
            Step::CarrierChanges => system.interfaces.last_mut()?.carrier_changes = Some(value),
            Step::Counter(counter) => *counter.of(&mut system.interfaces.last_mut()?.counters) = value,
            Step::Interface | Step::Device | Step::Peer | Step::Shown | Step::Fraction => {}
            Step::HandshakeAge | Step::RxBytes | Step::TxBytes | Step::Rtt => {
                let peer = system.wireguard.last_mut()?.peers.last_mut()?;
                match step {
                    Step::HandshakeAge => peer.handshake_age_s = Some(value),
                    Step::RxBytes => peer.rx_bytes = value,
                    Step::TxBytes => peer.tx_bytes = value,
                    _ => peer.rtt_us = Some(u32::try_from(value).ok()?),
                }
            }
        }
        Some(())
    }
}

impl Counter {
    fn of(self, counters: &mut Counters) -> &mut u64 {
        match self {
            Self::RxBytes => &mut counters.rx_bytes,
            Self::RxPackets => &mut counters.rx_packets,
            Self::RxErrors => &mut counters.rx_errors,
            Self::RxDropped => &mut counters.rx_dropped,
            Self::RxFrame => &mut counters.rx_frame,
            Self::TxBytes => &mut counters.tx_bytes,
            Self::TxPackets => &mut counters.tx_packets,
            Self::TxErrors => &mut counters.tx_errors,
            Self::TxDropped => &mut counters.tx_dropped,
        }
    }
}

/// Gathers the numbers of a report, in the order in which agents write them.
struct Index<'a> {
    text: &'a [u8],
    places: Vec<usize>,
    steps: Vec<Step>,
}

impl Index<'_> {
    fn report(&mut self, report: &RawReport<'_>) -> Option<()> {
        let system = &report.system;
        self.number(report.observed_at, Step::ObservedAt)?;
        self.number(system.uptime_s, Step::Uptime)?;
        system.load.iter().try_for_each(|load| self.decimal(load))?;
        let memory = &system.memory;
        [memory.available_kb, memory.free_kb, memory.swap_free_kb]
            .into_iter()
            .try_for_each(|number| self.number(number, Step::Shown))?;
        for interface in &system.interfaces {
            self.steps.push(Step::Interface);
            self.number(interface.carrier_changes, Step::CarrierChanges)?;
            self.counters(&interface.counters)?;
        }
        for device in &system.wireguard {
            self.steps.push(Step::Device);
            for peer in &device.peers {
                self.steps.push(Step::Peer);
                self.number(peer.handshake_at, Step::Shown)?;
                self.number(peer.handshake_age_s, Step::HandshakeAge)?;
                self.number(peer.rx_bytes, Step::RxBytes)?;
                self.number(peer.tx_bytes, Step::TxBytes)?;
                self.number(peer.rtt_us, Step::Rtt)?;
            }
        }
        Some(())
    }

    fn counters(&mut self, counters: &RawCounters<'_>) -> Option<()> {
        let fields = [
            (counters.rx_bytes, Counter::RxBytes),
            (counters.rx_packets, Counter::RxPackets),
            (counters.rx_errors, Counter::RxErrors),
            (counters.rx_dropped, Counter::RxDropped),
            (counters.rx_frame, Counter::RxFrame),
            (counters.tx_bytes, Counter::TxBytes),
            (counters.tx_packets, Counter::TxPackets),
            (counters.tx_errors, Counter::TxErrors),
            (counters.tx_dropped, Counter::TxDropped),
        ];
        fields.into_iter().try_for_each(|(number, counter)| self.number(number, Step::Counter(counter)))
    }

    /// A whole number without a sign behind its key, or none.
    fn number(&mut self, number: Option<&RawValue>, step: Step) -> Option<()> {
        let Some(number) = number.map(RawValue::get) else { return Some(()) };
        let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
        // Lists are read as structs, too, but the fields here are not all of a report's.
        let is_keyed = self.place(number).checked_sub(1).is_some_and(|before| self.text[before] == b':');
        (is_number && is_keyed).then(|| self.add(number, step))
    }

    /// A number that may have a point.
    fn decimal(&mut self, number: &RawValue) -> Option<()> {
        let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let (whole, fraction) = match number.get().split_once('.') {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (number.get(), None),
        };
        if !is_digits(whole) || !fraction.is_none_or(is_digits) {
            return None;
        }
        self.add(whole, Step::Shown);
        fraction.into_iter().for_each(|fraction| self.add(fraction, Step::Fraction));
        Some(())
    }

    fn add(&mut self, number: &str, step: Step) {
        self.places.push(self.place(number));
        self.steps.push(step);
    }

    /// Where a part of the text stands in it: it was read without being copied.
    fn place(&self, part: &str) -> usize {
        part.as_ptr().addr() - self.text.as_ptr().addr()
    }
}

/// A report's numbers that may move, as they are written.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawReport<'a> {
    #[serde(borrow)]
    observed_at: Option<&'a RawValue>,
    #[serde(borrow)]
    system: RawSystem<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawSystem<'a> {
    #[serde(borrow)]
    uptime_s: Option<&'a RawValue>,
    #[serde(borrow)]
    load: Vec<&'a RawValue>,
    #[serde(borrow)]
    memory: RawMemory<'a>,
    #[serde(borrow)]
    interfaces: Vec<RawInterface<'a>>,
    #[serde(borrow)]
    wireguard: Vec<RawDevice<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawMemory<'a> {
    #[serde(borrow)]
    available_kb: Option<&'a RawValue>,
    #[serde(borrow)]
    free_kb: Option<&'a RawValue>,
    #[serde(borrow)]
    swap_free_kb: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawInterface<'a> {
    #[serde(borrow)]
    carrier_changes: Option<&'a RawValue>,
    #[serde(borrow)]
    counters: RawCounters<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawCounters<'a> {
    #[serde(borrow)]
    rx_bytes: Option<&'a RawValue>,
    #[serde(borrow)]
    rx_packets: Option<&'a RawValue>,
    #[serde(borrow)]
    rx_errors: Option<&'a RawValue>,
    #[serde(borrow)]
    rx_dropped: Option<&'a RawValue>,
    #[serde(borrow)]
    rx_frame: Option<&'a RawValue>,
    #[serde(borrow)]
    tx_bytes: Option<&'a RawValue>,
    #[serde(borrow)]
    tx_packets: Option<&'a RawValue>,
    #[serde(borrow)]
    tx_errors: Option<&'a RawValue>,
    #[serde(borrow)]
    tx_dropped: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawDevice<'a> {
    #[serde(borrow)]
    peers: Vec<RawPeer<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawPeer<'a> {
    #[serde(borrow)]
    handshake_at: Option<&'a RawValue>,
    #[serde(borrow)]
    handshake_age_s: Option<&'a RawValue>,
    #[serde(borrow)]
    rx_bytes: Option<&'a RawValue>,
    #[serde(borrow)]
    tx_bytes: Option<&'a RawValue>,
    #[serde(borrow)]
    rtt_us: Option<&'a RawValue>,
}
#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use proto::report::Report;

    /// A report with some of everything.
    fn json(numbers: &[u64; 8], load: &str, name: &str) -> String {
        let [at, up, free, rx, errors, age, handshake, rtt] = numbers;
        format!(
            r#"{{"observed_at":{at},"interval_s":30,"hardware":"x\"rx_bytes\":1","delivery":{{"spooled":0}},
            "system":{{"hostname":{name:?},"uptime_s":{up},"load":[{load}],"memory":{{"total_kb":512,"free_kb":{free}}},
            "interfaces":[{{"name":"eth0","mtu":1500,"carrier_changes":2,"addresses":["10.0.0.1/24"],
              "counters":{{"rx_bytes":{rx},"rx_errors":{errors},"tx_bytes":5}}}}],
            "routes":[{{"destination":"0.0.0.0/0","gateway":"10.0.0.254","metric":7}}],
            "wireguard":[{{"name":"wg0","listen_port":51820,"peers":[{{"public_key":"{key}","endpoint":"192.0.2.7:51820",
              "allowed_ips":["10.1.0.0/16"],"handshake_at":{handshake},"handshake_age_s":{age},
              "rx_bytes":{rx},"tx_bytes":12,"rtt_us":{rtt}}}]}}]}}}}"#,
            key = proto::ids::PublicKey([7; 32]),
        )
    }

    fn read(base: &str, text: &str) -> Option<Counts> {
        let base = Base::new(base.as_bytes());
        Moving::of(&base).unwrap().read(&base.encode(text.as_bytes()), &Edits::default())
    }

    const NUMBERS: [u64; 8] = [1_790_000_000_000, 5, 6, 7, 8, 9, 10, 11];

    #[test]
    fn what_else_changes_is_seen() {
        let base = json(&NUMBERS, "0.10,1.5,12", "a");
        assert!(read(&base, &base).is_some());
        for (from, to) in [
            ("\"interval_s\":30", "\"interval_s\":60"),
            ("\"mtu\":1500", "\"mtu\":1400"),
            ("10.0.0.1/24", "10.0.0.2/24"),
            ("\"metric\":7", "\"metric\":8"),
            ("192.0.2.7:51820", "192.0.2.7:51821"),
            ("\"listen_port\":51820", "\"listen_port\":51821"),
            ("\"spooled\":0", "\"spooled\":1"),
            ("x\\\"rx_bytes\\\":1", "x\\\"rx_bytes\\\":2"),
            ("\"rtt_us\":11", "\"rtt_us\":null"),
            ("\"uptime_s\":5", "\"uptime_s\":-5"),
            ("\"rtt_us\":11", "\"rtt_us\":5000000000"),
            ("\"uptime_s\":5", "\"uptime_s\":05"),
        ] {
            let text = base.replacen(from, to, 1);
            assert_ne!(text, base, "{from}");
            assert_eq!(read(&base, &text), None, "{to}");
        }
    }

    #[test]
    fn reports_as_agents_write_them_are_read_and_others_left_to_be_read_whole() {
        let whole = include_bytes!("../../proto/tests/vectors/report.json");
        let report = Report::from_json(whole).unwrap();
        let base = Base::new(serde_json::to_vec(&report).unwrap());
        let moving = Moving::of(&base).unwrap();
        assert_eq!(moving.read(&base.encode(base.text()), &Edits::default()), Some(Counts::of(&report)));
        assert!(moving.size() < base.text().len() / 3, "{} of {}", moving.size(), base.text().len());
        for text in [
            r#"{"observed_at":-5}"#,
            r#"{"observed_at":5e3}"#,
            r#"{"observed_at":1234567890123456789}"#,
            r#"{"observed_at":"5"}"#,
            r#"{"system":{"uptime_s":1},"observed_at":2}"#,
            r#"{"observed_at":2,"observed_at":3}"#,
            r#"{"system":{"load":[1e3]}}"#,
            r#"{"system":{"load":[-0.5]}}"#,
            r#"{"system":{"load":[0.1234567890123456789]}}"#,
            "[5]",
            r#"{"system":{"interfaces":[{"counters":[5]}]}}"#,
            r#"{"system":{"uptime_s": 5}}"#,
            "{",
            "",
        ] {
            assert_eq!(Moving::of(&Base::new(text.as_bytes())), None, "{text}");
        }
        assert!(
            read(
                r#"{"observed_at":null,"system":{"load":[]}}"#,
                r#"{"observed_at":null,"system":{"load":[]}}"#
            )
            .is_some()
        );
    }

    proptest! {
        #[test]
        fn what_is_read_of_a_difference_is_what_the_report_says(
            numbers in prop::array::uniform8(0..u64::from(u32::MAX)), load in "[0-9]{1,2}\\.[0-9]{1,2},0\\.[0-9]{1,2},1",
            name in "[a-z\"\\\\:0-9]{0,12}"
        ) {
            let (base, text) = (json(&NUMBERS, "0.10,1.5,12", &name), json(&numbers, &load, &name));
            let counts = read(&base, &text);
            match Report::from_json(text.as_bytes()) {
                Ok(report) => {
                    prop_assert_eq!(counts.as_ref(), Some(&Counts::of(&report)));
                    // Nothing but what may move differs.
                    let mut same = Report::from_json(base.as_bytes()).unwrap();
                    let (old, new) = (&mut same.system, &report.system);
                    (same.observed_at, old.uptime_s, old.load) = (report.observed_at, new.uptime_s, new.load);
                    old.memory = new.memory.clone();
                    old.interfaces[0].counters = new.interfaces[0].counters;
                    let (peer, now) = (&mut old.wireguard[0].peers[0], &new.wireguard[0].peers[0]);
                    (peer.handshake_at, peer.handshake_age_s) = (now.handshake_at, now.handshake_age_s);
                    (peer.rx_bytes, peer.rtt_us) = (now.rx_bytes, now.rtt_us);
                    prop_assert_eq!(same, report);
                }
                // A load of two digits may begin with a zero, which is no JSON.
                Err(_) => prop_assert_eq!(counts, None),
            }
        }
    }
}
