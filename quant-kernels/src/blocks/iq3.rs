//! `IQ3_XXS` and `IQ3_S`: 256 weights as lattice points of four magnitudes with signs.

use bytemuck::{Pod, Zeroable};

use crate::QuantType;

use super::{F16Le, SuperBlock, UnpackedSuper, grids};

/// 256 weights in 98 bytes: `w = d · (s + 1/2) / 2 · ±g`, scale per 32.
///
/// ```text
/// 0    2              66              98
/// | d  | qs: 64 bytes  | signs: 8 × u32 |
/// ```
///
/// Each byte of `qs` is the index of four weights. Bits 7·l to 7·l + 6 of a word of
/// `signs` are the signs of the l-th eight weights of its sub-block (the eighth sign
/// makes their number even), its four high bits are s. Unpacked, the scale is `2 · s + 1`
/// and `d` carries a quarter.
#[doc(alias = "block_iq3_xxs")]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct BlockIq3Xxs {
    pub(crate) d: F16Le,
    pub(crate) qs: [u8; 64],
    pub(crate) signs: [[u8; 4]; 8],
}

/// 256 weights in 110 bytes: `w = d · (2 · s + 1) · ±g`, scale per 32.
///
/// ```text
/// 0    2              66            74                106              110
/// | d  | qs: 64 bytes  | qh: 8 bytes | signs: 32 bytes | scales: 4 bytes |
/// ```
///
/// The 9-bit index of the l-th four weights has its low byte in `qs[l]` and its high bit
/// in bit `l % 8` of `qh[l / 8]`. `signs[l]` are the signs of the l-th eight weights.
/// Nibbles of `scales`, low one first, are s.
#[doc(alias = "block_iq3_s")]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct BlockIq3S {
    pub(crate) d: F16Le,
    pub(crate) qs: [u8; 64],
    pub(crate) qh: [u8; 8],
    pub(crate) signs: [u8; 32],
    pub(crate) scales: [u8; 4],
}

impl SuperBlock for BlockIq3Xxs {
    const TYPE: QuantType = QuantType::IQ3_XXS;
    const SUB: usize = 32;
    const ZERO: i32 = 64;
    const HAS_MIN: bool = false;

    #[inline(always)]
    fn unpack(&self, out: &mut UnpackedSuper) {
        for sub in 0..8 {
            let signs = u32::from_le_bytes(self.signs[sub]);
            for l in 0..4 {
                let start = 8 * sub + 2 * l;
                let points = [
                    &grids::IQ3_XXS[usize::from(self.qs[start])],
                    &grids::IQ3_XXS[usize::from(self.qs[start + 1])],
                ];
                let signs = grids::even_parity(signs >> (7 * l));
                signed_points::<64>(points, signs, &mut out.q, 4 * start);
            }
            out.scales[sub] = 2 * (signs >> 28) as i8 + 1;
        }
        out.mins = [0; 16];
        out.d = self.d.to_f32() * 0.25;
        out.dmin = 0.0;
    }
}

impl SuperBlock for BlockIq3S {
    const TYPE: QuantType = QuantType::IQ3_S;
    const SUB: usize = 32;
    const ZERO: i32 = 16;
    const HAS_MIN: bool = false;

    #[inline(always)]
    fn unpack(&self, out: &mut UnpackedSuper) {
        for l in 0..32 {
            let high = usize::from(self.qh[l / 4] >> (2 * (l % 4)));
            let points = [
                &grids::IQ3_S[usize::from(self.qs[2 * l]) | (high & 1) << 8],
                &grids::IQ3_S[usize::from(self.qs[2 * l + 1]) | (high & 2) << 7],
            ];
            signed_points::<16>(points, usize::from(self.signs[l]), &mut out.q, 8 * l);
        }
        for i in 0..4 {
            out.scales[2 * i] = 2 * (self.scales[i] & 15).cast_signed() + 1;
            out.scales[2 * i + 1] = 2 * (self.scales[i] >> 4).cast_signed() + 1;
        }
        out.mins = [0; 16];
        out.d = self.d.to_f32();
        out.dmin = 0.0;
    }
}

/// Writes `ZERO ± magnitude` for the components of two points at `start`.
#[inline(always)]
fn signed_points<const ZERO: u8>(
    points: [&[u8; 4]; 2],
    signs: usize,
    q: &mut [u8; 256],
    start: usize,
) {
    let signs = &grids::SIGNS[signs & 255];
    for i in 0..8 {
        let magnitude = points[i / 4][i % 4];
        q[start + i] = (magnitude ^ signs[i])
            .wrapping_sub(signs[i])
            .wrapping_add(ZERO);
    }
}
