//! Writes the file: metadata, then tensor after tensor in pieces.

use std::{collections::HashMap, io::Write};

use gguf_format::{GgufWriter, TensorDataWriter};
use quant_kernels::QuantType;
use rayon::prelude::*;

use crate::{
    Geometry, SynthError, TypeMix, Vocab,
    plan::{PlannedTensor, Weights, tensors},
    pool::{Pool, STRETCH_LEN},
    random::Stream,
};

/// Bytes that are made before they are written.
const PIECE_BYTES: usize = 32 << 20;

/// Bytes that one thread makes at a time.
const TASK_BYTES: usize = 128 << 10;

/// How much norm weights deviate from one.
const NORM_DEVIATION: f32 = 0.1;

/// A model to be written.
#[derive(Clone, Copy, Debug)]
pub struct SynthModel<'a> {
    /// Its shape.
    pub geometry: Geometry,
    /// The types of its matrices.
    pub mix: TypeMix,
    /// Its vocabulary.
    pub vocab: Vocab<'a>,
    /// What its weights depend on.
    pub seed: u64,
}

/// How far writing has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of tensors that were written.
    pub written: u64,
    /// Bytes of all tensors.
    pub total: u64,
}

/// The pools that a model's matrices share, by type and bits of the deviation.
type Pools = HashMap<(QuantType, u32), Pool>;

impl SynthModel<'_> {
    /// Writes the file, and returns the output.
    ///
    /// Large pieces are written one after the other, so `out` needs no buffer. Work is spread
    /// over the threads of rayon's current pool; the bytes do not depend on how many there are.
    ///
    /// # Errors
    /// If the geometry is impossible, its rows are no whole blocks of their types, the
    /// vocabulary does not fit, or `out` fails.
    pub fn write<W: Write>(
        &self,
        out: W,
        mut progress: impl FnMut(Progress),
    ) -> Result<W, SynthError> {
        self.geometry.check()?;
        let plan = tensors(&self.geometry, self.mix);
        let header = self.header(&plan)?;
        let pools = self.pools(&plan)?;
        let total = total_bytes(&plan);
        let mut written = 0;
        let mut data = header.start(out)?;
        let mut piece = Vec::new();
        for tensor in &plan {
            self.write_tensor(tensor, &pools, &mut piece, &mut data, &mut |n_bytes| {
                written += n_bytes;
                progress(Progress { written, total });
            })?;
        }
        Ok(data.finish()?)
    }

    /// Writes the file into memory.
    ///
    /// # Errors
    /// As [`SynthModel::write`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, SynthError> {
        self.write(Vec::new(), |_| ())
    }

    /// Returns the bytes of all tensors together; the file has those of the metadata besides.
    ///
    /// # Errors
    /// If the geometry is impossible.
    pub fn tensor_bytes(&self) -> Result<u64, SynthError> {
        self.geometry.check()?;
        Ok(total_bytes(&tensors(&self.geometry, self.mix)))
    }

    fn header(&self, plan: &[PlannedTensor]) -> Result<GgufWriter, SynthError> {
        let geometry = &self.geometry;
        let mut header = GgufWriter::new();
        header.set("general.architecture", "qwen3moe")?;
        header.set("general.type", "model")?;
        header.set("general.name", "Synthetic Qwen3-MoE")?;
        header.set("general.quantization_version", 2_u32)?;
        if let Some(file_type) = self.mix.file_type() {
            header.set("general.file_type", file_type)?;
        }
        let counts = [
            ("block_count", geometry.n_layer),
            ("context_length", geometry.n_ctx),
            ("embedding_length", geometry.n_embd),
            (
                "feed_forward_length",
                geometry.n_ff_exp * geometry.n_expert_used,
            ),
            ("attention.head_count", geometry.n_head),
            ("attention.head_count_kv", geometry.n_head_kv),
            ("attention.key_length", geometry.head_dim),
            ("attention.value_length", geometry.head_dim),
            ("expert_count", geometry.n_expert),
            ("expert_used_count", geometry.n_expert_used),
            ("expert_feed_forward_length", geometry.n_ff_exp),
        ];
        for (key, count) in counts {
            header.set(&format!("qwen3moe.{key}"), count)?;
        }
        header.set("qwen3moe.rope.freq_base", geometry.rope_freq_base)?;
        header.set("qwen3moe.attention.layer_norm_rms_epsilon", 1e-6_f32)?;
        self.vocab
            .describe(geometry.n_vocab as usize, &mut header)?;
        for tensor in plan {
            header.tensor(&tensor.name, &tensor.ne, tensor.ggml_type())?;
        }
        Ok(header)
    }

    fn pools(&self, plan: &[PlannedTensor]) -> Result<Pools, SynthError> {
        let mut needed: HashMap<(QuantType, u32), u64> = HashMap::new();
        for tensor in plan {
            if let Weights::Matrix { deviation } = tensor.weights {
                let n = needed.entry((tensor.ty, deviation.to_bits())).or_default();
                *n = (*n).max(tensor.n_rows() * stretches_per_row(tensor));
            }
        }
        let pool = |(key, n): ((QuantType, u32), u64)| {
            let deviation = f32::from_bits(key.1);
            Ok((key, Pool::new(key.0, deviation, n, self.seed)?))
        };
        needed.into_iter().map(pool).collect()
    }

    fn write_tensor<W: Write>(
        &self,
        tensor: &PlannedTensor,
        pools: &Pools,
        piece: &mut Vec<u8>,
        data: &mut TensorDataWriter<W>,
        wrote: &mut dyn FnMut(u64),
    ) -> Result<(), SynthError> {
        let stream = Stream::new(self.seed, &tensor.name);
        let Weights::Matrix { deviation } = tensor.weights else {
            let norm = norm_weights(stream, tensor.n_cols());
            data.write(&norm)?;
            wrote(norm.len() as u64);
            return Ok(());
        };
        let pool = &pools[&(tensor.ty, deviation.to_bits())];
        let row_bytes = row_bytes(tensor);
        let per_row = stretches_per_row(tensor);
        let rows_per_piece = (PIECE_BYTES / row_bytes).max(1) as u64;
        let rows_per_task = (TASK_BYTES / row_bytes).max(1);
        let mut first_row = 0;
        while first_row < tensor.n_rows() {
            let n_rows = rows_per_piece.min(tensor.n_rows() - first_row);
            piece.resize(n_rows as usize * row_bytes, 0);
            piece
                .par_chunks_mut(rows_per_task * row_bytes)
                .enumerate()
                .for_each(|(task, rows)| {
                    let first = first_row + (task * rows_per_task) as u64;
                    for (row, out) in (first..).zip(rows.chunks_exact_mut(row_bytes)) {
                        pool.fill_row(stream, row * per_row, out);
                    }
                });
            data.write(piece)?;
            wrote(piece.len() as u64);
            first_row += n_rows;
        }
        Ok(())
    }
}

fn norm_weights(stream: Stream, len: u64) -> Vec<u8> {
    (0..len)
        .flat_map(|idx| (1.0 + NORM_DEVIATION * stream.normal(idx)).to_le_bytes())
        .collect()
}

fn stretches_per_row(tensor: &PlannedTensor) -> u64 {
    tensor.n_cols().div_ceil(STRETCH_LEN as u64)
}

/// Bytes of a row, which is a whole number of blocks once the header was made.
fn row_bytes(tensor: &PlannedTensor) -> usize {
    tensor.n_cols() as usize / tensor.ty.block_len() * tensor.ty.block_bytes()
}

fn total_bytes(plan: &[PlannedTensor]) -> u64 {
    plan.iter()
        .map(|tensor| tensor.n_rows() * row_bytes(tensor) as u64)
        .sum()
}
