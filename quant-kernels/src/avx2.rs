//! Kernels for AVX2, FMA and F16C.
//!
//! Several tokens go over packed panels ([`crate::pack`], [`tile`]); one, or a few, read the
//! weights in place, row by row ([`row`]). Functions inside these modules are safe: they carry
//! the features they use, and the compiler checks that callers do too. Only trait methods
//! cannot carry them; those of [`Kernel`], [`lanes`] and [`dwords`] say why the features are
//! there.

mod dwords;
mod lanes;
mod load;
mod peak;
mod quants;
mod row;
mod tile;

use crate::{
    QuantType,
    blocks::{SmallBlock, SuperBlock},
    float::{FloatStrip, FloatWeight},
    lanes::LaneOp,
    panel::Panels,
    pool::TileMut,
    product::{Strip, StripKernel, visit},
};

/// Tokens from which packing superblocks pays: what it takes depends on the format.
const fn pack_super_from<B: SuperBlock>() -> usize {
    match B::TYPE {
        QuantType::Q4_K | QuantType::IQ4_XS => 3,
        QuantType::Q5_K | QuantType::Q6_K => 5,
        _ => 4,
    }
}

/// Tokens from which packing small blocks pays.
const fn pack_small_from<B: SmallBlock>() -> usize {
    match B::TYPE {
        QuantType::Q8_0 => 3,
        _ => 2,
    }
}

/// Runs a float kernel over 256-bit registers.
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn run<O: LaneOp>(op: O) -> O::Output {
    op.run::<lanes::Lanes>()
}

/// Computes a strip.
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn strip(strip: Strip<'_>, panels: &mut Panels, out: &mut TileMut<'_>) {
    visit(strip.w.ty(), Kernel { strip, panels, out });
}

/// Multiplies bytes flat out; returns how many products that were.
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn multiply(n_steps: usize) -> usize {
    peak::multiply(n_steps)
}

/// The kernels of this instruction set; made only by [`strip`].
struct Kernel<'a, 't> {
    strip: Strip<'a>,
    panels: &'a mut Panels,
    out: &'a mut TileMut<'t>,
}

#[expect(
    unsafe_code,
    reason = "trait methods cannot carry the feature attribute"
)]
impl StripKernel for Kernel<'_, '_> {
    fn superblocks<B: SuperBlock>(self) {
        let Self { strip, panels, out } = self;
        if strip.x_rows.len() < pack_super_from::<B>() {
            // SAFETY: only `strip`, which has the features, makes a `Kernel`.
            unsafe { row::superblocks::<B>(strip, out) }
        } else {
            // SAFETY: only `strip`, which has the features, makes a `Kernel`.
            unsafe { tile::superblocks::<B>(strip, panels, out) }
        }
    }

    fn small_blocks<B: SmallBlock>(self) {
        let Self { strip, panels, out } = self;
        if strip.x_rows.len() < pack_small_from::<B>() {
            // SAFETY: only `strip`, which has the features, makes a `Kernel`.
            unsafe { row::small_blocks::<B>(strip, out) }
        } else {
            // SAFETY: only `strip`, which has the features, makes a `Kernel`.
            unsafe { tile::small_blocks::<B>(strip, panels, out) }
        }
    }

    fn floats<F: FloatWeight>(self) {
        // SAFETY: only `strip`, which has the features, makes a `Kernel`.
        unsafe { run(FloatStrip::<F>::new(self.strip, self.out)) }
    }
}
