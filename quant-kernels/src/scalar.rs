//! The specification: what a product of a weight row and a token row is, in portable
//! code.
//!
//! Inside a block all sums are integers and exact. Then one `f32` fused multiply-add per
//! block adds the scaled sum to the row's total, and one more the minimum where the
//! format has one; blocks in ascending order. The instruction sets reorder the integer
//! part at will and keep the float part as it is written here: one row after the other,
//! or rows side by side in their lanes, but never parts of a row.

use crate::{
    activations::{ActSmall, ActSuper},
    blocks::{SmallBlock, SuperBlock, UnpackedSmall, UnpackedSuper},
    float::{FloatStrip, FloatWeight},
    lanes::{LaneOp, Scalar16},
    pool::TileMut,
    product::{Strip, StripKernel},
};

/// One unpacked weight row.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    superblocks: Vec<UnpackedSuper>,
    small: Vec<UnpackedSmall>,
}

/// The scalar kernels.
pub(crate) struct Kernel<'a, 't> {
    pub(crate) strip: Strip<'a>,
    pub(crate) scratch: &'a mut Scratch,
    pub(crate) out: &'a mut TileMut<'t>,
}

impl StripKernel for Kernel<'_, '_> {
    fn superblocks<B: SuperBlock>(self) {
        let Self {
            strip,
            scratch,
            out,
        } = self;
        for row in 0..strip.w.n_rows() {
            let blocks = strip.blocks::<B>(row);
            scratch
                .superblocks
                .resize(blocks.len(), UnpackedSuper::ZEROED);
            for (block, unpacked) in blocks.iter().zip(&mut scratch.superblocks) {
                block.unpack(unpacked);
            }
            for token in 0..strip.x_rows.len() {
                let x = strip.x.super_row(strip.x_row(token));
                out.row(token)[row] = dot_super::<B>(&scratch.superblocks, x);
            }
        }
    }

    fn small_blocks<B: SmallBlock>(self) {
        let Self {
            strip,
            scratch,
            out,
        } = self;
        for row in 0..strip.w.n_rows() {
            let blocks = strip.blocks::<B>(row);
            scratch.small.resize(blocks.len(), UnpackedSmall::ZEROED);
            for (block, unpacked) in blocks.iter().zip(&mut scratch.small) {
                block.unpack(unpacked);
            }
            for token in 0..strip.x_rows.len() {
                let x = strip.x.small_row(strip.x_row(token));
                out.row(token)[row] = dot_small::<B>(&scratch.small, x);
            }
        }
    }

    fn floats<F: FloatWeight>(self) {
        FloatStrip::<F>::new(self.strip, self.out).run::<Scalar16>();
    }
}

/// `Σ_blocks d·dx · Σ_s scale[s] · Σ (q − ZERO)·x − dmin·dx · Σ_s min[s] · Σ x`.
fn dot_super<B: SuperBlock>(w: &[UnpackedSuper], x: &[ActSuper]) -> f32 {
    let mut total = 0.0f32;
    for (w, x) in w.iter().zip(x) {
        let (mut sum, mut min_sum) = (0i32, 0i32);
        for s in 0..256 / B::SUB {
            let range = s * B::SUB..(s + 1) * B::SUB;
            let (mut products, mut x_sum) = (0, 0);
            for (&q, &x) in w.q[range.clone()].iter().zip(&x.q[range]) {
                products += (i32::from(q) - B::ZERO) * i32::from(x);
                x_sum += i32::from(x);
            }
            sum += i32::from(w.scales[s]) * products;
            min_sum += i32::from(w.mins[s]) * x_sum;
        }
        total = (w.d * x.d).mul_add(sum as f32, total);
        if B::HAS_MIN {
            total = (-(w.dmin * x.d)).mul_add(min_sum as f32, total);
        }
    }
    total
}

/// `Σ_blocks d·dx · Σ (q − ZERO)·x + m·dx · Σ x`.
fn dot_small<B: SmallBlock>(w: &[UnpackedSmall], x: &[ActSmall]) -> f32 {
    let mut total = 0.0f32;
    for (i, w) in w.iter().enumerate() {
        let (group, block) = (&x[i / 8], i % 8);
        let dx = group.d[block];
        let mut sum = 0;
        for (&q, &x) in w.q.iter().zip(&group.q[32 * block..32 * (block + 1)]) {
            sum += (i32::from(q) - B::ZERO) * i32::from(x);
        }
        total = (w.d * dx).mul_add(sum as f32, total);
        if B::HAS_MIN {
            total = (w.m * dx).mul_add(group.sums[block] as f32, total);
        }
    }
    total
}
