//! `IQ1_S` and `IQ1_M`: 256 weights as points of a ternary lattice, shifted by an eighth.
//!
//! A weight is `scale · (g ± 1/8)` with g in −1, 0, 1. In eighths that is an integer,
//! `8 · g ± 1`, which is what unpacking gives; `d` carries the eighth.

use bytemuck::{Pod, Zeroable};

use crate::QuantType;

use super::{F16Le, SuperBlock, UnpackedSuper, f16_to_f32, grids};

/// 256 weights in 50 bytes: `w = d · (2 · s + 1) · (g ± 1/8)`, scale and sign of the
/// shift per 32.
///
/// ```text
/// 0    2              34                50
/// | d  | qs: 32 bytes  | qh: 8 × u16     |
/// ```
///
/// Eight weights share an 11-bit index into the lattice: the low byte is `qs[4 · b + l]`,
/// the high three bits are bits 3·l to 3·l + 2 of `qh[b]`, b = sub-block of 32. Bits
/// 12–14 of `qh` are s, bit 15 makes the shift negative.
#[doc(alias = "block_iq1_s")]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct BlockIq1S {
    pub(crate) d: F16Le,
    pub(crate) qs: [u8; 32],
    pub(crate) qh: [[u8; 2]; 8],
}

/// 256 weights in 56 bytes: `w = d · (2 · s + 1) · (g ± 1/8)`, scale per 16, shift per 8.
///
/// ```text
/// 0              32             48               56
/// | qs: 32 bytes  | qh: 16 bytes | scales: 4 × u16 |
/// ```
///
/// Nibble l of `qh` (low one first) belongs to weights 8·l to 8·l + 7: its low three bits
/// are the high bits of their index, whose low byte is `qs[l]`, its high bit makes the
/// shift negative. `scales[k]` holds four 3-bit scales of 16 weights each, lowest first,
/// and in its high nibble the k-th nibble of the half-precision `d`.
#[doc(alias = "block_iq1_m")]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct BlockIq1M {
    pub(crate) qs: [u8; 32],
    pub(crate) qh: [u8; 16],
    pub(crate) scales: [[u8; 2]; 4],
}

impl SuperBlock for BlockIq1S {
    const TYPE: QuantType = QuantType::IQ1_S;
    const SUB: usize = 32;
    const ZERO: i32 = 16;
    const HAS_MIN: bool = false;

    #[inline(always)]
    fn unpack(&self, out: &mut UnpackedSuper) {
        for sub in 0..8 {
            let high = u16::from_le_bytes(self.qh[sub]);
            let negative = high >> 15 == 1;
            for l in 0..4 {
                let index = u16::from(self.qs[4 * sub + l]) | (high >> (3 * l) & 7) << 8;
                point(index, negative, &mut out.q, 32 * sub + 8 * l);
            }
            out.scales[sub] = 2 * (high >> 12 & 7) as i8 + 1;
        }
        out.mins = [0; 16];
        out.d = self.d.to_f32() * 0.125;
        out.dmin = 0.0;
    }
}

impl SuperBlock for BlockIq1M {
    const TYPE: QuantType = QuantType::IQ1_M;
    const SUB: usize = 16;
    const ZERO: i32 = 16;
    const HAS_MIN: bool = false;

    #[inline(always)]
    fn unpack(&self, out: &mut UnpackedSuper) {
        for l in 0..32 {
            let high = self.qh[l / 2] >> (4 * (l % 2)) & 15;
            let index = u16::from(self.qs[l]) | u16::from(high & 7) << 8;
            point(index, high >> 3 == 1, &mut out.q, 8 * l);
        }
        let mut d = 0;
        for k in 0..4 {
            let word = u16::from_le_bytes(self.scales[k]);
            for i in 0..4 {
                out.scales[4 * k + i] = 2 * (word >> (3 * i) & 7) as i8 + 1;
            }
            d |= (word >> 12) << (4 * k);
        }
        out.mins = [0; 16];
        out.d = f16_to_f32(d) * 0.125;
        out.dmin = 0.0;
    }
}

/// Writes the eight integers of a lattice point, shifted down or up, at `start`.
#[inline(always)]
fn point(index: u16, negative: bool, q: &mut [u8; 256], start: usize) {
    let point = &grids::IQ1[usize::from(index & 2047)];
    let shift = 1 - 2 * u8::from(negative) as i8;
    for i in 0..8 {
        q[start + i] = point[i].wrapping_add_signed(shift);
    }
}
