#![doc = include_str!("../README.md")]
//!
//! # Formats
//!
//! A [`QuantType`] says how the bytes of a weight row are read. Layouts, tables and
//! constants are ggml's; [`dequantize_row`] gives ggml's values bit for bit.
//!
//! | types | weights per block | bits per weight | can be written |
//! |---|---|---|---|
//! | F32, F16, BF16 | 1 | 32, 16, 16 | yes |
//! | `Q4_0`, `Q4_1`, `Q5_0`, `Q5_1`, `Q8_0` | 32 | 4.5, 5, 5.5, 6, 8.5 | yes |
//! | `Q2_K`, `Q3_K`, `Q4_K`, `Q5_K`, `Q6_K` | 256 | 2.63, 3.44, 4.5, 5.5, 6.56 | yes |
//! | `IQ4_NL`, `MXFP4` | 32 | 4.5, 4.25 | yes |
//! | `IQ4_XS` | 256 | 4.25 | yes |
//! | `IQ1_S`, `IQ1_M` | 256 | 1.56, 1.75 | no |
//! | `IQ2_XXS`, `IQ2_XS`, `IQ2_S` | 256 | 2.06, 2.31, 2.56 | no |
//! | `IQ3_XXS`, `IQ3_S` | 256 | 3.06, 3.44 | no |
//!
//! Every type can be multiplied. Shapes are row-major and written `[n_rows, n_cols]`: a
//! weight matrix has a row per output, activations have a row per token.
//!
//! # Instruction sets
//!
//! An [`Isa`] is a value that exists only where the processor has the instructions:
//! scalar anywhere, AVX2 (with FMA and F16C) and AVX-512 (F, BW, DQ, VL, VNNI) on x86-64.
//! Kernels take the value for proof and never ask again. [`Isa::detect`] gives the best,
//! [`Isa::available`] all, and a name such as `"avx2"` parses to one, or to an error that
//! lists what there is.
//!
//! # Order of rounding
//!
//! The portable code is the specification, and every other path gives its bits:
//!
//! - Activations are quantized to `i8` row by row, so a token's result does not depend on
//!   its neighbours; there is one scale per 256 or per 32 of them ([`ActivationForm`]).
//! - In a product with a quantized row the sums within a block are integers and exact.
//!   Then one fused `f32` multiply-add per block adds the scaled sum to the row's total,
//!   and one more the minimum or offset where the type has it; blocks in ascending order.
//! - A product with a float row has sixteen lanes by column modulo 16, one fused
//!   multiply-add per weight, and folds 16 → 8 → 4 → 2 → 1. A weight with a scale beside it
//!   is multiplied by that first, which rounds once. Norms and softmax sum in the same way.
//! - Attention walks the cache in blocks of [`KV_BLOCK`] positions, ascending, with one
//!   online softmax for one query or many. `exp` is a polynomial of this crate.
//! - Work is divided over rows, heads and tokens, or at fixed places of the context, and
//!   never elsewhere along a sum.
//!
//! NaN and infinity are never hidden: activations that are not finite make the results
//! NaN.
//!
//! # Threads
//!
//! A [`Cpu`] holds an instruction set and threads of its own. [`Cpu::enter`] runs a pass:
//! its caller leads, the other threads join in each phase, and the methods of [`Team`]
//! return when all work of their phase is done. Buffers ([`Activations`],
//! [`AttentionScratch`]) are lent and reused, so a pass allocates nothing once they have
//! grown. Small work on one row, such as [`Isa::rms_norm`], needs no team.
//!
//! Products of one phase share their activations and their output. Here two matrices that
//! read the same token rows, as queries and keys do, write side by side:
//!
//! ```
//! use quant_kernels::{
//!     Activations, Cpu, Forms, Isa, MatMut, MatRef, Product, QuantType, quantize_row,
//! };
//! use std::num::NonZeroUsize;
//!
//! let matrix = |ty: QuantType, weight: f32| {
//!     let mut bytes = vec![0; 32 / ty.block_len() * ty.block_bytes()];
//!     quantize_row(ty, &[weight; 32], &mut bytes).map(|()| bytes)
//! };
//! let (q, k) = (matrix(QuantType::Q8_0, 1.0)?, matrix(QuantType::F16, 2.0)?);
//! let q = MatRef::new(QuantType::Q8_0, 1, 32, &q)?;
//! let k = MatRef::new(QuantType::F16, 1, 32, &k)?;
//! let tokens: Vec<f32> = [[1.0; 32], [-0.5; 32]].concat();
//!
//! let cpu = Cpu::new(Isa::detect(), NonZeroUsize::new(2).unwrap())?;
//! let mut x = Activations::new();
//! let mut out = [0.0; 4];
//! cpu.enter(|team| {
//!     let forms = [q, k].map(|w| w.ty().activation_form()).into_iter();
//!     team.activate(&tokens, 32, forms.fold(Forms::default(), Forms::with), &mut x);
//!     let side_by_side = [(q, 0), (k, 1)].map(|(w, out_col)| Product {
//!         w,
//!         up: None,
//!         x_rows: &[0, 1],
//!         out_row: 0,
//!         out_col,
//!     });
//!     team.products(&side_by_side, &x, MatMut::new(&mut out, 2));
//! });
//! for (found, expected) in out.iter().zip([32.0, 64.0, -16.0, -32.0]) {
//!     assert!((found - expected).abs() < 0.01);
//! }
//! # Ok::<(), quant_kernels::KernelError>(())
//! ```
//!
//! # Errors and panics
//!
//! What comes from outside (bytes, shapes of a file, names, values to quantize) is
//! checked when a view is made, and wrong is a [`KernelError`]. Products cannot fail
//! after that; shapes that the program itself mixes up panic, as each method says.

#[cfg(target_endian = "big")]
compile_error!("weights are read in place, and model files are little-endian");

mod error;
mod quant_type;

mod blocks;
mod quantize;

mod activations;
mod matrix;

mod isa;
mod lanes;

mod scalar;

mod float;
mod float8;
mod math;
mod product;

mod attention;
mod kv;

#[cfg(target_arch = "x86_64")]
mod ahead;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod dwords;
#[cfg(target_arch = "x86_64")]
mod pack;
#[cfg(target_arch = "x86_64")]
mod panel;

mod cpu;
mod phases;
mod pool;

pub use activations::{Activations, Forms};
pub use attention::{AttentionInput, AttentionScratch, AttentionSpan};
pub use blocks::dequantize_row;
pub use cpu::{Cpu, Team};
pub use error::KernelError;
pub use isa::Isa;
pub use kv::{KV_BLOCK, KvBlock, KvShape, KvType};
pub use math::{Norm, Term};
pub use matrix::{MatMut, MatRef, SCALE_BLOCK};
pub use product::Product;
pub use quant_type::{ActivationForm, QuantType};
pub use quantize::{quantize_row, quantize_row_weighted};
