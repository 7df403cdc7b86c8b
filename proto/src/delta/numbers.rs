//! Numbers of a base without its text: enough to read what they become by a delta that changes nothing else.

use super::{Base, COPY, DIGITS, DeltaError, NAME_LEN, NUMBER, command, leb128, number, write_leb128};

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

    /// Tells `each` of the numbers in their order, as they are after a delta. `None` where the delta changes
    /// anything but them or leads to more than `limit` bytes, where there is any doubt, or where `each` says so.
    pub fn after(
        &self,
        delta: &[u8],
        limit: usize,
        mut each: impl FnMut(Digits) -> Option<()>,
    ) -> Option<()> {
        let (name, mut commands) = delta.split_first_chunk()?;
        let mut change = (*name == self.name).then(|| self.next(&mut commands, 0))??;
        let (mut packed, mut at, mut len) = (&*self.packed, 0, self.len);
        while !packed.is_empty() {
            let mut next = || leb128(&mut packed).ok();
            let clear = at + usize::try_from(next()?).ok()?;
            let start = clear + usize::try_from(next()?).ok()?;
            let mut digits = Digits(u64::try_from(next()?).ok()?);
            at = start + digits.len();
            if let Some((place, by)) = change
                && place <= start
            {
                let after = digits.changed(by).filter(|_| place >= clear)?;
                len = len - digits.len() + after.len();
                digits = after;
                change = self.next(&mut commands, at)?;
            }
            each(digits)?;
        }
        (change.is_none() && len <= limit).then_some(())
    }

    /// Where the next number that changes is looked for, and how it changes; `Some(None)` where none does any more.
    fn next(&self, commands: &mut &[u8], mut at: usize) -> Option<Option<(usize, u64)>> {
        while !commands.is_empty() {
            match command(commands) {
                Ok((COPY, len)) => {
                    at = at.checked_add(usize::try_from(len).ok()?).filter(|at| *at <= self.len)?;
                }
                Ok((NUMBER, by)) => return Some(Some((at, by))),
                Ok(_) | Err(DeltaError::OtherBase | DeltaError::TooLarge | DeltaError::Broken) => {
                    return None;
                }
            }
        }
        Some(None)
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
        numbers.after(&delta, text.len(), |digits| {
            found.push(digits.value());
            Some(())
        })?;
        assert_eq!(numbers.after(&delta, text.len() - 1, |_| Some(())), None, "too long");
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
            numbers.after(&Base::new(*b"a=11").encode(b"a=12"), 9, |_| Some(())),
            None,
            "another base"
        );
        assert_eq!(numbers.after(&base.encode(b"a=13"), 9, |_| None), None, "who asks does not want it");
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

    proptest! {
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
            let read = numbers.after(&delta, 400, |digits| { found.push(digits); Some(()) });
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
