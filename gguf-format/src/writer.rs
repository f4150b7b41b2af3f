//! Writes files: the inverse of the reader.
//!
//! The header comes first in a file and needs every tensor's size, so writing has two
//! steps. [`GgufWriter`] collects metadata and tensor descriptions; [`GgufWriter::start`]
//! writes the header and returns a [`TensorDataWriter`], which takes the data in pieces of
//! any length. Memory is that of the header, whatever the size of the file.

use std::{
    collections::{HashMap, HashSet},
    io::{self, Write},
};

use crate::{
    ALIGNMENT_KEY, DEFAULT_ALIGNMENT, Encode, GgmlType, GgufError, MAX_ARRAY_DEPTH, MAX_DIMENSIONS,
    Metadata, Value, ValueType,
    encode::encode_value,
    error::quote,
    reader::MAGIC,
    tensor::{ShapeFault, Size},
};

/// The version that is written.
const VERSION: u32 = 3;

/// The longest metadata key the specification allows, in bytes.
const MAX_KEY_BYTES: usize = 65_535;

/// The longest tensor name that ggml reads: 64 bytes with a terminator.
const MAX_NAME_BYTES: usize = 63;

/// Collects the header of a file and writes it.
///
/// ```
/// use gguf_format::{GgmlType, Gguf, GgufError, GgufWriter};
///
/// let mut writer = GgufWriter::new();
/// writer.set("general.architecture", "qwen3moe")?;
/// writer.set("tokenizer.ggml.tokens", ["a", "b"])?;
/// writer.tensor("token_embd.weight", &[2, 1], GgmlType::F32)?;
///
/// let mut data = writer.start(Vec::new())?;
/// data.write(&1.0_f32.to_le_bytes())?;
/// data.write(&2.0_f32.to_le_bytes())?;
/// let file = data.finish()?;
///
/// assert_eq!(Gguf::parse(&file)?.tensor("token_embd.weight")?.info.ne(), [2, 1]);
/// # Ok::<(), GgufError>(())
/// ```
#[derive(Clone, Debug)]
pub struct GgufWriter {
    alignment: u64,
    entries: Vec<Entry>,
    /// Indices into `entries`.
    by_key: HashMap<String, usize>,
    tensors: Vec<PlannedTensor>,
    names: HashSet<String>,
}

#[derive(Clone, Debug)]
struct Entry {
    key: String,
    ty: ValueType,
    encoded: Vec<u8>,
}

#[derive(Clone, Debug)]
struct PlannedTensor {
    name: String,
    ne: Vec<u64>,
    ty: GgmlType,
    n_bytes: u64,
}

impl Default for GgufWriter {
    fn default() -> Self {
        Self::new()
    }
}

impl GgufWriter {
    /// Starts a file of version 3 without metadata and tensors.
    #[must_use]
    pub fn new() -> Self {
        Self {
            alignment: DEFAULT_ALIGNMENT,
            entries: Vec::new(),
            by_key: HashMap::new(),
            tensors: Vec::new(),
            names: HashSet::new(),
        }
    }

    /// Sets a metadata value. A key that was set before keeps its place and takes the new
    /// value.
    ///
    /// Setting `general.alignment`, as a `u32` that is a power of two, changes the alignment.
    ///
    /// # Errors
    /// The key is empty or longer than 65,535 bytes, arrays are nested too deep, or the
    /// alignment is invalid.
    pub fn set<V: Encode>(&mut self, key: &str, value: V) -> Result<&mut Self, GgufError> {
        if V::DEPTH > MAX_ARRAY_DEPTH {
            return Err(GgufError::NestingTooDeep {
                field: format!("value of `{}`", quote(key)),
                offset: 0,
                limit: MAX_ARRAY_DEPTH,
            });
        }
        let mut encoded = Vec::new();
        value.encode(&mut encoded);
        self.set_encoded(Entry {
            key: key.to_owned(),
            ty: V::TYPE,
            encoded,
        })
    }

    /// Sets a metadata value that was read from another file.
    ///
    /// # Errors
    /// As [`GgufWriter::set`].
    pub fn set_value(&mut self, key: &str, value: &Value<'_>) -> Result<&mut Self, GgufError> {
        let mut encoded = Vec::new();
        encode_value(value, &mut encoded);
        self.set_encoded(Entry {
            key: key.to_owned(),
            ty: value.value_type(),
            encoded,
        })
    }

    /// Sets all metadata of another file, in its order.
    ///
    /// # Errors
    /// As [`GgufWriter::set`].
    pub fn set_all(&mut self, metadata: &Metadata<'_>) -> Result<&mut Self, GgufError> {
        for (key, value) in metadata.iter() {
            self.set_value(key, &value)?;
        }
        Ok(self)
    }

    /// Removes a metadata entry and returns whether it was there.
    pub fn remove(&mut self, key: &str) -> bool {
        let Some(removed) = self.by_key.remove(key) else {
            return false;
        };
        self.entries.remove(removed);
        for index in self.by_key.values_mut().filter(|index| **index > removed) {
            *index -= 1;
        }
        if key == ALIGNMENT_KEY {
            self.alignment = DEFAULT_ALIGNMENT;
        }
        true
    }

    /// Announces a tensor of shape `ne`, contiguous dimension first. Data follows in the
    /// order of the announcements.
    ///
    /// # Errors
    /// [`GgufError::UnwritableTensor`] if the name was announced before or is longer than
    /// the 63 bytes that ggml reads, if there are more than four dimensions or one of them is
    /// zero, if rows are not whole blocks, or if the size exceeds 64 bits.
    pub fn tensor(&mut self, name: &str, ne: &[u64], ty: GgmlType) -> Result<&mut Self, GgufError> {
        let refuse = |reason: String| GgufError::UnwritableTensor {
            name: quote(name),
            reason,
        };
        if name.len() > MAX_NAME_BYTES {
            return Err(refuse(format!(
                "its name has {} bytes, more than {MAX_NAME_BYTES}",
                name.len()
            )));
        }
        if self.names.contains(name) {
            return Err(refuse("the name was announced before".to_owned()));
        }
        if ne.len() > MAX_DIMENSIONS {
            return Err(refuse(format!(
                "{} dimensions, more than {MAX_DIMENSIONS}",
                ne.len()
            )));
        }
        let size = Size::of(ne, ty).map_err(|fault| refuse(explain(fault, ne, ty)))?;
        let n_bytes = size.n_bytes;
        self.names.insert(name.to_owned());
        self.tensors.push(PlannedTensor {
            name: name.to_owned(),
            ne: ne.to_vec(),
            ty,
            n_bytes,
        });
        Ok(self)
    }

    /// Returns the alignment of tensor data in bytes.
    #[must_use]
    pub const fn alignment(&self) -> u64 {
        self.alignment
    }

    /// Writes the header, and returns what takes the tensor data.
    ///
    /// Many small writes are made, so `out` should be buffered.
    ///
    /// # Errors
    /// [`GgufError::Io`] if `out` fails, [`GgufError::UnwritableTensor`] if the tensors
    /// together exceed 64 bits.
    pub fn start<W: Write>(self, mut out: W) -> Result<TensorDataWriter<W>, GgufError> {
        let mut header = Vec::new();
        self.encode_header(&mut header)?;
        out.write_all(&header)
            .map_err(|source| io_error("the header", source))?;
        let mut data = TensorDataWriter {
            out,
            alignment: self.alignment,
            tensors: self.tensors,
            current: 0,
            written: 0,
        };
        data.pad(header.len() as u64)?;
        Ok(data)
    }

    /// Writes a file into memory, with the data of each tensor in the order announced.
    ///
    /// # Errors
    /// [`GgufError::DataLength`] if a slice has not the size of its tensor,
    /// [`GgufError::DataOrder`] if there are more slices than tensors.
    pub fn to_bytes(&self, data: &[&[u8]]) -> Result<Vec<u8>, GgufError> {
        let mut out = self.clone().start(Vec::new())?;
        for &bytes in data {
            let name = out.current().map(|(name, _)| name.to_owned());
            let name = name.ok_or_else(|| GgufError::DataOrder {
                expected: "no further tensor".to_owned(),
                found: format!("slice {}", data.len()),
            })?;
            out.write_tensor(&name, bytes)?;
        }
        out.finish()
    }

    fn set_encoded(&mut self, entry: Entry) -> Result<&mut Self, GgufError> {
        let key = entry.key.as_str();
        if key.is_empty() || key.len() > MAX_KEY_BYTES {
            return Err(GgufError::UnwritableKey {
                key: quote(key),
                reason: format!("it has {} bytes, not 1 to {MAX_KEY_BYTES}", key.len()),
            });
        }
        if key == ALIGNMENT_KEY {
            self.alignment = alignment_of(&entry)?;
        }
        if let Some(&index) = self.by_key.get(key) {
            self.entries[index] = entry;
        } else {
            self.by_key.insert(key.to_owned(), self.entries.len());
            self.entries.push(entry);
        }
        Ok(self)
    }

    fn encode_header(&self, out: &mut Vec<u8>) -> Result<(), GgufError> {
        out.extend(MAGIC);
        VERSION.encode(out);
        (self.tensors.len() as u64).encode(out);
        (self.entries.len() as u64).encode(out);
        for entry in &self.entries {
            entry.key.encode(out);
            entry.ty.tag().encode(out);
            out.extend(&entry.encoded);
        }
        let mut offset = 0_u64;
        for tensor in &self.tensors {
            tensor.encode(offset, out);
            let end = offset.checked_add(tensor.n_bytes);
            let next = end.and_then(|end| end.checked_next_multiple_of(self.alignment));
            offset = next.ok_or_else(|| GgufError::UnwritableTensor {
                name: quote(&tensor.name),
                reason: "the data section would exceed 64 bits".to_owned(),
            })?;
        }
        Ok(())
    }
}

impl PlannedTensor {
    fn encode(&self, offset: u64, out: &mut Vec<u8>) {
        self.name.encode(out);
        let n_dims = u32::try_from(self.ne.len()).expect("at most four dimensions");
        n_dims.encode(out);
        self.ne.iter().for_each(|n| n.encode(out));
        self.ty.tag().encode(out);
        offset.encode(out);
    }
}

fn alignment_of(entry: &Entry) -> Result<u64, GgufError> {
    let bytes = entry
        .encoded
        .first_chunk()
        .filter(|_| entry.ty == ValueType::U32);
    let alignment = bytes.copied().map(u32::from_le_bytes);
    alignment
        .filter(|alignment| alignment.is_power_of_two())
        .map(u64::from)
        .ok_or_else(|| {
            let found = match alignment {
                Some(alignment) => format!("u32 {alignment}"),
                None => entry.ty.to_string(),
            };
            GgufError::InvalidAlignment { offset: 0, found }
        })
}

fn explain(fault: ShapeFault, ne: &[u64], ty: GgmlType) -> String {
    match fault {
        ShapeFault::Zero { dimension } => format!("dimension {dimension} of {ne:?} is zero"),
        ShapeFault::Overflow => format!("the size of shape {ne:?} exceeds 64 bits"),
        ShapeFault::PartialBlock => {
            let block_len = ty.block_len();
            format!("rows of shape {ne:?} are no multiple of {block_len}, the block of {ty}")
        }
    }
}

fn io_error(what: &str, source: io::Error) -> GgufError {
    GgufError::Io {
        what: what.to_owned(),
        source,
    }
}

/// Takes the data of the tensors that a [`GgufWriter`] announced, in that order.
#[derive(Debug)]
pub struct TensorDataWriter<W> {
    out: W,
    alignment: u64,
    tensors: Vec<PlannedTensor>,
    /// The tensor whose turn it is.
    current: usize,
    /// How many bytes of it were written.
    written: u64,
}

impl<W: Write> TensorDataWriter<W> {
    /// Returns the tensor whose turn it is, and how many bytes it still needs.
    #[must_use]
    pub fn current(&self) -> Option<(&str, u64)> {
        let tensor = self.tensors.get(self.current)?;
        Some((&tensor.name, tensor.n_bytes - self.written))
    }

    /// Writes the next piece of the current tensor. When the tensor is complete, padding
    /// follows and the next tensor has its turn.
    ///
    /// # Errors
    /// [`GgufError::DataLength`] if the piece is longer than what the tensor still needs,
    /// [`GgufError::DataOrder`] if no tensor is left, [`GgufError::Io`] if the output fails.
    pub fn write(&mut self, piece: &[u8]) -> Result<(), GgufError> {
        if piece.is_empty() {
            return Ok(());
        }
        let Some(tensor) = self.tensors.get(self.current) else {
            return Err(GgufError::DataOrder {
                expected: "no further tensor".to_owned(),
                found: format!("{} bytes more", piece.len()),
            });
        };
        let written = self.written.saturating_add(piece.len() as u64);
        if written > tensor.n_bytes {
            return Err(tensor.length_error(written));
        }
        let failed = |source| io_error(&format!("tensor `{}`", quote(&tensor.name)), source);
        self.out.write_all(piece).map_err(failed)?;
        self.written = written;
        if written == tensor.n_bytes {
            self.pad(written)?;
            self.current += 1;
            self.written = 0;
        }
        Ok(())
    }

    /// Writes the whole data of a tensor whose turn it must be.
    ///
    /// # Errors
    /// [`GgufError::DataOrder`] if it is another tensor's turn, [`GgufError::DataLength`] if
    /// the data has another length, [`GgufError::Io`] if the output fails.
    pub fn write_tensor(&mut self, name: &str, data: &[u8]) -> Result<(), GgufError> {
        let expected = self.tensors.get(self.current);
        let Some(tensor) = expected.filter(|tensor| tensor.name == name && self.written == 0)
        else {
            return Err(GgufError::DataOrder {
                expected: match expected {
                    Some(tensor) => format!("`{}` from byte {}", quote(&tensor.name), self.written),
                    None => "no further tensor".to_owned(),
                },
                found: quote(name),
            });
        };
        if tensor.n_bytes != data.len() as u64 {
            return Err(tensor.length_error(data.len() as u64));
        }
        self.write(data)
    }

    /// Checks that all data was written, flushes the output and returns it.
    ///
    /// # Errors
    /// [`GgufError::DataLength`] if a tensor is incomplete, [`GgufError::Io`] if the output
    /// fails.
    pub fn finish(mut self) -> Result<W, GgufError> {
        if let Some(tensor) = self.tensors.get(self.current) {
            return Err(tensor.length_error(self.written));
        }
        self.out
            .flush()
            .map_err(|source| io_error("the end of the file", source))?;
        Ok(self.out)
    }

    /// Writes zeros from a position to the next multiple of the alignment.
    fn pad(&mut self, position: u64) -> Result<(), GgufError> {
        const ZEROS: [u8; 256] = [0; 256];
        let mut left = (self.alignment - position % self.alignment) % self.alignment;
        while left > 0 {
            let n = left.min(ZEROS.len() as u64);
            let zeros = usize::try_from(n).map_or(&ZEROS[..], |n| &ZEROS[..n]);
            self.out
                .write_all(zeros)
                .map_err(|source| io_error("padding", source))?;
            left -= n;
        }
        Ok(())
    }
}

impl PlannedTensor {
    fn length_error(&self, found: u64) -> GgufError {
        GgufError::DataLength {
            name: quote(&self.name),
            expected: self.n_bytes,
            found,
        }
    }
}
