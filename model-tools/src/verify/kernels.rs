//! Whether fast kernels give the scalar code's bits on the weights of this file.
//!
//! That they do on made-up weights is what the tests of `quant-kernels` show; here rows of the
//! file itself are multiplied. There are three ways through the kernels, by the number of
//! tokens: one, a few for which weights are read in place, and many for which they are packed.
//! Rows are taken from every expert for one token, and from the first and the last for more.

use std::collections::BTreeMap;

use moe_model::Weights;
use quant_kernels::{Activations, Cpu, Forms, Isa, MatMut, MatRef, Product};

use super::{Depth, Progress, Stage, StageReport, Subject, VerifyOptions};
use crate::ToolError;

/// Tokens of a product: one way through the kernels each.
const N_TOKENS: [usize; 3] = [1, 3, 40];

/// Rows of each expert that are multiplied with one token, and with more.
const N_ROWS: [usize; 3] = [16, 48, 48];

/// Experts of a tensor that are looked at where samples are.
const SAMPLED_EXPERTS: usize = 8;

/// A tensor: one matrix, or those of the experts.
struct Tensor<'a> {
    name: String,
    matrices: Vec<MatRef<'a>>,
}

/// Multiplies rows of all tensors with every instruction set of the machine.
pub(super) fn check(
    subject: &Subject<'_>,
    options: &VerifyOptions,
    progress: &mut Progress<'_>,
) -> Result<StageReport, ToolError> {
    let fast: Vec<Isa> = Isa::available().filter(|isa| *isa != Isa::SCALAR).collect();
    if fast.is_empty() {
        let why = "this processor has the portable kernels only";
        return Ok(StageReport::skipped(Stage::Kernels, why));
    }
    let cpu = |isa| Cpu::new(isa, options.n_threads);
    let scalar = cpu(Isa::SCALAR)?;
    let fast = fast.into_iter().map(cpu).collect::<Result<Vec<_>, _>>()?;
    let mut tensors = tensors(subject.model.weights());
    if options.depth == Depth::Quick {
        let mut seen = BTreeMap::<_, usize>::new();
        // The types in the shapes that there are: a row of another length is cut otherwise.
        tensors.retain(|tensor| {
            let matrix = tensor.matrices[0];
            let n = seen.entry((matrix.ty().name(), matrix.n_cols()));
            *n.and_modify(|n| *n += 1).or_insert(1) == 1
        });
    }
    let mut report = StageReport::new(Stage::Kernels);
    let mut n_products = BTreeMap::<&str, u64>::new();
    let mut compared = Compared::default();
    for (idx, tensor) in tensors.iter().enumerate() {
        progress.tell(idx as u64, tensors.len() as u64)?;
        let before = compared.n_products;
        compared.compare(tensor, &scalar, &fast, options.depth, &mut report);
        let ty = tensor.matrices[0].ty().name();
        *n_products.entry(ty).or_default() += compared.n_products - before;
    }
    let names: Vec<&str> = fast.iter().map(|cpu| cpu.isa().name()).collect();
    report.figure("instruction sets", names.join(", "), "");
    report.figure("tensors", tensors.len(), "");
    for (ty, n) in n_products {
        report.figure(ty, n, "products of a row and a token");
    }
    Ok(report)
}

/// Buffers, and how much was compared.
#[derive(Default)]
struct Compared {
    x: Vec<f32>,
    n_products: u64,
}

impl Compared {
    fn compare(
        &mut self,
        tensor: &Tensor<'_>,
        scalar: &Cpu,
        fast: &[Cpu],
        depth: Depth,
        report: &mut StageReport,
    ) {
        for (n_tokens, n_rows) in N_TOKENS.into_iter().zip(N_ROWS) {
            let slices = slices(tensor, n_tokens, n_rows, depth);
            fill(&mut self.x, n_tokens * tensor.matrices[0].n_cols());
            let expected = multiply(scalar, &slices, &self.x);
            self.n_products += expected.len() as u64;
            for cpu in fast {
                let found = multiply(cpu, &slices, &self.x);
                let Some((at, expected, found)) = difference(&expected, &found) else {
                    continue;
                };
                let per_token: usize = slices.iter().map(|slice| slice.rows.n_rows()).sum();
                let (token, column) = (at / per_token, at % per_token);
                let place = place(tensor, &slices, column);
                let isa = cpu.isa();
                let text = format!(
                    "{isa} gives {found:e} for token {token} of {n_tokens}, scalar {expected:e}"
                );
                report.error(place, text);
            }
        }
    }
}

/// Rows of a matrix.
struct Slice<'a> {
    expert: usize,
    first_row: usize,
    rows: MatRef<'a>,
}

fn slices<'a>(tensor: &Tensor<'a>, n_tokens: usize, n_rows: usize, depth: Depth) -> Vec<Slice<'a>> {
    let n_experts = tensor.matrices.len();
    let step = match (n_tokens, depth) {
        (1, Depth::Full) => 1,
        (1, Depth::Quick) => n_experts.div_ceil(SAMPLED_EXPERTS),
        _ => (n_experts - 1).max(1),
    };
    (0..n_experts)
        .step_by(step)
        .map(|expert| {
            let matrix = tensor.matrices[expert];
            let n_rows = n_rows.min(matrix.n_rows());
            // Any place will do; these differ from expert to expert.
            let first_row = expert * 7919 % (matrix.n_rows() - n_rows + 1);
            Slice {
                expert,
                first_row,
                rows: matrix.rows(first_row..first_row + n_rows),
            }
        })
        .collect()
}

fn place(tensor: &Tensor<'_>, slices: &[Slice<'_>], column: usize) -> String {
    let mut before = 0;
    for slice in slices {
        if column < before + slice.rows.n_rows() {
            let row = slice.first_row + column - before;
            let which = match tensor.matrices.len() {
                1 => String::new(),
                _ => format!(", expert {}", slice.expert),
            };
            return format!("{}{which}, row {row}", tensor.name);
        }
        before += slice.rows.n_rows();
    }
    tensor.name.clone()
}

/// Returns the products of all slices, side by side, token by token.
fn multiply(cpu: &Cpu, slices: &[Slice<'_>], x: &[f32]) -> Vec<f32> {
    let first = slices[0].rows;
    let n_tokens = x.len() / first.n_cols();
    let x_rows: Vec<u32> = (0..n_tokens as u32).collect();
    let mut out_col = 0;
    let products: Vec<Product<'_>> = slices
        .iter()
        .map(|slice| {
            let product = Product {
                w: slice.rows,
                up: None,
                x_rows: &x_rows,
                out_row: 0,
                out_col,
            };
            out_col += slice.rows.n_rows();
            product
        })
        .collect();
    let mut out = vec![0.0; n_tokens * out_col];
    let mut activations = Activations::new();
    cpu.enter(|team| {
        let forms = Forms::default().with(first.ty().activation_form());
        team.activate(x, first.n_cols(), forms, &mut activations);
        team.products(&products, &activations, MatMut::new(&mut out, out_col));
    });
    out
}

/// Returns where two lists first differ in a bit, and both values. What is not a number is
/// that in both; its bits mean nothing.
fn difference(expected: &[f32], found: &[f32]) -> Option<(usize, f32, f32)> {
    let mut pairs = expected.iter().zip(found).enumerate();
    let differ = |a: f32, b: f32| a.to_bits() != b.to_bits() && !(a.is_nan() && b.is_nan());
    let (idx, (a, b)) = pairs.find(|(_, (a, b))| differ(**a, **b))?;
    Some((idx, *a, *b))
}

/// Makes activations: bell-shaped, with a large one here and there and a block of zeros.
fn fill(x: &mut Vec<f32>, len: usize) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut uniform = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    x.clear();
    x.extend((0..len).map(|idx| {
        let bell = uniform() + uniform() + uniform() + uniform();
        match idx {
            _ if idx % 1024 >= 992 => 0.0,
            _ if idx % 97 == 5 => 40.0 * bell,
            _ => bell,
        }
    }));
}

/// Returns all matrices that are multiplied, by GGUF's names.
fn tensors<'a>(weights: &Weights<'a>) -> Vec<Tensor<'a>> {
    let one = |name: String, matrix: &MatRef<'a>| Tensor {
        name,
        matrices: vec![*matrix],
    };
    let mut tensors = vec![one("token_embd.weight".to_owned(), &weights.token_embd)];
    if !weights.is_tied() {
        tensors.push(one("output.weight".to_owned(), &weights.output));
    }
    for (idx, layer) in weights.layers.iter().enumerate() {
        let dense = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate_inp"];
        for (name, matrix) in dense.into_iter().zip(layer.dense()) {
            tensors.push(one(format!("blk.{idx}.{name}.weight"), matrix));
        }
        let experts = ["ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"];
        for (name, experts) in experts.into_iter().zip(layer.experts()) {
            tensors.push(Tensor {
                name: format!("blk.{idx}.{name}.weight"),
                matrices: experts.iter().copied().collect(),
            });
        }
    }
    tensors
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use quant_kernels::QuantType;

    use super::*;

    fn cpu(isa: Isa) -> Cpu {
        Cpu::new(isa, NonZeroUsize::MIN).unwrap()
    }

    #[test]
    fn a_kernel_that_read_other_weights_is_found_out_by_place() {
        let bytes: Vec<u8> = (0..64 * 64 * 4).map(|i: usize| (i % 7) as u8).collect();
        let matrix = MatRef::new(QuantType::F32, 64, 64, &bytes).unwrap();
        let tensor = Tensor {
            name: "t".to_owned(),
            matrices: vec![matrix.rows(0..32), matrix.rows(32..64)],
        };
        let slices = slices(&tensor, 1, 16, Depth::Full);
        assert_eq!(slices.len(), 2);
        let first_row = slices[1].first_row;
        assert_eq!(
            place(&tensor, &slices, 17),
            format!("t, expert 1, row {}", first_row + 1)
        );

        let mut x = Vec::new();
        fill(&mut x, 64);
        let expected = multiply(&cpu(Isa::SCALAR), &slices, &x);
        assert!(expected.iter().any(|&y| y != 0.0));
        assert_eq!(difference(&expected, &expected), None);
        let mut other = expected.clone();
        other[17] = f32::from_bits(other[17].to_bits() ^ 1);
        assert_eq!(difference(&expected, &other).map(|(at, ..)| at), Some(17));
    }

    #[test]
    fn every_expert_is_multiplied_unless_samples_are_enough() {
        let bytes = vec![0_u8; 100 * 32 * 4];
        let matrix = MatRef::new(QuantType::F32, 100, 32, &bytes).unwrap();
        let tensor = Tensor {
            name: "t".to_owned(),
            matrices: (0..100).map(|row| matrix.rows(row..row + 1)).collect(),
        };
        let n = |n_tokens, depth| slices(&tensor, n_tokens, 16, depth).len();
        assert_eq!(n(1, Depth::Full), 100);
        assert!(n(1, Depth::Quick) <= SAMPLED_EXPERTS);
        assert_eq!(n(40, Depth::Full), 2);
    }
}
