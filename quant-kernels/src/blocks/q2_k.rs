//! `Q2_K`: 256 weights of 2 bits, scale and minimum of 4 bits per 16.

use bytemuck::{Pod, Zeroable};

use crate::QuantType;

use super::{F16Le, SuperBlock, UnpackedSuper, pack_two_bits, two_bits};

/// 256 weights in 84 bytes: `w = d · scale[s] · q − dmin · min[s]`, s = sub-block of 16.
///
/// ```text
/// 0                 16               80   82     84
/// | scales: 16 bytes | qs: 64 bytes  | d  | dmin |
/// ```
///
/// Byte s of `scales` holds the scale in its low and the minimum in its high nibble. Byte
/// 32·h + i of `qs` holds, from its lowest bits up, weights i, i + 32, i + 64 and i + 96
/// of half h.
#[doc(alias = "block_q2_K")]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct BlockQ2K {
    pub(crate) scales: [u8; 16],
    pub(crate) qs: [u8; 64],
    pub(crate) d: F16Le,
    pub(crate) dmin: F16Le,
}

impl BlockQ2K {
    /// The inverse of [`SuperBlock::unpack`]; scales and minimums are below 16.
    pub(crate) fn pack(
        d: F16Le,
        dmin: F16Le,
        scales: &[u8; 16],
        mins: &[u8; 16],
        q: &[u8; 256],
    ) -> Self {
        let scales = std::array::from_fn(|s| scales[s] | mins[s] << 4);
        Self {
            scales,
            qs: pack_two_bits(q),
            d,
            dmin,
        }
    }
}

impl SuperBlock for BlockQ2K {
    const TYPE: QuantType = QuantType::Q2_K;
    const SUB: usize = 16;
    const ZERO: i32 = 0;
    const MAX: i32 = 3;
    const HAS_MIN: bool = true;

    #[inline(always)]
    fn unpack(&self, out: &mut UnpackedSuper) {
        two_bits(&self.qs, &mut out.q);
        for s in 0..16 {
            out.scales[s] = (self.scales[s] & 15).cast_signed();
            out.mins[s] = (self.scales[s] >> 4).cast_signed();
        }
        out.d = self.d.to_f32();
        out.dmin = self.dmin.to_f32();
    }
}
