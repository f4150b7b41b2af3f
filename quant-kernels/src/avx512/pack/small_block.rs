//! Panels of small blocks, by format.

use std::arch::x86_64::*;

use super::{dwords, high_nibble, nibble, put_factors};
use crate::{
    avx512::load::{load_i32, load_u8, look_up, store_u8},
    blocks::{
        BlockIq4Nl, BlockMxfp4, BlockQ4_0, BlockQ4_1, BlockQ5_0, BlockQ5_1, BlockQ8_0, half_power,
    },
    panel::{ROWS, SmallPanel},
};

/// `Q4_0`: nibbles.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) fn q4_0(rows: [&BlockQ4_0; ROWS], panel: &mut SmallPanel) {
    put_factors(rows.map(|block| block.d), &mut panel.d);
    put_nibbles(rows.map(|block| &block.qs), None, panel);
}

/// `Q4_1`: nibbles, with an offset.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) fn q4_1(rows: [&BlockQ4_1; ROWS], panel: &mut SmallPanel) {
    put_factors(rows.map(|block| block.d), &mut panel.d);
    put_factors(rows.map(|block| block.m), &mut panel.m);
    put_nibbles(rows.map(|block| &block.qs), None, panel);
}

/// `Q5_0`: nibbles with a fifth bit.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) fn q5_0(rows: [&BlockQ5_0; ROWS], panel: &mut SmallPanel) {
    put_factors(rows.map(|block| block.d), &mut panel.d);
    put_nibbles(rows.map(|block| &block.qs), None, panel);
    add_fifths(rows.map(|block| i32::from_le_bytes(block.qh)), panel);
}

/// `Q5_1`: nibbles with a fifth bit, and an offset.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) fn q5_1(rows: [&BlockQ5_1; ROWS], panel: &mut SmallPanel) {
    put_factors(rows.map(|block| block.d), &mut panel.d);
    put_factors(rows.map(|block| block.m), &mut panel.m);
    put_nibbles(rows.map(|block| &block.qs), None, panel);
    add_fifths(rows.map(|block| i32::from_le_bytes(block.qh)), panel);
}

/// `Q8_0`: signed bytes, stored with a zero point of 128.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) fn q8_0(rows: [&BlockQ8_0; ROWS], panel: &mut SmallPanel) {
    put_factors(rows.map(|block| block.d), &mut panel.d);
    for (half, out) in panel.q.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        let bytes = dwords(rows.map(|block| &block.qs.as_chunks::<16>().0[half]));
        for (out, bytes) in out.iter_mut().zip(bytes) {
            store_u8(out, _mm512_xor_si512(bytes, _mm512_set1_epi8(-128)));
        }
    }
}

/// `IQ4_NL`: nibbles are codes into a table.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) fn iq4_nl(rows: [&BlockIq4Nl; ROWS], table: Option<[u8; 16]>, panel: &mut SmallPanel) {
    put_factors(rows.map(|block| block.d), &mut panel.d);
    put_nibbles(rows.map(|block| &block.qs), table, panel);
}

/// `MXFP4`: nibbles are codes into a table, the factor is an exponent.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) fn mxfp4(rows: [&BlockMxfp4; ROWS], table: Option<[u8; 16]>, panel: &mut SmallPanel) {
    panel.d = rows.map(|block| half_power(block.e));
    put_nibbles(rows.map(|block| &block.qs), table, panel);
}

/// Writes sixteen low nibbles, then sixteen high ones.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn put_nibbles(rows: [&[u8; 16]; ROWS], table: Option<[u8; 16]>, panel: &mut SmallPanel) {
    let bytes = dwords(rows);
    for c in 0..4 {
        store_u8(&mut panel.q[c], look_up(table, nibble(bytes[c])));
        store_u8(&mut panel.q[4 + c], look_up(table, high_nibble(bytes[c])));
    }
}

/// Adds sixteen to weight `i` where bit `i` is set.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn add_fifths(bits: [i32; ROWS], panel: &mut SmallPanel) {
    let bits = load_i32(&bits);
    // Each byte takes the bits of eight weights and keeps the one of its place.
    let in_lane = _mm512_set4_epi32(0x0c0c_0c0c, 0x0808_0808, 0x0404_0404, 0);
    for (i, q) in panel.q.iter_mut().enumerate() {
        let byte = _mm512_or_si512(in_lane, _mm512_set1_epi8(i as i8 / 2));
        let eight = _mm512_shuffle_epi8(bits, byte);
        let places = if i % 2 == 0 {
            0x0804_0201
        } else {
            0x8040_2010_u32.cast_signed()
        };
        let is_set = _mm512_test_epi8_mask(eight, _mm512_set1_epi32(places));
        let plain = load_u8(q);
        store_u8(
            q,
            _mm512_mask_add_epi8(plain, is_set, plain, _mm512_set1_epi8(16)),
        );
    }
}
