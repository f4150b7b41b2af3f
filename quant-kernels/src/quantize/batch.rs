//! Sixteen sub-blocks side by side, one per lane.
//!
//! What is searched for a sub-block, its scale above all, takes a dozen passes over few
//! weights, and what a pass adds up is needed at its end. So lanes hold sub-blocks, not
//! the weights of one: no sum crosses lanes, and every choice is made for sixteen
//! sub-blocks at once.
//!
//! Sums count each weight by its [`Importance`]; where all count alike, a batch can leave
//! the factor out ([`Even`]) instead of multiplying by one, and comes to the same bits.

use crate::lanes::F32x16;

/// How much the weights of a batch count.
pub(super) trait Importance<V> {
    /// Returns `value`, which stands for weight `i`, as often as that counts.
    fn weigh(&self, i: usize, value: V) -> V;
}

/// All weights count alike.
pub(super) struct Even;

impl<V> Importance<V> for Even {
    #[inline(always)]
    fn weigh(&self, _: usize, value: V) -> V {
        value
    }
}

impl<V: F32x16, const N: usize> Importance<V> for [V; N] {
    #[inline(always)]
    fn weigh(&self, i: usize, value: V) -> V {
        self[i].mul(value)
    }
}

/// Sixteen sub-blocks of `N` weights.
pub(super) struct Batch<'a, V, const N: usize, P = [V; N]> {
    /// Sub-block after sub-block.
    pub(super) rows: &'a [[f32; N]; 16],
    /// Weight i of all sub-blocks.
    pub(super) x: [V; N],
    /// Importance of weight i of all sub-blocks.
    pub(super) p: P,
}

impl<'a, V: F32x16, const N: usize> Batch<'a, V, N> {
    #[inline(always)]
    pub(super) fn new(rows: &'a [[f32; N]; 16], importance: Option<&[[f32; N]; 16]>) -> Self {
        match importance {
            Some(importance) => Self::weighted(rows, importance),
            None => Self {
                rows,
                x: transposed(rows),
                p: [V::splat(1.0); N],
            },
        }
    }

    #[inline(always)]
    pub(super) fn weighted(rows: &'a [[f32; N]; 16], importance: &[[f32; N]; 16]) -> Self {
        Self {
            rows,
            x: transposed(rows),
            p: transposed(importance),
        }
    }
}

impl<'a, V: F32x16, const N: usize> Batch<'a, V, N, Even> {
    #[inline(always)]
    pub(super) fn even(rows: &'a [[f32; N]; 16]) -> Self {
        Self {
            rows,
            x: transposed(rows),
            p: Even,
        }
    }
}

impl<V: F32x16, const N: usize, P: Importance<V>> Batch<'_, V, N, P> {
    /// Returns the smallest and the largest weights.
    #[inline(always)]
    pub(super) fn range(&self) -> (V, V) {
        let (mut low, mut high) = (self.x[0], self.x[0]);
        for x in self.x {
            low = x.min(low);
            high = x.max(high);
        }
        (low, high)
    }

    /// Returns the weights of largest magnitude, with their signs.
    #[inline(always)]
    pub(super) fn extreme(&self) -> V {
        let (low, high) = self.range();
        negative(low).pick(high, high, low)
    }

    /// Returns Σp and Σp(x − base).
    #[inline(always)]
    pub(super) fn sums(&self, base: V) -> (V, V) {
        let (mut sum_p, mut sum_x) = (V::splat(0.0), V::splat(0.0));
        for i in 0..N {
            sum_p = sum_p.add(self.p.weigh(i, V::splat(1.0)));
            sum_x = sum_x.add(self.p.weigh(i, self.x[i].sub(base)));
        }
        (sum_p, sum_x)
    }

    /// Returns Σpx², the error of writing zeros.
    #[inline(always)]
    pub(super) fn squares(&self) -> V {
        let mut sum = V::splat(0.0);
        for i in 0..N {
            sum = self.p.weigh(i, self.x[i]).mul_add(self.x[i], sum);
        }
        sum
    }
}

/// What a search tries: nothing changed first, then so many steps down and up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trials {
    pub(super) step: f32,
    pub(super) below: usize,
    pub(super) above: usize,
}

impl Trials {
    pub(super) const fn count(self) -> usize {
        1 + self.below + self.above
    }

    #[inline(always)]
    pub(super) fn at(self, trial: usize) -> f32 {
        if trial <= self.below {
            -self.step * trial as f32
        } else {
            self.step * (trial - self.below) as f32
        }
    }

    /// What a later trial has to surpass: where all fit alike, as on constant weights, the
    /// first stays, which needs no rounding.
    #[inline(always)]
    pub(super) fn surpassing<V: F32x16>(gain: V) -> V {
        gain.mul(V::splat(1.0 + 1e-6))
    }
}

#[inline(always)]
fn transposed<V: F32x16, const N: usize>(rows: &[[f32; N]; 16]) -> [V; N] {
    const { assert!(N.is_multiple_of(4)) };
    let mut lanes = [V::splat(0.0); N];
    for (group, lanes) in lanes.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        *lanes = V::load_columns(std::array::from_fn(|lane| &rows[lane].as_chunks().0[group]));
    }
    lanes
}

#[inline(always)]
pub(super) fn array<V: F32x16>(lanes: V) -> [f32; 16] {
    let mut array = [0.0; 16];
    lanes.store(&mut array);
    array
}

/// Calls `f` with the lanes of each super-block of `S` sub-blocks, and returns in all of
/// them what it says.
#[inline(always)]
pub(super) fn per_super<V: F32x16, const S: usize>(lanes: V, f: impl Fn(&[f32; S]) -> f32) -> V {
    let mut array = array(lanes);
    for lanes in array.as_chunks_mut::<S>().0 {
        *lanes = [f(lanes); S];
    }
    V::load(&array)
}

/// Returns the sums over super-blocks.
#[inline(always)]
pub(super) fn totals<V: F32x16, const S: usize>(lanes: V) -> V {
    per_super::<V, S>(lanes, |lanes| lanes.iter().sum())
}

#[inline(always)]
pub(super) fn negative<V: F32x16>(x: V) -> V {
    V::splat(0.0).sub(x)
}

/// `1 / scale`, or zero where the scale is none.
#[inline(always)]
pub(super) fn inverse<V: F32x16>(scale: V) -> V {
    let magnitude = scale.max(negative(scale));
    magnitude.zero_below(V::splat(f32::MIN_POSITIVE), V::splat(1.0).div(scale))
}

/// Returns the integer nearest to `x` from `low` to `high`.
#[inline(always)]
pub(super) fn nearest<V: F32x16>(x: V, low: f32, high: f32) -> V {
    x.max(V::splat(low)).min(V::splat(high)).round()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::Scalar16;

    #[test]
    fn sub_blocks_lie_in_lanes() {
        let rows: [[f32; 4]; 16] =
            std::array::from_fn(|lane| [1.0, -2.0 - lane as f32, 3.0 + 2.0 * lane as f32, 0.0]);
        let batch = Batch::<Scalar16, 4>::weighted(&rows, &[[0.5; 4]; 16]);
        for lane in 0..16 {
            let n = lane as f32;
            let squares = 0.5 * (1.0 + (2.0 + n) * (2.0 + n) + (3.0 + 2.0 * n) * (3.0 + 2.0 * n));
            assert_eq!(array(batch.range().0)[lane], -2.0 - n);
            assert_eq!(array(batch.extreme())[lane], 3.0 + 2.0 * n);
            let (sum_p, sum_x) = batch.sums(Scalar16::splat(2.0));
            assert_eq!(array(sum_p)[lane], 2.0);
            assert_eq!(array(sum_x)[lane], 0.5 * n - 3.0);
            assert_eq!(array(batch.squares())[lane], squares);
        }
    }

    #[test]
    fn super_blocks_keep_to_their_lanes() {
        let lanes = Scalar16::load(&std::array::from_fn(|lane| lane as f32));
        let sums = array(totals::<_, 8>(lanes));
        assert_eq!(
            sums,
            std::array::from_fn(|i| if i < 8 { 28.0 } else { 92.0 })
        );
    }
}
