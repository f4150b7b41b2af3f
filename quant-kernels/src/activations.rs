//! Activations, quantized once for all products that read them.
//!
//! Each token row is quantized by itself, so that a token's result never depends on its
//! neighbours. Two integer forms exist, after the weights they meet: one scale per 256
//! for the superblocks, one per 32 for the small blocks. Rounding is to nearest, ties to
//! even. The sums of the integers that minimums and zero points are multiplied with are
//! taken here, once for all rows of all weights.

use bytemuck::Zeroable;

use crate::{
    ActivationForm, Isa, Team,
    lanes::{F32x16, LaneOp},
    math::Norm,
    pool::Rows,
};

/// Floats of a unit of work; fewer are not worth a meeting of the threads.
const UNIT_FLOATS: usize = 8192;

/// Below this magnitude (`2^-100`) a block is taken for zero: its scale would not be
/// normal.
const SMALLEST: f32 = f32::from_bits((127 - 100) << 23);

/// 256 activations as `x[i] ≈ d · q[i]`, with the sums of `q` that minimums and zero
/// points need.
#[derive(Clone, Copy, Debug, Zeroable)]
#[repr(C, align(64))]
pub(crate) struct ActSuper {
    pub(crate) q: [i8; 256],
    /// Sums of 16.
    pub(crate) sums16: [i16; 16],
    /// Sums of 32.
    pub(crate) sums32: [i16; 8],
    pub(crate) d: f32,
}

/// Eight times 32 activations as `x[i] ≈ d[i / 32] · q[i]`. A row that is no multiple of
/// 256 ends in zeros.
#[derive(Clone, Copy, Debug, Zeroable)]
#[repr(C, align(64))]
pub(crate) struct ActSmall {
    pub(crate) q: [i8; 256],
    pub(crate) d: [f32; 8],
    /// Sums of 32.
    pub(crate) sums: [i32; 8],
}

/// The forms to prepare; the union over the weights that will read them.
///
/// ```
/// use quant_kernels::{Forms, QuantType};
///
/// let types = [QuantType::Q4_K, QuantType::Q6_K, QuantType::F16];
/// let forms = types.map(QuantType::activation_form).into_iter();
/// let forms = forms.fold(Forms::default(), Forms::with);
/// # assert_ne!(forms, Forms::default());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forms {
    float: bool,
    small: bool,
    superblock: bool,
}

impl Forms {
    /// Adds a form.
    #[must_use]
    pub fn with(mut self, form: ActivationForm) -> Self {
        match form {
            ActivationForm::Float => self.float = true,
            ActivationForm::Q8Small => self.small = true,
            ActivationForm::Q8Super => self.superblock = true,
        }
        self
    }

    /// Asserts that rows of `n_cols` are whole blocks of every form.
    fn check(self, n_cols: usize) {
        assert!(
            !self.small || n_cols.is_multiple_of(32),
            "rows of {n_cols} are no whole blocks of 32"
        );
        assert!(
            !self.superblock || n_cols.is_multiple_of(256),
            "rows of {n_cols} are no whole blocks of 256"
        );
    }
}

/// Token rows `[n_rows, n_cols]` in the forms that products read.
///
/// [`Team::activate`] and [`Team::activate_normed`] fill it. It is reused from call to call and
/// keeps its memory, so that decoding allocates nothing.
#[derive(Debug, Default)]
pub struct Activations {
    n_rows: usize,
    n_cols: usize,
    forms: Forms,
    floats: Vec<f32>,
    small: Vec<ActSmall>,
    superblocks: Vec<ActSuper>,
}

impl Activations {
    /// Returns an empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the number of token rows.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Returns the length of a row.
    pub fn n_cols(&self) -> usize {
        self.n_cols
    }

    /// Returns whether the rows are there in this form.
    pub fn has(&self, form: ActivationForm) -> bool {
        match form {
            ActivationForm::Float => self.forms.float,
            ActivationForm::Q8Small => self.forms.small,
            ActivationForm::Q8Super => self.forms.superblock,
        }
    }

    fn groups(&self) -> usize {
        self.n_cols.div_ceil(256)
    }

    pub(crate) fn float_row(&self, row: usize) -> &[f32] {
        &self.floats[row * self.n_cols..(row + 1) * self.n_cols]
    }

    pub(crate) fn small_row(&self, row: usize) -> &[ActSmall] {
        &self.small[row * self.groups()..(row + 1) * self.groups()]
    }

    pub(crate) fn super_row(&self, row: usize) -> &[ActSuper] {
        &self.superblocks[row * self.groups()..(row + 1) * self.groups()]
    }

    /// Sets the shape and lends the buffers, those of other forms empty.
    fn resize(&mut self, n_rows: usize, n_cols: usize, forms: Forms) -> Buffers<'_> {
        forms.check(n_cols);
        (self.n_rows, self.n_cols, self.forms) = (n_rows, n_cols, forms);
        let (groups, rows_if) = (self.groups(), |wanted| if wanted { n_rows } else { 0 });
        self.floats.resize(rows_if(forms.float) * n_cols, 0.0);
        self.small
            .resize(rows_if(forms.small) * groups, ActSmall::zeroed());
        self.superblocks
            .resize(rows_if(forms.superblock) * groups, ActSuper::zeroed());
        Buffers {
            n_rows,
            n_cols,
            groups,
            floats: &mut self.floats,
            small: &mut self.small,
            superblocks: &mut self.superblocks,
        }
    }
}

/// The buffers of one [`Activations`], `groups` blocks to a row.
struct Buffers<'a> {
    n_rows: usize,
    n_cols: usize,
    groups: usize,
    floats: &'a mut [f32],
    small: &'a mut [ActSmall],
    superblocks: &'a mut [ActSuper],
}

/// Where rows come from: all of `x`, or some of them after a norm.
#[derive(Clone, Copy)]
struct Source<'a> {
    x: &'a [f32],
    norm: Option<(&'a [u32], Norm<'a>)>,
}

impl Source<'_> {
    /// Returns a row, which may be made in `normed`.
    fn row<'s>(
        &'s self,
        isa: Isa,
        idx: usize,
        n_cols: usize,
        normed: &'s mut Vec<f32>,
    ) -> &'s [f32] {
        let x = |row: usize| &self.x[row * n_cols..][..n_cols];
        let Some((rows, norm)) = self.norm else {
            return x(idx);
        };
        normed.resize(n_cols, 0.0);
        isa.rms_norm(x(rows[idx] as usize), norm, normed);
        normed
    }
}

impl Team<'_> {
    /// Writes the token rows `x: [n_tokens, n_cols]` into `out`, in the forms that the
    /// products to come need. What `out` held before is gone.
    ///
    /// A block that holds NaN or infinity gets the scale NaN, so that every result it
    /// enters is NaN.
    ///
    /// # Panics
    /// If `n_cols` is zero, `x` is no whole number of rows, or a row is no whole number
    /// of blocks: of 32 for [`Q8Small`](crate::ActivationForm::Q8Small), of 256 for
    /// [`Q8Super`](crate::ActivationForm::Q8Super).
    pub fn activate(&self, x: &[f32], n_cols: usize, forms: Forms, out: &mut Activations) {
        assert!(
            n_cols > 0 && x.len().is_multiple_of(n_cols),
            "{} floats are no rows of {n_cols}",
            x.len()
        );
        let buffers = out.resize(x.len() / n_cols, n_cols, forms);
        self.fill(buffers, Source { x, norm: None });
    }

    /// Norms the rows of `x: [_, n_cols]` that `rows` names and writes them into `out`,
    /// as [`Self::activate`] does. The rows have the length of the norm's weight.
    ///
    /// # Panics
    /// As [`Self::activate`], and if a row does not exist.
    pub fn activate_normed(
        &self,
        x: &[f32],
        rows: &[u32],
        norm: Norm<'_>,
        forms: Forms,
        out: &mut Activations,
    ) {
        let n_cols = norm.weight.len();
        assert!(n_cols > 0, "rows without columns");
        let buffers = out.resize(rows.len(), n_cols, forms);
        let norm = Some((rows, norm));
        self.fill(buffers, Source { x, norm });
    }

    /// Writes every row in all forms, while it is in the first cache.
    fn fill(&self, buffers: Buffers<'_>, source: Source<'_>) {
        let Buffers {
            n_rows,
            n_cols,
            groups,
            floats,
            small,
            superblocks,
        } = buffers;
        let isa = self.isa();
        let blocks = (Rows::new(small, groups), Rows::new(superblocks, groups));
        self.crew.for_each_part(
            &(Rows::new(floats, n_cols), blocks),
            n_rows,
            (UNIT_FLOATS / n_cols).max(1),
            |member| self.scratch(member),
            |scratch, rows, (floats, (small, superblocks))| {
                let mut floats = floats.chunks_mut(n_cols);
                let mut small = small.chunks_mut(groups);
                let mut superblocks = superblocks.chunks_mut(groups);
                for idx in rows {
                    let x = source.row(isa, idx, n_cols, &mut scratch.normed);
                    if let Some(out) = floats.next() {
                        out.copy_from_slice(x);
                    }
                    if let Some(out) = small.next() {
                        isa.quantize_small(x, out);
                    }
                    if let Some(out) = superblocks.next() {
                        isa.quantize_super(x, out);
                    }
                }
            },
        );
    }
}

impl Isa {
    /// Quantizes a row to blocks of 256.
    pub(crate) fn quantize_super(self, x: &[f32], out: &mut [ActSuper]) {
        self.run(QuantizeSuper(x, out));
    }

    /// Quantizes a row to groups of eight blocks of 32.
    pub(crate) fn quantize_small(self, x: &[f32], out: &mut [ActSmall]) {
        self.run(QuantizeSmall(x, out));
    }
}

struct QuantizeSuper<'a>(&'a [f32], &'a mut [ActSuper]);

impl LaneOp for QuantizeSuper<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: F32x16>(self) {
        let (blocks, _) = self.0.as_chunks::<256>();
        for (x, out) in blocks.iter().zip(self.1) {
            out.d = quantize::<L, 256>(x, &mut out.q);
            for (sum, q) in out.sums16.iter_mut().zip(out.q.as_chunks::<16>().0) {
                *sum = q.iter().map(|&q| i16::from(q)).sum();
            }
            for (sum, pair) in out.sums32.iter_mut().zip(out.sums16.as_chunks::<2>().0) {
                *sum = pair[0] + pair[1];
            }
        }
    }
}

struct QuantizeSmall<'a>(&'a [f32], &'a mut [ActSmall]);

impl LaneOp for QuantizeSmall<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: F32x16>(self) {
        for (group, out) in self.0.chunks(256).zip(self.1) {
            if group.len() < 256 {
                *out = ActSmall::zeroed();
            }
            let (blocks, _) = group.as_chunks::<32>();
            let (qs, _) = out.q.as_chunks_mut::<32>();
            for (((x, q), d), sum) in blocks.iter().zip(qs).zip(&mut out.d).zip(&mut out.sums) {
                *d = quantize::<L, 32>(x, q);
                *sum = q.iter().map(|&q| i32::from(q)).sum();
            }
        }
    }
}

/// Writes `q[i] = round(x[i] · 127 / max|x|)` and returns the scale `max|x| / 127`; NaN
/// with zeros if any `x` is not finite, so that it cannot pass unseen.
#[inline(always)]
pub(crate) fn quantize<L: F32x16, const N: usize>(x: &[f32; N], q: &mut [i8; N]) -> f32 {
    // As integers, magnitudes order like the floats they are, with infinity and NaN on
    // top.
    let largest = x
        .iter()
        .fold(0, |largest, x| largest.max(x.to_bits() & 0x7fff_ffff));
    let largest = f32::from_bits(largest);
    if !largest.is_finite() {
        q.fill(0);
        return f32::NAN;
    }
    if largest < SMALLEST {
        q.fill(0);
        return 0.0;
    }
    let inverse = L::splat(127.0 / largest);
    for (x, q) in x.as_chunks::<16>().0.iter().zip(q.as_chunks_mut::<16>().0) {
        let mut rounded = [0.0; 16];
        L::load(x).mul(inverse).round().store(&mut rounded);
        for (q, rounded) in q.iter_mut().zip(rounded) {
            *q = rounded as i32 as i8;
        }
    }
    largest / 127.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(n: usize) -> Vec<f32> {
        (0..n)
            .map(|i| ((i * 7919 % 1009) as f32 - 504.0) * 0.013)
            .collect()
    }

    #[test]
    fn every_instruction_set_quantizes_alike() {
        let x = sample(512);
        let run = |isa: Isa| {
            let mut sup = [ActSuper::zeroed(); 2];
            isa.quantize_super(&x, &mut sup);
            let mut small = [ActSmall::zeroed(); 2];
            isa.quantize_small(&x[..320], &mut small);
            format!("{sup:?}{small:?}")
        };
        for isa in Isa::available() {
            assert_eq!(run(isa), run(Isa::SCALAR), "{isa}");
        }
    }

    #[test]
    fn values_come_back_within_half_a_step() {
        let x = sample(256);
        let mut out = [ActSuper::zeroed()];
        Isa::detect().quantize_super(&x, &mut out);
        for (x, q) in x.iter().zip(out[0].q) {
            assert!((x - out[0].d * f32::from(q)).abs() <= out[0].d * 0.5001);
        }
        let sums: i32 = out[0].sums16.iter().map(|&s| i32::from(s)).sum();
        assert_eq!(sums, out[0].q.iter().map(|&q| i32::from(q)).sum::<i32>());
    }

    #[test]
    fn what_is_not_finite_makes_the_scale_nan() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = sample(256);
            x[100] = bad;
            let mut out = [ActSuper::zeroed()];
            Isa::detect().quantize_super(&x, &mut out);
            assert!(out[0].d.is_nan() && out[0].q == [0; 256]);
        }
    }

    #[test]
    fn tiny_and_zero_rows_are_zero() {
        for tiny in [0.0, 1e-40, -1e-38] {
            let mut out = [ActSuper::zeroed()];
            Isa::detect().quantize_super(&[tiny; 256], &mut out);
            assert!(out[0].d == 0.0 && out[0].q == [0; 256]);
        }
    }
}
