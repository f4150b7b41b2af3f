//! Makes importance matrices: sums of squares of what a model's matrices are multiplied with
//! while it reads a text, in llama.cpp's GGUF form.

use std::{collections::BTreeMap, io::Write};

use gguf_format::{GgmlType, GgufWriter};
use moe_model::MatrixInputs;

use crate::ToolError;

/// The sums so far. They are kept in double precision and written in single.
#[derive(Clone, Debug)]
pub struct ImportanceSums {
    n_expert: usize,
    entries: BTreeMap<String, Sums>,
}

/// Of one matrix.
#[derive(Clone, Debug)]
struct Sums {
    n_cols: usize,
    /// For each column, expert after expert.
    squares: Vec<f64>,
    /// Rows that each expert has met.
    counts: Vec<u64>,
}

/// How many experts of a matrix have met nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unseen<'a> {
    /// Name of the matrix.
    pub name: &'a str,
    /// Experts that have met nothing.
    pub n_unseen: usize,
    /// All experts.
    pub n_expert: usize,
}

impl ImportanceSums {
    /// Begins for a model with so many experts to a layer.
    #[must_use]
    pub const fn new(n_expert: usize) -> Self {
        Self {
            n_expert,
            entries: BTreeMap::new(),
        }
    }

    /// Adds the inputs of a matrix.
    pub fn add(&mut self, inputs: &MatrixInputs<'_>) {
        let MatrixInputs { rows, n_cols, .. } = *inputs;
        for matrix in inputs.matrices {
            let name = format!("blk.{}.{matrix}.weight", inputs.layer);
            let n_matrices = inputs.experts.map_or(1, |_| self.n_expert);
            let sums = self.entries.entry(name).or_insert_with(|| Sums {
                n_cols,
                squares: vec![0.0; n_cols * n_matrices],
                counts: vec![0; n_matrices],
            });
            match inputs.experts {
                None => rows.chunks_exact(n_cols).for_each(|row| sums.add(0, row)),
                Some(met) => met.iter().for_each(|met| {
                    let row = &rows[met.row as usize * n_cols..][..n_cols];
                    sums.add(met.expert as usize, row);
                }),
            }
        }
    }

    /// Returns the number of matrices.
    #[must_use]
    pub fn n_entries(&self) -> usize {
        self.entries.len()
    }

    /// Iterates over the matrices of which an expert has met nothing.
    pub fn unseen(&self) -> impl Iterator<Item = Unseen<'_>> {
        self.entries.iter().filter_map(|(name, sums)| {
            let n_unseen = sums.counts.iter().filter(|&&count| count == 0).count();
            (n_unseen > 0).then_some(Unseen {
                name,
                n_unseen,
                n_expert: sums.counts.len(),
            })
        })
    }

    /// Writes the file: what was read is called `dataset`, and was `n_chunks` pieces of
    /// `chunk_len` tokens.
    ///
    /// # Errors
    /// [`ToolError::Gguf`] if `out` fails.
    pub fn write<W: Write>(
        &self,
        out: W,
        dataset: &str,
        n_chunks: u32,
        chunk_len: u32,
    ) -> Result<W, ToolError> {
        let mut header = GgufWriter::new();
        header.set("general.type", "imatrix")?;
        header.set("imatrix.datasets", [dataset])?;
        header.set("imatrix.chunk_count", n_chunks)?;
        header.set("imatrix.chunk_size", chunk_len)?;
        for (name, sums) in &self.entries {
            let n_matrices = sums.counts.len() as u64;
            let ne = [sums.n_cols as u64, n_matrices];
            header.tensor(&format!("{name}.in_sum2"), &ne, GgmlType::F32)?;
            header.tensor(&format!("{name}.counts"), &[1, n_matrices], GgmlType::F32)?;
        }
        let mut data = header.start(out)?;
        for sums in self.entries.values() {
            data.write(&le(sums.squares.iter().map(|&sum| sum as f32)))?;
            data.write(&le(sums.counts.iter().map(|&count| count as f32)))?;
        }
        Ok(data.finish()?)
    }
}

impl Sums {
    fn add(&mut self, expert: usize, row: &[f32]) {
        self.counts[expert] += 1;
        let squares = &mut self.squares[expert * self.n_cols..][..self.n_cols];
        for (sum, x) in squares.iter_mut().zip(row) {
            *sum += f64::from(*x) * f64::from(*x);
        }
    }
}

fn le(values: impl Iterator<Item = f32>) -> Vec<u8> {
    values.flat_map(f32::to_le_bytes).collect()
}
