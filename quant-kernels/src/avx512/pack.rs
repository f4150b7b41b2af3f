//! Sixteen rows of blocks into a panel.
//!
//! Every row's block is unpacked to bytes; then 16 × 16 transposes of dwords turn "sixteen
//! dwords of a row" into "a dword of sixteen rows". The scales and minimums of a row, widened,
//! are 64 bytes and pass the same transpose as pairs.

use std::arch::x86_64::*;

use super::load::{load_i8x32, load_u8, look_up, store_i32, store_pairs, store_u8};
use crate::{
    blocks::{SmallBlock, SuperBlock, UnpackedSmall, UnpackedSuper},
    panel::{ROWS, SmallPanel, SuperPanel},
};

/// Packs one superblock of each row.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) fn superblocks<B: SuperBlock>(rows: [&B; ROWS], panel: &mut SuperPanel) {
    let mut unpacked = UnpackedSuper::ZEROED;
    let mut q = [[[0u8; 64]; ROWS]; 4];
    let mut headers = [[0i8; 32]; ROWS];
    for (r, block) in rows.into_iter().enumerate() {
        block.unpack_codes(&mut unpacked);
        for (quarter, bytes) in q.iter_mut().zip(unpacked.q.as_chunks::<64>().0) {
            quarter[r] = *bytes;
        }
        headers[r] = bytemuck::must_cast([unpacked.scales, unpacked.mins]);
        (panel.d[r], panel.dmin[r]) = (unpacked.d, unpacked.dmin);
    }
    for (quarter, out) in q.iter().zip(panel.q.as_chunks_mut::<16>().0) {
        let mut rows = [_mm512_setzero_si512(); ROWS];
        for r in 0..ROWS {
            rows[r] = load_u8(&quarter[r]);
        }
        for (out, dword) in out.iter_mut().zip(transpose(rows)) {
            store_u8(out, look_up(B::TABLE, dword));
        }
    }
    let mut rows = [_mm512_setzero_si512(); ROWS];
    for r in 0..ROWS {
        rows[r] = _mm512_cvtepi8_epi16(load_i8x32(&headers[r]));
    }
    let pairs = transpose(rows);
    let n_pairs = 256 / B::SUB / 2;
    for i in 0..n_pairs {
        let even = _mm512_srai_epi32::<16>(_mm512_slli_epi32::<16>(pairs[i]));
        store_i32(&mut panel.scales[2 * i], even);
        store_i32(
            &mut panel.scales[2 * i + 1],
            _mm512_srai_epi32::<16>(pairs[i]),
        );
        let mins = if B::HAS_MIN {
            pairs[8 + i]
        } else {
            _mm512_mullo_epi16(pairs[i], _mm512_set1_epi16(B::ZERO as i16))
        };
        store_pairs(&mut panel.mins[i], mins);
    }
}

/// Packs two small blocks of each row.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) fn small_blocks<B: SmallBlock>(rows: [[&B; 2]; ROWS], panels: &mut [SmallPanel; 2]) {
    let mut unpacked = UnpackedSmall::ZEROED;
    let mut q = [[0u8; 64]; ROWS];
    for (r, blocks) in rows.into_iter().enumerate() {
        for (i, block) in blocks.into_iter().enumerate() {
            block.unpack_codes(&mut unpacked);
            q[r].as_chunks_mut::<32>().0[i] = unpacked.q;
            (panels[i].d[r], panels[i].m[r]) = (unpacked.d, unpacked.m);
        }
    }
    let mut rows = [_mm512_setzero_si512(); ROWS];
    for r in 0..ROWS {
        rows[r] = load_u8(&q[r]);
    }
    let dwords = transpose(rows);
    for (panel, dwords) in panels.iter_mut().zip(dwords.as_chunks::<8>().0) {
        for (out, dword) in panel.q.iter_mut().zip(dwords) {
            store_u8(out, look_up(B::TABLE, *dword));
        }
    }
}

/// Transposes 16 × 16 dwords.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn transpose(mut x: [__m512i; ROWS]) -> [__m512i; ROWS] {
    // Dwords of two rows, then of four, within each 128-bit lane.
    let mut y = x;
    for i in 0..8 {
        y[2 * i] = _mm512_unpacklo_epi32(x[2 * i], x[2 * i + 1]);
        y[2 * i + 1] = _mm512_unpackhi_epi32(x[2 * i], x[2 * i + 1]);
    }
    for i in 0..4 {
        x[4 * i] = _mm512_unpacklo_epi64(y[4 * i], y[4 * i + 2]);
        x[4 * i + 1] = _mm512_unpackhi_epi64(y[4 * i], y[4 * i + 2]);
        x[4 * i + 2] = _mm512_unpacklo_epi64(y[4 * i + 1], y[4 * i + 3]);
        x[4 * i + 3] = _mm512_unpackhi_epi64(y[4 * i + 1], y[4 * i + 3]);
    }
    // x[4·g + c] holds, in lane l, dword 4·l + c of rows 4·g..4·g + 4: exchange lanes.
    for c in 0..4 {
        let low = _mm512_shuffle_i32x4::<0b10_00_10_00>(x[c], x[4 + c]);
        let high = _mm512_shuffle_i32x4::<0b11_01_11_01>(x[c], x[4 + c]);
        let low_rest = _mm512_shuffle_i32x4::<0b10_00_10_00>(x[8 + c], x[12 + c]);
        let high_rest = _mm512_shuffle_i32x4::<0b11_01_11_01>(x[8 + c], x[12 + c]);
        y[c] = _mm512_shuffle_i32x4::<0b10_00_10_00>(low, low_rest);
        y[8 + c] = _mm512_shuffle_i32x4::<0b11_01_11_01>(low, low_rest);
        y[4 + c] = _mm512_shuffle_i32x4::<0b10_00_10_00>(high, high_rest);
        y[12 + c] = _mm512_shuffle_i32x4::<0b11_01_11_01>(high, high_rest);
    }
    y
}
