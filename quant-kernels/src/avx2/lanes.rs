//! Sixteen floats in two 256-bit registers.
//!
//! The methods are inlined into code compiled with the features (see [`super::run`]);
//! they are reached in no other way, which is what every safety comment below refers to.
#![expect(
    unsafe_code,
    reason = "intrinsics in methods that cannot carry the feature attribute"
)]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "two halves of one operation"
)]
#![expect(
    clippy::undocumented_unsafe_blocks,
    reason = "one reason for all, in the module docs"
)]

use std::arch::x86_64::*;

use crate::lanes::F32x16;

/// Lanes 0..8 and 8..16.
#[derive(Clone, Copy)]
pub(super) struct Lanes(__m256, __m256);

/// Four columns of eight rows, from `first` on.
#[inline(always)]
fn eight_rows(rows: [&[f32; 4]; 16], first: usize) -> [__m256; 4] {
    unsafe {
        // Register `j` holds rows j and 4 + j, so that the transposes within 128 bits leave
        // the rows in order.
        let mut x = [_mm256_setzero_ps(); 4];
        for j in 0..4 {
            let low = _mm_loadu_ps(rows[first + j].as_ptr());
            let high = _mm_loadu_ps(rows[first + 4 + j].as_ptr());
            x[j] = _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(low), high);
        }
        let low = [
            _mm256_unpacklo_ps(x[0], x[1]),
            _mm256_unpacklo_ps(x[2], x[3]),
        ];
        let high = [
            _mm256_unpackhi_ps(x[0], x[1]),
            _mm256_unpackhi_ps(x[2], x[3]),
        ];
        [
            _mm256_shuffle_ps::<0x44>(low[0], low[1]),
            _mm256_shuffle_ps::<0xee>(low[0], low[1]),
            _mm256_shuffle_ps::<0x44>(high[0], high[1]),
            _mm256_shuffle_ps::<0xee>(high[0], high[1]),
        ]
    }
}

impl F32x16 for Lanes {
    const SUMS: usize = 4;

    #[inline(always)]
    fn prefetch(bytes: &[u8], offset: usize) {
        let line = bytes.as_ptr().wrapping_add(offset).cast();
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line) }
    }
    #[inline(always)]
    fn splat(x: f32) -> Self {
        let x = unsafe { _mm256_set1_ps(x) };
        Self(x, x)
    }
    #[inline(always)]
    fn load(x: &[f32; 16]) -> Self {
        unsafe {
            Self(
                _mm256_loadu_ps(x.as_ptr()),
                _mm256_loadu_ps(x.as_ptr().add(8)),
            )
        }
    }
    #[inline(always)]
    fn load_f16(x: &[u16; 16]) -> Self {
        unsafe {
            let halves = x.as_ptr().cast::<__m128i>();
            Self(
                _mm256_cvtph_ps(_mm_loadu_si128(halves)),
                _mm256_cvtph_ps(_mm_loadu_si128(halves.add(1))),
            )
        }
    }
    #[inline(always)]
    fn load_bf16(x: &[u16; 16]) -> Self {
        unsafe {
            let halves = x.as_ptr().cast::<__m128i>();
            let low = _mm256_cvtepu16_epi32(_mm_loadu_si128(halves));
            let high = _mm256_cvtepu16_epi32(_mm_loadu_si128(halves.add(1)));
            Self(
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(low)),
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(high)),
            )
        }
    }
    #[inline(always)]
    fn load_i8(x: &[i8; 16]) -> Self {
        unsafe {
            let bytes = _mm_loadu_si128(x.as_ptr().cast());
            Self(
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)),
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128::<8>(bytes))),
            )
        }
    }
    #[inline(always)]
    fn load_columns(rows: [&[f32; 4]; 16]) -> [Self; 4] {
        let (low, high) = (eight_rows(rows, 0), eight_rows(rows, 8));
        [
            Self(low[0], high[0]),
            Self(low[1], high[1]),
            Self(low[2], high[2]),
            Self(low[3], high[3]),
        ]
    }
    #[inline(always)]
    fn to_f16(self) -> [u16; 16] {
        unsafe {
            let low = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0);
            let high = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.1);
            let mut halves = [0; 16];
            _mm256_storeu_si256(halves.as_mut_ptr().cast(), _mm256_set_m128i(high, low));
            halves
        }
    }
    #[inline(always)]
    fn to_u8(self) -> [u8; 16] {
        unsafe {
            // What is no number becomes the lowest integer, and packs keep to their range.
            let words = _mm256_packs_epi32(_mm256_cvtps_epi32(self.0), _mm256_cvtps_epi32(self.1));
            // They work within 128 bits.
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(words);
            let bytes = _mm_packus_epi16(
                _mm256_castsi256_si128(words),
                _mm256_extracti128_si256::<1>(words),
            );
            let mut out = [0; 16];
            _mm_storeu_si128(out.as_mut_ptr().cast(), bytes);
            out
        }
    }
    #[inline(always)]
    fn store(self, out: &mut [f32; 16]) {
        unsafe {
            _mm256_storeu_ps(out.as_mut_ptr(), self.0);
            _mm256_storeu_ps(out.as_mut_ptr().add(8), self.1);
        }
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        unsafe {
            Self(
                _mm256_add_ps(self.0, other.0),
                _mm256_add_ps(self.1, other.1),
            )
        }
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        unsafe {
            Self(
                _mm256_sub_ps(self.0, other.0),
                _mm256_sub_ps(self.1, other.1),
            )
        }
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        unsafe {
            Self(
                _mm256_mul_ps(self.0, other.0),
                _mm256_mul_ps(self.1, other.1),
            )
        }
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        unsafe {
            Self(
                _mm256_div_ps(self.0, other.0),
                _mm256_div_ps(self.1, other.1),
            )
        }
    }
    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        unsafe {
            Self(
                _mm256_fmadd_ps(self.0, factor.0, term.0),
                _mm256_fmadd_ps(self.1, factor.1, term.1),
            )
        }
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        unsafe {
            Self(
                _mm256_min_ps(self.0, other.0),
                _mm256_min_ps(self.1, other.1),
            )
        }
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        unsafe {
            Self(
                _mm256_max_ps(self.0, other.0),
                _mm256_max_ps(self.1, other.1),
            )
        }
    }
    #[inline(always)]
    fn round(self) -> Self {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        unsafe {
            Self(
                _mm256_round_ps::<NEAREST>(self.0),
                _mm256_round_ps::<NEAREST>(self.1),
            )
        }
    }
    #[inline(always)]
    fn exp2_int(self) -> Self {
        unsafe {
            let bias = _mm256_set1_epi32(127);
            let low = _mm256_add_epi32(_mm256_cvttps_epi32(self.0), bias);
            let high = _mm256_add_epi32(_mm256_cvttps_epi32(self.1), bias);
            Self(
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(low)),
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(high)),
            )
        }
    }
    #[inline(always)]
    fn zero_below(self, limit: Self, value: Self) -> Self {
        unsafe {
            Self(
                _mm256_andnot_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(self.0, limit.0), value.0),
                _mm256_andnot_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(self.1, limit.1), value.1),
            )
        }
    }
    #[inline(always)]
    fn pick(self, limit: Self, below: Self, other: Self) -> Self {
        unsafe {
            let (lo, hi) = (
                _mm256_cmp_ps::<_CMP_LT_OQ>(self.0, limit.0),
                _mm256_cmp_ps::<_CMP_LT_OQ>(self.1, limit.1),
            );
            Self(
                _mm256_blendv_ps(other.0, below.0, lo),
                _mm256_blendv_ps(other.1, below.1, hi),
            )
        }
    }
    #[inline(always)]
    fn first(self, n: usize, other: Self) -> Self {
        const INDEX: [i32; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
        unsafe {
            let n = _mm256_set1_epi32(n.min(16) as i32);
            let lo = _mm256_cmpgt_epi32(n, _mm256_loadu_si256(INDEX.as_ptr().cast()));
            let hi = _mm256_cmpgt_epi32(n, _mm256_loadu_si256(INDEX.as_ptr().add(8).cast()));
            Self(
                _mm256_blendv_ps(other.0, self.0, _mm256_castsi256_ps(lo)),
                _mm256_blendv_ps(other.1, self.1, _mm256_castsi256_ps(hi)),
            )
        }
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        unsafe {
            let eight = _mm256_add_ps(self.0, self.1);
            let four = _mm_add_ps(
                _mm256_castps256_ps128(eight),
                _mm256_extractf128_ps::<1>(eight),
            );
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }
    #[inline(always)]
    fn largest(self) -> f32 {
        unsafe {
            let eight = _mm256_max_ps(self.0, self.1);
            let four = _mm_max_ps(
                _mm256_castps256_ps128(eight),
                _mm256_extractf128_ps::<1>(eight),
            );
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        }
    }
}
