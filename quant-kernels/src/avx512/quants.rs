//! Stored integers, unpacked in registers.
//!
//! The products of a row in place begin here. Registers hold 64 integers in the order of the
//! weights. Formats differ in where they keep the bits, but all of them put the halves of 64
//! weights into the same bytes: so these are loaded twice, side by side, and each half is
//! shifted by its own distance.

use std::arch::x86_64::*;

use super::load::{load_u8, load_u8x16, load_u8x32, look_up};
use crate::{
    QuantType,
    blocks::{
        BlockIq4Nl, BlockIq4Xs, BlockMxfp4, BlockQ2K, BlockQ3K, BlockQ4_0, BlockQ4_1, BlockQ4K,
        BlockQ5_0, BlockQ5_1, BlockQ5K, BlockQ6K, BlockQ8_0, SmallBlock, SuperBlock, UnpackedSuper,
    },
};

/// Unpacks a superblock of a format that [`is_known`] into four registers.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn superblock<B: SuperBlock>(block: &B) -> [__m512i; 4] {
    match B::TYPE {
        QuantType::Q2_K => q2_k(bytemuck::cast_ref(block)),
        QuantType::Q3_K => q3_k(bytemuck::cast_ref(block)),
        QuantType::Q4_K => q4_k(bytemuck::cast_ref(block)),
        QuantType::Q5_K => q5_k(bytemuck::cast_ref(block)),
        QuantType::Q6_K => q6_k(bytemuck::cast_ref(block)),
        QuantType::IQ4_XS => iq4_xs::<B>(bytemuck::cast_ref(block)),
        _ => unreachable!("asked for before"),
    }
}

/// Loads what portable code has unpacked.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn in_memory(unpacked: &UnpackedSuper) -> [__m512i; 4] {
    let mut q = [_mm512_setzero_si512(); 4];
    for (q, bytes) in q.iter_mut().zip(unpacked.q.as_chunks::<64>().0) {
        *q = load_u8(bytes);
    }
    q
}

/// Returns whether [`superblock`] unpacks the format in registers.
pub(super) const fn is_known<B: SuperBlock>() -> bool {
    matches!(
        B::TYPE,
        QuantType::Q2_K
            | QuantType::Q3_K
            | QuantType::Q4_K
            | QuantType::Q5_K
            | QuantType::Q6_K
            | QuantType::IQ4_XS
    )
}

/// Two bits at 32 · part of every byte: parts 0 and 1, then 2 and 3 of each half.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn q2_k(block: &BlockQ2K) -> [__m512i; 4] {
    let [first, second]: &[[u8; 32]; 2] = bytemuck::must_cast_ref(&block.qs);
    let (first, second) = (twice(first), twice(second));
    let bits = |x, distances| _mm512_and_si512(shift(x, distances), _mm512_set1_epi8(3));
    [
        bits(first, [0, 2]),
        bits(first, [4, 6]),
        bits(second, [0, 2]),
        bits(second, [4, 6]),
    ]
}

/// As `Q2_K`, with a third bit from bit `s` of 32 bytes for weights 32 · s and on.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn q3_k(block: &BlockQ3K) -> [__m512i; 4] {
    let [first, second]: &[[u8; 32]; 2] = bytemuck::must_cast_ref(&block.qs);
    let (first, second) = (twice(first), twice(second));
    let thirds = twice(&block.hmask);
    let join = |low, third| {
        let both = select(0x03, low, third);
        _mm512_and_si512(both, _mm512_set1_epi8(0x07))
    };
    [
        join(shift(first, [0, 2]), rotate(thirds, [2, 1])),
        join(shift(first, [4, 6]), rotate(thirds, [0, 31])),
        join(shift(second, [0, 2]), rotate(thirds, [30, 29])),
        join(shift(second, [4, 6]), rotate(thirds, [28, 27])),
    ]
}

/// Low nibbles of 32 bytes are one sub-block of 32, high ones the next.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn q4_k(block: &BlockQ4K) -> [__m512i; 4] {
    let mut q = halves(&block.qs);
    for q in &mut q {
        *q = _mm512_and_si512(*q, _mm512_set1_epi8(0x0f));
    }
    q
}

/// As `Q4_K`, with a fifth bit from bit `s` of 32 bytes for sub-block `s`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn q5_k(block: &BlockQ5K) -> [__m512i; 4] {
    let fifths = twice(&block.qh);
    let mut q = halves(&block.qs);
    for (q, left) in q.iter_mut().zip([[4, 3], [2, 1], [0, 31], [30, 29]]) {
        let both = select(0x0f, *q, rotate(fifths, left));
        *q = _mm512_and_si512(both, _mm512_set1_epi8(0x1f));
    }
    q
}

/// Four low bits of each half from 64 bytes, two high ones from 32.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn q6_k(block: &BlockQ6K) -> [__m512i; 4] {
    let join = |low, high| {
        let both = select(0x0f, low, high);
        _mm512_and_si512(both, _mm512_set1_epi8(0x3f))
    };
    let mut q = [_mm512_setzero_si512(); 4];
    for half in 0..2 {
        let low = load_u8(&block.ql.as_chunks::<64>().0[half]);
        let high = twice(&block.qh.as_chunks::<32>().0[half]);
        q[2 * half] = join(low, rotate(high, [4, 2]));
        q[2 * half + 1] = join(_mm512_srli_epi16::<4>(low), rotate(high, [0, 30]));
    }
    q
}

/// Each sixteen bytes are a sub-block: low nibbles, then high ones, of codes.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn iq4_xs<B: SuperBlock>(block: &BlockIq4Xs) -> [__m512i; 4] {
    let mut q = [_mm512_setzero_si512(); 4];
    for (q, subs) in q.iter_mut().zip(block.qs.as_chunks::<2>().0) {
        *q = look_up(B::TABLE, nibbles(&subs[0], &subs[1]));
    }
    q
}

/// Unpacks two neighbouring small blocks into one register.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn small_blocks<B: SmallBlock>(a: &B, b: &B) -> __m512i {
    match B::TYPE {
        QuantType::Q4_0 => {
            let [a, b] = [a, b].map(bytemuck::cast_ref::<B, BlockQ4_0>);
            nibbles(&a.qs, &b.qs)
        }
        QuantType::Q4_1 => {
            let [a, b] = [a, b].map(bytemuck::cast_ref::<B, BlockQ4_1>);
            nibbles(&a.qs, &b.qs)
        }
        QuantType::Q5_0 => {
            let [a, b] = [a, b].map(bytemuck::cast_ref::<B, BlockQ5_0>);
            with_fifths(nibbles(&a.qs, &b.qs), a.qh, b.qh)
        }
        QuantType::Q5_1 => {
            let [a, b] = [a, b].map(bytemuck::cast_ref::<B, BlockQ5_1>);
            with_fifths(nibbles(&a.qs, &b.qs), a.qh, b.qh)
        }
        QuantType::Q8_0 => {
            let [a, b] = [a, b].map(bytemuck::cast_ref::<B, BlockQ8_0>);
            let (a, b) = (load_u8x32(&a.qs), load_u8x32(&b.qs));
            _mm512_xor_si512(side_by_side(a, b), _mm512_set1_epi8(-128))
        }
        QuantType::IQ4_NL => {
            let [a, b] = [a, b].map(bytemuck::cast_ref::<B, BlockIq4Nl>);
            look_up(B::TABLE, nibbles(&a.qs, &b.qs))
        }
        QuantType::MXFP4 => {
            let [a, b] = [a, b].map(bytemuck::cast_ref::<B, BlockMxfp4>);
            look_up(B::TABLE, nibbles(&a.qs, &b.qs))
        }
        _ => unreachable!("no type of small blocks"),
    }
}

/// Adds sixteen where a bit is set.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn with_fifths(q: __m512i, a: [u8; 4], b: [u8; 4]) -> __m512i {
    let bits = u64::from(u32::from_le_bytes(a)) | u64::from(u32::from_le_bytes(b)) << 32;
    _mm512_mask_add_epi8(q, bits, q, _mm512_set1_epi8(16))
}

/// Low nibbles of `a`, high ones of `a`, low ones of `b`, high ones of `b`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn nibbles(a: &[u8; 16], b: &[u8; 16]) -> __m512i {
    let (a, b) = (load_u8x16(a), load_u8x16(b));
    let (a, b) = (
        _mm256_broadcastsi128_si256(a),
        _mm256_broadcastsi128_si256(b),
    );
    let distances = _mm512_set_epi64(4, 4, 0, 0, 4, 4, 0, 0);
    let shifted = _mm512_srlv_epi64(side_by_side(a, b), distances);
    _mm512_and_si512(shifted, _mm512_set1_epi8(0x0f))
}

/// Four registers of 32 bytes each, and the same bytes shifted by a nibble.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn halves(packed: &[u8; 128]) -> [__m512i; 4] {
    let mut q = [_mm512_setzero_si512(); 4];
    for (q, bytes) in q.iter_mut().zip(packed.as_chunks::<32>().0) {
        *q = shift(twice(bytes), [0, 4]);
    }
    q
}

/// The same 32 bytes in both halves.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn twice(bytes: &[u8; 32]) -> __m512i {
    _mm512_broadcast_i64x4(load_u8x32(bytes))
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn side_by_side(low: __m256i, high: __m256i) -> __m512i {
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
}

/// Shifts each half to the right by a distance of its own; bits cross bytes.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn shift(x: __m512i, [low, high]: [i32; 2]) -> __m512i {
    _mm512_srlv_epi32(x, by_half(low, high))
}

/// Rotates the dwords of each half to the left by a distance of its own; bits cross bytes.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn rotate(x: __m512i, [low, high]: [i32; 2]) -> __m512i {
    _mm512_rolv_epi32(x, by_half(low, high))
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn by_half(low: i32, high: i32) -> __m512i {
    side_by_side(_mm256_set1_epi32(low), _mm256_set1_epi32(high))
}

/// The bits of `low` where the mask is set in every byte, of `high` elsewhere.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn select(mask: i8, low: __m512i, high: __m512i) -> __m512i {
    const FIRST_CHOOSES: i32 = 0xca;
    _mm512_ternarylogic_epi32::<FIRST_CHOOSES>(_mm512_set1_epi8(mask), low, high)
}
