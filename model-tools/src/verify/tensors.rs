//! The tensors of a model, whatever kind of file they are in.

use moe_model::{Contents, quant_type};
use quant_kernels::QuantType;

/// More than any model has.
const MAX_EXPERTS: usize = 1024;

/// A tensor as its file describes it.
#[derive(Clone, Debug)]
pub(super) struct FileTensor<'a> {
    /// Its name in the file.
    pub(super) name: &'a str,
    /// Its type as the file spells it.
    pub(super) ty_name: String,
    /// Its type, if kernels know it.
    pub(super) ty: Option<QuantType>,
    /// Slowest dimension first.
    pub(super) shape: Vec<u64>,
    /// Its bytes.
    pub(super) data: &'a [u8],
}

impl FileTensor<'_> {
    /// Returns the number of weights in a row.
    pub(super) fn n_cols(&self) -> usize {
        self.shape.last().map_or(1, |&n| n as usize)
    }

    /// Returns the rows of a matrix; those of one expert where there are several.
    pub(super) fn n_rows(&self) -> usize {
        let n_before = self.shape.len().saturating_sub(1);
        self.shape[..n_before].iter().product::<u64>() as usize / self.n_matrices()
    }

    /// Returns the number of matrices: of experts, or one. More than any model has experts
    /// are none, nor are those of a type that nobody can read, or without weights.
    pub(super) fn n_matrices(&self) -> usize {
        let n_more = self.shape.len().saturating_sub(2);
        match self.shape[..n_more].iter().product::<u64>() as usize {
            n @ 1..=MAX_EXPERTS if self.ty.is_some() => n,
            _ => 1,
        }
    }

    /// Returns the number of weights.
    pub(super) fn n_weights(&self) -> u64 {
        self.shape.iter().product()
    }
}

/// Returns all tensors, in the order of the files.
pub(super) fn tensors<'a>(contents: &Contents<'a>) -> Vec<FileTensor<'a>> {
    match contents {
        Contents::Gguf(gguf) => gguf
            .tensors()
            .map(|tensor| FileTensor {
                name: tensor.info.name(),
                ty_name: tensor.info.ty().name().to_owned(),
                ty: quant_type(tensor.info.ty()),
                shape: tensor.info.ne().iter().rev().copied().collect(),
                data: tensor.data,
            })
            .collect(),
        Contents::Checkpoint(checkpoint) => checkpoint
            .tensors()
            .map(|tensor| FileTensor {
                name: tensor.name(),
                ty_name: tensor.dtype(),
                ty: tensor.quant_type(),
                shape: tensor.shape().to_vec(),
                data: tensor.data(),
            })
            .collect(),
    }
}
