//! Sixteen rows of blocks into a panel.
//!
//! As for AVX-512, with 8 × 8 transposes of dwords: every row's block is unpacked to
//! bytes, common formats in registers, and "eight dwords of a row" become "a dword of eight
//! rows".

use std::arch::x86_64::*;

use super::{
    load::{load_i8x16, load_u8, look_up, store_pairs, store_u8},
    quants,
};
use crate::{
    QuantType,
    blocks::{
        BlockQ4K, BlockQ5K, BlockQ6K, SmallBlock, SuperBlock, UnpackedSmall, UnpackedSuper,
        scale_min,
    },
    panel::{ROWS, SmallPanel, SuperPanel},
};

/// Packs one superblock of each row.
#[target_feature(enable = "avx2,fma")]
pub(super) fn superblocks<B: SuperBlock>(rows: [&B; ROWS], panel: &mut SuperPanel) {
    let mut unpacked = UnpackedSuper::ZEROED;
    let mut q = [[[0u8; 32]; ROWS]; 8];
    let mut scales = [[0i8; 16]; ROWS];
    let mut mins = [[0i8; 16]; ROWS];
    for (r, block) in rows.into_iter().enumerate() {
        if quants::is_known::<B>() {
            for (eighth, bytes) in q.iter_mut().zip(quants::superblock(block)) {
                store_u8(&mut eighth[r], bytes);
            }
            header(block, &mut unpacked);
        } else {
            block.unpack_codes(&mut unpacked);
            for (eighth, bytes) in q.iter_mut().zip(unpacked.q.as_chunks::<32>().0) {
                eighth[r] = *bytes;
            }
        }
        (scales[r], mins[r]) = (unpacked.scales, unpacked.mins);
        (panel.d[r], panel.dmin[r]) = (unpacked.d, unpacked.dmin);
    }
    for (eighth, out) in q.iter().zip(panel.q.as_chunks_mut::<8>().0) {
        for half in 0..2 {
            let dwords = transpose(rows_of(&eighth.as_chunks::<8>().0[half]));
            for (out, dword) in out.iter_mut().zip(dwords) {
                store_u8(
                    &mut out.as_chunks_mut::<32>().0[half],
                    look_up(B::TABLE, dword),
                );
            }
        }
    }
    let n_pairs = 256 / B::SUB / 2;
    for half in 0..2 {
        let scale_pairs = transpose(widened(&scales.as_chunks::<8>().0[half]));
        let min_pairs = transpose(widened(&mins.as_chunks::<8>().0[half]));
        for i in 0..n_pairs {
            let pairs = scale_pairs[i];
            let even = _mm256_srai_epi32::<16>(_mm256_slli_epi32::<16>(pairs));
            let odd = _mm256_srai_epi32::<16>(pairs);
            store_i32(&mut panel.scales[2 * i], half, even);
            store_i32(&mut panel.scales[2 * i + 1], half, odd);
            let mins = if B::HAS_MIN {
                min_pairs[i]
            } else {
                _mm256_mullo_epi16(
                    pairs,
                    _mm256_set1_epi16(super::tile::zero_point(B::ZERO) as i16),
                )
            };
            store_pairs(&mut panel.mins[i].as_chunks_mut::<8>().0[half], mins);
        }
    }
}

/// Unpacks scales, minimums and factors of a format that [`quants`] knows.
#[inline(always)]
fn header<B: SuperBlock>(block: &B, out: &mut UnpackedSuper) {
    let (scales, d, dmin) = match B::TYPE {
        QuantType::Q4_K => {
            let block: &BlockQ4K = bytemuck::cast_ref(block);
            (&block.scales, block.d, block.dmin)
        }
        QuantType::Q5_K => {
            let block: &BlockQ5K = bytemuck::cast_ref(block);
            (&block.scales, block.d, block.dmin)
        }
        _ => {
            let block: &BlockQ6K = bytemuck::cast_ref(block);
            (out.scales, out.d) = (block.scales, block.d.to_f32());
            return;
        }
    };
    [out.scales, out.mins] = scale_min(scales);
    (out.d, out.dmin) = (d.to_f32(), dmin.to_f32());
}

#[target_feature(enable = "avx2")]
#[inline]
fn store_i32(out: &mut [i32; ROWS], half: usize, x: __m256i) {
    let bytes = bytemuck::must_cast_mut::<[i32; ROWS], [[u8; 32]; 2]>(out);
    store_u8(&mut bytes[half], x);
}

/// Packs one small block of each row.
#[target_feature(enable = "avx2,fma")]
pub(super) fn small_blocks<B: SmallBlock>(rows: [&B; ROWS], panel: &mut SmallPanel) {
    let mut unpacked = UnpackedSmall::ZEROED;
    let mut q = [[0u8; 32]; ROWS];
    for (r, block) in rows.into_iter().enumerate() {
        block.unpack_codes(&mut unpacked);
        q[r] = unpacked.q;
        (panel.d[r], panel.m[r]) = (unpacked.d, unpacked.m);
    }
    for half in 0..2 {
        let dwords = transpose(rows_of(&q.as_chunks::<8>().0[half]));
        for (out, dword) in panel.q.iter_mut().zip(dwords) {
            store_u8(
                &mut out.as_chunks_mut::<32>().0[half],
                look_up(B::TABLE, dword),
            );
        }
    }
}

/// Loads eight rows.
#[target_feature(enable = "avx2")]
#[inline]
fn rows_of(bytes: &[[u8; 32]; 8]) -> [__m256i; 8] {
    let mut rows = [_mm256_setzero_si256(); 8];
    for r in 0..8 {
        rows[r] = load_u8(&bytes[r]);
    }
    rows
}

/// Loads eight rows and widens them to 16 bits.
#[target_feature(enable = "avx2")]
#[inline]
fn widened(bytes: &[[i8; 16]; 8]) -> [__m256i; 8] {
    let mut rows = [_mm256_setzero_si256(); 8];
    for r in 0..8 {
        rows[r] = _mm256_cvtepi8_epi16(load_i8x16(&bytes[r]));
    }
    rows
}

/// Transposes 8 × 8 dwords.
#[target_feature(enable = "avx2")]
#[inline]
pub(crate) fn transpose(mut x: [__m256i; 8]) -> [__m256i; 8] {
    let mut y = x;
    for i in 0..4 {
        y[2 * i] = _mm256_unpacklo_epi32(x[2 * i], x[2 * i + 1]);
        y[2 * i + 1] = _mm256_unpackhi_epi32(x[2 * i], x[2 * i + 1]);
    }
    for i in 0..2 {
        x[4 * i] = _mm256_unpacklo_epi64(y[4 * i], y[4 * i + 2]);
        x[4 * i + 1] = _mm256_unpackhi_epi64(y[4 * i], y[4 * i + 2]);
        x[4 * i + 2] = _mm256_unpacklo_epi64(y[4 * i + 1], y[4 * i + 3]);
        x[4 * i + 3] = _mm256_unpackhi_epi64(y[4 * i + 1], y[4 * i + 3]);
    }
    // x[4·g + c] holds, in lane l, dword 4·l + c of rows 4·g..4·g + 4: exchange lanes.
    for c in 0..4 {
        y[c] = _mm256_permute2x128_si256::<0x20>(x[c], x[4 + c]);
        y[4 + c] = _mm256_permute2x128_si256::<0x31>(x[c], x[4 + c]);
    }
    y
}
