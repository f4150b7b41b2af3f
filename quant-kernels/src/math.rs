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

struct RmsNorm<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    eps: f32,
    out: &'a mut [f32],
}

impl LaneOp for RmsNorm<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: F32x16>(self) {
        let (chunks, rest) = self.x.as_chunks::<16>();
        let mut squares = L::splat(0.0);
        for x in chunks {
            let x = L::load(x);
            squares = x.mul_add(x, squares);
        }
        let tail = L::load_partial(rest, 0.0);
        squares = tail.mul_add(tail, squares).first(rest.len(), squares);
        let mean = squares.sum() / self.x.len() as f32;
        let scale = L::splat(1.0 / (mean + self.eps).sqrt());
        let (weights, weights_rest) = self.weight.as_chunks::<16>();
        let (outs, out_rest) = self.out.as_chunks_mut::<16>();
        for ((x, w), out) in chunks.iter().zip(weights).zip(outs) {
            L::load(x).mul(scale).mul(L::load(w)).store(out);
        }
        tail.mul(scale)
            .mul(L::load_partial(weights_rest, 0.0))
            .store_partial(out_rest);
    }
}

struct Rope<'a> {
    x: &'a mut [f32],
    cos: &'a [f32],
    sin: &'a [f32],
}

impl LaneOp for Rope<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: F32x16>(self) {
        let half = self.x.len() / 2;
        let (low, high) = self.x.split_at_mut(half);
        for (((a, b), cos), sin) in low
            .chunks_mut(16)
            .zip(high.chunks_mut(16))
            .zip(self.cos.chunks(16))
            .zip(self.sin.chunks(16))
        {
            let (x, y) = (L::load_partial(a, 0.0), L::load_partial(b, 0.0));
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

struct AddScaled<'a> {
    sum: &'a mut [f32],
    x: &'a [f32],
    scale: f32,
}

impl LaneOp for AddScaled<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: F32x16>(self) {
        let scale = L::splat(self.scale);
        for (sum, x) in self.sum.chunks_mut(16).zip(self.x.chunks(16)) {
            L::load_partial(x, 0.0)
                .mul_add(scale, L::load_partial(sum, 0.0))
                .store_partial(sum);
        }
    }
}

impl Isa {
    /// Replaces each element of `x` by its exponential: within 2 ULP for `-87.3..=88.3`,
    /// zero below, saturated above, NaN for NaN.
    pub fn exp(self, x: &mut [f32]) {
        self.run(Exp(x));
    }

    /// Writes `out[i] = x[i] / √(mean(x²) + eps) · weight[i]`.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn rms_norm(self, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        assert!(
            x.len() == weight.len() && x.len() == out.len(),
            "rms_norm: lengths differ"
        );
        self.run(RmsNorm {
            x,
            weight,
            eps,
            out,
        });
    }

    /// Rotates the pairs `(x[i], x[i + n/2])` by the angles whose cosines and sines are
    /// given (`NeoX` pairing), in place. `cos` and `sin` hold `x.len() / 2` values.
    ///
    /// # Panics
    /// If `x` is odd in length, or `cos` and `sin` are not half as long.
    pub fn rope(self, x: &mut [f32], cos: &[f32], sin: &[f32]) {
        assert!(
            x.len() == 2 * cos.len() && cos.len() == sin.len(),
            "rope: lengths differ"
        );
        self.run(Rope { x, cos, sin });
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

    /// Adds `scale · x` to `sum`, one fused multiply-add per element.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn add_scaled(self, sum: &mut [f32], x: &[f32], scale: f32) {
        assert_eq!(sum.len(), x.len(), "add_scaled: lengths differ");
        self.run(AddScaled { sum, x, scale });
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
                isa.rms_norm(&x, &w, 1e-6, &mut out);
                all.extend(bits(&out));
                let mut out = x.clone();
                isa.exp(&mut out);
                all.extend(bits(&out));
                let mut out = x.clone();
                isa.rope(&mut out, &w[..n], &x[..n]);
                all.extend(bits(&out));
                isa.swiglu(&mut out, &w);
                all.extend(bits(&out));
                isa.add_scaled(&mut out, &x, 0.3);
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
