//! `Q5_0` and `Q5_1`: 32 weights of 5 bits, without and with an offset.

use bytemuck::{Pod, Zeroable};

use crate::QuantType;

use super::{F16Le, SmallBlock, UnpackedSmall, nibbles_16, pack_nibbles_16};

/// 32 weights in 22 bytes: `w = d · (q − 16)`.
///
/// ```text
/// 0    2         6                22
/// | d  | qh: u32 | qs: 16 bytes    |    bit i of qh: bit 4 of q[i]; qs as in Q4_0
/// ```
#[doc(alias = "block_q5_0")]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct BlockQ5_0 {
    pub(crate) d: F16Le,
    pub(crate) qh: [u8; 4],
    pub(crate) qs: [u8; 16],
}

/// 32 weights in 24 bytes: `w = d · q + m`.
///
/// ```text
/// 0    2    4         8                24
/// | d  | m  | qh: u32 | qs: 16 bytes    |    as in Q5_0
/// ```
#[doc(alias = "block_q5_1")]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct BlockQ5_1 {
    pub(crate) d: F16Le,
    pub(crate) m: F16Le,
    pub(crate) qh: [u8; 4],
    pub(crate) qs: [u8; 16],
}

impl BlockQ5_0 {
    /// The inverse of [`SmallBlock::unpack`].
    #[inline(always)]
    pub(crate) fn pack(d: F16Le, q: &[u8; 32]) -> Self {
        Self {
            d,
            qh: fifth_bits(q),
            qs: pack_nibbles_16(q),
        }
    }
}

impl BlockQ5_1 {
    /// The inverse of [`SmallBlock::unpack`].
    #[inline(always)]
    pub(crate) fn pack(d: F16Le, m: F16Le, q: &[u8; 32]) -> Self {
        Self {
            d,
            m,
            qh: fifth_bits(q),
            qs: pack_nibbles_16(q),
        }
    }
}

impl SmallBlock for BlockQ5_0 {
    const TYPE: QuantType = QuantType::Q5_0;
    const ZERO: i32 = 16;
    const MAX: i32 = 31;
    const HAS_MIN: bool = false;

    #[inline(always)]
    fn unpack(&self, out: &mut UnpackedSmall) {
        out.q = five_bits(self.qh, &self.qs);
        out.d = self.d.to_f32();
        out.m = 0.0;
    }
}

impl SmallBlock for BlockQ5_1 {
    const TYPE: QuantType = QuantType::Q5_1;
    const ZERO: i32 = 0;
    const MAX: i32 = 31;
    const HAS_MIN: bool = true;

    #[inline(always)]
    fn unpack(&self, out: &mut UnpackedSmall) {
        out.q = five_bits(self.qh, &self.qs);
        out.d = self.d.to_f32();
        out.m = self.m.to_f32();
    }
}

/// Joins the nibbles with their fifth bits.
#[inline(always)]
fn five_bits(high: [u8; 4], low: &[u8; 16]) -> [u8; 32] {
    let high = u32::from_le_bytes(high);
    let mut q = nibbles_16(low);
    for i in 0..32 {
        q[i] |= (high >> i & 1) as u8 * 16;
    }
    q
}

/// Collects the fifth bits.
#[inline(always)]
fn fifth_bits(q: &[u8; 32]) -> [u8; 4] {
    const ONES: u64 = 0x0101_0101_0101_0101;
    // Moves the bit of byte i to bit 56 + i: 8 i + 7 (8 − i).
    const GATHER: u64 = 0x0102_0408_1020_4080;
    let mut high = [0; 4];
    for (q, high) in q.as_chunks().0.iter().zip(&mut high) {
        let bits = u64::from_le_bytes(*q) >> 4 & ONES;
        *high = (bits.wrapping_mul(GATHER) >> 56) as u8;
    }
    high
}
