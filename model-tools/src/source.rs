//! What is to be converted: metadata and tensors, from wherever they come.
//!
//! A source lends the weights where they lie. The matrix of all experts of a layer may be one
//! piece, as in a GGUF file, or a matrix per expert, as in a checkpoint.

use std::borrow::Cow;

use gguf_format::{GgmlType, GgufSet, GgufWriter, split};
use moe_model::{Contents, SUPPORTED_ARCHITECTURES, quant_type};
use quant_kernels::{MatRef, QuantType, dequantize_row};
use type_mix::{Facts, Mix};

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
    /// What of the source does not go into a file, a line each.
    pub notes: Vec<String>,
}

/// A tensor to be read.
#[derive(Clone, Debug)]
pub struct SourceTensor<'a> {
    /// Its name in a GGUF file.
    pub name: String,
    /// Its dimensions, contiguous one first.
    pub ne: Vec<u64>,
    /// Its numbers.
    pub data: TensorData<'a>,
    /// The type it gets where it is none of the matrices that are quantized; `None` if it stays
    /// what it is.
    pub becomes: Option<QuantType>,
}

/// The numbers of a tensor.
#[derive(Clone, Debug)]
pub enum TensorData<'a> {
    /// In one piece, of any type, also of one that cannot be read.
    Bytes {
        /// The type.
        ty: GgmlType,
        /// All blocks.
        bytes: Cow<'a, [u8]>,
    },
    /// Matrices of one type and shape, whose rows follow each other.
    Matrices(Vec<MatRef<'a>>),
}

impl<'a> Source<'a> {
    /// Takes a model from whichever files it has.
    ///
    /// # Errors
    /// As [`Source::from_gguf`] and [`Source::from_checkpoint`].
    pub fn read(contents: &Contents<'a>) -> Result<Self, ToolError> {
        match contents {
            Contents::Gguf(gguf) => Self::from_gguf(gguf),
            Contents::Checkpoint(checkpoint) => Self::from_checkpoint(checkpoint),
        }
    }

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
            data: TensorData::Bytes {
                ty: tensor.info.ty(),
                bytes: Cow::Borrowed(tensor.data),
            },
            becomes: None,
        };
        Ok(Self {
            metadata,
            n_layer: count("block_count")?,
            n_head_per_kv: n_head / n_head_kv.max(1),
            n_expert: count("expert_count")?,
            tensors: gguf.tensors().map(tensor).collect(),
            notes: Vec::new(),
        })
    }

    /// Returns the float type that most weights have; BF16 where most have none, as those in FP8.
    #[must_use]
    pub fn float_type(&self) -> Mix {
        const FLOATS: [(QuantType, Mix); 3] = [
            (QuantType::BF16, Mix::BF16),
            (QuantType::F16, Mix::F16),
            (QuantType::F32, Mix::F32),
        ];
        let n_weights = |ty: QuantType| -> u64 {
            let tensors = self.tensors.iter();
            let of_type = tensors.filter(|tensor| tensor.quant_type() == Some(ty));
            of_type
                .map(|tensor| tensor.n_cols() * tensor.n_rows())
                .sum()
        };
        let most = FLOATS
            .into_iter()
            .rev()
            .max_by_key(|&(ty, _)| n_weights(ty));
        most.map_or(Mix::BF16, |(_, mix)| mix)
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

    /// Returns the number of bytes; scales beside 8-bit floats do not count.
    #[must_use]
    pub fn n_bytes(&self) -> u64 {
        match &self.data {
            TensorData::Bytes { bytes, .. } => bytes.len() as u64,
            TensorData::Matrices(matrices) => matrices.iter().map(|m| m.bytes().len() as u64).sum(),
        }
    }

    /// Returns the type as a GGUF file knows it; `None` of 8-bit floats, which it does not.
    #[must_use]
    pub fn ggml_type(&self) -> Option<GgmlType> {
        match &self.data {
            TensorData::Bytes { ty, .. } => Some(*ty),
            TensorData::Matrices(matrices) => GgmlType::from_name(matrices.first()?.ty().name()),
        }
    }

    /// Returns the type as kernels know it; `None` if it cannot be read.
    #[must_use]
    pub fn quant_type(&self) -> Option<QuantType> {
        match &self.data {
            TensorData::Bytes { ty, .. } => quant_type(*ty),
            TensorData::Matrices(matrices) => Some(matrices.first()?.ty()),
        }
    }

    /// Returns the name of the type.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match &self.data {
            TensorData::Bytes { ty, .. } => ty.name(),
            TensorData::Matrices(matrices) => matrices.first().map_or("", |m| m.ty().name()),
        }
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

    /// Checks that its numbers are those of its shape.
    pub(crate) fn check(&self) -> Result<(), ToolError> {
        let (n_cols, n_rows) = (self.n_cols(), self.n_rows());
        let refuse = |reason: String| ToolError::Data {
            name: quote(&self.name),
            reason,
        };
        match &self.data {
            TensorData::Bytes { ty, bytes } => {
                let row_bytes = u128::from(n_cols / ty.block_len()) * u128::from(ty.block_bytes());
                let expected = row_bytes * u128::from(n_rows);
                if n_cols.is_multiple_of(ty.block_len()) && bytes.len() as u128 == expected {
                    return Ok(());
                }
                let found = bytes.len();
                Err(refuse(format!("expected {expected} bytes, found {found}")))
            }
            TensorData::Matrices(matrices) => {
                let shape = |m: &MatRef<'_>| (m.ty(), m.n_rows(), m.n_cols());
                let first = matrices.first().map(shape);
                let rows: u64 = matrices.iter().map(|m| m.n_rows() as u64).sum();
                let is_alike = matrices.iter().all(|m| Some(shape(m)) == first);
                let is_whole = rows == n_rows && rows > 0;
                if is_alike && is_whole && first.is_some_and(|(.., n)| n as u64 == n_cols) {
                    return Ok(());
                }
                let expected = format!("equal matrices of {n_rows} rows of {n_cols} together");
                Err(refuse(format!("expected {expected}, found {matrices:.3?}")))
            }
        }
    }

    /// Reads as many weights as `out` is long, from the one at `at`, all in one row. `row` is
    /// for a row that is read as a whole though a part of it is asked for.
    pub(crate) fn read(&self, at: u64, out: &mut [f32], row: &mut Vec<f32>) {
        let n_cols = self.n_cols();
        let (row_idx, column) = ((at / n_cols) as usize, (at % n_cols) as usize);
        match &self.data {
            TensorData::Bytes { ty, bytes } => {
                let ty = quant_type(*ty).expect("a plan reads what can be read");
                let start = bytes_of(ty, at);
                dequantize_row(
                    ty,
                    &bytes[start..start + bytes_of(ty, out.len() as u64)],
                    out,
                );
            }
            TensorData::Matrices(matrices) => {
                let n_rows = matrices[0].n_rows();
                let (matrix, row_idx) = (matrices[row_idx / n_rows], row_idx % n_rows);
                if out.len() == matrix.n_cols() {
                    matrix.dequantize_row(row_idx, out);
                } else if matrix.ty() == QuantType::F8_E4M3 {
                    row.resize(matrix.n_cols(), 0.0);
                    matrix.dequantize_row(row_idx, row);
                    out.copy_from_slice(&row[column..column + out.len()]);
                } else {
                    let start = bytes_of(matrix.ty(), column as u64);
                    let bytes = &matrix.row_bytes(row_idx)[start..];
                    let n_bytes = bytes_of(matrix.ty(), out.len() as u64);
                    dequantize_row(matrix.ty(), &bytes[..n_bytes], out);
                }
            }
        }
    }

    /// Iterates over its bytes, in as many pieces as they lie in.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let (whole, matrices) = match &self.data {
            TensorData::Bytes { bytes, .. } => (Some(&**bytes), [].as_slice()),
            TensorData::Matrices(matrices) => (None, matrices.as_slice()),
        };
        whole.into_iter().chain(matrices.iter().map(MatRef::bytes))
    }
}

/// Returns the bytes of whole blocks.
pub(crate) fn bytes_of(ty: QuantType, n_weights: u64) -> usize {
    n_weights as usize / ty.block_len() * ty.block_bytes()
}
