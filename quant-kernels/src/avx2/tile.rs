//! Packed panels times tokens: eight rows in the lanes, up to four tokens at once.
//!
//! As for AVX-512, with `vpmaddubsw` into 16-bit pairs and `vpmaddwd` with the scale in
//! place of `vpdpbusd` and `vpmulld`. A pair must not leave 16 bits: formats whose stored
//! integers stay below 128 are multiplied unsigned (2 · 127 · 127), the others (zero
//! point 128) signed, by moving the sign of the weight to the activation (2 · 128 · 127).

use std::arch::x86_64::*;

use bytemuck::Zeroable;

use super::{
    load::{load_f32, load_pairs, load_u8, store_f32},
    pack,
};
use crate::{
    activations::{ActSmall, ActSuper},
    blocks::{SmallBlock, SuperBlock},
    panel::{ROWS, SmallPanel, SuperPanel},
    pool::TileMut,
    product::Strip,
};

/// Tokens that pass over a panel together.
const TOKENS: usize = 4;
/// Rows in a register.
const HALF: usize = ROWS / 2;

/// Whether stored integers with this zero point are multiplied signed.
pub(super) const fn is_signed(zero: i32) -> bool {
    zero == 128
}

/// The zero point that is left after [`products`].
pub(super) const fn zero_point(stored: i32) -> i32 {
    if is_signed(stored) { 0 } else { stored }
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
    panels: &mut Vec<SuperPanel>,
    out: &mut TileMut<'_>,
) {
    let n_rows = strip.w.n_rows();
    panels.resize(strip.w.n_cols() / 256, SuperPanel::zeroed());
    for row in (0..n_rows).step_by(ROWS) {
        let rows: [&[B]; ROWS] = std::array::from_fn(|r| strip.blocks((row + r).min(n_rows - 1)));
        for (i, panel) in panels.iter_mut().enumerate() {
            pack::superblocks(rows.map(|blocks| &blocks[i]), panel);
        }
        match (B::SUB, B::HAS_MIN, is_signed(B::ZERO)) {
            (16, false, false) => super_tokens::<16, false, false>(strip, panels, row, out),
            (16, false, true) => super_tokens::<16, false, true>(strip, panels, row, out),
            (16, true, _) => super_tokens::<16, true, false>(strip, panels, row, out),
            (_, false, false) => super_tokens::<32, false, false>(strip, panels, row, out),
            (_, false, true) => super_tokens::<32, false, true>(strip, panels, row, out),
            (_, true, _) => super_tokens::<32, true, false>(strip, panels, row, out),
        }
    }
}

/// Multiplies the panels of sixteen rows, from `row` on, with every token.
#[target_feature(enable = "avx2,fma")]
fn super_tokens<const SUB: usize, const HAS_MIN: bool, const SIGNED: bool>(
    strip: Strip<'_>,
    panels: &[SuperPanel],
    row: usize,
    out: &mut TileMut<'_>,
) {
    let n_tokens = strip.x_rows.len();
    for token in (0..n_tokens).step_by(TOKENS) {
        // Missing tokens repeat the last; their results are dropped.
        let x: [&[ActSuper]; TOKENS] = std::array::from_fn(|t| {
            strip
                .x
                .super_row(strip.x_row((token + t).min(n_tokens - 1)))
        });
        for half in 0..2 {
            let totals = super_tile::<SUB, HAS_MIN, SIGNED>(panels, half, x);
            put(&totals, token, row + half * HALF, strip, out);
        }
    }
}

/// Hands out what is within the strip.
fn put(
    totals: &[[f32; HALF]; TOKENS],
    token: usize,
    row: usize,
    strip: Strip<'_>,
    out: &mut TileMut<'_>,
) {
    let live = HALF.min(strip.w.n_rows().saturating_sub(row));
    if live == 0 {
        return;
    }
    for (t, totals) in totals[..TOKENS.min(strip.x_rows.len() - token)]
        .iter()
        .enumerate()
    {
        out.row(token + t)[row..row + live].copy_from_slice(&totals[..live]);
    }
}

/// Returns `[token][row]` of one half of the rows.
#[target_feature(enable = "avx2,fma")]
fn super_tile<const SUB: usize, const HAS_MIN: bool, const SIGNED: bool>(
    panels: &[SuperPanel],
    half: usize,
    x: [&[ActSuper]; TOKENS],
) -> [[f32; HALF]; TOKENS] {
    let zero = _mm256_setzero_si256();
    let mut totals = [_mm256_setzero_ps(); TOKENS];
    for (block, panel) in panels.iter().enumerate() {
        let mut sums = [zero; TOKENS];
        let mut min_sums = [zero; TOKENS];
        for s in 0..256 / SUB {
            let scale =
                load_u8(&bytemuck::must_cast_ref::<_, [[u8; 32]; 2]>(&panel.scales[s])[half]);
            // The scale in both halves of a lane, for `vpmaddwd`.
            let low = _mm256_and_si256(scale, _mm256_set1_epi32(0xffff));
            let scale = _mm256_or_si256(low, _mm256_slli_epi32::<16>(scale));
            for i in s * SUB / 4..(s + 1) * SUB / 4 {
                let w = load_u8(&panel.q[i].as_chunks::<32>().0[half]);
                for t in 0..TOKENS {
                    let x = x[t][block].q.as_chunks::<4>().0[i];
                    let x = _mm256_set1_epi32(bytemuck::must_cast(x));
                    let parts = products::<SIGNED>(w, x);
                    sums[t] = _mm256_add_epi32(sums[t], _mm256_madd_epi16(parts, scale));
                }
            }
        }
        for pair in 0..256 / SUB / 2 {
            let mins = load_pairs(&panel.mins[pair].as_chunks::<8>().0[half]);
            for t in 0..TOKENS {
                let x = &x[t][block];
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
            let dx = _mm256_set1_ps(x[t][block].d);
            let sum = if HAS_MIN {
                sums[t]
            } else {
                _mm256_sub_epi32(sums[t], min_sums[t])
            };
            let sum = _mm256_cvtepi32_ps(sum);
            totals[t] = _mm256_fmadd_ps(_mm256_mul_ps(d, dx), sum, totals[t]);
            if HAS_MIN {
                let sum = _mm256_cvtepi32_ps(min_sums[t]);
                totals[t] = _mm256_fnmadd_ps(_mm256_mul_ps(dmin, dx), sum, totals[t]);
            }
        }
    }
    store(totals)
}

#[target_feature(enable = "avx2")]
#[inline]
fn store(totals: [__m256; TOKENS]) -> [[f32; HALF]; TOKENS] {
    let mut out = [[0.0; HALF]; TOKENS];
    for t in 0..TOKENS {
        store_f32(&mut out[t], totals[t]);
    }
    out
}

/// Computes a strip of small blocks.
#[target_feature(enable = "avx2,fma")]
pub(super) fn small_blocks<B: SmallBlock>(
    strip: Strip<'_>,
    panels: &mut Vec<SmallPanel>,
    out: &mut TileMut<'_>,
) {
    let n_rows = strip.w.n_rows();
    panels.resize(strip.w.n_cols() / 32, SmallPanel::zeroed());
    for row in (0..n_rows).step_by(ROWS) {
        let rows: [&[B]; ROWS] = std::array::from_fn(|r| strip.blocks((row + r).min(n_rows - 1)));
        for (i, panel) in panels.iter_mut().enumerate() {
            pack::small_blocks(rows.map(|blocks| &blocks[i]), panel);
        }
        match (B::HAS_MIN, is_signed(B::ZERO)) {
            (false, false) => small_tokens::<false, false>(strip, panels, B::ZERO, row, out),
            (false, true) => small_tokens::<false, true>(strip, panels, B::ZERO, row, out),
            (true, _) => small_tokens::<true, false>(strip, panels, B::ZERO, row, out),
        }
    }
}

/// Multiplies the panels of sixteen rows, from `row` on, with every token.
#[target_feature(enable = "avx2,fma")]
fn small_tokens<const HAS_MIN: bool, const SIGNED: bool>(
    strip: Strip<'_>,
    panels: &[SmallPanel],
    zero: i32,
    row: usize,
    out: &mut TileMut<'_>,
) {
    let n_tokens = strip.x_rows.len();
    for token in (0..n_tokens).step_by(TOKENS) {
        let x: [&[ActSmall]; TOKENS] = std::array::from_fn(|t| {
            strip
                .x
                .small_row(strip.x_row((token + t).min(n_tokens - 1)))
        });
        for half in 0..2 {
            let totals = small_tile::<HAS_MIN, SIGNED>(panels, zero_point(zero), half, x);
            put(&totals, token, row + half * HALF, strip, out);
        }
    }
}

/// Returns `[token][row]` of one half of the rows.
#[target_feature(enable = "avx2,fma")]
fn small_tile<const HAS_MIN: bool, const SIGNED: bool>(
    panels: &[SmallPanel],
    zero: i32,
    half: usize,
    x: [&[ActSmall]; TOKENS],
) -> [[f32; HALF]; TOKENS] {
    let mut totals = [_mm256_setzero_ps(); TOKENS];
    for (block, panel) in panels.iter().enumerate() {
        let (group, part) = (block / 8, block % 8);
        let mut sums = [_mm256_setzero_si256(); TOKENS];
        for t in 0..TOKENS {
            sums[t] = _mm256_set1_epi32(-zero * x[t][group].sums[part]);
        }
        for (i, w) in panel.q.iter().enumerate() {
            let w = load_u8(&w.as_chunks::<32>().0[half]);
            for t in 0..TOKENS {
                let x = x[t][group].q.as_chunks::<4>().0[8 * part + i];
                let x = _mm256_set1_epi32(bytemuck::must_cast(x));
                let parts = _mm256_madd_epi16(products::<SIGNED>(w, x), _mm256_set1_epi16(1));
                sums[t] = _mm256_add_epi32(sums[t], parts);
            }
        }
        let d = load_f32(&panel.d.as_chunks::<8>().0[half]);
        let m = load_f32(&panel.m.as_chunks::<8>().0[half]);
        for t in 0..TOKENS {
            let dx = _mm256_set1_ps(x[t][group].d[part]);
            let sum = _mm256_cvtepi32_ps(sums[t]);
            totals[t] = _mm256_fmadd_ps(_mm256_mul_ps(d, dx), sum, totals[t]);
            if HAS_MIN {
                let sum = _mm256_set1_ps(x[t][group].sums[part] as f32);
                totals[t] = _mm256_fmadd_ps(_mm256_mul_ps(m, dx), sum, totals[t]);
            }
        }
    }
    store(totals)
}
