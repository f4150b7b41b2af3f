//! How much each column of a matrix matters: llama.cpp's importance matrices.
//!
//! For each matrix such a file has the sum of the squares of the activations that met each
//! column while a model read a text; where a matrix has experts, for each of them. An error in
//! a weight shows in the result by the size of the activations it meets, so quantizers count
//! errors by these numbers.
//!
//! There are two formats. As GGUF a matrix `x` is two tensors, `x.in_sum2` (columns × experts)
//! and `x.counts`, how many activations each expert has met. The older one, `.dat`, is a
//! list of names and means, without a magic. Both hold F32 and follow llama.cpp's
//! `tools/imatrix/imatrix.cpp`. Only proportions within a row matter here, so of the counts and
//! the scale of the sums nothing is taken but which experts have met nothing.

mod legacy;
mod sums;

pub use self::sums::{ImportanceSums, Unseen};

use std::collections::BTreeMap;

use gguf_format::{Array, GgmlType, GgufSet, GgufWriter, Tensor, Value};

use crate::{SourceTensor, ToolError, error::quote};

/// The end of the name of a tensor with sums.
const SUMS: &str = ".in_sum2";
/// The end of the name of a tensor with counts.
const COUNTS: &str = ".counts";

/// An importance matrix for each of a model's matrices. Borrows the numbers from the file.
#[derive(Clone, Debug)]
pub struct Importance<'a> {
    entries: BTreeMap<&'a str, Entry<'a>>,
    file_name: Option<String>,
    dataset: Option<&'a str>,
    n_chunks: u32,
}

/// What is known of a matrix.
#[derive(Clone, Debug)]
struct Entry<'a> {
    /// A little-endian F32 for each column, expert after expert.
    values: &'a [u8],
    /// The experts that no activation has met, where that is known.
    unseen: Vec<usize>,
    /// How many counts there were, where there were any: one per expert.
    n_counts: Option<u64>,
}

impl<'a> Importance<'a> {
    /// Reads a file in GGUF form.
    ///
    /// # Errors
    /// [`ToolError::Importance`] if there is nothing in it, sums and counts are not pairs of
    /// F32 tensors of sizes that belong together, or a number is negative, infinite or NaN;
    /// [`ToolError::Gguf`] if metadata have another type than they should.
    pub fn from_gguf(gguf: &GgufSet<'a>) -> Result<Self, ToolError> {
        let mut entries = BTreeMap::new();
        for sums in gguf.tensors() {
            let name = sums.info.name();
            if let Some(matrix) = name.strip_suffix(SUMS) {
                let counts = gguf.find(&format!("{matrix}{COUNTS}"));
                let counts = counts.ok_or_else(|| refuse(matrix, "it has sums, but no counts"))?;
                entries.insert(matrix, Entry::of_tensors(matrix, sums, counts)?);
            } else if let Some(matrix) = name.strip_suffix(COUNTS)
                && gguf.find(&format!("{matrix}{SUMS}")).is_none()
            {
                return Err(refuse(matrix, "it has counts, but no sums"));
            }
        }
        let metadata = gguf.metadata();
        let datasets: Option<Array<'a>> = metadata.optional("imatrix.datasets")?;
        let first = datasets.and_then(|datasets| datasets.iter().next());
        let dataset = match first {
            Some(Value::String(name)) => Some(name),
            _ => None,
        };
        Self {
            entries,
            file_name: None,
            dataset,
            n_chunks: metadata.optional("imatrix.chunk_count")?.unwrap_or(0),
        }
        .checked()
    }

    /// Reads a file in the older form.
    ///
    /// # Errors
    /// [`ToolError::ImportanceFile`] naming the offset if the bytes end too soon, are too many
    /// or contradict themselves, and [`ToolError::Importance`] as above.
    pub fn from_legacy(bytes: &'a [u8]) -> Result<Self, ToolError> {
        legacy::parse(bytes)?.checked()
    }

    /// Gives the file a name, which quantized files will carry.
    #[must_use]
    pub fn with_file_name(self, name: &str) -> Self {
        Self {
            file_name: Some(name.to_owned()),
            ..self
        }
    }

    /// Returns the number of matrices.
    #[must_use]
    pub fn n_entries(&self) -> usize {
        self.entries.len()
    }

    /// Returns the number of pieces of text that were read, 0 if unknown.
    #[must_use]
    pub const fn n_chunks(&self) -> u32 {
        self.n_chunks
    }

    /// Returns what the file says of the text that was read.
    #[must_use]
    pub const fn dataset(&self) -> Option<&'a str> {
        self.dataset
    }

    /// Returns the experts of a matrix that no activation has met.
    #[must_use]
    pub fn unseen_experts(&self, name: &str) -> &[usize] {
        self.entries.get(name).map_or(&[], |entry| &entry.unseen)
    }

    /// Says in a header what the file was made with.
    pub(crate) fn describe(&self, header: &mut GgufWriter) -> Result<(), ToolError> {
        if let Some(name) = &self.file_name {
            header.set("quantize.imatrix.file", name.as_str())?;
        }
        if let Some(dataset) = self.dataset {
            header.set("quantize.imatrix.dataset", dataset)?;
        }
        let n_entries = u32::try_from(self.n_entries()).unwrap_or(u32::MAX);
        header.set("quantize.imatrix.entries_count", n_entries)?;
        if self.n_chunks > 0 {
            header.set("quantize.imatrix.chunks_count", self.n_chunks)?;
        }
        Ok(())
    }

    /// Refuses a file that was made from another model.
    pub(crate) fn check_names(&self, tensors: &[SourceTensor<'_>]) -> Result<(), ToolError> {
        let mut names = self.entries.keys();
        match names.find(|name| !tensors.iter().any(|tensor| tensor.name == **name)) {
            Some(name) => Err(refuse(name, "the model has no such tensor")),
            None => Ok(()),
        }
    }

    /// Returns the numbers of a tensor's columns, expert after expert.
    pub(crate) fn of(&self, tensor: &SourceTensor<'_>) -> Result<Option<&'a [u8]>, ToolError> {
        let Some(entry) = self.entries.get(tensor.name.as_str()) else {
            return Ok(None);
        };
        let n_matrices: u64 = tensor.ne.iter().skip(2).product();
        if let Some(found) = entry.n_counts.filter(|&found| found != n_matrices) {
            let reason = format!("it has {found} counts, but there are {n_matrices} experts");
            return Err(refuse(&tensor.name, &reason));
        }
        let (expected, found) = (tensor.n_cols() * n_matrices, entry.values.len() as u64 / 4);
        if expected == found {
            return Ok(Some(entry.values));
        }
        let reason = format!(
            "it has {found} numbers, but {} columns × {n_matrices} experts are {expected}",
            tensor.n_cols()
        );
        Err(refuse(&tensor.name, &reason))
    }

    fn checked(self) -> Result<Self, ToolError> {
        if self.entries.is_empty() {
            return Err(refuse("", "there is no importance matrix in the file"));
        }
        for (name, entry) in &self.entries {
            let mut values = entry.values.as_chunks().0.iter();
            let is_wrong = |&value| !(0.0..f32::INFINITY).contains(&f32::from_le_bytes(value));
            if let Some(idx) = values.position(is_wrong) {
                let reason = format!("number {idx} is negative, infinite or NaN");
                return Err(refuse(name, &reason));
            }
        }
        Ok(self)
    }
}

impl<'a> Entry<'a> {
    fn of_tensors(name: &str, sums: Tensor<'a>, counts: Tensor<'a>) -> Result<Self, ToolError> {
        if [sums, counts]
            .iter()
            .any(|tensor| tensor.info.ty() != GgmlType::F32)
        {
            return Err(refuse(name, "sums and counts are not both F32"));
        }
        let (n_sums, n_counts) = (sums.info.n_elements(), counts.info.n_elements());
        if !n_sums.is_multiple_of(n_counts) {
            let reason = format!("{n_sums} sums cannot belong to {n_counts} counts");
            return Err(refuse(name, &reason));
        }
        let counts = counts.data.as_chunks().0.iter();
        let counts = counts.map(|&count| f32::from_le_bytes(count));
        let is_wrong = |count: f32| !(0.0..f32::INFINITY).contains(&count);
        if let Some(idx) = counts.clone().position(is_wrong) {
            let reason = format!("count {idx} is negative, infinite or NaN");
            return Err(refuse(name, &reason));
        }
        let unseen = counts.enumerate().filter(|&(_, count)| count == 0.0);
        Ok(Self {
            values: sums.data,
            unseen: unseen.map(|(expert, _)| expert).collect(),
            n_counts: Some(n_counts),
        })
    }
}

fn refuse(name: &str, reason: &str) -> ToolError {
    ToolError::Importance {
        name: quote(name),
        reason: reason.to_owned(),
    }
}
