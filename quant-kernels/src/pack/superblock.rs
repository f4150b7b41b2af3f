//! Panels of superblocks, by format.

use super::{put_factors, put_scales};
use crate::{
    blocks::{BlockIq4Xs, BlockQ2K, BlockQ3K, BlockQ4K, BlockQ5K, BlockQ6K, unpack_scales},
    dwords::Dwords,
    panel::{ROWS, SuperPanel},
};

/// Sixteen bytes of each row, from `start` of what `part` lends.
#[inline(always)]
fn piece<'a, B, const N: usize>(
    rows: [&'a B; ROWS],
    part: impl Fn(&'a B) -> &'a [u8; N],
    start: usize,
) -> [&'a [u8; 16]; ROWS] {
    rows.map(|block| &part(block).as_chunks::<16>().0[start / 16])
}

/// The first sixteen bytes of each block.
#[inline(always)]
fn head<B: bytemuck::Pod>(rows: [&B; ROWS]) -> [&[u8; 16]; ROWS] {
    rows.map(|block| &bytemuck::bytes_of(block).as_chunks::<16>().0[0])
}

/// `Q4_K`: nibbles of 32 bytes are two sub-blocks.
#[inline(always)]
pub(super) fn q4_k<D: Dwords>(rows: [&BlockQ4K; ROWS], panel: &mut SuperPanel) {
    affine_header::<D>(head(rows), panel);
    for i in 0..8 {
        let bytes = D::of_rows(piece(rows, |block| &block.qs, 16 * i));
        for c in 0..4 {
            if D::NIBBLES_STAY {
                bytes[c].store(&mut panel.q[4 * i + c]);
                continue;
            }
            let dword = 16 * (i / 2) + 4 * (i % 2) + c;
            bytes[c].nibble().store(&mut panel.q[dword]);
            bytes[c].high_nibble().store(&mut panel.q[dword + 8]);
        }
    }
}

/// `Q5_K`: nibbles with a fifth bit from bit `s` of 32 bytes.
#[inline(always)]
pub(super) fn q5_k<D: Dwords>(rows: [&BlockQ5K; ROWS], panel: &mut SuperPanel) {
    affine_header::<D>(head(rows), panel);
    for half in 0..2 {
        let fifths = D::of_rows(piece(rows, |block| &block.qh, 16 * half));
        // Not a loop: distances of shifts that are known are part of the instruction.
        q5_k_pair(rows, half, 0, fifths, panel);
        q5_k_pair(rows, half, 1, fifths, panel);
        q5_k_pair(rows, half, 2, fifths, panel);
        q5_k_pair(rows, half, 3, fifths, panel);
    }
}

/// Half of the sub-blocks 2 · pair and 2 · pair + 1.
#[inline(always)]
fn q5_k_pair<D: Dwords>(
    rows: [&BlockQ5K; ROWS],
    half: usize,
    pair: usize,
    fifths: [D; 4],
    panel: &mut SuperPanel,
) {
    let bytes = D::of_rows(piece(rows, |block| &block.qs, 32 * pair + 16 * half));
    for c in 0..4 {
        let dword = 16 * pair + 4 * half + c;
        let left = 4 - 2 * pair as i32;
        let low = bytes[c].nibble().or(bits(0x10, fifths[c], left));
        let high = bytes[c].high_nibble().or(bits(0x10, fifths[c], left - 1));
        low.store(&mut panel.q[dword]);
        high.store(&mut panel.q[dword + 8]);
    }
}

/// `Q6_K`: nibbles with two high bits of 32 bytes per half.
#[inline(always)]
pub(super) fn q6_k<D: Dwords>(rows: [&BlockQ6K; ROWS], panel: &mut SuperPanel) {
    put_scales(
        D::of_rows(rows.map(|block| bytemuck::must_cast_ref(&block.scales))),
        panel,
    );
    put_factors::<D>(rows.map(|block| block.d), &mut panel.d);
    for half in 0..2 {
        for quarter in 0..2 {
            let high = D::of_rows(piece(rows, |block| &block.qh, 32 * half + 16 * quarter));
            q6_k_part(rows, 64 * half + 16 * quarter, 0, high, panel);
            q6_k_part(rows, 64 * half + 16 * quarter, 1, high, panel);
        }
    }
}

/// Sixteen bytes of nibbles, `32 · part` behind `start`.
#[inline(always)]
fn q6_k_part<D: Dwords>(
    rows: [&BlockQ6K; ROWS],
    start: usize,
    part: usize,
    high: [D; 4],
    panel: &mut SuperPanel,
) {
    let low = D::of_rows(piece(rows, |block| &block.ql, start + 32 * part));
    for c in 0..4 {
        let dword = start / 64 * 32 + 8 * part + start % 64 / 4 + c;
        let left = 4 - 2 * part as i32;
        let first = low[c].nibble().or(bits(0x30, high[c], left));
        let third = low[c].high_nibble().or(bits(0x30, high[c], left - 4));
        first.store(&mut panel.q[dword]);
        third.store(&mut panel.q[dword + 16]);
    }
}

/// `Q2_K`: two bits, four times in each byte.
#[inline(always)]
pub(super) fn q2_k<D: Dwords>(rows: [&BlockQ2K; ROWS], panel: &mut SuperPanel) {
    put_factors::<D>(rows.map(|block| block.d), &mut panel.d);
    put_factors::<D>(rows.map(|block| block.dmin), &mut panel.dmin);
    let both = D::of_rows(rows.map(|block| &block.scales));
    let (mut scales, mut mins) = (both, both);
    for i in 0..4 {
        (scales[i], mins[i]) = (both[i].nibble(), both[i].high_nibble());
    }
    put_scales(scales, panel);
    put_mins(mins, panel);
    two_bits::<D, _>(rows, |block| &block.qs, None, panel);
}

/// `Q3_K`: as `Q2_K`, with a third bit from bit `s` of 32 bytes.
#[inline(always)]
pub(super) fn q3_k<D: Dwords>(rows: [&BlockQ3K; ROWS], panel: &mut SuperPanel) {
    put_factors::<D>(rows.map(|block| block.d), &mut panel.d);
    let scales = rows.map(|block| unpack_scales(&block.scales));
    let mut scales = D::of_rows(scales.each_ref());
    for four in &mut scales {
        *four = four.sub_bytes(D::splat_byte(32));
    }
    put_scales(scales, panel);
    let thirds = [
        D::of_rows(piece(rows, |block| &block.hmask, 0)),
        D::of_rows(piece(rows, |block| &block.hmask, 16)),
    ];
    two_bits(rows, |block| &block.qs, Some(thirds), panel);
}

/// Writes integers of two bits, or of three if the third ones are given.
#[inline(always)]
fn two_bits<'a, D: Dwords, B>(
    rows: [&'a B; ROWS],
    qs: impl Fn(&'a B) -> &'a [u8; 64],
    thirds: Option<[[D; 4]; 2]>,
    panel: &mut SuperPanel,
) {
    for i in 0..4 {
        let (half, quarter) = (i / 2, i % 2);
        let bytes = D::of_rows(piece(rows, &qs, 16 * i));
        for part in 0..4 {
            for c in 0..4 {
                let mut q = bits(0x03, bytes[c], -2 * part);
                if let Some(thirds) = &thirds {
                    let left = 2 - (4 * half as i32 + part);
                    q = q.or(bits(0x04, thirds[quarter][c], left));
                }
                q.store(&mut panel.q[32 * half + 8 * part as usize + 4 * quarter + c]);
            }
        }
    }
}

/// `IQ4_XS`: nibbles are codes into a table. Scales of six bits less 32: four bits in a dword
/// of their own, two in the high word of the first.
#[inline(always)]
pub(super) fn iq4_xs<D: Dwords>(
    rows: [&BlockIq4Xs; ROWS],
    table: Option<[u8; 16]>,
    panel: &mut SuperPanel,
) {
    let [first, low, ..] = D::of_rows(head(rows));
    first.halves(&mut panel.d);
    for (s, out) in panel.scales[..8].iter_mut().enumerate() {
        let s = s as i32;
        let low = bits(0x0f, low, -4 * s);
        let high = bits(0x30, first, 4 - (16 + 2 * s));
        let scale = low.or(high).sub_bytes(D::splat_byte(32));
        scale.scale(0).store(bytemuck::must_cast_mut(out));
    }
    for (i, out) in panel.q.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let bytes = D::of_rows(rows.map(|block| &block.qs[i]));
        for c in 0..4 {
            bytes[c].nibble().values(table).store(&mut out[c]);
            bytes[c].high_nibble().values(table).store(&mut out[4 + c]);
        }
    }
}

/// The header of `Q4_K` and `Q5_K`, laid out as [`crate::blocks::scale_min`] says.
#[inline(always)]
fn affine_header<D: Dwords>(head: [&[u8; 16]; ROWS], panel: &mut SuperPanel) {
    let [factors, a, b, c] = D::of_rows(head);
    factors.halves(&mut panel.d);
    factors.shift(-16).halves(&mut panel.dmin);
    let six_bits = D::splat_byte(0x3f);
    let scales = [a.and(six_bits), c.nibble().or(bits(0x30, a, -2))];
    let mins = [b.and(six_bits), c.high_nibble().or(bits(0x30, b, -2))];
    put_scales(scales, panel);
    put_mins(mins, panel);
}

/// Writes minimums that are bytes, four to a dword, as pairs of words.
#[inline(always)]
fn put_mins<D: Dwords, const N: usize>(bytes: [D; N], panel: &mut SuperPanel) {
    for (two, bytes) in panel.mins.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
        let pairs = [bytes.pick([0, 128, 1, 128]), bytes.pick([2, 128, 3, 128])];
        for (out, pairs) in two.iter_mut().zip(pairs) {
            pairs.store(bytemuck::must_cast_mut(out));
        }
    }
}

/// Bits of a mask out of every byte, after a shift to the left, or by a negative distance to
/// the right.
#[inline(always)]
fn bits<D: Dwords>(mask: u8, x: D, left: i32) -> D {
    x.shift(left).and(D::splat_byte(mask))
}
