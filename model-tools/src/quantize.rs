//! Writes the planned file: tensor after tensor, in slabs.
//!
//! A tensor is taken for one long series of weights. A slab of it, some hundred thousand
//! weights per thread, is cut into chunks; the threads dequantize and quantize a chunk each,
//! and the slab is written when all are done. Chunks are whole blocks of all types, and
//! blocks are quantized each for itself, so neither chunks nor threads show in the bytes.

use std::{
    io::Write,
    num::NonZeroUsize,
    ops::{ControlFlow, Range},
};

use gguf_format::TensorDataWriter;
use quant_kernels::{KernelError, QuantType, dequantize_row, quantize_row, quantize_row_weighted};
use rayon::{ThreadPoolBuilder, prelude::*};

use crate::{Plan, PlannedTensor, ToolError, error::quote, plan::Conversion};

/// Weights that a thread quantizes at a time: a multiple of every block.
const CHUNK_LEN: u64 = 16 << 10;

/// Chunks of a slab, per thread: about a twentieth of a second's work.
const CHUNKS_PER_THREAD: usize = 32;

/// Bytes that are copied at a time.
const COPIED_BYTES: usize = 8 << 20;

/// How far writing has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of tensors that were written.
    pub written: u64,
    /// Bytes of all tensors.
    pub total: u64,
}

impl Plan<'_> {
    /// Writes the file, and returns the output.
    ///
    /// `observe` is told after each piece how far it is and may end the work. Large pieces are
    /// written one after the other, so `out` needs a buffer for the header alone.
    ///
    /// # Errors
    /// [`ToolError::Weight`] for the first weight that is not finite or too large for its new
    /// type, [`ToolError::Gguf`] if `out` fails, [`ToolError::Threads`] if there are none, and
    /// [`ToolError::Interrupted`] if `observe` ends it.
    pub fn write<W: Write + Send>(
        &self,
        out: W,
        n_threads: NonZeroUsize,
        mut observe: impl FnMut(Progress) -> ControlFlow<()> + Send,
    ) -> Result<W, ToolError> {
        let threads = ThreadPoolBuilder::new().num_threads(n_threads.get());
        let threads = threads.build().map_err(|error| ToolError::Threads {
            n_threads: n_threads.get(),
            reason: error.to_string(),
        })?;
        threads.install(|| {
            let mut writing = Writing {
                data: self.header.clone().start(out)?,
                slab_len: CHUNK_LEN * (CHUNKS_PER_THREAD * n_threads.get()) as u64,
                slab: Vec::new(),
                progress: Progress {
                    written: 0,
                    total: self.n_bytes(),
                },
                observe: &mut observe,
            };
            for tensor in self.tensors() {
                match tensor.conversion {
                    Some(conversion) => writing.convert(tensor, conversion)?,
                    None => writing.copy(tensor)?,
                }
            }
            Ok(writing.data.finish()?)
        })
    }
}

/// The file as far as it is written.
struct Writing<'o, W> {
    data: TensorDataWriter<W>,
    /// Weights of a slab.
    slab_len: u64,
    slab: Vec<u8>,
    progress: Progress,
    observe: &'o mut (dyn FnMut(Progress) -> ControlFlow<()> + Send),
}

impl<W: Write> Writing<'_, W> {
    fn copy(&mut self, tensor: &PlannedTensor<'_>) -> Result<(), ToolError> {
        let parts = tensor.source.parts.iter();
        for piece in parts.flat_map(|part| part.chunks(COPIED_BYTES)) {
            self.data.write(piece)?;
            self.wrote(piece.len())?;
        }
        Ok(())
    }

    fn convert(
        &mut self,
        tensor: &PlannedTensor<'_>,
        conversion: Conversion<'_>,
    ) -> Result<(), ToolError> {
        let n_weights = tensor.source.n_cols() * tensor.source.n_rows();
        let chunk_bytes = bytes_of(conversion.to, CHUNK_LEN);
        let mut start = 0;
        while start < n_weights {
            let end = n_weights.min(start + self.slab_len);
            self.slab.resize(bytes_of(conversion.to, end - start), 0);
            let chunks = self.slab.par_chunks_mut(chunk_bytes).enumerate();
            let failed = chunks
                .map(|(idx, out)| {
                    let start = start + idx as u64 * CHUNK_LEN;
                    let range = start..end.min(start + CHUNK_LEN);
                    convert_chunk(tensor, conversion, range, out)
                })
                .find_first(Result::is_err);
            if let Some(failed) = failed {
                failed?;
            }
            self.data.write(&self.slab)?;
            self.wrote(self.slab.len())?;
            start = end;
        }
        Ok(())
    }

    fn wrote(&mut self, n_bytes: usize) -> Result<(), ToolError> {
        self.progress.written += n_bytes as u64;
        match (self.observe)(self.progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(ToolError::Interrupted),
        }
    }
}

/// Converts the weights of a range, row by row.
fn convert_chunk(
    tensor: &PlannedTensor<'_>,
    conversion: Conversion<'_>,
    range: Range<u64>,
    mut out: &mut [u8],
) -> Result<(), ToolError> {
    let Conversion { from, to, .. } = conversion;
    let n_cols = tensor.source.n_cols();
    let (mut weights, mut importance) = (Vec::new(), Vec::new());
    let mut at = range.start;
    while at < range.end {
        let (row, column) = (at / n_cols, at % n_cols);
        let n = (n_cols - column).min(range.end - at);
        weights.resize(n as usize, 0.0);
        dequantize_row(from, tensor.bytes_at(from, at, n), &mut weights);
        let (blocks, rest) = out.split_at_mut(bytes_of(to, n));
        let quantized = match conversion.importance {
            None => quantize_row(to, &weights, blocks),
            Some(of_columns) => {
                let matrix = row / tensor.source.ne.get(1).copied().unwrap_or(1);
                let start = (matrix * n_cols + column) as usize;
                let of_columns = &of_columns.as_chunks().0[start..start + n as usize];
                importance.clear();
                importance.extend(of_columns.iter().map(|&p| f32::from_le_bytes(p)));
                quantize_row_weighted(to, &weights, &importance, blocks)
            }
        };
        quantized.map_err(|source| {
            let idx = match source {
                KernelError::NotFinite { idx } => idx as u64,
                _ => 0,
            };
            ToolError::Weight {
                name: quote(&tensor.source.name),
                row,
                column: column + idx,
                source,
            }
        })?;
        out = rest;
        at += n;
    }
    Ok(())
}

impl PlannedTensor<'_> {
    /// Returns the bytes of `n` weights from the one at `at`, all in one row.
    fn bytes_at(&self, ty: QuantType, at: u64, n: u64) -> &[u8] {
        let parts = &self.source.parts;
        let part_len = self.source.n_cols() * self.source.n_rows() / parts.len() as u64;
        let part = parts[(at / part_len) as usize];
        let start = bytes_of(ty, at % part_len);
        &part[start..start + bytes_of(ty, n)]
    }
}

/// Returns the bytes of whole blocks.
fn bytes_of(ty: QuantType, n_weights: u64) -> usize {
    n_weights as usize / ty.block_len() * ty.block_bytes()
}
