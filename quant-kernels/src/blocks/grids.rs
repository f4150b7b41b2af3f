//! The lattice points of the IQ1, IQ2 and IQ3 types, ready for the hot path.
//!
//! These formats store an index into a fixed list of points, chosen once by ggml
//! (`ggml-common.h`), instead of the weights. The lists are committed in their packed
//! form, two or four bits per component, and expanded to bytes at compile time, so that
//! one load fetches a whole point. Signs are kept apart from magnitudes in IQ2 and IQ3:
//! [`SIGNS`] turns eight sign bits into a byte mask, [`even_parity`] restores the eighth
//! bit of the types that store seven.

mod iq1;
mod iq2;
mod iq3;

/// Points of `IQ1_S` and `IQ1_M`: eight values of `8 · g + 16`, g in −1, 0, 1.
pub(super) static IQ1: [[u8; 8]; 2048] = expand::<2048, 8>(&iq1::IQ1, &[8, 16, 24, 0]);

/// Points of `IQ2_XXS`: eight magnitudes.
pub(super) static IQ2_XXS: [[u8; 8]; 256] = expand::<256, 8>(&iq2::IQ2_XXS, &IQ2_VALUES);

/// Points of `IQ2_XS`: eight magnitudes.
pub(super) static IQ2_XS: [[u8; 8]; 512] = expand::<512, 8>(&iq2::IQ2_XS, &IQ2_VALUES);

/// Points of `IQ2_S`: eight magnitudes.
pub(super) static IQ2_S: [[u8; 8]; 1024] = expand::<1024, 8>(&iq2::IQ2_S, &IQ2_VALUES);

/// Points of `IQ3_XXS`: four magnitudes.
pub(super) static IQ3_XXS: [[u8; 4]; 256] =
    expand::<256, 4>(&iq3::IQ3_XXS, &[4, 12, 20, 28, 36, 44, 52, 62]);

/// Points of `IQ3_S`: four magnitudes.
pub(super) static IQ3_S: [[u8; 4]; 512] =
    expand::<512, 4>(&iq3::IQ3_S, &[1, 3, 5, 7, 9, 11, 13, 15]);

/// Byte masks of eight sign bits: `SIGNS[bits][i]` is 255 where bit `i` is set, else 0.
pub(super) static SIGNS: [[u8; 8]; 256] = {
    let mut masks = [[0; 8]; 256];
    let mut bits = 0;
    while bits < 256 {
        let mut i = 0;
        while i < 8 {
            masks[bits][i] = if bits >> i & 1 == 1 { 255 } else { 0 };
            i += 1;
        }
        bits += 1;
    }
    masks
};

/// The magnitudes of the 2-bit types; the fourth code does not occur.
const IQ2_VALUES: [u8; 4] = [8, 25, 43, 0];

/// Returns the seven low bits of `index` with an eighth that makes the number of ones
/// even (`ksigns_iq2xs`).
#[inline(always)]
pub(super) fn even_parity(index: u32) -> usize {
    let bits = index & 0x7f;
    (bits | (bits.count_ones() & 1) << 7) as usize
}

/// Expands packed points of `DIM` components, 16 / `DIM` bits each, to `values`.
const fn expand<const N: usize, const DIM: usize>(
    packed: &[u16; N],
    values: &[u8],
) -> [[u8; DIM]; N] {
    let bits = 16 / DIM;
    let mut points = [[0; DIM]; N];
    let mut n = 0;
    while n < N {
        let mut i = 0;
        while i < DIM {
            points[n][i] = values[(packed[n] >> (i * bits)) as usize & ((1 << bits) - 1)];
            i += 1;
        }
        n += 1;
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_distinct() {
        fn count<T: Ord + Clone>(points: &[T]) -> usize {
            let mut sorted = points.to_vec();
            sorted.sort();
            sorted.dedup();
            sorted.len()
        }
        assert_eq!(count(&IQ1), 2048);
        assert_eq!(count(&IQ2_XXS), 256);
        assert_eq!(count(&IQ2_XS), 512);
        assert_eq!(count(&IQ2_S), 1024);
        assert_eq!(count(&IQ3_XXS), 256);
        assert_eq!(count(&IQ3_S), 512);
    }

    #[test]
    fn components_come_lowest_bits_first() {
        assert_eq!(IQ2_XXS[1], [43, 8, 8, 8, 8, 8, 8, 8]);
        assert_eq!(IQ3_XXS[2], [36, 4, 4, 4]);
        assert_eq!(IQ1[3], [8, 24, 8, 8, 8, 8, 8, 8]);
    }

    #[test]
    fn the_eighth_sign_makes_the_count_even() {
        for index in 0..128 {
            let bits = even_parity(index);
            assert_eq!(bits & 0x7f, index as usize);
            assert_eq!(bits.count_ones() % 2, 0);
        }
    }
}
