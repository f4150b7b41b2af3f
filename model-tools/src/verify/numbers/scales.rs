//! Where a block has its scale, to find blocks that say something and multiply it by zero.
//!
//! A quantizer that meets zeros writes a zero scale and integers that are all alike; a scale
//! of zero beside integers that differ is data that was lost: the scale was too small for its
//! 16 bits, or it was damaged.

use std::ops::Range;

use quant_kernels::QuantType;

/// Where the 16-bit scale of a block lies, and most of its integers.
#[derive(Clone, Debug)]
pub(super) struct BlockLayout {
    block_bytes: usize,
    scale: usize,
    integers: Range<usize>,
}

impl BlockLayout {
    /// Returns the layout of a type; none for floats and those types whose scale is never zero
    /// or lies in pieces.
    pub(super) fn of(ty: QuantType) -> Option<Self> {
        let (scale, integers) = match ty {
            QuantType::Q4_0 | QuantType::IQ4_NL => (0, 2..18),
            QuantType::Q4_1 => (0, 4..20),
            QuantType::Q5_0 => (0, 6..22),
            QuantType::Q5_1 => (0, 8..24),
            QuantType::Q8_0 => (0, 2..34),
            QuantType::Q2_K => (80, 16..80),
            QuantType::Q3_K => (108, 32..96),
            QuantType::Q4_K => (0, 16..144),
            QuantType::Q5_K => (0, 48..176),
            QuantType::Q6_K => (208, 0..128),
            QuantType::IQ4_XS => (0, 8..136),
            QuantType::IQ1_S => (0, 2..34),
            QuantType::IQ2_XXS | QuantType::IQ2_XS | QuantType::IQ2_S => (0, 2..66),
            QuantType::IQ3_XXS => (0, 2..98),
            QuantType::IQ3_S => (0, 2..66),
            // Floats; MXFP4, whose scale is a power of two; IQ1_M, whose scale lies in pieces.
            _ => return None,
        };
        Some(Self {
            block_bytes: ty.block_bytes(),
            scale,
            integers,
        })
    }

    /// Returns the blocks of some rows whose scale is zero although their integers differ, by
    /// number.
    pub(super) fn lost<'b>(&'b self, bytes: &'b [u8]) -> impl Iterator<Item = usize> + 'b {
        let blocks = bytes.chunks_exact(self.block_bytes).enumerate();
        blocks
            .filter(|(_, block)| self.is_lost(block))
            .map(|(idx, _)| idx)
    }

    fn is_lost(&self, block: &[u8]) -> bool {
        let [low, high] = [block[self.scale], block[self.scale + 1]];
        if low != 0 || high & 0x7f != 0 {
            return false;
        }
        let integers = &block[self.integers.clone()];
        integers.iter().any(|&byte| byte != integers[0])
    }
}

#[cfg(test)]
mod tests {
    use quant_kernels::{dequantize_row, quantize_row};

    use super::*;

    /// The scale is where this table has it: without it nothing is left of the weights, save
    /// for what minimums give.
    #[test]
    fn a_block_without_its_scale_has_no_weights() {
        for ty in QuantType::ALL {
            let Some(layout) = BlockLayout::of(ty) else {
                continue;
            };
            let n = ty.block_len();
            let mut block: Vec<u8> = (0..ty.block_bytes()).map(|i| (i * 37 + 11) as u8).collect();
            block[layout.scale..layout.scale + 2].copy_from_slice(&[0, 0]);
            let has_min = matches!(
                ty,
                QuantType::Q4_1
                    | QuantType::Q5_1
                    | QuantType::Q2_K
                    | QuantType::Q4_K
                    | QuantType::Q5_K
            );
            if has_min {
                let min = layout.scale + 2;
                block[min..min + 2].copy_from_slice(&[0, 0]);
            }
            let mut weights = vec![f32::NAN; n];
            dequantize_row(ty, &block, &mut weights);
            assert!(weights.iter().all(|&weight| weight == 0.0), "{ty}");
            assert_eq!(layout.lost(&block).collect::<Vec<_>>(), [0], "{ty}");
        }
    }

    #[test]
    fn zeros_lose_nothing() {
        for ty in QuantType::ALL {
            let Some(layout) = BlockLayout::of(ty) else {
                continue;
            };
            let mut blocks = vec![0; 2 * ty.block_bytes()];
            if quantize_row(ty, &vec![0.0; 2 * ty.block_len()], &mut blocks).is_ok() {
                assert_eq!(layout.lost(&blocks).count(), 0, "{ty}");
            }
        }
    }
}
