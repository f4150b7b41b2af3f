//! Sixteen dwords in a 512-bit register.
//!
//! The methods are inlined into code compiled with the features (see [`super::tile`]); they
//! are reached in no other way, which is what every safety comment below refers to.
#![expect(
    unsafe_code,
    reason = "intrinsics in methods that cannot carry the feature attribute"
)]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "steps of one operation"
)]
#![expect(
    clippy::undocumented_unsafe_blocks,
    reason = "one reason for all, in the module docs"
)]

use std::arch::x86_64::*;

use crate::{dwords::Dwords, panel::ROWS};

/// A row to a lane.
#[derive(Clone, Copy)]
pub(super) struct Wide(__m512i);

impl Dwords for Wide {
    const NIBBLES_STAY: bool = true;

    #[inline(always)]
    fn of_rows(rows: [&[u8; 16]; ROWS]) -> [Self; 4] {
        unsafe {
            // Register `j` holds rows j, 4 + j, 8 + j and 12 + j, so that the transposes
            // within 128 bits leave the rows in order.
            let mut x = [_mm512_setzero_si512(); 4];
            for j in 0..4 {
                let row = _mm512_castsi128_si512(_mm_loadu_si128(rows[j].as_ptr().cast()));
                let second = _mm_loadu_si128(rows[4 + j].as_ptr().cast());
                let row = _mm512_inserti32x4::<1>(row, second);
                let third = _mm_loadu_si128(rows[8 + j].as_ptr().cast());
                let row = _mm512_inserti32x4::<2>(row, third);
                let fourth = _mm_loadu_si128(rows[12 + j].as_ptr().cast());
                x[j] = _mm512_inserti32x4::<3>(row, fourth);
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
                Self(_mm512_unpacklo_epi64(low[0], low[1])),
                Self(_mm512_unpackhi_epi64(low[0], low[1])),
                Self(_mm512_unpacklo_epi64(high[0], high[1])),
                Self(_mm512_unpackhi_epi64(high[0], high[1])),
            ]
        }
    }
    #[inline(always)]
    fn load(bytes: &[u8; 64]) -> Self {
        unsafe { Self(_mm512_loadu_si512(bytes.as_ptr().cast())) }
    }
    #[inline(always)]
    fn store(self, out: &mut [u8; 64]) {
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), self.0) }
    }
    #[inline(always)]
    fn splat(x: i32) -> Self {
        unsafe { Self(_mm512_set1_epi32(x)) }
    }
    #[inline(always)]
    fn and(self, other: Self) -> Self {
        unsafe { Self(_mm512_and_si512(self.0, other.0)) }
    }
    #[inline(always)]
    fn or(self, other: Self) -> Self {
        unsafe { Self(_mm512_or_si512(self.0, other.0)) }
    }
    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        unsafe { Self(_mm512_xor_si512(self.0, other.0)) }
    }
    #[inline(always)]
    fn sub_bytes(self, other: Self) -> Self {
        unsafe { Self(_mm512_sub_epi8(self.0, other.0)) }
    }
    #[inline(always)]
    fn shift(self, left: i32) -> Self {
        unsafe {
            let distance = _mm_cvtsi32_si128(left.abs());
            if left < 0 {
                Self(_mm512_srl_epi32(self.0, distance))
            } else {
                Self(_mm512_sll_epi32(self.0, distance))
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
            Self(_mm512_shuffle_epi8(self.0, _mm512_broadcast_i32x4(order)))
        }
    }
    #[inline(always)]
    fn look_up(self, table: [u8; 16]) -> Self {
        let [low, high] = bytemuck::must_cast(table);
        unsafe {
            let table = _mm512_broadcast_i32x4(_mm_set_epi64x(high, low));
            Self(_mm512_shuffle_epi8(table, self.0))
        }
    }
    #[inline(always)]
    fn sixteen_where(self, mask: Self) -> Self {
        unsafe {
            let all = _mm512_cmpeq_epi8_mask(_mm512_and_si512(self.0, mask.0), mask.0);
            Self(_mm512_maskz_set1_epi8(all, 16))
        }
    }
    /// Widened to a dword, for `vpmulld`.
    #[inline(always)]
    fn scale(self, i: u8) -> Self {
        let top = self.shift(24 - 8 * i32::from(i));
        unsafe { Self(_mm512_srai_epi32::<24>(top.0)) }
    }
    #[inline(always)]
    fn halves(self, out: &mut [f32; 16]) {
        unsafe {
            let halves = _mm512_cvtepi32_epi16(self.0);
            _mm512_storeu_ps(out.as_mut_ptr(), _mm512_cvtph_ps(halves));
        }
    }
}
