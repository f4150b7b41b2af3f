//! Sixteen floats in one 512-bit register.
//!
//! The methods are inlined into code compiled with the features (see [`super::run`]); they
//! are reached in no other way, which is what every safety comment below refers to.
#![expect(
    unsafe_code,
    reason = "intrinsics in methods that cannot carry the feature attribute"
)]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "one operation of a lane type"
)]
#![expect(
    clippy::undocumented_unsafe_blocks,
    reason = "one reason for all, in the module docs"
)]

use std::arch::x86_64::*;

use crate::lanes::F32x16;

/// Lanes 0..16.
#[derive(Clone, Copy)]
pub(super) struct Lanes(__m512);

impl F32x16 for Lanes {
    #[inline(always)]
    fn prefetch(bytes: &[u8], offset: usize) {
        let line = bytes.as_ptr().wrapping_add(offset).cast();
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line) }
    }
    #[inline(always)]
    fn splat(x: f32) -> Self {
        unsafe { Self(_mm512_set1_ps(x)) }
    }
    #[inline(always)]
    fn load(x: &[f32; 16]) -> Self {
        unsafe { Self(_mm512_loadu_ps(x.as_ptr())) }
    }
    #[inline(always)]
    fn load_f16(x: &[u16; 16]) -> Self {
        unsafe { Self(_mm512_cvtph_ps(_mm256_loadu_si256(x.as_ptr().cast()))) }
    }
    #[inline(always)]
    fn load_bf16(x: &[u16; 16]) -> Self {
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(x.as_ptr().cast()));
            Self(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide)))
        }
    }
    #[inline(always)]
    fn load_i8(x: &[i8; 16]) -> Self {
        unsafe {
            let wide = _mm512_cvtepi8_epi32(_mm_loadu_si128(x.as_ptr().cast()));
            Self(_mm512_cvtepi32_ps(wide))
        }
    }
    #[inline(always)]
    fn load_columns(rows: [&[f32; 4]; 16]) -> [Self; 4] {
        unsafe {
            // Register `j` holds rows j, 4 + j, 8 + j and 12 + j, so that the transposes
            // within 128 bits leave the rows in order.
            let mut x = [_mm512_setzero_ps(); 4];
            for j in 0..4 {
                let row = _mm512_castps128_ps512(_mm_loadu_ps(rows[j].as_ptr()));
                let row = _mm512_insertf32x4::<1>(row, _mm_loadu_ps(rows[4 + j].as_ptr()));
                let row = _mm512_insertf32x4::<2>(row, _mm_loadu_ps(rows[8 + j].as_ptr()));
                x[j] = _mm512_insertf32x4::<3>(row, _mm_loadu_ps(rows[12 + j].as_ptr()));
            }
            let low = [
                _mm512_unpacklo_ps(x[0], x[1]),
                _mm512_unpacklo_ps(x[2], x[3]),
            ];
            let high = [
                _mm512_unpackhi_ps(x[0], x[1]),
                _mm512_unpackhi_ps(x[2], x[3]),
            ];
            [
                Self(_mm512_shuffle_ps::<0x44>(low[0], low[1])),
                Self(_mm512_shuffle_ps::<0xee>(low[0], low[1])),
                Self(_mm512_shuffle_ps::<0x44>(high[0], high[1])),
                Self(_mm512_shuffle_ps::<0xee>(high[0], high[1])),
            ]
        }
    }
    #[inline(always)]
    fn to_f16(self) -> [u16; 16] {
        unsafe {
            let mut halves = [0; 16];
            _mm256_storeu_si256(
                halves.as_mut_ptr().cast(),
                _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0),
            );
            halves
        }
    }
    #[inline(always)]
    fn to_u8(self) -> [u8; 16] {
        unsafe {
            let mut bytes = [0; 16];
            // What is no number becomes the lowest integer.
            let integers = _mm512_max_epi32(_mm512_cvtps_epi32(self.0), _mm512_setzero_si512());
            _mm_storeu_si128(bytes.as_mut_ptr().cast(), _mm512_cvtusepi32_epi8(integers));
            bytes
        }
    }
    #[inline(always)]
    fn store(self, out: &mut [f32; 16]) {
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), self.0) }
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        unsafe { Self(_mm512_add_ps(self.0, other.0)) }
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        unsafe { Self(_mm512_sub_ps(self.0, other.0)) }
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        unsafe { Self(_mm512_mul_ps(self.0, other.0)) }
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        unsafe { Self(_mm512_div_ps(self.0, other.0)) }
    }
    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        unsafe { Self(_mm512_fmadd_ps(self.0, factor.0, term.0)) }
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        unsafe { Self(_mm512_min_ps(self.0, other.0)) }
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        unsafe { Self(_mm512_max_ps(self.0, other.0)) }
    }
    #[inline(always)]
    fn round(self) -> Self {
        unsafe {
            Self(_mm512_roundscale_ps::<
                { _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC },
            >(self.0))
        }
    }
    #[inline(always)]
    fn exp2_int(self) -> Self {
        unsafe {
            let biased = _mm512_add_epi32(_mm512_cvttps_epi32(self.0), _mm512_set1_epi32(127));
            Self(_mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased)))
        }
    }
    #[inline(always)]
    fn zero_below(self, limit: Self, value: Self) -> Self {
        unsafe {
            let below = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.0, limit.0);
            Self(_mm512_mask_mov_ps(value.0, below, _mm512_setzero_ps()))
        }
    }
    #[inline(always)]
    fn pick(self, limit: Self, below: Self, other: Self) -> Self {
        unsafe {
            let mask = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.0, limit.0);
            Self(_mm512_mask_mov_ps(other.0, mask, below.0))
        }
    }
    #[inline(always)]
    fn first(self, n: usize, other: Self) -> Self {
        let mask = if n >= 16 { u16::MAX } else { (1u16 << n) - 1 };
        unsafe { Self(_mm512_mask_mov_ps(other.0, mask, self.0)) }
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        unsafe {
            let eight = _mm256_add_ps(
                _mm512_castps512_ps256(self.0),
                _mm512_extractf32x8_ps::<1>(self.0),
            );
            let four = _mm_add_ps(
                _mm256_castps256_ps128(eight),
                _mm256_extractf128_ps::<1>(eight),
            );
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }
}
