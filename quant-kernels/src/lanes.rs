//! Sixteen `f32` lanes: the vector that all float code is written over.
//!
//! Float kernels (norms, exponentials, float products, attention) are written once over
//! [`F32x16`] and compiled once per instruction set. [`Scalar16`] is the specification;
//! the others must agree with it in every bit, which holds because each operation is one
//! IEEE operation per lane, correctly rounded. Minimum and maximum follow the x86 rule
//! (the second operand if either is NaN), so that they are defined everywhere.
//!
//! A kernel is a [`LaneOp`]; [`crate::Isa::run`] enters it with the right lanes.

use half::f16;

use crate::{Isa, isa::Kind};

/// Sixteen lanes of `f32`.
pub(crate) trait F32x16: Copy {
    /// Sums of sixteen lanes that stay in registers beside what they are made from.
    const SUMS: usize = 16;

    /// Asks memory for the line that holds the byte at `offset` from the start of some bytes,
    /// or beyond them; whether it is there changes nothing but the time.
    fn prefetch(bytes: &[u8], offset: usize) {
        let _ = (bytes, offset);
    }

    /// All lanes `x`.
    fn splat(x: f32) -> Self;
    /// Loads sixteen floats.
    fn load(x: &[f32; 16]) -> Self;
    /// Loads sixteen half floats.
    fn load_f16(x: &[u16; 16]) -> Self;
    /// Loads sixteen upper halves of floats.
    fn load_bf16(x: &[u16; 16]) -> Self;
    /// Loads sixteen signed bytes.
    fn load_i8(x: &[i8; 16]) -> Self;
    /// Loads four columns of sixteen rows, a row to a lane.
    #[inline(always)]
    fn load_columns(rows: [&[f32; 4]; 16]) -> [Self; 4] {
        let mut columns = [[0.0; 16]; 4];
        for (lane, row) in rows.iter().enumerate() {
            for c in 0..4 {
                columns[c][lane] = row[c];
            }
        }
        let [a, b, c, d] = &columns;
        [Self::load(a), Self::load(b), Self::load(c), Self::load(d)]
    }
    /// Stores the lanes.
    fn store(self, out: &mut [f32; 16]);
    /// Returns the nearest half floats, ties to even, infinite beyond their range.
    #[inline(always)]
    fn to_f16(self) -> [u16; 16] {
        let mut lanes = [0.0; 16];
        self.store(&mut lanes);
        lanes.map(|lane| f16::from_f32(lane).to_bits())
    }
    /// Returns the nearest integers, ties to even, of lanes of 255 at most; what is negative or
    /// no number becomes zero.
    #[inline(always)]
    fn to_u8(self) -> [u8; 16] {
        let mut lanes = [0.0; 16];
        self.round().store(&mut lanes);
        lanes.map(|lane| lane as u8)
    }
    /// `self + other`.
    fn add(self, other: Self) -> Self;
    /// `self − other`.
    fn sub(self, other: Self) -> Self;
    /// `self · other`.
    fn mul(self, other: Self) -> Self;
    /// `self / other`.
    fn div(self, other: Self) -> Self;
    /// `self · factor + term`, rounded once.
    fn mul_add(self, factor: Self, term: Self) -> Self;
    /// The smaller; `other` if either is NaN.
    fn min(self, other: Self) -> Self;
    /// The larger; `other` if either is NaN.
    fn max(self, other: Self) -> Self;
    /// The nearest integer, ties to even.
    fn round(self) -> Self;
    /// `2^self` for integral lanes within `-126..=127`.
    fn exp2_int(self) -> Self;
    /// The lanes where `self < limit` are zero, the others those of `value`.
    fn zero_below(self, limit: Self, value: Self) -> Self;
    /// The lanes where `self < limit` are those of `below`, the others those of `other`.
    fn pick(self, limit: Self, below: Self, other: Self) -> Self;
    /// The first `n` lanes of `self`, the rest of `other`.
    fn first(self, n: usize, other: Self) -> Self;

    /// Folds by addition: 16 → 8 → 4 → 2 → 1, lane `i` with lane `i + half`.
    #[inline(always)]
    fn sum(self) -> f32 {
        let mut lanes = [0.0; 16];
        self.store(&mut lanes);
        fold(&mut lanes, |a, b| a + b)
    }

    /// Folds by maximum in the same order.
    #[inline(always)]
    fn largest(self) -> f32 {
        let mut lanes = [0.0; 16];
        self.store(&mut lanes);
        fold(&mut lanes, |a, b| if a > b { a } else { b })
    }

    /// Loads up to sixteen floats, the rest `fill`.
    #[inline(always)]
    fn load_partial(x: &[f32], fill: f32) -> Self {
        if let Some(x) = x.first_chunk() {
            return Self::load(x);
        }
        let mut lanes = [fill; 16];
        lanes[..x.len()].copy_from_slice(x);
        Self::load(&lanes)
    }

    /// Stores the first `out.len()` lanes, at most sixteen.
    #[inline(always)]
    fn store_partial(self, out: &mut [f32]) {
        if let Some(out) = out.first_chunk_mut() {
            return self.store(out);
        }
        let mut lanes = [0.0; 16];
        self.store(&mut lanes);
        let n = out.len();
        out.copy_from_slice(&lanes[..n]);
    }
}

#[inline(always)]
fn fold(lanes: &mut [f32; 16], join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut half = 8;
    while half > 0 {
        for i in 0..half {
            lanes[i] = join(lanes[i], lanes[i + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// A float kernel, written over any lanes.
pub(crate) trait LaneOp {
    /// What it returns.
    type Output;
    /// Runs it. Implementations are `#[inline(always)]`: they take on the features of the
    /// function that enters them.
    fn run<L: F32x16>(self) -> Self::Output;
}

impl Isa {
    /// Enters `op` with this instruction set.
    #[inline]
    #[cfg_attr(
        target_arch = "x86_64",
        expect(unsafe_code, reason = "the border to code compiled with features")
    )]
    pub(crate) fn run<O: LaneOp>(self, op: O) -> O::Output {
        match self.kind() {
            Kind::Scalar => op.run::<Scalar16>(),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => {
                // SAFETY: an `Isa` of this kind exists only if avx2, fma and f16c were
                // seen.
                unsafe { crate::avx2::run(op) }
            }
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => {
                // SAFETY: an `Isa` of this kind exists only if avx512f, bw, dq, vl and
                // vnni were seen, beside those of `Kind::Avx2`.
                unsafe { crate::avx512::run(op) }
            }
            #[cfg(not(target_arch = "x86_64"))]
            Kind::Avx2 | Kind::Avx512 => unreachable!("never detected on this architecture"),
        }
    }
}

/// The specification of the lanes: sixteen floats, one after the other.
#[derive(Clone, Copy)]
pub(crate) struct Scalar16([f32; 16]);

impl Scalar16 {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|i| f(self.0[i], other.0[i])))
    }
}

impl F32x16 for Scalar16 {
    #[inline(always)]
    fn splat(x: f32) -> Self {
        Self([x; 16])
    }
    #[inline(always)]
    fn load(x: &[f32; 16]) -> Self {
        Self(*x)
    }
    #[inline(always)]
    fn load_f16(x: &[u16; 16]) -> Self {
        Self(x.map(|bits| f16::from_bits(bits).to_f32()))
    }
    #[inline(always)]
    fn load_bf16(x: &[u16; 16]) -> Self {
        Self(x.map(|bits| f32::from_bits(u32::from(bits) << 16)))
    }
    #[inline(always)]
    fn load_i8(x: &[i8; 16]) -> Self {
        Self(x.map(f32::from))
    }
    #[inline(always)]
    fn store(self, out: &mut [f32; 16]) {
        *out = self.0;
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }
    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        Self(std::array::from_fn(|i| {
            self.0[i].mul_add(factor.0[i], term.0[i])
        }))
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn round(self) -> Self {
        Self(self.0.map(f32::round_ties_even))
    }
    #[inline(always)]
    fn exp2_int(self) -> Self {
        Self(
            self.0
                .map(|n| f32::from_bits(((n as i32).wrapping_add(127) << 23).cast_unsigned())),
        )
    }
    #[inline(always)]
    fn zero_below(self, limit: Self, value: Self) -> Self {
        Self(std::array::from_fn(|i| {
            if self.0[i] < limit.0[i] {
                0.0
            } else {
                value.0[i]
            }
        }))
    }
    #[inline(always)]
    fn pick(self, limit: Self, below: Self, other: Self) -> Self {
        Self(std::array::from_fn(|i| {
            if self.0[i] < limit.0[i] {
                below.0[i]
            } else {
                other.0[i]
            }
        }))
    }
    #[inline(always)]
    fn first(self, n: usize, other: Self) -> Self {
        Self(std::array::from_fn(|i| {
            if i < n { self.0[i] } else { other.0[i] }
        }))
    }
}
