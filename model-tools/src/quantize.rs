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

use quant_kernels::{KernelError, quantize_row, quantize_row_weighted};
use rayon::prelude::*;

use crate::{
    Plan, PlannedTensor, ToolError, error::quote, plan::Conversion, source::bytes_of,
    threads::threads,
};

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
        threads(n_threads)?.install(|| {
            let mut data = self.header.clone().start(out)?;
            let mut slabs = Slabs::new(n_threads, self.n_bytes(), &mut observe);
            for tensor in self.tensors() {
                slabs.write(tensor, &mut |piece| Ok(data.write(piece)?))?;
            }
            Ok(data.finish()?)
        })
    }
}

/// Takes the bytes of a tensor, piece after piece.
pub(crate) type Sink<'s> = dyn FnMut(&[u8]) -> Result<(), ToolError> + 's;

/// Is told after each piece how far writing has come, and may end it.
pub(crate) type Observer<'o> = dyn FnMut(Progress) -> ControlFlow<()> + Send + 'o;

/// Makes the bytes of tensors, one after the other.
pub(crate) struct Slabs<'o> {
    /// Weights of a slab.
    slab_len: u64,
    slab: Vec<u8>,
    progress: Progress,
    observe: &'o mut Observer<'o>,
}

impl<'o> Slabs<'o> {
    pub(crate) fn new(n_threads: NonZeroUsize, total: u64, observe: &'o mut Observer<'o>) -> Self {
        Self {
            slab_len: CHUNK_LEN * (CHUNKS_PER_THREAD * n_threads.get()) as u64,
            slab: Vec::new(),
            progress: Progress { written: 0, total },
            observe,
        }
    }

    /// Hands out the bytes that a tensor is to have.
    pub(crate) fn write(
        &mut self,
        tensor: &PlannedTensor<'_>,
        out: &mut Sink<'_>,
    ) -> Result<(), ToolError> {
        match tensor.conversion {
            Some(conversion) => self.convert(tensor, conversion, out),
            None => self.copy(tensor, out),
        }
    }

    fn copy(&mut self, tensor: &PlannedTensor<'_>, out: &mut Sink<'_>) -> Result<(), ToolError> {
        let pieces = tensor.source.pieces();
        for piece in pieces.flat_map(|piece| piece.chunks(COPIED_BYTES)) {
            out(piece)?;
            self.wrote(piece.len())?;
        }
        Ok(())
    }

    fn convert(
        &mut self,
        tensor: &PlannedTensor<'_>,
        conversion: Conversion<'_>,
        out: &mut Sink<'_>,
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
            out(&self.slab)?;
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
    let to = conversion.to;
    let n_cols = tensor.source.n_cols();
    let (mut weights, mut whole_row, mut importance) = (Vec::new(), Vec::new(), Vec::new());
    let mut at = range.start;
    while at < range.end {
        let (row, column) = (at / n_cols, at % n_cols);
        let n = (n_cols - column).min(range.end - at);
        weights.resize(n as usize, 0.0);
        tensor.source.read(at, &mut weights, &mut whole_row);
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
