//! `Q8_0`: 32 weights as signed bytes with one scale.

use bytemuck::{Pod, Zeroable};

use crate::QuantType;

use super::{F16Le, SmallBlock, UnpackedSmall};

/// 32 weights in 34 bytes: `w = d · q`.
///
/// ```text
/// 0    2                    34
/// | d  | qs: 32 × i8         |
/// ```
#[doc(alias = "block_q8_0")]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct BlockQ8_0 {
    pub(crate) d: F16Le,
    pub(crate) qs: [u8; 32],
}

impl SmallBlock for BlockQ8_0 {
    const TYPE: QuantType = QuantType::Q8_0;
    const ZERO: i32 = 128;
    const HAS_MIN: bool = false;

    #[inline(always)]
    fn unpack(&self, out: &mut UnpackedSmall) {
        for i in 0..32 {
            out.q[i] = self.qs[i] ^ 0x80;
        }
        out.d = self.d.to_f32();
        out.m = 0.0;
    }
}
