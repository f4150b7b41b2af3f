//! All tensors of a model, by the names they have in a GGUF file.
//!
//! Whoever writes a model anew asks for them here, whatever the files were that they are read
//! from.

use quant_kernels::MatRef;

use super::{Experts, LayerWeights, Weights};
use crate::names::{OUTPUT, OUTPUT_NORM, TOKEN_EMBD, layer_tensor};

/// A tensor under its name in a GGUF file.
#[derive(Clone, Debug)]
pub struct NamedTensor<'m, 'a> {
    /// The name, such as `blk.3.attn_q.weight`.
    pub name: String,
    /// What is in it.
    pub values: TensorValues<'m, 'a>,
}

/// The numbers of a tensor.
#[derive(Clone, Debug)]
pub enum TensorValues<'m, 'a> {
    /// The factors of a norm.
    Vector(&'m [f32]),
    /// A matrix.
    Matrix(MatRef<'a>),
    /// The matrices of all experts of a layer.
    Experts(&'m Experts<'a>),
}

impl<'a> Weights<'a> {
    /// Returns all tensors: the embedding, layer by layer, the norm before the head, and the
    /// head if it is a matrix of its own.
    #[must_use]
    pub fn tensors(&self) -> Vec<NamedTensor<'_, 'a>> {
        let named = |name: &str, values| NamedTensor {
            name: name.to_owned(),
            values,
        };
        let mut tensors = vec![named(TOKEN_EMBD, TensorValues::Matrix(self.token_embd))];
        for (idx, layer) in self.layers.iter().enumerate() {
            let of_layer = layer.tensors().into_iter();
            tensors.extend(of_layer.map(|(name, values)| NamedTensor {
                name: layer_tensor(idx, name),
                values,
            }));
        }
        tensors.push(named(OUTPUT_NORM, TensorValues::Vector(&self.output_norm)));
        if !self.is_tied() {
            tensors.push(named(OUTPUT, TensorValues::Matrix(self.output)));
        }
        tensors
    }
}

impl<'a> LayerWeights<'a> {
    fn tensors(&self) -> [(&'static str, TensorValues<'_, 'a>); 12] {
        use TensorValues::{Experts, Matrix, Vector};
        [
            ("attn_norm", Vector(&self.attn_norm)),
            ("attn_q", Matrix(self.attn_q)),
            ("attn_k", Matrix(self.attn_k)),
            ("attn_v", Matrix(self.attn_v)),
            ("attn_q_norm", Vector(&self.attn_q_norm)),
            ("attn_k_norm", Vector(&self.attn_k_norm)),
            ("attn_output", Matrix(self.attn_output)),
            ("ffn_norm", Vector(&self.ffn_norm)),
            ("ffn_gate_inp", Matrix(self.router)),
            ("ffn_gate_exps", Experts(&self.gate_exps)),
            ("ffn_up_exps", Experts(&self.up_exps)),
            ("ffn_down_exps", Experts(&self.down_exps)),
        ]
    }
}
