//! Numbers of a base without its text: enough to read what they become by a delta that changes nothing else, or
//! nothing but what an earlier one did.

use super::{Base, COPY, DIGITS, NAME_LEN, NUMBER, SKIP, command, leb128, number, take, write_leb128};

/// Some numbers of a base, in the order of its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbers {
    /// The base's.
    name: [u8; NAME_LEN],
    /// Bytes of the base.
    len: usize,
    /// Of each number three in LEB128: how far it is from the end of the one before to where no other number
    /// stands before it, from there to its digits, and its [`Digits`].
    packed: Box<[u8]>,
}

/// The digits of a number as they stand in a text, 18 at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digits(
    /// The number with a 1 before its digits, so that their zeros count.
    u64,
);

impl Digits {
    /// The number.
    #[must_use]
    pub fn value(self) -> u64 {
        self.0 - 10_u64.pow(self.0.ilog10())
    }

    /// Whether there is a zero before the number's own digits, as JSON's whole numbers must not have.
    #[must_use]
    pub fn has_leading_zero(self) -> bool {
        let digits = self.0.ilog10();
        digits > 1 && self.value() < 10_u64.pow(digits - 1)
    }

    fn len(self) -> usize {
        self.0.ilog10() as usize
    }

    /// What they become by the argument of a delta's command.
    fn changed(self, zigzag: u64) -> Option<Self> {
        let difference = (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed();
        let after = Self(self.0.checked_add_signed(difference).filter(|after| *after > 0)?);
        let is_one_first = after.0 / 10_u64.pow(after.0.ilog10()) == 1;
        (is_one_first && (1..=DIGITS).contains(&after.len())).then_some(after)
    }
}

/// Where a number stands in its base.
struct Place {
    /// From here on no other number stands before it.
    clear: usize,
    start: usize,
    digits: Digits,
}

/// What a delta changes of its base beside some numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edits(Box<[Edit]>);

/// A command of a delta that is about something else than these numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Edit {
    /// Where in the base it comes.
    place: usize,
    command: u64,
    argument: u64,
    /// What an INSERT brings.
    inserted: Box<[u8]>,
    /// Bytes of the base that it is about.
    gone: usize,
    /// What becomes of them, in bytes.
    come: usize,
}

impl Edits {
    /// Bytes that they take.
    #[must_use]
    pub fn size(&self) -> usize {
        size_of_val(self)
            + size_of_val(&*self.0)
            + self.0.iter().map(|edit| edit.inserted.len()).sum::<usize>()
    }
}

/// Goes through a delta.
struct Walk<'a> {
    commands: &'a [u8],
    /// What it must change yet.
    edits: &'a [Edit],
    /// Where in the base it is.
    at: usize,
    /// Bytes of the base.
    base: usize,
    /// Bytes that it leads to, as far as it was gone through.
    len: usize,
}

impl Walk<'_> {
    /// Where the next number that changes is looked for, and how it changes; `Some(None)` where none does any more.
    fn next(&mut self) -> Option<Option<(usize, u64)>> {
        while !self.commands.is_empty() {
            let (command, argument) = command(&mut self.commands).ok()?;
            if command == COPY {
                self.at =
                    self.at.checked_add(usize::try_from(argument).ok()?).filter(|at| *at <= self.base)?;
            } else if !self.edit(command, argument) {
                return (command == NUMBER).then_some(Some((self.at, argument)));
            }
        }
        Some(None)
    }

    /// Whether this command is the next of the edits; then it is taken.
    fn edit(&mut self, command: u64, argument: u64) -> bool {
        let Some((edit, rest)) = self.edits.split_first() else { return false };
        if (edit.place, edit.command, edit.argument) != (self.at, command, argument) {
            return false;
        }
        let Some(commands) = self.commands.strip_prefix(&*edit.inserted) else { return false };
        (self.edits, self.commands) = (rest, commands);
        self.at += edit.gone;
        self.len = self.len - edit.gone + edit.come;
        true
    }
}

impl Numbers {
    /// The numbers of a base that begin at these places. `None` where no number of at most 18 digits does,
    /// or where the places are not in order.
    #[must_use]
    pub fn of(base: &Base, places: impl IntoIterator<Item = usize>) -> Option<Self> {
        let text = base.text();
        let mut packed = Vec::new();
        let mut at = 0;
        let is_digit = |place: usize| text.get(place).is_some_and(u8::is_ascii_digit);
        for place in places {
            let before = text.get(at..place)?;
            let (digits, len) = number(&text[place..]);
            if len == 0 || place.checked_sub(1).is_some_and(is_digit) || is_digit(place + len) {
                return None;
            }
            let clear = before.iter().rposition(u8::is_ascii_digit).map_or(0, |digit| digit + 1);
            write_leb128(&mut packed, clear as u128);
            write_leb128(&mut packed, (before.len() - clear) as u128);
            write_leb128(&mut packed, digits.into());
            at = place + len;
        }
        Some(Self { name: base.name, len: text.len(), packed: packed.into() })
    }

    /// Tells `each` of the numbers in their order, as they are after a delta that changes the same as `edits` beside
    /// them. `None` where it changes anything else or not all of that, or leads to more than `limit` bytes, where there
    /// is any doubt, or where `each` says so.
    pub fn after(
        &self,
        delta: &[u8],
        edits: &Edits,
        limit: usize,
        mut each: impl FnMut(Digits) -> Option<()>,
    ) -> Option<()> {
        let (name, commands) = delta.split_first_chunk()?;
        if *name != self.name {
            return None;
        }
        let mut walk = Walk { commands, edits: &edits.0, at: 0, base: self.len, len: self.len };
        let mut change = walk.next()?;
        for Place { clear, start, digits } in self.places() {
            let after = match change {
                Some((place, by)) if place <= start => {
                    let after = digits.changed(by).filter(|_| place >= clear)?;
                    walk.len = walk.len - digits.len() + after.len();
                    walk.at = start + digits.len();
                    change = walk.next()?;
                    after
                }
                _ => digits,
            };
            each(after)?;
        }
        (change.is_none() && walk.edits.is_empty() && walk.len <= limit).then_some(())
    }

    /// What a delta to `base`, whose numbers these are, changes beside them. `None` where that touches one of them, or
    /// where the delta is none to this base.
    #[must_use]
    pub fn edits(&self, base: &Base, delta: &[u8]) -> Option<Edits> {
        let (text, places) = (base.text(), self.places().collect::<Vec<_>>());
        let (name, mut commands) = delta.split_first_chunk::<NAME_LEN>()?;
        let mut edits = Vec::new();
        let mut at: usize = 0;
        while *name == base.name && !commands.is_empty() {
            let (command, argument) = command(&mut commands).ok()?;
            let len = usize::try_from(argument);
            let (gone, come, inserted) = match command {
                COPY => {
                    at = at.checked_add(len.ok()?)?;
                    continue;
                }
                NUMBER => {
                    let rest = text.get(at..)?;
                    let digit = rest.iter().position(u8::is_ascii_digit)?;
                    let (digits, len) = number(&rest[digit..]);
                    if places.iter().any(|place| place.start == at + digit) {
                        at += digit + len;
                        continue;
                    }
                    (digit + len, digit + Digits(digits).changed(argument)?.len(), &[][..])
                }
                SKIP => (len.ok()?, 0, &[][..]),
                _ => {
                    let inserted = take(&mut commands, len.ok()?).ok()?;
                    (0, inserted.len(), inserted)
                }
            };
            let end = at.checked_add(gone).filter(|end| *end <= text.len())?;
            // Between two numbers there is something that is no digit; other bytes might come close to one.
            let touches = |place: &Place| place.start <= end && place.start + place.digits.len() >= at;
            if command != NUMBER && places.iter().any(touches) {
                return None;
            }
            edits.push(Edit { place: at, command, argument, inserted: inserted.into(), gone, come });
            at = end;
        }
        (*name == base.name).then(|| Edits(edits.into()))
    }

    fn places(&self) -> impl Iterator<Item = Place> {
        let (mut packed, mut at) = (&*self.packed, 0);
        std::iter::from_fn(move || {
            let mut next = || leb128(&mut packed).ok().and_then(|value| u64::try_from(value).ok());
            let clear = at + usize::try_from(next()?).ok()?;
            let start = clear + usize::try_from(next()?).ok()?;
            let digits = Digits(next()?);
            at = start + digits.len();
            Some(Place { clear, start, digits })
        })
    }

    /// Bytes that they take.
    #[must_use]
    pub fn size(&self) -> usize {
        size_of::<Self>() + self.packed.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Where the numbers of a text begin.
    fn places(text: &[u8]) -> Vec<usize> {
        let is_digit = |place: usize| text[place].is_ascii_digit();
        (0..text.len()).filter(|&place| is_digit(place) && (place == 0 || !is_digit(place - 1))).collect()
    }

    /// The numbers at `chosen` places after the change from one text to the other.
    fn after(base: &str, chosen: &[usize], text: &str) -> Option<Vec<u64>> {
        let base = Base::new(base.as_bytes());
        let places = places(base.text());
        let numbers = Numbers::of(&base, chosen.iter().map(|&number| places[number])).unwrap();
        let mut found = Vec::new();
        let delta = base.encode(text.as_bytes());
        numbers.after(&delta, &Edits::default(), text.len(), |digits| {
            found.push(digits.value());
            Some(())
        })?;
        assert_eq!(numbers.after(&delta, &Edits::default(), text.len() - 1, |_| Some(())), None, "too long");
        Some(found)
    }

    #[test]
    fn numbers_are_read_as_they_become_where_nothing_else_changes() {
        let base = "a=12,b=7,c=x9y,d=100";
        assert_eq!(after(base, &[0, 1, 3], base), Some(vec![12, 7, 100]), "as they were");
        assert_eq!(after(base, &[0, 1, 3], "a=13,b=1234,c=x9y,d=99"), Some(vec![13, 1234, 99]));
        assert_eq!(after(base, &[1], "a=12,b=0,c=x9y,d=100"), Some(vec![0]));
        for other in
            ["a=12,b=7,c=x8y,d=100", "a=12,b=,c=x9y,d=100", "a=12,b=7,c=x9y,e=100", "a=12,b=7,c=x9y,d=1000;"]
        {
            assert_eq!(after(base, &[0, 1, 3], other), None, "{other}");
        }
        assert_eq!(after(base, &[0, 1], "a=12,b=7,c=x9y,d=101"), None, "one that is not asked for");
        let base = Base::new(*b"a=12");
        let numbers = Numbers::of(&base, [2]).unwrap();
        assert_eq!(
            numbers.after(&Base::new(*b"a=11").encode(b"a=12"), &Edits::default(), 9, |_| Some(())),
            None,
            "another base"
        );
        let unwanted = numbers.after(&base.encode(b"a=13"), &Edits::default(), 9, |_| None);
        assert_eq!(unwanted, None, "who asks does not want it");
    }

    #[test]
    fn what_an_earlier_delta_changed_too_is_no_news() {
        let text = |rx: u32, mtu: u32, state: &str, tx: u32| {
            format!(
                r#"{{"name":"eth0","rx":{rx},"mtu":{mtu},"mac":"02:00","state":"{state}","ip":"10.0.0.1","tx":{tx}}}"#
            )
        };
        let base = Base::new(text(10, 1500, "reachable", 20).into_bytes());
        let place = |key: &str| text(10, 1500, "reachable", 20).find(key).unwrap() + key.len();
        let numbers = Numbers::of(&base, [place(r#""rx":"#), place(r#""tx":"#)]).unwrap();
        let delta = |rx, mtu, state, tx| base.encode(text(rx, mtu, state, tx).as_bytes());
        let read = |delta: &[u8], edits: &Edits| {
            let mut found = Vec::new();
            numbers.after(delta, edits, 200, |digits| {
                found.push(digits.value());
                Some(())
            })?;
            Some(found)
        };
        for (mtu, state) in [(1400, "reachable"), (1500, "stale"), (99_999, "stale"), (1500, "reachable")] {
            let edits = numbers.edits(&base, &delta(11, mtu, state, 20)).unwrap();
            assert_eq!(edits == Edits::default(), (mtu, state) == (1500, "reachable"));
            assert_eq!(read(&delta(11, mtu, state, 20), &edits), Some(vec![11, 20]));
            assert_eq!(read(&delta(10, mtu, state, 7), &edits), Some(vec![10, 7]));
            assert_eq!(read(&delta(12_345, mtu, state, 678), &edits), Some(vec![12_345, 678]));
            assert_eq!(read(&delta(12, mtu + 1, state, 20), &edits), None);
            assert_eq!(read(&delta(12, mtu, "failed", 20), &edits), None);
            let other =
                if mtu == 1500 && state == "reachable" { (1400, "stale") } else { (1500, "reachable") };
            assert_eq!(
                read(&delta(12, other.0, other.1, 20), &edits),
                None,
                "what changed is as it was again"
            );
            let len = text(11, mtu, state, 20).len();
            assert_eq!(numbers.after(&delta(11, mtu, state, 20), &edits, len, |_| Some(())), Some(()));
            assert_eq!(
                numbers.after(&delta(11, mtu, state, 20), &edits, len - 1, |_| Some(())),
                None,
                "too long"
            );
        }
        let other = Base::new(*b"x1");
        assert_eq!(numbers.edits(&base, &other.encode(b"x2")), None, "of another base");
        let touching = base.encode(text(10, 1500, "reachable", 20).replace("20}", "20.5}").as_bytes());
        assert_eq!(numbers.edits(&base, &touching), None);
        for commands in
            [&[4 << 2 | 3, 0][..], &[0xff; 11], &[0xfc, 0x7f, 1], &[0xfe, 0x7f], &[0xf9, 0xff, 0xff, 0xff, 1]]
        {
            assert_eq!(numbers.edits(&base, &[&base.name[..], commands].concat()), None, "{commands:?}");
        }
    }

    #[test]
    fn what_is_no_number_is_not_taken_for_one() {
        let base = Base::new(*b"a=12,1234567890123456789,b");
        for places in [vec![0], vec![3], vec![5], vec![2, 2], vec![23], vec![25], vec![26], vec![99]] {
            assert_eq!(Numbers::of(&base, places.clone()), None, "{places:?}");
        }
        assert!(Numbers::of(&base, []).is_some());
    }

    #[test]
    fn zeros_before_a_number_show() {
        let digits = |text: &[u8]| Digits(number(text).0);
        for (text, value, zero) in
            [("0", 0, false), ("00", 0, true), ("05", 5, true), ("50", 50, false), ("7", 7, false)]
        {
            let digits = digits(text.as_bytes());
            assert_eq!(
                (digits.value(), digits.has_leading_zero(), digits.len()),
                (value, zero, text.len()),
                "{text}"
            );
        }
        assert_eq!(digits(b"999999999999999999").value(), 999_999_999_999_999_999);
        assert_eq!(digits(b"999999999999999999").changed(2), None, "19 digits");
        assert_eq!(digits(b"5").changed(9), Some(digits(b"0")));
        assert_eq!(digits(b"5").changed(11), None, "below zero");
        assert_eq!(digits(b"0").changed(u64::MAX), None);
    }

    /// A text with `noise` in it at a place, and numbers in the place of those that begin at `places`.
    fn with(base: &[u8], places: &[usize], numbers: &[Vec<u8>], (at, noise): (usize, &str)) -> Vec<u8> {
        let mut text = base.to_vec();
        let mut changes: Vec<(usize, usize, &[u8])> = vec![(at, at, noise.as_bytes())];
        changes
            .extend(places.iter().zip(numbers).map(|(&at, new)| (at, at + number(&base[at..]).1, &new[..])));
        changes.sort_unstable();
        for (from, to, new) in changes.into_iter().rev() {
            text.splice(from..to, new.iter().copied());
        }
        text
    }

    proptest! {
        /// Whatever the delta: where the numbers can be read with what another one changed beside them, the text
        /// differs from the other's in these numbers alone.
        #[test]
        fn what_is_read_beside_the_same_edits_is_what_the_delta_leads_to(
            base in "[a-c=]{0,3}([0-9]{1,17}[a-c,]{1,4}){1,8}", chosen in prop::collection::vec(any::<bool>(), 8),
            changes in prop::collection::vec("[0-9]{1,18}", 16), noise in "[0-9a-c]{1,3}",
            cut in any::<prop::sample::Index>(), raw in prop::collection::vec(0_u8..16, 0..12), is_raw in any::<bool>()
        ) {
            let base = Base::new(base.as_bytes());
            let places: Vec<usize> = places(base.text()).into_iter().zip(&chosen).filter(|(_, is)| **is).map(|(at, _)| at).collect();
            let numbers = Numbers::of(&base, places.clone()).unwrap();
            let noise = (cut.index(base.text().len() + 1), noise.as_str());
            if places.iter().any(|&at| (at..=at + number(&base.text()[at..]).1).contains(&noise.0)) {
                return Ok(());
            }
            let changes: Vec<Vec<u8>> = changes.iter().map(|change| change.clone().into_bytes()).collect();
            let first = base.encode(&with(base.text(), &places, &changes[..8], noise));
            let Some(edits) = numbers.edits(&base, &first) else { return Ok(()) };
            prop_assert!(numbers.after(&first, &edits, 400, |_| Some(())).is_some());
            let second = base.encode(&with(base.text(), &places, &changes[8..], noise));
            let delta = if is_raw { [&base.name[..], &raw].concat() } else { second };
            let mut found = Vec::new();
            let text = |digits: Digits| format!("{:0len$}", digits.value(), len = digits.len()).into_bytes();
            if numbers.after(&delta, &edits, 400, |digits| { found.push(text(digits)); Some(()) }).is_some() {
                let made = base.apply(&delta, 400).unwrap();
                prop_assert_eq!(made, with(base.text(), &places, &found, noise));
            }
        }

        /// Whatever the delta: where the numbers can be read, the text that it leads to has them there, and the
        /// rest of it is the base's.
        #[test]
        fn what_is_read_is_what_the_delta_leads_to(
            base in "[a-c=]{0,3}([0-9]{1,20}[a-c,]{1,2}){1,8}", chosen in prop::collection::vec(any::<bool>(), 8),
            changes in prop::collection::vec(prop::option::of("[0-9]{1,19}"), 8), noise in prop::option::of("[0-9a-c]{1,3}"),
            cut in any::<prop::sample::Index>(), raw in prop::collection::vec(0_u8..16, 0..12), is_raw in any::<bool>()
        ) {
            let base = Base::new(base.as_bytes());
            let places: Vec<usize> = places(base.text()).into_iter().zip(&chosen).filter(|(_, is)| **is).map(|(at, _)| at).collect();
            let Some(numbers) = Numbers::of(&base, places.clone()) else { return Ok(()) };
            let mut text = base.text().to_vec();
            for (&at, change) in places.iter().zip(&changes).rev() {
                if let Some(change) = change {
                    let end = at + number(&text[at..]).1;
                    text.splice(at..end, change.bytes());
                }
            }
            if let Some(noise) = &noise {
                let at = cut.index(text.len() + 1);
                text.splice(at..at, noise.bytes());
            }
            let delta = if is_raw { [&base.name[..], &raw].concat() } else { base.encode(&text) };
            let mut found = Vec::new();
            let read = numbers.after(&delta, &Edits::default(), 400, |digits| { found.push(digits); Some(()) });
            let short = |text: &String| text.len() <= DIGITS;
            if !is_raw && noise.is_none() && changes.iter().flatten().all(short) {
                prop_assert!(read.is_some(), "{:?} {:?}", base, String::from_utf8_lossy(&text));
            }
            if read.is_some() {
                let made = base.apply(&delta, 400).unwrap();
                let mut rest = &made[..];
                let mut from = 0;
                for (&at, digits) in places.iter().zip(&found) {
                    let (between, after) = rest.split_at(at - from);
                    prop_assert_eq!(between, &base.text()[from..at]);
                    prop_assert_eq!(number(after), (digits.0, digits.len()));
                    rest = &after[digits.len()..];
                    from = at + number(&base.text()[at..]).1;
                }
                prop_assert_eq!(rest, &base.text()[from..]);
            }
        }
    }
}
