//! `IQ2_XXS`, `IQ2_XS` and `IQ2_S`: 256 weights as lattice points of eight magnitudes
//! with signs.
//!
//! The magnitudes are 8, 25 or 43; the scale `(s + 1/2) / 4` becomes the integer
//! `2 · s + 1`, and `d` carries the eighth that remains.

use bytemuck::{Pod, Zeroable};

use crate::QuantType;

use super::{F16Le, SuperBlock, UnpackedSuper, grids};

/// 256 weights in 66 bytes: `w = d · (s + 1/2) / 4 · ±g`, scale per 32.
///
/// ```text
/// 0    2                                    66
/// | d  | qs: 8 × (4 × u8 index, u32 signs)   |
/// ```
///
/// Each sub-block of 32 has four 8-bit indices of eight weights and a word whose bits 7·l
/// to 7·l + 6 are the signs of the l-th eight (the eighth sign makes their number even)
/// and whose four high bits are s.
#[doc(alias = "block_iq2_xxs")]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct BlockIq2Xxs {
    pub(crate) d: F16Le,
    pub(crate) qs: [Iq2XxsSub; 8],
}

/// 32 weights of [`BlockIq2Xxs`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Iq2XxsSub {
    pub(crate) indices: [u8; 4],
    pub(crate) signs: [u8; 4],
}

/// 256 weights in 74 bytes: `w = d · (s + 1/2) / 4 · ±g`, scale per 16.
///
/// ```text
/// 0    2               66               74
/// | d  | qs: 32 × u16   | scales: 8 bytes |
/// ```
///
/// A word of `qs` holds the 9-bit index of eight weights in its low and seven signs in
/// its high bits (the eighth makes their number even). Nibbles of `scales`, low one
/// first, are s.
#[doc(alias = "block_iq2_xs")]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct BlockIq2Xs {
    pub(crate) d: F16Le,
    pub(crate) qs: [[u8; 2]; 32],
    pub(crate) scales: [u8; 8],
}

/// 256 weights in 82 bytes: `w = d · (s + 1/2) / 4 · ±g`, scale per 16.
///
/// ```text
/// 0    2              34                66            74               82
/// | d  | qs: 32 bytes  | signs: 32 bytes | qh: 8 bytes | scales: 8 bytes |
/// ```
///
/// The 10-bit index of the l-th eight weights has its low byte in `qs[l]` and its high
/// bits in bits 2·(l % 4) of `qh[l / 4]`; `signs[l]` are their signs. Nibbles of `scales`
/// are s.
#[doc(alias = "block_iq2_s")]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct BlockIq2S {
    pub(crate) d: F16Le,
    pub(crate) qs: [u8; 32],
    pub(crate) signs: [u8; 32],
    pub(crate) qh: [u8; 8],
    pub(crate) scales: [u8; 8],
}

impl SuperBlock for BlockIq2Xxs {
    const TYPE: QuantType = QuantType::IQ2_XXS;
    const SUB: usize = 32;
    const ZERO: i32 = 64;
    const HAS_MIN: bool = false;

    #[inline(always)]
    fn unpack(&self, out: &mut UnpackedSuper) {
        for sub in 0..8 {
            let signs = u32::from_le_bytes(self.qs[sub].signs);
            for l in 0..4 {
                let point = &grids::IQ2_XXS[usize::from(self.qs[sub].indices[l])];
                let signs = grids::even_parity(signs >> (7 * l));
                signed_point(point, signs, &mut out.q, 32 * sub + 8 * l);
            }
            out.scales[sub] = 2 * (signs >> 28) as i8 + 1;
        }
        finish(self.d, out);
    }
}

impl SuperBlock for BlockIq2Xs {
    const TYPE: QuantType = QuantType::IQ2_XS;
    const SUB: usize = 16;
    const ZERO: i32 = 64;
    const HAS_MIN: bool = false;

    #[inline(always)]
    fn unpack(&self, out: &mut UnpackedSuper) {
        for l in 0..32 {
            let word = u16::from_le_bytes(self.qs[l]);
            let point = &grids::IQ2_XS[usize::from(word & 511)];
            let signs = grids::even_parity(u32::from(word >> 9));
            signed_point(point, signs, &mut out.q, 8 * l);
        }
        nibble_scales(&self.scales, &mut out.scales);
        finish(self.d, out);
    }
}

impl SuperBlock for BlockIq2S {
    const TYPE: QuantType = QuantType::IQ2_S;
    const SUB: usize = 16;
    const ZERO: i32 = 64;
    const HAS_MIN: bool = false;

    #[inline(always)]
    fn unpack(&self, out: &mut UnpackedSuper) {
        for l in 0..32 {
            let high = usize::from(self.qh[l / 4] >> (2 * (l % 4)) & 3);
            let point = &grids::IQ2_S[usize::from(self.qs[l]) | high << 8];
            signed_point(point, usize::from(self.signs[l]), &mut out.q, 8 * l);
        }
        nibble_scales(&self.scales, &mut out.scales);
        finish(self.d, out);
    }
}

/// Writes `64 ± magnitude` for the eight components of a point at `start`.
#[inline(always)]
fn signed_point(point: &[u8; 8], signs: usize, q: &mut [u8; 256], start: usize) {
    let signs = &grids::SIGNS[signs & 255];
    for i in 0..8 {
        q[start + i] = (point[i] ^ signs[i])
            .wrapping_sub(signs[i])
            .wrapping_add(64);
    }
}

#[inline(always)]
fn nibble_scales(packed: &[u8; 8], scales: &mut [i8; 16]) {
    for i in 0..8 {
        scales[2 * i] = 2 * (packed[i] & 15).cast_signed() + 1;
        scales[2 * i + 1] = 2 * (packed[i] >> 4).cast_signed() + 1;
    }
}

#[inline(always)]
fn finish(d: F16Le, out: &mut UnpackedSuper) {
    out.mins = [0; 16];
    out.d = d.to_f32() * 0.125;
    out.dmin = 0.0;
}
