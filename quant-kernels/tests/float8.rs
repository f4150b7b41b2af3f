//! Products with E4M3 weights have the bits of products with the same weights in F32, on every
//! instruction set, with any number of threads and tokens.

use std::num::NonZeroUsize;

use proptest::prelude::*;
use quant_kernels::{Activations, Cpu, Forms, Isa, MatMut, MatRef, Product, QuantType};

fn product(cpu: &Cpu, w: MatRef<'_>, up: MatRef<'_>, x: &[f32]) -> Vec<u32> {
    let n_tokens = x.len() / w.n_cols();
    let x_rows: Vec<u32> = (0..n_tokens as u32).collect();
    let forms = Forms::default().with(w.ty().activation_form());
    let mut out = vec![0.0; n_tokens * 2 * w.n_rows()];
    let mut activations = Activations::new();
    cpu.enter(|team| {
        team.activate(x, w.n_cols(), forms, &mut activations);
        let products = [(None, 0), (Some(up), w.n_rows())].map(|(up, out_col)| Product {
            w,
            up,
            x_rows: &x_rows,
            out_row: 0,
            out_col,
        });
        team.products(
            &products,
            &activations,
            MatMut::new(&mut out, 2 * w.n_rows()),
        );
    });
    out.iter().map(|x| x.to_bits()).collect()
}

/// A matrix as its bytes, and the bytes of its scales.
fn matrix(n_rows: usize, n_cols: usize, seed: u64, is_f32: bool) -> (Vec<u8>, Vec<u8>) {
    let mut state = seed;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32
    };
    // Any byte but NaN.
    let weights = (0..n_rows * n_cols).map(|_| next() as u8);
    let weights = weights
        .map(|byte| if byte & 0x7f == 0x7f { 0x7e } else { byte })
        .collect();
    let n_scales = n_rows.div_ceil(128) * n_cols.div_ceil(128);
    let scales = (0..n_scales).flat_map(|_| {
        let bytes = (0.001 + next() as f32 / 1e12).to_le_bytes();
        bytes[if is_f32 { 0 } else { 2 }..].to_vec()
    });
    (weights, scales.collect())
}

fn wide(w: MatRef<'_>) -> Vec<u8> {
    let mut row = vec![0.0; w.n_cols()];
    let rows = (0..w.n_rows()).flat_map(|idx| {
        w.dequantize_row(idx, &mut row);
        row.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>()
    });
    rows.collect()
}

fn check(n_rows: usize, n_cols: usize, n_tokens: usize, seed: u64) {
    let x: Vec<f32> = (0..n_tokens * n_cols)
        .map(|i| ((i * 37 + 11) % 101) as f32 / 50.0 - 1.0)
        .collect();
    let ty = QuantType::F8_E4M3;
    let parts = [true, false].map(|is_f32| matrix(n_rows, n_cols, seed, is_f32));
    let types = [QuantType::F32, QuantType::BF16];
    let matrices = [0, 1].map(|idx| {
        let (weights, scales) = &parts[idx];
        let w = MatRef::new(ty, n_rows, n_cols, weights).expect("a matrix");
        w.with_scales(types[idx], scales).expect("its scales")
    });
    let bytes = matrices.map(wide);
    let plain = [0, 1]
        .map(|idx| MatRef::new(QuantType::F32, n_rows, n_cols, &bytes[idx]).expect("a matrix"));
    let cpu = |isa, n_threads| Cpu::new(isa, NonZeroUsize::new(n_threads).expect("threads"));
    let one = cpu(Isa::SCALAR, 1).expect("a team");
    let expected = product(&one, plain[0], plain[1], &x);
    assert!(expected.iter().any(|&bits| bits << 1 != 0), "all zero");
    for isa in Isa::available() {
        for n_threads in [1, 3] {
            let cpu = cpu(isa, n_threads).expect("a team");
            assert!(
                product(&cpu, matrices[0], matrices[1], &x) == expected,
                "[{n_rows}, {n_cols}] × {n_tokens}, {isa}, {n_threads} threads"
            );
        }
    }
}

#[test]
fn products_have_the_bits_of_the_weights_in_f32() {
    for n_tokens in [1, 2, 5] {
        for (n_rows, n_cols) in [
            (1, 16),
            (7, 31),
            (128, 128),
            (129, 129),
            (300, 256),
            (131, 500),
        ] {
            check(n_rows, n_cols, n_tokens, 1);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_shape_has_the_bits_of_the_weights_in_f32(
        n_rows in 1_usize..280,
        n_cols in 16_usize..300,
        n_tokens in 1_usize..8,
        seed: u64,
    ) {
        check(n_rows, n_cols, n_tokens, seed);
    }
}
