//! From blocks back to `f32`.
//!
//! One function serves all formats, since they unpack to the same shapes. It gives the
//! bits that ggml's `dequantize_row_*` give: an 11-bit factor times a scale times an
//! integer fits in the 24 bits of an `f32` for every format, so both products are exact
//! and their order does not matter; what remains is one rounding, where the minimum is
//! subtracted or the offset added.

use crate::{QuantType, float8::e4m3_to_f32};

use super::{
    BlockIq1M, BlockIq1S, BlockIq2S, BlockIq2Xs, BlockIq2Xxs, BlockIq3S, BlockIq3Xxs, BlockIq4Nl,
    BlockIq4Xs, BlockMxfp4, BlockQ2K, BlockQ3K, BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0,
    BlockQ5_1, BlockQ5K, BlockQ6K, BlockQ8_0, SmallBlock, SuperBlock, UnpackedSmall, UnpackedSuper,
    f16_to_f32,
};

/// Writes the values of a row of `out.len()` weights, or of several rows of whole blocks.
///
/// The result equals ggml's bit for bit, for every type that ggml has. `F8_E4M3` gives the
/// floats without their scales; [`MatRef::dequantize_row`](crate::MatRef::dequantize_row) has those too. A factor that is infinite or NaN
/// gives infinite or NaN weights.
///
/// # Panics
///
/// Panics if `bytes` is not [`ty.row_bytes(out.len())`](QuantType::row_bytes) long, or if
/// `out.len()` is no whole number of blocks.
pub fn dequantize_row(ty: QuantType, bytes: &[u8], out: &mut [f32]) {
    assert_eq!(
        Some(bytes.len()),
        ty.row_bytes(out.len()),
        "{ty} row of {} weights",
        out.len()
    );
    match ty {
        QuantType::F32 => words::<4>(bytes, out, f32::from_le_bytes),
        QuantType::F16 => words::<2>(bytes, out, |w| f16_to_f32(u16::from_le_bytes(w))),
        QuantType::BF16 => words::<2>(bytes, out, |[low, high]| {
            f32::from_le_bytes([0, 0, low, high])
        }),
        QuantType::F8_E4M3 => words::<1>(bytes, out, |[byte]| e4m3_to_f32(byte)),
        QuantType::Q4_0 => small::<BlockQ4_0>(bytes, out),
        QuantType::Q4_1 => small::<BlockQ4_1>(bytes, out),
        QuantType::Q5_0 => small::<BlockQ5_0>(bytes, out),
        QuantType::Q5_1 => small::<BlockQ5_1>(bytes, out),
        QuantType::Q8_0 => small::<BlockQ8_0>(bytes, out),
        QuantType::Q2_K => large::<BlockQ2K>(bytes, out),
        QuantType::Q3_K => large::<BlockQ3K>(bytes, out),
        QuantType::Q4_K => large::<BlockQ4K>(bytes, out),
        QuantType::Q5_K => large::<BlockQ5K>(bytes, out),
        QuantType::Q6_K => large::<BlockQ6K>(bytes, out),
        QuantType::IQ1_S => large::<BlockIq1S>(bytes, out),
        QuantType::IQ1_M => large::<BlockIq1M>(bytes, out),
        QuantType::IQ2_XXS => large::<BlockIq2Xxs>(bytes, out),
        QuantType::IQ2_XS => large::<BlockIq2Xs>(bytes, out),
        QuantType::IQ2_S => large::<BlockIq2S>(bytes, out),
        QuantType::IQ3_XXS => large::<BlockIq3Xxs>(bytes, out),
        QuantType::IQ3_S => large::<BlockIq3S>(bytes, out),
        QuantType::IQ4_NL => small::<BlockIq4Nl>(bytes, out),
        QuantType::IQ4_XS => large::<BlockIq4Xs>(bytes, out),
        QuantType::MXFP4 => small::<BlockMxfp4>(bytes, out),
    }
}

/// Reads `N` bytes a weight.
fn words<const N: usize>(bytes: &[u8], out: &mut [f32], value: impl Fn([u8; N]) -> f32) {
    for (word, out) in bytes.as_chunks::<N>().0.iter().zip(out) {
        *out = value(*word);
    }
}

/// Reads blocks of 32.
fn small<B: SmallBlock>(bytes: &[u8], out: &mut [f32]) {
    let mut unpacked = UnpackedSmall::ZEROED;
    let blocks: &[B] = bytemuck::cast_slice(bytes);
    for (block, out) in blocks.iter().zip(out.as_chunks_mut::<32>().0) {
        block.unpack(&mut unpacked);
        for i in 0..32 {
            let product = unpacked.d * (i32::from(unpacked.q[i]) - B::ZERO) as f32;
            out[i] = if B::HAS_MIN {
                product + unpacked.m
            } else {
                product
            };
        }
    }
}

/// Reads blocks of 256.
fn large<B: SuperBlock>(bytes: &[u8], out: &mut [f32]) {
    let mut unpacked = UnpackedSuper::ZEROED;
    let blocks: &[B] = bytemuck::cast_slice(bytes);
    for (block, out) in blocks.iter().zip(out.as_chunks_mut::<256>().0) {
        block.unpack(&mut unpacked);
        for sub in 0..256 / B::SUB {
            let scale = unpacked.d * f32::from(unpacked.scales[sub]);
            let min = unpacked.dmin * f32::from(unpacked.mins[sub]);
            for i in sub * B::SUB..(sub + 1) * B::SUB {
                let product = scale * (i32::from(unpacked.q[i]) - B::ZERO) as f32;
                out[i] = if B::HAS_MIN { product - min } else { product };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// Asserts that `found` is `d · scale · q − dmin · min` with exact products.
    fn assert_exact(d: f32, scale: i32, q: i32, subtracted: f64, found: f32) {
        let product = f64::from(d) * f64::from(scale) * f64::from(q);
        let rounded = product as f32;
        assert!(
            f64::from(rounded) == product || !rounded.is_finite(),
            "{product} is rounded"
        );
        let expected = rounded - subtracted as f32;
        assert!(found.to_bits() == expected.to_bits() || (found.is_nan() && expected.is_nan()));
    }

    fn check_small<B: SmallBlock>() {
        proptest!(|(bytes in vec(any::<u8>(), size_of::<B>()))| {
            let (mut found, mut unpacked) = ([0.0; 32], UnpackedSmall::ZEROED);
            small::<B>(&bytes, &mut found);
            bytemuck::from_bytes::<B>(&bytes).unpack(&mut unpacked);
            prop_assert!(B::HAS_MIN || unpacked.m == 0.0);
            for i in 0..32 {
                let q = i32::from(unpacked.q[i]) - B::ZERO;
                let subtracted = if B::HAS_MIN { -f64::from(unpacked.m) } else { 0.0 };
                assert_exact(unpacked.d, 1, q, subtracted, found[i]);
            }
        });
    }

    fn check_large<B: SuperBlock>() {
        proptest!(|(bytes in vec(any::<u8>(), size_of::<B>()))| {
            let (mut found, mut unpacked) = ([0.0; 256], UnpackedSuper::ZEROED);
            large::<B>(&bytes, &mut found);
            bytemuck::from_bytes::<B>(&bytes).unpack(&mut unpacked);
            for i in 0..256 {
                let (scale, min) = (unpacked.scales[i / B::SUB], unpacked.mins[i / B::SUB]);
                prop_assert!((-128..=127).contains(&scale) && (0..=63).contains(&min));
                prop_assert!(B::HAS_MIN || min == 0);
                let q = i32::from(unpacked.q[i]) - B::ZERO;
                let subtracted = if B::HAS_MIN {
                    f64::from(unpacked.dmin) * f64::from(min)
                } else {
                    0.0
                };
                assert_exact(unpacked.d, scale.into(), q, subtracted, found[i]);
            }
        });
    }

    /// Random bytes, so infinite and NaN factors are among them.
    #[test]
    fn only_the_last_operation_rounds() {
        check_small::<BlockQ4_0>();
        check_small::<BlockQ4_1>();
        check_small::<BlockQ5_0>();
        check_small::<BlockQ5_1>();
        check_small::<BlockQ8_0>();
        check_small::<BlockIq4Nl>();
        check_small::<BlockMxfp4>();
        check_large::<BlockQ2K>();
        check_large::<BlockQ3K>();
        check_large::<BlockQ4K>();
        check_large::<BlockQ5K>();
        check_large::<BlockQ6K>();
        check_large::<BlockIq1S>();
        check_large::<BlockIq1M>();
        check_large::<BlockIq2Xxs>();
        check_large::<BlockIq2Xs>();
        check_large::<BlockIq2S>();
        check_large::<BlockIq3Xxs>();
        check_large::<BlockIq3S>();
        check_large::<BlockIq4Xs>();
    }

    /// A block at an odd address casts, and a cast of another size would panic.
    #[test]
    fn blocks_of_every_type_are_read_at_any_address() {
        for ty in QuantType::ALL {
            let bytes = vec![0; ty.block_bytes() + 1];
            let mut out = vec![1.0; ty.block_len()];
            dequantize_row(ty, &bytes[1..], &mut out);
            assert!(out.iter().all(|w| *w == 0.0), "{ty}");
        }
    }

    #[test]
    fn an_infinite_factor_gives_no_finite_weight() {
        let mut bytes = vec![0x11; QuantType::Q8_0.block_bytes()];
        bytes[..2].copy_from_slice(&[0x00, 0x7c]);
        let mut out = [0.0; 32];
        dequantize_row(QuantType::Q8_0, &bytes, &mut out);
        assert!(out.iter().all(|w| *w == f32::INFINITY));
    }
}
