//! The half-precision factors inside blocks.
//!
//! Blocks start at any even or odd byte of a file, so the factors are bytes here, and
//! reading one is a handful of integer instructions that inline into every kernel: a
//! library call that asks the processor for its features once per block would cost more
//! than the block.

use bytemuck::{Pod, Zeroable};

/// A little-endian half-precision number at any address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub(crate) struct F16Le([u8; 2]);

impl F16Le {
    /// Returns the value, exactly.
    #[inline(always)]
    pub(crate) const fn to_f32(self) -> f32 {
        f16_to_f32(self.to_bits())
    }

    /// Returns the bits.
    #[inline(always)]
    pub(crate) const fn to_bits(self) -> u16 {
        u16::from_le_bytes(self.0)
    }

    /// Returns the number with these bits.
    #[inline(always)]
    pub(crate) const fn from_bits(bits: u16) -> Self {
        Self(bits.to_le_bytes())
    }

    /// Returns the half nearest to `value`, ties to even, infinite beyond the range.
    #[inline(always)]
    pub(crate) fn from_f32(value: f32) -> Self {
        Self(half::f16::from_f32(value).to_le_bytes())
    }
}

/// Returns the value of half-precision bits, exactly and without branches.
///
/// The exponent and mantissa shift into place; multiplying by 2¹¹² corrects the bias and
/// normalises subnormals in one step. Infinities and NaN get their exponent back by an
/// or.
#[inline(always)]
pub(crate) const fn f16_to_f32(bits: u16) -> f32 {
    const TWO_POW_112: f32 = f32::from_bits((127 + 112) << 23);
    let bits = bits as u32;
    let magnitude = f32::from_bits((bits & 0x7fff) << 13) * TWO_POW_112;
    let special = if bits & 0x7c00 == 0x7c00 {
        0x7f80_0000
    } else {
        0
    };
    f32::from_bits(magnitude.to_bits() | special | (bits & 0x8000) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_has_its_value() {
        for bits in 0..=u16::MAX {
            let expected = half::f16::from_bits(bits).to_f32();
            let found = f16_to_f32(bits);
            if expected.is_nan() {
                assert!(found.is_nan(), "{bits:#06x}");
            } else {
                assert_eq!(found.to_bits(), expected.to_bits(), "{bits:#06x}");
                assert_eq!(F16Le::from_f32(found), F16Le(bits.to_le_bytes()));
            }
        }
    }
}
