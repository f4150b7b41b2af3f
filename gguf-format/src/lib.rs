#![doc = include_str!("../README.md")]
//!
//! # How a GGUF file is laid out
//!
//! All numbers are little-endian. A string is its length in bytes (`u64`) and that many
//! bytes of UTF-8, without a terminator.
//!
//! ```text
//! offset 0   "GGUF"                       4 bytes
//!        4   version                      u32: 2 or 3 (the same layout)
//!        8   number of tensors            u64
//!       16   number of metadata entries   u64
//!       24   metadata entries             key: string, type: u32, value
//!            tensor descriptions          name: string, number of dimensions: u32,
//!                                         dimensions ne: u64 each, type: u32, offset: u64
//!            zeros up to a multiple of the alignment (`general.alignment`, else 32)
//!            tensor data                  each tensor at its offset from here,
//!                                         offsets are multiples of the alignment
//! ```
//!
//! `ne[0]` is the dimension whose elements lie next to each other; a matrix with `r` rows
//! of `c` weights has `ne = [c, r]`. An array value is its element type (`u32`), its length
//! (`u64`) and its elements; an array of arrays repeats that header in each element.
//!
//! # What this crate promises about hostile files
//!
//! [`Gguf::parse`] looks at every byte of the header once and at no tensor data. What it
//! accepts can then be read without any further error: lookups and iterators are
//! infallible, and each tensor's slice has exactly the length its type and shape ask for.
//! Whatever the bytes are, the result is a value or one [`GgufError`] that names the field
//! and the byte offset; nothing panics, and memory stays below twice the file's size
//! plus one MiB, because every count is compared with the bytes that are left before
//! anything is allocated for it.
//!
//! The crate opens no file: the caller reads or maps one and lends the bytes.

#![forbid(unsafe_code)]
#![warn(clippy::cast_possible_truncation)]

mod array;
mod cursor;
mod element;
mod encode;
mod error;
mod file_kind;
mod from_value;
mod ggml_type;
mod metadata;
mod reader;
pub mod split;
mod table;
mod tensor;
mod value;
mod writer;

pub use array::{Array, ArrayIter, Elements};
pub use element::Element;
pub use encode::Encode;
pub use error::GgufError;
pub use file_kind::FileKind;
pub use from_value::{FromValue, Mismatch};
pub use ggml_type::GgmlType;
pub use metadata::Metadata;
pub use reader::Gguf;
pub use split::GgufSet;
pub use tensor::{Tensor, TensorInfo};
pub use value::{Value, ValueType};
pub use writer::{GgufWriter, TensorDataWriter};

/// The alignment of tensor data where a file does not say another.
pub const DEFAULT_ALIGNMENT: u64 = 32;

/// The most dimensions a tensor may have.
pub const MAX_DIMENSIONS: usize = 4;

/// How many arrays may lie inside each other in a metadata value.
pub const MAX_ARRAY_DEPTH: usize = 8;

/// The metadata key that holds the alignment of tensor data.
pub const ALIGNMENT_KEY: &str = "general.alignment";
