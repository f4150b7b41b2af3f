//! Blocks of 32 weights times 32 activations: the integer sums, and the factors.

use std::arch::x86_64::*;

use crate::{
    QuantType,
    activations::ActSmall,
    avx512::{load::load_i8, quants, row::fold_quarters},
    blocks::{
        BlockIq4Nl, BlockMxfp4, BlockQ4_0, BlockQ4_1, BlockQ5_0, BlockQ5_1, BlockQ8_0, F16Le,
        SmallBlock,
    },
};

/// Blocks whose sums are folded together: one sum to a lane.
pub(super) const BLOCKS: usize = 16;

/// Returns the sums of sixteen blocks, for `N` tokens.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
#[inline]
pub(super) fn sums<B: SmallBlock, const N: usize>(
    blocks: [&B; BLOCKS],
    x: [[&ActSmall; 2]; N],
) -> [__m512i; N] {
    let low = eight(blocks, x, 0);
    let high = eight(blocks, x, 1);
    let mut out = [_mm512_setzero_si512(); N];
    for t in 0..N {
        // Lanes of a block are next to each other now: first those of even blocks, then odd.
        let even = _mm512_shuffle_i32x4::<0b10_00_10_00>(low[t], high[t]);
        let odd = _mm512_shuffle_i32x4::<0b11_01_11_01>(low[t], high[t]);
        let order = _mm512_set_epi32(15, 11, 14, 10, 13, 9, 12, 8, 7, 3, 6, 2, 5, 1, 4, 0);
        out[t] = _mm512_permutexvar_epi32(order, _mm512_add_epi32(even, odd));
    }
    out
}

/// Returns four quarter sums of eight blocks.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
#[inline]
fn eight<B: SmallBlock, const N: usize>(
    blocks: [&B; BLOCKS],
    x: [[&ActSmall; 2]; N],
    group: usize,
) -> [__m512i; N] {
    let mut parts = [[_mm512_setzero_si512(); 4]; N];
    for i in 0..4 {
        let first = 8 * group + 2 * i;
        let q = quants::small_blocks(blocks[first], blocks[first + 1]);
        for t in 0..N {
            let x = load_i8(&x[t][group].q.as_chunks::<64>().0[i]);
            parts[t][i] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), q, x);
        }
    }
    let mut out = [_mm512_setzero_si512(); N];
    for t in 0..N {
        out[t] = fold_quarters(parts[t]);
    }
    out
}

/// Returns the factors in 16 bits each: halves, or the exponent.
#[inline]
pub(super) fn factors<B: SmallBlock>(block: &B) -> [u16; 2] {
    let pair = |d: F16Le, m: F16Le| [d.to_bits(), m.to_bits()];
    let none = F16Le::default();
    match B::TYPE {
        QuantType::Q4_0 => pair(bytemuck::cast_ref::<B, BlockQ4_0>(block).d, none),
        QuantType::Q5_0 => pair(bytemuck::cast_ref::<B, BlockQ5_0>(block).d, none),
        QuantType::Q8_0 => pair(bytemuck::cast_ref::<B, BlockQ8_0>(block).d, none),
        QuantType::IQ4_NL => pair(bytemuck::cast_ref::<B, BlockIq4Nl>(block).d, none),
        QuantType::MXFP4 => [bytemuck::cast_ref::<B, BlockMxfp4>(block).e.into(), 0],
        QuantType::Q4_1 => {
            let block: &BlockQ4_1 = bytemuck::cast_ref(block);
            pair(block.d, block.m)
        }
        QuantType::Q5_1 => {
            let block: &BlockQ5_1 = bytemuck::cast_ref(block);
            pair(block.d, block.m)
        }
        _ => unreachable!("no type of small blocks"),
    }
}
