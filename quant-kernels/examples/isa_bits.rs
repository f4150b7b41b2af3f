//! Multiplies a `Q4_K` matrix by three tokens on every instruction set of this machine.
#![expect(clippy::print_stdout, reason = "an example shows its result")]

use std::num::NonZeroUsize;

use quant_kernels::{
    Activations, Cpu, Forms, Isa, KernelError, MatMut, MatRef, Product, QuantType, quantize_row,
};

fn main() -> Result<(), KernelError> {
    let noise = |i: usize| (i * 7919 % 1009) as f32 / 504.0 - 1.0;
    let (weights, tokens): (Vec<f32>, Vec<f32>) =
        (0..3 * 1024).map(|i| (noise(i), noise(i * i))).unzip();
    let mut blocks = [0; 3 * 1024 / 256 * 144];
    quantize_row(QuantType::Q4_K, &weights, &mut blocks)?;
    let w = MatRef::new(QuantType::Q4_K, 3, 1024, &blocks)?;
    let forms = Forms::default().with(w.ty().activation_form());
    let products = [Product {
        w,
        up: None,
        x_rows: &[0, 1, 2],
        out_row: 0,
        out_col: 0,
    }];
    for isa in Isa::available() {
        let (mut x, mut y) = (Activations::new(), [0.0; 9]);
        Cpu::new(isa, NonZeroUsize::MIN)?.enter(|team| {
            team.activate(&tokens, 1024, forms, &mut x);
            team.products(&products, &x, MatMut::new(&mut y, 3));
        });
        println!("{isa}: {:08x?}", y.map(f32::to_bits));
        for (i, y) in y.into_iter().enumerate() {
            let (token, row) = (&tokens[i / 3 * 1024..], &weights[i % 3 * 1024..][..1024]);
            let exact: f32 = row.iter().zip(token).map(|(w, x)| w * x).sum();
            println!("{y:9.4}, in f32 {exact:9.4}, error {:7.4}", y - exact);
        }
    }
    Ok(())
}
