//! `Q4_K` and `Q5_K`: 256 weights of 4 or 5 bits, scale and minimum of 6 bits per 32.

use bytemuck::{Pod, Zeroable};

use crate::QuantType;

use super::{F16Le, SuperBlock, UnpackedSuper};

/// 256 weights in 144 bytes: `w = d · scale[s] · q − dmin · min[s]`, s = sub-block of 32.
///
/// ```text
/// 0    2      4                 16                144
/// | d  | dmin | scales: 12 bytes | qs: 128 bytes   |
/// ```
///
/// Byte 32·p + i of `qs` holds weight 64·p + i in its low and weight 64·p + 32 + i in its
/// high nibble. `scales` packs eight 6-bit scales and eight 6-bit minimums; unpacked by
/// [`scale_min`].
#[doc(alias = "block_q4_K")]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct BlockQ4K {
    pub(crate) d: F16Le,
    pub(crate) dmin: F16Le,
    pub(crate) scales: [u8; 12],
    pub(crate) qs: [u8; 128],
}

/// 256 weights in 176 bytes: `w = d · scale[s] · q − dmin · min[s]`, s = sub-block of 32.
///
/// ```text
/// 0    2      4                 16             48                176
/// | d  | dmin | scales: 12 bytes | qh: 32 bytes | qs: 128 bytes   |
/// ```
///
/// As `Q4_K`, and bit s of byte i of `qh` is the fifth bit of weight 32·s + i.
#[doc(alias = "block_q5_K")]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct BlockQ5K {
    pub(crate) d: F16Le,
    pub(crate) dmin: F16Le,
    pub(crate) scales: [u8; 12],
    pub(crate) qh: [u8; 32],
    pub(crate) qs: [u8; 128],
}

impl BlockQ4K {
    /// The inverse of [`SuperBlock::unpack`]; scales and minimums are below 64.
    pub(crate) fn pack(
        d: F16Le,
        dmin: F16Le,
        scales: &[u8; 8],
        mins: &[u8; 8],
        q: &[u8; 256],
    ) -> Self {
        Self {
            d,
            dmin,
            scales: pack_scale_min(scales, mins),
            qs: pack_nibbles_128(q),
        }
    }
}

impl BlockQ5K {
    /// The inverse of [`SuperBlock::unpack`]; scales and minimums are below 64.
    pub(crate) fn pack(
        d: F16Le,
        dmin: F16Le,
        scales: &[u8; 8],
        mins: &[u8; 8],
        q: &[u8; 256],
    ) -> Self {
        let mut qh = [0; 32];
        for s in 0..8 {
            for i in 0..32 {
                qh[i] |= (q[32 * s + i] >> 4 & 1) << s;
            }
        }
        Self {
            d,
            dmin,
            scales: pack_scale_min(scales, mins),
            qh,
            qs: pack_nibbles_128(q),
        }
    }
}

impl SuperBlock for BlockQ4K {
    const TYPE: QuantType = QuantType::Q4_K;
    const SUB: usize = 32;
    const ZERO: i32 = 0;
    const MAX: i32 = 15;
    const HAS_MIN: bool = true;

    #[inline(always)]
    fn unpack(&self, out: &mut UnpackedSuper) {
        nibbles_128(&self.qs, &mut out.q);
        [out.scales, out.mins] = scale_min(&self.scales);
        out.d = self.d.to_f32();
        out.dmin = self.dmin.to_f32();
    }
}

impl SuperBlock for BlockQ5K {
    const TYPE: QuantType = QuantType::Q5_K;
    const SUB: usize = 32;
    const ZERO: i32 = 0;
    const MAX: i32 = 31;
    const HAS_MIN: bool = true;

    #[inline(always)]
    fn unpack(&self, out: &mut UnpackedSuper) {
        nibbles_128(&self.qs, &mut out.q);
        for s in 0..8 {
            for i in 0..32 {
                out.q[32 * s + i] |= (self.qh[i] >> s & 1) << 4;
            }
        }
        [out.scales, out.mins] = scale_min(&self.scales);
        out.d = self.d.to_f32();
        out.dmin = self.dmin.to_f32();
    }
}

/// Reads eight 6-bit scales and eight 6-bit minimums from 12 bytes (`get_scale_min_k4`),
/// each followed by eight zeros.
///
/// Bytes 0–3 hold scales 0–3 and bytes 4–7 minimums 0–3 in their low six bits. Byte 8 + i
/// holds the low four bits of scale 4 + i (low nibble) and of minimum 4 + i (high
/// nibble); their two high bits are the two high bits of bytes i and 4 + i.
#[inline(always)]
pub(crate) fn scale_min(packed: &[u8; 12]) -> [[i8; 16]; 2] {
    let [a, b, c] = bytemuck::must_cast::<_, [[u8; 4]; 3]>(*packed).map(u32::from_le_bytes);
    // Words all the way: taken apart into bytes, a header costs more than its weights.
    let join = |low: u32, high: u32| (u128::from(low) | u128::from(high) << 32).to_le_bytes();
    let scales = join(a & 0x3f3f_3f3f, (c & 0x0f0f_0f0f) | (a >> 2 & 0x3030_3030));
    let mins = join(
        b & 0x3f3f_3f3f,
        (c >> 4 & 0x0f0f_0f0f) | (b >> 2 & 0x3030_3030),
    );
    bytemuck::must_cast([scales, mins])
}

/// Splits the nibbles of four times 32 bytes into eight times 32 integers.
#[inline(always)]
fn nibbles_128(packed: &[u8; 128], q: &mut [u8; 256]) {
    for pair in 0..4 {
        for i in 0..32 {
            let byte = packed[32 * pair + i];
            q[64 * pair + i] = byte & 15;
            q[64 * pair + 32 + i] = byte >> 4;
        }
    }
}

/// The inverse of [`scale_min`].
fn pack_scale_min(scales: &[u8; 8], mins: &[u8; 8]) -> [u8; 12] {
    let mut packed = [0; 12];
    for i in 0..4 {
        packed[i] = scales[i] | scales[4 + i] >> 4 << 6;
        packed[4 + i] = mins[i] | mins[4 + i] >> 4 << 6;
        packed[8 + i] = (scales[4 + i] & 15) | (mins[4 + i] & 15) << 4;
    }
    packed
}

/// The inverse of [`nibbles_128`]; bits above the fourth are left out.
fn pack_nibbles_128(q: &[u8; 256]) -> [u8; 128] {
    let mut packed = [0; 128];
    for pair in 0..4 {
        for i in 0..32 {
            packed[32 * pair + i] = (q[64 * pair + i] & 15) | q[64 * pair + 32 + i] << 4;
        }
    }
    packed
}
