//! Sums over sub-blocks in a fixed order that vectorises: eight partial sums by index
//! modulo 8, folded in pairs.

/// What least squares needs to know of weights x, their importance p, and the levels l they
/// round to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moments {
    /// Σpl.
    pub(super) l: f32,
    /// Σpl².
    pub(super) ll: f32,
    /// Σpxl.
    pub(super) xl: f32,
}

/// Returns the moments of `x` and `level(x)`.
#[inline]
pub(super) fn moments<const N: usize>(
    x: &[f32; N],
    importance: &[f32; N],
    level: impl Fn(f32) -> f32,
) -> Moments {
    let (mut l, mut ll, mut xl) = ([0.0; 8], [0.0; 8], [0.0; 8]);
    for (x, p) in x
        .as_chunks::<8>()
        .0
        .iter()
        .zip(importance.as_chunks::<8>().0)
    {
        for i in 0..8 {
            let level = level(x[i]);
            let weighted = p[i] * level;
            l[i] += weighted;
            ll[i] += weighted * level;
            xl[i] += weighted * x[i];
        }
    }
    Moments {
        l: fold(l),
        ll: fold(ll),
        xl: fold(xl),
    }
}

/// Returns Σp(x − weight(x))².
#[inline]
pub(super) fn squared_error<const N: usize>(
    x: &[f32; N],
    importance: &[f32; N],
    weight: impl Fn(f32) -> f32,
) -> f32 {
    let mut lanes = [0.0; 8];
    for (x, p) in x
        .as_chunks::<8>()
        .0
        .iter()
        .zip(importance.as_chunks::<8>().0)
    {
        for i in 0..8 {
            let residual = x[i] - weight(x[i]);
            lanes[i] += p[i] * (residual * residual);
        }
    }
    fold(lanes)
}

/// Returns Σpx.
#[inline]
pub(super) fn weighted_sum<const N: usize>(x: &[f32; N], importance: &[f32; N]) -> f32 {
    let mut lanes = [0.0; 8];
    for (x, p) in x
        .as_chunks::<8>()
        .0
        .iter()
        .zip(importance.as_chunks::<8>().0)
    {
        for i in 0..8 {
            lanes[i] += p[i] * x[i];
        }
    }
    fold(lanes)
}

/// Returns Σx.
#[inline]
pub(super) fn sum<const N: usize>(x: &[f32; N]) -> f32 {
    let mut lanes = [0.0; 8];
    for x in x.as_chunks::<8>().0 {
        for i in 0..8 {
            lanes[i] += x[i];
        }
    }
    fold(lanes)
}

/// Returns the smallest and the largest element.
#[inline]
pub(super) fn range<const N: usize>(a: &[f32; N]) -> (f32, f32) {
    let (mut low, mut high) = ([a[0]; 8], [a[0]; 8]);
    for a in a.as_chunks::<8>().0 {
        for i in 0..8 {
            low[i] = if a[i] < low[i] { a[i] } else { low[i] };
            high[i] = if a[i] > high[i] { a[i] } else { high[i] };
        }
    }
    (
        low.into_iter().fold(low[0], f32::min),
        high.into_iter().fold(high[0], f32::max),
    )
}

/// Returns the element of largest magnitude, with its sign.
#[inline]
pub(super) fn extreme<const N: usize>(a: &[f32; N]) -> f32 {
    let (low, high) = range(a);
    if high > -low { high } else { low }
}

/// Returns the integer nearest to `x`, ties to even, for magnitudes below 2²².
///
/// Adding 1.5·2²³ leaves no bits for a fraction; unlike `f32::round_ties_even` this needs
/// no library call on a processor without SSE4.1.
#[inline]
pub(super) fn nearest(x: f32) -> f32 {
    const NO_FRACTION: f32 = 12_582_912.0;
    (x + NO_FRACTION) - NO_FRACTION
}

/// Returns the integer from `low` to `high` nearest to `x`.
///
/// `f32::clamp` would check its bounds in every lane and so keep the loop scalar.
#[inline]
pub(super) fn nearest_within(x: f32, low: f32, high: f32) -> f32 {
    let x = if x > low { x } else { low };
    nearest(if x < high { x } else { high })
}

/// Adds the partial sums. Never inlined: the compiler would lay its vectors across the
/// three sums of [`moments`] instead of along the lanes, at twice the time.
#[inline(never)]
fn fold(lanes: [f32; 8]) -> f32 {
    let half: [f32; 4] = std::array::from_fn(|i| lanes[i] + lanes[i + 4]);
    (half[0] + half[2]) + (half[1] + half[3])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_agrees_with_the_library() {
        for i in -4000..4000 {
            let x = i as f32 * 0.125;
            assert_eq!(nearest(x), x.round_ties_even());
        }
    }

    #[test]
    fn sums_count_every_element_once() {
        let a: [f32; 16] = std::array::from_fn(|i| i as f32 - 20.0);
        assert_eq!(sum(&a), -200.0);
        assert_eq!(weighted_sum(&a, &[3.0; 16]), -600.0);
        for p in [1.0, 0.5] {
            let moments = moments(&a, &[p; 16], |x| 2.0 - x);
            assert_eq!(
                (moments.l, moments.ll, moments.xl),
                (p * 232.0, p * 3704.0, p * -3240.0)
            );
            assert_eq!(squared_error(&a, &[p; 16], |x| x - 3.0), p * 144.0);
        }
        assert_eq!(range(&a), (-20.0, -5.0));
        assert_eq!(extreme(&a), -20.0);
    }
}
