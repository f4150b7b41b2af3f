//! `Q4_0` and `Q4_1`: 32 weights of 4 bits, without and with an offset.

use bytemuck::{Pod, Zeroable};

use crate::QuantType;

use super::{F16Le, SmallBlock, UnpackedSmall, nibbles_16, pack_nibbles_16};

/// 32 weights in 18 bytes: `w = d · (q − 8)`.
///
/// ```text
/// 0    2                    18
/// | d  | qs: 16 bytes        |    byte i: q[i] low, q[i + 16] high
/// ```
#[doc(alias = "block_q4_0")]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct BlockQ4_0 {
    pub(crate) d: F16Le,
    pub(crate) qs: [u8; 16],
}

/// 32 weights in 20 bytes: `w = d · q + m`.
///
/// ```text
/// 0    2    4                20
/// | d  | m  | qs: 16 bytes    |    as in Q4_0
/// ```
#[doc(alias = "block_q4_1")]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct BlockQ4_1 {
    pub(crate) d: F16Le,
    pub(crate) m: F16Le,
    pub(crate) qs: [u8; 16],
}

impl BlockQ4_0 {
    /// The inverse of [`SmallBlock::unpack`].
    #[inline(always)]
    pub(crate) fn pack(d: F16Le, q: &[u8; 32]) -> Self {
        Self {
            d,
            qs: pack_nibbles_16(q),
        }
    }
}

impl BlockQ4_1 {
    /// The inverse of [`SmallBlock::unpack`].
    #[inline(always)]
    pub(crate) fn pack(d: F16Le, m: F16Le, q: &[u8; 32]) -> Self {
        Self {
            d,
            m,
            qs: pack_nibbles_16(q),
        }
    }
}

impl SmallBlock for BlockQ4_0 {
    const TYPE: QuantType = QuantType::Q4_0;
    const ZERO: i32 = 8;
    const MAX: i32 = 15;
    const HAS_MIN: bool = false;

    #[inline(always)]
    fn unpack(&self, out: &mut UnpackedSmall) {
        out.q = nibbles_16(&self.qs);
        out.d = self.d.to_f32();
        out.m = 0.0;
    }
}

impl SmallBlock for BlockQ4_1 {
    const TYPE: QuantType = QuantType::Q4_1;
    const ZERO: i32 = 0;
    const MAX: i32 = 15;
    const HAS_MIN: bool = true;

    #[inline(always)]
    fn unpack(&self, out: &mut UnpackedSmall) {
        out.q = nibbles_16(&self.qs);
        out.d = self.d.to_f32();
        out.m = self.m.to_f32();
    }
}
