//! Products of weight rows and token rows: what one strip of work is, and who computes
//! it.
//!
//! [`scalar`] says what a product is; the other instruction sets give the
//! same bits. A strip is some rows of one weight matrix times some token rows of the
//! activations; its results go to a tile of the output, token by token.

use std::ops::Range;

use crate::{
    Isa, QuantType,
    activations::Activations,
    attention::WalkScratch,
    blocks::{
        BlockIq1M, BlockIq1S, BlockIq2S, BlockIq2Xs, BlockIq2Xxs, BlockIq3S, BlockIq3Xxs,
        BlockIq4Nl, BlockIq4Xs, BlockMxfp4, BlockQ2K, BlockQ3K, BlockQ4_0, BlockQ4_1, BlockQ4K,
        BlockQ5_0, BlockQ5_1, BlockQ5K, BlockQ6K, BlockQ8_0, SmallBlock, SuperBlock,
    },
    float::{Bf16, F16, F32, FloatWeight},
    float8::F8,
    isa::Kind,
    matrix::{MatMut, MatRef},
    pool::TileMut,
    scalar,
};

/// Weight rows times token rows.
#[derive(Clone, Copy)]
pub(crate) struct Strip<'a> {
    /// The weights, only the rows of this strip.
    pub(crate) w: MatRef<'a>,
    /// The activations, in the form that `w` needs.
    pub(crate) x: &'a Activations,
    /// The token rows to multiply, by index.
    pub(crate) x_rows: &'a [u32],
    /// The weights that the same thread multiplies next, if it is known: memory can be asked
    /// for them.
    pub(crate) next: Option<MatRef<'a>>,
}

impl<'a> Strip<'a> {
    /// Returns the blocks of one weight row.
    #[inline]
    pub(crate) fn blocks<B: bytemuck::AnyBitPattern>(&self, row: usize) -> &'a [B] {
        bytemuck::cast_slice(self.w.row_bytes(row))
    }

    /// Returns how far from a row, in address space, the bytes are that a thread which reads
    /// all rows meets `ahead` bytes later: near the end of the strip in the next one.
    #[inline]
    pub(crate) fn distance(&self, row: usize, ahead: usize) -> usize {
        let bytes = self.w.bytes();
        let row_start = row * (bytes.len() / self.w.n_rows());
        let beyond = (row_start + ahead).checked_sub(bytes.len());
        match (self.next, beyond) {
            (Some(next), Some(beyond)) => {
                let (here, there) = (&raw const bytes[row_start], next.bytes().as_ptr());
                there.addr().wrapping_add(beyond).wrapping_sub(here.addr())
            }
            _ => ahead,
        }
    }

    /// Returns the token row at a place in the strip.
    #[inline]
    pub(crate) fn x_row(&self, token: usize) -> usize {
        self.x_rows[token] as usize
    }
}

/// A kernel for every family of weights; [`visit`] picks the one for a type.
pub(crate) trait StripKernel {
    fn superblocks<B: SuperBlock>(self);
    fn small_blocks<B: SmallBlock>(self);
    fn floats<F: FloatWeight>(self);
}

/// Calls the kernel with the block type of `ty`.
pub(crate) fn visit(ty: QuantType, kernel: impl StripKernel) {
    match ty {
        QuantType::F32 => kernel.floats::<F32>(),
        QuantType::F16 => kernel.floats::<F16>(),
        QuantType::BF16 => kernel.floats::<Bf16>(),
        QuantType::F8_E4M3 => kernel.floats::<F8>(),
        QuantType::Q4_0 => kernel.small_blocks::<BlockQ4_0>(),
        QuantType::Q4_1 => kernel.small_blocks::<BlockQ4_1>(),
        QuantType::Q5_0 => kernel.small_blocks::<BlockQ5_0>(),
        QuantType::Q5_1 => kernel.small_blocks::<BlockQ5_1>(),
        QuantType::Q8_0 => kernel.small_blocks::<BlockQ8_0>(),
        QuantType::IQ4_NL => kernel.small_blocks::<BlockIq4Nl>(),
        QuantType::MXFP4 => kernel.small_blocks::<BlockMxfp4>(),
        QuantType::Q2_K => kernel.superblocks::<BlockQ2K>(),
        QuantType::Q3_K => kernel.superblocks::<BlockQ3K>(),
        QuantType::Q4_K => kernel.superblocks::<BlockQ4K>(),
        QuantType::Q5_K => kernel.superblocks::<BlockQ5K>(),
        QuantType::Q6_K => kernel.superblocks::<BlockQ6K>(),
        QuantType::IQ1_S => kernel.superblocks::<BlockIq1S>(),
        QuantType::IQ1_M => kernel.superblocks::<BlockIq1M>(),
        QuantType::IQ2_XXS => kernel.superblocks::<BlockIq2Xxs>(),
        QuantType::IQ2_XS => kernel.superblocks::<BlockIq2Xs>(),
        QuantType::IQ2_S => kernel.superblocks::<BlockIq2S>(),
        QuantType::IQ3_XXS => kernel.superblocks::<BlockIq3Xxs>(),
        QuantType::IQ3_S => kernel.superblocks::<BlockIq3S>(),
        QuantType::IQ4_XS => kernel.superblocks::<BlockIq4Xs>(),
    }
}

/// Buffers that one thread reuses from strip to strip.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// A row after its norm.
    pub(crate) normed: Vec<f32>,
    /// Results that are used up within a unit: of the second matrix of a gated product, or
    /// of what is added to the output.
    pub(crate) results: Results,
    /// Unpacked or packed weights of the kernels.
    pub(crate) kernel: KernelScratch,
    /// Running results of attention.
    pub(crate) attention: WalkScratch,
}

/// A buffer that only grows.
#[derive(Debug, Default)]
pub(crate) struct Results(Vec<f32>);

impl Results {
    /// Returns `len` floats, whatever they hold.
    pub(crate) fn floats(&mut self, len: usize) -> &mut [f32] {
        if self.0.len() < len {
            self.0.resize(len, 0.0);
        }
        &mut self.0[..len]
    }
}

/// Buffers of the kernels.
#[derive(Debug, Default)]
pub(crate) struct KernelScratch {
    pub(crate) scalar: scalar::Scratch,
    #[cfg(target_arch = "x86_64")]
    pub(crate) panels: crate::panel::Panels,
}

impl Isa {
    /// Computes a strip.
    #[cfg_attr(
        target_arch = "x86_64",
        expect(unsafe_code, reason = "the border to code compiled with features")
    )]
    pub(crate) fn strip(
        self,
        strip: Strip<'_>,
        scratch: &mut KernelScratch,
        out: &mut TileMut<'_>,
    ) {
        match self.kind() {
            Kind::Scalar => {
                visit(
                    strip.w.ty(),
                    scalar::Kernel {
                        strip,
                        scratch: &mut scratch.scalar,
                        out,
                    },
                );
            }
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => {
                // SAFETY: an `Isa` of this kind exists only if avx2, fma and f16c were
                // seen.
                unsafe { crate::avx2::strip(strip, &mut scratch.panels, out) }
            }
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => {
                // SAFETY: an `Isa` of this kind exists only if avx512f, bw, dq, vl and
                // vnni were seen, beside those of `Kind::Avx2`.
                unsafe { crate::avx512::strip(strip, &mut scratch.panels, out) }
            }
            #[cfg(not(target_arch = "x86_64"))]
            Kind::Avx2 | Kind::Avx512 => unreachable!("never detected on this architecture"),
        }
    }

    /// Multiplies bytes in registers, about a thousand products in each step, on this thread
    /// alone, and returns how many products that were: whoever measures the time knows what
    /// the multiplier could do if nothing else were to be done. `None` for portable code,
    /// which does not say how it multiplies.
    #[cfg_attr(
        target_arch = "x86_64",
        expect(unsafe_code, reason = "the border to code compiled with features")
    )]
    pub fn multiply_flat_out(self, n_steps: usize) -> Option<usize> {
        match self.kind() {
            Kind::Scalar => None,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => {
                // SAFETY: an `Isa` of this kind exists only if avx2, fma and f16c were
                // seen.
                Some(unsafe { crate::avx2::multiply(n_steps) })
            }
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => {
                // SAFETY: an `Isa` of this kind exists only if avx512f, bw, dq, vl and
                // vnni were seen, beside those of `Kind::Avx2`.
                Some(unsafe { crate::avx512::multiply(n_steps) })
            }
            #[cfg(not(target_arch = "x86_64"))]
            Kind::Avx2 | Kind::Avx512 => unreachable!("never detected on this architecture"),
        }
    }

    /// Computes a strip of `w · x`, or of `silu(w · x) · (up · x)`.
    pub(crate) fn gated_strip(
        self,
        strip: Strip<'_>,
        up: Option<MatRef<'_>>,
        scratch: &mut Scratch,
        out: &mut TileMut<'_>,
    ) {
        let first = Strip {
            next: up.or(strip.next),
            ..strip
        };
        self.strip(first, &mut scratch.kernel, out);
        let Some(up) = up else { return };
        let n_rows = up.n_rows();
        let strip = Strip { w: up, ..strip };
        let results = scratch.results.floats(strip.x_rows.len() * n_rows);
        MatMut::new(results, n_rows).whole(|mut tile| {
            self.strip(strip, &mut scratch.kernel, &mut tile);
            for token in 0..strip.x_rows.len() {
                self.swiglu(out.row(token), tile.row(token));
            }
        });
    }
}

/// One matrix product of a phase: `out[out_row + i, out_col + r] = w[r] · x[x_rows[i]]`.
///
/// With a second matrix `up` it is gated: `silu(w[r] · x) · (up[r] · x)`.
/// [`Team::products`](crate::Team::products) and its siblings compute it.
#[derive(Clone, Debug)]
pub struct Product<'a> {
    /// The weights `[n_rows, n_cols]`.
    pub w: MatRef<'a>,
    /// The second matrix of a gated product: the shape of `w`, of any type.
    pub up: Option<MatRef<'a>>,
    /// Rows of the activations, by index, in any order; a row may come more than once.
    pub x_rows: &'a [u32],
    /// First row of the output; as many as `x_rows` are written.
    pub out_row: usize,
    /// First column of the output; as many as `w` has rows are written.
    pub out_col: usize,
}

impl Product<'_> {
    pub(crate) fn strip_rows(&self, rows: Range<usize>) -> (MatRef<'_>, Option<MatRef<'_>>) {
        (self.w.rows(rows.clone()), self.up.map(|up| up.rows(rows)))
    }

    /// Asserts that the activations fit.
    pub(crate) fn check(&self, x: &Activations) {
        for w in [Some(self.w), self.up].into_iter().flatten() {
            let (ty, n_rows, n_cols) = (w.ty(), w.n_rows(), w.n_cols());
            assert_eq!(n_cols, x.n_cols(), "{ty} columns and activations differ");
            assert_eq!(n_rows, self.w.n_rows(), "gate and up differ");
            assert!(
                x.has(ty.activation_form()),
                "activations lack the form for {ty}"
            );
        }
        let n_rows = x.n_rows();
        assert!(
            self.x_rows.iter().all(|&row| (row as usize) < n_rows),
            "a token row is not below {n_rows}"
        );
    }
}
