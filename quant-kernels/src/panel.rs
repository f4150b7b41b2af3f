//! Packed panels: sixteen weight rows laid out for the products of many tokens.
//!
//! A product of several tokens first packs sixteen rows of weights, block by block,
//! so that 64 bytes hold four consecutive weights (a dword) of each row: one register of
//! AVX-512, two of AVX2. Every token then multiplies the same registers with its own four
//! activations, broadcast, and a row's sum stays in its lane to the end: no horizontal
//! sums, and the float part, with a row to a lane, is the specification's chain. A
//! panel is packed, multiplied with all tokens and forgotten: it stays in the first cache.

use std::ops::Range;

use bytemuck::Zeroable;

use crate::{pool::TileMut, product::Strip};

/// Rows of a panel.
pub(crate) const ROWS: usize = 16;

/// Sixteen superblocks, one of each row.
#[derive(Clone, Copy, Debug, Zeroable)]
#[repr(C, align(64))]
pub(crate) struct SuperPanel {
    /// `q[i]` holds stored integers `4·i..4·i + 4` of every row, or two in a byte
    /// ([`crate::pack::is_packed`]).
    pub(crate) q: [[u8; 4 * ROWS]; 64],
    /// Integer scales of every row, by sub-block ([`crate::dwords::Dwords::scale`]).
    pub(crate) scales: [[i32; ROWS]; 16],
    /// Pairs of integer minimums of every row, by pair of sub-blocks.
    pub(crate) mins: [[[i16; 2]; ROWS]; 8],
    /// Factors of the scales.
    pub(crate) d: [f32; ROWS],
    /// Factors of the minimums.
    pub(crate) dmin: [f32; ROWS],
}

/// Sixteen small blocks, one of each row.
#[derive(Clone, Copy, Debug, Zeroable)]
#[repr(C, align(64))]
pub(crate) struct SmallPanel {
    /// `q[i]` holds stored integers `4·i..4·i + 4` of every row.
    pub(crate) q: [[u8; 4 * ROWS]; 8],
    /// Scales.
    pub(crate) d: [f32; ROWS],
    /// Offsets.
    pub(crate) m: [f32; ROWS],
}

/// Panels of the one kind or the other, and what they lead to; reused.
#[derive(Debug, Default)]
pub(crate) struct Panels {
    pub(crate) superblocks: Vec<SuperPanel>,
    pub(crate) small: Vec<SmallPanel>,
    /// Results of sixteen rows by token, while panels come one after the other.
    pub(crate) totals: Vec<[f32; ROWS]>,
}

/// Divides tokens into groups of at most `most` that pass together, of nearly equal size: with
/// eight at most, nine go as four and five.
pub(crate) fn groups(n_tokens: usize, most: usize) -> impl Iterator<Item = Range<usize>> {
    let n_groups = n_tokens.div_ceil(most);
    let start = move |group: usize| group * n_tokens / n_groups;
    (0..n_groups).map(move |group| start(group)..start(group + 1))
}

/// Sets the results of sixteen rows to zero, for every token of a strip.
pub(crate) fn clear(totals: &mut Vec<[f32; ROWS]>, strip: Strip<'_>) {
    totals.clear();
    totals.resize(strip.x_rows.len(), [0.0; ROWS]);
}

/// Hands out the results of the rows from `row` on, as far as they are within the strip.
pub(crate) fn put(totals: &[[f32; ROWS]], row: usize, strip: Strip<'_>, out: &mut TileMut<'_>) {
    let live = ROWS.min(strip.w.n_rows() - row);
    for (t, totals) in totals.iter().enumerate() {
        let out = &mut out.row(t)[row..row + live];
        match out.first_chunk_mut() {
            Some(all) => *all = *totals,
            None => out.copy_from_slice(&totals[..live]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_nearly_equal() {
        let sizes = |n| groups(n, 8).map(|group| group.len()).collect::<Vec<_>>();
        assert_eq!(sizes(8), [8]);
        assert_eq!(sizes(9), [4, 5]);
        assert_eq!(sizes(20), [6, 7, 7]);
        for n in 4..200 {
            assert_eq!(sizes(n).iter().sum::<usize>(), n);
            assert!(sizes(n).iter().all(|size| (4..=8).contains(size)));
        }
    }
}
