//! The meaning of the bytes: one file per block format.
//!
//! Every quantized format unpacks to the same two shapes, so that one specification of the
//! product serves them all: small unsigned integers with a constant zero point, integer
//! sub-block scales (and minimums) where the format has them, and one or two `f32` factors
//! per block. [`SuperBlock`]s hold 256 weights, [`SmallBlock`]s 32.

use bytemuck::Pod;

/// A block of 256 weights:
/// `w[i] = d · scales[i / SUB] · (q[i] − ZERO) − dmin · mins[i / SUB]`, in exact arithmetic.
pub(crate) trait SuperBlock: Pod {
    /// Weights that share a scale: 16 or 32.
    const SUB: usize;
    /// Zero point of the stored integers.
    const ZERO: i32;
    /// Whether the format has minimums.
    const HAS_MIN: bool;

    /// Writes the integers and factors of this block. With `SUB == 32` only the first eight
    /// scales and minimums are written.
    fn unpack(&self, out: &mut UnpackedSuper);
}

/// What [`SuperBlock::unpack`] writes.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub(crate) struct UnpackedSuper {
    /// Weights plus the zero point.
    pub(crate) q: [u8; 256],
    /// Integer scales, each within `-128..=127`.
    pub(crate) scales: [i16; 16],
    /// Integer minimums, each within `0..=63`.
    pub(crate) mins: [i16; 16],
    /// Factor of the scales.
    pub(crate) d: f32,
    /// Factor of the minimums.
    pub(crate) dmin: f32,
}

/// A block of 32 weights: `w[i] = d · (q[i] − ZERO) + m`, in exact arithmetic.
pub(crate) trait SmallBlock: Pod {
    /// Zero point of the stored integers.
    const ZERO: i32;
    /// Whether the format has an offset `m`.
    const HAS_MIN: bool;

    /// Writes the integers and factors of this block.
    fn unpack(&self, out: &mut UnpackedSmall);
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
    pub(crate) const ZEROED: Self =
        Self { q: [0; 256], scales: [0; 16], mins: [0; 16], d: 0.0, dmin: 0.0 };
}

impl UnpackedSmall {
    /// A block of zeros.
    pub(crate) const ZEROED: Self = Self { q: [0; 32], d: 0.0, m: 0.0 };
}
