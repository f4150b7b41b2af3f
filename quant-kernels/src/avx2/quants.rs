//! The stored integers of common superblocks, unpacked in registers.
//!
//! The products of a row in place begin here. Eight registers hold 32 integers each, in the
//! order of the weights.

use std::arch::x86_64::*;

use super::load::load_u8;
use crate::{
    QuantType,
    blocks::{BlockQ4K, BlockQ5K, BlockQ6K, SuperBlock},
};

/// Unpacks a block of one of these formats.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn superblock<B: SuperBlock>(block: &B) -> [__m256i; 8] {
    match B::TYPE {
        QuantType::Q4_K => q4_k(bytemuck::cast_ref(block)),
        QuantType::Q5_K => q5_k(bytemuck::cast_ref(block)),
        QuantType::Q6_K => q6_k(bytemuck::cast_ref(block)),
        _ => unreachable!("asked for before"),
    }
}

/// Low nibbles of 32 bytes are one sub-block of 32, high ones the next.
#[target_feature(enable = "avx2")]
#[inline]
fn q4_k(block: &BlockQ4K) -> [__m256i; 8] {
    nibbles(&block.qs)
}

/// As `Q4_K`, with a fifth bit from bit `s` of 32 bytes for sub-block `s`.
#[target_feature(enable = "avx2")]
#[inline]
fn q5_k(block: &BlockQ5K) -> [__m256i; 8] {
    let mut q = nibbles(&block.qs);
    let mut fifths = load_u8(&block.qh);
    let bit = _mm256_set1_epi8(1);
    for q in &mut q {
        let fifth = _mm256_slli_epi16::<4>(_mm256_and_si256(fifths, bit));
        *q = _mm256_or_si256(*q, fifth);
        fifths = _mm256_srli_epi16::<1>(fifths);
    }
    q
}

/// Four low bits of each half from 64 bytes, two high ones from 32.
#[target_feature(enable = "avx2")]
#[inline]
fn q6_k(block: &BlockQ6K) -> [__m256i; 8] {
    let bits = _mm256_set1_epi8(0x30);
    let mut q = [bits; 8];
    for half in 0..2 {
        let low = &block.ql.as_chunks::<32>().0[2 * half..];
        let [first, third] = split(load_u8(&low[0]));
        let [second, fourth] = split(load_u8(&low[1]));
        let high = load_u8(&block.qh.as_chunks::<32>().0[half]);
        let quarters = [
            (first, _mm256_slli_epi16::<4>(high)),
            (second, _mm256_slli_epi16::<2>(high)),
            (third, high),
            (fourth, _mm256_srli_epi16::<2>(high)),
        ];
        for (i, (low, high)) in quarters.into_iter().enumerate() {
            q[4 * half + i] = _mm256_or_si256(low, _mm256_and_si256(high, bits));
        }
    }
    q
}

#[target_feature(enable = "avx2")]
#[inline]
fn nibbles(packed: &[u8; 128]) -> [__m256i; 8] {
    let mut q = [_mm256_setzero_si256(); 8];
    for pair in 0..4 {
        let [low, high] = split(load_u8(&packed.as_chunks::<32>().0[pair]));
        (q[2 * pair], q[2 * pair + 1]) = (low, high);
    }
    q
}

/// Splits bytes into low and high nibbles.
#[target_feature(enable = "avx2")]
#[inline]
fn split(packed: __m256i) -> [__m256i; 2] {
    let nibble = _mm256_set1_epi8(15);
    [
        _mm256_and_si256(packed, nibble),
        _mm256_and_si256(_mm256_srli_epi16::<4>(packed), nibble),
    ]
}
