//! Norms, exponentials, rotary embedding: the small float kernels.
//!
//! All are written over sixteen lanes ([`crate::lanes`]); sums take the element index
//! modulo 16 as their lane and fold 16 → 8 → 4 → 2 → 1, so every instruction set gives
//! the same bits. `exp` is our own polynomial: the C library's differs between machines.

use crate::{
    Isa,
    lanes::{F32x16, LaneOp},
};

/// `e^x` within 2 ULP for `-87.3 ≤ x ≤ 88.3`; zero below, saturated above, NaN for NaN.
///
/// `x = n·ln 2 + r` with `|r| ≤ ln 2 / 2`, then a polynomial of degree 6 in `r` (Cephes
/// `expf`), scaled by `2^n`.
#[inline(always)]
pub(crate) fn exp<L: F32x16>(x: L) -> L {
    const LOWEST: f32 = -87.336_54;
    const HIGHEST: f32 = 88.376_26;
    const COEFFICIENTS: [f32; 6] = [
        1.987_569_15e-4,
        1.398_199_95e-3,
        8.333_451_9e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        5.000_000_1e-1,
    ];
    // The constant is the first operand, so that a NaN in `x` survives.
    let bounded = L::splat(LOWEST).max(L::splat(HIGHEST).min(x));
    let n = bounded.mul(L::splat(std::f32::consts::LOG2_E)).round();
    let r = n.mul_add(L::splat(-0.693_359_375), bounded);
    let r = n.mul_add(L::splat(2.121_944_4e-4), r);
    let mut p = L::splat(COEFFICIENTS[0]);
    for c in &COEFFICIENTS[1..] {
        p = p.mul_add(r, L::splat(*c));
    }
    let y = p.mul_add(r.mul(r), r).add(L::splat(1.0));
    x.zero_below(L::splat(LOWEST), y.mul(n.exp2_int()))
}

struct Exp<'a>(&'a mut [f32]);

impl LaneOp for Exp<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: F32x16>(self) {
        for chunk in self.0.chunks_mut(16) {
            exp(L::load_partial(chunk, 0.0)).store_partial(chunk);
        }
    }
}

/// What a root-mean-square norm is made with: `x[i] / √(mean(x²) + eps) · weight[i]`.
#[derive(Clone, Copy, Debug)]
pub struct Norm<'a> {
    /// A factor per element.
    pub weight: &'a [f32],
    /// Is added to the mean, so that zeros can be normed.
    pub eps: f32,
}

/// One row of results, and its share of a sum.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Term {
    /// The row.
    pub row: u32,
    /// Its factor.
    pub weight: f32,
}

/// `1 / √(mean(x²) + eps)`.
#[inline(always)]
fn rms_scale<L: F32x16>(x: &[f32], eps: f32) -> L {
    let (chunks, rest) = x.as_chunks::<16>();
    let mut squares = L::splat(0.0);
    for x in chunks {
        let x = L::load(x);
        squares = x.mul_add(x, squares);
    }
    let tail = L::load_partial(rest, 0.0);
    squares = tail.mul_add(tail, squares).first(rest.len(), squares);
    let mean = squares.sum() / x.len() as f32;
    L::splat(1.0 / (mean + eps).sqrt())
}

struct RmsNorm<'a> {
    x: &'a [f32],
    norm: Norm<'a>,
    out: &'a mut [f32],
}

impl LaneOp for RmsNorm<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: F32x16>(self) {
        let scale: L = rms_scale(self.x, self.norm.eps);
        for ((x, w), out) in self
            .x
            .chunks(16)
            .zip(self.norm.weight.chunks(16))
            .zip(self.out.chunks_mut(16))
        {
            let (x, w) = (L::load_partial(x, 0.0), L::load_partial(w, 0.0));
            x.mul(scale).mul(w).store_partial(out);
        }
    }
}

struct NormRope<'a> {
    x: &'a mut [f32],
    norm: Norm<'a>,
    cos: &'a [f32],
    sin: &'a [f32],
}

impl LaneOp for NormRope<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: F32x16>(self) {
        let scale: L = rms_scale(self.x, self.norm.eps);
        let half = self.x.len() / 2;
        let (low, high) = self.x.split_at_mut(half);
        let (low_weight, high_weight) = self.norm.weight.split_at(half);
        let weights = low_weight.chunks(16).zip(high_weight.chunks(16));
        for ((((a, b), (wa, wb)), cos), sin) in low
            .chunks_mut(16)
            .zip(high.chunks_mut(16))
            .zip(weights)
            .zip(self.cos.chunks(16))
            .zip(self.sin.chunks(16))
        {
            let (wa, wb) = (L::load_partial(wa, 0.0), L::load_partial(wb, 0.0));
            let x = L::load_partial(a, 0.0).mul(scale).mul(wa);
            let y = L::load_partial(b, 0.0).mul(scale).mul(wb);
            let (c, s) = (L::load_partial(cos, 0.0), L::load_partial(sin, 0.0));
            let negative = L::splat(0.0).sub(s);
            y.mul_add(negative, x.mul(c)).store_partial(a);
            x.mul_add(s, y.mul(c)).store_partial(b);
        }
    }
}

/// `silu(gate) · up`, sixteen at a time.
#[inline(always)]
pub(crate) fn swiglu<L: F32x16>(gate: L, up: L) -> L {
    let negative = L::splat(0.0).sub(gate);
    gate.div(exp(negative).add(L::splat(1.0))).mul(up)
}

struct SwiGlu<'a> {
    gate: &'a mut [f32],
    up: &'a [f32],
}

impl LaneOp for SwiGlu<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: F32x16>(self) {
        for (gate, up) in self.gate.chunks_mut(16).zip(self.up.chunks(16)) {
            swiglu(L::load_partial(gate, 0.0), L::load_partial(up, 0.0)).store_partial(gate);
        }
    }
}

struct Softmax<'a>(&'a mut [f32]);

impl LaneOp for Softmax<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: F32x16>(self) {
        let mut largest = L::splat(f32::NEG_INFINITY);
        for chunk in self.0.chunks(16) {
            // The new value is the second operand, so that a NaN reaches the sum.
            largest = largest.max(L::load_partial(chunk, f32::NEG_INFINITY));
        }
        let largest = L::splat(largest.largest());
        let mut total = L::splat(0.0);
        for chunk in self.0.chunks_mut(16) {
            let e = exp(L::load_partial(chunk, f32::NEG_INFINITY).sub(largest));
            total = total.add(e);
            e.store_partial(chunk);
        }
        let total = L::splat(total.sum());
        for chunk in self.0.chunks_mut(16) {
            L::load_partial(chunk, 0.0).div(total).store_partial(chunk);
        }
    }
}

struct AddTerms<'a> {
    out: &'a mut [f32],
    rows: &'a [f32],
    terms: &'a [Term],
}

impl LaneOp for AddTerms<'_> {
    type Output = bool;
    #[inline(always)]
    fn run<L: F32x16>(self) -> bool {
        let n_cols = self.out.len();
        // Zero times a number is zero, unless the number is not finite.
        let mut zeros = L::splat(0.0);
        for (i, out) in self.out.chunks_mut(16).enumerate() {
            let mut sum = L::splat(0.0);
            for term in self.terms {
                let x = &self.rows[term.row as usize * n_cols + 16 * i..][..out.len()];
                sum = L::load_partial(x, 0.0).mul_add(L::splat(term.weight), sum);
            }
            let total = L::load_partial(out, 0.0).add(sum);
            zeros = total.mul_add(L::splat(0.0), zeros);
            total.store_partial(out);
        }
        zeros.sum() == 0.0
    }
}

struct Add<'a> {
    out: &'a mut [f32],
    x: &'a [f32],
}

impl LaneOp for Add<'_> {
    type Output = bool;
    #[inline(always)]
    fn run<L: F32x16>(self) -> bool {
        let mut zeros = L::splat(0.0);
        for (out, x) in self.out.chunks_mut(16).zip(self.x.chunks(16)) {
            let sum = L::load_partial(out, 0.0).add(L::load_partial(x, 0.0));
            zeros = sum.mul_add(L::splat(0.0), zeros);
            sum.store_partial(out);
        }
        zeros.sum() == 0.0
    }
}

impl Isa {
    /// Replaces each element of `x` by its exponential: within 2 ULP for `-87.3..=88.3`,
    /// zero below, saturated above, NaN for NaN.
    pub fn exp(self, x: &mut [f32]) {
        self.run(Exp(x));
    }

    /// Writes the norm of `x` to `out`.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn rms_norm(self, x: &[f32], norm: Norm<'_>, out: &mut [f32]) {
        assert!(
            x.len() == norm.weight.len() && x.len() == out.len(),
            "rms_norm: lengths differ"
        );
        self.run(RmsNorm { x, norm, out });
    }

    /// Norms a head in place and rotates its pairs `(x[i], x[i + n/2])` by the angles
    /// whose cosines and sines are given (`NeoX` pairing). `cos` and `sin` hold
    /// `x.len() / 2` values.
    ///
    /// # Panics
    /// If `x` is odd in length, the weight is not as long, or `cos` and `sin` are not half
    /// as long.
    pub fn norm_rope(self, x: &mut [f32], norm: Norm<'_>, cos: &[f32], sin: &[f32]) {
        assert!(
            x.len() == norm.weight.len() && x.len() == 2 * cos.len() && cos.len() == sin.len(),
            "norm_rope: lengths differ"
        );
        self.run(NormRope { x, norm, cos, sin });
    }

    /// Writes `gate[i] = silu(gate[i]) · up[i]`, where `silu(x) = x / (1 + exp(−x))`.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn swiglu(self, gate: &mut [f32], up: &[f32]) {
        assert_eq!(gate.len(), up.len(), "swiglu: lengths differ");
        self.run(SwiGlu { gate, up });
    }

    /// Replaces `x` by its softmax, `exp(x[i] − max x) / Σ exp(x[j] − max x)`.
    ///
    /// −∞ becomes 0. NaN or +∞ anywhere, or nothing but −∞, makes all of it NaN.
    pub fn softmax(self, x: &mut [f32]) {
        self.run(Softmax(x));
    }

    /// Adds `x` to `out` and returns whether all of `out` is finite.
    pub(crate) fn add(self, out: &mut [f32], x: &[f32]) -> bool {
        debug_assert_eq!(out.len(), x.len(), "add: lengths differ");
        self.run(Add { out, x })
    }

    /// Adds `Σ weight · row` to `out`: first the sum, from zero, one fused multiply-add per
    /// term in their order. Rows are as long as `out`. Returns whether all of `out` is
    /// finite.
    pub(crate) fn add_terms(self, out: &mut [f32], rows: &[f32], terms: &[Term]) -> bool {
        self.run(AddTerms { out, rows, terms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(n: usize) -> Vec<f32> {
        (0..n)
            .map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.37)
            .collect()
    }

    fn bits(x: &[f32]) -> Vec<u32> {
        x.iter().map(|v| v.to_bits()).collect()
    }

    #[test]
    fn every_instruction_set_gives_the_scalar_bits() {
        for n in [1, 2, 15, 16, 17, 31, 64, 130] {
            let (x, w) = (ramp(2 * n), ramp(3 * n)[n..].to_vec());
            let run = |isa: Isa| {
                let mut all = Vec::new();
                let mut out = vec![0.0; 2 * n];
                let norm = Norm {
                    weight: &w,
                    eps: 1e-6,
                };
                isa.rms_norm(&x, norm, &mut out);
                all.extend(bits(&out));
                let mut out = x.clone();
                isa.exp(&mut out);
                all.extend(bits(&out));
                let mut out = x.clone();
                isa.norm_rope(&mut out, norm, &w[..n], &x[..n]);
                all.extend(bits(&out));
                isa.swiglu(&mut out, &w);
                all.extend(bits(&out));
                assert!(isa.add(&mut out, &x));
                let terms = [(1, 0.3), (0, -0.7)].map(|(row, weight)| Term { row, weight });
                assert!(isa.add_terms(&mut out, &[&*x, &w].concat(), &terms));
                all.extend(bits(&out));
                isa.softmax(&mut out);
                all.extend(bits(&out));
                all
            };
            let expected = run(Isa::SCALAR);
            for isa in Isa::available() {
                assert!(run(isa) == expected, "{isa}, n = {n}");
            }
        }
    }

    #[test]
    fn a_head_is_normed_and_then_rotated() {
        let (x, weight) = (ramp(64), ramp(128)[64..].to_vec());
        let (cos, sin) = (&ramp(96)[64..], &ramp(160)[128..]);
        let (norm, isa) = (
            Norm {
                weight: &weight,
                eps: 1e-6,
            },
            Isa::detect(),
        );
        let (mut normed, mut found) = ([0.0; 64], x.clone());
        isa.rms_norm(&x, norm, &mut normed);
        isa.norm_rope(&mut found, norm, cos, sin);
        for i in 0..32 {
            let (a, b) = (normed[i], normed[i + 32]);
            assert_eq!(found[i], b.mul_add(-sin[i], a * cos[i]));
            assert_eq!(found[i + 32], a.mul_add(sin[i], b * cos[i]));
        }
    }

    #[test]
    fn terms_are_summed_from_zero_in_their_order() {
        let (x, rows) = (ramp(40), ramp(120));
        let terms = [(2, 0.3), (0, 0.5), (1, -1.7)].map(|(row, weight)| Term { row, weight });
        let mut found = x.clone();
        assert!(Isa::detect().add_terms(&mut found, &rows, &terms));
        for i in 0..40 {
            let term = |sum: f32, t: &Term| rows[t.row as usize * 40 + i].mul_add(t.weight, sum);
            assert_eq!(found[i], x[i] + terms.iter().fold(0.0, term));
        }
    }

    #[test]
    fn sums_that_are_not_finite_are_noticed() {
        let term = Term {
            row: 0,
            weight: 1.0,
        };
        for isa in Isa::available() {
            for n in [1, 16, 37] {
                for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX] {
                    let mut x = vec![1.0; n];
                    x[n - 1] = bad;
                    let mut sum = x.clone();
                    assert!(!isa.add(&mut sum, &x), "{isa}: {bad}");
                    let mut sum = x.clone();
                    assert!(!isa.add_terms(&mut sum, &x, &[term]), "{isa}: {bad}");
                }
            }
        }
    }

    #[test]
    fn exp_is_within_two_ulp_and_keeps_nan() {
        let mut x: Vec<f32> = (-8730..8830).map(|i| i as f32 * 0.01).collect();
        let exact: Vec<f64> = x.iter().map(|&v| f64::from(v).exp()).collect();
        Isa::detect().exp(&mut x);
        for (got, want) in x.iter().zip(exact) {
            let ulp = f64::from(f32::EPSILON) * want;
            assert!(
                (f64::from(*got) - want).abs() <= 2.0 * ulp,
                "{got} for {want}"
            );
        }
        let mut edge = [f32::NAN, f32::NEG_INFINITY, -100.0, 0.0];
        Isa::detect().exp(&mut edge);
        assert!(edge[0].is_nan());
        assert_eq!(edge[1..], [0.0, 0.0, 1.0]);
    }

    #[test]
    fn softmax_sums_to_one_and_spreads_nan() {
        let mut x = ramp(37);
        Isa::detect().softmax(&mut x);
        assert!((x.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        x[20] = f32::NAN;
        Isa::detect().softmax(&mut x);
        assert!(x.iter().any(|v| v.is_nan()));
    }
}
