//! Weight rows read in place, for one to three tokens.
//!
//! A block is unpacked to bytes, each token multiplies it, and the integer sum of the block
//! is folded out of the lanes; the float part then is the scalar chain itself.

use std::arch::x86_64::*;

use super::load::{load_i8, load_i8x16, load_i16, load_u8, look_up};
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
        let mut sums = [0; 16];
        sums[..8].copy_from_slice(&x.sums32);
        load_i16(&sums)
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
    let mut unpacked = UnpackedSmall::ZEROED;
    for row in 0..strip.w.n_rows() {
        let mut totals = [0.0f32; TOKENS];
        for (i, blocks) in strip.blocks::<B>(row).chunks(8).enumerate() {
            let mut group = SmallGroup::ZEROED;
            for (b, block) in blocks.iter().enumerate() {
                block.unpack_codes(&mut unpacked);
                group.q.as_chunks_mut::<32>().0[b] = unpacked.q;
                (group.d[b], group.m[b]) = (unpacked.d, unpacked.m);
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

/// Up to eight unpacked blocks.
#[repr(align(64))]
struct SmallGroup {
    q: [u8; 256],
    d: [f32; 8],
    m: [f32; 8],
}

impl SmallGroup {
    const ZEROED: Self = Self {
        q: [0; 256],
        d: [0.0; 8],
        m: [0.0; 8],
    };
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
#[inline]
fn small_step<B: SmallBlock>(w: &SmallGroup, n_blocks: usize, x: &ActSmall, total: f32) -> f32 {
    let zero = _mm512_setzero_si512();
    let mut parts = [zero; 4];
    for i in 0..4 {
        let (q, x) = (&w.q.as_chunks::<64>().0[i], &x.q.as_chunks::<64>().0[i]);
        parts[i] = _mm512_dpbusd_epi32(zero, look_up(B::TABLE, load_u8(q)), load_i8(x));
    }
    let sums = fold_small(parts);
    let mut total = total;
    for b in 0..n_blocks {
        let sum = sums[b / 2 + 4 * (b % 2)] - B::ZERO * x.sums[b];
        total = (w.d[b] * x.d[b]).mul_add(sum as f32, total);
        if B::HAS_MIN {
            total = (w.m[b] * x.d[b]).mul_add(x.sums[b] as f32, total);
        }
    }
    total
}

/// Sums the halves of four registers: first the low halves, then the high ones.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
#[inline]
fn fold_small([a, b, c, d]: [__m512i; 4]) -> [i32; 8] {
    let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    let lanes = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    let pairs = _mm512_add_epi32(lanes, _mm512_shuffle_i32x4::<0b10_11_00_01>(lanes, lanes));
    let halves = _mm512_shuffle_i32x4::<0b10_00_10_00>(pairs, pairs);
    bytemuck::must_cast(_mm512_castsi512_si256(halves))
}
