//! Packed panels times tokens: sixteen rows in the lanes of two registers, up to three tokens
//! at once.
//!
//! As for AVX-512, with `vpmaddubsw` into 16-bit pairs and `vpmaddwd` with the scale in
//! place of `vpdpbusd` and `vpmulld`. A pair must not leave 16 bits: formats whose stored
//! integers stay below 128 are multiplied unsigned (2 · 127 · 127), the others (zero
//! point 128) signed, by moving the sign of the weight to the activation (2 · 128 · 127).
//! Where the integers are smaller, several pairs are added in 16 bits before the scale
//! widens them ([`run_len`]), all eight of a sub-block of nibbles: both instructions take
//! the multipliers, and this saves nearly every second of them.
//!
//! Two loads of weights and three broadcasts of activations feed six products: the multipliers
//! wait neither for loads (two a cycle) nor for the decoder, and the sums fill the registers.
//!
//! A panel of 256 columns is packed, multiplied with that block of every token and forgotten:
//! it stays in the first cache, and the totals wait in memory, a row of sixteen per token.

use std::arch::x86_64::*;

use bytemuck::Zeroable;

use super::{
    dwords::Wide,
    load::{in_order, load_f32, load_u8, store_f32},
};
use crate::{
    activations::{ActSmall, ActSuper},
    ahead::Ahead,
    blocks::{SmallBlock, SuperBlock},
    pack,
    panel::{Panels, ROWS, SmallPanel, SuperPanel, clear, groups, put},
    pool::TileMut,
    product::Strip,
};

/// Most tokens that pass over a panel together.
const TOKENS: usize = 3;
/// Small blocks along a row that are packed together, as many as the activations group.
const GROUP: usize = 8;
/// Steps in which memory is asked for what comes next, for each superblock of some tokens.
const SUPER_STEPS: usize = 2;

/// Whether stored integers with this zero point are multiplied signed.
pub(super) const fn is_signed(zero: i32) -> bool {
    zero == 128
}

/// The zero point that is left after [`products`].
pub(super) const fn zero_point(stored: i32) -> i32 {
    if is_signed(stored) { 0 } else { stored }
}

/// How many sums of [`products`] still fit 16 bits when they are added: a power of two, at
/// most the eight of a sub-block of 32.
///
/// Stored integers are at most `max` and activations at most 127 in magnitude.
pub(super) const fn run_len(max: i32) -> usize {
    let mut run = 8;
    while run > 1 && run * 2 * 127 * max > i16::MAX as i32 {
        run /= 2;
    }
    run as usize
}

/// Sums of neighbouring products, exact in 16 bits.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn products<const SIGNED: bool>(q: __m256i, x: __m256i) -> __m256i {
    if SIGNED {
        let signed = _mm256_xor_si256(q, _mm256_set1_epi8(-128));
        _mm256_maddubs_epi16(_mm256_abs_epi8(signed), _mm256_sign_epi8(x, signed))
    } else {
        _mm256_maddubs_epi16(q, x)
    }
}

/// Computes a strip of superblocks.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn superblocks<B: SuperBlock>(
    strip: Strip<'_>,
    panels: &mut Panels,
    out: &mut TileMut<'_>,
) {
    let n_rows = strip.w.n_rows();
    panels.superblocks.resize(1, SuperPanel::zeroed());
    let (panel, totals) = (&mut panels.superblocks[0], &mut panels.totals);
    for row in (0..n_rows).step_by(ROWS) {
        let rows: [&[B]; ROWS] = std::array::from_fn(|r| strip.blocks((row + r).min(n_rows - 1)));
        clear(totals, strip);
        for block in 0..rows[0].len() {
            pack_superblocks(rows.map(|blocks| &blocks[block]), panel);
            let n_steps = SUPER_STEPS * strip.x_rows.len().div_ceil(TOKENS);
            let ahead = &mut Ahead::new(strip, row, (block, rows[0].len()), n_steps);
            super_shape::<B>(strip, panel, block, totals, ahead);
        }
        put(totals, row, strip, out);
    }
}

/// Packs one superblock of each row.
#[target_feature(enable = "avx2,fma,f16c")]
fn pack_superblocks<B: SuperBlock>(rows: [&B; ROWS], panel: &mut SuperPanel) {
    pack::superblocks::<Wide, B>(rows, panel);
}

/// Packs one small block of each row.
#[target_feature(enable = "avx2,fma,f16c")]
fn pack_small_blocks<B: SmallBlock>(rows: [&B; ROWS], panel: &mut SmallPanel) {
    pack::small_blocks::<Wide, B>(rows, panel);
}

/// Picks the tile for a format.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn super_shape<B: SuperBlock>(
    strip: Strip<'_>,
    panel: &SuperPanel,
    block: usize,
    totals: &mut [[f32; ROWS]],
    ahead: &mut Ahead<'_>,
) {
    let shape = (B::SUB, B::HAS_MIN, is_signed(B::ZERO), run_len(B::MAX));
    let zero = zero_point(B::ZERO);
    match shape {
        (16, false, false, 4..) => {
            SuperTile::<16, false, false, 4> { panel, zero }.add_all(strip, block, totals, ahead);
        }
        (16, false, false, 2) => {
            SuperTile::<16, false, false, 2> { panel, zero }.add_all(strip, block, totals, ahead);
        }
        (16, false, false, _) => {
            SuperTile::<16, false, false, 1> { panel, zero }.add_all(strip, block, totals, ahead);
        }
        (16, false, true, _) => {
            SuperTile::<16, false, true, 1> { panel, zero }.add_all(strip, block, totals, ahead);
        }
        (16, true, _, 4..) => {
            SuperTile::<16, true, false, 4> { panel, zero }.add_all(strip, block, totals, ahead);
        }
        (16, true, _, _) => {
            SuperTile::<16, true, false, 1> { panel, zero }.add_all(strip, block, totals, ahead);
        }
        (_, false, false, _) => {
            SuperTile::<32, false, false, 1> { panel, zero }.add_all(strip, block, totals, ahead);
        }
        (_, false, true, _) => {
            SuperTile::<32, false, true, 1> { panel, zero }.add_all(strip, block, totals, ahead);
        }
        (_, true, _, 8) => {
            SuperTile::<32, true, false, 8> { panel, zero }.add_all(strip, block, totals, ahead);
        }
        (_, true, _, 4) => {
            SuperTile::<32, true, false, 4> { panel, zero }.add_all(strip, block, totals, ahead);
        }
        (_, true, _, _) => {
            SuperTile::<32, true, false, 1> { panel, zero }.add_all(strip, block, totals, ahead);
        }
    }
}

/// A panel, and what its format is like.
#[derive(Clone, Copy)]
struct SuperTile<'a, const SUB: usize, const HAS_MIN: bool, const SIGNED: bool, const RUN: usize> {
    panel: &'a SuperPanel,
    zero: i32,
}

/// Integer sums of both halves of the rows, by token.
type Sums<const N: usize> = [[__m256i; 2]; N];

impl<const SUB: usize, const HAS_MIN: bool, const SIGNED: bool, const RUN: usize>
    SuperTile<'_, SUB, HAS_MIN, SIGNED, RUN>
{
    /// Multiplies the panel with its block of every token.
    #[target_feature(enable = "avx2,fma")]
    fn add_all(
        self,
        strip: Strip<'_>,
        block: usize,
        totals: &mut [[f32; ROWS]],
        ahead: &mut Ahead<'_>,
    ) {
        for group in groups(strip.x_rows.len(), TOKENS) {
            let x = |t| &strip.x.super_row(strip.x_row(group.start + t))[block];
            let totals = &mut totals[group.clone()];
            match totals.len() {
                3 => self.add::<3>(std::array::from_fn(x), totals, ahead),
                2 => self.add::<2>(std::array::from_fn(x), totals, ahead),
                _ => self.add::<1>(std::array::from_fn(x), totals, ahead),
            }
        }
    }

    /// Adds the panel's block to the totals of `N` tokens.
    #[target_feature(enable = "avx2,fma")]
    fn add<const N: usize>(
        self,
        x: [&ActSuper; N],
        totals: &mut [[f32; ROWS]],
        ahead: &mut Ahead<'_>,
    ) {
        ahead.step();
        let mut sums = self.sums(x);
        ahead.step();
        let min_sums = self.min_sums(x);
        if !HAS_MIN && self.zero != 0 {
            let zero = _mm256_set1_epi32(self.zero);
            for t in 0..N {
                for half in 0..2 {
                    let zeros = _mm256_mullo_epi32(min_sums[t][half], zero);
                    sums[t][half] = _mm256_sub_epi32(sums[t][half], zeros);
                }
            }
        }
        for half in 0..2 {
            let d = load_f32(&halves(&self.panel.d)[half]);
            let dmin = load_f32(&halves(&self.panel.dmin)[half]);
            for t in 0..N {
                let dx = _mm256_set1_ps(x[t].d);
                let place = &mut totals[t].as_chunks_mut().0[half];
                let sum = _mm256_cvtepi32_ps(sums[t][half]);
                let mut total = _mm256_fmadd_ps(_mm256_mul_ps(d, dx), sum, load_f32(place));
                if HAS_MIN {
                    let sum = _mm256_cvtepi32_ps(min_sums[t][half]);
                    total = _mm256_fnmadd_ps(_mm256_mul_ps(dmin, dx), sum, total);
                }
                store_f32(place, total);
            }
        }
    }

    /// Sums of the stored integers times the activations, times the scales.
    #[target_feature(enable = "avx2,fma")]
    #[inline]
    fn sums<const N: usize>(self, x: [&ActSuper; N]) -> Sums<N> {
        let mut sums = [[_mm256_setzero_si256(); 2]; N];
        for s in 0..256 / SUB {
            let scales: &[[u8; 32]; 2] = bytemuck::must_cast_ref(&self.panel.scales[s]);
            for run in 0..SUB / 4 / RUN {
                let mut parts = [[_mm256_setzero_si256(); 2]; N];
                for i in 0..RUN {
                    let i = s * SUB / 4 + run * RUN + i;
                    add_products::<SIGNED, N>(&self.panel.q[i], x.map(|x| &x.q), i, &mut parts);
                }
                for t in 0..N {
                    for half in 0..2 {
                        let scaled = _mm256_madd_epi16(parts[t][half], load_u8(&scales[half]));
                        sums[t][half] = in_order(_mm256_add_epi32(sums[t][half], scaled));
                    }
                }
            }
        }
        sums
    }

    /// Sums of the activations times the minimums, or times the scales where a zero point is
    /// to be taken off.
    #[target_feature(enable = "avx2,fma")]
    #[inline]
    fn min_sums<const N: usize>(self, x: [&ActSuper; N]) -> Sums<N> {
        let mut sums = [[_mm256_setzero_si256(); 2]; N];
        if !HAS_MIN && self.zero == 0 {
            return sums;
        }
        for pair in 0..256 / SUB / 2 {
            for half in 0..2 {
                let load = |words: &[u8; 64]| load_u8(&words.as_chunks().0[half]);
                let mins = if HAS_MIN {
                    load(bytemuck::must_cast_ref(&self.panel.mins[pair]))
                } else {
                    // Scales are in both words of a dword: the first of one, the second of
                    // the next sub-block.
                    let first = load(bytemuck::must_cast_ref(&self.panel.scales[2 * pair]));
                    let second = load(bytemuck::must_cast_ref(&self.panel.scales[2 * pair + 1]));
                    _mm256_blend_epi16::<0b1010_1010>(first, second)
                };
                for t in 0..N {
                    let two = if SUB == 16 {
                        x[t].sums16.as_chunks::<2>().0[pair]
                    } else {
                        x[t].sums32.as_chunks::<2>().0[pair]
                    };
                    let two = _mm256_set1_epi32(bytemuck::must_cast(two));
                    sums[t][half] = _mm256_add_epi32(sums[t][half], _mm256_madd_epi16(mins, two));
                }
            }
        }
        sums
    }
}

/// Adds the products of a dword of each row with dword `i` of the activations, in pairs.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn add_products<const SIGNED: bool, const N: usize>(
    w: &[u8; 4 * ROWS],
    x: [&[i8; 256]; N],
    i: usize,
    parts: &mut Sums<N>,
) {
    let [first, second]: &[[u8; 32]; 2] = bytemuck::must_cast_ref(w);
    let w = [load_u8(first), load_u8(second)];
    for t in 0..N {
        let four = _mm256_set1_epi32(bytemuck::must_cast(x[t].as_chunks::<4>().0[i]));
        for half in 0..2 {
            let products = products::<SIGNED>(w[half], four);
            let sum = _mm256_add_epi16(parts[t][half], products);
            // The sums of fewer tokens leave registers for the compiler's own order.
            parts[t][half] = if N == TOKENS { in_order(sum) } else { sum };
        }
    }
}

/// Rows 0..8 and 8..16.
fn halves(x: &[f32; ROWS]) -> &[[f32; 8]; 2] {
    bytemuck::must_cast_ref(x)
}

/// Computes a strip of small blocks, eight along the rows at a time.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn small_blocks<B: SmallBlock>(
    strip: Strip<'_>,
    panels: &mut Panels,
    out: &mut TileMut<'_>,
) {
    let n_rows = strip.w.n_rows();
    panels.small.resize(GROUP, SmallPanel::zeroed());
    let (panels, totals) = (&mut panels.small, &mut panels.totals);
    for row in (0..n_rows).step_by(ROWS) {
        let rows: [&[B]; ROWS] = std::array::from_fn(|r| strip.blocks((row + r).min(n_rows - 1)));
        clear(totals, strip);
        let n_parts = rows[0].len().div_ceil(GROUP);
        for group in 0..n_parts {
            let n = GROUP.min(rows[0].len() - GROUP * group);
            for (i, panel) in panels[..n].iter_mut().enumerate() {
                pack_small_blocks(rows.map(|blocks| &blocks[GROUP * group + i]), panel);
            }
            let n_steps = n * strip.x_rows.len().div_ceil(TOKENS);
            let ahead = &mut Ahead::new(strip, row, (group, n_parts), n_steps);
            small_shape::<B>(strip, &panels[..n], group, totals, ahead);
        }
        put(totals, row, strip, out);
    }
}

/// Picks the tile for a format.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn small_shape<B: SmallBlock>(
    strip: Strip<'_>,
    panels: &[SmallPanel],
    group: usize,
    totals: &mut [[f32; ROWS]],
    ahead: &mut Ahead<'_>,
) {
    let zero = zero_point(B::ZERO);
    match (B::HAS_MIN, is_signed(B::ZERO), run_len(B::MAX)) {
        (false, true, _) => {
            SmallTile::<false, true, 1> { panels, zero }.add_all(strip, group, totals, ahead);
        }
        (false, _, 8) => {
            SmallTile::<false, false, 8> { panels, zero }.add_all(strip, group, totals, ahead);
        }
        (false, _, 4) => {
            SmallTile::<false, false, 4> { panels, zero }.add_all(strip, group, totals, ahead);
        }
        (false, _, _) => {
            SmallTile::<false, false, 1> { panels, zero }.add_all(strip, group, totals, ahead);
        }
        (true, _, 8) => {
            SmallTile::<true, false, 8> { panels, zero }.add_all(strip, group, totals, ahead);
        }
        (true, _, 4) => {
            SmallTile::<true, false, 4> { panels, zero }.add_all(strip, group, totals, ahead);
        }
        (true, _, _) => {
            SmallTile::<true, false, 1> { panels, zero }.add_all(strip, group, totals, ahead);
        }
    }
}

/// Up to eight panels along the rows, and what their format is like.
#[derive(Clone, Copy)]
struct SmallTile<'a, const HAS_MIN: bool, const SIGNED: bool, const RUN: usize> {
    panels: &'a [SmallPanel],
    zero: i32,
}

impl<const HAS_MIN: bool, const SIGNED: bool, const RUN: usize>
    SmallTile<'_, HAS_MIN, SIGNED, RUN>
{
    /// Multiplies the panels with their blocks of every token.
    #[target_feature(enable = "avx2,fma")]
    fn add_all(
        self,
        strip: Strip<'_>,
        group: usize,
        totals: &mut [[f32; ROWS]],
        ahead: &mut Ahead<'_>,
    ) {
        for tokens in groups(strip.x_rows.len(), TOKENS) {
            let x = |t| &strip.x.small_row(strip.x_row(tokens.start + t))[group];
            let totals = &mut totals[tokens.clone()];
            match totals.len() {
                3 => self.add::<3>(std::array::from_fn(x), totals, ahead),
                2 => self.add::<2>(std::array::from_fn(x), totals, ahead),
                _ => self.add::<1>(std::array::from_fn(x), totals, ahead),
            }
        }
    }

    /// Adds the blocks to the totals of `N` tokens.
    #[target_feature(enable = "avx2,fma")]
    fn add<const N: usize>(
        self,
        x: [&ActSmall; N],
        out: &mut [[f32; ROWS]],
        ahead: &mut Ahead<'_>,
    ) {
        let mut totals = [[_mm256_setzero_ps(); 2]; N];
        for t in 0..N {
            for half in 0..2 {
                totals[t][half] = load_f32(&halves(&out[t])[half]);
            }
        }
        for (block, panel) in self.panels.iter().enumerate() {
            ahead.step();
            let sums = self.sums(panel, block, x);
            for half in 0..2 {
                let d = load_f32(&halves(&panel.d)[half]);
                let m = load_f32(&halves(&panel.m)[half]);
                for t in 0..N {
                    let dx = _mm256_set1_ps(x[t].d[block]);
                    let sum = _mm256_cvtepi32_ps(sums[t][half]);
                    let mut total = totals[t][half];
                    total = _mm256_fmadd_ps(_mm256_mul_ps(d, dx), sum, total);
                    if HAS_MIN {
                        let sum = _mm256_set1_ps(x[t].sums[block] as f32);
                        total = _mm256_fmadd_ps(_mm256_mul_ps(m, dx), sum, total);
                    }
                    totals[t][half] = total;
                }
            }
        }
        for t in 0..N {
            for half in 0..2 {
                store_f32(&mut out[t].as_chunks_mut().0[half], totals[t][half]);
            }
        }
    }

    /// Sums of the integers of a block, less the zero point, times the activations.
    #[target_feature(enable = "avx2,fma")]
    #[inline]
    fn sums<const N: usize>(self, panel: &SmallPanel, block: usize, x: [&ActSmall; N]) -> Sums<N> {
        let ones = _mm256_set1_epi16(1);
        let mut sums = [[_mm256_setzero_si256(); 2]; N];
        for t in 0..N {
            sums[t] = [_mm256_set1_epi32(-self.zero * x[t].sums[block]); 2];
        }
        for run in 0..8 / RUN {
            let mut parts = [[_mm256_setzero_si256(); 2]; N];
            for i in run * RUN..(run + 1) * RUN {
                let x = x.map(|x| &x.q);
                add_products::<SIGNED, N>(&panel.q[i], x, 8 * block + i, &mut parts);
            }
            for t in 0..N {
                for half in 0..2 {
                    let wide = _mm256_madd_epi16(parts[t][half], ones);
                    sums[t][half] = in_order(_mm256_add_epi32(sums[t][half], wide));
                }
            }
        }
        sums
    }
}
