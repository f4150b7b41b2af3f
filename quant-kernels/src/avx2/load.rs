//! References in, registers out: the only pointers of these kernels.
#![expect(
    unsafe_code,
    reason = "loads and stores take pointers, and what the compiler may not know is assembly"
)]

use std::arch::{asm, x86_64::*};

/// Loads 32 bytes.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn load_u8(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: `bytes` is valid for 32 reads; `loadu` has no alignment requirement.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// Looks codes up in a table of sixteen bytes; without one they are values already.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn look_up(table: Option<[u8; 16]>, codes: __m256i) -> __m256i {
    match table {
        Some(table) => {
            let [low, high] = bytemuck::must_cast(table);
            let table = _mm256_broadcastsi128_si256(_mm_set_epi64x(high, low));
            _mm256_shuffle_epi8(table, codes)
        }
        None => codes,
    }
}

/// Loads 32 signed bytes.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn load_i8(bytes: &[i8; 32]) -> __m256i {
    // SAFETY: `bytes` is valid for 32 reads; `loadu` has no alignment requirement.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// Loads sixteen signed bytes.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn load_i8x16(bytes: &[i8; 16]) -> __m128i {
    // SAFETY: `bytes` is valid for 16 reads; `loadu` has no alignment requirement.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

/// Loads sixteen bytes.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn load_u8x16(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: `bytes` is valid for 16 reads; `loadu` has no alignment requirement.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

/// Loads sixteen small integers.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn load_i16(x: &[i16; 16]) -> __m256i {
    // SAFETY: `x` is valid for 32 reads; `loadu` has no alignment requirement.
    unsafe { _mm256_loadu_si256(x.as_ptr().cast()) }
}

/// Loads eight small integers.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn load_i16x8(x: &[i16; 8]) -> __m128i {
    // SAFETY: `x` is valid for 16 reads; `loadu` has no alignment requirement.
    unsafe { _mm_loadu_si128(x.as_ptr().cast()) }
}

/// Loads eight floats.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn load_f32(x: &[f32; 8]) -> __m256 {
    // SAFETY: `x` is valid for 32 reads; `loadu` has no alignment requirement.
    unsafe { _mm256_loadu_ps(x.as_ptr()) }
}

/// Stores eight floats.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn store_f32(out: &mut [f32; 8], x: __m256) {
    // SAFETY: `out` is valid for 32 writes; `storeu` has no alignment requirement.
    unsafe { _mm256_storeu_ps(out.as_mut_ptr(), x) }
}

/// Asks memory for what lies `distance` bytes behind a block, a block's length of it.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn prefetch<B>(block: &B, distance: usize) {
    let start = std::ptr::from_ref(block)
        .cast::<i8>()
        .wrapping_add(distance);
    for line in 0..size_of::<B>().div_ceil(64) {
        // It reads nothing, so the address may be any.
        _mm_prefetch::<_MM_HINT_T1>(start.wrapping_add(64 * line));
    }
}

/// Returns `x`, and keeps from the compiler how it was made.
///
/// Sums of integers may be taken in any order, and the compiler does so: it forms trees of
/// products that no longer fit the registers, and spills. A sum that passes through here is
/// taken in the order of the code. It costs no instruction.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn in_order(mut x: __m256i) -> __m256i {
    // SAFETY: there is no instruction, and the register stays as it is.
    unsafe {
        asm!("/* {x} */", x = inout(ymm_reg) x, options(pure, nomem, nostack, preserves_flags));
    }
    x
}
