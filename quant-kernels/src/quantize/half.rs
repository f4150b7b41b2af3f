//! Factors as half precision stores them.

use crate::{blocks::F16Le, lanes::F32x16};

use super::{LARGEST, batch::array};

/// Rounds to half precision; what is beyond its largest number becomes that.
#[inline(always)]
pub(super) fn halves<V: F32x16>(values: V) -> V {
    let within = values.max(V::splat(-LARGEST)).min(V::splat(LARGEST));
    V::load_f16(&within.to_f16())
}

/// Rounds to half precision, but to the smallest subnormal rather than to zero: integer
/// scales can still make something of it.
#[inline(always)]
pub(super) fn nonzero_halves<V: F32x16>(values: V) -> V {
    const SMALLEST: f32 = 1.0 / 16_777_216.0;
    V::load(&array(values).map(|value| {
        if value.abs() < SMALLEST && value != 0.0 {
            SMALLEST.copysign(value)
        } else {
            F16Le::from_f32(value).to_f32()
        }
    }))
}
