//! `Q3_K`: 256 weights of 3 bits, signed scales of 6 bits per 16.

use bytemuck::{Pod, Zeroable};

use crate::QuantType;

use super::{F16Le, SuperBlock, UnpackedSuper, pack_two_bits, two_bits};

/// 256 weights in 110 bytes: `w = d · (scale[s] − 32) · (q − 4)`, s = sub-block of 16.
///
/// ```text
/// 0                32             96                108  110
/// | hmask: 32 bytes | qs: 64 bytes | scales: 12 bytes | d  |
/// ```
///
/// `qs` holds the two low bits as in `Q2_K`; bit b of byte i of `hmask` is the third bit
/// of weight 32·b + i. `scales`: see [`unpack_scales`].
#[doc(alias = "block_q3_K")]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct BlockQ3K {
    pub(crate) hmask: [u8; 32],
    pub(crate) qs: [u8; 64],
    pub(crate) scales: [u8; 12],
    pub(crate) d: F16Le,
}

impl BlockQ3K {
    /// The inverse of [`SuperBlock::unpack`]; scales are from −32 to 31.
    pub(crate) fn pack(d: F16Le, scales: &[i8; 16], q: &[u8; 256]) -> Self {
        let mut hmask = [0; 32];
        for bit in 0..8 {
            for i in 0..32 {
                hmask[i] |= (q[32 * bit + i] >> 2 & 1) << bit;
            }
        }
        Self {
            hmask,
            qs: pack_two_bits(q),
            scales: pack_scales(scales),
            d,
        }
    }
}

impl SuperBlock for BlockQ3K {
    const TYPE: QuantType = QuantType::Q3_K;
    const SUB: usize = 16;
    const ZERO: i32 = 4;
    const MAX: i32 = 7;
    const HAS_MIN: bool = false;

    #[inline(always)]
    fn unpack(&self, out: &mut UnpackedSuper) {
        two_bits(&self.qs, &mut out.q);
        for bit in 0..8 {
            for i in 0..32 {
                out.q[32 * bit + i] |= (self.hmask[i] >> bit & 1) << 2;
            }
        }
        let scales = unpack_scales(&self.scales);
        for s in 0..16 {
            out.scales[s] = scales[s].cast_signed() - 32;
        }
        out.mins = [0; 16];
        out.d = self.d.to_f32();
        out.dmin = 0.0;
    }
}

/// Reads sixteen 6-bit scales from 12 bytes.
///
/// The low four bits of scales 0–7 are the low nibbles of bytes 0–7, those of 8–15 the
/// high nibbles. The two high bits of scale s are bits `2 · (s / 4)` of byte `8 + s % 4`.
#[inline(always)]
pub(crate) fn unpack_scales(packed: &[u8; 12]) -> [u8; 16] {
    let mut scales = [0; 16];
    for i in 0..8 {
        scales[i] = packed[i] & 15;
        scales[i + 8] = packed[i] >> 4;
    }
    for group in 0..4 {
        for i in 0..4 {
            scales[4 * group + i] |= (packed[8 + i] >> (2 * group) & 3) << 4;
        }
    }
    scales
}

/// The inverse of [`unpack_scales`], less the offset of 32.
fn pack_scales(scales: &[i8; 16]) -> [u8; 12] {
    let mut packed = [0; 12];
    for s in 0..16 {
        let scale = (scales[s] + 32).cast_unsigned();
        packed[s % 8] |= (scale & 15) << (4 * (s / 8));
        packed[8 + s % 4] |= (scale >> 4) << (2 * (s / 4));
    }
    packed
}
