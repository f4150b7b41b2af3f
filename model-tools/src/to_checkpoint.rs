//! A GGUF file as a checkpoint: the folder that transformers, and this program, would read.
//!
//! The tensors get transformers' names, experts one tensor each, in `model.safetensors` or, if
//! that would be large, in several files with an index. Matrices of floats keep their type,
//! quantized ones become BF16, if nothing else is asked for. Norms and routers, which GGUF files
//! have in F32, get the type of the matrices where that loses nothing: so a checkpoint that
//! became a GGUF file comes back as it was. The documents say what the metadata say, as far as
//! documents can; the rest is told.

mod documents;
mod safetensors;

use std::{num::NonZeroUsize, ops::ControlFlow};

use gguf_format::GgufSet;
use moe_model::{Model, NamedTensor, TensorValues, checkpoint_name};
use quant_kernels::{MatRef, QuantType, dequantize_row, quantize_row};
use tokenizer::Tokenizer;

use self::safetensors::Shard;
use crate::{
    NewFolder, PlannedTensor, Progress, SourceTensor, ToolError, quantize::Slabs,
    source::TensorData, threads::threads,
};

/// What is wished of a checkpoint.
#[derive(Clone, Copy, Debug)]
pub struct CheckpointOptions {
    /// The type of the matrices: F32, F16 or BF16; `None` keeps floats as they are and makes
    /// BF16 of quantized ones.
    pub ty: Option<QuantType>,
    /// The most bytes of tensors in a file, unless one tensor has more.
    pub max_shard_bytes: u64,
}

impl Default for CheckpointOptions {
    fn default() -> Self {
        Self {
            ty: None,
            max_shard_bytes: 5_000_000_000,
        }
    }
}

/// A checkpoint, known in every respect but its weights.
#[derive(Debug)]
pub struct CheckpointPlan<'a> {
    documents: Vec<(String, Vec<u8>)>,
    shards: Vec<Shard<'a>>,
    quantized: Vec<QuantType>,
    ty: QuantType,
    notes: Vec<String>,
}

impl<'a> CheckpointPlan<'a> {
    /// Decides the type and the file of every tensor, and writes the documents into memory.
    ///
    /// # Errors
    /// The file holds no model that can be run, or says what a checkpoint cannot; a type that
    /// is no float.
    pub fn new(gguf: &GgufSet<'a>, options: &CheckpointOptions) -> Result<Self, ToolError> {
        let model = Model::from_gguf(gguf)?;
        let tokenizer = Tokenizer::from_gguf(gguf.metadata())?;
        let ty = options.ty.unwrap_or_else(|| most_of(&model));
        if !matches!(ty, QuantType::F32 | QuantType::F16 | QuantType::BF16) {
            return Err(ToolError::NotFloat { ty });
        }
        let named = model.weights().tensors();
        let mut quantized = Vec::new();
        let mut tensors = Vec::with_capacity(named.len());
        for tensor in &named {
            let given = type_of(tensor);
            if given.block_len() > 1 && !quantized.contains(&given) {
                quantized.push(given);
            }
            tensors.extend(planned(tensor, ty, options.ty)?);
        }
        let shards = safetensors::shards(tensors, options.max_shard_bytes);
        let (mut documents, mut notes) = documents::documents(gguf, &model, &tokenizer, ty)?;
        if let Some(index) = safetensors::index(&shards) {
            documents.push(index);
        }
        if let [first, others @ ..] = model.weights().unused() {
            let first = crate::error::quote(first);
            notes.push(match others.len() {
                0 => format!("tensor {first} is not used"),
                n => format!("tensor {first} and {n} more are not used"),
            });
        }
        Ok(Self {
            documents,
            shards,
            quantized,
            ty,
            notes,
        })
    }

    /// Returns the type of the matrices that are not floats in the source.
    #[must_use]
    pub const fn ty(&self) -> QuantType {
        self.ty
    }

    /// Returns the types of the source that are not floats: what quantizing lost of the weights
    /// does not come back.
    #[must_use]
    pub fn quantized(&self) -> &[QuantType] {
        &self.quantized
    }

    /// Returns what of the file does not go into the folder, a line each.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Returns the number of files with weights.
    #[must_use]
    pub fn n_shards(&self) -> usize {
        self.shards.len()
    }

    /// Returns the bytes of all tensors together.
    #[must_use]
    pub fn n_bytes(&self) -> u64 {
        self.shards.iter().map(Shard::n_bytes).sum()
    }

    /// Writes all files into a folder, on so many threads. `observe` is told after each piece how
    /// far it is and may end the work.
    ///
    /// # Errors
    /// As [`Plan::write`](crate::Plan::write).
    pub fn write(
        &self,
        folder: &NewFolder,
        n_threads: NonZeroUsize,
        mut observe: impl FnMut(Progress) -> ControlFlow<()> + Send,
    ) -> Result<(), ToolError> {
        for (name, bytes) in &self.documents {
            folder.file(name, |file| file.write(bytes))?;
        }
        threads(n_threads)?.install(|| {
            let mut slabs = Slabs::new(n_threads, self.n_bytes(), &mut observe);
            for shard in &self.shards {
                folder.file(shard.name(), |file| {
                    file.write(&shard.header())?;
                    for tensor in shard.tensors() {
                        slabs.write(tensor, &mut |piece| file.write(piece))?;
                    }
                    Ok(())
                })?;
            }
            Ok(())
        })
    }
}

/// Returns the type of the first matrix of an expert, if it is a float.
fn most_of(model: &Model<'_>) -> QuantType {
    let layer = model.weights().layers.first();
    let ty = layer.map_or(QuantType::BF16, |layer| layer.up_exps.ty());
    if ty.block_len() == 1 {
        ty
    } else {
        QuantType::BF16
    }
}

fn type_of(tensor: &NamedTensor<'_, '_>) -> QuantType {
    match &tensor.values {
        TensorValues::Vector(_) => QuantType::F32,
        TensorValues::Matrix(matrix) => matrix.ty(),
        TensorValues::Experts(experts) => experts.ty(),
    }
}

/// Returns the tensors of a checkpoint that one of a GGUF file becomes.
fn planned<'a>(
    tensor: &NamedTensor<'_, 'a>,
    ty: QuantType,
    asked: Option<QuantType>,
) -> Result<Vec<PlannedTensor<'a>>, ToolError> {
    let matrices: Vec<MatRef<'a>> = match &tensor.values {
        TensorValues::Vector(values) => {
            let bytes: Vec<u8> = values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect();
            let wanted = narrowest(ty, values);
            let data = TensorData::Bytes {
                ty: gguf_format::GgmlType::F32,
                bytes: bytes.into(),
            };
            let source = source(&tensor.name, 0, &[values.len()], data)?;
            return Ok(vec![PlannedTensor::new(source, Some(wanted), true)?]);
        }
        TensorValues::Matrix(matrix) => vec![*matrix],
        TensorValues::Experts(experts) => experts.iter().copied().collect(),
    };
    let is_router = tensor.name.contains("ffn_gate_inp");
    let planned = matrices.into_iter().enumerate().map(|(expert, matrix)| {
        let wanted = match matrix.ty() {
            _ if is_router => narrowest_of(ty, &matrix),
            given if given.block_len() == 1 => asked.unwrap_or(given),
            _ => ty,
        };
        let shape = [matrix.n_cols(), matrix.n_rows()];
        let data = TensorData::Matrices(vec![matrix]);
        let source = source(&tensor.name, expert, &shape, data)?;
        PlannedTensor::new(source, Some(wanted), true)
    });
    planned.collect()
}

fn source<'a>(
    name: &str,
    expert: usize,
    ne: &[usize],
    data: TensorData<'a>,
) -> Result<SourceTensor<'a>, ToolError> {
    let name = checkpoint_name(name, expert).ok_or_else(|| ToolError::Data {
        name: crate::error::quote(name),
        reason: "a checkpoint has no such tensor".to_owned(),
    })?;
    Ok(SourceTensor {
        name,
        ne: ne.iter().map(|&n| n as u64).collect(),
        data,
        becomes: None,
    })
}

/// Returns `ty` if it holds all values of a matrix, else F32.
fn narrowest_of(ty: QuantType, matrix: &MatRef<'_>) -> QuantType {
    let mut row = vec![0.0; matrix.n_cols()];
    let mut rows = 0..matrix.n_rows();
    let fits = rows.all(|idx| {
        matrix.dequantize_row(idx, &mut row);
        narrowest(ty, &row) == ty
    });
    if fits { ty } else { QuantType::F32 }
}

/// Returns `ty` if it holds all values, bit for bit, else F32.
fn narrowest(ty: QuantType, values: &[f32]) -> QuantType {
    let mut bytes = vec![0; values.len() * ty.block_bytes()];
    let mut back = vec![0.0; values.len()];
    if quantize_row(ty, values, &mut bytes).is_ok() {
        dequantize_row(ty, &bytes, &mut back);
        let bits = |values: &[f32]| {
            values
                .iter()
                .map(|value| value.to_bits())
                .collect::<Vec<_>>()
        };
        if bits(&back) == bits(values) {
            return ty;
        }
    }
    QuantType::F32
}
