//! Every instruction set, thread count and batch gives the scalar bits.

use std::num::NonZeroUsize;

use proptest::prelude::*;
use quant_kernels::{Activations, Cpu, Forms, Isa, MatMut, MatRef, Product, QuantType};

/// A small generator, so that a case is a seed.
struct Bytes(u64);

impl Bytes {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn float(&mut self) -> f32 {
        ((self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * 3.0
    }
}

/// Blocks of any bits, with factors that keep the results finite.
fn weights(ty: QuantType, n_rows: usize, n_cols: usize, seed: u64) -> Vec<u8> {
    let mut random = Bytes(seed);
    let mut bytes: Vec<u8> = (0..n_rows * ty.row_bytes(n_cols).expect("whole blocks"))
        .map(|_| random.next() as u8)
        .collect();
    match ty {
        QuantType::F32 => {
            for x in bytes.as_chunks_mut::<4>().0 {
                *x = random.float().to_le_bytes();
            }
        }
        QuantType::F16 | QuantType::BF16 => {
            // Clearing the top exponent bit makes either format finite.
            bytes
                .as_chunks_mut::<2>()
                .0
                .iter_mut()
                .for_each(|x| x[1] &= 0xbf);
        }
        QuantType::MXFP4 => {
            bytes
                .chunks_mut(17)
                .for_each(|block| block[0] = 120 + block[0] % 8);
        }
        QuantType::IQ1_M => {
            // The factor is spread over the top nibbles of the scales.
            bytes.chunks_mut(56).for_each(|block| block[55] &= 0xbf);
        }
        _ => {
            for block in bytes.chunks_mut(ty.block_bytes()) {
                for offset in factors(ty) {
                    block[*offset + 1] = (block[*offset + 1] & 0x83) | 0x20;
                }
            }
        }
    }
    bytes
}

/// Where a block keeps its half floats.
fn factors(ty: QuantType) -> &'static [usize] {
    match ty {
        QuantType::Q4_1 | QuantType::Q5_1 | QuantType::Q4_K | QuantType::Q5_K => &[0, 2],
        QuantType::Q2_K => &[80, 82],
        QuantType::Q3_K => &[108],
        QuantType::Q6_K => &[208],
        _ => &[0],
    }
}

/// Activations of any size, with a zero and a tiny block.
fn tokens(n_tokens: usize, n_cols: usize, seed: u64) -> Vec<f32> {
    let mut random = Bytes(seed ^ 0x5555);
    let mut x: Vec<f32> = (0..n_tokens * n_cols).map(|_| random.float()).collect();
    x[..32].fill(0.0);
    x[n_tokens * n_cols - 7..].fill(1e-39);
    x
}

fn product(cpu: &Cpu, w: MatRef<'_>, up: Option<MatRef<'_>>, x: &[f32], rows: &[u32]) -> Vec<u32> {
    let forms = Forms::default().with(w.ty().activation_form());
    let mut out = vec![0.0; rows.len() * w.n_rows()];
    let mut activations = Activations::new();
    cpu.enter(|team| {
        team.activate(x, w.n_cols(), forms, &mut activations);
        let product = Product {
            w,
            up,
            x_rows: rows,
            out_row: 0,
            out_col: 0,
        };
        team.products(&[product], &activations, MatMut::new(&mut out, w.n_rows()));
    });
    out.iter().map(|x| x.to_bits()).collect()
}

fn cpu(isa: Isa, n_threads: usize) -> Cpu {
    Cpu::new(isa, NonZeroUsize::new(n_threads).expect("threads")).expect("a team")
}

fn check(ty: QuantType, n_rows: usize, n_cols: usize, n_tokens: usize, seed: u64) {
    let bytes = weights(ty, n_rows, n_cols, seed);
    let w = MatRef::new(ty, n_rows, n_cols, &bytes).expect("a matrix");
    let x = tokens(n_tokens, n_cols, seed);
    let all: Vec<u32> = (0..n_tokens as u32).collect();
    let expected = product(&cpu(Isa::SCALAR, 1), w, None, &x, &all);
    let case = format!("{ty} [{n_rows}, {n_cols}] × {n_tokens}, seed {seed}");
    assert!(
        expected.iter().all(|&x| f32::from_bits(x).is_finite()),
        "{case}: not finite"
    );
    for isa in Isa::available() {
        let one = cpu(isa, 1);
        assert!(
            product(&one, w, None, &x, &all) == expected,
            "{isa}: {case}"
        );
        // Each token by itself, and in pairs, takes the path of decoding.
        for rows in all.chunks(2).chain(all.chunks(1).take(3)) {
            let some = product(&one, w, None, &x, rows);
            let start = rows[0] as usize * n_rows;
            assert!(
                some == expected[start..start + some.len()],
                "{isa}, rows {rows:?}: {case}"
            );
        }
    }
}

#[test]
fn every_type_gives_the_scalar_bits() {
    for (i, ty) in QuantType::ALL.into_iter().enumerate() {
        let unit = ty.block_len().max(32);
        for (n_rows, n_blocks, n_tokens) in [
            (1, 1, 1),
            (16, 1, 4),
            (17, 3, 8),
            (33, 2, 9),
            (5, 9, 65),
            (64, 3, 3),
        ] {
            check(
                ty,
                n_rows,
                n_blocks * unit,
                n_tokens,
                (i * 100 + n_tokens) as u64,
            );
        }
    }
}

#[test]
fn float_rows_of_any_length_give_the_scalar_bits() {
    for ty in [QuantType::F32, QuantType::F16, QuantType::BF16] {
        for n_cols in [33, 47, 48, 130] {
            check(ty, 7, n_cols, 6, n_cols as u64);
        }
    }
}

#[test]
fn extreme_integers_stay_exact() {
    for ty in QuantType::ALL {
        if ty.block_len() == 1 {
            continue;
        }
        for fill in [0x00, 0xff, 0x80, 0x7f] {
            let (n_rows, n_cols) = (17, 512);
            let mut bytes = vec![fill; n_rows * ty.row_bytes(n_cols).unwrap()];
            for block in bytes.chunks_mut(ty.block_bytes()) {
                match ty {
                    QuantType::MXFP4 => block[0] = 127,
                    QuantType::IQ1_M => block[55] &= 0xbf,
                    _ => factors(ty).iter().for_each(|&at| {
                        [block[at], block[at + 1]] = [0x00, 0x3c];
                    }),
                }
            }
            let w = MatRef::new(ty, n_rows, n_cols, &bytes).unwrap();
            for x in [1.0f32, -1.0] {
                let x = vec![x; 5 * n_cols];
                let rows = [0, 1, 2, 3, 4];
                let expected = product(&cpu(Isa::SCALAR, 1), w, None, &x, &rows);
                for isa in Isa::available() {
                    for rows in [&rows[..], &rows[..1]] {
                        let got = product(&cpu(isa, 1), w, None, &x, rows);
                        assert!(got == expected[..got.len()], "{isa} {ty} {fill:#x}");
                    }
                }
            }
        }
    }
}

#[test]
fn threads_and_gates_do_not_change_a_bit() {
    let (n_rows, n_cols, n_tokens) = (200, 256, 11);
    let gate = weights(QuantType::Q4_K, n_rows, n_cols, 1);
    let up = weights(QuantType::Q6_K, n_rows, n_cols, 2);
    let gate = MatRef::new(QuantType::Q4_K, n_rows, n_cols, &gate).unwrap();
    let up = MatRef::new(QuantType::Q6_K, n_rows, n_cols, &up).unwrap();
    let x: Vec<f32> = tokens(n_tokens, n_cols, 3)
        .iter()
        .map(|x| x * 1e-3)
        .collect();
    let rows: Vec<u32> = (0..n_tokens as u32).rev().collect();
    let expected = product(&cpu(Isa::SCALAR, 1), gate, Some(up), &x, &rows);
    for isa in Isa::available() {
        for n_threads in 1..=4 {
            let got = product(&cpu(isa, n_threads), gate, Some(up), &x, &rows);
            assert!(got == expected, "{isa}, {n_threads} threads");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_shape_gives_the_scalar_bits(
        ty in 0..QuantType::ALL.len(),
        n_rows in 1usize..40,
        n_blocks in 1usize..4,
        n_tokens in 1usize..20,
        seed: u64,
    ) {
        let ty = QuantType::ALL[ty];
        check(ty, n_rows, n_blocks * ty.block_len().max(32), n_tokens, seed);
    }
}
