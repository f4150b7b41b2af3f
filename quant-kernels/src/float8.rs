//! Products with 8-bit floats (E4M3): four bits of exponent, three of mantissa, and a scale per
//! 128 × 128 weights that lies beside the matrix.
//!
//! A weight is its float times its scale, rounded to `f32` once; from there on it is a float
//! weight like any other, so a product has the bits of one with the dequantized matrix in F32.
//! The bits shift into a half float of the same meaning but for the bias, which is 2⁸ too
//! small; the scale takes that factor on, which is exact. There is no infinity; the one pattern
//! of NaN stays NaN.

use crate::{
    float::FloatWeight,
    lanes::F32x16,
    matrix::{MatRef, RowScales, SCALE_BLOCK},
};

/// Eight bits, E4M3.
#[derive(Clone, Copy)]
pub(crate) struct F8;

/// What corrects the bias of the exponent, 15 in place of 7.
const BIAS: f32 = 256.0;

/// Chunks of sixteen weights that share a scale.
const CHUNKS: usize = SCALE_BLOCK / 16;

impl FloatWeight for F8 {
    type Bytes = u8;
    type Scales<'a> = RowScales<'a>;
    #[inline(always)]
    fn scales(w: MatRef<'_>, row: usize) -> RowScales<'_> {
        w.row_scales(row)
    }
    #[inline(always)]
    fn load<L: F32x16>(x: &[u8; 16]) -> L {
        let mut halves = [0; 16];
        for i in 0..16 {
            halves[i] = half_bits(x[i]);
        }
        L::load_f16(&halves)
    }
    #[inline(always)]
    fn get(x: &u8) -> f32 {
        half::f16::from_bits(half_bits(*x)).to_f32()
    }
    #[inline(always)]
    fn scale<L: F32x16>(w: L, scales: RowScales<'_>, chunk: usize) -> L {
        w.mul(L::splat(scales.of(chunk / CHUNKS) * BIAS))
    }
}

/// Returns a float times its scale, with the roundings of products.
pub(crate) fn scaled(weight: f32, scale: f32) -> f32 {
    (weight / BIAS) * (scale * BIAS)
}

/// Returns the value of an E4M3 float, exactly.
#[inline(always)]
pub(crate) fn e4m3_to_f32(byte: u8) -> f32 {
    half::f16::from_bits(half_bits(byte)).to_f32() * BIAS
}

/// Returns the bits of a half float that is smaller by 2⁸. Without branches, so that sixteen
/// of them are a few vector instructions.
#[inline(always)]
const fn half_bits(byte: u8) -> u16 {
    // From the largest exponent with all bits of the mantissa to a NaN.
    const TO_NAN: u16 = 0x7e00 - (0x7f << 7);
    let (sign, rest) = ((byte & 0x80) as u16, (byte & 0x7f) as u16);
    let is_nan = (rest + 1) >> 7;
    (sign << 8) | ((rest << 7) + (is_nan.wrapping_neg() & TO_NAN))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::Scalar16;

    /// As the OCP specification of 8-bit floats writes it.
    fn by_definition(byte: u8) -> f64 {
        let sign = if byte >> 7 == 1 { -1.0 } else { 1.0 };
        let (exponent, mantissa) = (i32::from(byte >> 3 & 15), f64::from(byte & 7));
        match (exponent, byte & 7) {
            (15, 7) => f64::NAN,
            (0, _) => sign * mantissa / 8.0 * 2_f64.powi(-6),
            _ => sign * (1.0 + mantissa / 8.0) * 2_f64.powi(exponent - 7),
        }
    }

    #[test]
    fn every_byte_has_the_value_of_its_definition() {
        for byte in 0..=u8::MAX {
            let mut lanes = [0.0; 16];
            let loaded = F8::load::<Scalar16>(&[byte; 16]);
            F8::scale(loaded, RowScales::ONES, 0).store(&mut lanes);
            let expected = by_definition(byte);
            let one = F8::get(&byte) * BIAS;
            for found in [e4m3_to_f32(byte), one, lanes[0], lanes[15]] {
                if expected.is_nan() {
                    assert!(found.is_nan(), "{byte:#x}");
                } else {
                    assert_eq!(f64::from(found).to_bits(), expected.to_bits(), "{byte:#x}");
                }
            }
        }
        assert_eq!(e4m3_to_f32(0x7e), 448.0);
    }
}
