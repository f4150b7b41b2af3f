//! Blocks of 256 weights times 256 activations: the integer sums.
//!
//! `vpdpbusd` leaves sums of four products. Where these fit 16 bits, two registers are
//! packed into one and `vpdpwssd` applies the scales and adds; else `vpmulld` does.

use std::arch::x86_64::*;

use crate::{
    QuantType,
    activations::ActSuper,
    avx512::{
        load::{load_i8, load_i8x16, load_i16, load_i16x8, load_u8},
        quants,
        row::Factors,
    },
    blocks::{
        BlockIq4Xs, BlockQ2K, BlockQ3K, BlockQ4K, BlockQ5K, BlockQ6K, F16Le, SuperBlock,
        UnpackedSuper, scale_min, unpack_scales,
    },
};

/// How the factors of a type wait.
pub(super) const fn kind<B: SuperBlock>() -> Factors {
    if quants::is_known::<B>() {
        Factors::Halves
    } else {
        Factors::Floats
    }
}

/// The integer sums of a block: in four lanes parts of the products times the scales, in the
/// other four parts of the sums of activations times the minimums. What the zero point adds
/// is taken off.
pub(super) type SuperParts = __m256i;

/// Multiplies a block with the blocks of `N` tokens; returns also its factors as they wait
/// for the float part.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
#[inline]
pub(super) fn parts<B: SuperBlock, const N: usize>(
    block: &B,
    x: [&ActSuper; N],
) -> ([SuperParts; N], [u32; 2]) {
    if !quants::is_known::<B>() {
        let mut w = UnpackedSuper::ZEROED;
        block.unpack(&mut w);
        let (scales, mins) = (load_i8x16(&w.scales), load_i8x16(&w.mins));
        let sums = sums::<B, N>(&quants::in_memory(&w), scales, mins, x);
        return (sums, [w.d.to_bits(), w.dmin.to_bits()]);
    }
    let (scales, mins, factors) = header(block);
    let sums = sums::<B, N>(&quants::superblock(block), scales, mins, x);
    (sums, [factors, 0])
}

/// The sums of integers with scales and minimums, sixteen bytes or eight.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
#[inline]
fn sums<B: SuperBlock, const N: usize>(
    q: &[__m512i; 4],
    scales: __m128i,
    mins: __m128i,
    x: [&ActSuper; N],
) -> [SuperParts; N] {
    let scales = _mm256_cvtepi8_epi16(scales);
    let mut out = [_mm256_setzero_si256(); N];
    for t in 0..N {
        let x_sums = if B::SUB == 16 {
            load_i16(&x[t].sums16)
        } else {
            _mm256_zextsi128_si256(load_i16x8(&x[t].sums32))
        };
        let mut sum = _mm512_setzero_si512();
        if B::ZERO != 0 {
            let zeros = _mm256_mullo_epi16(scales, _mm256_set1_epi16(-B::ZERO as i16));
            sum = _mm512_zextsi256_si512(_mm256_madd_epi16(zeros, x_sums));
        }
        let sum = quarter(products::<B>(q, scales, x[t], sum));
        out[t] = if B::HAS_MIN {
            _mm256_set_m128i(min_sum::<B>(mins, x_sums), sum)
        } else {
            _mm256_zextsi128_si256(sum)
        };
    }
    out
}

/// Adds the lanes of a register four by four.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
#[inline]
fn quarter(x: __m512i) -> __m128i {
    let x = _mm256_add_epi32(_mm512_castsi512_si256(x), _mm512_extracti32x8_epi32::<1>(x));
    _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256::<1>(x))
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
#[inline]
fn min_sum<B: SuperBlock>(mins: __m128i, x_sums: __m256i) -> __m128i {
    if B::SUB == 32 {
        return _mm_madd_epi16(_mm_cvtepi8_epi16(mins), _mm256_castsi256_si128(x_sums));
    }
    let sums = _mm256_madd_epi16(_mm256_cvtepi8_epi16(mins), x_sums);
    _mm_add_epi32(
        _mm256_castsi256_si128(sums),
        _mm256_extracti128_si256::<1>(sums),
    )
}

/// `sum + Σ scale · Σ q · x`, spread over lanes; the scales are sixteen words.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
#[inline]
fn products<B: SuperBlock>(
    q: &[__m512i; 4],
    scales: __m256i,
    x: &ActSuper,
    mut sum: __m512i,
) -> __m512i {
    /// The largest integer of which four products fit 16 bits.
    const NARROW: i32 = i16::MAX as i32 / (4 * 127);
    let mut parts = *q;
    for i in 0..4 {
        let x = load_i8(&x.q.as_chunks::<64>().0[i]);
        parts[i] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), q[i], x);
    }
    if B::MAX <= NARROW {
        let scales = _mm512_castsi256_si512(scales);
        for half in 0..2 {
            let places = load_u8(&bytemuck::must_cast(const { narrow_places(B::SUB) }[half]));
            let scale = _mm512_permutexvar_epi16(places, scales);
            let packed = _mm512_packs_epi32(parts[2 * half], parts[2 * half + 1]);
            sum = _mm512_dpwssd_epi32(sum, packed, scale);
        }
    } else {
        let scales = _mm512_cvtepi16_epi32(scales);
        for i in 0..4 {
            let places = load_u8(&bytemuck::must_cast(const { wide_places(B::SUB) }[i]));
            let scale = _mm512_permutexvar_epi32(places, scales);
            sum = _mm512_add_epi32(sum, _mm512_mullo_epi32(parts[i], scale));
        }
    }
    sum
}

/// Which scale each word needs after two registers of sums were packed: a lane of 128 bits
/// holds four of the first and four of the second, and a sum stands for four weights.
const fn narrow_places(sub: usize) -> [[u16; 32]; 2] {
    let mut places = [[0; 32]; 2];
    let mut i = 0;
    while i < 64 {
        let (half, lane, second) = (i / 32, i % 32 / 8, i % 8 / 4);
        let first_weight = 64 * (2 * half + second) + 16 * lane;
        places[half][i % 32] = (first_weight / sub) as u16;
        i += 1;
    }
    places
}

/// Which scale each sum of four products needs.
const fn wide_places(sub: usize) -> [[u32; 16]; 4] {
    let mut places = [[0; 16]; 4];
    let mut i = 0;
    while i < 64 {
        places[i / 16][i % 16] = (4 * i / sub) as u32;
        i += 1;
    }
    places
}

/// Reads scales, minimums and factors of a format that [`quants`] knows. The integers come
/// on their own: in one function both would be too much for the compiler to make it part
/// of its callers.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
#[inline]
fn header<B: SuperBlock>(block: &B) -> (__m128i, __m128i, u32) {
    let none = _mm_setzero_si128();
    match B::TYPE {
        QuantType::Q2_K => {
            let block: &BlockQ2K = bytemuck::cast_ref(block);
            let both = load_i8x16(bytemuck::must_cast_ref(&block.scales));
            let nibble = _mm_set1_epi8(15);
            let mins = _mm_and_si128(_mm_srli_epi16::<4>(both), nibble);
            (_mm_and_si128(both, nibble), mins, pair(block.d, block.dmin))
        }
        QuantType::Q3_K => {
            let block: &BlockQ3K = bytemuck::cast_ref(block);
            let scales = unpack_scales(&block.scales);
            let scales = load_i8x16(bytemuck::must_cast_ref(&scales));
            let scales = _mm_sub_epi8(scales, _mm_set1_epi8(32));
            (scales, none, block.d.to_bits().into())
        }
        QuantType::Q4_K => {
            let block: &BlockQ4K = bytemuck::cast_ref(block);
            affine(&block.scales, block.d, block.dmin)
        }
        QuantType::Q5_K => {
            let block: &BlockQ5K = bytemuck::cast_ref(block);
            affine(&block.scales, block.d, block.dmin)
        }
        QuantType::Q6_K => {
            let block: &BlockQ6K = bytemuck::cast_ref(block);
            (load_i8x16(&block.scales), none, block.d.to_bits().into())
        }
        _ => {
            let block: &BlockIq4Xs = bytemuck::cast_ref(block);
            (iq4_xs_scales(block), none, block.d.to_bits().into())
        }
    }
}

/// Eight scales of `IQ4_XS`, as [`BlockIq4Xs`] lays them out.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
#[inline]
fn iq4_xs_scales(block: &BlockIq4Xs) -> __m128i {
    let low = _mm256_set1_epi32(i32::from_le_bytes(block.scales_l));
    let high = _mm256_set1_epi32(u16::from_le_bytes(block.scales_h).into());
    let low = _mm256_srlv_epi32(low, _mm256_set_epi32(28, 24, 20, 16, 12, 8, 4, 0));
    let high = _mm256_srlv_epi32(high, _mm256_set_epi32(14, 12, 10, 8, 6, 4, 2, 0));
    let low = _mm256_and_si256(low, _mm256_set1_epi32(0x0f));
    let high = _mm256_and_si256(_mm256_slli_epi32::<4>(high), _mm256_set1_epi32(0x30));
    let scale = _mm256_or_si256(low, high);
    _mm256_cvtepi32_epi8(_mm256_sub_epi32(scale, _mm256_set1_epi32(32)))
}

/// The header of `Q4_K` and `Q5_K`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
#[inline]
fn affine(packed: &[u8; 12], d: F16Le, dmin: F16Le) -> (__m128i, __m128i, u32) {
    let [scales, mins] = scale_min(packed);
    (load_i8x16(&scales), load_i8x16(&mins), pair(d, dmin))
}

fn pair(d: F16Le, dmin: F16Le) -> u32 {
    u32::from(d.to_bits()) | u32::from(dmin.to_bits()) << 16
}
