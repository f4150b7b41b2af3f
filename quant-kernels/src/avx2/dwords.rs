//! Sixteen dwords in two 256-bit registers.
//!
//! The methods are inlined into code compiled with the features (see [`super::tile`]); they
//! are reached in no other way, which is what every safety comment below refers to.
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

use crate::{dwords::Dwords, panel::ROWS};

/// Rows 0..8 and 8..16.
#[derive(Clone, Copy)]
pub(super) struct Wide(__m256i, __m256i);

/// Dword `c` of eight rows, from `first` on, in register `c`.
#[inline(always)]
fn eight_rows(rows: [&[u8; 16]; ROWS], first: usize) -> [__m256i; 4] {
    unsafe {
        // Register `j` holds rows j and 4 + j, so that the transposes within 128 bits leave
        // the rows in order.
        let mut x = [_mm256_setzero_si256(); 4];
        for j in 0..4 {
            let low = _mm_loadu_si128(rows[first + j].as_ptr().cast());
            let high = _mm_loadu_si128(rows[first + 4 + j].as_ptr().cast());
            x[j] = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(low), high);
        }
        let low = [
            _mm256_unpacklo_epi32(x[0], x[1]),
            _mm256_unpacklo_epi32(x[2], x[3]),
        ];
        let high = [
            _mm256_unpackhi_epi32(x[0], x[1]),
            _mm256_unpackhi_epi32(x[2], x[3]),
        ];
        [
            _mm256_unpacklo_epi64(low[0], low[1]),
            _mm256_unpackhi_epi64(low[0], low[1]),
            _mm256_unpacklo_epi64(high[0], high[1]),
            _mm256_unpackhi_epi64(high[0], high[1]),
        ]
    }
}

impl Dwords for Wide {
    const NIBBLES_STAY: bool = false;

    #[inline(always)]
    fn of_rows(rows: [&[u8; 16]; ROWS]) -> [Self; 4] {
        let [a, b, c, d] = eight_rows(rows, 0);
        let [e, f, g, h] = eight_rows(rows, 8);
        [Self(a, e), Self(b, f), Self(c, g), Self(d, h)]
    }
    #[inline(always)]
    fn load(bytes: &[u8; 64]) -> Self {
        let [low, high]: &[[u8; 32]; 2] = bytemuck::must_cast_ref(bytes);
        unsafe {
            Self(
                _mm256_loadu_si256(low.as_ptr().cast()),
                _mm256_loadu_si256(high.as_ptr().cast()),
            )
        }
    }
    #[inline(always)]
    fn store(self, out: &mut [u8; 64]) {
        let [low, high]: &mut [[u8; 32]; 2] = bytemuck::must_cast_mut(out);
        unsafe {
            _mm256_storeu_si256(low.as_mut_ptr().cast(), self.0);
            _mm256_storeu_si256(high.as_mut_ptr().cast(), self.1);
        }
    }
    #[inline(always)]
    fn splat(x: i32) -> Self {
        let x = unsafe { _mm256_set1_epi32(x) };
        Self(x, x)
    }
    #[inline(always)]
    fn and(self, other: Self) -> Self {
        unsafe {
            Self(
                _mm256_and_si256(self.0, other.0),
                _mm256_and_si256(self.1, other.1),
            )
        }
    }
    #[inline(always)]
    fn or(self, other: Self) -> Self {
        unsafe {
            Self(
                _mm256_or_si256(self.0, other.0),
                _mm256_or_si256(self.1, other.1),
            )
        }
    }
    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        unsafe {
            Self(
                _mm256_xor_si256(self.0, other.0),
                _mm256_xor_si256(self.1, other.1),
            )
        }
    }
    #[inline(always)]
    fn sub_bytes(self, other: Self) -> Self {
        unsafe {
            Self(
                _mm256_sub_epi8(self.0, other.0),
                _mm256_sub_epi8(self.1, other.1),
            )
        }
    }
    #[inline(always)]
    fn shift(self, left: i32) -> Self {
        unsafe {
            let distance = _mm_cvtsi32_si128(left.abs());
            if left < 0 {
                Self(
                    _mm256_srl_epi32(self.0, distance),
                    _mm256_srl_epi32(self.1, distance),
                )
            } else {
                Self(
                    _mm256_sll_epi32(self.0, distance),
                    _mm256_sll_epi32(self.1, distance),
                )
            }
        }
    }
    #[inline(always)]
    fn pick(self, places: [u8; 4]) -> Self {
        unsafe {
            let first = i32::from_ne_bytes(places);
            let order = _mm_add_epi8(
                _mm_set1_epi32(first),
                _mm_setr_epi32(0, 0x0404_0404, 0x0808_0808, 0x0c0c_0c0c),
            );
            let order = _mm256_broadcastsi128_si256(order);
            Self(
                _mm256_shuffle_epi8(self.0, order),
                _mm256_shuffle_epi8(self.1, order),
            )
        }
    }
    #[inline(always)]
    fn look_up(self, table: [u8; 16]) -> Self {
        let [low, high] = bytemuck::must_cast(table);
        unsafe {
            let table = _mm256_broadcastsi128_si256(_mm_set_epi64x(high, low));
            Self(
                _mm256_shuffle_epi8(table, self.0),
                _mm256_shuffle_epi8(table, self.1),
            )
        }
    }
    #[inline(always)]
    fn sixteen_where(self, mask: Self) -> Self {
        let both = self.and(mask);
        unsafe {
            let sixteen = _mm256_set1_epi8(16);
            Self(
                _mm256_and_si256(_mm256_cmpeq_epi8(both.0, mask.0), sixteen),
                _mm256_and_si256(_mm256_cmpeq_epi8(both.1, mask.1), sixteen),
            )
        }
    }
    /// In both words of a dword, for `vpmaddwd`.
    #[inline(always)]
    fn scale(self, i: u8) -> Self {
        let top = self.pick([128, i, 128, i]);
        unsafe { Self(_mm256_srai_epi16::<8>(top.0), _mm256_srai_epi16::<8>(top.1)) }
    }
    #[inline(always)]
    fn halves(self, out: &mut [f32; 16]) {
        let words = self.and(Self::splat(0xffff));
        let [low, high]: &mut [[f32; 8]; 2] = bytemuck::must_cast_mut(out);
        unsafe {
            let words = _mm256_packus_epi32(words.0, words.1);
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(words);
            let first = _mm256_cvtph_ps(_mm256_castsi256_si128(words));
            let second = _mm256_cvtph_ps(_mm256_extracti128_si256::<1>(words));
            _mm256_storeu_ps(low.as_mut_ptr(), first);
            _mm256_storeu_ps(high.as_mut_ptr(), second);
        }
    }
}
