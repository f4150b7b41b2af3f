//! The meaning of the bytes: one file per block format.
//!
//! Every quantized format unpacks to the same two shapes, so that one specification of
//! the product serves them all: small unsigned integers with a constant zero point,
//! integer scales (and minimums) of sub-blocks where the format has them, and one or two
//! `f32` factors per block. [`SuperBlock`]s hold 256 weights, [`SmallBlock`]s 32.
//!
//! Blocks lie in a file at any byte, so all of them are made of bytes (alignment 1) and a
//! slice of bytes casts to a slice of blocks wherever it starts. Unpacking is portable
//! code that kernels compile with their own instruction set, hence `inline(always)`.
//! Names, layouts and constants are those of ggml's `ggml-common.h`.

mod dequantize;
mod f16;
mod grids;
mod iq1;
mod iq2;
mod iq3;
mod iq4;
mod mxfp4;
mod q2_k;
mod q3_k;
mod q4;
mod q4_k;
mod q5;
mod q6_k;
mod q8_0;

use bytemuck::Pod;

use crate::QuantType;

pub use self::dequantize::dequantize_row;

pub(crate) use self::{
    f16::{F16Le, f16_to_f32},
    iq1::{BlockIq1M, BlockIq1S},
    iq2::{BlockIq2S, BlockIq2Xs, BlockIq2Xxs},
    iq3::{BlockIq3S, BlockIq3Xxs},
    iq4::{BlockIq4Nl, BlockIq4Xs, IQ4_VALUES},
    mxfp4::{BlockMxfp4, MXFP4_VALUES, half_power},
    q2_k::BlockQ2K,
    q3_k::{BlockQ3K, unpack_scales},
    q4::{BlockQ4_0, BlockQ4_1},
    q4_k::{BlockQ4K, BlockQ5K, scale_min},
    q5::{BlockQ5_0, BlockQ5_1},
    q6_k::BlockQ6K,
    q8_0::BlockQ8_0,
};

/// A block of 256 weights:
/// `w[i] = d · scales[i / SUB] · (q[i] − ZERO) − dmin · mins[i / SUB]`, in exact
/// arithmetic.
pub(crate) trait SuperBlock: Pod {
    /// The type that is made of these blocks.
    const TYPE: QuantType;
    /// Weights that share a scale: 16 or 32.
    const SUB: usize;
    /// Zero point of the stored integers.
    const ZERO: i32;
    /// The largest stored integer, or more.
    const MAX: i32 = 255;
    /// Whether the format has minimums.
    const HAS_MIN: bool;

    /// The values of the stored codes, for formats that look their integers up.
    const TABLE: Option<[u8; 16]> = None;

    /// Writes the integers and factors of this block. With `SUB == 32` only the first
    /// eight scales and minimums are written.
    fn unpack(&self, out: &mut UnpackedSuper);

    /// As [`Self::unpack`], with codes into [`Self::TABLE`] where there is one: a kernel
    /// with a byte shuffle looks them up by itself.
    #[inline(always)]
    fn unpack_codes(&self, out: &mut UnpackedSuper) {
        self.unpack(out);
    }
}

/// What [`SuperBlock::unpack`] writes.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub(crate) struct UnpackedSuper {
    /// Weights plus the zero point.
    pub(crate) q: [u8; 256],
    /// Integer scales, each within `-128..=127`.
    pub(crate) scales: [i8; 16],
    /// Integer minimums, each within `0..=63`.
    pub(crate) mins: [i8; 16],
    /// Factor of the scales.
    pub(crate) d: f32,
    /// Factor of the minimums.
    pub(crate) dmin: f32,
}

/// A block of 32 weights: `w[i] = d · (q[i] − ZERO) + m`, in exact arithmetic.
pub(crate) trait SmallBlock: Pod {
    /// The type that is made of these blocks.
    const TYPE: QuantType;
    /// Zero point of the stored integers.
    const ZERO: i32;
    /// The largest stored integer, or more.
    const MAX: i32 = 255;
    /// Whether the format has an offset `m`.
    const HAS_MIN: bool;

    /// The values of the stored codes, for formats that look their integers up.
    const TABLE: Option<[u8; 16]> = None;

    /// Writes the integers and factors of this block.
    fn unpack(&self, out: &mut UnpackedSmall);

    /// As [`Self::unpack`], with codes into [`Self::TABLE`] where there is one: a kernel
    /// with a byte shuffle looks them up by itself.
    #[inline(always)]
    fn unpack_codes(&self, out: &mut UnpackedSmall) {
        self.unpack(out);
    }
}

/// What [`SmallBlock::unpack`] writes.
#[derive(Clone, Debug)]
#[repr(C, align(32))]
pub(crate) struct UnpackedSmall {
    /// Weights plus the zero point.
    pub(crate) q: [u8; 32],
    /// Scale.
    pub(crate) d: f32,
    /// Offset, 0 where the format has none.
    pub(crate) m: f32,
}

impl UnpackedSuper {
    /// A block of zeros.
    pub(crate) const ZEROED: Self = Self {
        q: [0; 256],
        scales: [0; 16],
        mins: [0; 16],
        d: 0.0,
        dmin: 0.0,
    };
}

impl UnpackedSmall {
    /// A block of zeros.
    pub(crate) const ZEROED: Self = Self {
        q: [0; 32],
        d: 0.0,
        m: 0.0,
    };
}

/// Splits 16 bytes into 32 integers: low nibbles first, then high ones.
#[inline(always)]
fn nibbles_16(packed: &[u8; 16]) -> [u8; 32] {
    let mut q = [0; 32];
    for i in 0..16 {
        q[i] = packed[i] & 15;
        q[i + 16] = packed[i] >> 4;
    }
    q
}

/// The inverse of [`nibbles_16`]; bits above the fourth are left out.
#[inline(always)]
fn pack_nibbles_16(q: &[u8; 32]) -> [u8; 16] {
    std::array::from_fn(|i| (q[i] & 15) | q[i + 16] << 4)
}

/// Splits 64 bytes into 256 integers of two bits, in the order of `Q2_K`.
#[inline(always)]
fn two_bits(packed: &[u8; 64], q: &mut [u8; 256]) {
    for half in 0..2 {
        for i in 0..32 {
            let byte = packed[32 * half + i];
            for part in 0..4 {
                q[128 * half + 32 * part + i] = byte >> (2 * part) & 3;
            }
        }
    }
}

/// The inverse of [`two_bits`]; bits above the second are left out.
fn pack_two_bits(q: &[u8; 256]) -> [u8; 64] {
    let mut packed = [0; 64];
    for half in 0..2 {
        for part in 0..4 {
            for i in 0..32 {
                packed[32 * half + i] |= (q[128 * half + 32 * part + i] & 3) << (2 * part);
            }
        }
    }
    packed
}

/// Replaces codes below 16 by their entries.
///
/// A sum of the steps between entries up to the code, since comparisons of bytes
/// vectorise on every instruction set and table lookups do not.
#[inline(always)]
fn look_up(mut codes: [u8; 32], table: &[u8; 16]) -> [u8; 32] {
    for code in &mut codes {
        let mut entry = table[0];
        for k in 1..16 {
            let step = table[k].wrapping_sub(table[k - 1]);
            entry = entry.wrapping_add(if *code >= k as u8 { step } else { 0 });
        }
        *code = entry;
    }
    codes
}
