//! The tensors of a model, found by name, checked once, borrowed from the file.
//!
//! Shapes are written slowest dimension first; GGUF stores them the other way round. After
//! [`Weights::read`] every matrix has the shape that the configuration asks for and a type
//! that the kernels multiply, so a forward pass has nothing left to check.

use std::collections::HashSet;

use gguf_format::{GgmlType, GgufSet, Tensor};
use quant_kernels::{MatRef, QuantType};

use crate::{
    Config, ModelError,
    error::quote,
    names::{OUTPUT, OUTPUT_NORM, TOKEN_EMBD, layer_tensor},
};

/// The tensors of a model.
pub struct Weights<'a> {
    /// Token embedding `[V, E]`.
    pub token_embd: MatRef<'a>,
    /// The layers, first to last.
    pub layers: Vec<LayerWeights<'a>>,
    /// Norm before the head `[E]`.
    pub output_norm: Vec<f32>,
    /// Head `[V, E]`; the token embedding where the file has none.
    pub output: MatRef<'a>,
    unused: Vec<&'a str>,
}

/// The tensors of one layer.
pub struct LayerWeights<'a> {
    /// Norm before attention `[E]`.
    pub attn_norm: Vec<f32>,
    /// Queries `[H·D, E]`.
    pub attn_q: MatRef<'a>,
    /// Keys `[K·D, E]`.
    pub attn_k: MatRef<'a>,
    /// Values `[K·D, E]`.
    pub attn_v: MatRef<'a>,
    /// Norm of each query head `[D]`.
    pub attn_q_norm: Vec<f32>,
    /// Norm of each key head `[D]`.
    pub attn_k_norm: Vec<f32>,
    /// Output of attention `[E, H·D]`.
    pub attn_output: MatRef<'a>,
    /// Norm before the experts `[E]`.
    pub ffn_norm: Vec<f32>,
    /// Router `[X, E]`.
    pub router: MatRef<'a>,
    /// Gates of all experts `[X·F, E]`.
    pub gate_exps: MatRef<'a>,
    /// Up projections of all experts `[X·F, E]`.
    pub up_exps: MatRef<'a>,
    /// Down projections of all experts `[X·E, F]`.
    pub down_exps: MatRef<'a>,
}

impl<'a> Weights<'a> {
    /// Finds and checks the tensors.
    ///
    /// # Errors
    /// A tensor is missing, has another shape than the configuration asks for or a type that
    /// cannot be multiplied, or a tensor is there that would change the answer and is not
    /// implemented; each named.
    pub fn read(gguf: &GgufSet<'a>, config: &Config) -> Result<Self, ModelError> {
        let mut reader = Reader {
            gguf,
            used: HashSet::new(),
        };
        let (n_vocab, n_embd) = (config.n_vocab, config.n_embd);
        let token_embd = reader.matrix(TOKEN_EMBD, &[n_vocab, n_embd])?;
        let layers = (0..config.n_layer).map(|idx| reader.layer(idx, config));
        let layers = layers.collect::<Result<_, _>>()?;
        let output_norm = reader.vector(OUTPUT_NORM, n_embd)?;
        let output = match gguf.find(OUTPUT) {
            Some(_) => reader.matrix(OUTPUT, &[n_vocab, n_embd])?,
            None => token_embd,
        };
        let unused = reader.unused(config.n_layer)?;
        Ok(Self {
            token_embd,
            layers,
            output_norm,
            output,
            unused,
        })
    }

    /// Returns the names of tensors that the file holds and the model does not read.
    #[must_use]
    pub fn unused(&self) -> &[&'a str] {
        &self.unused
    }
}

impl std::fmt::Debug for Weights<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Weights")
            .field("layers", &self.layers)
            .field("output", &self.output.ty())
            .field("unused", &self.unused)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for LayerWeights<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LayerWeights")
            .field("attn_q", &self.attn_q.ty())
            .field("gate_exps", &self.gate_exps.ty())
            .field("down_exps", &self.down_exps.ty())
            .finish_non_exhaustive()
    }
}

/// Finds tensors and remembers which.
struct Reader<'g, 'a> {
    gguf: &'g GgufSet<'a>,
    used: HashSet<String>,
}

impl<'a> Reader<'_, 'a> {
    fn layer(&mut self, idx: usize, config: &Config) -> Result<LayerWeights<'a>, ModelError> {
        let name = |name: &str| layer_tensor(idx, name);
        let (n_embd, q_len, kv_len) = (config.n_embd, config.q_len(), config.kv_len());
        let (n_expert, n_ff, head_dim) = (config.n_expert, config.n_ff_exp, config.head_dim);
        Ok(LayerWeights {
            attn_norm: self.vector(&name("attn_norm"), n_embd)?,
            attn_q: self.matrix(&name("attn_q"), &[q_len, n_embd])?,
            attn_k: self.matrix(&name("attn_k"), &[kv_len, n_embd])?,
            attn_v: self.matrix(&name("attn_v"), &[kv_len, n_embd])?,
            attn_q_norm: self.vector(&name("attn_q_norm"), head_dim)?,
            attn_k_norm: self.vector(&name("attn_k_norm"), head_dim)?,
            attn_output: self.matrix(&name("attn_output"), &[n_embd, q_len])?,
            ffn_norm: self.vector(&name("ffn_norm"), n_embd)?,
            router: self.float_matrix(&name("ffn_gate_inp"), &[n_expert, n_embd])?,
            gate_exps: self.matrix(&name("ffn_gate_exps"), &[n_expert, n_ff, n_embd])?,
            up_exps: self.matrix(&name("ffn_up_exps"), &[n_expert, n_ff, n_embd])?,
            down_exps: self.matrix(&name("ffn_down_exps"), &[n_expert, n_embd, n_ff])?,
        })
    }

    /// A matrix; of a three-dimensional one the first two dimensions are its rows.
    fn matrix(&mut self, name: &str, shape: &[usize]) -> Result<MatRef<'a>, ModelError> {
        let tensor = self.tensor(name, shape)?;
        let ty = quant_type(tensor.info.ty()).ok_or_else(|| ModelError::TensorType {
            name: name.to_owned(),
            expected: "a type that can be multiplied",
            found: tensor.info.ty(),
        })?;
        let (rows, n_cols) = shape.split_at(shape.len() - 1);
        MatRef::new(ty, rows.iter().product(), n_cols[0], tensor.data).map_err(|source| {
            ModelError::Kernel {
                what: format!("tensor `{name}`"),
                source,
            }
        })
    }

    fn float_matrix(&mut self, name: &str, shape: &[usize]) -> Result<MatRef<'a>, ModelError> {
        let matrix = self.matrix(name, shape)?;
        match matrix.ty() {
            QuantType::F32 | QuantType::F16 | QuantType::BF16 => Ok(matrix),
            _ => Err(ModelError::TensorType {
                name: name.to_owned(),
                expected: "F32, F16 or BF16",
                found: self.tensor(name, shape)?.info.ty(),
            }),
        }
    }

    fn vector(&mut self, name: &str, len: usize) -> Result<Vec<f32>, ModelError> {
        let row = self.float_matrix(name, &[len])?;
        let mut values = vec![0.0; len];
        row.dequantize_row(0, &mut values);
        Ok(values)
    }

    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Tensor<'a>, ModelError> {
        let tensor = self
            .gguf
            .find(name)
            .ok_or_else(|| ModelError::MissingTensor {
                name: name.to_owned(),
                expected: format!("{shape:?}"),
            })?;
        let ne = tensor.info.ne();
        // A dimension of one may be written or left out.
        let n_dims = ne.len().max(shape.len());
        let same = (0..n_dims).all(|i| {
            let expected = shape.iter().rev().nth(i).copied().unwrap_or(1);
            ne.get(i).copied().unwrap_or(1) == expected as u64
        });
        if !same {
            return Err(ModelError::TensorShape {
                name: name.to_owned(),
                expected: shape.to_vec(),
                found: ne.iter().rev().copied().collect(),
            });
        }
        self.used.insert(name.to_owned());
        Ok(tensor)
    }

    /// The tensors nobody asked for. Some would change the answer: those are errors.
    fn unused(&self, n_layer: usize) -> Result<Vec<&'a str>, ModelError> {
        let names = self.gguf.tensors().map(|tensor| tensor.info.name());
        let unused: Vec<_> = names.filter(|name| !self.used.contains(*name)).collect();
        for name in &unused {
            let why = if name.starts_with("rope_freqs") || name.starts_with("rope_factors") {
                "its rotary frequencies would be ignored"
            } else if name.ends_with(".bias") {
                "its bias would be ignored"
            } else if name.ends_with(".scale") || name.ends_with(".input_scale") {
                "its scale would be ignored"
            } else if layer_of(name).is_some_and(|layer| layer >= n_layer) {
                "its layer is beyond the block count"
            } else {
                continue;
            };
            return Err(ModelError::ForeignTensor {
                name: quote(name),
                why,
            });
        }
        Ok(unused)
    }
}

/// Returns the layer that a tensor belongs to by its name.
fn layer_of(name: &str) -> Option<usize> {
    name.strip_prefix("blk.")?.split_once('.')?.0.parse().ok()
}

/// Returns the type that kernels know for a type of a file, if they multiply it.
#[must_use]
pub fn quant_type(ty: GgmlType) -> Option<QuantType> {
    Some(match ty {
        GgmlType::F32 => QuantType::F32,
        GgmlType::F16 => QuantType::F16,
        GgmlType::BF16 => QuantType::BF16,
        GgmlType::Q4_0 => QuantType::Q4_0,
        GgmlType::Q4_1 => QuantType::Q4_1,
        GgmlType::Q5_0 => QuantType::Q5_0,
        GgmlType::Q5_1 => QuantType::Q5_1,
        GgmlType::Q8_0 => QuantType::Q8_0,
        GgmlType::Q2_K => QuantType::Q2_K,
        GgmlType::Q3_K => QuantType::Q3_K,
        GgmlType::Q4_K => QuantType::Q4_K,
        GgmlType::Q5_K => QuantType::Q5_K,
        GgmlType::Q6_K => QuantType::Q6_K,
        GgmlType::IQ1_S => QuantType::IQ1_S,
        GgmlType::IQ1_M => QuantType::IQ1_M,
        GgmlType::IQ2_XXS => QuantType::IQ2_XXS,
        GgmlType::IQ2_XS => QuantType::IQ2_XS,
        GgmlType::IQ2_S => QuantType::IQ2_S,
        GgmlType::IQ3_XXS => QuantType::IQ3_XXS,
        GgmlType::IQ3_S => QuantType::IQ3_S,
        GgmlType::IQ4_NL => QuantType::IQ4_NL,
        GgmlType::IQ4_XS => QuantType::IQ4_XS,
        GgmlType::MXFP4 => QuantType::MXFP4,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_types_and_kernel_types_agree_on_their_blocks() {
        let mut n_known = 0;
        for file in GgmlType::ALL {
            let Some(kernel) = quant_type(file) else {
                continue;
            };
            n_known += 1;
            assert_eq!(file.name(), kernel.name());
            assert_eq!(file.block_len(), kernel.block_len() as u64, "{file}");
            assert_eq!(file.block_bytes(), kernel.block_bytes() as u64, "{file}");
        }
        assert_eq!(n_known, QuantType::ALL.len());
    }
}
