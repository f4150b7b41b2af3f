//! References in, registers out: the only pointers of these kernels.
#![expect(unsafe_code, reason = "loads and stores take pointers")]

use std::arch::x86_64::*;

/// Loads 64 bytes.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn load_u8(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: `bytes` is valid for 64 reads; `loadu` has no alignment requirement.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

/// Looks codes up in a table of sixteen bytes; without one they are values already.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
pub(super) fn look_up(table: Option<[u8; 16]>, codes: __m512i) -> __m512i {
    match table {
        Some(table) => _mm512_shuffle_epi8(_mm512_broadcast_i32x4(table_of(table)), codes),
        None => codes,
    }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn table_of(bytes: [u8; 16]) -> __m128i {
    let [low, high] = bytemuck::must_cast(bytes);
    _mm_set_epi64x(high, low)
}

/// Loads 64 signed bytes.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn load_i8(bytes: &[i8; 64]) -> __m512i {
    // SAFETY: `bytes` is valid for 64 reads; `loadu` has no alignment requirement.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

/// Loads sixteen integers.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn load_i32(x: &[i32; 16]) -> __m512i {
    // SAFETY: `x` is valid for 64 reads; `loadu` has no alignment requirement.
    unsafe { _mm512_loadu_si512(x.as_ptr().cast()) }
}

/// Loads eight integers.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn load_i32x8(x: &[i32; 8]) -> __m256i {
    // SAFETY: `x` is valid for 32 reads; `loadu` has no alignment requirement.
    unsafe { _mm256_loadu_si256(x.as_ptr().cast()) }
}

/// Loads sixteen pairs of small integers.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn load_pairs(x: &[[i16; 2]; 16]) -> __m512i {
    // SAFETY: `x` is valid for 64 reads; `loadu` has no alignment requirement.
    unsafe { _mm512_loadu_si512(x.as_ptr().cast()) }
}

/// Loads sixteen floats.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn load_f32(x: &[f32; 16]) -> __m512 {
    // SAFETY: `x` is valid for 64 reads; `loadu` has no alignment requirement.
    unsafe { _mm512_loadu_ps(x.as_ptr()) }
}

/// Loads sixteen small integers.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn load_i16(x: &[i16; 16]) -> __m256i {
    // SAFETY: `x` is valid for 32 reads; `loadu` has no alignment requirement.
    unsafe { _mm256_loadu_si256(x.as_ptr().cast()) }
}

/// Loads sixteen signed bytes.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn load_i8x16(bytes: &[i8; 16]) -> __m128i {
    // SAFETY: `bytes` is valid for 16 reads; `loadu` has no alignment requirement.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

/// Loads 32 bytes.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn load_u8x32(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: `bytes` is valid for 32 reads; `loadu` has no alignment requirement.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// Loads sixteen bytes.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn load_u8x16(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: `bytes` is valid for 16 reads; `loadu` has no alignment requirement.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

/// Loads eight small unsigned integers.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn load_u16x8(x: &[u16; 8]) -> __m128i {
    // SAFETY: `x` is valid for 16 reads; `loadu` has no alignment requirement.
    unsafe { _mm_loadu_si128(x.as_ptr().cast()) }
}

/// Loads eight small integers.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn load_i16x8(x: &[i16; 8]) -> __m128i {
    // SAFETY: `x` is valid for 16 reads; `loadu` has no alignment requirement.
    unsafe { _mm_loadu_si128(x.as_ptr().cast()) }
}

/// Stores sixteen integers.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn store_i32(out: &mut [i32; 16], x: __m512i) {
    // SAFETY: `out` is valid for 64 writes; `storeu` has no alignment requirement.
    unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), x) }
}

/// Stores sixteen floats.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn store_f32(out: &mut [f32; 16], x: __m512) {
    // SAFETY: `out` is valid for 64 writes; `storeu` has no alignment requirement.
    unsafe { _mm512_storeu_ps(out.as_mut_ptr(), x) }
}

/// Asks memory for `len` bytes, `distance` bytes behind the start of a block.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn prefetch<B>(block: &B, len: usize, distance: usize) {
    let start = std::ptr::from_ref(block)
        .cast::<i8>()
        .wrapping_add(distance);
    for line in 0..len.div_ceil(64) {
        // It reads nothing, so the address may be any.
        _mm_prefetch::<_MM_HINT_T1>(start.wrapping_add(64 * line));
    }
}
