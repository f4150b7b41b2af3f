//! Panels of superblocks, by format.

use std::arch::x86_64::*;

use super::{dwords, halves, high_nibble, nibble, put_factors, put_scales};
use crate::{
    avx512::{
        load::{look_up, store_f32, store_pairs, store_u8},
        quants::select,
    },
    blocks::{BlockIq4Xs, BlockQ2K, BlockQ3K, BlockQ4K, BlockQ5K, BlockQ6K, unpack_scales},
    panel::{ROWS, SuperPanel},
};

/// Sixteen bytes of each row, from `start` of what `part` lends.
fn piece<'a, B, const N: usize>(
    rows: [&'a B; ROWS],
    part: impl Fn(&'a B) -> &'a [u8; N],
    start: usize,
) -> [&'a [u8; 16]; ROWS] {
    rows.map(|block| &part(block).as_chunks::<16>().0[start / 16])
}

/// The first sixteen bytes of each block.
fn head<B: bytemuck::Pod>(rows: [&B; ROWS]) -> [&[u8; 16]; ROWS] {
    rows.map(|block| &bytemuck::bytes_of(block).as_chunks::<16>().0[0])
}

/// `Q4_K`: the nibbles stay packed, and a panel is half as large.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) fn q4_k(rows: [&BlockQ4K; ROWS], panel: &mut SuperPanel) {
    affine_header(head(rows), panel);
    for (i, out) in panel.q[..32].as_chunks_mut::<4>().0.iter_mut().enumerate() {
        let bytes = dwords(piece(rows, |block| &block.qs, 16 * i));
        for (out, bytes) in out.iter_mut().zip(bytes) {
            store_u8(out, bytes);
        }
    }
}

/// `Q5_K`: nibbles with a fifth bit from bit `s` of 32 bytes.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) fn q5_k(rows: [&BlockQ5K; ROWS], panel: &mut SuperPanel) {
    affine_header(head(rows), panel);
    for half in 0..2 {
        let fifths = dwords(piece(rows, |block| &block.qh, 16 * half));
        for pair in 0..4 {
            let bytes = dwords(piece(rows, |block| &block.qs, 32 * pair + 16 * half));
            for c in 0..4 {
                let dword = 16 * pair + 4 * half + c;
                let low = joined(0x1f, bytes[c], fifths[c], 4 - 2 * pair as i32);
                let high = _mm512_srli_epi16::<4>(bytes[c]);
                let high = joined(0x1f, high, fifths[c], 3 - 2 * pair as i32);
                store_u8(&mut panel.q[dword], low);
                store_u8(&mut panel.q[dword + 8], high);
            }
        }
    }
}

/// `Q6_K`: nibbles with two high bits of 32 bytes per half.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) fn q6_k(rows: [&BlockQ6K; ROWS], panel: &mut SuperPanel) {
    put_scales(
        dwords(rows.map(|block| bytemuck::must_cast_ref(&block.scales))),
        panel,
    );
    put_factors(rows.map(|block| block.d), &mut panel.d);
    for half in 0..2 {
        for quarter in 0..2 {
            let high = dwords(piece(rows, |block| &block.qh, 32 * half + 16 * quarter));
            for part in 0..2 {
                let start = 64 * half + 32 * part + 16 * quarter;
                let low = dwords(piece(rows, |block| &block.ql, start));
                for c in 0..4 {
                    let dword = 32 * half + 8 * part + 4 * quarter + c;
                    let left = 4 - 2 * part as i32;
                    let first = joined(0x3f, low[c], high[c], left);
                    let third = _mm512_srli_epi16::<4>(low[c]);
                    let third = joined(0x3f, third, high[c], left - 4);
                    store_u8(&mut panel.q[dword], first);
                    store_u8(&mut panel.q[dword + 16], third);
                }
            }
        }
    }
}

/// `Q2_K`: two bits, four times in each byte.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) fn q2_k(rows: [&BlockQ2K; ROWS], panel: &mut SuperPanel) {
    put_factors(rows.map(|block| block.d), &mut panel.d);
    put_factors(rows.map(|block| block.dmin), &mut panel.dmin);
    let both = dwords(rows.map(|block| &block.scales));
    let (mut scales, mut mins) = (both, both);
    for i in 0..4 {
        (scales[i], mins[i]) = (nibble(both[i]), high_nibble(both[i]));
    }
    put_scales(scales, panel);
    put_mins(mins, panel);
    two_bits(rows, |block| &block.qs, None, panel);
}

/// `Q3_K`: as `Q2_K`, with a third bit from bit `s` of 32 bytes.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) fn q3_k(rows: [&BlockQ3K; ROWS], panel: &mut SuperPanel) {
    put_factors(rows.map(|block| block.d), &mut panel.d);
    let scales = rows.map(|block| unpack_scales(&block.scales));
    let mut scales = dwords(scales.each_ref());
    for four in &mut scales {
        *four = _mm512_sub_epi8(*four, _mm512_set1_epi8(32));
    }
    put_scales(scales, panel);
    let thirds = [
        dwords(piece(rows, |block| &block.hmask, 0)),
        dwords(piece(rows, |block| &block.hmask, 16)),
    ];
    two_bits(rows, |block| &block.qs, Some(thirds), panel);
}

/// Writes integers of two bits, or of three if the third ones are given.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn two_bits<'a, B>(
    rows: [&'a B; ROWS],
    qs: impl Fn(&'a B) -> &'a [u8; 64],
    thirds: Option<[[__m512i; 4]; 2]>,
    panel: &mut SuperPanel,
) {
    for i in 0..4 {
        let (half, quarter) = (i / 2, i % 2);
        let bytes = dwords(piece(rows, &qs, 16 * i));
        for part in 0..4 {
            for c in 0..4 {
                let right = _mm512_set1_epi32(2 * part);
                let low = _mm512_srlv_epi32(bytes[c], right);
                let low = _mm512_and_si512(low, _mm512_set1_epi8(0x03));
                let q = match &thirds {
                    None => low,
                    Some(thirds) => {
                        let left = 2 - (4 * half as i32 + part);
                        let third = rotated(thirds[quarter][c], left);
                        let third = _mm512_and_si512(third, _mm512_set1_epi8(0x04));
                        _mm512_or_si512(low, third)
                    }
                };
                store_u8(
                    &mut panel.q[32 * half + 8 * part as usize + 4 * quarter + c],
                    q,
                );
            }
        }
    }
}

/// `IQ4_XS`: nibbles are codes into a table.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) fn iq4_xs(rows: [&BlockIq4Xs; ROWS], table: Option<[u8; 16]>, panel: &mut SuperPanel) {
    let [first, low, ..] = dwords(head(rows));
    store_f32(&mut panel.d, halves(first));
    for (s, out) in panel.scales[..8].iter_mut().enumerate() {
        let s = s as i32;
        let low = _mm512_srlv_epi32(low, _mm512_set1_epi32(4 * s));
        let low = _mm512_and_si512(low, _mm512_set1_epi32(0x0f));
        let high = rotated(first, 4 - (16 + 2 * s));
        let high = _mm512_and_si512(high, _mm512_set1_epi32(0x30));
        let scale = _mm512_sub_epi32(_mm512_or_si512(low, high), _mm512_set1_epi32(32));
        store_u8(bytemuck::must_cast_mut(out), scale);
    }
    for (i, out) in panel.q.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let bytes = dwords(rows.map(|block| &block.qs[i]));
        for c in 0..4 {
            store_u8(&mut out[c], look_up(table, nibble(bytes[c])));
            store_u8(&mut out[4 + c], look_up(table, high_nibble(bytes[c])));
        }
    }
}

/// The header of `Q4_K` and `Q5_K`, laid out as [`crate::blocks::scale_min`] says.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn affine_header(head: [&[u8; 16]; ROWS], panel: &mut SuperPanel) {
    let [factors, a, b, c] = dwords(head);
    store_f32(&mut panel.d, halves(factors));
    store_f32(&mut panel.dmin, halves(_mm512_srli_epi32::<16>(factors)));
    let six_bits = _mm512_set1_epi8(0x3f);
    let join = |low, high| {
        let high = _mm512_and_si512(_mm512_srli_epi16::<2>(high), _mm512_set1_epi8(0x30));
        _mm512_or_si512(low, high)
    };
    let scales = [_mm512_and_si512(a, six_bits), join(nibble(c), a)];
    let mins = [_mm512_and_si512(b, six_bits), join(high_nibble(c), b)];
    put_scales(scales, panel);
    put_mins(mins, panel);
}

/// Writes minimums that are bytes, four to a dword, as pairs of words.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn put_mins<const N: usize>(bytes: [__m512i; N], panel: &mut SuperPanel) {
    let first = _mm512_set1_epi32(0x8001_8000_u32.cast_signed());
    let in_lane = _mm512_set4_epi32(0x0c0c_0c0c, 0x0808_0808, 0x0404_0404, 0);
    let first = _mm512_or_si512(first, in_lane);
    let second = _mm512_add_epi8(first, _mm512_set1_epi16(2));
    for (two, bytes) in panel.mins.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
        store_pairs(&mut two[0], _mm512_shuffle_epi8(bytes, first));
        store_pairs(&mut two[1], _mm512_shuffle_epi8(bytes, second));
    }
}

/// The low nibbles of `low`, and the high bits of a mask from another register, rotated to
/// the left.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn joined(mask: i8, low: __m512i, high: __m512i, left: i32) -> __m512i {
    let both = select(0x0f, low, rotated(high, left));
    _mm512_and_si512(both, _mm512_set1_epi8(mask))
}

/// Rotates dwords to the left, or by a negative distance to the right.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn rotated(x: __m512i, left: i32) -> __m512i {
    _mm512_rolv_epi32(x, _mm512_set1_epi32(left))
}
