//! The list of tensors: names, shapes, types and how large their weights are.

use gguf_format::GgmlType;
use quant_kernels::QuantType;

use type_mix::Place;

use crate::{Geometry, TypeMix};

/// How much larger than [`unit_deviation`] the weights of router and output are, so that
/// probabilities are neither all alike nor all on one entry.
const SHARPNESS: f32 = 2.0;

/// One tensor to be written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PlannedTensor {
    pub(crate) name: String,
    /// Dimensions, contiguous one first.
    pub(crate) ne: Vec<u64>,
    pub(crate) ty: QuantType,
    pub(crate) weights: Weights,
}

/// What the weights of a tensor look like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Weights {
    /// Around zero.
    Matrix { deviation: f32 },
    /// Around one, F32.
    Norm,
}

impl PlannedTensor {
    /// Weights in a row.
    pub(crate) fn n_cols(&self) -> u64 {
        self.ne[0]
    }

    /// Rows of all matrices together.
    pub(crate) fn n_rows(&self) -> u64 {
        self.ne[1..].iter().product()
    }

    pub(crate) fn ggml_type(&self) -> GgmlType {
        GgmlType::from_name(self.ty.name()).expect("every type with kernels is one of ggml's")
    }
}

/// Returns all tensors in file order: embedding, layers, output.
pub(crate) fn tensors(geometry: &Geometry, mix: TypeMix) -> Vec<PlannedTensor> {
    let mut plan = Plan {
        geometry,
        mix,
        n_matrices: 0,
        tensors: Vec::new(),
    };
    let [n_embd, n_vocab] = [geometry.n_embd, geometry.n_vocab].map(u64::from);
    let output_deviation = SHARPNESS * unit_deviation(n_embd);
    let embd_deviation = if geometry.tied { output_deviation } else { 1.0 };
    plan.matrix("token_embd", &[n_embd, n_vocab], embd_deviation);
    for layer in 0..geometry.n_layer {
        plan.layer(layer);
    }
    plan.norm("output_norm", n_embd);
    if !geometry.tied {
        plan.matrix("output", &[n_embd, n_vocab], output_deviation);
    }
    plan.tensors
}

/// The deviation with which a product of a row and activations of size one has size one.
fn unit_deviation(n_cols: u64) -> f32 {
    (n_cols as f32).sqrt().recip()
}

struct Plan<'a> {
    geometry: &'a Geometry,
    mix: TypeMix,
    n_matrices: usize,
    tensors: Vec<PlannedTensor>,
}

impl Plan<'_> {
    fn layer(&mut self, layer: u32) {
        let Geometry {
            n_embd,
            n_head,
            n_head_kv,
            head_dim,
            n_expert,
            n_ff_exp,
            ..
        } = *self.geometry;
        let [n_embd, head_dim, n_expert, n_ff] =
            [n_embd, head_dim, n_expert, n_ff_exp].map(u64::from);
        let [n_q, n_kv] = [n_head, n_head_kv].map(|heads| u64::from(heads) * head_dim);
        let name = |part: &str| format!("blk.{layer}.{part}");

        self.norm(&name("attn_norm"), n_embd);
        let attention = [
            ("attn_q", [n_embd, n_q]),
            ("attn_k", [n_embd, n_kv]),
            ("attn_v", [n_embd, n_kv]),
            ("attn_output", [n_q, n_embd]),
        ];
        for (part, ne) in attention {
            self.matrix(&name(part), &ne, unit_deviation(ne[0]));
        }
        self.norm(&name("attn_q_norm"), head_dim);
        self.norm(&name("attn_k_norm"), head_dim);

        self.norm(&name("ffn_norm"), n_embd);
        self.tensors.push(PlannedTensor {
            name: name("ffn_gate_inp.weight"),
            ne: vec![n_embd, n_expert],
            ty: QuantType::F32,
            weights: Weights::Matrix {
                deviation: SHARPNESS * unit_deviation(n_embd),
            },
        });
        let experts = [
            ("ffn_gate_exps", [n_embd, n_ff, n_expert]),
            ("ffn_up_exps", [n_embd, n_ff, n_expert]),
            ("ffn_down_exps", [n_ff, n_embd, n_expert]),
        ];
        for (part, ne) in experts {
            self.matrix(&name(part), &ne, unit_deviation(ne[0]));
        }
    }

    fn matrix(&mut self, name: &str, ne: &[u64], deviation: f32) {
        let name = format!("{name}.weight");
        let place = Place::of(&name);
        let ty = self.mix.type_of(place, self.n_matrices, self.geometry);
        self.n_matrices += 1;
        self.tensors.push(PlannedTensor {
            name,
            ne: ne.to_vec(),
            ty,
            weights: Weights::Matrix { deviation },
        });
    }

    fn norm(&mut self, name: &str, len: u64) {
        self.tensors.push(PlannedTensor {
            name: format!("{name}.weight"),
            ne: vec![len],
            ty: QuantType::F32,
            weights: Weights::Norm,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn n_bytes(geometry: &Geometry, mix: TypeMix) -> u64 {
        let bytes = |tensor: &PlannedTensor| {
            let ty = tensor.ggml_type();
            tensor.ne.iter().product::<u64>() / ty.block_len() * ty.block_bytes()
        };
        tensors(geometry, mix).iter().map(bytes).sum()
    }

    #[test]
    fn sizes_are_those_of_published_files() {
        struct Case(TypeMix, f64);
        let cases = [
            Case(TypeMix::Q4_K_M, 18.551),
            Case(TypeMix::Pure(QuantType::Q8_0), 32.48),
            Case(TypeMix::Pure(QuantType::Q6_K), 25.09),
        ];
        for Case(mix, gigabytes) in cases {
            let found = n_bytes(&Geometry::QWEN3_30B_A3B, mix) as f64 / 1e9;
            assert!((found - gigabytes).abs() < 0.005, "{mix}: {found} GB");
        }
    }

    #[test]
    fn presets_have_the_weights_of_their_names() {
        for (geometry, billions) in [
            (Geometry::QWEN3_30B_A3B, 30.5),
            (Geometry::QWEN3_235B_A22B, 235.1),
        ] {
            let plan = tensors(&geometry, TypeMix::Q4_K_M);
            let n_weights: u64 = plan
                .iter()
                .map(|tensor| tensor.ne.iter().product::<u64>())
                .sum();
            assert!(
                (n_weights as f64 / 1e9 - billions).abs() < 0.1,
                "{n_weights}"
            );
        }
    }

    #[test]
    fn mixed_visits_every_type() {
        let plan = tensors(&Geometry::SMALL, TypeMix::Mixed);
        for ty in QuantType::ALL {
            assert!(plan.iter().any(|tensor| tensor.ty == ty), "{ty}");
        }
    }

    #[test]
    fn every_type_is_known_to_the_format_with_the_same_blocks() {
        for ty in QuantType::ALL {
            let tensor = PlannedTensor {
                name: String::new(),
                ne: vec![256, 1],
                ty,
                weights: Weights::Norm,
            };
            let ggml = tensor.ggml_type();
            assert_eq!(ggml.block_len(), ty.block_len() as u64, "{ty}");
            assert_eq!(ggml.block_bytes(), ty.block_bytes() as u64, "{ty}");
        }
    }

    #[test]
    fn a_tied_model_has_no_output_matrix() {
        let tied = Geometry {
            tied: true,
            ..Geometry::TINY
        };
        let names = |geometry| {
            let plan = tensors(geometry, TypeMix::Q4_K_M);
            plan.into_iter()
                .map(|tensor| tensor.name)
                .collect::<Vec<_>>()
        };
        let mut untied_names = names(&Geometry::TINY);
        assert_eq!(untied_names.pop().unwrap(), "output.weight");
        assert_eq!(names(&tied), untied_names);
    }
}
