//! Weight rows read in place, for one to three tokens.
//!
//! A block is unpacked to bytes, each token multiplies it, and the integer sum of the
//! block is folded out of the lanes; the float part then is the scalar chain itself.

use std::arch::x86_64::*;

use super::{
    load::{load_i8, load_i8x16, load_i16, load_i16x8, load_u8, look_up},
    tile::{is_signed, products, zero_point},
};
use crate::{
    activations::{ActSmall, ActSuper},
    blocks::{SmallBlock, SuperBlock, UnpackedSmall, UnpackedSuper},
    pool::TileMut,
    product::Strip,
};

/// Most tokens of a strip.
const TOKENS: usize = super::PACK_FROM - 1;

/// Computes a strip of superblocks.
#[target_feature(enable = "avx2,fma")]
pub(super) fn superblocks<B: SuperBlock>(strip: Strip<'_>, out: &mut TileMut<'_>) {
    let n_tokens = strip.x_rows.len();
    let mut unpacked = UnpackedSuper::ZEROED;
    for row in 0..strip.w.n_rows() {
        let mut totals = [0.0f32; TOKENS];
        for (i, block) in strip.blocks::<B>(row).iter().enumerate() {
            block.unpack_codes(&mut unpacked);
            for (t, total) in totals[..n_tokens].iter_mut().enumerate() {
                let x = &strip.x.super_row(strip.x_row(t))[i];
                *total = super_step::<B>(&unpacked, x, *total);
            }
        }
        for (t, total) in totals[..n_tokens].iter().enumerate() {
            out.row(t)[row] = *total;
        }
    }
}

#[target_feature(enable = "avx2,fma")]
#[inline]
fn super_step<B: SuperBlock>(w: &UnpackedSuper, x: &ActSuper, total: f32) -> f32 {
    let mut sums = _mm256_setzero_si256();
    for (i, (q, x)) in
        w.q.as_chunks::<32>()
            .0
            .iter()
            .zip(x.q.as_chunks::<32>().0)
            .enumerate()
    {
        let (q, x) = (look_up(B::TABLE, load_u8(q)), load_i8(x));
        let parts = if is_signed(B::ZERO) {
            products::<true>(q, x)
        } else {
            products::<false>(q, x)
        };
        let scale = if B::SUB == 16 {
            let (low, high) = (w.scales[2 * i], w.scales[2 * i + 1]);
            _mm256_set_m128i(_mm_set1_epi16(high.into()), _mm_set1_epi16(low.into()))
        } else {
            _mm256_set1_epi16(w.scales[i].into())
        };
        sums = _mm256_add_epi32(sums, _mm256_madd_epi16(parts, scale));
    }
    let mins = load_i8x16(if B::HAS_MIN { &w.mins } else { &w.scales });
    let x_sums = if B::SUB == 16 {
        load_i16(&x.sums16)
    } else {
        _mm256_zextsi128_si256(load_i16x8(&x.sums32))
    };
    let min_sums = _mm256_madd_epi16(_mm256_cvtepi8_epi16(mins), x_sums);
    if B::HAS_MIN {
        let (sum, min_sum) = (fold(sums), fold(min_sums));
        let total = (w.d * x.d).mul_add(sum as f32, total);
        (-(w.dmin * x.d)).mul_add(min_sum as f32, total)
    } else {
        let sum = fold(sums) - zero_point(B::ZERO) * fold(min_sums);
        (w.d * x.d).mul_add(sum as f32, total)
    }
}

/// Computes a strip of small blocks.
#[target_feature(enable = "avx2,fma")]
pub(super) fn small_blocks<B: SmallBlock>(strip: Strip<'_>, out: &mut TileMut<'_>) {
    let n_tokens = strip.x_rows.len();
    let mut unpacked = UnpackedSmall::ZEROED;
    for row in 0..strip.w.n_rows() {
        let mut totals = [0.0f32; TOKENS];
        for (i, block) in strip.blocks::<B>(row).iter().enumerate() {
            block.unpack_codes(&mut unpacked);
            for (t, total) in totals[..n_tokens].iter_mut().enumerate() {
                let group = &strip.x.small_row(strip.x_row(t))[i / 8];
                *total = small_step::<B>(&unpacked, group, i % 8, *total);
            }
        }
        for (t, total) in totals[..n_tokens].iter().enumerate() {
            out.row(t)[row] = *total;
        }
    }
}

#[target_feature(enable = "avx2,fma")]
#[inline]
fn small_step<B: SmallBlock>(w: &UnpackedSmall, x: &ActSmall, part: usize, total: f32) -> f32 {
    let (q, quants) = (
        look_up(B::TABLE, load_u8(&w.q)),
        load_i8(&x.q.as_chunks::<32>().0[part]),
    );
    let parts = if is_signed(B::ZERO) {
        products::<true>(q, quants)
    } else {
        products::<false>(q, quants)
    };
    let sum = fold(_mm256_madd_epi16(parts, _mm256_set1_epi16(1)));
    let sum = sum - zero_point(B::ZERO) * x.sums[part];
    let total = (w.d * x.d[part]).mul_add(sum as f32, total);
    if B::HAS_MIN {
        (w.m * x.d[part]).mul_add(x.sums[part] as f32, total)
    } else {
        total
    }
}

/// Adds the eight lanes.
#[target_feature(enable = "avx2")]
#[inline]
fn fold(x: __m256i) -> i32 {
    let half = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256::<1>(x));
    let pair = _mm_add_epi32(half, _mm_unpackhi_epi64(half, half));
    _mm_cvtsi128_si32(_mm_add_epi32(pair, _mm_shuffle_epi32::<1>(pair)))
}
