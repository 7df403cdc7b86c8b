//! A report as the difference to an earlier one, exact to the byte. Between two reports of a host
//! mostly numbers change, so that is what the difference says best.
//!
//! A delta is a run of commands, each a number in LEB128 whose two lowest bits are the command and
//! whose other bits are its argument `n`:
//!
//! ```text
//! 0  COPY    the next n bytes of the base stay
//! 1  NUMBER  the bytes of the base up to its next digit stay; the digits there, 18 at most, change
//!            by n (zigzag: 0, -1, 1, -2, ... are 0, 1, 2, 3, ...)
//! 2  SKIP    the next n bytes of the base go
//! 3  INSERT  n bytes of the delta that follow come in
//! ```
//!
//! What is left of the base at the end stays. Digits count with a 1 before them, so that `05` and
//! `5` are two numbers (105 and 15) and no zero is lost.

mod numbers;

use std::fmt;

use crate::sign::sha256;

pub use self::numbers::{Digits, Edits, Numbers};

/// Digits of one number: with a 1 before them they stay below 2^63.
const DIGITS: usize = 18;
/// How far the sender looks for the place where both texts go on alike.
const LOOK_AHEAD: usize = 48;
/// Pieces that must be alike there: a few bytes between two numbers are soon alike by chance.
const ALIKE: usize = 4;

const COPY: u64 = 0;
const NUMBER: u64 = 1;
const SKIP: u64 = 2;
const INSERT: u64 = 3;

/// Bytes of SHA-256 that name a base.
const NAME_LEN: usize = 8;

/// A text that deltas are made to. A delta begins with the first 8 bytes of its SHA-256, so that it
/// is never applied to another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    name: [u8; NAME_LEN],
    text: Box<[u8]>,
}

/// Why a delta does not lead to a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeltaError {
    /// It was made for another base.
    OtherBase,
    /// It leads to more than is allowed.
    TooLarge,
    /// It is not what a sender writes.
    Broken,
}

impl fmt::Display for DeltaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OtherBase => "is a difference to another report",
            Self::TooLarge => "leads to more than allowed",
            Self::Broken => "is not a difference to a report",
        })
    }
}

/// The digits that a text begins with, as a number with a 1 before them, and how many they are.
fn number(text: &[u8]) -> (u64, usize) {
    let mut value = 1;
    for (len, byte) in text.iter().enumerate() {
        if len == DIGITS || !byte.is_ascii_digit() {
            return if len == 0 { (0, 0) } else { (value, len) };
        }
        value = value * 10 + u64::from(byte - b'0');
    }
    if text.is_empty() { (0, 0) } else { (value, text.len()) }
}

impl Base {
    /// This text as a base.
    #[must_use]
    pub fn new(text: impl Into<Box<[u8]>>) -> Self {
        let text = text.into();
        let mut name = [0; NAME_LEN];
        name.copy_from_slice(&sha256(&text)[..NAME_LEN]);
        Self { name, text }
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// The delta that makes `text` of this base.
    #[must_use]
    pub fn encode(&self, text: &[u8]) -> Vec<u8> {
        let mut delta = self.name.to_vec();
        let (mut old, mut new) = (&*self.text, text);
        while old != new {
            // Both go on alike up to here, or up to the number that changes here.
            let alike = alike(old, new);
            let digits = old[..alike].iter().rev().take(DIGITS - 1).take_while(|byte| byte.is_ascii_digit());
            let at = alike - digits.count();
            let ((before, old_len), (after, new_len)) = (number(&old[at..]), number(&new[at..]));
            if old_len > 0 && new_len > 0 {
                // NUMBER goes to the next digit by itself.
                let copy = old[..at].iter().rposition(u8::is_ascii_digit).map_or(0, |digit| digit + 1);
                write(&mut delta, COPY, copy);
                let difference = after.wrapping_sub(before).cast_signed();
                write_command(&mut delta, NUMBER, (difference << 1 ^ difference >> 63).cast_unsigned());
                (old, new) = (&old[at + old_len..], &new[at + new_len..]);
                continue;
            }
            write(&mut delta, COPY, at);
            (old, new) = (&old[at..], &new[at..]);
            let (skip, insert) = go_on(old, new);
            write(&mut delta, SKIP, skip);
            write(&mut delta, INSERT, insert);
            delta.extend_from_slice(&new[..insert]);
            (old, new) = (&old[skip..], &new[insert..]);
        }
        delta
    }

    /// The text that a delta makes of this base, at most `limit` bytes.
    ///
    /// # Errors
    /// See [`DeltaError`].
    pub fn apply(&self, delta: &[u8], limit: usize) -> Result<Vec<u8>, DeltaError> {
        let (name, mut commands) = delta.split_first_chunk().ok_or(DeltaError::Broken)?;
        if *name != self.name {
            return Err(DeltaError::OtherBase);
        }
        let mut base = &*self.text;
        // Usually the text is as long as its base, give or take some digits.
        let mut text = Vec::with_capacity(limit.min(base.len() + base.len() / 16 + 64));
        while !commands.is_empty() {
            let (command, argument) = command(&mut commands)?;
            let len = usize::try_from(argument).map_err(|_| DeltaError::Broken);
            match command {
                COPY => text.extend_from_slice(take(&mut base, len?)?),
                NUMBER => change(&mut base, argument, &mut text)?,
                SKIP => {
                    take(&mut base, len?)?;
                }
                _ => text.extend_from_slice(take(&mut commands, len?)?),
            }
            if text.len() > limit {
                return Err(DeltaError::TooLarge);
            }
        }
        text.extend_from_slice(base);
        if text.len() > limit { Err(DeltaError::TooLarge) } else { Ok(text) }
    }
}

/// How many bytes two texts have in common at their beginning.
fn alike(a: &[u8], b: &[u8]) -> usize {
    const STEP: usize = 32;
    let steps = a.chunks_exact(STEP).zip(b.chunks_exact(STEP)).take_while(|(a, b)| a == b).count();
    let (a, b) = (&a[steps * STEP..], &b[steps * STEP..]);
    steps * STEP + a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The bytes of two texts that go and come before both go on alike: the fewest pieces that do.
fn go_on(old: &[u8], new: &[u8]) -> (usize, usize) {
    let (a, b) = (pieces(old), pieces(new));
    let start = |pieces: &[Piece<'_>], n: usize| pieces[..n].iter().map(|piece| piece.len).sum();
    for sum in 1..=LOOK_AHEAD {
        for come in 0..=sum {
            let (Some(old), Some(new)) = (a.get(sum - come..), b.get(come..)) else { continue };
            let run = old.iter().zip(new).take(ALIKE).take_while(|(a, b)| a.before == b.before).count();
            if run == ALIKE || (run > 0 && run == old.len() && run == new.len()) {
                return (start(&a, sum - come), start(&b, come));
            }
        }
    }
    let all = |pieces: &[Piece<'_>]| start(pieces, pieces.len().min(LOOK_AHEAD));
    (all(&a), all(&b))
}

/// A piece of a text: some bytes without digits and the number behind them.
struct Piece<'a> {
    before: &'a [u8],
    len: usize,
}

/// As many pieces as matter to who looks ahead.
fn pieces(mut text: &[u8]) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    while !text.is_empty() && pieces.len() < LOOK_AHEAD + ALIKE {
        let digit = text.iter().position(u8::is_ascii_digit).unwrap_or(text.len());
        let (before, rest) = text.split_at(digit);
        let (_, digits) = number(rest);
        pieces.push(Piece { before, len: digit + digits });
        text = &rest[digits..];
    }
    pieces
}

/// Writes a command about that many bytes, if there are any.
fn write(delta: &mut Vec<u8>, command: u64, len: usize) {
    if len > 0 {
        write_command(delta, command, u64::try_from(len).expect("no text has 2^64 bytes"));
    }
}

fn write_command(delta: &mut Vec<u8>, command: u64, argument: u64) {
    write_leb128(delta, u128::from(argument) << 2 | u128::from(command));
}

fn write_leb128(bytes: &mut Vec<u8>, mut value: u128) {
    loop {
        let byte = u8::try_from(value & 0x7f).expect("seven bits");
        value >>= 7;
        if value == 0 {
            return bytes.push(byte);
        }
        bytes.push(byte | 0x80);
    }
}

fn change(base: &mut &[u8], zigzag: u64, text: &mut Vec<u8>) -> Result<(), DeltaError> {
    let digit = base.iter().position(u8::is_ascii_digit).ok_or(DeltaError::Broken)?;
    text.extend_from_slice(take(base, digit)?);
    let (before, len) = number(base);
    take(base, len)?;
    let difference = (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed();
    let value = before.checked_add_signed(difference).ok_or(DeltaError::Broken)?;
    let mut digits = [0; 20];
    let digits = decimal(value, &mut digits);
    // The 1 before them, and at least one of them.
    match digits {
        [b'1', digits @ ..] if (1..=DIGITS).contains(&digits.len()) => {
            text.extend_from_slice(digits);
            Ok(())
        }
        _ => Err(DeltaError::Broken),
    }
}

/// A number's decimal digits.
fn decimal(mut value: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + u8::try_from(value % 10).expect("a digit");
        value /= 10;
        if value == 0 {
            return &digits[start..];
        }
    }
}

fn command(bytes: &mut &[u8]) -> Result<(u64, u64), DeltaError> {
    let value = leb128(bytes)?;
    let argument = u64::try_from(value >> 2).map_err(|_| DeltaError::Broken)?;
    Ok((u64::try_from(value & 3).expect("two bits"), argument))
}

/// A number of ten bytes at most.
fn leb128(bytes: &mut &[u8]) -> Result<u128, DeltaError> {
    let mut value: u128 = 0;
    for shift in 0..10 {
        let (&byte, rest) = bytes.split_first().ok_or(DeltaError::Broken)?;
        *bytes = rest;
        value |= u128::from(byte & 0x7f) << (7 * shift);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(DeltaError::Broken)
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Result<&'a [u8], DeltaError> {
    let (taken, rest) = bytes.split_at_checked(len).ok_or(DeltaError::Broken)?;
    *bytes = rest;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The bytes of a delta beside its base's name.
    fn through(base: &str, text: &str) -> usize {
        let base = Base::new(base.as_bytes());
        let delta = base.encode(text.as_bytes());
        let made = base.apply(&delta, text.len()).unwrap();
        assert_eq!(String::from_utf8_lossy(&made), text, "{delta:?}");
        if !text.is_empty() {
            assert_eq!(base.apply(&delta, text.len() - 1), Err(DeltaError::TooLarge));
        }
        delta.len() - NAME_LEN
    }

    #[test]
    fn numbers_that_changed_cost_a_byte_or_two_each() {
        let text = |a: u64, b: &str| format!(r#"{{"rx_bytes":{a},"rx":99,"load":[0.{b},12.5],"k":"a9Zb/"}}"#);
        assert_eq!(through(&text(5, "05"), &text(5, "05")), 0, "the base stays");
        assert_eq!(through(&text(1000, "05"), &text(1015, "05")), 1, "one number");
        assert_eq!(through(&text(999, "05"), &text(1000, "5")), 3 + 1 + 2, "two, and a copy between");
        through(&text(u64::MAX, "00"), &text(0, "000"));
        through(&text(7, "9"), &text(u64::MAX - 1, "10"));
        through("", "x");
        through("x", "");
        through("1", "");
        through("12345678901234567890", "12345678901234567891");
    }

    #[test]
    fn what_comes_and_goes_is_all_that_costs_more() {
        let peer = |n: u32| format!(r#"{{"public_key":"key{n}","endpoint":"192.0.2.{n}:51820","rx":{n}00}}"#);
        let list = |peers: &[u32]| peers.iter().map(|&n| peer(n)).collect::<Vec<_>>().join(",");
        let base = list(&[1, 2, 3, 4, 5, 6]);
        assert!(through(&base, &list(&[1, 2, 4, 5, 6])) < 40);
        assert!(through(&base, &list(&[1, 2, 3, 9, 4, 5, 6])) < 40 + peer(9).len());
        through(&base, &list(&[6, 5, 4, 3, 2, 1]));
    }

    #[test]
    fn what_no_sender_writes_is_refused() {
        let base = Base::new(*b"a1b2");
        let apply = |commands: &[u8]| base.apply(&[&base.name[..], commands].concat(), 100);
        assert_eq!(apply(b""), Ok(base.text.to_vec()));
        assert_eq!(apply(&[0x01]), Ok(base.text.to_vec()), "a number that changes by nothing");
        let broken: [&[u8]; 8] = [
            &[5 << 2],        // copies more than there is
            &[5 << 2 | 2],    // skips more than there is
            &[5 << 2 | 3, 0], // inserts more than there is
            &[4 << 2, 1],     // no number left
            &[1, 1, 1],       // three of two
            &[0x80],          // cut short
            &[0xff; 11],      // a number without end
            &[0xed, 0x03],    // 11 becomes -112
        ];
        for commands in broken {
            assert_eq!(apply(commands), Err(DeltaError::Broken), "{commands:?}");
        }
        assert_eq!(base.apply(&base.name[..7], 100), Err(DeltaError::Broken));
        assert_eq!(Base::new(*b"a1b3").apply(&base.name, 100), Err(DeltaError::OtherBase));
    }

    proptest! {
        #[test]
        fn any_text_comes_out_as_it_went_in(base in "[a1{,0-9\"]{0,300}", text in "[a1{,0-9\"]{0,300}") {
            through(&base, &text);
        }

        #[test]
        fn any_edit_of_a_text_comes_out_as_it_went_in(
            base in "([a-c:,\"]{1,6}[0-9]{1,20}){0,60}", cut in any::<prop::sample::Index>(),
            len in 0usize..40, insert in "[a-c0-9]{0,30}"
        ) {
            let at = if base.is_empty() { 0 } else { cut.index(base.len()) };
            let end = (at + len).min(base.len());
            through(&base, &format!("{}{insert}{}", &base[..at], &base[end..]));
        }

        #[test]
        fn any_delta_is_read_or_refused_and_stays_within_the_limit(
            base in prop::collection::vec(any::<u8>(), 0..200), delta in prop::collection::vec(any::<u8>(), 0..200)
        ) {
            let base = Base::new(base);
            let delta = [&base.name[..], &delta].concat();
            if let Ok(text) = base.apply(&delta, 150) {
                prop_assert!(text.len() <= 150);
            }
        }
    }
}
