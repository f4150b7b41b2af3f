//! Packed panels times tokens: eight rows in the lanes, up to four tokens at once.
//!
//! As for AVX-512, with `vpmaddubsw` into 16-bit pairs and `vpmaddwd` with the scale in
//! place of `vpdpbusd` and `vpmulld`. A pair must not leave 16 bits: formats whose stored
//! integers stay below 128 are multiplied unsigned (2 · 127 · 127), the others (zero
//! point 128) signed, by moving the sign of the weight to the activation (2 · 128 · 127).
//! Where the integers are smaller, several pairs are added in 16 bits before the scale
//! widens them ([`run_len`]), all eight of a sub-block of nibbles: both instructions take
//! the multipliers, and this saves nearly every second of them.
//!
//! A panel of 256 columns is packed, multiplied with that block of every token and forgotten:
//! it stays in the first cache, and the sums wait in memory, a row of sixteen per token.

use std::arch::x86_64::*;

use bytemuck::Zeroable;

use super::{
    load::{load_f32, load_pairs, load_u8, store_f32},
    pack,
};
use crate::{
    activations::{ActSmall, ActSuper},
    ahead::Ahead,
    blocks::{SmallBlock, SuperBlock},
    panel::{Panels, ROWS, SmallPanel, SuperPanel},
    pool::TileMut,
    product::Strip,
};

/// Tokens that pass over a panel together.
const TOKENS: usize = 4;
/// Rows in a register.
const HALF: usize = ROWS / 2;
/// Small blocks along a row that are packed together, as many as the activations group.
const GROUP: usize = 8;

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
#[target_feature(enable = "avx2,fma")]
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
            pack::superblocks(rows.map(|blocks| &blocks[block]), panel);
            let n_steps = 2 * totals.len() / TOKENS;
            let ahead = &mut Ahead::new(strip, row, (block, rows[0].len()), n_steps);
            super_shape::<B>(strip, panel, block, totals, ahead);
        }
        put(totals, row, strip, out);
    }
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
    match shape {
        (16, false, false, 4..) => {
            super_tokens::<16, false, false, 4>(strip, panel, block, totals, ahead);
        }
        (16, false, false, 2) => {
            super_tokens::<16, false, false, 2>(strip, panel, block, totals, ahead);
        }
        (16, false, false, _) => {
            super_tokens::<16, false, false, 1>(strip, panel, block, totals, ahead);
        }
        (16, false, true, _) => {
            super_tokens::<16, false, true, 1>(strip, panel, block, totals, ahead);
        }
        (16, true, _, 4..) => {
            super_tokens::<16, true, false, 4>(strip, panel, block, totals, ahead);
        }
        (16, true, _, _) => super_tokens::<16, true, false, 1>(strip, panel, block, totals, ahead),
        (_, false, false, _) => {
            super_tokens::<32, false, false, 1>(strip, panel, block, totals, ahead);
        }
        (_, false, true, _) => {
            super_tokens::<32, false, true, 1>(strip, panel, block, totals, ahead);
        }
        (_, true, _, 8) => super_tokens::<32, true, false, 8>(strip, panel, block, totals, ahead),
        (_, true, _, 4) => super_tokens::<32, true, false, 4>(strip, panel, block, totals, ahead),
        (_, true, _, _) => super_tokens::<32, true, false, 1>(strip, panel, block, totals, ahead),
    }
}

/// Multiplies a panel with its block of every token.
#[target_feature(enable = "avx2,fma")]
fn super_tokens<const SUB: usize, const HAS_MIN: bool, const SIGNED: bool, const RUN: usize>(
    strip: Strip<'_>,
    panel: &SuperPanel,
    block: usize,
    totals: &mut [[f32; ROWS]],
    ahead: &mut Ahead<'_>,
) {
    let n_tokens = strip.x_rows.len();
    for (group, totals) in totals.as_chunks_mut::<TOKENS>().0.iter_mut().enumerate() {
        // Missing tokens repeat the last; their results are dropped.
        let x: [&ActSuper; TOKENS] = std::array::from_fn(|t| {
            let token = (TOKENS * group + t).min(n_tokens - 1);
            &strip.x.super_row(strip.x_row(token))[block]
        });
        for half in 0..2 {
            ahead.step();
            super_tile::<SUB, HAS_MIN, SIGNED, RUN>(panel, half, x, totals);
        }
    }
}

/// Sets the results of sixteen rows to zero, for whole groups of tokens.
fn clear(totals: &mut Vec<[f32; ROWS]>, strip: Strip<'_>) {
    totals.clear();
    totals.resize(strip.x_rows.len().next_multiple_of(TOKENS), [0.0; ROWS]);
}

/// Hands out what is within the strip.
fn put(totals: &[[f32; ROWS]], row: usize, strip: Strip<'_>, out: &mut TileMut<'_>) {
    let live = ROWS.min(strip.w.n_rows() - row);
    for (t, totals) in totals[..strip.x_rows.len()].iter().enumerate() {
        let out = &mut out.row(t)[row..row + live];
        match out.first_chunk_mut() {
            Some(all) => *all = *totals,
            None => out.copy_from_slice(&totals[..live]),
        }
    }
}

/// Adds one block to the results of one half of the rows.
#[target_feature(enable = "avx2,fma")]
fn super_tile<const SUB: usize, const HAS_MIN: bool, const SIGNED: bool, const RUN: usize>(
    panel: &SuperPanel,
    half: usize,
    x: [&ActSuper; TOKENS],
    totals: &mut [[f32; ROWS]; TOKENS],
) {
    let zero = _mm256_setzero_si256();
    let mut sums = [zero; TOKENS];
    let mut min_sums = [zero; TOKENS];
    for s in 0..256 / SUB {
        let scale = load_u8(&bytemuck::must_cast_ref::<_, [[u8; 32]; 2]>(&panel.scales[s])[half]);
        // The scale in both halves of a lane, for `vpmaddwd`.
        let low = _mm256_and_si256(scale, _mm256_set1_epi32(0xffff));
        let scale = _mm256_or_si256(low, _mm256_slli_epi32::<16>(scale));
        for run in 0..SUB / 4 / RUN {
            let mut parts = [zero; TOKENS];
            for i in 0..RUN {
                let i = s * SUB / 4 + run * RUN + i;
                let w = load_u8(&panel.q[i].as_chunks::<32>().0[half]);
                for t in 0..TOKENS {
                    let x = x[t].q.as_chunks::<4>().0[i];
                    let x = _mm256_set1_epi32(bytemuck::must_cast(x));
                    parts[t] = _mm256_add_epi16(parts[t], products::<SIGNED>(w, x));
                }
            }
            for t in 0..TOKENS {
                sums[t] = _mm256_add_epi32(sums[t], _mm256_madd_epi16(parts[t], scale));
            }
        }
    }
    for pair in 0..256 / SUB / 2 {
        let mins = load_pairs(&panel.mins[pair].as_chunks::<8>().0[half]);
        for t in 0..TOKENS {
            let x = x[t];
            let pair_of_sums = if SUB == 16 {
                x.sums16.as_chunks::<2>().0[pair]
            } else {
                x.sums32.as_chunks::<2>().0[pair]
            };
            let x = _mm256_set1_epi32(bytemuck::must_cast(pair_of_sums));
            min_sums[t] = _mm256_add_epi32(min_sums[t], _mm256_madd_epi16(mins, x));
        }
    }
    let d = load_f32(&panel.d.as_chunks::<8>().0[half]);
    let dmin = load_f32(&panel.dmin.as_chunks::<8>().0[half]);
    for t in 0..TOKENS {
        let dx = _mm256_set1_ps(x[t].d);
        let sum = if HAS_MIN {
            sums[t]
        } else {
            _mm256_sub_epi32(sums[t], min_sums[t])
        };
        let sum = _mm256_cvtepi32_ps(sum);
        let place = &mut totals[t].as_chunks_mut::<HALF>().0[half];
        let mut total = _mm256_fmadd_ps(_mm256_mul_ps(d, dx), sum, load_f32(place));
        if HAS_MIN {
            let sum = _mm256_cvtepi32_ps(min_sums[t]);
            total = _mm256_fnmadd_ps(_mm256_mul_ps(dmin, dx), sum, total);
        }
        store_f32(place, total);
    }
}

/// Computes a strip of small blocks, eight along the rows at a time.
#[target_feature(enable = "avx2,fma")]
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
                pack::small_blocks(rows.map(|blocks| &blocks[GROUP * group + i]), panel);
            }
            let n_steps = 2 * totals.len() / TOKENS;
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
            small_tokens::<false, true, 1>(strip, panels, zero, group, totals, ahead);
        }
        (false, _, 8) => small_tokens::<false, false, 8>(strip, panels, zero, group, totals, ahead),
        (false, _, 4) => small_tokens::<false, false, 4>(strip, panels, zero, group, totals, ahead),
        (false, _, _) => small_tokens::<false, false, 1>(strip, panels, zero, group, totals, ahead),
        (true, _, 8) => small_tokens::<true, false, 8>(strip, panels, zero, group, totals, ahead),
        (true, _, 4) => small_tokens::<true, false, 4>(strip, panels, zero, group, totals, ahead),
        (true, _, _) => small_tokens::<true, false, 1>(strip, panels, zero, group, totals, ahead),
    }
}

/// Multiplies up to eight panels along the rows with their blocks of every token.
#[target_feature(enable = "avx2,fma")]
fn small_tokens<const HAS_MIN: bool, const SIGNED: bool, const RUN: usize>(
    strip: Strip<'_>,
    panels: &[SmallPanel],
    zero: i32,
    group: usize,
    totals: &mut [[f32; ROWS]],
    ahead: &mut Ahead<'_>,
) {
    let n_tokens = strip.x_rows.len();
    for (tokens, totals) in totals.as_chunks_mut::<TOKENS>().0.iter_mut().enumerate() {
        let x: [&ActSmall; TOKENS] = std::array::from_fn(|t| {
            let token = (TOKENS * tokens + t).min(n_tokens - 1);
            &strip.x.small_row(strip.x_row(token))[group]
        });
        for half in 0..2 {
            ahead.step();
            small_tile::<HAS_MIN, SIGNED, RUN>(panels, zero, half, x, totals);
        }
    }
}

/// Adds the blocks to the results of one half of the rows.
#[target_feature(enable = "avx2,fma")]
fn small_tile<const HAS_MIN: bool, const SIGNED: bool, const RUN: usize>(
    panels: &[SmallPanel],
    zero: i32,
    half: usize,
    x: [&ActSmall; TOKENS],
    out: &mut [[f32; ROWS]; TOKENS],
) {
    let mut totals = [_mm256_setzero_ps(); TOKENS];
    for t in 0..TOKENS {
        totals[t] = load_f32(&out[t].as_chunks::<HALF>().0[half]);
    }
    for (block, panel) in panels.iter().enumerate() {
        let mut sums = [_mm256_setzero_si256(); TOKENS];
        for t in 0..TOKENS {
            sums[t] = _mm256_set1_epi32(-zero * x[t].sums[block]);
        }
        for run in 0..8 / RUN {
            let mut parts = [_mm256_setzero_si256(); TOKENS];
            for i in run * RUN..(run + 1) * RUN {
                let w = load_u8(&panel.q[i].as_chunks::<32>().0[half]);
                for t in 0..TOKENS {
                    let x = x[t].q.as_chunks::<4>().0[8 * block + i];
                    let x = _mm256_set1_epi32(bytemuck::must_cast(x));
                    parts[t] = _mm256_add_epi16(parts[t], products::<SIGNED>(w, x));
                }
            }
            for t in 0..TOKENS {
                let parts = _mm256_madd_epi16(parts[t], _mm256_set1_epi16(1));
                sums[t] = _mm256_add_epi32(sums[t], parts);
            }
        }
        let d = load_f32(&panel.d.as_chunks::<HALF>().0[half]);
        let m = load_f32(&panel.m.as_chunks::<HALF>().0[half]);
        for t in 0..TOKENS {
            let dx = _mm256_set1_ps(x[t].d[block]);
            let sum = _mm256_cvtepi32_ps(sums[t]);
            totals[t] = _mm256_fmadd_ps(_mm256_mul_ps(d, dx), sum, totals[t]);
            if HAS_MIN {
                let sum = _mm256_set1_ps(x[t].sums[block] as f32);
                totals[t] = _mm256_fmadd_ps(_mm256_mul_ps(m, dx), sum, totals[t]);
            }
        }
    }
    for t in 0..TOKENS {
        store_f32(&mut out[t].as_chunks_mut::<HALF>().0[half], totals[t]);
    }
}
