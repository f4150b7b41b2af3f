//! `Q6_K`: 256 weights of 6 bits, signed scales of 8 bits per 16.

use bytemuck::{Pod, Zeroable};

use crate::QuantType;

use super::{F16Le, SuperBlock, UnpackedSuper};

/// 256 weights in 210 bytes: `w = d · scale[s] · (q − 32)`, s = sub-block of 16.
///
/// ```text
/// 0               128            192                208  210
/// | ql: 128 bytes  | qh: 64 bytes | scales: 16 × i8  | d  |
/// ```
///
/// In half h of the block, byte 64·h + i of `ql` (i < 64) holds the low four bits of
/// weight 128·h + i in its low and of weight 128·h + 64 + i in its high nibble. Byte
/// 32·h + i of `qh` (i < 32) holds the two high bits of weights i, i + 32, i + 64 and
/// i + 96 of the half.
#[doc(alias = "block_q6_K")]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct BlockQ6K {
    pub(crate) ql: [u8; 128],
    pub(crate) qh: [u8; 64],
    pub(crate) scales: [i8; 16],
    pub(crate) d: F16Le,
}

impl BlockQ6K {
    /// The inverse of [`SuperBlock::unpack`].
    pub(crate) fn pack(d: F16Le, scales: &[i8; 16], q: &[u8; 256]) -> Self {
        let (mut ql, mut qh) = ([0; 128], [0; 64]);
        for half in 0..2 {
            let q = &q[128 * half..128 * (half + 1)];
            for i in 0..64 {
                ql[64 * half + i] = (q[i] & 15) | q[64 + i] << 4;
            }
            for i in 0..32 {
                for part in 0..4 {
                    qh[32 * half + i] |= q[32 * part + i] >> 4 << (2 * part);
                }
            }
        }
        Self {
            ql,
            qh,
            scales: *scales,
            d,
        }
    }
}

impl SuperBlock for BlockQ6K {
    const TYPE: QuantType = QuantType::Q6_K;
    const SUB: usize = 16;
    const ZERO: i32 = 32;
    const MAX: i32 = 63;
    const HAS_MIN: bool = false;

    #[inline(always)]
    fn unpack(&self, out: &mut UnpackedSuper) {
        for half in 0..2 {
            for i in 0..32 {
                let low = self.ql[64 * half + i];
                let next = self.ql[64 * half + 32 + i];
                let high = self.qh[32 * half + i];
                out.q[128 * half + i] = (low & 15) | (high & 3) << 4;
                out.q[128 * half + 32 + i] = (next & 15) | (high >> 2 & 3) << 4;
                out.q[128 * half + 64 + i] = (low >> 4) | (high >> 4 & 3) << 4;
                out.q[128 * half + 96 + i] = (next >> 4) | (high >> 6) << 4;
            }
        }
        out.scales = self.scales;
        out.mins = [0; 16];
        out.d = self.d.to_f32();
        out.dmin = 0.0;
    }
}
