//! Packed panels times tokens: sixteen rows in the lanes, up to eight tokens at once.
//!
//! ```text
//! for each block:                                      per token t
//!   sum = 0
//!   for each sub-block s:
//!     part = Σ over its dwords i: vpdpbusd(panel.q[i], broadcast x[t].q[i])
//!     sum += part · scale[s]
//!   total = fma(d · dx, sum, total)                    one lane per row
//! ```
//!
//! Weights are unsigned in a panel; what their zero point adds is `ZERO · scale · Σx` and is
//! taken off exactly, with the same multiplication that serves the minimums of other formats.

use std::arch::x86_64::*;

use super::{
    load::{load_f32, load_i32, load_pairs, load_u8, store_f32},
    pack,
};
use crate::{
    activations::{ActSmall, ActSuper},
    blocks::{SmallBlock, SuperBlock},
    panel::{ROWS, SmallPanel, SuperPanel, TOKENS, group_len},
    pool::TileMut,
    product::Strip,
};
use bytemuck::Zeroable;

/// Computes a strip of superblocks.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
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
        match (B::SUB, B::HAS_MIN) {
            (16, false) => super_tokens::<16, false>(strip, panels, row, out),
            (16, true) => super_tokens::<16, true>(strip, panels, row, out),
            (_, false) => super_tokens::<32, false>(strip, panels, row, out),
            (_, true) => super_tokens::<32, true>(strip, panels, row, out),
        }
    }
}

/// Multiplies the panels of sixteen rows, from `row` on, with every token.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn super_tokens<const SUB: usize, const HAS_MIN: bool>(
    strip: Strip<'_>,
    panels: &[SuperPanel],
    row: usize,
    out: &mut TileMut<'_>,
) {
    let group = group_len(strip.x_rows.len());
    for token in (0..strip.x_rows.len()).step_by(group) {
        let n = group.min(strip.x_rows.len() - token);
        // Missing tokens repeat the first; they are not multiplied.
        let x: [&[ActSuper]; TOKENS] = std::array::from_fn(|t| {
            strip
                .x
                .super_row(strip.x_row(token + if t < n { t } else { 0 }))
        });
        let totals = match n {
            8 => super_tile::<SUB, HAS_MIN, 8>(panels, &x),
            7 => super_tile::<SUB, HAS_MIN, 7>(panels, &x),
            6 => super_tile::<SUB, HAS_MIN, 6>(panels, &x),
            5 => super_tile::<SUB, HAS_MIN, 5>(panels, &x),
            _ => super_tile::<SUB, HAS_MIN, 4>(panels, &x),
        };
        put(&totals[..n], token, row, strip.w.n_rows(), out);
    }
}

/// Hands out the results of the rows that exist.
fn put(totals: &[[f32; ROWS]], token: usize, row: usize, n_rows: usize, out: &mut TileMut<'_>) {
    let live = ROWS.min(n_rows - row);
    for (t, totals) in totals.iter().enumerate() {
        out.row(token + t)[row..row + live].copy_from_slice(&totals[..live]);
    }
}

/// Returns `[token][row]` of the first `N` tokens.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn super_tile<const SUB: usize, const HAS_MIN: bool, const N: usize>(
    panels: &[SuperPanel],
    x: &[&[ActSuper]; TOKENS],
) -> [[f32; ROWS]; TOKENS] {
    let zero = _mm512_setzero_si512();
    let mut totals = [_mm512_setzero_ps(); N];
    for (block, panel) in panels.iter().enumerate() {
        let mut sums = [zero; N];
        let mut min_sums = [zero; N];
        for pair in 0..256 / SUB / 2 {
            let mins = load_pairs(&panel.mins[pair]);
            for t in 0..N {
                let x = &x[t][block];
                let pair_of_sums = if SUB == 16 {
                    x.sums16.as_chunks::<2>().0[pair]
                } else {
                    x.sums32.as_chunks::<2>().0[pair]
                };
                let x = _mm512_set1_epi32(bytemuck::must_cast(pair_of_sums));
                min_sums[t] = _mm512_dpwssd_epi32(min_sums[t], mins, x);
            }
        }
        if !HAS_MIN {
            for t in 0..N {
                sums[t] = _mm512_sub_epi32(zero, min_sums[t]);
            }
        }
        for s in 0..256 / SUB {
            let mut parts = [zero; N];
            for i in s * SUB / 4..(s + 1) * SUB / 4 {
                let w = load_u8(&panel.q[i]);
                for t in 0..N {
                    let x = x[t][block].q.as_chunks::<4>().0[i];
                    let x = _mm512_set1_epi32(bytemuck::must_cast(x));
                    parts[t] = _mm512_dpbusd_epi32(parts[t], w, x);
                }
            }
            let scale = load_i32(&panel.scales[s]);
            for t in 0..N {
                sums[t] = _mm512_add_epi32(sums[t], _mm512_mullo_epi32(parts[t], scale));
            }
        }
        let (d, dmin) = (load_f32(&panel.d), load_f32(&panel.dmin));
        for t in 0..N {
            let dx = _mm512_set1_ps(x[t][block].d);
            let sum = _mm512_cvtepi32_ps(sums[t]);
            totals[t] = _mm512_fmadd_ps(_mm512_mul_ps(d, dx), sum, totals[t]);
            if HAS_MIN {
                let sum = _mm512_cvtepi32_ps(min_sums[t]);
                totals[t] = _mm512_fnmadd_ps(_mm512_mul_ps(dmin, dx), sum, totals[t]);
            }
        }
    }
    let mut out = [[0.0; ROWS]; TOKENS];
    for t in 0..N {
        store_f32(&mut out[t], totals[t]);
    }
    out
}

/// Computes a strip of small blocks.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) fn small_blocks<B: SmallBlock>(
    strip: Strip<'_>,
    panels: &mut Vec<SmallPanel>,
    out: &mut TileMut<'_>,
) {
    let n_rows = strip.w.n_rows();
    let n_blocks = strip.w.n_cols() / 32;
    panels.resize(n_blocks.next_multiple_of(2), SmallPanel::zeroed());
    for row in (0..n_rows).step_by(ROWS) {
        let rows: [&[B]; ROWS] = std::array::from_fn(|r| strip.blocks((row + r).min(n_rows - 1)));
        for (i, panels) in panels.as_chunks_mut::<2>().0.iter_mut().enumerate() {
            // A single last block is packed twice.
            let last = (2 * i + 1).min(n_blocks - 1);
            pack::small_blocks(rows.map(|blocks| [&blocks[2 * i], &blocks[last]]), panels);
        }
        let panels = &panels[..n_blocks];
        if B::HAS_MIN {
            small_tokens::<true>(strip, panels, B::ZERO, row, out);
        } else {
            small_tokens::<false>(strip, panels, B::ZERO, row, out);
        }
    }
}

/// Multiplies the panels of sixteen rows, from `row` on, with every token.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn small_tokens<const HAS_MIN: bool>(
    strip: Strip<'_>,
    panels: &[SmallPanel],
    zero: i32,
    row: usize,
    out: &mut TileMut<'_>,
) {
    let group = group_len(strip.x_rows.len());
    for token in (0..strip.x_rows.len()).step_by(group) {
        let n = group.min(strip.x_rows.len() - token);
        let x: [&[ActSmall]; TOKENS] = std::array::from_fn(|t| {
            strip
                .x
                .small_row(strip.x_row(token + if t < n { t } else { 0 }))
        });
        let totals = match n {
            8 => small_tile::<HAS_MIN, 8>(panels, zero, &x),
            7 => small_tile::<HAS_MIN, 7>(panels, zero, &x),
            6 => small_tile::<HAS_MIN, 6>(panels, zero, &x),
            5 => small_tile::<HAS_MIN, 5>(panels, zero, &x),
            _ => small_tile::<HAS_MIN, 4>(panels, zero, &x),
        };
        put(&totals[..n], token, row, strip.w.n_rows(), out);
    }
}

/// Returns `[token][row]` of the first `N` tokens.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn small_tile<const HAS_MIN: bool, const N: usize>(
    panels: &[SmallPanel],
    zero: i32,
    x: &[&[ActSmall]; TOKENS],
) -> [[f32; ROWS]; TOKENS] {
    let mut totals = [_mm512_setzero_ps(); N];
    for (block, panel) in panels.iter().enumerate() {
        let (group, part) = (block / 8, block % 8);
        let mut sums = [_mm512_setzero_si512(); N];
        for t in 0..N {
            sums[t] = _mm512_set1_epi32(-zero * x[t][group].sums[part]);
        }
        for (i, w) in panel.q.iter().enumerate() {
            let w = load_u8(w);
            for t in 0..N {
                let x = x[t][group].q.as_chunks::<4>().0[8 * part + i];
                let x = _mm512_set1_epi32(bytemuck::must_cast(x));
                sums[t] = _mm512_dpbusd_epi32(sums[t], w, x);
            }
        }
        let (d, m) = (load_f32(&panel.d), load_f32(&panel.m));
        for t in 0..N {
            let dx = _mm512_set1_ps(x[t][group].d[part]);
            let sum = _mm512_cvtepi32_ps(sums[t]);
            totals[t] = _mm512_fmadd_ps(_mm512_mul_ps(d, dx), sum, totals[t]);
            if HAS_MIN {
                let sum = _mm512_set1_ps(x[t][group].sums[part] as f32);
                totals[t] = _mm512_fmadd_ps(_mm512_mul_ps(m, dx), sum, totals[t]);
            }
        }
    }
    let mut out = [[0.0; ROWS]; TOKENS];
    for t in 0..N {
        store_f32(&mut out[t], totals[t]);
    }
    out
}
