//! The public key of a private one: X25519 (RFC 7748) with the base point. The control socket of a
//! userspace WireGuard gives a device's private key alone.
//!
//! No branch and no memory access depends on the key. It is written for size: `wg` does the same in
//! a third of the time, and the result is remembered.

use proto::ids::PublicKey;

/// The public key that belongs to `private`.
#[must_use]
pub fn public_key(private: &[u8; 32]) -> PublicKey {
    let mut scalar = *private;
    scalar[0] &= 248;
    scalar[31] = (scalar[31] & 127) | 64;
    PublicKey(multiply(&scalar, BASE).to_bytes())
}

/// The u-coordinate of the base point.
const BASE: Field = Field([9, 0, 0, 0, 0]);
/// (486662 - 2) / 4, of the curve's equation.
const A24: Field = Field([121_665, 0, 0, 0, 0]);
/// Bits of a limb.
const BITS: u32 = 51;
const MASK: u64 = (1 << BITS) - 1;

/// A number modulo 2^255 - 19 in five limbs of 51 bits, the lowest first. Results of a multiplication
/// have limbs below 2^52, sums and differences of such below 2^54, which multiply without overflow.
#[derive(Clone, Copy)]
struct Field([u64; 5]);

/// The Montgomery ladder of RFC 7748, section 5.
fn multiply(scalar: &[u8; 32], point: Field) -> Field {
    let mut near = (Field([1, 0, 0, 0, 0]), Field([0; 5]));
    let mut far = (point, Field([1, 0, 0, 0, 0]));
    let mut swapped = 0;
    for bit in (0..255).rev() {
        let set = u64::from(scalar[bit / 8] >> (bit % 8) & 1);
        swap(swapped ^ set, &mut near.0, &mut far.0);
        swap(swapped ^ set, &mut near.1, &mut far.1);
        swapped = set;
        let (sum, difference) = (near.0.add(near.1), near.0.sub(near.1));
        let (crossed_a, crossed_b) = (far.0.sub(far.1).mul(sum), far.0.add(far.1).mul(difference));
        far.0 = crossed_a.add(crossed_b).square();
        far.1 = crossed_a.sub(crossed_b).square().mul(point);
        let (sum, difference) = (sum.square(), difference.square());
        let between = sum.sub(difference);
        near.0 = sum.mul(difference);
        near.1 = between.mul(A24.mul(between).add(sum));
    }
    swap(swapped, &mut near.0, &mut far.0);
    swap(swapped, &mut near.1, &mut far.1);
    near.0.mul(near.1.invert())
}

/// Exchanges two numbers if `set` is 1, and takes the same time if it is 0.
fn swap(set: u64, a: &mut Field, b: &mut Field) {
    let mask = set.wrapping_neg();
    for (a, b) in a.0.iter_mut().zip(&mut b.0) {
        let difference = (*a ^ *b) & mask;
        *a ^= difference;
        *b ^= difference;
    }
}

impl Field {
    fn add(self, other: Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at] + other.0[at]))
    }

    /// With four times the modulus on top, so that no limb falls below zero.
    fn sub(self, other: Self) -> Self {
        let above = |at| if at == 0 { (MASK - 18) << 2 } else { MASK << 2 };
        Self(std::array::from_fn(|at| self.0[at] + above(at) - other.0[at]))
    }

    fn square(self) -> Self {
        self.mul(self)
    }

    /// Limbs above the fifth count 19 times as they come round: 2^255 is 19.
    fn mul(self, other: Self) -> Self {
        let mut sums = [0_u128; 5];
        for (i, a) in self.0.into_iter().enumerate() {
            for (j, b) in other.0.into_iter().enumerate() {
                let round = if i + j < 5 { 1 } else { 19 };
                sums[(i + j) % 5] += u128::from(a) * u128::from(b) * round;
            }
        }
        Self(carried(sums))
    }

    /// To the power of the modulus less 2, whose bits are all set but the second and the fourth.
    fn invert(self) -> Self {
        let mut power = self;
        for bit in (0..254).rev() {
            power = power.square();
            if bit != 2 && bit != 4 {
                power = power.mul(self);
            }
        }
        power
    }

    fn to_bytes(self) -> [u8; 32] {
        let mut limbs = self.0;
        // Twice, so that each has 51 bits; the number may still be the modulus or a little more.
        for _ in 0..2 {
            limbs = carried(limbs.map(u128::from));
        }
        let mut over = 19;
        for limb in limbs {
            over = (limb + over) >> BITS;
        }
        limbs[0] += 19 * over;
        let mut bytes = [0; 32];
        let (mut held, mut count, mut at) = (0_u128, 0, 0);
        let mut carry = 0;
        for limb in limbs {
            let limb = limb + carry;
            carry = limb >> BITS;
            held |= u128::from(limb & MASK) << count;
            count += BITS;
            while count >= 8 {
                bytes[at] = held.to_le_bytes()[0];
                held >>= 8;
                count -= 8;
                at += 1;
            }
        }
        bytes[31] = held.to_le_bytes()[0];
        bytes
    }
}

/// Passes on what a limb has above its 51 bits, round to the first and once more to the second.
fn carried(mut sums: [u128; 5]) -> [u64; 5] {
    for at in [0, 1, 2, 3, 4, 0] {
        let over = sums[at] >> BITS;
        sums[at] &= u128::from(MASK);
        sums[(at + 1) % 5] += if at == 4 { over * 19 } else { over };
    }
    #[expect(clippy::cast_possible_truncation, reason = "below 2^52 after the carries")]
    sums.map(|sum| sum as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> [u8; 32] {
        std::array::from_fn(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
    }

    /// A point's coordinate, whose highest bit does not count.
    fn field(bytes: [u8; 32]) -> Field {
        let bit = |bit: usize| u64::from(bytes[bit / 8] >> (bit % 8) & 1);
        Field(std::array::from_fn(|limb| (0..51).map(|at| bit(51 * limb + at) << at).sum()))
    }

    #[test]
    fn the_keys_of_rfc_7748_section_6_1() {
        for (private, public) in [
            (
                "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
                "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
            ),
            (
                "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
                "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
            ),
        ] {
            assert_eq!(public_key(&bytes(private)).0, bytes(public));
        }
    }

    /// Each product is the next scalar, and each scalar the next point.
    #[test]
    fn a_thousand_products_of_rfc_7748_section_5_2() {
        let (mut scalar, mut point) = (BASE.to_bytes(), BASE.to_bytes());
        for round in 0..1000 {
            let mut clamped = scalar;
            clamped[0] &= 248;
            clamped[31] = (clamped[31] & 127) | 64;
            let product = multiply(&clamped, field(point)).to_bytes();
            (scalar, point) = (product, scalar);
            if round == 0 {
                let expected = "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079";
                assert_eq!(scalar, bytes(expected));
            }
        }
        assert_eq!(scalar, bytes("684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51"));
    }

    #[test]
    fn numbers_from_the_modulus_up_are_reduced() {
        let modulus = Field([MASK - 18, MASK, MASK, MASK, MASK]);
        assert_eq!(modulus.to_bytes(), [0; 32]);
        assert_eq!(
            Field([MASK; 5]).to_bytes(),
            field(std::array::from_fn(|at| u8::from(at == 0) * 18)).to_bytes()
        );
        assert_eq!(modulus.sub(Field([1, 0, 0, 0, 0])).add(BASE).to_bytes()[0], 8);
    }
}
