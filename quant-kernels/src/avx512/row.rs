//! Weight rows read in place, for one to three tokens.
//!
//! A block is unpacked to bytes, each token multiplies it, and the integer sum of the block
//! is folded out of the lanes; the float part then is the scalar chain itself.

use std::arch::x86_64::*;

use super::load::{
    load_i8, load_i8x16, load_i8x32, load_i16, load_i16x8, load_u8, load_u8x32, look_up, look_up_32,
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
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
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

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
#[inline]
fn super_step<B: SuperBlock>(w: &UnpackedSuper, x: &ActSuper, total: f32) -> f32 {
    let zero = _mm512_setzero_si512();
    let scales = load_i8x16(&w.scales);
    let wide_scales = _mm512_cvtepi8_epi32(scales);
    let mut sums = zero;
    for (i, (q, x)) in
        w.q.as_chunks::<64>()
            .0
            .iter()
            .zip(x.q.as_chunks::<64>().0)
            .enumerate()
    {
        let parts = _mm512_dpbusd_epi32(zero, look_up(B::TABLE, load_u8(q)), load_i8(x));
        let places = _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
        let places = if B::SUB == 16 {
            _mm512_add_epi32(places, _mm512_set1_epi32(4 * i as i32))
        } else {
            _mm512_add_epi32(
                _mm512_srli_epi32::<1>(places),
                _mm512_set1_epi32(2 * i as i32),
            )
        };
        let scale = _mm512_permutexvar_epi32(places, wide_scales);
        sums = _mm512_add_epi32(sums, _mm512_mullo_epi32(parts, scale));
    }
    let x_sums = if B::SUB == 16 {
        load_i16(&x.sums16)
    } else {
        _mm256_zextsi128_si256(load_i16x8(&x.sums32))
    };
    let mins = if B::HAS_MIN {
        load_i8x16(&w.mins)
    } else {
        scales
    };
    let min_sums = _mm512_zextsi256_si512(_mm256_madd_epi16(_mm256_cvtepi8_epi16(mins), x_sums));
    if B::HAS_MIN {
        let (sum, min_sum) = (
            _mm512_reduce_add_epi32(sums),
            _mm512_reduce_add_epi32(min_sums),
        );
        let total = (w.d * x.d).mul_add(sum as f32, total);
        (-(w.dmin * x.d)).mul_add(min_sum as f32, total)
    } else {
        let zeros = _mm512_mullo_epi32(min_sums, _mm512_set1_epi32(B::ZERO));
        let sum = _mm512_reduce_add_epi32(_mm512_sub_epi32(sums, zeros));
        (w.d * x.d).mul_add(sum as f32, total)
    }
}

/// Computes a strip of small blocks, eight at a time.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
pub(super) fn small_blocks<B: SmallBlock>(strip: Strip<'_>, out: &mut TileMut<'_>) {
    let n_tokens = strip.x_rows.len();
    for row in 0..strip.w.n_rows() {
        let mut totals = [0.0f32; TOKENS];
        for (i, blocks) in strip.blocks::<B>(row).chunks(8).enumerate() {
            let mut group = [UnpackedSmall::ZEROED; 8];
            for (block, unpacked) in blocks.iter().zip(&mut group) {
                block.unpack_codes(unpacked);
            }
            for (t, total) in totals[..n_tokens].iter_mut().enumerate() {
                let x = &strip.x.small_row(strip.x_row(t))[i];
                *total = small_step::<B>(&group, blocks.len(), x, *total);
            }
        }
        for (t, total) in totals[..n_tokens].iter().enumerate() {
            out.row(t)[row] = *total;
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
#[inline]
fn small_step<B: SmallBlock>(
    w: &[UnpackedSmall; 8],
    n_blocks: usize,
    x: &ActSmall,
    mut total: f32,
) -> f32 {
    let zero = _mm256_setzero_si256();
    let mut parts = [zero; 8];
    for b in 0..8 {
        let q = look_up_32(B::TABLE, load_u8x32(&w[b].q));
        parts[b] = _mm256_dpbusd_epi32(zero, q, load_i8x32(&x.q.as_chunks::<32>().0[b]));
    }
    let sums: [i32; 8] = bytemuck::must_cast(fold(parts));
    for b in 0..n_blocks {
        let (w, dx) = (&w[b], x.d[b]);
        let sum = sums[b] - B::ZERO * x.sums[b];
        total = (w.d * dx).mul_add(sum as f32, total);
        if B::HAS_MIN {
            total = (w.m * dx).mul_add(x.sums[b] as f32, total);
        }
    }
    total
}

/// Sums the lanes of each of eight registers.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
#[inline]
fn fold(x: [__m256i; 8]) -> __m256i {
    let low = fold_quarters([x[0], x[1], x[2], x[3]]);
    let high = fold_quarters([x[4], x[5], x[6], x[7]]);
    let even = _mm256_permute2x128_si256::<0x20>(low, high);
    let odd = _mm256_permute2x128_si256::<0x31>(low, high);
    _mm256_add_epi32(even, odd)
}

/// Sums the four lanes of each half of four registers, side by side.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
#[inline]
fn fold_quarters([a, b, c, d]: [__m256i; 4]) -> __m256i {
    let ab = _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    let cd = _mm256_add_epi32(_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
    _mm256_add_epi32(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd))
}
