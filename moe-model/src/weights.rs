//! The tensors of a model, found by name, checked once, borrowed from the files.
//!
//! Shapes are written slowest dimension first; GGUF stores them the other way round. After
//! [`Weights::read`] every matrix has the shape that the configuration asks for and a type
//! that the kernels multiply, so a forward pass has nothing left to check. What differs
//! between GGUF files and checkpoints, names and how experts lie, is behind [`TensorSource`].

mod experts;
mod gguf;
mod named;

use std::collections::HashSet;

use gguf_format::{GgmlType, GgufSet};
use quant_kernels::{MatRef, QuantType, SCALE_BLOCK};

pub use self::{
    experts::Experts,
    named::{NamedTensor, TensorValues},
};
use crate::{
    Checkpoint, Config, ModelError,
    checkpoint::{
        config::{is_fp8, is_tied},
        tensors::CheckpointTensors,
    },
    error::quote,
    names::{OUTPUT, OUTPUT_NORM, TOKEN_EMBD},
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
    /// Gates of the experts, each `[F, E]`.
    pub gate_exps: Experts<'a>,
    /// Up projections of the experts, each `[F, E]`.
    pub up_exps: Experts<'a>,
    /// Down projections of the experts, each `[E, F]`.
    pub down_exps: Experts<'a>,
}

/// A tensor as its file describes it.
pub(crate) struct Found<'a> {
    pub(crate) name: &'a str,
    /// The type, or the name of one that cannot be multiplied.
    pub(crate) ty: Result<QuantType, String>,
    /// Slowest dimension first.
    pub(crate) shape: Vec<u64>,
    pub(crate) data: &'a [u8],
}

/// How the matrices of a layer's experts lie in the file.
pub(crate) enum ExpertLayout {
    /// One tensor `[X, P·R, C]`: of each expert `P` matrices `[R, C]`, of which this is one.
    Stacked {
        name: String,
        part: usize,
        n_parts: usize,
    },
    /// One tensor per expert.
    Each,
}

/// Where tensors are found.
pub(crate) trait TensorSource<'a> {
    /// Returns what the file calls a tensor outside the layers.
    fn name(&self, tensor: &str) -> String;
    /// Returns what the file calls a tensor of a layer.
    fn layer_name(&self, layer: usize, tensor: &str) -> String;
    /// Returns what the file calls the matrix of one expert.
    fn expert_name(&self, layer: usize, tensor: &str, expert: usize) -> String;
    /// Returns how experts lie.
    fn experts(&self, layer: usize, tensor: &str) -> ExpertLayout;
    /// Returns what the file calls the scales beside a matrix of 8-bit floats.
    fn scale_name(&self, matrix: &str) -> String {
        format!("{matrix}_scale_inv")
    }
    /// Returns a tensor by the file's name for it.
    fn find(&self, name: &str) -> Option<Found<'a>>;
    /// Returns the names of all tensors.
    fn names(&self) -> Vec<&'a str>;
    /// Returns why a tensor that nobody asked for would change the answer, if it would.
    fn is_foreign(&self, name: &str, config: &Config) -> Option<&'static str>;
}

impl<'a> Weights<'a> {
    /// Finds and checks the tensors of a GGUF model.
    ///
    /// # Errors
    /// A tensor is missing, has another shape than the configuration asks for or a type that
    /// cannot be multiplied, or a tensor is there that would change the answer and is not
    /// implemented; each named.
    pub fn read(gguf: &GgufSet<'a>, config: &Config) -> Result<Self, ModelError> {
        let is_tied = gguf.find(OUTPUT).is_none();
        Self::from_source(gguf, config, is_tied)
    }

    /// Finds and checks the tensors of a checkpoint.
    ///
    /// # Errors
    /// As [`Weights::read`].
    pub fn read_checkpoint(
        checkpoint: &Checkpoint<'a>,
        config: &Config,
    ) -> Result<Self, ModelError> {
        let source = CheckpointTensors {
            checkpoint,
            is_tied: is_tied(checkpoint)?,
            is_fp8: is_fp8(checkpoint)?,
        };
        Self::from_source(&source, config, source.is_tied)
    }

    fn from_source(
        source: &impl TensorSource<'a>,
        config: &Config,
        is_tied: bool,
    ) -> Result<Self, ModelError> {
        let mut reader = Reader {
            source,
            used: HashSet::new(),
        };
        let shape = [config.n_vocab, config.n_embd];
        let token_embd = reader.matrix(&source.name(TOKEN_EMBD), &shape)?;
        let layers = (0..config.n_layer).map(|idx| reader.layer(idx, config));
        let layers = layers.collect::<Result<_, _>>()?;
        let output_norm = reader.vector(&source.name(OUTPUT_NORM), config.n_embd)?;
        let output = if is_tied {
            token_embd
        } else {
            reader.matrix(&source.name(OUTPUT), &shape)?
        };
        let unused = reader.unused(config)?;
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

    /// Returns whether the embedding serves as head.
    #[must_use]
    pub fn is_tied(&self) -> bool {
        std::ptr::eq(self.output.bytes(), self.token_embd.bytes())
    }

    /// Returns the number of weights; a matrix that serves twice counts once.
    #[must_use]
    pub fn n_weights(&self) -> u64 {
        let count = |matrix: &MatRef<'_>| matrix.n_rows() as u64 * matrix.n_cols() as u64;
        let head = if self.is_tied() {
            0
        } else {
            count(&self.output)
        };
        let of_layers: u64 = self
            .layers
            .iter()
            .map(|layer| {
                let norms = [
                    &layer.attn_norm,
                    &layer.attn_q_norm,
                    &layer.attn_k_norm,
                    &layer.ffn_norm,
                ];
                let norms: u64 = norms.iter().map(|norm| norm.len() as u64).sum();
                let dense: u64 = layer.dense().into_iter().map(count).sum();
                let experts: u64 = layer
                    .experts()
                    .iter()
                    .flat_map(|e| e.iter())
                    .map(count)
                    .sum();
                norms + dense + experts
            })
            .sum();
        count(&self.token_embd) + of_layers + self.output_norm.len() as u64 + head
    }
}

impl<'a> LayerWeights<'a> {
    /// Returns the matrices that every token needs: all but those of the experts.
    #[must_use]
    pub const fn dense(&self) -> [&MatRef<'a>; 5] {
        [
            &self.attn_q,
            &self.attn_k,
            &self.attn_v,
            &self.attn_output,
            &self.router,
        ]
    }

    /// Returns the matrices of the experts: gate, up and down.
    #[must_use]
    pub const fn experts(&self) -> [&Experts<'a>; 3] {
        [&self.gate_exps, &self.up_exps, &self.down_exps]
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
struct Reader<'s, 'a, S> {
    source: &'s S,
    used: HashSet<&'a str>,
}

impl<'a, S: TensorSource<'a>> Reader<'_, 'a, S> {
    fn layer(&mut self, idx: usize, config: &Config) -> Result<LayerWeights<'a>, ModelError> {
        let source = self.source;
        let name = |name: &str| source.layer_name(idx, name);
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
            gate_exps: self.experts(idx, "ffn_gate_exps", [n_expert, n_ff, n_embd])?,
            up_exps: self.experts(idx, "ffn_up_exps", [n_expert, n_ff, n_embd])?,
            down_exps: self.experts(idx, "ffn_down_exps", [n_expert, n_embd, n_ff])?,
        })
    }

    /// The matrices of all experts, wherever they lie.
    fn experts(
        &mut self,
        layer: usize,
        tensor: &str,
        [n_expert, n_rows, n_cols]: [usize; 3],
    ) -> Result<Experts<'a>, ModelError> {
        if let ExpertLayout::Stacked {
            name,
            part,
            n_parts,
        } = self.source.experts(layer, tensor)
        {
            let stack = self.matrix(&name, &[n_expert, n_parts * n_rows, n_cols])?;
            return Ok(Experts::of_stack(stack, n_rows, part, n_parts));
        }
        // One after the other, so that experts which are not there take no memory.
        let mut matrices: Vec<MatRef<'a>> = Vec::new();
        for expert in 0..n_expert {
            let name = self.source.expert_name(layer, tensor, expert);
            let matrix = self.matrix(&name, &[n_rows, n_cols])?;
            let ty = matrices.first().map_or(matrix.ty(), MatRef::ty);
            if matrix.ty() != ty {
                return Err(ModelError::TensorType {
                    name,
                    expected: "the type of the layer's first expert",
                    found: matrix.ty().to_string(),
                });
            }
            matrices.push(matrix);
        }
        Ok(Experts::of_each(matrices))
    }

    /// A matrix; of a three-dimensional one the first two dimensions are its rows.
    fn matrix(&mut self, name: &str, shape: &[usize]) -> Result<MatRef<'a>, ModelError> {
        let tensor = self.tensor(name, shape)?;
        let ty = tensor.ty.map_err(|found| ModelError::TensorType {
            name: name.to_owned(),
            expected: "a type that can be multiplied",
            found,
        })?;
        let (rows, n_cols) = shape.split_at(shape.len() - 1);
        let failed = |source| ModelError::Kernel {
            what: format!("tensor `{name}`"),
            source,
        };
        let n_rows = rows.iter().product();
        let matrix = MatRef::new(ty, n_rows, n_cols[0], tensor.data).map_err(failed)?;
        if ty == QuantType::F8_E4M3 {
            return self.scaled(name, shape, matrix);
        }
        Ok(matrix)
    }

    /// Puts the scales beside a matrix of 8-bit floats.
    fn scaled(
        &mut self,
        name: &str,
        shape: &[usize],
        matrix: MatRef<'a>,
    ) -> Result<MatRef<'a>, ModelError> {
        let &[n_rows, n_cols] = shape else {
            return Err(ModelError::TensorType {
                name: name.to_owned(),
                expected: "a type without scales, or a matrix that is not stacked",
                found: matrix.ty().to_string(),
            });
        };
        let name = self.source.scale_name(name);
        let shape = [n_rows, n_cols].map(|len| len.div_ceil(SCALE_BLOCK));
        let scales = self.tensor(&name, &shape)?;
        let scaled = match scales.ty {
            Ok(ty) => matrix
                .with_scales(ty, scales.data)
                .map_err(|_| ty.to_string()),
            Err(found) => Err(found),
        };
        scaled.map_err(|found| ModelError::TensorType {
            name,
            expected: "F32 or BF16",
            found,
        })
    }

    fn float_matrix(&mut self, name: &str, shape: &[usize]) -> Result<MatRef<'a>, ModelError> {
        let matrix = self.matrix(name, shape)?;
        match matrix.ty() {
            QuantType::F32 | QuantType::F16 | QuantType::BF16 => Ok(matrix),
            other => Err(ModelError::TensorType {
                name: name.to_owned(),
                expected: "F32, F16 or BF16",
                found: other.to_string(),
            }),
        }
    }

    fn vector(&mut self, name: &str, len: usize) -> Result<Vec<f32>, ModelError> {
        let row = self.float_matrix(name, &[len])?;
        let mut values = vec![0.0; len];
        row.dequantize_row(0, &mut values);
        Ok(values)
    }

    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Found<'a>, ModelError> {
        let tensor = self
            .source
            .find(name)
            .ok_or_else(|| ModelError::MissingTensor {
                name: name.to_owned(),
                expected: format!("{shape:?}"),
            })?;
        // A dimension of one may be written or left out, in front.
        let n_dims = tensor.shape.len().max(shape.len());
        let same = (0..n_dims).all(|i| {
            let expected = shape.iter().rev().nth(i).copied().unwrap_or(1);
            tensor.shape.iter().rev().nth(i).copied().unwrap_or(1) == expected as u64
        });
        if !same {
            return Err(ModelError::TensorShape {
                name: name.to_owned(),
                expected: shape.to_vec(),
                found: tensor.shape,
            });
        }
        self.used.insert(tensor.name);
        Ok(tensor)
    }

    /// The tensors nobody asked for. Some would change the answer: those are errors.
    fn unused(&self, config: &Config) -> Result<Vec<&'a str>, ModelError> {
        let mut unused = self.source.names();
        unused.retain(|name| !self.used.contains(name));
        for name in &unused {
            if let Some(why) = self.source.is_foreign(name, config) {
                return Err(ModelError::ForeignTensor {
                    name: quote(name),
                    why,
                });
            }
        }
        Ok(unused)
    }
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
