//! The header of a safetensors file: which tensors lie where.
//!
//! A file is eight bytes with the length of the header, the header as JSON, and the data of
//! all tensors. The rules are those of the format's description and of the `safetensors`
//! crate: a header of at most 100 MB, no name twice, and data that the tensors cover from the
//! first byte to the last without holes or overlaps. The crate itself does not see names that
//! come twice and does not say which tensor is wrong, so the header is read here; the tests
//! hold what is accepted against it.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    fmt,
    path::Path,
};

use safetensors::Dtype;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IntoDeserializer, MapAccess, SeqAccess, Visitor, value},
};

use super::CheckpointTensor;
use crate::{
    ModelError,
    error::{json_message, quote},
};

/// The most bytes of a header, as in the `safetensors` crate.
const MAX_HEADER: u64 = 100_000_000;

/// Bytes of the length before the header.
const LEN_BYTES: usize = 8;

/// The only key that is no tensor.
const METADATA: &str = "__metadata__";

/// What the header says of a tensor.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry<'a> {
    #[serde(borrow)]
    dtype: Cow<'a, str>,
    shape: Shape,
    /// First byte and the one after the last, within the data.
    data_offsets: (u64, u64),
}

/// The lengths of the dimensions, slowest first.
struct Shape(Vec<u64>);

/// The most dimensions of a tensor; those of models have three at most.
const MAX_DIMENSIONS: usize = 8;

/// Names and entries in the order of the header.
struct Header<'a>(Vec<(&'a str, Entry<'a>)>);

/// Reads the header of a file and returns its tensors in the order of their data.
pub(super) fn read<'a>(
    path: &'a Path,
    bytes: &'a [u8],
) -> Result<Vec<CheckpointTensor<'a>>, ModelError> {
    let header = header_bytes(path, bytes)?;
    let data_start = LEN_BYTES + header.len();
    let Header(mut entries) =
        serde_json::from_slice(header).map_err(|error| ModelError::Safetensors {
            path: path.to_owned(),
            offset: LEN_BYTES as u64 + place_of(&error, header),
            expected: "a map of tensors in JSON".to_owned(),
            found: json_message(&error),
        })?;
    entries.sort_by_key(|(_, entry)| entry.data_offsets);
    let file = File {
        path,
        data_start: data_start as u64,
    };
    let data = &bytes[data_start..];
    let mut covered = 0;
    let mut tensors = Vec::with_capacity(entries.len());
    for (name, entry) in entries {
        let tensor = file.tensor(name, entry, covered, data)?;
        covered += tensor.data.len() as u64;
        tensors.push(tensor);
    }
    if covered != data.len() as u64 {
        return Err(ModelError::Safetensors {
            path: path.to_owned(),
            offset: file.data_start + covered,
            expected: "the end of the file after the last tensor".to_owned(),
            found: format!("{} more bytes", data.len() as u64 - covered),
        });
    }
    Ok(tensors)
}

fn header_bytes<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a [u8], ModelError> {
    let fault = |expected: &str, found: String| ModelError::Safetensors {
        path: path.to_owned(),
        offset: 0,
        expected: expected.to_owned(),
        found,
    };
    let Some((len, rest)) = bytes.split_first_chunk::<LEN_BYTES>() else {
        let found = format!("a file of {} bytes", bytes.len());
        return Err(fault("a header length of 8 bytes", found));
    };
    let len = u64::from_le_bytes(*len);
    let found = || format!("a header of {len} bytes");
    if len > MAX_HEADER {
        return Err(fault("a header of at most 100000000 bytes", found()));
    }
    let header = usize::try_from(len).ok().and_then(|len| rest.get(..len));
    header.ok_or_else(|| {
        let expected = format!("a header within the {} bytes that follow", rest.len());
        fault(&expected, found())
    })
}

/// Returns the byte of the header at which an error was noticed.
fn place_of(error: &serde_json::Error, header: &[u8]) -> u64 {
    let lines = header.split_inclusive(|&byte| byte == b'\n');
    let before = lines.take(error.line().saturating_sub(1));
    let before: usize = before.map(<[u8]>::len).sum();
    (before + error.column().saturating_sub(1)) as u64
}

/// What the tensors of a file share.
struct File<'a> {
    path: &'a Path,
    data_start: u64,
}

impl<'a> File<'a> {
    /// Checks one tensor, which begins where the one before it has ended.
    fn tensor(
        &self,
        name: &'a str,
        entry: Entry<'a>,
        covered: u64,
        data: &'a [u8],
    ) -> Result<CheckpointTensor<'a>, ModelError> {
        let (start, end) = entry.data_offsets;
        let fault = |expected: String, found: String| ModelError::SafetensorsTensor {
            path: self.path.to_owned(),
            name: quote(name),
            offset: self.data_start.saturating_add(start),
            expected,
            found,
        };
        let dtype = dtype(&entry.dtype).ok_or_else(|| {
            let found = format!("dtype `{}`", quote(&entry.dtype));
            fault("a dtype of the safetensors format".to_owned(), found)
        })?;
        let Shape(shape) = entry.shape;
        let n_bytes = n_bytes(dtype, &shape).ok_or_else(|| {
            let found = format!("{dtype} {shape:?}");
            fault(
                "a shape of whole bytes that memory can hold".to_owned(),
                found,
            )
        })?;
        if start != covered {
            let what = if start < covered {
                "an overlap"
            } else {
                "a hole"
            };
            let expected = format!("data from {covered} on, where the tensor before it ends");
            return Err(fault(
                expected,
                format!("{what}, data_offsets [{start}, {end}]"),
            ));
        }
        if end.checked_sub(start) != Some(n_bytes) {
            let expected = format!("{n_bytes} bytes, as {dtype} {shape:?} takes");
            return Err(fault(expected, format!("data_offsets [{start}, {end}]")));
        }
        let range = usize::try_from(start).ok().zip(usize::try_from(end).ok());
        let data = range
            .and_then(|(start, end)| data.get(start..end))
            .ok_or_else(|| {
                let expected = format!("data within the {} bytes of the file", data.len());
                fault(expected, format!("data_offsets [{start}, {end}]"))
            })?;
        Ok(CheckpointTensor {
            name,
            dtype,
            shape,
            data,
            path: self.path,
            offset: self.data_start + start,
        })
    }
}

/// Reads a dtype as the `safetensors` crate spells it.
fn dtype(name: &str) -> Option<Dtype> {
    let name: value::StrDeserializer<'_, value::Error> = name.into_deserializer();
    Dtype::deserialize(name).ok()
}

/// Returns what a tensor takes, if that is a whole number of bytes.
fn n_bytes(dtype: Dtype, shape: &[u64]) -> Option<u64> {
    let bits = shape
        .iter()
        .try_fold(1, |n: u64, &len| n.checked_mul(len))?
        .checked_mul(dtype.bitsize() as u64)?;
    bits.is_multiple_of(8).then_some(bits / 8)
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Dimensions;
        impl<'de> Visitor<'de> for Dimensions {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of lengths")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Shape, A::Error> {
                let mut shape = Vec::new();
                while let Some(len) = list.next_element()? {
                    if shape.len() == MAX_DIMENSIONS {
                        let message = format!("a shape of more than {MAX_DIMENSIONS} dimensions");
                        return Err(A::Error::custom(message));
                    }
                    shape.push(len);
                }
                Ok(Shape(shape))
            }
        }
        deserializer.deserialize_seq(Dimensions)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Header<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Header<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from tensor name to dtype, shape and data_offsets")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                let mut names = HashSet::new();
                while let Some(name) = map.next_key::<Name<'de>>()? {
                    if !names.insert(name.0) {
                        let message = format!("tensor `{}` comes twice", quote(name.0));
                        return Err(A::Error::custom(message));
                    }
                    if name.0 == METADATA {
                        map.next_value::<HashMap<String, String>>()?;
                    } else {
                        entries.push((name.0, map.next_value()?));
                    }
                }
                Ok(Header(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// A name that needs no escapes, so that it can be borrowed and has one spelling.
pub(super) struct Name<'a>(pub(super) &'a str);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

        match Text::<'de>::deserialize(deserializer)?.0 {
            Cow::Borrowed(name) => Ok(Self(name)),
            Cow::Owned(name) => {
                let message = format!("tensor name `{}` is written with escapes", quote(&name));
                Err(D::Error::custom(message))
            }
        }
    }
}
