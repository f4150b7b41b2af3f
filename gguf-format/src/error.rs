//! Everything that can be wrong with a file, or with the use of this crate.
//!
//! Names that come from a file are escaped and shortened before they enter an error, so a
//! message is one line of printable text whatever the file holds.

use std::io;

use crate::{FileKind, GgmlType};

/// Why a file was refused, a value could not be read, or a file could not be written.
///
/// Offsets count bytes from the start of the file. Strings taken from the file are escaped
/// and shortened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// The first bytes are not those of a GGUF file.
    #[error("byte 0: expected the magic `GGUF`, found {kind} (it begins with `{found}`)")]
    NotGguf {
        /// What the file appears to be.
        kind: FileKind,
        /// The first bytes, escaped.
        found: String,
    },
    /// The file is written for big-endian machines.
    #[error(
        "byte {offset}: big-endian GGUF file (version {version} with its bytes reversed); only \
         little-endian files are read"
    )]
    BigEndian {
        /// Where the reversed number lies.
        offset: u64,
        /// The version, its bytes put in order.
        version: u32,
    },
    /// A version whose layout is not known, or no longer read.
    #[error(
        "byte {offset}: GGUF version {found}, but only versions 2 and 3 are read{}",
        if *found == 1 { " (version 1 has 32-bit lengths; convert the file again)" } else { "" }
    )]
    UnsupportedVersion {
        /// Where the version lies.
        offset: u64,
        /// The version found.
        found: u32,
    },
    /// The file ends inside a field.
    #[error(
        "{field} at offset {offset}: needs {needed} bytes, but the file has {available} left; is \
         the download complete?"
    )]
    Truncated {
        /// The field that is cut.
        field: String,
        /// Where it starts.
        offset: u64,
        /// Its length in bytes.
        needed: u64,
        /// The bytes left from there.
        available: u64,
    },
    /// A count that the rest of the file cannot hold.
    #[error(
        "{field} at offset {offset}: {count}, but the {available} bytes that follow hold at most \
         {limit}"
    )]
    CountTooLarge {
        /// The field that holds the count.
        field: String,
        /// Where it lies.
        offset: u64,
        /// The count found.
        count: u64,
        /// The most there can be.
        limit: u64,
        /// The bytes left after the count.
        available: u64,
    },
    /// A string that is not UTF-8.
    #[error("{field} at offset {offset}: expected UTF-8, found another byte")]
    InvalidUtf8 {
        /// The string's field.
        field: String,
        /// Where the first wrong byte lies.
        offset: u64,
    },
    /// A metadata entry without a key.
    #[error("metadata key at offset {offset}: expected a name, found an empty string")]
    EmptyKey {
        /// Where the key lies.
        offset: u64,
    },
    /// A metadata key that occurs twice.
    #[error("metadata key `{key}`: found at offset {first} and again at offset {offset}")]
    DuplicateKey {
        /// The key.
        key: String,
        /// Where the first value lies.
        first: u64,
        /// Where the second value lies.
        offset: u64,
    },
    /// A metadata value type that does not exist.
    #[error("{field} at offset {offset}: expected a value type from 0 to 12, found {found}")]
    UnknownValueType {
        /// The entry.
        field: String,
        /// Where the type lies.
        offset: u64,
        /// The number found.
        found: u32,
    },
    /// A boolean that is neither 0 nor 1.
    #[error("{field} at offset {offset}: expected a bool of 0 or 1, found {found}")]
    InvalidBool {
        /// The entry.
        field: String,
        /// Where the byte lies.
        offset: u64,
        /// The byte found.
        found: u8,
    },
    /// Arrays inside arrays beyond [`MAX_ARRAY_DEPTH`](crate::MAX_ARRAY_DEPTH).
    #[error("{field} at offset {offset}: arrays nested more than {limit} deep")]
    NestingTooDeep {
        /// The entry.
        field: String,
        /// Where the innermost array was met; 0 when a file is written.
        offset: u64,
        /// The depth allowed.
        limit: usize,
    },
    /// An alignment that is no power of two.
    #[error(
        "`general.alignment` at offset {offset}: expected a power of two within 32 bits, found \
         {found}"
    )]
    InvalidAlignment {
        /// Where the value lies; 0 when a file is written.
        offset: u64,
        /// The value found.
        found: String,
    },
    /// More dimensions than a tensor may have.
    #[error("tensor `{name}` at offset {offset}: expected at most 4 dimensions, found {found}")]
    TooManyDimensions {
        /// The tensor.
        name: String,
        /// Where the number of dimensions lies.
        offset: u64,
        /// The number found.
        found: u32,
    },
    /// A dimension of length zero.
    #[error("tensor `{name}` at offset {offset}: dimension {dimension} is zero")]
    ZeroDimension {
        /// The tensor.
        name: String,
        /// Where the dimensions lie.
        offset: u64,
        /// Which one is zero.
        dimension: usize,
    },
    /// Dimensions whose product, or its size in bytes, exceeds 64 bits.
    #[error("tensor `{name}` at offset {offset}: the size of shape {ne:?} exceeds 64 bits")]
    DimensionsOverflow {
        /// The tensor.
        name: String,
        /// Where the dimensions lie.
        offset: u64,
        /// The dimensions.
        ne: Vec<u64>,
    },
    /// A tensor type that ggml does not define.
    #[error("tensor `{name}` at offset {offset}: unknown ggml type {found}")]
    UnknownType {
        /// The tensor.
        name: String,
        /// Where the type lies.
        offset: u64,
        /// The number found.
        found: u32,
    },
    /// A tensor type that ggml once defined and has removed.
    #[error(
        "tensor `{name}` at offset {offset}: ggml type {found} ({type_name}) was removed from the \
         format; convert the model again"
    )]
    RemovedType {
        /// The tensor.
        name: String,
        /// Where the type lies.
        offset: u64,
        /// The number found.
        found: u32,
        /// What the type was called.
        type_name: &'static str,
    },
    /// A row that is not a whole number of blocks.
    #[error(
        "tensor `{name}` at offset {offset}: expected rows of a multiple of {} weights for type \
         {ty}, found {ne0}",
        ty.block_len()
    )]
    PartialBlock {
        /// The tensor.
        name: String,
        /// Where the dimensions lie.
        offset: u64,
        /// The tensor's type.
        ty: GgmlType,
        /// The length of a row.
        ne0: u64,
    },
    /// Tensor data that does not start at a multiple of the alignment.
    #[error(
        "tensor `{name}` at offset {offset}: data offset {found} is not a multiple of the \
         alignment {alignment}"
    )]
    MisalignedTensor {
        /// The tensor.
        name: String,
        /// Where the offset lies.
        offset: u64,
        /// The data offset found.
        found: u64,
        /// The file's alignment.
        alignment: u64,
    },
    /// Tensor data that reaches beyond the end of the file, or of 64 bits.
    #[error(
        "tensor `{name}` at offset {offset}: {n_bytes} bytes at data offset {data_offset} exceed \
         the {available} bytes of the data section; is the download complete?"
    )]
    TensorOutOfFile {
        /// The tensor.
        name: String,
        /// Where its data offset lies.
        offset: u64,
        /// The data offset found.
        data_offset: u64,
        /// The tensor's size.
        n_bytes: u64,
        /// The size of the data section.
        available: u64,
    },
    /// Two tensors that share bytes.
    #[error(
        "tensor `{second}` at offset {offset}: its data starts {overlap} bytes before that of \
         `{first}` ends"
    )]
    OverlappingTensors {
        /// The tensor whose data starts first.
        first: String,
        /// The tensor whose data starts inside it.
        second: String,
        /// Where the second tensor's data offset lies.
        offset: u64,
        /// How many bytes they share at least.
        overlap: u64,
    },
    /// A tensor name that occurs twice.
    #[error("tensor `{name}`: described at offset {first} and again at offset {offset}")]
    DuplicateTensor {
        /// The name.
        name: String,
        /// Where the first is described.
        first: u64,
        /// Where the second is described.
        offset: u64,
    },
    /// A metadata key that was required and is not there.
    #[error("metadata key `{key}` is missing (expected {expected})")]
    MissingKey {
        /// The key.
        key: String,
        /// The type it should have.
        expected: String,
    },
    /// A metadata value of another type than the one required.
    #[error("metadata key `{key}` at offset {offset}: expected {expected}, found {found}")]
    WrongType {
        /// The key.
        key: String,
        /// Where the value lies.
        offset: u64,
        /// The type it should have.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A metadata value that the required type cannot hold.
    #[error(
        "metadata key `{key}` at offset {offset}: expected {expected}, but {found} is out of its \
         range"
    )]
    OutOfRange {
        /// The key.
        key: String,
        /// Where the value lies.
        offset: u64,
        /// The type it should fit.
        expected: String,
        /// The value that does not.
        found: String,
    },
    /// A tensor that was required and is not there.
    #[error("tensor `{name}` is missing (the file has {n_tensors} tensors)")]
    MissingTensor {
        /// The tensor.
        name: String,
        /// How many tensors there are.
        n_tensors: usize,
    },
    /// No shard at all was given.
    #[error("expected at least one shard, found none")]
    NoShards,
    /// Another number of shards than the files say.
    #[error("shard {shard}: `split.count` is {expected}, but {found} shards were given")]
    ShardCount {
        /// The shard that says so, counted from 0.
        shard: usize,
        /// The number it says.
        expected: u64,
        /// The number given.
        found: usize,
    },
    /// A shard at another place than its own number says.
    #[error("shard {shard}: `split.no` is {found}, expected {shard}")]
    ShardOrder {
        /// Its place, counted from 0.
        shard: usize,
        /// The number it says.
        found: u64,
    },
    /// A file that is not part of a split model, among shards.
    #[error("shard {shard}: the key `{key}` is missing, so the file is not part of a split model")]
    NotAShard {
        /// Its place, counted from 0.
        shard: usize,
        /// The key that is missing.
        key: &'static str,
    },
    /// Another number of tensors than the shards say.
    #[error(
        "shard {shard}: `split.tensors.count` is {expected}, but the shards hold {found} tensors"
    )]
    ShardTensorCount {
        /// The shard that says so, counted from 0.
        shard: usize,
        /// The number it says.
        expected: u64,
        /// The number of tensors in all shards.
        found: usize,
    },
    /// A tensor name that occurs in two shards.
    #[error("tensor `{name}`: found in shard {first} and again in shard {second}")]
    DuplicateAcrossShards {
        /// The name.
        name: String,
        /// The first shard that has it, counted from 0.
        first: usize,
        /// The second.
        second: usize,
    },
    /// A file name that does not follow the pattern of shards, or leads elsewhere.
    #[error("file name `{name}`: expected {expected}")]
    ShardName {
        /// The name.
        name: String,
        /// What it should look like.
        expected: String,
    },
    /// A metadata entry that must not be written.
    #[error("metadata key `{key}` cannot be written: {reason}")]
    UnwritableKey {
        /// The key.
        key: String,
        /// Why.
        reason: String,
    },
    /// A tensor description that must not be written.
    #[error("tensor `{name}` cannot be written: {reason}")]
    UnwritableTensor {
        /// The tensor.
        name: String,
        /// Why.
        reason: String,
    },
    /// Tensor data of another length than was announced.
    #[error("tensor `{name}`: expected {expected} bytes of data, found {found}")]
    DataLength {
        /// The tensor.
        name: String,
        /// The bytes announced.
        expected: u64,
        /// The bytes given.
        found: u64,
    },
    /// Tensor data in another order than was announced.
    #[error("tensor data: expected that of {expected}, found that of `{found}`")]
    DataOrder {
        /// The tensor whose turn it is, or that none is left.
        expected: String,
        /// The tensor given.
        found: String,
    },
    /// The output could not be written.
    #[error("writing {what} failed")]
    Io {
        /// What was being written.
        what: String,
        /// The cause.
        source: io::Error,
    },
}

/// The longest piece of a file's own text that enters an error, in characters.
const QUOTE_CHARS: usize = 64;

/// Escapes and shortens text from a file.
pub(crate) fn quote(text: &str) -> String {
    let mut chars = text.chars();
    let mut quoted: String = chars
        .by_ref()
        .take(QUOTE_CHARS)
        .flat_map(char::escape_debug)
        .collect();
    if chars.next().is_some() {
        quoted.push('…');
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_text_is_one_short_printable_line() {
        assert_eq!(quote("blk.0.attn_q.weight"), "blk.0.attn_q.weight");
        assert_eq!(quote("a\nb\u{1b}[2J"), "a\\nb\\u{1b}[2J");
        assert_eq!(quote(&"ü".repeat(65)), format!("{}…", "ü".repeat(64)));
        assert_eq!(quote(&"x".repeat(64)), "x".repeat(64));
    }

    #[test]
    fn an_error_stays_small_enough_to_return_by_value() {
        assert!(size_of::<GgufError>() <= 96, "{}", size_of::<GgufError>());
    }
}
