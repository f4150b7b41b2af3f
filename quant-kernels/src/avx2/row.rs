//! Weight rows read in place, for one to four tokens.
//!
//! Integers first, floats after. Eight rows are read one after the other, as they lie in
//! memory, a group of blocks of each; a block leaves the sums of its products spread over the
//! lanes of a register. Then the registers of eight rows are folded into one, a row to a
//! lane, and the float part is the scalar chain with eight rows side by side.
//!
//! ```text
//! for each 8 rows, for each group of blocks along them:
//!   for each row r, for each block b:   sums[b][r] = integer sums, in eight lanes
//!   for each block b:                   total = fma(d[b] · dx[b], fold(sums[b]), total)
//! ```
//!
//! Without that, a row's chain of dependent steps and the folding of every block cost as
//! much as the products. Common formats are unpacked in registers ([`superblock`],
//! [`small_block`]); the others pass through memory. Memory delivers more to prefetches into
//! the second cache than to loads that miss the first, so each block asks for what comes eight
//! kilobytes later.

mod small_block;
mod superblock;

use std::arch::x86_64::*;

use super::load::{prefetch, store_f32};
use crate::{
    activations::{ActSmall, ActSuper},
    blocks::{SmallBlock, SuperBlock},
    pool::TileMut,
    product::Strip,
};
use small_block::SmallParts;
use superblock::SuperParts;

/// Rows whose float parts go side by side.
const ROWS: usize = 8;
/// Small blocks along a row whose sums are kept before the float part takes them, as many as
/// the activations group.
const GROUP: usize = 8;
/// Most superblocks, so that rows of 4,096 weights are read in one go: memory delivers less to
/// half rows.
const SUPER_GROUP: usize = 16;

/// How far behind a block memory is asked for.
const PREFETCH_BYTES: usize = 8192;

/// How a block's factors wait for the float part.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Factors {
    /// As in the file: a half in the low 16 bits, where there are two the second above it.
    Halves,
    /// As floats, the second in a place of its own.
    Floats,
}

/// The factors of eight rows' blocks, by block and row.
struct FactorTile {
    first: [[u32; ROWS]; SUPER_GROUP],
    second: [[u32; ROWS]; SUPER_GROUP],
}

impl FactorTile {
    const ZEROED: Self = Self {
        first: [[0; ROWS]; SUPER_GROUP],
        second: [[0; ROWS]; SUPER_GROUP],
    };

    /// Returns the first and the second factors of a block of each row.
    #[target_feature(enable = "avx2,f16c")]
    #[inline]
    fn load(&self, kind: Factors, block: usize) -> [__m256; 2] {
        let first = bytemuck::must_cast::<_, __m256i>(self.first[block]);
        if kind == Factors::Floats {
            let second = bytemuck::must_cast::<_, __m256i>(self.second[block]);
            return [_mm256_castsi256_ps(first), _mm256_castsi256_ps(second)];
        }
        // Low halves of the dwords of each lane, then the high ones.
        let order = _mm256_broadcastsi128_si256(_mm_setr_epi8(
            0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15,
        ));
        let halves = _mm256_shuffle_epi8(first, order);
        let halves = _mm256_permute4x64_epi64::<0b11_01_10_00>(halves);
        [
            _mm256_cvtph_ps(_mm256_castsi256_si128(halves)),
            _mm256_cvtph_ps(_mm256_extracti128_si256::<1>(halves)),
        ]
    }
}

/// Computes a strip of superblocks.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn superblocks<B: SuperBlock>(strip: Strip<'_>, out: &mut TileMut<'_>) {
    match strip.x_rows.len() {
        1 => super_rows::<B, 1>(strip, out),
        2 => super_rows::<B, 2>(strip, out),
        3 => super_rows::<B, 3>(strip, out),
        _ => super_rows::<B, 4>(strip, out),
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn super_rows<B: SuperBlock, const N: usize>(strip: Strip<'_>, out: &mut TileMut<'_>) {
    let x: [&[ActSuper]; N] = std::array::from_fn(|t| strip.x.super_row(strip.x_row(t)));
    let n_blocks = x[0].len();
    let mut parts = [[[SuperParts::zero(); ROWS]; SUPER_GROUP]; N];
    let mut factors = FactorTile::ZEROED;
    for first in (0..strip.w.n_rows()).step_by(ROWS) {
        let live = ROWS.min(strip.w.n_rows() - first);
        let mut totals = [_mm256_setzero_ps(); N];
        // The sums of several tokens should leave room in the first cache.
        let group = SUPER_GROUP / N.min(2);
        for start in (0..n_blocks).step_by(group) {
            let n = group.min(n_blocks - start);
            for r in 0..live {
                let blocks = &strip.blocks::<B>(first + r)[start..start + n];
                let distance = strip.distance(first + r, PREFETCH_BYTES);
                for (b, block) in blocks.iter().enumerate() {
                    prefetch(block, distance);
                    let mut x_block = [&x[0][start + b]; N];
                    for t in 1..N {
                        x_block[t] = &x[t][start + b];
                    }
                    let (sums, [first, second]) = superblock::parts(block, x_block);
                    for t in 0..N {
                        parts[t][b][r] = sums[t];
                    }
                    (factors.first[b][r], factors.second[b][r]) = (first, second);
                }
            }
            for b in 0..n {
                let [d, dmin] = factors.load(superblock::kind::<B>(), b);
                for t in 0..N {
                    let dx = _mm256_set1_ps(x[t][start + b].d);
                    totals[t] = super_step::<B>(&parts[t][b], [d, dmin], dx, totals[t]);
                }
            }
        }
        put(&totals, first, live, out);
    }
}

/// The float part of one block of each row.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn super_step<B: SuperBlock>(
    parts: &[SuperParts; ROWS],
    [d, dmin]: [__m256; 2],
    dx: __m256,
    total: __m256,
) -> __m256 {
    let mut sums = [_mm256_setzero_si256(); ROWS];
    for r in 0..ROWS {
        sums[r] = parts[r].sum;
    }
    let sum = _mm256_cvtepi32_ps(fold(sums));
    let total = _mm256_fmadd_ps(_mm256_mul_ps(d, dx), sum, total);
    if !B::HAS_MIN {
        return total;
    }
    let mut pairs = [_mm256_setzero_si256(); ROWS / 2];
    for r in 0..ROWS / 2 {
        pairs[r] = _mm256_set_m128i(parts[r + ROWS / 2].min_sum, parts[r].min_sum);
    }
    let min_sum = _mm256_cvtepi32_ps(fold_lanes(pairs));
    _mm256_fnmadd_ps(_mm256_mul_ps(dmin, dx), min_sum, total)
}

/// Computes a strip of small blocks.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn small_blocks<B: SmallBlock>(strip: Strip<'_>, out: &mut TileMut<'_>) {
    match strip.x_rows.len() {
        1 => small_rows::<B, 1>(strip, out),
        2 => small_rows::<B, 2>(strip, out),
        _ => small_rows::<B, 3>(strip, out),
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn small_rows<B: SmallBlock, const N: usize>(strip: Strip<'_>, out: &mut TileMut<'_>) {
    let x: [&[ActSmall]; N] = std::array::from_fn(|t| strip.x.small_row(strip.x_row(t)));
    let mut parts = [[[_mm256_setzero_si256(); ROWS]; GROUP]; N];
    let mut factors = FactorTile::ZEROED;
    for first in (0..strip.w.n_rows()).step_by(ROWS) {
        let live = ROWS.min(strip.w.n_rows() - first);
        let mut totals = [_mm256_setzero_ps(); N];
        for group in 0..x[0].len() {
            let mut n = 0;
            for r in 0..live {
                let blocks = &strip.blocks::<B>(first + r)[GROUP * group..];
                n = blocks.len().min(GROUP);
                let distance = strip.distance(first + r, PREFETCH_BYTES);
                for (b, block) in blocks[..n].iter().enumerate() {
                    prefetch(block, distance);
                    let weights: SmallParts = small_block::weights(block);
                    for t in 0..N {
                        let x = &x[t][group].q.as_chunks::<32>().0[b];
                        parts[t][b][r] = weights.dot::<B>(x);
                    }
                    [factors.first[b][r], factors.second[b][r]] = small_block::factors(block);
                }
            }
            for b in 0..n {
                let factors = factors.load(small_block::kind::<B>(), b);
                for t in 0..N {
                    let x = &x[t][group];
                    totals[t] = small_step::<B>(parts[t][b], factors, x.d[b], x.sums[b], totals[t]);
                }
            }
        }
        put(&totals, first, live, out);
    }
}

/// The float part of one block of each row.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn small_step<B: SmallBlock>(
    parts: [__m256i; ROWS],
    [d, m]: [__m256; 2],
    dx: f32,
    x_sum: i32,
    total: __m256,
) -> __m256 {
    let dx = _mm256_set1_ps(dx);
    let zeros = _mm256_set1_epi32(small_block::zero_point::<B>() * x_sum);
    let sum = _mm256_cvtepi32_ps(_mm256_sub_epi32(fold(parts), zeros));
    let total = _mm256_fmadd_ps(_mm256_mul_ps(d, dx), sum, total);
    if !B::HAS_MIN {
        return total;
    }
    _mm256_fmadd_ps(_mm256_mul_ps(m, dx), _mm256_set1_ps(x_sum as f32), total)
}

/// Hands out the results of the rows that exist.
#[target_feature(enable = "avx2")]
#[inline]
fn put<const N: usize>(totals: &[__m256; N], first: usize, live: usize, out: &mut TileMut<'_>) {
    for (t, &total) in totals.iter().enumerate() {
        let mut rows = [0.0; ROWS];
        store_f32(&mut rows, total);
        out.row(t)[first..first + live].copy_from_slice(&rows[..live]);
    }
}

/// Sums the lanes of each of eight registers.
#[target_feature(enable = "avx2")]
#[inline]
fn fold(x: [__m256i; ROWS]) -> __m256i {
    let mut pairs = [_mm256_setzero_si256(); ROWS / 2];
    for r in 0..ROWS / 2 {
        let low = _mm256_permute2x128_si256::<0x20>(x[r], x[r + ROWS / 2]);
        let high = _mm256_permute2x128_si256::<0x31>(x[r], x[r + ROWS / 2]);
        pairs[r] = _mm256_add_epi32(low, high);
    }
    fold_lanes(pairs)
}

/// Sums the four lanes of each half of four registers, side by side.
#[target_feature(enable = "avx2")]
#[inline]
fn fold_lanes([a, b, c, d]: [__m256i; ROWS / 2]) -> __m256i {
    let ab = _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    let cd = _mm256_add_epi32(_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
    _mm256_add_epi32(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd))
}
