//! `MXFP4`: 32 four-bit floats (E2M1) that share a power of two (E8M0).
//!
//! From the OCP Microscaling Formats specification 1.0, as ggml stores it: without the
//! NaN that exponent 255 means there. The values are doubled to make them integers; `d`
//! carries the half.

use bytemuck::{Pod, Zeroable};

use crate::QuantType;

use super::{SmallBlock, UnpackedSmall, look_up, nibbles_16, pack_nibbles_16};

/// Twice the sixteen values of E2M1 (`kvalues_mxfp4`).
pub(crate) const MXFP4_VALUES: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// 32 weights in 17 bytes: `w = 2^(e − 127) · E2M1[q]`.
///
/// ```text
/// 0   1                    17
/// | e | qs: 16 bytes        |    byte i: q[i] low, q[i + 16] high
/// ```
#[doc(alias = "block_mxfp4")]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct BlockMxfp4 {
    pub(crate) e: u8,
    pub(crate) qs: [u8; 16],
}

/// [`MXFP4_VALUES`] plus 12.
const BIASED: [u8; 16] = {
    let mut biased = [0; 16];
    let mut code = 0;
    while code < 16 {
        biased[code] = (MXFP4_VALUES[code] + 12).cast_unsigned();
        code += 1;
    }
    biased
};

impl BlockMxfp4 {
    /// Packs codes of E2M1 values.
    pub(crate) fn pack(e: u8, codes: &[u8; 32]) -> Self {
        Self {
            e,
            qs: pack_nibbles_16(codes),
        }
    }
}

impl SmallBlock for BlockMxfp4 {
    const TYPE: QuantType = QuantType::MXFP4;
    const ZERO: i32 = 12;
    const MAX: i32 = 24;
    const HAS_MIN: bool = false;
    const TABLE: Option<[u8; 16]> = Some(BIASED);

    #[inline(always)]
    fn unpack(&self, out: &mut UnpackedSmall) {
        self.unpack_codes(out);
        out.q = look_up(out.q, &BIASED);
    }

    #[inline(always)]
    fn unpack_codes(&self, out: &mut UnpackedSmall) {
        out.q = nibbles_16(&self.qs);
        out.d = half_power(self.e);
        out.m = 0.0;
    }
}

/// Returns 2^(e − 128), half of what the shared exponent means; exponents 0 and 1 are
/// subnormal.
#[inline(always)]
pub(crate) const fn half_power(e: u8) -> f32 {
    let normal = (e as u32).saturating_sub(1) << 23;
    let subnormal = 0x0020_0000 << (e & 1);
    f32::from_bits(if e < 2 { subnormal } else { normal })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponents_are_powers_of_two() {
        let mut expected = 2f64.powi(-128);
        for e in 0..=255 {
            assert_eq!(f64::from(half_power(e)), expected);
            expected *= 2.0;
        }
    }
}
