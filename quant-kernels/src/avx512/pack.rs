//! Sixteen rows of blocks into a panel.
//!
//! The bytes of a block are not unpacked first: sixteen bytes of each of sixteen rows are
//! loaded into four registers and transposed as they are, which makes four registers of a
//! dword of every row. Shifts and masks then unpack the integers of all rows at once, and the
//! scales likewise ([`superblock`], [`small_block`]). Formats whose weights are points of a
//! grid pass through memory: their blocks are unpacked one by one, and the integers
//! transposed.

mod small_block;
mod superblock;

use std::arch::x86_64::*;

use super::load::{load_i32, load_u8x16, look_up, store_f32, store_i32, store_u8};
use crate::{
    QuantType,
    blocks::{F16Le, SmallBlock, SuperBlock, UnpackedSuper},
    panel::{ROWS, SmallPanel, SuperPanel},
};

/// Whether a panel of this format keeps two weights in a byte, as the file does: weights of
/// sub-blocks 2 · p in the low, of 2 · p + 1 in the high nibbles of dwords 8 · p and on.
pub(super) const fn is_packed<B: SuperBlock>() -> bool {
    matches!(B::TYPE, QuantType::Q4_K)
}

/// Packs one superblock of each row. Minimums are written only where the format has them.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) fn superblocks<B: SuperBlock>(rows: [&B; ROWS], panel: &mut SuperPanel) {
    match B::TYPE {
        QuantType::Q2_K => superblock::q2_k(cast(rows), panel),
        QuantType::Q3_K => superblock::q3_k(cast(rows), panel),
        QuantType::Q4_K => superblock::q4_k(cast(rows), panel),
        QuantType::Q5_K => superblock::q5_k(cast(rows), panel),
        QuantType::Q6_K => superblock::q6_k(cast(rows), panel),
        QuantType::IQ4_XS => superblock::iq4_xs(cast(rows), B::TABLE, panel),
        _ => through_memory(rows, panel),
    }
}

/// Packs one small block of each row.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) fn small_blocks<B: SmallBlock>(rows: [&B; ROWS], panel: &mut SmallPanel) {
    match B::TYPE {
        QuantType::Q4_0 => small_block::q4_0(cast(rows), panel),
        QuantType::Q4_1 => small_block::q4_1(cast(rows), panel),
        QuantType::Q5_0 => small_block::q5_0(cast(rows), panel),
        QuantType::Q5_1 => small_block::q5_1(cast(rows), panel),
        QuantType::Q8_0 => small_block::q8_0(cast(rows), panel),
        QuantType::IQ4_NL => small_block::iq4_nl(cast(rows), B::TABLE, panel),
        QuantType::MXFP4 => small_block::mxfp4(cast(rows), B::TABLE, panel),
        _ => unreachable!("no type of small blocks"),
    }
}

/// The same blocks under the name of their type.
fn cast<B: bytemuck::Pod, T: bytemuck::AnyBitPattern>(rows: [&B; ROWS]) -> [&T; ROWS] {
    rows.map(bytemuck::cast_ref)
}

/// Packs blocks that portable code unpacks.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn through_memory<B: SuperBlock>(rows: [&B; ROWS], panel: &mut SuperPanel) {
    let mut unpacked = UnpackedSuper::ZEROED;
    let mut q = [[[0u8; 16]; ROWS]; 16];
    let mut scales = [[0u8; 16]; ROWS];
    for (r, block) in rows.into_iter().enumerate() {
        block.unpack_codes(&mut unpacked);
        for (piece, bytes) in q.iter_mut().zip(unpacked.q.as_chunks::<16>().0) {
            piece[r] = *bytes;
        }
        scales[r] = bytemuck::must_cast(unpacked.scales);
        (panel.d[r], panel.dmin[r]) = (unpacked.d, unpacked.dmin);
    }
    for (piece, out) in q.iter().zip(panel.q.as_chunks_mut::<4>().0) {
        for (out, dword) in out.iter_mut().zip(dwords(piece.each_ref())) {
            store_u8(out, look_up(B::TABLE, dword));
        }
    }
    put_scales(dwords(scales.each_ref()), panel);
}

/// Returns the dwords of sixteen bytes of each row, one register per dword, a row to a lane.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn dwords(rows: [&[u8; 16]; ROWS]) -> [__m512i; 4] {
    // Register `j` holds rows j, 4 + j, 8 + j and 12 + j, so that the transposes within 128
    // bits leave the rows in order.
    let mut x = [_mm512_setzero_si512(); 4];
    for j in 0..4 {
        let row = _mm512_castsi128_si512(load_u8x16(rows[j]));
        let row = _mm512_inserti32x4::<1>(row, load_u8x16(rows[4 + j]));
        let row = _mm512_inserti32x4::<2>(row, load_u8x16(rows[8 + j]));
        x[j] = _mm512_inserti32x4::<3>(row, load_u8x16(rows[12 + j]));
    }
    let low = [
        _mm512_unpacklo_epi32(x[0], x[1]),
        _mm512_unpacklo_epi32(x[2], x[3]),
    ];
    let high = [
        _mm512_unpackhi_epi32(x[0], x[1]),
        _mm512_unpackhi_epi32(x[2], x[3]),
    ];
    [
        _mm512_unpacklo_epi64(low[0], low[1]),
        _mm512_unpackhi_epi64(low[0], low[1]),
        _mm512_unpacklo_epi64(high[0], high[1]),
        _mm512_unpackhi_epi64(high[0], high[1]),
    ]
}

/// Writes scales that are signed bytes, four to a dword.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn put_scales<const N: usize>(bytes: [__m512i; N], panel: &mut SuperPanel) {
    for (four, bytes) in panel.scales.as_chunks_mut::<4>().0.iter_mut().zip(bytes) {
        for (i, out) in four.iter_mut().enumerate() {
            let top = _mm512_sllv_epi32(bytes, _mm512_set1_epi32(24 - 8 * i as i32));
            store_i32(out, _mm512_srai_epi32::<24>(top));
        }
    }
}

/// Converts halves in the low words of dwords.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn halves(x: __m512i) -> __m512 {
    _mm512_cvtph_ps(_mm512_cvtepi32_epi16(x))
}

/// Low nibbles of bytes.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn nibble(x: __m512i) -> __m512i {
    _mm512_and_si512(x, _mm512_set1_epi8(0x0f))
}

/// High nibbles of bytes.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn high_nibble(x: __m512i) -> __m512i {
    nibble(_mm512_srli_epi16::<4>(x))
}

/// Converts one factor of each row.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn put_factors(halves_of: [F16Le; ROWS], out: &mut [f32; ROWS]) {
    let words = halves_of.map(|half| i32::from(half.to_bits()));
    store_f32(out, halves(load_i32(&words)));
}
