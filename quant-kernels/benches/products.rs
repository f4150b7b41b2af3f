//! The matrix products alone, per weight type, instruction set and number of tokens.
//!
//! ```text
//! cargo bench -p quant-kernels --bench products -- q4_k          a type
//! cargo bench -p quant-kernels --bench products -- 'hot.*avx2'   on one instruction set
//! ```
//!
//! Bytes are those of the weights, items the multiplications and additions of weights. A
//! kernel meets its weights in one of two places, and a faster one there may be slower here:
//!
//! - `from_memory`: one or two tokens against a matrix that no cache holds, on all threads,
//!   as in decoding. The median counts, and its bound is how fast memory is read.
//! - `hot`: a few hundred rows that stay in the cache, on one thread, as an expert meets
//!   the tokens of a prompt. The fastest sample counts, and its bound are the multiplier's
//!   operations per cycle.

use std::{fmt, num::NonZeroUsize, thread};

use divan::{
    Bencher,
    counter::{BytesCount, ItemsCount},
};
use quant_kernels::{
    Activations, Cpu, Forms, Isa, MatMut, MatRef, Product, QuantType, quantize_row,
};

/// Types with kernels of their own.
const TYPES: [QuantType; 11] = [
    QuantType::Q4_K,
    QuantType::Q5_K,
    QuantType::Q6_K,
    QuantType::Q8_0,
    QuantType::Q4_0,
    QuantType::IQ4_NL,
    QuantType::IQ4_XS,
    QuantType::MXFP4,
    QuantType::F32,
    QuantType::F16,
    QuantType::BF16,
];

/// Columns of all matrices, the width of Qwen3-30B-A3B.
const N_COLS: usize = 2048;

/// Bytes of a matrix that no cache holds.
const STREAMED_BYTES: usize = 256 << 20;

/// Rows of a matrix that a core's second cache holds, in the smaller types.
const HOT_ROWS: usize = 256;

fn main() {
    divan::main();
}

/// One measurement.
#[derive(Clone, Copy, Debug)]
struct Case {
    ty: QuantType,
    isa: Isa,
    n_tokens: usize,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ty = self.ty.name().to_lowercase();
        write!(f, "{ty} {} x{}", self.isa, self.n_tokens)
    }
}

/// All types on all instruction sets of this processor that are made for speed.
fn cases(n_tokens: &[usize]) -> Vec<Case> {
    let isas: Vec<Isa> = Isa::available().filter(|&isa| isa != Isa::SCALAR).collect();
    let mut cases = Vec::new();
    for ty in TYPES {
        for &isa in &isas {
            cases.extend(n_tokens.iter().map(|&n_tokens| Case { ty, isa, n_tokens }));
        }
    }
    cases
}

#[divan::bench(args = cases(&[1, 2, 32]), max_time = 0.5)]
fn from_memory(bencher: Bencher<'_, '_>, case: Case) {
    let n_threads = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let n_rows = STREAMED_BYTES / row_bytes(case.ty);
    measure(bencher, case, n_threads, n_rows);
}

#[divan::bench(args = cases(&[1, 2, 3, 4, 8, 32]), max_time = 0.2)]
fn hot(bencher: Bencher<'_, '_>, case: Case) {
    measure(bencher, case, NonZeroUsize::MIN, HOT_ROWS);
}

/// Multiplies `n_rows` of weights by the tokens, again and again. The activations are
/// quantized before.
fn measure(bencher: Bencher<'_, '_>, case: Case, n_threads: NonZeroUsize, n_rows: usize) {
    let Case { ty, isa, n_tokens } = case;
    let cpu = Cpu::new(isa, n_threads).expect("threads");
    let bytes = weights(ty, n_rows);
    let x: Vec<f32> = (0..n_tokens * N_COLS).map(number).collect();
    let x_rows: Vec<u32> = (0..n_tokens as u32).collect();
    let product = Product {
        w: MatRef::new(ty, n_rows, N_COLS, &bytes).expect("whole rows"),
        up: None,
        x_rows: &x_rows,
        out_row: 0,
        out_col: 0,
    };
    let mut out = vec![0.0; n_tokens * n_rows];
    cpu.enter(|team| {
        let mut activations = Activations::new();
        let forms = Forms::default().with(ty.activation_form());
        team.activate(&x, N_COLS, forms, &mut activations);
        bencher
            .counter(BytesCount::new(bytes.len()))
            .counter(ItemsCount::new(2 * n_rows * N_COLS * n_tokens))
            .bench_local(|| {
                let out = MatMut::new(&mut out, n_rows);
                team.products(std::slice::from_ref(&product), &activations, out);
            });
    });
}

fn row_bytes(ty: QuantType) -> usize {
    ty.row_bytes(N_COLS).expect("whole blocks")
}

/// Rows of which a few hundred are different, which is all that speed depends on.
fn weights(ty: QuantType, n_rows: usize) -> Vec<u8> {
    const DIFFERENT: usize = 256;
    let row_bytes = row_bytes(ty);
    let mut rows = vec![0; n_rows.min(DIFFERENT) * row_bytes];
    for (idx, row) in rows.chunks_exact_mut(row_bytes).enumerate() {
        let weights: Vec<f32> = (0..N_COLS).map(|col| number(idx * N_COLS + col)).collect();
        quantize_row(ty, &weights, row).expect("finite numbers");
    }
    let n_bytes = n_rows * row_bytes;
    rows.into_iter().cycle().take(n_bytes).collect()
}

/// Numbers between -1 and 1 without a pattern.
fn number(idx: usize) -> f32 {
    let bits = (idx as u32).wrapping_add(1).wrapping_mul(0x9e37_79b9);
    let bits = (bits ^ bits >> 15).wrapping_mul(0x85eb_ca6b);
    (bits >> 8) as f32 / (1 << 23) as f32 - 1.0
}
