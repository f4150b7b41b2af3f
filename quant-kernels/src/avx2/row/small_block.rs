//! Blocks of 32 weights, unpacked in a register.
//!
//! Weights that need eight bits, and those of tables, are multiplied signed: the magnitude
//! of the weight by the activation with the weight's sign, which `maddubs` adds in pairs
//! that fit 16 bits. Others are unsigned as stored, and what their zero point adds is taken
//! off by the float part, exactly.

use std::arch::x86_64::*;

use super::Factors;
use crate::{
    QuantType,
    avx2::{
        load::{load_i8, load_u8, load_u8x16, look_up},
        tile::is_signed,
    },
    blocks::{
        BlockIq4Nl, BlockMxfp4, BlockQ4_0, BlockQ4_1, BlockQ5_0, BlockQ5_1, BlockQ8_0, F16Le,
        IQ4_VALUES, SmallBlock, half_power,
    },
};

/// The weights of a block: signed where [`is_signed`] says so.
#[derive(Clone, Copy)]
pub(super) struct SmallParts(__m256i);

/// How the factors of a type wait.
pub(super) const fn kind<B: SmallBlock>() -> Factors {
    match B::TYPE {
        QuantType::MXFP4 => Factors::Floats,
        _ => Factors::Halves,
    }
}

/// The zero point that [`SmallParts::dot`] leaves in.
pub(super) const fn zero_point<B: SmallBlock>() -> i32 {
    if is_signed(B::ZERO) { 0 } else { B::ZERO }
}

impl SmallParts {
    /// Multiplies by 32 activations; the eight lanes add up to the sum.
    #[target_feature(enable = "avx2")]
    #[inline]
    pub(super) fn dot<B: SmallBlock>(self, x: &[i8; 32]) -> __m256i {
        let x = load_i8(x);
        let pairs = if is_signed(B::ZERO) {
            _mm256_maddubs_epi16(_mm256_abs_epi8(self.0), _mm256_sign_epi8(x, self.0))
        } else {
            _mm256_maddubs_epi16(self.0, x)
        };
        _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))
    }
}

/// Returns the factors as they wait for the float part.
#[inline]
pub(super) fn factors<B: SmallBlock>(block: &B) -> [u32; 2] {
    let pair = |d: F16Le, m: F16Le| u32::from(d.to_bits()) | u32::from(m.to_bits()) << 16;
    let first = match B::TYPE {
        QuantType::Q4_0 => half(bytemuck::cast_ref::<B, BlockQ4_0>(block).d),
        QuantType::Q5_0 => half(bytemuck::cast_ref::<B, BlockQ5_0>(block).d),
        QuantType::Q8_0 => half(bytemuck::cast_ref::<B, BlockQ8_0>(block).d),
        QuantType::IQ4_NL => half(bytemuck::cast_ref::<B, BlockIq4Nl>(block).d),
        QuantType::MXFP4 => half_power(bytemuck::cast_ref::<B, BlockMxfp4>(block).e).to_bits(),
        QuantType::Q4_1 => {
            let block: &BlockQ4_1 = bytemuck::cast_ref(block);
            pair(block.d, block.m)
        }
        QuantType::Q5_1 => {
            let block: &BlockQ5_1 = bytemuck::cast_ref(block);
            pair(block.d, block.m)
        }
        _ => unreachable!("no type of small blocks"),
    };
    [first, 0]
}

fn half(d: F16Le) -> u32 {
    d.to_bits().into()
}

/// Unpacks a block.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn weights<B: SmallBlock>(block: &B) -> SmallParts {
    SmallParts(match B::TYPE {
        QuantType::Q4_0 => nibbles(&bytemuck::cast_ref::<B, BlockQ4_0>(block).qs),
        QuantType::Q4_1 => nibbles(&bytemuck::cast_ref::<B, BlockQ4_1>(block).qs),
        QuantType::Q5_0 => {
            let block: &BlockQ5_0 = bytemuck::cast_ref(block);
            _mm256_or_si256(nibbles(&block.qs), fifth_bits(block.qh))
        }
        QuantType::Q5_1 => {
            let block: &BlockQ5_1 = bytemuck::cast_ref(block);
            _mm256_or_si256(nibbles(&block.qs), fifth_bits(block.qh))
        }
        QuantType::Q8_0 => load_u8(&bytemuck::cast_ref::<B, BlockQ8_0>(block).qs),
        QuantType::IQ4_NL => {
            let codes = nibbles(&bytemuck::cast_ref::<B, BlockIq4Nl>(block).qs);
            look_up(Some(bytemuck::must_cast(IQ4_VALUES)), codes)
        }
        QuantType::MXFP4 => {
            let codes = nibbles(&bytemuck::cast_ref::<B, BlockMxfp4>(block).qs);
            look_up(B::TABLE, codes)
        }
        _ => unreachable!("no type of small blocks"),
    })
}

/// Splits sixteen bytes into low nibbles and high ones.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn nibbles(packed: &[u8; 16]) -> __m256i {
    let low = load_u8x16(packed);
    let both = _mm256_set_m128i(_mm_srli_epi16::<4>(low), low);
    _mm256_and_si256(both, _mm256_set1_epi8(15))
}

/// Spreads 32 bits to bit 4 of 32 bytes.
#[target_feature(enable = "avx2")]
#[inline]
fn fifth_bits(bits: [u8; 4]) -> __m256i {
    let spread = _mm256_setr_epi64x(
        0,
        0x0101_0101_0101_0101,
        0x0202_0202_0202_0202,
        0x0303_0303_0303_0303,
    );
    let bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(i32::from_le_bytes(bits)), spread);
    let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64.cast_signed());
    let set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit);
    _mm256_and_si256(set, _mm256_set1_epi8(16))
}
