//! Blocks of 256 weights times 256 activations: the integer sums, by format.
//!
//! Sixteen or thirty-two weights share a scale. `maddubs` adds products in pairs, which fit
//! 16 bits in every format; `madd` then applies the scale and adds pairs again.

use std::arch::x86_64::*;

use super::Factors;
use crate::{
    QuantType,
    activations::ActSuper,
    avx2::{
        load::{load_i8, load_i8x16, load_i16, load_i16x8, load_u8, look_up},
        quants,
        row::small_block::nibbles,
        tile::{is_signed, products, zero_point},
    },
    blocks::{
        BlockIq4Xs, BlockQ4K, BlockQ5K, BlockQ6K, F16Le, IQ4_VALUES, SuperBlock, UnpackedSuper,
        scale_min,
    },
};

/// The integer sums of a block, spread over lanes.
#[derive(Clone, Copy)]
pub(super) struct SuperParts {
    /// Products, times the scales.
    pub(super) sum: __m256i,
    /// Sums of activations, times the minimums.
    pub(super) min_sum: __m128i,
}

impl SuperParts {
    #[target_feature(enable = "avx2")]
    #[inline]
    pub(super) fn zero() -> Self {
        Self {
            sum: _mm256_setzero_si256(),
            min_sum: _mm_setzero_si128(),
        }
    }
}

/// How the factors of a type wait.
pub(super) const fn kind<B: SuperBlock>() -> Factors {
    match B::TYPE {
        QuantType::Q4_K | QuantType::Q5_K | QuantType::Q6_K | QuantType::IQ4_XS => Factors::Halves,
        _ => Factors::Floats,
    }
}

/// Multiplies a block with the blocks of `N` tokens; returns also the factors as they wait
/// for the float part.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn parts<B: SuperBlock, const N: usize>(
    block: &B,
    x: [&ActSuper; N],
) -> ([SuperParts; N], [u32; 2]) {
    match B::TYPE {
        QuantType::Q4_K => {
            let BlockQ4K {
                d, dmin, scales, ..
            } = bytemuck::cast_ref(block);
            affine(quants::superblock(block), scales, [*d, *dmin], x)
        }
        QuantType::Q5_K => {
            let BlockQ5K {
                d, dmin, scales, ..
            } = bytemuck::cast_ref(block);
            affine(quants::superblock(block), scales, [*d, *dmin], x)
        }
        QuantType::Q6_K => q6_k(bytemuck::cast_ref(block), x),
        QuantType::IQ4_XS => iq4_xs(bytemuck::cast_ref(block), x),
        _ => through_memory(block, x),
    }
}

/// `Q4_K` and `Q5_K`: scales and minimums of sub-blocks of 32.
#[target_feature(enable = "avx2")]
#[inline]
fn affine<const N: usize>(
    q: [__m256i; 8],
    header: &[u8; 12],
    [d, dmin]: [F16Le; 2],
    x: [&ActSuper; N],
) -> ([SuperParts; N], [u32; 2]) {
    let header = AffineHeader::new(header);
    let mut out = [SuperParts::zero(); N];
    for s in 0..8 {
        let scale = header.scale(s);
        for t in 0..N {
            let x = load_i8(&x[t].q.as_chunks::<32>().0[s]);
            out[t].sum = scaled(out[t].sum, q[s], x, scale);
        }
    }
    for t in 0..N {
        out[t].min_sum = _mm_madd_epi16(header.mins, load_i16x8(&x[t].sums32));
    }
    let factors = u32::from(d.to_bits()) | u32::from(dmin.to_bits()) << 16;
    (out, [factors, 0])
}

/// `Q6_K`: sub-blocks of 16. What the zero point adds is 32 times the scaled sums of the
/// activations, and is taken off here.
#[target_feature(enable = "avx2")]
#[inline]
fn q6_k<const N: usize>(block: &BlockQ6K, x: [&ActSuper; N]) -> ([SuperParts; N], [u32; 2]) {
    let q = quants::superblock(block);
    let scales = _mm256_cvtepi8_epi16(load_i8x16(&block.scales));
    let halves = [
        _mm256_permute2x128_si256::<0x00>(scales, scales),
        _mm256_permute2x128_si256::<0x11>(scales, scales),
    ];
    let mut out = [SuperParts::zero(); N];
    for i in 0..8 {
        let scale = pair_of_scales(halves[i / 4], i % 4);
        for t in 0..N {
            let x = load_i8(&x[t].q.as_chunks::<32>().0[i]);
            out[t].sum = scaled(out[t].sum, q[i], x, scale);
        }
    }
    for t in 0..N {
        let zeros = _mm256_slli_epi32::<5>(_mm256_madd_epi16(scales, load_i16(&x[t].sums16)));
        out[t].sum = _mm256_sub_epi32(out[t].sum, zeros);
    }
    (out, [block.d.to_bits().into(), 0])
}

/// `IQ4_XS`: nibbles are codes of signed values, multiplied by magnitude and sign.
#[target_feature(enable = "avx2")]
#[inline]
fn iq4_xs<const N: usize>(block: &BlockIq4Xs, x: [&ActSuper; N]) -> ([SuperParts; N], [u32; 2]) {
    let scales = block.scales();
    let mut out = [SuperParts::zero(); N];
    for s in 0..8 {
        let values = look_up(Some(bytemuck::must_cast(IQ4_VALUES)), nibbles(&block.qs[s]));
        let magnitudes = _mm256_abs_epi8(values);
        let scale = _mm256_set1_epi16(scales[s].into());
        for t in 0..N {
            let x = load_i8(&x[t].q.as_chunks::<32>().0[s]);
            let x = _mm256_sign_epi8(x, values);
            out[t].sum = scaled(out[t].sum, magnitudes, x, scale);
        }
    }
    (out, [block.d.to_bits().into(), 0])
}

/// The other formats: unpacked to bytes by portable code, which the compiler vectorises.
#[target_feature(enable = "avx2")]
#[inline]
fn through_memory<B: SuperBlock, const N: usize>(
    block: &B,
    x: [&ActSuper; N],
) -> ([SuperParts; N], [u32; 2]) {
    let mut w = UnpackedSuper::ZEROED;
    block.unpack_codes(&mut w);
    let mut out = [SuperParts::zero(); N];
    for i in 0..8 {
        let q = look_up(B::TABLE, load_u8(&w.q.as_chunks::<32>().0[i]));
        let scale = if B::SUB == 16 {
            let (low, high) = (w.scales[2 * i], w.scales[2 * i + 1]);
            _mm256_set_m128i(_mm_set1_epi16(high.into()), _mm_set1_epi16(low.into()))
        } else {
            _mm256_set1_epi16(w.scales[i].into())
        };
        for t in 0..N {
            let x = load_i8(&x[t].q.as_chunks::<32>().0[i]);
            let pairs = if is_signed(B::ZERO) {
                products::<true>(q, x)
            } else {
                products::<false>(q, x)
            };
            out[t].sum = _mm256_add_epi32(out[t].sum, _mm256_madd_epi16(pairs, scale));
        }
    }
    let mins = _mm256_cvtepi8_epi16(load_i8x16(if B::HAS_MIN { &w.mins } else { &w.scales }));
    for t in 0..N {
        let x_sums = if B::SUB == 16 {
            load_i16(&x[t].sums16)
        } else {
            _mm256_zextsi128_si256(load_i16x8(&x[t].sums32))
        };
        let min_sums = _mm256_madd_epi16(mins, x_sums);
        if B::HAS_MIN {
            out[t].min_sum = _mm_add_epi32(
                _mm256_castsi256_si128(min_sums),
                _mm256_extracti128_si256::<1>(min_sums),
            );
        } else {
            let zero = _mm256_set1_epi32(zero_point(B::ZERO));
            out[t].sum = _mm256_sub_epi32(out[t].sum, _mm256_mullo_epi32(min_sums, zero));
        }
    }
    (out, [w.d.to_bits(), w.dmin.to_bits()])
}

/// The scales and minimums of `Q4_K` and `Q5_K`, widened.
struct AffineHeader {
    /// Each of the first and last four scales twice.
    doubled: [__m256i; 2],
    mins: __m128i,
}

impl AffineHeader {
    #[target_feature(enable = "avx2")]
    #[inline]
    fn new(packed: &[u8; 12]) -> Self {
        let [scales, mins] = scale_min(packed);
        let scales = _mm_cvtepi8_epi16(load_i8x16(&scales));
        let doubled = [
            _mm_unpacklo_epi16(scales, scales),
            _mm_unpackhi_epi16(scales, scales),
        ];
        Self {
            doubled: [
                _mm256_broadcastsi128_si256(doubled[0]),
                _mm256_broadcastsi128_si256(doubled[1]),
            ],
            mins: _mm_cvtepi8_epi16(load_i8x16(&mins)),
        }
    }

    /// Returns the scale of a sub-block in all lanes.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn scale(&self, sub_block: usize) -> __m256i {
        let doubled = self.doubled[sub_block / 4];
        match sub_block % 4 {
            0 => _mm256_shuffle_epi32::<0b00_00_00_00>(doubled),
            1 => _mm256_shuffle_epi32::<0b01_01_01_01>(doubled),
            2 => _mm256_shuffle_epi32::<0b10_10_10_10>(doubled),
            _ => _mm256_shuffle_epi32::<0b11_11_11_11>(doubled),
        }
    }
}

/// Returns scale `2·i` in the low lane and `2·i + 1` in the high one, of eight scales that
/// both lanes hold.
#[target_feature(enable = "avx2")]
#[inline]
fn pair_of_scales(scales: __m256i, i: usize) -> __m256i {
    let place = |scale: usize| (4 * i + 2 * scale) as i16 * 0x0101 + 0x0100;
    let low = _mm_set1_epi16(place(0));
    let high = _mm_set1_epi16(place(1));
    _mm256_shuffle_epi8(scales, _mm256_set_m128i(high, low))
}

/// `sum + scale · q · x`, for unsigned `q`.
#[target_feature(enable = "avx2")]
#[inline]
fn scaled(sum: __m256i, q: __m256i, x: __m256i, scale: __m256i) -> __m256i {
    _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(q, x), scale))
}
