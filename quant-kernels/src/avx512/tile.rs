//! Packed panels times tokens: sixteen rows in the lanes, up to eight tokens at once.
//!
//! ```text
//! for each block:                                      per token t
//!   for each sub-block s:
//!     part  = −ZERO · Σx[s]
//!     part += Σ over its dwords i: vpdpbusd(panel.q[i], broadcast x[t].q[i])
//!     sum  += part · scale[s]
//!   total = fma(d · dx, sum, total)                    one lane per row
//! ```
//!
//! Weights are unsigned in a panel; what their zero point adds is known before the sum
//! begins, and the sum begins with it. A panel of 256 columns is packed, multiplied with that
//! block of every token and forgotten: it stays in the first cache, and the totals wait in
//! memory, a row of sixteen per token. Of about 82 cycles for a superblock and a token 64 are
//! `vpdpbusd`, the rest the scales and the float part.

use std::arch::x86_64::*;

use bytemuck::Zeroable;

use super::{
    dwords::Wide,
    load::{
        load_f32, load_i16, load_i16x8, load_i32, load_i32x8, load_pairs, load_u8, store_f32,
        store_i32,
    },
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
const TOKENS: usize = 8;
/// Small blocks along a row that are packed together, as many as the activations group.
const GROUP: usize = 8;
/// Steps in which memory is asked for what comes next, for each superblock of some tokens.
const SUPER_STEPS: usize = 4;

/// Computes a strip of superblocks.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
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
            let (panel, zero) = (&*panel, B::ZERO);
            match (B::SUB, B::HAS_MIN, pack::is_packed::<Wide, B>()) {
                (_, _, true) => {
                    super_tokens::<32, true, true>(strip, panel, zero, block, totals, ahead);
                }
                (16, true, _) => {
                    super_tokens::<16, true, false>(strip, panel, zero, block, totals, ahead);
                }
                (16, _, _) => {
                    super_tokens::<16, false, false>(strip, panel, zero, block, totals, ahead);
                }
                (_, true, _) => {
                    super_tokens::<32, true, false>(strip, panel, zero, block, totals, ahead);
                }
                _ => super_tokens::<32, false, false>(strip, panel, zero, block, totals, ahead),
            }
        }
        put(totals, row, strip, out);
    }
}

/// Packs one superblock of each row.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn pack_superblocks<B: SuperBlock>(rows: [&B; ROWS], panel: &mut SuperPanel) {
    pack::superblocks::<Wide, B>(rows, panel);
}

/// Packs one small block of each row.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn pack_small_blocks<B: SmallBlock>(rows: [&B; ROWS], panel: &mut SmallPanel) {
    pack::small_blocks::<Wide, B>(rows, panel);
}

/// Multiplies a panel with its block of every token.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn super_tokens<const SUB: usize, const HAS_MIN: bool, const PACKED: bool>(
    strip: Strip<'_>,
    panel: &SuperPanel,
    zero: i32,
    block: usize,
    totals: &mut [[f32; ROWS]],
    ahead: &mut Ahead<'_>,
) {
    for group in groups(strip.x_rows.len(), TOKENS) {
        let x = |t| &strip.x.super_row(strip.x_row(group.start + t))[block];
        let totals = &mut totals[group.clone()];
        let tile = SuperTile::<SUB, HAS_MIN, PACKED> { panel, zero };
        match totals.len() {
            8 => tile.add::<8>(std::array::from_fn(x), totals, ahead),
            7 => tile.add::<7>(std::array::from_fn(x), totals, ahead),
            6 => tile.add::<6>(std::array::from_fn(x), totals, ahead),
            5 => tile.add::<5>(std::array::from_fn(x), totals, ahead),
            4 => tile.add::<4>(std::array::from_fn(x), totals, ahead),
            _ => tile.add::<3>(std::array::from_fn(x), totals, ahead),
        }
    }
}

/// A panel, and what its format is like.
#[derive(Clone, Copy)]
struct SuperTile<'a, const SUB: usize, const HAS_MIN: bool, const PACKED: bool> {
    panel: &'a SuperPanel,
    zero: i32,
}

impl<const SUB: usize, const HAS_MIN: bool, const PACKED: bool>
    SuperTile<'_, SUB, HAS_MIN, PACKED>
{
    /// Adds the panel's block to the totals of `N` tokens.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    fn add<const N: usize>(
        self,
        x: [&ActSuper; N],
        totals: &mut [[f32; ROWS]],
        ahead: &mut Ahead<'_>,
    ) {
        let sums = if PACKED {
            self.packed_sums(x, ahead)
        } else {
            self.sums(x, ahead)
        };
        let min_sums = self.min_sums(x);
        let (d, dmin) = (load_f32(&self.panel.d), load_f32(&self.panel.dmin));
        for t in 0..N {
            let dx = _mm512_set1_ps(x[t].d);
            let sum = _mm512_cvtepi32_ps(sums[t]);
            let mut total = _mm512_fmadd_ps(_mm512_mul_ps(d, dx), sum, load_f32(&totals[t]));
            if HAS_MIN {
                let sum = _mm512_cvtepi32_ps(min_sums[t]);
                total = _mm512_fnmadd_ps(_mm512_mul_ps(dmin, dx), sum, total);
            }
            store_f32(&mut totals[t], total);
        }
    }

    /// Sums over a panel with a weight to a byte.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    fn sums<const N: usize>(self, x: [&ActSuper; N], ahead: &mut Ahead<'_>) -> [__m512i; N] {
        let mut zeros = [[0; 16]; N];
        if !HAS_MIN {
            for t in 0..N {
                zeros[t] = zeros_of::<SUB>(x[t], self.zero);
            }
        }
        let mut sums = [_mm512_setzero_si512(); N];
        for s in 0..256 / SUB {
            if (s * SUB).is_multiple_of(256 / SUPER_STEPS) {
                ahead.step();
            }
            let mut parts = [_mm512_setzero_si512(); N];
            if !HAS_MIN {
                for t in 0..N {
                    parts[t] = _mm512_set1_epi32(zeros[t][s]);
                }
            }
            for i in s * SUB / 4..(s + 1) * SUB / 4 {
                let w = load_u8(&self.panel.q[i]);
                for t in 0..N {
                    parts[t] = _mm512_dpbusd_epi32(parts[t], w, four(x[t], i));
                }
            }
            let scale = load_i32(&self.panel.scales[s]);
            for t in 0..N {
                sums[t] = _mm512_add_epi32(sums[t], _mm512_mullo_epi32(parts[t], scale));
            }
        }
        sums
    }

    /// Sums over a panel with two weights to a byte: sub-blocks go in pairs.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    fn packed_sums<const N: usize>(self, x: [&ActSuper; N], ahead: &mut Ahead<'_>) -> [__m512i; N] {
        let zero = _mm512_setzero_si512();
        let nibble = _mm512_set1_epi8(0x0f);
        let mut sums = [zero; N];
        for pair in 0..SUPER_STEPS {
            ahead.step();
            let (mut low, mut high) = ([zero; N], [zero; N]);
            for i in 0..8 {
                let w = load_u8(&self.panel.q[8 * pair + i]);
                let w_low = _mm512_and_si512(w, nibble);
                let w_high = _mm512_and_si512(_mm512_srli_epi16::<4>(w), nibble);
                for t in 0..N {
                    low[t] = _mm512_dpbusd_epi32(low[t], w_low, four(x[t], 16 * pair + i));
                    high[t] = _mm512_dpbusd_epi32(high[t], w_high, four(x[t], 16 * pair + 8 + i));
                }
            }
            let first = load_i32(&self.panel.scales[2 * pair]);
            let second = load_i32(&self.panel.scales[2 * pair + 1]);
            for t in 0..N {
                sums[t] = _mm512_add_epi32(sums[t], _mm512_mullo_epi32(low[t], first));
                sums[t] = _mm512_add_epi32(sums[t], _mm512_mullo_epi32(high[t], second));
            }
        }
        sums
    }

    /// Sums of the activations times the minimums.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    fn min_sums<const N: usize>(self, x: [&ActSuper; N]) -> [__m512i; N] {
        let mut sums = [_mm512_setzero_si512(); N];
        if !HAS_MIN {
            return sums;
        }
        for pair in 0..256 / SUB / 2 {
            let mins = load_pairs(&self.panel.mins[pair]);
            for t in 0..N {
                let two = if SUB == 16 {
                    x[t].sums16.as_chunks::<2>().0[pair]
                } else {
                    x[t].sums32.as_chunks::<2>().0[pair]
                };
                let two = _mm512_set1_epi32(bytemuck::must_cast(two));
                sums[t] = _mm512_dpwssd_epi32(sums[t], mins, two);
            }
        }
        sums
    }
}

/// Four activations, from `4 · i` on, in all lanes.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn four(x: &ActSuper, i: usize) -> __m512i {
    _mm512_set1_epi32(bytemuck::must_cast(x.q.as_chunks::<4>().0[i]))
}

/// What the sum of each sub-block begins with.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn zeros_of<const SUB: usize>(x: &ActSuper, zero: i32) -> [i32; 16] {
    let sums = if SUB == 16 {
        load_i16(&x.sums16)
    } else {
        _mm256_zextsi128_si256(load_i16x8(&x.sums32))
    };
    let sums = _mm512_cvtepi16_epi32(sums);
    let mut out = [0; 16];
    store_i32(&mut out, _mm512_mullo_epi32(sums, _mm512_set1_epi32(-zero)));
    out
}

/// Computes a strip of small blocks, eight along the rows at a time.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
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
            if B::HAS_MIN {
                small_tokens::<true>(strip, &panels[..n], B::ZERO, group, totals, ahead);
            } else {
                small_tokens::<false>(strip, &panels[..n], B::ZERO, group, totals, ahead);
            }
        }
        put(totals, row, strip, out);
    }
}

/// Multiplies up to eight panels along the rows with their blocks of every token.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn small_tokens<const HAS_MIN: bool>(
    strip: Strip<'_>,
    panels: &[SmallPanel],
    zero: i32,
    group: usize,
    totals: &mut [[f32; ROWS]],
    ahead: &mut Ahead<'_>,
) {
    for tokens in groups(strip.x_rows.len(), TOKENS) {
        let x = |t| &strip.x.small_row(strip.x_row(tokens.start + t))[group];
        let totals = &mut totals[tokens.clone()];
        match totals.len() {
            8 => small_tile::<HAS_MIN, 8>(panels, zero, std::array::from_fn(x), totals, ahead),
            7 => small_tile::<HAS_MIN, 7>(panels, zero, std::array::from_fn(x), totals, ahead),
            6 => small_tile::<HAS_MIN, 6>(panels, zero, std::array::from_fn(x), totals, ahead),
            5 => small_tile::<HAS_MIN, 5>(panels, zero, std::array::from_fn(x), totals, ahead),
            _ => small_tile::<HAS_MIN, 4>(panels, zero, std::array::from_fn(x), totals, ahead),
        }
    }
}

/// Adds the blocks to the totals of `N` tokens.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn small_tile<const HAS_MIN: bool, const N: usize>(
    panels: &[SmallPanel],
    zero: i32,
    x: [&ActSmall; N],
    out: &mut [[f32; ROWS]],
    ahead: &mut Ahead<'_>,
) {
    let mut totals = [_mm512_setzero_ps(); N];
    let mut zeros = [[0i32; GROUP]; N];
    for t in 0..N {
        totals[t] = load_f32(&out[t]);
        let sums = load_i32x8(&x[t].sums);
        zeros[t] = bytemuck::must_cast(_mm256_mullo_epi32(sums, _mm256_set1_epi32(-zero)));
    }
    for (block, panel) in panels.iter().enumerate() {
        ahead.step();
        let mut sums = [_mm512_setzero_si512(); N];
        for t in 0..N {
            sums[t] = _mm512_set1_epi32(zeros[t][block]);
        }
        for (i, w) in panel.q.iter().enumerate() {
            let w = load_u8(w);
            for t in 0..N {
                let four = x[t].q.as_chunks::<4>().0[8 * block + i];
                let four = _mm512_set1_epi32(bytemuck::must_cast(four));
                sums[t] = _mm512_dpbusd_epi32(sums[t], w, four);
            }
        }
        let (d, m) = (load_f32(&panel.d), load_f32(&panel.m));
        for t in 0..N {
            let dx = _mm512_set1_ps(x[t].d[block]);
            let sum = _mm512_cvtepi32_ps(sums[t]);
            totals[t] = _mm512_fmadd_ps(_mm512_mul_ps(d, dx), sum, totals[t]);
            if HAS_MIN {
                let sum = _mm512_set1_ps(x[t].sums[block] as f32);
                totals[t] = _mm512_fmadd_ps(_mm512_mul_ps(m, dx), sum, totals[t]);
            }
        }
    }
    for t in 0..N {
        store_f32(&mut out[t], totals[t]);
    }
}
