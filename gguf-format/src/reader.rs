//! From bytes to a view: the header, and the order in which its rules are checked.

use std::fmt;

use crate::{
    ALIGNMENT_KEY, DEFAULT_ALIGNMENT, FileKind, GgufError, Metadata, Tensor,
    cursor::{Cursor, Field},
    error::quote,
    metadata::MIN_ENTRY_BYTES,
    table::TensorTable,
    tensor::MIN_INFO_BYTES,
};

/// The bytes every GGUF file begins with.
pub(crate) const MAGIC: &[u8; 4] = b"GGUF";

/// A GGUF file, borrowed: metadata and tensors of the bytes it was parsed from.
#[derive(Clone)]
pub struct Gguf<'a> {
    version: u32,
    alignment: u64,
    metadata: Metadata<'a>,
    tensors: TensorTable<'a>,
}

impl<'a> Gguf<'a> {
    /// Parses a whole file, for example a memory map.
    ///
    /// The header is read once from end to end and all its rules are checked; tensor data
    /// is not touched. Time and memory grow with the header, not with the file.
    ///
    /// # Errors
    /// Returns the first fault found; see [`GgufError`] for what there is.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, GgufError> {
        let mut cursor = Cursor::new(bytes);
        read_magic(&mut cursor)?;
        let version = read_version(&mut cursor)?;
        let count_field = Field::header("number of tensors");
        let count_offset = cursor.offset();
        let n_tensors = cursor.u64(count_field)?;
        let n_entries =
            cursor.count(MIN_ENTRY_BYTES, Field::header("number of metadata entries"))?;
        let metadata = Metadata::read(bytes, &mut cursor, n_entries)?;
        let alignment = read_alignment(&metadata)?;
        let n_tensors = cursor.bound_count(n_tensors, MIN_INFO_BYTES, count_offset, count_field)?;
        let tensors = TensorTable::read(bytes, &mut cursor, n_tensors, alignment)?;
        Ok(Self {
            version,
            alignment,
            metadata,
            tensors,
        })
    }

    /// Returns the version of the format: 2 or 3.
    #[must_use]
    pub const fn version(&self) -> u32 {
        self.version
    }

    /// Returns the alignment of tensor data in bytes.
    #[must_use]
    pub const fn alignment(&self) -> u64 {
        self.alignment
    }

    /// Returns where the data section starts in the file.
    #[must_use]
    pub fn data_offset(&self) -> u64 {
        self.tensors.data_offset()
    }

    /// Returns the metadata.
    #[must_use]
    pub const fn metadata(&self) -> &Metadata<'a> {
        &self.metadata
    }

    /// Returns a tensor that must be there.
    ///
    /// # Errors
    /// [`GgufError::MissingTensor`] if it is not.
    pub fn tensor(&self, name: &str) -> Result<Tensor<'a>, GgufError> {
        let n_tensors = self.tensors.len();
        self.find(name).ok_or_else(|| GgufError::MissingTensor {
            name: quote(name),
            n_tensors,
        })
    }

    /// Returns a tensor that may be absent.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Tensor<'a>> {
        self.tensors.find(name)
    }

    /// Iterates over the tensors in the file's order.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = Tensor<'a>> + '_ {
        (0..self.tensors.len()).map(|index| self.tensors.tensor(index))
    }

    /// The tensor at a place in the file's order.
    pub(crate) fn tensor_at(&self, index: usize) -> Tensor<'a> {
        self.tensors.tensor(index)
    }

    pub(crate) fn n_tensors(&self) -> usize {
        self.tensors.len()
    }
}

impl fmt::Debug for Gguf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gguf")
            .field("version", &self.version)
            .field("alignment", &self.alignment)
            .field("metadata", &self.metadata)
            .field("n_tensors", &self.tensors.len())
            .finish()
    }
}

fn read_magic(cursor: &mut Cursor<'_>) -> Result<(), GgufError> {
    let bytes = cursor.rest();
    // A file cut inside the magic is truncated rather than something else.
    if !bytes.is_empty() && MAGIC.starts_with(bytes) || bytes.starts_with(MAGIC) {
        return cursor.fixed::<4>(Field::header("magic")).map(|_| ());
    }
    Err(GgufError::NotGguf {
        kind: FileKind::of(bytes),
        found: bytes[..bytes.len().min(8)].escape_ascii().to_string(),
    })
}

fn read_version(cursor: &mut Cursor<'_>) -> Result<u32, GgufError> {
    let offset = cursor.offset();
    let found = cursor.u32(Field::header("version"))?;
    match found {
        2 | 3 => Ok(found),
        // Versions are small numbers, so this is a small number with its bytes reversed.
        1.. if found & 0x00ff_ffff == 0 => Err(GgufError::BigEndian {
            offset,
            version: found.swap_bytes(),
        }),
        _ => Err(GgufError::UnsupportedVersion { offset, found }),
    }
}

fn read_alignment(metadata: &Metadata<'_>) -> Result<u64, GgufError> {
    let Some(value) = metadata.get(ALIGNMENT_KEY) else {
        return Ok(DEFAULT_ALIGNMENT);
    };
    let alignment = value
        .as_integer()
        .and_then(|integer| u32::try_from(integer).ok());
    match alignment.filter(|alignment| alignment.is_power_of_two()) {
        Some(alignment) => Ok(alignment.into()),
        None => Err(GgufError::InvalidAlignment {
            offset: metadata.offset_of(ALIGNMENT_KEY).unwrap_or_default(),
            found: value.describe(),
        }),
    }
}
