//! What is to be converted: metadata and tensors, from wherever they come.
//!
//! A source lends the weights where they lie. The matrix of all experts of a layer may be one
//! piece, as in a GGUF file, or a piece per expert, as in a checkpoint.

use gguf_format::{GgmlType, GgufSet, GgufWriter, split};
use moe_model::SUPPORTED_ARCHITECTURES;
use type_mix::Facts;

use crate::{ToolError, error::quote};

/// A model to be read.
#[derive(Clone, Debug)]
pub struct Source<'a> {
    /// The metadata of the new file, as far as they are those of the source.
    pub metadata: GgufWriter,
    /// Layers.
    pub n_layer: u32,
    /// Query heads that share a key and value head.
    pub n_head_per_kv: u32,
    /// Experts of a layer.
    pub n_expert: u32,
    /// The tensors, in the order of the new file.
    pub tensors: Vec<SourceTensor<'a>>,
}

/// A tensor to be read.
#[derive(Clone, Debug)]
pub struct SourceTensor<'a> {
    /// Its name in a GGUF file.
    pub name: String,
    /// Its dimensions, contiguous one first.
    pub ne: Vec<u64>,
    /// Its type.
    pub ty: GgmlType,
    /// Its bytes, in pieces of as many whole rows each.
    pub parts: Vec<&'a [u8]>,
}

impl<'a> Source<'a> {
    /// Takes a GGUF file or all shards of a split one.
    ///
    /// # Errors
    /// [`ToolError::Architecture`] if it is no Qwen3-MoE, [`ToolError::Gguf`] if a count that
    /// the placement of types depends on is missing.
    pub fn from_gguf(gguf: &GgufSet<'a>) -> Result<Self, ToolError> {
        let given = gguf.metadata();
        let architecture: &str = given.require("general.architecture")?;
        let [expected] = SUPPORTED_ARCHITECTURES;
        if architecture != expected {
            return Err(ToolError::Architecture {
                expected,
                found: quote(architecture),
            });
        }
        let mut metadata = GgufWriter::new();
        metadata.set_all(given)?;
        for key in [
            split::SPLIT_NO,
            split::SPLIT_COUNT,
            split::SPLIT_TENSORS_COUNT,
        ] {
            metadata.remove(key);
        }
        let count = |key: &str| given.require::<u32>(&format!("{architecture}.{key}"));
        let n_head = count("attention.head_count")?;
        let n_head_kv = count("attention.head_count_kv")?;
        let tensor = |tensor: gguf_format::Tensor<'a>| SourceTensor {
            name: tensor.info.name().to_owned(),
            ne: tensor.info.ne().to_vec(),
            ty: tensor.info.ty(),
            parts: vec![tensor.data],
        };
        Ok(Self {
            metadata,
            n_layer: count("block_count")?,
            n_head_per_kv: n_head / n_head_kv.max(1),
            n_expert: count("expert_count")?,
            tensors: gguf.tensors().map(tensor).collect(),
        })
    }

    /// Returns what the placement of types depends on.
    pub(crate) fn facts(&self) -> Facts {
        Facts {
            n_layer: self.n_layer,
            n_head_per_kv: self.n_head_per_kv,
            n_expert: self.n_expert,
            tied: self
                .tensors
                .iter()
                .all(|tensor| tensor.name != "output.weight"),
            has_importance: false,
        }
    }
}

impl SourceTensor<'_> {
    /// Returns the number of weights in a row.
    #[must_use]
    pub fn n_cols(&self) -> u64 {
        self.ne.first().copied().unwrap_or(1)
    }

    /// Returns the number of rows, of all experts together.
    #[must_use]
    pub fn n_rows(&self) -> u64 {
        self.ne.iter().skip(1).product()
    }

    /// Returns the number of bytes.
    #[must_use]
    pub fn n_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.len() as u64).sum()
    }

    /// Returns whether it is a matrix that quantized files have quantized: norms and routers
    /// stay what they are.
    #[must_use]
    pub fn is_quantizable(&self) -> bool {
        let n_dims = self
            .ne
            .iter()
            .rposition(|&n| n > 1)
            .map_or(0, |last| last + 1);
        let name = self.name.as_str();
        n_dims >= 2
            && name.ends_with("weight")
            && !name.contains("_norm.weight")
            && !name.contains("ffn_gate_inp.weight")
    }

    /// Checks that the parts are equal, whole rows, and all there is.
    pub(crate) fn check_parts(&self) -> Result<(), ToolError> {
        let row_blocks = self.n_cols() / self.ty.block_len();
        let row_bytes = u128::from(row_blocks) * u128::from(self.ty.block_bytes());
        let expected = row_bytes * u128::from(self.n_rows());
        let first = self.parts.first().map_or(0, |part| part.len());
        let is_whole = self.n_cols().is_multiple_of(self.ty.block_len())
            && u128::from(self.n_bytes()) == expected
            && self.parts.iter().all(|part| part.len() == first)
            && (first as u128).checked_rem(row_bytes) == Some(0);
        if is_whole {
            return Ok(());
        }
        Err(ToolError::Parts {
            name: quote(&self.name),
            expected: u64::try_from(expected).unwrap_or(u64::MAX),
            found: self.n_bytes(),
        })
    }
}
