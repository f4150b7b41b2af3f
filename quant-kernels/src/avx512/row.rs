//! Weight rows read in place, for one to three tokens.
//!
//! A block is unpacked to bytes and each token multiplies it; the integer sums of eight blocks
//! are folded out of their lanes in one tree, and the float part is the scalar chain itself.

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

/// Computes a strip of superblocks.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
pub(super) fn superblocks<B: SuperBlock>(strip: Strip<'_>, out: &mut TileMut<'_>) {
    match strip.x_rows.len() {
        1 => super_rows::<B, 1>(strip, out),
        2 => super_rows::<B, 2>(strip, out),
        _ => super_rows::<B, 3>(strip, out),
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
fn super_rows<B: SuperBlock, const N: usize>(strip: Strip<'_>, out: &mut TileMut<'_>) {
    let x: [&[ActSuper]; N] = std::array::from_fn(|t| strip.x.super_row(strip.x_row(t)));
    let mut unpacked = UnpackedSuper::ZEROED;
    let mut parts = [[Parts::zero(); GROUP]; N];
    let mut factors = [[0.0f32; 2]; GROUP];
    for row in 0..strip.w.n_rows() {
        let mut totals = [0.0f32; N];
        for (i, blocks) in strip.blocks::<B>(row).chunks(GROUP).enumerate() {
            for (b, block) in blocks.iter().enumerate() {
                block.unpack_codes(&mut unpacked);
                factors[b] = [unpacked.d, unpacked.dmin];
                for t in 0..N {
                    parts[t][b] = super_parts::<B>(&unpacked, &x[t][GROUP * i + b]);
                }
            }
            for t in 0..N {
                let x = &x[t][GROUP * i..][..blocks.len()];
                totals[t] = super_chain::<B>(&parts[t], &factors, x, totals[t]);
            }
        }
        for (t, total) in totals.into_iter().enumerate() {
            out.row(t)[row] = total;
        }
    }
}

/// Blocks whose integer sums are folded together.
const GROUP: usize = 8;

/// The integer sums of a block, still spread over lanes.
#[derive(Clone, Copy)]
struct Parts {
    sum: __m256i,
    min_sum: __m256i,
}

impl Parts {
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
    #[inline]
    fn zero() -> Self {
        let zero = _mm256_setzero_si256();
        Self {
            sum: zero,
            min_sum: zero,
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
#[inline]
fn super_parts<B: SuperBlock>(w: &UnpackedSuper, x: &ActSuper) -> Parts {
    let zero = _mm512_setzero_si512();
    let scales = load_i8x16(&w.scales);
    let wide_scales = _mm512_cvtepi8_epi32(scales);
    let mut sums = zero;
    for i in 0..4 {
        let (q, x) = (&w.q.as_chunks::<64>().0[i], &x.q.as_chunks::<64>().0[i]);
        let part = _mm512_dpbusd_epi32(zero, look_up(B::TABLE, load_u8(q)), load_i8(x));
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
        sums = _mm512_add_epi32(sums, _mm512_mullo_epi32(part, scale));
    }
    let sum = _mm256_add_epi32(
        _mm512_castsi512_si256(sums),
        _mm512_extracti32x8_epi32::<1>(sums),
    );
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
    let min_sum = _mm256_madd_epi16(_mm256_cvtepi8_epi16(mins), x_sums);
    if B::HAS_MIN {
        return Parts { sum, min_sum };
    }
    // What the zero point adds is taken off here.
    let zeros = _mm256_mullo_epi32(min_sum, _mm256_set1_epi32(B::ZERO));
    Parts {
        sum: _mm256_sub_epi32(sum, zeros),
        min_sum,
    }
}

/// The float part: one step per block, two where there are minimums.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
#[inline]
fn super_chain<B: SuperBlock>(
    parts: &[Parts; GROUP],
    factors: &[[f32; 2]; GROUP],
    x: &[ActSuper],
    mut total: f32,
) -> f32 {
    let zero = _mm256_setzero_si256();
    let (mut sums, mut min_sums) = ([zero; GROUP], [zero; GROUP]);
    for b in 0..GROUP {
        (sums[b], min_sums[b]) = (parts[b].sum, parts[b].min_sum);
    }
    let sums: [i32; GROUP] = bytemuck::must_cast(fold(sums));
    let min_sums: [i32; GROUP] = if B::HAS_MIN {
        bytemuck::must_cast(fold(min_sums))
    } else {
        [0; GROUP]
    };
    for (b, x) in x.iter().enumerate() {
        let [d, dmin] = factors[b];
        total = (d * x.d).mul_add(sums[b] as f32, total);
        if B::HAS_MIN {
            total = (-(dmin * x.d)).mul_add(min_sums[b] as f32, total);
        }
    }
    total
}

/// Computes a strip of small blocks, eight at a time.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
pub(super) fn small_blocks<B: SmallBlock>(strip: Strip<'_>, out: &mut TileMut<'_>) {
    match strip.x_rows.len() {
        1 => small_rows::<B, 1>(strip, out),
        2 => small_rows::<B, 2>(strip, out),
        _ => small_rows::<B, 3>(strip, out),
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
fn small_rows<B: SmallBlock, const N: usize>(strip: Strip<'_>, out: &mut TileMut<'_>) {
    let x: [&[ActSmall]; N] = std::array::from_fn(|t| strip.x.small_row(strip.x_row(t)));
    let mut group = [UnpackedSmall::ZEROED; 8];
    for row in 0..strip.w.n_rows() {
        let mut totals = [0.0f32; N];
        for (i, blocks) in strip.blocks::<B>(row).chunks(8).enumerate() {
            for (block, unpacked) in blocks.iter().zip(&mut group) {
                block.unpack_codes(unpacked);
            }
            for t in 0..N {
                totals[t] = small_step::<B>(&group, blocks.len(), &x[t][i], totals[t]);
            }
        }
        for (t, total) in totals.into_iter().enumerate() {
            out.row(t)[row] = total;
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
