//! Weight rows read in place, for one to four tokens.
//!
//! Integers first, floats after. Eight rows are read one after the other, as they lie in
//! memory, and leave their integer sums in a small table. Then the float part runs over the
//! table's columns with a row in each lane: the scalar chain, for eight rows at once.
//!
//! ```text
//! for each 8 rows, for each few blocks along them:
//!   for each row r, for each block b:   table[b][r] = integer sums
//!   for each block b:                   total = fma(d[b] · dx[b], table[b], total)
//! ```
//!
//! The sums of superblocks wait in four lanes each and are folded in the float part, those of
//! eight rows into one register; small blocks are folded sixteen at a time along the row.
//!
//! Without that, a row's chain of dependent steps and the folding of every block cost as
//! much as the products. Memory delivers more to prefetches into the second cache than to
//! loads that miss the first, so blocks ask for what comes eight kilobytes later.

mod small_block;
mod superblock;

use std::arch::x86_64::*;

use super::load::{load_u16x8, prefetch, store_i32};
use crate::{
    QuantType,
    activations::{ActSmall, ActSuper},
    blocks::{SmallBlock, SuperBlock},
    pool::TileMut,
    product::Strip,
};
use superblock::SuperParts;

/// Rows whose float parts go side by side.
const ROWS: usize = 8;
/// Superblocks along a row whose sums the table holds.
const COLUMNS: usize = 16;
/// Groups of eight small blocks along a row whose sums the table holds.
const SMALL_GROUPS: usize = 8;

/// How far behind a block memory is asked for.
const PREFETCH_BYTES: usize = 8192;

/// How a superblock's factors wait for the float part.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Factors {
    /// As in the file: a half in the low 16 bits, where there are two the second above it.
    Halves,
    /// As floats, the second in a place of its own.
    Floats,
}

/// What the float part needs of a few superblocks of eight rows, for `N` tokens.
#[repr(C, align(64))]
struct Table<const N: usize> {
    /// By token and block, the integer sums of each row.
    parts: [[[SuperParts; ROWS]; COLUMNS]; N],
    /// By block, the factors of each row.
    first: [[u32; ROWS]; COLUMNS],
    second: [[u32; ROWS]; COLUMNS],
}

impl<const N: usize> Table<N> {
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
    #[inline]
    fn zeroed() -> Self {
        Self {
            parts: [[[_mm256_setzero_si256(); ROWS]; COLUMNS]; N],
            first: [[0; ROWS]; COLUMNS],
            second: [[0; ROWS]; COLUMNS],
        }
    }

    /// Returns the first and the second factors of a block of each row.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
    #[inline]
    fn factors<B: SuperBlock>(&self, block: usize) -> [__m256; 2] {
        let first: __m256i = bytemuck::must_cast(self.first[block]);
        if superblock::kind::<B>() == Factors::Floats {
            let second: __m256i = bytemuck::must_cast(self.second[block]);
            return [_mm256_castsi256_ps(first), _mm256_castsi256_ps(second)];
        }
        let second = _mm256_srli_epi32::<16>(first);
        [
            _mm256_cvtph_ps(_mm256_cvtepi32_epi16(first)),
            _mm256_cvtph_ps(_mm256_cvtepi32_epi16(second)),
        ]
    }
}

/// Computes a strip of superblocks.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
pub(super) fn superblocks<B: SuperBlock>(strip: Strip<'_>, out: &mut TileMut<'_>) {
    match strip.x_rows.len() {
        1 => super_rows::<B, 1>(strip, out),
        2 => super_rows::<B, 2>(strip, out),
        3 => super_rows::<B, 3>(strip, out),
        _ => super_rows::<B, 4>(strip, out),
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
fn super_rows<B: SuperBlock, const N: usize>(strip: Strip<'_>, out: &mut TileMut<'_>) {
    let x: [&[ActSuper]; N] = std::array::from_fn(|t| strip.x.super_row(strip.x_row(t)));
    let mut table = Table::<N>::zeroed();
    for first in (0..strip.w.n_rows()).step_by(ROWS) {
        let live = ROWS.min(strip.w.n_rows() - first);
        let mut totals = [_mm256_setzero_ps(); N];
        for start in (0..x[0].len()).step_by(COLUMNS) {
            let n = COLUMNS.min(x[0].len() - start);
            let x = x.map(|x| &x[start..start + n]);
            for row in 0..live {
                let blocks = &strip.blocks::<B>(first + row)[start..start + n];
                let distance = strip.distance(first + row, PREFETCH_BYTES);
                fill_super_row(blocks, x, row, distance, &mut table);
            }
            for b in 0..n {
                let factors = table.factors::<B>(b);
                for t in 0..N {
                    let dx = _mm256_set1_ps(x[t][b].d);
                    totals[t] = super_step::<B>(&table.parts[t][b], factors, dx, totals[t]);
                }
            }
        }
        put(&totals, first, live, out);
    }
}

/// Fills one row of the table.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
#[inline]
fn fill_super_row<B: SuperBlock, const N: usize>(
    blocks: &[B],
    x: [&[ActSuper]; N],
    row: usize,
    distance: usize,
    table: &mut Table<N>,
) {
    for (b, block) in blocks.iter().enumerate() {
        prefetch(block, size_of::<B>(), distance);
        let mut x_block = [&x[0][b]; N];
        for t in 1..N {
            x_block[t] = &x[t][b];
        }
        let (parts, [first, second]) = superblock::parts(block, x_block);
        for t in 0..N {
            table.parts[t][b][row] = parts[t];
        }
        table.first[b][row] = first;
        if superblock::kind::<B>() == Factors::Floats {
            table.second[b][row] = second;
        }
    }
}

/// The float part of one superblock of each row.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
#[inline]
fn super_step<B: SuperBlock>(
    parts: &[SuperParts; ROWS],
    [d, dmin]: [__m256; 2],
    dx: __m256,
    total: __m256,
) -> __m256 {
    let [x0, x1, x2, x3, x4, x5, x6, x7] = *parts;
    let low = fold_pairs_256(fold_dwords_256(x0, x1), fold_dwords_256(x2, x3));
    let high = fold_pairs_256(fold_dwords_256(x4, x5), fold_dwords_256(x6, x7));
    let sum = _mm256_cvtepi32_ps(_mm256_permute2x128_si256::<0x20>(low, high));
    let total = _mm256_fmadd_ps(_mm256_mul_ps(d, dx), sum, total);
    if !B::HAS_MIN {
        return total;
    }
    let min_sum = _mm256_cvtepi32_ps(_mm256_permute2x128_si256::<0x31>(low, high));
    _mm256_fnmadd_ps(_mm256_mul_ps(dmin, dx), min_sum, total)
}

/// Hands out the results of the rows that exist.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
#[inline]
fn put<const N: usize>(totals: &[__m256; N], first: usize, live: usize, out: &mut TileMut<'_>) {
    for (t, &total) in totals.iter().enumerate() {
        let rows: [f32; ROWS] = bytemuck::must_cast(total);
        out.row(t)[first..first + live].copy_from_slice(&rows[..live]);
    }
}

/// What the float part needs of a few small blocks of eight rows, for `N` tokens.
#[repr(C, align(64))]
struct SmallTable<const N: usize> {
    /// By token and row, the sums of the blocks of each group.
    sums: [[[[i32; 8]; SMALL_GROUPS]; ROWS]; N],
    /// By block, the factors of each row.
    d: [[u16; ROWS]; 8 * SMALL_GROUPS],
    m: [[u16; ROWS]; 8 * SMALL_GROUPS],
}

/// Computes a strip of small blocks.
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
    let mut table = SmallTable::<N> {
        sums: [[[[0; 8]; SMALL_GROUPS]; ROWS]; N],
        d: [[0; ROWS]; 8 * SMALL_GROUPS],
        m: [[0; ROWS]; 8 * SMALL_GROUPS],
    };
    for first in (0..strip.w.n_rows()).step_by(ROWS) {
        let live = ROWS.min(strip.w.n_rows() - first);
        let mut totals = [_mm256_setzero_ps(); N];
        for start in (0..x[0].len()).step_by(SMALL_GROUPS) {
            let x = x.map(|x| &x[start..x.len().min(start + SMALL_GROUPS)]);
            let mut n_blocks = 0;
            for row in 0..live {
                let blocks = &strip.blocks::<B>(first + row)[8 * start..];
                let blocks = &blocks[..blocks.len().min(8 * x[0].len())];
                fill_small_row(blocks, x, row, &mut table);
                n_blocks = blocks.len();
            }
            for (group, n) in (0..n_blocks)
                .step_by(8)
                .map(|b| (n_blocks - b).min(8))
                .enumerate()
            {
                for t in 0..N {
                    let sums = table.columns(t, group);
                    for b in 0..n {
                        let (column, x) = (8 * group + b, &x[t][group]);
                        let factors = table.factors::<B>(column);
                        let x = (x.d[b], x.sums[b]);
                        totals[t] = small_step::<B>(sums[b], factors, x, totals[t]);
                    }
                }
            }
        }
        put(&totals, first, live, out);
    }
}

/// Fills one row of the table; the last block is repeated up to a whole fold.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
#[inline]
fn fill_small_row<B: SmallBlock, const N: usize>(
    blocks: &[B],
    x: [&[ActSmall]; N],
    row: usize,
    table: &mut SmallTable<N>,
) {
    const BLOCKS: usize = small_block::BLOCKS;
    let n_groups = x[0].len();
    for (i, some) in blocks.chunks(BLOCKS).enumerate() {
        prefetch(&some[0], BLOCKS * size_of::<B>(), PREFETCH_BYTES);
        let last = some.len() - 1;
        let mut padded = [&some[last]; BLOCKS];
        for (place, block) in padded.iter_mut().zip(some) {
            *place = block;
        }
        let groups = [2 * i, (2 * i + 1).min(n_groups - 1)];
        let sums = small_block::sums(padded, x.map(|x| groups.map(|group| &x[group])));
        for t in 0..N {
            let places = &mut table.sums[t][row].as_chunks_mut::<2>().0[i];
            store_i32(bytemuck::must_cast_mut(places), sums[t]);
        }
        for (b, block) in some.iter().enumerate() {
            let column = BLOCKS * i + b;
            let [d, m] = small_block::factors(block);
            table.d[column][row] = d;
            if B::HAS_MIN {
                table.m[column][row] = m;
            }
        }
    }
}

impl<const N: usize> SmallTable<N> {
    /// Returns the sums of eight blocks, a row to a lane.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
    #[inline]
    fn columns(&self, token: usize, group: usize) -> [__m256i; 8] {
        let mut x = [_mm256_setzero_si256(); 8];
        for r in 0..8 {
            x[r] = bytemuck::must_cast(self.sums[token][r][group]);
        }
        transpose(x)
    }

    /// Returns the factors of one block of each row.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
    #[inline]
    fn factors<B: SmallBlock>(&self, column: usize) -> [__m256; 2] {
        let d = load_u16x8(&self.d[column]);
        if B::TYPE == QuantType::MXFP4 {
            return [half_powers(_mm256_cvtepu16_epi32(d)), _mm256_setzero_ps()];
        }
        let m = if B::HAS_MIN {
            load_u16x8(&self.m[column])
        } else {
            _mm_setzero_si128()
        };
        [_mm256_cvtph_ps(d), _mm256_cvtph_ps(m)]
    }
}

/// Half of two to the power of `e − 127`, as [`crate::blocks::half_power`]: below two the
/// result has no exponent of its own.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
#[inline]
fn half_powers(e: __m256i) -> __m256 {
    let normal = _mm256_slli_epi32::<23>(_mm256_sub_epi32(e, _mm256_set1_epi32(1)));
    let subnormal = _mm256_sllv_epi32(_mm256_set1_epi32(0x0020_0000), e);
    let is_small = _mm256_cmplt_epi32_mask(e, _mm256_set1_epi32(2));
    _mm256_castsi256_ps(_mm256_mask_mov_epi32(normal, is_small, subnormal))
}

/// The float part of one small block of each row.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
#[inline]
fn small_step<B: SmallBlock>(
    sums: __m256i,
    [d, m]: [__m256; 2],
    (dx, x_sum): (f32, i32),
    total: __m256,
) -> __m256 {
    let dx = _mm256_set1_ps(dx);
    let zeros = _mm256_set1_epi32(B::ZERO * x_sum);
    let sum = _mm256_cvtepi32_ps(_mm256_sub_epi32(sums, zeros));
    let total = _mm256_fmadd_ps(_mm256_mul_ps(d, dx), sum, total);
    if !B::HAS_MIN {
        return total;
    }
    _mm256_fmadd_ps(_mm256_mul_ps(m, dx), _mm256_set1_ps(x_sum as f32), total)
}

/// Adds neighbouring dwords of two registers: per 128 bits, two of `a` next to two of `b`,
/// each twice as large a part of a sum.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
#[inline]
fn fold_dwords(a: __m512i, b: __m512i) -> __m512i {
    _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b))
}

/// The next step after [`fold_dwords`]: four sums per 128 bits.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
#[inline]
fn fold_pairs(a: __m512i, b: __m512i) -> __m512i {
    _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b))
}

/// As [`fold_dwords`], of half a register.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
#[inline]
fn fold_dwords_256(a: __m256i, b: __m256i) -> __m256i {
    _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b))
}

/// As [`fold_pairs`], of half a register.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
#[inline]
fn fold_pairs_256(a: __m256i, b: __m256i) -> __m256i {
    _mm256_add_epi32(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b))
}

/// Sums the four lanes of 128 bits of four registers, side by side in each lane.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
#[inline]
fn fold_quarters([a, b, c, d]: [__m512i; 4]) -> __m512i {
    fold_pairs(fold_dwords(a, b), fold_dwords(c, d))
}

/// Transposes 8 × 8 dwords.
#[target_feature(enable = "avx2")]
#[inline]
fn transpose(mut x: [__m256i; 8]) -> [__m256i; 8] {
    let mut y = x;
    for i in 0..4 {
        y[2 * i] = _mm256_unpacklo_epi32(x[2 * i], x[2 * i + 1]);
        y[2 * i + 1] = _mm256_unpackhi_epi32(x[2 * i], x[2 * i + 1]);
    }
    for i in 0..2 {
        x[4 * i] = _mm256_unpacklo_epi64(y[4 * i], y[4 * i + 2]);
        x[4 * i + 1] = _mm256_unpackhi_epi64(y[4 * i], y[4 * i + 2]);
        x[4 * i + 2] = _mm256_unpacklo_epi64(y[4 * i + 1], y[4 * i + 3]);
        x[4 * i + 3] = _mm256_unpackhi_epi64(y[4 * i + 1], y[4 * i + 3]);
    }
    // x[4·g + c] holds, in lane l, dword 4·l + c of rows 4·g..4·g + 4: exchange lanes.
    for c in 0..4 {
        y[c] = _mm256_permute2x128_si256::<0x20>(x[c], x[4 + c]);
        y[4 + c] = _mm256_permute2x128_si256::<0x31>(x[c], x[4 + c]);
    }
    y
}
