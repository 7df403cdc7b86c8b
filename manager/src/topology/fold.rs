//! A fast hash for fingerprints and for maps keyed by our own indices.

use std::hash::{BuildHasherDefault, Hasher};
use std::net::IpAddr;

use proto::ids::{AgentId, Cidr};

use super::excerpt::EdgeRef;

/// A map keyed by our own indices, or by what agents report.
pub type FoldMap<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<Fold>>;
/// A set of our own indices.
pub(super) type FoldSet<K> = std::collections::HashSet<K, BuildHasherDefault<Fold>>;
/// A set of agents that we know.
pub type AgentSet = std::collections::HashSet<AgentId, BuildHasherDefault<Fold>>;

/// A set of edges.
pub type RefSet = std::collections::HashSet<EdgeRef, BuildHasherDefault<Fold>>;

/// Folds each word in by a wide multiplication. Not for data of strangers, who could aim at
/// collisions: its inputs come from authenticated agents or are our own indices.
#[derive(Debug, Clone, Copy)]
pub struct Fold(u64);

/// The first digits of pi and of the golden ratio: odd, with no pattern.
const SEED: u64 = 0x243f_6a88_85a3_08d3;
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

impl Default for Fold {
    fn default() -> Self {
        Self(SEED)
    }
}

impl Fold {
    #[inline]
    fn word(&mut self, word: u64) {
        let wide = u128::from(self.0 ^ word) * u128::from(FACTOR);
        let [low, high] =
            [wide, wide >> 64].map(|half| u64::try_from(half & u128::from(u64::MAX)).unwrap_or(0));
        self.0 = (low ^ high).wrapping_add(SEED);
    }

    #[inline]
    pub(super) fn text(&mut self, text: &str) {
        self.write(text.as_bytes());
    }

    #[inline]
    pub(super) fn cidr(&mut self, cidr: Cidr) {
        self.write_u8(cidr.prefix());
        self.ip(Some(cidr.address()));
    }

    #[inline]
    pub(super) fn ip(&mut self, ip: Option<IpAddr>) {
        match ip {
            None => self.write_u8(1),
            Some(IpAddr::V4(ip)) => self.write_u32(ip.to_bits()),
            Some(IpAddr::V6(ip)) => self.write(&ip.octets()),
        }
    }
}

impl Hasher for Fold {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            self.word(u64::from_le_bytes(word.try_into().unwrap_or_default()));
        }
        let rest = words.remainder();
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        // The length tells "a" + "bc" from "ab" + "c".
        self.word(u64::from_le_bytes(last) ^ (bytes.len() as u64) << 56);
    }

    #[inline]
    fn write_u8(&mut self, value: u8) {
        self.word(u64::from(value));
    }

    #[inline]
    fn write_u16(&mut self, value: u16) {
        self.word(u64::from(value));
    }

    #[inline]
    fn write_u32(&mut self, value: u32) {
        self.word(u64::from(value));
    }

    #[inline]
    fn write_u64(&mut self, value: u64) {
        self.word(value);
    }

    #[inline]
    fn write_usize(&mut self, value: usize) {
        self.word(value as u64);
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}
