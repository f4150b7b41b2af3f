//! Logits as integers: one comparison decides order, ties and validity.
//!
//! An IEEE 754 number becomes an unsigned integer of the same order when the bits of
//! negative numbers are inverted and the sign bit of the others is set. Shifted so that
//! −∞ is 0, everything that is no logit (+∞ and both kinds of NaN) lands above
//! [`RANK_MAX`]: the largest rank of a slice tells at once whether all of it is valid.
//! Integers also have one maximum in any order of evaluation, so the compiler may use
//! vectors where it may not for floats.

use crate::error::SamplerError;

/// Rank of the largest finite logit; anything above it is NaN or +∞.
pub(crate) const RANK_MAX: u32 = rank(f32::MAX);

/// Rank of a masked logit (−∞), below that of any other.
pub(crate) const RANK_MASKED: u32 = rank(f32::NEG_INFINITY);

/// Returns the position of `logit` in the order of all floats; −0 and +0 are equal.
#[inline]
pub(crate) const fn rank(logit: f32) -> u32 {
    const NEG_INFINITY: u32 = !f32::NEG_INFINITY.to_bits();
    let bits = (logit + 0.0).to_bits();
    let mask = (bits.cast_signed() >> 31).cast_unsigned() | 0x8000_0000;
    (bits ^ mask).wrapping_sub(NEG_INFINITY)
}

/// Says what is wrong with a logit whose rank is above [`RANK_MAX`].
#[cold]
pub(crate) fn invalid_logit(token: usize, logit: f32) -> SamplerError {
    if logit.is_nan() {
        SamplerError::NanLogit { token }
    } else {
        SamplerError::InfiniteLogit { token }
    }
}

/// A token and its logit in one integer; ascending order is best first, ties by lowest id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(u64);

impl Key {
    /// Sorts after every token.
    pub(crate) const LAST: Self = Self(u64::MAX);

    #[inline]
    pub(crate) fn new(rank: u32, id: u32) -> Self {
        Self(u64::from(!rank) << 32 | u64::from(id))
    }

    #[inline]
    pub(crate) fn id(self) -> u32 {
        (self.0 & 0xffff_ffff) as u32
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn zeros_of_both_signs_are_equal() {
        assert_eq!(rank(-0.0), rank(0.0));
    }

    #[test]
    fn masked_is_the_lowest_rank() {
        assert_eq!(RANK_MASKED, 0);
        assert_eq!(rank(f32::MIN), 1);
    }

    #[test]
    fn what_is_no_logit_ranks_above_all_logits() {
        let nans = [
            0x7f80_0001,
            0x7fc0_0000,
            0x7fff_ffff,
            0xff80_0001,
            0xffc0_0000,
            u32::MAX,
        ];
        for bits in nans {
            assert!(rank(f32::from_bits(bits)) > RANK_MAX, "{bits:#x}");
        }
        assert!(rank(f32::INFINITY) > RANK_MAX);
        assert_eq!(rank(f32::MAX), RANK_MAX);
    }

    proptest! {
        #[test]
        fn rank_orders_like_floats(a in any::<f32>(), b in any::<f32>()) {
            prop_assert_eq!(rank(a).cmp(&rank(b)), a.partial_cmp(&b).unwrap());
        }

        #[test]
        fn key_orders_by_descending_logit_then_ascending_id(
            a in any::<f32>(), b in any::<f32>(), same: bool, i: u32, j: u32,
        ) {
            let b = if same { a } else { b };
            let expected = b.partial_cmp(&a).unwrap().then(i.cmp(&j));
            let (left, right) = (Key::new(rank(a), i), Key::new(rank(b), j));
            prop_assert_eq!(left.cmp(&right), expected);
            prop_assert_eq!(left.id(), i);
        }
    }
}
